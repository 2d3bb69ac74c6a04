/* gcs_nodes.c - the table of nodes: join, reports, silence, loss.
 *
 * Numbers start at 1 and are never used again; a lost node stays listed with its reason. Every
 * change of membership goes to all raylets as node_info; among more than TELL_ALL_MOST a newcomer
 * is told of when somebody asks (node_get): that every loss is told is n frames, not n * n. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "gcs/gcs_demand.h"
#include "gcs/gcs_groups.h"

enum { TELL_ALL_MOST = 64 };

struct gcs_node *gcs_node_find(struct gcs *g, uint32_t number) {
    return number >= 1 && number <= g->node_count ? g->nodes[number - 1] : NULL;
}

/* One span of a frame into another message's span. */
#define COPY_SPAN(b, to, to_field, from, m, from_field)                                        \
    do {                                                                                       \
        uint32_t n_;                                                                           \
        const void *p_ = wire_##from##_##from_field((m), &n_);                                 \
        WIRE_PUT((b), to, to_field, p_, n_ * sizeof(*wire_##from##_##from_field((m), &n_)));   \
    } while (0)

void gcs_node_frame(const struct gcs_node *n, struct wire_buf *b) {
    const struct wire_node_register *m = n->registered;
    struct wire_node_info *out = wire_begin(b, WIRE_NODE_INFO);
    uint8_t packed[RESOURCES_MAX * 80];
    uint32_t len;

    out->node_id = m->node_id;
    out->arena_bytes = m->arena_bytes;
    out->arena_used = n->arena_used;
    out->node = n->number;
    out->state = n->alive;
    out->suspect = n->alive && (n->health.suspect || n->draining);
    out->port = m->port;
    out->pid = m->pid;
    out->is_head = m->is_head;
    out->outpost = m->outpost;
    (void)wire_node_register_ip(m, &len);
    if (len == 0 && n->ip)
        WIRE_PUT(b, node_info, ip, n->ip, strlen(n->ip));
    else
        COPY_SPAN(b, node_info, ip, node_register, m, ip);
    COPY_SPAN(b, node_info, hostname, node_register, m, hostname);
    COPY_SPAN(b, node_info, name, node_register, m, name);
    COPY_SPAN(b, node_info, socket_path, node_register, m, socket_path);
    COPY_SPAN(b, node_info, total, node_register, m, resources);
    WIRE_PUT(b, node_info, available, packed, resources_pack(&n->reported, packed, sizeof packed));
    COPY_SPAN(b, node_info, labels, node_register, m, labels);
    WIRE_PUT(b, node_info, reason, n->reason, strlen(n->reason));
}

static void tell_node(struct gcs *g, const struct gcs_node *about, uint64_t link) {
    struct wire_buf b;

    gcs_says(g, about->batch);
    wire_init(&b, NULL, 0);
    gcs_node_frame(about, &b);
    gcs_send_link(g, link, &b);
}

static void tell_all(struct gcs *g, const struct gcs_node *n, uint32_t but) {
    struct wire_buf b;

    gcs_says(g, n->batch);
    wire_init(&b, NULL, 0);
    gcs_node_frame(n, &b);
    gcs_send_nodes(g, &b, but);
}

void gcs_node_welcome(struct gcs *g, const struct gcs_from *from, const struct gcs_node *n,
                      int status, const char *reason) {
    struct wire_buf b;
    struct wire_node_welcome *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_WELCOME);
    m->node = n ? n->number : 0;
    m->status = status;
    m->epoch = g->opts.epoch;
    m->resumed = n && n->returning;
    m->no_log = !g->opts.records;
    m->head.call = from->call;
    m->head.flags = from->call ? WIRE_REPLY : 0;
    WIRE_PUT(&b, node_welcome, reason, reason, strlen(reason));
    gcs_send_link(g, from->link, &b);
    if (status < 0) gcs_close_link(g, from->link);
}

/* Is there a living node of this id? One that joins anew has the number of its newest life. */
static bool lives(struct gcs *g, const struct skate_id *id) {
    uint32_t at;

    for (; g->ids_known < g->node_count; g->ids_known++) {
        const struct wire_node_register *m = g->nodes[g->ids_known]->registered;

        SKATE_ASSERT(map_put(&g->node_ids, &m->node_id, g->ids_known) == 0);
    }
    at = map_get(&g->node_ids, id);
    return at != MAP_NONE && g->nodes[at]->alive;
}

/* 0, or why this node cannot join. */
static int judge(struct gcs *g, const struct wire_node_register *m, struct resources *ret,
                 char reason[GCS_REASON]) {
    uint32_t len;
    const uint8_t *packed = wire_node_register_resources(m, &len);

    if (m->version != WIRE_VERSION) {
        (void)snprintf(reason, GCS_REASON, "the node speaks protocol version %u, the cluster %d",
                       m->version, WIRE_VERSION);
        return -SKATE_EVERSION;
    }
    if (m->head.size > 1 << 20 || m->port > 65535 || resources_unpack(ret, packed, len) < 0 ||
        m->labels.len >= LABELS_MAX) {
        (void)snprintf(reason, GCS_REASON, "its registration is malformed");
        return -SKATE_EPROTO;
    }
    if (g->node_count >= g->opts.nodes_max) {
        (void)snprintf(reason, GCS_REASON, "the cluster has had its %u nodes", g->opts.nodes_max);
        return -SKATE_EFULL;
    }
    if (lives(g, &m->node_id)) {
        (void)snprintf(reason, GCS_REASON, "a node with this id is in the cluster already");
        return -SKATE_EEXIST;
    }
    return 0;
}

/* The living node that has this one's slot, or NULL. */
static struct gcs_node *rival(struct gcs *g, const struct wire_node_register *m) {
    uint32_t len, its_len;
    const char *slot = wire_node_register_slot(m, &len), *its;

    for (uint32_t i = g->node_count; len && i-- > 0;) {
        if (!g->nodes[i]->alive) continue;
        its = wire_node_register_slot(g->nodes[i]->registered, &its_len);
        if (its_len == len && memcmp(its, slot, len) == 0) return g->nodes[i];
    }
    return NULL;
}

/* The slot is free, or its node is gone with its link and is dead from now on. False: it is not.
 * One that is restored may live, and has not had the time to come back. */
static bool vacate(struct gcs *g, const struct wire_node_register *m, char reason[GCS_REASON]) {
    struct gcs_node *n = rival(g, m);

    if (n && (n->link || n->restored)) {
        (void)snprintf(reason, GCS_REASON, "node %u, which lives, has its slot", n->number);
        return false;
    }
    if (n) gcs_node_lost(g, n, "its connection ended, and another node has taken its slot");
    return true;
}

bool gcs_nodes_many(const struct gcs *g) {
    uint32_t living = 0;

    for (uint32_t i = 0; i < g->node_count && living <= TELL_ALL_MOST; i++)
        living += g->nodes[i]->alive;
    return living > TELL_ALL_MOST;
}

void gcs_node_get(struct gcs *g, const struct gcs_from *from, const struct wire_node_get *m) {
    const struct gcs_node *n = gcs_node_find(g, m->node);

    if (n && !from->src) tell_node(g, n, from->link);
}

void gcs_node_tell_all(struct gcs *g, const struct gcs_node *n) {
    bool many = gcs_nodes_many(g);

    for (uint32_t i = 0; i < g->node_count; i++) {
        if (!g->nodes[i]->alive) continue;
        tell_node(g, g->nodes[i], n->link);
        if (many && g->nodes[i] != n) break; /* that it is not alone */
    }
    for (uint32_t i = 0; i < g->job_count; i++) {
        struct wire_buf b;

        gcs_says(g, g->jobs[i]->batch);
        if (!g->jobs[i]->live) { /* what works for its detached actors may come there */
            gcs_job_tell_ended(g, i + 1, n->link);
            continue;
        }
        wire_init(&b, NULL, 0);
        gcs_job_frame(g->jobs[i], &b);
        gcs_send_link(g, n->link, &b);
    }
}

void gcs_node_register(struct gcs *g, const struct gcs_from *from,
                       const struct wire_node_register *m, const char *peer_ip) {
    char reason[GCS_REASON] = "";
    struct resources total;
    struct skate_id key = map_key(from->link);
    struct sched_node *row;
    struct gcs_node *n;
    const void *labels;
    uint32_t labels_len;
    int r;

    if (m->epoch > g->opts.epoch) { /* one that came later has taken over: nothing changes here */
        g->out->fenced = true;
        return;
    }
    if (m->node) {
        gcs_node_return(g, from, m);
        return;
    }
    r = judge(g, m, &total, reason);
    if (r == 0 && !vacate(g, m, reason)) r = -SKATE_EAGAIN;
    if (r < 0) {
        gcs_node_welcome(g, from, NULL, r, reason);
        return;
    }
    n = gcs_alloc(sizeof *n);
    if (g->node_count == g->node_cap) g->nodes = gcs_grow(g->nodes, &g->node_cap, sizeof *g->nodes);
    g->nodes[g->node_count++] = n;
    n->number = g->node_count;
    n->alive = true;
    n->link = from->link;
    n->heard_ns = n->health.turned_ns = g->now;
    g->watched = true;
    n->reported = n->loading = total;
    for (uint32_t i = 0; i < n->loading.count; i++) n->loading.v[i].amount = 0;
    n->reserving = n->loading;
    n->registered = gcs_copy(m, m->head.size);
    n->ip = gcs_copy(peer_ip, strlen(peer_ip) + 1);
    if (m->is_head && (!g->head || !g->nodes[g->head - 1]->link)) g->head = n->number;
    SKATE_ASSERT(map_put(&g->links, &key, n->number) == 0);
    row = sched_view_add(&g->view, n->number);
    SKATE_ASSERT(row);
    row->alive = !m->outpost;
    row->total = row->avail = total;
    labels = wire_node_register_labels(m, &labels_len);
    (void)labels_copy(row->labels, labels, labels_len);
    sched_view_reshape(&g->view, row);
    sched_view_settle(&g->view); /* of ten thousand that join, no pick pays for all */
    gcs_demand_nodes(g);
    gcs_dirty_node(g, n);
    gcs_node_welcome(g, from, n, 0, "");
    gcs_node_tell_all(g, n);
    if (!gcs_nodes_many(g)) tell_all(g, n, n->number);
    g->place_wanted = true;
}

static bool has_more(const struct resources *a, const struct resources *b) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->v[i].amount > resources_amount(b, a->v[i].name)) return true;
    return false;
}

