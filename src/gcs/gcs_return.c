/* gcs_return.c - nodes whose link breaks, and that come back.
 *
 * A link that ends is no death: the node is away, keeps its number, its actors and its bundles, and
 * gets nothing new. On its new link it says again what the GCS has not acknowledged (requests are
 * answered twice alike), then what runs on it (node_state): what only one of both knows of is
 * ended, started or placed anew, and the node hears what it may have missed. The same talk follows
 * a restart of the GCS on its log, where all nodes are away. A node that has been declared dead
 * meanwhile hears -SKATE_ESTALE: it joins anew, under another number.
 * Tests: tests/unit/gcs_return_test.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_demand.h"
#include "gcs/gcs_groups.h"
#include "wire/kept.h"

enum { GOT_EACH = 64 };
#define GOT_NS INT64_C(1000000000)

void gcs_node_away(struct gcs *g, struct gcs_node *n, const char *why) {
    if (!g->opts.away_ms) {
        gcs_node_lost(g, n, why);
        return;
    }
    n->link = 0;
    n->returning = n->restored = false;
    n->stale = true;
    gcs_demand_node_lost(g, n->number);
    gcs_place_row(g, n);
    n->away_until_ns = g->now + g->opts.away_ms * INT64_C(1000000);
    (void)snprintf(n->reason, sizeof n->reason, "suspected: its connection ended: %s", why);
    gcs_health_away(g, n);
}

static void tell_got(struct gcs *g, struct gcs_node *n) {
    struct wire_lane_got *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_LANE_GOT);
    m->count = n->got;
    n->ungot = 0;
    n->got_told_ns = g->now;
    g->out->acks = true;
    gcs_send_link(g, n->link, &b);
}

/* Of a GCS that says nothing its raylets think that it is gone. */
static void tell_alive(struct gcs *g, const struct gcs_node *n) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_PING);
    gcs_send_link(g, n->link, &b);
}

void gcs_node_got(struct gcs *g, struct gcs_node *n, uint32_t kind) {
    if (!g->opts.away_ms) return; /* a link that ends is the end: nobody keeps anything */
    if (wire_is_kept(kind)) {
        n->got++;
        n->ungot++;
    }
    if (kind == WIRE_NODE_REPORT && (g->refusing || g->late)) /* what acknowledges waits */
        tell_alive(g, n);
    else if (n->ungot >= GOT_EACH ||
             (kind == WIRE_NODE_REPORT && (n->ungot || g->now - n->got_told_ns >= GOT_NS)))
        tell_got(g, n);
}

void gcs_node_return(struct gcs *g, const struct gcs_from *from,
                     const struct wire_node_register *m) {
    struct gcs_node *n = gcs_node_find(g, m->node);
    struct skate_id key = map_key(from->link), old;
    struct wire_node_register *known;

    if (!n || !n->alive) {
        gcs_node_welcome(g, from, NULL, -SKATE_ESTALE,
                         n ? n->reason : "the GCS does not know this node");
        return;
    }
    known = n->registered;
    if (!id_equal(&known->node_id, &m->node_id) || m->version != WIRE_VERSION ||
        m->head.size > 1 << 20 || m->port > 65535) {
        gcs_node_welcome(g, from, NULL, -SKATE_ESTALE, "another node has its number");
        return;
    }
    if (n->link) { /* we have not seen the end of the old one yet */
        old = map_key(n->link);
        (void)map_remove(&g->links, &old);
        gcs_close_link(g, n->link);
    }
    SKATE_ASSERT(map_put(&g->links, &key, n->number) == 0);
    n->link = from->link;
    n->heard_ns = g->now;
    n->returning = n->stale = true;
    gcs_demand_node_lost(g, n->number); /* it says again what waits there */
    n->got = n->ungot = 0;
    gcs_place_row(g, n);
    gcs_node_welcome(g, from, n, 0, "");
}

/* That incarnation alone: a later one may run on the same node. */
static void end_incarnation(struct gcs *g, const struct gcs_node *n, const struct skate_id *actor,
                            uint32_t incarnation) {
    static const char why[] = "the actor is not wanted any more";
    struct wire_worker_kill *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_WORKER_KILL);
    m->actor = *actor;
    m->signal = SIGKILL;
    m->incarnation = incarnation;
    WIRE_PUT(&b, worker_kill, reason, why, sizeof why - 1);
    gcs_send_link(g, n->link, &b);
}

/* What of its actors the GCS knows otherwise. */
static void settle_actors(struct gcs *g, struct gcs_node *n, const struct wire_node_state *m) {
    uint32_t count, runs, *at;
    const struct skate_id *ids = wire_node_state_actors(m, &count);
    const uint32_t *incarnations = wire_node_state_incarnations(m, &runs);
    struct map listed = {0};

    if (runs < count) count = runs;
    for (uint32_t i = 0; i < count; i++) {
        struct gcs_actor *a = gcs_actor_find(g, &ids[i]);

        if (a && (a->state == GCS_STARTING || a->state == GCS_ALIVE) &&
            a->node == n->number && a->incarnation == incarnations[i]) {
            SKATE_ASSERT(map_put(&listed, &ids[i], i) == 0);
            if (a->unused && a->state == GCS_ALIVE) gcs_actor_leave(g, a); /* not heard, maybe */
        } else
            end_incarnation(g, n, &ids[i], incarnations[i]);
    }
    at = gcs_alloc(((size_t)g->actor_slots + 1) * sizeof *at);
    runs = 0; /* slots move when actors end: first look, then act */
    for (uint32_t i = 0; i < g->actor_slots; i++) {
        const struct gcs_actor *a = g->actors[i];

        if (a && a->node == n->number && (a->state == GCS_STARTING || a->state == GCS_ALIVE) &&
            map_get(&listed, &a->id) == MAP_NONE)
            at[runs++] = i;
    }
    for (uint32_t i = 0; i < runs; i++) {
        struct gcs_actor *a = g->actors[at[i]];

        if (a && a->state == GCS_STARTING)
            gcs_place_start(g, a);
        else if (a && a->state == GCS_ALIVE)
            gcs_actor_lost(g, a, "its process was gone when its node came back", false);
    }
    free(at);
    map_release(&listed);
}

void gcs_node_state(struct gcs *g, struct gcs_node *n, const struct wire_node_state *m) {
    struct wire_node_synced *out;
    struct wire_buf b;

    if (!n->returning) return;
    n->returning = false;
    gcs_groups_node_back(g, n, m);
    settle_actors(g, n, m);
    if (!n->health.suspect && !n->draining) n->reason[0] = 0; /* why it was away */
    gcs_node_tell_all(g, n);
    wire_init(&b, NULL, 0);
    out = wire_begin(&b, WIRE_NODE_SYNCED);
    out->epoch = g->opts.epoch;
    out->partial = gcs_nodes_many(g);
    gcs_send_link(g, n->link, &b);
}
