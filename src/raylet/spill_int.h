/* spill_int.h - what spill.c and spill_outside.c share: records of pieces outside of memory. */
#ifndef SKATE_RAYLET_SPILL_INT_H
#define SKATE_RAYLET_SPILL_INT_H

#include "raylet/raylet.h"
#include "raylet/spill_io.h"

/* FILED: larger than the store; its bytes are in a file of its own from the start. */
enum record_state { WRITING, KEPT, FILED };

struct record {
    uint64_t offset, bytes, out; /* of the piece; out: bytes without pages */
    struct spill_place place;
    enum record_state state;
    bool reading, listed;
    uint32_t fails;
    int fd; /* FILED: of its file */
    void **slot; /* the piece's note */
    struct record *older, *newer;
};

struct spill {
    struct spill_io *io; /* NULL: nothing is ever written */
    struct record *oldest, *newest;
    uint64_t here, writing; /* bytes: of KEPT ones with pages; of WRITING ones */
    uint64_t wanted;        /* what this round is for, less what has been offered */
    uint32_t round, asked;  /* processes that have not answered this round */
    int64_t round_ns, pause_ns;    /* it began; no new one before */
    int64_t said_ns;
    uint32_t backoff_ms;
    char trouble[256]; /* why the last write failed; "" when it did not */
    const uint32_t *pins[RAYLET_PROCS_MAX];
    uint32_t pin_count;
};

/* Bytes of the record that lie in granules [first, end). */
uint64_t spill_within(const struct record *rec, uint64_t first, uint64_t end);
void spill_mark(struct raylet *r, uint64_t first, uint64_t end, enum residency as);
/* The end of a FILED one (spill_outside.c); frees it. */
void spill_outside_gone(struct raylet *r, struct record *rec);

#endif
