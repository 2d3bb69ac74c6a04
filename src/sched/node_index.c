/* node_index.c - see node_index.h: shapes, their trees, and what has changed since. */
#include "sched/node_index_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { EXACT_MOST = 4096 * RESOURCE_UNIT }; /* larger totals (bytes of memory) differ a little */

/* ---- shapes ---- */

static uint64_t fold(uint64_t h, const void *data, size_t len) {
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

struct skate_id own_name_key(const char *text, size_t len) {
    return (struct skate_id){.owner = fold(UINT64_C(0xcbf29ce484222325), text, len),
                             .seq = fold(UINT64_C(0x9ae16a3b2f90404f), text, len)};
}

/* Large amounts in steps of an eighth of their power of two. */
static int64_t about(int64_t total) {
    int shift;

    if (total <= EXACT_MOST) return total;
    shift = 63 - __builtin_clzll((uint64_t)total) - 3;
    return (int64_t)((uint64_t)total >> shift << shift);
}

/* What a node's shape is, without its nodes. */
static void shape_of(const struct sched_node *n, struct shape *ret) {
    size_t used = 0;

    memset(ret, 0, sizeof *ret);
    for (uint32_t i = 0; i < n->total.count; i++) {
        const struct resource *r = &n->total.v[i];
        struct dim *d = &ret->dims[ret->dim_count];

        if (is_own_resource(r->name)) continue;
        memcpy(d->name, r->name, sizeof d->name);
        d->total = about(r->amount);
        d->exact = r->amount <= EXACT_MOST;
        ret->dim_count++;
    }
    for (const char *p = n->labels; *p;) {
        size_t all = strcspn(p, ",");

        if (strncmp(p, OWN_LABEL "=", sizeof OWN_LABEL) != 0) {
            if (used) ret->labels[used++] = ',';
            memcpy(ret->labels + used, p, all);
            used += all;
        }
        p += all + (p[all] == ',');
    }
    ret->hash = fold(UINT64_C(0xcbf29ce484222325), ret->labels, used);
    for (uint32_t i = 0; i < ret->dim_count; i++) {
        ret->hash = fold(ret->hash, ret->dims[i].name, strlen(ret->dims[i].name) + 1);
        ret->hash = fold(ret->hash, &ret->dims[i].total, sizeof ret->dims[i].total);
    }
}

static bool same_shape(const struct shape *a, const struct shape *b) {
    if (a->hash != b->hash || a->dim_count != b->dim_count || strcmp(a->labels, b->labels) != 0)
        return false;
    for (uint32_t i = 0; i < a->dim_count; i++)
        if (a->dims[i].total != b->dims[i].total || a->dims[i].exact != b->dims[i].exact ||
            strcmp(a->dims[i].name, b->dims[i].name) != 0)
            return false;
    return true;
}

static void shape_free(struct shape *s) {
    free(s->rows);
    free(s->peaks);
    free(s->flags);
    free(s);
}

static struct shape *shape_find(struct node_index *x, const struct shape *like, uint32_t *ret) {
    struct shape *s;

    for (*ret = 0; *ret < x->shape_count; ++*ret)
        if (same_shape(x->shapes[*ret], like)) return x->shapes[*ret];
    if (x->shape_count == x->shape_cap) {
        uint32_t cap = x->shape_cap ? x->shape_cap * 2 : 8;
        struct shape **grown = realloc(x->shapes, cap * sizeof(struct shape *));

        if (!grown) return NULL;
        x->shapes = grown;
        x->shape_cap = cap;
    }
    s = malloc(sizeof *s);
    if (!s) return NULL;
    *s = *like;
    return x->shapes[x->shape_count++] = s;
}

/* ---- trees ---- */

static void set_leaf(struct shape *s, uint32_t leaf, const struct sched_node *n) {
    struct peak *p = &s->peaks[(size_t)(s->leaves + leaf) * s->dim_count];
    bool alive = n && n->alive, open = alive && !n->closed;

    s->flags[s->leaves + leaf] = (uint8_t)((alive ? SOME_ALIVE : 0) | (open ? SOME_OPEN : 0));
    for (uint32_t i = 0; i < s->dim_count; i++, p++) {
        p->free = INT64_MIN;
        p->total = alive ? resources_amount(&n->total, s->dims[i].name) : INT64_MIN;
        p->part = -1e300;
        if (!open) continue;
        p->free = resources_amount(&n->avail, s->dims[i].name);
        p->part = p->total > 0 ? (double)p->free / (double)p->total : 1e300;
    }
}

static void set_inner(struct shape *s, uint32_t at) {
    struct peak *p = &s->peaks[(size_t)at * s->dim_count];
    const struct peak *a = &s->peaks[(size_t)at * 2 * s->dim_count], *b = a + s->dim_count;

    s->flags[at] = s->flags[2 * at] | s->flags[2 * at + 1];
    for (uint32_t i = 0; i < s->dim_count; i++, p++, a++, b++) {
        p->free = a->free > b->free ? a->free : b->free;
        p->total = a->total > b->total ? a->total : b->total;
        p->part = a->part > b->part ? a->part : b->part;
    }
}

static void set_row(struct shape *s, uint32_t leaf, const struct sched_node *n) {
    set_leaf(s, leaf, n);
    for (uint32_t at = (s->leaves + leaf) / 2; at >= 1; at /= 2) set_inner(s, at);
}

static bool grow(struct shape *s) {
    uint32_t leaves = s->leaves ? s->leaves * 2 : 8;
    uint32_t *rows = realloc(s->rows, leaves * sizeof *rows);
    struct peak *peaks = malloc((2 * (size_t)leaves * s->dim_count + 1) * sizeof *peaks);
    uint8_t *flags = malloc(2 * (size_t)leaves);

    if (rows) s->rows = rows;
    if (!rows || !peaks || !flags) {
        free(peaks);
        free(flags);
        return false;
    }
    free(s->peaks);
    free(s->flags);
    s->peaks = peaks;
    s->flags = flags;
    s->leaves = leaves;
    return true;
}

static bool is_in(const struct node_index *x, const struct shape *s, const struct sched_node *n) {
    return n && n->shape < x->shape_count && x->shapes[n->shape] == s;
}

/* All leaves anew; slots of former members are empty. */
static void refill(struct sched_view *v, struct shape *s) {
    for (uint32_t i = 0; i < s->leaves; i++) {
        struct sched_node *n = i < s->count ? sched_view_find(v, s->rows[i]) : NULL;

        if (!is_in(v->index, s, n)) n = NULL;
        if (n) n->leaf = i;
        set_leaf(s, i, n);
    }
    for (uint32_t at = s->leaves - 1; at >= 1; at--) set_inner(s, at);
}

static bool join(struct sched_view *v, struct shape *s, struct sched_node *n) {
    uint32_t at = s->count;
    bool grown = false;

    while (at > 0 && s->rows[at - 1] >= n->node) at--; /* nearly always the last */
    if (at == s->count || s->rows[at] != n->node) {
        if (s->count == s->leaves) {
            if (!grow(s)) return false;
            grown = true;
        }
        memmove(&s->rows[at + 1], &s->rows[at], (s->count - at) * sizeof *s->rows);
        s->rows[at] = n->node;
        s->count++;
    }
    n->leaf = at;
    if (grown || at + 1 < s->count)
        refill(v, s);
    else
        set_row(s, at, n);
    return true;
}

/* ---- names of a node alone ---- */

static bool name_add(struct node_index *x, struct skate_id key, uint32_t node) {
    uint32_t first = map_get(&x->names, &key);

    if (first != MAP_NONE && x->named[first].node == node) return true;
    if (x->named_count == x->named_cap) {
        uint32_t cap = x->named_cap ? x->named_cap * 2 : 64;
        struct named *more = realloc(x->named, cap * sizeof *more);

        if (!more) return false;
        x->named = more;
        x->named_cap = cap;
    }
    x->named[x->named_count] = (struct named){.node = node, .next = first};
    return map_put(&x->names, &key, x->named_count++) == 0;
}

static bool names_add(struct node_index *x, const struct sched_node *n) {
    for (uint32_t i = 0; i < n->total.count; i++) {
        const char *name = n->total.v[i].name;

        if (is_own_resource(name) && !name_add(x, own_name_key(name, strlen(name)), n->node))
            return false;
    }
    for (const char *p = n->labels; *p;) {
        size_t all = strcspn(p, ","), own = sizeof OWN_LABEL;

        if (strncmp(p, OWN_LABEL "=", own) == 0 &&
            !name_add(x, own_name_key(p + own, all - own), n->node))
            return false;
        p += all + (p[all] == ',');
    }
    return true;
}

/* ---- what has changed ---- */

static bool reshape(struct sched_view *v, struct sched_node *n) {
    struct node_index *x = v->index;
    struct shape like, *s;
    uint32_t to, was = n->shape;

    n->reshaped = false;
    shape_of(n, &like);
    s = shape_find(x, &like, &to);
    if (!s || !names_add(x, n)) return false;
    if (was == to) return set_row(s, n->leaf, n), true;
    if (was < x->shape_count) set_row(x->shapes[was], n->leaf, NULL);
    n->shape = to;
    return join(v, s, n);
}

void node_index_queue(struct sched_view *v, struct sched_node *n, bool reshaped) {
    struct node_index *x = v->index;

    if (!x || n->node == v->self) return;
    n->reshaped |= reshaped;
    if (n->queued) return;
    if (x->queued == x->queue_cap) {
        uint32_t cap = x->queue_cap ? x->queue_cap * 2 : 64;
        uint32_t *more = realloc(x->queue, cap * sizeof *more);

        if (!more) {
            x->broken = true;
            return;
        }
        x->queue = more;
        x->queue_cap = cap;
    }
    n->queued = true;
    x->queue[x->queued++] = n->node;
}

void node_index_free(struct sched_view *v) {
    struct node_index *x = v->index;

    if (!x) return;
    for (uint32_t i = 0; i < x->shape_count; i++) shape_free(x->shapes[i]);
    free(x->shapes);
    free(x->queue);
    map_release(&x->names);
    free(x->named);
    free(x);
    v->index = NULL;
}

static void start(struct sched_view *v) {
    v->index = calloc(1, sizeof *v->index);
    for (uint32_t i = 0; v->index && i < v->count; i++) {
        v->nodes[i].queued = false;
        v->nodes[i].shape = UINT32_MAX;
        node_index_queue(v, &v->nodes[i], true);
    }
}

bool node_index_ready(struct sched_view *v) {
    struct node_index *x = v->index;
    bool ok = true;

    if (x && (x->broken || x->named_count > 4 * v->count + 64)) node_index_free(v);
    if (!v->index && v->count >= (v->index_from ? v->index_from : INDEX_FROM)) start(v);
    x = v->index;
    if (!x) return false;
    for (uint32_t i = 0; i < x->queued && ok; i++) { /* in order: newcomers are the last */
        struct sched_node *n = sched_view_find(v, x->queue[i]);

        n->queued = false;
        if (n->reshaped)
            ok = reshape(v, n);
        else
            set_row(x->shapes[n->shape], n->leaf, n);
    }
    x->queued = 0;
    if (!ok || x->broken) node_index_free(v);
    return v->index != NULL;
}
