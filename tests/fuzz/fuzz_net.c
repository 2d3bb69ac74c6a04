/* fuzz_net.c - both ends of a connection against strangers (whatever bytes, cut anywhere) and
 * against a peer that has proved the key and then breaks every rule of records and frames. A
 * stranger must never be taken for a peer; what is delivered is readable to its last byte; no
 * connection and no count is left behind. */
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "net/net_int.h"
#include "wire/frame.h"

static struct loop *loop;
static struct net *net;
static struct loop_timer *no_sleep;
static const uint8_t key[NET_KEY_BYTES] = {7, 7, 7};
static struct conn *ours;
static uint32_t readies;
static uint64_t sum;
static struct fuzz_in *now; /* the callbacks choose, too */

static void on_time(void *arg) { (void)arg; }

static void turn(void) {
    loop_timer_start(no_sleep, 0, 0);
    loop_run_once(loop, 0);
    if (!net->conns) ours = NULL; /* an accepted one without a proof ends without a word */
}

static void on_ready(void *arg, struct conn *c) {
    (void)arg, (void)c;
    readies++;
}

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    const uint8_t *p = frame;

    (void)arg;
    if (wire_check(frame, len) < 0 || (uintptr_t)frame % 8) abort();
    for (uint32_t i = 0; i < len; i++) sum += p[i];
    switch (fuzz_below(now, 64)) {
    case 1: ours = conn_close(c); break;
    case 2:
        ours = NULL;
        conn_finish(c);
        break;
    case 3: conn_pause(c, true); break;
    case 4: sum += (uint64_t)conn_send(c, frame, len); break;
    default: break;
    }
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)c;
    ours = NULL;
    sum += (uint64_t)code + strlen(text);
}

/* A place of exactly this size, or none; the last one is given up at the next. */
static void *on_place(void *arg, struct conn *c, const void *head, uint32_t at, uint32_t len) {
    static void *place;

    (void)arg, (void)c;
    free(place);
    place = NULL;
    if (at < wire_head(head)->fixed || at + len < at || at + len > wire_head(head)->size) abort();
    if (fuzz_below(now, 4)) place = malloc(len ? len : 1);
    return place;
}

static void on_placed(void *arg, struct conn *c, const void *head) {
    (void)arg;
    sum += wire_head(head)->size;
    if (fuzz_below(now, 16) == 1) ours = conn_close(c);
}

static const struct conn_events events = {.on_ready = on_ready, .on_frame = on_frame,
                                          .on_close = on_close, .on_place = on_place,
                                          .on_placed = on_placed};

static void tear_down(void) {
    net = net_free(net);
    no_sleep = loop_timer_free(no_sleep);
    loop = loop_free(loop);
}

static void set_up(void) {
    struct net_opts opts = {.handshake_ms = 60000};

    if (loop_new(&loop) < 0 || loop_timer_new(loop, on_time, NULL, &no_sleep) < 0) abort();
    opts.loop = loop;
    memcpy(opts.key, key, sizeof key);
    if (net_new(&opts, &net) < 0) abort();
    (void)atexit(tear_down);
}

static void give(int fd, const void *p, size_t len) {
    const uint8_t *at = p;

    for (int i = 0; i < 40 && len > 0 && net->conns; i++) { /* it may have stopped reading */
        ssize_t n = send(fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) at += n, len -= (size_t)n;
        turn();
        if (ours && fuzz_below(now, 16) == 1) conn_pause(ours, false);
    }
}

static bool take(int fd, void *p, size_t len) {
    for (int i = 0; i < 100; i++) {
        if (recv(fd, p, len, MSG_DONTWAIT | MSG_PEEK) == (ssize_t)len)
            return recv(fd, p, len, MSG_DONTWAIT) == (ssize_t)len;
        turn();
    }
    return false;
}

