/* core_int.h - the inside of struct core: state shared by the files of src/core only.
 *
 * Everything is guarded by core.lock (the process-private mutex), except drops (its own leaf lock)
 * and the doorbell page. Functions named x_locked or taking struct core * in this header expect
 * the lock to be held. No function here calls out of the core. */
#ifndef SKATE_CORE_CORE_INT_H
#define SKATE_CORE_CORE_INT_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/assert.h"
#include "base/doorbell.h"
#include "base/index.h"
#include "base/map.h"
#include "base/ring.h"
#include "core/core.h"
#include "core/core_frames.h"
#include "core/core_objects.h"
#include "core/core_async.h"
#include "core/heap.h"
#include "core/later.h"
#include "core/lineage.h"
#include "core/sweep.h"
#include "store/residency.h"
#include "store/table.h"
#include "own/ledger.h"
#include "wire/wire_gen.h"

enum { NONE = 0xffffffff, DRAIN_BATCH = 512, EVENTS_MAX = 20000 };
enum { EVENT_BYTES_MAX = 64 << 20, SPIN_FULL = 1200 /* a pause is 10 to 40 ns */ };

/* KEPT: over, but a result of it may have to be made again (lineage.c). */
enum task_state { TASK_FREE, TASK_DEPS, TASK_QUEUED, TASK_PUSHED, TASK_KEPT };

struct task {
    struct skate_id id;
    uint8_t state, kind;
    bool has_parent;   /* task_parent() */
    bool sought : 1;   /* a lease near its arguments was asked for */
    bool cancelled : 1; /* pushed, and its worker was told: not to be tried again */
    uint8_t starved : 5; /* workers of it that were ended for want of memory (later.c) */
    uint32_t next;
    uint32_t cls;      /* class index, or actor index for methods and constructors */
    uint32_t missing;  /* dependencies not ready */
    uint32_t dep_count, ref_count;
    struct skate_id *holds; /* dep_count deps, then ref_count contained refs, then args object */
    uint32_t hold_count, returns;
    int32_t retries;
    uint32_t attempt, flags;
    uint32_t slot;           /* its ledger slot: place and size of its spec, the task frame */
    uint32_t function;       /* index of its definition, NONE for methods */
    uint32_t sequence; /* on the worker's ring */
    uint32_t before;         /* pushed: the one before it in its list; kept: the older one */
};
_Static_assert(sizeof(struct task) == 88, "queues are long: each byte counts a million times");

struct worker { /* a leased worker, or the process of an actor */
    uint64_t proc;
    struct link *link;
    uint32_t cls, inflight, head, tail; /* FIFO of pushed tasks */
    bool patient, /* frames may wait in the link's backlog: an actor that runs several calls */
        blocked, leaving, stealing, dead, retired,
        idle; /* counted in core.idle_workers */
    int64_t idle_since;
};
struct sched_class {
    struct core_class_opts opts;
    uint32_t head, tail, queued;
    uint64_t request;  /* open lease request, 0: none */
    uint32_t asked, vain; /* leases not granted; workers in a row that died with nothing started */
    uint32_t worker_count, worker_cap;
    struct worker **workers;
    bool dirty;
};
struct actor {
    struct skate_id id;
    uint32_t state, incarnation, restarts, pid, flags, cause; /* cause: of its death */
    uint32_t head, tail, queued, asked; /* not pushed; times that the GCS did not know it */
    uint64_t seq;
    struct worker worker;
    struct wire_buf create;     /* its creation, while arguments are missing */
    char *reason;
    struct frame_node *error;   /* the actor_state frame with a constructor's error */
    uint32_t ctor;              /* task index while dependencies are missing */
    uint32_t unready, max_pending; /* calls whose arguments are missing (unordered); 0: no limit */
    bool subscribed, owned, unused_sent, unsettled, named, unordered;
};
struct function { /* a definition: ours (blob to send) or received */
    struct frame_node *frame; /* the func frame */
    double run_ns;            /* estimate of a call's time, < 0 unknown */
};
struct stream; /* items.c: the items of a generator task of ours */
struct yield;  /* yield.c: those that a task here produces */
struct run { /* a task that came to us to be run */
    struct yield *yield; /* of a generator, else NULL */
    struct run *next;
    struct link *link; /* the owner's; NULL for a constructor */
    struct frame_node *node, *start; /* the task frame; the actor_start it came in */
    uint32_t sequence;
    struct core_view *views; /* args, then deps */
    char *strings;
    int64_t began_ns, ended_ns;
    bool cancelled, pooled;
    pthread_t thread;           /* that executes it */
    struct run *other, **whose; /* list of all that have begun: core.begun */
    uint64_t trace;             /* its record (report.c) */
    int64_t marks[2];
    bool timed;
    struct core_job job; /* filled when it begins; from here on not zeroed before: runs.c */
    struct core_view few_views[3]; /* what most need; views and strings may lie here */
    char few_strings[80];
};

/* Room that the raylet made for us (restore.c): bytes 0 when lend() has taken it. */
struct room {
    uint64_t offset, bytes;
    int64_t came_ns;
};
struct comeback;

