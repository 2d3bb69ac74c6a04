/* gcs_restore.c - the store built again from its records (gcs_records.c), after the process ended.
 *
 * Records are gathered first, in any order, then built table by table, each judged against those
 * below it: a log may be damaged, and nothing in it may make this process do what no step could.
 * What an attempt to place a group had reserved is forgotten here; the nodes' words about bundles
 * that nobody wants any more are answered with a release. Tests: tests/unit/gcs_records_test.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"

struct gcs_restoring {
    void **v[GCS_TABLES]; /* owned frames */
    uint32_t count[GCS_TABLES], cap[GCS_TABLES];
    struct map specs; /* actor -> index in v[GCS_SPECS] */
    uint32_t dropped;
    bool drop;
    char text[256]; /* of the first that does not fit */
};

void gcs_restore_release(struct gcs *g) {
    struct gcs_restoring *r = g->restoring;

    if (!r) return;
    for (uint32_t t = 0; t < GCS_TABLES; t++) {
        for (uint32_t i = 0; i < r->count[t]; i++) free(r->v[t][i]);
        free(r->v[t]);
    }
    map_release(&r->specs);
    free(r);
    g->restoring = NULL;
}

int gcs_restore_record(struct gcs *g, uint32_t table, const void *value, uint32_t len) {
    static const uint16_t kinds[GCS_TABLES] = {
        [GCS_META] = WIRE_REC_META, [GCS_NODES] = WIRE_REC_NODE, [GCS_JOBS] = WIRE_REC_JOB,
        [GCS_ACTORS] = WIRE_REC_ACTOR, [GCS_SPECS] = WIRE_ACTOR_CREATE,
        [GCS_GROUPS] = WIRE_REC_GROUP, [GCS_VALUES] = WIRE_REC_VALUE};
    struct gcs_restoring *r = g->restoring;
    void *frame;

    if (!r) r = g->restoring = gcs_alloc(sizeof *r);
    if (table >= GCS_TABLES) return -SKATE_EPROTO;
    frame = gcs_copy(value, len); /* aligned */
    if (wire_check(frame, len) < 0 || wire_head(frame)->kind != kinds[table]) {
        free(frame);
        return -SKATE_EPROTO;
    }
    if (r->count[table] == r->cap[table])
        r->v[table] = gcs_grow(r->v[table], &r->cap[table], sizeof *r->v[table]);
    r->v[table][r->count[table]++] = frame;
    return 0;
}

/* A record that does not fit; true: go on without it. */
static bool misfit(struct gcs_restoring *r, const char *what, uint64_t who, const char *why) {
    if (!r->dropped++)
        (void)snprintf(r->text, sizeof r->text, "the record of %s %llx %s", what,
                       (unsigned long long)who, why);
    return r->drop;
}

/* Text of a span as a string of its own; NULL: too long, or a NUL is in it. */
static char *text_of(const char *p, uint32_t len, uint32_t max) {
    char *out;

    if (len > max || memchr(p, 0, len)) return NULL;
    out = gcs_alloc((size_t)len + 1);
    memcpy(out, p, len);
    return out;
}

/* ------------------------------------------------------------------ nodes and jobs */

