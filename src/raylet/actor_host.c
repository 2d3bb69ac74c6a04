/* actor_host.c - actors that the GCS places here: resources, a worker, the frame to it.
 *
 * `placing` must fit at the moment of placement, `held` is kept for life. What does not fit now
 * waits a moment while idle leases are asked back, then is refused; the GCS knows other nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/futex.h"
#include "raylet/answers.h"
#include "raylet/bundles.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"
#include "raylet/raylet.h"

enum { WAIT_MS = 150, COMING_MS = 200 };

struct actor_wait {
    struct actor_wait *next;
    int64_t until_ns;
    struct resources placing;
    struct placement *pl;
};

void actor_host_refuse(struct raylet *r, const struct skate_id *actor, uint32_t incarnation,
                       const char *reason) {
    uint64_t room[64];
    struct wire_buf b;
    struct wire_actor_refused *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_ACTOR_REFUSED);
    m->actor = *actor;
    m->incarnation = incarnation;
    WIRE_PUT(&b, actor_refused, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) gcs_link_send(r, b.p, b.len);
    wire_release(&b);
}

static void refuse(struct raylet *r, struct placement *pl, const char *reason) {
    actor_host_refuse(r, &pl->start->actor, pl->start->incarnation, reason);
    placement_free(pl);
}

static bool try_place(struct raylet *r, struct placement *pl, const struct resources *placing) {
    const void *env;
    uint32_t env_len;
    struct job *j;

    if (!claim_fits(r, NULL, placing) || pool_is_full(r)) return false;
    j = job_find(r, pl->start->job);
    env = wire_actor_start_env(pl->start, &env_len);
    if (j && !pl->env) pl->env = env_get(j, env, env_len);
    if (!j || !pl->env) return false;
    claim_take(r, NULL, &pl->used, &pl->gpus);
    pool_place(r, j, pl);
    grants_wake(r);
    return true;
}

void actor_host_start(struct raylet *r, const struct wire_actor_start *m) {
    struct placement *pl = calloc(1, sizeof *pl);
    struct resources placing;
    struct actor_wait *w, **at;
    const void *data;
    uint32_t len;
    int e;

    if (!pl || !(pl->start = malloc(m->head.size))) {
        free(pl);
        actor_host_refuse(r, &m->actor, m->incarnation, "out of memory");
        return;
    }
    memcpy(pl->start, m, m->head.size);
    pl->is_actor = true;
    data = wire_actor_start_held(m, &len);
    e = resources_unpack(&pl->used, data, len);
    data = wire_actor_start_placing(m, &len);
    if (e == 0) e = resources_unpack(&placing, data, len);
    if (e < 0) {
        refuse(r, pl, "its resources cannot be read");
        return;
    }
    if (!id_is_nil(&m->group)) {
        groups_actor_start(r, pl, &placing);
        return;
    }
    r->coming_until_ns = 0;
    if (!r->actor_waits && try_place(r, pl, &placing)) return;
    w = malloc(sizeof *w);
    if (!w) {
        refuse(r, pl, "out of memory");
        return;
    }
    *w = (struct actor_wait){.until_ns = time_now_ns() + WAIT_MS * INT64_C(1000000),
                             .placing = placing, .pl = pl};
    for (at = &r->actor_waits; *at;) at = &(*at)->next;
    *at = w;
    grants_reclaim(r);
}

const struct resources *actor_host_lacks(const struct raylet *r, const struct skate_id *actor) {
    for (const struct actor_wait *w = r->actor_waits; w; w = w->next)
        if (id_equal(&w->pl->start->actor, actor)) return &w->placing;
    return NULL;
}

bool actor_host_waiting(const struct raylet *r) {
    return r->actor_waits || r->coming_until_ns > time_now_ns();
}

/* A creation passes to the GCS, which places by what nodes say is free. When idle leases of this
 * node stand in its way, ask for them now, and keep what comes back free for a moment. */
void actor_host_coming(struct raylet *r, const struct wire_actor_create *m) {
    struct sched_node *own = node_own(r);
    struct resources placing;
    uint32_t len;
    const void *data = wire_actor_create_placing(m, &len);

    if (!id_is_nil(&m->group)) return;
    if (!own || resources_unpack(&placing, data, len) < 0 ||
        resources_fit(&own->avail, &placing, NULL) ||
        !resources_fit(&own->total, &placing, NULL))
        return;
    r->coming = placing;
    r->coming_until_ns = time_now_ns() + COMING_MS * INT64_C(1000000);
    grants_reclaim(r);
}

