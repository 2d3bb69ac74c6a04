/* net.c - what the connections of a daemon share, and listening.
 *
 * Strangers cost little: at most unproven_max connections that have not proved the key (the
 * oldest goes when one more comes), at most one log line a second about them. Chunks of output
 * are kept for reuse up to NET_CHUNKS_KEPT. Loop thread; never blocks.
 * Tests: tests/unit/net_conn_test.c, tests/unit/net_attack_test.c. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/assert.h"
#include "net/net_int.h"
#include "net/tls.h"

enum { ACCEPT_PAUSE_MS = 200 };

struct net_listener {
    struct net_listener *next, **link;
    struct net *net;
    int fd;
    uint16_t port;
    struct loop_watch *watch;
    struct loop_timer *timer; /* descriptors are out: try again */
    const struct conn_events *events;
    void *arg;
};

void net_wipe(void *secret, size_t len) { OPENSSL_cleanse(secret, len); }

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int net_key_from_hex(const char *hex, size_t len, uint8_t ret_key[NET_KEY_BYTES]) {
    if (len != (size_t)2 * NET_KEY_BYTES) return -SKATE_EINVAL;
    for (size_t i = 0; i < len; i++)
        if (hex_digit(hex[i]) < 0) return -SKATE_EINVAL;
    for (size_t i = 0; i < NET_KEY_BYTES; i++)
        ret_key[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    return 0;
}

int net_parse_address(const char *text, char *ret_ip, uint16_t *ret_port) {
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    struct in_addr unused;
    char ip[16], *end;
    unsigned long port;

    if (n == 0 || n >= sizeof ip || colon[1] < '0' || colon[1] > '9') return -SKATE_EINVAL;
    memcpy(ip, text, n);
    ip[n] = 0;
    port = strtoul(colon + 1, &end, 10);
    if (*end || port == 0 || port > 65535 || inet_pton(AF_INET, ip, &unused) != 1)
        return -SKATE_EINVAL;
    memcpy(ret_ip, ip, n + 1);
    *ret_port = (uint16_t)port;
    return 0;
}

/* Pages of its own, left out of core dumps: the cluster's key lies in it. */
static struct net *net_memory(void) {
    void *p = mmap(NULL, sizeof(struct net), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);

    if (p == MAP_FAILED) return NULL;
    (void)madvise(p, sizeof(struct net), MADV_DONTDUMP);
    return p;
}

static void net_memory_free(struct net *n) {
    net_wipe(n, sizeof *n);
    (void)munmap(n, sizeof *n);
}

int net_new(const struct net_opts *opts, struct net **ret) {
    struct net *n;

    if (!opts->loop) return -SKATE_EINVAL;
    /* No configuration files: they cost start-up time and belong to other programs. */
    if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL)) return -SKATE_ESYS;
    n = net_memory();
    if (!n) return -SKATE_ENOMEM;
    n->scratch = malloc(NET_RECORD);
    if (!n->scratch) {
        net_memory_free(n);
        return -SKATE_ENOMEM;
    }
    n->opts = *opts;
    if (!n->opts.unproven_max) n->opts.unproven_max = 512;
    if (!n->opts.conns_max) n->opts.conns_max = 4096;
    if (!n->opts.pending_max) n->opts.pending_max = 64 << 20;
    if (!n->opts.handshake_ms) n->opts.handshake_ms = 5000;
    if (opts->tls.on || opts->tls.cert || opts->tls.key || opts->tls.ca) {
        int r = tls_set_up(n, opts->err);

        if (r < 0) {
            (void)net_free(n);
            return r;
        }
    }
    *ret = n;
    return 0;
}

struct net *net_free(struct net *n) {
    if (!n) return NULL;
    while (n->listeners) (void)net_listener_free(n->listeners);
    while (n->conns) conn_free_now(n->conns);
    while (n->spare) {
        struct chunk *k = n->spare;

        n->spare = k->next;
        free(k);
    }
    tls_tear_down(n);
    free(n->scratch);
    net_memory_free(n);
    return NULL;
}

struct chunk *net_chunk_take(struct net *n) {
    struct chunk *k = n->spare;

    if (k) {
        n->spare = k->next;
        n->spares--;
    } else
        k = malloc(sizeof *k);
    if (k) {
        k->next = NULL;
        k->used = k->sent = 0;
    }
    return k;
}

void net_chunk_give(struct net *n, struct chunk *k) {
    if (n->spares == NET_CHUNKS_KEPT) {
        free(k);
        return;
    }
    k->next = n->spare;
    n->spare = k;
    n->spares++;
}

