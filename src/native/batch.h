/* batch.h - the bytes of many calls in one message, read one by one.
 *
 * For each call: u64 index, u16 length of the method, method, u32 length of the arguments, one
 * MSGPACK array (docs/design/0003-native.md). They come from a peer: every length is checked. Pure;
 * any thread. Tests: tests/unit/native_batch_test.c. */
#ifndef SKATE_NATIVE_BATCH_H
#define SKATE_NATIVE_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { BATCH_BYTES_MAX = 64 << 20 };

struct batch {
    const uint8_t *p, *end;
};
struct batch_call {
    uint64_t index;
    const char *method; /* not 0-terminated */
    uint32_t method_len, args_len;
    const uint8_t *args;
};

/* -SKATE_ETOOBIG: more than BATCH_BYTES_MAX. */
SKATE_NODISCARD int batch_init(struct batch *b, const void *bytes, size_t size);
/* 1: the next call; 0: that was all; -SKATE_EPROTO: cut short. */
SKATE_NODISCARD int batch_next(struct batch *b, struct batch_call *ret);

#endif
