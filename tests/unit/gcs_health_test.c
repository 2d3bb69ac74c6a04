/* gcs_health_test.c - beats, suspicion, conviction, and a control store that slept itself.
 * links: base wire sched gcs */
#include "gcs_rig.h"

#define MS INT64_C(1000000)

static uint64_t turns;

/* Beats come on links of their own: 100 more than the node's number. */
static void beat_as(uint64_t link, uint32_t node, uint64_t id) {
    struct wire_buf b;
    struct wire_beat *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_BEAT);
    m->node = node;
    m->node_id = (struct skate_id){id, 1};
    m->turns = turns;
    give(link, 0, &b);
}

static void beat(uint32_t node) { beat_as(100 + node, node, 100 + node); }

static uint32_t alive(void) {
    struct gcs_counts c;

    gcs_count(g, &c);
    return c.nodes_alive;
}

static void tick(void) { event(GCS_TICK, 0, NULL, 0); }

static void list_nodes(void) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_list *)wire_begin(&b, WIRE_LIST))->what = 1;
    ((struct wire_head *)(void *)b.p)->call = 3;
    give(1, 0, &b);
}

/* Row of a node in nodes(), asked for by node 1. */
static const struct wire_node_info *row(uint32_t node) {
    const struct wire_rows *rows;
    const uint8_t *p;
    uint32_t len, at = 0;

    list_nodes();
    rows = sent(1, WIRE_ROWS);
    assert_non_null(rows);
    p = wire_rows_frames(rows, &len);
    while (at < len) {
        const struct wire_node_info *m = (const void *)(p + at);

        if (m->node == node) return m;
        at += (m->head.size + 7u) & ~7u;
    }
    return NULL;
}

/* The nth node that node 1 was told to give nothing new; 0: no more. */
static uint32_t doubted(uint32_t nth) {
    const struct wire_node_doubt *m = sent(1, WIRE_NODE_DOUBT);
    uint32_t count;
    const uint32_t *nodes;

    assert_non_null(m);
    nodes = wire_node_doubt_nodes(m, &count);
    return nth < count ? nodes[nth] : 0;
}

/* Two nodes that beat; what follows happens to the second. */
static void both(void) {
    join(1, 2);
    join(2, 2);
    turns = 1;
    beat(1);
    beat(2);
    assert_int_equal(out.tick_ms, 200);
    tick();
}

/* Node 1 goes on, for so long; node 2 beats or not, its loop turns or not. */
static void go_on(int64_t ms, bool beats, bool turn) {
    for (int64_t t = 0; t < ms; t += 200) {
        now += 200 * MS;
        turns += 1;
        beat(1);
        if (!turn) turns -= 1;
        if (beats) beat(2);
        tick();
        if (closed(2)) return;
    }
}

static void suspected_then_back(void **state) {
    (void)state;
    both();
    go_on(400, false, true);
    assert_int_equal(row(2)->suspect, 0);
    go_on(200, false, true);
    assert_int_equal(doubted(0), 2);
    assert_int_equal(doubted(1), 0);
    assert_int_equal(row(2)->suspect, 1);
    assert_int_equal(row(2)->state, 1);
    HAS_TEXT(row(2), node_info, reason, "no beat of it for 6");
    go_on(2400, false, true); /* stopped for three seconds: it is not dead */
    assert_int_equal(row(2)->state, 1);
    HAS_TEXT(row(2), node_info, reason, "no beat of it for 2");
    beat(2);
    assert_int_equal(row(2)->suspect, 0);
    HAS_TEXT(row(2), node_info, reason, "");
    assert_int_equal(row(1)->suspect, 0);
}

/* Nothing new goes to a suspected node, its own report of a little ago or not. */
static void nothing_new(void **state) {
    struct wire_buf b;
    struct wire_job_start *job;
    struct wire_actor_create *m;
    uint8_t packed[200];

    (void)state;
    both();
    wire_init(&b, NULL, 0);
    job = wire_begin(&b, WIRE_JOB_START);
    job->driver = DRIVER;
    job->head.call = 1;
    give(1, DRIVER, &b);
    go_on(600, false, true);
    for (uint64_t i = 1; i <= 3; i++) {
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ACTOR_CREATE);
        m->actor = (struct skate_id){DRIVER, i};
        m->owner = DRIVER;
        m->job = 1;
        m->head.call = 2;
        WIRE_PUT(&b, actor_create, held, packed, pack("CPU", 1, packed, sizeof packed));
        WIRE_PUT(&b, actor_create, placing, packed, pack("CPU", 1, packed, sizeof packed));
        give(1, DRIVER, &b);
        assert_null(sent(2, WIRE_ACTOR_START));
        if (i < 3) assert_non_null(sent(1, WIRE_ACTOR_START));
    }
    beat(2); /* the third has waited for it */
    assert_non_null(sent(2, WIRE_ACTOR_START));
}

