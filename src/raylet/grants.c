/* grants.c - lease requests served: here, or passed to a node that can, or kept.
 *
 * All requests of an owner wait at its own raylet. One that is passed on is granted there at once
 * or comes back (hops + 1); the GCS, which chose that node, then hears that it was full.
 * Nothing here blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raylet/bundles.h"
#include "raylet/demand.h"
#include "raylet/links.h"
#include "raylet/raylet.h"

enum { RECLAIM_MIN_MS = 10, RECLAIM_MAX_MS = 160, FREE_LEASES_MIN = 8 };
#define NO_SUCH_NODE                                                                           \
    "unschedulable\nThe node specified via NodeAffinitySchedulingStrategy doesn't exist any "   \
    "more or is infeasible, and soft=False was specified."

void grants_wake(struct raylet *r) { loop_post(r->loop, &r->sched_task); }

/* An actor is about to be placed: what it needs is not given away for a moment. */
static bool keeps_free(struct raylet *r, const struct resources *want) {
    struct resources both = r->coming;

    if (r->coming_until_ns <= loop_now_ns(r->loop)) return true;
    for (uint32_t i = 0; i < want->count; i++)
        if (resources_set(&both, want->v[i].name,
                          want->v[i].amount + resources_amount(&r->coming, want->v[i].name)) < 0)
            return true;
    return resources_fit(&node_own(r)->avail, &both, NULL);
}

/* Zero amounts are no needs: without them a class that needs nothing is seen as such. */
static void drop_zeros(struct resources *want) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < want->count; i++)
        if (want->v[i].amount > 0) want->v[n++] = want->v[i];
    want->count = n;
}

/* Leases that need nothing always fit: they are bounded by a count of their own. */
static bool room_for_free(const struct raylet *r, const struct resources *want) {
    const struct sched_node *own = sched_view_find(&r->view, r->node);
    int64_t cpus = resources_amount(&own->total, "CPU") / RESOURCE_UNIT;

    if (want->count > 0) return true;
    return r->free_leases < (uint32_t)(cpus * 4 > FREE_LEASES_MIN ? cpus * 4 : FREE_LEASES_MIN);
}

bool grants_try(struct raylet *r, const struct lease_ask *a, const struct resources *want,
                struct bundle *b) {
    struct job *j;
    struct placement *pl;

    if (!claim_fits(r, b, want) || !room_for_free(r, want) || pool_is_full(r)) return false;
    j = job_find(r, a->job);
    pl = j ? calloc(1, sizeof *pl) : NULL;
    if (!pl) return false;
    *pl = (struct placement){.owner = a->owner, .req = a->req, .used = *want, .bundle = b,
                             .env = env_get(j, a->env, a->env_len)};
    if (!pl->env) return placement_free(pl), false;
    claim_take(r, b, want, &pl->gpus);
    if (want->count == 0) r->free_leases++;
    pool_place(r, j, pl);
    return true;
}

static void send_request(struct raylet *r, uint32_t node, const struct lease_ask *a,
                         const struct lease_class *c, uint32_t hops) {
    uint8_t packed[RESOURCES_MAX * 80];
    size_t len = resources_pack(&c->want, packed, sizeof packed);
    uint64_t room[512];
    struct wire_buf b;
    struct wire_lease_req *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LEASE_REQ);
    m->req = a->req;
    m->owner = a->owner;
    m->affinity = c->affinity ? proc_make(c->affinity, 0) : 0;
    m->job = a->job;
    m->count = a->count;
    m->strategy = c->strategy;
    m->hops = hops;
    m->group = a->group;
    m->bundle = a->bundle;
    WIRE_PUT(&b, lease_req, resources, packed, len);
    WIRE_PUT(&b, lease_req, name, a->name, strlen(a->name));
    WIRE_PUT(&b, lease_req, env, a->env, a->env_len);
    WIRE_PUT(&b, lease_req, labels, c->labels, strlen(c->labels));
    if (wire_end(&b) == 0) route_send(r, proc_make(node, 0), b.p, b.len);
    wire_release(&b);
}

void grants_pass(struct raylet *r, uint32_t node, const struct lease_ask *a,
                 const struct resources *want, uint32_t hops) {
    struct lease_class c = {.want = *want};

    send_request(r, node, a, &c, hops);
}

/* ---- requests that arrive ---- */

