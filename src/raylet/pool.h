/* pool.h - jobs, their runtime environments, and what waits for their workers; part of raylet.h. */
#ifndef SKATE_RAYLET_POOL_H
#define SKATE_RAYLET_POOL_H

#include "raylet/raylet.h"

/* A runtime environment of a job: its workers serve no other. The job's own has no bytes. */
struct job_env {
    struct job_env *next;
    struct job *job;
    void *bytes;
    uint32_t len, refs, starting, waiting; /* refs: workers and placements */
};

/* A lease or an actor that has its resources and waits for a worker of its job. */
struct placement {
    bool is_actor;
    struct job_env *env; /* holds a ref */
    uint64_t owner, req;
    struct resources used;
    struct gpu_share gpus;
    struct bundle *bundle; /* NULL: of the node itself */
    struct wire_actor_start *start; /* owned copy of the frame */
    struct placement *next;
};

enum { ENVS_MAX = 1024, ENV_BYTES_MAX = 256 * 1024 };

struct job {
    uint32_t number, waiting_count, logs_open, env_count;
    uint32_t ended_number; /* processes from this number on are younger than its end */
    bool known, ended, named; /* named: by the GCS, since jobs_mark() */
    struct job_env plain, *envs; /* envs: all others */
    uint64_t driver;
    void *config;
    uint32_t config_len;
    struct proc *idle;
    struct placement *waiting, *waiting_last;
    uint64_t bye_to; /* who waits for bye, and the call */
    uint32_t bye_call;
    struct loop_timer *bye_timer;
    struct raylet *r;
};

/* pool.c */
struct job *job_find(struct raylet *r, uint32_t number); /* made when there is none */
void job_info(struct raylet *r, const struct wire_job_info *m);
void job_end(struct raylet *r, uint32_t number, const char *why, bool tell_gcs);
/* Between these the GCS names all live jobs; who was not named has ended. */
void jobs_mark(struct raylet *r);
void jobs_sweep(struct raylet *r);
void job_bye(struct raylet *r, struct proc *p, uint32_t call);
void job_log_closed(struct raylet *r, uint32_t number);
void pool_place(struct raylet *r, struct job *j, struct placement *pl); /* owns pl */
void pool_forked(struct raylet *r, struct proc *p, int pid);
void pool_fork_lost(struct raylet *r, struct proc *p);
void pool_release(struct proc *p); /* its work is over: resources back, lease forgotten */
void pool_idle(struct proc *p);    /* ... and it may serve again */
void pool_remove(struct proc *p);  /* it is dead: out of all lists */
void pool_kick(struct raylet *r, struct job *j);
bool pool_is_full(const struct raylet *r);
struct placement *placement_free(struct placement *pl);
void pool_cancel(struct raylet *r, uint64_t owner, uint64_t req); /* req 0: all of owner */
/* Is this owner meant: itself, or (number 0) any process of its node? */
static inline bool owner_is(uint64_t owner, uint64_t meant) {
    return owner == meant || (proc_number(meant) == 0 && proc_node(owner) == proc_node(meant));
}
/* The first that waits for a worker and that `is` means: out of its queue, what it had claimed
 * given back; the caller frees it. NULL: none. */
typedef bool (*placement_test)(const struct placement *pl, const void *arg);
struct placement *pool_withdraw(struct raylet *r, placement_test is, const void *arg);

/* envs.c: a ref on the environment of these bytes; NULL: out of memory, or of room */
struct job_env *env_get(struct job *j, const void *bytes, uint32_t len);
struct job_env *env_ref(struct job_env *e);
void env_unref(struct job_env *e); /* NULL is fine */
bool env_is(const struct job_env *e, const void *bytes, uint32_t len);

/* natives.c */
bool native_env(const struct job_env *e); /* of workers without Python */
SKATE_NODISCARD int native_start(struct raylet *r, struct proc *p, const int fds[3]);
void natives_join(struct raylet *r); /* before the deaths of children are looked at */

#endif
