/* gcs_test.c - scenarios of the control store: frames in, frames out, no I/O.
 * links: base wire sched gcs. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gcs/gcs.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

enum { SECOND = 1000000000 };

static struct gcs *g;
static struct gcs_out out;
static int64_t now;

static int start(void **state) {
    struct gcs_opts opts = {.actors_max = 8, .dead_max = 3, .subs_max = 12, .kv_bytes = 1000,
                            .spec_bytes = 100000, .jobs_max = 3, .nodes_max = 4};

    (void)state;
    now = SECOND;
    return gcs_new(&opts, &g);
}

static int stop(void **state) {
    (void)state;
    g = gcs_free(g);
    gcs_out_release(&out);
    return 0;
}

/* ------------------------------------------------------------------ helpers */

static void event(enum gcs_event_kind kind, uint64_t link, const void *frame, uint32_t len) {
    struct gcs_event e = {.kind = kind, .link = link, .frame = frame, .len = len,
                          .text = "cable cut", .peer_ip = "10.0.0.9"};

    gcs_step(g, &e, now, &out);
}

/* As the daemon does it: checked, then given. src 0: plainly from the raylet. */
static void give(uint64_t link, uint64_t src, struct wire_buf *b) {
    assert_int_equal(wire_end(b), 0);
    assert_int_equal(wire_check(b->p, b->len), 0);
    if (src) {
        struct wire_buf r;
        struct wire_route *m;

        wire_init(&r, NULL, 0);
        m = wire_begin(&r, WIRE_ROUTE);
        m->dst = SKATE_GCS;
        m->src = src;
        WIRE_PUT(&r, route, frame, b->p, b->len);
        assert_int_equal(wire_end(&r), 0);
        event(GCS_FRAME, link, r.p, r.len);
        wire_release(&r);
    } else
        event(GCS_FRAME, link, b->p, b->len);
    wire_release(b);
}

/* The nth frame of a kind that goes to `to`: a link (below 1000) or a process. NULL: none. */
static const void *sent_nth(uint64_t to, uint16_t kind, uint32_t nth) {
    for (uint32_t i = 0; i < out.count; i++) {
        const void *frame = out.bytes + out.sends[i].at;
        uint64_t dst = out.sends[i].link;

        if (out.sends[i].close) continue;
        assert_int_equal(wire_check(frame, out.sends[i].len), 0);
        if (wire_head(frame)->kind == WIRE_ROUTE && to >= 1000) {
            const struct wire_route *m = frame;
            uint32_t len;

            frame = wire_route_frame(m, &len);
            assert_int_equal(wire_check(frame, len), 0);
            assert_int_equal(m->src, SKATE_GCS);
            assert_int_equal(proc_node(m->dst), dst); /* test links have their node's number */
            dst = m->dst;
        }
        if (dst == to && wire_head(frame)->kind == kind && nth-- == 0) return frame;
    }
    return NULL;
}

static const void *sent(uint64_t to, uint16_t kind) { return sent_nth(to, kind, 0); }

static bool closed(uint64_t link) {
    for (uint32_t i = 0; i < out.count; i++)
        if (out.sends[i].close && out.sends[i].link == link) return true;
    return false;
}

/* Position of a frame among the sends, for order. */
static uint32_t place_of(const void *frame) {
    for (uint32_t i = 0; i < out.count; i++) {
        const uint8_t *p = out.bytes + out.sends[i].at;

        if ((const uint8_t *)frame >= p && (const uint8_t *)frame < p + out.sends[i].len) return i;
    }
    fail();
    return 0;
}

static size_t pack(const char *name, double amount, uint8_t *p, size_t cap) {
    struct resources r = {0};

    if (amount > 0) assert_int_equal(resources_set(&r, name, (int64_t)(amount * 10000)), 0);
    return resources_pack(&r, p, cap);
}

#define HAS_TEXT(frame, message, field, text)                                                  \
    do {                                                                                       \
        uint32_t n_;                                                                           \
        const void *p_ = wire_##message##_##field((frame), &n_);                               \
        char buf_[600];                                                                        \
        snprintf(buf_, sizeof buf_, "%.*s", (int)n_, (const char *)p_);                        \
        if (!strstr(buf_, (text))) fail_msg("'%s' is not in '%s'", (text), buf_);              \
    } while (0)

