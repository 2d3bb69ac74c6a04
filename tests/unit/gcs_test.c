/* gcs_test.c - scenarios of actors in the control store: frames in, frames out, no I/O.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"

/* ------------------------------------------------------------------ actors */

/* Create, place, start, ready; the creator is told unasked, a subscriber now and at each change. */
static void actor_lives(void **state) {
    const struct wire_actor_start *s;
    const struct wire_actor_state *a;
    uint32_t n;

    (void)state;
    join(1, 2);
    job(DRIVER);
    assert_int_equal(create((struct spec){.seq = 1, .name = "bob", .held = 1, .placing = 1}), 0);
    s = sent(1, WIRE_ACTOR_START);
    assert_non_null(s);
    assert_int_equal(s->incarnation, 1);
    HAS_TEXT(s, actor_start, spec, "SPECBYTES");
    HAS_TEXT(s, actor_start, cls, "Counter");
    assert_memory_equal(wire_actor_start_fn_data(s, &n), "CLASS", 5);
    (void)wire_actor_start_fn_value(s, &n);
    assert_int_equal(n, 1);
    assert_true(place_of(sent(DRIVER, WIRE_ACTOR_CREATED)) < place_of(s));
    subscribe(1, WORKER);
    assert_int_equal(state_told(WORKER), 0);
    ready(1, proc_make(1, 8), 1, 0);
    a = sent(DRIVER, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 1);
    assert_int_equal(a->proc, proc_make(1, 8));
    assert_int_equal(a->pid, 1008);
    assert_int_equal(state_told(WORKER), 1);
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
    job(DRIVER);
    create((struct spec){.seq = 1, .restarts = 1});
    ready(1, WORKER, 1, 0);
    died(WORKER, SIGKILL, false);
    assert_int_equal(state_told(DRIVER), 2);
    s = sent(1, WIRE_ACTOR_START);
    assert_int_equal(s->incarnation, 2);
    ready(1, WORKER, 1, 0); /* of the incarnation that is over: its process must end */
    assert_non_null(sent(1, WIRE_WORKER_KILL));
    ready(1, proc_make(1, 7), 2, 0);
    assert_int_equal(state_told(DRIVER), 1);
    died(WORKER, SIGKILL, false); /* the old process again: nothing */
    assert_int_equal(state_told(DRIVER), 99);
    died(proc_make(1, 7), SIGSEGV, false);
    a = sent(DRIVER, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_int_equal(a->restarts, 1);
    HAS_TEXT(a, actor_state, reason, "worker process 1007 was killed by signal 11 (SIGSEGV)");
    HAS_TEXT(a, actor_state, reason, "restarted 1 time");
    assert_int_equal(counts().subs, 0);
    assert_int_equal(counts().spec_bytes, 11); /* the job's settings only */
}

/* An intended end is the end; -1 restarts without end. */
static void actor_intended_and_endless(void **state) {
    (void)state;
    join(1, 2);
    job(DRIVER);
    create((struct spec){.seq = 1, .restarts = -1});
    for (uint32_t i = 1; i < 20; i++) {
        ready(1, proc_make(1, 10 + i), i, 0);
        assert_int_equal(state_told(DRIVER), 1);
        died(proc_make(1, 10 + i), SIGKILL, false);
        assert_int_equal(state_told(DRIVER), 2);
    }
    ready(1, WORKER, 20, 0);
    died(WORKER, -1, true);
    assert_int_equal(state_told(DRIVER), 3);
}

/* A constructor that raises: dead with its error, no restart; a crash in it counts as a crash. */
static void actor_constructor(void **state) {
    const struct wire_actor_state *a;
    uint32_t n;

    (void)state;
    join(1, 2);
    job(DRIVER);
    create((struct spec){.seq = 1, .restarts = 5});
    ready(1, WORKER, 1, -SKATE_EINVAL);
    a = sent(DRIVER, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_int_equal(a->init_failed, 1);
    assert_memory_equal(wire_actor_state_data(a, &n), "BOOM", 4);
    assert_int_equal(wire_actor_state_error(a, &n)->flags, VAL_ERROR);
    assert_non_null(sent(1, WIRE_WORKER_KILL));
    subscribe(1, WORKER); /* who asks later gets the error, too */
    a = sent(WORKER, WIRE_ACTOR_STATE);
    assert_int_equal(a->state, 3);
    assert_memory_equal(wire_actor_state_data(a, &n), "BOOM", 4);
    create((struct spec){.seq = 2, .restarts = 1});
    ready(2, WORKER, 1, -SKATE_EDEAD);
    assert_int_equal(state_told(DRIVER), 2);
    ready(2, WORKER, 2, -SKATE_EDEAD);
    a = sent(DRIVER, WIRE_ACTOR_STATE);
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
    job(DRIVER);
    assert_int_equal(create((struct spec){.seq = 1, .name = "n", .placing = 1}), 0);
    assert_int_equal(create((struct spec){.seq = 2, .name = "n"}), -SKATE_EEXIST);
    a = sent(DRIVER, WIRE_ACTOR_CREATED);
    HAS_TEXT(a, actor_created, reason, "already taken");
    assert_int_equal(create((struct spec){.seq = 3, .name = "n", .flags = 2}), 1);
    a = sent(DRIVER, WIRE_ACTOR_CREATED);
    assert_true(a->actor.seq == actor_id(1).seq);
    for (int i = 0; i < 2; i++) {
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ACTOR_BY_NAME);
        m->head.call = 8;
        WIRE_PUT(&b, actor_by_name, name, "n", 1);
        WIRE_PUT(&b, actor_by_name, namespace, "space", 5);
        give(1, WORKER, &b);
        assert_int_equal(state_told(WORKER), i == 0 ? 0 : 4);
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
    job(DRIVER);
    create((struct spec){.seq = 1, .restarts = 1});
    kill_actor(1, false);
    k = sent(1, WIRE_WORKER_KILL);
    assert_int_equal(k->proc, 0);
    assert_true(k->actor.seq == actor_id(1).seq);
    assert_int_equal(((const struct wire_actor_start *)sent(1, WIRE_ACTOR_START))->incarnation, 2);
    assert_true(place_of(k) < place_of(sent(1, WIRE_ACTOR_START)));
    ready(1, WORKER, 2, 0);
    kill_actor(1, true);
    k = sent(1, WIRE_WORKER_KILL);
    assert_int_equal(k->proc, WORKER);
    assert_int_equal(k->signal, SIGKILL);
    assert_int_equal(state_told(DRIVER), 3);
    died(WORKER, SIGKILL, true);
    assert_int_equal(out.count, 0);
    kill_actor(1, true); /* again: nothing to do */
    assert_int_equal(out.count, 0);
}

/* No handle is left: the worker is asked to end, after it is ready if need be. */
static void actor_unused(void **state) {
    struct wire_buf b;

    (void)state;
    join(1, 2);
    job(DRIVER);
    create((struct spec){.seq = 1, .restarts = 3});
    wire_init(&b, NULL, 0);
    ((struct wire_actor_unused *)wire_begin(&b, WIRE_ACTOR_UNUSED))->actor = actor_id(1);
    give(1, DRIVER, &b);
    assert_int_equal(out.count, 0);
    ready(1, WORKER, 1, 0);
    assert_non_null(sent(WORKER, WIRE_ACTOR_EXIT));
    died(WORKER, -1, false);
    assert_int_equal(state_told(DRIVER), 3); /* not restarted, however it ended */
}

/* Its owner dies: it ends; an owner's detached actor does not. Subscriptions of the dead go. */
static void owner_dies(void **state) {
    uint64_t owner = proc_make(1, 40);

    (void)state;
    join(1, 2);
    job(DRIVER);
    create((struct spec){.seq = 1, .owner = owner});
    create((struct spec){.seq = 2, .owner = owner, .flags = 1, .name = "d"});
    subscribe(1, DRIVER);
    subscribe(2, owner);
    ready(1, WORKER, 1, 0);
    ready(2, proc_make(1, 7), 1, 0);
    died(owner, SIGKILL, false);
    assert_int_equal(state_told(DRIVER), 3);
    assert_int_equal(counts().actors_live, 1);
    assert_int_equal(counts().subs, 0);
}

/* ------------------------------------------------------------------ placement */

/* No room: wait; room again: go, in order. What can never fit is told at once, once. */
static void placement_waits(void **state) {
    const struct wire_notice *n;

    (void)state;
    join(1, 2);
    job(DRIVER);
    create((struct spec){.seq = 1, .held = 2, .placing = 2});
    assert_non_null(sent(1, WIRE_ACTOR_START));
    create((struct spec){.seq = 2, .held = 1, .placing = 1});
    assert_null(sent(1, WIRE_ACTOR_START));
    assert_null(sent(DRIVER, WIRE_NOTICE));
    create((struct spec){.seq = 3, .held = 5, .placing = 5});
    n = sent(DRIVER, WIRE_NOTICE);
    assert_non_null(n);
    assert_int_equal(n->kind, 1);
    assert_int_equal(n->job, 1);
    report(1, 0);
    assert_null(sent(DRIVER, WIRE_NOTICE));
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
    job(DRIVER);
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
    job(DRIVER);
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
    job(DRIVER);
    create((struct spec){.seq = 1, .placing = 1, .strategy = 2, .affinity = proc_make(2, 0)});
    assert_non_null(sent(2, WIRE_ACTOR_START));
    create((struct spec){.seq = 2, .placing = 1, .strategy = 1});
    create((struct spec){.seq = 3, .placing = 3, .strategy = 2, .affinity = proc_make(2, 0)});
    assert_int_equal(((const struct wire_actor_state *)sent(DRIVER, WIRE_ACTOR_STATE))->cause, 2);
    create((struct spec){.seq = 4, .placing = 1, .strategy = 2, .affinity = proc_make(9, 0)});
    assert_int_equal(state_told(DRIVER), 3); /* no such node: never */
}

/* A node is lost: what lived there restarts elsewhere or dies, what was starting starts again. */
static void node_loss(void **state) {
    const struct wire_actor_state *a;

    (void)state;
    join(1, 1);
    join(2, 8);
    job(DRIVER);
    for (uint64_t i = 1; i <= 3; i++)
        create((struct spec){.seq = i, .restarts = i == 1, .held = 1, .placing = 1, .strategy = 2,
                             .affinity = proc_make(2, 0)});
    ready(1, proc_make(2, 5), 1, 0);
    ready(2, proc_make(2, 6), 1, 0);
    create((struct spec){.seq = 4, .owner = proc_make(2, 5)});
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_int_equal(((const struct wire_node_info *)sent(1, WIRE_NODE_INFO))->state, 0);
    assert_int_equal(counts().actors_pending, 0); /* 1, 3: they had to be on that node */
    assert_int_equal(counts().actors_dead, 3);    /* of 4: the oldest is forgotten */
    for (uint32_t i = 0, seen = 0; (a = sent_nth(DRIVER, WIRE_ACTOR_STATE, i)); i++) {
        if (a->actor.seq == actor_id(2).seq) {
            assert_int_equal(a->state, 3);
            HAS_TEXT(a, actor_state, reason, "node 2 was lost: cable cut (raylet process ");
            seen++;
        }
        if (i > 10) fail();
        if (!sent_nth(DRIVER, WIRE_ACTOR_STATE, i + 1)) assert_int_equal(seen, 1);
    }
    event(GCS_LINK_DOWN, 2, NULL, 0); /* heard again: nothing */
    assert_int_equal(out.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(actor_lives),
        TEST(actor_restarts),
        TEST(actor_intended_and_endless),
        TEST(actor_constructor),
        TEST(actor_names),
        TEST(actor_killed),
        TEST(actor_unused),
        TEST(owner_dies),
        TEST(placement_waits),
        TEST(placement_burst),
        TEST(placement_refused),
        TEST(placement_affinity),
        TEST(node_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
