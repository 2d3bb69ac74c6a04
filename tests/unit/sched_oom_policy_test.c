/* sched_oom_policy_test.c - who ends when memory does: rules one by one, then whole workloads.
 * links: base sched */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sched/oom_policy.h"

#define MB (UINT64_C(1) << 20)
#define SECOND INT64_C(1000000000)
#define NEVER UINT64_MAX

static struct oom_worker task(uint64_t owner, int64_t began, uint64_t mb, double grown_mb) {
    return (struct oom_worker){.kind = OOM_TASK, .again = true, .owner = owner, .began_ns = began,
                               .bytes = mb * MB, .grown = grown_mb * (double)MB};
}

static struct oom_worker actor(uint64_t mb, double grown_mb) {
    struct oom_worker w = task(1, 0, mb, grown_mb);

    w.kind = OOM_ACTOR;
    w.again = false;
    return w;
}

static int picked(const struct oom_worker *v, uint32_t n) {
    struct oom_choice c = {.index = 99};

    return oom_pick(v, n, NEVER, &c) ? (int)c.index : -1;
}

static void test_rules(void **state) {
    struct oom_worker v[4] = {task(1, 10, 500, 400), task(1, 20, 60, 10), task(1, 30, 60, 10)};
    struct oom_choice c;

    (void)state;
    assert_int_equal(picked(v, 0), -1);
    assert_int_equal(picked(v, 3), 0); /* the one that grows, not the newest */
    v[1] = task(1, 20, 500, 390);
    assert_int_equal(picked(v, 3), 1); /* both grow: the newer */
    v[0].owner = 2;
    v[2] = task(2, 5, 500, 380);
    assert_int_equal(picked(v, 3), 0); /* the larger group, its newest */
    v[0].again = v[2].again = false;
    assert_int_equal(picked(v, 3), 1); /* what can be tried again */
    v[1].again = false;
    assert_int_equal(picked(v, 3), 1); /* none can: the newest of all */
    v[3] = actor(900, 450);
    assert_int_equal(picked(v, 4), 1); /* a task before an actor */
    v[3] = actor(2000, 1900);
    assert_int_equal(picked(v, 4), 3); /* the actor is the one that grows */
    v[0] = actor(800, 0);
    v[1] = actor(9, 9);
    assert_int_equal(picked(v, 2), 0); /* nobody has grown: size; the small one never */
    assert_int_equal(picked(v + 1, 1), -1);
    v[1] = task(1, 20, 100, 0);
    v[1].guess = 90.0 * (double)MB;
    assert_int_equal(picked(v, 2), 1); /* what may have grown comes before size */
    v[0] = task(1, 10, 1000, 900);
    assert_true(oom_pick(v, 2, NEVER, &c));
    assert_true(c.index == 0 && c.alone);
    v[1].bytes = 300 * MB;
    assert_true(oom_pick(v, 2, NEVER, &c));
    assert_true(c.index == 0 && !c.alone);
}

static void test_idle(void **state) {
    struct oom_worker v[3] = {task(1, 10, 500, 400), task(0, 0, 90, 0), task(0, 0, 200, 0)};
    struct oom_choice c;

    (void)state;
    v[1].kind = v[2].kind = OOM_IDLE;
    assert_true(oom_pick(v, 3, 100 * MB, &c));
    assert_true(c.index == 2 && !c.alone); /* the largest of them, before any task */
    assert_true(oom_pick(v, 2, 100 * MB, &c));
    assert_int_equal(c.index, 0);
    assert_true(oom_pick(v, 2, 1, &c));
    assert_int_equal(c.index, 1);
    v[1].bytes = MB;
    assert_false(oom_pick(v + 1, 1, 0, &c)); /* it would not help */
}

static void look(struct oom_track *t, uint64_t mb, uint64_t work, int64_t began, int64_t now,
                 int64_t last) {
    struct oom_look l = {.bytes = mb * MB, .work = work, .began_ns = began * SECOND,
                         .now_ns = now * SECOND, .last_ns = last * SECOND};

    oom_note(t, &l);
}

static uint64_t mbs(double bytes) { return (uint64_t)(bytes / (double)MB + 0.5); }

static void test_tracks(void **state) {
    struct oom_track t = {0};

    (void)state;
    look(&t, 600, 1, 100, 700, 0); /* ten minutes old, never looked at */
    assert_int_equal(mbs(t.grown), 0);
    assert_int_equal(mbs(t.guess), 60);
    look(&t, 600, 1, 100, 701, 700);
    assert_int_equal(mbs(t.grown), 0);
    look(&t, 900, 1, 100, 702, 701);
    assert_int_equal(mbs(t.grown), 300);
    look(&t, 500, 1, 100, 703, 702); /* it shrinks */
    assert_int_equal(mbs(t.grown), 295);
    look(&t, 500, 1, 100, 704 + 3600, 703);
    assert_in_range(mbs(t.grown), 1, 10);
    look(&t, 550, 2, 5000, 5000, 704 + 3600); /* another task on it */
    assert_int_equal(mbs(t.grown), 50);
    look(&t, 550, 3, 6000, 6000, 0); /* nobody looked for a while */
    assert_int_equal(mbs(t.grown), 0);
    assert_int_equal(mbs(t.guess), 550);
    t = (struct oom_track){0};
    look(&t, 80, 1, 10, 11, 10); /* it began since the last look at the others */
    assert_int_equal(mbs(t.grown), 80);
    look(&t, 80, 1, 20, 10, 30); /* clocks that run backwards harm nobody */
    assert_in_range(mbs(t.grown), 0, 80);
}

