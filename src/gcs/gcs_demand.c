/* gcs_demand.c - leases that wait at raylets which cannot grant them: all of the cluster's unmet
 * demand, and the global scheduler's placing of it.
 *
 * A raylet says of each kind of lease (resources, strategy, labels) how many wait there; here equal
 * kinds of all raylets form a class, whose raylets are served in turn, TURN leases at a time. What
 * is placed is taken off the row of the node until its next report. A class is tried when it grows
 * and when a node that it fits on has more room: those that may go to that node alone are found by
 * it (waits), the others are few. A raylet counts what it has heard of (`seen`), so that a report
 * that crosses a placement asks for nothing twice. Nothing of this outlives the GCS: raylets say it
 * again. Bounds: LEASES_CLASSES_MAX rows of a raylet, DEMAND_ROWS, DEMAND_CLASSES; beyond, it is
 * answered -SKATE_EFULL: the raylet keeps it and says so again a second later.
 * Tests: tests/unit/gcs_demand_test.c, tests/e2e/test_demand.py. */
#include "gcs/gcs_demand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"
#include "sched/lease_queue.h"

enum { DEMAND_ROWS = 262144, DEMAND_CLASSES = 16384, TURN = 64, STEP_PICKS = 8192 };
#define BUSY_REASON "every node that could hold it is busy: it waits for room"

struct demand_row { /* of one raylet, in its class */
    struct demand_class *cls;
    struct demand_row *prev, *next;
    uint64_t number; /* its raylet's name of it */
    uint32_t node, job, count, placed, index;
    bool fresh; /* it was not answered yet */
    char name[64];
    uint32_t locality_count;
    uint64_t locality[LEASES_LOCALITY_MAX];
};
struct demand_class {
    struct skate_id key;
    struct resources want;
    uint32_t strategy, affinity, index;
    char labels[LABELS_MAX];
    struct demand_row *first, *last;
    uint32_t rows, waiting; /* waiting: rows in the list */
    bool wanted, listed;    /* wanted: to be tried at the end of this step; listed: in waits */
    uint32_t waits_at;      /* in whose list */
    struct demand_class *wait_prev, *wait_next, *wanted_next;
    int status; /* of the last try */
};
struct gcs_demands {
    struct demand_row **rows;
    struct demand_class **classes;
    uint32_t row_count, row_cap, class_count, class_cap;
    struct map row_of, class_of; /* by node and number; by what is wanted */
    struct demand_class *wanted, *wanted_last;
    struct demand_class *waits[POLICY_NODES_MAX + 1]; /* of a node: for it alone; 0: for any */
};

static struct gcs_demands *all(struct gcs *g) {
    if (!g->demands) g->demands = gcs_alloc(sizeof *g->demands);
    return g->demands;
}

static struct skate_id row_key(uint32_t node, uint64_t number) {
    return (struct skate_id){.owner = node, .seq = number};
}

/* ---- rows and classes ---- */

/* The list of a class holds those rows that want something. */
static void row_unlink(struct demand_row *w) {
    struct demand_class *c = w->cls;

    c->waiting--;
    *(w->prev ? &w->prev->next : &c->first) = w->next;
    *(w->next ? &w->next->prev : &c->last) = w->prev;
}

static void row_append(struct demand_row *w) {
    struct demand_class *c = w->cls;

    c->waiting++;
    w->next = NULL;
    w->prev = c->last;
    *(c->last ? &c->last->next : &c->first) = w;
    c->last = w;
}

static void unlist(struct gcs_demands *d, struct demand_class *c) {
    if (!c->listed) return;
    c->listed = false;
    *(c->wait_prev ? &c->wait_prev->wait_next : &d->waits[c->waits_at]) = c->wait_next;
    if (c->wait_next) c->wait_next->wait_prev = c->wait_prev;
}

/* It waits for room at that node, 0: at any. */
static void list(struct gcs_demands *d, struct demand_class *c, uint32_t node) {
    unlist(d, c);
    c->listed = true;
    c->waits_at = node;
    c->wait_prev = NULL;
    c->wait_next = d->waits[node];
    if (c->wait_next) c->wait_next->wait_prev = c;
    d->waits[node] = c;
}

