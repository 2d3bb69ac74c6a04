/* pulls_fetch.c - how a copy comes here: chunks in order from one node at a time (pulls_int.h).
 *
 * It is asked of the holder, who may name another node that is receiving it (broadcast.c). When
 * a source fails: back to the holder, who then sends it himself; when that fails, all nodes are
 * asked once whether they have a whole copy. What has come stays, whoever sends the rest.
 *
 * What get() waits for comes before what wait() does, and that before arguments of tasks: as long
 * as one of a class is on its way, each of the lower classes has one chunk in flight only. */
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "raylet/links.h"
#include "raylet/pulls_int.h"

enum { SEARCHES_MAX = 64, SEARCH_NODES_MAX = 256, BY_WRITE = 16 * 1024 };
static const char NO_COPY[] = "its node is lost, and no other has a copy";

static void source_failed(struct raylet *r, struct copy *c, int status, const char *why);

static uint32_t window(const struct pulls *s, const struct copy *c) {
    if (s->flying >= FETCH_FLYING_MAX) return 1;
    for (int why = 0; why < (int)c->why; why++)
        if (s->open[why]) return 1;
    /* The first answer says whether somebody else is to send it. */
    if (!c->by_id && !c->direct && c->got == 0 && c->size >= BROADCAST_LEAST) return 1;
    return FETCH_WINDOW;
}

/* Keep a window of chunks on their way. */
static void more(struct raylet *r, struct copy *c) {
    uint32_t most = window(r->pulls, c);
    int e = 0;

    while (!c->searching && c->asked < c->size && c->in_flight < most) {
        struct near *near = links_near(r, c->source);
        uint32_t place = near_take(near);
        uint64_t left = c->size - c->asked;
        struct wire_bulk_get m = {
            .head = {.size = sizeof m, .kind = WIRE_BULK_GET, .fixed = sizeof m},
            .obj = c->id, .offset = c->remote + c->asked, .req = c->req, .start = c->remote,
            .whole = c->size, .size = left < FETCH_CHUNK ? left : FETCH_CHUNK, .at = c->asked,
            .place = place, .flags = (c->direct ? BULK_DIRECT : 0) | (c->by_id ? BULK_COPY : 0)};

        if (near_is_used(near) && !place && c->in_flight > 0) break; /* a place is free soon */
        e = links_bulk(r, c->source, &m, sizeof m);
        if (e < 0) near_give(near, place);
        if (e < 0) break;
        c->asked += m.size;
        c->in_flight++;
        r->pulls->flying++;
        most = window(r->pulls, c);
    }
    if (e < 0) source_failed(r, c, e, skate_strerror(e));
}

/* What still comes of the last attempt is nobody's. */
static bool forget_asked(struct pulls *s, struct copy *c) {
    table_take(&s->by_req, c->req);
    s->flying -= c->in_flight;
    c->in_flight = 0;
    c->asked = c->got;
    c->req = ++s->next_req;
    return table_set(&s->by_req, c->req, c) == 0;
}

static void from(struct raylet *r, struct copy *c, uint32_t node, bool by_id) {
    c->source = node;
    c->by_id = by_id;
    c->direct = c->direct || !by_id;
    c->still = 0;
    more(r, c);
}

/* Ask all nodes. */
static bool search(struct raylet *r, struct copy *c) {
    struct pulls *s = r->pulls;
    struct wire_copy_ask m = {.head = {.size = sizeof m, .kind = WIRE_COPY_ASK,
                                       .fixed = sizeof m},
                              .obj = c->id, .whole = c->size, .req = c->req, .node = r->node};
    uint64_t asked[SEARCH_NODES_MAX];

    if (c->searched || s->searches >= SEARCHES_MAX || links_count(r) > SEARCH_NODES_MAX)
        return false;
    c->searched = true;
    c->answers = links_to_all(r, &m, sizeof m, asked, SEARCH_NODES_MAX);
    if (c->answers == 0) return false;
    c->searching = true;
    c->still = 0;
    s->searches++;
    return true;
}

static void search_ends(struct pulls *s, struct copy *c) {
    if (!c->searching) return;
    c->searching = false;
    s->searches--;
}

static void source_failed(struct raylet *r, struct copy *c, int status, const char *why) {
    uint32_t holder = proc_node(c->holder);

    if (!forget_asked(r->pulls, c))
        pulls_fail(r, c, -SKATE_ENOMEM, "out of memory");
    else if (c->by_id && holder != r->node && !links_is_dead(r, holder))
        from(r, c, holder, false);
    else if (!search(r, c))
        pulls_fail(r, c, status, why);
}

