/* items.c - the items of generator tasks of ours: they come one by one, in order, and the program
 * takes them one by one.
 *
 * An item is an object of ours that the stream holds until it is taken. Its id follows from the
 * task and the item's number, so that a task that is run again makes the same ids: what was there
 * before is dropped when it comes again. 65533 items have the ids of the task itself (index 2 and
 * up, 1 is the result); each further chunk begins at a fresh sequence of ours, told in time with
 * `gen_ack`. The same message lets the producer go on: it is never more than STREAM_WINDOW items
 * ahead of what was received, nor more than the allowed number ahead of what was taken. When the
 * program said no number that is STREAM_UNREAD, so that a slow reader's memory does not grow, but
 * a reader that takes nothing at all is no reader: then it grows.
 *
 * The handle of a stream is an object with the task's id (index 0). A stream lives until its handle
 * is gone and its task has ended. Under the core mutex; never sleeps, but core_stream_next() is
 * called from outside. The worker's side: yield.c. Tests: tests/unit/core_items_test.c,
 * tests/compat/test_compat_generators.py. */
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/core_int.h"
#include "core/items.h"

#define UNKNOWN UINT64_MAX
#define TICK_NS INT64_C(40000000)

struct stream {
    struct skate_id task;
    uint64_t received; /* items of the present run of the task */
    uint64_t produced; /* items that exist, of any run */
    uint64_t read;     /* of these, taken by the program */
    uint64_t expected; /* what the present run said it made in all */
    uint64_t limit;    /* as the worker knows it */
    uint64_t proc;     /* who runs it, 0: nobody */
    struct link *link;
    uint64_t unread;   /* most items that may lie here and be not taken */
    uint64_t *bases;   /* first id of chunk 1, 2, ... */
    uint32_t base_count;
    uint64_t looked;   /* how many were taken at the last tick */
    bool soft;         /* `unread` is ours, not the program's: it gives way */
    bool handle;       /* the program can still ask for items */
    bool closed;       /* further items are not wanted */
    bool over, failed; /* the task has ended; its result is an error */
    bool failure_told;
    bool peeked;       /* the object of item `produced` exists and is waited for */
};

uint32_t stream_unread(uint32_t flags) {
    if (flags & CORE_DYNAMIC) return UINT32_MAX; /* nobody takes before all are there */
    return flags / CORE_UNREAD ? flags / CORE_UNREAD : STREAM_UNREAD;
}

static struct stream *find(struct core *c, const struct skate_id *task) {
    uint32_t i = map_get(&c->streams, task);

    return i == MAP_NONE ? NULL : c->stream_v[i];
}

int stream_new(struct core *c, const struct skate_id *task, uint32_t flags) {
    struct stream *s = calloc(1, sizeof *s);
    uint32_t slot, n = c->streams.count;

    if (s && n == c->stream_cap) {
        uint32_t cap = n ? n * 2 : 16;
        struct stream **grown = realloc(c->stream_v, cap * sizeof(void *));

        if (!grown) return free(s), -SKATE_ENOMEM;
        c->stream_v = grown;
        c->stream_cap = cap;
    }
    if (!s || map_put(&c->streams, task, n) < 0) return free(s), -SKATE_ENOMEM;
    s->task = *task;
    s->expected = UNKNOWN;
    s->unread = stream_unread(flags);
    s->soft = flags / CORE_UNREAD == 0;
    c->stream_v[n] = s;
    if (flags & CORE_DYNAMIC) return 0;
    s->handle = true;
    slot = object_make(c, task);
    if (slot == NONE) {
        (void)map_remove(&c->streams, task);
        return free(s), -SKATE_EFULL;
    }
    object_hold(c, task);
    object_handed(c, slot);
    return 0;
}

/* The id of item i; the ids of a chunk are made when it is first spoken of. */
static int item_id(struct core *c, struct stream *s, uint64_t i, struct skate_id *ret) {
    uint64_t chunk = i / STREAM_CHUNK, index = i % STREAM_CHUNK + 2;

    while (chunk > s->base_count) {
        uint64_t *grown = realloc(s->bases, (s->base_count + 1) * sizeof *grown);

        if (!grown) return -SKATE_ENOMEM;
        s->bases = grown;
        s->bases[s->base_count++] = ++c->next_seq << 16;
    }
    ret->owner = s->task.owner;
    ret->seq = (chunk ? s->bases[chunk - 1] : s->task.seq) | index;
    return 0;
}

