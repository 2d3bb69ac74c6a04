/* objects.c - the table of objects that this process owns or borrows: counts, values, who waits.
 *
 * An entry lives while somebody needs it: local refs (the interpreter's, and containers'), holds
 * (tasks in flight, pins), and for objects of ours the borrows of other processes. When the last
 * goes, its bytes are freed where they lie, what it contains is dropped, and a foreign owner is
 * told. Rules of passing refs on: docs/design/0001-runtime.md. Under the core mutex. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "core/core_int.h"
#include "core/restore.h"

static bool owned(const struct core *c, const struct skate_id *id) {
    return id->owner == c->info.proc || (c->heritage.estates.count && estate_owns(c, id));
}

bool object_is_ours(const struct core *c, const struct skate_id *id) { return owned(c, id); }

uint32_t object_make(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_find(c, id);

    return slot != MAP_NONE ? slot : object_new(c, id);
}

uint32_t object_new(struct core *c, const struct skate_id *id) {
    struct ledger_slot *s;
    uint32_t slot;

    if (ledger_slot_take(&c->ledger, LEDGER_OF_OBJECTS, &slot) < 0) return NONE;
    s = &c->ledger.slots[slot];
    s->id = *id;
    if (index_put(&c->objects, slot) < 0)
        return ledger_slot_free(&c->ledger, LEDGER_OF_OBJECTS, slot), NONE;
    c->object_v[slot] = (struct object){0};
    s->refs = s->borrows = 0;
    s->holder = s->offset = s->size = s->contained = 0;
    ledger_move(&c->ledger, slot, LEDGER_PENDING, 0, 0);
    if (c->heritage.heirs_known) claim_new(c, slot);
    return slot;
}

static void count(struct core *c, uint32_t slot) {
    c->ledger.slots[slot].refs = c->object_v[slot].local + c->object_v[slot].holds;
}

static void free_remote(struct core *c, uint64_t holder, uint64_t offset) {
    uint64_t stack[8];
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    (void)wire_begin(&b, WIRE_FREE);
    WIRE_PUT(&b, free, offsets, &offset, sizeof offset);
    if (wire_end(&b) == 0) (void)proc_send(c, holder, b.p, b.len, BELL_QUIET);
    wire_release(&b);
}

/* The bytes of an arena value are needed no more: tell whoever holds them. */
static void free_bytes(struct core *c, uint64_t holder, uint64_t offset, bool ours) {
    if (holder != c->info.proc) {
        if (ours) free_remote(c, holder, offset);
        link_arena(c, holder, -1);
    } else if (ours) { /* a reader may hold the bytes of another's object: only the owner frees */
        (void)heap_free(c->heap, offset);
        c->heap_frees++;
    }
}

static void unpull(struct core *c, uint64_t offset) {
    struct wire_unpull m = {.head = {.size = sizeof m, .kind = WIRE_UNPULL, .fixed = sizeof m},
                            .offset = offset};

    (void)sock_send(c, &m, sizeof m);
}

void object_release(struct core *c, const struct skate_id *id, uint32_t n) {
    struct wire_release m = {.head = {.size = sizeof m, .kind = WIRE_RELEASE, .fixed = sizeof m},
                             .obj = *id, .n = n};

    (void)proc_send(c, id->owner, &m, sizeof m, BELL_QUIET);
}

static void contained_drop(struct core *c, uint32_t slot) {
    struct id_list *in = object_contained(c, slot);

    if (!in) return;
    c->ledger.slots[slot].contained = 0;
    for (uint64_t i = 0; i < in->count; i++) core_ref_drop(c, &in->ids[i]);
    ledger_free(&c->ledger, (uint64_t)((uint8_t *)in - c->ledger.area),
                sizeof *in + in->count * sizeof *in->ids);
}

static void object_delete(struct core *c, uint32_t slot) {
    struct ledger_slot *s = &c->ledger.slots[slot], was = *s;
    struct object *o = &c->object_v[slot];
    struct skate_id id = s->id;

    ledger_move(&c->ledger, slot, LEDGER_FREE, 0, 0); /* first: freed pieces are overwritten */
    if (ledger_state_of(&was) == LEDGER_INLINE) ledger_free(&c->ledger, was.offset, was.size);
    if (ledger_state_of(&was) == LEDGER_ARENA) {
        if (o->more && object_copy_at(c, slot)) unpull(c, object_copy_at(c, slot));
        free_bytes(c, was.holder, was.offset, owned(c, &id));
    }
    if (o->registered || o->claimed) object_release(c, &id, o->registered ? o->registered : 1);
    contained_drop(c, slot);
    if (o->kept) lineage_result_gone(c, &id);
    while (o->dependents) {
        struct dependent *d = o->dependents;

        o->dependents = d->next;
        free(d);
    }
    (void)index_remove(&c->objects, &id);
    ledger_slot_free(&c->ledger, LEDGER_OF_OBJECTS, slot);
}