static void class_drop(struct gcs *g, struct demand_class *c) {
    struct gcs_demands *d = g->demands;

    unlist(d, c);
    (void)map_remove(&d->class_of, &c->key);
    d->classes[c->index] = d->classes[--d->class_count];
    if (c->index < d->class_count) {
        d->classes[c->index]->index = c->index;
        SKATE_ASSERT(map_put(&d->class_of, &d->classes[c->index]->key, c->index) == 0);
    }
    free(c);
}

static void row_drop(struct gcs *g, struct demand_row *w) {
    struct gcs_demands *d = g->demands;
    struct demand_class *c = w->cls;
    struct skate_id key = row_key(w->node, w->number);

    if (w->count > 0) row_unlink(w);
    (void)map_remove(&d->row_of, &key);
    d->rows[w->index] = d->rows[--d->row_count];
    if (w->index < d->row_count) {
        struct demand_row *moved = d->rows[w->index];

        moved->index = w->index;
        key = row_key(moved->node, moved->number);
        SKATE_ASSERT(map_put(&d->row_of, &key, moved->index) == 0);
    }
    g->nodes[w->node - 1]->demands--;
    free(w);
    if (--c->rows == 0 && !c->wanted) class_drop(g, c);
}

static void row_count(struct demand_row *w, uint32_t count) {
    if (w->count > 0 && count == 0) row_unlink(w);
    if (w->count == 0 && count > 0) row_append(w);
    w->count = count;
}

static void want(struct gcs *g, struct demand_class *c) {
    struct gcs_demands *d = g->demands;

    if (c->wanted) return;
    c->wanted = true;
    c->wanted_next = NULL;
    *(d->wanted ? &d->wanted_last->wanted_next : &d->wanted) = c;
    d->wanted_last = c;
}

static struct demand_class *next_wanted(struct gcs_demands *d) {
    struct demand_class *c = d->wanted;

    d->wanted = c->wanted_next;
    c->wanted = false;
    return c;
}

/* The class of what m wants; NULL: it cannot be read, or there are too many. */
static struct demand_class *class_of(struct gcs *g, const struct wire_demand_report *m) {
    struct gcs_demands *d = all(g);
    struct demand_class *c;
    uint32_t len, labels_len, at, head[2] = {m->strategy, proc_node(m->affinity)};
    const void *packed = wire_demand_report_resources(m, &len);
    const char *labels = wire_demand_report_labels(m, &labels_len);
    uint8_t text[sizeof head + LABELS_MAX];
    struct skate_id key;

    if (labels_len >= LABELS_MAX || m->strategy >= SCHED_STRATEGIES) return NULL;
    memcpy(text, head, sizeof head);
    if (labels_len) memcpy(text + sizeof head, labels, labels_len);
    key = gcs_text_key(packed, len, (char *)text, (uint32_t)sizeof head + labels_len);
    at = map_get(&d->class_of, &key);
    if (at != MAP_NONE) return d->classes[at];
    if (d->class_count == DEMAND_CLASSES) return NULL;
    c = gcs_alloc(sizeof *c);
    *c = (struct demand_class){.key = key, .strategy = head[0], .affinity = head[1],
                               .index = d->class_count};
    if (resources_unpack(&c->want, packed, len) < 0 ||
        !labels_copy(c->labels, labels, labels_len) || !labels_is_selector(c->labels)) {
        free(c);
        return NULL;
    }
    if (d->class_count == d->class_cap)
        d->classes = gcs_grow(d->classes, &d->class_cap, sizeof(struct demand_class *));
    SKATE_ASSERT(map_put(&d->class_of, &key, d->class_count) == 0);
    return d->classes[d->class_count++] = c;
}

static struct demand_row *row_find(struct gcs *g, uint32_t node, uint64_t number) {
    struct skate_id key = row_key(node, number);
    uint32_t at = map_get(&all(g)->row_of, &key);

    return at == MAP_NONE ? NULL : g->demands->rows[at];
}

