/* net_sim.c - net/conn.h over a virtual network.
 *
 * A connection is two pipes, one each way. What is sent waits until the end of the loop's turn (a
 * process that dies before loses it), then flies: in order, with a latency of chance. What the
 * real thing can have happens here: a connection breaks and what flies is lost, or comes late
 * while its sender has dialled again; a path is cut, one way or both, so that nothing comes until
 * it is healed or TCP gives up; dials are refused, or never answered. */
#include "net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim_os.h"
#include "wire/frame.h"
#include "wire/wire_gen.h"

enum { AT_ONCE = 256 * 1024, WINDOW = 256 * 1024, FIRST_PORT = 20000, IN_TURN = 64 };
/* Keep-alive, or data that nobody acknowledges: who dialled; who was dialled. */
#define DIALLER_NS (3 * SIM_S)
#define DIALLED_NS (12 * SIM_S)

struct flight { /* a frame, or (len 0) the end */
    struct flight *next;
    int64_t at;
    uint32_t len;
    int code;
    uint64_t data[];
};
struct pipe {
    struct pipe *next; /* of all */
    struct conn *from, *to; /* NULL: that end is closed */
    struct sim_machine *from_machine, *to_machine;
    struct flight *first, *last;
    struct sim_event event;
    int64_t last_at;
    uint64_t bytes;
    bool ended; /* the end flies already, or nothing may any more */
};
struct conn {
    struct conn *next, **link; /* of its net */
    struct conn *next_fresh;
    struct net *net;
    struct pipe *out, *in; /* NULL: not connected yet, or no more */
    struct flight *fresh, *fresh_last; /* sent in this turn */
    struct flight *inbox, *inbox_last;
    uint64_t fresh_bytes, inbox_bytes, low;
    bool accepted, ready, tell_ready, paused, above, dead, is_fresh, told_end;
    int end_code;
    const char *end_text;
    const struct conn_events *events;
    void *arg;
    struct loop_task task;
    struct sim_event later; /* a dial: its answer, then its deadline; an end that comes late */
    struct net_address to;
    char ip[16], peer[32];
    uint16_t port;
    int64_t dialled;
};
struct net_listener {
    struct net_listener *next, *next_own;
    struct net *net;
    char ip[16];
    uint16_t port;
    const struct conn_events *events;
    void *arg;
};
struct net {
    struct net *next; /* of its process */
    struct sim_proc *proc;
    struct net_opts opts;
    struct conn *conns, *graves, *fresh, **fresh_end;
    struct net_listener *listeners;
};

uint32_t sim_slow = 1;
static struct net_listener *listeners;
static struct pipe *pipes;
static uint16_t next_port = FIRST_PORT;

/* ---- paths ---- */

static bool is_cut(const struct sim_machine *a, const struct sim_machine *b) {
    return a->cut && a->cut[b->index / 64] >> b->index % 64 & 1;
}

static int64_t latency(void) {
    int64_t ns = 50 * SIM_US + (int64_t)sim_below(100 * SIM_US);

    if (sim_chance(2000)) ns += (int64_t)sim_below(20 * SIM_MS);
    return ns * sim_slow;
}

/* ---- ends ---- */

static void pipe_tidy(struct pipe *p);

static void detach(struct conn *c) {
    struct pipe *pipe[2] = {c->out, c->in};

    for (int i = 0; i < 2; i++) {
        if (!pipe[i]) continue;
        if (pipe[i]->from == c) pipe[i]->from = NULL;
        if (pipe[i]->to == c) pipe[i]->to = NULL;
        pipe_tidy(pipe[i]);
    }
    c->out = c->in = NULL;
}

static void drop(struct flight **first, struct flight **last) {
    while (*first) {
        struct flight *f = *first;

        *first = f->next;
        free(f);
    }
    *last = NULL;
}

/* Its owner never hears of it again; the memory stays until the turn is over. */
static void bury(struct conn *c) {
    c->dead = true;
    detach(c);
    drop(&c->fresh, &c->fresh_last);
    drop(&c->inbox, &c->inbox_last);
    sim_event_cancel(&c->later);
    loop_unpost(c->net->opts.loop, &c->task);
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->next = c->net->graves;
    c->net->graves = c;
}

