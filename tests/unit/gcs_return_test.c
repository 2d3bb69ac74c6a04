/* gcs_return_test.c - a node whose link breaks comes back: its actors, bundles and requests.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"

/* A node's next link; links of this test above 100 belong to node link % 100. */
static int begin(void **state) {
    struct gcs_opts opts = {.away_ms = 1000, .epoch = 5};

    (void)state;
    now = SECOND;
    return gcs_new(&opts, &g);
}

#define TEST_AWAY(name) cmocka_unit_test_setup_teardown(name, begin, stop)

static void dial(uint64_t link, uint32_t node, uint64_t epoch) {
    uint8_t packed[200];
    struct wire_node_register *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){100 + node, 1};
    m->version = WIRE_VERSION;
    m->node = node;
    m->epoch = epoch;
    WIRE_PUT(&b, node_register, resources, packed, pack("CPU", 4, packed, sizeof packed));
    give(link, 0, &b);
}

static void state_of(uint64_t link, const uint64_t *actors, const uint32_t *incarnations,
                     uint32_t count) {
    struct skate_id ids[8];
    struct wire_buf b;

    for (uint32_t i = 0; i < count; i++) ids[i] = actor_id(actors[i]);
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_STATE);
    WIRE_PUT(&b, node_state, actors, ids, count * sizeof *ids);
    WIRE_PUT(&b, node_state, incarnations, incarnations, count * sizeof *incarnations);
    give(link, 0, &b);
}

static void comes_back(void **state) {
    const struct wire_node_welcome *w;

    (void)state;
    join(1, 4);
    join(2, 4);
    assert_int_equal(job(DRIVER), 1);
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_null(sent(1, WIRE_NODE_INFO)); /* nobody is told of a death */
    assert_int_equal(counts().nodes_alive, 2);
    dial(102, 2, 5);
    w = sent(102, WIRE_NODE_WELCOME);
    assert_int_equal(w->status, 0);
    assert_int_equal(w->node, 2);
    assert_int_equal(w->resumed, 1);
    assert_int_equal(w->epoch, 5);
    state_of(102, NULL, NULL, 0);
    assert_non_null(sent_nth(102, WIRE_NODE_INFO, 1));
    assert_non_null(sent(102, WIRE_JOB_INFO));
    assert_true(place_of(sent(102, WIRE_JOB_INFO)) < place_of(sent(102, WIRE_NODE_SYNCED)));
    assert_int_equal(((const struct wire_node_synced *)sent(102, WIRE_NODE_SYNCED))->epoch, 5);
    now += 10 * (int64_t)SECOND / 4;
    event(GCS_TICK, 0, NULL, 0);
    assert_int_equal(counts().nodes_alive, 2);
}

static void stays_away(void **state) {
    const struct wire_node_welcome *w;

    (void)state;
    join(1, 4);
    join(2, 4);
    event(GCS_LINK_DOWN, 2, NULL, 0);
    now += SECOND;
    event(GCS_TICK, 0, NULL, 0);
    HAS_TEXT((const struct wire_node_info *)sent(1, WIRE_NODE_INFO), node_info, reason,
             "cable cut");
    assert_int_equal(counts().nodes_alive, 1);
    dial(102, 2, 5);
    w = sent(102, WIRE_NODE_WELCOME);
    assert_int_equal(w->status, -SKATE_ESTALE);
    assert_true(closed(102));
    dial(103, 7, 5); /* nobody ever was */
    assert_int_equal(((const struct wire_node_welcome *)sent(103, WIRE_NODE_WELCOME))->status,
                     -SKATE_ESTALE);
}

/* A new link before the end of the old one is known: the old one's end means nothing. */
static void overtakes(void **state) {
    (void)state;
    join(1, 4);
    join(2, 4);
    dial(102, 2, 5);
    assert_true(closed(2));
    state_of(102, NULL, NULL, 0);
    event(GCS_LINK_DOWN, 2, NULL, 0);
    now += 2 * (int64_t)SECOND;
    event(GCS_TICK, 0, NULL, 0);
    assert_int_equal(counts().nodes_alive, 2);
}

