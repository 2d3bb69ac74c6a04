/* fuzz_gate.c - the gate of the GCS's port (gcsd/gate.h) between ends that hold the key and keep to
 * nothing: hellos of any kind, more ends than partners, frames too early, stops, closes at any
 * moment. Frames that come out are whole. */
#include "fuzz.h"

#include "gcsd/gate.h"

enum { ENDS = 8 };

static struct loop *loop;
static struct net *inner, *outer; /* of the gate, of the hostile ends */
static struct net_listener *gate_port, *node_port;
static struct gate *gate;
static struct loop_timer *no_sleep;
static struct conn *ends[ENDS], *dialled;
static uint64_t sum;

static void on_time(void *arg) { (void)arg; }

static void turn(void) {
    loop_timer_start(no_sleep, 0, 0);
    loop_run_once(loop, 0);
}

/* ---- the gate's side ---- */

static void on_first(void *arg, struct conn *c, const void *frame, uint32_t len) {
    (void)arg, (void)len;
    if (wire_head(frame)->kind == WIRE_GATE_HELLO)
        gate_take(gate, c, frame);
    else
        (void)conn_close(c);
}
static void on_first_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)c, (void)code, (void)text;
}
static const struct conn_events first_events = {.on_frame = on_first, .on_close = on_first_close};

/* ---- the ends ---- */

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    (void)arg, (void)c;
    if (wire_check(frame, len) < 0) abort();
    sum += len;
}
static void on_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)code, (void)text;
    for (int i = 0; i < ENDS; i++)
        if (ends[i] == c) ends[i] = NULL;
    if (dialled == c) dialled = NULL;
}
static void on_dialled(void *arg, struct conn *c) {
    (void)arg;
    if (dialled)
        (void)conn_close(c);
    else
        dialled = c;
}
static const struct conn_events end_side = {.on_frame = on_frame, .on_close = on_close};
static const struct conn_events node_side = {.on_ready = on_dialled, .on_frame = on_frame,
                                             .on_close = on_close};

static void tear_down(void) {
    gate = gate_free(gate);
    inner = net_free(inner);
    outer = net_free(outer);
    no_sleep = loop_timer_free(no_sleep);
    loop = loop_free(loop);
    memset(ends, 0, sizeof ends);
    dialled = NULL;
}

static void set_up(void) {
    struct net_address any = {"127.0.0.1", 0};
    struct net_opts opts = {.handshake_ms = 60000};

    if (loop_new(&loop) < 0 || loop_timer_new(loop, on_time, NULL, &no_sleep) < 0) abort();
    opts.loop = loop;
    if (net_new(&opts, &inner) < 0 || net_new(&opts, &outer) < 0 ||
        gate_new(loop, inner, &gate) < 0 ||
        net_listen(inner, any, &first_events, NULL, &gate_port, NULL) < 0 ||
        net_listen(outer, any, &node_side, NULL, &node_port, NULL) < 0)
        abort();
}

static void come(uint32_t i) {
    struct net_address to = {"127.0.0.1", net_listener_port(gate_port)};

    ends[i] = conn_close(ends[i]);
    if (conn_connect(outer, to, &end_side, NULL, &ends[i]) < 0) abort();
    for (int k = 0; k < 300 && ends[i] && !conn_is_ready(ends[i]); k++) turn();
}

static void say(struct conn *c, struct wire_buf *b) {
    if (c && conn_is_ready(c) && b->len && conn_send(c, b->p, b->len) < 0) sum++;
    wire_release(b);
}

static void say_hello(uint32_t i, struct fuzz_in *in) {
    static const char *const ips[] = {"127.0.0.1", "127.0.0.1", "", "300.1.1.1",
                                      "1.2.3.4.5.6.7.8.9.1"};
    const char *ip = ips[fuzz_below(in, 5)];
    struct wire_gate_hello *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GATE_HELLO);
    m->node = fuzz_below(in, 8) ? 1 + fuzz_below(in, 2) : (uint32_t)fuzz_word(in);
    m->to = fuzz_below(in, 3);
    m->port = fuzz_below(in, 2) ? 0 : fuzz_below(in, 4) ? net_listener_port(node_port)
                                                        : (uint32_t)fuzz_word(in);
    m->version = fuzz_below(in, 16) == 1 ? 0 : WIRE_VERSION;
    WIRE_PUT(&b, gate_hello, ip, ip, strlen(ip));
    if (wire_end(&b) < 0) abort();
    say(ends[i], &b);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};

    if (!loop) set_up();
    for (uint32_t steps = 0; in.left && steps < 60; steps++) {
        uint32_t i = fuzz_below(&in, ENDS);
        struct wire_buf b;

        switch (fuzz_below(&in, 8)) {
        case 0:
        case 1:
            if (!ends[i]) come(i);
            say_hello(i, &in);
            break;
        case 2: say_hello(i, &in); break;
        case 3:
            if (fuzz_below(&in, 2)) ends[i] = conn_close(ends[i]);
            break;
        case 4:
            if (dialled && fuzz_below(&in, 4) == 1) dialled = conn_close(dialled);
            break;
        default:
            wire_init(&b, NULL, 0);
            fuzz_frame(&in, fuzz_kind(&in), 1, &b);
            say(fuzz_below(&in, 4) ? ends[i] : dialled, &b);
        }
        for (uint32_t k = fuzz_below(&in, 4); k > 0; k--) turn();
    }
    for (int i = 0; i < ENDS; i++) ends[i] = conn_close(ends[i]);
    dialled = conn_close(dialled);
    for (int i = 0; i < 8; i++) turn();
    tear_down(); /* who waits does so for five seconds at most: not here */
    return 0;
}
