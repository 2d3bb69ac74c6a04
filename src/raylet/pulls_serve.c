/* pulls_serve.c - chunks for other nodes: one for each connection in a turn of the loop.
 *
 * What is asked for waits here and not in the connection's queue, so that a frame of control waits
 * for one chunk at most, and memory does not grow with what others ask for. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raylet/pulls_int.h"
#include "raylet/spill.h"
#include "store/object.h"

/* QUEUED: sealed bytes of one connection. ASKED: chunks that one peer may ask for; far more than
 * FETCH_FLYING_MAX and one for each pull of a node. */
enum { QUEUED_MOST = 1 << 20, ASKED_MOST = 65536 };

struct request {
    struct request *next;
    struct wire_bulk_get ask;
};
struct sender {
    struct sender *younger, *older;
    struct conn *conn;
    struct near *near; /* it is on this machine */
    struct request *first, **end;
    uint32_t count;
};

static bool here(struct raylet *r, uint64_t offset, uint64_t bytes) {
    return !r->residency || spill_is_outside(r, offset) ||
           residency_all_here(r->residency, granule_first(offset), granule_end(offset, bytes));
}

static bool is_lost(const struct raylet *r, uint64_t offset, uint64_t bytes) {
    uint64_t end = granule_end(offset, bytes);

    for (uint64_t g = granule_first(offset); r->residency && g < end; g++)
        if (r->residency[g] == RES_LOST) return true;
    return false;
}

bool pulls_is_lost(const struct raylet *r, uint64_t offset, uint64_t bytes) {
    return is_lost(r, offset, bytes);
}

/* Is it that object that begins at m->start, of m->whole bytes, and the chunk inside it? */
static int is_there(struct raylet *r, const struct wire_bulk_get *m) {
    const struct copy *c = table_get(&r->pulls->by_offset, m->start);
    struct heap_header h;

    if (m->size == 0 || m->size > LIMIT_CHUNK_BYTES || m->offset < m->start ||
        m->offset - m->start > m->whole || m->size > m->whole - (m->offset - m->start) ||
        !extents_contains(r->extents, m->offset, m->size))
        return -SKATE_ENOENT;
    if (is_lost(r, m->offset, m->size)) return -SKATE_ELOST; /* its owner makes it again */
    if (!here(r, m->offset, m->size)) return -SKATE_EFULL;
    if (c) return c->ready && id_equal(&c->id, &m->obj) && c->size == m->whole ? 0 : -SKATE_ENOENT;
    if (m->start < sizeof h || !extents_contains(r->extents, m->start - sizeof h, sizeof h))
        return -SKATE_ENOENT;
    if (is_lost(r, m->start - sizeof h, sizeof h)) return -SKATE_ELOST;
    if (!here(r, m->start - sizeof h, sizeof h)) return -SKATE_EFULL;
    memcpy(&h, r->arena + m->start - sizeof h, sizeof h);
    return h.magic == HEAP_MAGIC && h.size == m->whole && id_equal(&h.id, &m->obj) ? 0
                                                                                   : -SKATE_ENOENT;
}

static struct near *near_to(struct raylet *r, struct conn *conn) {
    const struct sender *s = table_get(&r->pulls->senders, (uintptr_t)conn);

    return s ? s->near : NULL;
}

/* A chunk of the arena, or (status < 0) that there is none. */
static void answer(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m,
                   int status) {
    struct wire_bulk_data d = {.head = {.size = sizeof d, .kind = WIRE_BULK_DATA,
                                        .fixed = sizeof d},
                               .req = m->req, .pos = m->at, .last = 1, .status = status,
                               .place = m->place};
    struct conn_piece pieces[2] = {{&d, sizeof d}, {NULL, 0}};
    uint8_t *room = status == 0 && m->place ? near_room(near_to(r, conn), m->place, m->size) : NULL;

    if (room) {
        memcpy(room, r->arena + m->offset, m->size);
        d.len = (uint32_t)m->size;
    } else if (status == 0) {
        d.head.size = (uint32_t)(sizeof d + m->size);
        d.data = (struct wire_span){sizeof d, (uint32_t)m->size};
        pieces[1] = (struct conn_piece){r->arena + m->offset, m->size};
    }
    if (conn_sendv(conn, pieces, pieces[1].len ? 2 : 1) < 0)
        node_log("a chunk for %s is lost, ignoring", conn_peer(conn));
}

