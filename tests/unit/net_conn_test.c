/* net_conn_test.c - two ends of a connection in one loop: proof, frames, bounds, ends.
 * links: base loop wire net. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/futex.h"
#include "base/limits.h"
#include "net/conn.h"
#include "wire/wire_gen.h"

enum { WAIT_MS = 60000 };

/* One end as its owner sees it. */
struct end {
    struct conn *conn;
    uint32_t ready, frames, drains, closes;
    uint64_t bytes, stamps, next_stamp;
    int code;
    char text[200];
    uint32_t bad;
    bool close_on_frame, finish_on_ready, echo;
    uint8_t *place; /* where bulk bytes go; NULL: nowhere */
    uint32_t placed, pieces, refuse_from;
};

struct rig {
    struct loop *loop;
    struct net *a, *b; /* a listens, b connects */
    struct net_listener *listener;
    struct end server, client;
    char log[300];
    uint32_t logs;
};

static void on_ready(void *arg, struct conn *c) {
    struct end *e = arg;

    e->conn = c;
    e->ready++;
    if (e->finish_on_ready) {
        struct wire_stop stop = {.head = {.size = sizeof stop, .kind = WIRE_STOP,
                                          .fixed = sizeof stop}};

        assert_int_equal(conn_send(c, &stop, sizeof stop), 0);
        e->conn = NULL;
        conn_finish(c);
    }
}

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct end *e = arg;

    e->frames++;
    e->bytes += len;
    if ((uintptr_t)frame % 8) e->bad++;
    if (wire_head(frame)->kind == WIRE_PING) {
        const struct wire_ping *ping = frame;

        if (ping->stamp != e->next_stamp++) e->bad++;
        if (e->echo && conn_send(c, frame, len) < 0) e->bad++;
    }
    if (wire_head(frame)->kind == WIRE_BULK_DATA) {
        uint32_t n;
        const uint8_t *p = wire_bulk_data_data(frame, &n);

        for (uint32_t i = 0; i < n; i++)
            if (p[i] != (uint8_t)(i * 7 + i / 256)) {
                e->bad++;
                break;
            }
    }
    if (e->close_on_frame) e->conn = conn_close(c);
}

static void on_drain(void *arg, struct conn *c) {
    (void)c;
    ((struct end *)arg)->drains++;
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    struct end *e = arg;

    (void)c;
    e->conn = NULL;
    e->closes++;
    e->code = code;
    snprintf(e->text, sizeof e->text, "%s", text);
}

static const struct conn_events events = {.on_ready = on_ready, .on_frame = on_frame,
                                          .on_drain = on_drain, .on_close = on_close};

static void on_log(void *arg, const char *text) {
    struct rig *r = arg;

    r->logs++;
    snprintf(r->log, sizeof r->log, "%s", text);
}

static void rig_start_keys(struct rig *r, uint8_t key_a, uint8_t key_b, uint64_t pending_max) {
    struct net_opts opts = {.pending_max = pending_max, .on_log = on_log, .log_arg = r};

    memset(r, 0, sizeof *r);
    assert_int_equal(loop_new(&r->loop), 0);
    opts.loop = r->loop;
    memset(opts.key, key_a, sizeof opts.key);
    assert_int_equal(net_new(&opts, &r->a), 0);
    memset(opts.key, key_b, sizeof opts.key);
    assert_int_equal(net_new(&opts, &r->b), 0);
    assert_int_equal(net_listen(r->a, (struct net_address){"127.0.0.1", 0}, &events, &r->server,
                                &r->listener, NULL), 0);
    assert_int_not_equal(net_listener_port(r->listener), 0);
    assert_int_equal(conn_connect(r->b, (struct net_address){"127.0.0.1",
                                  net_listener_port(r->listener)}, &events, &r->client,
                                  &r->client.conn), 0);
    assert_int_equal(r->client.ready + r->client.closes, 0); /* never from inside the call */
}

static void rig_stop(struct rig *r) {
    r->a = net_free(r->a);
    r->b = net_free(r->b);
    r->loop = loop_free(r->loop);
}

/* Serve until the condition holds; false when it does not in time. */
#define UNTIL(r, condition)                                                                    \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + (int64_t)WAIT_MS * 1000000;                             \
        while (!(condition)) {                                                                 \
            assert_true(time_now_ns() < end_);                                                 \
            loop_run_once((r)->loop, 100);                                                     \
        }                                                                                      \
    } while (0)

