/* link.c - paths to other processes: a channel of two rings on this node, or frames routed by the
 * raylet. Callers name a process and need not know which it is.
 *
 * Frames to one process keep their order: while a channel is being opened they wait in the link's
 * backlog, as they do when the ring is full. A frame larger than LIMIT_RING_FRAME lies in our own
 * extent and an INDIRECT takes its place on the ring. Under the core mutex; never sleeps, but for
 * the raylet's answer when an extent must be lent. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "core/core_int.h"

enum { AHEAD = 64 }; /* tasks kept for a channel that is being opened */

struct link *link_get(struct core *c, uint64_t proc) {
    struct skate_id key = map_key(proc);
    uint32_t i = map_get(&c->links, &key);
    struct link *l;

    if (i != MAP_NONE) return c->link_v[i];
    if (c->link_count == c->link_cap) {
        uint32_t cap = c->link_cap ? c->link_cap * 2 : 32;
        struct link **grown = realloc(c->link_v, cap * sizeof(void *));

        if (!grown) return NULL;
        c->link_v = grown;
        c->link_cap = cap;
    }
    l = calloc(1, sizeof *l);
    if (!l || map_put(&c->links, &key, c->link_count) < 0) return free(l), NULL;
    l->proc = proc;
    l->backlog.tail = &l->backlog.head;
    c->link_v[c->link_count++] = l;
    if (sweep_is_dead(c, proc)) { /* its link was freed */
        l->state = LINK_DEAD;
        l->death = strdup("it has ended");
        c->sweep.dirty = true;
    } else if (proc_node(proc) != proc_node(c->info.proc) || proc == c->info.proc)
        l->state = LINK_ROUTED; /* to ourselves, too: an actor may call itself */
    return l;
}

bool link_room(struct link *l, uint32_t len) {
    if (l->state == LINK_ROUTED) return true;
    if (l->state == LINK_NEW || l->state == LINK_ASKED) return l->backlog.count < AHEAD;
    return l->state == LINK_OPEN && !l->backlog.head &&
           ring_has_room(&l->out, len > LIMIT_RING_FRAME ? 64 : len);
}

/* Nothing is in flight there, so no result will tell when there is room: the reader shall. */
void link_want_room(struct core *c, struct link *l) {
    c->room_wanted = true;
    if (l->state != LINK_OPEN) return;
    at_store_seq(&l->out.shared->starved, 1);
    bell_ring(l->bell, l->peer_bit, BELL_URGENT);
}

static int route(struct core *c, uint64_t dst, const void *frame, uint32_t len) {
    uint64_t stack[512];
    struct wire_buf b;
    struct wire_route *m;
    int r;

    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_ROUTE);
    m->dst = dst;
    m->src = c->info.proc;
    WIRE_PUT(&b, route, frame, frame, len);
    r = wire_end(&b);
    if (r == 0) r = sock_send(c, b.p, b.len);
    wire_release(&b);
    return r;
}

/* Put a frame that is too large for a ring into our extent; the ring carries where. */
static int send_indirect(struct core *c, struct link *l, const void *frame, uint32_t len,
                         enum bell_class cls, uint32_t sequence) {
    struct wire_indirect m = {.head = {.size = sizeof m, .kind = WIRE_INDIRECT, .fixed = sizeof m},
                              .holder = c->info.proc, .size = len};
    struct skate_id id = {c->info.proc, 0};
    void *at, *to = NULL;
    int r;

    r = heap_alloc(c->heap, len, &id, FORMAT_RAW, &m.offset, &at, NULL);
    if (r < 0) return r;
    memcpy(at, frame, len);
    to = ring_reserve(&l->out, sizeof m, sequence);
    SKATE_ASSERT(to); /* the caller looked */
    memcpy(to, &m, sizeof m);
    ring_publish(&l->out, sizeof m);
    bell_ring(l->bell, l->peer_bit, cls);
    return 0;
}

