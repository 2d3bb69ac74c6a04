/* spill_wait.c - what waits for room in the store, or for bytes that come back (spill.h).
 *
 * Frames are kept as they came and handled again whenever something changed, in order: first those
 * that read (who reads makes room in the end), then those that want room, of which the first that
 * still does not get it stops the others. With nothing to hear of (a view that is dropped says
 * nothing) they are looked at every 20 ms. After store_wait_s a frame that wants room is handled
 * for the last time: spill_later() says no, so it is answered. One whose bytes are being read (it
 * waits for 0 bytes of room) waits until that ends: a slow disk is no full store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "raylet/pulls.h"
#include "raylet/spill.h"
#include "raylet/spill_int.h"

#define TELL_AFTER_NS INT64_C(2000000000)
#define TELL_EVERY_NS INT64_C(10000000000)

enum { WAIT_MOST = 65536, FRAME_MOST = 4096, TICK_MS = 20, PATIENCE_MS = 300, TIGHT_MS = 1000 };

struct waiter {
    struct waiter *next;
    int64_t since_ns;
    uint64_t src, bytes;
    struct conn *conn; /* a chunk for another node, else NULL */
    uint64_t frame[];
};
struct queue {
    struct waiter *first, **end;
};
struct spill_wait {
    struct queue reads, lends;
    uint32_t count;
    struct waiter *current; /* being handled again */
    bool again, final;      /* it waits on; it must not */
    struct loop_task task;
    struct loop_timer *timer;
    bool posted;
    int64_t told_ns; /* when the drivers were last told */
    int64_t tight_until_ns; /* who cannot be served at once need not wait */
};

static void push(struct queue *q, struct waiter *w) {
    w->next = NULL;
    *q->end = w;
    q->end = &w->next;
}

/* Pulls among themselves by what they are for (pull.why), and in order. */
static void push_lend(struct queue *q, struct waiter *w) {
    const struct wire_pull *m = (const void *)w->frame, *other;

    if (m->head.kind == WIRE_PULL)
        for (struct waiter **at = &q->first; *at; at = &(*at)->next) {
            other = (const void *)(*at)->frame;
            if (other->head.kind != WIRE_PULL || other->why <= m->why) continue;
            w->next = *at;
            *at = w;
            return;
        }
    push(q, w);
}

static bool is_read(const struct waiter *w) {
    return w->conn || ((const struct wire_head *)(const void *)w->frame)->kind == WIRE_RESTORE;
}

static bool keep(struct raylet *r, const struct waiter *from, const struct wire_head *frame) {
    struct spill_wait *s = r->spill_wait;
    struct waiter *w;

    if (!s || (s->final && from->bytes > 0)) return false; /* what is under way ends by itself */
    if (s->current) return s->again = true;
    if (s->count == WAIT_MOST || frame->size > FRAME_MOST) return false;
    w = malloc(sizeof *w + frame->size);
    if (!w) return false;
    *w = *from;
    w->since_ns = time_now_ns();
    memcpy(w->frame, frame, frame->size);
    if (is_read(w))
        push(&s->reads, w);
    else
        push_lend(&s->lends, w);
    s->count++;
    r->counts.waits++;
    r->counts.waiting = s->count;
    spill_retry(r);
    return true;
}

bool spill_later(struct raylet *r, uint64_t src, const struct wire_head *frame, uint64_t bytes) {
    return keep(r, &(struct waiter){.src = src, .bytes = bytes}, frame);
}

static bool conn_waits(const struct spill_wait *s, const struct conn *conn) {
    for (const struct waiter *w = s ? s->reads.first : NULL; w; w = w->next)
        if (w->conn == conn) return true;
    return false;
}

bool spill_serve_later(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m) {
    struct skate_error err;
    struct spill_wait *s = r->spill_wait;
    uint64_t head = m->start < sizeof(uint64_t) * 8 ? 0 : m->start - sizeof(uint64_t) * 8;
    int e;

    if (!s) return false;
    if (conn_waits(s, conn)) /* one before it */
        return keep(r, &(struct waiter){.bytes = m->size, .conn = conn}, &m->head);
    if (!extents_contains(r->extents, m->offset, m->size)) return false; /* refused */
    e = pulls_is_ready(r, m->start) ? 0 : spill_fetch(r, head, sizeof(uint64_t) * 8, &err);
    if (e == 0) e = spill_fetch(r, m->offset, m->size, &err);
    if (e == 0 || e == -SKATE_ELOST) return false;
    return keep(r, &(struct waiter){.bytes = m->size, .conn = conn}, &m->head);
}

void spill_conn_closed(struct raylet *r, const struct conn *conn) {
    for (struct waiter *w = r->spill_wait ? r->spill_wait->reads.first : NULL; w; w = w->next)
        if (w->conn == conn) {
            w->conn = NULL;
            w->src = 0; /* nobody's: forgotten when its turn comes */
        }
}

void spill_answer(struct proc *p, const struct wire_restore *ask, int status, const char *reason) {
    uint64_t room[96];
    struct wire_buf b;
    struct wire_restored *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_RESTORED);
    m->offset = ask->offset;
    m->bytes = ask->bytes;
    m->status = status;
    WIRE_PUT(&b, restored, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) proc_send_as(p, b.p, b.len, BELL_URGENT);
    wire_release(&b);
}

/* What is handled now has waited, and nothing is going to leave memory soon; or so it was for
 * another a moment ago. */
