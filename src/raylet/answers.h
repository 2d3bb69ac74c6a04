/* answers.h - what the raylet tells those who ask: why something waits. Loop thread only. */
#ifndef SKATE_RAYLET_ANSWERS_H
#define SKATE_RAYLET_ANSWERS_H

#include "raylet/raylet.h"

/* answers.c: what a lease request or an actor that is being started waits for. */
void why_answer(struct raylet *r, uint64_t src, const struct wire_why_req *m);

/* rows.c: processes, and what they ran. rows_died: before p->ledger_fd is closed. */
void rows_answer(struct raylet *r, uint64_t src, const struct wire_state_req *m);
void rows_died(struct proc *p);

/* store_stats.c: what the store holds and has done. The beat: about once a second. */
void store_stats_answer(struct raylet *r, uint64_t src, const struct wire_store_stats_req *m);
void store_stats_beat(struct raylet *r);

/* actor_host.c: what the actor needs that waits here for idle leases to come back, or NULL. */
const struct resources *actor_host_lacks(const struct raylet *r, const struct skate_id *actor);

#endif
