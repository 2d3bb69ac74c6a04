/* policy.c - see policy.h.
 *
 * Hybrid: where its large arguments lie; else here, while this node stays at or below half of its
 * busiest resource; else the first node (by number) that does (pack), else the least busy one
 * (spread), this one among equals. */
#include "sched/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/id.h"
#include "sched/node_index.h"

enum { PACK_PERCENT = 50 };

void sched_view_release(struct sched_view *v) {
    node_index_free(v);
    free(v->nodes);
    *v = (struct sched_view){.self = v->self};
}

struct sched_node *sched_view_find(const struct sched_view *v, uint32_t node) {
    uint32_t low = 0, high = v->count;

    if (node - 1 < v->count && v->nodes[node - 1].node == node) return &v->nodes[node - 1];
    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (v->nodes[mid].node == node) return &v->nodes[mid];
        if (v->nodes[mid].node < node)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

struct sched_node *sched_view_add(struct sched_view *v, uint32_t node) {
    struct sched_node *n = sched_view_find(v, node);
    uint32_t at = v->count;

    if (n) return n;
    if (v->count == POLICY_NODES_MAX) return NULL;
    if (v->count == v->cap) {
        uint32_t cap = v->cap ? v->cap * 2 : 4;

        n = realloc(v->nodes, cap * sizeof *n);
        if (!n) return NULL;
        v->nodes = n;
        v->cap = cap;
    }
    while (at > 0 && v->nodes[at - 1].node > node) at--;
    memmove(&v->nodes[at + 1], &v->nodes[at], (v->count - at) * sizeof *n);
    v->count++;
    memset(&v->nodes[at], 0, sizeof *n);
    v->nodes[at].node = node;
    v->nodes[at].shape = UINT32_MAX;
    node_index_queue(v, &v->nodes[at], true);
    return &v->nodes[at];
}

void sched_view_touch(struct sched_view *v, struct sched_node *n) { node_index_queue(v, n, false); }
void sched_view_reshape(struct sched_view *v, struct sched_node *n) {
    node_index_queue(v, n, true);
}

void sched_view_settle(struct sched_view *v) { (void)node_index_ready(v); }

int64_t sched_busy(int64_t total, int64_t used) {
    double busy = (double)used * 100 / (double)total;

    return busy > 0 ? (int64_t)busy : 0;
}

int64_t sched_busy_after(const struct sched_node *n, const struct resources *want) {
    int64_t worst = 0;

    for (uint32_t i = 0; i < want->count; i++) {
        int64_t total = resources_amount(&n->total, want->v[i].name), busy;

        if (total <= 0) continue;
        busy = sched_busy(total, total - resources_amount(&n->avail, want->v[i].name) +
                                     want->v[i].amount);
        if (busy > worst) worst = busy;
    }
    return worst;
}

static bool may_run(const struct sched_node *n, const struct sched_ask *ask) {
    return n && n->alive && (!ask->labels || labels_fit(n->labels, ask->labels));
}

bool sched_fits_now(const struct sched_node *n, const struct sched_ask *ask) {
    return may_run(n, ask) && !n->closed && resources_fit(&n->avail, ask->want, NULL);
}

bool sched_fits_ever(const struct sched_node *n, const struct sched_ask *ask) {
    return may_run(n, ask) && resources_fit(&n->total, ask->want, NULL);
}

/* The first node that stays at or below half, else the least busy one. `best`: this one, when it
 * fits, which wins among equals. */
static struct sched_node *hybrid(struct sched_view *v, const struct sched_ask *ask,
                                 struct sched_node *best) {
    int64_t best_busy = best ? sched_busy_after(best, ask->want) : 0;

    for (uint32_t i = 0; i < v->count; i++) {
        struct sched_node *n = &v->nodes[i];
        int64_t busy;

        if (!sched_fits_now(n, ask)) continue;
        busy = sched_busy_after(n, ask->want);
        if (busy <= PACK_PERCENT) return n;
        if (!best || busy < best_busy) {
            best = n;
            best_busy = busy;
        }
    }
    return best;
}

static struct sched_node *hybrid_indexed(struct sched_view *v, const struct sched_ask *ask,
                                         struct sched_node *best) {
    struct sched_node *n = node_index_first(v, ask, PACK_PERCENT, 0);

