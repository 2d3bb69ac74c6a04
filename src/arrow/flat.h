/* flat.h - flatbuffers, as far as Arrow's messages need them.
 *
 * Reading: bytes of others; every step is checked, and one that leads outside sets `bad` and gives
 * the default. Ask `bad` once, after reading. Writing: forward, so that a reference points to what
 * is written later; flat_point() fills it in. Pure; any thread. Tests: tests/unit/arrow_test.c. */
#ifndef SKATE_ARROW_FLAT_H
#define SKATE_ARROW_FLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- reading ---- */

struct flat {
    const uint8_t *p;
    size_t n;
    bool bad;
};
struct flat_table {
    struct flat *b; /* NULL: the table is not there, all its fields are defaults */
    size_t at, vt;
    uint16_t vt_len, len;
};
struct flat_vec {
    struct flat *b;
    size_t at; /* of the first element */
    uint32_t count;
};

struct flat_table flat_root(struct flat *b);
int64_t flat_i64(const struct flat_table *t, int field, int64_t otherwise);
int32_t flat_i32(const struct flat_table *t, int field, int32_t otherwise);
int16_t flat_i16(const struct flat_table *t, int field, int16_t otherwise);
uint8_t flat_u8(const struct flat_table *t, int field, uint8_t otherwise);
struct flat_table flat_sub(const struct flat_table *t, int field);
/* A vector of elements of `size` bytes. */
struct flat_vec flat_vector(const struct flat_table *t, int field, size_t size);
/* Element i of a vector of tables. */
struct flat_table flat_item(const struct flat_vec *v, uint32_t i);
/* The bytes of a text; NULL when it is not there. */
const char *flat_text(const struct flat_table *t, int field, uint32_t *ret_len);

/* ---- writing ---- */

struct flat_out {
    uint8_t *p; /* of malloc; offsets count from here */
    size_t len, cap;
    bool failed; /* out of memory: later writes do nothing */
};

/* Zeroed room for n bytes at the end; its offset. The raw one is not zeroed. */
size_t flat_room(struct flat_out *o, size_t n);
size_t flat_room_raw(struct flat_out *o, size_t n);
void flat_bytes(struct flat_out *o, const void *data, size_t n);
/* Zeros until len % align == more. */
void flat_align(struct flat_out *o, size_t align, size_t more);
void flat_set(struct flat_out *o, size_t at, const void *data, size_t n);
/* A table. sizes: for each field 0 (absent), 1, 2, 4 or 8 bytes, as digits ("2148"), at most 12.
 * ret_at: the offsets of the fields. Its own offset. */
size_t flat_table_new(struct flat_out *o, const char *sizes, size_t *ret_at);
/* Make the reference at `at` point to `target`, which lies behind it. */
void flat_point(struct flat_out *o, size_t at, size_t target);
/* A vector of count elements of `size` bytes, zeroed; its offset. The elements begin 4 later. */
size_t flat_vec_new(struct flat_out *o, uint32_t count, size_t size);
size_t flat_text_new(struct flat_out *o, const char *text);
void flat_set_i16(struct flat_out *o, size_t at, int16_t v);
void flat_set_i32(struct flat_out *o, size_t at, int32_t v);
void flat_set_i64(struct flat_out *o, size_t at, int64_t v);
void flat_set_u8(struct flat_out *o, size_t at, uint8_t v);

#endif
