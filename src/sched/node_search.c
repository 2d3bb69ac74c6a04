/* node_search.c - see node_index.h: the search through the trees, shape by shape. */
#include <string.h>

#include "sched/node_index_int.h"

#define ROUNDING 1e-6 /* of a bound from parts, in percent */

enum when { NOW, EVER };
struct search {
    struct sched_view *v;
    const struct sched_ask *ask;
    enum when when;
    int64_t busy_most;
    uint32_t from;
    /* in one shape */
    const struct shape *s;
    uint32_t wants;
    uint32_t dim[RESOURCES_MAX];
    int64_t amount[RESOURCES_MAX];
};

static bool names_own_label(const char *alternative) {
    size_t len = alternative ? strcspn(alternative, "\n") : 0;

    return len && memmem(alternative, len, OWN_LABEL, sizeof OWN_LABEL - 1) != NULL;
}

/* Could nodes of this shape be wanted at all? Notes which of its resources are. */
static bool enter(struct search *q, const struct shape *s) {
    const struct resources *want = q->ask->want;
    const char *labels = q->ask->labels;

    if (!(s->flags[1] & (q->when == NOW ? SOME_OPEN : SOME_ALIVE))) return false;
    q->s = s;
    q->wants = 0;
    for (uint32_t i = 0; i < want->count; i++) {
        uint32_t d = 0;

        if (is_own_resource(want->v[i].name)) continue;
        while (d < s->dim_count && strcmp(s->dims[d].name, want->v[i].name) != 0) d++;
        if (d == s->dim_count && want->v[i].amount > 0) return false;
        if (d == s->dim_count) continue;
        q->dim[q->wants] = d;
        q->amount[q->wants++] = want->v[i].amount;
    }
    return !labels || names_own_label(labels) || labels_fit(s->labels, labels);
}

/* No node below is less busy than this with the demand. */
static int64_t busy_least(const struct search *q, uint32_t at) {
    const struct peak *p = &q->s->peaks[(size_t)at * q->s->dim_count];
    int64_t worst = 0;

    for (uint32_t i = 0; i < q->wants; i++) {
        const struct dim *d = &q->s->dims[q->dim[i]];
        const struct peak *k = &p[q->dim[i]];
        int64_t busy = 0;

        if (k->total <= 0) continue;
        if (d->exact) {
            busy = sched_busy(d->total, d->total - k->free + q->amount[i]);
        } else {
            double b = 100 * (1 - k->part + (double)q->amount[i] / (double)k->total) - ROUNDING;

            if (b > 0 && b < 1e18) busy = (int64_t)b;
        }
        if (busy > worst) worst = busy;
    }
    return worst;
}

static bool may_hold(const struct search *q, uint32_t at) {
    const struct peak *p = &q->s->peaks[(size_t)at * q->s->dim_count];

    if (!(q->s->flags[at] & (q->when == NOW ? SOME_OPEN : SOME_ALIVE))) return false;
    for (uint32_t i = 0; i < q->wants; i++) {
        const struct peak *k = &p[q->dim[i]];

        if (q->amount[i] > 0 && (q->when == NOW ? k->free : k->total) < q->amount[i]) return false;
    }
    return q->when == EVER || q->busy_most == BUSY_ANY || busy_least(q, at) <= q->busy_most;
}

static bool holds(const struct search *q, const struct sched_node *n) {
    if (!n || n->node < q->from || n->node == q->v->self) return false;
    if (q->when == EVER) return sched_fits_ever(n, q->ask);
    return sched_fits_now(n, q->ask) &&
           (q->busy_most == BUSY_ANY || sched_busy_after(n, q->ask->want) <= q->busy_most);
}

/* The first leaf from `first` on, below `at`, which has `width` leaves from `left` on. */
static struct sched_node *below(const struct search *q, uint32_t at, uint32_t left,
                                uint32_t width, uint32_t first) {
    struct sched_node *n;

    if (left + width <= first || left >= q->s->count || !may_hold(q, at)) return NULL;
    if (width == 1) {
        n = sched_view_find(q->v, q->s->rows[left]);
        return holds(q, n) ? n : NULL;
    }
    n = below(q, 2 * at, left, width / 2, first);
    return n ? n : below(q, 2 * at + 1, left + width / 2, width / 2, first);
}

static struct sched_node *first_in_shape(const struct search *q) {
    uint32_t low = 0, high = q->s->count;

