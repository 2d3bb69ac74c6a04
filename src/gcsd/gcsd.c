/* gcsd.c - see gcsd.h. Links are slots of a table; their numbers are never used twice. */
#include "gcsd/gcsd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs.h"
#include "gcsd/gate.h"
#include "gcsd/gcsd_hold.h"
#include "gcsd/gcsd_probe.h"
#include "net/conn.h"

enum { SILENCE_MS = 5000 }; /* until a node of which nothing comes is dead */
enum { LINKS_MAX = 40000, SLOT_BITS = 16 };
/* Unread by a raylet: the mark at which we read no more from it, and that at which it is lost. */
enum { PAUSE_BYTES = 16 << 20, UNREAD_MAX = 256 << 20 };
enum { HELD_PAUSE_BYTES = 64 << 20 }; /* as much waits for the log */

struct link {
    struct gcsd *daemon;
    struct conn *conn; /* NULL: the slot is free, or its end is being told */
    uint64_t number;
    uint32_t slot;
    bool spoke; /* the store has heard of it */
};

struct gcsd {
    struct loop *loop;
    struct net *net;
    struct net_listener *listener;
    struct gcs *gcs;
    struct gate *gate;
    struct hold *hold; /* NULL: nothing is kept, everything is said at once */
    struct gcs_out out;
    struct probes *probes;
    struct loop_timer *tick;
    uint32_t tick_ms; /* as it runs */
    struct link **links; /* by slot; NULL: free */
    uint32_t slots, cap, live;
    uint64_t births;
    uint64_t *down; /* links that we ended and the store has not heard of yet */
    uint32_t down_count, down_cap;
    struct loop_task down_task;
    bool head_told, all_paused;
    void (*on_head_lost)(void *arg);
    void (*on_log_end)(void *arg, int status, const char *text);
    void *arg;
};

static struct link *link_find(struct gcsd *d, uint64_t number) {
    uint32_t slot = (uint32_t)(number & ((1u << SLOT_BITS) - 1));
    struct link *l = slot < d->slots ? d->links[slot] : NULL;

    return l && l->number == number ? l : NULL;
}

static void link_free(struct link *l) {
    struct gcsd *d = l->daemon;

    d->links[l->slot] = NULL;
    d->live--;
    free(l);
}

static struct link *link_new(struct gcsd *d, struct conn *c) {
    struct link *l;
    uint32_t slot = 0;

    while (slot < d->slots && d->links[slot]) slot++;
    if (slot == LINKS_MAX) return NULL;
    if (slot == d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 16;
        struct link **more = realloc(d->links, cap * sizeof *more);

        if (!more) return NULL;
        d->links = more;
        d->cap = cap;
    }
    l = calloc(1, sizeof *l);
    if (!l) return NULL;
    if (slot == d->slots) d->slots++;
    *l = (struct link){.daemon = d, .conn = c, .slot = slot,
                       .number = ++d->births << SLOT_BITS | slot};
    d->links[slot] = l;
    d->live++;
    return l;
}

/* We end it; the store hears of it after the outputs of this step. */
static void link_end(struct gcsd *d, struct link *l, bool finish) {
    if (finish)
        conn_finish(l->conn);
    else
        (void)conn_close(l->conn);
    if (d->down_count == d->down_cap) {
        d->down_cap = d->down_cap ? d->down_cap * 2 : 16;
        d->down = realloc(d->down, d->down_cap * sizeof *d->down);
        SKATE_ASSERT(d->down);
    }
    d->down[d->down_count++] = l->number;
    link_free(l);
}

static void set_tick(struct gcsd *d, uint32_t ms) {
    d->tick_ms = ms;
    if (ms)
        loop_timer_start(d->tick, ms, ms);
    else
        loop_timer_stop(d->tick);
}

/* What the store says, to those it is for. */
static void deliver(void *arg, const struct gcs_out *out) {
    struct gcsd *d = arg;

    for (uint32_t i = 0; i < out->count; i++) {
        const struct gcs_send *s = &out->sends[i];
        struct link *l = link_find(d, s->link);

        if (!l) continue;
        if (s->close)
            link_end(d, l, true);
        else if (conn_send(l->conn, out->bytes + s->at, s->len) == -SKATE_EFULL) {
            (void)fprintf(stderr, "a raylet does not read peer=%s\n", conn_peer(l->conn));
            link_end(d, l, false);
        }
    }
}