static void join_as(uint64_t link, uint64_t id, double cpus, bool head, uint32_t version) {
    uint8_t packed[200];
    struct wire_buf b;
    struct wire_node_register *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){id, 1};
    m->version = version;
    m->is_head = head;
    m->port = 4000 + (uint32_t)link;
    WIRE_PUT(&b, node_register, name, "nodename", 8);
    WIRE_PUT(&b, node_register, resources, packed, pack("CPU", cpus, packed, sizeof packed));
    give(link, 0, &b);
}

static void join(uint64_t link, double cpus) {
    const struct wire_node_welcome *w;

    join_as(link, 100 + link, cpus, link == 1, WIRE_VERSION);
    w = sent(link, WIRE_NODE_WELCOME);
    assert_non_null(w);
    assert_int_equal(w->status, 0);
    assert_int_equal(w->node, link);
}

static void report(uint64_t link, double cpus) {
    uint8_t packed[200];
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_REPORT);
    WIRE_PUT(&b, node_report, available, packed, pack("CPU", cpus, packed, sizeof packed));
    give(link, 0, &b);
}

static uint32_t job(uint64_t driver) {
    struct wire_buf b;
    struct wire_job_start *m;
    const struct wire_job_started *a;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_START);
    m->head.call = 77;
    m->driver = driver;
    WIRE_PUT(&b, job_start, namespace, "space", 5);
    WIRE_PUT(&b, job_start, config, "config", 6);
    give(proc_node(driver), driver, &b);
    a = sent(driver, WIRE_JOB_STARTED);
    assert_non_null(a);
    assert_int_equal(a->head.call, 77);
    assert_true(a->head.flags & WIRE_REPLY);
    return a->status < 0 ? 0 : a->job;
}

struct spec {
    uint64_t seq;
    const char *name;
    uint32_t flags, strategy, job;
    int32_t restarts;
    double held, placing;
    uint64_t affinity, owner;
};

static struct skate_id actor_id(uint64_t seq) {
    return (struct skate_id){proc_make(1, 5), seq << 16};
}

/* Create by the driver (process 5 of node 1) and return the answer's status. */
static int create(struct spec s) {
    uint64_t driver = s.owner ? s.owner : proc_make(1, 5);
    uint8_t packed[200];
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_PICKLE5, .len = 5, .size = 5};
    struct wire_buf b;
    struct wire_actor_create *m;
    const struct wire_actor_created *a;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_CREATE);
    m->head.call = 9;
    m->actor = actor_id(s.seq);
    m->owner = driver;
    m->job = s.job ? s.job : 1;
    m->flags = s.flags;
    m->max_restarts = s.restarts;
    m->strategy = s.strategy;
    m->affinity = s.affinity;
    if (s.name) WIRE_PUT(&b, actor_create, name, s.name, strlen(s.name));
    WIRE_PUT(&b, actor_create, namespace, "space", 5);
    WIRE_PUT(&b, actor_create, cls, "Counter", 7);
    WIRE_PUT(&b, actor_create, held, packed, pack("CPU", s.held, packed, sizeof packed));
    WIRE_PUT(&b, actor_create, placing, packed, pack("CPU", s.placing, packed, sizeof packed));
    WIRE_PUT(&b, actor_create, spec, "SPECBYTES", 9);
    WIRE_PUT(&b, actor_create, fn_value, &v, sizeof v);
    WIRE_PUT(&b, actor_create, fn_data, "CLASS", 5);
    give(proc_node(driver), driver, &b);
    a = sent(driver, WIRE_ACTOR_CREATED);
    assert_non_null(a);
    assert_int_equal(a->head.call, 9);
    return a->status;
}

