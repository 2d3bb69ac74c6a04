/* frame.h - what all frames share: head, spans, values; the one bounds validator; the builder.
 *
 * A frame is a fixed struct generated from messages.def and, behind it, the bytes of its spans.
 * It is the same on rings, on sockets and between nodes. Rules: copy out of shared memory first,
 * wire_check() once at each trust boundary, then read the struct in place. All integers are
 * little-endian native. `call` pairs a request with its reply (the reply carries the same number
 * and WIRE_REPLY). Pure; any thread. Tests: tests/unit/wire_frame_test.c, tests/fuzz/. */
#ifndef SKATE_WIRE_FRAME_H
#define SKATE_WIRE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/id.h"

enum { WIRE_VERSION = 2 };
/* AGAIN: sent before, on a connection that broke; maybe it came. */
enum wire_flag { WIRE_REPLY = 1, WIRE_AGAIN = 2 };

struct wire_head {
    uint32_t size;  /* of the whole frame */
    uint16_t kind;  /* enum wire_kind */
    uint16_t fixed; /* size of the fixed struct */
    uint32_t call;  /* 0: no reply wanted */
    uint8_t nfds;   /* descriptors that travel with it (Unix sockets only) */
    uint8_t flags;
    uint16_t zero;
};
_Static_assert(sizeof(struct wire_head) == 16, "on the wire");

struct wire_span {
    uint32_t off; /* from the start of the frame */
    uint32_t len; /* bytes */
};

enum val_kind { VAL_NONE = 0, VAL_INLINE = 1, VAL_ARENA = 2 };
/* TENSOR, ARROW: what every language reads without a copy (docs/design/0003-native.md). */
enum val_format {
    FORMAT_RAW = 1, FORMAT_MSGPACK = 2, FORMAT_PICKLE5 = 3, FORMAT_TENSOR = 4, FORMAT_ARROW = 5
};
enum val_flag {
    VAL_ERROR = 1,    /* the value is a serialized exception (see docs/design/0001) */
    VAL_SYSTEM = 2,   /* with VAL_ERROR: not raised by user code; text in "kind\ntext" form */
};

/* A value, or where it lies. INLINE: bytes at [off, off+len) of the frame's `data` span. ARENA:
 * `size` bytes at `offset` of the arena of the node of process `holder`, which frees them when
 * told (FREE). Refs contained in the value: `nref` ids from index `ref0` of the frame's `refs`. */
struct wire_val {
    uint8_t kind, format;
    uint16_t flags;
    uint32_t off, len;
    uint32_t ref0, nref;
    uint32_t pad;
    struct skate_id id;
    uint64_t holder;
    uint64_t offset;
    uint64_t size;
};
_Static_assert(sizeof(struct wire_val) == 64, "on the wire");

struct wire_span_info {
    uint16_t offset, element;
};
struct wire_info {
    const char *name;
    uint16_t fixed, span_count;
    const struct wire_span_info *spans;
};
extern const struct wire_info wire_info[];
extern const uint32_t wire_info_count;

/* Is `frame` (len bytes, 8-byte aligned) a well-formed message? 0 or -SKATE_EPROTO. */
SKATE_NODISCARD int wire_check(const void *frame, size_t len);
/* Are the inline values of a val[] span inside its frame's data and refs spans? */
SKATE_NODISCARD int wire_check_vals(const struct wire_val *vals, uint32_t count,
                                    uint32_t data_len, uint32_t ref_count);
const char *wire_name(uint16_t kind);

static inline const struct wire_head *wire_head(const void *frame) { return frame; }

/* A frame being built: on the stack first (the caller's buffer), on the heap when it grows. */
struct wire_buf {
    uint8_t *p;
    uint32_t len, cap;
    bool heap, failed; /* failed: out of memory or too big; wire_end() says so */
};

void wire_init(struct wire_buf *b, void *stack, uint32_t cap); /* stack 8-byte aligned */
void wire_release(struct wire_buf *b);
/* Start a message: its zeroed fixed struct, valid until the next wire_put. */
void *wire_begin(struct wire_buf *b, uint16_t kind);
/* Append `bytes` as the span whose offset in the struct is `field`. NULL data: zeroed room. */
void *wire_put(struct wire_buf *b, size_t field, const void *data, size_t bytes);
bool wire_grow(struct wire_buf *b, size_t more); /* room for so many more bytes? */
/* wire_begin for the few places that each task passes; the buffer has room for the fixed struct. */
static inline void *wire_begin_inline(struct wire_buf *b, uint16_t kind, uint16_t fixed) {
    struct wire_head *head = (struct wire_head *)(void *)b->p;

    SKATE_ASSERT(fixed % 8 == 0 && fixed <= b->cap);
    memset(b->p, 0, fixed);
    b->len = fixed;
    head->kind = kind;
    head->fixed = fixed;
    return b->p;
}
#define WIRE_BEGIN_INLINE(b, message, kind)                                                    \
    ((struct wire_##message *)wire_begin_inline((b), (kind), sizeof(struct wire_##message)))
/* Room for a span, of which the caller writes every byte; put into the caller's code. */
static inline void *wire_room(struct wire_buf *b, size_t field, size_t bytes) {
    uint32_t at = (b->len + 7u) & ~7u;
    size_t padded = (bytes + 7) & ~(size_t)7;
    struct wire_span span = {at, (uint32_t)bytes};

    if (bytes == 0) return NULL;
    if ((b->failed || at + padded > b->cap) && !wire_grow(b, (at - b->len) + padded)) return NULL;
    memset(b->p + at + padded - 8, 0, 8); /* what is behind the bytes, if they leave a rest */
    b->len = at + (uint32_t)bytes;
    memcpy(b->p + field, &span, sizeof span);
    return b->p + at;
}
/* wire_put for the few places that each task passes. */
static inline void *wire_put_inline(struct wire_buf *b, size_t field, const void *data,
                                    size_t bytes) {
    void *room = wire_room(b, field, bytes);

    if (room && data) memcpy(room, data, bytes);
    if (room && !data) memset(room, 0, bytes);
    return room;
}
/* Finish: 0, -SKATE_ENOMEM or -SKATE_ETOOBIG. b->p, b->len is the frame. */
SKATE_NODISCARD int wire_end(struct wire_buf *b);

#define WIRE_PUT(b, message, field, data, bytes)                                               \
    wire_put((b), offsetof(struct wire_##message, field), (data), (bytes))
#define WIRE_PUT_INLINE(b, message, field, data, bytes)                                        \
    wire_put_inline((b), offsetof(struct wire_##message, field), (data), (bytes))

#endif
