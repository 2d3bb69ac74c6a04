/* gcs_int.h - the state of the GCS and what the files of src/gcs share; nobody else includes it. */
#ifndef SKATE_GCS_GCS_INT_H
#define SKATE_GCS_GCS_INT_H

#include "base/map.h"
#include "gcs/gcs.h"
#include "gcs/gcs_health.h"
#include "sched/policy.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

enum { GCS_REASON = 1920, GCS_NAME_MAX = 4096, GCS_KEY_MAX = 1024, GCS_ENTRY_MAX = 256 };

struct gcs_node {
    uint32_t number;
    bool dirty;        /* its record is old: see gcs_records.c; the same below */
    bool alive, stale; /* stale: it refused an actor, or is away, since its last report */
    bool draining;     /* nothing new goes there: it is to be ended (node_drain) */
    bool returning;    /* its link is back, its node_state is not there yet */
    bool restored;     /* from a log; it has had no link since */
    uint64_t batch;    /* of records, the one that has its latest change; the same below */
    uint64_t link;     /* 0: away, until away_until_ns at most */
    int64_t away_until_ns;
    uint32_t ungot;    /* frames of it on this link since the last lane_got */
    uint64_t got;      /* ... in all */
    int64_t got_told_ns;
    int64_t heard_ns;
    struct gcs_health health;
    struct resources reported, loading; /* free at its last report; of actors being started */
    struct resources reserving;         /* bundles that it was asked to set aside */
    uint64_t arena_used;
    uint32_t charged, loaded_at; /* actors being started there; its place in `loaded` */
    uint32_t demands;            /* kinds of leases that wait there (gcs_demand.c) */
    void *registered; /* its node_register frame, owned */
    char *ip;         /* when the frame names none, else NULL */
    char reason[GCS_REASON];
};

struct gcs_job {
    uint32_t number;
    bool live, dirty, ending;
    uint64_t driver, batch;
    char *space;
    void *config;
    uint32_t space_len, config_len, pid, entry_len;
    char *entry; /* its command line, at most GCS_ENTRY_MAX of it; kept when it has ended */
};

/* PENDING waits for a node; STARTING was sent to one; ALIVE after actor_ready. The legal moves:
 * PENDING -> STARTING -> ALIVE -> PENDING (a restart), STARTING -> PENDING, any -> DEAD. */
enum { GCS_STARVED = 3 }; /* cause of an actor's death: its raylet ended it for want of memory */
enum gcs_actor_state { GCS_PENDING, GCS_STARTING, GCS_ALIVE, GCS_DEAD };

struct gcs_actor {
    struct skate_id id;
    enum gcs_actor_state state;
    uint64_t owner, proc, batch;
    uint32_t job, flags, node, pid, incarnation, restarts;
    int32_t max_restarts, max_task_retries;
    bool restarting; /* it was alive once: the wire's state 2 while not alive */
    bool unused, init_failed, infeasible_told, charged, dirty, spec_dirty;
    uint64_t order; /* of arrival in the list it is in, pending or dead */
    struct resources *extra; /* charged: what its start takes beyond `held`, in node's loading */
    void *create;   /* the actor_create frame, until dead */
    void *failure;  /* the actor_ready frame of a failed constructor */
    char *texts;    /* cls, name, namespace, each with its end */
    char *name, *space;
    uint32_t held_len;
    void *held; /* packed */
    char *reason;
    uint64_t *subs; /* processes that are told of each change */
    uint32_t sub_count, sub_cap;
    uint32_t index, prev_pending, next_pending, next_dead; /* lists by index */
    struct skate_id group; /* it runs in a bundle of this placement group */
    int32_t bundle;        /* -1: any */
    uint32_t cause;        /* of its death, as actor_state says */
    uint64_t killer;       /* who asked for its end last, by which mark: said again, it is done */
    uint32_t kill_mark;
};

struct gcs_group;
struct gcs_groups {
    struct gcs_group **v;
    uint32_t count, cap, live, unplaced;
    uint64_t removals;
    bool sweep_wanted; /* a job or an actor ended: groups may end with it */
    struct map ids;
};

struct gcs_demands; /* gcs_demand.c */
struct gcs_saids;   /* gcs_said.c */

struct gcs_value {
    struct skate_id key;
    char *name;
    uint32_t name_len, len;
    void *bytes;
    uint64_t batch;
    bool dirty;
};

/* Where a frame came from, and so where its answer goes. */
struct gcs_from {
    uint64_t link;
    struct gcs_node *node; /* NULL: not registered yet */
    uint64_t src;          /* 0: the raylet itself, plainly */
    uint32_t call;
    bool again; /* sent before, on a link that broke: what was done then is not done twice */
};

struct gcs {
    struct gcs_opts opts;
    int64_t now, tick_ns, retry_ns; /* of the last GCS_TICK; when waiting actors were last tried */
    uint32_t *doubted, doubted_count, doubted_cap; /* nodes that became suspect in this step */
    bool watched, hurry;            /* there are living nodes; some beat, or are away */
    struct gcs_out *out; /* of the step that runs */
    struct gcs_node **nodes;
    uint32_t node_count, node_cap, head;
    struct map links; /* link -> node number */
    struct map node_ids; /* of the first ids_known nodes */
    uint32_t ids_known;
    struct gcs_job **jobs;
    uint32_t job_count, job_cap;
    struct gcs_actor **actors;
    uint32_t actor_slots, actor_cap; /* a free slot is NULL and in free_slots */
    uint32_t *free_slots, free_count, free_cap;
    struct map actor_ids, actor_names, actor_procs;
    uint32_t pending, pending_last, dead_first, dead_last; /* MAP_NONE: empty */
    uint32_t actors_live, actors_pending, actors_dead, subs;
    uint64_t spec_bytes, kv_bytes;
    struct sched_view view;
    uint32_t *loaded, loaded_count, loaded_cap; /* nodes with something in `loading` */
    bool place_wanted;
    struct gcs_value *values;
    uint32_t value_count, value_cap;
    struct map value_keys;
    struct gcs_groups groups;
    uint64_t serial; /* the last `order` given */
    uint64_t taken, kept; /* batches of records: given to be kept, and kept */
    struct gcs_dirty *dirty;
    uint32_t dirty_count, dirty_cap;
    struct gcs_restoring *restoring;
    bool late; /* the log takes long */
    char *refusing; /* why nothing may be changed by request now, or NULL */
    struct gcs_demands *demands; /* NULL: none yet */
    struct gcs_saids *saids;     /* NULL: no raylet complained */
};

