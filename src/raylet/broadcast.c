/* broadcast.c - one object to many nodes: who receives it sends it on.
 *
 * The holder sends a large object to one node at a time; whoever else asks meanwhile is told to
 * ask the node that was told last (bulk_instead), which serves from its unfinished copy: a chunk
 * that it has goes out at once, one that it has not waits for it. So n nodes form a chain, each
 * with one receiver, and the last is done a few chunks after the first. A link of the chain that
 * breaks, stalls or loses its copy costs a way back to the holder, who then sends it himself
 * (BULK_DIRECT), so no two can wait for each other for long (FETCH_STILL_MAX). */
#include <stdlib.h>

#include "base/futex.h"
#include "raylet/pulls_int.h"

/* FEEDS: objects that are being sent to a first node, the oldest goes. ASKERS: of all copies. */
enum { FEEDS = 64, ASKERS_MAX = 8192 };
#define FEED_NS INT64_C(1000000000) /* no chunk for so long: that node needs it no more */

struct feed {
    struct skate_id id;
    uint32_t node, tail; /* who gets it from here; the last of its chain */
    int64_t last_ns;     /* 0: unused */
};
struct broadcast {
    struct feed feeds[FEEDS];
};

int broadcast_start(struct raylet *r) {
    r->pulls->broadcast = calloc(1, sizeof *r->pulls->broadcast);
    return r->pulls->broadcast ? 0 : -SKATE_ENOMEM;
}

/* The feed of an object, or the one to be used for it. */
static struct feed *feed_of(struct broadcast *b, const struct skate_id *id) {
    struct feed *oldest = &b->feeds[0];

    for (struct feed *f = b->feeds; f < b->feeds + FEEDS; f++) {
        if (f->last_ns && id_equal(&f->id, id)) return f;
        if (f->last_ns < oldest->last_ns) oldest = f;
    }
    return oldest;
}

bool broadcast_elsewhere(struct raylet *r, uint32_t node, struct conn *conn,
                         const struct wire_bulk_get *m) {
    struct wire_bulk_instead other = {.head = {.size = sizeof other, .kind = WIRE_BULK_INSTEAD,
                                               .fixed = sizeof other},
                                      .req = m->req, .place = m->place};
    int64_t now;
    struct feed *f;

    if (m->whole < BROADCAST_LEAST || m->flags) return false;
    now = time_now_ns();
    f = feed_of(r->pulls->broadcast, &m->obj);
    if (f->last_ns && id_equal(&f->id, &m->obj) && f->node == node) {
        f->last_ns = m->at + m->size >= m->whole ? 0 : now;
        return false;
    }
    if (m->at > 0) return false;
    if (!f->last_ns || !id_equal(&f->id, &m->obj) || now - f->last_ns > FEED_NS) {
        *f = (struct feed){.id = m->obj, .node = node, .tail = node, .last_ns = now};
        return false;
    }
    if (f->tail == node) return false;
    other.node = f->tail;
    if (conn_send(conn, &other, sizeof other) < 0) return false;
    f->tail = node;
    return true;
}

bool broadcast_serve(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m,
                     struct wire_bulk_get *ret) {
    struct copy *c = pulls_find_good(r, &m->obj);
    struct asker *a, **end;

    if (!c || c->size != m->whole || m->size == 0 || m->size > LIMIT_CHUNK_BYTES ||
        m->at > c->size || m->size > c->size - m->at) {
        serve_refuse(conn, m, -SKATE_ENOENT);
        return true;
    }
    *ret = *m;
    ret->flags = 0;
    ret->start = c->offset;
    ret->offset = c->offset + m->at;
    if (c->ready) return false;
    if (m->at + m->size <= c->got) {
        serve_part(r, conn, ret);
        return true;
    }
    a = r->pulls->askers < ASKERS_MAX ? malloc(sizeof *a) : NULL;
    if (!a) {
        serve_refuse(conn, m, -SKATE_EFULL);
        return true;
    }
    *a = (struct asker){.conn = conn, .ask = *ret};
    for (end = &c->askers; *end;) end = &(*end)->next;
    *end = a;
    r->pulls->askers++;
    return true;
}

static void drop_asker(struct raylet *r, struct asker **at) {
    struct asker *a = *at;

    *at = a->next;
    free(a);
    r->pulls->askers--;
}

void broadcast_more(struct raylet *r, struct copy *c) {
    for (struct asker **at = &c->askers; *at;) {
        const struct wire_bulk_get *m = &(*at)->ask;

        if (m->at + m->size > c->got) {
            at = &(*at)->next;
            continue;
        }
        serve_part(r, (*at)->conn, m);
        drop_asker(r, at);
    }
}

void broadcast_end(struct raylet *r, struct copy *c) {
    while (c->askers) {
        serve_refuse(c->askers->conn, &c->askers->ask, -SKATE_ENOENT);
        drop_asker(r, &c->askers);
    }
}

void broadcast_conn_closed(struct raylet *r, const struct conn *conn) {
    for (int why = 0; why < PULL_WHYS; why++)
        for (struct copy *c = r->pulls->open[why]; c; c = c->next)
            for (struct asker **at = &c->askers; *at;)
                if ((*at)->conn == conn)
                    drop_asker(r, at);
                else
                    at = &(*at)->next;
}
