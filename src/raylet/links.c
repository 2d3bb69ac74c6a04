/* links.c - see links.h.
 *
 * Each pair of raylets uses one control connection for each direction of dialling at most: frames
 * to a node always go out on the same one, so their order is kept. What is sent before a
 * connection is ready waits in order. A frame is kept until the peer has said that it came
 * (lane_got: now and then, and first thing on a new connection): when a connection breaks between
 * two nodes that live, the rest is sent again on the next, and nothing is lost or comes twice. */
#include "raylet/links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "raylet/gateway.h"
#include "raylet/gcs_link.h"
#include "raylet/lane_watch.h"
#include "raylet/near.h"
#include "raylet/pulls.h"
#include "raylet/rejoin.h"
#include "raylet/spill.h"

/* HELD: bytes that wait for one connection, for one to a node that nobody has told of, for all. */
enum { HELD_MAX = 64 << 20, HELD_UNKNOWN_MAX = 1 << 20, HELD_ALL_MAX = 512 << 20 };
/* Bytes sent and not acknowledged; what one lane_got is for. */
enum { SENT_MAX = 1 << 30, GOT_FRAMES = 64, GOT_BYTES = 1 << 20 };
enum { UNKNOWN_MAX = 1024, UNKNOWN_BEATS = 5 };

struct held {
    struct held *next;
    uint32_t len;
    uint64_t data[];
};
struct lane { /* one connection to a peer; what waits for it, and what the peer has not got yet */
    struct peer *peer;
    struct conn *conn;
    bool bulk, synced;                  /* synced: the peer has said what it has got */
    struct held *first, *last, *unsent; /* unsent: the first of these that was not sent */
    uint64_t base;                      /* how many came before `first` */
    uint64_t held_bytes;
    struct lane_watch watch;
    struct near *near; /* bulk, to a raylet of this machine */
};
struct peer {
    struct raylet *r;
    uint32_t node;
    enum { PEER_UNKNOWN, PEER_ALIVE, PEER_DEAD } state;
    char ip[16];
    uint16_t port;
    bool named; /* by the GCS, since links_mark() */
    bool never; /* dead because the GCS knows no such node */
    uint32_t beats;  /* while unknown, and the GCS can be asked */
    uint32_t guests; /* its accepted connections */
    uint64_t got;    /* its control frames, on all connections */
    struct guest_link *voice; /* its newest one: what still comes on others comes again */
    struct lane control, bulk;
};
struct guest_link { /* an accepted connection */
    struct raylet *r;
    struct peer *peer;
    struct conn *conn;
    bool bulk;
    uint32_t frames, bytes; /* since the last lane_got */
};
struct links {
    struct net_listener *listener;
    struct table peers; /* node -> struct peer */
    uint32_t unknown;   /* peers that nobody has told of */
    uint64_t held_bytes;
    struct loop_timer *watch; /* runs while something waits for a peer's word */
};

static void control_frame(struct raylet *r, const struct wire_head *head);

/* ---- peers ---- */

/* In a large cluster the GCS tells of a node when it is asked. */
static void ask_who(struct raylet *r, uint32_t node) {
    struct wire_node_get m = {.head = {.size = sizeof m, .kind = WIRE_NODE_GET, .fixed = sizeof m},
                              .node = node};

    if (r->gcs_link) gcs_link_send(r, &m, sizeof m);
}

static struct peer *peer_make(struct raylet *r, uint32_t node) {
    struct peer *p = table_get(&r->links->peers, node);

    if (p) return p;
    if (r->links->unknown >= UNKNOWN_MAX) return NULL;
    p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->r = r;
    p->node = node;
    p->control.peer = p->bulk.peer = p;
    p->bulk.bulk = true;
    if (table_set(&r->links->peers, node, p) < 0) {
        free(p);
        return NULL;
    }
    r->links->unknown++;
    return p;
}

static struct peer *peer_find(struct raylet *r, uint32_t node) {
    struct peer *p = table_get(&r->links->peers, node);

    if (p) return p;
    p = peer_make(r, node);
    if (p) ask_who(r, node);
    return p;
}

static void set_state(struct peer *p, int state) {
    if (p->state == PEER_UNKNOWN && state != PEER_UNKNOWN) p->r->links->unknown--;
    p->state = state;
}

