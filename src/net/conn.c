/* conn.c - the life of one connection: start, key proof, ready, end.
 *
 * States and moves are in net_int.h's enum: they only go down it. The end has two steps: conn_end
 * closes the descriptor at once, and end_task, a deferred call, tells the owner and frees, so
 * that a callback which ends its own connection never pulls memory from under its caller.
 * Loop thread; never blocks. Tests: tests/unit/net_conn_test.c, tests/unit/net_attack_test.c. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/net_int.h"
#include "net/tls.h"
#include "wire/frame.h"

enum { TLS_BEGINS = 0x16 }; /* the first byte of a TLS handshake */

static const struct conn_events no_events;

static bool is_unproven(const struct conn *c) { return c->state == CONN_ANSWER; }

static void drop_handshake(struct conn *c) {
    if (!c->handshake) return;
    net_wipe(c->handshake, sizeof *c->handshake);
    free(c->handshake);
    c->handshake = NULL;
}

/* Close for good; end_task does the rest. */
static void conn_end(struct conn *c) {
    SKATE_ASSERT(c->state != CONN_ENDED);
    if (is_unproven(c)) c->net->unproven--;
    if (is_unproven(c) && c->tls) c->net->securing--;
    if (c->accepted) c->net->accepted--;
    c->state = CONN_ENDED;
    c->watch = loop_unwatch(c->watch);
    c->timer = loop_timer_free(c->timer);
    (void)close(c->fd);
    c->fd = -1;
    conn_out_release(c);
    drop_handshake(c);
    loop_unpost(c->net->opts.loop, &c->flush_task);
    loop_unpost(c->net->opts.loop, &c->drain_task);
    loop_unpost(c->net->opts.loop, &c->resume_task);
    loop_post(c->net->opts.loop, &c->end_task);
}

void conn_free_now(struct conn *c) {
    if (c->state != CONN_ENDED) conn_end(c);
    loop_unpost(c->net->opts.loop, &c->end_task);
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    conn_in_release(c);
    seal_release(&c->seal);
    seal_release(&c->open);
    tls_free(c->tls);
    free(c);
}

static void on_end(void *arg) {
    struct conn *c = arg;

    if (c->tell && c->events->on_close) c->events->on_close(c->arg, c, c->end_code, c->end_text);
    conn_free_now(c);
}

void conn_fail(struct conn *c, int code, const char *format, ...) {
    va_list args;

    if (c->state == CONN_ENDED) return;
    va_start(args, format);
    (void)vsnprintf(c->end_text, sizeof c->end_text, format, args);
    va_end(args);
    c->end_code = code;
    if (is_unproven(c) && (code == -SKATE_EAUTH || code == -SKATE_EPROTO))
        net_log_stranger(c->net, c->peer, c->end_text);
    conn_end(c);
}

/* ------------------------------------------------------------------ events of the loop */

static void on_flush(void *arg) { conn_out_flush(arg); }

static void on_drain(void *arg) {
    struct conn *c = arg;

    if (c->state == CONN_READY && c->events->on_drain) c->events->on_drain(c->arg, c);
}

static void on_resume(void *arg) {
    struct conn *c = arg;

    if (c->state == CONN_READY && !c->paused) conn_in_go_on(c);
    if (c->state == CONN_READY && !c->paused && c->tls) conn_in_read(c); /* it may hold some */
}

static void on_deadline(void *arg) {
    struct conn *c = arg;

    if (c->state == CONN_FINISHING)
        conn_end(c);
    else
        conn_fail(c, -SKATE_ETIMEOUT, "no %s in %u ms",
                  c->state == CONN_CONNECTING ? "answer to connect" : "proof of the cluster key",
                  c->net->opts.handshake_ms);
}

void conn_watch(struct conn *c) {
    unsigned want = c->paused ? 0 : LOOP_READ;

    if (c->state == CONN_ENDED) return;
    if (c->blocked) want |= LOOP_WRITE;
    loop_watch_set(c->watch, want);
}

