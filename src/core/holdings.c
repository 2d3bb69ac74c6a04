/* holdings.c - what objects this process holds and how: the answer to memory_req.
 *
 * Whoever pumps answers, under the core mutex and without the interpreter: one pass over the table
 * (0.1 us an object, more with tasks that hold many), everything is counted, only the largest are
 * told one by one. Both lists are bounded; what did not fit is one last group. An object counts as
 * old only at its owner, who knows its age and everybody that has it. Tests:
 * tests/e2e/test_e2e_who_holds.py, tests/compat/test_compat_state.py. */
#include "core/holdings.h"

#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/locate.h"
#include "core/sites.h"
#include "wire/row_list.h"

enum { GROUPS_MOST = 4096, HOLDERS_MOST = 4096, ANSWER_GROUPS = 1024, BORROWERS_MOST = 64 };
enum hold_type { TYPE_NONE, TYPE_LOCAL, TYPE_PINNED, TYPE_USED, TYPE_CAPTURED, TYPE_ACTOR,
                 TYPE_REST = 255 };
enum hold_where { WHERE_NOWHERE, WHERE_INLINE, WHERE_HERE, WHERE_AWAY, WHERE_COPY, WHERE_DROPPED,
                  WHERE_PARTLY, WHERE_SPILLED, WHERE_LOST };
enum hold_old { OLD_NOT, OLD_REFS, OLD_VIEWS, OLD_AWAY };
enum { STATUS_NONE = 0, STATUS_HAS_VALUE = 5 }; /* else as task_row.state */

struct holding { /* of one object */
    uint32_t local, captured, used, running, pinned;
    uint32_t type, status, owned, old, where;
    int64_t age_ns;
};
struct group {
    struct skate_id key; /* owner: the holder; seq: site, type, status, owned, old */
    uint64_t count, bytes, arena;
    int64_t oldest_ns;
};
struct arena_holder {
    uint64_t proc, count, bytes;
};
struct pick { /* of the largest, a heap with the smallest on top */
    uint64_t size;
    uint32_t slot;
};
struct look {
    struct core *c;
    int64_t now_ns, old_ns;
    uint64_t objects;
    uint32_t *counts; /* three a slot: count_holds() */
    struct map group_at, holder_at;
    struct group *groups; /* 0: the rest */
    uint32_t group_count, holder_count, pick_count, pick_most;
    struct arena_holder *holders; /* 0: the rest */
    struct pick *picks;
};

static bool is_object(enum ledger_state s) {
    return s == LEDGER_PENDING || s == LEDGER_INLINE || s == LEDGER_ARENA;
}

/* What a running task has: its arguments with their views, the refs in them. */
static void count_run(struct core *c, const struct run *r, uint32_t *n, uint32_t slots) {
    const struct wire_task *m = r->node ? (const void *)r->node->data : NULL;
    uint32_t count, slot;

    if (!m || m->head.kind != WIRE_TASK) return;
    for (int deps = 0; deps < 2; deps++) {
        const struct wire_val *v = deps ? wire_task_deps(m, &count) : wire_task_args(m, &count);

        for (uint32_t i = 0; i < count; i++)
            if (v[i].kind == VAL_ARENA && (slot = object_find(c, &v[i].id)) < slots)
                n[3 * slot + 2] += 2;
    }
    const struct skate_id *refs = wire_task_refs(m, &count);
    for (uint32_t i = 0; i < count; i++)
        if ((slot = object_find(c, &refs[i])) < slots) n[3 * slot + 2]++;
}

/* How often each slot is inside another value, held by a task that is not done, by one that runs
 * here. */
static uint32_t *count_holds(struct core *c, uint32_t slots) {
    uint32_t *n = calloc((size_t)slots * 3 + 1, sizeof *n);

    if (!n) return NULL;
    for (uint32_t i = 0; i < slots; i++) {
        enum ledger_state state = ledger_state_of(&c->ledger.slots[i]);
        const struct id_list *in;

        if (state != LEDGER_INLINE && state != LEDGER_ARENA) continue;
        in = object_contained(c, i);
        for (uint32_t k = 0; in && k < in->count; k++) {
            uint32_t slot = object_find(c, &in->ids[k]);

            if (slot < slots) n[3 * slot]++;
        }
    }
    for (uint32_t i = 0; i < c->task_count; i++) {
        const struct task *t = &c->task_v[i];

        if (t->state == TASK_FREE || t->state == TASK_KEPT) continue; /* these hold nothing */
        for (uint32_t k = 0; k < t->hold_count; k++) {
            uint32_t slot = object_find(c, &t->holds[k]);

            if (slot < slots) n[3 * slot + 1]++;
        }
    }
    for (const struct run *r = c->begun; r; r = r->other) count_run(c, r, n, slots);
    return n;
}

