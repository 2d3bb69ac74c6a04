/* restore.c - see restore.h. */
#include "core/restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/heap.h"
#include "store/residency.h"

enum { OFFERS = 512 };
#define LINGER_NS INT64_C(2000000000)

struct pin { /* what views of one object need; c->pinned has it by its slot + 1 */
    struct pin *before; /* views of its former place, which is pinned as long as this */
    uint64_t offset, bytes;
    uint32_t count;
};
struct comeback { /* pinned, and a hold on the object, until it is read */
    struct comeback *next, **link; /* c->comebacks; c->coming has it by its slot + 1 */
    uint64_t offset, bytes;
    uint32_t slot;
    bool came;
    int status;
    int64_t came_ns;
};

/* A part of the arena that has no pages, for want of room, and that we have mapped from a file. */
struct overlay {
    struct overlay *next;
    uint64_t offset, bytes;
};

/* ---- bytes that a file has ---- */

/* Who waits for this answer; what nobody has pinned must never be mapped over the arena. */
static struct comeback *waited(const struct core *c, const struct wire_restored *m) {
    struct comeback *b = c->comebacks;

    while (b && (b->came || b->offset != m->offset || b->bytes != m->bytes)) b = b->next;
    return b;
}

void restore_on_file(struct core *c, const struct wire_restored *m, int fd) {
    struct overlay *o = malloc(sizeof *o);
    uint64_t at = m->at, bytes = m->file_bytes;
    struct stat file;
    bool fine = o && m->status == 0 && waited(c, m) && at % GRANULE_BYTES == 0 && bytes &&
                m->bytes <= bytes && at <= m->offset && m->offset - at <= bytes - m->bytes &&
                bytes <= c->info.arena_bytes && at <= c->info.arena_bytes - bytes &&
                fstat(fd, &file) == 0 && file.st_size >= 0 && (uint64_t)file.st_size >= bytes;

    if (fine)
        fine = mmap(c->arena + at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    if (fine) {
        *o = (struct overlay){c->overlays, at, bytes};
        c->overlays = o;
    } else
        free(o);
    (void)close(fd);
}

/* Is all of it mapped from one file? */
static bool overlaid(const struct core *c, uint64_t offset, uint64_t bytes) {
    for (const struct overlay *o = c->overlays; o; o = o->next)
        if (o->offset <= offset && offset + bytes <= o->offset + o->bytes) return true;
    return false;
}

/* Files that nobody looks at any more give way to the arena. */
static void overlays_end(struct core *c) {
    for (struct overlay **at = &c->overlays, *o; (o = *at);) {
        uint64_t end = granule_end(o->offset, o->bytes), g = granule_first(o->offset);

        while (g < end && c->pins_v[g] == 0) g++;
        if (g < end || mmap(c->arena + o->offset, o->bytes, PROT_READ,
                            MAP_SHARED | MAP_NORESERVE | MAP_FIXED, c->arena_fd,
                            (off_t)o->offset) == MAP_FAILED) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        free(o);
    }
}

/* ---- what is on its way back ---- */

static struct comeback *find(const struct core *c, uint32_t slot) {
    return c->comebacks ? table_get(&c->coming, slot + UINT64_C(1)) : NULL;
}

/* Its pins and its hold go. */
static void drop(struct core *c, struct comeback *b) {
    *b->link = b->next;
    if (b->next) b->next->link = b->link;
    table_take(&c->coming, b->slot + UINT64_C(1));
    c->coming_bytes -= b->bytes;
    pins_drop(c->pins_v, b->offset, b->bytes);
    if (c->overlays) overlays_end(c);
    SKATE_ASSERT(c->object_v[b->slot].holds > 0);
    object_unhold(c, &c->ledger.slots[b->slot].id);
    free(b);
}

bool restore_waits(const struct core *c, uint32_t slot) {
    const struct comeback *b = find(c, slot);

    return b && !b->came;
}

static int ask(struct core *c, uint32_t slot, uint64_t offset, uint64_t bytes) {
    struct wire_restore m = {.head = {.size = sizeof m, .kind = WIRE_RESTORE, .fixed = sizeof m},
                             .offset = offset, .bytes = bytes};
    struct comeback *b = find(c, slot);
    int status = b ? b->status : 0;

    if (b && !b->came) return -SKATE_EAGAIN;
    if (b) drop(c, b);
    if (status < 0) return status;
    b = malloc(sizeof *b);
    if (!b || table_set(&c->coming, slot + UINT64_C(1), b) < 0) return free(b), -SKATE_ENOMEM;
    *b = (struct comeback){.next = c->comebacks, .link = &c->comebacks, .slot = slot,
                           .offset = offset, .bytes = bytes};
    if (b->next) b->next->link = &b->next;
    c->comebacks = b;
    c->coming_bytes += bytes;
    (void)pins_take(c->pins_v, c->residency, offset, bytes);
    c->object_v[slot].holds++;
    (void)sock_send(c, &m, sizeof m);
    return -SKATE_EAGAIN;
}

static void lost(struct core *c, uint32_t slot, const char *why, uint32_t len) {
    char text[400];

    (void)snprintf(text, sizeof text, "%.*s", (int)(len > 300 ? 300 : len), why);
    if (ledger_state_of(&c->ledger.slots[slot]) != LEDGER_ARENA) return;
    if (object_copy_at(c, slot)) { /* a copy of another node's: once more from there */
        object_uncopy(c, slot);
        return;
    }
    lineage_lost(c, slot, text);
    tasks_watch_again(c);
}

void restore_on_answer(struct core *c, const struct wire_restored *m) {
    struct comeback *b = waited(c, m);
    uint32_t slot, len;
    const char *why = wire_restored_reason(m, &len);

    if (!b) return;
    slot = b->slot;
    b->came = true;
    b->came_ns = time_now_ns();
    b->status = m->status;
    c->object_v[slot].holds++;
    if (m->status < 0 && m->status != -SKATE_EFULL && m->status != -SKATE_ENOMEM) {
        drop(c, b);
        lost(c, slot, why, len);
    } else if (m->status < 0)
        (void)err_fail(&c->trouble, m->status, "%.*s", (int)len, why);
    if (c->object_v[slot].waited) watch_ready(c, slot);
    object_unhold(c, &c->ledger.slots[slot].id);
}

/* What was granted and not taken. */
static void room_back(struct core *c) {
    if (c->room.bytes) core_give_back(c, c->room.offset);
    c->room.bytes = 0;
}

/* A thread's wait. It outlives the looks at the signals, or each would begin a new one. */
struct room_wait {
    struct room_wait *next;
    pthread_t who;
    uint32_t call;
    bool came;
    uint64_t bytes, frees;
    int64_t left_ns; /* when its thread went to look at the signals; 0: it is here */
    struct skate_error err;
    int status;
};

static _Thread_local uint64_t wanted; /* what the raylet had no room for last */

void restore_wants(uint64_t bytes) { wanted = bytes; }

static struct room_wait *room_wait_of(struct core *c, uint64_t bytes) {
    struct wire_room m = {.head = {.size = sizeof m, .kind = WIRE_ROOM, .fixed = sizeof m},
                          .bytes = bytes};
    struct room_wait *w = c->room_waits;

    while (w && (!w->left_ns || w->bytes != bytes || !pthread_equal(w->who, pthread_self())))
        w = w->next;
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w) return NULL;
        w->next = c->room_waits;
        w->who = pthread_self();
        w->bytes = bytes;
        w->call = m.head.call = ++c->next_call;
        c->room_waits = w;
        (void)sock_send(c, &m, sizeof m);
    }
    w->left_ns = 0;
    w->frees = c->heap_frees;
    return w;
}

