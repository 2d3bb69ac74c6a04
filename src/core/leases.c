/* leases.c - which worker runs which task: scheduling classes, leases, depth, return and steal.
 *
 * Ready tasks queue by class (resources and strategy). For a backlog the raylet is asked for
 * leases; with a lease, tasks go straight to the worker's ring. Depth is 1 until the run time of
 * the class is known to be under a millisecond, then as many as fill about two. Idle leases are
 * kept IDLE_LEASE_NS for sequential callers, or until the raylet or another class of ours wants
 * the resources. Under the core mutex; never sleeps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"
#include "core/member.h"
#include "core/report.h"
#include "core/worker_lease.h"

#define IDLE_LEASE_NS INT64_C(50000000)
#define SHORT_TASK_NS 1e6
enum { ASK_MOST = 64, VAIN_MAX = 16, NEAR_MOST = 8, SPREAD = 1 };

static void *copy_of(const void *data, uint32_t len) {
    void *p = malloc(len + 1);

    if (p && len) memcpy(p, data, len);
    return p;
}

static bool place_equal(const struct core_bundle *a, const struct core_bundle *b) {
    return id_equal(&a->group, &b->group) && a->bundle == b->bundle && a->capture == b->capture;
}

int core_class(struct core *c, const struct core_class_opts *o, uint32_t *ret_class) {
    struct sched_class *k;
    int r = core_enter(c);

    if (r < 0) return r;
    for (uint32_t i = 0; i < c->class_count; i++) {
        k = &c->classes[i];
        if (k->opts.resources_len == o->resources_len && k->opts.strategy == o->strategy &&
            k->opts.affinity == o->affinity && place_equal(&k->opts.place, &o->place) &&
            k->opts.env_len == o->env_len &&
            !strcmp(k->opts.labels, o->labels ? o->labels : "") &&
            (!o->env_len || !memcmp(k->opts.env, o->env, o->env_len)) &&
            !memcmp(k->opts.resources, o->resources, o->resources_len)) {
            *ret_class = i;
            core_leave(c);
            return 0;
        }
    }
    k = realloc(c->classes, (c->class_count + 1) * sizeof *k);
    if (!k) return core_leave(c), -SKATE_ENOMEM;
    c->classes = k;
    k += c->class_count;
    *k = (struct sched_class){.opts = *o, .head = NONE, .tail = NONE};
    k->opts.resources = copy_of(o->resources, o->resources_len);
    k->opts.env = copy_of(o->env, o->env_len);
    k->opts.name = strdup(o->name ? o->name : "");
    k->opts.labels = strdup(o->labels ? o->labels : "");
    if (!k->opts.resources || !k->opts.name || !k->opts.env || !k->opts.labels)
        return core_leave(c), -SKATE_ENOMEM;
    *ret_class = c->class_count++;
    core_leave(c);
    return 0;
}

struct worker *worker_of(struct core *c, uint64_t proc) {
    struct skate_id key = map_key(proc);
    uint32_t k = map_get(&c->workers, &key);

    if (k != MAP_NONE) {
        for (uint32_t i = 0; i < c->classes[k].worker_count; i++)
            if (c->classes[k].workers[i]->proc == proc) return c->classes[k].workers[i];
        return NULL;
    }
    for (uint32_t i = 0; i < c->actor_count; i++)
        if (c->actor_v[i]->worker.proc == proc) return &c->actor_v[i]->worker;
    return NULL;
}

static void make_dirty(struct core *c, struct sched_class *k) {
    if (k->dirty) return;
    k->dirty = true;
    c->dirty_classes++;
}

void class_enqueue(struct core *c, uint32_t index, bool front) {
    struct task *t = task_get(c, index);
    struct sched_class *k = &c->classes[t->cls];

    t->state = TASK_QUEUED;
    if (front || k->head == NONE) {
        t->next = k->head;
        k->head = index;
        if (k->tail == NONE) k->tail = index;
    } else {
        t->next = NONE;
        task_get(c, k->tail)->next = index;
        k->tail = index;
    }
    k->queued++;
    make_dirty(c, k);
}

/* Take a task out of the queue of its class; false: it is not there. */
bool class_unqueue(struct core *c, uint32_t index) {
    struct sched_class *k = &c->classes[task_get(c, index)->cls];
    uint32_t before = NONE, at = k->head;

    for (; at != NONE && at != index; at = task_get(c, at)->next) before = at;
    if (at == NONE) return later_take(c, index);
    if (before == NONE)
        k->head = task_get(c, at)->next;
    else
        task_get(c, before)->next = task_get(c, at)->next;
    if (k->tail == at) k->tail = before;
    k->queued--;
    make_dirty(c, k);
    return true;
}

