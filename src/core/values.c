/* values.c - values in and out: put, wait, read, copies into the arena, pulls from other nodes. */
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/core_int.h"
#include "core/lend.h"
#include "core/inspect.h"
#include "core/restore.h"
#include "core/waits.h"

uint64_t value_size(const struct core_value *v) {
    uint64_t at = 0;

    if (v->part_count == 1) return v->parts->size;
    for (uint32_t i = 0; i < v->part_count; i++) {
        uint64_t align = v->parts[i].align ? v->parts[i].align : 1;

        at = (at + align - 1) / align * align + v->parts[i].size;
    }
    return at;
}

void value_copy(void *to, const struct core_value *v) {
    uint8_t *p = to;
    uint64_t at = 0;

    for (uint32_t i = 0; i < v->part_count; i++) {
        uint64_t align = v->parts[i].align ? v->parts[i].align : 1;
        uint64_t start = (at + align - 1) / align * align;

        if (start > at) memset(p + at, 0, start - at);
        if (v->parts[i].size) memcpy(p + start, v->parts[i].data, v->parts[i].size);
        at = start + v->parts[i].size;
    }
}

/* Write a value into our extents; the mutex is given up while many bytes are copied. */
int object_store(struct core *c, const struct core_value *v, const struct skate_id *id,
                 struct wire_val *ret, struct skate_error *err) {
    uint64_t size = value_size(v);
    struct heap_place at;
    int r = heap_alloc_cold(c->heap, size, id, false, &at, err);

    if (r < 0) return r;
    if (size > LIMIT_SLOT_BYTES) core_leave(c);
    if (at.cold) r = heap_back(c->arena_fd, at.offset, at.data, size, err);
    if (r == 0) value_copy(at.data, v);
    if (size > LIMIT_SLOT_BYTES && core_enter(c) < 0)
        (void)pthread_mutex_lock(&c->lock); /* the caller expects the lock */
    if (r < 0) {
        (void)heap_free(c->heap, at.offset);
        (void)heap_offer(c->heap, 0, NULL, NULL, NULL, 0); /* gives back what holds nothing */
        return r;
    }
    ((struct heap_header *)at.data - 1)->format = v->format;
    if (!(v->flags & VAL_ERROR)) heap_seal(c->heap, at.offset); /* errors are read at once: stay */
    *ret = (struct wire_val){.kind = VAL_ARENA, .format = v->format, .flags = v->flags, .id = *id,
                             .holder = c->info.proc, .offset = at.offset, .size = size};
    return 0;
}

int core_put(struct core *c, const struct core_value *v, struct skate_id *ret,
             struct skate_error *err) {
    uint8_t inline_copy[LIMIT_INLINE_VALUE];
    uint64_t size = value_size(v);
    struct wire_val val;
    struct skate_id id;
    uint32_t slot;
    int r = core_enter(c);

    if (r < 0) return r;
    objects_apply_drops(c);
    id = (struct skate_id){c->info.proc, ++c->next_seq << 16 | SKATE_INDEX_PUT};
    if (c->dead) r = err_fail(err, -SKATE_EDEAD, "%s", c->death.text);
    if (r == 0 && size <= LIMIT_INLINE_VALUE) {
        value_copy(inline_copy, v);
        val = (struct wire_val){.kind = VAL_INLINE, .format = v->format, .flags = v->flags,
                                .len = (uint32_t)size, .id = id};
    } else if (r == 0)
        r = object_store(c, v, &id, &val, err);
    if (r == 0) {
        slot = object_new(c, &id);
        if (slot == NONE) {
            if (val.kind == VAL_ARENA) (void)heap_free(c->heap, val.offset);
            r = err_fail(err, -SKATE_EFULL, "the table of objects is full (%u)", LEDGER_OBJECTS);
        } else {
            c->object_v[slot].local = 1;
            val.nref = v->ref_count;
            object_put(c, slot, &val, inline_copy, v->refs);
            *ret = id;
        }
    }
    core_leave(c);
    return r;
}

/* ---- waiting ---- */

static void pull(struct core *c, uint32_t slot, uint32_t why) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    struct wire_pull m = {.head = {.size = sizeof m, .kind = WIRE_PULL, .fixed = sizeof m},
                          .obj = s->id, .holder = s->holder, .offset = s->offset,
                          .size = s->size, .why = why - FETCH_GET};

    if (c->object_v[slot].pulling) return;
    c->object_v[slot].pulling = 1;
    m.head.call = ++c->next_call;
    (void)sock_send(c, &m, sizeof m);
}

void object_bring(struct core *c, uint32_t slot) { pull(c, slot, FETCH_GET); }

