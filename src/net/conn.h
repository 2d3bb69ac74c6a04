/* conn.h - authenticated, encrypted frames between daemons over TCP.
 *
 * Both ends prove that they hold the cluster's key before a byte of either is interpreted
 * (net/handshake.h); then every byte is sealed with AES-256-GCM (net/seal.h), or goes through TLS
 * 1.3 (net/tls.h): always between two machines, and when asked for. All calls come from the loop's
 * thread; none blocks. Callbacks come from the loop, never from inside a call of this
 * module, and what a callback is given is valid until it returns.
 *
 * Life of a connection: conn_connect() or an accepted one -> on_ready -> on_frame ... -> on_close,
 * or conn_close() by its owner (no callback after it). After either the pointer is dead. A
 * connection that was accepted and fails before on_ready is never seen by the owner: it is closed,
 * and logged when the key was wrong. A connector always gets on_ready or on_close.
 * Design: src/net/README.md. Tests: tests/unit/net_conn_test.c, tests/unit/net_attack_test.c. */
#ifndef SKATE_NET_CONN_H
#define SKATE_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

enum { NET_KEY_BYTES = 32 };

struct net;          /* what the connections of a daemon share: loop, key, limits, buffers */
struct net_listener; /* one listening address */
struct conn;         /* one connection */

/* TLS 1.3 (net/tls.h): of whom it is demanded, and with what. */
struct net_tls {
    bool on; /* of everybody; else only of peers on other machines */
    const char *cert, *key, *ca; /* PEM files, all or none; none: a key made of the cluster's */
};

struct net_opts {
    struct loop *loop;               /* borrowed; outlives the net */
    uint8_t key[NET_KEY_BYTES];      /* copied; wipe your own copy (net_wipe) */
    uint32_t unproven_max;           /* accepted, key not proved yet; 0: 512. The oldest goes */
    uint32_t conns_max;              /* accepted ones in all; 0: 4096. A new one is refused */
    uint64_t pending_max;            /* bytes queued on one connection; 0: 64 MB */
    uint32_t handshake_ms;           /* deadline of connect and proof; 0: 5000 */
    void (*on_log)(void *arg, const char *text); /* may be NULL; rate-limited lines */
    void *log_arg;
    struct net_tls tls;              /* its files are read at once */
    struct skate_error *err;         /* why net_new() fails; may be NULL */
};

/* What the owner of a connection is told. All but on_close may be NULL. */
struct conn_events {
    /* The peer has proved the key: frames may be sent. */
    void (*on_ready)(void *arg, struct conn *c);
    /* A whole frame that wire_check() accepts; 8-byte aligned; gone when this returns. */
    void (*on_frame)(void *arg, struct conn *c, const void *frame, uint32_t len);
    /* The queue has fallen to the mark of conn_set_low() after it was above. */
    void (*on_drain)(void *arg, struct conn *c);
    /* The end; `c` is freed when this returns. code: -SKATE_EDEAD the peer closed or vanished,
     * -SKATE_EAUTH wrong key at either end, -SKATE_EPROTO not a Skate daemon, or malformed or
     * forged bytes, -SKATE_EVERSION another protocol version, -SKATE_ETIMEOUT connect or proof
     * took too long, -SKATE_ENOENT nobody listens there, -SKATE_EIO no connection could be made
     * for another reason or it failed, -SKATE_ENOMEM.
     * text: a sentence for people. */
    void (*on_close)(void *arg, struct conn *c, int code, const char *text);
    /* Where bytes [at, at + len) of a frame are to be written that does not lie in one record;
     * `head`: its fixed part, which wire_check() accepts. Asked for each piece just before it is
     * opened, so a place may go away between two; what lies there counts when on_placed has come
     * and not before: a piece may turn out to be forged, which ends the connection. NULL at the
     * first piece (at == head->fixed): the frame is gathered and given to on_frame like any other;
     * at a later one: these bytes are dropped (on_placed comes all the same). Must not end the
     * connection; on_placed may. */
    void *(*on_place)(void *arg, struct conn *c, const void *head, uint32_t at, uint32_t len);
    void (*on_placed)(void *arg, struct conn *c, const void *head);
};