static void ready(uint64_t seq, uint64_t proc, uint32_t incarnation, int status) {
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_PICKLE5, .flags = VAL_ERROR,
                         .len = 4, .size = 4};
    struct wire_buf b;
    struct wire_actor_ready *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_READY);
    m->actor = actor_id(seq);
    m->proc = proc;
    m->incarnation = incarnation;
    m->pid = 1000 + proc_number(proc);
    m->status = status;
    if (status < 0) {
        WIRE_PUT(&b, actor_ready, error, &v, sizeof v);
        WIRE_PUT(&b, actor_ready, data, "BOOM", 4);
    }
    give(proc_node(proc), proc, &b);
}

static void died(uint64_t proc, int sig, bool intended) {
    struct wire_buf b;
    struct wire_proc_died *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_PROC_DIED);
    m->proc = proc;
    m->pid = 1000 + proc_number(proc);
    m->signal = sig;
    m->code = -1;
    m->intended = intended;
    give(proc_node(proc), 0, &b);
}

static void subscribe(uint64_t seq, uint64_t proc) {
    struct wire_buf b;
    struct wire_actor_sub *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_SUB);
    m->head.call = 4;
    m->actor = actor_id(seq);
    give(proc_node(proc), proc, &b);
}

static void kill_actor(uint64_t seq, bool no_restart) {
    struct wire_buf b;
    struct wire_actor_kill *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_KILL);
    m->actor = actor_id(seq);
    m->no_restart = no_restart;
    give(1, proc_make(1, 5), &b);
}

static uint32_t state_told(uint64_t proc) {
    const struct wire_actor_state *s = sent(proc, WIRE_ACTOR_STATE);

    return s ? s->state : 99;
}

static struct gcs_counts counts(void) {
    struct gcs_counts c;

    gcs_count(g, &c);
    return c;
}

static const uint64_t driver = (uint64_t)1 << 32 | 5, worker = (uint64_t)1 << 32 | 6;

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
    assert_non_null(sent(2, WIRE_STOP));
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

/* ------------------------------------------------------------------ jobs */

/* All raylets know the job before its driver does, and who joins later, too. */
static void job_starts(void **state) {
    const struct wire_job_info *info;

    (void)state;
    join(1, 2);
    join(2, 2);
    assert_int_equal(job(driver), 1);
    info = sent(2, WIRE_JOB_INFO);
    assert_int_equal(info->driver, driver);
    HAS_TEXT(info, job_info, config, "config");
    assert_true(place_of(sent(1, WIRE_JOB_INFO)) < place_of(sent(driver, WIRE_JOB_STARTED)));
    assert_int_equal(job(proc_make(2, 9)), 2);
    join(3, 1);
    assert_int_equal(((const struct wire_job_info *)sent_nth(3, WIRE_JOB_INFO, 1))->job, 2);
    assert_int_equal(job(driver), 3);
    assert_int_equal(job(driver), 0); /* jobs_max */
}

/* The driver dies: raylets hear job_end, its actors end, detached ones stay. */
static void job_ends(void **state) {
    const struct wire_worker_kill *kill;

    (void)state;
    join(1, 4);
    job(driver);
    assert_int_equal(create((struct spec){.seq = 1}), 0);
    assert_int_equal(create((struct spec){.seq = 2, .name = "stay", .flags = 1}), 0);
    ready(1, worker, 1, 0);
    ready(2, proc_make(1, 7), 1, 0);
    died(driver, SIGKILL, false);
    assert_non_null(sent(1, WIRE_JOB_END));
    kill = sent(1, WIRE_WORKER_KILL);
    assert_int_equal(kill->proc, worker);
    HAS_TEXT(kill, worker_kill, reason, "signal 9 (SIGKILL)");
    assert_null(sent_nth(1, WIRE_WORKER_KILL, 1));
    assert_int_equal(counts().jobs_live, 0);
    assert_int_equal(counts().actors_live, 1);
    assert_int_equal(counts().actors_dead, 1);
}

/* ------------------------------------------------------------------ actors */

