/* spill_file.c - see spill_file.h. */
#include "store/spill_file.h"

#include <endian.h>
#include <string.h>

#include "base/assert.h"

/* Both heads begin alike: magic, own checksum (over all that follows it), version, ... */
enum {
    AT_MAGIC = 0,
    AT_CHECK = 8,
    AT_VERSION = 16, /* u32 */
    AT_UNIT = 20,    /* u32: bytes of a block, of a granule */
    AT_NONCE = 24,
    AT_FILE = 32,
    AT_COUNT = 40, /* records; which record */
    AT_BYTES = 48,
    AT_OFFSET = 56,
    AT_SUMS = 64,
    VERSION = 1,
};
static const char file_magic[8] = {'S', 'K', 'S', 'P', 'I', 'L', 'L', '\n'};
static const char record_magic[8] = {'S', 'K', 'R', 'E', 'C', 'O', 'R', 'D'};

static void put64(uint8_t *p, uint64_t v) {
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static uint64_t get64(const uint8_t *p) {
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static void put32(uint8_t *p, uint32_t v) {
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static uint32_t get32(const uint8_t *p) {
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

uint64_t spill_padded(uint64_t bytes) {
    return (bytes + SPILL_BLOCK - 1) / SPILL_BLOCK * SPILL_BLOCK;
}

uint64_t spill_granules(uint64_t bytes) { return (bytes + SPILL_GRANULE - 1) / SPILL_GRANULE; }

uint64_t spill_head_bytes(uint64_t bytes) {
    return spill_padded(AT_SUMS + spill_granules(bytes) * 8);
}

static uint64_t own_sum(const uint8_t *p, size_t len) {
    return spill_sum(p + AT_VERSION, len - AT_VERSION);
}

static void begin(uint8_t *p, const char *magic, uint32_t unit, size_t len) {
    memset(p, 0, len);
    memcpy(p + AT_MAGIC, magic, 8);
    put32(p + AT_VERSION, VERSION);
    put32(p + AT_UNIT, unit);
}

static int check_start(const uint8_t *p, const char *magic, uint32_t unit,
                       struct skate_error *err) {
    if (memcmp(p + AT_MAGIC, magic, 8))
        return err_fail(err, -SKATE_EPROTO, "it does not begin as a spill file's does");
    if (get32(p + AT_VERSION) != VERSION || get32(p + AT_UNIT) != unit)
        return err_fail(err, -SKATE_EPROTO, "it is of another version");
    return 0;
}

static int check_own(const uint8_t *p, size_t len, struct skate_error *err) {
    if (get64(p + AT_CHECK) == own_sum(p, len)) return 0;
    return err_fail(err, -SKATE_EPROTO, "its head is damaged (checksum)");
}

void spill_file_encode(const struct spill_file_head *h, void *block) {
    uint8_t *p = block;

    begin(p, file_magic, SPILL_BLOCK, SPILL_BLOCK);
    put64(p + AT_NONCE, h->nonce);
    put64(p + AT_FILE, h->file);
    put64(p + AT_COUNT, h->records);
    put64(p + AT_BYTES, h->bytes);
    put64(p + AT_CHECK, own_sum(p, SPILL_BLOCK));
}

int spill_file_decode(const void *block, size_t len, struct spill_file_head *ret,
                      struct skate_error *err) {
    const uint8_t *p = block;
    uint64_t records, bytes;
    int e;

    if (len != SPILL_BLOCK) return err_fail(err, -SKATE_EPROTO, "it is cut short");
    e = check_start(p, file_magic, SPILL_BLOCK, err);
    if (e == 0) e = check_own(p, len, err);
    if (e < 0) return e;
    records = get64(p + AT_COUNT);
    bytes = get64(p + AT_BYTES);
    if (records == 0 || records > SPILL_RECORDS_MAX || bytes % SPILL_BLOCK ||
        bytes < SPILL_BLOCK * (1 + 2 * records) || bytes > INT64_MAX)
        return err_fail(err, -SKATE_EPROTO, "its head says what cannot be");
    *ret = (struct spill_file_head){.nonce = get64(p + AT_NONCE), .file = get64(p + AT_FILE),
                                    .bytes = bytes, .records = (uint32_t)records};
    return 0;
}

uint64_t spill_record_encode(const struct spill_record_head *h, const uint64_t *sums, void *out) {
    uint64_t len = spill_head_bytes(h->bytes), n = spill_granules(h->bytes), check;
    uint8_t *p = out;

    SKATE_ASSERT(h->bytes > 0 && h->bytes <= SPILL_RECORD_MAX);
    begin(p, record_magic, SPILL_GRANULE, len);
    put64(p + AT_NONCE, h->nonce);
    put64(p + AT_FILE, h->file);
    put64(p + AT_COUNT, h->record);
    put64(p + AT_BYTES, h->bytes);
    put64(p + AT_OFFSET, h->offset);
    for (uint64_t i = 0; i < n; i++) put64(p + AT_SUMS + i * 8, sums[i]);
    check = own_sum(p, len);
    put64(p + AT_CHECK, check);
    return check;
}

int spill_record_decode(const void *head, size_t len, struct spill_record_head *ret,
                        struct skate_error *err) {
    const uint8_t *p = head;
    uint64_t bytes, offset, record;
    int e;

    if (len < SPILL_BLOCK) return err_fail(err, -SKATE_EPROTO, "it is cut short");
    e = check_start(p, record_magic, SPILL_GRANULE, err);
    if (e < 0) return e;
    bytes = get64(p + AT_BYTES);
    offset = get64(p + AT_OFFSET);
    record = get64(p + AT_COUNT);
    if (bytes == 0 || bytes > SPILL_RECORD_MAX || spill_head_bytes(bytes) != len ||
        offset % SPILL_BLOCK || offset > INT64_MAX - bytes || record >= SPILL_RECORDS_MAX)
        return err_fail(err, -SKATE_EPROTO, "a record's head says what cannot be");
    e = check_own(p, len, err);
    if (e < 0) return e;
    *ret = (struct spill_record_head){.nonce = get64(p + AT_NONCE), .file = get64(p + AT_FILE),
                                      .offset = offset, .bytes = bytes,
                                      .record = (uint32_t)record};
    return 0;
}

uint64_t spill_record_check(const void *head) { return get64((const uint8_t *)head + AT_CHECK); }

int spill_granule_verify(const void *head, const struct spill_record_head *h, uint64_t index,
                         const void *data, size_t len) {
    uint64_t from = index * SPILL_GRANULE, want;

    if (index >= spill_granules(h->bytes)) return -SKATE_EPROTO;
    want = h->bytes - from < SPILL_GRANULE ? h->bytes - from : SPILL_GRANULE;
    if (len != want || spill_sum(data, len) != get64((const uint8_t *)head + AT_SUMS + index * 8))
        return -SKATE_EPROTO;
    return 0;
}