static void unhold(struct lane *l) {
    struct held *h = l->first;

    l->first = h->next;
    if (!l->first) l->last = NULL;
    if (l->unsent == h) l->unsent = h->next;
    l->base++;
    l->held_bytes -= h->len;
    l->peer->r->links->held_bytes -= h->len;
    free(h);
}

static void drop_held(struct lane *l) {
    while (l->first) unhold(l);
}

static bool may_send(const struct lane *l) {
    return l->conn && conn_is_ready(l->conn) && (l->bulk || l->synced);
}

/* What was not sent, as far as the connection takes it; on_lane_drain goes on. */
static int send_held(struct lane *l) {
    int e = 0;

    while (l->unsent && (e = conn_send(l->conn, l->unsent->data, l->unsent->len)) == 0) {
        l->unsent = l->unsent->next;
        if (l->bulk) unhold(l);
    }
    return e == -SKATE_EFULL ? 0 : e;
}

static void on_lane_drain(void *arg, struct conn *c) {
    (void)c;
    if (may_send(arg)) (void)send_held(arg); /* a broken one says so by on_lane_close */
}

static struct net_address address_of(const struct peer *p) {
    return (struct net_address){.ip = p->ip, .port = p->port};
}

/* Of one address is of one machine. */
static int offer_near(struct lane *l, struct conn *c) {
    const struct raylet *r = l->peer->r;
    struct wire_bulk_near m;

    l->near = near_free(l->near);
    if (r->set.no_near || strcmp(conn_peer_ip(c), r->set.node_ip) != 0) return 0;
    l->near = near_offer(&m);
    return l->near ? conn_send(c, &m, sizeof m) : 0;
}

/* A hello; the peer answers what it has got, then the rest follows. */
static void on_lane_ready(void *arg, struct conn *c) {
    struct lane *l = arg;
    struct wire_peer_hello m = {.head = {.size = sizeof m, .kind = WIRE_PEER_HELLO,
                                         .fixed = sizeof m},
                                .node = l->peer->r->node, .bulk = l->bulk,
                                .version = WIRE_VERSION};
    int e = gateway_hello(l->peer->r, c, l->peer->node, address_of(l->peer));

    if (e == 0) e = conn_send(c, &m, sizeof m);
    if (e == 0 && l->bulk) e = offer_near(l, c);
    if (e == 0 && l->bulk) e = send_held(l);
    if (e < 0) node_log("sending to node %u failed: %s", l->peer->node, skate_strerror(e));
}

/* So many of our frames the peer has. */
static void on_got(struct lane *l, const struct wire_lane_got *m) {
    while (l->first && l->base < m->count && !(l->synced && l->first == l->unsent)) unhold(l);
    if (l->synced) return;
    l->synced = true;
    l->unsent = l->first;
    (void)send_held(l);
}

static void on_lane_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct lane *l = arg;

    (void)c;
    (void)len;
    if (!l->bulk && wire_head(frame)->kind == WIRE_LANE_GOT)
        on_got(l, frame);
    else if (l->bulk && wire_head(frame)->kind == WIRE_BULK_DATA)
        pulls_data(l->peer->r, l->peer->node, frame);
    else if (l->bulk && wire_head(frame)->kind == WIRE_BULK_INSTEAD)
        pulls_instead(l->peer->r, l->peer->node, frame);
    else if (l->bulk && wire_head(frame)->kind == WIRE_BULK_NEAR_OK)
        near_agreed(l->near);
}

static void *on_lane_place(void *arg, struct conn *c, const void *head, uint32_t at, uint32_t len) {
    struct lane *l = arg;

    (void)c;
    if (!l->bulk || wire_head(head)->kind != WIRE_BULK_DATA) return NULL;
    return pulls_place(l->peer->r, l->peer->node, head, at, len);
}

static void on_lane_placed(void *arg, struct conn *c, const void *head) {
    struct lane *l = arg;

    (void)c;
    pulls_placed(l->peer->r, l->peer->node, head);
}

static void retry(struct lane *l);

/* It broke. The GCS says whether the node is dead; until then links_beat() tries again. */
static void on_lane_close(void *arg, struct conn *c, int code, const char *text) {
    struct lane *l = arg;
    bool was_synced = l->synced;

    (void)c;
    (void)code;
    l->conn = NULL;
    l->synced = false;
    if (l->peer->state == PEER_ALIVE && !l->peer->r->ending)
        node_log("connection to node %u ended: %s", l->peer->node, text);
    if (l->bulk) {
        l->near = near_free(l->near);
        drop_held(l);
        pulls_broken(l->peer->r, l->peer->node, text);
    } else if (was_synced)
        retry(l);
}

