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

enum { PACK_PERCENT = 50 };

void sched_view_release(struct sched_view *v) {
    free(v->nodes);
    *v = (struct sched_view){.self = v->self};
}

struct sched_node *sched_view_find(const struct sched_view *v, uint32_t node) {
    uint32_t low = 0, high = v->count;

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
    return &v->nodes[at];
}

/* Use of the busiest wanted resource after taking `want`, in percent. */
static int64_t busy_after(const struct sched_node *n, const struct resources *want) {
    int64_t worst = 0;

    for (uint32_t i = 0; i < want->count; i++) {
        int64_t total = resources_amount(&n->total, want->v[i].name), used;

        if (total <= 0) continue;
        used = total - resources_amount(&n->avail, want->v[i].name) + want->v[i].amount;
        if ((double)used * 100 / (double)total > (double)worst)
            worst = (int64_t)((double)used * 100 / (double)total);
    }
    return worst;
}

static bool may_run(const struct sched_node *n, const struct sched_ask *ask) {
    return n && n->alive && (!ask->labels || labels_fit(n->labels, ask->labels));
}

static bool fits_now(const struct sched_node *n, const struct sched_ask *ask) {
    return may_run(n, ask) && resources_fit(&n->avail, ask->want, NULL);
}

static bool fits_ever(const struct sched_node *n, const struct sched_ask *ask) {
    return may_run(n, ask) && resources_fit(&n->total, ask->want, NULL);
}

static int pick_hybrid(const struct sched_view *v, const struct sched_ask *ask,
                       uint32_t *ret_node) {
    const struct sched_node *best = NULL;
    int64_t best_busy = 0;

    for (uint32_t i = 0; i < ask->locality_count; i++) {
        uint32_t node = proc_node(ask->locality[i]);

        if (fits_now(sched_view_find(v, node), ask)) return *ret_node = node, 0;
    }
    best = sched_view_find(v, v->self);
    if (!fits_now(best, ask)) best = NULL;
    if (best) {
        best_busy = busy_after(best, ask->want);
        if (best_busy <= PACK_PERCENT) return *ret_node = v->self, 0;
    }
    for (uint32_t i = 0; i < v->count; i++) {
        const struct sched_node *n = &v->nodes[i];
        int64_t busy;

        if (!fits_now(n, ask)) continue;
        busy = busy_after(n, ask->want);
        if (busy <= PACK_PERCENT) return *ret_node = n->node, 0;
        if (!best || busy < best_busy) {
            best = n;
            best_busy = busy;
        }
    }
    if (!best) return -SKATE_EAGAIN;
    *ret_node = best->node;
    return 0;
}

static int pick_spread(struct sched_view *v, const struct sched_ask *ask, uint32_t *ret_node) {
    for (uint32_t i = 1; i <= v->count; i++) {
        const struct sched_node *n = &v->nodes[(v->turn + i) % v->count];

        if (!fits_now(n, ask)) continue;
        v->turn = (v->turn + i) % v->count;
        *ret_node = n->node;
        return 0;
    }
    return -SKATE_EAGAIN;
}

static bool any_fits_ever(const struct sched_view *v, const struct sched_ask *ask) {
    if (sched_is_hard(ask->strategy))
        return fits_ever(sched_view_find(v, ask->affinity), ask);
    for (uint32_t i = 0; i < v->count; i++)
        if (fits_ever(&v->nodes[i], ask)) return true;
    return false;
}

/* By one alternative of its labels. */
static int pick(struct sched_view *v, const struct sched_ask *ask, uint32_t *ret_node) {
    const struct sched_node *wish;

    if (ask->here_only) {
        *ret_node = v->self;
        return fits_now(sched_view_find(v, v->self), ask) ? 0 : -SKATE_EAGAIN;
    }
    if (ask->strategy >= SCHED_AFFINITY && ask->strategy < SCHED_STRATEGIES) {
        wish = sched_view_find(v, ask->affinity);
        if (fits_now(wish, ask)) return *ret_node = ask->affinity, 0;
        if (ask->strategy == SCHED_HARD_NOW) return -SKATE_ENOENT;
        if (fits_ever(wish, ask) && ask->strategy != SCHED_SOFT_SPILL) return -SKATE_EAGAIN;
        if (ask->strategy == SCHED_AFFINITY) return -SKATE_ENOENT;
    }
    if (!any_fits_ever(v, ask)) return -SKATE_ENOENT;
    if (ask->strategy == SCHED_SPREAD) return pick_spread(v, ask, ret_node);
    return pick_hybrid(v, ask, ret_node);
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
