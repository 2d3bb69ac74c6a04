/* fuzz_tls.c - two honest ends, TLS or sealed records between them, and a wire in our hands: bytes
 * are handed on in pieces of any size, held back, changed, dropped, said twice, or strangers' bytes
 * are put between them. Ends send, pause, close and finish as the input says. Whatever comes out is
 * a beginning of what was sent, in order and unchanged; without a change it is all of it. */
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "net/net_int.h"

enum { WIRE = 1 << 20 };

static struct loop *loop;
static struct net *nets[2][2]; /* with TLS or not; acceptor's, connector's */
static struct loop_timer *no_sleep;
static struct end {
    struct conn *c;
    struct net *net;
    int fd; /* our side of its socket */
    uint64_t sent, got;
    bool closed;
} ends[2];
static struct { /* what one end said and the other has not got yet */
    uint8_t data[WIRE];
    uint32_t have;
} wires[2];
static bool bent;

static void on_time(void *arg) { (void)arg; }

static void turn(void) {
    loop_timer_start(no_sleep, 0, 0);
    loop_run_once(loop, 0);
    for (int i = 0; i < 2; i++) /* an accepted one without a proof ends without a word */
        if (ends[i].c && ends[i].net->conns == NULL) {
            ends[i].c = NULL;
            ends[i].closed = true;
        }
}

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct end *e = arg;
    const struct wire_bulk_data *m = frame;
    const uint8_t *p;
    uint32_t n;

    (void)c;
    if (wire_head(frame)->kind != WIRE_BULK_DATA || m->req != e->got) abort(); /* not in order */
    p = wire_bulk_data_data(m, &n);
    if (m->pos != n || len < n) abort();
    for (uint32_t i = 0; i < n; i++)
        if (p[i] != (uint8_t)(e->got + i)) abort();
    e->got++;
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    struct end *e = arg;

    (void)c, (void)code, (void)text;
    e->c = NULL;
    e->closed = true;
}

static const struct conn_events events = {.on_frame = on_frame, .on_close = on_close};

static void tear_down(void) {
    for (int i = 0; i < 4; i++) nets[i / 2][i % 2] = net_free(nets[i / 2][i % 2]);
    no_sleep = loop_timer_free(no_sleep);
    loop = loop_free(loop);
}

static void set_up(void) {
    if (loop_new(&loop) < 0 || loop_timer_new(loop, on_time, NULL, &no_sleep) < 0) abort();
    for (int i = 0; i < 4; i++) {
        struct net_opts opts = {.loop = loop, .handshake_ms = 60000, .tls = {.on = i / 2 == 1}};

        memset(opts.key, 5, sizeof opts.key);
        if (net_new(&opts, &nets[i / 2][i % 2]) < 0) abort();
    }
    (void)atexit(tear_down);
}

static void open_end(int i, struct net *n) {
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) abort();
    ends[i] = (struct end){.fd = pair[1], .net = n};
    if (conn_new(n, pair[0], i == 0, &events, &ends[i], &ends[i].c) < 0) abort();
    if (i == 0) conn_start_accepted(ends[i].c);
    wires[i].have = 0;
}

