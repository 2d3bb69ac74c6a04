/* pulls.h - objects of other nodes brought here, and the serving side of the same.
 *
 * A pull is in chunks over the bulk connection of a node that has it, opened right into an extent
 * that is lent to the raylet itself. Pulls of one object are joined; a copy stays while a process
 * holds it, then until its room is needed (least recently used first). A pull for which there is no
 * room waits (spill_wait.c). Loop thread; never blocks. Tests: tests/e2e/test_e2e_pulls.py. */
#ifndef SKATE_RAYLET_PULLS_H
#define SKATE_RAYLET_PULLS_H

#include "raylet/raylet.h"

SKATE_NODISCARD int pulls_start(struct raylet *r);
void pulls_request(struct raylet *r, struct proc *p, const struct wire_pull *m);
void pulls_unpull(struct raylet *r, uint64_t proc, uint64_t offset);
/* A process of this node died: it holds nothing any more. */
void pulls_proc_died(struct raylet *r, uint64_t proc);
void pulls_beat(struct raylet *r); /* once a second */
/* A process of another node died (or, number 0, the node): what was on its way from it comes from
 * another, or is lost. */
void pulls_holder_died(struct raylet *r, uint64_t holder, const char *why);
/* The connection to a node broke. */
void pulls_broken(struct raylet *r, uint32_t node, const char *why);

/* What comes from a node on our bulk connection to it (pulls_fetch.c). place: where the bytes
 * [at, at + len) of this frame go, NULL: nowhere; placed: they are all there. */
void pulls_data(struct raylet *r, uint32_t node, const struct wire_bulk_data *m);
void *pulls_place(struct raylet *r, uint32_t node, const struct wire_bulk_data *m, uint32_t at,
                  uint32_t len);
void pulls_placed(struct raylet *r, uint32_t node, const struct wire_bulk_data *m);
void pulls_instead(struct raylet *r, uint32_t node, const struct wire_bulk_instead *m);
void pulls_copy_asked(struct raylet *r, const struct wire_copy_ask *m);
void pulls_copy_told(struct raylet *r, const struct wire_copy_told *m);

/* What a node asks for on its bulk connection (pulls_serve.c): in turn; at once; go on; no more. */
void pulls_asked(struct raylet *r, uint32_t node, struct conn *c, const struct wire_bulk_get *m);
void pulls_serve(struct raylet *r, struct conn *c, const struct wire_bulk_get *m);
void pulls_near(struct raylet *r, struct conn *c, const struct wire_bulk_near *m); /* near.h */
void pulls_drained(struct raylet *r);
void pulls_conn_closed(struct raylet *r, struct conn *c);

bool pulls_is_ready(const struct raylet *r, uint64_t offset); /* a whole copy lies there */
struct pulls_sum {
    uint64_t copies, bytes;               /* all of them, those on their way too */
    uint64_t unused, unused_bytes;        /* nobody holds them */
};
struct pulls_sum pulls_sum(const struct raylet *r); /* linear in the copies */
/* Make room by dropping copies that nobody holds. True: something was freed. */
bool pulls_evict(struct raylet *r, uint64_t bytes);

#endif
