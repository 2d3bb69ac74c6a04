/* raylet.h - the state of a node's daemon, shared by the files of this folder only.
 *
 * One process per node, one loop thread that owns everything here; nothing blocks but start-up.
 * Each section below is written by the file it names; README.md says who calls whom.
 * Tests: tests/unit/raylet_*_test.c, tests/e2e. */
#ifndef SKATE_RAYLET_RAYLET_H
#define SKATE_RAYLET_RAYLET_H

#include <sys/types.h>

#include "base/doorbell.h"
#include "base/id.h"
#include "loop/loop.h"
#include "net/conn.h"
#include "raylet/death_record.h"
#include "raylet/raylet_settings.h"
#include "raylet/stream.h"
#include "sched/gpus.h"
#include "sched/lease_queue.h"
#include "sched/policy.h"
#include "store/extents.h"
#include "store/store_counts.h"
#include "store/table.h"
#include "store/quarantine.h"
#include "wire/wire_gen.h"

enum {
    RAYLET_PROCS_MAX = LIMIT_CHANNELS - 1, /* a driver can have a channel to each of them */
    RAYLET_STARTING_MAX = 16,              /* forks in flight: descriptors in flight are limited */
    RAYLET_DEATHS = 1024,                  /* deaths remembered, for late senders */
    RAYLET_REASON = DEATH_REASON,
};

/* MEMBER: a user's program in another one's job (members.h). Only a WORKER is ours to kill. */
enum proc_role { PROC_DRIVER, PROC_WORKER, PROC_MEMBER };
/* STARTING: fork asked. LIVE. DOOMED: SIGKILL sent, nothing is sent to it any more. */
enum proc_state { PROC_STARTING, PROC_LIVE, PROC_DOOMED };
enum work { WORK_NONE, WORK_IDLE, WORK_LEASE, WORK_ACTOR };

struct proc_channel {
    uint64_t peer;
    uint32_t bit;
};

/* A user process of this node, from accept or fork to its death. */
struct proc {
    uint64_t id;
    struct raylet *r;
    uint32_t pid, job;
    enum proc_role role;
    enum proc_state state;
    struct stream *stream;
    int pidfd, bell_fd, ledger_fd; /* pidfd: not of workers */
    struct loop_watch *pid_watch;
    struct doorbell *bell;
    struct loop_task cut_off; /* a doomed driver */
    struct proc_channel *channels;
    uint32_t channel_count, channel_cap;
    uint64_t bits[LIMIT_CHANNELS / 64]; /* bit 0 is the socket's */
    bool intended;
    char reason[RAYLET_REASON]; /* why it was killed, or says it ends */
    struct death_notes notes;
    /* workers (pool.c) */
    enum work work;
    bool blocked, detached, again, actor_told; /* again: an actor that may be restarted */
    uint64_t owner, req;     /* WORK_LEASE */
    struct skate_id actor;   /* WORK_ACTOR */
    uint32_t incarnation;
    struct resources used;   /* taken from the node for it, or from a bundle */
    struct gpu_share gpus;
    struct bundle *bundle;   /* NULL: the node itself */
    bool told;               /* its last lease_info said something */
    struct job_env *env;     /* what it was forked for; holds a ref */
    struct proc *idle_next;
    int64_t idle_since_ns;
    bool retiring;           /* asked to end, or ends by itself: given no work */
    uint32_t hung_up;        /* beats since a worker's socket ended: its exit is forced at 2 */
    uint32_t zygote;         /* number of the zygote that forked it */
    int spawned;             /* natives.c: its pid, until it joins the pool */
    const uint32_t *pins;    /* what it reads, store/residency.h; NULL before its welcome */
    uint32_t spill_round;    /* spill.c: asked in that round and not answered; 0 */
    int64_t lends;           /* lent.c: CPUs of a driver that waits */
};