/* ---- whole workloads ---- */

enum { PROCS = 24, STEPS = 2400 };
struct sim_proc {
    struct oom_worker w;
    struct oom_track t;
    double mb, rate, most; /* of its memory, a second's growth, and where that ends */
    bool live, hog;
};
struct sim {
    struct sim_proc p[PROCS];
    uint32_t hogs, innocent, killed, wrong;
    int64_t now, last;
    double limit, threshold;
    uint64_t random;
};

static uint32_t below(struct sim *s, uint32_t n) {
    s->random = s->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(s->random >> 33) % n;
}

/* Half of the places: workers that hold what they have since long, or small tasks. The others stay
 * empty until a hog comes. */
static void sim_begin(struct sim *s, uint64_t seed) {
    *s = (struct sim){.random = seed * 7919 + 1, .limit = 16000, .threshold = 15200};
    s->now = 3600 * SECOND;
    for (uint32_t i = 0; i < PROCS / 2; i++) {
        struct sim_proc *p = &s->p[i];

        p->live = true;
        p->w.kind = below(s, 3) == 0 ? OOM_ACTOR : OOM_TASK;
        p->w.again = below(s, 2);
        p->w.owner = 1 + below(s, 3);
        p->w.began_ns = s->now - (30 + (int64_t)below(s, 3000)) * SECOND;
        p->mb = p->most = 20 + below(s, 900);
        s->innocent++;
    }
}

static double sim_used(const struct sim *s) {
    double used = 800; /* daemons, a driver */

    for (uint32_t i = 0; i < PROCS; i++)
        if (s->p[i].live) used += s->p[i].mb;
    return used;
}

/* A hog comes: alone, or one of many. None takes more in one step than lies above the threshold. */
static void sim_hog(struct sim *s, uint32_t at) {
    struct sim_proc *p = &s->p[at];

    *p = (struct sim_proc){.live = true, .hog = true, .rate = 20 + below(s, 220), .most = 30000};
    p->w.kind = below(s, 3) == 0 ? OOM_ACTOR : OOM_TASK;
    p->w.again = below(s, 2);
    p->w.owner = 1 + below(s, 3);
    p->w.began_ns = s->now;
    p->mb = 5;
    s->hogs++;
}

/* A small task ends, the next begins on the same worker. */
static void sim_small(struct sim *s, uint32_t at) {
    struct sim_proc *p = &s->p[at];

    if (!p->live || p->hog || p->w.kind != OOM_TASK || p->mb > 60 || below(s, 8)) return;
    p->w.began_ns = s->now;
    p->mb = 20 + below(s, 40);
}

static void sim_look(struct sim *s) {
    int64_t last = s->now - s->last <= 2 * SECOND ? s->last : 0;

    for (uint32_t i = 0; i < PROCS; i++) {
        struct sim_proc *p = &s->p[i];
        struct oom_look l = {.bytes = (uint64_t)(p->mb * (double)MB),
                             .work = (uint64_t)p->w.began_ns, .began_ns = p->w.began_ns,
                             .now_ns = s->now, .last_ns = last};

        if (!p->live) continue;
        oom_note(&p->t, &l);
        p->w.bytes = p->t.bytes;
        p->w.grown = p->t.grown;
        p->w.guess = p->t.guess;
    }
    s->last = s->now;
}

static void sim_kill(struct sim *s) {
    struct oom_worker v[PROCS];
    uint32_t at[PROCS], n = 0;
    struct oom_choice c;

    for (uint32_t i = 0; i < PROCS; i++)
        if (s->p[i].live) {
            at[n] = i;
            v[n++] = s->p[i].w;
        }
    assert_true(oom_pick(v, n, NEVER, &c));
    s->wrong += !s->p[at[c.index]].hog;
    s->p[at[c.index]].live = false;
    s->killed++;
}

static void sim_run(struct sim *s) {
    uint32_t come = PROCS / 2, each = 1 + below(s, 40), last = come + 1 + below(s, PROCS / 2);

    for (uint32_t step = 0; step < STEPS; step++) {
        s->now += SECOND / 4;
        if (come < last && step % each == 0) sim_hog(s, come++);
        for (uint32_t i = 0; i < PROCS; i++) {
            struct sim_proc *p = &s->p[i];

            sim_small(s, i);
            if (p->live && p->mb < p->most) p->mb += p->rate / 4;
        }
        assert_true(sim_used(s) < s->limit); /* the kernel is never asked */
        if (sim_used(s) < s->threshold * 3 / 4) continue;
        sim_look(s);
        if (sim_used(s) >= s->threshold) sim_kill(s);
    }
}

/* 300 workloads: whoever is ended is one that grows, and all of those are, in the end. */
static void test_workloads(void **state) {
    uint32_t killed = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct sim s;
        uint32_t left = 0;

        sim_begin(&s, seed);
        sim_run(&s);
        for (uint32_t i = 0; i < PROCS; i++) left += s.p[i].live && !s.p[i].hog;
        if (s.wrong || left != s.innocent)
            fail_msg("workload %d: %u of %u were the wrong ones", (int)seed, s.wrong, s.killed);
        assert_true(s.killed > 0);
        killed += s.killed;
    }
    assert_true(killed > 600);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules), cmocka_unit_test(test_idle), cmocka_unit_test(test_tracks),
        cmocka_unit_test(test_workloads)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