static void step_once(struct gcsd *d, const struct gcs_event *event) {
    bool head_lost, fenced;
    uint32_t tick_ms;

    gcs_step(d->gcs, event, loop_now_ns(d->loop), &d->out);
    head_lost = d->out.head_lost;
    fenced = d->out.fenced;
    tick_ms = d->out.tick_ms;
    for (uint32_t i = 0; i < d->out.probe_count; i++) {
        const struct gcs_probe *o = &d->out.probes[i];

        probes_start(d->probes, o->node, o->ip, o->port);
    }
    if (d->hold)
        hold_step(d->hold, &d->out);
    else
        deliver(d, &d->out);
    if (fenced) {
        (void)fprintf(stderr, "another GCS has taken over: this one ends\n");
        if (d->on_log_end) d->on_log_end(d->arg, -SKATE_ESTALE, "another GCS has taken over");
        exit(EXIT_STALE);
    }
    if (tick_ms != d->tick_ms) set_tick(d, tick_ms);
    if (head_lost && !d->head_told) {
        d->head_told = true;
        if (d->on_head_lost) d->on_head_lost(d->arg);
    }
}

/* Tell the store of the links that we ended; that may end others. */
static void tell_down(struct gcsd *d) {
    while (d->down_count) {
        struct gcs_event down = {.kind = GCS_LINK_DOWN, .link = d->down[--d->down_count],
                                 .text = "the GCS ended its connection"};

        step_once(d, &down);
    }
}

static void step(struct gcsd *d, const struct gcs_event *event) {
    step_once(d, event);
    tell_down(d);
}

static void on_probed(void *arg, uint32_t node, bool refused) {
    struct gcs_event event = {.kind = GCS_PROBED, .link = node, .refused = refused};

    step(arg, &event);
}

/* From the log's side: what waited goes out. */
static void deliver_late(void *arg, const struct gcs_out *out) {
    struct gcsd *d = arg;

    deliver(d, out);
    if (d->down_count) loop_post(d->loop, &d->down_task);
    if (d->all_paused && hold_bytes(d->hold) < PAUSE_BYTES) {
        d->all_paused = false;
        for (uint32_t i = 0; i < d->slots; i++)
            if (d->links[i]) conn_pause(d->links[i]->conn, false);
    }
}

static void on_down_task(void *arg) { tell_down(arg); }

static void on_tick(void *arg) {
    struct gcs_event event = {.kind = GCS_TICK};

    step(arg, &event);
}

/* ------------------------------------------------------------------ connections */

static void on_link_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct link *l = arg;
    struct gcs_event event = {.kind = GCS_FRAME, .link = l->number, .frame = frame, .len = len,
                              .peer_ip = conn_peer_ip(c)};
    struct gcsd *d = l->daemon;

    if (!l->spoke && wire_head(frame)->kind == WIRE_GATE_HELLO) { /* it is for somebody else */
        link_free(l);
        gate_take(d->gate, c, frame);
        return;
    }
    l->spoke = true;
    step(d, &event);
    /* Whoever asks faster than it reads the answers waits (the link may be gone by now). */
    if (link_find(d, event.link) && conn_pending_bytes(c) > PAUSE_BYTES) conn_pause(c, true);
    if (wire_head(frame)->kind == WIRE_BEAT) return; /* unheard, its node would be taken for dead */
    if (link_find(d, event.link) && d->hold && hold_bytes(d->hold) > HELD_PAUSE_BYTES) {
        d->all_paused = true;
        conn_pause(c, true);
    }
}

static void on_link_drain(void *arg, struct conn *c) {
    (void)arg;
    conn_pause(c, false);
}

static void on_link_close(void *arg, struct conn *c, int code, const char *text) {
    struct link *l = arg;
    struct gcsd *d = l->daemon;
    struct gcs_event event = {.kind = GCS_LINK_DOWN, .link = l->number, .text = text};

    (void)fprintf(stderr, "a link ended peer=%s code=%d reason=\"%s\"\n", conn_peer(c), code, text);
    link_free(l);
    step(d, &event);
}

static const struct conn_events link_events = {
    .on_frame = on_link_frame, .on_close = on_link_close, .on_drain = on_link_drain};

static void on_new_ready(void *arg, struct conn *c) {
    struct link *l = link_new(arg, c);

    if (!l) {
        (void)conn_close(c);
        return;
    }
    conn_set_events(c, &link_events, l);
    conn_set_low(c, PAUSE_BYTES / 2);
}