static bool build_node(struct gcs *g, const struct wire_rec_node *m) {
    uint32_t ip_len, why_len, len, packed_len, labels_len;
    const char *ip = wire_rec_node_ip(m, &ip_len), *why = wire_rec_node_reason(m, &why_len);
    const void *frame = wire_rec_node_registered(m, &len);
    const struct wire_node_register *reg = frame;
    struct resources total;
    struct sched_node *row;
    struct gcs_node *n;
    const void *labels;

    if (ip_len > 64 || why_len >= GCS_REASON || wire_check(frame, len) < 0 ||
        wire_head(frame)->kind != WIRE_NODE_REGISTER || reg->labels.len >= LABELS_MAX ||
        resources_unpack(&total, wire_node_register_resources(reg, &packed_len),
                         reg->resources.len) < 0)
        return false;
    n = gcs_alloc(sizeof *n);
    if (g->node_count == g->node_cap) g->nodes = gcs_grow(g->nodes, &g->node_cap, sizeof *g->nodes);
    g->nodes[g->node_count++] = n;
    n->number = g->node_count;
    n->alive = m->alive != 0;
    n->heard_ns = n->health.turned_ns = g->now;
    n->stale = n->restored = true; /* away, until it comes back by its number */
    n->away_until_ns = g->now + g->opts.heartbeat_ms * INT64_C(1000000);
    n->reported = n->loading = total;
    for (uint32_t i = 0; i < total.count; i++) n->loading.v[i].amount = 0;
    n->reserving = n->loading;
    n->registered = gcs_copy(frame, len);
    n->ip = gcs_alloc((size_t)ip_len + 1);
    memcpy(n->ip, ip, ip_len);
    memcpy(n->reason, why, why_len);
    if (n->alive)
        (void)snprintf(n->reason, sizeof n->reason,
                       "it has not come back after the restart of the control store");
    row = sched_view_add(&g->view, n->number);
    SKATE_ASSERT(row);
    row->total = row->avail = total;
    labels = wire_node_register_labels(reg, &labels_len);
    (void)labels_copy(row->labels, labels, labels_len);
    sched_view_reshape(&g->view, row);
    gcs_place_row(g, n);
    return true;
}

/* Numbers are places in a table: of one whose record is lost, something dead must stand there. */
static void fill_node(struct gcs *g) {
    struct wire_node_register reg = {.head = {.size = sizeof reg, .kind = WIRE_NODE_REGISTER,
                                              .fixed = sizeof reg}};
    static const char why[] = "its record was lost";
    struct wire_rec_node *m;
    struct wire_buf b;

    reg.node_id.owner = g->node_count + 1;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_REC_NODE);
    m->number = g->node_count + 1;
    WIRE_PUT(&b, rec_node, reason, why, sizeof why - 1);
    WIRE_PUT(&b, rec_node, registered, &reg, sizeof reg);
    SKATE_ASSERT(wire_end(&b) == 0 && build_node(g, (const void *)b.p));
    wire_release(&b);
}

