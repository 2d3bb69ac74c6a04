/* gcs_gate_test.c - connections joined at the GCS's port: to a node, to an outpost's reserve.
 * links: base loop wire net sched gcs gcsd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/futex.h"
#include "gcsd/gate.h"
#include "gcsd/gcsd.h"

enum { BIG = 1 << 20, BIGS = 96 };

struct peer {
    struct conn *conn;
    bool ready, closed;
    uint64_t next, wrong; /* stamps come in order from 0 */
};

static struct loop *loop;
static struct net *net;
static struct gcsd *gcsd;
static struct net_listener *listener;
static struct peer far; /* the newest connection that a node has accepted */

static void on_ready(void *arg, struct conn *c) {
    (void)c;
    ((struct peer *)arg)->ready = true;
}

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct peer *p = arg;
    uint64_t stamp = UINT64_MAX;

    (void)c, (void)len;
    if (wire_head(frame)->kind == WIRE_PING) stamp = ((const struct wire_ping *)frame)->stamp;
    if (wire_head(frame)->kind == WIRE_BULK_DATA)
        stamp = ((const struct wire_bulk_data *)frame)->req;
    p->wrong += stamp != p->next;
    p->next++;
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    struct peer *p = arg;

    (void)c, (void)code, (void)text;
    p->closed = true;
    p->conn = NULL;
}

static const struct conn_events events = {.on_ready = on_ready, .on_frame = on_frame,
                                          .on_close = on_close};

static void on_accept(void *arg, struct conn *c) {
    (void)arg;
    far = (struct peer){.conn = c, .ready = true};
    conn_set_events(c, &events, &far);
}

static const struct conn_events accept_events = {.on_ready = on_accept, .on_close = on_close};

static int start(void **state) {
    struct gcsd_settings s = {.listen_ip = "127.0.0.1"};
    struct gcsd_opts opts = {.settings = &s};
    struct net_opts n = {.pending_max = UINT64_C(1) << 30};

    (void)state;
    far = (struct peer){0};
    memset(s.key, 3, sizeof s.key);
    memset(n.key, 3, sizeof n.key);
    if (loop_new(&loop) < 0) return -1;
    opts.loop = n.loop = loop;
    if (gcsd_new(&opts, &gcsd, NULL) < 0 || net_new(&n, &net) < 0) return -1;
    return net_listen(net, (struct net_address){"127.0.0.1", 0}, &accept_events, &far, &listener,
                      NULL);
}

static int stop(void **state) {
    (void)state;
    net = net_free(net);
    gcsd = gcsd_free(gcsd);
    loop = loop_free(loop);
    return 0;
}

#define UNTIL(condition)                                                                       \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + INT64_C(60000000000);                                   \
        while (!(condition)) {                                                                 \
            if (time_now_ns() > end_) fail_msg("not in time: %s", #condition);                 \
            loop_run_once(loop, 20);                                                           \
        }                                                                                      \
    } while (0)

static void dial(struct peer *p) {
    *p = (struct peer){0};
    assert_int_equal(conn_connect(net, (struct net_address){"127.0.0.1", gcsd_port(gcsd)}, &events,
                                  p, &p->conn), 0);
    UNTIL(p->ready);
}

static const char *hello_ip = "127.0.0.1";

static void hello(struct peer *p, uint32_t node, uint32_t to, uint16_t port) {
    struct wire_gate_hello *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GATE_HELLO);
    m->node = node;
    m->to = to;
    m->port = port;
    m->version = WIRE_VERSION;
    WIRE_PUT(&b, gate_hello, ip, hello_ip, strlen(hello_ip));
    assert_int_equal(wire_end(&b), 0);
    assert_int_equal(conn_send(p->conn, b.p, b.len), 0);
    wire_release(&b);
}

static void say(struct peer *p, uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        struct wire_ping m = {.head = {.size = sizeof m, .kind = WIRE_PING, .fixed = sizeof m},
                              .stamp = first + i};

        assert_int_equal(conn_send(p->conn, &m, sizeof m), 0);
    }
}

