/* gcs_tables_test.c - nodes, jobs, values and bounds of the control store, and bad input.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"

/* ------------------------------------------------------------------ nodes */

/* Who joins hears its number, then of all nodes; the others hear of it. */
static void nodes_join(void **state) {
    const struct wire_node_info *info;

    (void)state;
    join(1, 2);
    info = sent(1, WIRE_NODE_INFO);
    assert_int_equal(info->node, 1);
    assert_int_equal(info->state, 1);
    assert_int_equal(info->is_head, 1);
    HAS_TEXT(info, node_info, ip, "10.0.0.9"); /* it named none */
    HAS_TEXT(info, node_info, name, "nodename");
    join(2, 4);
    assert_int_equal(((const struct wire_node_info *)sent_nth(2, WIRE_NODE_INFO, 0))->node, 1);
    assert_int_equal(((const struct wire_node_info *)sent_nth(2, WIRE_NODE_INFO, 1))->node, 2);
    assert_int_equal(((const struct wire_node_info *)sent(1, WIRE_NODE_INFO))->node, 2);
    assert_true(place_of(sent(2, WIRE_NODE_WELCOME)) < place_of(sent(2, WIRE_NODE_INFO)));
    assert_true(out.changed);
}

/* A wrong version, the same id twice, the table's bound, a stranger: refused, link ended. */
static void nodes_refused(void **state) {
    const struct wire_node_welcome *w;
    struct wire_buf b;

    (void)state;
    join_as(1, 1, 2, false, 99);
    w = sent(1, WIRE_NODE_WELCOME);
    assert_int_equal(w->status, -SKATE_EVERSION);
    assert_true(closed(1));
    join(1, 1);
    join_as(2, 101, 2, false, WIRE_VERSION);
    w = sent(2, WIRE_NODE_WELCOME);
    assert_int_equal(w->status, -SKATE_EEXIST);
    for (uint64_t i = 2; i <= 4; i++) join(i, 1);
    join_as(5, 500, 2, false, WIRE_VERSION);
    w = sent(5, WIRE_NODE_WELCOME);
    assert_int_equal(w->status, -SKATE_EFULL);
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_PING);
    give(6, 0, &b);
    assert_true(closed(6));
    assert_int_equal(counts().nodes_alive, 4);
}

/* Five seconds of silence end a node; any frame is a sign of life; the dead stay listed. */
static void node_silent(void **state) {
    const struct wire_node_info *info;
    struct wire_buf b;
    const struct wire_rows *rows;

    (void)state;
    join(1, 2);
    join(2, 2);
    now += 4 * (int64_t)SECOND;
    report(1, 2);
    now += 2 * (int64_t)SECOND;
    event(GCS_TICK, 0, NULL, 0);
    assert_true(closed(2));
    assert_false(closed(1));
    assert_non_null(sent(2, WIRE_CONVICTED));
    info = sent(1, WIRE_NODE_INFO);
    assert_int_equal(info->node, 2);
    assert_int_equal(info->state, 0);
    HAS_TEXT(info, node_info, reason, "no sign of life");
    assert_false(out.head_lost);
    wire_init(&b, NULL, 0);
    ((struct wire_list *)wire_begin(&b, WIRE_LIST))->what = 1;
    ((struct wire_head *)(void *)b.p)->call = 3;
    give(1, 0, &b);
    rows = sent(1, WIRE_ROWS);
    assert_int_equal(rows->count, 2);
    event(GCS_LINK_DOWN, 1, NULL, 0);
    assert_true(out.head_lost);
}

/* A GCS that was stopped itself does not blame the nodes for it. */
static void own_sleep(void **state) {
    (void)state;
    join(1, 2);
    event(GCS_TICK, 0, NULL, 0);
    now += 60 * (int64_t)SECOND;
    event(GCS_TICK, 0, NULL, 0);
    assert_false(closed(1));
    for (int i = 0; i < 5; i++) {
        assert_false(closed(1));
        now += SECOND;
        event(GCS_TICK, 0, NULL, 0);
    }
    assert_int_equal(counts().nodes_alive, 0); /* but real silence still ends one */
}

static int drain(uint32_t node, uint32_t on) {
    struct wire_node_drain *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_DRAIN);
    m->node = node;
    m->on = on;
    m->head.call = 4;
    give(1, 0, &b);
    return ((const struct wire_status *)sent(1, WIRE_STATUS))->status;
}

/* A node that is to go gets nothing new, keeps what it has, and may be taken back. */
static void node_drained(void **state) {
    (void)state;
    join(1, 1);
    join(2, 4);
    job(DRIVER);
    assert_int_equal(drain(2, 1), 0);
    assert_int_equal(drain(9, 1), -SKATE_ENOENT);
    report(2, 4);
    assert_int_equal(create((struct spec){.seq = 1, .placing = 2}), 0);
    assert_null(sent(2, WIRE_ACTOR_START));
    assert_int_equal(counts().nodes_alive, 2);
    assert_null(sent(2, WIRE_STOP));
    assert_int_equal(drain(2, 0), 0);
    assert_non_null(sent(2, WIRE_ACTOR_START));
    assert_int_equal(drain(2, 2), 0); /* now it is to end, with what it has */
    HAS_TEXT((const struct wire_stop *)sent(2, WIRE_STOP), stop, reason, "it was told to end");
    assert_null(sent(1, WIRE_STOP));
}