static struct demand_row *row_new(struct gcs *g, struct gcs_node *n,
                                  const struct wire_demand_report *m) {
    struct gcs_demands *d = all(g);
    struct skate_id key = row_key(n->number, m->cls);
    bool room = d->row_count < DEMAND_ROWS && n->demands < LEASES_CLASSES_MAX;
    struct demand_class *c = room ? class_of(g, m) : NULL;
    struct demand_row *w;

    if (!c) return NULL;
    w = gcs_alloc(sizeof *w);
    *w = (struct demand_row){.cls = c, .number = m->cls, .node = n->number,
                             .placed = m->seen, .index = d->row_count};
    if (d->row_count == d->row_cap)
        d->rows = gcs_grow(d->rows, &d->row_cap, sizeof(struct demand_row *));
    SKATE_ASSERT(map_put(&d->row_of, &key, d->row_count) == 0);
    d->rows[d->row_count++] = w;
    c->rows++;
    n->demands++;
    return w;
}

/* ---- what raylets say ---- */

/* n times `want` is taken there (n > 0), or was not wanted after all. It counts as what the node
 * says until its next report, so that nobody is told of room that is promised. */
static void charge(struct gcs *g, struct gcs_node *n, const struct resources *want, int64_t times) {
    struct sched_node *row = sched_view_find(&g->view, n->number);

    for (uint32_t i = 0; i < want->count; i++) {
        int64_t total = resources_amount(&row->total, want->v[i].name), by;
        struct resource one = want->v[i];

        if (__builtin_mul_overflow(one.amount, times, &by)) continue;
        one.amount = by;
        resources_take(&row->avail, &(struct resources){.count = 1, .v = {one}});
        resources_take(&n->reported, &(struct resources){.count = 1, .v = {one}});
        if (resources_amount(&n->reported, one.name) < 0)
            SKATE_ASSERT(resources_set(&n->reported, one.name, 0) == 0);
        if (times < 0 && resources_amount(&row->avail, one.name) > total)
            SKATE_ASSERT(resources_set(&row->avail, one.name, total) == 0);
        if (times < 0 && resources_amount(&n->reported, one.name) > total)
            SKATE_ASSERT(resources_set(&n->reported, one.name, total) == 0);
    }
    sched_view_touch(&g->view, row);
}

static void give_back(struct gcs *g, const struct wire_demand_report *m) {
    struct gcs_node *n = gcs_node_find(g, m->not_there);
    struct resources want;
    uint32_t len;
    const void *packed = wire_demand_report_resources(m, &len);

    if (!n || !n->alive || resources_unpack(&want, packed, len) < 0) return;
    charge(g, n, &want, -(int64_t)m->unused);
    gcs_demand_room(g, sched_view_find(&g->view, n->number));
    if (g->actors_pending || g->groups.unplaced) g->place_wanted = true;
}

/* What it says is free there now; what it sent back did not fit where it was sent. */
static void take_news(struct gcs *g, struct gcs_node *n, const struct wire_demand_report *m) {
    struct sched_node *full = m->full ? sched_view_find(&g->view, m->full) : NULL;
    struct sched_node *own = sched_view_find(&g->view, n->number);
    struct resources avail;
    uint32_t len;
    const void *packed = wire_demand_report_available(m, &len);

    if (len && resources_unpack(&avail, packed, len) == 0) gcs_node_has(g, n, &avail);
    if (m->unused) give_back(g, m);
    if (!full || full == own) return;
    for (uint32_t i = 0; i < full->avail.count; i++) full->avail.v[i].amount = 0;
    sched_view_touch(&g->view, full);
}

static void refuse(struct gcs *g, const struct gcs_node *n, uint64_t cls) {
    static const char reason[] = "the control store holds no more different demands";
    struct wire_demand_place *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_DEMAND_PLACE);
    m->cls = cls;
    m->status = -SKATE_EFULL;
    WIRE_PUT(&b, demand_place, reason, reason, sizeof reason - 1);
    gcs_send_link(g, n->link, &b);
}