/* ---- asking and returning ---- */

/* A leased worker has nothing of ours, or something again. Told twice, it counts once. */
static void set_idle(struct core *c, struct worker *w, bool idle) {
    if (w->idle == idle) return;
    w->idle = idle;
    c->idle_workers += idle ? 1 : -1u;
}

static void set_leaving(struct core *c, struct worker *w) {
    c->leaving_workers += !w->leaving;
    w->leaving = true;
}

static void lease_return(struct core *c, struct worker *w, bool end_process) {
    struct wire_lease_return m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_RETURN, .fixed = sizeof m},
        .worker = w->proc, .kill = w->retired ? 2 : end_process};
    struct sched_class *k = &c->classes[w->cls];
    struct skate_id key = map_key(w->proc);

    (void)map_remove(&c->workers, &key);
    for (uint32_t i = 0; i < k->worker_count; i++)
        if (k->workers[i] == w) k->workers[i] = k->workers[--k->worker_count];
    set_idle(c, w, false);
    c->leaving_workers -= w->leaving;
    if (w->link && w->link->lease == w) w->link->lease = NULL;
    if (!w->dead) (void)proc_send(c, proc_raylet(w->proc), &m, sizeof m, BELL_URGENT);
    free(w);
}

static void return_idle(struct core *c, const struct sched_class *except) {
    for (uint32_t i = 0; i < c->class_count; i++) {
        struct sched_class *k = &c->classes[i];

        if (k == except || k->queued) continue;
        for (uint32_t j = k->worker_count; j-- > 0;)
            if (k->workers[j]->inflight == 0) lease_return(c, k->workers[j], false);
    }
}

static void lease_ask(struct core *c, struct sched_class *k, uint32_t backlog) {
    struct wire_lease_req *m;
    uint64_t stack[128], near[NEAR_MOST];
    struct wire_buf b;
    uint32_t nears = 0, want = backlog < ASK_MOST ? backlog : ASK_MOST;

    if (k->asked >= want || (k->asked && want < k->asked * 2)) return;
    if (!k->request) k->request = ++c->next_seq;
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_LEASE_REQ);
    m->req = k->request;
    m->owner = c->info.proc;
    m->job = c->info.job;
    m->count = want;
    m->strategy = k->opts.strategy;
    m->affinity = k->opts.affinity;
    m->group = k->opts.place.group;
    m->bundle = k->opts.place.bundle;
    WIRE_PUT(&b, lease_req, resources, k->opts.resources, k->opts.resources_len);
    if (k->opts.strategy == 0) nears = class_near(c, k, near, NEAR_MOST);
    if (nears) WIRE_PUT(&b, lease_req, locality, near, nears * sizeof *near);
    WIRE_PUT(&b, lease_req, name, k->opts.name, strlen(k->opts.name));
    WIRE_PUT(&b, lease_req, env, k->opts.env, k->opts.env_len);
    WIRE_PUT(&b, lease_req, labels, k->opts.labels, strlen(k->opts.labels));
    if (wire_end(&b) == 0 && sock_send(c, b.p, b.len) == 0) k->asked = want;
    wire_release(&b);
    if (k->worker_count == 0) return_idle(c, k);
}

static void lease_cancel(struct core *c, struct sched_class *k) {
    struct wire_lease_cancel m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_CANCEL, .fixed = sizeof m},
        .req = k->request, .owner = c->info.proc};

    (void)sock_send(c, &m, sizeof m);
    k->asked = 0;
    k->request = 0;
}

void core_leave_job(struct core *c) {
    if (core_enter(c) < 0) return;
    for (uint32_t i = 0; i < c->class_count; i++)
        if (c->classes[i].asked) lease_cancel(c, &c->classes[i]);
    return_idle(c, NULL);
    core_leave(c);
}