static int put(struct core *c, struct link *l, const void *frame, uint32_t len,
               enum bell_class cls, uint32_t sequence) {
    void *to;

    if (len > LIMIT_RING_FRAME) {
        if (!ring_has_room(&l->out, sizeof(struct wire_indirect))) return -SKATE_EAGAIN;
        return send_indirect(c, l, frame, len, cls, sequence);
    }
    to = ring_reserve(&l->out, len, sequence);
    if (!to) return -SKATE_EAGAIN;
    memcpy(to, frame, len);
    ring_publish(&l->out, len);
    bell_ring(l->bell, l->peer_bit, cls);
    return 0;
}

int proc_route(struct core *c, uint64_t proc, const void *frame, uint32_t len) {
    if (proc == proc_raylet(c->info.proc)) return sock_send(c, frame, len);
    return route(c, proc, frame, len);
}

static void ask_channel(struct core *c, struct link *l) {
    struct wire_connect m = {.head = {.size = sizeof m, .kind = WIRE_CONNECT, .fixed = sizeof m},
                             .peer = l->proc};

    l->state = LINK_ASKED;
    (void)sock_send(c, &m, sizeof m);
}

static int keep(struct core *c, struct link *l, const void *frame, uint32_t len,
                enum bell_class cls, uint32_t sequence) {
    struct frame_node *n = frame_keep(l->proc, frame, len);

    if (!n) return -SKATE_ENOMEM;
    n->cls = (uint8_t)cls;
    n->sequence = sequence;
    frame_push(&l->backlog, n);
    if (!l->in_backlog) {
        l->in_backlog = true;
        l->next_backlog = c->backlogs;
        c->backlogs = l;
    }
    return 0;
}

int link_send(struct core *c, struct link *l, const void *frame, uint32_t len,
              enum bell_class cls, uint32_t sequence) {
    int r;

    switch (l->state) {
    case LINK_DEAD: return l->heir ? route(c, l->proc, frame, len) : -SKATE_EDEAD;
    case LINK_ROUTED: return route(c, l->proc, frame, len);
    case LINK_NEW: ask_channel(c, l); break;
    case LINK_OPEN:
        if (l->backlog.head) break;
        r = put(c, l, frame, len, cls, sequence);
        if (r != -SKATE_EAGAIN) return r;
        /* Full: ask to be rung when there is room, and make sure somebody reads. */
        at_store_seq(&l->out.shared->starved, 1);
        bell_ring(l->bell, l->peer_bit, BELL_URGENT);
        break;
    case LINK_ASKED: break;
    }
    return keep(c, l, frame, len, cls, sequence);
}

int proc_send(struct core *c, uint64_t proc, const void *frame, uint32_t len,
              enum bell_class cls) {
    struct link *l;

    if (proc == proc_raylet(c->info.proc)) return sock_send(c, frame, len);
    if (proc_number(proc) == 0) return route(c, proc, frame, len);
    l = link_get(c, proc);
    return l ? link_send(c, l, frame, len, cls, 0) : -SKATE_ENOMEM;
}

void link_flush(struct core *c) {
    struct link **at = &c->backlogs;

    while (*at) {
        struct link *l = *at;

        while (l->backlog.head && l->state == LINK_OPEN) {
            struct frame_node *n = l->backlog.head;

            if (put(c, l, n->data, n->len, (enum bell_class)n->cls, n->sequence) == -SKATE_EAGAIN) {
                at_store_seq(&l->out.shared->starved, 1);
                bell_ring(l->bell, l->peer_bit, BELL_URGENT);
                if (put(c, l, n->data, n->len, (enum bell_class)n->cls, n->sequence) < 0) break;
            }
            free(frame_pop(&l->backlog));
        }
        if (l->backlog.head && l->state != LINK_DEAD) {
            at = &l->next_backlog;
            continue;
        }
        frames_release(&l->backlog);
        l->in_backlog = false;
        *at = l->next_backlog;
    }
}

