/* gcs_health.c - is a node alive? Suspicion first, then conviction.
 *
 * A raylet of a cluster beats from a thread of its own, on a connection of its own
 * (raylet/beats.h); that of a private session does not, there its reports are the sign of life.
 * A node is suspected when its beats stay out, when they say that its main loop does not turn, or
 * when its link has ended, until it is back: nothing new is placed there, and it is shown with the
 * reason. It is convicted after heartbeat_ms of silence, or as soon as its machine says that nobody
 * listens at its port any more: a raylet listens for as long as it lives. Time in which we did not
 * run ourselves does not count: what the nodes said meanwhile is still unread.
 * Tests: tests/unit/gcs_health_test.c. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"

enum { TICK_IDLE_MS = 1000, TICK_BEATS_MS = 200 }; /* how often we look */
/* Without a beat; without a report where nobody beats; a main loop that should turn each second. */
enum { DOUBT_BEAT_MS = 600, DOUBT_REPORT_MS = 2500, DOUBT_TURN_MS = 3500 };
/* Of a node whose link has ended: without a beat for so long it is dead when its port refuses. */
enum { PROBE_SILENT_MS = 250, RETELL_MS = 1000 };
enum { CONVICT_MAX = 64 }; /* for silence, in one look: all raylets hear of each */

static int64_t ms_since(const struct gcs *g, int64_t then_ns) {
    return (g->now - then_ns) / 1000000;
}

/* The raylets give a suspected node nothing new; those that wait hear when it is back. */
static void set_suspect(struct gcs *g, struct gcs_node *n, bool suspect) {
    if (n->health.suspect == suspect) return;
    n->health.suspect = suspect;
    n->stale = suspect || !n->link || n->returning;
    gcs_place_row(g, n);
    if (!suspect) {
        n->reason[0] = 0;
        g->place_wanted = true;
        return;
    }
    if (g->doubted_count == g->doubted_cap)
        g->doubted = gcs_grow(g->doubted, &g->doubted_cap, sizeof *g->doubted);
    g->doubted[g->doubted_count++] = n->number;
}

/* One frame for all: when a switch fails many are suspected at once. */
void gcs_health_tell(struct gcs *g) {
    struct wire_buf b;

    if (!g->doubted_count) return;
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_DOUBT);
    WIRE_PUT(&b, node_doubt, nodes, g->doubted, g->doubted_count * sizeof *g->doubted);
    gcs_send_nodes(g, &b, 0);
    g->doubted_count = 0;
}

/* Why is it suspected? false: it is not. */
static bool doubt(const struct gcs *g, const struct gcs_node *n, char *ret, size_t cap) {
    int64_t silent = ms_since(g, n->heard_ns);
    int64_t stuck = ms_since(g, n->health.turned_ns);

    if (!n->link || n->returning)
        (void)snprintf(ret, cap, "%s", n->reason[0] ? n->reason : "suspected: it has not come back "
                                   "since the control store was started"); /* gcs_return.c */
    else if (n->health.beats && silent >= DOUBT_BEAT_MS)
        (void)snprintf(ret, cap, "suspected: no beat of it for %lld ms", (long long)silent);
    else if (!n->health.beats && silent >= DOUBT_REPORT_MS)
        (void)snprintf(ret, cap, "suspected: no report of it for %lld ms", (long long)silent);
    else if (n->health.beats && stuck >= DOUBT_TURN_MS)
        (void)snprintf(ret, cap, "suspected: it beats, but its raylet has not come round for "
                       "%lld s", (long long)stuck / 1000);
    else
        return false;
    return true;
}

static void look_at(struct gcs *g, struct gcs_node *n) {
    char why[sizeof n->reason];

    if (!n->link) return; /* away: it has a reason already */
    if (!doubt(g, n, why, sizeof why)) {
        set_suspect(g, n, false);
        return;
    }
    if (n->health.suspect && ms_since(g, n->health.told_ns) < RETELL_MS) return;
    (void)snprintf(n->reason, sizeof n->reason, "%s", why);
    n->health.told_ns = g->now;
    set_suspect(g, n, true);
}

/* What it gave as its address; not one that means this machine when it is on another. */
static const char *address_of(const struct gcs_node *n, char ret[16]) {
    uint32_t len;
    const char *ip = wire_node_register_ip(n->registered, &len);

    if (len == 0 || len > 15) {
        ip = n->ip ? n->ip : "";
        len = (uint32_t)strlen(ip) & 15;
    } else if (n->ip && strncmp(ip, "127.", 4) == 0 && strncmp(n->ip, "127.", 4) != 0)
        len = 0;
    memcpy(ret, ip, len);
    ret[len] = 0;
    return ret;
}

static void probe(struct gcs *g, struct gcs_node *n) {
    const struct wire_node_register *m = n->registered;
    struct gcs_out *out = g->out;
    struct gcs_probe *o = &out->probes[out->probe_count];

    if (out->probe_count == GCS_PROBES || !address_of(n, o->ip)[0]) return;
    out->probe_count++;
    o->node = n->number;
    o->port = (uint16_t)m->port;
    n->health.probed_ns = g->now;
}

/* Silent for a while, too: a node behind a wall that refuses may beat all the same. */
static bool may_be_gone(const struct gcs *g, const struct gcs_node *n) {
    int64_t silent = ms_since(g, n->heard_ns);

    if (!n->alive || n->returning) return false;
    if (n->link) return n->health.beats && silent >= DOUBT_BEAT_MS;
    return !n->health.beats || silent >= PROBE_SILENT_MS;
}

