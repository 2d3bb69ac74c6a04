/* actor_host.h - actors that the GCS places on this node; part of raylet.h. */
#ifndef SKATE_RAYLET_ACTOR_HOST_H
#define SKATE_RAYLET_ACTOR_HOST_H

#include "raylet/raylet.h"

void actor_host_start(struct raylet *r, const struct wire_actor_start *m);
void actor_host_made(struct proc *worker, struct placement *pl);
void actor_host_kill(struct raylet *r, const struct wire_worker_kill *m);
/* Is it this start that is to end? */
bool actor_host_is_meant(const struct wire_actor_start *start, const struct wire_worker_kill *m);
void actor_host_state(struct raylet *r, struct wire_buf *b); /* its part of node_state */
void actor_host_refuse(struct raylet *r, const struct skate_id *actor, uint32_t incarnation,
                       const char *reason);
void actor_host_coming(struct raylet *r, const struct wire_actor_create *m);
bool actor_host_retry(struct raylet *r);         /* true: some still wait */
bool actor_host_waiting(const struct raylet *r);
void actor_host_expire(struct raylet *r);
void actor_host_died_early(struct proc *p, const char *text);

#endif
