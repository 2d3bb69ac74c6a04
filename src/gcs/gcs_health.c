/* gcs_health.c - is a node alive? Suspicion first, then conviction.
 *
 * A raylet of a cluster beats from a thread of its own, on a connection of its own
 * (raylet/beats.h); that of a private session does not, there its reports are the sign of life.
 * A node is suspected when its beats stay out, or when the beats say that its main loop does not
 * turn: nothing new is placed there, and it is shown with the reason. Any frame of its clears
 * that. It is convicted after heartbeat_ms of silence. Time in which we did not run ourselves does
 * not count: what the nodes said meanwhile is still unread.
 * Tests: tests/unit/gcs_health_test.c. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"

enum { TICK_IDLE_MS = 1000, TICK_BEATS_MS = 200 }; /* how often we look */
/* Without a beat; without a report where nobody beats; a main loop that should turn each second. */
enum { DOUBT_BEAT_MS = 600, DOUBT_REPORT_MS = 2500, DOUBT_TURN_MS = 3500 };
enum { RETELL_MS = 1000 };

static int64_t ms_since(const struct gcs *g, int64_t then_ns) {
    return (g->now - then_ns) / 1000000;
}

/* The raylets give a suspected node nothing new; those that wait hear when it is back. */
static void set_suspect(struct gcs *g, struct gcs_node *n, bool suspect) {
    struct wire_node_doubt *m;
    struct wire_buf b;

    if (n->health.suspect == suspect) return;
    n->health.suspect = suspect;
    n->stale = suspect || !n->link || n->returning;
    gcs_place_row(g, n);
    if (!suspect) {
        n->reason[0] = 0;
        gcs_node_tell_waiting(g, n);
        g->place_wanted = true;
        return;
    }
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_DOUBT);
    m->node = n->number;
    gcs_send_nodes(g, &b, n->number);
}

/* Why is it suspected? false: it is not. */
static bool doubt(const struct gcs *g, const struct gcs_node *n, char *ret, size_t cap) {
    int64_t silent = ms_since(g, n->heard_ns);
    int64_t stuck = ms_since(g, n->health.turned_ns);

    if (n->health.beats && silent >= DOUBT_BEAT_MS)
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

    if (!doubt(g, n, why, sizeof why)) {
        set_suspect(g, n, false);
        return;
    }
    if (n->health.suspect && ms_since(g, n->health.told_ns) < RETELL_MS) return;
    (void)snprintf(n->reason, sizeof n->reason, "%s", why);
    n->health.told_ns = g->now;
    set_suspect(g, n, true);
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

    if (!n || !id_equal(&known->node_id, &m->node_id)) return;
    if (!n->alive) {
        say_convicted(g, from->link, n);
        return;
    }
    n->heard_ns = g->now;
    if (!n->health.beats || n->health.turns != m->turns) n->health.turned_ns = g->now;
    n->health.turns = m->turns;
    n->health.beats = g->beats = true;
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
    return g->beats ? TICK_BEATS_MS : TICK_IDLE_MS;
}

void gcs_health_tick(struct gcs *g) {
    bool beats = false;

    forgive_own_sleep(g);
    for (uint32_t i = 0; i < g->node_count; i++) {
        struct gcs_node *n = g->nodes[i];
        int64_t silent = ms_since(g, n->heard_ns);
        char why[64];

        if (!n->alive) continue;
        beats = beats || n->health.beats;
        if (silent >= (int64_t)g->opts.heartbeat_ms) {
            (void)snprintf(why, sizeof why, "no sign of life for %lld ms", (long long)silent);
            gcs_convict(g, n, why);
        } else if (!n->link && g->now >= n->away_until_ns &&
                   (!n->health.beats || silent >= DOUBT_BEAT_MS))
            gcs_convict(g, n, n->reason); /* its link ended, it has not come back */
        else
            look_at(g, n);
    }
    g->beats = beats;
    if (g->actors_pending && ms_since(g, g->retry_ns) >= TICK_IDLE_MS) {
        g->retry_ns = g->now;
        for (uint32_t i = 0; i < g->node_count; i++) gcs_place_row(g, g->nodes[i]);
        g->place_wanted = true;
    }
}