/* 0, -SKATE_ENOMEM, -SKATE_EINVAL (no loop, TLS files) or -SKATE_ESYS. */
SKATE_NODISCARD int net_new(const struct net_opts *opts, struct net **ret);
/* Closes its listeners and connections without callbacks. NULL is fine; NULL back. */
struct net *net_free(struct net *n);
/* Overwrite a secret for sure. */
void net_wipe(void *secret, size_t len);
/* 64 hex digits -> key. 0 or -SKATE_EINVAL. */
SKATE_NODISCARD int net_key_from_hex(const char *hex, size_t len, uint8_t ret_key[NET_KEY_BYTES]);
/* "a.b.c.d:port" -> its parts (ip: at least 16 bytes). 0 or -SKATE_EINVAL. */
SKATE_NODISCARD int net_parse_address(const char *text, char *ret_ip, uint16_t *ret_port);

/* Listen on this IPv4 address only; port 0: any free one (net_listener_port() tells). `events`
 * (borrowed, outlives its connections) and arg are what accepted connections start with; on_ready
 * is the place for conn_set_events(). 0, -SKATE_EINVAL (not an IPv4 address), -SKATE_EEXIST (port
 * in use), -SKATE_ESYS, -SKATE_ENOMEM; err may be NULL. */
struct net_address {
    const char *ip;
    uint16_t port;
};
SKATE_NODISCARD int net_listen(struct net *n, struct net_address at,
                               const struct conn_events *events, void *arg,
                               struct net_listener **ret, struct skate_error *err);
uint16_t net_listener_port(const struct net_listener *l);
/* Stop listening; its connections stay. NULL is fine; NULL back. */
struct net_listener *net_listener_free(struct net_listener *l);

/* Connect. Failures that are known at once come as on_close from the loop, too, except
 * -SKATE_EINVAL (not an IPv4 address), -SKATE_ENOMEM and -SKATE_ESYS. */
SKATE_NODISCARD int conn_connect(struct net *n, struct net_address to,
                                 const struct conn_events *events, void *arg, struct conn **ret);

/* Other callbacks or another argument from now on. */
void conn_set_events(struct conn *c, const struct conn_events *events, void *arg);
/* "ip:port" of the other end; valid as long as c. */
const char *conn_peer(const struct conn *c);
/* Only the "ip" of the other end. */
const char *conn_peer_ip(const struct conn *c);
bool conn_is_ready(const struct conn *c);

/* Queue one frame (head.size == len; copied, so the memory is free at once). It is written before
 * the loop sleeps, together with what else was sent meanwhile; a large queue is written at once.
 *   -SKATE_EAGAIN  not ready yet
 *   -SKATE_EFULL   pending_max bytes are queued: wait for on_drain (nothing was queued)
 *   -SKATE_EINVAL  not a frame
 *   -SKATE_EDEAD   the connection is at its end: on_close follows
 *   -SKATE_ENOMEM  nothing was queued */
SKATE_NODISCARD int conn_send(struct conn *c, const void *frame, size_t len);
/* The same for a frame in pieces (their sum is head.size): a head and bulk bytes that lie
 * elsewhere, without gluing them first. At most 8 pieces. */
struct conn_piece {
    const void *p;
    size_t len;
};
SKATE_NODISCARD int conn_sendv(struct conn *c, const struct conn_piece *pieces, uint32_t count);
/* Bytes queued and not yet given to the kernel. */
uint64_t conn_pending_bytes(const struct conn *c);
/* on_drain comes when the queue has fallen to `bytes` or less after it was above (default: half
 * of pending_max). For feeders of bulk bytes: send until above, go on at on_drain. */
void conn_set_low(struct conn *c, uint64_t bytes);

/* Stop (or go on) reading from it: back-pressure to the peer. */
void conn_pause(struct conn *c, bool paused);

/* End now; queued bytes are dropped; no callback follows. NULL is fine; NULL back. */
struct conn *conn_close(struct conn *c);
/* Write what is queued (at most one handshake deadline), then end; no callback follows and the
 * pointer is dead for the caller. For a last word: a refusal, a stop. */
void conn_finish(struct conn *c);

#endif