static void unconnected(struct conn *c, int error) {
    int code = error == ECONNREFUSED ? -SKATE_ENOENT : -SKATE_EIO;

    conn_fail(c, code, "cannot connect to %s: %s", c->peer, strerror(error));
}

static void on_connected(struct conn *c) {
    int error = 0;
    socklen_t n = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0) error = errno;
    if (error) {
        unconnected(c, error);
        return;
    }
    c->state = CONN_HELLO;
    loop_watch_set(c->watch, LOOP_READ);
}

/* All is said: close our direction, then wait for the other's end, so that unread input of ours
 * does not reset the connection before the peer has read the last word. */
static void finish_further(struct conn *c) {
    if (c->state != CONN_FINISHING || c->pending > 0 || (!c->broken && tls_unsent(c))) return;
    if (c->broken)
        conn_end(c);
    else
        (void)shutdown(c->fd, SHUT_WR);
}

static void on_event(void *arg, unsigned events) {
    struct conn *c = arg;

    if (c->state == CONN_CONNECTING) {
        on_connected(c);
        return;
    }
    if (events & LOOP_READ) conn_in_read(c);
    if (c->state == CONN_ENDED) return;
    if (events & LOOP_WRITE) {
        c->blocked = false;
        conn_out_flush(c);
        finish_further(c);
    }
    conn_watch(c);
}

/* ------------------------------------------------------------------ the proof */

static int take_keys(struct conn *c) {
    uint8_t from_connector[SEAL_KEY], from_acceptor[SEAL_KEY];
    int r;

    if (c->tls || NET_UNSEALED) {
        seal_init_clear(&c->seal);
        seal_init_clear(&c->open);
        if (c->tls) tls_proved(c);
        return 0;
    }
    r = handshake_keys(c->handshake, c->net->opts.key, from_connector, from_acceptor);

    if (r == 0) r = seal_init(&c->seal, c->accepted ? from_acceptor : from_connector, false);
    if (r == 0) r = seal_init(&c->open, c->accepted ? from_connector : from_acceptor, true);
    net_wipe(from_connector, sizeof from_connector);
    net_wipe(from_acceptor, sizeof from_acceptor);
    return r;
}

static void become_ready(struct conn *c) {
    int r = take_keys(c);

    if (r == 0 && !conn_in_grow(c, NET_IN_SMALL)) return;
    if (r < 0) {
        conn_fail(c, r, "%s", skate_strerror(r));
        return;
    }
    if (is_unproven(c)) c->net->unproven--;
    if (is_unproven(c) && c->tls) c->net->securing--;
    c->state = CONN_READY;
    c->tell = true;
    drop_handshake(c);
    c->timer = loop_timer_free(c->timer);
    if (c->events->on_ready) c->events->on_ready(c->arg, c);
}

static void proof_failed(struct conn *c, int code) {
    if (code == -SKATE_EAUTH)
        conn_fail(c, code, "wrong cluster key");
    else if (code == -SKATE_EVERSION)
        conn_fail(c, code, "the peer speaks another version of the protocol, not %d", WIRE_VERSION);
    else
        conn_fail(c, code, "%s",
                  code == -SKATE_EPROTO ? "not a Skate daemon" : skate_strerror(code));
}

static int send_answer(struct conn *c) {
    uint8_t hello[HANDSHAKE_HELLO], answer[HANDSHAKE_ANSWER];
    int r;

    memcpy(hello, c->handshake->transcript, sizeof hello);
    r = handshake_answer(c->handshake, c->net->opts.key, hello, answer);
    if (r == 0) r = conn_out_raw(c, answer, sizeof answer);
    if (r == 0) {
        c->state = CONN_PROOF;
        conn_out_flush(c);
    }
    return r;
}