void gcs_demand_report(struct gcs *g, const struct gcs_from *from,
                       const struct wire_demand_report *m) {
    struct gcs_node *n = from->node;
    struct demand_row *w = row_find(g, n->number, m->cls);
    int32_t ahead; /* placed, and not known there yet */
    uint32_t len;
    const void *p;

    if (from->src) return; /* only raylets say so */
    take_news(g, n, m);
    if (m->count == 0) {
        if (w) row_drop(g, w);
        return;
    }
    if (!w) w = row_new(g, n, m);
    if (!w) {
        refuse(g, n, m->cls);
        return;
    }
    ahead = (int32_t)(w->placed - m->seen);
    if (ahead < 0) {
        ahead = 0;
        w->placed = m->seen;
    }
    row_count(w, m->count > (uint32_t)ahead ? m->count - (uint32_t)ahead : 0);
    w->job = m->job;
    w->fresh = true;
    p = wire_demand_report_name(m, &len);
    (void)snprintf(w->name, sizeof w->name, "%.*s", len > 63 ? 63 : (int)len, (const char *)p);
    p = wire_demand_report_locality(m, &len);
    w->locality_count = len < LEASES_LOCALITY_MAX ? len : LEASES_LOCALITY_MAX;
    memcpy(w->locality, p, w->locality_count * sizeof *w->locality);
    want(g, w->cls);
}

/* ---- placing ---- */

struct turn { /* what one raylet is told */
    uint32_t nodes[TURN], counts[TURN], n;
    int status;
};

static void say(struct gcs *g, struct demand_row *w, const struct turn *t, const char *reason) {
    struct wire_demand_place *m;
    struct wire_buf b;

    w->fresh = false;
    for (uint32_t i = 0; i < t->n; i++) gcs_says(g, g->nodes[t->nodes[i] - 1]->batch);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_DEMAND_PLACE);
    m->cls = w->number;
    m->status = t->status;
    WIRE_PUT(&b, demand_place, nodes, t->nodes, t->n * sizeof *t->nodes);
    WIRE_PUT(&b, demand_place, counts, t->counts, t->n * sizeof *t->counts);
    WIRE_PUT(&b, demand_place, reason, reason, strlen(reason));
    gcs_send_link(g, g->nodes[w->node - 1]->link, &b);
}

static struct sched_ask ask_of(const struct demand_row *w) {
    const struct demand_class *c = w->cls;

    return (struct sched_ask){.want = &c->want, .strategy = c->strategy, .affinity = c->affinity,
                              .locality = w->locality, .locality_count = w->locality_count,
                              .labels = c->labels, .here = w->node};
}

/* So many go there. Spread: one, so that the next goes elsewhere; so do those whose arguments lie
 * somewhere. */
static uint32_t put(struct gcs *g, struct demand_row *w, uint32_t node) {
    struct sched_node *row = sched_view_find(&g->view, node);
    const struct resources *r = &w->cls->want;
    uint32_t n = sched_times(&row->avail, r, w->count);

    if (n == 0 || w->cls->strategy == SCHED_SPREAD || w->locality_count) n = 1;
    charge(g, g->nodes[node - 1], r, n);
    if (w->locality_count > 0) {
        w->locality_count--;
        memmove(w->locality, w->locality + 1, w->locality_count * sizeof *w->locality);
    }
    w->placed += n;
    row_count(w, w->count - n);
    return n;
}

/* One raylet's turn; 0: the next one's. */
static int serve(struct gcs *g, struct demand_row *w, uint32_t *picks) {
    struct turn t = {.n = 0};
    int r = 0;

    while (w->count > 0 && t.n < TURN && *picks < STEP_PICKS) {
        struct sched_ask ask = ask_of(w);
        uint32_t node;

        ++*picks;
        r = gcs_place_pick(g, &ask, &node);
        if (r < 0) break;
        t.counts[t.n] = put(g, w, node);
        if (t.n > 0 && t.nodes[t.n - 1] == node)
            t.counts[t.n - 1] += t.counts[t.n];
        else
            t.nodes[t.n++] = node;
    }
    t.status = w->count > 0 ? r : 0;
    if (t.n > 0 || (w->fresh && r == -SKATE_EAGAIN)) say(g, w, &t, r < 0 ? BUSY_REASON : "");
    return r;
}