/* Remove the entry when nothing needs it any more. */
void object_check(struct core *c, uint32_t slot) {
    struct object *o = &c->object_v[slot];
    struct skate_id id = c->ledger.slots[slot].id;

    if (o->local || o->holds) return;
    if (o->borrowers) return;
    if (o->pulling) return; /* its answer is on the way */
    if (c->heritage.estates.count && estate_keeps(c, slot)) return;
    if (o->more && object_more(c, slot).lineage) return lineage_evict(c, slot);
    if (owned(c, &id) && id_index(&id) == SKATE_INDEX_TASK) {
        actor_handles_gone(c, &id);
        stream_handle_gone(c, &id);
    }
    object_delete(c, slot);
}

void object_hold(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_make(c, id);

    if (slot == NONE) return;
    c->object_v[slot].holds++;
    count(c, slot);
}

void object_unhold(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_find(c, id);

    if (slot == MAP_NONE || c->object_v[slot].holds == 0) return;
    c->object_v[slot].holds--;
    count(c, slot);
    object_check(c, slot);
}

void object_handed(struct core *c, uint32_t slot) {
    SKATE_ASSERT(c->object_v[slot].holds > 0);
    c->object_v[slot].holds--;
    c->object_v[slot].local++;
    count(c, slot);
}

/* One more local ref, of a container that was made here: its maker holds the ref already. */
static void object_add_local(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_make(c, id);

    if (slot == NONE) return;
    c->object_v[slot].local++;
    count(c, slot);
}

void object_registered(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_make(c, id);

    if (slot == NONE) return;
    c->object_v[slot].local++;
    if (!owned(c, id)) c->object_v[slot].registered++;
    count(c, slot);
}

void core_ref_add(struct core *c, const struct skate_id *id) {
    uint32_t slot;

    if (core_enter(c) < 0) return;
    slot = object_find(c, id);
    if (slot == MAP_NONE && (slot = object_make(c, id)) != NONE) {
        if (!owned(c, id)) {
            struct wire_borrow m = {
                .head = {.size = sizeof m, .kind = WIRE_BORROW, .fixed = sizeof m},
                .obj = *id, .proc = c->info.proc, .n = 1};

            c->object_v[slot].registered = 1;
            (void)proc_send(c, id->owner, &m, sizeof m, BELL_URGENT);
        } else if (id_index(id) != SKATE_INDEX_TASK)
            object_set_system(c, slot, "out_of_scope\nall references to it are gone");
    }
    if (slot != NONE) {
        c->object_v[slot].local++;
        count(c, slot);
    }
    core_leave(c);
}

void core_ref_drop(struct core *c, const struct skate_id *id) {
    if (c->forked) return;
    (void)pthread_mutex_lock(&c->drop_lock);
    if (c->drop_count == c->drop_cap) {
        uint32_t cap = c->drop_cap ? c->drop_cap * 2 : 1024;
        struct skate_id *grown = realloc(c->drops, cap * sizeof *grown);

        if (grown) {
            c->drops = grown;
            c->drop_cap = cap;
        }
    }
    if (c->drop_count < c->drop_cap) {
        c->drops[c->drop_count] = *id;
        at_store(&c->drop_count, c->drop_count + 1);
    }
    (void)pthread_mutex_unlock(&c->drop_lock);
}

void core_unpin(struct core *c, uint64_t pin) {
    if (c->forked || pin == 0) return;
    (void)pthread_mutex_lock(&c->drop_lock);
    if (c->unpin_count == c->unpin_cap) {
        uint32_t cap = c->unpin_cap ? c->unpin_cap * 2 : 256;
        uint64_t *grown = realloc(c->unpins, cap * sizeof *grown);

        if (grown) {
            c->unpins = grown;
            c->unpin_cap = cap;
        }
    }
    if (c->unpin_count < c->unpin_cap) {
        c->unpins[c->unpin_count] = pin;
        at_store(&c->unpin_count, c->unpin_count + 1);
    }
    (void)pthread_mutex_unlock(&c->drop_lock);
}

