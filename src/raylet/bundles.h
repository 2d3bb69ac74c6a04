/* bundles.h - placement groups on this node: bundles set aside here, and who waits for one.
 * Loop thread; never blocks. See bundles.c, group_asks.c, claims.c. */
#ifndef SKATE_RAYLET_BUNDLES_H
#define SKATE_RAYLET_BUNDLES_H

#include "base/map.h"
#include "raylet/pool.h"
#include "raylet/raylet.h"

enum group_state { GROUP_PENDING, GROUP_CREATED, GROUP_RESCHEDULING, GROUP_REMOVED, GROUP_UNKNOWN };
enum { GROUPS_MAX = 65536, GROUP_HOMES_MAX = 64 };

struct bundle { /* resources of this node that belong to a group */
    struct bundle *next;
    struct group *group;
    uint32_t index, epoch;
    bool committed;
    struct resources total, avail;
    struct gpus gpus;
};
struct group_ask { /* leases that an owner of this node wants from a group */
    struct group_ask *next;
    struct lease_ask a;
    struct resources want;
};
struct group { /* what this node knows of a group */
    struct skate_id id;
    enum group_state state;
    uint32_t epoch, count, index;
    uint32_t *nodes;        /* of each bundle, 0: none */
    uint8_t *full;          /* of each bundle: its node had no room; group_room clears it */
    struct bundle *bundles; /* those on this node */
    struct group_ask *asks, **asks_tail;
    uint32_t homes[GROUP_HOMES_MAX], home_count; /* nodes that we sent requests back to */
    uint32_t turn;
    bool asked_gcs;
};
struct groups {
    struct group **v;
    uint32_t count, cap, asks;
    struct map ids;
    struct group_set_aside *waiting; /* reservations that do not fit at this moment */
    struct group_actor *actors;      /* actors that wait for room in a bundle */
    bool room;                       /* something was given back: tell the homes */
};

/* bundles.c */
SKATE_NODISCARD int groups_new(struct raylet *r);
struct group *group_find(struct raylet *r, const struct skate_id *id); /* NULL: not known here */
struct group *group_get(struct raylet *r, const struct skate_id *id); /* made; NULL: no room */
void groups_on_reserve(struct raylet *r, const struct wire_group_reserve *m);
void groups_on_release(struct raylet *r, const struct wire_group_release *m);
void groups_on_info(struct raylet *r, const struct wire_group_info *m);
bool groups_run(struct raylet *r); /* true: some still wait */
void groups_expire(struct raylet *r);
struct bundle *bundles_next(struct raylet *r, const struct bundle *after); /* all of this node */
void bundles_sum(struct raylet *r, struct resources *sum);
void groups_actor_start(struct raylet *r, struct placement *pl, const struct resources *placing);
void groups_state(struct raylet *r, struct wire_buf *b); /* their part of node_state */
/* The n-th actor that waits for room in a bundle; NULL: there are not so many. */
const struct wire_actor_start *groups_actor_at(const struct raylet *r, uint32_t n);
void groups_back(struct raylet *r); /* the GCS is back: ask again what we want to know */
bool groups_actor_cancel(struct raylet *r, const struct wire_worker_kill *m); /* if it is there */

/* group_asks.c */
void group_asks_back(struct raylet *r, struct group *g); /* the GCS is back: ask it again */
void group_asks_request(struct raylet *r, uint64_t src, const struct lease_ask *a,
                        const struct resources *want, uint32_t hops);
void group_asks_cancel(struct raylet *r, uint64_t owner, uint64_t req); /* req 0: all of owner */
void group_asks_owner_died(struct raylet *r, uint64_t owner);
void group_asks_on_room(struct raylet *r, uint64_t src, const struct wire_group_room *m);
void group_asks_run(struct raylet *r, struct group *g);
void group_asks_tell_homes(struct raylet *r, struct group *g);
/* Do others wait for what this lease holds of its group? */
bool group_asks_in_the_way(struct raylet *r, const struct proc *p);
/* The owner's request can never be served; text: an error of the system. */
void lease_fail(struct raylet *r, uint64_t owner, uint64_t req, const char *text);

/* grants.c */
/* A lease, when it fits: taken, and a worker on its way. b NULL: from the node itself. */
bool grants_try(struct raylet *r, const struct lease_ask *a, const struct resources *want,
                struct bundle *b);
void grants_pass(struct raylet *r, uint32_t node, const struct lease_ask *a,
                 const struct resources *want, uint32_t hops); /* of a placement group */

/* claims.c: b NULL: the node itself */
bool claim_fits(struct raylet *r, const struct bundle *b, const struct resources *want);
void claim_take(struct raylet *r, struct bundle *b, const struct resources *want,
                struct gpu_share *ret);
void claim_give(struct raylet *r, struct bundle *b, const struct resources *used,
                struct gpu_share *share);
void claims_check(struct raylet *r);

#define GROUP_GONE                                                                             \
    "pg_removed\nThe placement group corresponding to this task has been removed."

#endif