static const struct conn_events lane_events = {
    .on_ready = on_lane_ready, .on_frame = on_lane_frame, .on_close = on_lane_close,
    .on_drain = on_lane_drain, .on_place = on_lane_place, .on_placed = on_lane_placed};

static void watch_lanes(struct links *all) {
    if (!loop_timer_is_active(all->watch))
        loop_timer_start(all->watch, LANE_EACH_MS, LANE_EACH_MS);
}

/* 0, or why a frame cannot be kept. */
static int room(const struct lane *l, uint32_t len) {
    const struct links *all = l->peer->r->links;
    uint64_t most = l->peer->state == PEER_UNKNOWN ? HELD_UNKNOWN_MAX : HELD_MAX;

    if (may_send(l)) return l->held_bytes + len > SENT_MAX && l->first ? -SKATE_EFULL : 0;
    if (l->held_bytes + len > most && l->first) return -SKATE_EFULL;
    return all->held_bytes + len > HELD_ALL_MAX ? -SKATE_EFULL : 0;
}

static int lane_send(struct lane *l, const void *frame, uint32_t len) {
    struct peer *p = l->peer;
    struct held *h;
    int e;

    if (p->state == PEER_DEAD) return -SKATE_EDEAD;
    if (l->bulk && !l->first && may_send(l)) {
        e = conn_send(l->conn, frame, len);
        if (e != -SKATE_EFULL && e != -SKATE_EDEAD && e != -SKATE_EAGAIN) return e;
    }
    e = wire_head(frame)->size == len && len <= LIMIT_FRAME_BYTES ? room(l, len) : -SKATE_EINVAL;
    if (e < 0) return e;
    h = malloc(sizeof *h + len);
    if (!h) return -SKATE_ENOMEM;
    h->next = NULL;
    h->len = len;
    memcpy(h->data, frame, len);
    if (l->last)
        l->last->next = h;
    else
        l->first = h;
    l->last = h;
    if (!l->unsent) l->unsent = h;
    l->held_bytes += len;
    p->r->links->held_bytes += len;
    if (may_send(l)) (void)send_held(l); /* what fails now goes out later, or again */
    if (!l->conn) retry(l);
    watch_lanes(p->r->links);
    return 0;
}

int links_to_node(struct raylet *r, uint32_t node, const void *frame, uint32_t len) {
    struct peer *p = peer_find(r, node);

    SKATE_ASSERT(node != r->node);
    return p ? lane_send(&p->control, frame, len) : -SKATE_EDEAD;
}

int links_bulk(struct raylet *r, uint32_t node, const void *frame, uint32_t len) {
    struct peer *p = peer_find(r, node);

    return p ? lane_send(&p->bulk, frame, len) : -SKATE_EDEAD;
}

struct near *links_near(const struct raylet *r, uint32_t node) {
    const struct peer *p = r->links ? table_get(&r->links->peers, node) : NULL;

    return p ? p->bulk.near : NULL;
}

uint32_t links_to_all(struct raylet *r, const void *frame, uint32_t len, uint64_t *out,
                      uint32_t cap) {
    uint32_t at = 0, n = 0;
    struct peer *p;

    while ((p = table_next(&r->links->peers, &at, NULL))) {
        /* One that we have not heard of yet may have something to come of whoever this is about. */
        if (p->state == PEER_UNKNOWN && !p->control.first) continue;
        if (lane_send(&p->control, frame, len) < 0) continue;
        if (n < cap) out[n++] = proc_make(p->node, 0);
    }
    return n;
}

bool links_is_dead(const struct raylet *r, uint32_t node) {
    const struct peer *p = table_get(&r->links->peers, node);

    return p && p->state == PEER_DEAD;
}

uint32_t links_count(const struct raylet *r) { return r->links->peers.count; }

static void retry(struct lane *l) {
    struct peer *p = l->peer;
    struct net_address to = address_of(p);

    if (l->conn || !l->first || p->state != PEER_ALIVE) return;
    gateway_way(p->r, &to);
    if (conn_connect(p->r->net, to, &lane_events, l, &l->conn) < 0) l->conn = NULL;
    lane_dialled(&l->watch, loop_now_ns(p->r->loop));
}