/* TLS when either end's policy demands it: more than was asked for is never wrong. */
static int take_hello(struct conn *c, const uint8_t *hello) {
    int flags = handshake_flags(hello);

    c->in_pos += HANDSHAKE_HELLO;
    if (flags < 0) return flags;
    memcpy(c->handshake->transcript, hello, HANDSHAKE_HELLO);
    if (!(flags & HANDSHAKE_TLS) && !tls_is_demanded(c)) return send_answer(c);
    c->state = CONN_SECURE;
    return tls_start(c);
}

/* An acceptor's first look at what a connector says: TLS, or the answer itself. */
static int take_begin(struct conn *c, const uint8_t *p, uint32_t have) {
    if (c->tls) return handshake_begins(p, have);
    if (*p == TLS_BEGINS) return tls_start(c);
    if (!c->demanded) return handshake_begins(p, have);
    if (handshake_begins(p, have) < 0) return -SKATE_EPROTO;
    conn_fail(c, -SKATE_EPROTO, "it does not speak TLS, which is demanded here");
    return 0;
}

bool conn_secure(struct conn *c) {
    struct skate_error err = {""};
    uint8_t binding[32];
    int r = tls_further(c, &err);

    if (r < 0) {
        conn_fail(c, r, "%s", err.text);
        return false;
    }
    if (r == 0) {
        c->blocked = tls_unsent(c) > 0;
        conn_watch(c);
        return false;
    }
    r = tls_binding(c, binding);
    c->secured = true;
    handshake_bind(c->handshake, binding);
    if (r == 0 && !c->accepted) r = send_answer(c);
    if (r < 0) conn_fail(c, r, "%s", skate_strerror(r));
    return c->state != CONN_ENDED;
}

/* The next step when its fixed-size message is here whole. */
void conn_prove(struct conn *c) {
    uint8_t proof[HANDSHAKE_PROOF];
    const uint8_t *p = c->in + c->in_pos;
    uint32_t have = c->in_end - c->in_pos;
    int r = 0;

    if (c->state == CONN_HELLO && have >= HANDSHAKE_HELLO) {
        r = take_hello(c, p);
    } else if (c->state == CONN_PROOF && have >= HANDSHAKE_PROOF) {
        r = handshake_check(c->handshake, p);
        c->in_pos += HANDSHAKE_PROOF;
        if (r == 0) become_ready(c);
    } else if (c->state == CONN_ANSWER && have && (r = take_begin(c, p, have)) < 0) {
        c->in_pos = c->in_end;
    } else if (c->state == CONN_ANSWER && (!c->tls || c->secured) && have >= HANDSHAKE_ANSWER) {
        r = handshake_prove(c->handshake, p, proof);
        c->in_pos += HANDSHAKE_ANSWER;
        if (r == 0) r = conn_out_raw(c, proof, sizeof proof);
        if (r == 0) {
            conn_out_flush(c);
            become_ready(c);
        }
    } else if (c->state == CONN_HELLO)
        r = handshake_begins(p, have);
    if (r < 0 && c->state != CONN_ENDED) proof_failed(c, r);
}

/* ------------------------------------------------------------------ making one */

/* Who has dialled dials again: it gives a connection up when nothing of it was acknowledged for
 * 2.5 s. The other side only clears away what hangs. */
static void set_options(int fd, bool accepted) {
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, accepted ? 5 : 1},
        {IPPROTO_TCP, TCP_KEEPINTVL, accepted ? 2 : 1},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, accepted ? 30000 : 2500},
    };

    /* Each is an improvement only: a kernel that refuses one is used as it is. */
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

