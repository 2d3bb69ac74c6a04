/* store_spill_file_test.c - heads of spill files: what is written is read, what is not is refused.
 * links: base store */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "store/spill_file.h"

static const struct spill_file_head file_head = {.nonce = 7, .file = 9, .records = 3,
                                                 .bytes = 7 * SPILL_BLOCK};

static void test_numbers(void **state) {
    (void)state;
    assert_int_equal(spill_padded(1), SPILL_BLOCK);
    assert_int_equal(spill_padded(SPILL_BLOCK), SPILL_BLOCK);
    assert_int_equal(spill_granules(SPILL_GRANULE), 1);
    assert_int_equal(spill_granules(SPILL_GRANULE + 1), 2);
    assert_int_equal(spill_head_bytes(1), SPILL_BLOCK);
    assert_int_equal(spill_head_bytes(504 * (uint64_t)SPILL_GRANULE), SPILL_BLOCK);
    assert_int_equal(spill_head_bytes(504 * (uint64_t)SPILL_GRANULE + 1), 2 * SPILL_BLOCK);
}

/* The format's checksum is XXH3-64, whatever the CPU: known answers, short and long. */
static void test_sum(void **state) {
    uint8_t *p = malloc(SPILL_GRANULE);

    (void)state;
    assert_non_null(p);
    for (size_t i = 0; i < SPILL_GRANULE; i++) p[i] = (uint8_t)(i * 31 + (i >> 8));
    assert_true(spill_sum("", 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(spill_sum(p, 100) == UINT64_C(0x10c6f5eff4f45481));
    assert_true(spill_sum(p, SPILL_BLOCK + 5) == UINT64_C(0xb812a7f05f134777));
    assert_true(spill_sum(p, SPILL_GRANULE) == UINT64_C(0xe7785e69feaf5a00));
    free(p);
}

static void test_file_head(void **state) {
    uint8_t block[SPILL_BLOCK];
    struct spill_file_head h;
    struct skate_error err;

    (void)state;
    spill_file_encode(&file_head, block);
    assert_memory_equal(block, "SKSPILL\n", 8);
    assert_int_equal(spill_file_decode(block, sizeof block, &h, &err), 0);
    assert_true(h.nonce == 7 && h.file == 9 && h.records == 3 && h.bytes == file_head.bytes);
    assert_int_equal(spill_file_decode(block, 100, &h, &err), -SKATE_EPROTO);
    for (size_t bit = 0; bit < SPILL_BLOCK * 8; bit += 5) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        err.text[0] = 0;
        assert_int_equal(spill_file_decode(block, sizeof block, &h, &err), -SKATE_EPROTO);
        assert_true(err.text[0] != 0);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Well-formed to the last checksum, and still nonsense. */
static void test_file_head_lies(void **state) {
    struct spill_file_head lies[] = {file_head, file_head, file_head, file_head, file_head};
    uint8_t block[SPILL_BLOCK];
    struct spill_file_head h;

    (void)state;
    lies[0].records = 0;
    lies[1].records = SPILL_RECORDS_MAX + 1;
    lies[2].bytes++;
    lies[3].bytes = 6 * SPILL_BLOCK; /* too short for three records */
    lies[4].bytes = UINT64_MAX - SPILL_BLOCK + 1;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        spill_file_encode(&lies[i], block);
        assert_int_equal(spill_file_decode(block, sizeof block, &h, NULL), -SKATE_EPROTO);
    }
}

static void test_record_head(void **state) {
    const struct spill_record_head says = {7, 9, 3 * SPILL_GRANULE, 2 * SPILL_GRANULE + 77, 2};
    uint8_t *data = malloc(says.bytes), head[SPILL_BLOCK];
    struct spill_record_head h;
    struct skate_error err;
    uint64_t sums[3], check;

    (void)state;
    assert_non_null(data);
    for (uint64_t i = 0; i < says.bytes; i++)
        data[i] = (uint8_t)(i * UINT64_C(0x9e3779b97f4a7c15) >> 40);
    sums[0] = spill_sum(data, SPILL_GRANULE);
    sums[1] = spill_sum(data + SPILL_GRANULE, SPILL_GRANULE);
    sums[2] = spill_sum(data + 2 * SPILL_GRANULE, 77);
    check = spill_record_encode(&says, sums, head);
    assert_int_equal(spill_record_decode(head, sizeof head, &h, &err), 0);
    assert_true(h.nonce == 7 && h.file == 9 && h.offset == says.offset && h.bytes == says.bytes &&
                h.record == 2);
    assert_true(check == spill_record_check(head));
    assert_int_equal(spill_granule_verify(head, &h, 0, data, SPILL_GRANULE), 0);
    assert_int_equal(spill_granule_verify(head, &h, 2, data + 2 * SPILL_GRANULE, 77), 0);
    assert_int_equal(spill_granule_verify(head, &h, 0, data + 1, SPILL_GRANULE), -SKATE_EPROTO);
    assert_int_equal(spill_granule_verify(head, &h, 1, data, SPILL_GRANULE), -SKATE_EPROTO);
    assert_int_equal(spill_granule_verify(head, &h, 2, data, 78), -SKATE_EPROTO);
    assert_int_equal(spill_granule_verify(head, &h, 3, data, 0), -SKATE_EPROTO);
    assert_int_equal(spill_granule_verify(head, &h, UINT64_MAX, data, 0), -SKATE_EPROTO);
    for (size_t bit = 0; bit < SPILL_BLOCK * 8; bit += 5) {
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(spill_record_decode(head, sizeof head, &h, &err), -SKATE_EPROTO);
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < SPILL_BLOCK; len += 61)
        assert_int_equal(spill_record_decode(head, len, &h, &err), -SKATE_EPROTO);
    free(data);
}

static void test_record_head_lies(void **state) {
    const struct spill_record_head lies[] = {
        {7, 9, 4096, SPILL_GRANULE, SPILL_RECORDS_MAX},
        {7, 9, 4097, SPILL_GRANULE, 0},
        {7, 9, UINT64_MAX - 4095, SPILL_GRANULE, 0},
        {7, 9, 4096, 600 * (uint64_t)SPILL_GRANULE, 0}, /* its head is larger */
    };
    uint8_t *head = calloc(2, SPILL_BLOCK);
    uint64_t sums[600] = {0};
    struct spill_record_head h;

    (void)state;
    assert_non_null(head);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        spill_record_encode(&lies[i], sums, head);
        assert_int_equal(spill_record_decode(head, SPILL_BLOCK, &h, NULL), -SKATE_EPROTO);
    }
    assert_int_equal(spill_record_decode(head, 2 * SPILL_BLOCK, &h, NULL), 0);
    free(head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_sum),
        cmocka_unit_test(test_file_head),     cmocka_unit_test(test_file_head_lies),
        cmocka_unit_test(test_record_head),   cmocka_unit_test(test_record_head_lies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
