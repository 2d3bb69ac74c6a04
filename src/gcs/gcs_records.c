/* gcs_records.c - what outlives the process, going out: which records are old, and their making.
 *
 * A step only notes what it has changed. The record itself is made when it is taken, so that many
 * changes of one thing between two takes are one record, and what waits for a log that stands still
 * is bounded by the state itself. Tests: tests/unit/gcs_records_test.c. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"

/* Also of what is noted already: what this step says must wait for it, too. */
static void changed(struct gcs *g) {
    if (g->out) g->out->changed = true;
}

static void note(struct gcs *g, uint32_t table, struct skate_id id, const char *name,
                 uint32_t name_len) {
    struct gcs_dirty *d;

    if (!g->opts.records) return;
    if (g->dirty_count == g->dirty_cap) g->dirty = gcs_grow(g->dirty, &g->dirty_cap, sizeof *d);
    d = &g->dirty[g->dirty_count++];
    *d = (struct gcs_dirty){.table = table, .id = id, .name_len = name_len};
    if (name) d->name = gcs_copy(name, name_len);
}

void gcs_dirty_node(struct gcs *g, struct gcs_node *n) {
    changed(g);
    if (!n->dirty) note(g, GCS_NODES, map_key(n->number), NULL, 0);
    n->dirty = true;
    n->batch = g->taken + 1;
}

void gcs_dirty_job(struct gcs *g, struct gcs_job *j) {
    changed(g);
    if (!j->dirty) note(g, GCS_JOBS, map_key(j->number), NULL, 0);
    j->dirty = true;
    j->batch = g->taken + 1;
}

void gcs_dirty_actor(struct gcs *g, struct gcs_actor *a) {
    changed(g);
    if (!a->dirty) note(g, GCS_ACTORS, a->id, NULL, 0);
    a->dirty = true;
    a->batch = g->taken + 1;
}

void gcs_dirty_spec(struct gcs *g, struct gcs_actor *a) {
    changed(g);
    note(g, GCS_SPECS, a->id, NULL, 0); /* twice in its life */
    a->spec_dirty = true;
}

void gcs_dirty_group(struct gcs *g, struct gcs_group *p) {
    changed(g);
    if (!p->dirty) note(g, GCS_GROUPS, p->id, NULL, 0);
    p->dirty = true;
    p->batch = g->taken + 1;
}

void gcs_dirty_value(struct gcs *g, struct gcs_value *v) {
    changed(g);
    if (!v->dirty) note(g, GCS_VALUES, v->key, v->name, v->name_len);
    v->dirty = true;
    v->batch = g->taken + 1;
}

void gcs_says(struct gcs *g, uint64_t batch) {
    if (g->opts.records && batch > g->kept) g->out->acks = true;
}

static void dirty_forget(struct gcs *g) {
    for (uint32_t i = 0; i < g->dirty_count; i++) free(g->dirty[i].name);
    g->dirty_count = 0;
}

void gcs_dirty_release(struct gcs *g) {
    dirty_forget(g);
    free(g->dirty);
}

void gcs_records_all(struct gcs *g) {
    dirty_forget(g);
    for (uint32_t i = 0; i < g->node_count; i++) {
        g->nodes[i]->dirty = false;
        gcs_dirty_node(g, g->nodes[i]);
    }
    for (uint32_t i = 0; i < g->job_count; i++) {
        g->jobs[i]->dirty = false;
        gcs_dirty_job(g, g->jobs[i]);
    }
    for (uint32_t i = 0; i < g->actor_slots; i++) {
        struct gcs_actor *a = g->actors[i];

        if (!a) continue;
        a->dirty = false;
        gcs_dirty_actor(g, a);
        if (a->create) gcs_dirty_spec(g, a);
    }
    for (uint32_t i = 0; i < g->groups.count; i++) {
        g->groups.v[i]->dirty = false;
        gcs_dirty_group(g, g->groups.v[i]);
    }
    for (uint32_t i = 0; i < g->value_count; i++) {
        g->values[i].dirty = false;
        gcs_dirty_value(g, &g->values[i]);
    }
}

/* ------------------------------------------------------------------ their making */

#define PUT_TEXT(b, message, field, text)                                                      \
    do {                                                                                       \
        if (text) WIRE_PUT((b), message, field, (text), strlen(text));                         \
    } while (0)