/* An idle worker and nothing queued: take unstarted tasks back from a busy one. */
static void try_steal(struct core *c, struct sched_class *k) {
    for (uint32_t i = 0; i < k->worker_count; i++) {
        struct worker *w = k->workers[i];
        struct wire_steal m = {.head = {.size = sizeof m, .kind = WIRE_STEAL, .fixed = sizeof m},
                               .max = w->inflight / 2};

        if (w->inflight < 2 || w->stealing || w->blocked) continue;
        w->stealing = true;
        (void)link_send(c, w->link, &m, sizeof m, BELL_URGENT, 0);
        return;
    }
}

static void refuse(struct core *c, uint64_t proc) {
    struct wire_lease_return m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_RETURN, .fixed = sizeof m}, .worker = proc};

    (void)proc_send(c, proc_raylet(proc), &m, sizeof m, BELL_URGENT);
}

void leases_on_grant(struct core *c, const struct wire_lease_grant *m) {
    struct skate_id key = map_key(m->worker);
    struct sched_class *k = NULL;
    struct worker *w = calloc(1, sizeof *w);

    for (uint32_t i = 0; i < c->class_count; i++)
        if (c->classes[i].request == m->req && m->req) k = &c->classes[i];
    if (!w) return;
    w->proc = m->worker;
    w->link = link_get(c, m->worker);
    if (!k) { /* granted while we cancelled */
        refuse(c, m->worker);
        return free(w);
    }
    if (k->asked && --k->asked == 0) k->request = 0;
    make_dirty(c, k);
    if (!w->link || w->link->death) return free(w);
    w->cls = (uint32_t)(k - c->classes);
    if (k->worker_count == k->worker_cap) {
        uint32_t cap = k->worker_cap ? k->worker_cap * 2 : 8;
        struct worker **grown = realloc(k->workers, cap * sizeof(void *));

        if (!grown) return free(w);
        k->workers = grown;
        k->worker_cap = cap;
    }
    if (map_put(&c->workers, &key, w->cls) < 0) return free(w);
    if (m->tell) lease_tell(c, k, w, m);
    k->workers[k->worker_count++] = w;
    w->link->lease = w;
    set_idle(c, w, true);
    if (!k->queued) try_steal(c, k);
}

/* No lease will ever come: what waits for one fails. */
void leases_on_failed(struct core *c, const struct wire_lease_failed *m) {
    uint32_t len;
    const char *text = wire_lease_failed_text(m, &len);
    char copy[512];

    (void)snprintf(copy, sizeof copy, "%.*s", (int)len, len ? text : "");
    for (uint32_t i = 0; i < c->class_count; i++) {
        if (c->classes[i].request != m->req || !m->req) continue;
        c->classes[i].asked = 0;
        c->classes[i].request = 0;
        while (c->classes[i].head != NONE) {
            uint32_t index = c->classes[i].head;

            c->classes[i].head = task_get(c, index)->next;
            if (c->classes[i].head == NONE) c->classes[i].tail = NONE;
            c->classes[i].queued--;
            c->waiting--;
            task_fail(c, index, copy);
        }
    }
}

/* ---- dispatch ---- */

/* How many tasks like this one may be on a worker. */
static uint32_t depth(struct core *c, const struct task *t) {
    double n, ns = t->function == NONE ? -1 : c->function_v[t->function].run_ns;

    if (ns < 0 || ns >= SHORT_TASK_NS) return 1;
    n = 2 * SHORT_TASK_NS / (ns + 1);
    return n > LIMIT_DEPTH ? LIMIT_DEPTH : n < 2 ? 2 : (uint32_t)n;
}

/* near: the task would rather run on this raylet's node; only: nowhere else. */
static struct worker *pick(const struct sched_class *k, uint32_t most, uint64_t near, bool only) {
    struct worker *best = NULL, *best_near = NULL;

    for (uint32_t i = 0; i < k->worker_count; i++) {
        struct worker *w = k->workers[i], **of = &best;

        if (w->blocked || w->leaving || w->inflight >= most) continue;
        if (near && proc_raylet(w->proc) == near) of = &best_near;
        if (!*of || w->inflight < (*of)->inflight) *of = w;
    }
    return best_near || only ? best_near : best;
}

static uint32_t backlog_of(const struct sched_class *k) {
    uint32_t n = k->queued;

    for (uint32_t i = 0; i < k->worker_count; i++)
        if (k->workers[i]->inflight > 1) n += k->workers[i]->inflight - 1;
    return n;
}

