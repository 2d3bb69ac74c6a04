/* spill_file.h - the format of a spill file: objects' bytes that lie on disk, not in the arena.
 *
 * A file is written once, by one raylet, with several records in it ("fused"); everything is
 * little-endian, at multiples of 4 KB, so that O_DIRECT works and a single granule can be read:
 *
 *   head of the file        4 KB
 *   record 0: its head      4 KB or more: 64 bytes, then one checksum for each granule
 *             its data      padded to 4 KB
 *   record 1: ...
 *
 * A granule is 256 KB of a record, counted from its start; the last may be shorter. Checksums are
 * XXH3-64. Each head carries one over itself, and the session's nonce and the file's number, so
 * that a file of another session, or another file of this one, is not taken for the right one.
 * Pure: no I/O, any thread, never blocks. What is decoded may be hostile: every field is bounded
 * before it is used. Tests: store_spill_file_test.c, tests/fuzz/fuzz_spill.c. */
#ifndef SKATE_STORE_SPILL_FILE_H
#define SKATE_STORE_SPILL_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SPILL_BLOCK = 4096,
    SPILL_GRANULE = 256 << 10,
    SPILL_RECORDS_MAX = 1024, /* of a file */
};
#define SPILL_RECORD_MAX (UINT64_C(1) << 40) /* bytes of a record */

struct spill_file_head {
    uint64_t nonce; /* of the session */
    uint64_t file;  /* its number, unique in the session */
    uint64_t bytes; /* of the whole file */
    uint32_t records;
};

struct spill_record_head {
    uint64_t nonce, file;
    uint64_t offset; /* where in the arena the bytes were */
    uint64_t bytes;  /* of data, not padded */
    uint32_t record; /* which one of its file */
};

/* The checksum of some bytes. */
uint64_t spill_sum(const void *p, size_t len);

/* Of `bytes` of data: padded; the number of granules; the room of the record's head. */
uint64_t spill_padded(uint64_t bytes);
uint64_t spill_granules(uint64_t bytes);
uint64_t spill_head_bytes(uint64_t bytes);

/* Write a head of SPILL_BLOCK bytes. */
void spill_file_encode(const struct spill_file_head *h, void *block);
/* Read one. -SKATE_EPROTO with a text, nothing written: it is none, or damaged. */
SKATE_NODISCARD int spill_file_decode(const void *block, size_t len, struct spill_file_head *ret,
                                      struct skate_error *err);

/* Write a head of spill_head_bytes(h->bytes) bytes, with spill_granules(h->bytes) checksums.
 * Returns its own checksum. */
uint64_t spill_record_encode(const struct spill_record_head *h, const uint64_t *sums, void *out);
/* Read one, of exactly `len` bytes. -SKATE_EPROTO as above. */
SKATE_NODISCARD int spill_record_decode(const void *head, size_t len,
                                        struct spill_record_head *ret, struct skate_error *err);
/* The own checksum of a decoded head. */
uint64_t spill_record_check(const void *head);
/* Is this granule `index` of the record? `head` was decoded into `h`, `len` is the granule's length
 * there. -SKATE_EPROTO: no such granule, or other bytes. */
SKATE_NODISCARD int spill_granule_verify(const void *head, const struct spill_record_head *h,
                                         uint64_t index, const void *data, size_t len);

#endif