    if (n) return n;
    n = node_index_least(v, ask);
    if (!n || !best) return n ? n : best;
    return sched_busy_after(n, ask->want) < sched_busy_after(best, ask->want) ? n : best;
}

static int pick_hybrid(struct sched_view *v, const struct sched_ask *ask, bool indexed,
                       uint32_t *ret_node) {
    struct sched_node *best = sched_view_find(v, ask->here ? ask->here : v->self);

    for (uint32_t i = 0; i < ask->locality_count; i++) {
        uint32_t node = proc_node(ask->locality[i]);

        if (sched_fits_now(sched_view_find(v, node), ask)) return *ret_node = node, 0;
    }
    if (!sched_fits_now(best, ask)) best = NULL;
    if (!best || sched_busy_after(best, ask->want) > PACK_PERCENT)
        best = indexed ? hybrid_indexed(v, ask, best) : hybrid(v, ask, best);
    if (!best) return -SKATE_EAGAIN;
    *ret_node = best->node;
    return 0;
}

/* The first that fits after the last one's place; the table is a ring. */
static struct sched_node *next_indexed(struct sched_view *v, const struct sched_ask *ask) {
    uint32_t start = v->nodes[(v->turn + 1) % v->count].node;
    struct sched_node *n = node_index_first(v, ask, BUSY_ANY, start);
    struct sched_node *own = sched_view_find(v, v->self);

    if (!n && start > 1) n = node_index_first(v, ask, BUSY_ANY, 0);
    if (!sched_fits_now(own, ask)) return n;
    return n && n->node - start < own->node - start ? n : own; /* numbers before start: large */
}

static int pick_spread(struct sched_view *v, const struct sched_ask *ask, bool indexed,
                       uint32_t *ret_node) {
    struct sched_node *n = indexed ? next_indexed(v, ask) : NULL;

    for (uint32_t i = 1; !indexed && !n && i <= v->count; i++) {
        n = &v->nodes[(v->turn + i) % v->count];
        if (!sched_fits_now(n, ask)) n = NULL;
    }
    if (!n) return -SKATE_EAGAIN;
    v->turn = (uint32_t)(n - v->nodes);
    *ret_node = n->node;
    return 0;
}

static bool any_fits_ever(struct sched_view *v, const struct sched_ask *ask, bool indexed) {
    if (sched_is_hard(ask->strategy))
        return sched_fits_ever(sched_view_find(v, ask->affinity), ask);
    if (indexed)
        return sched_fits_ever(sched_view_find(v, v->self), ask) || node_index_ever(v, ask);
    for (uint32_t i = 0; i < v->count; i++)
        if (sched_fits_ever(&v->nodes[i], ask)) return true;
    return false;
}

/* By one alternative of its labels. */
static int pick(struct sched_view *v, const struct sched_ask *ask, uint32_t *ret_node) {
    const struct sched_node *wish;
    bool indexed;

    if (ask->here_only) {
        *ret_node = v->self;
        return sched_fits_now(sched_view_find(v, v->self), ask) ? 0 : -SKATE_EAGAIN;
    }
    if (ask->strategy >= SCHED_AFFINITY && ask->strategy < SCHED_STRATEGIES) {
        wish = sched_view_find(v, ask->affinity);
        if (sched_fits_now(wish, ask)) return *ret_node = ask->affinity, 0;
        if (ask->strategy == SCHED_HARD_NOW)
            return wish && wish->closed && sched_fits_ever(wish, ask) ? -SKATE_EAGAIN
                                                                      : -SKATE_ENOENT;
        if (sched_fits_ever(wish, ask) && ask->strategy != SCHED_SOFT_SPILL) return -SKATE_EAGAIN;
        if (ask->strategy == SCHED_AFFINITY) return -SKATE_ENOENT;
    }
    indexed = node_index_ready(v);
    if (!any_fits_ever(v, ask, indexed)) return -SKATE_ENOENT;
    if (ask->strategy == SCHED_SPREAD) return pick_spread(v, ask, indexed, ret_node);
    return pick_hybrid(v, ask, indexed, ret_node);
}

int sched_pick(struct sched_view *v, const struct sched_ask *ask, uint32_t *ret_node) {
    struct sched_ask one = *ask;
    int r, best = -SKATE_ENOENT;

    if (!ask->labels || !*ask->labels) return pick(v, ask, ret_node);
    for (; one.labels; one.labels = labels_next(one.labels)) {
        r = pick(v, &one, ret_node);
        if (r == 0) return 0;
        if (r == -SKATE_EAGAIN) best = r;
    }
    return best;
}

enum sched_place sched_here(const struct sched_view *v, const struct sched_ask *ask) {
    const struct sched_node *own = sched_view_find(v, v->self);
    struct sched_ask one = *ask;
    bool fits = sched_fits_now(own, &one), first = fits;