static void dispatch(struct core *c, struct sched_class *k) {
    uint32_t backlog;

    while (k->head != NONE) {
        uint32_t index = k->head, next = task_get(c, index)->next;
        struct task *t = task_get(c, index);
        uint64_t near = t->dep_count && k->opts.strategy == 0 ? task_near(c, t) : 0;
        struct worker *w = pick(k, depth(c, t), near, near && !t->sought && !k->asked);
        bool was_idle = w && w->inflight == 0;
        int r;

        if (!w) break; /* lease_ask looks for one near its arguments; then any will do */
        r = task_push(c, index, w);
        if (r == -SKATE_EAGAIN && was_idle) link_want_room(c, w->link);
        if (r == -SKATE_EAGAIN || r == -SKATE_EDEAD) break; /* room, or its death, comes later */
        k->head = next;
        if (next == NONE) k->tail = NONE;
        k->queued--;
        if (r < 0) {
            c->waiting--;
            task_fail(c, index, "worker_crashed\nthe task could not be sent to its worker");
        } else
            set_idle(c, w, false);
        if (k->opts.strategy == SPREAD) set_leaving(c, w); /* the next one goes elsewhere */
    }
    backlog = backlog_of(k);
    if (backlog)
        lease_ask(c, k, backlog);
    else if (k->asked && !k->worker_count) /* else by the tick: there may be one again at once */
        lease_cancel(c, k);
}

/* A whole node is lost: requests that our raylet had passed on to it went with it. Asked again, the
 * count replaces what still waits; what comes too much is returned. */
void leases_on_node_died(struct core *c) {
    for (uint32_t i = 0; i < c->class_count; i++) {
        struct sched_class *k = &c->classes[i];
        uint32_t backlog = backlog_of(k);

        if (!k->asked) continue;
        if (backlog) {
            k->asked = 0;
            lease_ask(c, k, backlog);
        } else
            lease_cancel(c, k);
    }
}

/* Full paths (of frames that free objects, say) may have room again. */
void room_again(struct core *c) {
    c->room_wanted = false;
    for (uint32_t i = 0; i < c->class_count; i++)
        if (c->classes[i].queued) make_dirty(c, &c->classes[i]);
    for (uint32_t i = 0; i < c->actor_count; i++)
        if (c->actor_v[i]->queued && !c->actor_v[i]->worker.inflight)
            actor_flush(c, c->actor_v[i]);
}

void classes_dispatch(struct core *c) {
    while (c->dirty_classes) {
        while (c->failing != NONE) {
            uint32_t index = c->failing;

            c->failing = task_get(c, index)->next;
            c->dirty_classes--;
            c->waiting--;
            if (!task_fail_dep(c, index)) task_fail(c, index, "object_lost\na dependency is gone");
        }
        for (uint32_t i = 0; i < c->class_count; i++)
            if (c->classes[i].dirty) {
                c->classes[i].dirty = false;
                c->dirty_classes--;
                dispatch(c, &c->classes[i]);
            }
    }
}

void class_worker_done(struct core *c, struct worker *w) {
    struct sched_class *k;

    if (w->cls == NONE) { /* an actor */
        actor_call_done(c, (void *)((uint8_t *)w - offsetof(struct actor, worker)));
        return;
    }
    k = &c->classes[w->cls];
    k->vain = 0;
    if (w->inflight == 0) {
        set_idle(c, w, true);
        w->idle_since = 0; /* stamped by the next tick */
        if (w->leaving) return lease_return(c, w, false);
        if (!k->queued) try_steal(c, k);
    }
    if (k->queued) make_dirty(c, k);
}

/* What came with the word is used first: else those who wait for one another's would pass a lease
 * round without end, and nobody would run a task on it. */
void leases_on_reclaim(struct core *c) {
    if (c->dirty_classes) classes_dispatch(c);
    for (uint32_t i = 0; i < c->class_count; i++) {
        struct sched_class *k = &c->classes[i];

        for (uint32_t j = k->worker_count; j-- > 0;) {
            struct worker *w = k->workers[j];

            if (w->inflight == 0)
                lease_return(c, w, false);
            else
                set_leaving(c, w); /* after what it has; the queue asks anew */
        }
        if (k->queued) make_dirty(c, k);
    }
}