void link_on_channel(struct core *c, const struct wire_channel *m, const int *fds) {
    struct link *l = link_get(c, m->peer);
    void *channel = MAP_FAILED, *bell = MAP_FAILED;

    if (m->status == 0 && m->head.nfds == 2) {
        if (l && l->state != LINK_OPEN && l->state != LINK_DEAD && m->my_bit &&
            m->my_bit < LIMIT_CHANNELS && m->peer_bit < LIMIT_CHANNELS && m->side < 2) {
            channel = mmap(NULL, CHANNEL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
            bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
        }
        (void)close(fds[0]);
        (void)close(fds[1]);
    }
    if (m->status == 2 && l && (l->state == LINK_NEW || l->state == LINK_ASKED)) {
        struct frame_node *n;

        l->state = LINK_ROUTED; /* the node has no room for another channel */
        while ((n = frame_pop(&l->backlog))) {
            (void)route(c, l->proc, n->data, n->len);
            free(n);
        }
        return;
    }
    if (channel == MAP_FAILED || bell == MAP_FAILED) {
        if (channel != MAP_FAILED) (void)munmap(channel, CHANNEL_BYTES);
        return; /* dead peers are told by proc_died */
    }
    (void)madvise(channel, CHANNEL_BYTES, MADV_DONTFORK);
    (void)madvise(bell, 4096, MADV_DONTFORK);
    ring_attach(&l->out, &l->in, channel, (int)m->side);
    l->channel = channel;
    l->bell = bell;
    l->my_bit = m->my_bit;
    l->peer_bit = m->peer_bit;
    l->state = LINK_OPEN;
    c->by_bit[l->my_bit] = l;
    link_flush(c);
    bell_set(c->bell, l->my_bit); /* the peer may have written already */
}

/* The content of an INDIRECT: copy it out, tell the sender that the bytes are free. */
static void take_indirect(struct core *c, struct link *l, const struct wire_indirect *m,
                          uint32_t sequence) {
    uint64_t offset = m->offset;
    struct frame_node *n;
    uint64_t stack[16];
    struct wire_buf b;

    if (m->size > LIMIT_FRAME_BYTES || m->offset > c->info.arena_bytes ||
        m->size > c->info.arena_bytes - m->offset)
        return;
    n = frame_keep(l->proc, c->arena + m->offset, (uint32_t)m->size);
    wire_init(&b, stack, sizeof stack);
    (void)wire_begin(&b, WIRE_FREE);
    WIRE_PUT(&b, free, offsets, &offset, sizeof offset);
    if (wire_end(&b) == 0) (void)proc_send(c, m->holder, b.p, b.len, BELL_QUIET);
    wire_release(&b);
    if (n && wire_check(n->data, n->len) == 0)
        pump_dispatch(c, l->proc, n->data, n->len, l, sequence, NULL);
    free(n);
}

void link_drain(struct core *c, struct link *l, bool last) {
    uint64_t buf[LIMIT_RING_FRAME / 8];
    uint32_t sequence = 0;
    int n = 0;

    for (int i = 0; last || i < DRAIN_BATCH; i++) {
        n = ring_take(&l->in, buf, &sequence);
        if (n <= 0) break;
        if (wire_check(buf, (size_t)n) < 0) {
            n = -SKATE_EPROTO;
            break;
        }
        if (wire_head(buf)->kind == WIRE_INDIRECT)
            take_indirect(c, l, (const void *)buf, sequence);
        else
            pump_dispatch(c, l->proc, buf, (uint32_t)n, l, sequence, NULL);
        if (l->state != LINK_OPEN) return;
    }
    if (at_load(&l->in.shared->starved)) {
        at_store_seq(&l->in.shared->starved, 0);
        bell_ring(l->bell, l->peer_bit, BELL_URGENT);
    }
    if (n == -SKATE_EPROTO) { /* a peer's mistake costs its channel */
        c->by_bit[l->my_bit] = NULL;
        l->state = LINK_DEAD;
    } else if (n > 0)
        bell_set(c->bell, l->my_bit);
}

/* What of a dead process's bytes we use: nothing, or these offsets. Again when half are gone. */
static void tell_extents(struct core *c, struct link *l) {
    struct wire_extents_done *m;
    uint64_t stack[64], *live = NULL;
    struct wire_buf b;
    uint32_t n = 0;

    if (l->extents_done || proc_number(l->proc) == 0) return;
    if (l->arena_live) live = malloc(l->arena_live * sizeof *live);
    for (uint32_t i = 0; live && i < c->ledger.header->slots_used; i++) {
        const struct ledger_slot *s = &c->ledger.slots[i];

        if (ledger_state_of(s) == LEDGER_ARENA && s->holder == l->proc && n < l->arena_live)
            live[n++] = s->offset;
    }
    l->arena_told = l->arena_live;
    l->extents_done = l->arena_live == 0;
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_EXTENTS_DONE);
    m->proc = l->proc;
    WIRE_PUT(&b, extents_done, live, live, n * sizeof *live);
    /* an entry that is being freed is counted still: it speaks when it is gone */
    if (n == l->arena_live && wire_end(&b) == 0) (void)sock_send(c, b.p, b.len);
    wire_release(&b);
    free(live);
}