void serve_refuse(struct conn *conn, const struct wire_bulk_get *m, int status) {
    SKATE_ASSERT(status < 0);
    answer(NULL, conn, m, status);
}

void serve_part(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m) {
    answer(r, conn, m, 0);
}

void pulls_serve(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m) {
    struct wire_bulk_get own;

    if (m->flags & BULK_COPY) {
        if (broadcast_serve(r, conn, m, &own)) return;
        m = &own;
    }
    if (!spill_serve_later(r, conn, m)) answer(r, conn, m, is_there(r, m));
}

/* ---- in turn ---- */

static void take_first(struct sender *s, struct wire_bulk_get *ret) {
    struct request *q = s->first;

    *ret = q->ask;
    s->first = q->next;
    if (!s->first) s->end = &s->first;
    s->count--;
    free(q);
}

static void on_serve(void *arg) {
    struct raylet *r = arg;
    struct sender *s;
    struct wire_bulk_get m;
    bool again = false;

    for (s = r->pulls->first_sender; s; s = s->younger) {
        if (!s->first || conn_pending_bytes(s->conn) >= QUEUED_MOST) continue;
        take_first(s, &m);
        pulls_serve(r, s->conn, &m);
        again = again || (s->first && conn_pending_bytes(s->conn) < QUEUED_MOST);
    }
    if (again) loop_post(r->loop, &r->pulls->serve);
}

void pulls_drained(struct raylet *r) { loop_post(r->loop, &r->pulls->serve); }

static struct sender *sender_of(struct raylet *r, struct conn *conn) {
    struct sender *s = table_get(&r->pulls->senders, (uintptr_t)conn);

    if (s) return s;
    s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->conn = conn;
    s->end = &s->first;
    if (table_set(&r->pulls->senders, (uintptr_t)conn, s) < 0) {
        free(s);
        return NULL;
    }
    s->older = r->pulls->last_sender;
    *(s->older ? &s->older->younger : &r->pulls->first_sender) = s;
    r->pulls->last_sender = s;
    conn_set_low(conn, QUEUED_MOST / 2);
    return s;
}

void pulls_asked(struct raylet *r, uint32_t node, struct conn *conn,
                 const struct wire_bulk_get *m) {
    struct sender *s;
    struct request *q;

    if (broadcast_elsewhere(r, node, conn, m)) return;
    s = sender_of(r, conn);
    q = s && s->count < ASKED_MOST ? malloc(sizeof *q) : NULL;
    if (!q) {
        serve_refuse(conn, m, -SKATE_EFULL);
        return;
    }
    q->next = NULL;
    q->ask = *m;
    *s->end = q;
    s->end = &q->next;
    s->count++;
    loop_post(r->loop, &r->pulls->serve);
}

void pulls_near(struct raylet *r, struct conn *conn, const struct wire_bulk_near *m) {
    struct wire_bulk_near_ok ok = {.head = {.size = sizeof ok, .kind = WIRE_BULK_NEAR_OK,
                                            .fixed = sizeof ok}};
    struct sender *s = r->set.no_near ? NULL : sender_of(r, conn);

    if (!s || s->near || strcmp(conn_peer_ip(conn), r->set.node_ip) != 0) return;
    s->near = near_open(m);
    if (s->near && conn_send(conn, &ok, sizeof ok) < 0) s->near = near_free(s->near);
}

void pulls_conn_closed(struct raylet *r, struct conn *conn) {
    struct sender *s = table_take(&r->pulls->senders, (uintptr_t)conn);
    struct wire_bulk_get m;

    broadcast_conn_closed(r, conn);
    if (!s) return;
    *(s->older ? &s->older->younger : &r->pulls->first_sender) = s->younger;
    *(s->younger ? &s->younger->older : &r->pulls->last_sender) = s->older;
    while (s->first) take_first(s, &m);
    near_free(s->near);
    free(s);
}

void serve_start(struct raylet *r) { loop_task_init(&r->pulls->serve, on_serve, r); }
