/* net_attack_test.c - strangers and forgers at a listener and before a connector: each costs its
 * own connection and nothing else.
 * links: base loop wire net. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"
#include "net/conn.h"
#include "net/handshake.h"
#include "wire/wire_gen.h"

enum { WAIT_S = 60 };

static struct loop *loop;
static struct net *net;
static struct net_listener *listener;
static uint8_t key[NET_KEY_BYTES] = {9, 9, 9};
static uint32_t readies, frames, closes, logs;
static int code;
static char log_text[300];

static void on_ready(void *arg, struct conn *c) {
    (void)arg, (void)c;
    readies++;
}
static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    (void)arg, (void)c, (void)frame, (void)len;
    frames++;
}
static void on_close(void *arg, struct conn *c, int why, const char *text) {
    (void)arg, (void)c, (void)text;
    closes++;
    code = why;
}
static const struct conn_events events = {.on_ready = on_ready, .on_frame = on_frame,
                                          .on_close = on_close};

static void on_log(void *arg, const char *text) {
    (void)arg;
    logs++;
    snprintf(log_text, sizeof log_text, "%s", text);
}

static int start(void **state) {
    struct net_opts opts = {.unproven_max = 4, .handshake_ms = 300, .on_log = on_log};

    (void)state;
    readies = frames = closes = logs = 0;
    code = 0;
    if (loop_new(&loop) < 0) return -1;
    opts.loop = loop;
    memcpy(opts.key, key, sizeof key);
    if (net_new(&opts, &net) < 0) return -1;
    return net_listen(net, (struct net_address){"127.0.0.1", 0}, &events, NULL, &listener, NULL);
}

static int stop(void **state) {
    (void)state;
    net = net_free(net);
    loop = loop_free(loop);
    return 0;
}

#define UNTIL(condition)                                                                       \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + WAIT_S * INT64_C(1000000000);                           \
        while (!(condition)) {                                                                 \
            if (time_now_ns() > end_) fail_msg("not in time: %s", #condition);                 \
            loop_run_once(loop, 20);                                                           \
        }                                                                                      \
    } while (0)

static int raw_connect(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(net_listener_port(listener))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Exactly n bytes; false when the other end closed before. */
static bool raw_read(int fd, void *to, size_t n) {
    int64_t end = time_now_ns() + WAIT_S * INT64_C(1000000000);
    size_t have = 0;

    while (have < n) {
        ssize_t r = recv(fd, (uint8_t *)to + have, n - have, MSG_DONTWAIT);

        if (r == 0 || (r < 0 && errno != EAGAIN)) return false;
        if (r > 0) have += (size_t)r;
        assert_true(time_now_ns() < end);
        loop_run_once(loop, 5);
    }
    return true;
}

static bool raw_closed(int fd) {
    uint8_t byte;

    return !raw_read(fd, &byte, 1);
}

static void raw_write(int fd, const void *data, size_t n) {
    assert_true(send(fd, data, n, MSG_NOSIGNAL) == (ssize_t)n);
}

/* An honest connector still gets in. */
static void honest(void) {
    struct conn *c;
    uint32_t before = readies;

    assert_int_equal(conn_connect(net, (struct net_address){"127.0.0.1",
                                  net_listener_port(listener)}, &events, NULL, &c), 0);
    UNTIL(readies == before + 2);
    (void)conn_close(c);
    UNTIL(closes);
    closes = 0;
}

static void garbage(void **state) {
    uint8_t junk[4096], hello[HANDSHAKE_HELLO];
    int fd = raw_connect();

    (void)state;
    memset(junk, 'x', sizeof junk);
    assert_true(raw_read(fd, hello, sizeof hello));
    raw_write(fd, junk, sizeof junk);
    assert_true(raw_closed(fd));
    assert_int_equal(readies + frames + closes, 0);
    assert_int_equal(logs, 1);
    honest();
    close(fd);
}

/* The right magic and a wrong proof; many in a row make one line of log. */
static void wrong_proof(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        uint8_t hello[HANDSHAKE_HELLO], answer[HANDSHAKE_ANSWER], wrong[32] = {1};
        struct handshake h = {0};
        int fd = raw_connect();

        assert_true(raw_read(fd, hello, sizeof hello));
        assert_int_equal(handshake_answer(&h, wrong, hello, answer), 0);
        raw_write(fd, answer, sizeof answer);
        assert_true(raw_closed(fd));
        close(fd);
    }
    assert_int_equal(readies, 0);
    assert_int_equal(logs, 1);
    assert_non_null(strstr(log_text, "wrong cluster key"));
    honest();
}

static void truncated(void **state) {
    uint8_t hello[HANDSHAKE_HELLO];
    int fd = raw_connect();

    (void)state;
    assert_true(raw_read(fd, hello, sizeof hello));
    raw_write(fd, hello, 20);
    close(fd);
    honest();
    assert_int_equal(logs, 0);
}

/* Who says nothing, or a byte now and then, is dropped at the deadline. */
static void slow(void **state) {
    uint8_t hello[HANDSHAKE_HELLO];
    int fd = raw_connect();
    int64_t began = time_now_ns();

    (void)state;
    assert_true(raw_read(fd, hello, sizeof hello));
    raw_write(fd, hello, 1);
    assert_true(raw_closed(fd));
    assert_true(time_now_ns() - began > 250 * INT64_C(1000000));
    assert_true(time_now_ns() - began < 5000 * INT64_C(1000000));
    close(fd);
    honest();
}

/* More silent strangers than the bound: the oldest go, and an honest one gets in at once. */
static void crowd(void **state) {
    uint8_t hello[HANDSHAKE_HELLO];
    int fds[12];

    (void)state;
    for (int i = 0; i < 12; i++) {
        fds[i] = raw_connect();
        assert_true(raw_read(fds[i], hello, sizeof hello));
    }
    for (int i = 0; i < 8; i++) assert_true(raw_closed(fds[i]));
    honest();
    for (int i = 0; i < 12; i++) close(fds[i]);
}