/* on_close will come from its loop, behind what came before. */
static void ends(struct conn *c, int code, const char *text) {
    if (c->dead || c->end_text) return;
    c->end_code = code;
    c->end_text = text;
    sim_event_cancel(&c->later);
    loop_post(c->net->opts.loop, &c->task);
}

/* ---- flying ---- */

static void on_pipe(void *arg);

static void pipe_tidy(struct pipe *p) {
    struct pipe **at = &pipes;

    if (!p->to) {
        drop(&p->first, &p->last);
        p->bytes = 0;
    }
    if (p->from || p->to || p->first) return;
    sim_event_cancel(&p->event);
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    free(p);
}

static struct pipe *pipe_new(struct conn *from, struct conn *to) {
    struct pipe *p = calloc(1, sizeof *p);

    if (!p) abort();
    p->from = from;
    p->to = to;
    p->from_machine = from->net->proc->machine;
    p->to_machine = to->net->proc->machine;
    sim_event_init(&p->event, on_pipe, p);
    p->next = pipes;
    pipes = p;
    return p;
}

static void fly(struct pipe *p, struct flight *f) {
    int64_t at = sim_now + latency();

    if (p->ended || !p->to) {
        free(f);
        return;
    }
    if (at < p->last_at) at = p->last_at;
    f->at = p->last_at = at + f->len; /* 1 GB/s */
    f->next = NULL;
    if (p->last)
        p->last->next = f;
    else
        p->first = f;
    p->last = f;
    p->bytes += f->len;
    if (!p->event.index) sim_event_at(&p->event, p->first->at);
}

static void fly_end(struct pipe *p, int code) {
    struct flight *f = calloc(1, sizeof *f);

    if (!f) abort();
    f->code = code;
    fly(p, f);
    p->ended = true;
}

static uint64_t pending(const struct conn *c) {
    uint64_t n = c->fresh_bytes + (c->out ? c->out->bytes : 0);

    if (c->out && c->out->to) n += c->out->to->inbox_bytes;
    return n > WINDOW ? n - WINDOW : 0;
}

static void look_drain(struct conn *c) {
    if (c && c->above && pending(c) <= c->low) loop_post(c->net->opts.loop, &c->task);
}

/* For people; what lies in a route is told, too. */
static void tell_frame(const struct pipe *p, const struct flight *f) {
    const struct wire_route *m = (const void *)f->data;
    const char *inner = "";
    uint32_t len;

    if (m->head.kind == WIRE_ROUTE)
        inner = wire_name(wire_head(wire_route_frame(m, &len))->kind);
    printf("%12.6f %-14s <- %s: %s, %u bytes", (double)sim_now / 1e9, p->to->net->proc->name,
           p->from_machine->name, wire_name(m->head.kind), f->len);
    if (*inner)
        printf(" (%s for %llx from %llx)", inner, (unsigned long long)m->dst,
               (unsigned long long)m->src);
    sim_tell_inner(*inner ? (const void *)wire_route_frame(m, &len) : m);
    printf("\n");
}

static void arrives(struct pipe *p, struct flight *f) {
    struct conn *c = p->to;

    if (f->len == 0) {
        ends(c, f->code, "the peer closed the connection");
        free(f);
        return;
    }
    sim_hash(f->data, f->len < 512 ? f->len : 512);
    if (sim_tracing) tell_frame(p, f);
    f->next = NULL;
    if (c->inbox_last)
        c->inbox_last->next = f;
    else
        c->inbox = f;
    c->inbox_last = f;
    c->inbox_bytes += f->len;
    if (!c->paused) loop_post(c->net->opts.loop, &c->task);
}

static void on_pipe(void *arg) {
    struct pipe *p = arg;

    while (p->first && p->first->at <= sim_now && p->to) {
        struct flight *f = p->first;

        if (is_cut(p->from_machine, p->to_machine)) return; /* sim_cut() goes on */
        p->first = f->next;
        if (!p->first) p->last = NULL;
        p->bytes -= f->len;
        arrives(p, f);
    }
    look_drain(p->from);
    if (p->first) sim_event_at(&p->event, p->first->at);
    pipe_tidy(p);
}