/* Started here and unknown there: again; there and unknown here: ended; alive and gone: lost. */
static void actors(void **state) {
    const uint64_t said[] = {1, 9};
    const uint32_t incarnations[] = {1, 4};

    (void)state;
    join(1, 4);
    assert_int_equal(job(DRIVER), 1);
    for (uint64_t i = 1; i <= 4; i++)
        assert_int_equal(create((struct spec){.seq = i, .restarts = i == 3}), 0);
    ready(1, proc_make(1, 11), 1, 0);
    ready(3, proc_make(1, 13), 1, 0);
    ready(4, proc_make(1, 14), 1, 0);
    event(GCS_LINK_DOWN, 1, NULL, 0);
    dial(101, 1, 0);
    assert_null(sent(101, WIRE_ACTOR_START));
    state_of(101, said, incarnations, 2);
    {
        const struct wire_actor_start *s = sent(101, WIRE_ACTOR_START);
        const struct wire_worker_kill *k = sent(101, WIRE_WORKER_KILL);
        struct skate_id second = actor_id(2), ninth = actor_id(9);

        assert_true(id_equal(&s->actor, &second)); /* was being started */
        assert_int_equal(s->incarnation, 1);
        assert_true(id_equal(&k->actor, &ninth));
        assert_int_equal(k->incarnation, 4);
        assert_null(sent_nth(101, WIRE_WORKER_KILL, 1));
    }
    assert_int_equal(counts().actors_live, 3); /* the fourth had no restart left */
    assert_int_equal(counts().actors_dead, 1);
    report(101, 4);
    assert_int_equal(((const struct wire_actor_start *)sent(101, WIRE_ACTOR_START))->incarnation,
                     2); /* the third starts anew */
}

static void said_again(void **state) {
    struct wire_buf b;

    (void)state;
    join(1, 4);
    assert_int_equal(job(DRIVER), 1);
    for (int again = 0; again < 3; again++) {
        struct wire_route *m;
        struct wire_job_start *q;
        struct wire_buf inner;

        wire_init(&inner, NULL, 0);
        q = wire_begin(&inner, WIRE_JOB_START);
        q->head.call = 3;
        q->driver = DRIVER;
        assert_int_equal(wire_end(&inner), 0);
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ROUTE);
        m->dst = SKATE_GCS;
        m->src = DRIVER;
        WIRE_PUT(&b, route, frame, inner.p, inner.len);
        assert_int_equal(wire_end(&b), 0);
        if (again) ((struct wire_head *)(void *)b.p)->flags |= WIRE_AGAIN;
        event(GCS_FRAME, 1, b.p, b.len);
        assert_int_equal(((const struct wire_job_started *)sent_nth(DRIVER, WIRE_JOB_STARTED, 0))
                             ->job, 2);
        wire_release(&b);
        wire_release(&inner);
    }
}

/* kill() with a restart left, said again after a break: the next incarnation lives on. */
static void killed_once(void **state) {
    struct wire_actor_kill *m;
    struct wire_route *r;
    struct wire_buf b, inner;

    (void)state;
    join(1, 4);
    assert_int_equal(job(DRIVER), 1);
    assert_int_equal(create((struct spec){.seq = 1, .restarts = 1}), 0);
    ready(1, proc_make(1, 11), 1, 0);
    for (int again = 0; again < 2; again++) {
        wire_init(&inner, NULL, 0);
        m = wire_begin(&inner, WIRE_ACTOR_KILL);
        m->head.call = 8;
        m->actor = actor_id(1);
        m->mark = 8;
        assert_int_equal(wire_end(&inner), 0);
        wire_init(&b, NULL, 0);
        r = wire_begin(&b, WIRE_ROUTE);
        r->dst = SKATE_GCS;
        r->src = DRIVER;
        WIRE_PUT(&b, route, frame, inner.p, inner.len);
        assert_int_equal(wire_end(&b), 0);
        if (again) ((struct wire_head *)(void *)b.p)->flags |= WIRE_AGAIN;
        event(GCS_FRAME, 1, b.p, b.len);
        assert_int_equal(((const struct wire_status *)sent(DRIVER, WIRE_STATUS))->status, 0);
        assert_true(again || sent(1, WIRE_WORKER_KILL));
        wire_release(&b);
        wire_release(&inner);
        if (!again) ready(1, proc_make(1, 12), 2, 0);
    }
    assert_null(sent(1, WIRE_WORKER_KILL));
    assert_int_equal(counts().actors_live, 1);
}