/* Passed here by the owner's raylet: what fits now, and the rest back. */
static void serve_foreign(struct raylet *r, struct lease_ask *a, const struct lease_class *c,
                          uint32_t hops) {
    if (hops > 1) return;
    if (links_is_dead(r, proc_node(a->owner))) return; /* nobody would ever return it */
    while (a->count > 0 && grants_try(r, a, &c->want, NULL)) {
        demand_granted(r, &c->want);
        a->count--;
    }
    if (a->count > 0) {
        demand_refused(r, &c->want);
        send_request(r, proc_node(a->owner), a, c, hops + 1);
        grants_reclaim(r);
    }
}

/* The owner's tasks of this class fail: they would wait for an answer that never comes. */
static void refuse(struct raylet *r, const struct wire_lease_req *m, const char *why) {
    char text[300];

    snprintf(text, sizeof text, "unschedulable\n%s", why);
    node_log("a lease request is refused: %s", why);
    lease_fail(r, m->owner, m->req, text);
}

static void refuse_full(struct raylet *r, const struct wire_lease_req *m, int e) {
    char why[250];

    snprintf(why, sizeof why, "too many different demands wait on node %u (%s; its most are %d "
             "demands, %d requests): let tasks ask for the same amounts, or submit fewer at once",
             r->node, skate_strerror(e), LEASES_CLASSES_MAX, LEASES_REQUESTS_MAX);
    refuse(r, m, why);
}

void grants_request(struct raylet *r, uint64_t src, const struct wire_lease_req *m) {
    struct lease_ask a = {.req = m->req, .owner = m->owner, .job = m->job, .count = m->count,
                          .group = m->group, .bundle = m->bundle};
    struct lease_class c = {.strategy = m->strategy, .affinity = proc_node(m->affinity)};
    bool from_raylet = proc_number(src) == 0;
    const uint64_t *near;
    const char *name, *labels;
    const void *packed;
    uint32_t len;
    int e;

    if (!from_raylet && src != m->owner) return;
    packed = wire_lease_req_resources(m, &len);
    e = resources_unpack(&c.want, packed, len);
    labels = wire_lease_req_labels(m, &len);
    if (!labels_copy(c.labels, labels, len) || !labels_is_selector(c.labels)) e = -SKATE_EPROTO;
    (void)wire_lease_req_env(m, &a.env_len);
    if (e < 0 || a.env_len > ENV_BYTES_MAX || m->strategy >= SCHED_STRATEGIES) {
        refuse(r, m, "its demand cannot be read: at most 32 resources with names of 63 bytes, and "
               "labels of 1023 bytes");
        return;
    }
    drop_zeros(&c.want);
    name = wire_lease_req_name(m, &len);
    snprintf(a.name, sizeof a.name, "%.*s", (int)len, len ? name : "");
    near = wire_lease_req_locality(m, &len);
    a.locality_count = len < LEASES_LOCALITY_MAX ? len : LEASES_LOCALITY_MAX;
    memcpy(a.locality, near, a.locality_count * sizeof *near);
    a.env = (void *)(uintptr_t)wire_lease_req_env(m, &a.env_len);
    if (!id_is_nil(&m->group)) {
        group_asks_request(r, src, &a, &c.want, m->hops);
        return;
    }
    if (proc_node(m->owner) != r->node) {
        serve_foreign(r, &a, &c, m->hops);
        return;
    }
    if (!proc_find(r, m->owner)) return;
    r->reclaim_ms = RECLAIM_MIN_MS;
    e = leases_put(r->leases, &a, &c, from_raylet);
    if (e < 0) refuse_full(r, m, e);
    if (e == 0 && from_raylet && src != r->self) { /* it had no room: the GCS shall know */
        const struct lease_ask *back = leases_find(r->leases, m->owner, m->req);

        if (back) back->cls->full = proc_node(src);
    }
    grants_wake(r);
}

/* ---- the pass over what waits ---- */

void grants_tell_never(struct raylet *r, const struct lease_ask *a, const char *text) {
    struct job *j = job_find(r, a->job);
    uint64_t room[128];
    struct wire_buf b;
    struct wire_notice *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_NOTICE);
    m->level = 1;
    m->kind = 1;
    m->job = a->job;
    WIRE_PUT(&b, notice, name, a->name, strlen(a->name));
    WIRE_PUT(&b, notice, text, text, strlen(text));
    if (j && wire_end(&b) == 0 && j->driver) route_send(r, j->driver, b.p, b.len);
    wire_release(&b);
}

static void tell_infeasible(struct raylet *r, const struct sched_ask *ask,
                            const struct lease_ask *a) {
    struct skate_error text = {""};
    char who[96];

    snprintf(who, sizeof who, "Task %s", a->name);
    sched_explain(&r->view, ask, who, &text);
    grants_tell_never(r, a, text.text);
}