/* gcs.c: memory that budgets bound, so its end is a panic */
void *gcs_alloc(size_t bytes); /* zeroed */
void *gcs_copy(const void *data, size_t bytes);
void *gcs_grow(void *array, uint32_t *cap, size_t element);
struct skate_id gcs_text_key(const char *a, uint32_t a_len, const char *b, uint32_t b_len);
void gcs_actor_release(struct gcs_actor *a);
struct gcs_text {
    const char *p;
    uint32_t len;
};
/* Copies of its class, its name and its namespace. */
void gcs_actor_texts(struct gcs_actor *a, struct gcs_text cls, struct gcs_text name,
                     struct gcs_text space);

/* gcs_send.c */
void gcs_send_link(struct gcs *g, uint64_t link, struct wire_buf *b); /* ends and releases b */
void gcs_send_proc(struct gcs *g, uint64_t proc, struct wire_buf *b);
void gcs_send_nodes(struct gcs *g, struct wire_buf *b, uint32_t but); /* to all living but one */
void gcs_reply(struct gcs *g, const struct gcs_from *to, struct wire_buf *b);
void gcs_reply_status(struct gcs *g, const struct gcs_from *to, int status, const char *reason);
void gcs_close_link(struct gcs *g, uint64_t link);

/* gcs_actors.c */
struct gcs_actor *gcs_actor_find(struct gcs *g, const struct skate_id *id);
void gcs_actor_insert(struct gcs *g, struct gcs_actor *a); /* into a free slot, by its id */
struct gcs_actor *gcs_actor_of_proc(struct gcs *g, uint64_t proc);
void gcs_actor_create(struct gcs *g, const struct gcs_from *from,
                      const struct wire_actor_create *m);
void gcs_actor_sub(struct gcs *g, const struct gcs_from *from, const struct wire_actor_sub *m);
void gcs_actor_ready(struct gcs *g, const struct gcs_from *from, const struct wire_actor_ready *m);
void gcs_actor_refused(struct gcs *g, const struct wire_actor_refused *m);
void gcs_actor_kill(struct gcs *g, const struct gcs_from *from, const struct wire_actor_kill *m);
void gcs_actor_unused(struct gcs *g, const struct wire_actor_unused *m);
void gcs_actor_by_name(struct gcs *g, const struct gcs_from *from,
                       const struct wire_actor_by_name *m);
void gcs_actor_answer(struct gcs *g, const struct gcs_from *from, const struct skate_id *actor,
                      int status, const char *reason);
void gcs_actor_frame(const struct gcs_actor *a, struct wire_buf *b);
/* What it ran on is gone: restart or death. intended: no restart. */
void gcs_actor_lost(struct gcs *g, struct gcs_actor *a, const char *why, bool intended);
/* Does it live on when its job ends: detached, or made by an actor that does? */
bool gcs_actor_outlives(struct gcs *g, const struct gcs_actor *a);
/* Start again without counting: the node it was sent to cannot. */
void gcs_actor_again(struct gcs *g, struct gcs_actor *a);
/* Dead for good, now. kill: end its process too. */
void gcs_actor_end(struct gcs *g, struct gcs_actor *a, const char *why, bool kill);
void gcs_proc_died(struct gcs *g, const struct wire_proc_died *m);
/* Tell a raylet to end the process of an actor, or its start; proc 0: whichever that is. */
void gcs_worker_kill(struct gcs *g, uint32_t node, uint64_t proc, const struct skate_id *actor,
                     const char *why);

/* gcs_place.c */
struct gcs_demand { /* what an actor asks of its node; do not copy */
    struct sched_ask ask;
    struct resources placing;
    char labels[LABELS_MAX];
};
SKATE_NODISCARD int gcs_demand_of(const struct wire_actor_create *m, struct gcs_demand *ret);
void gcs_place_add(struct gcs *g, struct gcs_actor *a); /* wait for a node */
void gcs_place_remove(struct gcs *g, struct gcs_actor *a);
void gcs_place_all(struct gcs *g);
/* Its row of the view: may it be chosen, now and at all? */
void gcs_place_row(struct gcs *g, struct gcs_node *n);
void gcs_place_start(struct gcs *g, struct gcs_actor *a); /* say actor_start to its node */
void gcs_place_uncharge(struct gcs *g, struct gcs_actor *a); /* it is no longer being started */

/* gcs_state.c: moves, and who is told */
void gcs_actor_move(struct gcs *g, struct gcs_actor *a, enum gcs_actor_state to);
void gcs_actor_tell(struct gcs *g, const struct gcs_actor *a);
int gcs_actor_subscribe(struct gcs *g, struct gcs_actor *a, uint64_t proc);
void gcs_unsubscribe(struct gcs *g, uint64_t proc, bool node); /* of all actors */

#include "gcs/gcs_nodes.h"
#include "gcs/gcs_records.h"

#endif