static void room_wait_end(struct core *c, struct room_wait *w) {
    struct room_wait **at = &c->room_waits;

    while (*at != w) at = &(*at)->next;
    *at = w->next;
    free(w);
}

void restore_tick(struct core *c) {
    int64_t before = time_now_ns() - LINGER_NS;

    for (struct comeback *b = c->comebacks, *next; b; b = next) {
        next = b->next;
        if (b->came && b->came_ns < before) drop(c, b);
    }
    if (c->room.bytes && c->room.came_ns < before) room_back(c);
    for (struct room_wait *w = c->room_waits, *next; w; w = next) {
        next = w->next;
        if (w->left_ns && w->left_ns < before) room_wait_end(c, w);
    }
}

bool restore_is_lost(const struct core *c, uint32_t slot) {
    const struct ledger_slot *s = &c->ledger.slots[slot];
    uint64_t end;

    if (!c->pins_v || s->size == 0 || s->offset > c->info.arena_bytes ||
        s->size > c->info.arena_bytes - s->offset)
        return false;
    end = granule_end(s->offset, s->size);
    for (uint64_t g = granule_first(s->offset); g < end; g++)
        if (at_load(&c->residency[g]) == RES_LOST) return true;
    return false;
}

/* ---- views ---- */

int restore_pin(struct core *c, uint32_t slot, uint64_t offset, uint64_t bytes) {
    struct pin *p, *fresh;
    struct comeback *b;

    if (!c->pins_v) return 0;
    p = table_get(&c->pinned, slot + UINT64_C(1));
    if (p && p->offset == offset && p->bytes == bytes) {
        p->count++;
        return 0;
    }
    if (!pins_take(c->pins_v, c->residency, offset, bytes) && !overlaid(c, offset, bytes)) {
        pins_drop(c->pins_v, offset, bytes);
        return ask(c, slot, offset, bytes);
    }
    fresh = calloc(1, sizeof *p);
    if (!fresh || table_set(&c->pinned, slot + UINT64_C(1), fresh) < 0) {
        free(fresh);
        pins_drop(c->pins_v, offset, bytes);
        return -SKATE_ENOMEM;
    }
    *fresh = (struct pin){.before = p, .offset = offset, .bytes = bytes,
                          .count = (p ? p->count : 0) + 1};
    b = find(c, slot);
    if (b && b->came) drop(c, b);
    return 0;
}