/* Its main loop is stuck and it beats: shown, given nothing, and never convicted. */
static void busy_is_not_dead(void **state) {
    (void)state;
    both();
    go_on(3000, true, false);
    assert_int_equal(row(2)->suspect, 0);
    go_on(17000, true, false);
    assert_int_equal(row(2)->state, 1);
    assert_int_equal(row(2)->suspect, 1);
    HAS_TEXT(row(2), node_info, reason, "has not come round for");
    turns++;
    beat(2);
    assert_int_equal(row(2)->suspect, 0);
}

/* Convicted after heartbeat_ms; told so on its link, and on the link of its beats, ever again. */
static void convicted(void **state) {
    const struct wire_convicted *m;

    (void)state;
    both();
    go_on(4800, false, true);
    assert_false(closed(2));
    go_on(400, false, true);
    assert_true(closed(2));
    m = sent(2, WIRE_CONVICTED);
    assert_int_equal(m->node, 2);
    HAS_TEXT(m, convicted, reason, "no sign of life for 5");
    assert_int_equal(((const struct wire_node_info *)sent(1, WIRE_NODE_INFO))->state, 0);
    assert_int_equal(row(2)->suspect, 0);
    for (int i = 0; i < 2; i++) {
        beat(2);
        assert_non_null(sent(102, WIRE_CONVICTED));
    }
    beat_as(102, 2, 55); /* another node's id: not meant */
    assert_int_equal(out.count, 0);
    beat_as(102, 77, 177);
    assert_int_equal(out.count, 0);
}

/* Stopped for a minute, then slow for a while: nobody is convicted, or even suspected, for it. */
static void own_sleep(void **state) {
    (void)state;
    both();
    now += 60 * (int64_t)SECOND;
    tick();
    for (int i = 0; i < 100; i++) {
        assert_int_equal(row(2)->state, 1);
        turns++;
        beat(1);
        beat(2);
        now += 900 * MS;
        tick();
        assert_int_equal(row(2)->suspect, 0);
    }
    go_on(5200, false, true); /* but real silence still ends one */
    assert_int_equal(row(2)->state, 0);
}

/* A private session's raylet does not beat: its reports are enough, and a tick a second. */
static void without_beats(void **state) {
    (void)state;
    join(1, 2);
    assert_int_equal(out.tick_ms, 1000);
    for (int i = 0; i < 20; i++) {
        now += SECOND;
        report(1, 2);
        tick();
        assert_int_equal(out.tick_ms, 1000);
        assert_int_equal(row(1)->suspect, 0);
    }
    now += SECOND;
    tick();
    now += SECOND;
    tick();
    now += SECOND;
    tick();
    assert_int_equal(row(1)->suspect, 0); /* that question was a sign of life */
    for (int i = 0; i < 5; i++) {
        assert_false(closed(1));
        now += SECOND;
        tick();
    }
    assert_true(closed(1));
}

/* As in a cluster: a node whose link ends may come back. */
static int start_away(void **state) {
    struct gcs_opts opts = {.away_ms = 5000, .nodes_max = 4};

    (void)state;
    now = SECOND;
    return gcs_new(&opts, &g);
}

static const struct gcs_probe *probe_of(uint32_t node) {
    for (uint32_t i = 0; i < out.probe_count; i++)
        if (out.probes[i].node == node) return &out.probes[i];
    return NULL;
}

static void probed(uint32_t node, bool refused) {
    struct gcs_event e = {.kind = GCS_PROBED, .link = node, .refused = refused};

    gcs_step(g, &e, now, &out);
}

/* Killed: its link ends, its machine refuses: dead in less than half a second. */
static void killed(void **state) {
    (void)state;
    both();
    now += 100 * MS;
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_non_null(probe_of(2));
    assert_string_equal(probe_of(2)->ip, "10.0.0.9");
    assert_int_equal(probe_of(2)->port, 4002);
    assert_int_equal(row(2)->suspect, 1);
    HAS_TEXT(row(2), node_info, reason, "suspected: its connection ended: cable cut");
    probed(2, true); /* it had beaten a moment ago: asked once more */
    assert_int_equal(row(2)->state, 1);
    now += 200 * MS;
    beat(1);
    tick();
    assert_non_null(probe_of(2));
    assert_null(probe_of(1));
    probed(2, true);
    assert_int_equal(((const struct wire_node_info *)sent(1, WIRE_NODE_INFO))->state, 0);
    HAS_TEXT(row(2), node_info, reason, "cable cut, and nobody listens at its port any more");
    probed(2, true);
    probed(9, true);
    assert_int_equal(out.count, 0);
}

