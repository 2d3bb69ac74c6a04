/* pool.c - jobs and their workers: fork, idle, at work, end.
 *
 * A worker belongs to a job from its fork on. A placement is a lease or an actor that has its
 * resources already and only lacks a worker: it takes an idle one, or waits for a fork. Forks in
 * flight are bounded; each that arrives serves the oldest placement of its job. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "raylet/bundles.h"
#include "base/futex.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"
#include "raylet/members.h"
#include "raylet/memory_monitor.h"
#include "raylet/raylet.h"

enum { PRESTART_MAX = 2, BYE_MS = 500 };

struct placement *placement_free(struct placement *pl) {
    if (!pl) return NULL;
    env_unref(pl->env);
    free(pl->start);
    free(pl);
    return NULL;
}

struct job *job_find(struct raylet *r, uint32_t number) {
    struct job *j = table_get(&r->jobs, number);

    if (j) return j;
    j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->number = number;
    j->r = r;
    j->plain = (struct job_env){.job = j, .refs = 1};
    if (table_set(&r->jobs, number, j) < 0) {
        free(j);
        return NULL;
    }
    return j;
}

/* Three descriptors for a new worker: its socket, and pipes for what it prints. */
static int make_fds(int ours[3], int theirs[3]) {
    int pair[2], pipes[2][2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -SKATE_ESYS;
    for (int i = 0; i < 2; i++)
        if (pipe2(pipes[i], O_CLOEXEC) < 0) {
            for (int k = 0; k < i; k++) close(pipes[k][0]), close(pipes[k][1]);
            close(pair[0]);
            close(pair[1]);
            return -SKATE_ESYS;
        }
    ours[0] = pair[0];
    theirs[0] = pair[1];
    for (int i = 0; i < 2; i++) {
        ours[1 + i] = pipes[i][0];
        theirs[1 + i] = pipes[i][1];
    }
    return 0;
}

static int start_worker(struct raylet *r, struct job *j, struct job_env *env) {
    int ours[3], theirs[3], e;
    struct proc *p;

    if (r->procs.count >= RAYLET_PROCS_MAX) return -SKATE_EFULL;
    if (!r->zygote && !native_env(env)) return -SKATE_EAGAIN;
    e = make_fds(ours, theirs);
    if (e < 0) return e;
    p = proc_new(r, PROC_WORKER, j->number);
    if (p) p->env = env_ref(env);
    e = p ? proc_attach(p, ours[0]) : -SKATE_ENOMEM;
    if (e < 0) close(ours[0]);
    if (e == 0) {
        logs_watch(r, p, ours[1], ours[2]);
        e = native_env(env) ? native_start(r, p, theirs) : zygote_fork(r, p, theirs);
    } else {
        close(ours[1]);
        close(ours[2]);
    }
    for (int i = 0; i < 3; i++) close(theirs[i]);
    if (e < 0) {
        proc_free(p);
        return e;
    }
    proc_welcome(p);
    env->starting++;
    r->starting++;
    return 0;
}

void pool_kick(struct raylet *r, struct job *j) {
    if (!j->known || j->bye_to) return; /* its driver waits until the last of them is silent */
    for (struct job_env *e = &j->plain; e; e = e == &j->plain ? j->envs : e->next)
        while (e->starting < e->waiting && r->starting < RAYLET_STARTING_MAX)
            if (start_worker(r, j, e) < 0) break;
}

static void kick_all(struct raylet *r) {
    uint32_t at = 0;
    struct job *j;

    while ((j = table_next(&r->jobs, &at, NULL)))
        if (j->waiting_count) pool_kick(r, j);
}

static void assign(struct proc *p, struct placement *pl) {
    SKATE_ASSERT(p->work == WORK_NONE || p->work == WORK_IDLE);
    p->used = pl->used;
    p->gpus = pl->gpus;
    p->bundle = pl->bundle;
    p->blocked = false;
    if (pl->is_actor) {
        p->work = WORK_ACTOR;
        actor_host_made(p, pl);
    } else {
        p->work = WORK_LEASE;
        p->owner = pl->owner;
        p->req = pl->req;
        grants_made(p->r, p);
    }
    placement_free(pl);
}

/* An idle worker may own the very tasks that ask for a lease: it cannot be its own worker. One of
 * another runtime environment never serves. */
static bool may_serve(const struct proc *p, const struct placement *pl) {
    return p->env == pl->env && (pl->is_actor || pl->owner != p->id);
}

/* Every placement becomes a process: what waits for one counts, too. */
bool pool_is_full(const struct raylet *r) {
    uint32_t more = r->waiting > r->starting ? r->waiting - r->starting : 0;

    return r->procs.count + more >= RAYLET_PROCS_MAX;
}

void pool_place(struct raylet *r, struct job *j, struct placement *pl) {
    for (struct proc **at = &j->idle, *p; (p = *at); at = &p->idle_next) {
        if (!may_serve(p, pl)) continue;
        *at = p->idle_next;
        p->idle_next = NULL;
        assign(p, pl);
        return;
    }
    pl->next = NULL;
    if (j->waiting_last)
        j->waiting_last->next = pl;
    else
        j->waiting = pl;
    j->waiting_last = pl;
    j->waiting_count++;
    pl->env->waiting++;
    r->waiting++;
    pool_kick(r, j);
}

/* It no longer waits for a worker. */
static void unqueue(struct raylet *r, struct placement *pl) {
    pl->env->job->waiting_count--;
    pl->env->waiting--;
    r->waiting--;
}

void pool_idle(struct proc *p) {
    struct job *j = table_get(&p->r->jobs, p->job);
    struct placement *before = NULL;

    SKATE_ASSERT(p->state == PROC_LIVE);
    for (struct placement *pl = j->waiting; pl; before = pl, pl = pl->next) {
        if (!may_serve(p, pl)) continue;
        *(before ? &before->next : &j->waiting) = pl->next;
        if (j->waiting_last == pl) j->waiting_last = before;
        unqueue(p->r, pl);
        assign(p, pl);
        return;
    }
    p->work = WORK_IDLE;
    p->idle_since_ns = time_now_ns();
    p->idle_next = j->idle;
    j->idle = p;
}

void pool_forked(struct raylet *r, struct proc *p, int pid) {
    struct job *j = table_get(&r->jobs, p->job);

    SKATE_ASSERT(j && p->env->starting > 0 && r->starting > 0);
    p->env->starting--;
    r->starting--;
    p->pid = (uint32_t)pid;
    logs_set_pid(r, p->id, p->pid);
    memory_prefer(p->pid);
    if (p->state == PROC_DOOMED) {
        kill(pid, SIGKILL);
    } else {
        p->state = PROC_LIVE;
        if (p->zygote) r->zygote_served = true;
        pool_idle(p);
    }
    kick_all(r);
}

/* The fork failed, or the zygote died before it answered. */
void pool_fork_lost(struct raylet *r, struct proc *p) {
    struct job *j = table_get(&r->jobs, p->job);

    SKATE_ASSERT(j && p->env->starting > 0 && r->starting > 0);
    p->env->starting--;
    r->starting--;
    proc_free(p);
}

void pool_release(struct proc *p) {
    struct raylet *r = p->r;

    if (p->work == WORK_LEASE && p->used.count == 0 && !p->blocked) r->free_leases--;
    if (p->blocked) { /* its CPUs are back already */
        int64_t cpu = resources_amount(&p->used, "CPU");

        if (cpu && resources_set(&p->used, "CPU", 0) < 0) cpu = 0;
    }
    claim_give(r, p->bundle, &p->used, &p->gpus);
    r->groups->room = true;
    p->bundle = NULL;
    p->used.count = 0;
    p->blocked = false;
    p->work = WORK_NONE;
    p->owner = p->req = 0;
    grants_wake(r);
}

void pool_remove(struct proc *p) {
    struct job *j = table_get(&p->r->jobs, p->job);

    for (struct proc **at = j ? &j->idle : NULL; at && *at; at = &(*at)->idle_next)
        if (*at == p) {
            *at = p->idle_next;
            break;
        }
    p->idle_next = NULL;
    pool_release(p);
}

struct placement *pool_withdraw(struct raylet *r, placement_test is, const void *arg) {
    uint32_t at = 0;
    struct job *j;

    while ((j = table_next(&r->jobs, &at, NULL))) {
        struct placement *last = NULL;

        for (struct placement **link = &j->waiting; *link; link = &(*link)->next) {
            struct placement *pl = *link;

            if (!is(pl, arg)) {
                last = pl;
                continue;
            }
            *link = pl->next;
            if (!pl->next) j->waiting_last = last;
            unqueue(r, pl);
            claim_give(r, pl->bundle, &pl->used, &pl->gpus);
            if (!pl->is_actor && pl->used.count == 0) r->free_leases--;
            return pl;
        }
    }
    return NULL;
}

static bool is_lease_of(const struct placement *pl, const void *arg) {
    const struct placement *want = arg;

    return !pl->is_actor && owner_is(pl->owner, want->owner) &&
           (!want->req || pl->req == want->req);
}

void pool_cancel(struct raylet *r, uint64_t owner, uint64_t req) {
    struct placement want = {.owner = owner, .req = req}, *pl;

    while ((pl = pool_withdraw(r, is_lease_of, &want))) {
        placement_free(pl);
        grants_wake(r);
    }
}

void job_info(struct raylet *r, const struct wire_job_info *m) {
    struct job *j = job_find(r, m->job);
    struct sched_node *own = node_own(r);
    struct proc *driver = proc_find(r, m->driver);
    uint32_t len;
    const void *config = wire_job_info_config(m, &len);
    int64_t cpus;

    if (j) j->named = true;
    if (j && j->known && m->ended) job_end(r, j->number, "its job ended", false);
    if (!j || j->known) return;
    j->config = malloc(len ? len : 1);
    if (!j->config) return;
    memcpy(j->config, config, len);
    j->config_len = len;
    j->driver = m->driver;
    j->known = true;
    if (m->ended) { /* its detached actors may start here */
        j->ended = true;
        j->ended_number = r->next_number;
    }
    if (driver && driver->role == PROC_DRIVER) {
        driver->job = j->number;
        cpus = own ? resources_amount(&own->total, "CPU") / RESOURCE_UNIT : 1;
        for (int64_t i = 0; i < PRESTART_MAX && i < cpus; i++)
            if (start_worker(r, j, &j->plain) < 0) break;
    }
    pool_kick(r, j);
    grants_wake(r);
}

/* Is this worker part of a detached actor's life: the actor, or what works for one? */
static bool outlives_job(struct raylet *r, const struct proc *p) {
    const struct proc *owner;

    if (p->detached) return true;
    owner = p->work == WORK_LEASE ? proc_find(r, p->owner) : NULL;
    return owner && owner->detached;
}

void job_end(struct raylet *r, uint32_t number, const char *why, bool tell_gcs) {
    struct job *j = table_get(&r->jobs, number);
    uint32_t at = 0;
    struct proc *p;

    if (!j || j->ended) return;
    j->ended = true;
    heirs_job_end(r, j->driver);
    j->ended_number = r->next_number;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->role == PROC_WORKER && p->job == number && !outlives_job(r, p)) {
            p->intended = true;
            proc_doom(p, why);
        }
    members_end(r, number, why);
    j->idle = NULL;
    if (tell_gcs) {
        struct wire_job_end m = {.head = {.size = sizeof m, .kind = WIRE_JOB_END,
                                          .fixed = sizeof m},
                                 .job = number, .driver = j->driver};

        gcs_link_send(r, &m, sizeof m);
    }
}

