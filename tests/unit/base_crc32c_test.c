/* base_crc32c_test.c - CRC-32C against its published check value and a bit by bit computation.
 * links: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/crc32c.h"

static uint32_t bit_by_bit(const unsigned char *p, size_t n) {
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 8; k++) {
            uint32_t bit = (crc ^ (uint32_t)(p[i] >> k)) & 1;

            crc = (crc >> 1) ^ (bit ? 0x82f63b78u : 0);
        }
    return ~crc;
}

static void check_value(void **state) {
    unsigned char bytes[300];

    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(crc32c("", 0), 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * i + 7 * i);
    for (size_t n = 0; n < sizeof bytes; n++)
        assert_int_equal(crc32c(bytes, n), bit_by_bit(bytes, n));
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(check_value) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
