/* gcs.h - the global control store as a pure state machine: nodes, jobs, actors, names, values.
 *
 * gcs_step(state, event, now, out): no clock, socket, file, thread or random source inside, so the
 * same events give the same outputs; skate-gcs (src/gcsd) and tests wrap it with I/O. A link is
 * one authenticated connection to a raylet, named by a number of the caller's that is never used
 * twice. Frames that come in have passed wire_check() (the wrapper's duty); everything else in
 * them is judged here. One thread at a time; never blocks.
 * Design, protocol and limits: src/gcs/README.md. Tests: tests/unit/gcs_test.c. */
#ifndef SKATE_GCS_GCS_H
#define SKATE_GCS_GCS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"

struct gcs; /* opaque: gcs_int.h */

/* Bounds; 0 means the default in brackets. At each one a request is refused with a reason. */
struct gcs_opts {
    uint32_t nodes_max;     /* nodes ever registered (16384) */
    uint32_t jobs_max;      /* jobs ever started (65536) */
    uint32_t actors_max;    /* actors not dead (100000) */
    uint32_t dead_max;      /* dead actors that can still be asked for (10000); the oldest go */
    uint32_t subs_max;      /* subscriptions in all (1000000) */
    uint64_t spec_bytes;    /* creation specs, bundles and job settings (1 GB) */
    uint64_t kv_bytes;      /* keys and values together (1 GB) */
    uint32_t groups_max;    /* placement groups not removed (10000); dead_max bounds the others */
    uint32_t heartbeat_ms;  /* silence after which a node is dead (5000) */
    uint32_t away_ms;       /* a node whose link has ended may come back so long; 0: it is dead */
    uint64_t epoch;         /* of this GCS; grows with each start on the same log (1) */
    bool records;           /* keep account of what gcs_records_take() shall give */
};

enum gcs_event_kind {
    GCS_FRAME,     /* a frame came on `link` */
    GCS_LINK_DOWN, /* `link` is gone; text says why */
    GCS_PROBED,    /* a gcs_probe has ended: of node `link`, refused or not */
    GCS_TICK,      /* time has passed; gcs_out.tick_ms says how often it is wanted */
};
struct gcs_event {
    enum gcs_event_kind kind;
    uint64_t link;
    const void *frame; /* borrowed; 8-byte aligned */
    uint32_t len;
    const char *text;
    const char *peer_ip; /* of the link; for nodes that do not say */
    bool refused;        /* GCS_PROBED: its machine says that nobody listens at its port */
};

/* What is to be sent, in this order. Frames lie in `bytes`; one may be sent to several links. */
struct gcs_send {
    uint64_t link;
    uint32_t at, len;
    bool close; /* no frame: end this link after what was sent before */
};
/* Try to connect to a node's port, and say so by GCS_PROBED. */
struct gcs_probe {
    uint32_t node;
    uint16_t port;
    char ip[16];
};
enum { GCS_PROBES = 32 }; /* of one step; what is beyond is asked for later */
struct gcs_out {
    struct gcs_send *sends;
    uint32_t count, cap;
    uint8_t *bytes;
    uint32_t used, room;
    bool changed;   /* state that must outlive the GCS changed: keep it, then send */
    bool acks;      /* it rests on earlier changes: keep those first, too */
    bool head_lost; /* the head node's raylet is gone */
    struct gcs_probe probes[GCS_PROBES];
    uint32_t probe_count;
    uint32_t tick_ms; /* a GCS_TICK is wanted so often; 0: never */
    bool fenced;    /* a raylet has seen a later epoch: this GCS has been replaced and must end */
};

SKATE_NODISCARD int gcs_new(const struct gcs_opts *opts, struct gcs **ret);
struct gcs *gcs_free(struct gcs *g); /* NULL is fine; NULL back */

/* Take one event. `out` is emptied first and holds what is to be done until the next step. */
void gcs_step(struct gcs *g, const struct gcs_event *event, int64_t now_ns, struct gcs_out *out);
void gcs_out_release(struct gcs_out *out);

/* ------------------------------------------------------------------ what outlives the process */

/* The durable state as records: one for each thing, always its latest state. Of each thing that
 * steps have changed, gcs_records_take() gives its record, or that it is gone; whoever keeps them
 * all (in one transaction for each take) can build the same store again. Values are rec_* frames
 * of messages.def (of GCS_SPECS: the actor_create frame). What is not in them is talked over again
 * with the nodes: links, subscriptions, what is on its way, free amounts. */
enum gcs_table {
    GCS_META,   /* 'g': numbers of the store; the log keeps its own beside it */
    GCS_NODES,  /* by number */
    GCS_JOBS,   /* by number */
    GCS_ACTORS, /* by id; the small, changing part, and dead ones */
    GCS_SPECS,  /* by id of an actor that is not dead: how to start it */
    GCS_GROUPS, /* by id */
    GCS_VALUES, /* by name */
    GCS_TABLES
};
struct gcs_record {
    uint8_t table;
    bool gone; /* no value: the thing is no more */
    uint32_t key_len, len;
    uint64_t key_at, at; /* in `bytes`; values are 8-byte aligned */
};
struct gcs_records {
    struct gcs_record *v;
    uint32_t count, cap;
    uint8_t *bytes;
    uint64_t used, room;
};

/* Add what changed since the last take. Between steps only. false: nothing did. */
bool gcs_records_take(struct gcs *g, struct gcs_records *ret);
void gcs_records_kept(struct gcs *g); /* all that was taken is durable */
/* The next take gives everything there is. */
void gcs_records_all(struct gcs *g);
void gcs_records_release(struct gcs_records *r);

/* While `why` is not empty, whoever asks for a change is refused with it and -SKATE_EIO; what the
 * raylets say of deaths and ends goes on. */
void gcs_refuse_changes(struct gcs *g, const char *why);

/* The log takes long over what it was given: raylets hear all the same that the store is there. */
void gcs_log_is_late(struct gcs *g, bool late);

/* Build a store from records: each once, in any order, then the end, all before the first step.
 * The value is copied. -SKATE_EPROTO: not a record of this table. */
SKATE_NODISCARD int gcs_restore_record(struct gcs *g, uint32_t table, const void *value,
                                       uint32_t len);
/* -SKATE_EPROTO with the reason: the records do not fit together; with `drop` those that do not
 * are left out and counted instead. Nodes that lived have no link until they come back. */
SKATE_NODISCARD int gcs_restore_end(struct gcs *g, int64_t now_ns, bool drop, uint32_t *ret_dropped,
                                    struct skate_error *err);

/* For tests and status lines. */
struct gcs_counts {
    uint32_t nodes_alive, jobs_live, actors_live, actors_pending, actors_dead, subs;
    uint64_t spec_bytes, kv_bytes;
};
void gcs_count(const struct gcs *g, struct gcs_counts *ret);

#endif