void restore_unpin(struct core *c, uint32_t slot) {
    struct pin *p;

    if (!c->pins_v || !(p = table_get(&c->pinned, slot + UINT64_C(1)))) return;
    if (--p->count > 0) return;
    (void)table_take(&c->pinned, slot + UINT64_C(1));
    for (struct pin *next; p; p = next) {
        next = p->before;
        pins_drop(c->pins_v, p->offset, p->bytes);
        free(p);
    }
    if (c->overlays) overlays_end(c);
}

void restore_ahead(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_find(c, id);
    const struct ledger_slot *s;
    uint64_t at, head;

    if (!c->pins_v || slot == MAP_NONE || c->coming_bytes > c->info.store_bytes / 8) return;
    s = &c->ledger.slots[slot];
    at = object_copy_at(c, slot);
    head = at ? 0 : sizeof(struct heap_header);
    if (!at) at = s->offset;
    if (ledger_state_of(s) != LEDGER_ARENA || s->size == 0 || at < head || find(c, slot) ||
        (head && proc_node(s->holder) != proc_node(c->info.proc)) ||
        at > c->info.arena_bytes || s->size > c->info.arena_bytes - at ||
        residency_all_here(c->residency, granule_first(at - head), granule_end(at, s->size)) ||
        overlaid(c, at - head, s->size + head))
        return;
    (void)ask(c, slot, at - head, s->size + head);
}

void core_ahead(struct core *c, const struct skate_id *ids, uint32_t count) {
    if (core_enter(c) < 0) return;
    for (uint32_t i = 0; i < count && c->coming_bytes <= c->info.store_bytes / 8; i++)
        restore_ahead(c, &ids[i]);
    core_leave(c);
}

/* ---- what the raylet wants ---- */

static bool unpinned(void *arg, uint64_t offset, uint64_t bytes) {
    const struct core *c = arg;
    uint64_t end = granule_end(offset, bytes);

    for (uint64_t g = granule_first(offset); g < end; g++)
        if (c->pins_v[g]) return false;
    return true;
}

