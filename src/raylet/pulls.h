/* pulls.h - objects of other nodes brought here, and the serving side of the same.
 *
 * A pull is in chunks over the bulk connection of the holder's node, straight into an extent that
 * is lent to the raylet itself. Pulls of one object are joined; a copy stays while a process holds
 * it, then until its room is needed (least recently used first). Loop thread; never blocks. */
#ifndef SKATE_RAYLET_PULLS_H
#define SKATE_RAYLET_PULLS_H

#include "raylet/raylet.h"

SKATE_NODISCARD int pulls_start(struct raylet *r);
void pulls_request(struct raylet *r, struct proc *p, const struct wire_pull *m);
void pulls_unpull(struct raylet *r, uint64_t proc, uint64_t offset);
/* A process of this node died: it holds nothing any more. */
void pulls_proc_died(struct raylet *r, uint64_t proc);
/* A process of another node died (or, node != 0, the node): what was on its way from it is lost. */
void pulls_holder_died(struct raylet *r, uint64_t holder, const char *why);
void pulls_broken(struct raylet *r, uint32_t node, const char *why);
void pulls_data(struct raylet *r, uint32_t node, const struct wire_bulk_data *m);
void pulls_serve(struct raylet *r, struct conn *c, const struct wire_bulk_get *m);
bool pulls_is_ready(const struct raylet *r, uint64_t offset); /* a whole copy lies there */
struct pulls_sum {
    uint64_t copies, bytes;               /* all of them, those on their way too */
    uint64_t unused, unused_bytes;        /* nobody holds them */
};
struct pulls_sum pulls_sum(const struct raylet *r); /* linear in the copies */
/* Make room by dropping copies that nobody holds. True: something was freed. */
bool pulls_evict(struct raylet *r, uint64_t bytes);

#endif