/* ------------------------------------------------------------------ jobs */

/* All raylets know the job before its driver does, and who joins later, too. */
static void job_starts(void **state) {
    const struct wire_job_info *info;

    (void)state;
    join(1, 2);
    join(2, 2);
    assert_int_equal(job(DRIVER), 1);
    info = sent(2, WIRE_JOB_INFO);
    assert_int_equal(info->driver, DRIVER);
    HAS_TEXT(info, job_info, config, "config");
    assert_true(place_of(sent(1, WIRE_JOB_INFO)) < place_of(sent(DRIVER, WIRE_JOB_STARTED)));
    assert_int_equal(job(proc_make(2, 9)), 2);
    join(3, 1);
    assert_int_equal(((const struct wire_job_info *)sent_nth(3, WIRE_JOB_INFO, 1))->job, 2);
    assert_int_equal(job(DRIVER), 3);
    assert_int_equal(job(DRIVER), 0); /* jobs_max */
}

/* The driver dies: raylets hear job_end, its actors end, detached ones stay. */
static void job_ends(void **state) {
    const struct wire_worker_kill *kill;

    (void)state;
    join(1, 4);
    job(DRIVER);
    assert_int_equal(create((struct spec){.seq = 1}), 0);
    assert_int_equal(create((struct spec){.seq = 2, .name = "stay", .flags = 1}), 0);
    ready(1, WORKER, 1, 0);
    ready(2, proc_make(1, 7), 1, 0);
    assert_int_equal(create((struct spec){.seq = 3, .owner = proc_make(1, 7)}), 0);
    died(DRIVER, SIGKILL, false);
    assert_non_null(sent(1, WIRE_JOB_END));
    kill = sent(1, WIRE_WORKER_KILL);
    assert_int_equal(kill->proc, WORKER);
    HAS_TEXT(kill, worker_kill, reason, "signal 9 (SIGKILL)");
    assert_null(sent_nth(1, WIRE_WORKER_KILL, 1));
    assert_int_equal(counts().jobs_live, 0);
    assert_int_equal(counts().actors_live, 2); /* the detached one, and what it made */
    assert_int_equal(counts().actors_dead, 1);
    assert_int_equal(create((struct spec){.seq = 4}), -SKATE_ENOENT);
    assert_int_equal(create((struct spec){.seq = 5, .owner = proc_make(1, 7)}), 0);
}

/* ------------------------------------------------------------------ bounds, values, bad input */

static void bounds(void **state) {
    const struct wire_actor_state *a;
    const struct wire_status *s;

    (void)state;
    join(1, 2);
    job(DRIVER);
    for (uint64_t i = 1; i <= 6; i++) {
        create((struct spec){.seq = i});
        kill_actor(i, true);
    }
    assert_int_equal(counts().actors_dead, 3);
    subscribe(1, WORKER); /* forgotten */
    a = sent(WORKER, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 4);
    subscribe(6, WORKER);
    assert_int_equal(state_told(WORKER), 3);
    create((struct spec){.seq = 7});
    for (uint32_t i = 0; i < 11; i++) subscribe(7, proc_make(1, 100 + i));
    subscribe(7, proc_make(1, 200));
    s = sent(proc_make(1, 200), WIRE_STATUS);
    assert_non_null(s);
    assert_int_equal(s->status, -SKATE_EFULL);
    assert_int_equal(counts().subs, 12);
}

static int put(const char *key, uint32_t bytes, bool overwrite) {
    uint8_t value[2000] = {7};
    struct wire_buf b;
    struct wire_kv_put *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_KV_PUT);
    m->head.call = 5;
    m->overwrite = overwrite;
    WIRE_PUT(&b, kv_put, key, key, strlen(key));
    WIRE_PUT(&b, kv_put, value, value, bytes);
    give(1, WORKER, &b);
    return ((const struct wire_status *)sent(WORKER, WIRE_STATUS))->status;
}

static void values(void **state) {
    struct wire_buf b;
    uint64_t before;
    const struct wire_kv_value *v;

    (void)state;
    join(1, 2);
    assert_int_equal(put("a", 10, false), 0);
    assert_int_equal(put("a", 10, false), -SKATE_EEXIST);
    assert_int_equal(put("a", 30, true), 0);
    assert_int_equal(put("b", 2000, true), -SKATE_EFULL);
    assert_int_equal(put("", 1, true), -SKATE_EINVAL);
    job(DRIVER);
    create((struct spec){.seq = 1}); /* what is said of an actor goes with it */
    before = counts().kv_bytes;
    assert_int_equal(put("actor-meta:05000000010000000000010000000000", 100, false), 0);
    assert_int_equal(put("c", 10, false), 0);
    assert_true(counts().kv_bytes > before + 110);
    kill_actor(1, true);
    assert_true(counts().kv_bytes < before + 100);
    assert_int_equal(put("c", 10, false), -SKATE_EEXIST);
    for (int i = 0; i < 2; i++) {
        wire_init(&b, NULL, 0);
        ((struct wire_kv_get *)wire_begin(&b, WIRE_KV_GET))->head.call = 6;
        WIRE_PUT(&b, kv_get, key, i ? "zz" : "a", i ? 2 : 1);
        give(1, WORKER, &b);
        v = sent(WORKER, WIRE_KV_VALUE);
        assert_int_equal(v->status, i ? -SKATE_ENOENT : 0);
        assert_int_equal(v->value.len, i ? 0 : 30);
    }
}