/* What is said before the node has answered comes too, once, in order; both ways; and the end. */
static void to_a_node(void **state) {
    struct peer a;

    (void)state;
    dial(&a);
    hello(&a, 5, 2, net_listener_port(listener));
    say(&a, 0, 1000);
    UNTIL(far.next == 1000);
    say(&far, 0, 1000);
    say(&a, 1000, 10);
    UNTIL(a.next == 1000 && far.next == 1010);
    assert_int_equal(a.wrong + far.wrong, 0);
    say(&a, 1010, 5);
    conn_finish(a.conn);
    UNTIL(far.closed);
    assert_int_equal(far.next, 1015); /* the last words too */
    dial(&a);
    far.conn = NULL;
    hello(&a, 5, 2, net_listener_port(listener));
    UNTIL(far.conn);
    far.conn = conn_close(far.conn);
    UNTIL(a.closed);
}

/* A connection in reserve is taken by who comes; without one he waits for the next. */
static void to_an_outpost(void **state) {
    struct peer p, q, a, b;

    (void)state;
    dial(&p);
    hello(&p, 7, 0, 0);
    dial(&a);
    hello(&a, 1, 7, 0);
    say(&a, 0, 100);
    UNTIL(p.next == 100);
    say(&p, 0, 3);
    UNTIL(a.next == 3);
    dial(&b);
    hello(&b, 2, 7, 0);
    say(&b, 0, 100);
    dial(&q);
    hello(&q, 8, 0, 0); /* another outpost's is not for him */
    for (int i = 0; i < 10; i++) loop_run_once(loop, 5);
    assert_int_equal(q.next, 0);
    q.conn = conn_close(q.conn);
    dial(&q);
    hello(&q, 7, 0, 0);
    UNTIL(q.next == 100);
    assert_int_equal(p.wrong + q.wrong + a.wrong, 0);
    b.conn = conn_close(b.conn);
    UNTIL(q.closed);
    assert_false(p.closed || a.closed);
}

/* What cannot be is refused at once, and harms nobody. */
static void refused(void **state) {
    struct peer a, b;

    (void)state;
    dial(&b);
    hello(&b, 5, 2, net_listener_port(listener));
    UNTIL(far.conn);
    dial(&a);
    hello(&a, 0, 2, net_listener_port(listener)); /* from nobody */
    UNTIL(a.closed);
    dial(&a);
    hello(&a, 5, 2, 1); /* nobody listens there */
    say(&a, 0, 10);
    UNTIL(a.closed);
    dial(&a);
    hello(&a, 7, 0, 0); /* in reserve, and speaks */
    say(&a, 0, 1);
    UNTIL(a.closed);
    dial(&a); /* a link of the store cannot become one of the gate */
    say(&a, 0, 1);
    hello(&a, 5, 2, net_listener_port(listener));
    UNTIL(a.closed);
    say(&b, 0, 10);
    UNTIL(far.next == 10);
}

/* Found by fuzz_gate.c: an end that could not dial was still known to the one that waited. */
static void an_address_that_is_none(void **state) {
    static const char *const none[] = {"", "300.1.1.1", "a name", "1.2.3.4.5.6.7.8.9.10.11"};
    struct peer a;

    (void)state;
    for (int i = 0; i < 4; i++) {
        hello_ip = none[i];
        dial(&a);
        hello(&a, 5, 2, 700);
        UNTIL(a.closed);
    }
    hello_ip = "127.0.0.1";
    dial(&a);
    hello(&a, 5, 2, net_listener_port(listener));
    say(&a, 0, 10);
    UNTIL(far.next == 10);
}

/* Who does not read is not sent more than a few MB; nothing is lost when he reads again. */
static void pressure(void **state) {
    struct wire_bulk_data *m = calloc(1, BIG);
    struct peer a;

    (void)state;
    assert_non_null(m);
    dial(&a);
    hello(&a, 5, 2, net_listener_port(listener));
    say(&a, 0, 1);
    UNTIL(far.next == 1);
    conn_pause(far.conn, true);
    m->head = (struct wire_head){.size = BIG, .kind = WIRE_BULK_DATA, .fixed = sizeof *m};
    m->data.off = sizeof *m;
    m->data.len = BIG - (uint32_t)sizeof *m;
    for (uint64_t i = 1; i <= BIGS; i++) {
        m->req = i;
        assert_int_equal(conn_send(a.conn, m, BIG), 0);
    }
    for (int i = 0; i < 100; i++) loop_run_once(loop, 2);
    assert_true(conn_pending_bytes(a.conn) > (uint64_t)BIG * BIGS / 4);
    conn_pause(far.conn, false);
    UNTIL(far.next == BIGS + 1);
    assert_int_equal(far.wrong, 0);
    free(m);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(to_a_node), TEST(to_an_outpost), TEST(refused),
                                       TEST(an_address_that_is_none), TEST(pressure)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