static void put_node(const struct gcs_node *n, struct wire_buf *b) {
    struct wire_rec_node *m = wire_begin(b, WIRE_REC_NODE);

    m->number = n->number;
    m->alive = n->alive;
    PUT_TEXT(b, rec_node, ip, n->ip);
    if (!n->alive) PUT_TEXT(b, rec_node, reason, n->reason); /* else a doubt, which passes */
    WIRE_PUT(b, rec_node, registered, n->registered, wire_head(n->registered)->size);
}

static void put_job(const struct gcs_job *j, struct wire_buf *b) {
    struct wire_rec_job *m = wire_begin(b, WIRE_REC_JOB);

    m->number = j->number;
    m->live = j->live;
    m->driver = j->driver;
    m->pid = j->pid;
    WIRE_PUT(b, rec_job, namespace, j->space, j->space_len);
    WIRE_PUT(b, rec_job, config, j->config, j->config_len);
    WIRE_PUT(b, rec_job, entrypoint, j->entry, j->entry_len);
}

static void put_actor(const struct gcs_actor *a, struct wire_buf *b) {
    struct wire_rec_actor *m = wire_begin(b, WIRE_REC_ACTOR);

    m->actor = a->id;
    m->group = a->group;
    m->owner = a->owner;
    m->proc = a->proc;
    m->order = a->order;
    m->state = a->state;
    m->job = a->job;
    m->flags = a->flags;
    m->node = a->node;
    m->pid = a->pid;
    m->incarnation = a->incarnation;
    m->restarts = a->restarts;
    m->max_restarts = a->max_restarts;
    m->max_task_retries = a->max_task_retries;
    m->bundle = a->bundle;
    m->cause = a->cause;
    m->killer = a->killer;
    m->kill_mark = a->kill_mark;
    m->marks = (uint32_t)a->restarting | (uint32_t)a->unused << 1 | (uint32_t)a->init_failed << 2;
    PUT_TEXT(b, rec_actor, cls, a->texts);
    PUT_TEXT(b, rec_actor, name, a->name);
    PUT_TEXT(b, rec_actor, namespace, a->space);
    WIRE_PUT(b, rec_actor, held, a->held, a->held_len);
    PUT_TEXT(b, rec_actor, reason, a->reason);
    if (a->failure) WIRE_PUT(b, rec_actor, failure, a->failure, wire_head(a->failure)->size);
}

static void put_group(const struct gcs_group *p, struct wire_buf *b) {
    struct wire_rec_group *m = wire_begin(b, WIRE_REC_GROUP);
    uint32_t *nodes, len;
    void *packed = bundles_pack(p->b, p->count, 0, &len);

    SKATE_ASSERT(packed);
    m->group = p->id;
    m->maker = p->maker;
    m->creator = p->creator;
    m->removed_at = p->removed_at;
    m->born = p->born;
    m->state = p->state;
    m->job = p->job;
    m->strategy = p->strategy;
    m->flags = p->flags;
    m->epoch = p->epoch;
    m->attempting = p->attempting;
    PUT_TEXT(b, rec_group, name, p->name);
    PUT_TEXT(b, rec_group, namespace, p->space);
    PUT_TEXT(b, rec_group, reason, p->reason);
    WIRE_PUT(b, rec_group, bundles, packed, len);
    free(packed);
    nodes = WIRE_PUT(b, rec_group, nodes, NULL, p->count * sizeof *nodes);
    for (uint32_t i = 0; nodes && i < p->count; i++) nodes[i] = p->b[i].node;
    WIRE_PUT(b, rec_group, epochs, p->epochs, p->count * sizeof *p->epochs);
    WIRE_PUT(b, rec_group, phases, p->phase, p->count);
    WIRE_PUT(b, rec_group, watchers, p->watchers, p->watcher_count * sizeof *p->watchers);
}

static void put_value(const struct gcs_value *v, struct wire_buf *b) {
    (void)wire_begin(b, WIRE_REC_VALUE);
    WIRE_PUT(b, rec_value, key, v->name, v->name_len);
    WIRE_PUT(b, rec_value, value, v->bytes, v->len);
}

/* ------------------------------------------------------------------ taking them */

static uint64_t add_bytes(struct gcs_records *r, const void *data, uint64_t len) {
    uint64_t at = (r->used + 7) & ~UINT64_C(7);

    if (r->room < at + len) {
        uint64_t room = r->room ? r->room : 4096;

        while (room < at + len) room *= 2;
        r->bytes = realloc(r->bytes, room);
        SKATE_ASSERT(r->bytes);
        r->room = room;
    }
    memset(r->bytes + r->used, 0, at - r->used);
    memcpy(r->bytes + at, data, len);
    r->used = at + len;
    return at;
}