static bool waited_long(const struct raylet *r) {
    struct spill_wait *s = r->spill_wait;
    int64_t now = time_now_ns();

    if (s && s->final) return true; /* a file is better than an error */
    if (!s || spill_is_busy(r)) return false;
    if (now < s->tight_until_ns) return true;
    if (!s->current || now - s->current->since_ns < PATIENCE_MS * INT64_C(1000000)) return false;
    s->tight_until_ns = now + TIGHT_MS * INT64_C(1000000);
    return true;
}

void spill_on_restore(struct raylet *r, struct proc *p, const struct wire_restore *m) {
    struct skate_error err = {""};
    int e = spill_is_outside(r, m->offset) ? -SKATE_EFULL
                                           : spill_fetch(r, m->offset, m->bytes, &err);

    if (e == -SKATE_EFULL && (spill_is_outside(r, m->offset) || waited_long(r)) &&
        spill_own_copy(r, p, m))
        return;
    if ((e == -SKATE_EAGAIN || e == -SKATE_EFULL) &&
        spill_later(r, p->id, &m->head, e == -SKATE_EFULL ? m->bytes : 0))
        return;
    if (e == -SKATE_EAGAIN) e = err_fail(&err, -SKATE_EFULL, "it took too long to bring it back");
    if (e == -SKATE_EFULL) r->counts.refused++;
    spill_answer(p, m, e, e < 0 ? err.text : "");
}

/* Handle one again. True: it still waits. */
static bool handle(struct raylet *r, struct waiter *w, int64_t now) {
    struct spill_wait *s = r->spill_wait;

    s->current = w;
    s->again = false;
    s->final = now - w->since_ns > (int64_t)(r->set.store_wait_s * 1e9);
    if (w->conn)
        pulls_serve(r, w->conn, (const void *)w->frame);
    else if (w->src && proc_find(r, w->src))
        inbox_frame(r, w->src, (const void *)w->frame);
    s->current = NULL;
    s->final = false;
    return s->again;
}

/* All of a queue in order; returns the bytes that the first ones wait for. */
static uint64_t handle_all(struct raylet *r, struct queue *q, bool in_order) {
    struct waiter *w = q->first;
    int64_t now = time_now_ns();
    uint64_t bytes = 0;
    bool stopped = false;

    q->first = NULL;
    q->end = &q->first;
    for (struct waiter *next; w; w = next) {
        next = w->next;
        if ((stopped && in_order && now - w->since_ns <= (int64_t)(r->set.store_wait_s * 1e9)) ||
            handle(r, w, now)) {
            stopped = true;
            bytes += w->bytes;
            push(q, w);
            continue;
        }
        r->spill_wait->count--;
        free(w);
    }
    return bytes;
}

/* For whoever looks (skate memory), and after a while for the drivers. */
static void say_why(struct raylet *r, uint64_t bytes) {
    struct spill_wait *s = r->spill_wait;
    int64_t now = time_now_ns();
    char text[800];
    int n;

    n = snprintf(r->counts.waits_for, sizeof r->counts.waits_for,
                 "%u wait for %.1f MB, %.1f of %.1f MB are in memory: ", s->count,
                 (double)bytes / 1e6, (double)extents_used(r->extents) / 1e6,
                 (double)extents_budget(r->extents) / 1e6);
    if (n > 0) spill_why_full(r, r->counts.waits_for + n, sizeof r->counts.waits_for - (size_t)n);
    if (!s->lends.first || now - s->lends.first->since_ns < TELL_AFTER_NS ||
        now - s->told_ns < TELL_EVERY_NS)
        return;
    s->told_ns = now;
    snprintf(text, sizeof text, "the object store of this node is full: %s; a put fails when it "
             "has waited %.0f s (store_wait_s), `skate memory` says who holds what",
             r->counts.waits_for, r->set.store_wait_s);
    procs_tell_drivers(r, 1, text);
}

static void run(void *arg) {
    struct raylet *r = arg;
    struct spill_wait *s = r->spill_wait;
    uint64_t bytes, most = extents_budget(r->extents) / 4;

    s->posted = false;
    bytes = handle_all(r, &s->reads, false);
    bytes += handle_all(r, &s->lends, true);
    r->counts.waiting = s->count;
    if (s->count == 0) {
        r->counts.waits_for[0] = 0;
        loop_timer_stop(s->timer);
        return;
    }
    say_why(r, bytes);
    if (bytes) spill_need(r, bytes < most ? bytes : most);
    if (!loop_timer_is_active(s->timer)) loop_timer_start(s->timer, TICK_MS, TICK_MS);
}

void spill_retry(struct raylet *r) {
    struct spill_wait *s = r->spill_wait;

    if (!s || s->count == 0 || s->posted) return;
    s->posted = true;
    loop_post(r->loop, &s->task);
}

bool spill_room_is_wanted(const struct raylet *r) {
    return r->spill_wait && r->spill_wait->lends.first;
}

int spill_wait_start(struct raylet *r) {
    struct spill_wait *s = calloc(1, sizeof *s);

    if (!s) return -SKATE_ENOMEM;
    s->reads.end = &s->reads.first;
    s->lends.end = &s->lends.first;
    loop_task_init(&s->task, run, r);
    r->spill_wait = s;
    return loop_timer_new(r->loop, run, r, &s->timer);
}

void spill_wait_stop(struct raylet *r) {
    if (r->spill_wait) loop_timer_stop(r->spill_wait->timer);
}
