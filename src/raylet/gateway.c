/* gateway.c - see gateway.h. */
#include "raylet/gateway.h"

#include <stdlib.h>
#include <string.h>

#include "raylet/links.h"

enum { RESERVE = 2 };

struct gateway {
    struct conn *parked[RESERVE];
};

static bool is_straight(const struct raylet *r, uint16_t port) {
    return !r->set.outpost && port != 0;
}

void gateway_way(const struct raylet *r, struct net_address *to) {
    if (!is_straight(r, to->port)) *to = (struct net_address){r->set.gcs_ip, r->set.gcs_port};
}

static int hello(const struct raylet *r, struct conn *c, uint32_t node, struct net_address at) {
    uint64_t room[32];
    struct wire_gate_hello *m;
    struct wire_buf b;
    int e;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_GATE_HELLO);
    m->node = r->node;
    m->to = node;
    m->port = at.port;
    m->version = WIRE_VERSION;
    WIRE_PUT(&b, gate_hello, ip, at.ip, strlen(at.ip));
    e = wire_end(&b);
    if (e == 0) e = conn_send(c, b.p, b.len);
    wire_release(&b);
    return e;
}

int gateway_hello(const struct raylet *r, struct conn *c, uint32_t node, struct net_address at) {
    return is_straight(r, at.port) ? 0 : hello(r, c, node, at);
}

/* ---- connections in reserve ---- */

static struct conn **parked_find(struct raylet *r, const struct conn *c) {
    for (int i = 0; i < RESERVE; i++)
        if (r->gateway->parked[i] == c) return &r->gateway->parked[i];
    return NULL;
}

static void on_parked_ready(void *arg, struct conn *c) {
    if (hello(arg, c, 0, (struct net_address){"", 0}) < 0)
        node_log("a connection cannot be kept in reserve at the GCS");
}

/* A node wants to us: from now on this is an accepted connection like any other. */
static void on_parked_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct raylet *r = arg;
    struct conn **at = parked_find(r, c);

    if (at) *at = NULL;
    links_adopt(r, c, frame, len);
    gateway_beat(r);
}

static void on_parked_close(void *arg, struct conn *c, int code, const char *text) {
    struct conn **at = parked_find(arg, c);

    (void)code, (void)text;
    if (at) *at = NULL; /* the next beat dials again */
}

static const struct conn_events parked_events = {
    .on_ready = on_parked_ready, .on_frame = on_parked_frame, .on_close = on_parked_close};

void gateway_beat(struct raylet *r) {
    struct net_address gcs = {r->set.gcs_ip, r->set.gcs_port};

    if (!r->set.outpost || !r->node || r->ending) return;
    if (!r->gateway) r->gateway = calloc(1, sizeof *r->gateway);
    for (int i = 0; r->gateway && i < RESERVE; i++) {
        struct conn **at = &r->gateway->parked[i];

        if (!*at && conn_connect(r->net, gcs, &parked_events, r, at) < 0) *at = NULL;
    }
}