static void drop_unread(struct core *c, struct stream *s) {
    uint64_t end = s->produced + s->peeked;
    struct skate_id id;

    s->peeked = false;
    for (; s->read < end; s->read++)
        if (item_id(c, s, s->read, &id) == 0) object_unhold(c, &id);
    s->read = s->produced;
}

static void stream_free(struct core *c, struct stream *s) {
    uint32_t last, i;
    int r;

    drop_unread(c, s);
    i = map_remove(&c->streams, &s->task);
    last = c->streams.count;
    SKATE_ASSERT(i <= last && c->stream_v[i] == s);
    if (i != last) { /* the last takes its place */
        c->stream_v[i] = c->stream_v[last];
        SKATE_ASSERT(map_get(&c->streams, &c->stream_v[i]->task) == last);
        r = map_put(&c->streams, &c->stream_v[i]->task, i);
        SKATE_ASSERT(r == 0); /* its cell is there */
    }
    free(s->bases);
    free(s);
}

void streams_mark(struct core *c) {
    for (uint32_t i = 0; i < c->streams.count; i++)
        if (c->stream_v[i]->proc) c->stream_v[i]->link->needed = true;
}

void streams_release(struct core *c) {
    for (uint32_t i = 0; i < c->streams.count; i++) {
        free(c->stream_v[i]->bases);
        free(c->stream_v[i]);
    }
    free(c->stream_v);
    map_release(&c->streams);
}

/* ---- how far the producer may go ---- */

static uint64_t limit_of(const struct stream *s) {
    uint64_t window = s->received + STREAM_WINDOW, room = s->read + s->unread;

    if (s->closed) return UINT64_MAX;
    return window < room ? window : room;
}

static void send_ack(struct core *c, struct stream *s) {
    struct wire_gen_ack m = {.head = {.size = sizeof m, .kind = WIRE_GEN_ACK, .fixed = sizeof m},
                             .task = s->task, .limit = limit_of(s), .read = s->read,
                             .closed = s->closed};
    uint64_t chunk = s->received / STREAM_CHUNK + 1;
    struct skate_id first;

    if (s->received % STREAM_CHUNK > STREAM_CHUNK / 2 &&
        item_id(c, s, chunk * STREAM_CHUNK, &first) == 0) {
        m.chunk = (uint32_t)chunk;
        m.base = first.seq & ~UINT64_C(0xffff);
    }
    s->limit = m.limit;
    (void)link_send(c, s->link, &m, sizeof m, BELL_WANTED, 0);
}

/* Tell it when that is worth a message. */
static void maybe_ack(struct core *c, struct stream *s) {
    uint64_t step = s->unread / 16, limit = limit_of(s);

    if (!s->proc || s->over || limit <= s->limit) return;
    if (step > STREAM_WINDOW / 4) step = STREAM_WINDOW / 4;
    if (limit - s->limit >= step) send_ack(c, s);
}

/* A program that takes nothing may wait for the end of the task: what we hold back by ourselves we
 * let go, more each time, until the table of objects is full and the stream ends with that. */
bool streams_tick(struct core *c) {
    int64_t now = time_now_ns();
    bool held = false;

    if (now - c->streams_looked_ns < TICK_NS) return true;
    c->streams_looked_ns = now;
    for (uint32_t i = 0; i < c->streams.count; i++) {
        struct stream *s = c->stream_v[i];
        bool taken = s->read != s->looked;

        s->looked = s->read;
        if (!s->soft || !s->proc || s->closed || s->over) continue;
        if (s->received < s->limit || s->read + s->unread > s->limit) continue;
        held = true;
        if (taken) continue;
        s->unread *= 4;
        send_ack(c, s);
    }
    return held;
}

void stream_pushed(struct core *c, const struct skate_id *task, struct link *l) {
    struct stream *s = find(c, task);

    if (!s) return;
    s->proc = l->proc;
    s->link = l;
    s->received = 0;
    s->expected = UNKNOWN;
    s->limit = s->unread < STREAM_WINDOW ? s->unread : STREAM_WINDOW;
    if (s->closed) send_ack(c, s);
}

/* ---- items ---- */

/* No more of them: the producer goes on alone. */
static void close_stream(struct core *c, struct stream *s) {
    s->closed = true;
    if (s->proc && !s->over && s->limit != UINT64_MAX) send_ack(c, s);
}