struct core {
    pthread_mutex_t lock, drop_lock;
    pthread_cond_t cond, event_cond;
    pthread_t thread;
    bool thread_on, stop, dead, forked, exiting, event_woken;
    struct skate_error death;
    struct core_info info;
    void *config, *env;
    pid_t pid;

    int sock, arena_fd;
    uint8_t *in;
    uint32_t in_len, in_cap;
    int in_fds[64];
    uint32_t in_fd_count;
    struct frame_list deferred; /* read while a synchronous answer was awaited */

    struct doorbell *bell;
    bool leader;
    uint32_t followers;
    uint32_t spin, spin_most; /* iterations worth trying; never more than spin_most */
    uint32_t spin_vain, spin_retry; /* pauses in a row without luck; after how many to try all */
    uint8_t *arena; /* the whole, read-only */
    struct heap *heap;
    uint64_t arena_mapped, ledger_mapped; /* bytes */
    const uint8_t *residency;    /* store/residency.h; NULL: everything is always here */
    uint32_t *pins_v;            /* ours, behind the ledger */
    struct table pinned;         /* restore.c: slot + 1 -> struct pin */
    struct comeback *comebacks;
    struct table coming;         /* the same by slot + 1 */
    uint64_t coming_bytes;
    struct overlay *overlays;    /* restore.c: ranges of the arena that a file has */
    int file_fd;                 /* between lend() and the heap; -1 */
    struct room room;
    struct room_wait *room_waits; /* restore.c */
    struct ledger ledger;
    struct trace trace; /* what ran here: report.c */
    int64_t marks_since;
    uint32_t marks_left, submits_left;
    void *ledger_map;

    struct map links;      /* proc -> index */
    struct link **link_v;
    uint32_t link_count, link_cap;
    struct link *by_bit[LIMIT_CHANNELS];
    struct link *backlogs;

    struct index objects;  /* id -> slot */
    struct object *object_v;
    struct object_more *more_v; /* sparse: see object_more() */
    uint64_t next_seq;
    struct skate_id *drops;
    uint32_t drop_count, drop_cap;
    uint64_t *unpins;
    uint32_t unpin_count, unpin_cap;
    uint64_t errors_seen;  /* grows with each error result, for CORE_STOP_ON_ERROR */

    struct map tasks;      /* id (index 0) -> index */
    struct task *task_v;
    uint32_t task_free, task_count, task_cap, tasks_live;
    struct sched_class *classes;
    uint32_t class_count, dirty_classes;
    bool room_wanted;                /* a path is full, and nothing in flight there: room_again() */
    uint32_t failing;                /* tasks whose dependencies failed, by task.next */
    uint32_t idle_workers, waiting;  /* waiting: tasks in queues or missing dependencies */
    uint32_t deep_workers, leaving_workers; /* leased: with two tasks or more; not to be kept */
    struct map workers;    /* proc -> class index of a leased worker */

    struct map actors;     /* id -> index */
    struct actor **actor_v;
    uint32_t actor_count;
    struct sweep sweep; /* of dead links and actors */
    struct skate_error trouble; /* why core_finish() found no room */
    struct map functions;  /* key -> index (ours and received) */
    struct function *function_v;
    uint32_t function_count, function_last; /* last: found last, MAP_NONE: none */
    uint64_t function_last_key;

    struct later later;
    struct lineage lineage;
    struct heritage heritage;

    uint32_t next_call, calls_open;
    struct frame_list replies, events;
    uint64_t event_bytes;
    struct run *run_head, **run_tail, *run_current, *begun;
    struct run *spare;  /* to be used again: runs.c */
    uint32_t runs, spares;
    int64_t ended_ns;   /* when the last run ended, if nothing waited since; else 0 */
    struct skate_id *cancels; /* calls of groups, for core_cancel_next() */
    uint32_t cancel_count, cancel_cap;
    pthread_t runner;        /* the thread that asks for tasks; cancel.c */
    bool runner_known, interrupt; /* interrupt: of the running task, not yet taken */
    int interrupt_signal;
    int64_t interrupt_since_ns;
    bool blocked_told;
    struct run_group *groups; /* of an actor that runs several calls at once, else NULL */
    uint32_t group_count, runs_out, runs_left; /* runs_left: of runs_out, never answered */
    bool serve_end, draining, watch_lent, lends; /* lends: this driver does when it waits */
    struct map streams; /* task id -> index */
    struct stream **stream_v;
    uint32_t stream_cap;
    int64_t streams_looked_ns;
    struct yield *yields; /* of the generators that run here */
    struct watches *watches; /* watch.c; NULL before the first */
    uint32_t watched, lenders; /* watches that are not done; threads that wait: CPUs are lent */
    bool retiring, lasting; /* retire.c; lasting: results of this run go to the raylet */
    struct lease_state lease; /* worker_lease.c */
    uint64_t pins, heap_frees; /* heap_frees: grows when others give bytes of ours free */
    struct waiting *waits; /* threads asleep in core_wait */
    struct why_state *why;
    struct sites *sites; /* sites.c: where refs were made, if the user wants to know */
    struct ages *ages;   /* ages.c */
    uint64_t ages_seq;   /* next_seq at the last note */
    struct core *closed_next;
};

#include "core/core_fn.h"
#include "core/core_hot.h"

#endif