/* Create, place, start, ready; the creator is told unasked, a subscriber now and at each change. */
static void actor_lives(void **state) {
    const struct wire_actor_start *s;
    const struct wire_actor_state *a;
    uint32_t n;

    (void)state;
    join(1, 2);
    job(driver);
    assert_int_equal(create((struct spec){.seq = 1, .name = "bob", .held = 1, .placing = 1}), 0);
    s = sent(1, WIRE_ACTOR_START);
    assert_non_null(s);
    assert_int_equal(s->incarnation, 1);
    HAS_TEXT(s, actor_start, spec, "SPECBYTES");
    HAS_TEXT(s, actor_start, cls, "Counter");
    assert_memory_equal(wire_actor_start_fn_data(s, &n), "CLASS", 5);
    (void)wire_actor_start_fn_value(s, &n);
    assert_int_equal(n, 1);
    assert_true(place_of(sent(driver, WIRE_ACTOR_CREATED)) < place_of(s));
    subscribe(1, worker);
    assert_int_equal(state_told(worker), 0);
    ready(1, proc_make(1, 8), 1, 0);
    a = sent(driver, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 1);
    assert_int_equal(a->proc, proc_make(1, 8));
    assert_int_equal(a->pid, 1008);
    assert_int_equal(state_told(worker), 1);
    HAS_TEXT(a, actor_state, name, "bob");
    ready(1, proc_make(1, 8), 1, 0); /* said twice: nothing */
    assert_int_equal(out.count, 0);
}

/* Killed by a signal: restarted as far as max_restarts allows, then dead with the reason. */
static void actor_restarts(void **state) {
    const struct wire_actor_state *a;
    const struct wire_actor_start *s;

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .restarts = 1});
    ready(1, worker, 1, 0);
    died(worker, SIGKILL, false);
    assert_int_equal(state_told(driver), 2);
    s = sent(1, WIRE_ACTOR_START);
    assert_int_equal(s->incarnation, 2);
    ready(1, worker, 1, 0); /* of the incarnation that is over: its process must end */
    assert_non_null(sent(1, WIRE_WORKER_KILL));
    ready(1, proc_make(1, 7), 2, 0);
    assert_int_equal(state_told(driver), 1);
    died(worker, SIGKILL, false); /* the old process again: nothing */
    assert_int_equal(state_told(driver), 99);
    died(proc_make(1, 7), SIGSEGV, false);
    a = sent(driver, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_int_equal(a->restarts, 1);
    HAS_TEXT(a, actor_state, reason, "worker process 1007 was killed by signal 11 (SIGSEGV)");
    HAS_TEXT(a, actor_state, reason, "restarted 1 times");
    assert_int_equal(counts().subs, 0);
    assert_int_equal(counts().spec_bytes, 11); /* the job's settings only */
}

/* An intended end is the end; -1 restarts without end. */
static void actor_intended_and_endless(void **state) {
    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .restarts = -1});
    for (uint32_t i = 1; i < 20; i++) {
        ready(1, proc_make(1, 10 + i), i, 0);
        assert_int_equal(state_told(driver), 1);
        died(proc_make(1, 10 + i), SIGKILL, false);
        assert_int_equal(state_told(driver), 2);
    }
    ready(1, worker, 20, 0);
    died(worker, -1, true);
    assert_int_equal(state_told(driver), 3);
}

