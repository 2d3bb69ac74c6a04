/* pulls.c - see pulls.h. */
#include "raylet/pulls.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raylet/links.h"
#include "raylet/spill.h"
#include "store/object.h"

/* Chunks asked for and not come: of one copy, and of all before each may have one only. */
enum { WINDOW = 8, FLYING_MAX = 256 };
enum { BREAKS_MAX = 16 }; /* of the connection with no chunk between them */

struct puller { /* one process's holds on one copy; call: its pull that waits */
    struct puller *next;
    uint64_t proc;
    uint32_t holds, call;
    bool waits;
};
struct copy {
    struct skate_id id;
    uint64_t key, holder, remote, size, offset, req;
    uint64_t asked, got; /* bytes asked for and come */
    uint32_t in_flight, breaks;
    bool ready, lost; /* lost: spilled, and cannot be read back; not in by_key */
    struct puller *pullers;
    struct copy *same_key;       /* next with the same hash */
    struct copy *older, *newer;  /* nobody holds it: in the list of use */
    bool in_lru;
};
struct pulls {
    struct table by_key;    /* hash of id -> struct copy chain */
    struct table by_offset; /* local offset -> struct copy */
    struct table by_req;    /* number of a pull on its way -> struct copy */
    uint64_t next_req;
    uint32_t flying; /* in_flight of all */
    struct copy *oldest, *newest;
};

int pulls_start(struct raylet *r) {
    r->pulls = calloc(1, sizeof *r->pulls);
    return r->pulls ? 0 : -SKATE_ENOMEM;
}

static struct copy *find(struct pulls *s, const struct skate_id *id) {
    struct copy *c = table_get(&s->by_key, id_hash(id));

    while (c && !id_equal(&c->id, id)) c = c->same_key;
    return c;
}

static void lru_add(struct pulls *s, struct copy *c) {
    SKATE_ASSERT(!c->in_lru);
    c->newer = NULL;
    c->older = s->newest;
    if (s->newest)
        s->newest->newer = c;
    else
        s->oldest = c;
    s->newest = c;
    c->in_lru = true;
}

static void lru_remove(struct pulls *s, struct copy *c) {
    if (!c->in_lru) return;
    if (c->newer)
        c->newer->older = c->older;
    else
        s->newest = c->older;
    if (c->older)
        c->older->newer = c->newer;
    else
        s->oldest = c->newer;
    c->in_lru = false;
    c->older = c->newer = NULL;
}

/* It is found by its id no more. */
static void unname(struct pulls *s, struct copy *c) {
    struct copy *first = table_take(&s->by_key, c->key), **at = &first;

    while (*at && *at != c) at = &(*at)->same_key;
    if (*at) *at = c->same_key;
    if (first && table_set(&s->by_key, c->key, first) < 0) SKATE_ASSERT(false);
}

static void drop(struct raylet *r, struct copy *c) {
    struct pulls *s = r->pulls;

    unname(s, c);
    lru_remove(s, c);
    s->flying -= c->in_flight;
    table_take(&s->by_offset, c->offset);
    table_take(&s->by_req, c->req);
    while (c->pullers) {
        struct puller *p = c->pullers;

        c->pullers = p->next;
        free(p);
    }
    if (extents_return(r->extents, r->self, c->offset) < 0) SKATE_ASSERT(false);
    free(c);
}

static void answer(struct raylet *r, uint64_t proc, uint32_t call, const struct copy *c,
                   int status, const char *reason) {
    struct proc *p = proc_find(r, proc);
    uint64_t room[64];
    struct wire_buf b;
    struct wire_pulled *m;

    if (!p) return;
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_PULLED);
    m->head.call = call;
    m->head.flags = call ? WIRE_REPLY : 0;
    m->obj = c->id;
    m->offset = status < 0 ? 0 : c->offset;
    m->size = c->size;
    m->status = status;
    WIRE_PUT(&b, pulled, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) proc_send(p, b.p, b.len);
    wire_release(&b);
}

static void fail(struct raylet *r, struct copy *c, int status, const char *why) {
    for (struct puller *p = c->pullers; p; p = p->next)
        if (p->waits) answer(r, p->proc, p->call, c, status, why);
    drop(r, c);
}

static void after_release(struct raylet *r, struct copy *c) {
    if (c->pullers) return;
    if (c->ready && !c->lost)
        lru_add(r->pulls, c);
    else
        drop(r, c);
}

/* Keep WINDOW chunks on their way. */
static int ask(struct raylet *r, struct copy *c) {
    while (c->asked < c->size &&
           c->in_flight < (r->pulls->flying < FLYING_MAX ? WINDOW : 1)) {
        uint64_t left = c->size - c->asked;
        struct wire_bulk_get m = {
            .head = {.size = sizeof m, .kind = WIRE_BULK_GET, .fixed = sizeof m},
            .obj = c->id, .offset = c->remote + c->asked, .req = c->req,
            .start = c->remote, .whole = c->size,
            .size = left < LIMIT_CHUNK_BYTES ? left : LIMIT_CHUNK_BYTES};
        int e = links_bulk(r, proc_node(c->holder), &m, sizeof m);

        if (e < 0) return e;
        c->asked += m.size;
        c->in_flight++;
        r->pulls->flying++;
    }
    return 0;
}

