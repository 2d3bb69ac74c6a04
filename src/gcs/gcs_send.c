/* gcs_send.c - outputs: frames for links, for processes (wrapped in `route`), for all nodes.
 *
 * Outputs gather in the step's gcs_out; a frame for all nodes is stored once. What is for a node
 * that is not there any more is dropped: its processes are dead, too. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_int.h"

static void add_send(struct gcs_out *out, uint64_t link, uint32_t at, uint32_t len) {
    if (out->count == out->cap) out->sends = gcs_grow(out->sends, &out->cap, sizeof *out->sends);
    out->sends[out->count++] = (struct gcs_send){.link = link, .at = at, .len = len};
}

enum { STEP_BYTES_MAX = 3 << 29 };
#define NO_ROOM UINT32_MAX

/* What one step may say in all is bounded: what is beyond is not said (NO_ROOM). */
static uint32_t add_bytes(struct gcs_out *out, const void *data, uint32_t len) {
    uint32_t at = (out->used + 7) & ~7u;

    if (len > STEP_BYTES_MAX || at > STEP_BYTES_MAX - len) return NO_ROOM;
    if (out->room < at + len) {
        uint64_t room = out->room ? out->room : 4096;

        while (room < (uint64_t)at + len) room *= 2;
        if (room > UINT32_MAX) room = UINT32_MAX;
        out->bytes = realloc(out->bytes, room);
        SKATE_ASSERT(out->bytes);
        out->room = (uint32_t)room;
    }
    memset(out->bytes + out->used, 0, at - out->used);
    memcpy(out->bytes + at, data, len);
    out->used = at + len;
    return at;
}

void gcs_send_link(struct gcs *g, uint64_t link, struct wire_buf *b) {
    if (link && wire_end(b) == 0) {
        uint32_t at = add_bytes(g->out, b->p, b->len);

        if (at != NO_ROOM)
            add_send(g->out, link, at, b->len);
        else /* a raylet that misses something is of no use: it is lost, and says so */
            gcs_close_link(g, link);
    }
    wire_release(b);
}

void gcs_send_proc(struct gcs *g, uint64_t proc, struct wire_buf *b) {
    struct gcs_node *n = gcs_node_find(g, proc_node(proc));
    struct wire_buf route;
    struct wire_route *m;

    if (n && n->alive && wire_end(b) == 0) {
        wire_init(&route, NULL, 0);
        m = wire_begin(&route, WIRE_ROUTE);
        m->dst = proc;
        m->src = SKATE_GCS;
        WIRE_PUT(&route, route, frame, b->p, b->len);
        gcs_send_link(g, n->link, &route);
    }
    wire_release(b);
}

void gcs_send_nodes(struct gcs *g, struct wire_buf *b, uint32_t but) {
    if (wire_end(b) == 0) {
        uint32_t at = add_bytes(g->out, b->p, b->len);

        for (uint32_t i = 0; at != NO_ROOM && i < g->node_count; i++)
            if (g->nodes[i]->alive && g->nodes[i]->link && g->nodes[i]->number != but)
                add_send(g->out, g->nodes[i]->link, at, b->len);
    }
    wire_release(b);
}

void gcs_reply(struct gcs *g, const struct gcs_from *to, struct wire_buf *b) {
    struct wire_head *head = (struct wire_head *)(void *)b->p;

    if (!to->call || b->failed) {
        wire_release(b);
        return;
    }
    head->call = to->call;
    head->flags |= WIRE_REPLY;
    if (to->src)
        gcs_send_proc(g, to->src, b);
    else
        gcs_send_link(g, to->link, b);
}

void gcs_reply_status(struct gcs *g, const struct gcs_from *to, int status, const char *reason) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_status *)wire_begin(&b, WIRE_STATUS))->status = status;
    WIRE_PUT(&b, status, reason, reason, strlen(reason));
    gcs_reply(g, to, &b);
}

void gcs_close_link(struct gcs *g, uint64_t link) {
    add_send(g->out, link, 0, 0);
    g->out->sends[g->out->count - 1].close = true;
}