void gcs_health_away(struct gcs *g, struct gcs_node *n) {
    g->hurry = true;
    n->health.told_ns = g->now;
    set_suspect(g, n, true);
    probe(g, n);
}

void gcs_health_probed(struct gcs *g, uint32_t node, bool refused) {
    struct gcs_node *n = gcs_node_find(g, node);
    char why[GCS_REASON];

    if (!n || !refused || !may_be_gone(g, n)) return;
    (void)snprintf(why, sizeof why, "%.1800s, and nobody listens at its port any more",
                   strncmp(n->reason, "suspected: ", 11) == 0 ? n->reason + 11 : n->reason);
    gcs_convict(g, n, why);
}

void gcs_health_heard(struct gcs *g, struct gcs_node *n) {
    n->heard_ns = n->health.turned_ns = g->now;
    if (n->health.suspect) look_at(g, n);
}

static void say_convicted(struct gcs *g, uint64_t link, const struct gcs_node *n) {
    struct wire_convicted *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_CONVICTED);
    m->node = n->number;
    WIRE_PUT(&b, convicted, reason, n->reason, strlen(n->reason));
    gcs_send_link(g, link, &b);
}

/* The sender is no link of a node's: what it says is held against the node's id. */
void gcs_health_beat(struct gcs *g, const struct gcs_from *from, const struct wire_beat *m) {
    struct gcs_node *n = gcs_node_find(g, m->node);
    const struct wire_node_register *known = n ? n->registered : NULL;

    if (m->epoch > g->opts.epoch) { /* one that came later has taken over */
        g->out->fenced = true;
        return;
    }
    if (!n || !id_equal(&known->node_id, &m->node_id)) return;
    if (!n->alive) {
        say_convicted(g, from->link, n);
        return;
    }
    n->heard_ns = g->now;
    n->away_until_ns = g->now + g->opts.away_ms * INT64_C(1000000);
    if (!n->health.beats || n->health.turns != m->turns) n->health.turned_ns = g->now;
    n->health.turns = m->turns;
    n->health.beats = g->hurry = true;
    if (n->health.suspect) look_at(g, n);
}

void gcs_convict(struct gcs *g, struct gcs_node *n, const char *why) {
    uint64_t link = n->link;

    gcs_node_lost(g, n, why);
    if (!link) return;
    say_convicted(g, link, n);
    gcs_close_link(g, link);
}

static int64_t later(int64_t at, int64_t by, int64_t most) {
    return at + by < most ? at + by : most;
}

/* Late by a little: that much is not counted. By a lot: nothing of the time since the last look. */
static void forgive_own_sleep(struct gcs *g) {
    int64_t wanted = (int64_t)gcs_health_tick_ms(g) * 1000000;
    int64_t gap = g->tick_ns ? g->now - g->tick_ns : 0;
    int64_t by = gap > wanted * 5 / 2 ? gap : gap - wanted;

    g->tick_ns = g->now;
    for (uint32_t i = 0; by > wanted / 2 && i < g->node_count; i++) {
        struct gcs_node *n = g->nodes[i];

        n->heard_ns = later(n->heard_ns, by, g->now);
        n->health.turned_ns = later(n->health.turned_ns, by, g->now);
    }
}

uint32_t gcs_health_tick_ms(const struct gcs *g) {
    return !g->watched ? 0 : g->hurry ? TICK_BEATS_MS : TICK_IDLE_MS;
}

static bool is_over(const struct gcs *g, const struct gcs_node *n) {
    int64_t silent = ms_since(g, n->heard_ns);

    if (silent >= (int64_t)g->opts.heartbeat_ms) return true;
    return !n->link && g->now >= n->away_until_ns &&
           (!n->health.beats || silent >= DOUBT_BEAT_MS);
}

static void convict_silent(struct gcs *g, struct gcs_node *n) {
    int64_t silent = ms_since(g, n->heard_ns);
    char why[GCS_REASON];

    if (silent >= (int64_t)g->opts.heartbeat_ms)
        (void)snprintf(why, sizeof why, "no sign of life for %lld ms", (long long)silent);
    else
        (void)snprintf(why, sizeof why, "it did not come back: %.1800s", n->reason);
    gcs_convict(g, n, why);
}

void gcs_health_tick(struct gcs *g) {
    bool watched = false, hurry = false;
    uint32_t convicted = 0;

    forgive_own_sleep(g);
    for (uint32_t i = 0; i < g->node_count; i++) {
        struct gcs_node *n = g->nodes[i];

        if (!n->alive) continue;
        watched = true;
        hurry |= n->health.beats || !n->link;
        if (is_over(g, n) && convicted++ < CONVICT_MAX) {
            convict_silent(g, n);
            continue;
        }
        look_at(g, n);
        if (!n->link || (n->health.suspect && ms_since(g, n->health.probed_ns) >= RETELL_MS))
            probe(g, n);
    }
    g->watched = watched;
    g->hurry = hurry;
    if (g->actors_pending && ms_since(g, g->retry_ns) >= TICK_IDLE_MS) {
        g->retry_ns = g->now;
        for (uint32_t i = 0; i < g->node_count; i++) gcs_place_row(g, g->nodes[i]);
        g->place_wanted = true;
    }
}