/* What end i has said comes to our side of the wire; up to n bytes of it go on. */
static void hand_on(int i, uint32_t n) {
    uint8_t *p = wires[i].data;
    ssize_t r = recv(ends[i].fd, p + wires[i].have, WIRE - wires[i].have, MSG_DONTWAIT);

    if (r > 0) wires[i].have += (uint32_t)r;
    if (n > wires[i].have) n = wires[i].have;
    r = n ? send(ends[!i].fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (r <= 0) return;
    wires[i].have -= (uint32_t)r;
    memmove(p, p + r, wires[i].have);
}

static void bend(int i, struct fuzz_in *in) {
    uint8_t *p = wires[i].data;
    uint32_t have = wires[i].have, at = have ? (uint32_t)fuzz_bytes(in, 2) % have : 0, n;

    n = 1 + fuzz_below(in, 40);
    if (n > have - at) n = have - at;
    switch (fuzz_below(in, 4)) {
    case 0: /* changed */
        if (n == 0) return;
        p[at] ^= (uint8_t)(1 + fuzz_below(in, 255));
        break;
    case 1: /* dropped */
        if (n == 0) return;
        memmove(p + at, p + at + n, have - at - n);
        wires[i].have -= n;
        break;
    case 2: /* twice */
        if (n == 0 || have + n > WIRE) return;
        memmove(p + at + n, p + at, have - at);
        wires[i].have += n;
        break;
    default: /* a stranger's */
        if (n == 0) n = 8;
        if (have + n > WIRE) return;
        memmove(p + at + n, p + at, have - at);
        for (uint32_t k = 0; k < n; k++) p[at + k] = (uint8_t)fuzz_bytes(in, 1);
        wires[i].have += n;
    }
    bent = true;
}

static void say(int i, struct fuzz_in *in) {
    uint32_t n = fuzz_below(in, 4) ? fuzz_below(in, 200) : (uint32_t)fuzz_bytes(in, 2) * 2;
    struct wire_bulk_data *m;
    struct wire_buf b;
    uint8_t *data = malloc(n ? n : 1);

    if (!data) return;
    for (uint32_t k = 0; k < n; k++) data[k] = (uint8_t)(ends[i].sent + k);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_BULK_DATA);
    m->req = ends[i].sent;
    m->pos = n;
    WIRE_PUT(&b, bulk_data, data, data, n);
    if (wire_end(&b) == 0 && ends[i].c && conn_send(ends[i].c, b.p, b.len) == 0) ends[i].sent++;
    wire_release(&b);
    free(data);
}

static void one_step(struct fuzz_in *in) {
    int i = (int)fuzz_below(in, 2);

    switch (fuzz_below(in, 16)) {
    case 0:
        if (fuzz_below(in, 4) == 1) bend(i, in);
        break;
    case 1:
        if (ends[i].c) conn_pause(ends[i].c, true);
        break;
    case 2:
    case 3:
        if (ends[i].c) conn_pause(ends[i].c, false);
        break;
    case 4:
        if (fuzz_below(in, 64) == 1 && ends[i].c) {
            conn_finish(ends[i].c);
            ends[i].c = NULL;
        }
        break;
    case 5:
    case 6:
    case 7:
    case 8: say(i, in); break;
    case 9: hand_on(i, fuzz_below(in, 100)); break;
    default: hand_on(i, WIRE);
    }
    turn();
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};
    uint32_t who;

    if (!loop) set_up();
    who = 1 + fuzz_below(&in, 7) % 4; /* 4: neither demands TLS */
    bent = false;
    open_end(0, nets[who & 1][0]);
    open_end(1, nets[who >> 1 & 1][1]);
    if (fuzz_below(&in, 8)) /* to the end of the handshake */
        for (int i = 0; i < 12; i++) {
            hand_on(i & 1, WIRE);
            turn();
        }
    while (in.left) one_step(&in);
    for (int i = 0; i < 2; i++)
        if (ends[i].c) conn_pause(ends[i].c, false);
    for (int i = 0; i < 40 || (!bent && i < 4000 && ends[0].c && ends[1].c &&
                               (ends[0].got < ends[1].sent || ends[1].got < ends[0].sent));
         i++) {
        hand_on(i & 1, WIRE);
        turn();
    }
    if (ends[0].got > ends[1].sent || ends[1].got > ends[0].sent) abort();
    if (!bent && ends[0].c && ends[1].c &&
        (ends[0].got < ends[1].sent || ends[1].got < ends[0].sent))
        abort(); /* it hangs */
    if (!bent && (ends[0].closed != ends[1].closed) && ends[0].c && ends[1].c) abort();
    for (int i = 0; i < 2; i++) {
        if (ends[i].c) ends[i].c = conn_close(ends[i].c);
        close(ends[i].fd);
    }
    for (int i = 0; i < 4; i++) turn();
    for (int i = 0; i < 4; i++) {
        struct net *n = nets[i / 2][i % 2];

        while (n->conns) conn_free_now(n->conns); /* those that finish */
        if (n->accepted || n->unproven || n->securing) abort();
    }
    return 0;
}
