/* store_extents_test.c - extents and the quarantine of a dead process's bytes.
 * links: base store */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <stdlib.h>

#include "store/extents.h"
#include "store/quarantine.h"
#include "store/store_counts.h"

#define MIB (UINT64_C(1) << 20)

struct heard {
    uint64_t punched, gone;
};
static void on_punch(void *arg, struct extent_span span) {
    ((struct heard *)arg)->punched += span.bytes;
}
static void on_gone(void *arg, void *note) { ((struct heard *)arg)->gone += (uintptr_t)note; }

static struct heard heard;
static const struct extents_env env = {on_punch, on_gone, &heard};

static struct extents *start(uint64_t span, uint64_t budget) {
    struct extents *e = extents_new(span, budget, &env);

    assert_non_null(e);
    heard = (struct heard){0, 0};
    return e;
}

static void test_lend_and_return(void **state) {
    struct extents *e = start(16 * MIB, 8 * MIB);
    struct extent_span a, b;

    (void)state;
    assert_int_equal(extents_lend(e, 1, 1, &a, NULL), 0);
    assert_int_equal(a.bytes, EXTENT_PAGE);
    assert_true(a.offset > 0); /* 0 means nowhere */
    assert_int_equal(extents_lend(e, 2, 5000, &b, NULL), 0);
    assert_int_equal(b.bytes, 2 * EXTENT_PAGE);
    assert_int_equal(b.offset % GRANULE_BYTES, 0);
    assert_int_equal(extents_used(e), 3 * EXTENT_PAGE);
    assert_int_equal(extents_return(e, 1, b.offset), -SKATE_ENOENT); /* not its own */
    assert_int_equal(extents_return(e, 2, b.offset + EXTENT_PAGE), -SKATE_ENOENT);
    assert_int_equal(extents_return(e, 2, UINT64_MAX), -SKATE_ENOENT);
    assert_int_equal(extents_return(e, 2, b.offset), 0);
    assert_int_equal(extents_return(e, 2, b.offset), -SKATE_ENOENT); /* twice */
    assert_int_equal(extents_used_by(e, 2), 0);
    assert_int_equal(extents_warm(e), 2 * EXTENT_PAGE);
    assert_int_equal(heard.punched, 0);
    assert_true(extents_is_valid(e));
    extents_free(e);
}

/* What a process gave back it gets back, though another asks in between; its pages are there. */
static void test_warm_goes_back(void **state) {
    struct extents *e = start(64 * MIB, 64 * MIB);
    struct extent_span a, b, c, again;

    (void)state;
    assert_int_equal(extents_lend(e, 1, 4 * MIB, &a, NULL), 0);
    assert_int_equal(extents_lend(e, 2, 4 * MIB, &b, NULL), 0);
    assert_int_equal(extents_return(e, 1, a.offset), 0);
    assert_int_equal(extents_return(e, 2, b.offset), 0);
    assert_int_equal(extents_lend(e, 1, 3 * MIB, &again, NULL), 0);
    assert_int_equal(again.offset, a.offset);
    assert_int_equal(heard.punched, MIB); /* what the smaller one does not pay for */
    assert_int_equal(extents_lend(e, 2, 4 * MIB, &c, NULL), 0);
    assert_int_equal(c.offset, b.offset);
    assert_true(extents_is_valid(e));
    extents_free(e);
}

/* Full says so, names the holder, changes nothing; warm pages go when they are needed. */
static void test_full(void **state) {
    struct extents *e = start(256 * MIB, 8 * MIB);
    struct extent_span s[8], big = {7, 7};
    struct skate_error err = {""};

    (void)state;
    for (int i = 0; i < 8; i++) assert_int_equal(extents_lend(e, 5 + i % 2, MIB, &s[i], NULL), 0);
    assert_int_equal(extents_lend(e, 9, 2 * MIB, &big, &err), -SKATE_EFULL);
    assert_int_equal(big.offset, 7);
    assert_non_null(strstr(err.text, "process 5"));
    assert_non_null(strstr(err.text, "process 6"));
    assert_int_equal(extents_lend(e, 9, 90 * MIB, &big, &err), -SKATE_ETOOBIG);
    assert_int_equal(extents_lend(e, 9, 0, &big, &err), -SKATE_EINVAL);
    for (int i = 0; i < 8; i++) assert_int_equal(extents_return(e, 5 + i % 2, s[i].offset), 0);
    assert_int_equal(extents_warm(e), 8 * MIB);
    assert_int_equal(extents_lend(e, 9, 8 * MIB, &big, &err), 0);
    assert_int_equal(heard.punched, 8 * MIB);
    assert_true(extents_is_valid(e));
    extents_free(e);
}