/* value NULL: it is gone. */
static void add(struct gcs_records *r, const struct gcs_dirty *d, const void *value, uint32_t len) {
    struct gcs_record *to;

    if (r->count == r->cap) r->v = gcs_grow(r->v, &r->cap, sizeof *r->v);
    to = &r->v[r->count++];
    *to = (struct gcs_record){.table = (uint8_t)d->table, .gone = !value, .len = len};
    if (d->name) {
        to->key_len = d->name_len;
        to->key_at = add_bytes(r, d->name, d->name_len);
    } else {
        to->key_len = sizeof d->id;
        to->key_at = add_bytes(r, &d->id, sizeof d->id);
    }
    if (value) to->at = add_bytes(r, value, len);
}

enum made { MADE, GONE, AGAIN }; /* AGAIN: it was taken a moment ago */

static enum made fresh(bool *dirty) {
    bool was = *dirty;

    *dirty = false;
    return was ? MADE : AGAIN;
}

static enum made make_spec(struct gcs *g, const struct skate_id *id, struct wire_buf *b) {
    struct gcs_actor *a = gcs_actor_find(g, id);
    enum made e;

    if (!a || !a->create) return GONE;
    e = fresh(&a->spec_dirty);
    if (e == MADE) {
        uint32_t len = wire_head(a->create)->size;

        if (wire_grow(b, len)) memcpy(b->p, a->create, len);
        b->len = len;
    }
    return e;
}

static enum made make(struct gcs *g, const struct gcs_dirty *d, struct wire_buf *b) {
    enum made e = GONE;

    if (d->table == GCS_NODES) {
        struct gcs_node *n = g->nodes[d->id.owner - 1];

        if ((e = fresh(&n->dirty)) == MADE) put_node(n, b);
    } else if (d->table == GCS_JOBS) {
        struct gcs_job *j = g->jobs[d->id.owner - 1];

        if ((e = fresh(&j->dirty)) == MADE) put_job(j, b);
    } else if (d->table == GCS_ACTORS) {
        struct gcs_actor *a = gcs_actor_find(g, &d->id);

        if (a && (e = fresh(&a->dirty)) == MADE) put_actor(a, b);
    } else if (d->table == GCS_SPECS) {
        e = make_spec(g, &d->id, b);
    } else if (d->table == GCS_GROUPS) {
        struct gcs_group *p = gcs_group_find(g, &d->id);

        if (p && (e = fresh(&p->dirty)) == MADE) put_group(p, b);
    } else {
        struct gcs_value *v = gcs_value_find(g, d->name, d->name_len);

        if (v && (e = fresh(&v->dirty)) == MADE) put_value(v, b);
    }
    return e;
}

static void add_meta(struct gcs *g, struct gcs_records *r) {
    struct wire_rec_meta m = {.head = {.size = sizeof m, .kind = WIRE_REC_META, .fixed = sizeof m}};
    struct gcs_dirty d = {.table = GCS_META, .name_len = 1, .name = (char[]){'g'}};

    m.serial = g->serial;
    m.removals = g->groups.removals;
    m.head_node = g->head;
    add(r, &d, &m, sizeof m);
}

bool gcs_records_take(struct gcs *g, struct gcs_records *ret) {
    if (!g->dirty_count) return false;
    for (uint32_t i = 0; i < g->dirty_count; i++) {
        const struct gcs_dirty *d = &g->dirty[i];
        struct wire_buf b;
        enum made e;

        wire_init(&b, NULL, 0);
        e = make(g, d, &b);
        if (e == MADE) {
            if (d->table != GCS_SPECS) SKATE_ASSERT(wire_end(&b) == 0);
            SKATE_ASSERT(!b.failed);
            add(ret, d, b.p, b.len);
        } else if (e == GONE)
            add(ret, d, NULL, 0);
        wire_release(&b);
    }
    dirty_forget(g);
    add_meta(g, ret);
    g->taken++;
    return true;
}

void gcs_records_kept(struct gcs *g) { g->kept = g->taken; }

void gcs_records_release(struct gcs_records *r) {
    free(r->v);
    free(r->bytes);
    *r = (struct gcs_records){0};
}

void gcs_log_is_late(struct gcs *g, bool late) { g->late = late; }

void gcs_refuse_changes(struct gcs *g, const char *why) {
    free(g->refusing);
    g->refusing = *why ? gcs_copy(why, strlen(why) + 1) : NULL;
}