/* Readable on this node, or asked for? If it is ready elsewhere, its pull is begun. What lies in a
 * spill file of this node is asked for by who reads it (view_arena). */
bool usable(struct core *c, uint32_t slot, uint32_t fetch) {
    struct ledger_slot *s = &c->ledger.slots[slot];

    if (!object_ready(c, slot)) return false;
    if (ledger_state_of(s) == LEDGER_INLINE) return true;
    if (object_copy_at(c, slot) || (proc_node(s->holder) == proc_node(c->info.proc) &&
                                    (proc_number(s->holder) || object_bytes(c, slot))))
        return !c->comebacks || !fetch || !restore_waits(c, slot);
    if (!fetch) return true; /* a pulled copy, too, that became the object: ask where */
    pull(c, slot, fetch);
    return false;
}

static uint32_t fetch_of(uint32_t flags) {
    if (!(flags & CORE_FETCH)) return FETCH_NOT;
    return flags & CORE_STOP_ON_ERROR ? FETCH_GET : FETCH_WAIT;
}

static bool look(struct core *c, struct waiting *w, uint32_t i) {
    if (w->ready[i]) return true;
    if (!usable(c, w->slots[i], fetch_of(w->flags))) return false;
    w->ready[i] = 1;
    w->found++;
    if ((w->flags & CORE_STOP_ON_ERROR) && object_is_error(c, w->slots[i])) w->error = true;
    return true;
}

static bool enough(struct core *c, void *arg) {
    struct waiting *w = arg;

    if (w->need == w->count) { /* all of them: no need to look behind the first missing one */
        while (w->cursor < w->count && look(c, w, w->cursor)) w->cursor++;
        if (!(w->flags & CORE_STOP_ON_ERROR) || w->errors_seen == c->errors_seen)
            return w->error || w->found >= w->need;
    }
    w->errors_seen = c->errors_seen;
    for (uint32_t i = w->cursor; i < w->count && w->found < w->need && !w->error; i++)
        (void)look(c, w, i);
    return w->error || w->found >= w->need;
}

void tell_blocked(struct core *c, bool blocked) {
    struct wire_worker_blocked m = {
        .head = {.size = sizeof m, .kind = WIRE_WORKER_BLOCKED, .fixed = sizeof m}};
    struct wire_unblocked u = {
        .head = {.size = sizeof u, .kind = WIRE_UNBLOCKED, .fixed = sizeof u}};

    if (!blocked) {
        m.head.kind = WIRE_WORKER_UNBLOCKED;
        c->blocked_told = false;
    }
    (void)sock_send(c, &m, sizeof m);
    if (!blocked && c->run_current && c->run_current->link)
        (void)link_send(c, c->run_current->link, &u, sizeof u, BELL_WANTED, 0);
}

void core_lend(struct core *c, bool on) {
    if (core_enter(c) < 0) return;
    c->lends = on;
    core_leave(c);
}

/* A worker that waits lends its CPUs, and gives back what it has not started. Calls are paired;
 * several threads may wait at once. */
void lend_begin(struct core *c) {
    if (c->lenders++ > 0) return;
    runs_give_back(c);
    tell_blocked(c, true);
}

void lend_end(struct core *c) {
    SKATE_ASSERT(c->lenders > 0);
    if (--c->lenders == 0) tell_blocked(c, false);
}

static int sleep_for(struct core *c, struct waiting *w, int64_t timeout_ns) {
    int64_t now = time_now_ns(), deadline = INT64_MAX;
    bool lend = (c->info.is_driver ? c->lends : c->run_current != NULL) && timeout_ns != 0;
    int r;

    if (timeout_ns >= 0 && timeout_ns < INT64_MAX - now) deadline = now + timeout_ns;
    if (timeout_ns == 0) pump(c);
    if (enough(c, w)) return 0;
    if (timeout_ns == 0) return -SKATE_ETIMEOUT;
    if (lend) lend_begin(c);
    w->deadline_ns = deadline;
    why_wait_begin(c, w, now);
    r = why_pump(c, enough, w, w->need > 1 && w->need == w->count);
    why_wait_end(c, w);
    if (lend) lend_end(c);
    return r;
}