void restore_on_ask(struct core *c, const struct wire_spill_ask *m) {
    struct heap_offer offers[OFFERS];
    uint64_t offsets[OFFERS];
    struct wire_spill_offer *o;
    struct wire_buf b;
    uint32_t n;

    if (!c->pins_v) return;
    n = heap_offer(c->heap, m->bytes, unpinned, c, offers, OFFERS);
    for (uint32_t i = 0; i < n; i++) offsets[i] = offers[i].offset;
    wire_init(&b, NULL, 0);
    o = wire_begin(&b, WIRE_SPILL_OFFER);
    o->round = m->round;
    WIRE_PUT(&b, spill_offer, offsets, offsets, n * sizeof *offsets);
    if (wire_end(&b) == 0) (void)sock_send(c, b.p, b.len);
    wire_release(&b);
}

void restore_on_back(struct core *c, const struct wire_spill_back *m) {
    uint32_t n;
    const uint64_t *offsets = wire_spill_back_offsets(m, &n);

    for (uint32_t i = 0; i < n; i++) heap_take_back(c->heap, offsets[i]);
}

/* ---- room in a full store ---- */

static bool room_came(struct core *c, void *arg) {
    const struct room_wait *w = arg;

    return w->came || c->heap_frees != w->frees;
}

void restore_on_room(struct core *c, const struct wire_room_made *m) {
    uint32_t len;
    const char *why = wire_room_made_reason(m, &len);
    struct room_wait *w = c->room_waits;

    if (m->status == 0 && (m->offset > c->info.arena_bytes ||
                           m->bytes > c->info.arena_bytes - m->offset))
        return;
    while (w && w->call != m->head.call) w = w->next;
    if (w) {
        w->came = true;
        w->status = m->status;
        (void)err_fail(&w->err, m->status, "%.*s", (int)len, why);
    }
    if (m->status < 0) return;
    if (!w || m->bytes < w->bytes || c->room.bytes) { /* nobody's; two: the first is taken first */
        core_give_back(c, m->offset);
        return;
    }
    c->room = (struct room){m->offset, m->bytes, time_now_ns()};
}

int restore_room(struct core *c, struct skate_error *err) {
    bool lend = !c->info.is_driver && c->run_current;
    struct room_wait *w;
    int r;

    if (!c->pins_v || wanted == 0) return -SKATE_EFULL;
    w = room_wait_of(c, wanted);
    wanted = 0;
    if (!w) return -SKATE_ENOMEM;
    if (lend) lend_begin(c);
    do /* whatever signals come while a task stores its result, but for cancel */
        r = pump_until(c, room_came, w, INT64_MAX, false);
    while (r == -SKATE_EINTR && lend && !c->interrupt);
    if (lend) lend_end(c);
    if (r == 0 && w->came && w->status < 0) r = err_fail(err, w->status, "%s", w->err.text);
    if ((r == 0 || r == -SKATE_EINTR) && !w->came)
        w->left_ns = time_now_ns(); /* it tries again, and comes back if that is in vain */
    else
        room_wait_end(c, w);
    return r;
}

bool core_wants_room(struct core *c, int r) {
    return r == -SKATE_EFULL && c->pins_v && wanted;
}

int core_room_for(struct core *c, int r, struct skate_error *err) {
    if (!core_wants_room(c, r)) return r;
    r = core_enter(c);
    if (r < 0) return r;
    r = restore_room(c, err);
    core_leave(c);
    return r == 0 ? -SKATE_EINTR : r;
}

void restore_release(struct core *c) {
    uint64_t key;
    uint32_t at = 0;
    struct pin *p;

    while ((p = table_next(&c->pinned, &at, &key)))
        for (struct pin *next; p; p = next) {
            next = p->before;
            free(p);
        }
    table_release(&c->pinned);
    table_release(&c->coming);
    while (c->comebacks) {
        struct comeback *b = c->comebacks;

        c->comebacks = b->next;
        free(b);
    }
    while (c->room_waits) room_wait_end(c, c->room_waits);
    while (c->overlays) {
        struct overlay *o = c->overlays;

        c->overlays = o->next;
        free(o);
    }
}
