/* ring.h - shared-memory single-producer single-consumer byte rings, and the channel of two.
 *
 * A channel is a memory file of CHANNEL_BYTES: two rings, one for each direction. Records are
 * 8-byte aligned: an 8-byte record header {u32 bytes, u32 sequence} and the frame. A record never
 * wraps: a header with bytes == RING_SKIP sends the reader to the start. The producer publishes by
 * one release store of `head`; the consumer frees by one release store of `tail`. Both counters
 * only grow. What the other side wrote is copied, then checked: a corrupt ring is an error
 * (-SKATE_EPROTO), never a crash. `started` is the sequence of the newest task that the consumer
 * has begun to run: after its death the producer knows what was never started.
 * One thread at a time on each side (the caller's mutex). Never blocks.
 * Tests: tests/unit/base_ring_test.c; base_model_test.c (all interleavings of small traces). */
#ifndef SKATE_BASE_RING_H
#define SKATE_BASE_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

/* The shared part: three cache lines of counters, then the bytes. */
struct ring_shared {
    uint64_t head; /* producer's line */
    uint8_t pad0[56];
    uint64_t tail;    /* consumer's line */
    uint64_t started; /* consumer: sequence of the newest started task */
    uint32_t starved; /* producer's wish, consumer clears: ring me when there is room again */
    uint8_t pad1[44];
    uint8_t pad2[64];
    uint8_t data[LIMIT_RING_BYTES];
};
_Static_assert(sizeof(struct ring_shared) == 192 + LIMIT_RING_BYTES, "shared layout");

#define CHANNEL_BYTES (2 * sizeof(struct ring_shared))

/* One process's private view of one direction. */
struct ring {
    struct ring_shared *shared;
    uint64_t head, tail; /* own counter exact, the other's as last seen */
};

/* `side` 0 or 1; the two processes of a channel take different sides. */
void ring_attach(struct ring *out, struct ring *in, void *channel, int side);

/* Producer. Room for one frame of `bytes`? */
bool ring_has_room(struct ring *r, uint32_t bytes);
/* Place to write `bytes`, or NULL when full; then ring_publish() with the same size. */
void *ring_reserve(struct ring *r, uint32_t bytes, uint32_t sequence);
void ring_publish(struct ring *r, uint32_t bytes);

/* Consumer. Copy the next frame into buf (cap >= LIMIT_RING_FRAME) and free its place.
 * > 0 bytes; 0 when empty; -SKATE_EPROTO when the ring is corrupt. */
int ring_take(struct ring *r, void *buf, uint32_t *ret_sequence);
bool ring_is_empty(struct ring *r);

#endif
