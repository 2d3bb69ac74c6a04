/* routes.c - a frame for any process: to a process here, to ourselves, the GCS, another node.
 *
 * Only `dst` is looked at, with two exceptions on the way to the GCS: an actor_ready is noted, so
 * that the death of a worker before it can be told as the actor's; an actor_create makes us ask
 * idle leases back before the GCS looks for a free place. */
#include <string.h>

#include "base/assert.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"
#include "raylet/raylet.h"

static const struct wire_head *inner(const struct wire_route *m) {
    uint32_t len;
    const uint8_t *p = wire_route_frame(m, &len);

    return wire_check(p, len) < 0 ? NULL : (const struct wire_head *)(const void *)p;
}

static void to_node(struct raylet *r, const struct wire_route *m) {
    int e = links_to_node(r, proc_node(m->dst), m, m->head.size);

    if (e == -SKATE_EDEAD && !heirs_forward(r, m))
        death_answer(r, m->dst, m->src);
    else if (e < 0 && e != -SKATE_EDEAD)
        node_log("a frame for node %u is lost: %s", proc_node(m->dst), skate_strerror(e));
}

static void to_here(struct raylet *r, const struct wire_route *m) {
    const struct wire_head *head;
    struct proc *p;

    if (proc_number(m->dst) == 0) {
        head = inner(m);
        /* Never a route in a route: whoever nests them deep enough would end our stack. */
        if (head && head->kind != WIRE_ROUTE) inbox_frame(r, m->src, head);
        return;
    }
    p = proc_find(r, m->dst);
    if (p && p->state != PROC_DOOMED)
        proc_send(p, m, m->head.size);
    else if (!p && !heirs_forward(r, m)) /* a doomed one's end is told to all when it is known */
        death_answer(r, m->dst, m->src);
}

static void note_actor(struct raylet *r, struct proc *p, const struct wire_route *m) {
    const struct wire_head *head = inner(m);

    if (!head) return;
    if (head->kind == WIRE_ACTOR_READY) p->actor_told = true;
    if (head->kind == WIRE_ACTOR_CREATE)
        actor_host_coming(r, (const struct wire_actor_create *)(const void *)head);
}

/* from: the local process that sent it; 0: another daemon. */
void route_frame(struct raylet *r, const struct wire_route *m, uint64_t from) {
    if (from && m->src != from) return; /* nobody speaks for another */
    if (m->dst == SKATE_GCS) {
        struct proc *p = proc_find(r, from);

        gcs_link_send(r, m, m->head.size);
        if (p) note_actor(r, p, m);
    } else if (proc_node(m->dst) == r->node) {
        to_here(r, m);
        if (!from && proc_number(m->dst)) loop_expect(r->loop, LOOP_FROM_HERE);
    } else {
        to_node(r, m);
        if (from) loop_expect(r->loop, LOOP_FROM_FAR);
    }
}

void route_send(struct raylet *r, uint64_t dst, const void *frame, uint32_t len) {
    uint64_t room[256];
    struct wire_buf b;
    struct wire_route *m;
    struct proc *p;

    if (dst == SKATE_GCS) {
        gcs_link_send(r, frame, len);
        return;
    }
    if (proc_node(dst) == r->node) {
        p = proc_find(r, dst);
        if (p)
            proc_send(p, frame, len);
        else if (dst == r->self)
            inbox_frame(r, r->self, frame);
        return;
    }
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_ROUTE);
    m->dst = dst;
    m->src = r->self;
    WIRE_PUT(&b, route, frame, frame, len);
    if (wire_end(&b) == 0 && links_to_node(r, proc_node(dst), b.p, b.len) < 0)
        node_log("a %s for node %u is lost", wire_name(wire_head(frame)->kind), proc_node(dst));
    wire_release(&b);
}

void route_as(struct raylet *r, uint64_t dst, uint64_t src, const void *frame, uint32_t len) {
    uint64_t room[64];
    struct wire_route *m;
    struct wire_buf b;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_ROUTE);
    m->dst = dst;
    m->src = src;
    WIRE_PUT(&b, route, frame, frame, len);
    if (wire_end(&b) == 0) route_frame(r, (const struct wire_route *)(const void *)b.p, 0);
    wire_release(&b);
}