static int new_copy(struct raylet *r, const struct wire_pull *m, struct copy **ret,
                    struct skate_error *err) {
    struct pulls *s = r->pulls;
    struct copy *c = calloc(1, sizeof *c), *first;
    struct extent_span span;
    int e;

    if (!c) return -SKATE_ENOMEM;
    c->id = m->obj;
    c->key = id_hash(&m->obj);
    c->holder = m->holder;
    c->remote = m->offset;
    c->size = m->size;
    e = spill_lend(r, r->self, m->size, &span, err);
    if (e < 0) {
        free(c);
        return e;
    }
    c->offset = span.offset;
    first = table_get(&s->by_key, c->key);
    c->same_key = first;
    c->req = ++s->next_req;
    if (table_set(&s->by_key, c->key, c) < 0 || table_set(&s->by_offset, c->offset, c) < 0 ||
        table_set(&s->by_req, c->req, c) < 0) {
        drop(r, c);
        return -SKATE_ENOMEM;
    }
    *ret = c;
    return 0;
}

static struct puller *puller_of(struct copy *c, uint64_t proc) {
    struct puller *p = c->pullers;

    while (p && p->proc != proc) p = p->next;
    if (p) return p;
    p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->proc = proc;
    p->next = c->pullers;
    c->pullers = p;
    return p;
}

static bool is_lost(const struct raylet *r, uint64_t offset, uint64_t bytes) {
    uint64_t end = granule_end(offset, bytes);

    for (uint64_t g = granule_first(offset); r->residency && g < end; g++)
        if (r->residency[g] == RES_LOST) return true;
    return false;
}

/* A copy that can be handed out. One that was lost with its spill file is so no more: who holds it
 * keeps it until he lets go. */
static struct copy *find_good(struct raylet *r, const struct skate_id *id) {
    struct copy *c = find(r->pulls, id);

    if (!c || !c->ready || !is_lost(r, c->offset, c->size)) return c;
    c->lost = true;
    if (c->pullers)
        unname(r->pulls, c);
    else
        drop(r, c);
    return NULL;
}

void pulls_request(struct raylet *r, struct proc *p, const struct wire_pull *m) {
    struct copy *c = find_good(r, &m->obj), none = {.id = m->obj, .size = m->size};
    struct skate_error err = {"the object cannot be pulled"};
    uint32_t node = proc_node(m->holder);
    struct puller *who;
    int e;

    if (!c) {
        if (m->size == 0 || node == r->node || node == 0 || links_is_dead(r, node)) {
            answer(r, p->id, m->head.call, &none, -SKATE_EDEAD, "its node is lost");
            return;
        }
        e = new_copy(r, m, &c, &err);
        if (e == -SKATE_EFULL && spill_later(r, p->id, &m->head, m->size)) return;
        if (e == -SKATE_EFULL) spill_refused(r, &err);
        if (e < 0) {
            answer(r, p->id, m->head.call, &none, -SKATE_EFULL, err.text);
            return;
        }
    }
    lru_remove(r->pulls, c);
    who = puller_of(c, p->id);
    if (!who) {
        answer(r, p->id, m->head.call, &none, -SKATE_ENOMEM, "out of memory");
        after_release(r, c);
        return;
    }
    who->holds++;
    if (c->ready) {
        answer(r, p->id, m->head.call, c, 0, "");
        return;
    }
    who->waits = true;
    who->call = m->head.call;
    e = ask(r, c);
    if (e < 0) fail(r, c, e, skate_strerror(e));
}

void pulls_unpull(struct raylet *r, uint64_t proc, uint64_t offset) {
    struct copy *c = table_get(&r->pulls->by_offset, offset);

    if (!c) return;
    for (struct puller **at = &c->pullers; *at; at = &(*at)->next) {
        struct puller *p = *at;

        if (p->proc != proc) continue;
        if (--p->holds > 0) return;
        *at = p->next;
        free(p);
        after_release(r, c);
        return;
    }
}

/* Apply `step` to every copy; it may drop the one it is given. */
static void for_each(struct raylet *r, void (*step)(struct raylet *, struct copy *, void *),
                     void *arg) {
    uint32_t at = 0, n = 0;
    struct copy *c, **all = calloc(r->pulls->by_offset.count + 1, sizeof *all);

    if (!all) return;
    while ((c = table_next(&r->pulls->by_offset, &at, NULL))) all[n++] = c;
    for (uint32_t i = 0; i < n; i++) step(r, all[i], arg);
    free(all);
}

static void forget_proc(struct raylet *r, struct copy *c, void *arg) {
    uint64_t proc = *(uint64_t *)arg;

    for (struct puller **at = &c->pullers; *at; at = &(*at)->next) {
        struct puller *p = *at;

        if (p->proc != proc) continue;
        *at = p->next;
        free(p);
        after_release(r, c);
        return;
    }
}