static void test_held_until_released(void **state) {
    struct extents *e = start(256 * MIB, 9 * MIB);
    struct extent_span a, b;

    (void)state;
    assert_int_equal(extents_lend(e, 1, 4 * MIB, &a, NULL), 0);
    assert_int_equal(extents_lend(e, 1, 4 * MIB, &b, NULL), 0);
    assert_int_equal(extents_hold(e, 1), 8 * MIB);
    assert_int_equal(extents_hold(e, 77), 0);
    assert_true(extents_contains(e, a.offset + 100, 1000)); /* readers may still read it */
    assert_int_equal(extents_return(e, 1, a.offset), -SKATE_ENOENT);
    assert_int_equal(extents_lend(e, 2, 4 * MIB, &b, NULL), -SKATE_EFULL);
    extents_release(e, 1);
    assert_int_equal(heard.punched, 8 * MIB);
    assert_int_equal(extents_used(e), 0);
    assert_int_equal(extents_lend(e, 2, 8 * MIB, &b, NULL), 0);
    extents_free(e);
}

static void test_contains(void **state) {
    struct extents *e = start(9 * MIB, 9 * MIB);
    struct extent_span a;
    struct extent_info info;

    (void)state;
    assert_int_equal(extents_lend(e, 1, MIB, &a, NULL), 0);
    assert_true(extents_contains(e, a.offset, MIB));
    assert_true(extents_find(e, a.offset + MIB - 1, &info));
    assert_int_equal(info.offset, a.offset);
    assert_false(extents_find(e, a.offset + MIB, &info));
    assert_false(extents_contains(e, a.offset, MIB + 1));
    assert_false(extents_contains(e, a.offset + MIB, 1)); /* free */
    assert_false(extents_contains(e, UINT64_MAX - 4, 8));
    assert_false(extents_contains(e, a.offset + 8, UINT64_MAX - 8));
    extents_free(e);
}

/* Pages that are out cost nothing; a busy piece that is given back is free only after. */
static void test_out_and_busy(void **state) {
    struct extents *e = start(256 * MIB, 8 * MIB);
    struct extent_span a, b, c;
    struct extent_info info;

    (void)state;
    assert_int_equal(extents_lend(e, 1, 5 * MIB, &a, NULL), 0);
    assert_int_equal(extents_lend(e, 2, 5 * MIB, &b, NULL), -SKATE_EFULL);
    assert_true(extents_find(e, a.offset, &info));
    *info.note = (void *)3;
    extents_out(e, a.offset, 4 * MIB);
    assert_int_equal(extents_used(e), MIB);
    assert_int_equal(extents_lend(e, 2, 5 * MIB, &b, NULL), 0);
    assert_false(extents_in(e, a.offset, 3 * MIB)); /* no room */
    assert_true(extents_in(e, a.offset, 2 * MIB));
    assert_true(extents_is_valid(e));
    extents_set_busy(e, a.offset, true);
    assert_int_equal(extents_return(e, 1, a.offset), 0);
    assert_false(extents_find(e, a.offset, &info));
    assert_int_equal(heard.gone, 0);
    assert_int_equal(extents_lend(e, 3, 3 * MIB, &c, NULL), -SKATE_EFULL); /* still paid for */
    extents_set_busy(e, a.offset, false);
    assert_int_equal(heard.gone, 3);
    assert_int_equal(extents_lend(e, 3, 3 * MIB, &c, NULL), 0);
    assert_true(extents_is_valid(e));
    extents_free(e);
}