void grants_no_node(struct raylet *r, struct lease_ask *a) {
    lease_fail(r, a->owner, a->req, NO_SUCH_NODE);
    leases_cancel(r->leases, a->owner, a->req);
}

/* One of its tasks has a place: the next one's arguments may lie elsewhere. */
static void next_locality(struct lease_ask *a) {
    if (!a->locality_count) return;
    a->locality_count--;
    memmove(a->locality, a->locality + 1, a->locality_count * sizeof *a->locality);
}

void grants_pass_on(struct raylet *r, uint32_t node, struct lease_ask *a, uint32_t n) {
    struct lease_ask part = *a;

    part.count = n;
    send_request(r, node, &part, a->cls, 1);
    next_locality(a);
    leases_served(r->leases, a, n);
}

/* Alone, all of the rule is decided here. True: here, now. */
static bool alone_here(struct raylet *r, struct lease_class *c, const struct sched_ask *ask) {
    struct lease_ask *a = c->first;
    uint32_t node;
    int e = sched_pick(&r->view, ask, &node);

    if (e == -SKATE_ENOENT && !sched_is_hard(c->strategy) && !c->told) {
        c->told = true;
        tell_infeasible(r, ask, a);
    }
    if (e == -SKATE_ENOENT && sched_is_hard(c->strategy)) grants_no_node(r, a);
    return e == 0 && node == r->node;
}

/* By the own row; what is not certain is the GCS's to say. */
static bool runs_here(struct raylet *r, struct lease_class *c, const struct sched_ask *ask) {
    switch (sched_here(&r->view, ask)) {
    case SCHED_HERE: return true;
    case SCHED_MAYBE: return c->here > 0 || demand_settled(r, c);
    default: return c->here > 0 && resources_fit(&node_own(r)->avail, &c->want, NULL);
    }
}

/* One lease of the class's first request. False: the class must wait. */
static bool serve_one(struct raylet *r, struct lease_class *c) {
    struct lease_ask *a = c->first;
    struct sched_ask ask = {.want = &c->want, .strategy = c->strategy, .affinity = c->affinity,
                            .locality = a->locality, .locality_count = a->locality_count,
                            .labels = c->labels};
    struct job *j = table_get(&r->jobs, a->job);

    if (!j || !j->known) return false;
    if (demand_alone(r) ? !alone_here(r, c, &ask) : !runs_here(r, c, &ask)) return c->first != a;
    if (!keeps_free(r, &c->want) || !grants_try(r, a, &c->want, NULL)) return false;
    if (c->here > 0) {
        demand_granted(r, &c->want);
        c->here--;
    }
    next_locality(a);
    leases_served(r->leases, a, 1);
    return true;
}

void grants_run(void *arg) {
    struct raylet *r = arg;
    struct lease_class *c;
    uint32_t at = 0;
    bool left;

    if (!r->node || r->ending) return;
    left = groups_run(r);
    left = actor_host_retry(r) || left;
    while ((c = leases_next_class(r->leases, &at))) {
        while (c->first && serve_one(r, c)) {}
        left = left || c->first;
    }
    leases_turn(r->leases);
    demand_grew(r);
    demand_report_soon(r);
    if (left) grants_reclaim(r);
}

/* ---- leases ---- */

void grants_made(struct raylet *r, struct proc *worker) {
    struct proc *owner = proc_find(r, worker->owner);
    bool special = worker->bundle || worker->gpus.ids;
    char devices[GPUS_MAX * 4];
    uint64_t room[64];
    struct wire_buf b;
    struct wire_lease_grant *m;

    if (owner) channels_open(owner, worker, 0);
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LEASE_GRANT);
    m->req = worker->req;
    m->worker = worker->id;
    m->pid = worker->pid;
    m->tell = special || worker->told;
    worker->told = special;
    if (worker->gpus.ids) {
        gpus_text(&worker->gpus, r->set.gpu_names, devices, sizeof devices);
        WIRE_PUT(&b, lease_grant, devices, devices, strlen(devices));
    }
    if (wire_end(&b) == 0) route_send(r, worker->owner, b.p, b.len);
    wire_release(&b);
}

static bool is_like(const struct proc *p, const struct lease_class *c) {
    if (c->want.count != p->used.count) return false;
    for (uint32_t i = 0; i < c->want.count; i++)
        if (resources_amount(&p->used, c->want.v[i].name) != c->want.v[i].amount) return false;
    return true;
}

/* Does its owner wait for another lease like this one? */
static bool wants_more(struct raylet *r, const struct proc *p) {
    struct lease_class *c;
    uint32_t at = 0;

    while ((c = leases_next_class(r->leases, &at))) {
        if (!is_like(p, c)) continue;
        for (const struct lease_ask *a = c->first; a; a = a->next)
            if (a->owner == p->owner) return true;
    }
    return false;
}