static void flush(struct conn *c) {
    while (c->fresh && c->out) {
        struct flight *f = c->fresh;

        c->fresh = f->next;
        fly(c->out, f);
    }
    drop(&c->fresh, &c->fresh_last);
    c->fresh_bytes = 0;
}

void sim_net_turn_ends(struct loop *l) {
    for (struct net *n = sim_loop_proc(l)->nets; n; n = n->next) {
        if (n->opts.loop != l) continue;
        while (n->fresh) {
            struct conn *c = n->fresh;

            sim_write_happens();
            n->fresh = c->next_fresh;
            if (!n->fresh) n->fresh_end = &n->fresh;
            c->is_fresh = false;
            if (!c->dead) flush(c);
        }
        while (n->graves) {
            struct conn *c = n->graves;

            n->graves = c->next;
            free(c);
        }
    }
}

/* ---- a connection's own task: what it tells its owner ---- */

static void on_task(void *arg) {
    struct conn *c = arg;

    if (c->tell_ready) {
        c->tell_ready = false;
        c->ready = true;
        if (c->events->on_ready) c->events->on_ready(c->arg, c);
    }
    for (int i = 0; c->inbox && !c->dead && !c->paused && c->ready && i < IN_TURN; i++) {
        struct flight *f = c->inbox;

        c->inbox = f->next;
        if (!c->inbox) c->inbox_last = NULL;
        c->inbox_bytes -= f->len;
        if (c->events->on_frame) c->events->on_frame(c->arg, c, f->data, f->len);
        free(f);
    }
    if (c->dead) return;
    if (c->in) look_drain(c->in->from);
    if (c->inbox && !c->paused) {
        loop_post(c->net->opts.loop, &c->task);
        return;
    }
    if (c->above && pending(c) <= c->low && !c->end_text) {
        c->above = false;
        if (c->events->on_drain) c->events->on_drain(c->arg, c);
    }
    if (c->dead || !c->end_text || (c->inbox && c->paused)) return;
    c->told_end = true;
    if ((!c->accepted || c->ready) && c->events->on_close)
        c->events->on_close(c->arg, c, c->end_code, c->end_text);
    if (!c->dead) bury(c);
}

/* ---- dialling ---- */

static void on_no_answer(void *arg) {
    ends(arg, -SKATE_ETIMEOUT, "no answer to connect");
}

static struct conn *conn_new(struct net *n, const struct conn_events *events, void *arg) {
    struct conn *c = calloc(1, sizeof *c);

    if (!c) abort();
    c->net = n;
    c->events = events;
    c->arg = arg;
    c->low = n->opts.pending_max / 2;
    loop_task_init(&c->task, on_task, c);
    sim_event_init(&c->later, on_no_answer, c);
    c->next = n->conns;
    c->link = &n->conns;
    if (c->next) c->next->link = &c->next;
    n->conns = c;
    return c;
}

static void on_answered(void *arg) {
    struct conn *c = arg;

    if (!c->in || is_cut(c->in->from_machine, c->in->to_machine)) { /* lost: its deadline */
        sim_event_init(&c->later, on_no_answer, c);
        sim_event_at(&c->later, c->dialled + c->net->opts.handshake_ms * SIM_MS);
        return;
    }
    c->tell_ready = true;
    loop_post(c->net->opts.loop, &c->task);
}

static struct net_listener *listener_at(const char *ip, uint16_t port) {
    struct net_listener *l = listeners;

    while (l && (l->port != port || strcmp(l->ip, ip) != 0)) l = l->next;
    return l;
}

static struct sim_machine *machine_at(const char *ip) {
    for (uint32_t i = 0; i < sim_cluster.count; i++)
        if (!strcmp(sim_cluster.machines[i]->ip, ip)) return sim_cluster.machines[i];
    return NULL;
}