/* Larger than the budget, and paid for by nobody's pages. */
static void test_outside(void **state) {
    struct extents *e = start(256 * MIB, 8 * MIB);
    struct extent_span a, b;

    (void)state;
    assert_int_equal(extents_lend_outside(e, 1, 100 * MIB, &a, NULL), 0);
    assert_int_equal(extents_used(e), 0);
    assert_int_equal(extents_used_by(e, 1), 100 * MIB);
    assert_int_equal(extents_lend_outside(e, 1, 300 * MIB, &b, NULL), -SKATE_ETOOBIG);
    assert_int_equal(extents_lend(e, 2, 8 * MIB, &b, NULL), 0);
    assert_false(extents_in(e, a.offset, MIB));
    assert_true(extents_is_valid(e));
    assert_int_equal(extents_return(e, 1, a.offset), 0);
    assert_int_equal(extents_warm(e), 0);
    assert_true(extents_is_valid(e));
    extents_free(e);
}

static uint32_t next_random(uint32_t *s) {
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

/* No two living pieces overlap, the budget holds, whatever happens; in the end all is one piece. */
static void test_walk(void **state) {
    enum { SLOTS = 200 };
    struct extents *e = start(512 * MIB, 65 * MIB);
    struct {
        uint64_t proc, out;
        struct extent_span span;
    } live[SLOTS] = {0};
    struct extent_span all;
    uint32_t seed = 3;

    (void)state;
    for (int step = 0; step < 40000; step++) {
        uint32_t i = next_random(&seed) % SLOTS;

        if (live[i].proc && next_random(&seed) % 3 == 0) { /* its pages go, or come back */
            if (live[i].out && extents_in(e, live[i].span.offset, live[i].out))
                live[i].out = 0;
            else if (!live[i].out)
                extents_out(e, live[i].span.offset, live[i].out = live[i].span.bytes);
        } else if (live[i].proc) {
            if (next_random(&seed) % 50 == 0) { /* its process dies with all it has */
                uint64_t dead = live[i].proc;

                extents_hold(e, dead);
                extents_release(e, dead);
                for (uint32_t k = 0; k < SLOTS; k++)
                    if (live[k].proc == dead) live[k].proc = 0;
                continue;
            }
            assert_int_equal(extents_return(e, live[i].proc, live[i].span.offset), 0);
            live[i].proc = 0;
        } else {
            uint64_t proc = 1 + next_random(&seed) % 9, bytes = next_random(&seed) % MIB + 1;

            if (extents_lend(e, proc, bytes, &live[i].span, NULL) < 0) continue;
            live[i].proc = proc;
            live[i].out = 0;
            for (uint32_t k = 0; k < SLOTS; k++)
                assert_true(k == i || !live[k].proc ||
                            live[k].span.offset >= live[i].span.offset + live[i].span.bytes ||
                            live[i].span.offset >= live[k].span.offset + live[k].span.bytes);
        }
        if (step % 500 == 0) assert_true(extents_is_valid(e));
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        if (live[i].proc) assert_int_equal(extents_return(e, live[i].proc, live[i].span.offset), 0);
    assert_true(extents_is_valid(e));
    assert_int_equal(extents_used(e), 0);
    assert_int_equal(extents_lend(e, 1, 65 * MIB, &all, NULL), 0);
    assert_true(extents_is_valid(e));
    extents_free(e);
}

static void test_quarantine(void **state) {
    struct quarantine q = {0};
    uint64_t waits[3] = {1, 2, 3}, one[1] = {1};

    (void)state;
    assert_int_equal(quarantine_begin(&q, 9, waits, 3), 0);
    assert_int_equal(quarantine_begin(&q, 10, one, 1), 0);
    assert_false(quarantine_done(&q, 9, 2));
    assert_false(quarantine_done(&q, 9, 2)); /* twice counts once */
    assert_false(quarantine_done(&q, 11, 1));
    assert_false(quarantine_done(&q, 9, 44)); /* was not asked */
    assert_int_equal(quarantine_gone(&q, 1), 10);
    assert_int_equal(quarantine_gone(&q, 1), 0);
    assert_true(quarantine_done(&q, 9, 3));
    assert_false(quarantine_done(&q, 9, 3));
    quarantine_release(&q);
}

/* What is still used stays, the rest goes, as soon as all have said so. */
static void test_partly_used(void **state) {
    struct extents *e = start(64 * MIB, 64 * MIB);
    struct extent_span a, b, c;
    struct quarantine q = {0};
    uint64_t waits[] = {1, 2}, *used;
    uint32_t n;

    (void)state;
    assert_int_equal(extents_lend(e, 9, MIB, &a, NULL), 0);
    assert_int_equal(extents_lend(e, 9, MIB, &b, NULL), 0);
    assert_int_equal(extents_lend(e, 9, MIB, &c, NULL), 0);
    assert_int_equal(extents_hold(e, 9), 3 * MIB);
    assert_int_equal(quarantine_used(&q, 9, &used, &n), -SKATE_ENOENT);
    assert_int_equal(quarantine_begin(&q, 9, waits, 2), 0);
    assert_true(quarantine_live(&q, 9, 1, (uint64_t[]){c.offset + 64, a.offset + 64}, 2));
    assert_false(quarantine_live(&q, 9, 5, waits, 1)); /* was not asked */
    assert_int_equal(quarantine_used(&q, 9, &used, &n), -SKATE_EAGAIN);
    assert_false(quarantine_done(&q, 9, 2));
    assert_int_equal(quarantine_used(&q, 9, &used, &n), 0);
    assert_int_equal(n, 2);
    extents_release_unused(e, 9, used, n);
    free(used);
    assert_int_equal(heard.punched, b.bytes);
    assert_true(extents_is_valid(e));
    assert_true(quarantine_live(&q, 9, 1, (uint64_t[]){a.offset + a.bytes - 1}, 1));
    assert_int_equal(quarantine_pass(&q, 9, 1, 3), 0); /* an heir, who has not spoken yet */
    assert_int_equal(quarantine_used(&q, 9, &used, &n), -SKATE_EAGAIN);
    assert_true(quarantine_done(&q, 9, 3));
    extents_release(e, 9);
    assert_int_equal(extents_used(e), 0);
    quarantine_release(&q);
    extents_free(e);
}

static void test_holders(void **state) {
    struct extents *e = start(64 * MIB, 16 * MIB);
    struct extent_span a, b, c;
    struct extent_holder h;
    uint64_t lent = 0, held = 0;
    uint32_t at = 0, n = 0;

    (void)state;
    assert_false(extents_next_holder(e, &at, &h));
    assert_int_equal(extents_lend(e, 1, MIB, &a, NULL), 0);
    assert_int_equal(extents_lend(e, 1, MIB, &b, NULL), 0);
    assert_int_equal(extents_lend(e, 2, 3 * MIB, &c, NULL), 0);
    assert_int_equal(extents_hold(e, 2), 3 * MIB);
    for (at = 0; extents_next_holder(e, &at, &h); n++)
        if (h.held)
            held += h.bytes;
        else
            lent += h.bytes;
    assert_int_equal(n, 2);
    assert_int_equal(lent, 2 * MIB);
    assert_int_equal(held, 3 * MIB);
    extents_free(e);
}

static void test_rates(void **state) {
    const int64_t second = INT64_C(1000000000);
    struct store_history h = {0};
    struct store_counts c = {0};
    struct store_rates r = store_rates_of(&h, &c, second);

    (void)state;
    assert_int_equal(r.spill, 0); /* nothing to compare with */
    for (int64_t s = 1; s <= 100; s++) { /* 1 MiB a second spilled from the 50th on */
        if (s > 50) c.spilled_bytes += MIB;
        if (s == 100) c.evicted_bytes = 20 * MIB;
        store_history_add(&h, &c, s * second);
    }
    r = store_rates_of(&h, &c, 100 * second);
    assert_int_equal(r.spill, MIB); /* over the ten seconds that are remembered */
    assert_int_equal(r.evict, 2 * MIB);
    assert_int_equal(r.restore, 0);
    r = store_rates_of(&h, &c, 110 * second); /* nothing for ten seconds more */
    assert_int_equal(r.spill, MIB / 2);
    r = store_rates_of(&h, &c, 90 * second); /* no time has passed */
    assert_int_equal(r.spill, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lend_and_return), cmocka_unit_test(test_warm_goes_back),
        cmocka_unit_test(test_full),            cmocka_unit_test(test_held_until_released),
        cmocka_unit_test(test_contains),        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_out_and_busy),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_partly_used),     cmocka_unit_test(test_holders),
        cmocka_unit_test(test_rates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
