/* why.h - one step of the answer to "why is this ref not ready?", and its frame.
 *
 * A process, a raylet and the GCS each say about what is theirs: a sentence, and edges to what it
 * waits for. core/why_walk.c follows the edges. Value types; pure; any thread.
 * Tests: tests/e2e/test_e2e_why.py, tests/e2e/test_e2e_recipes_hangs.py. */
#ifndef SKATE_WIRE_WHY_H
#define SKATE_WIRE_WHY_H

#include <stdbool.h>

#include "wire/wire_gen.h"

/* What an id names: an object; a task at its owner; what a process runs (nil: whatever it runs
 * now); a lease request {owner, number} at its raylet; an actor at the GCS; an actor that is being
 * started by a raylet. */
enum why_kind { WHY_REF, WHY_TASK, WHY_RUN, WHY_LEASE, WHY_ACTOR, WHY_START };
/* WAITS: for its edges. GOES: it makes progress by itself. DONE: ready. NEVER: no node can ever
 * give what it needs. UNKNOWN: nobody knows it here (it has just ended, or its process died). */
enum why_end { WHY_WAITS, WHY_GOES, WHY_DONE, WHY_NEVER, WHY_UNKNOWN };
enum { WHY_EDGES = 16, WHY_TEXT = 512 };

struct why_edge {
    uint64_t proc; /* whom to ask */
    uint64_t kind;
    struct skate_id id;
};
_Static_assert(sizeof(struct why_edge) == 32, "four words on the wire");

struct why_fact {
    struct skate_id self;
    uint32_t end, pid, edge_count;
    bool any, cut;
    struct why_edge edges[WHY_EDGES];
    char text[WHY_TEXT];
};

/* One more edge; beyond WHY_EDGES it is only noted that there are more. */
void why_edge_add(struct why_fact *f, uint64_t proc, enum why_kind kind, struct skate_id id);
/* Append to the sentence; what does not fit is cut off. */
void why_say(struct why_fact *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The frame why_info (not yet ended), the answer to `call`. */
void why_pack(const struct why_fact *f, uint32_t call, struct wire_buf *b);
/* From a checked frame; what does not make sense is left out. */
void why_unpack(const struct wire_why_info *m, struct why_fact *ret);

#endif
