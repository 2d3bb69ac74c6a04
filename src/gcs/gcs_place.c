/* gcs_place.c - which node an actor goes to, and the queue of those that wait.
 *
 * An actor must fit by its `placing` resources and takes `held` for life. Between two reports of a
 * node its free amounts are the last report less what was placed there since. While an actor is
 * being started, what its start takes beyond `held` counts as taken, too, so that a burst spreads
 * over the nodes; but that alone never makes one wait. Actors wait in order of arrival; one that
 * cannot be placed does not stop those behind it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_demand.h"
#include "gcs/gcs_groups.h"

void gcs_place_add(struct gcs *g, struct gcs_actor *a) {
    a->order = ++g->serial;
    a->next_pending = MAP_NONE;
    a->prev_pending = g->pending_last;
    if (g->pending_last != MAP_NONE)
        g->actors[g->pending_last]->next_pending = a->index;
    else
        g->pending = a->index;
    g->pending_last = a->index;
    g->place_wanted = true;
}

void gcs_place_remove(struct gcs *g, struct gcs_actor *a) {
    if (a->prev_pending != MAP_NONE)
        g->actors[a->prev_pending]->next_pending = a->next_pending;
    else
        g->pending = a->next_pending;
    if (a->next_pending != MAP_NONE)
        g->actors[a->next_pending]->prev_pending = a->prev_pending;
    else
        g->pending_last = a->prev_pending;
}

/* So many actors more, or fewer, are being started there. */
static void set_loaded(struct gcs *g, struct gcs_node *n, int more) {
    n->charged += (uint32_t)more;
    if (more > 0 && n->charged == 1) {
        if (g->loaded_count == g->loaded_cap)
            g->loaded = gcs_grow(g->loaded, &g->loaded_cap, sizeof *g->loaded);
        n->loaded_at = g->loaded_count;
        g->loaded[g->loaded_count++] = n->number;
    } else if (n->charged == 0) {
        g->loaded[n->loaded_at] = g->loaded[--g->loaded_count];
        g->nodes[g->loaded[n->loaded_at] - 1]->loaded_at = n->loaded_at;
    }
}

static void charge(struct gcs *g, struct gcs_actor *a, const struct resources *placing) {
    struct sched_node *row = sched_view_find(&g->view, a->node);
    struct resources held;

    SKATE_ASSERT(row && !a->charged);
    SKATE_ASSERT(resources_unpack(&held, a->held, a->held_len) == 0); /* checked at creation */
    a->extra = gcs_copy(placing, sizeof *placing);
    for (uint32_t i = 0; i < a->extra->count; i++) {
        int64_t *amount = &a->extra->v[i].amount;

        *amount -= resources_amount(&held, a->extra->v[i].name);
        if (*amount < 0) *amount = 0;
    }
    a->charged = true;
    resources_take(&row->avail, &held);
    resources_take(&row->avail, a->extra);
    resources_give(&g->nodes[a->node - 1]->loading, a->extra);
    sched_view_touch(&g->view, row);
    set_loaded(g, g->nodes[a->node - 1], 1);
}

void gcs_place_uncharge(struct gcs *g, struct gcs_actor *a) {
    struct sched_node *row = sched_view_find(&g->view, a->node);

    if (!a->charged) return;
    resources_give(&row->avail, a->extra);
    resources_take(&g->nodes[a->node - 1]->loading, a->extra);
    sched_view_touch(&g->view, row);
    set_loaded(g, g->nodes[a->node - 1], -1);
    free(a->extra);
    a->extra = NULL;
    a->charged = false;
    if (g->actors_pending) g->place_wanted = true;
    gcs_demand_room(g, row);
}

#define COPY(b, field, m)                                                                      \
    do {                                                                                       \
        uint32_t n_;                                                                           \
        const void *p_ = wire_actor_create_##field((m), &n_);                                  \
        WIRE_PUT((b), actor_start, field, p_, (m)->field.len);                                 \
    } while (0)