static void append(struct core *c, struct stream *s, const struct wire_val *v,
                   const uint8_t *data, const struct skate_id *refs) {
    struct skate_id id;
    uint32_t slot = NONE;

    if (item_id(c, s, s->produced, &id) == 0) {
        if (!s->peeked) object_hold(c, &id);
        slot = object_find(c, &id);
    }
    if (slot == MAP_NONE) { /* the table of objects is full: the stream ends with that */
        id = id_with_index(s->task, 1);
        slot = object_find(c, &id);
        object_drop_val(c, v, refs);
        if (slot != MAP_NONE)
            object_set_system(c, slot, "store_full\nno room for another item of a generator");
        close_stream(c, s);
        return;
    }
    s->peeked = false;
    s->produced++;
    object_set(c, slot, v, data, refs);
}

void streams_on_item(struct core *c, uint64_t src, const struct wire_gen_item *m) {
    struct stream *s = find(c, &m->task);
    uint32_t n, nrefs, ndata;
    const struct wire_val *v = wire_gen_item_vals(m, &n);
    const struct skate_id *refs = wire_gen_item_refs(m, &nrefs);
    const uint8_t *data = wire_gen_item_data(m, &ndata);

    if (n != 1 || wire_check_vals(v, n, ndata, nrefs) < 0) return;
    if (!s || s->proc != src || s->over || m->index != s->received)
        return object_drop_val(c, v, refs); /* not ours, or out of order */
    s->received++;
    if (s->closed || m->index < s->produced) /* not wanted, or there from an earlier run */
        object_drop_val(c, v, refs);
    else
        append(c, s, v, data, refs);
    maybe_ack(c, s);
}

void streams_on_end(struct core *c, uint64_t src, const struct wire_gen_end *m) {
    struct stream *s = find(c, &m->task);

    if (s && s->proc == src && !s->over && m->count == s->received) s->expected = m->count;
}

void stream_over(struct core *c, const struct skate_id *task) {
    static const char fewer[] = "replay_inconsistent\nthe generator was run again after a failure "
                                "and gave fewer items than were read before; a generator that "
                                "may be retried must give the same items each time";
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW,
                         .flags = VAL_ERROR | VAL_SYSTEM, .len = sizeof fewer - 1};
    struct stream *s = find(c, task);
    struct skate_id id = id_with_index(*task, 1);
    uint32_t slot = object_find(c, &id);

    if (!s || s->over) return;
    s->failed = slot != MAP_NONE && object_is_error(c, slot);
    if (!s->failed && !s->closed && s->expected < s->produced)
        append(c, s, &v, (const uint8_t *)fewer, NULL);
    s->over = true;
    s->proc = 0;
    if (s->peeked && item_id(c, s, s->produced, &id) == 0) {
        slot = object_find(c, &id);
        if (slot != MAP_NONE) object_set_system(c, slot, "stream_end\nthere are no more items");
    }
    if (!s->handle) stream_free(c, s);
}

void stream_handle_gone(struct core *c, const struct skate_id *task) {
    struct stream *s = find(c, task);

    if (!s || !s->handle) return;
    s->handle = false;
    drop_unread(c, s);
    if (s->over)
        stream_free(c, s);
    else
        close_stream(c, s);
}

/* ---- the program takes them ---- */

/* The next item is item `read`. */
static int next(struct core *c, struct stream *s, bool take, struct skate_id *ret) {
    uint32_t slot;
    int r = 0;

    if (s->read == s->produced && s->over) {
        if (!s->failed || s->failure_told) return -SKATE_ENOENT;
        *ret = id_with_index(s->task, 1);
        slot = object_find(c, ret);
        if (slot == MAP_NONE) return -SKATE_ENOENT;
        if (!take) return 0;
        s->failure_told = true;
        object_hold(c, ret);
        object_handed(c, slot);
        return 0;
    }
    r = item_id(c, s, s->read, ret);
    if (r < 0) return r;
    if (s->read == s->produced) {
        if (!s->peeked) object_hold(c, ret);
        if (object_find(c, ret) == MAP_NONE) return -SKATE_EFULL;
        s->peeked = true;
        return -SKATE_EAGAIN;
    }
    if (!take) return 0;
    slot = object_find(c, ret);
    if (slot == MAP_NONE) return -SKATE_ENOENT;
    object_handed(c, slot);
    s->read++;
    maybe_ack(c, s);
    return 0;
}

int core_stream_next(struct core *c, const struct skate_id *task, bool take,
                     struct skate_id *ret) {
    struct stream *s;
    int r = core_enter(c);

    if (r < 0) return r;
    if (!c->leader && bell_any(c->bell)) pump(c);
    s = find(c, task);
    r = s ? next(c, s, take, ret) : -SKATE_ENOENT;
    core_leave(c);
    return r;
}
