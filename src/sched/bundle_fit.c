/* bundle_fit.c - see bundle_fit.h.
 *
 * PACK: all on one node if one can, else node by node, each time the one that takes most of what is
 * left. SPREAD: each on the least busy node that has none of the group yet, or on any. The strict
 * forms do not fall back. Bundles that fit on few nodes choose first. */
#include "sched/bundle_fit.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

int bundles_unpack(const void *data, size_t len, struct bundle_want **ret, uint32_t *ret_count) {
    const uint8_t *p = data;
    struct bundle_want *all = NULL;
    uint32_t n = 0;
    int e = 0;

    while (len > 0 && e == 0) {
        struct bundle_want *grown;
        uint32_t head[2];
        size_t step;

        if (len < sizeof head) {
            e = -SKATE_EPROTO;
            break;
        }
        memcpy(head, p, sizeof head);
        step = (sizeof head + (size_t)head[1] + 7) & ~(size_t)7;
        if (step > len || n == BUNDLES_MAX) {
            e = n == BUNDLES_MAX ? -SKATE_EFULL : -SKATE_EPROTO;
            break;
        }
        grown = realloc(all, (n + 1) * sizeof *all);
        if (!grown) {
            e = -SKATE_ENOMEM;
            break;
        }
        all = grown;
        all[n] = (struct bundle_want){.index = head[0]};
        e = resources_unpack(&all[n].want, p + sizeof head, head[1]);
        n++;
        p += step;
        len -= step;
    }
    if (e < 0) {
        free(all);
        return e;
    }
    *ret = all;
    *ret_count = n;
    return 0;
}

void *bundles_pack(const struct bundle_want *b, uint32_t count, uint32_t node, uint32_t *ret_len) {
    uint8_t *out = calloc((size_t)count + 1, 8 + RESOURCES_MAX * 80);
    size_t used = 0;

    for (uint32_t i = 0; out && i < count; i++) {
        uint32_t head[2] = {b[i].index, 0};

        if (node && b[i].node != node) continue;
        head[1] = (uint32_t)resources_pack(&b[i].want, out + used + 8, RESOURCES_MAX * 80);
        memcpy(out + used, head, sizeof head);
        used += (8 + (size_t)head[1] + 7) & ~(size_t)7;
    }
    *ret_len = (uint32_t)used;
    return out;
}

/* ---- placement ---- */

struct attempt {
    struct sched_view *v;
    struct bundle_want *b;
    uint32_t count;
    bool total; /* by what the nodes have in all */
    uint8_t *ours; /* placed by this attempt */
};

static struct resources *room_of(const struct attempt *t, struct sched_node *n) {
    return t->total ? &n->total : &n->avail;
}

static bool fits(const struct attempt *t, struct sched_node *n, uint32_t i) {
    return n->alive && (t->total || !n->closed) &&
           resources_fit(room_of(t, n), &t->b[i].want, NULL);
}

static void put(struct attempt *t, struct sched_node *n, uint32_t i) {
    resources_take(room_of(t, n), &t->b[i].want);
    t->b[i].node = n->node;
    t->ours[i] = 1;
}

static void undo(struct attempt *t) {
    for (uint32_t i = 0; i < t->count; i++) {
        if (!t->ours[i]) continue;
        resources_give(room_of(t, sched_view_find(t->v, t->b[i].node)), &t->b[i].want);
        t->b[i].node = 0;
        t->ours[i] = 0;
    }
}

/* Put as many of the rest as fit on one node. */
static uint32_t fill(struct attempt *t, struct sched_node *n) {
    uint32_t placed = 0;

    for (uint32_t i = 0; i < t->count; i++) {
        if (t->b[i].node || !fits(t, n, i)) continue;
        put(t, n, i);
        placed++;
    }
    return placed;
}

static void unfill(struct attempt *t, const struct sched_node *n, const uint8_t *before) {
    for (uint32_t i = 0; i < t->count; i++) {
        if (!t->ours[i] || before[i] || t->b[i].node != n->node) continue;
        resources_give(room_of(t, sched_view_find(t->v, n->node)), &t->b[i].want);
        t->b[i].node = 0;
        t->ours[i] = 0;
    }
}