static int by_node(const void *a, const void *b) {
    const struct wire_rec_node *const *x = a, *const *y = b;

    return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

static bool build_nodes(struct gcs *g, struct gcs_restoring *r) {
    uint32_t count = r->count[GCS_NODES];

    if (count) qsort(r->v[GCS_NODES], count, sizeof(void *), by_node);
    for (uint32_t i = 0; i < count; i++) {
        const struct wire_rec_node *m = r->v[GCS_NODES][i];

        if (m->number > g->node_count + 1 && m->number <= POLICY_NODES_MAX) {
            if (!misfit(r, "node", g->node_count + 1, "is missing")) return false;
            while (g->node_count + 1 < m->number) fill_node(g);
        }
        if (m->number != g->node_count + 1 || !build_node(g, m))
            if (!misfit(r, "node", m->number, "cannot be read")) return false;
    }
    return true;
}

static bool build_job(struct gcs *g, const struct wire_rec_job *m) {
    uint32_t space_len, config_len, entry_len;
    const char *space = wire_rec_job_namespace(m, &space_len);
    const void *config = wire_rec_job_config(m, &config_len);
    const char *entry = wire_rec_job_entrypoint(m, &entry_len);
    struct gcs_job *j;

    if (space_len > GCS_NAME_MAX || entry_len > GCS_ENTRY_MAX ||
        (m->live && !gcs_node_find(g, proc_node(m->driver))))
        return false;
    j = gcs_alloc(sizeof *j);
    if (g->job_count == g->job_cap) g->jobs = gcs_grow(g->jobs, &g->job_cap, sizeof *g->jobs);
    g->jobs[g->job_count++] = j;
    j->number = g->job_count;
    j->live = m->live != 0;
    j->driver = m->driver;
    j->pid = m->pid;
    if (j->live || config_len || space_len) { /* ended ones keep them for their detached actors */
        j->space = gcs_copy(space, space_len);
        j->space_len = space_len;
        j->config = gcs_copy(config, config_len);
        j->config_len = config_len;
        g->spec_bytes += (uint64_t)config_len + space_len;
    }
    j->entry = gcs_copy(entry, entry_len);
    j->entry_len = entry_len;
    return true;
}

static int by_job(const void *a, const void *b) {
    const struct wire_rec_job *const *x = a, *const *y = b;

    return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

static bool build_jobs(struct gcs *g, struct gcs_restoring *r) {
    static const struct wire_rec_job none = {
        .head = {.size = sizeof none, .kind = WIRE_REC_JOB, .fixed = sizeof none}};
    uint32_t count = r->count[GCS_JOBS];

    if (count) qsort(r->v[GCS_JOBS], count, sizeof(void *), by_job);
    for (uint32_t i = 0; i < count; i++) {
        const struct wire_rec_job *m = r->v[GCS_JOBS][i];

        if (m->number > g->job_count + 1 && m->number <= g->opts.jobs_max) {
            if (!misfit(r, "job", g->job_count + 1, "is missing")) return false;
            while (g->job_count + 1 < m->number) SKATE_ASSERT(build_job(g, &none));
        }
        if (m->number != g->job_count + 1 || !build_job(g, m))
            if (!misfit(r, "job", m->number, "cannot be read")) return false;
    }
    return true;
}

/* ------------------------------------------------------------------ actors */

static bool set_texts(struct gcs_actor *a, const struct wire_rec_actor *m) {
    uint32_t cls_len, name_len, space_len, why_len;
    const char *cls = wire_rec_actor_cls(m, &cls_len);
    const char *name = wire_rec_actor_name(m, &name_len);
    const char *space = wire_rec_actor_namespace(m, &space_len);
    const char *why = wire_rec_actor_reason(m, &why_len);

    if (cls_len > GCS_NAME_MAX || name_len > GCS_NAME_MAX || space_len > GCS_NAME_MAX ||
        memchr(cls, 0, cls_len) || memchr(name, 0, name_len) || memchr(space, 0, space_len))
        return false;
    gcs_actor_texts(a, (struct gcs_text){cls, cls_len}, (struct gcs_text){name, name_len},
                    (struct gcs_text){space, space_len});
    if (why_len) a->reason = text_of(why, why_len, 2 * GCS_REASON);
    return !why_len || a->reason;
}

/* What only its states allow; `a` is not in the tables yet. */
static bool fits(struct gcs *g, const struct gcs_actor *a) {
    struct gcs_node *n = gcs_node_find(g, a->node);
    struct skate_id name = gcs_text_key(a->space, (uint32_t)strlen(a->space), a->name,
                                        (uint32_t)strlen(a->name));

    if (id_is_nil(&a->id) || gcs_actor_find(g, &a->id)) return false;
    if (a->state == GCS_DEAD) return true;
    if (!a->create || (a->name[0] && map_get(&g->actor_names, &name) != MAP_NONE)) return false;
    if (a->state == GCS_PENDING) return true;
    if (!n || !n->alive) return false;
    return a->state == GCS_STARTING ||
           (a->proc && proc_node(a->proc) == a->node && !gcs_actor_of_proc(g, a->proc));
}

/* The frame that starts it, checked as at its creation. */
static void *take_spec(struct gcs_restoring *r, const struct skate_id *id) {
    uint32_t i = map_get(&r->specs, id), n, vals, data_len;
    struct wire_actor_create *m = i == MAP_NONE ? NULL : r->v[GCS_SPECS][i];
    struct gcs_demand demand;
    struct resources held;

    if (!m) return NULL;
    (void)wire_actor_create_held(m, &n);
    (void)wire_actor_create_fn_data(m, &data_len);
    if (gcs_demand_of(m, &demand) < 0 ||
        resources_unpack(&held, wire_actor_create_held(m, &n), m->held.len) < 0 ||
        wire_check_vals(wire_actor_create_fn_value(m, &vals),
                        m->fn_value.len / (uint32_t)sizeof(struct wire_val), data_len, 0) < 0)
        return NULL;
    r->v[GCS_SPECS][i] = NULL;
    return m;
}

static void enlist(struct gcs *g, struct gcs_actor *a) {
    struct skate_id proc = map_key(a->proc);

    gcs_actor_insert(g, a);
    if (a->failure) g->spec_bytes += wire_head(a->failure)->size;
    if (a->order > g->serial) g->serial = a->order;
    if (a->state == GCS_DEAD) {
        g->actors_dead++;
        return;
    }
    g->actors_live++;
    g->spec_bytes += wire_head(a->create)->size;
    if (a->state == GCS_PENDING) g->actors_pending++;
    if (a->state == GCS_ALIVE) SKATE_ASSERT(map_put(&g->actor_procs, &proc, a->index) == 0);
    if (a->name[0]) {
        struct skate_id key = gcs_text_key(a->space, (uint32_t)strlen(a->space), a->name,
                                           (uint32_t)strlen(a->name));

        SKATE_ASSERT(map_put(&g->actor_names, &key, a->index) == 0);
    }
}

static bool build_actor(struct gcs *g, struct gcs_restoring *r, const struct wire_rec_actor *m) {
    struct gcs_actor *a = gcs_alloc(sizeof *a);
    uint32_t held_len, len;
    const void *held = wire_rec_actor_held(m, &held_len);
    const void *failure = wire_rec_actor_failure(m, &len);
    struct resources unused;

    a->id = m->actor;
    a->group = m->group;
    a->owner = m->owner;
    a->proc = m->state == GCS_ALIVE ? m->proc : 0;
    a->order = m->order;
    a->state = m->state;
    a->job = m->job;
    a->flags = m->flags;
    a->node = m->node;
    a->pid = m->pid;
    a->incarnation = m->incarnation;
    a->restarts = m->restarts;
    a->max_restarts = m->max_restarts;
    a->max_task_retries = m->max_task_retries;
    a->bundle = m->bundle;
    a->cause = m->cause;
    a->killer = m->killer;
    a->kill_mark = m->kill_mark;
    a->restarting = m->marks & 1;
    a->unused = m->marks >> 1 & 1;
    a->init_failed = m->marks >> 2 & 1;
    if (m->state > GCS_DEAD || m->max_restarts < -1 || !set_texts(a, m) ||
        resources_unpack(&unused, held, held_len) < 0 ||
        (len && (wire_check(failure, len) < 0 || wire_head(failure)->kind != WIRE_ACTOR_READY))) {
        gcs_actor_release(a);
        return false;
    }
    a->held = gcs_copy(held, held_len);
    a->held_len = held_len;
    if (len) a->failure = gcs_copy(failure, len);
    if (a->state != GCS_DEAD) a->create = take_spec(r, &a->id);
    if (!fits(g, a)) {
        gcs_actor_release(a);
        return false;
    }
    enlist(g, a);
    return true;
}

static int by_order(const void *a, const void *b) {
    const struct gcs_actor *const *x = a, *const *y = b;

    return (*x)->order < (*y)->order ? -1 : (*x)->order > (*y)->order;
}

/* The lists of those that wait and of the dead, in the order they had. */
static void thread_lists(struct gcs *g) {
    struct gcs_actor **v = gcs_alloc(((size_t)g->actor_slots + 1) * sizeof *v);
    uint32_t n = 0;

    for (uint32_t i = 0; i < g->actor_slots; i++)
        if (g->actors[i]->state == GCS_PENDING || g->actors[i]->state == GCS_DEAD)
            v[n++] = g->actors[i];
    if (n) qsort(v, n, sizeof *v, by_order);
    for (uint32_t i = 0; i < n; i++) {
        struct gcs_actor *a = v[i];
        bool dead = a->state == GCS_DEAD;
        uint32_t *first = dead ? &g->dead_first : &g->pending;
        uint32_t *last = dead ? &g->dead_last : &g->pending_last;

        a->next_dead = a->next_pending = MAP_NONE;
        a->prev_pending = dead ? MAP_NONE : *last;
        if (*last == MAP_NONE)
            *first = a->index;
        else if (dead)
            g->actors[*last]->next_dead = a->index;
        else
            g->actors[*last]->next_pending = a->index;
        *last = a->index;
    }
    free(v);
}

static bool build_actors(struct gcs *g, struct gcs_restoring *r) {
    for (uint32_t i = 0; i < r->count[GCS_SPECS]; i++) {
        const struct wire_actor_create *m = r->v[GCS_SPECS][i];

        SKATE_ASSERT(map_put(&r->specs, &m->actor, i) == 0);
    }
    for (uint32_t i = 0; i < r->count[GCS_ACTORS]; i++) {
        const struct wire_rec_actor *m = r->v[GCS_ACTORS][i];

        if (!build_actor(g, r, m) && !misfit(r, "actor", m->actor.seq, "does not fit"))
            return false;
    }
    for (uint32_t i = 0; i < r->count[GCS_SPECS]; i++) /* of no actor */
        if (r->v[GCS_SPECS][i] && !misfit(r, "an actor's specification", i, "has no actor"))
            return false;
    thread_lists(g);
    return true;
}

/* ------------------------------------------------------------------ groups and values */

/* Where its bundles are. What an attempt had asked for is asked for again. */
static bool set_bundles(struct gcs *g, struct gcs_group *p, const struct wire_rec_group *m) {
    uint32_t nodes_n, epochs_n, phases_n;
    const uint32_t *nodes = wire_rec_group_nodes(m, &nodes_n);
    const uint32_t *epochs = wire_rec_group_epochs(m, &epochs_n);
    const uint8_t *phases = wire_rec_group_phases(m, &phases_n);

    if (nodes_n != p->count || epochs_n != p->count || phases_n != p->count) return false;
    p->phase = gcs_alloc(p->count);
    p->epochs = gcs_alloc(p->count * sizeof *p->epochs);
    for (uint32_t i = 0; i < p->count; i++) {
        const struct gcs_node *n = gcs_node_find(g, nodes[i]);
        bool open = m->attempting && epochs[i] == m->epoch;

        if (phases[i] > BUNDLE_HELD || (nodes[i] && !n)) return false;
        p->b[i].index = i;
        p->epochs[i] = epochs[i];
        if (p->state == GROUP_REMOVED) {
            p->b[i].node = nodes[i];
            p->phase[i] = phases[i];
        } else if (phases[i] == BUNDLE_HELD && !open) {
            if (!n || !n->alive) return false;
            p->b[i].node = nodes[i];
            p->phase[i] = BUNDLE_HELD;
        } else if (p->state == GROUP_CREATED)
            return false;
    }
    return true;
}

static bool fill_group(struct gcs *g, struct gcs_group *p, const struct wire_rec_group *m) {
    uint32_t len, name_len, space_len, why_len, n;
    const void *packed = wire_rec_group_bundles(m, &len);
    const char *name = wire_rec_group_name(m, &name_len);
    const char *space = wire_rec_group_namespace(m, &space_len);
    const char *why = wire_rec_group_reason(m, &why_len);
    const uint32_t *watchers = wire_rec_group_watchers(m, &n);

    if (m->state > GROUP_REMOVED || m->strategy > GROUP_STRICT_SPREAD || id_is_nil(&m->group) ||
        gcs_group_find(g, &m->group) || n > POLICY_NODES_MAX ||
        bundles_unpack(packed, len, &p->b, &p->count) < 0 || p->count == 0)
        return false;
    p->id = m->group;
    p->maker = m->maker;
    p->creator = m->creator;
    p->removed_at = m->removed_at;
    p->born = m->born;
    p->state = m->state;
    p->job = m->job;
    p->strategy = m->strategy;
    p->flags = m->flags;
    p->epoch = m->epoch;
    p->name = text_of(name, name_len, GCS_NAME_MAX);
    p->space = text_of(space, space_len, GCS_NAME_MAX);
    if (why_len) p->reason = text_of(why, why_len, 2 * GCS_REASON);
    if (!p->name || !p->space || (why_len && !p->reason)) return false;
    p->watchers = gcs_copy(watchers, n * sizeof *watchers);
    p->watcher_count = p->watcher_cap = n;
    return set_bundles(g, p, m);
}

static int by_birth(const void *a, const void *b) {
    const struct wire_rec_group *const *x = a, *const *y = b;

    return (*x)->born < (*y)->born ? -1 : (*x)->born > (*y)->born;
}

static bool build_groups(struct gcs *g, struct gcs_restoring *r) {
    if (r->count[GCS_GROUPS])
        qsort(r->v[GCS_GROUPS], r->count[GCS_GROUPS], sizeof(void *), by_birth);
    for (uint32_t i = 0; i < r->count[GCS_GROUPS]; i++) {
        const struct wire_rec_group *m = r->v[GCS_GROUPS][i];
        struct gcs_group *p = gcs_alloc(sizeof *p);

        if (!fill_group(g, p, m)) {
            gcs_group_free(p);
            if (!misfit(r, "placement group", m->group.seq, "does not fit")) return false;
            continue;
        }
        gcs_group_insert(g, p);
        if (m->attempting) gcs_dirty_group(g, p);
        if (p->born > g->serial) g->serial = p->born;
        if (p->removed_at > g->groups.removals) g->groups.removals = p->removed_at;
        if (p->state == GROUP_REMOVED) continue;
        g->groups.live++;
        if (p->state != GROUP_CREATED) g->groups.unplaced++;
    }
    return true;
}

static bool build_values(struct gcs *g, struct gcs_restoring *r) {
    for (uint32_t i = 0; i < r->count[GCS_VALUES]; i++) {
        const struct wire_rec_value *m = r->v[GCS_VALUES][i];
        uint32_t name_len, len;
        const char *name = wire_rec_value_key(m, &name_len);
        const void *bytes = wire_rec_value_value(m, &len);
        struct gcs_value *v = NULL;

        if (name_len && name_len <= GCS_KEY_MAX) v = gcs_value_add(g, name, name_len);
        if (!v) {
            if (!misfit(r, "value", i, "has no name of its own")) return false;
            continue;
        }
        v->bytes = gcs_copy(bytes, len);
        v->len = len;
        g->kv_bytes += (uint64_t)len + name_len + sizeof *v;
        free(r->v[GCS_VALUES][i]);
        r->v[GCS_VALUES][i] = NULL;
    }
    return true;
}

static void set_meta(struct gcs *g, const struct gcs_restoring *r) {
    for (uint32_t i = 0; i < r->count[GCS_META]; i++) {
        const struct wire_rec_meta *m = r->v[GCS_META][i];

        if (m->serial > g->serial) g->serial = m->serial;
        if (m->removals > g->groups.removals) g->groups.removals = m->removals;
        if (m->head_node <= g->node_count) g->head = m->head_node;
    }
}

int gcs_restore_end(struct gcs *g, int64_t now_ns, bool drop, uint32_t *ret_dropped,
                    struct skate_error *err) {
    struct gcs_restoring *r = g->restoring;
    int e = 0;

    if (ret_dropped) *ret_dropped = 0;
    if (!r) return 0;
    SKATE_ASSERT(!g->node_count && !g->job_count && !g->actor_slots);
    r->drop = drop;
    g->now = now_ns;
    if (!build_nodes(g, r) || !build_jobs(g, r) || !build_actors(g, r) || !build_groups(g, r) ||
        !build_values(g, r))
        e = err_fail(err, -SKATE_EPROTO, "%s", r->text);
    if (e == 0) {
        set_meta(g, r);
        g->place_wanted = true;
        g->groups.sweep_wanted = g->groups.live > 0;
        if (ret_dropped) *ret_dropped = r->dropped;
    }
    gcs_restore_release(g);
    return e;
}
