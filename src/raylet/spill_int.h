/* spill_int.h - what the parts of spill.h share: records of pieces outside of memory. */
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
    bool ahead;     /* all its pages are there, but readers are told OUT (spill_ahead.c) */
    uint64_t asked; /* s->asks when somebody asked for it last; 0: not since it was written */
    uint32_t fails;
    int fd; /* FILED: of its file */
    void **slot; /* the piece's note */
    struct record *older, *newer;
    struct record *before, *after; /* in the order of writing */
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
    struct record *last;   /* in the order of writing */
    uint64_t asks, ahead;  /* asks so far; bytes that are ahead, or are being read so */
    struct record *follow; /* who was asked for: what comes after it is read by the task */
    struct loop_task ahead_task;
};

/* Bytes of the record that lie in granules [first, end). */
uint64_t spill_within(const struct record *rec, uint64_t first, uint64_t end);
void spill_mark(struct raylet *r, uint64_t first, uint64_t end, enum residency as);
/* Bring granules [first, end) of a record back. -SKATE_EAGAIN: they are on their way, or will be
 * when tried again; -SKATE_EFULL. ahead: nobody asked yet; all of it. */
int spill_bring(struct raylet *r, struct record *rec, uint64_t first, uint64_t end, bool ahead);

/* spill_ahead.c: what is asked for in the order in which it was written is read before it is asked
 * for. A record that ... */
void spill_ahead_enter(struct spill *s, struct record *rec); /* ... is about to be written */
void spill_ahead_leave(struct spill *s, struct record *rec); /* ... is gone */
void spill_ahead_asked(struct raylet *r, struct record *rec); /* ... is wanted */
void spill_ahead_drop(struct spill *s, struct record *rec); /* ... is no longer ahead */
void spill_ahead_run(void *arg); /* s->ahead_task */
bool spill_room_is_wanted(const struct raylet *r); /* spill_wait.c: somebody waits for some */

/* The end of a FILED one (spill_outside.c); frees it. */
void spill_outside_gone(struct raylet *r, struct record *rec);

#endif