void link_arena(struct core *c, uint64_t holder, int change) {
    struct link *l;

    if (holder == c->info.proc || proc_number(holder) == 0) return;
    l = link_get(c, holder);
    if (!l) return;
    l->arena_live += (uint32_t)change;
    if (change > 0) l->extents_done = false; /* inherited of one that is dead already */
    if (l->death && (l->arena_live == 0 || (change < 0 && l->arena_live <= l->arena_told / 2)))
        tell_extents(c, l);
}

static void died(struct core *c, struct link *l, const struct wire_proc_died *m) {
    uint32_t n;
    const char *text = wire_proc_died_text(m, &n);

    if (l->death) return;
    if (l->state == LINK_OPEN) link_drain(c, l, true); /* what it said before it died counts */
    l->death = strndup(text, n);
    sweep_note(c, l->proc);
    l->node_lost = proc_number(m->proc) == 0;
    l->cause = l->node_lost ? 0 : m->cause;
    leases_on_died(c, l->proc, l);
    actors_on_died(c, l->proc);
    if (l->my_bit) c->by_bit[l->my_bit] = NULL;
    l->state = LINK_DEAD;
    l->function_sent = 0;
    map_release(&l->functions);
    if (m->heir && proc_number(m->proc))
        heir_known(c, l, m->heir);
    else
        runs_forget(c, l->proc);
    frames_release(&l->backlog);
    heir_gone(c, l->proc);
    estates_on_died(c, l->proc, l->cause ? "out_of_memory" : "worker_crashed",
                    l->death ? l->death : "it died");
    if (c->yields) yields_on_died(c, l->proc);
    objects_on_died(c, l->proc, l->death ? l->death : "it died");
    if (l->channel) {
        (void)munmap(l->channel, CHANNEL_BYTES);
        (void)munmap(l->bell, 4096);
        l->channel = NULL;
    }
    tell_extents(c, l);
}

void link_on_died(struct core *c, const struct wire_proc_died *m) {
    if (proc_number(m->proc) != 0) {
        struct link *l = link_get(c, m->proc);

        if (l) died(c, l, m);
        return;
    }
    if (proc_node(m->proc) == proc_node(c->info.proc)) return;
    for (uint32_t i = 0; i < c->link_count; i++) /* a whole node */
        if (proc_node(c->link_v[i]->proc) == proc_node(m->proc)) died(c, c->link_v[i], m);
    estates_on_died(c, m->proc, "worker_crashed", "its node is lost");
    objects_on_died(c, m->proc, "its node is lost");
    leases_on_node_died(c);
}

void link_free(struct link *l) {
    if (l->channel) {
        (void)munmap(l->channel, CHANNEL_BYTES);
        (void)munmap(l->bell, 4096);
    }
    frames_release(&l->backlog);
    map_release(&l->functions);
    free(l->death);
    free(l->orphans);
    free(l);
}

void links_release(struct core *c) {
    for (uint32_t i = 0; i < c->link_count; i++) link_free(c->link_v[i]);
    free(c->link_v);
    map_release(&c->links);
}
