/* native_batch_test.c - the bytes of a batch: what was written is read, and whatever is cut or
 * changed is read within its bounds. links: base native */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "native/batch.h"

enum { CALLS = 50 };

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static size_t write_call(uint8_t *p, uint64_t index, const char *method, uint32_t args_len) {
    uint16_t len = (uint16_t)strlen(method);

    memcpy(p, &index, 8);
    memcpy(p + 8, &len, 2);
    memcpy(p + 10, method, len);
    memcpy(p + 10 + len, &args_len, 4);
    memset(p + 14 + len, (int)index, args_len);
    return 14u + len + args_len;
}

static const char *method_of(int i) { return i % 3 ? "add" : i % 2 ? "" : "a_longer_name"; }

static size_t write_all(uint8_t *p) {
    size_t n = 0;

    for (int i = 0; i < CALLS; i++)
        n += write_call(p + n, (uint64_t)i, method_of(i), (uint32_t)i % 7);
    return n;
}

static void test_read(void **state) {
    uint8_t bytes[4096];
    size_t size = write_all(bytes);
    struct batch_call c;
    struct batch b;

    (void)state;
    assert_int_equal(batch_init(&b, bytes, size), 0);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(batch_next(&b, &c), 1);
        assert_int_equal(c.index, i);
        assert_int_equal(c.method_len, strlen(method_of(i)));
        assert_memory_equal(c.method, method_of(i), c.method_len);
        assert_int_equal(c.args_len, i % 7);
        for (uint32_t k = 0; k < c.args_len; k++) assert_int_equal(c.args[k], i);
    }
    assert_int_equal(batch_next(&b, &c), 0);
}

/* Every length of a cut one, in memory of exactly that size: a read beyond it is seen by ASan. */
static void test_cut(void **state) {
    uint8_t bytes[4096];
    size_t size = write_all(bytes);

    (void)state;
    for (size_t n = 0; n <= size; n++) {
        uint8_t *copy = malloc(n ? n : 1);
        struct batch_call c;
        struct batch b;
        size_t sum = 0;
        int r;

        memcpy(copy, bytes, n);
        assert_int_equal(batch_init(&b, copy, n), 0);
        while ((r = batch_next(&b, &c)) > 0) sum += 14u + c.method_len + c.args_len;
        assert_true(r == 0 ? sum == n : r == -SKATE_EPROTO && sum < n);
        free(copy);
    }
}

static void test_garbled(void **state) {
    uint8_t bytes[4096], *copy = malloc(4096);
    size_t size = write_all(bytes);
    uint32_t seed = 3;

    (void)state;
    copy = realloc(copy, size);
    for (int round = 0; round < 3000; round++) {
        struct batch_call c;
        struct batch b;

        memcpy(copy, bytes, size);
        for (int i = 0; i < 4; i++) copy[next_random(&seed) % size] = (uint8_t)next_random(&seed);
        assert_int_equal(batch_init(&b, copy, size), 0);
        while (batch_next(&b, &c) > 0) {
            assert_true((const uint8_t *)c.method >= copy && c.args + c.args_len <= copy + size);
        }
    }
    free(copy);
}

static void test_large(void **state) {
    uint8_t byte = 0;
    struct batch b;

    (void)state;
    assert_int_equal(batch_init(&b, &byte, (size_t)BATCH_BYTES_MAX + 1), -SKATE_ETOOBIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_cut),
                                       cmocka_unit_test(test_garbled),
                                       cmocka_unit_test(test_large)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
