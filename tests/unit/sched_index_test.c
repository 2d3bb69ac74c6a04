/* sched_index_test.c - the index finds the node that a look at all finds. links: base sched */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/id.h"
#include "sched/node_index.h"

static uint64_t seed;

static uint32_t random_to(uint32_t n) { /* 0 .. n-1 */
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((seed >> 33) % n);
}

static void set(struct resources *r, const char *name, int64_t amount) {
    assert_int_equal(resources_set(r, name, amount), 0);
}

/* Machines of a few kinds, some with memory of their own size, some with what only they have. */
static void make_total(struct resources *r, uint32_t node) {
    static const int64_t cpus[] = {2, 8, 8, 64};
    int64_t unit = RESOURCE_UNIT, memory = INT64_C(8000000000);
    char own[32];

    *r = (struct resources){0};
    set(r, "CPU", cpus[random_to(4)] * unit);
    if (random_to(3) == 0) set(r, "GPU", (1 + random_to(4)) * unit);
    if (random_to(2)) set(r, "memory", (memory + random_to(1000000)) * unit);
    if (random_to(20) == 0) set(r, "rare", random_to(2) * unit);
    snprintf(own, sizeof own, "node:10.0.0.%u", node % 50);
    if (random_to(2)) set(r, own, unit);
}

static void make_avail(struct sched_node *n) {
    n->avail = n->total;
    for (uint32_t i = 0; i < n->avail.count; i++) {
        int64_t total = n->total.v[i].amount;

        switch (random_to(5)) {
        case 0: break;
        case 1: n->avail.v[i].amount = 0; break;
        case 2: n->avail.v[i].amount = -5000; break; /* a woken worker took its CPU back */
        default: n->avail.v[i].amount = total / 1000 * random_to(1001); break;
        }
    }
}

static void make_labels(struct sched_node *n) {
    static const char *const zones[] = {"", "zone=a,", "zone=b,", "zone=a,disk=ssd,"};

    snprintf(n->labels, sizeof n->labels, "%sray.io/node-id=n%u", zones[random_to(4)], n->node);
}

static void make_want(struct resources *r) {
    char own[32];

    *r = (struct resources){0};
    if (random_to(8)) set(r, "CPU", random_to(20) ? random_to(5) * 5000 : 65 * RESOURCE_UNIT);
    if (random_to(3) == 0) set(r, "GPU", random_to(4) * 5000);
    if (random_to(4) == 0) set(r, "memory", (INT64_C(1) << (4 * random_to(9))) * RESOURCE_UNIT);
    if (random_to(15) == 0) set(r, "rare", RESOURCE_UNIT);
    snprintf(own, sizeof own, "node:10.0.0.%u", random_to(60));
    if (random_to(15) == 0) set(r, own, 10);
}

static const char *make_selector(char *out, size_t cap) {
    switch (random_to(8)) {
    case 0: return "zone=a";
    case 1: return "zone!a;disk^\nzone+";
    case 2: return "disk=ssd\n";
    case 3:
        snprintf(out, cap, "ray.io/node-id=n%u|n%u", 1 + random_to(90), 1 + random_to(90));
        return out;
    case 4:
        snprintf(out, cap, "zone=b;ray.io/node-id!n%u", 1 + random_to(90));
        return out;
    default: return NULL;
    }
}

/* The same change in both. */
static void change(struct sched_view *a, struct sched_view *b) {
    uint32_t node = 1 + random_to(90), how = random_to(12);
    struct sched_node *n = sched_view_find(a, node), *m;
    bool fresh = !n;

    if (fresh && random_to(2)) return;
    n = sched_view_add(a, node);
    m = sched_view_add(b, node);
    assert_non_null(n);
    assert_non_null(m);
    if (fresh || how == 0) {
        make_total(&n->total, node);
        make_labels(n);
    }
    if (fresh || how < 8) make_avail(n);
    if (fresh || how == 9) n->alive = random_to(10) > 0;
    if (fresh || how == 10) n->closed = random_to(6) == 0;
    m->total = n->total;
    m->avail = n->avail;
    m->alive = n->alive;
    m->closed = n->closed;
    memcpy(m->labels, n->labels, sizeof m->labels);
    if (node == a->self) return; /* its own row: unsaid */
    if (how == 0)
        sched_view_reshape(b, m);
    else
        sched_view_touch(b, m);
}

static void ask_both(struct sched_view *a, struct sched_view *b) {
    uint64_t near[2] = {proc_make(1 + random_to(90), 3), proc_make(1 + random_to(90), 4)};
    struct resources want;
    char text[64];
    struct sched_ask ask = {.want = &want, .strategy = random_to(SCHED_STRATEGIES),
                            .affinity = 1 + random_to(95), .locality = near,
                            .locality_count = random_to(6) ? 0 : 1 + random_to(2),
                            .here = a->self || random_to(3) ? 0 : 1 + random_to(90)};
    uint32_t x = 0, y = 0;
    int r;

    if (random_to(2)) ask.strategy = random_to(2);
    make_want(&want);
    ask.labels = make_selector(text, sizeof text);
    r = sched_pick(a, &ask, &x);
    assert_int_equal(sched_pick(b, &ask, &y), r);
    if (r == 0) assert_int_equal(x, y);
    assert_int_equal(a->turn, b->turn);
}

static void test_same_choice(void **state) {
    uint32_t indexed = 0;

    (void)state;
    for (uint32_t run = 0; run < 150; run++) {
        struct sched_view a = {.index_from = UINT32_MAX}, b = {.index_from = 1};

        seed = run * 7919 + 1;
        a.self = b.self = random_to(3) ? 1 + random_to(90) : 0;
        for (uint32_t i = 0; i < 400; i++) {
            if (i < 60 || random_to(3) == 0) change(&a, &b);
            if (a.count) ask_both(&a, &b);
        }
        assert_null(a.index);
        indexed += b.index != NULL;
        sched_view_release(&a);
        sched_view_release(&b);
    }
    assert_int_equal(indexed, 150);
}

/* Ten thousand alike, nearly all full: the search looks at few of them. */
static void test_large(void **state) {
    struct resources want = {0};
    struct sched_ask ask = {.want = &want};
    struct sched_view v = {0};
    uint32_t node = 0;

    (void)state;
    set(&want, "CPU", RESOURCE_UNIT);
    for (uint32_t i = 1; i <= 10000; i++) {
        struct sched_node *n = sched_view_add(&v, i);

        assert_non_null(n);
        set(&n->total, "CPU", 8 * RESOURCE_UNIT);
        n->avail = n->total;
        n->alive = true;
        snprintf(n->labels, sizeof n->labels, "ray.io/node-id=x%u", i);
        if (i != 7777) n->avail.v[0].amount = 0;
    }
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(sched_pick(&v, &ask, &node), 0);
        assert_int_equal(node, 7777);
        resources_take(&sched_view_find(&v, node)->avail, &want);
        sched_view_touch(&v, sched_view_find(&v, node));
    }
    assert_int_equal(sched_pick(&v, &ask, &node), -SKATE_EAGAIN);
    assert_int_equal(sched_could(&v, &ask), -SKATE_EAGAIN);
    set(&want, "CPU", 9 * RESOURCE_UNIT);
    assert_int_equal(sched_pick(&v, &ask, &node), -SKATE_ENOENT);
    sched_view_release(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_choice),
        cmocka_unit_test(test_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