/* What destructors asked for. Dropping an object may add what it contained to the list. */
void objects_apply_drops(struct core *c) {
    while (at_load(&c->drop_count) || at_load(&c->unpin_count)) {
        struct skate_id ids[64];
        uint64_t pins[64];
        uint32_t n = 0, p = 0;

        (void)pthread_mutex_lock(&c->drop_lock);
        while (c->drop_count && n < 64) {
            at_store(&c->drop_count, c->drop_count - 1);
            ids[n++] = c->drops[c->drop_count];
        }
        while (c->unpin_count && p < 64) {
            at_store(&c->unpin_count, c->unpin_count - 1);
            pins[p++] = c->unpins[c->unpin_count];
        }
        (void)pthread_mutex_unlock(&c->drop_lock);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t slot = object_find(c, &ids[i]);

            if (slot == MAP_NONE || c->object_v[slot].local == 0) continue;
            c->object_v[slot].local--;
            count(c, slot);
            object_check(c, slot);
        }
        for (uint32_t i = 0; i < p; i++) {
            uint32_t slot = (uint32_t)(pins[i] - 1);

            SKATE_ASSERT(slot < c->ledger.header->slots_used && c->object_v[slot].holds > 0);
            c->object_v[slot].holds--;
            c->pins--;
            restore_unpin(c, slot);
            count(c, slot);
            object_check(c, slot);
        }
    }
}

/* ---- borrowers of objects of ours ---- */

struct borrower *borrower_of(struct core *c, uint32_t slot, uint64_t proc, bool make) {
    struct borrower *b = c->object_v[slot].borrowers;

    while (b && b->proc != proc) b = b->next;
    if (b || !make) return b;
    b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->proc = proc;
    b->next = c->object_v[slot].borrowers;
    c->object_v[slot].borrowers = b;
    return b;
}

void borrowers_tidy(struct core *c, uint32_t slot) {
    struct borrower **at = &c->object_v[slot].borrowers;
    uint32_t n = 0;

    while (*at) {
        struct borrower *b = *at;

        if (b->count == 0 && !b->wants) {
            *at = b->next;
            free(b);
        } else {
            n++;
            at = &b->next;
        }
    }
    c->ledger.slots[slot].borrows = n;
    object_check(c, slot);
}

void borrower_add(struct core *c, const struct skate_id *id, uint64_t proc, int64_t n) {
    uint32_t slot = object_find(c, id);
    struct borrower *b;

    if (slot == MAP_NONE) return;
    b = borrower_of(c, slot, proc, true);
    if (b) b->count += n;
    borrowers_tidy(c, slot);
}

void objects_on_borrow(struct core *c, uint64_t src, const struct wire_borrow *m) {
    struct link *l = m->proc == c->info.proc ? NULL : link_get(c, m->proc);

    if (!owned(c, &m->obj) || !l || l->death) return;
    if (m->obj.owner != c->info.proc) return estate_claim(c, &m->obj, m->proc, src == m->proc);
    borrower_add(c, &m->obj, m->proc, m->n);
}

void objects_on_release(struct core *c, uint64_t src, const struct wire_release *m) {
    if (!owned(c, &m->obj)) return;
    if (m->obj.owner != c->info.proc) return estate_release(c, &m->obj, src);
    borrower_add(c, &m->obj, src, -(int64_t)m->n);
}

/* We hand these refs to process `to` for good: their owners must know. */
void object_pass_refs(struct core *c, const struct skate_id *refs, uint32_t n, uint64_t to) {
    for (uint32_t i = 0; i < n; i++) {
        struct wire_borrow m = {.head = {.size = sizeof m, .kind = WIRE_BORROW, .fixed = sizeof m},
                                .obj = refs[i], .proc = to, .n = 1};

        if (refs[i].owner == c->info.proc)
            borrower_add(c, &refs[i], to, 1);
        else if (owned(c, &refs[i]))
            estate_claim(c, &refs[i], to, false);
        else if (refs[i].owner != to)
            (void)proc_send(c, refs[i].owner, &m, sizeof m, BELL_QUIET);
    }
}

/* ---- values ---- */