/* No node can ever hold it: each raylet hears so once, with the name of its own task. */
static void say_never(struct gcs *g, struct demand_class *c, bool news) {
    struct turn t = {.status = -SKATE_ENOENT};

    for (struct demand_row *w = c->first, *next; w; w = next) {
        struct sched_ask ask = ask_of(w);
        struct skate_error text = {""};
        char who[96];

        next = w->next;
        if (!news && !w->fresh) continue;
        (void)snprintf(who, sizeof who, "Task %s", w->name);
        sched_explain(&g->view, &ask, who, &text);
        say(g, w, &t, text.text);
    }
}

/* Where its next chance is: at the one node that it may go to, or anywhere. */
static uint32_t waits_for(struct gcs *g, const struct demand_class *c) {
    struct sched_ask ask = {.want = &c->want};
    const struct sched_node *wish;

    if (sched_is_hard(c->strategy)) return c->affinity <= POLICY_NODES_MAX ? c->affinity : 0;
    wish = c->strategy == SCHED_SOFT ? sched_view_find(&g->view, c->affinity) : NULL;
    return wish && wish->alive && resources_fit(&wish->total, ask.want, NULL) ? wish->node : 0;
}

static void place_class(struct gcs *g, struct demand_class *c, uint32_t *picks) {
    int was = c->status;

    c->status = 0;
    while (c->waiting > 0 && *picks < STEP_PICKS) {
        struct demand_row *w = c->first;

        c->status = serve(g, w, picks);
        if (c->status < 0) break;
        if (w->count == 0) continue;
        row_unlink(w); /* its turn is over */
        row_append(w);
    }
    if (c->status == -SKATE_ENOENT) say_never(g, c, was != c->status);
    for (struct demand_row *w = c->first; c->status == -SKATE_EAGAIN && w; w = w->next)
        if (w->fresh) say(g, w, &(struct turn){.status = c->status}, BUSY_REASON);
    if (c->waiting > 0 && c->status == 0) want(g, c); /* the rest in the next step */
    if (c->waiting > 0)
        list(g->demands, c, waits_for(g, c));
    else
        unlist(g->demands, c);
}

void gcs_demand_place(struct gcs *g) {
    uint32_t picks = 0;

    while (g->demands && g->demands->wanted && picks < STEP_PICKS) {
        struct demand_class *c = next_wanted(g->demands);

        if (c->rows == 0)
            class_drop(g, c);
        else
            place_class(g, c, &picks);
    }
}

/* Labels and amounts: does it fit there now? */
static bool fits(const struct demand_class *c, const struct sched_node *row) {
    if (!resources_fit(&row->avail, &c->want, NULL)) return false;
    for (const char *a = c->labels; a; a = labels_next(a))
        if (labels_fit(row->labels, a)) return true;
    return false;
}

static void room_for(struct gcs *g, uint32_t list_of, const struct sched_node *row) {
    for (struct demand_class *c = g->demands->waits[list_of]; c; c = c->wait_next)
        if (!c->wanted && fits(c, row)) want(g, c);
}

void gcs_demand_room(struct gcs *g, const struct sched_node *row) {
    if (!g->demands) return;
    room_for(g, 0, row);
    room_for(g, row->node, row);
}

void gcs_demand_nodes(struct gcs *g) {
    for (uint32_t i = 0; g->demands && i < g->demands->class_count; i++)
        if (g->demands->classes[i]->waiting) want(g, g->demands->classes[i]);
}

void gcs_demand_node_lost(struct gcs *g, uint32_t node) {
    for (uint32_t i = g->demands ? g->demands->row_count : 0; i-- > 0;)
        if (g->demands->rows[i]->node == node) row_drop(g, g->demands->rows[i]);
    gcs_demand_nodes(g);
}