static int del(const char *key, bool prefix) {
    struct wire_buf b;
    struct wire_kv_del *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_KV_DEL);
    m->head.call = 7;
    m->prefix = prefix;
    WIRE_PUT(&b, kv_del, key, key, strlen(key));
    give(1, WORKER, &b);
    return ((const struct wire_status *)sent(WORKER, WIRE_STATUS))->status;
}

/* How many keys begin so; the first of them is `first`. */
static uint32_t keys(const char *prefix, const char *first) {
    const struct wire_kv_keys *k;
    const uint8_t *p;
    struct wire_buf b;
    uint32_t len, n;

    wire_init(&b, NULL, 0);
    ((struct wire_kv_list *)wire_begin(&b, WIRE_KV_LIST))->head.call = 8;
    WIRE_PUT(&b, kv_list, prefix, prefix, strlen(prefix));
    give(1, WORKER, &b);
    k = sent(WORKER, WIRE_KV_KEYS);
    assert_int_equal(k->status, 0);
    p = wire_kv_keys_keys(k, &len);
    if (k->count == 0) return 0;
    memcpy(&n, p, sizeof n);
    assert_int_equal(n, strlen(first));
    assert_memory_equal(p + sizeof n, first, n);
    return k->count;
}

/* Taken away one by one or by prefix; the others are still found, and the bytes come back. */
static void values_go(void **state) {
    uint64_t before;

    (void)state;
    join(1, 2);
    before = counts().kv_bytes;
    assert_int_equal(keys("", ""), 0);
    assert_int_equal(put("a/1", 5, false), 0);
    assert_int_equal(put("b/1", 5, false), 0);
    assert_int_equal(put("a/2", 5, false), 0);
    assert_int_equal(put("b/2", 5, false), 0);
    assert_int_equal(keys("", "a/1"), 4);
    assert_int_equal(keys("b/", "b/1"), 2);
    assert_int_equal(keys("b/11", ""), 0);
    assert_int_equal(del("a", false), 0);
    assert_int_equal(del("b/1", false), 1);
    assert_int_equal(del("b/1", false), 0);
    assert_int_equal(keys("b/", "b/2"), 1);
    assert_int_equal(put("b/2", 5, false), -SKATE_EEXIST);
    assert_int_equal(del("a/", true), 2);
    assert_int_equal(keys("", "b/2"), 1);
    assert_int_equal(del("", true), 1);
    assert_int_equal(counts().kv_bytes, before);
}

static uint64_t seed;

static uint64_t dice(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed >> 8;
}

/* Frames with a good shape and bad content: no change, no crash, an answer where one is due. */
static void bad_input(void **state) {
    uint64_t junk[40];
    struct wire_buf b;

    (void)state;
    join(1, 2);
    job(DRIVER);
    seed = 7;
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t kind = (uint32_t)dice() % wire_info_count;
        struct wire_head head = {.size = sizeof junk, .kind = (uint16_t)kind,
                                 .fixed = wire_info[kind].fixed, .call = 1};

        if (!wire_info[kind].name || kind == WIRE_NODE_REGISTER || kind == WIRE_NODE_BYE) continue;
        for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
            junk[i] = dice() % 5 ? dice() % 64 * 8
                                             : dice() << 33 | dice();
        for (uint32_t i = 0; i < wire_info[kind].span_count; i++) {
            struct wire_span span = {wire_info[kind].fixed + 8 * ((uint32_t)dice() % 4),
                                     wire_info[kind].spans[i].element * ((uint32_t)dice() % 2)};

            memcpy((uint8_t *)junk + wire_info[kind].spans[i].offset, &span, sizeof span);
        }
        memcpy(junk, &head, sizeof head);
        if (wire_check(junk, sizeof junk) < 0) continue;
        event(GCS_FRAME, 1, junk, sizeof junk);
        wire_init(&b, NULL, 0);
        ((struct wire_route *)wire_begin(&b, WIRE_ROUTE))->src = DRIVER;
        WIRE_PUT(&b, route, frame, junk, sizeof junk);
        assert_int_equal(wire_end(&b), 0);
        event(GCS_FRAME, 1, b.p, b.len);
        wire_release(&b);
    }
    assert_int_equal(counts().nodes_alive, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nodes_join),
        TEST(nodes_refused),
        TEST(node_silent),
        TEST(own_sleep),
        TEST(node_drained),
        TEST(job_starts),
        TEST(job_ends),
        TEST(bounds),
        TEST(values),
        TEST(values_go),
        TEST(bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
