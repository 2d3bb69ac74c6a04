/* fuzz_spill.c - heads of spill files: what is accepted is bounded and reads back as itself; forged
 * ones, whose checksum is right, may say what they like. */
#include "fuzz.h"

#include "store/spill_file.h"

enum { FUZZ_SPILL_MAX = 3 * SPILL_BLOCK };

/* Exactly as long as it is: one byte behind it is an error. */
static uint8_t *exact(const void *p, size_t len) {
    uint8_t *copy = malloc(len ? len : 1);

    if (copy && len) memcpy(copy, p, len);
    return copy;
}

static void look_at_file(const uint8_t *p, size_t len) {
    uint8_t block[SPILL_BLOCK];
    struct spill_file_head h, again;
    struct skate_error err;

    if (spill_file_decode(p, len, &h, &err) < 0) {
        if (!err.text[0]) abort();
        return;
    }
    if (h.records == 0 || h.records > SPILL_RECORDS_MAX || h.bytes % SPILL_BLOCK) abort();
    spill_file_encode(&h, block);
    if (spill_file_decode(block, sizeof block, &again, NULL) < 0 || h.nonce != again.nonce ||
        h.file != again.file || h.bytes != again.bytes || h.records != again.records)
        abort();
}

static void look_at_record(const uint8_t *p, size_t len, struct fuzz_in *in) {
    struct spill_record_head h;
    struct skate_error err;
    uint8_t data[64] = {0};

    if (spill_record_decode(p, len, &h, &err) < 0) {
        if (!err.text[0]) abort();
        return;
    }
    if (h.bytes == 0 || h.bytes > SPILL_RECORD_MAX || h.record >= SPILL_RECORDS_MAX ||
        h.offset + h.bytes < h.offset || spill_head_bytes(h.bytes) != len)
        abort();
    for (uint64_t i = 0; i < 8; i++) { /* no index reads behind the head */
        uint64_t index = i < 4 ? i + spill_granules(h.bytes) - 2 : fuzz_word(in);

        if (spill_granule_verify(p, &h, index, data, fuzz_below(in, sizeof data)) == 0 &&
            index >= spill_granules(h.bytes))
            abort();
    }
}

/* A head made as we make them, a few bytes of it changed, and signed again. */
static void forge(struct fuzz_in *in) {
    uint64_t granules = 1 + fuzz_below(in, 1000), sums[1000] = {0}, sum;
    struct spill_record_head h = {fuzz_word(in), fuzz_word(in), fuzz_below(in, 99) * SPILL_BLOCK,
                                  granules * SPILL_GRANULE - fuzz_below(in, 999),
                                  fuzz_below(in, 9)};
    size_t len = spill_head_bytes(h.bytes);
    uint8_t room[FUZZ_SPILL_MAX], *p;

    if (spill_head_bytes(h.bytes) > sizeof room) return;
    sums[fuzz_below(in, 1000) % granules] = fuzz_word(in);
    spill_record_encode(&h, sums, room);
    for (uint32_t n = fuzz_below(in, 4); n > 0; n--) {
        uint64_t word = fuzz_word(in);

        memcpy(room + 16 + fuzz_below(in, 64), &word, 1 + fuzz_below(in, 8));
    }
    sum = spill_sum(room + 16, len - 16);
    memcpy(room + 8, &sum, sizeof sum);
    if (fuzz_below(in, 4) == 1) len = fuzz_below(in, (uint32_t)len);
    p = exact(room, len);
    if (p) look_at_record(p, len, in);
    if (p && len >= SPILL_BLOCK) look_at_file(p, SPILL_BLOCK);
    free(p);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};
    uint8_t *p = exact(data, len), block[SPILL_BLOCK] = {0};
    struct spill_file_head h = {fuzz_word(&in), fuzz_word(&in), fuzz_word(&in),
                                fuzz_below(&in, 2000)};

    if (!p) return 0;
    look_at_file(p, len);
    look_at_record(p, len, &in);
    free(p);
    spill_file_encode(&h, block);
    p = exact(block, sizeof block);
    if (p) look_at_file(p, sizeof block);
    free(p);
    forge(&in);
    return 0;
}