/* The peer says what it has got when it is asked. */
static void ask_got(struct lane *l) {
    struct wire_ping m = {.head = {.size = sizeof m, .kind = WIRE_PING, .fixed = sizeof m}};

    if (conn_send(l->conn, &m, sizeof m) < 0) {} /* its end, or a full queue, is seen elsewhere */
}

/* Does it still carry anything? Returns whether something waits on it. */
static bool look_at_lane(struct lane *l, int64_t now_ns) {
    struct lane_look see = {.waits = l->first != NULL};

    if (!l->conn) {
        retry(l);
        return l->first != NULL;
    }
    see.dialling = !conn_is_ready(l->conn);
    see.ready = !see.dialling && !l->bulk; /* on bulk ones TCP itself sees the end: net/conn.c */
    see.seen = l->base + conn_pending_bytes(l->conn) + l->synced;
    switch (lane_watch_look(&l->watch, &see, now_ns)) {
        case LANE_ASK: ask_got(l); break;
        case LANE_GIVE_UP:
            l->conn = conn_close(l->conn);
            on_lane_close(l, NULL, -SKATE_ETIMEOUT, "nothing comes back on it");
            retry(l);
            break;
        default: break;
    }
    return l->first || see.dialling;
}

static void on_watch(void *arg) {
    struct raylet *r = arg;
    int64_t now_ns = loop_now_ns(r->loop);
    bool waits = false;
    uint32_t at = 0;
    struct peer *p;

    while ((p = table_next(&r->links->peers, &at, NULL))) {
        if (p->state != PEER_ALIVE) continue;
        waits |= look_at_lane(&p->control, now_ns);
        waits |= look_at_lane(&p->bulk, now_ns);
    }
    if (!waits) loop_timer_stop(r->links->watch);
}

static void peer_dead(struct peer *p, const char *why) {
    char text[200];

    set_state(p, PEER_DEAD);
    p->control.conn = conn_close(p->control.conn);
    p->bulk.conn = conn_close(p->bulk.conn);
    p->bulk.near = near_free(p->bulk.near);
    drop_held(&p->control);
    drop_held(&p->bulk);
    snprintf(text, sizeof text, "%.160s (its address was %s)", why, p->ip[0] ? p->ip : "unknown");
    death_of_node(p->r, p->node, text);
}

/* One that never was, when it does not speak to us any more: names of it must not pile up. */
static void forget(struct peer *p) {
    if (!p->never || p->guests) return;
    table_take(&p->r->links->peers, p->node);
    free(p);
}

void links_beat(struct raylet *r) {
    uint32_t at = 0;
    struct peer *p, *lost[UNKNOWN_MAX];
    uint32_t n = 0;

    gateway_beat(r);
    while ((p = table_next(&r->links->peers, &at, NULL))) {
        if (p->state == PEER_UNKNOWN) ask_who(r, p->node);
        if (p->state == PEER_UNKNOWN && gcs_link_knows(r) && ++p->beats > UNKNOWN_BEATS &&
            n < UNKNOWN_MAX)
            lost[n++] = p;
        retry(&p->control);
        retry(&p->bulk);
        near_beat(p->bulk.near);
        if (p->control.unsent && may_send(&p->control)) (void)send_held(&p->control);
    }
    while (n > 0) {
        p = lost[--n];
        peer_dead(p, "the GCS knows no such node");
        p->never = true;
        forget(p);
    }
}

/* ---- accepted connections ---- */

static void say_got(struct guest_link *g, struct conn *c) {
    struct wire_lane_got m = {.head = {.size = sizeof m, .kind = WIRE_LANE_GOT,
                                       .fixed = sizeof m},
                              .count = g->peer->got};

    if (conn_send(c, &m, sizeof m) == 0) g->frames = g->bytes = 0;
}

static void guest_free(struct guest_link *g) {
    spill_conn_closed(g->r, g->conn);
    pulls_conn_closed(g->r, g->conn);
    if (g->peer) {
        g->peer->guests--;
        if (g->peer->voice == g) g->peer->voice = NULL;
        forget(g->peer);
    }
    free(g);
}

/* From now on this connection is what it speaks on; an older one may hang for long. */
static void take_voice(struct guest_link *g) {
    struct guest_link *old = g->peer->voice;

    g->peer->voice = g;
    if (!old) return;
    conn_close(old->conn);
    guest_free(old);
}