int conn_new(struct net *n, int fd, bool accepted, const struct conn_events *events, void *arg,
             struct conn **ret) {
    struct conn *c = calloc(1, sizeof *c);
    int r = -SKATE_ENOMEM;

    if (!c) return r;
    *c = (struct conn){.net = n, .fd = fd, .accepted = accepted, .tell = !accepted,
                       .events = events, .arg = arg, .low = n->opts.pending_max / 2,
                       .state = accepted ? CONN_ANSWER : CONN_CONNECTING, .birth = n->births++};
    loop_task_init(&c->flush_task, on_flush, c);
    loop_task_init(&c->drain_task, on_drain, c);
    loop_task_init(&c->resume_task, on_resume, c);
    loop_task_init(&c->end_task, on_end, c);
    c->in = malloc(NET_IN_NEW);
    c->handshake = calloc(1, sizeof *c->handshake);
    if (!c->in || !c->handshake) goto fail;
    c->in_cap = NET_IN_NEW;
    r = loop_timer_new(n->opts.loop, on_deadline, c, &c->timer);
    if (r < 0) goto fail;
    r = loop_watch_fd(n->opts.loop, fd, accepted ? LOOP_READ : LOOP_WRITE, on_event, c, &c->watch);
    if (r < 0) goto fail;
    set_options(fd, accepted);
    loop_timer_start(c->timer, n->opts.handshake_ms, 0);
    c->next = n->conns;
    c->link = &n->conns;
    if (c->next) c->next->link = &c->next;
    n->conns = c;
    if (accepted) {
        n->accepted++;
        n->unproven++;
    }
    *ret = c;
    return 0;
fail:
    c->timer = loop_timer_free(c->timer);
    free(c->handshake);
    free(c->in);
    free(c);
    return r;
}

void conn_start_accepted(struct conn *c) {
    uint8_t hello[HANDSHAKE_HELLO];
    int r;

    c->demanded = tls_is_demanded(c);
    r = handshake_accept(c->handshake, c->net->opts.key, c->demanded ? HANDSHAKE_TLS : 0, hello);
    if (r == 0) r = conn_out_raw(c, hello, sizeof hello);
    if (r < 0)
        conn_fail(c, r, "%s", skate_strerror(r));
    else
        conn_out_flush(c);
}

int conn_connect(struct net *n, struct net_address to, const struct conn_events *events, void *arg,
                 struct conn **ret) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(to.port)};
    struct conn *c;
    int fd, r, error = 0;

    SKATE_ASSERT(events && events->on_close);
    if (inet_pton(AF_INET, to.ip, &at.sin_addr) != 1 || to.port == 0) return -SKATE_EINVAL;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -SKATE_ESYS;
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0 && errno != EINPROGRESS) error = errno;
    r = conn_new(n, fd, false, events, arg, &c);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    (void)snprintf(c->ip, sizeof c->ip, "%s", to.ip);
    (void)snprintf(c->peer, sizeof c->peer, "%s:%u", c->ip, to.port);
    if (error) unconnected(c, error);
    *ret = c;
    return 0;
}

/* ------------------------------------------------------------------ the owner's calls */

void conn_set_events(struct conn *c, const struct conn_events *events, void *arg) {
    c->events = events;
    c->arg = arg;
}

const char *conn_peer(const struct conn *c) { return c->peer; }
const char *conn_peer_ip(const struct conn *c) { return c->ip; }
bool conn_is_ready(const struct conn *c) { return c->state == CONN_READY; }

void conn_pause(struct conn *c, bool paused) {
    if (c->paused == paused || c->state == CONN_ENDED) return;
    c->paused = paused;
    conn_watch(c);
    if (!paused) loop_post(c->net->opts.loop, &c->resume_task);
}

struct conn *conn_close(struct conn *c) {
    if (!c) return NULL;
    c->tell = false;
    c->events = &no_events;
    if (c->state != CONN_ENDED) conn_end(c);
    return NULL;
}

void conn_finish(struct conn *c) {
    c->tell = false;
    c->events = &no_events;
    if (c->state != CONN_READY || c->broken ||
        loop_timer_new(c->net->opts.loop, on_deadline, c, &c->timer) < 0) {
        if (c->state != CONN_ENDED) conn_end(c);
        return;
    }
    loop_timer_start(c->timer, c->net->opts.handshake_ms, 0);
    conn_out_flush(c);
    if (c->state == CONN_ENDED) return;
    c->state = CONN_FINISHING;
    c->paused = false;
    loop_unpost(c->net->opts.loop, &c->flush_task);
    finish_further(c);
    conn_watch(c);
}