void pulls_copy_asked(struct raylet *r, const struct wire_copy_ask *m) {
    const struct copy *c = pulls_find_good(r, &m->obj);
    struct wire_copy_told told = {.head = {.size = sizeof told, .kind = WIRE_COPY_TOLD,
                                           .fixed = sizeof told},
                                  .req = m->req, .node = r->node,
                                  .have = c && c->ready && c->size == m->whole};

    if (m->node == 0 || m->node == r->node) return;
    if (links_to_node(r, m->node, &told, sizeof told) < 0)
        node_log("an answer to node %u is lost", m->node);
}

void pulls_copy_told(struct raylet *r, const struct wire_copy_told *m) {
    struct copy *c = table_get(&r->pulls->by_req, m->req);

    if (!c || !c->searching || m->node == 0 || m->node == r->node) return;
    if (m->have) {
        search_ends(r->pulls, c);
        from(r, c, m->node, true);
    } else if (--c->answers == 0) {
        pulls_fail(r, c, -SKATE_EDEAD, NO_COPY);
    }
}

/* ---- begin and end ---- */

static void enlist(struct pulls *s, struct copy *c, enum pull_why why) {
    c->why = why;
    c->next = s->open[why];
    c->link = &s->open[why];
    if (c->next) c->next->link = &c->next;
    s->open[why] = c;
}

static void delist(struct copy *c) {
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->next = NULL;
    c->link = NULL;
}

void fetch_begin(struct raylet *r, struct copy *c, enum pull_why why) {
    enlist(r->pulls, c, why);
    c->source = proc_node(c->holder);
    if (links_is_dead(r, c->source))
        source_failed(r, c, -SKATE_EDEAD, "its node is lost");
    else
        more(r, c);
}

static void on_kick(void *arg) {
    struct raylet *r = arg;

    for (int why = 0; why < PULL_WHYS; why++)
        for (struct copy *c = r->pulls->open[why], *next; c; c = next) {
            next = c->next;
            more(r, c);
        }
}

void fetch_hurry(struct raylet *r, struct copy *c, enum pull_why why) {
    if (!c->link || why >= c->why) return;
    delist(c);
    enlist(r->pulls, c, why);
    loop_post(r->loop, &r->pulls->kick);
}

void fetch_end(struct raylet *r, struct copy *c) {
    struct pulls *s = r->pulls;

    table_take(&s->by_req, c->req);
    s->flying -= c->in_flight;
    c->in_flight = 0;
    search_ends(s, c);
    broadcast_end(r, c);
    if (!c->link) return;
    delist(c);
    if (!s->open[c->why]) loop_post(r->loop, &s->kick);
}

bool fetch_any(const struct pulls *s) {
    for (int why = 0; why < PULL_WHYS; why++)
        if (s->open[why]) return true;
    return false;
}

void fetch_start(struct raylet *r) { loop_task_init(&r->pulls->kick, on_kick, r); }

/* ---- what comes ---- */

static uint32_t bytes_of(const struct wire_bulk_data *m) {
    return m->data.len ? m->data.len : m->len;
}

/* The copy that this chunk, from this node, is the next piece of; NULL: it was given up, or never
 * asked for. Chunks come in the order in which they were asked for. */
static struct copy *awaited(struct raylet *r, uint32_t node, const struct wire_bulk_data *m) {
    uint32_t len = bytes_of(m);
    struct copy *c = table_get(&r->pulls->by_req, m->req);

    if (!c || c->ready || c->source != node || c->in_flight == 0) return NULL;
    if (m->status == 0 && (m->pos != c->got || len == 0 || len > c->asked - c->got)) return NULL;
    return c;
}

void *pulls_place(struct raylet *r, uint32_t node, const struct wire_bulk_data *m, uint32_t at,
                  uint32_t len) {
    struct copy *c = m->status == 0 ? awaited(r, node, m) : NULL;

    if (!c || at < m->data.off || at - m->data.off > m->data.len ||
        len > m->data.len - (at - m->data.off))
        return NULL;
    return r->arena + c->offset + c->got + (at - m->data.off);
}

void pulls_placed(struct raylet *r, uint32_t node, const struct wire_bulk_data *m) {
    struct copy *c = awaited(r, node, m);

    near_give(links_near(r, node), m->place);
    if (!c) return;
    if (m->status < 0) {
        source_failed(r, c, m->status, "its node does not have it any more");
        return;
    }
    c->in_flight--;
    r->pulls->flying--;
    c->got += bytes_of(m);
    c->breaks = 0;
    broadcast_more(r, c);
    if (c->got < c->size) {
        more(r, c);
        return;
    }
    fetch_end(r, c);
    pulls_arrived(r, c);
}