static void on_guest_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct guest_link *g = arg;
    const struct wire_head *head = frame;

    if (!g->peer) {
        const struct wire_peer_hello *m = frame;

        /* Before our own number is here we cannot know what is for us: it will dial again. */
        if (head->kind != WIRE_PEER_HELLO || m->version != WIRE_VERSION || m->node == 0 ||
            m->node == g->r->node || !g->r->node || !(g->peer = peer_find(g->r, m->node))) {
            conn_close(c);
            free(g);
            return;
        }
        g->peer->guests++;
        g->bulk = m->bulk != 0;
        if (g->bulk) return;
        take_voice(g);
        say_got(g, c);
        return;
    }
    if (g->bulk) {
        if (head->kind == WIRE_BULK_GET) pulls_asked(g->r, g->peer->node, c, frame);
        if (head->kind == WIRE_BULK_NEAR) pulls_near(g->r, c, frame);
        return;
    }
    if (g->peer->voice != g) return;
    if (head->kind == WIRE_PING) {
        say_got(g, c);
        return;
    }
    g->peer->got++;
    g->bytes += len;
    if (++g->frames >= GOT_FRAMES || g->bytes >= GOT_BYTES) say_got(g, c);
    control_frame(g->r, head);
}

static void on_guest_close(void *arg, struct conn *c, int code, const char *text) {
    (void)c;
    (void)code;
    (void)text;
    guest_free(arg);
}

static void on_guest_drain(void *arg, struct conn *c) {
    (void)c;
    pulls_drained(((struct guest_link *)arg)->r);
}

static const struct conn_events guest_events = {
    .on_frame = on_guest_frame, .on_close = on_guest_close, .on_drain = on_guest_drain};
static struct guest_link *accept_guest(struct raylet *r, struct conn *c) {
    struct guest_link *g = calloc(1, sizeof *g);

    if (!g) {
        conn_close(c);
        return NULL;
    }
    g->r = r;
    g->conn = c;
    conn_set_events(c, &guest_events, g);
    return g;
}

static void on_accept(void *arg, struct conn *c) { (void)accept_guest(arg, c); }

void links_adopt(struct raylet *r, struct conn *c, const void *frame, uint32_t len) {
    struct guest_link *g = accept_guest(r, c);

    if (g) on_guest_frame(g, c, frame, len);
}

static void on_fresh_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg; /* before on_accept there is nothing to free */
    (void)c;
    (void)code;
    (void)text;
}

static const struct conn_events fresh_events = {.on_ready = on_accept,
                                                .on_close = on_fresh_close};

/* Between raylets: routed frames and deaths. */
static void control_frame(struct raylet *r, const struct wire_head *head) {
    if (head->kind == WIRE_ROUTE)
        route_frame(r, (const struct wire_route *)(const void *)head, 0);
    else if (head->kind == WIRE_PROC_DIED)
        death_heard(r, (const struct wire_proc_died *)(const void *)head);
    else if (head->kind == WIRE_COPY_ASK)
        pulls_copy_asked(r, (const struct wire_copy_ask *)(const void *)head);
    else if (head->kind == WIRE_COPY_TOLD)
        pulls_copy_told(r, (const struct wire_copy_told *)(const void *)head);
}

/* ---- what the GCS says of other nodes ---- */

static void copy_ip(struct peer *p, const struct wire_node_info *m) {
    uint32_t len;
    const char *ip = wire_node_info_ip(m, &len);

    if (len >= sizeof p->ip) len = 0;
    memcpy(p->ip, ip, len);
    p->ip[len] = 0;
    p->port = (uint16_t)m->port;
}

