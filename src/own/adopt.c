/* adopt.c - see adopt.h. */
#include "own/adopt.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"

static const struct ledger_slot *slot_at(const struct adopt *a, uint32_t i) {
    return (const void *)(a->map + LEDGER_SLOTS_OFFSET + (uint64_t)i * sizeof(struct ledger_slot));
}

/* [offset, offset + bytes) of the byte area, or NULL when it does not lie inside what was used. */
static const uint8_t *area_at(const struct adopt *a, uint64_t offset, uint64_t bytes) {
    if (offset > a->area_used || bytes > a->area_used - offset || offset % 16) return NULL;
    return a->map + LEDGER_AREA_OFFSET + offset;
}

static uint32_t contained(const struct adopt *a, const struct ledger_slot *s,
                          const struct skate_id **ret) {
    const struct id_list *in;
    uint64_t at = s->contained, n;

    *ret = NULL;
    if (at == 0) return 0;
    in = (const void *)area_at(a, at - 1, sizeof *in);
    if (!in) return 0;
    n = in->count;
    if (n > UINT32_MAX / sizeof(struct skate_id) ||
        !area_at(a, at - 1, sizeof *in + n * sizeof(struct skate_id)))
        return 0;
    *ret = in->ids;
    return (uint32_t)n;
}

bool adopt_object(const struct adopt *a, uint32_t slot, struct wire_val *ret,
                  const uint8_t **ret_data, const struct skate_id **ret_refs) {
    struct ledger_slot s = *slot_at(a, slot);
    enum ledger_state state = ledger_state_of(&s);

    if (state != LEDGER_PENDING && state != LEDGER_INLINE && state != LEDGER_ARENA) return false;
    if (s.id.owner != a->proc || id_index(&s.id) == SKATE_INDEX_TASK) return false;
    *ret = (struct wire_val){.id = s.id};
    *ret_data = NULL;
    *ret_refs = NULL;
    if (state == LEDGER_PENDING) return true;
    ret->format = ledger_format_of(&s);
    ret->flags = ledger_flags_of(&s);
    ret->size = s.size;
    if (state == LEDGER_INLINE) {
        ret->kind = VAL_INLINE;
        if (s.size > LIMIT_INLINE_VALUE || !(*ret_data = area_at(a, s.offset, s.size)))
            return false;
        ret->len = (uint32_t)s.size;
    } else {
        ret->kind = VAL_ARENA;
        ret->holder = s.holder;
        ret->offset = s.offset;
    }
    ret->nref = contained(a, &s, ret_refs);
    return true;
}

struct wire_task *adopt_task(const struct adopt *a, uint32_t slot, uint64_t *ret_worker) {
    struct ledger_slot s = *slot_at(a, slot);
    struct wire_task *t;
    const uint8_t *at;
    uint32_t nargs, ndata;

    if (ledger_state_of(&s) != LEDGER_TASK || s.id.owner != a->proc || s.size < sizeof *t ||
        s.size > LIMIT_FRAME_BYTES || !(at = area_at(a, s.offset, s.size)))
        return NULL;
    t = malloc(s.size);
    if (!t) return NULL;
    memcpy(t, at, s.size);
    (void)wire_task_data(t, &ndata);
    if (wire_check(t, s.size) < 0 || t->head.kind != WIRE_TASK || !id_equal(&t->task, &s.id) ||
        t->nreturns > LIMIT_RETURNS || (wire_task_args(t, &nargs), nargs != 1)) {
        free(t);
        return NULL;
    }
    *ret_worker = s.holder;
    return t;
}

uint32_t adopt_task_uses(const struct wire_task *t, struct skate_id *out, uint32_t cap) {
    uint32_t nrefs, ndeps, nargs, n = 0;
    const struct skate_id *refs = wire_task_refs(t, &nrefs);
    const struct wire_val *deps = wire_task_deps(t, &ndeps), *args = wire_task_args(t, &nargs);

    for (uint32_t i = 0; i < nrefs; i++, n++)
        if (n < cap) out[n] = refs[i];
    for (uint32_t i = 0; i < ndeps; i++, n++)
        if (n < cap) out[n] = deps[i].id;
    if (nargs == 1 && args->kind == VAL_ARENA) {
        if (n < cap) out[n] = args->id;
        n++;
    }
    return n;
}

/* ---- what is kept ---- */

