/* gcs.c - one step of the control store: who speaks, what it is, who handles it. See gcs.h.
 *
 * A raylet speaks plainly on its link; a process speaks through its raylet's `route` to process 0.
 * A frame that makes no sense is dropped, and one that a stranger sends before node_register ends
 * its link. Placement runs once at the end of a step that may have made room.
 * Tests: tests/unit/gcs_test.c. */
#include "gcs/gcs_demand.h"
#include "gcs/gcs_groups.h"
#include "gcs/gcs_said.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

void *gcs_alloc(size_t bytes) {
    void *p = calloc(1, bytes ? bytes : 1);

    SKATE_ASSERT(p);
    return p;
}

void *gcs_copy(const void *data, size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);

    SKATE_ASSERT(p);
    if (bytes) memcpy(p, data, bytes);
    return p;
}

void *gcs_grow(void *array, uint32_t *cap, size_t element) {
    uint32_t more = *cap ? *cap * 2 : 16;
    void *p = realloc(array, more * element);

    SKATE_ASSERT(p);
    *cap = more;
    return p;
}

static uint64_t fold(uint64_t h, const char *p, uint32_t len) {
    for (uint32_t i = 0; i < len; i++) h = (h ^ (uint8_t)p[i]) * UINT64_C(0x100000001b3);
    return (h ^ h >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

/* 128 bits that stand for a pair of texts; holders compare the texts, too. */
struct skate_id gcs_text_key(const char *a, uint32_t a_len, const char *b, uint32_t b_len) {
    struct skate_id key;

    key.owner = fold(fold(UINT64_C(0xcbf29ce484222325), a, a_len) + 1, b, b_len);
    key.seq = fold(fold(UINT64_C(0x9ae16a3b2f90404f), a, a_len) + 1, b, b_len);
    return key;
}

int gcs_new(const struct gcs_opts *opts, struct gcs **ret) {
    struct gcs *g = calloc(1, sizeof *g);

    if (!g) return -SKATE_ENOMEM;
    g->opts = *opts;
    if (!g->opts.nodes_max) g->opts.nodes_max = POLICY_NODES_MAX;
    if (!g->opts.jobs_max) g->opts.jobs_max = 65536;
    if (!g->opts.actors_max) g->opts.actors_max = 100000;
    if (!g->opts.dead_max) g->opts.dead_max = 10000;
    if (!g->opts.subs_max) g->opts.subs_max = 1000000;
    if (!g->opts.spec_bytes) g->opts.spec_bytes = UINT64_C(1) << 30;
    if (!g->opts.kv_bytes) g->opts.kv_bytes = UINT64_C(1) << 30;
    if (!g->opts.groups_max) g->opts.groups_max = 10000;
    if (!g->opts.heartbeat_ms) g->opts.heartbeat_ms = 5000;
    if (!g->opts.epoch) g->opts.epoch = 1;
    g->pending = g->pending_last = g->dead_first = g->dead_last = MAP_NONE;
    *ret = g;
    return 0;
}

void gcs_actor_release(struct gcs_actor *a) {
    if (!a) return;
    free(a->create);
    free(a->failure);
    free(a->texts);
    free(a->held);
    free(a->reason);
    free(a->subs);
    free(a->extra);
    free(a);
}

struct gcs *gcs_free(struct gcs *g) {
    if (!g) return NULL;
    gcs_demand_release(g);
    gcs_said_release(g);
    for (uint32_t i = 0; i < g->node_count; i++) {
        free(g->nodes[i]->registered);
        free(g->nodes[i]->ip);
        free(g->nodes[i]);
    }
    for (uint32_t i = 0; i < g->job_count; i++) {
        free(g->jobs[i]->space);
        free(g->jobs[i]->config);
        free(g->jobs[i]->entry);
        free(g->jobs[i]);
    }
    for (uint32_t i = 0; i < g->actor_slots; i++) gcs_actor_release(g->actors[i]);
    gcs_dirty_release(g);
    gcs_restore_release(g);
    free(g->refusing);
    gcs_kv_release(g);
    gcs_groups_release(g);
    sched_view_release(&g->view);
    free(g->loaded);
    free(g->doubted);
    map_release(&g->links);
    map_release(&g->node_ids);
    map_release(&g->actor_ids);
    map_release(&g->actor_names);
    map_release(&g->actor_procs);
    free(g->nodes);
    free(g->jobs);
    free(g->actors);
    free(g->free_slots);
    free(g);
    return NULL;
}

void gcs_out_release(struct gcs_out *out) {
    free(out->sends);
    free(out->bytes);
    *out = (struct gcs_out){0};
}

void gcs_count(const struct gcs *g, struct gcs_counts *ret) {
    *ret = (struct gcs_counts){.actors_live = g->actors_live, .actors_pending = g->actors_pending,
                               .actors_dead = g->actors_dead, .subs = g->subs,
                               .spec_bytes = g->spec_bytes, .kv_bytes = g->kv_bytes};
    for (uint32_t i = 0; i < g->node_count; i++) ret->nodes_alive += g->nodes[i]->alive;
    for (uint32_t i = 0; i < g->job_count; i++) ret->jobs_live += g->jobs[i]->live;
}

/* ------------------------------------------------------------------ what came */

static void on_job_end(struct gcs *g, const struct wire_job_end *m) {
    struct gcs_job *j = gcs_job_find(g, m->job);

    if (j && (m->driver == 0 || m->driver == j->driver)) gcs_job_end(g, j, "the job has ended");
}

static void on_ping(struct gcs *g, const struct gcs_from *from, const struct wire_ping *m) {
    struct wire_buf b;
    uint64_t stack[8];

    if (!from->call) return; /* a bare sign of life */
    wire_init(&b, stack, sizeof stack);
    ((struct wire_ping *)wire_begin(&b, WIRE_PING))->stamp = m->stamp;
    gcs_reply(g, from, &b);
}

/* Nothing can be kept now: say so in the words of the question. true: it was one that changes. */
static bool refuse(struct gcs *g, const struct gcs_from *from, const void *m) {
    uint16_t kind = wire_head(m)->kind;

    if (from->again) { /* it may be done already: it waits for the log, as its first answer does */
        g->out->acks = true;
        return false;
    }
    if (kind == WIRE_JOB_START)
        gcs_job_answer(g, from, 0, -SKATE_EIO, g->refusing);
    else if (kind == WIRE_ACTOR_CREATE)
        gcs_actor_answer(g, from, &((const struct wire_actor_create *)m)->actor, -SKATE_EIO,
                         g->refusing);
    else if (kind == WIRE_KV_PUT || kind == WIRE_KV_DEL || kind == WIRE_GROUP_CREATE)
        gcs_reply_status(g, from, -SKATE_EIO, g->refusing);
    else
        return false;
    return true;
}

/* What raylets say for themselves, and no process. */
static bool is_of_raylets(uint16_t kind) {
    return kind == WIRE_ACTOR_REFUSED || kind == WIRE_NODE_GET || kind == WIRE_DEMAND_REPORT ||
           kind == WIRE_GROUP_RESERVED;
}

/* A message from a raylet or, unwrapped, from a process. Each call of a process is answered: its
 * raylet keeps it until then. */
static void on_message(struct gcs *g, const struct gcs_from *from, const void *m) {
    uint16_t kind = wire_head(m)->kind;

    if (g->refusing && refuse(g, from, m)) return;
    if (kind == WIRE_JOB_END || kind == WIRE_ACTOR_READY || kind == WIRE_ACTOR_UNUSED)
        gcs_reply_status(g, from, 0, ""); /* nobody asks, as a rule */
    switch (from->src && is_of_raylets(kind) ? 0 : kind) {
        case WIRE_JOB_START: gcs_job_start(g, from, m); break;
        case WIRE_JOB_END: on_job_end(g, m); break;
        case WIRE_ACTOR_CREATE: gcs_actor_create(g, from, m); break;
        case WIRE_ACTOR_SUB: gcs_actor_sub(g, from, m); break;
        case WIRE_ACTOR_READY: gcs_actor_ready(g, from, m); break;
        case WIRE_ACTOR_REFUSED: gcs_actor_refused(g, m); break;
        case WIRE_ACTOR_KILL: gcs_actor_kill(g, from, m); break;
        case WIRE_ACTOR_UNUSED: gcs_actor_unused(g, m); break;
        case WIRE_ACTOR_BY_NAME: gcs_actor_by_name(g, from, m); break;
        case WIRE_LIST: gcs_list(g, from, m); break;
        case WIRE_KV_PUT: gcs_kv_put(g, from, m); break;
        case WIRE_KV_GET: gcs_kv_get(g, from, m); break;
        case WIRE_KV_DEL: gcs_kv_del(g, from, m); break;
        case WIRE_KV_LIST: gcs_kv_list(g, from, m); break;
        case WIRE_WHY_REQ: gcs_why(g, from, m); break;
        case WIRE_NODE_DRAIN: gcs_node_drain(g, from, m); break;
        case WIRE_PING: on_ping(g, from, m); break;
        case WIRE_GROUP_CREATE: gcs_group_create(g, from, m); break;
        case WIRE_GROUP_REMOVE: gcs_group_remove(g, from, m); break;
        case WIRE_GROUP_GET: gcs_group_get(g, from, m); break;
        case WIRE_NODE_GET: gcs_node_get(g, from, m); break;
        case WIRE_DEMAND_REPORT: gcs_demand_report(g, from, m); break;
        case WIRE_GROUP_RESERVED: gcs_group_reserved(g, from, m); break;
        default:
            if (from->call)
                gcs_reply_status(g, from, -SKATE_EPROTO, "the GCS takes no such message");
    }
}

/* Of a node that is in the cluster. */
static void on_node_frame(struct gcs *g, struct gcs_from *from, const struct gcs_event *e) {
    const struct wire_head *head = e->frame;

    if (head->kind == WIRE_NODE_REPORT)
        gcs_node_report(g, from->node, e->frame);
    else if (head->kind == WIRE_NODE_STATE)
        gcs_node_state(g, from->node, e->frame);
    else if (head->kind == WIRE_NODE_BYE)
        gcs_node_bye(g, from->node, e->frame);
    else if (head->kind == WIRE_NODE_SAID)
        gcs_said(g, from->node, e->frame);
    else if (head->kind == WIRE_PROC_DIED)
        gcs_proc_died(g, e->frame);
    else if (head->kind == WIRE_ROUTE) {
        const struct wire_route *m = e->frame;
        uint32_t len;
        const uint8_t *inner = wire_route_frame(m, &len);

        if (m->dst != SKATE_GCS || wire_check(inner, len) < 0) return;
        if (m->src && proc_node(m->src) != from->node->number) return; /* not of that raylet */
        from->src = m->src;
        from->call = wire_head(inner)->call;
        on_message(g, from, inner);
    } else
        on_message(g, from, e->frame);
}

static void on_frame(struct gcs *g, const struct gcs_event *e) {
    const struct wire_head *head = e->frame;
    struct skate_id key = map_key(e->link);
    struct gcs_from from = {.link = e->link, .call = head->call,
                            .again = (head->flags & WIRE_AGAIN) != 0};

    from.node = gcs_node_find(g, map_get(&g->links, &key));
    if (!from.node) {
        if (head->kind == WIRE_NODE_REGISTER)
            gcs_node_register(g, &from, e->frame, e->peer_ip ? e->peer_ip : "");
        else if (head->kind == WIRE_BEAT)
            gcs_health_beat(g, &from, e->frame);
        else
            gcs_close_link(g, e->link);
        return;
    }
    if (!from.node->alive) return; /* declared dead; its link is being closed */
    gcs_health_heard(g, from.node);
    on_node_frame(g, &from, e);
    if (from.node->alive) gcs_node_got(g, from.node, head->kind);
}

void gcs_step(struct gcs *g, const struct gcs_event *event, int64_t now_ns, struct gcs_out *out) {
    out->count = out->used = out->probe_count = 0;
    out->changed = out->acks = out->head_lost = out->fenced = false;
    g->out = out;
    g->now = now_ns;
    if (event->kind == GCS_FRAME)
        on_frame(g, event);
    else if (event->kind == GCS_TICK)
        gcs_health_tick(g);
    else if (event->kind == GCS_PROBED)
        gcs_health_probed(g, (uint32_t)event->link, event->refused);
    else {
        struct skate_id key = map_key(event->link);
        struct gcs_node *n = gcs_node_find(g, map_get(&g->links, &key));

        if (n && n->alive && n->link == event->link)
            gcs_node_away(g, n, event->text ? event->text : "its connection ended");
        (void)map_remove(&g->links, &key);
    }
    if (g->groups.sweep_wanted) {
        g->groups.sweep_wanted = false;
        gcs_groups_sweep(g);
    }
    if (g->place_wanted) {
        g->place_wanted = false;
        gcs_groups_place(g);
        gcs_place_all(g);
    }
    gcs_demand_place(g);
    gcs_health_tell(g);
    out->tick_ms = gcs_health_tick_ms(g);
    g->out = NULL;
}
