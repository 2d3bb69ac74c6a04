/* fuzz_plain.h - a fuzz target as a cmocka test: seeded random bytes for FUZZ_SECONDS (2). A seed
 * that ended it is printed before its run is; SKATE_FUZZ_SEED=N begins there. */
#include <stdarg.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"

static uint64_t fuzz_state;

static uint64_t fuzz_random(void) {
    fuzz_state ^= fuzz_state << 13;
    fuzz_state ^= fuzz_state >> 7;
    fuzz_state ^= fuzz_state << 17;
    return fuzz_state;
}

/* The seed that runs is kept where a look at a core file or a hook of the target finds it. */
static volatile uint64_t fuzz_seed;

static void fuzz_for_a_while(void **state) {
    const char *seed = getenv("SKATE_FUZZ_SEED"), *time = getenv("SKATE_FUZZ_SECONDS");
    int64_t seconds = time ? strtol(time, NULL, 10) : 2;
    int64_t end = time_now_ns() + seconds * INT64_C(1000000000);
    static uint8_t data[4096];
    uint64_t runs = 0;

    (void)state;
    fuzz_seed = seed ? strtoull(seed, NULL, 10) : 1;
    do {
        size_t len;

        fuzz_state = fuzz_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
        len = 16 + fuzz_random() % (sizeof data - 16);
        for (size_t i = 0; i < len; i++) data[i] = (uint8_t)(fuzz_random() >> 24);
        (void)fuzz_one(data, len);
        fuzz_seed++;
        runs++;
    } while (time_now_ns() < end);
    assert_true(runs > 10);
    print_message("%llu runs\n", (unsigned long long)runs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fuzz_for_a_while)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