/* Resources came free: true when some still wait. */
bool actor_host_retry(struct raylet *r) {
    struct actor_wait **at = &r->actor_waits;

    while (*at) {
        struct actor_wait *w = *at;

        if (!try_place(r, w->pl, &w->placing)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
    return r->actor_waits != NULL;
}

void actor_host_expire(struct raylet *r) {
    int64_t now = time_now_ns();

    while (r->actor_waits && r->actor_waits->until_ns <= now) {
        struct actor_wait *w = r->actor_waits;
        char text[200];
        const char *lack = "";

        r->actor_waits = w->next;
        resources_fit(&node_own(r)->avail, &w->placing, &lack);
        snprintf(text, sizeof text, "node %u has not enough free %s now", r->node, lack);
        refuse(r, w->pl, text);
        free(w);
    }
}

/* What it runs in, before its constructor. */
static void tell_lease(struct proc *p, const struct wire_actor_start *start) {
    bool special = p->bundle || p->gpus.ids;
    char devices[GPUS_MAX * 4];
    uint64_t room[64];
    struct wire_buf b;
    struct wire_lease_info *m;

    if (!special && !p->told) return;
    p->told = special;
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LEASE_INFO);
    m->group = start->group;
    m->bundle = p->bundle ? (int32_t)p->bundle->index : -1;
    m->capture = start->capture;
    gpus_text(&p->gpus, p->r->set.gpu_names, devices, sizeof devices);
    WIRE_PUT(&b, lease_info, devices, devices, strlen(devices));
    if (wire_end(&b) == 0) proc_send(p, b.p, b.len);
    wire_release(&b);
}

/* Its creator will call it soon: their channel is opened unasked. */
void actor_host_made(struct proc *p, struct placement *pl) {
    struct proc *owner = proc_find(p->r, pl->start->owner);

    p->actor = pl->start->actor;
    p->incarnation = pl->start->incarnation;
    p->detached = pl->start->flags & 1;
    p->again = (pl->start->flags & 4) != 0;
    p->idle_since_ns = loop_now_ns(p->r->loop); /* its life begins */
    p->actor_told = false;
    if (owner && owner->state == PROC_LIVE) channels_open(owner, p, 0);
    tell_lease(p, pl->start);
    proc_send(p, pl->start, pl->start->head.size);
}

bool actor_host_is_meant(const struct wire_actor_start *start, const struct wire_worker_kill *m) {
    return id_equal(&start->actor, &m->actor) &&
           (!m->incarnation || start->incarnation == m->incarnation);
}

static bool is_meant(const struct placement *pl, const void *arg) {
    return pl->is_actor && actor_host_is_meant(pl->start, arg);
}

/* Not started yet: forget it. */
static void cancel_start(struct raylet *r, const struct wire_worker_kill *m) {
    struct placement *pl;

    if (groups_actor_cancel(r, m)) return;
    for (struct actor_wait **w = &r->actor_waits; *w; w = &(*w)->next)
        if (is_meant((*w)->pl, m)) {
            struct actor_wait *gone = *w;

            *w = gone->next;
            placement_free(gone->pl);
            free(gone);
            return;
        }
    pl = pool_withdraw(r, is_meant, m);
    if (pl) placement_free(pl);
}

void actor_host_kill(struct raylet *r, const struct wire_worker_kill *m) {
    struct proc *p = m->proc ? proc_find(r, m->proc) : NULL, *q;
    char reason[RAYLET_REASON];
    const char *text;
    uint32_t len, at = 0;

    text = wire_worker_kill_reason(m, &len);
    snprintf(reason, sizeof reason, "%.*s", (int)len, len ? text : "");
    /* Of a process that is named only that one is meant: the actor may have begun anew. */
    while (!p && !m->proc && !id_is_nil(&m->actor) && (q = table_next(&r->procs, &at, NULL)))
        if (q->work == WORK_ACTOR && id_equal(&q->actor, &m->actor) &&
            (!m->incarnation || q->incarnation == m->incarnation))
            p = q;
    if (!p) {
        if (!m->proc && !id_is_nil(&m->actor)) cancel_start(r, m);
        return;
    }
    if (p->role != PROC_WORKER) return;
    p->intended = true;
    proc_doom(p, reason[0] ? reason : "it was told to end");
}

/* It died before it said actor_ready: the raylet says so in its place, as a crash with the reason
 * (the GCS does not know yet which process it was). */
void actor_host_died_early(struct proc *p, const char *text) {
    uint64_t room[96];
    struct wire_buf b;
    struct wire_actor_ready *m;

    if (p->work != WORK_ACTOR || p->actor_told) return;
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_ACTOR_READY);
    m->actor = p->actor;
    m->proc = p->id;
    m->incarnation = p->incarnation;
    m->pid = p->pid;
    m->status = -SKATE_EDEAD;
    m->cause = p->notes.cause;
    WIRE_PUT(&b, actor_ready, reason, text, strlen(text));
    if (wire_end(&b) == 0) gcs_link_send(p->r, b.p, b.len);
    wire_release(&b);
}

struct actor_list {
    struct skate_id *ids;
    uint32_t *incarnations, count, cap;
};

static void list_one(struct actor_list *l, const struct skate_id *id, uint32_t incarnation) {
    if (l->count < l->cap) {
        l->ids[l->count] = *id;
        l->incarnations[l->count] = incarnation;
    }
    l->count++;
}

/* All that run, even those that are being ended (their death will be told), and all that are to. */
static void list_all(struct raylet *r, struct actor_list *l) {
    const struct wire_actor_start *m;
    uint32_t at = 0;
    struct proc *p;
    struct job *j;

    l->count = 0;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->work == WORK_ACTOR) list_one(l, &p->actor, p->incarnation);
    for (const struct actor_wait *w = r->actor_waits; w; w = w->next)
        list_one(l, &w->pl->start->actor, w->pl->start->incarnation);
    for (uint32_t i = 0; (m = groups_actor_at(r, i)); i++) list_one(l, &m->actor, m->incarnation);
    at = 0;
    while ((j = table_next(&r->jobs, &at, NULL)))
        for (const struct placement *pl = j->waiting; pl; pl = pl->next)
            if (pl->is_actor) list_one(l, &pl->start->actor, pl->start->incarnation);
}

void actor_host_state(struct raylet *r, struct wire_buf *b) {
    struct actor_list l = {0};

    list_all(r, &l);
    l.ids = calloc(l.count + 1, sizeof *l.ids);
    l.incarnations = calloc(l.count + 1, sizeof *l.incarnations);
    SKATE_ASSERT(l.ids && l.incarnations);
    l.cap = l.count;
    list_all(r, &l);
    WIRE_PUT(b, node_state, actors, l.ids, l.count * sizeof *l.ids);
    WIRE_PUT(b, node_state, incarnations, l.incarnations, l.count * sizeof *l.incarnations);
    free(l.ids);
    free(l.incarnations);
}