void links_node_info(struct raylet *r, const struct wire_node_info *m) {
    struct resources total, avail;
    struct sched_node *row;
    struct peer *p;
    bool reshaped;
    char why[256];
    uint32_t len;
    const void *data;
    int e;

    if (m->node == 0 || (m->node == r->node && m->state == 1)) return;
    data = wire_node_info_reason(m, &len);
    if (len >= sizeof why) len = sizeof why - 1;
    memcpy(why, data, len);
    why[len] = 0;
    if (m->node == r->node) node_rejoin(r, len ? why : "the GCS said so");
    p = peer_make(r, m->node);
    row = sched_view_find(&r->view, m->node);
    if (!row) {
        row = sched_view_add(&r->view, m->node);
        leases_untell(r->leases);
    }
    if (!p || !row || p->state == PEER_DEAD) return;
    p->named = true;
    data = wire_node_info_total(m, &len);
    e = resources_unpack(&total, data, len);
    data = wire_node_info_available(m, &len);
    if (e == 0) e = resources_unpack(&avail, data, len);
    if (e < 0) return;
    data = wire_node_info_labels(m, &len);
    reshaped = strlen(row->labels) != len || memcmp(row->labels, data, len) != 0 ||
               row->total.count != total.count ||
               memcmp(row->total.v, total.v, sizeof total.v) != 0;
    if (!labels_copy(row->labels, data, len)) node_log("node %u has too many labels", m->node);
    row->alive = m->state == 1 && !m->outpost; /* nothing is placed there */
    row->closed = m->suspect;
    row->total = total;
    row->avail = avail;
    if (reshaped)
        sched_view_reshape(&r->view, row);
    else
        sched_view_touch(&r->view, row);
    copy_ip(p, m);
    if (m->state == 1 && p->state == PEER_UNKNOWN) {
        set_state(p, PEER_ALIVE);
        retry(&p->control);
        retry(&p->bulk);
        if (p->control.unsent && may_send(&p->control)) (void)send_held(&p->control);
        heirs_tell_node(r, m->node);
    } else if (m->state != 1) {
        peer_dead(p, why[0] ? why : "the node is lost");
    }
    grants_wake(r);
}

/* They may be dead: they are given nothing new until their next node_info. */
void links_node_doubt(struct raylet *r, const struct wire_node_doubt *m) {
    uint32_t count;
    const uint32_t *nodes = wire_node_doubt_nodes(m, &count);

    for (uint32_t i = 0; i < count; i++) {
        struct sched_node *row = sched_view_find(&r->view, nodes[i]);

        if (!row || nodes[i] == r->node) continue;
        row->closed = true;
        sched_view_touch(&r->view, row);
    }
}

void links_mark(struct raylet *r) {
    uint32_t at = 0;
    struct peer *p;

    while ((p = table_next(&r->links->peers, &at, NULL))) p->named = false;
}

void links_sweep(struct raylet *r, bool partial) {
    uint32_t at = 0, n = 0;
    struct peer *p, **gone = calloc(r->links->peers.count + 1, sizeof *gone);

    if (!gone) return;
    while ((p = table_next(&r->links->peers, &at, NULL)))
        if (p->state == PEER_ALIVE && !p->named) gone[n++] = p;
    while (n-- > 0) {
        struct sched_node *row = sched_view_find(&r->view, gone[n]->node);

        if (partial) {
            ask_who(r, gone[n]->node);
            continue;
        }
        if (row) {
            row->alive = false;
            sched_view_touch(&r->view, row);
        }
        peer_dead(gone[n], "the node was lost while the GCS was away");
    }
    free(gone);
    grants_wake(r);
}

uint16_t links_port(const struct raylet *r) {
    return r->links->listener ? net_listener_port(r->links->listener) : 0; /* 0: an outpost */
}

static void on_net_log(void *arg, const char *text) {
    (void)arg;
    node_log("%s", text);
}

int links_start(struct raylet *r, struct skate_error *err) {
    struct net_opts opts = {.loop = r->loop, .pending_max = UINT64_C(1) << 30,
                            .on_log = on_net_log};
    struct net_address here = {.ip = r->set.node_ip, .port = r->set.listen_port};
    int e;

    r->links = calloc(1, sizeof *r->links);
    if (!r->links) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    memcpy(opts.key, r->set.key, sizeof opts.key);
    opts.tls = tls_settings_of(&r->set.tls);
    opts.err = err;
    e = net_new(&opts, &r->net);
    net_wipe(opts.key, sizeof opts.key);
    net_wipe(r->set.key, sizeof r->set.key);
    if (e < 0 && err && err->text[0]) return e;
    if (e < 0) return err_fail(err, e, "the network cannot start: %s", skate_strerror(e));
    e = loop_timer_new(r->loop, on_watch, r, &r->links->watch);
    if (e < 0) return err_fail(err, e, "%s", skate_strerror(e));
    if (r->set.outpost) return gcs_link_start(r, err); /* nobody dials it */
    e = net_listen(r->net, here, &fresh_events, r, &r->links->listener, err);
    if (e < 0) return e;
    return gcs_link_start(r, err);
}
