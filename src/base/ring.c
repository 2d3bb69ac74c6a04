/* ring.c - see ring.h. */
#include "base/ring.h"

#include <string.h>

#include "base/assert.h"
#include "base/atomic.h"

enum { RING_SKIP = 0xffffffff, RECORD_HEAD = 8 };

struct record {
    uint32_t bytes;
    uint32_t sequence;
};

static uint64_t record_size(uint32_t bytes) {
    return RECORD_HEAD + (((uint64_t)bytes + 7) & ~UINT64_C(7));
}

void ring_attach(struct ring *out, struct ring *in, void *channel, int side) {
    struct ring_shared *rings = channel;

    SKATE_ASSERT(side == 0 || side == 1);
    out->shared = &rings[side];
    in->shared = &rings[!side];
    /* The other side may have written these before us: our own are made to be places of records. */
    out->head = at_load(&out->shared->head) & ~UINT64_C(7);
    out->tail = at_load_acquire(&out->shared->tail);
    in->tail = at_load(&in->shared->tail) & ~UINT64_C(7);
    in->head = at_load_acquire(&in->shared->head);
}

/* Bytes that a frame would take from head on, the skipped end of the ring included. */
static uint64_t need(const struct ring *r, uint32_t bytes) {
    uint64_t at = r->head % LIMIT_RING_BYTES, size = record_size(bytes);

    return at + size <= LIMIT_RING_BYTES ? size : LIMIT_RING_BYTES - at + size;
}

bool ring_has_room(struct ring *r, uint32_t bytes) {
    uint64_t n = need(r, bytes);

    if (r->head - r->tail + n <= LIMIT_RING_BYTES) return true;
    r->tail = at_load_acquire(&r->shared->tail);
    return r->head - r->tail + n <= LIMIT_RING_BYTES;
}

void *ring_reserve(struct ring *r, uint32_t bytes, uint32_t sequence) {
    uint64_t at = r->head % LIMIT_RING_BYTES;
    struct record head = {bytes, sequence};

    SKATE_ASSERT(bytes > 0 && bytes <= LIMIT_RING_FRAME);
    if (!ring_has_room(r, bytes)) return NULL;
    if (at + record_size(bytes) > LIMIT_RING_BYTES) {
        struct record skip = {RING_SKIP, 0};

        memcpy(r->shared->data + at, &skip, sizeof skip);
        r->head += LIMIT_RING_BYTES - at;
        at = 0;
    }
    memcpy(r->shared->data + at, &head, sizeof head);
    return r->shared->data + at + RECORD_HEAD;
}

void ring_publish(struct ring *r, uint32_t bytes) {
    r->head += record_size(bytes);
    at_store_release(&r->shared->head, r->head);
}

bool ring_is_empty(struct ring *r) {
    if (r->head != r->tail) return false;
    r->head = at_load_acquire(&r->shared->head);
    return r->head == r->tail;
}

int ring_take(struct ring *r, void *buf, uint32_t *ret_sequence) {
    struct record head;
    uint64_t at;

    if (ring_is_empty(r)) return 0;
    if (r->head - r->tail > LIMIT_RING_BYTES || r->head % 8) return -SKATE_EPROTO;
    at = r->tail % LIMIT_RING_BYTES;
    memcpy(&head, r->shared->data + at, sizeof head);
    if (head.bytes == RING_SKIP) {
        r->tail += LIMIT_RING_BYTES - at;
        if (r->tail >= r->head) return -SKATE_EPROTO;
        at = 0;
        memcpy(&head, r->shared->data, sizeof head);
    }
    if (head.bytes == 0 || head.bytes > LIMIT_RING_FRAME ||
        at + record_size(head.bytes) > LIMIT_RING_BYTES ||
        r->tail + record_size(head.bytes) > r->head)
        return -SKATE_EPROTO;
    memcpy(buf, r->shared->data + at + RECORD_HEAD, head.bytes);
    r->tail += record_size(head.bytes);
    at_store_release(&r->shared->tail, r->tail);
    *ret_sequence = head.sequence;
    return (int)head.bytes;
}