void jobs_mark(struct raylet *r) {
    uint32_t at = 0;
    struct job *j;

    while ((j = table_next(&r->jobs, &at, NULL))) j->named = false;
}

void jobs_sweep(struct raylet *r) {
    uint32_t at = 0;
    struct job *j;

    while ((j = table_next(&r->jobs, &at, NULL)))
        if (j->known && !j->named && !j->ended) job_end(r, j->number, "its job ended", false);
}

static void say_bye(void *arg) {
    struct job *j = arg;
    struct proc *p = proc_find(j->r, j->bye_to);
    struct wire_bye m = {.head = {.size = sizeof m, .kind = WIRE_BYE, .fixed = sizeof m,
                                  .call = j->bye_call,
                                  .flags = j->bye_call ? WIRE_REPLY : 0}};

    j->bye_to = 0;
    j->bye_timer = loop_timer_free(j->bye_timer);
    if (p) proc_send(p, &m, sizeof m);
}

/* Its workers are killed; the answer comes when their pipes are read to the end. */
void job_bye(struct raylet *r, struct proc *p, uint32_t call) {
    struct job none = {.r = r, .bye_to = p->id, .bye_call = call};
    struct job *j = p->job && p->role == PROC_DRIVER ? table_get(&r->jobs, p->job) : NULL;

    if (!j) { /* a member only leaves */
        say_bye(&none);
        return;
    }
    j->bye_to = p->id;
    j->bye_call = call;
    if (j->bye_timer) return; /* said again: this call is answered */
    job_end(r, j->number, "its job ended", true);
    if (!j->logs_open || loop_timer_new(r->loop, say_bye, j, &j->bye_timer) < 0) {
        say_bye(j);
        return;
    }
    loop_timer_start(j->bye_timer, BYE_MS, 0);
}

/* One pipe of a worker of this job was closed. */
void job_log_closed(struct raylet *r, uint32_t number) {
    struct job *j = table_get(&r->jobs, number);

    if (!j) return;
    SKATE_ASSERT(j->logs_open > 0);
    j->logs_open--;
    if (j->bye_to && !j->logs_open) say_bye(j);
}