/* A constructor that raises: dead with its error, no restart; a crash in it counts as a crash. */
static void actor_constructor(void **state) {
    const struct wire_actor_state *a;
    uint32_t n;

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .restarts = 5});
    ready(1, worker, 1, -SKATE_EINVAL);
    a = sent(driver, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_int_equal(a->init_failed, 1);
    assert_memory_equal(wire_actor_state_data(a, &n), "BOOM", 4);
    assert_int_equal(wire_actor_state_error(a, &n)->flags, VAL_ERROR);
    assert_non_null(sent(1, WIRE_WORKER_KILL));
    subscribe(1, worker); /* who asks later gets the error, too */
    a = sent(worker, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_memory_equal(wire_actor_state_data(a, &n), "BOOM", 4);
    create((struct spec){.seq = 2, .restarts = 1});
    ready(2, worker, 1, -SKATE_EDEAD);
    assert_int_equal(state_told(driver), 2);
    ready(2, worker, 2, -SKATE_EDEAD);
    a = sent(driver, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_int_equal(a->init_failed, 0);
}

/* Names are taken at once, shared by get_if_exists, found by name, free after death. */
static void actor_names(void **state) {
    struct wire_buf b;
    struct wire_actor_by_name *m;
    const struct wire_actor_created *a;

    (void)state;
    join(1, 0); /* nothing is ever placed */
    job(driver);
    assert_int_equal(create((struct spec){.seq = 1, .name = "n", .placing = 1}), 0);
    assert_int_equal(create((struct spec){.seq = 2, .name = "n"}), -SKATE_EEXIST);
    a = sent(driver, WIRE_ACTOR_CREATED);
    HAS_TEXT(a, actor_created, reason, "already taken");
    assert_int_equal(create((struct spec){.seq = 3, .name = "n", .flags = 2}), 1);
    a = sent(driver, WIRE_ACTOR_CREATED);
    assert_true(a->actor.seq == actor_id(1).seq);
    for (int i = 0; i < 2; i++) {
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ACTOR_BY_NAME);
        m->head.call = 8;
        WIRE_PUT(&b, actor_by_name, name, "n", 1);
        WIRE_PUT(&b, actor_by_name, namespace, "space", 5);
        give(1, worker, &b);
        assert_int_equal(state_told(worker), i == 0 ? 0 : 4);
        if (i == 0) kill_actor(1, true);
    }
    assert_int_equal(create((struct spec){.seq = 4, .name = "n"}), 0);
    assert_int_equal(create((struct spec){.seq = 4}), -SKATE_EEXIST); /* the same id */
}

/* kill: for good, or as a crash. While it is being started, the raylet is told by actor id. */
static void actor_killed(void **state) {
    const struct wire_worker_kill *k;

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .restarts = 1});
    kill_actor(1, false);
    k = sent(1, WIRE_WORKER_KILL);
    assert_int_equal(k->proc, 0);
    assert_true(k->actor.seq == actor_id(1).seq);
    assert_int_equal(((const struct wire_actor_start *)sent(1, WIRE_ACTOR_START))->incarnation, 2);
    assert_true(place_of(k) < place_of(sent(1, WIRE_ACTOR_START)));
    ready(1, worker, 2, 0);
    kill_actor(1, true);
    k = sent(1, WIRE_WORKER_KILL);
    assert_int_equal(k->proc, worker);
    assert_int_equal(k->signal, SIGKILL);
    assert_int_equal(state_told(driver), 3);
    died(worker, SIGKILL, true);
    assert_int_equal(out.count, 0);
    kill_actor(1, true); /* again: nothing to do */
    assert_int_equal(out.count, 0);
}

/* No handle is left: the worker is asked to end, after it is ready if need be. */
static void actor_unused(void **state) {
    struct wire_buf b;

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .restarts = 3});
    wire_init(&b, NULL, 0);
    ((struct wire_actor_unused *)wire_begin(&b, WIRE_ACTOR_UNUSED))->actor = actor_id(1);
    give(1, driver, &b);
    assert_int_equal(out.count, 0);
    ready(1, worker, 1, 0);
    assert_non_null(sent(worker, WIRE_ACTOR_EXIT));
    died(worker, -1, false);
    assert_int_equal(state_told(driver), 3); /* not restarted, however it ended */
}

/* Its owner dies: it ends; an owner's detached actor does not. Subscriptions of the dead go. */
static void owner_dies(void **state) {
    uint64_t owner = proc_make(1, 40);

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .owner = owner});
    create((struct spec){.seq = 2, .owner = owner, .flags = 1, .name = "d"});
    subscribe(1, driver);
    subscribe(2, owner);
    ready(1, worker, 1, 0);
    ready(2, proc_make(1, 7), 1, 0);
    died(owner, SIGKILL, false);
    assert_int_equal(state_told(driver), 3);
    assert_int_equal(counts().actors_live, 1);
    assert_int_equal(counts().subs, 0);
}

/* ------------------------------------------------------------------ placement */