static void rig_start(struct rig *r) {
    rig_start_keys(r, 7, 7, 0);
    UNTIL(r, r->server.ready && r->client.ready);
}

static int send_ping(struct conn *c, uint64_t stamp) {
    struct wire_ping p = {.head = {.size = sizeof p, .kind = WIRE_PING, .fixed = sizeof p},
                          .stamp = stamp};

    return conn_send(c, &p, sizeof p);
}

/* The same key: both ready, a frame goes each way, the peer's name is known. */
static void good_key(void **state) {
    struct rig r;

    (void)state;
    rig_start(&r);
    assert_string_equal(conn_peer_ip(r.server.conn), "127.0.0.1");
    assert_true(strncmp(conn_peer(r.client.conn), "127.0.0.1:", 10) == 0);
    assert_int_equal(send_ping(r.client.conn, 0), 0);
    assert_int_equal(send_ping(r.server.conn, 0), 0);
    assert_int_equal(r.server.frames + r.client.frames, 0);
    UNTIL(&r, r.server.frames && r.client.frames);
    assert_int_equal(r.server.bad + r.client.bad, 0);
    assert_int_equal(r.logs, 0);
    r.client.conn = conn_close(r.client.conn);
    UNTIL(&r, r.server.closes);
    assert_int_equal(r.server.code, -SKATE_EDEAD);
    assert_int_equal(r.client.closes, 0); /* who closes is not told */
    rig_stop(&r);
}

/* Another key: a clear error for the connector, silence for the listener's owner, one log line. */
static void wrong_key(void **state) {
    struct rig r;

    (void)state;
    rig_start_keys(&r, 7, 8, 0);
    UNTIL(&r, r.client.closes);
    assert_int_equal(r.client.code, -SKATE_EAUTH);
    assert_non_null(strstr(r.client.text, "key"));
    assert_int_equal(r.client.ready, 0);
    assert_int_equal(r.server.ready + r.server.closes, 0);
    assert_int_equal(r.logs, 1);
    assert_non_null(strstr(r.log, "wrong cluster key"));
    rig_stop(&r);
}

/* Small frames keep their order and come in few writes; the queue's bound refuses and drains. */
static void many_small(void **state) {
    struct rig r;
    uint64_t n = 0, limit = 1 << 20;
    int e;

    (void)state;
    rig_start_keys(&r, 1, 1, limit);
    UNTIL(&r, r.client.ready && r.server.ready);
    conn_pause(r.server.conn, true);
    while ((e = send_ping(r.client.conn, n)) == 0) {
        n++;
        if (n % 4096 == 0) loop_run_once(r.loop, 0);
    }
    assert_int_equal(e, -SKATE_EFULL);
    assert_true(conn_pending_bytes(r.client.conn) >= limit);
    assert_true(conn_pending_bytes(r.client.conn) < limit + 2 * 65536);
    conn_pause(r.server.conn, false);
    UNTIL(&r, r.server.frames == n);
    assert_int_equal(r.server.bad, 0);
    UNTIL(&r, r.client.drains);
    assert_int_equal(r.client.drains, 1);
    assert_int_equal(conn_pending_bytes(r.client.conn), 0);
    rig_stop(&r);
}