void object_val(struct core *c, uint32_t slot, struct wire_val *ret, const uint8_t **ret_data) {
    const struct ledger_slot *s = &c->ledger.slots[slot];

    *ret = (struct wire_val){.id = s->id, .format = ledger_format_of(s),
                             .flags = ledger_flags_of(s)};
    *ret_data = NULL;
    if (ledger_state_of(s) == LEDGER_INLINE) {
        ret->kind = VAL_INLINE;
        ret->len = (uint32_t)s->size;
        ret->size = s->size;
        *ret_data = c->ledger.area + s->offset;
    } else {
        ret->kind = VAL_ARENA;
        ret->holder = s->holder;
        ret->offset = s->offset;
        ret->size = s->size;
    }
}

static void send_value(struct core *c, uint32_t slot, uint64_t to) {
    uint64_t stack[LIMIT_RING_FRAME / 8];
    struct id_list *in = object_contained(c, slot);
    const uint8_t *data;
    struct wire_val v;
    struct wire_buf b;
    struct wire_value *m;

    object_val(c, slot, &v, &data);
    if (in) {
        v.nref = in->count;
        object_pass_refs(c, in->ids, in->count, to);
    }
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_VALUE);
    m->obj = v.id;
    WIRE_PUT(&b, value, value, &v, sizeof v);
    if (in) WIRE_PUT(&b, value, refs, in->ids, in->count * sizeof *in->ids);
    if (v.kind == VAL_INLINE) WIRE_PUT(&b, value, data, data, v.len);
    if (wire_end(&b) == 0) (void)proc_send(c, to, b.p, b.len, BELL_WANTED);
    wire_release(&b);
}

/* The value is here: everyone who waited for it goes on. */
static void became_ready(struct core *c, uint32_t slot) {
    struct dependent *d = c->object_v[slot].dependents;

    if (object_is_error(c, slot)) c->errors_seen++;
    if (!d && !c->object_v[slot].borrowers && !c->object_v[slot].waited)
        return object_check(c, slot);
    c->object_v[slot].dependents = NULL;
    c->object_v[slot].holds++; /* what follows may drop the last need of it */
    while (d) {
        struct dependent *next = d->next;

        task_dep_ready(c, d->task);
        free(d);
        d = next;
    }
    for (struct borrower *b = c->object_v[slot].borrowers, *next; b; b = next) {
        next = b->next;
        if (!b->wants) continue;
        b->wants = false;
        send_value(c, slot, b->proc);
    }
    if (c->object_v[slot].waited) watch_ready(c, slot);
    c->object_v[slot].holds--;
    borrowers_tidy(c, slot);
}

void object_drop_val(struct core *c, const struct wire_val *v, const struct skate_id *refs) {
    if (v->kind == VAL_ARENA && owned(c, &v->id)) {
        if (v->holder == c->info.proc)
            (void)heap_free(c->heap, v->offset);
        else
            free_remote(c, v->holder, v->offset);
    }
    object_drop_refs(c, v, refs);
}

/* Refs that came for us and have no place: their owners have counted them. */
void object_drop_refs(struct core *c, const struct wire_val *v, const struct skate_id *refs) {
    for (uint32_t i = 0; i < v->nref; i++)
        if (!owned(c, &refs[v->ref0 + i]) && object_find(c, &refs[v->ref0 + i]) == MAP_NONE)
            object_release(c, &refs[v->ref0 + i], 1);
        else {
            object_registered(c, &refs[v->ref0 + i]);
            core_ref_drop(c, &refs[v->ref0 + i]);
        }
}

void object_uncopy(struct core *c, uint32_t slot) {
    if (object_copy_at(c, slot)) unpull(c, object_copy_at(c, slot));
    if (c->object_v[slot].more) c->more_v[slot].local_offset = 0;
}

void object_unset(struct core *c, uint32_t slot, bool free_it) {
    struct ledger_slot *s = &c->ledger.slots[slot], was = *s;

    SKATE_ASSERT(ledger_state_of(s) == LEDGER_ARENA);
    ledger_move(&c->ledger, slot, LEDGER_PENDING, 0, 0);
    object_uncopy(c, slot);
    if (free_it)
        free_bytes(c, was.holder, was.offset, owned(c, &s->id));
    else
        link_arena(c, was.holder, -1);
    contained_drop(c, slot);
}