void gcs_place_start(struct gcs *g, struct gcs_actor *a) {
    const struct wire_actor_create *m = a->create;
    struct wire_actor_start *out;
    struct wire_buf b;

    gcs_job_tell_ended(g, a->job, g->nodes[a->node - 1]->link);
    wire_init(&b, NULL, 0);
    out = wire_begin(&b, WIRE_ACTOR_START);
    out->actor = a->id;
    out->owner = a->owner;
    out->job = a->job;
    out->incarnation = a->incarnation;
    if (a->cause == GCS_STARVED) a->cause = 0; /* of its last life */
    out->flags = a->flags & ~4u;
    if (a->max_restarts < 0 || a->restarts < (uint32_t)a->max_restarts) out->flags |= 4;
    out->max_concurrency = m->max_concurrency;
    COPY(&b, name, m);
    COPY(&b, namespace, m);
    COPY(&b, cls, m);
    COPY(&b, held, m);
    COPY(&b, placing, m);
    COPY(&b, spec, m);
    COPY(&b, fn_value, m);
    COPY(&b, fn_data, m);
    COPY(&b, env, m);
    out = (struct wire_actor_start *)(void *)b.p;
    out->group = m->group;
    out->bundle = m->bundle;
    out->capture = m->capture;
    gcs_send_link(g, g->nodes[a->node - 1]->link, &b);
}

void gcs_place_row(struct gcs *g, struct gcs_node *n) {
    struct sched_node *row = sched_view_find(&g->view, n->number);
    const struct wire_node_register *m = n->registered;
    bool alive = n->alive && !m->outpost; /* nothing is placed on an outpost */
    bool closed = n->stale || n->draining;

    if (row->alive == alive && row->closed == closed) return;
    row->alive = alive;
    row->closed = closed;
    sched_view_touch(&g->view, row);
    if (!row->closed) gcs_demand_room(g, row);
}

static void lift_loading(struct gcs *g, bool lift) {
    for (uint32_t i = 0; i < g->loaded_count; i++) {
        struct sched_node *row = sched_view_find(&g->view, g->loaded[i]);

        if (lift)
            resources_give(&row->avail, &g->nodes[row->node - 1]->loading);
        else
            resources_take(&row->avail, &g->nodes[row->node - 1]->loading);
        sched_view_touch(&g->view, row);
    }
}

/* One that was closed since its row was written is not chosen. */
static int pick_open(struct gcs *g, const struct sched_ask *ask, uint32_t *ret_node) {
    for (;;) {
        int r = sched_pick(&g->view, ask, ret_node);
        struct gcs_node *n = r < 0 ? NULL : g->nodes[*ret_node - 1];

        if (!n || (n->alive && !n->stale)) return r;
        gcs_place_row(g, n);
    }
}

int gcs_place_pick(struct gcs *g, const struct sched_ask *ask, uint32_t *ret_node) {
    int r = pick_open(g, ask, ret_node);

    if (r == -SKATE_EAGAIN && g->loaded_count) {
        lift_loading(g, true);
        r = pick_open(g, ask, ret_node);
        lift_loading(g, false);
    }
    return r;
}

/* No living node can ever hold it: its driver hears so at once, once. One that must run on a
 * certain node ends instead: true. */
static bool tell_infeasible(struct gcs *g, struct gcs_actor *a, const struct sched_ask *ask) {
    struct gcs_job *j = gcs_job_find(g, a->job);
    struct skate_error text;
    struct wire_notice *m;
    struct wire_buf b;
    bool bound = sched_is_hard(ask->strategy);
    int r;

    if (!bound && (a->infeasible_told || !j)) return false;
    r = sched_could(&g->view, ask);
    if (r == -SKATE_ENOENT && bound) {
        a->cause = 2;
        gcs_actor_end(g, a, "The node specified via NodeAffinitySchedulingStrategy doesn't exist "
                      "any more or is infeasible, and soft=False was specified.", false);
    } else if (r == -SKATE_ENOENT) {
        a->infeasible_told = true;
        sched_explain(&g->view, ask, a->texts, &text);
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_NOTICE);
        m->level = 1;
        m->kind = 1;
        m->job = a->job;
        WIRE_PUT(&b, notice, name, a->texts, strlen(a->texts));
        WIRE_PUT(&b, notice, text, text.text, strlen(text.text));
        gcs_send_proc(g, j->driver, &b);
    }
    return r == -SKATE_ENOENT && bound;
}