int core_wait(struct core *c, const struct skate_id *ids, uint32_t count, uint32_t need,
              int64_t timeout_ns, unsigned flags, uint8_t *ready) {
    struct waiting w = {.ids = ids, .ready = ready, .count = count, .need = need, .flags = flags};
    uint32_t stack[64];
    int r = core_enter(c);

    if (r < 0) return r;
    w.slots = count <= 64 ? stack : malloc(count * sizeof *w.slots);
    if (!w.slots) r = -SKATE_ENOMEM;
    memset(ready, 0, count);
    w.errors_seen = c->errors_seen - 1; /* look at all once */
    for (uint32_t i = 0; i < count && r == 0; i++) {
        w.slots[i] = object_make(c, &ids[i]);
        if (w.slots[i] == NONE) {
            r = -SKATE_EFULL;
            break;
        }
        object_want(c, w.slots[i]);
    }
    if (r == 0) r = sleep_for(c, &w, timeout_ns);
    if (r == -SKATE_ETIMEOUT) /* what is ready behind the first missing one counts too */
        for (uint32_t i = 0; i < count; i++) (void)look(c, &w, i);
    core_leave(c);
    if (w.slots != stack) free(w.slots);
    return r == 0 || r == -SKATE_ETIMEOUT ? (int)w.found : r;
}

uint32_t core_peek(struct core *c, const struct skate_id *ids, uint32_t count, uint32_t need,
                   unsigned flags, uint8_t *ready) {
    uint32_t found = 0;

    memset(ready, 0, count);
    if (core_enter(c) < 0) return 0;
    for (uint32_t i = 0; i < count && found < need; i++) {
        uint32_t slot = object_find(c, &ids[i]);

        if (slot == MAP_NONE || !usable(c, slot, fetch_of(flags))) continue;
        ready[i] = 1;
        found++;
    }
    core_leave(c);
    return found;
}

/* Where an arena value lies on this node; NULL: nowhere, or what others say of it is not true. */
const uint8_t *object_bytes(struct core *c, uint32_t slot) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    bool here = proc_node(s->holder) == proc_node(c->info.proc) &&
                !object_copy_at(c, slot);
    uint64_t at = here ? s->offset : object_copy_at(c, slot);

    if (at == 0 || at > c->info.arena_bytes || s->size > c->info.arena_bytes - at) return NULL;
    if (here) {
        const struct heap_header *h = (const void *)(c->arena + at - sizeof *h);

        if (at < sizeof *h || at % 8 || h->magic != HEAP_MAGIC || h->size != s->size ||
            !id_equal(&h->id, &s->id))
            return NULL; /* never a wrong byte */
    }
    return c->arena + at;
}

int view_arena(struct core *c, uint32_t slot, struct core_view *ret) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    uint64_t copy = object_copy_at(c, slot), at = copy ? copy : s->offset;
    uint64_t head = copy ? 0 : sizeof(struct heap_header);
    const uint8_t *bytes;
    int r;

    if (at < head || at == 0 || at > c->info.arena_bytes || s->size == 0 ||
        s->size > c->info.arena_bytes - at)
        return -SKATE_EPROTO;
    r = restore_pin(c, slot, at - head, s->size + head);
    if (r < 0) return r;
    bytes = object_bytes(c, slot);
    if (!bytes) return restore_unpin(c, slot), -SKATE_EPROTO;
    ret->data = bytes;
    c->object_v[slot].holds++;
    c->pins++;
    ret->pin = (uint64_t)slot + 1;
    return 0;
}

static bool answered(struct core *c, void *arg) { return !restore_waits(c, *(uint32_t *)arg); }

int view_wait(struct core *c, uint32_t slot, struct core_view *ret) {
    for (;;) {
        int r = view_arena(c, slot, ret);

        if (r != -SKATE_EAGAIN) return r;
        r = pump_until(c, answered, &slot, INT64_MAX, false);
        if (r < 0 && (r != -SKATE_EINTR || c->interrupt)) return r;
        if (!object_ready(c, slot)) return -SKATE_ELOST;
    }
}

int core_read(struct core *c, const struct skate_id *id, void *inline_copy,
              struct core_view *ret) {
    struct ledger_slot *s;
    uint32_t slot;
    int r = core_enter(c);

    if (r < 0) return r;
    slot = object_find(c, id);
    if (slot == MAP_NONE || !object_ready(c, slot)) return core_leave(c), -SKATE_EAGAIN;
    s = &c->ledger.slots[slot];
    *ret = (struct core_view){.size = s->size, .format = ledger_format_of(s),
                              .flags = ledger_flags_of(s)};
    if (ledger_state_of(s) == LEDGER_INLINE) {
        memcpy(inline_copy, c->ledger.area + s->offset, s->size);
        ret->data = inline_copy;
    } else if (!usable(c, slot, FETCH_GET))
        r = -SKATE_EAGAIN;
    else
        r = view_arena(c, slot, ret);
    core_leave(c);
    return r;
}
