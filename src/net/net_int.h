/* net_int.h - what the files of src/net share; nobody else includes it. */
#ifndef SKATE_NET_NET_INT_H
#define SKATE_NET_NET_INT_H

#include "net/conn.h"
#include "net/handshake.h"
#include "net/seal.h"

/* 1 only in the daemons that bench/seal.py is the measure of: nothing is sealed. */
#ifndef NET_UNSEALED
#define NET_UNSEALED 0
#endif

enum {
    NET_RECORD = 64 * 1024,                  /* most plain bytes in one sealed record */
    NET_HEAD = 4,                            /* clear length before each record */
    NET_OVER = NET_HEAD + SEAL_TAG,          /* what sealing adds to a record */
    NET_CHUNK = NET_RECORD + NET_OVER + 128, /* one piece of an output queue */
    NET_CHUNKS_KEPT = 64,                    /* unused chunks that a net keeps: 4 MB */
    NET_COPY = 8 * 1024,                     /* smaller frames are gathered into one record */
    NET_WRITE = 256 * 1024,                  /* queued bytes that are written without waiting */
    NET_IN_NEW = 256,                        /* input buffer before the proof */
    NET_IN_SMALL = 4096,                     /* of a quiet connection */
    NET_IN_LARGE = 4 * (NET_RECORD + NET_OVER),
    NET_TURN = 256 * 1024,       /* bytes read from one connection before others get a turn */
    NET_FRAME_KEPT = 2 << 20,    /* a frame buffer that is kept for the next one */
    NET_FIXED = 128,             /* of a frame whose bytes go to a place of the owner's */
    NET_ACCEPTS = 64,            /* accepted in one turn */
    NET_LOG_NS = 1000 * 1000000, /* at most one line about strangers in this time */
};

/* A piece of an output queue, or the plain bytes that wait to be sealed. */
struct chunk {
    struct chunk *next;
    uint32_t used, sent;
    uint8_t data[NET_CHUNK];
};

struct net {
    struct net_opts opts;
    struct conn *conns;
    struct net_listener *listeners;
    struct chunk *spare;
    uint32_t spares, accepted, unproven, securing; /* securing: unproven ones in TLS */
    struct tls_shared *tls;                        /* NULL: not needed yet */
    uint64_t births;
    int64_t logged_ns; /* when strangers were last logged */
    uint32_t unlogged;
    uint8_t *scratch; /* NET_RECORD opened bytes */
};

enum conn_state {
    CONN_CONNECTING, /* connector: TCP not there yet */
    CONN_HELLO,      /* connector: waits for the hello */
    CONN_SECURE,     /* connector: waits for the TLS session */
    CONN_PROOF,      /* connector: waits for the acceptor's proof */
    CONN_ANSWER,     /* acceptor: waits for the answer */
    CONN_READY,
    CONN_FINISHING, /* the owner is gone; writes what is queued */
    CONN_ENDED,     /* closed; freed, after on_close where due, by end_task */
};

struct conn {
    struct conn *next, **link; /* of net.conns */
    struct net *net;
    int fd;
    enum conn_state state;
    bool accepted, paused;
    bool blocked; /* the kernel took no more: wait for LOOP_WRITE */
    bool broken;  /* a write failed: only what can still be read counts */
    bool above;   /* the queue was above `low`: on_drain is due when it is not */
    bool tell;    /* on_close is due */
    int end_code;
    uint64_t birth;
    struct loop_watch *watch;
    struct loop_timer *timer;
    const struct conn_events *events;
    void *arg;
    struct loop_task flush_task, drain_task, resume_task, end_task;

    struct handshake *handshake; /* until ready */
    struct seal seal, open;
    struct tls *tls; /* NULL: the socket itself */
    bool demanded;   /* acceptor: TLS of this peer */
    bool secured;    /* the TLS session is there, and the proof bound to it */

    uint8_t *in; /* raw bytes [in_pos, in_end) not yet consumed */
    uint32_t in_pos, in_end, in_cap;
    uint8_t *frame; /* a frame that came in more than one record */
    uint32_t frame_have, frame_size, frame_cap;
    uint64_t placed[NET_FIXED / 8]; /* its fixed part, when the rest goes to on_place */
    bool placing;

    struct chunk *plain; /* frames to be sealed into the next record */
    struct chunk *out, *out_last;
    uint64_t pending, low;

    char ip[16], peer[24];
    char end_text[160];
};

/* net.c */
void net_log_stranger(struct net *n, const char *peer, const char *text);
struct chunk *net_chunk_take(struct net *n);
void net_chunk_give(struct net *n, struct chunk *k);

/* conn.c */
SKATE_NODISCARD int conn_new(struct net *n, int fd, bool accepted, const struct conn_events *events,
                             void *arg, struct conn **ret);
void conn_start_accepted(struct conn *c);
void conn_fail(struct conn *c, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conn_free_now(struct conn *c);
void conn_watch(struct conn *c); /* for what the state asks */
void conn_prove(struct conn *c); /* the next step of the handshake, if its bytes are here */
/* The next step of the TLS handshake; true: the session is there. */
bool conn_secure(struct conn *c);

/* conn_out.c */
SKATE_NODISCARD int conn_out_raw(struct conn *c, const void *data, size_t len);
void conn_out_flush(struct conn *c);
void conn_out_release(struct conn *c);

/* conn_in.c */
void conn_in_read(struct conn *c);
/* Make the input buffer this large, its content at the start; false: it has failed. */
bool conn_in_grow(struct conn *c, uint32_t cap);
void conn_in_go_on(struct conn *c);
void conn_in_release(struct conn *c);

#endif