void leases_tick(struct core *c) {
    int64_t now;

    report_tick(c);
    for (uint32_t i = 0; i < c->class_count; i++)
        if (c->classes[i].asked && backlog_of(&c->classes[i]) == 0) lease_cancel(c, &c->classes[i]);
    if (!c->idle_workers) return;
    now = time_now_ns();
    for (uint32_t i = 0; i < c->class_count; i++)
        for (uint32_t j = c->classes[i].worker_count; j-- > 0;) {
            struct worker *w = c->classes[i].workers[j];

            if (w->inflight) continue;
            if (w->idle_since == 0)
                w->idle_since = now;
            else if (now - w->idle_since > IDLE_LEASE_NS) {
                if (!c->classes[i].queued)
                    lease_return(c, w, false);
                else /* no lease came nearer to its arguments: there may be none, ever */
                    make_dirty(c, &c->classes[i]);
            }
        }
    classes_dispatch(c);
}

/* ---- tasks that come back ---- */

static bool take_back(struct core *c, struct worker *w, const struct skate_id *id) {
    uint32_t at = map_get(&c->tasks, id);

    if (at == MAP_NONE || !task_unpush(c, w, at)) return false;
    c->waiting++;
    if (task_get(c, at)->cancelled)
        task_fail_cancelled(c, at);
    else
        class_enqueue(c, at, true);
    return true;
}

void leases_on_returned(struct core *c, uint64_t src, const struct wire_returned *m) {
    struct worker *w = worker_of(c, src);
    uint32_t n;
    const struct skate_id *ids = wire_returned_tasks(m, &n);

    if (!w || w->cls == NONE) return;
    w->stealing = false;
    if (m->blocked == 1) w->blocked = true;
    if (m->blocked == 2) {
        w->retired = true;
        set_leaving(c, w);
    }
    while (n-- > 0) (void)take_back(c, w, &ids[n]); /* from the last, so that order is kept */
    if (w->inflight == 0 && !w->blocked) class_worker_done(c, w);
}

void leases_on_unblocked(struct core *c, uint64_t src) {
    struct worker *w = worker_of(c, src);

    if (!w || w->cls == NONE) return;
    w->blocked = false;
    if (w->inflight == 0) set_idle(c, w, true);
    make_dirty(c, &c->classes[w->cls]);
}

/* Workers of this class die before they run anything: its tasks would wait for ever. */
static void class_give_up(struct core *c, struct sched_class *k, const char *death) {
    char text[LIMIT_INLINE_VALUE];

    (void)snprintf(text, sizeof text, "%.1500s; %u workers in a row died before they ran a task",
                   death, k->vain);
    k->vain = 0;
    while (k->head != NONE) {
        uint32_t index = k->head;

        if (!class_unqueue(c, index)) return;
        c->waiting--;
        task_fail(c, index, text);
    }
}

void leases_on_died(struct core *c, uint64_t proc, struct link *l) {
    struct skate_id key = map_key(proc);
    struct worker *w = map_get(&c->workers, &key) == MAP_NONE ? NULL : worker_of(c, proc);
    uint64_t started = UINT64_MAX;
    char text[LIMIT_INLINE_VALUE];
    uint32_t at, n, cls;
    bool vain;

    if (!w) return;
    cls = w->cls;
    if (l->state == LINK_OPEN) started = at_load_acquire(&l->out.shared->started);
    (void)snprintf(text, sizeof text, "%s\n%s",
                   l->node_lost ? "node_died" : l->cause ? "out_of_memory" : "worker_crashed",
                   l->death ? l->death : "it died");
    n = w->inflight;
    at = w->head;
    vain = n > 0;
    w->dead = true;
    c->deep_workers -= n > 1;
    w->inflight = 0;
    make_dirty(c, &c->classes[w->cls]);
    lease_return(c, w, false);
    while (n-- > 0) {
        struct task *t = task_get(c, at);
        uint32_t next = t->next;
        int64_t pause_ns;

        if (t->sequence <= started) vain = false;
        if (later_again(c, at, t->sequence <= started, l->cause, &pause_ns)) {
            c->waiting++;
            if (l->node_lost && t->attempt <= 1) /* not its fault: goes first */
                class_enqueue(c, at, true);
            else
                later_add(c, at, pause_ns);
        } else if (t->cancelled) {
            c->waiting++;
            task_fail_cancelled(c, at);
        } else
            task_fail(c, at, text);
        at = next;
    }
    if (vain && ++c->classes[cls].vain >= VAIN_MAX) class_give_up(c, &c->classes[cls], text);
}
