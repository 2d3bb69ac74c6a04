/* fuzz_arrow.c - the reader of Arrow streams on whatever bytes another process wrote: those of the
 * input as they are, or a stream of ours with some of its bytes changed. What comes out leads to
 * nowhere outside of exactly these bytes. */
int arrow_test_main(void);
#define main arrow_test_main
#include "../unit/arrow_test.c"
#undef main

#include "fuzz.h"

static void read_exact(const uint8_t *data, size_t len) {
    uint8_t *copy = malloc(len ? len : 1); /* one byte behind it is an error */

    if (!copy) return;
    if (len) memcpy(copy, data, len);
    (void)read_it(copy, len);
    free(copy);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    static uint8_t *whole;
    static size_t whole_len;
    struct fuzz_in in = {.p = data, .left = len};
    uint8_t *bent;

    if (!whole) whole_len = write_it(2, &whole);
    read_exact(data, len);
    bent = malloc(whole_len);
    if (!bent) return 0;
    memcpy(bent, whole, whole_len);
    for (uint32_t n = 1 + fuzz_below(&in, 8); n > 0 && in.left; n--) {
        size_t at = fuzz_bytes(&in, 2) % whole_len;
        uint64_t word = fuzz_word(&in);
        size_t bytes = (size_t)1 << fuzz_below(&in, 4);

        memcpy(bent + at, &word, bytes < whole_len - at ? bytes : whole_len - at);
    }
    read_exact(bent, fuzz_below(&in, 8) ? whole_len : fuzz_bytes(&in, 2) % whole_len);
    free(bent);
    return 0;
}