static void fill_bulk(struct wire_buf *b, uint32_t bytes) {
    uint8_t *p;

    wire_init(b, NULL, 0);
    (void)wire_begin(b, WIRE_BULK_DATA);
    p = WIRE_PUT(b, bulk_data, data, NULL, bytes);
    for (uint32_t i = 0; i < bytes; i++) p[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(wire_end(b), 0);
}

/* Frames of every size around the record's borders arrive whole, in pieces or not. */
static void sizes(void **state) {
    static const uint32_t sizes_[] = {0, 1, 7, 8, 100, 4096, 8100, 8192, 65400, 65464, 65465, 65472,
                                      65536, 65537, 131072, 200001, 1 << 20, 5 << 20};
    struct rig r;
    uint32_t sent = 0;

    (void)state;
    rig_start(&r);
    for (size_t i = 0; i < sizeof sizes_ / sizeof *sizes_; i++) {
        struct wire_buf b;
        struct conn_piece pieces[3];

        fill_bulk(&b, sizes_[i]);
        assert_int_equal(conn_send(r.client.conn, b.p, b.len), 0);
        pieces[0] = (struct conn_piece){b.p, 48};
        pieces[1] = (struct conn_piece){b.p + 48, 0};
        pieces[2] = (struct conn_piece){b.p + 48, b.len - 48};
        assert_int_equal(conn_sendv(r.client.conn, pieces, 3), 0);
        assert_int_equal(send_ping(r.client.conn, i), 0);
        sent += 3;
        wire_release(&b);
        if (i % 2) UNTIL(&r, r.server.frames == sent);
    }
    UNTIL(&r, r.server.frames == sent);
    assert_int_equal(r.server.bad, 0);
    rig_stop(&r);
}

static void *on_place(void *arg, struct conn *c, const void *head, uint32_t at, uint32_t len) {
    const struct wire_bulk_data *m = head;
    struct end *e = arg;

    (void)c;
    if (m->head.kind != WIRE_BULK_DATA || !e->place || at + len > m->data.off + m->data.len)
        return NULL;
    return e->refuse_from && ++e->pieces >= e->refuse_from ? NULL : e->place + at - m->data.off;
}

static void on_placed(void *arg, struct conn *c, const void *head) {
    (void)c;
    (void)head;
    ((struct end *)arg)->placed++;
}

/* Large frames go where the owner says, not a byte further; what has no place any more is dropped;
 * what comes behind is not harmed. */
static void places(void **state) {
    static const uint32_t sizes_[] = {8100, 65440, 65490, 65537, 131072, 131059, 200001, 1 << 20};
    static uint8_t place[(1 << 20) + 64];
    static const struct conn_events with_place = {on_ready, on_frame, on_drain, on_close, on_place,
                                                  on_placed};
    struct rig r;

    (void)state;
    rig_start(&r);
    conn_set_events(r.server.conn, &with_place, &r.server);
    r.server.place = place;
    for (uint32_t i = 0; i < 2 * sizeof sizes_ / sizeof *sizes_; i++) {
        uint32_t n = sizes_[i / 2], before = r.server.placed + r.server.frames;
        struct wire_buf b;

        fill_bulk(&b, n);
        memset(place, 0xee, sizeof place);
        r.server.pieces = 0;
        r.server.refuse_from = i % 2 ? 2 : 0; /* the first goes there, the others nowhere */
        assert_int_equal(conn_send(r.client.conn, b.p, b.len), 0);
        assert_int_equal(send_ping(r.client.conn, i), 0);
        UNTIL(&r, r.server.placed + r.server.frames == before + 2);
        if (n > 65536 && i % 2 == 0) {
            for (uint32_t k = 0; k < n; k++) assert_int_equal(place[k], (uint8_t)(k * 7 + k / 256));
        }
        for (uint32_t k = n; k < sizeof place; k++) assert_int_equal(place[k], 0xee);
        if (i % 2 && n > 131072) assert_int_equal(place[n - 1], 0xee);
        wire_release(&b);
    }
    assert_int_equal(r.server.bad, 0);
    assert_true(r.server.placed >= 8);
    rig_stop(&r);
}

/* What is no frame is refused at once and harms nothing. */
static void bad_sends(void **state) {
    struct rig r;
    struct wire_ping p = {.head = {.size = 99, .kind = WIRE_PING, .fixed = sizeof p}};

    (void)state;
    rig_start_keys(&r, 7, 7, 0);
    assert_int_equal(send_ping(r.client.conn, 0), -SKATE_EAGAIN);
    UNTIL(&r, r.server.ready && r.client.ready);
    assert_int_equal(conn_send(r.client.conn, &p, sizeof p), -SKATE_EINVAL);
    assert_int_equal(conn_send(r.client.conn, &p, 3), -SKATE_EINVAL);
    assert_int_equal(send_ping(r.client.conn, 0), 0);
    UNTIL(&r, r.server.frames == 1);
    rig_stop(&r);
}

/* A peer with the key that sends a malformed frame loses the connection, with the reason. */
static void malformed_frame(void **state) {
    struct rig r;
    struct wire_ping p = {.head = {.size = sizeof p, .kind = 999, .fixed = sizeof p}};

    (void)state;
    rig_start(&r);
    assert_int_equal(conn_send(r.client.conn, &p, sizeof p), 0);
    UNTIL(&r, r.server.closes && r.client.closes);
    assert_int_equal(r.server.code, -SKATE_EPROTO);
    assert_int_equal(r.server.frames, 0);
    assert_int_equal(r.client.code, -SKATE_EDEAD);
    rig_stop(&r);
}

/* A callback may end its own connection; frames behind in the same record are not delivered. */
static void close_in_callback(void **state) {
    struct rig r;

    (void)state;
    rig_start(&r);
    r.server.close_on_frame = true;
    for (uint64_t i = 0; i < 5; i++) assert_int_equal(send_ping(r.client.conn, i), 0);
    UNTIL(&r, r.client.closes);
    assert_int_equal(r.server.frames, 1);
    assert_int_equal(r.server.closes, 0);
    rig_stop(&r);
}

/* A last word is read by the peer even though it has more to say itself. */
static void last_word(void **state) {
    struct rig r;

    (void)state;
    rig_start_keys(&r, 7, 7, 0);
    r.server.finish_on_ready = true;
    UNTIL(&r, r.client.ready);
    (void)send_ping(r.client.conn, 0);
    UNTIL(&r, r.client.closes);
    assert_int_equal(r.client.frames, 1);
    assert_int_equal(r.client.code, -SKATE_EDEAD);
    assert_int_equal(r.server.closes, 0);
    rig_stop(&r);
}

/* Ping-pong: each side answers from its callback. */
static void echo(void **state) {
    struct rig r;

    (void)state;
    rig_start(&r);
    r.server.echo = true;
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(send_ping(r.client.conn, i), 0);
        UNTIL(&r, r.client.frames == i + 1);
    }
    assert_int_equal(r.client.bad + r.server.bad, 0);
    rig_stop(&r);
}