void grants_return(struct raylet *r, uint64_t src, const struct wire_lease_return *m) {
    struct proc *p = proc_find(r, m->worker);
    struct job *j;

    if (!p || p->work != WORK_LEASE || p->owner != src) return;
    r->reclaim_ms = RECLAIM_MIN_MS;
    /* With work left for it, its kind has had its turn of some length. Without, the next may be
     * asked back as soon as it is granted: else each kind of a few tasks would take a tick. */
    if (!wants_more(r, p)) table_take(&r->reclaimed, src);
    pool_release(p);
    j = table_get(&r->jobs, p->job);
    if (m->kill == 2 && p->state == PROC_LIVE && j && !j->ended) {
        p->intended = p->retiring = true;
        snprintf(p->reason, sizeof p->reason, "it has run as many tasks as its function allows");
        return;
    }
    if (m->kill || p->state != PROC_LIVE || !j || j->ended) {
        p->intended = true;
        proc_doom(p, "its owner ended it");
        return;
    }
    pool_idle(p);
}

/* A worker that waits lends its CPUs, nothing else; on waking it has them at once, even if that
 * makes the node's amount negative for a while. */
void grants_blocked(struct proc *p, bool blocked) {
    struct resources *avail = p->bundle ? &p->bundle->avail : &node_own(p->r)->avail;
    struct resources cpu = {0};
    int64_t amount = resources_amount(&p->used, "CPU");

    if (p->role != PROC_WORKER || p->blocked == blocked || p->work < WORK_LEASE) return;
    p->blocked = blocked;
    if (p->work == WORK_LEASE && p->used.count == 0)
        p->r->free_leases = blocked ? p->r->free_leases - 1 : p->r->free_leases + 1;
    if (amount && resources_set(&cpu, "CPU", amount) == 0) {
        if (blocked)
            resources_give(avail, &cpu);
        else
            resources_take(avail, &cpu);
    }
    if (blocked) grants_wake(p->r);
}

/* ---- reclaim ---- */

/* Does something wait that this lease keeps from running: of another owner, or another class? */
static bool in_the_way(struct raylet *r, const struct proc *p) {
    struct lease_class *c;
    uint32_t at = 0;

    if (group_asks_in_the_way(r, p)) return true;
    if (p->bundle) return false;
    if (actor_host_waiting(r)) return true;
    while ((c = leases_next_class(r->leases, &at))) {
        bool same = is_like(p, c);

        for (const struct lease_ask *a = c->first; a; a = a->next)
            if (!c->told && (!same || c->labels[0] || a->owner != p->owner ||
                             !env_is(p->env, a->env, a->env_len)))
                return true;
    }
    return false;
}

void grants_reclaim(struct raylet *r) {
    struct wire_lease_reclaim m = {.head = {.size = sizeof m, .kind = WIRE_LEASE_RECLAIM,
                                            .fixed = sizeof m}};
    struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&r->procs, &at, NULL))) {
        if (p->work != WORK_LEASE || p->state != PROC_LIVE || p->blocked) continue;
        if (table_get(&r->reclaimed, p->owner) || !in_the_way(r, p)) continue;
        if (table_set(&r->reclaimed, p->owner, r) < 0) return;
        route_send(r, p->owner, &m, sizeof m);
    }
    if (!loop_timer_is_active(r->reclaim_timer))
        loop_timer_start(r->reclaim_timer, r->reclaim_ms, 0);
}

void grants_reclaim_tick(void *arg) {
    struct raylet *r = arg;

    table_release(&r->reclaimed);
    r->reclaim_ms = r->reclaim_ms < RECLAIM_MAX_MS ? r->reclaim_ms * 2 : RECLAIM_MAX_MS;
    actor_host_expire(r);
    groups_expire(r);
    loop_post(r->loop, &r->sched_task);
}

/* What it had leased may be in the middle of its tasks: never used again. */
void grants_owner_died(struct raylet *r, uint64_t owner) {
    bool whole = proc_number(owner) == 0;
    struct proc *p;
    uint32_t at = 0;

    if (!whole) leases_drop_owner(r->leases, owner); /* of others' nodes none waits here */
    group_asks_owner_died(r, owner);
    pool_cancel(r, owner, 0);
    while ((p = table_next(&r->procs, &at, NULL))) {
        if (p->work != WORK_LEASE) continue;
        if (p->owner == owner || (whole && proc_node(p->owner) == proc_node(owner))) {
            p->intended = true;
            proc_doom(p, "the owner of its lease died");
        }
    }
}
