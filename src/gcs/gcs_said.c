/* gcs_said.c - what raylets say of themselves: kept, and told to the drivers.
 *
 * Of each node that ever complained the last lines are kept, also when it is dead: that is when
 * people ask. Nothing of this outlives the GCS. Of one that says too much the oldest lines go; when
 * too many say something, all those of the node that was silent for longest.
 * Tests: tests/unit/gcs_said_test.c. */
#include "gcs/gcs_said.h"

#include <stdlib.h>
#include <string.h>

struct said {
    uint32_t node, used;
    uint64_t turn; /* when it last spoke */
    char *text;    /* SAID_BYTES of room */
};
struct gcs_saids {
    struct said v[SAID_NODES];
    uint32_t count;
    uint64_t turns;
};

static struct said *place_of(struct gcs *g, uint32_t node) {
    struct gcs_saids *all = g->saids;
    struct said *oldest;

    if (!all) all = g->saids = gcs_alloc(sizeof *all);
    oldest = &all->v[0];
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->v[i].node == node) return &all->v[i];
        if (all->v[i].turn < oldest->turn) oldest = &all->v[i];
    }
    if (all->count < SAID_NODES) oldest = &all->v[all->count++];
    if (!oldest->text) oldest->text = gcs_alloc(SAID_BYTES);
    oldest->node = node;
    oldest->used = 0;
    return oldest;
}

/* Whole lines go at the front until there is room. */
static void make_room(struct said *s, uint32_t len) {
    uint32_t gone = s->used + len > SAID_BYTES ? s->used + len - SAID_BYTES : 0;

    while (gone && gone < s->used && s->text[gone - 1] != '\n') gone++;
    memmove(s->text, s->text + gone, s->used - gone);
    s->used -= gone;
}

static void tell(struct gcs *g, const struct gcs_job *j, const struct gcs_node *n,
                 const struct gcs_text *lines) {
    struct wire_notice *m;
    struct wire_buf b;
    uint32_t len;
    const char *name = wire_node_register_name(n->registered, &len);

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NOTICE);
    m->level = 1;
    m->kind = 3;
    m->job = j->number;
    WIRE_PUT(&b, notice, name, name, len);
    WIRE_PUT(&b, notice, text, lines->p, lines->len);
    gcs_send_proc(g, j->driver, &b);
}

/* For people's terminals: what is no plain text becomes '?', but for the ends of lines. */
static void clean(char *p, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        if (p[i] != '\n' && (p[i] < ' ' || p[i] > '~')) p[i] = '?';
}

void gcs_said(struct gcs *g, const struct gcs_node *n, const struct wire_node_said *m) {
    uint32_t len;
    const uint8_t *text = wire_node_said_text(m, &len);
    struct gcs_text lines;
    struct said *s;

    if (len == 0 || len > SAID_BYTES || text[len - 1] != '\n') return;
    s = place_of(g, n->number);
    s->turn = ++g->saids->turns;
    make_room(s, len);
    lines = (struct gcs_text){s->text + s->used, len};
    memcpy(s->text + s->used, text, len);
    clean(s->text + s->used, len);
    s->used += len;
    for (uint32_t i = 0; i < g->job_count; i++)
        if (g->jobs[i]->live) tell(g, g->jobs[i], n, &lines);
}

void gcs_said_list(const struct gcs *g, struct wire_row_list *r) {
    struct wire_node_said *m;
    struct wire_buf b;

    for (uint32_t i = 0; g->saids && i < g->saids->count; i++) {
        const struct said *s = &g->saids->v[i];

        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_NODE_SAID);
        m->node = s->node;
        WIRE_PUT(&b, node_said, text, s->text, s->used);
        wire_rows_add(r, &b);
    }
}

void gcs_said_release(struct gcs *g) {
    for (uint32_t i = 0; g->saids && i < g->saids->count; i++) free(g->saids->v[i].text);
    free(g->saids);
}