/* Nobody there, a bad address, a port in use: each its own code. */
static void no_peer(void **state) {
    struct rig r;
    uint16_t port;
    struct net_listener *second;
    struct skate_error err;
    struct conn *c;

    (void)state;
    rig_start(&r);
    port = net_listener_port(r.listener);
    assert_int_equal(net_listen(r.a, (struct net_address){"127.0.0.1", port}, &events, &r.server,
                                &second, &err), -SKATE_EEXIST);
    assert_non_null(strstr(err.text, "in use"));
    assert_int_equal(net_listen(r.a, (struct net_address){"localhost", 0}, &events, &r.server,
                                &second, &err), -SKATE_EINVAL);
    assert_int_equal(conn_connect(r.b, (struct net_address){"nohost", 1}, &events, &r.client, &c),
                     -SKATE_EINVAL);
    r.listener = net_listener_free(r.listener);
    r.client.conn = conn_close(r.client.conn);
    assert_int_equal(conn_connect(r.b, (struct net_address){"127.0.0.1", port}, &events, &r.client,
                                  &c), 0);
    assert_int_equal(r.client.closes, 0);
    UNTIL(&r, r.client.closes);
    assert_int_equal(r.client.code, -SKATE_ENOENT);
    rig_stop(&r);
}

static void keys_and_addresses(void **state) {
    uint8_t key[NET_KEY_BYTES];
    char hex[65], ip[16];
    uint16_t port = 5;

    (void)state;
    memset(hex, '0', 64);
    hex[64] = 0;
    hex[62] = 'a';
    hex[63] = 'F';
    assert_int_equal(net_key_from_hex(hex, 64, key), 0);
    assert_int_equal(key[31], 0xaf);
    assert_int_equal(net_key_from_hex(hex, 63, key), -SKATE_EINVAL);
    hex[5] = 'g';
    assert_int_equal(net_key_from_hex(hex, 64, key), -SKATE_EINVAL);
    assert_int_equal(net_parse_address("10.1.2.3:65535", ip, &port), 0);
    assert_string_equal(ip, "10.1.2.3");
    assert_int_equal(port, 65535);
    assert_int_equal(net_parse_address("10.1.2.3:65536", ip, &port), -SKATE_EINVAL);
    assert_int_equal(net_parse_address("10.1.2.3", ip, &port), -SKATE_EINVAL);
    assert_int_equal(net_parse_address("10.1.2:80", ip, &port), -SKATE_EINVAL);
    assert_int_equal(net_parse_address("10.1.2.3:-1", ip, &port), -SKATE_EINVAL);
    assert_int_equal(net_parse_address(":80", ip, &port), -SKATE_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_key),          cmocka_unit_test(wrong_key),
        cmocka_unit_test(many_small),        cmocka_unit_test(sizes),
        cmocka_unit_test(places),
        cmocka_unit_test(bad_sends),         cmocka_unit_test(malformed_frame),
        cmocka_unit_test(close_in_callback), cmocka_unit_test(last_word),
        cmocka_unit_test(echo),              cmocka_unit_test(no_peer),
        cmocka_unit_test(keys_and_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