static void keep(struct adopt *a, uint32_t slot, enum adopt_kept how) {
    if (slot == MAP_NONE) return;
    if (a->kept[slot] == ADOPT_NOT) a->queue[a->queued++] = slot;
    if (a->kept[slot] < how) a->kept[slot] = (uint8_t)how;
}

static void keep_ids(struct adopt *a, const struct skate_id *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (ids[i].owner == a->proc) keep(a, map_get(&a->objects, &ids[i]), ADOPT_HELD);
}

static int keep_uses(struct adopt *a, uint32_t slot) {
    uint64_t worker;
    struct wire_task *t = adopt_task(a, slot, &worker);
    uint32_t n = t ? adopt_task_uses(t, NULL, 0) : 0;
    struct skate_id *ids = n ? malloc(n * sizeof *ids) : NULL;

    if (ids) keep_ids(a, ids, adopt_task_uses(t, ids, n));
    free(ids);
    free(t);
    return n && !ids ? -SKATE_ENOMEM : 0;
}

/* The task that makes a pending object, when it is somewhere. */
static void keep_maker(struct adopt *a, const struct skate_id *object) {
    struct skate_id id = id_with_index(*object, 0);
    uint32_t slot = map_get(&a->tasks, &id);

    if (slot != MAP_NONE && slot_at(a, slot)->holder) keep(a, slot, ADOPT_AWAITED);
}

static int follow(struct adopt *a) {
    const struct skate_id *refs;
    const uint8_t *data;
    struct wire_val v;
    int r = 0;

    for (; r == 0 && a->found < a->queued; a->found++) {
        uint32_t slot = a->queue[a->found];

        if (ledger_state_of(slot_at(a, slot)) == LEDGER_TASK)
            r = keep_uses(a, slot);
        else if (adopt_object(a, slot, &v, &data, &refs)) {
            keep_ids(a, refs, v.nref);
            if (v.kind == VAL_NONE) keep_maker(a, &v.id);
        }
    }
    return r;
}

static int index_slot(struct adopt *a, uint32_t i) {
    const struct skate_id *refs;
    const uint8_t *data;
    struct wire_task *t;
    struct wire_val v;
    uint64_t worker;
    int r = 0;

    if (ledger_state_of(slot_at(a, i)) == LEDGER_FREE) return 0;
    if (adopt_object(a, i, &v, &data, &refs)) {
        r = map_put(&a->objects, &v.id, i);
        if (r == 0 && slot_at(a, i)->borrows) keep(a, i, ADOPT_HELD);
    } else if ((t = adopt_task(a, i, &worker))) {
        if (t->kind != 2) r = map_put(&a->tasks, &t->task, i);
        if (r == 0 && t->kind == 1 && worker) keep(a, i, ADOPT_HELD);
        free(t);
    }
    return r;
}

/* Most processes die without having lent anything: then there is nothing to index. */
static bool has_roots(const struct adopt *a) {
    for (uint32_t i = 0; i < a->slots; i++) {
        const struct ledger_slot *s = slot_at(a, i);

        if (s->id.owner != a->proc) continue;
        if (ledger_state_of(s) == LEDGER_TASK ? s->holder != 0 : s->borrows != 0) return true;
    }
    return false;
}

int adopt_open(struct adopt *a, const void *map, uint64_t proc) {
    struct ledger_header h;
    bool has;
    int r = 0;

    memcpy(&h, map, sizeof h);
    *a = (struct adopt){.map = map, .proc = proc};
    if (h.magic != LEDGER_MAGIC || h.proc != proc || h.slots_used > LEDGER_OBJECTS ||
        h.area_used > LEDGER_AREA)
        return -SKATE_EPROTO;
    a->slots = (uint32_t)h.slots_used;
    a->area_used = h.area_used;
    a->kept = calloc(a->slots + 1, 1);
    a->queue = malloc((a->slots + 1) * sizeof *a->queue);
    has = has_roots(a);
    if (!a->kept || !a->queue) r = -SKATE_ENOMEM;
    for (uint32_t i = 0; r == 0 && has && i < a->slots; i++) r = index_slot(a, i);
    if (r == 0) r = follow(a);
    if (r < 0) adopt_close(a);
    return r;
}

void adopt_close(struct adopt *a) {
    map_release(&a->objects);
    map_release(&a->tasks);
    free(a->kept);
    free(a->queue);
    *a = (struct adopt){0};
}

uint32_t adopt_count(const struct adopt *a) { return a->queued; }

uint32_t adopt_slot(const struct adopt *a, uint32_t i) {
    SKATE_ASSERT(i < a->queued);
    return a->queue[i];
}
