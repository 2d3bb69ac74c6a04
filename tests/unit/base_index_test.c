/* The index of ids against a plain array. libs: base */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/index.h"

enum { KEYS = 3000, STEPS = 400000 };

struct row { /* a table that has other things beside the id */
    uint64_t before;
    struct skate_id id;
    uint64_t in; /* is it in the index? */
};

static uint64_t seed = 11;

static uint32_t chance(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* Ids of all kinds: puts in a row, returns of one task, results of others, other owners. */
static struct skate_id id_of(uint32_t i) {
    switch (i % 4) {
    case 0: return (struct skate_id){7, (uint64_t)i << 16 | 0xffff};
    case 1: return (struct skate_id){7, UINT64_C(5) << 16 | (i / 4 + 1)};
    case 2: return (struct skate_id){7, (uint64_t)i << 16 | 1};
    default: return (struct skate_id){i % 3 + 100, (uint64_t)(i / 16) << 16 | (i % 16)};
    }
}

static void random_steps(void **state) {
    struct row *rows = calloc(KEYS, sizeof *rows);
    struct skate_id absent = {9, 9};
    struct index x;
    uint32_t count = 0;

    (void)state;
    assert_non_null(rows);
    for (uint32_t i = 0; i < KEYS; i++) rows[i].id = id_of(i);
    index_init(&x, &rows[0].id, sizeof *rows);
    assert_int_equal(index_get(&x, &absent), MAP_NONE);
    assert_int_equal(index_remove(&x, &absent), MAP_NONE);
    for (uint32_t s = 0; s < STEPS; s++) {
        uint32_t i = chance(s % 100000 < 50000 ? KEYS : 60); /* wide, then narrow: emptied again */

        assert_int_equal(index_get(&x, &rows[i].id), rows[i].in ? i : MAP_NONE);
        if (rows[i].in) {
            assert_int_equal(index_remove(&x, &rows[i].id), i);
            assert_int_equal(index_remove(&x, &rows[i].id), MAP_NONE);
        } else
            assert_int_equal(index_put(&x, i), 0);
        rows[i].in = !rows[i].in;
        count += rows[i].in ? 1 : (uint32_t)-1;
        assert_int_equal(x.count, count);
    }
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(index_get(&x, &rows[i].id), rows[i].in ? i : MAP_NONE);
    assert_int_equal(index_get(&x, &absent), MAP_NONE);
    index_release(&x);
    assert_int_equal(index_get(&x, &rows[0].id), MAP_NONE);
    free(rows);
}

/* A million in a row: found, and no cell far from its home. */
static void many_in_a_row(void **state) {
    enum { MANY = 1000000 };
    struct skate_id *ids = calloc(MANY, sizeof *ids);
    struct index x;
    uint64_t far = 0;

    (void)state;
    assert_non_null(ids);
    index_init(&x, ids, sizeof *ids);
    for (uint32_t i = 0; i < MANY; i++) {
        ids[i] = (struct skate_id){3, (uint64_t)(i + 1) << 16 | 0xffff};
        assert_int_equal(index_put(&x, i), 0);
    }
    for (uint32_t i = 0; i < MANY; i++) assert_int_equal(index_get(&x, &ids[i]), i);
    for (uint32_t i = 0, run = 0; i <= x.mask; i++) {
        run = x.cells[i].used ? run + 1 : 0;
        far += run > 4096;
    }
    assert_int_equal(far, 0);
    assert_true((uint64_t)(x.mask + 1) * sizeof *x.cells <= 20u * MANY); /* bytes for each */
    for (uint32_t i = 0; i < MANY; i++) assert_int_equal(index_remove(&x, &ids[i]), i);
    assert_int_equal(x.count, 0);
    index_release(&x);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_steps),
                                       cmocka_unit_test(many_in_a_row)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