struct bundle;
struct groups;
struct job;
struct job_env;
struct dead_runs;
struct gcs_link;
struct links;
struct memory_monitor;
struct placement;
struct pulls;
struct spill;
struct spill_wait;
struct raylet {
    struct raylet_settings set;
    struct loop *loop;
    struct net *net;
    uint32_t node;       /* 0 until the GCS said which */
    uint64_t self;       /* our process id */
    struct skate_id node_id;
    bool ending;
    /* node_start.c */
    int socket_fd, signal_fd, lifeline_fd, arena_fd;
    struct loop_watch *socket_watch, *signal_watch, *lifeline_watch, *stdin_watch;
    char socket_path[128];
    uint32_t drivers, guests;
    /* arena */
    uint8_t *arena;
    uint64_t span;      /* of addresses; set.arena_bytes of them may have pages */
    uint8_t *residency; /* store/residency.h; written here alone */
    struct spill *spill;           /* spill.c */
    struct spill_wait *spill_wait; /* spill_wait.c */
    struct extents *extents;
    struct quarantine quarantine;
    struct store_counts counts;   /* who does a thing counts it; told by store_stats.c */
    struct store_history history;
    /* procs.c, deaths.c */
    struct table procs; /* number -> struct proc */
    uint32_t next_number;
    struct death deaths[RAYLET_DEATHS];
    uint32_t death_count;
    struct table heirs; /* heirs.c: dead process -> its heir's id */
    uint64_t oom_kills; /* known of when the last worker died */
    /* forks.c: the zygote */
    struct stream *zygote;
    pid_t zygote_pid;
    uint32_t zygote_number, zygote_fails;
    int64_t zygote_started_ns;
    bool zygote_served; /* it has forked a worker */
    struct loop_timer *zygote_timer;
    uint32_t starting, waiting; /* forks; placements without a worker */
    struct loop_task natives_task; /* natives.c */
    uint32_t natives_starting;
    int64_t native_told_ns;
    /* pool.c, grants.c */
    struct table jobs; /* number -> struct job */
    struct sched_view view;
    struct lease_queue *leases;
    struct loop_task sched_task;
    struct loop_timer *reclaim_timer;
    struct table reclaimed; /* owner -> (void *)1: told since the last tick */
    struct actor_wait *actor_waits; /* actor_host.c: for idle leases to come back */
    struct resources coming;        /* an actor that the GCS may place here needs this */
    int64_t coming_until_ns, reported_ns;
    struct resources told; /* demand.c: free here, as far as the GCS knows */
    bool hurry;            /* the next report is not to wait for others */
    uint32_t reclaim_ms;            /* until idle leases are asked for again: grows when in vain */
    uint32_t free_leases; /* leases that want nothing: bounded apart */
    int64_t shared, borrowed; /* lent.c: CPUs that are others' unless lent, and lent now */
    struct groups *groups; /* bundles.c */
    struct gpus gpus;      /* claims.c */
    /* gcs_link.c, links.c, pulls.c */
    struct gcs_link *gcs_link;
    struct beats *beats; /* NULL: a private session */
    struct links *links;
    struct gateway *gateway; /* gateway.c; an outpost's only */
    struct pulls *pulls;
    struct dead_runs *dead_runs; /* rows.c */
    struct memory_monitor *memory; /* NULL: nobody looks */
    struct loop_timer *report_timer, *beat_timer;
    struct worker_log *logs; /* worker_logs.c */
    struct old_logs *old_logs;
    struct table kept;       /* keeps.c: offset of an extent -> struct kept */
};

