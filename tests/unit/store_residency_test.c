/* store_residency_test.c - pins against pages that leave: nobody reads what is not there.
 * links: base store. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/residency.h"

enum { GRANULES = 4, ROUNDS = 200000 };
#define WORD UINT64_C(0x5a5a5a5a5a5a5a5a)

static uint8_t map[GRANULES];
static uint32_t pins[2][GRANULES];
static uint64_t words[GRANULES]; /* one a granule, in place of its pages */
static int stop;
static uint64_t wrong, seen[2], left;

/* Pin two granules, look, read. */
static void *reader(void *arg) {
    uintptr_t who = (uintptr_t)arg;

    for (uint64_t i = who; !at_load(&stop); i++) {
        uint64_t first = i % (GRANULES - 1), offset = first * GRANULE_BYTES + 100;

        if (pins_take(pins[who], map, offset, GRANULE_BYTES)) {
            for (uint64_t g = first; g < first + 2; g++)
                if (at_load(&words[g]) != WORD) at_add_seq(&wrong, 1);
            seen[who]++;
        }
        pins_drop(pins[who], offset, GRANULE_BYTES);
    }
    return NULL;
}

/* As the raylet does it: leaving, look at the pins, out or here again. */
static void leave_and_come(uint64_t g) {
    at_store(&map[g], RES_LEAVING);
    at_fence_seq();
    if (at_load(&pins[0][g]) || at_load(&pins[1][g])) {
        at_store(&map[g], RES_HERE);
        return;
    }
    at_store(&map[g], RES_OUT);
    at_store(&words[g], 0);
    left++;
    at_store(&words[g], WORD);
    at_fence_seq();
    at_store(&map[g], RES_HERE);
}

static void nobody_reads_what_left(void **state) {
    pthread_t t[2];

    (void)state;
    for (int g = 0; g < GRANULES; g++) words[g] = WORD;
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, reader, (void *)i), 0);
    for (uint64_t i = 0; i < ROUNDS || at_load(&seen[0]) == 0 || at_load(&seen[1]) == 0; i++)
        leave_and_come(i % GRANULES);
    at_store(&stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    assert_int_equal(wrong, 0);
    assert_true(left > 0);
    for (int g = 0; g < GRANULES; g++) assert_int_equal(pins[0][g] + pins[1][g], 0);
}

static void granules_of_bytes(void **state) {
    (void)state;
    assert_int_equal(granule_first(GRANULE_BYTES - 1), 0);
    assert_int_equal(granule_end(0, 1), 1);
    assert_int_equal(granule_end(0, GRANULE_BYTES), 1);
    assert_int_equal(granule_end(GRANULE_BYTES - 1, 2), 2);
    assert_true(residency_bytes(GRANULE_BYTES) >= 1);
    assert_int_equal(residency_bytes(GRANULE_BYTES * 10000) % 4096, 0);
    assert_true(pins_bytes(GRANULE_BYTES * 10000) >= 40000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_reads_what_left),
        cmocka_unit_test(granules_of_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