/* What a value contains goes on record before the value does. */
static void contained_set(struct core *c, uint32_t slot, const struct skate_id *refs, uint32_t n) {
    uint64_t at;
    struct id_list *in;

    if (n == 0 || ledger_alloc(&c->ledger, sizeof *in + n * sizeof *refs, &at) < 0) return;
    in = (void *)(c->ledger.area + at);
    in->count = n;
    memcpy(in->ids, refs, n * sizeof *refs);
    c->ledger.slots[slot].contained = at + 1;
}

/* told: whoever sent the value has told the owners of the refs in it that we hold them. */
static void set_value(struct core *c, uint32_t slot, const struct wire_val *v,
                      const uint8_t *data, const struct skate_id *refs, bool told) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    struct id_list *in;

    if (object_ready(c, slot)) return object_drop_val(c, v, refs);
    if (v->kind == VAL_NONE || (v->kind == VAL_INLINE && v->len > LIMIT_INLINE_VALUE)) {
        object_set_system(c, slot, "object_lost\nits value came malformed"); /* never ours */
        return;
    }
    if (v->kind == VAL_INLINE) {
        uint64_t offset;

        if (ledger_alloc(&c->ledger, v->len, &offset) < 0) {
            object_set_system(c, slot, "store_full\nthe table of small values is full");
            return;
        }
        if (v->len) memcpy(c->ledger.area + offset, data + v->off, v->len);
        s->offset = offset;
        s->size = v->len;
        if (v->nref) contained_set(c, slot, refs + v->ref0, v->nref);
        ledger_move(&c->ledger, slot, LEDGER_INLINE, v->format, v->flags);
    } else {
        s->holder = v->holder;
        s->offset = v->offset;
        s->size = v->size;
        if (proc_node(v->holder) != proc_node(c->info.proc)) c->lineage.far = true;
        if (v->nref) contained_set(c, slot, refs + v->ref0, v->nref);
        link_arena(c, v->holder, 1);
        ledger_move(&c->ledger, slot, LEDGER_ARENA, v->format, v->flags);
    }
    in = object_contained(c, slot);
    for (uint64_t i = 0; in && i < in->count; i++)
        if (told)
            object_registered(c, &in->ids[i]);
        else
            object_add_local(c, &in->ids[i]);
    became_ready(c, slot);
}

void object_set(struct core *c, uint32_t slot, const struct wire_val *v, const uint8_t *data,
                const struct skate_id *refs) {
    set_value(c, slot, v, data, refs, true);
}

void object_put(struct core *c, uint32_t slot, const struct wire_val *v, const uint8_t *data,
                const struct skate_id *refs) {
    set_value(c, slot, v, data, refs, false);
}

void object_set_system(struct core *c, uint32_t slot, const char *text) {
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW,
                         .flags = VAL_ERROR | VAL_SYSTEM, .len = (uint32_t)strlen(text)};

    if (v.len > LIMIT_INLINE_VALUE) v.len = LIMIT_INLINE_VALUE;
    if (!object_ready(c, slot)) object_set(c, slot, &v, (const uint8_t *)text, NULL);
}

void object_want(struct core *c, uint32_t slot) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    struct wire_value_req m = {
        .head = {.size = sizeof m, .kind = WIRE_VALUE_REQ, .fixed = sizeof m}, .obj = s->id};
    struct object *o = &c->object_v[slot];
    struct link *l;

    if (o->evicted) lineage_need(c, slot);
    if (owned(c, &s->id) || object_ready(c, slot) || o->requested) return;
    o->requested = 1;
    l = link_get(c, s->id.owner);
    if (!l || link_send(c, l, &m, sizeof m, BELL_URGENT, 0) == -SKATE_EDEAD)
        object_set_system(c, slot, "owner_died\nthe process that owned the object has ended");
}

void objects_on_value_req(struct core *c, uint64_t src, const struct wire_value_req *m) {
    uint32_t slot = object_find(c, &m->obj);
    struct borrower *b;

    if (!owned(c, &m->obj)) return;
    if (slot == MAP_NONE) { /* a borrow that was never passed on properly, or freed by hand */
        slot = object_make(c, &m->obj);
        if (slot == NONE) return;
        c->object_v[slot].holds++;
        object_set_system(c, slot, "object_lost\nits owner has freed it: no reference was left");
        c->object_v[slot].holds--;
        send_value(c, slot, src);
        object_check(c, slot);
        return;
    }
    if (object_ready(c, slot)) {
        send_value(c, slot, src);
        return;
    }
    b = borrower_of(c, slot, src, true);
    if (b) b->wants = true;
}