/* A node that ends in order says so: dead at once, with its reason, and nobody looks for it. */
static void bye(void **state) {
    struct wire_buf b;

    (void)state;
    both();
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_BYE);
    WIRE_PUT(&b, node_bye, reason, "its driver went", 15);
    give(2, 0, &b);
    assert_int_equal(((const struct wire_node_info *)sent(1, WIRE_NODE_INFO))->state, 0);
    assert_int_equal(out.probe_count, 0);
    HAS_TEXT(row(2), node_info, reason, "it ended: its driver went");
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_int_equal(out.probe_count, 0);
    assert_int_equal(alive(), 1);
}

/* Cut off, and alive: it has five seconds; while it beats, or somebody answers, all the time. */
static void cut_off(void **state) {
    (void)state;
    both();
    event(GCS_LINK_DOWN, 2, NULL, 0);
    for (int i = 0; i < 100; i++) {
        now += 200 * MS;
        turns++;
        beat(1);
        beat(2);
        tick();
        assert_non_null(probe_of(2));
        probed(2, true); /* by a wall between us */
        assert_int_equal(row(2)->state, 1);
        assert_int_equal(row(2)->suspect, 1);
    }
    for (int i = 0; i < 24; i++) {
        now += 200 * MS;
        beat(1);
        tick();
        probed(2, false);
        assert_int_equal(row(2)->state, 1);
    }
    go_on(600, false, true);
    assert_int_equal(row(2)->state, 0);
    HAS_TEXT(row(2), node_info, reason, "no sign of life for 5");
}

/* All away, no link left: the store looks on by itself, and sleeps when there is no node. */
static void nobody_left(void **state) {
    (void)state;
    join(1, 2);
    event(GCS_LINK_DOWN, 1, NULL, 0);
    assert_int_equal(out.tick_ms, 200);
    probed(1, true);
    tick();
    assert_int_equal(out.tick_ms, 0);
    assert_int_equal(alive(), 0);
}

/* On the other machine 127.0.0.1 is somebody else. */
static void whose_address(void **state) {
    struct wire_buf b;
    struct wire_node_register *m;
    uint8_t packed[200];

    (void)state;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){1, 1};
    m->version = WIRE_VERSION;
    m->port = 4001;
    WIRE_PUT(&b, node_register, ip, "127.0.0.1", 9);
    WIRE_PUT(&b, node_register, resources, packed, pack("CPU", 1, packed, sizeof packed));
    give(1, 0, &b);
    event(GCS_LINK_DOWN, 1, NULL, 0);
    assert_int_equal(out.probe_count, 0);
}

#define TEST_AWAY(name) cmocka_unit_test_setup_teardown(name, start_away, stop)

/* Many at once are told of by one frame to each raylet. */
static void many_at_once(void **state) {
    (void)state;
    both();
    join(3, 2);
    beat(3);
    go_on(600, false, true);
    assert_int_equal(doubted(0), 2);
    assert_int_equal(doubted(1), 3);
    assert_null(sent_nth(1, WIRE_NODE_DOUBT, 1));
    beat(3);
    assert_int_equal(row(3)->suspect, 0);
    assert_int_equal(row(2)->suspect, 1);
}

/* A whole hall falls silent: at most so many are convicted in one look, and all of them soon. */
static void a_hall(void **state) {
    struct gcs_opts opts = {.away_ms = 5000};
    uint32_t dead = 0;

    (void)state;
    g = gcs_free(g);
    assert_int_equal(gcs_new(&opts, &g), 0);
    for (uint32_t i = 1; i <= 200; i++) join_as(i, 100 + i, 1, i == 1, WIRE_VERSION);
    for (uint32_t i = 1; i <= 200; i++) beat(i);
    tick();
    for (int i = 0; i < 25; i++) {
        now += 200 * MS;
        turns++;
        beat(1);
        tick();
    }
    for (int i = 0; i < 4; i++) {
        uint32_t more = 200 - alive() - dead;

        assert_in_range(more, 1, 64);
        dead += more;
        now += 200 * MS;
        beat(1);
        tick();
    }
    assert_int_equal(alive(), 1);
}

/* A beat of a raylet that knows a later control store: this one must end. */
static void fenced(void **state) {
    struct wire_buf b;
    struct wire_beat *m;

    (void)state;
    both();
    for (uint64_t epoch = 1; epoch <= 2; epoch++) {
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_BEAT);
        m->node = 2;
        m->node_id = (struct skate_id){102, 1};
        m->epoch = epoch;
        give(102, 0, &b);
        assert_int_equal(out.fenced, epoch == 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(suspected_then_back), TEST(nothing_new), TEST(busy_is_not_dead), TEST(convicted),
        TEST(own_sleep), TEST(without_beats), TEST_AWAY(killed), TEST_AWAY(bye),
        TEST_AWAY(cut_off),
        TEST_AWAY(nobody_left), TEST_AWAY(whose_address),
        TEST(many_at_once), TEST(a_hall), TEST(fenced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