/* So many of the frames that it keeps are here: said with its report, and after 64. */
static void acknowledges(void **state) {
    (void)state;
    join(1, 4);
    assert_int_equal(job(DRIVER), 1);
    report(1, 4);
    assert_int_equal(((const struct wire_lane_got *)sent(1, WIRE_LANE_GOT))->count, 1);
    for (int i = 0; i < 63; i++) {
        died(proc_make(1, 100), 9, false);
        assert_null(sent(1, WIRE_LANE_GOT));
    }
    died(proc_make(1, 100), 9, false);
    assert_int_equal(((const struct wire_lane_got *)sent(1, WIRE_LANE_GOT))->count, 65);
}

/* While the log takes nothing, raylets hear all the same that the GCS is there: else each would
 * think it gone, and dial anew, again and again. */
static void is_there_while_nothing_can_be_kept(void **state) {
    (void)state;
    join(1, 4);
    assert_int_equal(job(DRIVER), 1);
    gcs_refuse_changes(g, "the disk is full");
    for (int i = 0; i < 5; i++) {
        now += SECOND;
        report(1, 4);
        assert_int_equal(out.count, 1);
        assert_non_null(sent(1, WIRE_PING));
        assert_false(out.acks || out.changed); /* it waits for nothing */
    }
    gcs_refuse_changes(g, "");
    report(1, 4);
    assert_int_equal(((const struct wire_lane_got *)sent(1, WIRE_LANE_GOT))->count, 1);
    assert_true(out.acks);
}

/* A raylet that has seen a later GCS: this one has been replaced. */
static void fenced(void **state) {
    (void)state;
    join(1, 4);
    dial(102, 1, 6);
    assert_true(out.fenced);
    assert_int_equal(out.count, 0);
}

/* A new node of this slot, on this link. */
static const struct wire_node_welcome *take_slot(uint64_t link, const char *slot) {
    uint8_t packed[200];
    struct wire_node_register *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){100 + link, 1};
    m->version = WIRE_VERSION;
    WIRE_PUT(&b, node_register, resources, packed, pack("CPU", 4, packed, sizeof packed));
    WIRE_PUT(&b, node_register, slot, slot, strlen(slot));
    give(link, 0, &b);
    return sent(link, WIRE_NODE_WELCOME);
}

/* A twin of a living node is refused; once that one's link has ended, it is dead, and told so. */
static void one_node_of_a_slot(void **state) {
    (void)state;
    join(1, 4);
    assert_int_equal(take_slot(2, "s-0")->node, 2);
    assert_int_equal(take_slot(3, "s-1")->node, 3);
    assert_int_equal(take_slot(4, "s-1")->status, -SKATE_EAGAIN);
    HAS_TEXT((const struct wire_node_welcome *)sent(4, WIRE_NODE_WELCOME), node_welcome, reason,
             "node 3, which lives, has its slot");
    assert_true(closed(4));
    assert_int_equal(counts().nodes_alive, 3);
    event(GCS_LINK_DOWN, 3, NULL, 0);
    assert_int_equal(counts().nodes_alive, 3); /* it may come back */
    assert_int_equal(take_slot(5, "s-1")->node, 4);
    HAS_TEXT((const struct wire_node_info *)sent(1, WIRE_NODE_INFO), node_info, reason,
             "another node has taken its slot");
    assert_int_equal(counts().nodes_alive, 3);
    dial(103, 3, 5);
    assert_int_equal(((const struct wire_node_welcome *)sent(103, WIRE_NODE_WELCOME))->status,
                     -SKATE_ESTALE);
    assert_int_equal(take_slot(6, "")->status, 0); /* no slot: there is no such bound */
    assert_int_equal(take_slot(7, "")->status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_AWAY(comes_back), TEST_AWAY(stays_away),   TEST_AWAY(overtakes), TEST_AWAY(actors),
        TEST_AWAY(said_again), TEST_AWAY(acknowledges), TEST_AWAY(fenced),
        TEST_AWAY(is_there_while_nothing_can_be_kept),
        TEST_AWAY(killed_once), TEST_AWAY(one_node_of_a_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