/* By write: pages that are new get their bytes without a page fault and without being cleared. */
static void bring(struct raylet *r, uint64_t offset, const uint8_t *data, uint32_t len) {
    if (len < BY_WRITE || pwrite(r->arena_fd, data, len, (off_t)offset) != (ssize_t)len)
        memcpy(r->arena + offset, data, len);
}

void pulls_data(struct raylet *r, uint32_t node, const struct wire_bulk_data *m) {
    const struct copy *c = m->status == 0 ? awaited(r, node, m) : NULL;
    const uint8_t *data = near_at(links_near(r, node), m->place);
    uint32_t len = m->len;

    if (m->data.len) data = wire_bulk_data_data(m, &len);
    if (len > FETCH_CHUNK && !m->data.len) data = NULL;
    if (c && data) bring(r, c->offset + c->got, data, len);
    if (!c || data) {
        pulls_placed(r, node, m);
        return;
    }
    near_give(links_near(r, node), m->place);
    source_failed(r, table_get(&r->pulls->by_req, m->req), -SKATE_EPROTO, "an empty chunk");
}

/* The holder is busy sending it to another: that one passes it on. */
void pulls_instead(struct raylet *r, uint32_t node, const struct wire_bulk_instead *m) {
    struct copy *c = table_get(&r->pulls->by_req, m->req);

    near_give(links_near(r, node), m->place);
    if (!c || c->ready || c->by_id || c->source != node || c->searching) return;
    if (!forget_asked(r->pulls, c))
        pulls_fail(r, c, -SKATE_ENOMEM, "out of memory");
    else if (m->node == 0 || m->node == r->node || links_is_dead(r, m->node))
        from(r, c, node, false);
    else
        from(r, c, m->node, true);
}

/* ---- what fails ---- */

struct lost {
    uint64_t proc;
    const char *why;
};

/* Apply `step` to every copy on its way; it may drop the one it is given. */
static void each_open(struct raylet *r, void (*step)(struct raylet *, struct copy *,
                                                     const struct lost *),
                      const struct lost *l) {
    for (int why = 0; why < PULL_WHYS; why++)
        for (struct copy *c = r->pulls->open[why], *next; c; c = next) {
            next = c->next;
            step(r, c, l);
        }
}

/* A node that died may be one whose answer is waited for: ask those that live. */
static void search_again(struct raylet *r, struct copy *c) {
    search_ends(r->pulls, c);
    c->searched = false;
    if (!forget_asked(r->pulls, c))
        pulls_fail(r, c, -SKATE_ENOMEM, "out of memory");
    else if (!search(r, c))
        pulls_fail(r, c, -SKATE_EDEAD, NO_COPY);
}

static void lose(struct raylet *r, struct copy *c, const struct lost *l) {
    bool whole = proc_number(l->proc) == 0;

    if (c->searching && whole)
        search_again(r, c);
    else if (c->searching)
        return;
    else if (whole ? c->source == proc_node(l->proc) : !c->by_id && c->holder == l->proc)
        source_failed(r, c, -SKATE_EDEAD, l->why);
}

void pulls_holder_died(struct raylet *r, uint64_t holder, const char *why) {
    each_open(r, lose, &(struct lost){holder, why});
}

/* The connection broke, the node may live: on from what has come, a few times. */
static void again(struct raylet *r, struct copy *c, const struct lost *l) {
    if (c->searching || c->source != proc_node(l->proc)) return;
    if (c->breaks++ < FETCH_BREAKS_MAX && forget_asked(r->pulls, c))
        from(r, c, c->source, c->by_id);
    else
        source_failed(r, c, -SKATE_EDEAD, l->why);
}

void pulls_broken(struct raylet *r, uint32_t node, const char *why) {
    each_open(r, again, &(struct lost){proc_make(node, 0), why});
}

static void beat(struct raylet *r, struct copy *c, const struct lost *l) {
    (void)l;
    c->still = c->got == c->seen ? c->still + 1 : 0;
    c->seen = c->got;
    if (c->still < FETCH_STILL_MAX) return;
    if (c->searching)
        pulls_fail(r, c, -SKATE_EDEAD, NO_COPY);
    else if (c->by_id) /* a copy's place may wait for others; the holder says what is wrong */
        source_failed(r, c, -SKATE_EDEAD, "its node does not send it");
}

void pulls_beat(struct raylet *r) { each_open(r, beat, NULL); }