static uint32_t rest_of(const struct attempt *t) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->count; i++) n += t->b[i].node == 0;
    return n;
}

/* Node by node, most first; strict: the first node must take all. */
static bool pack(struct attempt *t, bool strict) {
    uint8_t *before = malloc(t->count ? t->count : 1);
    uint32_t rest;

    while (before && (rest = rest_of(t)) > 0) {
        struct sched_node *best = NULL;
        uint32_t most = 0;

        memcpy(before, t->ours, t->count);
        for (uint32_t k = 0; k < t->v->count && most < rest; k++) {
            uint32_t n = fill(t, &t->v->nodes[k]);

            unfill(t, &t->v->nodes[k], before);
            if (n > most) {
                most = n;
                best = &t->v->nodes[k];
            }
        }
        if (!best || (strict && most < rest)) break;
        (void)fill(t, best);
    }
    free(before);
    return rest_of(t) == 0;
}

static bool in_use(const struct attempt *t, uint32_t node) {
    for (uint32_t i = 0; i < t->count; i++)
        if (t->b[i].node == node) return true;
    return false;
}

static uint32_t choices(const struct attempt *t, uint32_t i) {
    uint32_t n = 0;

    for (uint32_t k = 0; k < t->v->count; k++) n += fits(t, &t->v->nodes[k], i);
    return n;
}

/* How much of what it has a node has given, in 1/1000 of the busiest wanted resource. */
static int64_t busy(const struct attempt *t, struct sched_node *n, const struct resources *want) {
    int64_t worst = 0;

    for (uint32_t i = 0; i < want->count && !t->total; i++) {
        int64_t total = resources_amount(&n->total, want->v[i].name);
        int64_t used = total - resources_amount(&n->avail, want->v[i].name);

        if (total > 0 && (double)used / (double)total * 1000 > (double)worst)
            worst = (int64_t)((double)used / (double)total * 1000);
    }
    return worst;
}

static bool spread_one(struct attempt *t, uint32_t i, bool strict) {
    struct sched_node *best = NULL;
    bool best_used = true;
    int64_t best_busy = 0;

    for (uint32_t k = 0; k < t->v->count; k++) {
        struct sched_node *n = &t->v->nodes[k];
        bool used;
        int64_t b;

        if (!fits(t, n, i)) continue;
        used = in_use(t, n->node);
        if (used && strict) continue;
        b = busy(t, n, &t->b[i].want);
        if (best && (used > best_used || (used == best_used && b >= best_busy))) continue;
        best = n;
        best_used = used;
        best_busy = b;
    }
    if (best) put(t, best, i);
    return best != NULL;
}

static bool spread(struct attempt *t, bool strict) {
    for (;;) {
        uint32_t least = UINT32_MAX, next = UINT32_MAX;

        for (uint32_t i = 0; i < t->count; i++) {
            uint32_t n;

            if (t->b[i].node) continue;
            n = choices(t, i);
            if (n < least) {
                least = n;
                next = i;
            }
        }
        if (next == UINT32_MAX) return true;
        if (!spread_one(t, next, strict)) return false;
    }
}

static bool all_placed(struct attempt *t, enum group_strategy strategy) {
    switch (strategy) {
    case GROUP_PACK: return pack(t, false);
    case GROUP_STRICT_PACK: return pack(t, true);
    case GROUP_SPREAD: return spread(t, false);
    default: return spread(t, true);
    }
}

int bundles_place(struct sched_view *v, struct bundle_want *b, uint32_t count,
                  enum group_strategy strategy) {
    struct attempt t = {.v = v, .b = b, .count = count, .ours = calloc(count ? count : 1, 1)};
    bool ever;

    if (!t.ours) return -SKATE_EAGAIN;
    if (all_placed(&t, strategy)) {
        for (uint32_t i = 0; i < count; i++)
            if (t.ours[i]) sched_view_touch(v, sched_view_find(v, b[i].node));
        free(t.ours);
        return 0;
    }
    undo(&t);
    t.total = true;
    ever = all_placed(&t, strategy);
    undo(&t);
    free(t.ours);
    return ever ? -SKATE_EAGAIN : -SKATE_ENOENT;
}
