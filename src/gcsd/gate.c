/* gate.c - see gate.h.
 *
 * An end is one connection. Its states: PARKED (an outpost's, in reserve), WAITING (wants to an
 * outpost that has none in reserve just now), DIALLING (ours, not ready yet), PAIRED. Moves go only
 * towards PAIRED. Back-pressure: while one end has HIGH bytes unwritten, nothing is read from its
 * peer. */
#include "gcsd/gate.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "wire/frame.h"

enum { HIGH = 4 << 20, LOW = 1 << 20, ENDS_MAX = 16384, WAIT_MS = 5000, TICK_MS = 1000 };
enum { HELD_MAX = 1 << 20 }; /* what may come between a gate_hello and our pause: one record */

struct held {
    struct held *next;
    uint32_t len;
    uint64_t data[];
};
struct end {
    struct gate *gate;
    struct end *next, **link; /* of gate.ends */
    struct end *peer;         /* DIALLING, PAIRED, and who waits for a DIALLING one */
    struct conn *conn;
    enum end_state { END_PARKED, END_WAITING, END_DIALLING, END_PAIRED } state;
    uint32_t node; /* PARKED: whose; WAITING: to whom */
    int64_t since_ns;
    struct held *first, *last; /* frames that came before the peer was ready */
    uint64_t held_bytes;
};
struct gate {
    struct loop *loop;
    struct net *net;
    struct loop_timer *tick;
    struct end *ends;
    uint32_t count;
};

static void drop_held(struct end *e) {
    while (e->first) {
        struct held *h = e->first;

        e->first = h->next;
        free(h);
    }
    e->last = NULL;
    e->held_bytes = 0;
}

/* Its connection is dead, or somebody else's. */
static void end_free(struct end *e) {
    drop_held(e);
    *e->link = e->next;
    if (e->next) e->next->link = e->link;
    e->gate->count--;
    if (e->peer) e->peer->peer = NULL;
    free(e);
}

static void end_close(struct end *e) {
    (void)conn_close(e->conn);
    end_free(e);
}

/* The connection of `e` is over: its peer is told what it has still to hear, then that ends too. */
static void end_over(struct end *e) {
    struct end *peer = e->peer;

    end_free(e);
    if (!peer) return;
    if (peer->state == END_PAIRED)
        conn_finish(peer->conn);
    else
        (void)conn_close(peer->conn);
    end_free(peer);
}

static struct end *end_new(struct gate *g, struct conn *c, enum end_state state,
                           uint32_t node) {
    struct end *e = g->count < ENDS_MAX ? calloc(1, sizeof *e) : NULL;

    if (!e) return NULL;
    *e = (struct end){.gate = g, .conn = c, .state = state, .node = node, .next = g->ends,
                      .link = &g->ends, .since_ns = loop_now_ns(g->loop)};
    if (e->next) e->next->link = &e->next;
    g->ends = e;
    if (g->count++ == 0) loop_timer_start(g->tick, TICK_MS, TICK_MS);
    return e;
}

/* To the peer, as it came. False: both are gone. */
static bool pass(struct end *e, const void *frame, uint32_t len) {
    int r = conn_send(e->peer->conn, frame, len);

    if (r < 0) {
        (void)conn_close(e->conn);
        end_over(e);
        return false;
    }
    if (conn_pending_bytes(e->peer->conn) > HIGH) conn_pause(e->conn, true);
    return true;
}

static int hold(struct end *e, const void *frame, uint32_t len) {
    struct held *h = e->held_bytes + len <= HELD_MAX ? malloc(sizeof *h + len) : NULL;

    if (!h) return -SKATE_EFULL;
    h->next = NULL;
    h->len = len;
    memcpy(h->data, frame, len);
    if (e->last)
        e->last->next = h;
    else
        e->first = h;
    e->last = h;
    e->held_bytes += len;
    return 0;
}

static void on_end_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct end *e = arg;

    (void)c;
    if (e->state == END_PAIRED)
        (void)pass(e, frame, len);
    else if (e->state == END_PARKED || hold(e, frame, len) < 0) {
        (void)conn_close(e->conn); /* it has nothing to say yet, or too much */
        end_over(e);
    }
}

static void on_end_drain(void *arg, struct conn *c) {
    struct end *e = arg;

    (void)c;
    if (e->state == END_PAIRED) conn_pause(e->peer->conn, false);
}