void gcs_demand_release(struct gcs *g) {
    struct gcs_demands *d = g->demands;

    if (!d) return;
    while (d->wanted) (void)next_wanted(d);
    while (d->row_count > 0) row_drop(g, d->rows[0]);
    while (d->class_count > 0) class_drop(g, d->classes[0]);
    map_release(&d->row_of);
    map_release(&d->class_of);
    free(d->rows);
    free(d->classes);
    free(d);
    g->demands = NULL;
}

/* ---- the list ---- */

struct line { /* one demand_info */
    struct skate_id id;
    const struct sched_ask *ask;
    uint32_t node, job, count, kind;
    int status;
    const char *name, *reason;
};

static void add_line(struct wire_row_list *r, const struct line *l) {
    uint8_t packed[RESOURCES_MAX * 80];
    const char *labels = l->ask->labels ? l->ask->labels : "";
    struct wire_demand_info *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_DEMAND_INFO);
    m->id = l->id;
    m->affinity = l->ask->affinity;
    m->node = l->node;
    m->job = l->job;
    m->count = l->count;
    m->kind = l->kind;
    m->strategy = l->ask->strategy;
    m->status = l->status;
    WIRE_PUT(&b, demand_info, name, l->name, strlen(l->name));
    WIRE_PUT(&b, demand_info, resources, packed, resources_pack(l->ask->want, packed,
                                                               sizeof packed));
    WIRE_PUT(&b, demand_info, labels, labels, strlen(labels));
    WIRE_PUT(&b, demand_info, reason, l->reason, strlen(l->reason));
    wire_rows_add(r, &b);
}

/* With the reason why it waits. */
static void add_ask(struct gcs *g, struct wire_row_list *r, struct line *l) {
    struct skate_error text = {""};

    l->reason = BUSY_REASON;
    if (l->status == -SKATE_ENOENT) {
        sched_explain(&g->view, l->ask, "it", &text);
        l->reason = text.text;
    }
    add_line(r, l);
}

static void add_actor(struct gcs *g, struct wire_row_list *r, const struct gcs_actor *a) {
    struct gcs_demand d;
    struct line l = {.id = a->id, .ask = &d.ask, .job = a->job, .count = 1, .kind = 1,
                     .name = a->texts, .status = -SKATE_EAGAIN};

    if (gcs_demand_of(a->create, &d) < 0) return;
    if (!id_is_nil(&a->group)) {
        l.reason = "it waits for its placement group";
        add_line(r, &l);
        return;
    }
    l.status = sched_could(&g->view, &d.ask) == -SKATE_ENOENT ? -SKATE_ENOENT : -SKATE_EAGAIN;
    add_ask(g, r, &l);
}

static void add_group(struct wire_row_list *r, const struct gcs_group *p) {
    static const char *const reasons[] = {
        "its placement group waits for nodes that can hold all its bundles",
        "the nodes of the cluster can never hold all bundles of its placement group"};

    if (p->state != GROUP_PENDING && p->state != GROUP_RESCHEDULING) return;
    for (uint32_t i = 0; i < p->count; i++) {
        struct sched_ask ask = {.want = &p->b[i].want, .strategy = p->strategy};
        struct line l = {.id = p->id, .ask = &ask, .job = p->job, .count = 1, .kind = 2,
                         .name = p->name, .reason = reasons[p->infeasible_told],
                         .status = p->infeasible_told ? -SKATE_ENOENT : -SKATE_EAGAIN};

        if (p->phase[i] == BUNDLE_NONE) add_line(r, &l);
    }
}

void gcs_demand_list(struct gcs *g, struct wire_row_list *r) {
    for (uint32_t i = 0; g->demands && i < g->demands->row_count; i++) {
        const struct demand_row *w = g->demands->rows[i];
        struct sched_ask ask = ask_of(w);
        struct line l = {.ask = &ask, .node = w->node, .job = w->job, .count = w->count,
                         .name = w->name, .status = w->cls->status};

        if (w->count > 0) add_ask(g, r, &l);
    }
    for (uint32_t i = g->pending; i != MAP_NONE; i = g->actors[i]->next_pending)
        add_actor(g, r, g->actors[i]);
    for (uint32_t i = 0; i < g->groups.count; i++) add_group(r, g->groups.v[i]);
}