void pulls_proc_died(struct raylet *r, uint64_t proc) { for_each(r, forget_proc, &proc); }

struct lost {
    uint64_t holder;
    const char *why;
};

static void lose(struct raylet *r, struct copy *c, void *arg) {
    const struct lost *l = arg;
    bool whole = proc_number(l->holder) == 0;

    if (c->ready) return;
    if (c->holder == l->holder || (whole && proc_node(c->holder) == proc_node(l->holder)))
        fail(r, c, -SKATE_EDEAD, l->why);
}

void pulls_holder_died(struct raylet *r, uint64_t holder, const char *why) {
    struct lost l = {holder, why};

    for_each(r, lose, &l);
}

/* The connection broke, the node may live: on from what has come, a few times. */
static void again(struct raylet *r, struct copy *c, void *arg) {
    const struct lost *l = arg;
    struct pulls *s = r->pulls;
    int e = -SKATE_EDEAD;

    if (c->ready || proc_node(c->holder) != proc_node(l->holder)) return;
    if (c->breaks++ < BREAKS_MAX) {
        table_take(&s->by_req, c->req); /* what still comes of the last attempt is nobody's */
        s->flying -= c->in_flight;
        c->in_flight = 0;
        c->asked = c->got;
        c->req = ++s->next_req;
        e = table_set(&s->by_req, c->req, c);
        if (e == 0) e = ask(r, c);
    }
    if (e < 0) fail(r, c, -SKATE_EDEAD, l->why);
}

void pulls_broken(struct raylet *r, uint32_t node, const char *why) {
    struct lost l = {proc_make(node, 0), why};

    for_each(r, again, &l);
}

void pulls_data(struct raylet *r, uint32_t node, const struct wire_bulk_data *m) {
    struct copy *c = table_get(&r->pulls->by_req, m->req); /* none: it was given up */
    const uint8_t *data;
    uint32_t len;

    if (!c || c->ready || proc_node(c->holder) != node || c->in_flight == 0) return;
    if (m->status < 0) {
        fail(r, c, m->status, "its node does not have it any more");
        return;
    }
    data = wire_bulk_data_data(m, &len);
    if (m->pos - c->remote != c->got || len > c->size - c->got || len == 0)
        return; /* chunks come in the order in which they were asked for */
    memcpy(r->arena + c->offset + (m->pos - c->remote), data, len);
    c->in_flight--;
    r->pulls->flying--;
    c->got += len;
    c->breaks = 0;
    if (c->got < c->size) {
        int e = ask(r, c);

        if (e < 0) fail(r, c, e, skate_strerror(e));
        return;
    }
    c->ready = true;
    r->counts.pulls++;
    r->counts.pulled_bytes += c->size;
    for (struct puller *p = c->pullers; p; p = p->next)
        if (p->waits) {
            p->waits = false;
            answer(r, p->proc, p->call, c, 0, "");
        }
}

static bool here(struct raylet *r, uint64_t offset, uint64_t bytes) {
    return !r->residency || spill_is_outside(r, offset) ||
           residency_all_here(r->residency, granule_first(offset), granule_end(offset, bytes));
}

bool pulls_is_ready(const struct raylet *r, uint64_t offset) {
    const struct copy *c = table_get(&r->pulls->by_offset, offset);

    return c && c->ready;
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

void pulls_serve(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m) {
    struct wire_bulk_data d = {.head = {.kind = WIRE_BULK_DATA, .fixed = sizeof d},
                               .req = m->req, .pos = m->offset, .last = 1};
    struct conn_piece pieces[2] = {{&d, sizeof d}, {NULL, 0}};
    uint32_t count = 1;

    if (spill_serve_later(r, conn, m)) return;
    d.status = is_there(r, m);
    if (d.status < 0) {
        d.head.size = sizeof d;
    } else {
        d.head.size = (uint32_t)(sizeof d + m->size);
        d.data = (struct wire_span){sizeof d, (uint32_t)m->size};
        pieces[1] = (struct conn_piece){r->arena + m->offset, m->size};
        count = 2;
    }
    if (conn_sendv(conn, pieces, count) < 0)
        node_log("a chunk for %s is lost, ignoring", conn_peer(conn));
}

struct pulls_sum pulls_sum(const struct raylet *r) {
    struct pulls_sum sum = {0};
    const struct copy *c;
    uint32_t at = 0;

    while ((c = table_next(&r->pulls->by_offset, &at, NULL))) {
        sum.copies++;
        sum.bytes += c->size;
        sum.unused += c->in_lru;
        if (c->in_lru) sum.unused_bytes += c->size;
    }
    return sum;
}

bool pulls_evict(struct raylet *r, uint64_t bytes) {
    uint64_t freed = 0;

    while (freed < bytes && r->pulls->oldest) {
        freed += r->pulls->oldest->size;
        r->counts.evictions++;
        r->counts.evicted_bytes += r->pulls->oldest->size;
        drop(r, r->pulls->oldest);
    }
    return freed > 0;
}