static void on_end_close(void *arg, struct conn *c, int code, const char *text) {
    (void)c, (void)code, (void)text;
    end_over(arg);
}

/* `a` has said what it has to say before; `b` can hear it now. */
static void join(struct end *a, struct end *b) {
    a->peer = b;
    b->peer = a;
    a->state = b->state = END_PAIRED;
    conn_set_low(a->conn, LOW);
    conn_set_low(b->conn, LOW);
    while (a->first) {
        struct held *h = a->first;

        a->first = h->next;
        if (!a->first) a->last = NULL;
        if (!pass(a, h->data, h->len)) {
            free(h);
            return;
        }
        free(h);
    }
    a->held_bytes = 0;
    if (conn_pending_bytes(b->conn) <= HIGH) conn_pause(a->conn, false);
}

static void on_dialled(void *arg, struct conn *c) {
    struct end *e = arg;

    (void)c;
    join(e->peer, e);
}

static const struct conn_events end_events = {.on_ready = on_dialled, .on_frame = on_end_frame,
                                              .on_close = on_end_close,
                                              .on_drain = on_end_drain};

static struct end *find(struct gate *g, enum end_state state, uint32_t node) {
    struct end *oldest = NULL;

    for (struct end *e = g->ends; e; e = e->next) /* the newest stands first */
        if (e->state == state && e->node == node && !e->peer) oldest = e;
    return oldest;
}

static void park(struct gate *g, struct end *e) {
    struct end *waits = find(g, END_WAITING, e->node);

    if (waits) join(waits, e);
}

static void to_outpost(struct gate *g, struct end *e) {
    struct end *parked = find(g, END_PARKED, e->node);

    if (parked)
        join(e, parked);
    else
        conn_pause(e->conn, true);
}

static void to_node(struct gate *g, struct end *e, const struct wire_gate_hello *m) {
    struct net_address to = {.port = (uint16_t)m->port};
    char ip[16] = "";
    struct conn *c;
    uint32_t len;
    const char *text = wire_gate_hello_ip(m, &len);

    if (len < sizeof ip) memcpy(ip, text, len);
    to.ip = ip;
    e->peer = end_new(g, NULL, END_DIALLING, m->to);
    if (!e->peer || conn_connect(g->net, to, &end_events, e->peer, &c) < 0) {
        if (e->peer) end_free(e->peer); /* it does not know of e yet */
        e->peer = NULL;
        end_close(e);
        return;
    }
    e->peer->conn = c;
    e->peer->peer = e;
    conn_pause(e->conn, true);
}

void gate_take(struct gate *g, struct conn *c, const struct wire_gate_hello *m) {
    bool parks = m->to == 0;
    struct end *e = end_new(g, c, parks ? END_PARKED : END_WAITING, parks ? m->node : m->to);

    if (!e || m->version != WIRE_VERSION || m->node == 0 || m->port > 65535) {
        if (e) end_free(e);
        (void)conn_close(c);
        return;
    }
    conn_set_events(c, &end_events, e);
    if (parks)
        park(g, e);
    else if (m->port == 0)
        to_outpost(g, e);
    else
        to_node(g, e, m);
}

/* Who waits too long for an outpost: it is gone, or cannot come. */
static void on_tick(void *arg) {
    struct gate *g = arg;
    int64_t now = loop_now_ns(g->loop);

    for (struct end *e = g->ends, *next; e; e = next) {
        next = e->next;
        if (e->state == END_WAITING && !e->peer && now - e->since_ns > WAIT_MS * INT64_C(1000000))
            end_close(e);
    }
    if (g->count == 0) loop_timer_stop(g->tick);
}

int gate_new(struct loop *loop, struct net *net, struct gate **ret) {
    struct gate *g = calloc(1, sizeof *g);

    if (!g) return -SKATE_ENOMEM;
    g->loop = loop;
    g->net = net;
    if (loop_timer_new(loop, on_tick, g, &g->tick) < 0) {
        free(g);
        return -SKATE_ENOMEM;
    }
    *ret = g;
    return 0;
}

struct gate *gate_free(struct gate *g) {
    if (!g) return NULL;
    while (g->ends) end_close(g->ends);
    g->tick = loop_timer_free(g->tick);
    free(g);
    return NULL;
}

uint32_t gate_count(const struct gate *g) { return g->count; }