/* A connection proved by the test itself, to send what no honest end would. */
struct forger {
    int fd;
    struct seal seal;
    uint8_t answer[HANDSHAKE_ANSWER];
};

static void forger_start(struct forger *f) {
    uint8_t hello[HANDSHAKE_HELLO], proof[HANDSHAKE_PROOF], mine[32], theirs[32];
    struct handshake h = {0};

    f->fd = raw_connect();
    assert_true(raw_read(f->fd, hello, sizeof hello));
    assert_int_equal(handshake_answer(&h, key, hello, f->answer), 0);
    raw_write(f->fd, f->answer, sizeof f->answer);
    assert_true(raw_read(f->fd, proof, sizeof proof));
    assert_int_equal(handshake_check(&h, proof), 0);
    assert_int_equal(handshake_keys(&h, key, mine, theirs), 0);
    assert_int_equal(seal_init(&f->seal, mine, false), 0);
    UNTIL(readies == 1);
}

static void forger_stop(struct forger *f) {
    seal_release(&f->seal);
    close(f->fd);
}

/* A sealed record of `bytes` plain bytes; returns its whole size. */
static size_t forge(struct forger *f, const void *plain, uint32_t bytes, uint8_t *out) {
    memcpy(out, &bytes, 4);
    assert_int_equal(seal_begin(&f->seal, out, 4), 0);
    assert_int_equal(seal_bytes(&f->seal, plain, bytes, out + 4), 0);
    assert_int_equal(seal_end(&f->seal, out + 4 + bytes), 0);
    return bytes + 20;
}

static const struct wire_ping ping = {
    .head = {.size = sizeof ping, .kind = WIRE_PING, .fixed = sizeof ping}};

static void forged_records(void **state) {
    (void)state;
    for (int attack = 0; attack < 7; attack++) {
        struct wire_ping p = ping;
        struct forger f;
        uint8_t r[200];
        size_t n;

        readies = frames = closes = 0;
        forger_start(&f);
        n = forge(&f, &p, sizeof p, r);
        raw_write(f.fd, r, n);
        UNTIL(frames == 1);
        if (attack == 1) n = forge(&f, &p, sizeof p, r), r[10] ^= 1; /* a flipped bit */
        if (attack == 2) n = forge(&f, &p, sizeof p, r), r[0] = 16;  /* another length */
        if (attack == 3) memset(r, 0xff, 4);                         /* a huge length */
        if (attack == 4) memset(r, 0, 4);                            /* none */
        if (attack == 5) n = forge(&f, &p, 8, r);                    /* half a frame's head */
        if (attack == 6) { /* a frame that claims more than any may have */
            p.head.size = 0xfffffff0;
            n = forge(&f, &p, sizeof p, r);
        }
        raw_write(f.fd, r, n); /* 0: the same record again */
        UNTIL(closes == 1);
        assert_int_equal(code, -SKATE_EPROTO);
        assert_int_equal(frames, 1);
        assert_true(raw_closed(f.fd));
        forger_stop(&f);
    }
    closes = 0;
    honest();
}

/* An answer that was good once is worth nothing on another connection. */
static void replayed_answer(void **state) {
    struct forger f;
    uint8_t hello[HANDSHAKE_HELLO];
    int fd;

    (void)state;
    forger_start(&f);
    fd = raw_connect();
    assert_true(raw_read(fd, hello, sizeof hello));
    raw_write(fd, f.answer, sizeof f.answer);
    assert_true(raw_closed(fd));
    assert_int_equal(readies, 1);
    close(fd);
    forger_stop(&f);
}

/* ------------------------------------------------------------------ before a connector */

static int fake_listen(uint16_t *ret_port) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

/* Say `hello` to a connector, then reflect its own proof when asked; what does it make of us? */
static int fake_server(const void *hello, size_t len, bool reflect) {
    uint8_t answer[HANDSHAKE_ANSWER];
    uint16_t port;
    int at = fake_listen(&port), fd;
    struct conn *c;

    closes = 0;
    assert_int_equal(conn_connect(net, (struct net_address){"127.0.0.1", port}, &events, NULL, &c),
                     0);
    fd = accept(at, NULL, NULL);
    assert_true(fd >= 0);
    if (len) raw_write(fd, hello, len);
    if (reflect) {
        assert_true(raw_read(fd, answer, sizeof answer));
        raw_write(fd, answer + HANDSHAKE_ANSWER - HANDSHAKE_PROOF, HANDSHAKE_PROOF);
    }
    UNTIL(closes);
    close(fd);
    close(at);
    assert_int_equal(readies, 0);
    return code;
}

static void fake_servers(void **state) {
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    uint8_t hello[HANDSHAKE_HELLO], newer[HANDSHAKE_HELLO];
    struct handshake h;

    (void)state;
    assert_int_equal(handshake_accept(&h, key, 0, hello), 0);
    memcpy(newer, hello, sizeof newer);
    newer[6]++;
    assert_int_equal(fake_server(http, sizeof http - 1, false), -SKATE_EPROTO);
    assert_int_equal(fake_server(newer, sizeof newer, false), -SKATE_EVERSION);
    assert_int_equal(fake_server(hello, sizeof hello, true), -SKATE_EAUTH);
    assert_int_equal(fake_server(hello, 0, false), -SKATE_ETIMEOUT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(garbage), TEST(wrong_proof),    TEST(truncated),       TEST(slow),
        TEST(crowd),   TEST(forged_records), TEST(replayed_answer), TEST(fake_servers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