/* No room: wait; room again: go, in order. What can never fit is told at once, once. */
static void placement_waits(void **state) {
    const struct wire_notice *n;

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .held = 2, .placing = 2});
    assert_non_null(sent(1, WIRE_ACTOR_START));
    create((struct spec){.seq = 2, .held = 1, .placing = 1});
    assert_null(sent(1, WIRE_ACTOR_START));
    assert_null(sent(driver, WIRE_NOTICE));
    create((struct spec){.seq = 3, .held = 5, .placing = 5});
    n = sent(driver, WIRE_NOTICE);
    assert_non_null(n);
    assert_int_equal(n->kind, 1);
    assert_int_equal(n->job, 1);
    report(1, 0);
    assert_null(sent(driver, WIRE_NOTICE));
    assert_null(sent(1, WIRE_ACTOR_START));
    report(1, 1);
    assert_non_null(sent(1, WIRE_ACTOR_START));
    assert_int_equal(counts().actors_pending, 1);
    join(2, 8);
    assert_non_null(sent(2, WIRE_ACTOR_START));
    assert_int_equal(counts().actors_pending, 0);
}

/* Actors that hold nothing need a free CPU to be placed but do not wait for each other. */
static void placement_burst(void **state) {
    (void)state;
    join(1, 2);
    join(2, 2);
    job(driver);
    for (uint64_t i = 1; i <= 8; i++) {
        create((struct spec){.seq = i, .placing = 1});
        assert_true(sent(1, WIRE_ACTOR_START) || sent(2, WIRE_ACTOR_START));
        if (i == 2) assert_non_null(sent(2, WIRE_ACTOR_START)); /* 50 % are full: the other */
    }
    assert_int_equal(create((struct spec){.seq = 9}), -SKATE_EFULL); /* actors_max */
}

/* A refusal sends it elsewhere, not back at once; a stale one is ignored. */
static void placement_refused(void **state) {
    struct wire_buf b;
    struct wire_actor_refused *m;

    (void)state;
    join(1, 2);
    job(driver);
    create((struct spec){.seq = 1, .held = 1, .placing = 1});
    for (int i = 0; i < 2; i++) {
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ACTOR_REFUSED);
        m->actor = actor_id(1);
        m->incarnation = 1;
        give(1, 0, &b);
        assert_int_equal(out.count, 0);
    }
    assert_int_equal(counts().actors_pending, 1);
    event(GCS_TICK, 0, NULL, 0);
    assert_int_equal(out.count, 0);
    report(1, 1);
    assert_int_equal(((const struct wire_actor_start *)sent(1, WIRE_ACTOR_START))->incarnation, 2);
}

static void placement_affinity(void **state) {
    (void)state;
    join(1, 2);
    join(2, 2);
    job(driver);
    create((struct spec){.seq = 1, .placing = 1, .strategy = 2, .affinity = proc_make(2, 0)});
    assert_non_null(sent(2, WIRE_ACTOR_START));
    create((struct spec){.seq = 2, .placing = 1, .strategy = 1});
    create((struct spec){.seq = 3, .placing = 3, .strategy = 2, .affinity = proc_make(2, 0)});
    assert_non_null(sent(driver, WIRE_NOTICE));
}

/* A node is lost: what lived there restarts elsewhere or dies, what was starting starts again. */
static void node_loss(void **state) {
    const struct wire_actor_state *a;

    (void)state;
    join(1, 1);
    join(2, 8);
    job(driver);
    for (uint64_t i = 1; i <= 3; i++)
        create((struct spec){.seq = i, .restarts = i == 1, .held = 1, .placing = 1, .strategy = 2,
                             .affinity = proc_make(2, 0)});
    ready(1, proc_make(2, 5), 1, 0);
    ready(2, proc_make(2, 6), 1, 0);
    create((struct spec){.seq = 4, .owner = proc_make(2, 5)});
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_int_equal(((const struct wire_node_info *)sent(1, WIRE_NODE_INFO))->state, 0);
    assert_int_equal(counts().actors_pending, 2); /* 1 and 3: hard affinity to a node that is gone */
    assert_int_equal(counts().actors_dead, 2);
    for (uint32_t i = 0, seen = 0; (a = sent_nth(driver, WIRE_ACTOR_STATE, i)); i++) {
        if (a->actor.seq == actor_id(2).seq) {
            assert_int_equal(a->state, 3);
            HAS_TEXT(a, actor_state, reason, "node 2 was lost: cable cut");
            seen++;
        }
        if (i > 10) fail();
        if (!sent_nth(driver, WIRE_ACTOR_STATE, i + 1)) assert_int_equal(seen, 1);
    }
    event(GCS_LINK_DOWN, 2, NULL, 0); /* heard again: nothing */
    assert_int_equal(out.count, 0);
}