void gcs_node_has(struct gcs *g, struct gcs_node *n, const struct resources *avail) {
    struct sched_node *row = sched_view_find(&g->view, n->number);
    struct resources was = row->avail;
    bool room;

    row->avail = *avail;
    for (uint32_t i = 0; i < row->avail.count; i++) { /* no more than it has is believed */
        struct resource *e = &row->avail.v[i];
        int64_t total = resources_amount(&row->total, e->name);

        if (e->amount > total) e->amount = total;
    }
    n->reported = row->avail;
    resources_take(&row->avail, &n->loading);
    resources_take(&row->avail, &n->reserving);
    room = n->stale || has_more(&row->avail, &was);
    n->stale = n->health.suspect || n->returning;
    sched_view_touch(&g->view, row);
    gcs_place_row(g, n);
    if (room) gcs_demand_room(g, row);
    if (room && (g->actors_pending || g->groups.unplaced)) g->place_wanted = true;
}

void gcs_node_report(struct gcs *g, struct gcs_node *n, const struct wire_node_report *m) {
    struct resources avail;
    uint32_t len;
    const uint8_t *packed = wire_node_report_available(m, &len);

    if (resources_unpack(&avail, packed, len) < 0) return;
    n->arena_used = m->arena_used;
    gcs_node_has(g, n, &avail);
}