static void on_new_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)c, (void)code, (void)text; /* ended by us in on_new_ready */
}

static const struct conn_events new_events = {.on_ready = on_new_ready, .on_close = on_new_close};

static void on_log(void *arg, const char *text) {
    (void)arg;
    (void)fprintf(stderr, "%s\n", text);
}

/* ------------------------------------------------------------------ start and end */

static void on_log_end(void *arg, int status, const char *text) {
    struct gcsd *d = arg;

    if (d->on_log_end) d->on_log_end(d->arg, status, text);
}

/* The store: empty, or as its log says. */
static int open_store(struct gcsd *d, const struct gcsd_opts *opts, struct skate_error *err) {
    uint32_t told = opts->heartbeat_ms ? opts->heartbeat_ms : opts->settings->heartbeat_ms;
    uint32_t silence = told ? told : SILENCE_MS;
    struct gcs_opts store = {.heartbeat_ms = silence,
                             .away_ms = opts->settings->local_session ? 0 : silence};
    struct hold_opts hold = {.deliver = deliver_late, .on_end = on_log_end, .arg = d};
    int r;

    if (!opts->settings->log[0] && !opts->settings->redis[0]) {
        r = gcs_new(&store, &d->gcs);
        return r == 0 ? 0 : err_fail(err, r, "%s", skate_strerror(r));
    }
    hold.log.loop = d->loop;
    hold.log.path = opts->settings->log;
    hold.log.redis = opts->settings->redis;
    hold.log.user = opts->settings->redis_user;
    hold.log.password = opts->settings->redis_password;
    hold.log.name = opts->settings->redis_name;
    hold.log.recover = opts->settings->recover;
    return hold_new(&hold, &store, &d->gcs, &d->hold, err);
}

int gcsd_new(const struct gcsd_opts *opts, struct gcsd **ret, struct skate_error *err) {
    struct net_opts net = {.loop = opts->loop, .pending_max = UNREAD_MAX, .on_log = on_log,
                           .conns_max = LINKS_MAX};
    struct net_address at = {opts->settings->listen_ip, opts->settings->listen_port};
    struct gcsd *d = calloc(1, sizeof *d);
    int r = -SKATE_ENOMEM;

    if (!d) return err_fail(err, r, "%s", skate_strerror(r));
    d->loop = opts->loop;
    d->on_head_lost = opts->on_head_lost;
    d->on_log_end = opts->on_log_end;
    d->arg = opts->arg;
    loop_task_init(&d->down_task, on_down_task, d);
    memcpy(net.key, opts->settings->key, sizeof net.key);
    net.tls = tls_settings_of(&opts->settings->tls);
    net.err = err;
    r = net_new(&net, &d->net);
    net_wipe(net.key, sizeof net.key);
    if (r == 0) r = gate_new(d->loop, d->net, &d->gate);
    if (r == 0) r = loop_timer_new(d->loop, on_tick, d, &d->tick);
    if (r == 0) r = probes_new(d->loop, on_probed, d, &d->probes);
    if (r < 0 && !(err && err->text[0])) (void)err_fail(err, r, "%s", skate_strerror(r));
    /* First: who comes while the log is read waits; nothing is served before the loop runs. */
    if (r == 0) r = net_listen(d->net, at, &new_events, d, &d->listener, err);
    if (r == 0) r = open_store(d, opts, err);
    if (r < 0) {
        (void)gcsd_free(d);
        return r;
    }
    on_tick(d); /* nodes that are known from before are waited for */
    *ret = d;
    return 0;
}

struct gcsd *gcsd_free(struct gcsd *d) {
    if (!d) return NULL;
    d->gate = gate_free(d->gate);
    d->net = net_free(d->net);
    for (uint32_t i = 0; i < d->slots; i++) free(d->links[i]);
    d->hold = hold_free(d->hold);
    loop_unpost(d->loop, &d->down_task);
    d->probes = probes_free(d->probes);
    d->gcs = gcs_free(d->gcs);
    d->tick = loop_timer_free(d->tick);
    gcs_out_release(&d->out);
    free(d->links);
    free(d->down);
    free(d);
    return NULL;
}

uint16_t gcsd_port(const struct gcsd *d) { return net_listener_port(d->listener); }