int sim_dial(const char *ip, uint16_t port) {
    struct sim_machine *here = sim_cur->machine, *there = machine_at(ip);

    if (!there || is_cut(here, there) || is_cut(there, here)) return EHOSTUNREACH;
    return listener_at(ip, port) ? 0 : ECONNREFUSED;
}

/* The dial comes to the other machine. */
static void on_dialled(void *arg) {
    struct conn *c = arg, *a;
    struct net_listener *l = listener_at(c->ip, c->port);
    struct sim_machine *here = c->net->proc->machine, *there = machine_at(c->ip);

    sim_event_init(&c->later, on_no_answer, c);
    if (!there || is_cut(here, there) || is_cut(there, here)) {
        sim_event_at(&c->later, c->dialled + c->net->opts.handshake_ms * SIM_MS);
        return;
    }
    if (!l) {
        ends(c, -SKATE_ENOENT, "connection refused");
        return;
    }
    if (memcmp(l->net->opts.key, c->net->opts.key, NET_KEY_BYTES) != 0) {
        ends(c, -SKATE_EAUTH, "wrong cluster key");
        return;
    }
    a = conn_new(l->net, l->events, l->arg);
    a->accepted = a->tell_ready = true;
    snprintf(a->ip, sizeof a->ip, "%s", here->ip);
    snprintf(a->peer, sizeof a->peer, "%s:%u", here->ip, 1u);
    c->out = a->in = pipe_new(c, a);
    c->in = a->out = pipe_new(a, c);
    loop_post(l->net->opts.loop, &a->task);
    sim_event_init(&c->later, on_answered, c);
    sim_event_at(&c->later, sim_now + latency());
}

int conn_connect(struct net *n, struct net_address to, const struct conn_events *events, void *arg,
                 struct conn **ret) {
    struct conn *c;

    SKATE_ASSERT(events && events->on_close);
    if (to.port == 0 || !to.ip[0]) return -SKATE_EINVAL;
    c = conn_new(n, events, arg);
    snprintf(c->ip, sizeof c->ip, "%s", to.ip);
    snprintf(c->peer, sizeof c->peer, "%s:%u", to.ip, to.port);
    c->port = to.port;
    c->dialled = sim_now;
    sim_event_init(&c->later, on_dialled, c);
    sim_event_at(&c->later, sim_now + 2 * latency());
    *ret = c;
    return 0;
}

/* ---- the owner's calls ---- */

int net_new(const struct net_opts *opts, struct net **ret) {
    struct net *n = calloc(1, sizeof *n);

    if (!n) return -SKATE_ENOMEM;
    if (!opts->loop) return free(n), -SKATE_EINVAL;
    n->opts = *opts;
    n->proc = sim_cur;
    n->fresh_end = &n->fresh;
    if (!n->opts.pending_max) n->opts.pending_max = 64 << 20;
    if (!n->opts.handshake_ms) n->opts.handshake_ms = 5000;
    n->next = sim_cur->nets;
    sim_cur->nets = n;
    *ret = n;
    return 0;
}

struct net_listener *net_listener_free(struct net_listener *l) {
    struct net_listener **at;

    if (!l) return NULL;
    for (at = &listeners; *at != l; at = &(*at)->next) {}
    *at = l->next;
    for (at = &l->net->listeners; *at != l; at = &(*at)->next_own) {}
    *at = l->next_own;
    free(l);
    return NULL;
}

static void part(struct conn *c) {
    if (c->out) fly_end(c->out, -SKATE_EDEAD);
    bury(c);
}

struct net *net_free(struct net *n) {
    struct net **at = &n->proc->nets;

    while (n->listeners) (void)net_listener_free(n->listeners);
    while (n->conns) part(n->conns);
    while (*at != n) at = &(*at)->next;
    *at = n->next;
    return NULL; /* its memory stays: a turn may run */
}

void net_wipe(void *secret, size_t len) { memset(secret, 0, len); }

int net_key_from_hex(const char *hex, size_t len, uint8_t ret_key[NET_KEY_BYTES]) {
    (void)hex, (void)len;
    memset(ret_key, 7, NET_KEY_BYTES);
    return 0;
}