static uint32_t least_of(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t type_of(struct core *c, uint32_t slot, const struct holding *h) {
    const struct skate_id *id = &c->ledger.slots[slot].id;

    if (id_index(id) == SKATE_INDEX_TASK && map_get(&c->streams, id) == MAP_NONE)
        return TYPE_ACTOR;
    if (h->used) return TYPE_USED;
    if (h->local) return TYPE_LOCAL;
    if (h->captured) return TYPE_CAPTURED;
    return h->pinned || h->running || c->object_v[slot].borrowers ? TYPE_PINNED : TYPE_NONE;
}

static uint32_t where_of(struct core *c, uint32_t slot) {
    const struct ledger_slot *s = &c->ledger.slots[slot];
    const struct object *o = &c->object_v[slot];

    if (ledger_state_of(s) == LEDGER_INLINE) return WHERE_INLINE;
    if (ledger_state_of(s) != LEDGER_ARENA) return o->evicted ? WHERE_DROPPED : WHERE_NOWHERE;
    switch (locate_memory(c, slot)) {
    case LOCATE_HERE: break;
    case LOCATE_PARTLY: return WHERE_PARTLY;
    case LOCATE_OUT: return WHERE_SPILLED;
    case LOCATE_LOST: return WHERE_LOST;
    }
    if (object_copy_at(c, slot)) return WHERE_COPY;
    return proc_node(s->holder) == proc_node(c->info.proc) ? WHERE_HERE : WHERE_AWAY;
}

/* Nothing but a ref, a view or another process keeps it, and has for long. */
static uint32_t old_of(const struct look *l, uint32_t slot, const struct holding *h) {
    const struct object *o = &l->c->object_v[slot];

    if (!h->owned || h->type == TYPE_ACTOR || h->status != STATUS_HAS_VALUE) return OLD_NOT;
    if (l->old_ns < 0 || h->age_ns < l->old_ns) return OLD_NOT;
    if (h->used || h->running || h->captured) return OLD_NOT;
    if (h->local) return o->borrowers ? OLD_NOT : OLD_REFS;
    if (h->pinned) return o->borrowers ? OLD_NOT : OLD_VIEWS;
    return o->borrowers ? OLD_AWAY : OLD_NOT;
}

static struct holding holding_of(struct look *l, uint32_t slot) {
    struct core *c = l->c;
    const struct ledger_slot *s = &c->ledger.slots[slot];
    const struct object *o = &c->object_v[slot];
    const uint32_t *n = &l->counts[3 * slot];
    struct holding h = {.age_ns = -1, .owned = object_is_ours(c, &s->id)};

    h.captured = least_of(n[0], o->local);
    h.local = o->local - h.captured;
    h.used = least_of(n[1], o->holds);
    h.running = least_of(n[2], o->holds - h.used);
    h.pinned = o->holds - h.used - h.running;
    h.type = type_of(c, slot, &h);
    h.where = where_of(c, slot);
    if (ledger_state_of(s) != LEDGER_PENDING) {
        h.status = STATUS_HAS_VALUE;
    } else if (h.type != TYPE_ACTOR) {
        struct skate_id task = id_with_index(s->id, SKATE_INDEX_TASK);
        uint32_t index = map_get(&c->tasks, &task);

        if (index != MAP_NONE) {
            const struct task *t = task_get(c, index);

            h.status = t->missing ? 1 : t->state == TASK_PUSHED ? 3 : 2;
        }
    }
    if (s->id.owner == c->info.proc && c->ages)
        h.age_ns = ages_of(c->ages, s->id.seq >> 16, l->now_ns);
    h.old = old_of(l, slot, &h);
    return h;
}

/* ---- adding up ---- */

static struct group *group_of(struct look *l, const struct skate_id *key) {
    uint32_t at = map_get(&l->group_at, key);

    if (at != MAP_NONE) return &l->groups[at];
    if (l->group_count == GROUPS_MOST || map_put(&l->group_at, key, l->group_count) < 0)
        return &l->groups[0];
    l->groups[l->group_count] = (struct group){.key = *key};
    return &l->groups[l->group_count++];
}

static void add_to_group(struct look *l, uint32_t slot, const struct holding *h) {
    const struct ledger_slot *s = &l->c->ledger.slots[slot];
    const struct borrower *first = l->c->object_v[slot].borrowers;
    struct skate_id key = {h->old == OLD_AWAY && first ? first->proc : 0,
                           (uint64_t)site_of(l->c, slot) | (uint64_t)h->type << 32 |
                               (uint64_t)h->status << 40 | (uint64_t)h->owned << 48 |
                               (uint64_t)h->old << 56};
    struct group *g = group_of(l, &key);

    g->count++;
    if (h->age_ns > g->oldest_ns) g->oldest_ns = h->age_ns;
    if (h->status != STATUS_HAS_VALUE) return;
    g->bytes += s->size;
    if (ledger_state_of(s) == LEDGER_ARENA) g->arena += s->size;
}

static void add_to_holder(struct look *l, const struct ledger_slot *s) {
    struct skate_id key = map_key(s->holder);
    uint32_t at = map_get(&l->holder_at, &key);

    if (at == MAP_NONE) {
        at = 0;
        if (l->holder_count < HOLDERS_MOST &&
            map_put(&l->holder_at, &key, l->holder_count) == 0) {
            at = l->holder_count++;
            l->holders[at] = (struct arena_holder){.proc = s->holder};
        }
    }
    l->holders[at].count++;
    l->holders[at].bytes += s->size;
}

static bool below(const struct pick *a, const struct pick *b) {
    return a->size != b->size ? a->size < b->size : a->slot > b->slot;
}

static void sink(struct pick *v, uint32_t n) {
    for (uint32_t at = 0;;) {
        uint32_t least = at, left = 2 * at + 1;
        struct pick moved = v[at];

        if (left < n && below(&v[left], &v[least])) least = left;
        if (left + 1 < n && below(&v[left + 1], &v[least])) least = left + 1;
        if (least == at) return;
        v[at] = v[least];
        v[least] = moved;
        at = least;
    }
}

static void pick(struct look *l, uint32_t slot, uint64_t size) {
    struct pick p = {size, slot};

    if (l->pick_count < l->pick_most) {
        uint32_t at = l->pick_count++;

        for (; at && below(&p, &l->picks[(at - 1) / 2]); at = (at - 1) / 2)
            l->picks[at] = l->picks[(at - 1) / 2];
        l->picks[at] = p;
    } else if (l->pick_most && below(&l->picks[0], &p)) {
        l->picks[0] = p;
        sink(l->picks, l->pick_count);
    }
}

/* One that is asked for by name. */
static void look_at(struct look *l, const struct skate_id *id) {
    uint32_t slot = object_find(l->c, id);

    if (slot != MAP_NONE && l->pick_most && is_object(ledger_state_of(&l->c->ledger.slots[slot])))
        l->picks[l->pick_count++] = (struct pick){0, slot};
}

static void look_at_all(struct look *l, uint32_t slots) {
    for (uint32_t i = 0; i < slots; i++) {
        const struct ledger_slot *s = &l->c->ledger.slots[i];
        enum ledger_state state = ledger_state_of(s);
        struct holding h;

        if (!is_object(state)) continue;
        h = holding_of(l, i);
        l->objects++;
        add_to_group(l, i, &h);
        if (state == LEDGER_ARENA && h.owned) add_to_holder(l, s);
        pick(l, i, state == LEDGER_PENDING ? 0 : s->size);
    }
}

/* ---- telling ---- */

static void object_row(struct look *l, uint32_t slot, struct wire_row_list *out) {
    struct core *c = l->c;
    const struct ledger_slot *s = &c->ledger.slots[slot];
    struct holding h = holding_of(l, slot);
    const char *site = site_text(c, site_of(c, slot));
    uint64_t stack[160], borrowers[BORROWERS_MOST];
    struct wire_object_row *row;
    uint32_t count = 0;
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    row = wire_begin(&b, WIRE_OBJECT_ROW);
    row->obj = s->id;
    row->state = (uint32_t)ledger_state_of(s);
    row->size = row->state == LEDGER_PENDING ? 0 : s->size;
    row->holder = row->state == LEDGER_ARENA ? s->holder : 0;
    row->offset = row->state == LEDGER_ARENA ? s->offset : 0;
    row->flags = ledger_flags_of(s);
    row->local = h.local;
    row->captured = h.captured;
    row->used = h.used;
    row->pinned = h.pinned;
    row->running = h.running;
    row->made = h.status && h.status != STATUS_HAS_VALUE;
    row->task_state = row->made ? h.status : 0;
    row->age_ns = h.age_ns;
    row->type = h.type;
    row->where = h.where;
    row->owned = h.owned;
    row->status = h.status;
    for (const struct borrower *w = c->object_v[slot].borrowers; w && count < BORROWERS_MOST;
         w = w->next)
        borrowers[count++] = w->proc;
    WIRE_PUT(&b, object_row, borrowers, borrowers, count * sizeof *borrowers);
    WIRE_PUT(&b, object_row, site, site, strlen(site));
    wire_rows_add(out, &b);
}

static void group_row(struct look *l, const struct group *g, struct wire_row_list *out) {
    const char *site = site_text(l->c, (uint32_t)g->key.seq);
    struct wire_memory_group *row;
    uint64_t stack[64];
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    row = wire_begin(&b, WIRE_MEMORY_GROUP);
    row->count = g->count;
    row->bytes = g->bytes;
    row->arena = g->arena;
    row->holder = g->key.owner;
    row->oldest_ns = g->oldest_ns;
    row->type = (uint32_t)(g->key.seq >> 32) & 255;
    row->status = (uint32_t)(g->key.seq >> 40) & 255;
    row->owned = (uint32_t)(g->key.seq >> 48) & 255;
    row->old = (uint32_t)(g->key.seq >> 56);
    WIRE_PUT(&b, memory_group, site, site, strlen(site));
    wire_rows_add(out, &b);
}

static int by_bytes(const void *x, const void *y) {
    const struct group *a = x, *b = y;

    if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
    return a->count < b->count ? 1 : a->count > b->count ? -1 : 0;
}

static int by_size(const void *x, const void *y) { return below(x, y) ? 1 : -1; }

static void groups_rows(struct look *l, uint32_t most, struct wire_row_list *out) {
    struct group rest = l->groups[0];

    rest.key = (struct skate_id){0, (uint64_t)TYPE_REST << 32};
    qsort(l->groups + 1, l->group_count - 1, sizeof *l->groups, by_bytes);
    for (uint32_t i = 1; i < l->group_count; i++) {
        const struct group *g = &l->groups[i];

        if (i <= most) {
            group_row(l, g, out);
            continue;
        }
        rest.count += g->count;
        rest.bytes += g->bytes;
        rest.arena += g->arena;
    }
    if (rest.count) group_row(l, &rest, out);
}

static void send(struct look *l, uint64_t src, const struct wire_memory_req *m) {
    struct wire_row_list rows = {.max = WIRE_ROWS_MOST, .bytes_max = WIRE_ROWS_BYTES},
                         groups = rows;
    struct wire_memory_info *out;
    struct wire_buf b;
    bool rest = l->holders[0].count > 0;

    qsort(l->picks, l->pick_count, sizeof *l->picks, by_size);
    for (uint32_t i = 0; i < l->pick_count; i++) object_row(l, l->picks[i].slot, &rows);
    groups_rows(l, least_of(m->groups, ANSWER_GROUPS), &groups);
    wire_init(&b, NULL, 0);
    out = wire_begin(&b, WIRE_MEMORY_INFO);
    out->head.call = m->head.call;
    out->head.flags = WIRE_REPLY;
    out->objects = l->objects;
    out->held = heap_held(l->c->heap);
    out->spare = heap_spare(l->c->heap);
    out->tasks = l->c->runs;
    for (const struct run *r = l->c->begun; r; r = r->other) out->tasks++;
    out->rows = rows.count;
    out->groups = groups.count;
    WIRE_PUT(&b, memory_info, holders, l->holders + !rest,
             (l->holder_count - !rest) * sizeof *l->holders);
    WIRE_PUT(&b, memory_info, groups_frames, groups.p, groups.used);
    WIRE_PUT(&b, memory_info, frames, rows.p, rows.used);
    free(rows.p);
    free(groups.p);
    if (wire_end(&b) == 0) (void)proc_route(l->c, src, b.p, b.len);
    wire_release(&b);
}

void holdings_on_req(struct core *c, uint64_t src, const struct wire_memory_req *m) {
    uint32_t slots = (uint32_t)c->ledger.header->slots_used;
    struct look l = {.c = c, .now_ns = time_now_ns(), .old_ns = m->old_ns,
                     .pick_most = least_of(least_of(m->rows, WIRE_ROWS_MOST), slots)};

    if (!m->head.call) return;
    objects_apply_drops(c);
    ages_tick(c);
    l.groups = calloc(GROUPS_MOST, sizeof *l.groups);
    l.holders = calloc(HOLDERS_MOST, sizeof *l.holders);
    l.picks = malloc((l.pick_most + 1) * sizeof *l.picks);
    l.group_count = l.holder_count = 1;
    l.counts = count_holds(c, slots);
    if (l.groups && l.holders && l.picks && l.counts) { /* else the asker hears nothing */
        if (id_is_nil(&m->obj))
            look_at_all(&l, slots);
        else
            look_at(&l, &m->obj);
        send(&l, src, m);
    }
    map_release(&l.group_at);
    map_release(&l.holder_at);
    free(l.groups);
    free(l.holders);
    free(l.picks);
    free(l.counts);
}