/* We prove the key, as the other side of `ours`; the seal for what we say. */
static bool prove(int fd, bool to_acceptor, struct seal *s) {
    uint8_t hello[HANDSHAKE_HELLO], answer[HANDSHAKE_ANSWER], proof[HANDSHAKE_PROOF];
    uint8_t from_connector[SEAL_KEY], from_acceptor[SEAL_KEY];
    struct handshake h = {0};

    if (to_acceptor) {
        if (!take(fd, hello, sizeof hello) || handshake_answer(&h, key, hello, answer) < 0)
            return false;
        give(fd, answer, sizeof answer);
        if (!take(fd, proof, sizeof proof) || handshake_check(&h, proof) < 0) return false;
    } else {
        if (handshake_accept(&h, key, 0, hello) < 0) return false;
        give(fd, hello, sizeof hello);
        if (!take(fd, answer, sizeof answer) || handshake_prove(&h, answer, proof) < 0)
            return false;
        give(fd, proof, sizeof proof);
    }
    turn();
    if (handshake_keys(&h, key, from_connector, from_acceptor) < 0) return false;
    return seal_init(s, to_acceptor ? from_connector : from_acceptor, false) == 0;
}

static void give_record(int fd, struct seal *s, const uint8_t *plain, uint32_t len,
                        struct fuzz_in *in) {
    static uint8_t out[NET_RECORD + NET_OVER];

    memcpy(out, &len, NET_HEAD);
    if (seal_begin(s, out, NET_HEAD) < 0 || seal_bytes(s, plain, len, out + NET_HEAD) < 0 ||
        seal_end(s, out + NET_HEAD + len) < 0)
        abort();
    if (fuzz_below(in, 64) == 1) out[fuzz_bytes(in, 2) % (len + NET_OVER)] ^= 1;
    if (fuzz_below(in, 4)) {
        give(fd, out, len + NET_OVER);
        return;
    }
    give(fd, out, len / 2 + 1);
    give(fd, out + len / 2 + 1, len + NET_OVER - len / 2 - 1);
}

/* Frames back to back, some with a lie about their size, cut into records where it pleases. */
static void give_frames(int fd, struct seal *s, struct fuzz_in *in) {
    static uint8_t plain[NET_RECORD];
    uint32_t used = 0, at = 0;

    for (uint32_t n = 1 + fuzz_below(in, 4); n > 0; n--) {
        struct wire_buf b;
        uint32_t size;

        wire_init(&b, NULL, 0);
        fuzz_frame(in, fuzz_kind(in), 1, &b);
        size = (uint32_t)((b.len + 7) & ~(size_t)7);
        if (used + size <= sizeof plain) {
            memset(plain + used, 0, size);
            memcpy(plain + used, b.p, b.len);
            if (fuzz_below(in, 16) == 1) {
                uint32_t lie = (uint32_t)fuzz_word(in);

                memcpy(plain + used, &lie, sizeof lie);
            }
            used += size;
        }
        wire_release(&b);
    }
    while (at < used) {
        uint32_t n = fuzz_below(in, 2) ? used - at : 8 * (1 + fuzz_below(in, 200));

        if (n > used - at) n = used - at;
        give_record(fd, s, plain + at, n, in);
        at += n;
    }
}

static void as_peer(int fd, struct seal *s, struct fuzz_in *in) {
    while (in->left && net->conns) {
        uint8_t raw[64] = {0};
        uint32_t n = 8 + 8 * fuzz_below(in, 7);

        switch (fuzz_below(in, 8)) {
        case 0:
            for (uint32_t i = 0; i < n; i++) raw[i] = (uint8_t)fuzz_bytes(in, 1);
            give_record(fd, s, raw, n, in);
            break;
        case 1:
            for (uint32_t i = 0; i < n; i++) raw[i] = (uint8_t)fuzz_bytes(in, 1);
            if (fuzz_below(in, 8) == 1) give(fd, raw, n);
            break;
        default: give_frames(fd, s, in);
        }
    }
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};
    bool accepted, known;
    struct seal s = {0};
    int pair[2];

    if (!loop) set_up();
    now = &in;
    accepted = fuzz_below(&in, 2);
    known = fuzz_below(&in, 4) != 0;
    readies = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) abort();
    if (conn_new(net, pair[0], accepted, &events, NULL, &ours) < 0) abort();
    if (accepted) conn_start_accepted(ours);
    turn();
    if (!known) {
        give(pair[1], in.p, in.left);
        if (readies) abort();
    } else if (prove(pair[1], accepted, &s))
        as_peer(pair[1], &s, &in);
    else
        abort();
    seal_release(&s);
    in.left = 0;
    close(pair[1]);
    for (int i = 0; i < 4; i++) turn();
    if (ours) ours = conn_close(ours);
    turn();
    while (net->conns) conn_free_now(net->conns); /* those that finish */
    if (net->accepted || net->unproven) abort();
    return 0;
}