/* node_start.c */
SKATE_NODISCARD int node_start(struct raylet *r, struct skate_error *err);
void node_ready(struct raylet *r); /* the GCS gave us a number: say READY */
void node_clear(struct raylet *r, const char *why); /* end what runs here, remove its files */
/* node_clear, then exit. */
__attribute__((noreturn)) void node_end(struct raylet *r, const char *why);
__attribute__((noreturn)) void node_fail(struct raylet *r, int code, const char *text);
struct sched_node *node_own(struct raylet *r); /* our row of the view */
void node_report(struct raylet *r);            /* to the GCS, now: what is free here */
void node_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* procs.c */
struct proc *proc_new(struct raylet *r, enum proc_role role, uint32_t job);
struct proc *proc_find(struct raylet *r, uint64_t id);
SKATE_NODISCARD int proc_attach(struct proc *p, int fd); /* its socket; takes fd on success */
void proc_welcome(struct proc *p);
/* Send a plain frame and ring. Never fails for the caller: a process that does not read its
 * socket is doomed. */
void proc_send(struct proc *p, const void *frame, uint32_t len);
void proc_send_as(struct proc *p, const void *frame, uint32_t len, enum bell_class cls);
/* A notice (0 info, 1 warning, 2 error) to every driver of this node. */
void procs_tell_drivers(struct raylet *r, uint32_t level, const char *text);
void proc_send_fds(struct proc *p, void *frame, uint32_t len, const int *fds, uint8_t count);
/* SIGKILL, and never talk to it again; deaths.c hears of the end. */
void proc_doom(struct proc *p, const char *reason);
void proc_free(struct proc *p);
void proc_beat(struct raylet *r); /* once a second: who hung up and lives on; the socket */
void proc_accept(void *arg, unsigned events); /* the Unix socket is readable */

/* inbox.c: a frame from process `src` for this raylet (plain, or routed to it) */
void inbox_frame(struct raylet *r, uint64_t src, const struct wire_head *frame);

/* channels.c */
void channels_connect(struct raylet *r, struct proc *p, const struct wire_connect *m);
bool channels_open(struct proc *a, struct proc *b, uint32_t call); /* true: a new one */
bool channels_linked(struct proc *a, uint64_t b);
void channels_forget(struct raylet *r, struct proc *dead);

/* forks.c */
SKATE_NODISCARD int zygote_start(struct raylet *r);
void zygote_gone(struct raylet *r, int wait_status);
SKATE_NODISCARD int zygote_fork(struct raylet *r, struct proc *p, const int fds[3]);
void zygote_stop(struct raylet *r);

/* grants.c */
void grants_request(struct raylet *r, uint64_t src, const struct wire_lease_req *m);
void grants_return(struct raylet *r, uint64_t src, const struct wire_lease_return *m);
void grants_made(struct raylet *r, struct proc *worker); /* a worker is there: tell the owner */
void grants_blocked(struct proc *p, bool blocked);
void grants_wake(struct raylet *r); /* something changed: look at the queue soon */
void grants_run(void *arg);
void grants_reclaim(struct raylet *r); /* others wait: ask owners for idle leases */
void grants_reclaim_tick(void *arg);
void grants_owner_died(struct raylet *r, uint64_t owner);

/* deaths.c */
void death_of(struct proc *p, int signal, int code); /* frees p */
void death_heard(struct raylet *r, const struct wire_proc_died *m); /* of another node */
void death_of_node(struct raylet *r, uint32_t node, const char *why);
void death_answer(struct raylet *r, uint64_t dst, uint64_t src); /* dst is dead: tell src */
void death_extents_done(struct raylet *r, const struct wire_extents_done *m, uint64_t by);
void death_of_pid(struct raylet *r, pid_t pid, int wait_status, uint64_t peak_bytes);
void death_tell_again(struct raylet *r, uint64_t dead, uint64_t to); /* to: a process, a raylet */

/* routes.c */
void route_frame(struct raylet *r, const struct wire_route *m, uint64_t from);
void route_send(struct raylet *r, uint64_t dst, const void *frame, uint32_t len);
/* On behalf of src: an answer goes there. */
void route_as(struct raylet *r, uint64_t dst, uint64_t src, const void *frame, uint32_t len);

#include "raylet/actor_host.h"
#include "raylet/heirs.h"
#include "raylet/keeps.h"
#include "raylet/pool.h"
#include "raylet/worker_logs.h"

#endif
