/* native_instances_test.c - the table of a native process's actors against a plain array, and what
 * a hostile caller may ask of it. links: base native */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "native/instances.h"

enum { NUMBERS = 3000, STEPS = 20000 };
#define BASE (UINT64_C(77) << 32)

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

struct model {
    const void *cls; /* NULL: dead, or never made */
    uint32_t value;
};

static void check(struct instances *t, const struct model *m, uint32_t i) {
    const void *cls = NULL;
    uint32_t *self = instances_find(t, BASE + i, &cls);

    assert_int_equal(self != NULL, m[i].cls != NULL);
    if (!self) return;
    assert_ptr_equal(cls, m[i].cls);
    assert_int_equal(*self, m[i].value);
}

/* Runs of numbers made, ended and written to at random: the table says what the array says. */
static void test_walk(void **state) {
    static struct model m[NUMBERS];
    static const int classes[3];
    struct instances t;
    uint32_t seed = 5, next = 0;

    (void)state;
    instances_init(&t, 1 << 30);
    for (int step = 0; step < STEPS; step++) {
        uint32_t what = next_random(&seed) % 16, i = next_random(&seed) % NUMBERS;

        if (what == 0 && next < NUMBERS) {
            uint32_t n = 1 + next_random(&seed) % 20, k = next_random(&seed) % 3;

            if (n > NUMBERS - next) n = NUMBERS - next;
            assert_int_equal(instances_add(&t, BASE + next, n, &classes[k], 4 + 12 * k), 0);
            for (; n; n--, next++) {
                uint32_t *self = instances_state(&t, BASE + next);

                assert_int_equal(*self, 0);
                *self = m[next].value = next_random(&seed);
                m[next].cls = &classes[k];
                instances_born(&t, BASE + next);
            }
        } else if (what < 6) {
            assert_int_equal(instances_end(&t, BASE + i), m[i].cls != NULL);
            m[i].cls = NULL;
        }
        check(&t, m, i);
    }
    for (uint32_t i = 0; i < NUMBERS; i++) check(&t, m, i);
    for (uint64_t at = 0, index, n = 0;; n++) {
        const void *cls;
        uint32_t live = 0;

        if (instances_next(&t, &at, &index, &cls)) {
            assert_ptr_equal(cls, m[index - BASE].cls);
            continue;
        }
        for (uint32_t i = 0; i < NUMBERS; i++) live += m[i].cls != NULL;
        assert_int_equal(n, live);
        break;
    }
    for (uint32_t i = 0; i < NUMBERS; i++) (void)instances_end(&t, BASE + i);
    assert_int_equal(t.count, 0);
    assert_int_equal(t.bytes, 0);
    instances_release(&t);
}

static void test_hostile(void **state) {
    static const int cls;
    struct instances t;
    const void *k;

    (void)state;
    instances_init(&t, 1 << 20);
    assert_int_equal(instances_add(&t, 0, 1, &cls, 8), -SKATE_EINVAL);
    assert_int_equal(instances_add(&t, 5, 0, &cls, 8), -SKATE_EINVAL);
    assert_int_equal(instances_add(&t, UINT64_MAX, 1, &cls, 8), -SKATE_EINVAL);
    assert_int_equal(instances_add(&t, UINT64_MAX - 5, 100, &cls, 8), -SKATE_EINVAL);
    assert_int_equal(instances_add(&t, 1, UINT64_MAX - 1, &cls, 8), -SKATE_EFULL);
    assert_int_equal(instances_add(&t, 1, INSTANCES_MAX, &cls, 8), -SKATE_EFULL); /* bytes */
    assert_int_equal(instances_add(&t, 1, 1, &cls, SIZE_MAX), -SKATE_EFULL);
    assert_int_equal(instances_add(&t, UINT64_MAX - 3, 2, &cls, 8), 0);
    assert_int_equal(instances_add(&t, 100, 10, &cls, 8), 0);
    assert_int_equal(instances_add(&t, 100, 1, &cls, 8), -SKATE_EEXIST);
    assert_int_equal(instances_add(&t, 109, 1, &cls, 8), -SKATE_EEXIST);
    assert_int_equal(instances_add(&t, 95, 6, &cls, 8), -SKATE_EEXIST);
    assert_int_equal(instances_add(&t, 95, 5, &cls, 8), 0);
    assert_null(instances_find(&t, 100, &k)); /* made, not born */
    assert_null(instances_find(&t, 0, &k));
    assert_null(instances_find(&t, 110, &k));
    assert_false(instances_end(&t, 100));
    assert_false(instances_end(&t, 1000));
    instances_undo(&t, 95, 5);
    assert_int_equal(instances_add(&t, 95, 5, &cls, 8), 0);
    instances_release(&t);
}

/* A run that failed half-way leaves the ones before it alone. */
static void test_undo(void **state) {
    static const int cls;
    struct instances t;
    const void *k;

    (void)state;
    instances_init(&t, 1 << 20);
    assert_int_equal(instances_add(&t, 10, 2, &cls, 24), 0);
    instances_born(&t, 10);
    instances_born(&t, 11);
    assert_int_equal(instances_add(&t, 12, 3, &cls, 24), 0); /* behind it, in its slab */
    memset(instances_state(&t, 12), 9, 24);
    instances_born(&t, 12);
    instances_undo(&t, 12, 3);
    assert_null(instances_find(&t, 12, &k));
    assert_non_null(instances_find(&t, 11, &k));
    assert_int_equal(instances_add(&t, 12, 1, &cls, 24), 0);
    for (int i = 0; i < 24; i++) assert_int_equal(((uint8_t *)instances_state(&t, 12))[i], 0);
    instances_release(&t);
}

/* States are aligned for any type, and of their full size. */
static void test_alignment(void **state) {
    static const int cls;
    struct instances t;

    (void)state;
    instances_init(&t, 1 << 26);
    for (size_t bytes = 0; bytes < 300; bytes++) {
        size_t align = bytes ? bytes & -bytes : 8; /* the largest that a type of that size has */
        uint64_t first = BASE + bytes * 1000;

        assert_int_equal(instances_add(&t, first, 7, &cls, bytes), 0);
        for (uint64_t i = 0; i < 7; i++) {
            uint8_t *self = instances_state(&t, first + i);

            assert_int_equal((uintptr_t)self % (align > 64 ? 64 : align), 0);
            memset(self, 0xee, bytes);
        }
    }
    instances_release(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk), cmocka_unit_test(test_hostile), cmocka_unit_test(test_undo),
        cmocka_unit_test(test_alignment)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
