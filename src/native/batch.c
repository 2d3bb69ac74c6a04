/* batch.c - see batch.h. */
#include "native/batch.h"

#include <string.h>

int batch_init(struct batch *b, const void *bytes, size_t size) {
    if (size > BATCH_BYTES_MAX) return -SKATE_ETOOBIG;
    b->p = bytes;
    b->end = b->p + size;
    return 0;
}

int batch_next(struct batch *b, struct batch_call *ret) {
    size_t left = (size_t)(b->end - b->p);
    uint16_t method_len;

    if (left == 0) return 0;
    if (left < 14) return -SKATE_EPROTO;
    memcpy(&ret->index, b->p, 8);
    memcpy(&method_len, b->p + 8, 2);
    if (left < 14u + method_len) return -SKATE_EPROTO;
    ret->method = (const char *)b->p + 10;
    ret->method_len = method_len;
    memcpy(&ret->args_len, b->p + 10 + method_len, 4);
    left -= 14u + method_len;
    b->p += 14u + method_len;
    if (left < ret->args_len) return -SKATE_EPROTO;
    ret->args = b->p;
    b->p += ret->args_len;
    return 1;
}
