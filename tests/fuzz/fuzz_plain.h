/* fuzz_plain.h - a fuzz target as a cmocka test: each input of the committed corpus once, then
 * seeded random bytes for FUZZ_SECONDS (2). The seed that ended it is in fuzz_seed;
 * SKATE_FUZZ_SEED=N begins there. Run from the root of the repository. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
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

/* tests/fuzz/corpus/TARGET of a program fuzz_TARGET_test: how many inputs there were. */
static uint32_t fuzz_corpus(void) {
    const char *name = program_invocation_short_name;
    size_t len = strlen(name);
    static uint8_t data[4096];
    char path[600], folder[200];
    uint32_t count = 0;
    struct dirent *d;
    DIR *dir;

    assert_true(len > 10 && !strncmp(name, "fuzz_", 5) && !strcmp(name + len - 5, "_test"));
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%.*s", (int)len - 10, name + 5);
    dir = opendir(folder);
    while (dir && (d = readdir(dir))) {
        FILE *file;

        if (d->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        file = fopen(path, "rb");
        assert_non_null(file);
        len = fread(data, 1, sizeof data, file);
        fclose(file);
        (void)fuzz_one(data, len);
        count++;
    }
    if (dir) closedir(dir);
    return count;
}

static void fuzz_for_a_while(void **state) {
    const char *seed = getenv("SKATE_FUZZ_SEED"), *time = getenv("SKATE_FUZZ_SECONDS");
    int64_t seconds = time ? strtol(time, NULL, 10) : 2;
    int64_t end;
    static uint8_t data[4096];
    uint64_t runs = 0;

    (void)state;
    print_message("%u inputs of the corpus\n", fuzz_corpus());
    end = time_now_ns() + seconds * INT64_C(1000000000);
    fuzz_seed = seed ? strtoull(seed, NULL, 10) : 1;
    do {
        size_t len;

        fuzz_state = fuzz_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
        len = 16 + fuzz_random() % (sizeof data - 16);
        for (size_t i = 0; i < len; i++) data[i] = (uint8_t)(fuzz_random() >> 24);
        (void)fuzz_one(data, len);
        fuzz_seed++;
        runs++;
    } while (time_now_ns() < end || runs <= 10);
    print_message("%llu runs\n", (unsigned long long)runs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fuzz_for_a_while)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