    while (!fits && one.labels && (one.labels = labels_next(one.labels)))
        fits = sched_fits_now(own, &one);
    if (!fits) return SCHED_AWAY;
    if (ask->strategy >= SCHED_AFFINITY && ask->affinity != v->self) return SCHED_AWAY;
    if (ask->strategy >= SCHED_AFFINITY) return first ? SCHED_HERE : SCHED_MAYBE;
    if (!first || ask->strategy == SCHED_SPREAD) return SCHED_MAYBE;
    if (ask->locality_count)
        return proc_node(ask->locality[0]) == v->self ? SCHED_HERE : SCHED_MAYBE;
    return sched_busy_after(own, ask->want) <= PACK_PERCENT ? SCHED_HERE : SCHED_MAYBE;
}

int sched_could(struct sched_view *v, const struct sched_ask *ask) {
    uint32_t turn = v->turn, node;
    int r = sched_pick(v, ask, &node);

    v->turn = turn; /* of `spread` */
    return r;
}

/* No living node has labels that any of its alternatives wants. */
static bool no_labels(const struct sched_view *v, const struct sched_ask *ask) {
    for (const char *a = ask->labels; a; a = labels_next(a))
        for (uint32_t i = 0; i < v->count; i++)
            if (v->nodes[i].alive && labels_fit(v->nodes[i].labels, a)) return false;
    return ask->labels && *ask->labels;
}

static bool has_labels(const struct sched_node *n, const struct sched_ask *ask) {
    bool fits = !ask->labels;

    for (const char *a = ask->labels; a && !fits; a = labels_next(a))
        fits = labels_fit(n->labels, a);
    return fits;
}

void sched_explain(const struct sched_view *v, const struct sched_ask *ask, const char *name,
                   struct skate_error *ret) {
    const struct sched_node *best = NULL;
    const char *lack = NULL;
    char need[400], have[200], labels[200];
    int64_t most = -1;
    size_t n_need;

    resources_text(ask->want, need, 200);
    if (no_labels(v, ask)) {
        err_fail(ret, 0, "%s needs a node with the labels %s, and no node has such: it waits "
                 "until a node that fits joins", name,
                 labels_text(ask->labels, labels, sizeof labels));
        return;
    }
    n_need = strlen(need);
    if (ask->labels && *ask->labels)
        snprintf(need + n_need, sizeof need - n_need, " and the labels %s",
                 labels_text(ask->labels, labels, sizeof labels));
    if (sched_is_hard(ask->strategy)) {
        const struct sched_node *n = sched_view_find(v, ask->affinity);

        if (!n || !n->alive) {
            err_fail(ret, 0, "%s must run on node %u, which is not part of the cluster", name,
                       ask->affinity);
            return;
        }
        resources_text(&n->total, have, sizeof have);
        err_fail(ret, 0, "%s needs %s on node %u, which has only %s: it waits", name, need,
                   ask->affinity, have);
        return;
    }
    /* The node that comes closest: the one with the most of the resource that is short. */
    for (uint32_t i = 0; i < v->count; i++) {
        const char *short_name = NULL;
        int64_t amount;

        if (!v->nodes[i].alive || !has_labels(&v->nodes[i], ask) ||
            resources_fit(&v->nodes[i].total, ask->want, &short_name))
            continue;
        amount = resources_amount(&v->nodes[i].total, lack ? lack : short_name);
        if (amount > most) {
            most = amount;
            best = &v->nodes[i];
            if (!lack) lack = short_name;
        }
    }
    if (!best) {
        err_fail(ret, 0, "%s needs %s, but no node is alive: it waits", name, need);
        return;
    }
    snprintf(have, sizeof have, "%g %s", (double)most / RESOURCE_UNIT, lack);
    err_fail(ret, 0, "%s needs %s, but the largest node has %s: it waits until a node that "
               "fits joins", name, need, have);
}

uint32_t sched_times(const struct resources *have, const struct resources *want, uint32_t max) {
    uint32_t times = max;

    for (uint32_t i = 0; i < want->count; i++) {
        int64_t amount = want->v[i].amount, free_now;

        if (amount <= 0) continue;
        free_now = resources_amount(have, want->v[i].name);
        if (free_now < 0) free_now = 0;
        if (free_now / amount < times) times = (uint32_t)(free_now / amount);
    }
    return times;
}