/* ------------------------------------------------------------------ bounds, values, bad input */

static void bounds(void **state) {
    const struct wire_actor_state *a;
    const struct wire_status *s;

    (void)state;
    join(1, 2);
    job(driver);
    for (uint64_t i = 1; i <= 6; i++) {
        create((struct spec){.seq = i});
        kill_actor(i, true);
    }
    assert_int_equal(counts().actors_dead, 3);
    subscribe(1, worker); /* forgotten */
    a = sent(worker, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 4);
    subscribe(6, worker);
    assert_int_equal(state_told(worker), 3);
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
    give(1, worker, &b);
    return ((const struct wire_status *)sent(worker, WIRE_STATUS))->status;
}

static void values(void **state) {
    struct wire_buf b;
    const struct wire_kv_value *v;

    (void)state;
    join(1, 2);
    assert_int_equal(put("a", 10, false), 0);
    assert_int_equal(put("a", 10, false), -SKATE_EEXIST);
    assert_int_equal(put("a", 30, true), 0);
    assert_int_equal(put("b", 2000, true), -SKATE_EFULL);
    assert_int_equal(put("", 1, true), -SKATE_EINVAL);
    for (int i = 0; i < 2; i++) {
        wire_init(&b, NULL, 0);
        ((struct wire_kv_get *)wire_begin(&b, WIRE_KV_GET))->head.call = 6;
        WIRE_PUT(&b, kv_get, key, i ? "zz" : "a", i ? 2 : 1);
        give(1, worker, &b);
        v = sent(worker, WIRE_KV_VALUE);
        assert_int_equal(v->status, i ? -SKATE_ENOENT : 0);
        assert_int_equal(v->value.len, i ? 0 : 30);
    }
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
    job(driver);
    seed = 7;
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t kind = (uint32_t)dice() % wire_info_count;
        struct wire_head head = {.size = sizeof junk, .kind = (uint16_t)kind,
                                 .fixed = wire_info[kind].fixed, .call = 1};

        if (!wire_info[kind].name || kind == WIRE_NODE_REGISTER) continue;
        for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
            junk[i] = dice() % 5 ? dice() % 64 * 8
                                             : dice() << 33 | dice();
        for (uint32_t i = 0; i < wire_info[kind].span_count; i++) {
            struct wire_span span = {(uint32_t)(wire_info[kind].fixed + 8 * (dice() % 4)),
                                     wire_info[kind].spans[i].element * ((uint32_t)dice() % 2)};

            memcpy((uint8_t *)junk + wire_info[kind].spans[i].offset, &span, sizeof span);
        }
        memcpy(junk, &head, sizeof head);
        if (wire_check(junk, sizeof junk) < 0) continue;
        event(GCS_FRAME, 1, junk, sizeof junk);
        wire_init(&b, NULL, 0);
        ((struct wire_route *)wire_begin(&b, WIRE_ROUTE))->src = driver;
        WIRE_PUT(&b, route, frame, junk, sizeof junk);
        assert_int_equal(wire_end(&b), 0);
        event(GCS_FRAME, 1, b.p, b.len);
        wire_release(&b);
    }
    assert_int_equal(counts().nodes_alive, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nodes_join),        TEST(nodes_refused),    TEST(node_silent),
        TEST(job_starts),        TEST(job_ends),         TEST(actor_lives),
        TEST(actor_restarts),    TEST(actor_intended_and_endless),
        TEST(actor_constructor), TEST(actor_names),      TEST(actor_killed),
        TEST(actor_unused),      TEST(owner_dies),       TEST(placement_waits),
        TEST(placement_burst),   TEST(placement_refused), TEST(placement_affinity),
        TEST(node_loss),         TEST(bounds),           TEST(values),
        TEST(bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