void gcs_node_lost(struct gcs *g, struct gcs_node *n, const char *why) {
    struct sched_node *row = sched_view_find(&g->view, n->number);
    const struct wire_node_register *m = n->registered;
    char text[GCS_REASON + 64];
    const char *ip;
    uint32_t len;

    SKATE_ASSERT(n->alive && row);
    n->alive = false;
    gcs_place_row(g, n);
    if (why != n->reason) (void)snprintf(n->reason, sizeof n->reason, "%s", why);
    if (n->number == g->head) g->out->head_lost = true;
    gcs_dirty_node(g, n);
    tell_all(g, n, n->number);
    ip = wire_node_register_ip(m, &len);
    if (len == 0) ip = n->ip ? n->ip : "?";
    (void)snprintf(text, sizeof text, "node %u was lost: %s (raylet process %u at %.*s)", n->number,
                   n->reason, m->pid, len ? (int)len : 64, ip);
    gcs_groups_node_lost(g, n->number);
    gcs_demand_node_lost(g, n->number);
    gcs_unsubscribe(g, proc_make(n->number, 0), true);
    for (uint32_t i = 0; i < g->job_count; i++)
        if (g->jobs[i]->live && proc_node(g->jobs[i]->driver) == n->number)
            gcs_job_end(g, g->jobs[i], text);
    for (uint32_t i = 0; i < g->actor_slots; i++) {
        struct gcs_actor *a = g->actors[i];

        if (!a || a->state == GCS_DEAD) continue;
        if (proc_node(a->owner) == n->number && !(a->flags & 1))
            gcs_actor_end(g, a, "its owner's node was lost", true);
        else if (a->node == n->number && a->state == GCS_STARTING)
            gcs_actor_again(g, a);
        else if (a->node == n->number && a->state == GCS_ALIVE)
            gcs_actor_lost(g, a, text, false);
    }
}

void gcs_node_drain(struct gcs *g, const struct gcs_from *from, const struct wire_node_drain *m) {
    struct gcs_node *n = gcs_node_find(g, m->node);

    if (!n || !n->alive) {
        gcs_reply_status(g, from, -SKATE_ENOENT, "there is no such node, or it is dead");
        return;
    }
    if (n->draining != (m->on != 0)) {
        n->draining = m->on != 0;
        (void)snprintf(n->reason, sizeof n->reason, "%s", m->on ? "it is to be ended" : "");
        gcs_place_row(g, n);
        tell_all(g, n, n->number);
        g->place_wanted = true;
    }
    if (m->on == 2) {
        static const char why[] = "it was told to end";
        struct wire_buf b;

        wire_init(&b, NULL, 0);
        (void)wire_begin(&b, WIRE_STOP);
        WIRE_PUT(&b, stop, reason, why, sizeof why - 1);
        gcs_send_link(g, n->link, &b); /* its link is away: it is asked again, or is dead soon */
    }
    gcs_reply_status(g, from, 0, "");
}

void gcs_node_bye(struct gcs *g, struct gcs_node *n, const struct wire_node_bye *m) {
    uint64_t link = n->link;
    char why[256];
    uint32_t len;
    const char *reason = wire_node_bye_reason(m, &len);

    (void)snprintf(why, sizeof why, "it ended: %.*s", len < 200 ? (int)len : 200, reason);
    gcs_node_lost(g, n, why);
    gcs_close_link(g, link);
}