int net_parse_address(const char *text, char *ret_ip, uint16_t *ret_port) {
    unsigned port;

    if (sscanf(text, "%15[0-9.]:%u", ret_ip, &port) != 2 || port > 65535) return -SKATE_EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

int net_listen(struct net *n, struct net_address at, const struct conn_events *events, void *arg,
               struct net_listener **ret, struct skate_error *err) {
    struct net_listener *l;

    if (at.port && listener_at(at.ip, at.port))
        return err_fail(err, -SKATE_EEXIST, "cannot listen on %s:%u", at.ip, at.port);
    l = calloc(1, sizeof *l);
    if (!l) return -SKATE_ENOMEM;
    l->net = n;
    l->events = events;
    l->arg = arg;
    snprintf(l->ip, sizeof l->ip, "%s", at.ip);
    l->port = at.port ? at.port : next_port++;
    if (next_port == 0) next_port = FIRST_PORT;
    l->next = listeners;
    listeners = l;
    l->next_own = n->listeners;
    n->listeners = l;
    *ret = l;
    return 0;
}

uint16_t net_listener_port(const struct net_listener *l) { return l->port; }

void conn_set_events(struct conn *c, const struct conn_events *events, void *arg) {
    c->events = events;
    c->arg = arg;
}
const char *conn_peer(const struct conn *c) { return c->peer; }
const char *conn_peer_ip(const struct conn *c) { return c->ip; }
bool conn_is_ready(const struct conn *c) { return c->ready && !c->end_text; }
uint64_t conn_pending_bytes(const struct conn *c) { return pending(c); }

void conn_set_low(struct conn *c, uint64_t bytes) { c->low = bytes; }

void conn_pause(struct conn *c, bool paused) {
    c->paused = paused;
    if (!paused && !c->dead) loop_post(c->net->opts.loop, &c->task);
}

int conn_sendv(struct conn *c, const struct conn_piece *pieces, uint32_t count) {
    struct flight *f;
    size_t len = 0;
    uint8_t *to;

    for (uint32_t i = 0; i < count; i++) len += pieces[i].len;
    if (c->dead || c->end_text) return -SKATE_EDEAD;
    if (!c->ready) return -SKATE_EAGAIN;
    if (len < sizeof(struct wire_head)) return -SKATE_EINVAL;
    if (pending(c) + len > c->net->opts.pending_max) return -SKATE_EFULL;
    f = malloc(sizeof *f + ((len + 7) & ~(size_t)7));
    if (!f) return -SKATE_ENOMEM;
    *f = (struct flight){.len = (uint32_t)len};
    to = (uint8_t *)f->data;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(to, pieces[i].p, pieces[i].len);
        to += pieces[i].len;
    }
    if (wire_check(f->data, len) < 0) return free(f), -SKATE_EINVAL;
    if (c->fresh_last)
        c->fresh_last->next = f;
    else
        c->fresh = f;
    c->fresh_last = f;
    c->fresh_bytes += len;
    if (!c->is_fresh) {
        c->is_fresh = true;
        c->next_fresh = NULL;
        *c->net->fresh_end = c;
        c->net->fresh_end = &c->next_fresh;
        sim_loop_kick(c->net->opts.loop);
    }
    if (c->fresh_bytes > AT_ONCE) flush(c);
    if (pending(c) > c->low) c->above = true;
    return 0;
}

int conn_send(struct conn *c, const void *frame, size_t len) {
    struct conn_piece piece = {frame, len};

    return conn_sendv(c, &piece, 1);
}

struct conn *conn_close(struct conn *c) {
    if (c && !c->dead) part(c);
    return NULL;
}

void conn_finish(struct conn *c) {
    if (c->dead) return;
    flush(c);
    part(c);
}

/* ---- faults ---- */