void objects_on_value(struct core *c, const struct wire_value *m) {
    uint32_t n, nrefs, ndata, slot = object_find(c, &m->obj);
    const struct wire_val *v = wire_value_value(m, &n);
    const struct skate_id *refs = wire_value_refs(m, &nrefs);
    const uint8_t *data = wire_value_data(m, &ndata);

    if (n != 1 || wire_check_vals(v, n, ndata, nrefs) < 0 || v->kind == VAL_NONE) return;
    if (m->obj.owner == c->info.proc || (slot != MAP_NONE && owned(c, &m->obj) &&
                                         object_ready(c, slot)))
        object_drop_refs(c, v, refs); /* inherited meanwhile: its bytes are in use */
    else if (slot == MAP_NONE)
        object_drop_val(c, v, refs);
    else
        object_set(c, slot, v, data, refs);
}

void objects_on_free(struct core *c, const struct wire_free *m) {
    uint32_t n;
    const uint64_t *offsets = wire_free_offsets(m, &n);

    for (uint32_t i = 0; i < n; i++) (void)heap_free(c->heap, offsets[i]);
    c->heap_frees += n;
}

static void pull_failed(struct core *c, uint32_t slot, const struct wire_pulled *m) {
    char text[500];
    uint32_t n;
    const char *reason = wire_pulled_reason(m, &n);

    if (m->status != -SKATE_EFULL && m->status != -SKATE_ENOMEM && m->status < 0) {
        lineage_lost(c, slot, "its node is lost and no copy is left");
        tasks_watch_again(c);
        return;
    }
    (void)snprintf(text, sizeof text, "store_full\nit could not be fetched from its node: %.*s",
                   (int)(n > 400 ? 400 : n), reason);
    object_unset(c, slot, false);
    object_set_system(c, slot, text);
}

void objects_on_pulled(struct core *c, const struct wire_pulled *m) {
    uint32_t slot = object_find(c, &m->obj);
    struct object *o;

    if (slot == MAP_NONE) {
        if (m->status == 0) unpull(c, m->offset);
        return;
    }
    o = &c->object_v[slot];
    o->pulling = 0;
    if (m->status == 0 && m->offset <= c->info.arena_bytes &&
        m->size <= c->info.arena_bytes - m->offset && m->size == c->ledger.slots[slot].size) {
        object_more_of(c, slot)->local_offset = m->offset;
        lineage_found(c, slot);
    } else if (ledger_state_of(&c->ledger.slots[slot]) == LEDGER_ARENA)
        pull_failed(c, slot, m);
    slot = object_find(c, &m->obj);
    if (slot != MAP_NONE && c->object_v[slot].waited) watch_ready(c, slot);
    slot = object_find(c, &m->obj);
    if (slot != MAP_NONE) object_check(c, slot);
}

static bool same_process(uint64_t proc, uint64_t dead) {
    return proc_number(dead) ? proc == dead : proc_node(proc) == proc_node(dead);
}

void objects_on_died(struct core *c, uint64_t proc, const char *text) {
    char reason[LIMIT_INLINE_VALUE];
    int n = snprintf(reason, sizeof reason, "owner_died\nthe process that owned it is gone: %s",
                     text);
    bool lost = false;

    SKATE_ASSERT(n > 0);
    for (uint32_t i = 0; i < c->ledger.header->slots_used; i++) {
        struct ledger_slot *s = &c->ledger.slots[i];
        enum ledger_state state = ledger_state_of(s);

        if (state == LEDGER_FREE || state == LEDGER_TASK) continue;
        if (state == LEDGER_ARENA && proc_number(proc) == 0 &&
            proc_node(s->holder) == proc_node(proc) && !c->object_v[i].pulling) {
            lineage_lost(c, i, "the node that held it is lost");
            lost = true;
            if (ledger_state_of(s) == LEDGER_FREE) continue;
        }
        if (!owned(c, &s->id)) {
            if (state == LEDGER_PENDING && same_process(s->id.owner, proc) &&
                !(c->heritage.heirs_known && heir_of(c, s->id.owner)))
                object_set_system(c, i, reason);
            continue;
        }
        if (c->object_v[i].borrowers) {
            for (struct borrower *b = c->object_v[i].borrowers; b; b = b->next)
                if (same_process(b->proc, proc)) b->count = b->wants = 0;
            borrowers_tidy(c, i);
        }
    }
    if (lost) tasks_watch_again(c);
}