static bool same_ask(const struct gcs_actor *a, const struct gcs_actor *b) {
    const struct wire_actor_create *x = a->create, *y = b->create;
    uint32_t n, k, nl, kl;
    const void *p = wire_actor_create_placing(x, &n), *q = wire_actor_create_placing(y, &k);
    const void *pl = wire_actor_create_labels(x, &nl), *ql = wire_actor_create_labels(y, &kl);

    return id_equal(&x->group, &y->group) && x->bundle == y->bundle &&
           x->strategy == y->strategy && x->affinity == y->affinity && n == k && nl == kl &&
           memcmp(p, q, n) == 0 && memcmp(pl, ql, nl) == 0;
}

static void send_to(struct gcs *g, struct gcs_actor *a, uint32_t node,
                    const struct resources *placing) {
    gcs_place_remove(g, a);
    a->node = node;
    a->incarnation++;
    gcs_actor_move(g, a, GCS_STARTING);
    if (placing) charge(g, a, placing);
    gcs_place_start(g, a);
}

/* In a placement group: where its bundles are, whose resources are not the node's any more. */
static bool place_in_group(struct gcs *g, struct gcs_actor *a, const struct resources *placing) {
    uint32_t node = 0;
    int r = gcs_group_pick(g, a, placing, &node);

    if (r == -SKATE_ENOENT) {
        a->cause = 1;
        gcs_actor_end(g, a, "its placement group was removed", false);
        return true;
    }
    if (r < 0) return false;
    send_to(g, a, node, NULL);
    return true;
}

int gcs_demand_of(const struct wire_actor_create *m, struct gcs_demand *ret) {
    uint32_t len;
    const void *data = wire_actor_create_labels(m, &len);

    ret->ask = (struct sched_ask){.want = &ret->placing, .strategy = m->strategy,
                                  .affinity = proc_node(m->affinity) ? proc_node(m->affinity)
                                                                     : (uint32_t)m->affinity,
                                  .labels = ret->labels};
    if (!labels_copy(ret->labels, data, len) || !labels_is_selector(ret->labels))
        return -SKATE_EPROTO;
    data = wire_actor_create_placing(m, &len);
    return resources_unpack(&ret->placing, data, len);
}

static bool place(struct gcs *g, struct gcs_actor *a) {
    const struct wire_actor_create *m = a->create;
    struct gcs_demand d;
    uint32_t node = 0;

    SKATE_ASSERT(gcs_demand_of(m, &d) == 0); /* checked at creation */
    if (!id_is_nil(&m->group)) return place_in_group(g, a, &d.placing);
    if (gcs_place_pick(g, &d.ask, &node) < 0) return tell_infeasible(g, a, &d.ask);
    send_to(g, a, node, &d.placing);
    return true;
}

/* Of many equal ones that wait, one is enough to see that there is no room. */
struct tried {
    const struct gcs_actor *v[16];
    uint32_t count;
};

static bool in_vain(const struct tried *t, const struct gcs_actor *a) {
    for (uint32_t i = 0; i < 16 && i < t->count; i++)
        if (same_ask(t->v[i], a) && a->infeasible_told == t->v[i]->infeasible_told) return true;
    return false;
}

void gcs_place_all(struct gcs *g) {
    struct tried failed = {.count = 0};
    uint32_t i = g->pending;

    while (i != MAP_NONE) {
        struct gcs_actor *a = g->actors[i];

        i = a->next_pending;
        if (in_vain(&failed, a) || place(g, a)) continue;
        failed.v[failed.count++ % 16] = a;
    }
}