void sim_nets_end(struct sim_proc *p, bool power) {
    for (struct net *n = p->nets; n; n = n->next) {
        while (n->listeners) (void)net_listener_free(n->listeners);
        while (n->conns) {
            struct conn *c = n->conns;

            if (power && c->out && c->out->to) { /* nobody says that it is gone */
                struct conn *peer = c->out->to;

                sim_event_cancel(&peer->later);
                sim_event_init(&peer->later, on_no_answer, peer);
                sim_event_at(&peer->later, sim_now + (peer->accepted ? DIALLED_NS : DIALLER_NS));
            } else if (c->out)
                fly_end(c->out, -SKATE_EDEAD);
            bury(c);
        }
    }
}

static void on_broken(void *arg) { ends(arg, -SKATE_EDEAD, "the connection broke"); }

static void break_soon(struct conn *c, int64_t most) {
    if (!c || c->dead || c->end_text) return;
    sim_event_cancel(&c->later);
    sim_event_init(&c->later, on_broken, c);
    sim_event_at(&c->later, sim_now + (int64_t)sim_below((uint64_t)most));
}

/* Each end hears of it in its own time; what flies is lost, or still comes. */
static void break_pipe(struct pipe *p, int64_t most) {
    struct conn *c = p->from ? p->from : p->to;
    struct pipe *both[2];

    if (!c) return;
    both[0] = c->out;
    both[1] = c->in;
    sim_note("the connection of %s and %s breaks", p->from_machine->name, p->to_machine->name);
    break_soon(p->from, most);
    break_soon(p->to, most);
    for (int i = 0; i < 2; i++) {
        if (!both[i]) continue;
        if (sim_below(2)) drop(&both[i]->first, &both[i]->last), both[i]->bytes = 0;
        both[i]->ended = true;
    }
}

void sim_net_moved(struct sim_proc *p) {
    for (struct net *n = p->nets; n; n = n->next)
        for (struct net_listener *l = n->listeners; l; l = l->next_own) l->port = 0;
    for (struct pipe *o = pipes; o; o = o->next)
        if (o->from && o->from->net->proc == p) break_pipe(o, 200 * SIM_MS);
}

bool sim_break_one(void) {
    uint32_t n = 0;

    for (struct pipe *p = pipes; p; p = p->next) n++;
    if (n == 0) return false;
    n = (uint32_t)sim_below(n);
    for (struct pipe *p = pipes; p; p = p->next)
        if (n-- == 0) {
            break_pipe(p, 200 * SIM_MS);
            return true;
        }
    return false;
}

struct cutting {
    struct sim_machine *a, *b;
    bool accepted;
};

static void give_up(struct conn *c, bool accepted) {
    if (c && c->accepted == accepted) break_soon(c, 500 * SIM_MS);
}

/* TCP gives up on what is cut for long: neither what is sent nor that it came gets through. */
static void on_long_cut(void *arg) {
    struct cutting c = *(struct cutting *)arg;

    free(arg);
    if (!is_cut(c.a, c.b)) return;
    for (struct pipe *p = pipes; p; p = p->next)
        if (p->from_machine == c.a && p->to_machine == c.b) {
            give_up(p->from, c.accepted);
            give_up(p->to, c.accepted);
        }
}

void sim_cut(struct sim_machine *from, struct sim_machine *to, bool cut) {
    uint64_t bit = UINT64_C(1) << to->index % 64;
    struct cutting *c;

    if (!from->cut) from->cut = calloc(sim_cluster.count / 64 + 1, sizeof *from->cut);
    if (!from->cut) abort();
    if (cut == is_cut(from, to)) return;
    sim_note("%s -> %s: %s", from->name, to->name, cut ? "cut" : "healed");
    from->cut[to->index / 64] ^= bit;
    if (!cut) {
        for (struct pipe *p = pipes; p; p = p->next)
            if (p->from_machine == from && p->to_machine == to && p->first)
                sim_event_at(&p->event, sim_now + latency() + (int64_t)sim_below(200 * SIM_MS));
        return;
    }
    for (int accepted = 0; accepted < 2; accepted++) {
        c = malloc(sizeof *c);
        if (!c) abort();
        *c = (struct cutting){from, to, accepted};
        sim_later(accepted ? DIALLED_NS : DIALLER_NS, on_long_cut, c);
    }
}