void net_log_stranger(struct net *n, const char *peer, const char *text) {
    int64_t now = loop_now_ns(n->opts.loop);
    char line[256];

    if (!n->opts.on_log) return;
    if (n->logged_ns && now - n->logged_ns < NET_LOG_NS) {
        n->unlogged++;
        return;
    }
    (void)snprintf(line, sizeof line, "refused a connection peer=%s reason=\"%s\" others=%u", peer,
                   text, n->unlogged);
    n->logged_ns = now;
    n->unlogged = 0;
    n->opts.on_log(n->opts.log_arg, line);
}

/* ------------------------------------------------------------------ listening */

static void drop_oldest_unproven(struct net *n) {
    struct conn *oldest = NULL;

    for (struct conn *c = n->conns; c; c = c->next)
        if (c->state == CONN_ANSWER && (!oldest || c->birth < oldest->birth)) oldest = c;
    SKATE_ASSERT(oldest);
    conn_fail(oldest, -SKATE_EFULL, "too many connections without a proof");
}

static void welcome(struct net_listener *l, int fd, const struct sockaddr_in *from) {
    struct net *n = l->net;
    struct conn *c;

    if (n->accepted >= n->opts.conns_max) {
        net_log_stranger(n, "any", "too many connections");
        (void)close(fd);
        return;
    }
    if (n->unproven >= n->opts.unproven_max) drop_oldest_unproven(n);
    if (conn_new(n, fd, true, l->events, l->arg, &c) < 0) {
        (void)close(fd);
        return;
    }
    (void)inet_ntop(AF_INET, &from->sin_addr, c->ip, sizeof c->ip);
    (void)snprintf(c->peer, sizeof c->peer, "%s:%u", c->ip, ntohs(from->sin_port));
    conn_start_accepted(c);
}

static void on_accept(void *arg, unsigned events) {
    struct net_listener *l = arg;

    (void)events;
    for (int i = 0; i < NET_ACCEPTS; i++) {
        struct sockaddr_in from = {0};
        socklen_t size = sizeof from;
        int fd = accept4(l->fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            welcome(l, fd, &from);
        else if (errno == EAGAIN)
            return;
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            /* What waits in the backlog would call us again and again: look later. */
            net_log_stranger(l->net, "any", strerror(errno));
            loop_watch_set(l->watch, 0);
            loop_timer_start(l->timer, ACCEPT_PAUSE_MS, 0);
            return;
        }
        /* Else the connection was gone before we took it: the next one. */
    }
}

static void on_accept_again(void *arg) {
    struct net_listener *l = arg;

    loop_watch_set(l->watch, LOOP_READ);
}

static int bind_and_listen(int fd, struct net_address at, uint16_t *ret_port,
                           struct skate_error *err) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(at.port)};
    socklen_t size = sizeof name;
    int on = 1;

    if (inet_pton(AF_INET, at.ip, &name.sin_addr) != 1)
        return err_fail(err, -SKATE_EINVAL, "'%s' is not an IPv4 address", at.ip);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, 512) < 0)
        return err_fail(err, errno == EADDRINUSE ? -SKATE_EEXIST : -SKATE_ESYS,
                          "cannot listen on %s:%u: %s", at.ip, at.port, strerror(errno));
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        return err_fail(err, -SKATE_ESYS, "getsockname: %s", strerror(errno));
    *ret_port = ntohs(name.sin_port);
    return 0;
}

int net_listen(struct net *n, struct net_address at, const struct conn_events *events, void *arg,
               struct net_listener **ret, struct skate_error *err) {
    struct net_listener *l;
    int r;

    SKATE_ASSERT(events && events->on_close);
    l = calloc(1, sizeof *l);
    if (!l) return err_fail(err, -SKATE_ENOMEM, "%s", skate_strerror(SKATE_ENOMEM));
    l->net = n;
    l->events = events;
    l->arg = arg;
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0) {
        r = err_fail(err, -SKATE_ESYS, "socket: %s", strerror(errno));
        goto fail;
    }
    r = bind_and_listen(l->fd, at, &l->port, err);
    if (r == 0) r = loop_timer_new(n->opts.loop, on_accept_again, l, &l->timer);
    if (r == 0) r = loop_watch_fd(n->opts.loop, l->fd, LOOP_READ, on_accept, l, &l->watch);
    if (r < 0) goto fail;
    l->next = n->listeners;
    l->link = &n->listeners;
    if (l->next) l->next->link = &l->next;
    n->listeners = l;
    *ret = l;
    return 0;
fail:
    (void)loop_timer_free(l->timer);
    if (l->fd >= 0) (void)close(l->fd);
    free(l);
    return r;
}

uint16_t net_listener_port(const struct net_listener *l) { return l->port; }

struct net_listener *net_listener_free(struct net_listener *l) {
    if (!l) return NULL;
    *l->link = l->next;
    if (l->next) l->next->link = l->link;
    (void)loop_unwatch(l->watch);
    (void)loop_timer_free(l->timer);
    (void)close(l->fd);
    free(l);
    return NULL;
}