    while (q->from && low < high) {
        uint32_t mid = (low + high) / 2;

        if (q->s->rows[mid] < q->from)
            low = mid + 1;
        else
            high = mid;
    }
    return below(q, 1, 0, q->s->leaves, low);
}

/* ---- those with a name of their own ---- */

static bool better(const struct search *q, const struct sched_node *n,
                   const struct sched_node *best, bool least) {
    int64_t a, b;

    if (!best || !least) return !best || n->node < best->node;
    a = sched_busy_after(n, q->ask->want);
    b = sched_busy_after(best, q->ask->want);
    return a < b || (a == b && n->node < best->node);
}

static void look_at(const struct search *q, struct skate_id key, bool least,
                    struct sched_node **best) {
    const struct node_index *x = q->v->index;

    for (uint32_t i = map_get(&x->names, &key); i != MAP_NONE; i = x->named[i].next) {
        struct sched_node *n = sched_view_find(q->v, x->named[i].node);

        if (holds(q, n) && better(q, n, *best, least)) *best = n;
    }
}

/* A term "ray.io/node-id=a|b" of the alternative: nobody else fits. */
static const char *own_values(const char *alternative) {
    for (const char *p = alternative; p && *p && *p != '\n';) {
        if (strncmp(p, OWN_LABEL "=", sizeof OWN_LABEL) == 0) return p + sizeof OWN_LABEL;
        p += strcspn(p, ";\n");
        if (*p == ';') p++;
    }
    return NULL;
}

/* True: whoever fits is on a list, and *ret is the best of them, or NULL. */
static bool by_name(const struct search *q, bool least, struct sched_node **ret) {
    const struct resources *want = q->ask->want;
    const char *p = q->ask->labels ? own_values(q->ask->labels) : NULL;

    *ret = NULL;
    for (uint32_t i = 0; i < want->count; i++) {
        const char *name = want->v[i].name;

        if (want->v[i].amount <= 0 || !is_own_resource(name)) continue;
        look_at(q, own_name_key(name, strlen(name)), least, ret);
        return true;
    }
    if (!p) return false;
    for (;; p++) {
        size_t len = strcspn(p, "|;\n");

        look_at(q, own_name_key(p, len), least, ret);
        p += len;
        if (*p != '|') return true;
    }
}

/* ---- the three questions ---- */

static struct sched_node *first(struct search *q) {
    const struct node_index *x = q->v->index;
    struct sched_node *best, *n;

    if (by_name(q, false, &best)) return best;
    for (uint32_t i = 0; i < x->shape_count; i++) {
        if (!enter(q, x->shapes[i]) || !(n = first_in_shape(q))) continue;
        if (!best || n->node < best->node) best = n;
        if (q->when == EVER) break;
    }
    return best;
}

struct sched_node *node_index_first(struct sched_view *v, const struct sched_ask *ask,
                                    int64_t busy_most, uint32_t from) {
    struct search q = {.v = v, .ask = ask, .busy_most = busy_most, .from = from};

    return first(&q);
}

struct sched_node *node_index_ever(struct sched_view *v, const struct sched_ask *ask) {
    struct search q = {.v = v, .ask = ask, .when = EVER};

    return first(&q);
}

/* The least busy one of the shape, if it is at most q->busy_most. */
static struct sched_node *least_in_shape(struct search *q) {
    int64_t low = busy_least(q, 1);
    struct sched_node *n = first_in_shape(q), *found;

    if (!n) return NULL;
    q->busy_most = sched_busy_after(n, q->ask->want);
    while (low < q->busy_most) { /* n is the first that is at most so busy */
        int64_t high = q->busy_most;

        q->busy_most = low + (high - low) / 2;
        found = first_in_shape(q);
        if (found) {
            n = found;
            q->busy_most = sched_busy_after(n, q->ask->want);
        } else {
            low = q->busy_most + 1;
            q->busy_most = high;
        }
    }
    return first_in_shape(q);
}

struct sched_node *node_index_least(struct sched_view *v, const struct sched_ask *ask) {
    struct search q = {.v = v, .ask = ask, .busy_most = BUSY_ANY};
    struct sched_node *best, *n;

    if (by_name(&q, true, &best)) return best;
    for (uint32_t i = 0; i < v->index->shape_count; i++) {
        if (!enter(&q, v->index->shapes[i])) continue;
        if (best) q.busy_most = sched_busy_after(best, ask->want);
        n = least_in_shape(&q);
        if (n && better(&q, n, best, true)) best = n;
    }
    return best;
}
