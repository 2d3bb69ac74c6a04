/* net_tls_test.c - TLS under a connection: frames of all sizes, a shared key and certificates, who
 * is refused, and that nobody gets by without it where it is demanded.
 * links: base loop wire net. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/futex.h"
#include "net/conn.h"
#include "net/handshake.h"
#include "wire/wire_gen.h"

enum { WAIT_S = 60 };

static struct loop *loop;
static struct net *a, *b; /* a listens */
static struct net_listener *listener;
static struct conn *server, *client;
static uint32_t readies, frames, drains, closes, bad;
static uint64_t bytes;
static bool echo;
static int code;
static char text[200];

static void on_ready(void *arg, struct conn *c) {
    *(struct conn **)arg = c;
    readies++;
}
static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    (void)arg;
    frames++;
    bytes += len;
    if (wire_head(frame)->kind == WIRE_BULK_DATA) {
        uint32_t n;
        const uint8_t *p = wire_bulk_data_data(frame, &n);

        for (uint32_t i = 0; i < n; i++) bad += p[i] != (uint8_t)(i * 7 + i / 256);
    }
    if (echo && conn_send(c, frame, len) < 0) bad++;
}
static void on_drain(void *arg, struct conn *c) {
    (void)arg, (void)c;
    drains++;
}
static void on_close(void *arg, struct conn *c, int why, const char *said) {
    (void)c;
    *(struct conn **)arg = NULL;
    closes++;
    code = why;
    snprintf(text, sizeof text, "%s", said);
}
static const struct conn_events events = {.on_ready = on_ready, .on_frame = on_frame,
                                          .on_drain = on_drain, .on_close = on_close};

#define UNTIL(condition)                                                                       \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + WAIT_S * INT64_C(1000000000);                           \
        while (!(condition)) {                                                                 \
            if (time_now_ns() > end_) fail_msg("not in time: %s", #condition);                 \
            loop_run_once(loop, 20);                                                           \
        }                                                                                      \
    } while (0)

static struct net *net_with(uint8_t key, struct net_tls tls) {
    struct skate_error err = {""};
    struct net_opts opts = {.loop = loop, .tls = tls, .err = &err, .pending_max = 8 << 20,
                            .handshake_ms = 20000};
    struct net *n;

    memset(opts.key, key, sizeof opts.key);
    if (net_new(&opts, &n) < 0) fail_msg("%s", err.text);
    return n;
}

static void start_two(uint8_t key_a, struct net_tls tls_a, uint8_t key_b, struct net_tls tls_b) {
    readies = frames = drains = closes = bad = 0;
    bytes = 0;
    echo = false;
    code = 0;
    text[0] = 0;
    server = client = NULL;
    assert_int_equal(loop_new(&loop), 0);
    a = net_with(key_a, tls_a);
    b = net_with(key_b, tls_b);
    assert_int_equal(net_listen(a, (struct net_address){"127.0.0.1", 0}, &events, &server,
                                &listener, NULL), 0);
}

static void stop_two(void) {
    a = net_free(a);
    b = net_free(b);
    loop = loop_free(loop);
}

static void connect_two(void) {
    assert_int_equal(conn_connect(b, (struct net_address){"127.0.0.1", net_listener_port(listener)},
                                  &events, &client, &client), 0);
}

static const struct net_tls on = {.on = true}, off = {.on = false};

static void fill(struct wire_buf *w, uint32_t n) {
    uint8_t *data = malloc(n ? n : 1);

    assert_non_null(data);
    for (uint32_t i = 0; i < n; i++) data[i] = (uint8_t)(i * 7 + i / 256);
    wire_init(w, NULL, 0);
    (void)wire_begin(w, WIRE_BULK_DATA);
    WIRE_PUT(w, bulk_data, data, data, n);
    assert_int_equal(wire_end(w), 0);
    free(data);
}

/* TLS when either end, or both, demand it: all sizes there and back, as they were. */
static void frames_of_all_sizes(void **state) {
    static const uint32_t sizes[] = {0, 1, 100, 8100, 8193, 16384, 65464, 65536, 300000, 5000000};

    (void)state;
    for (int who = 1; who < 4; who++) {
        uint64_t total = 0;

        start_two(1, who & 1 ? on : off, 1, who & 2 ? on : off);
        connect_two();
        UNTIL(readies == 2);
        echo = true;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct wire_buf w;

            fill(&w, sizes[i]);
            frames = 0;
            echo = true;
            assert_int_equal(conn_send(client, w.p, w.len), 0);
            UNTIL(frames == 1); /* there; it comes back, and is not sent once more */
            echo = false;
            UNTIL(frames == 2);
            total += 2 * w.len;
            wire_release(&w);
        }
        assert_int_equal(bad, 0);
        assert_int_equal(bytes, total);
        stop_two();
    }
}

/* A reader that stops: the queue fills, drains, and all comes in order. */
static void back_pressure(void **state) {
    uint32_t sent = 0;
    struct wire_buf w;

    (void)state;
    start_two(1, on, 1, off);
    connect_two();
    UNTIL(readies == 2);
    fill(&w, 200000);
    conn_pause(server, true);
    while (conn_send(client, w.p, w.len) == 0) sent++;
    for (int i = 0; i < 20; i++) loop_run_once(loop, 1);
    assert_true(sent > 10);
    assert_int_equal(frames, 0);
    conn_pause(server, false);
    UNTIL(frames == sent && drains == 1);
    while (conn_send(client, w.p, w.len) == 0) sent++; /* and again, paused in the midst */
    UNTIL(frames > sent - 5);
    conn_pause(server, true);
    for (int i = 0; i < 20; i++) loop_run_once(loop, 1);
    conn_pause(server, false);
    UNTIL(frames == sent);
    assert_int_equal(bad, 0);
    conn_finish(client);
    UNTIL(closes == 1);
    assert_int_equal(code, -SKATE_EDEAD);
    wire_release(&w);
    stop_two();
}

static void last_word(void **state) {
    struct wire_buf w;

    (void)state;
    start_two(1, on, 1, on);
    connect_two();
    UNTIL(readies == 2);
    fill(&w, 3000000);
    assert_int_equal(conn_send(client, w.p, w.len), 0);
    conn_finish(client);
    UNTIL(closes == 1);
    assert_int_equal(frames, 1);
    assert_int_equal(bad, 0);
    wire_release(&w);
    stop_two();
}

static void another_key(void **state) {
    (void)state;
    start_two(1, on, 2, on);
    connect_two();
    UNTIL(closes == 1);
    assert_int_equal(code, -SKATE_EAUTH);
    assert_non_null(strstr(text, "key"));
    assert_int_equal(readies, 0);
    stop_two();
}

/* ------------------------------------------------------------------ downgrade */

static int raw_connect(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(net_listener_port(listener))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static bool raw_read(int fd, void *to, size_t n) {
    size_t have = 0;

    for (int i = 0; i < 20000 && have < n; i++) {
        ssize_t r = recv(fd, (uint8_t *)to + have, n - have, MSG_DONTWAIT);

        if (r == 0 || (r < 0 && errno != EAGAIN)) return false;
        if (r > 0) have += (size_t)r;
        loop_run_once(loop, 1);
    }
    return have == n;
}

/* Who holds the key but speaks without TLS is refused, whatever the hello was made to say. */
static void no_way_around(void **state) {
    uint8_t key[NET_KEY_BYTES], hello[HANDSHAKE_HELLO], answer[HANDSHAKE_ANSWER], byte;
    struct handshake h = {0};
    int fd;

    (void)state;
    memset(key, 1, sizeof key);
    start_two(1, on, 1, off);
    fd = raw_connect();
    assert_true(raw_read(fd, hello, sizeof hello));
    assert_int_equal(handshake_flags(hello), HANDSHAKE_TLS);
    assert_int_equal(handshake_answer(&h, key, hello, answer), 0);
    assert_int_equal(send(fd, answer, sizeof answer, MSG_NOSIGNAL), sizeof answer);
    assert_false(raw_read(fd, &byte, 1));
    assert_int_equal(readies, 0);
    close(fd);
    connect_two(); /* an honest one gets in */
    UNTIL(readies == 2);
    stop_two();
}

/* A man in the middle who strips the flag from the hello: a connector whose policy is TLS speaks it
 * all the same, and the proofs do not fit what each end has seen. */
static void stripped_hello(void **state) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    uint8_t hello[HANDSHAKE_HELLO], first;
    int fake = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
    uint8_t key[NET_KEY_BYTES];
    struct handshake h;

    (void)state;
    memset(key, 1, sizeof key);
    start_two(1, on, 1, on);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fake, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fake, 1), 0);
    assert_int_equal(getsockname(fake, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(conn_connect(b, (struct net_address){"127.0.0.1", ntohs(at.sin_port)}, &events,
                                  &client, &client), 0);
    fd = accept(fake, NULL, NULL);
    assert_int_equal(handshake_accept(&h, key, 0, hello), 0);
    assert_int_equal(send(fd, hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
    assert_true(raw_read(fd, &first, 1));
    assert_int_equal(first, 0x16); /* a TLS handshake, no answer in clear */
    close(fd);
    close(fake);
    UNTIL(closes == 1);
    assert_int_equal(readies, 0);
    stop_two();
}

/* Not TLS, half of it, or too many of it: let go; and an honest one gets in. */
static void strangers(void **state) {
    static const uint8_t begin[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
    uint8_t junk[600] = {0x16, 3, 1, 1, 0, 9}, byte;
    int fds[150];

    (void)state;
    start_two(1, off, 1, on);
    fds[0] = raw_connect();
    assert_int_equal(send(fds[0], junk, sizeof junk, MSG_NOSIGNAL), sizeof junk);
    assert_false(raw_read(fds[0], junk, HANDSHAKE_HELLO + 100));
    close(fds[0]);
    for (int i = 0; i < 150; i++) {
        fds[i] = raw_connect();
        assert_true(raw_read(fds[i], junk, HANDSHAKE_HELLO));
        assert_int_equal(send(fds[i], begin, sizeof begin, MSG_NOSIGNAL), sizeof begin);
    }
    for (int i = 0; i < 20; i++) assert_false(raw_read(fds[i], &byte, 1)); /* the oldest */
    connect_two();
    UNTIL(readies == 2);
    for (int i = 0; i < 150; i++) close(fds[i]);
    assert_int_equal(frames, 0);
    stop_two();
}

/* A first message that never ends is not kept until it does. */
static void endless_hello(void **state) {
    uint8_t record[5 + 16384] = {0x16, 3, 1, 0x40, 0, 1, 1, 0xff, 0xff, 3, 3};
    uint8_t hello[HANDSHAKE_HELLO];
    int64_t began = time_now_ns();
    bool open = true;
    int fd;

    (void)state;
    start_two(1, on, 1, on);
    fd = raw_connect();
    assert_true(raw_read(fd, hello, sizeof hello));
    for (int i = 0; i < 7 && open; i++) {
        open = send(fd, record, sizeof record, MSG_NOSIGNAL) == (ssize_t)sizeof record;
        for (int k = 0; k < 5; k++) loop_run_once(loop, 1);
        memset(record + 5, 0, sizeof record - 5);
    }
    while (open && recv(fd, hello, sizeof hello, MSG_DONTWAIT) < 0 && errno == EAGAIN) {
        assert_true(time_now_ns() - began < 15 * INT64_C(1000000000)); /* before its deadline */
        loop_run_once(loop, 5);
    }
    close(fd);
    connect_two();
    UNTIL(readies == 2);
    stop_two();
}

/* ------------------------------------------------------------------ certificates */

static char folder[] = "/tmp/skate-tls-XXXXXX";
static char paths[5][64]; /* cert, key, ca; another authority, its certificate */
enum { CERT, KEY, CA, OTHER_CA, OTHER_CERT };

static X509 *certificate(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key) {
    X509 *x = X509_new();
    X509_EXTENSION *e;

    assert_non_null(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), issuer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                            issuer ? "CA:FALSE" : "critical,CA:TRUE");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

static void write_pem(int which, X509 *x, EVP_PKEY *key) {
    FILE *f;

    snprintf(paths[which], sizeof paths[which], "%s/%d.pem", folder, which);
    f = fopen(paths[which], "w");
    assert_non_null(f);
    assert_int_equal(x ? PEM_write_X509(f, x) : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL,
                                                                      NULL), 1);
    fclose(f);
}

static void make_certificates(void) {
    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    X509 *ca = certificate(ca_key, "authority", NULL, ca_key), *other, *mine;

    assert_non_null(mkdtemp(folder));
    mine = certificate(key, "node", ca, ca_key);
    write_pem(CERT, mine, NULL);
    write_pem(KEY, NULL, key);
    write_pem(CA, ca, NULL);
    other = certificate(ca_key, "someone else", NULL, key);
    X509_free(mine);
    X509_free(other);
    other = certificate(key, "other authority", NULL, key);
    write_pem(OTHER_CA, other, NULL);
    mine = certificate(key, "node", other, key);
    write_pem(OTHER_CERT, mine, NULL);
    X509_free(mine);
    X509_free(other);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
}

static void certificates(void **state) {
    const struct net_tls good = {true, paths[CERT], paths[KEY], paths[CA]},
                         other = {true, paths[OTHER_CERT], paths[KEY], paths[OTHER_CA]};
    struct skate_error err = {""};
    struct net_opts opts = {.err = &err, .tls = good};
    struct net *n;

    (void)state;
    make_certificates();
    start_two(1, good, 1, good);
    connect_two();
    UNTIL(readies == 2);
    stop_two();
    start_two(1, good, 1, other); /* signed by somebody else */
    connect_two();
    UNTIL(closes >= 1);
    assert_int_equal(code, -SKATE_EAUTH);
    assert_int_equal(readies, 0);
    stop_two();
    start_two(1, good, 1, on); /* none at all */
    connect_two();
    UNTIL(closes >= 1);
    assert_int_equal(code, -SKATE_EAUTH);
    stop_two();
    start_two(1, good, 2, good); /* a certificate does not stand for the key */
    connect_two();
    UNTIL(closes >= 1);
    assert_int_equal(code, -SKATE_EAUTH);
    assert_int_equal(readies, 0);
    stop_two();
    assert_int_equal(loop_new(&loop), 0);
    opts.loop = loop;
    opts.tls.ca = NULL;
    assert_int_equal(net_new(&opts, &n), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "three files"));
    opts.tls.ca = opts.tls.cert = "/nowhere";
    assert_int_equal(net_new(&opts, &n), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "/nowhere"));
    loop = loop_free(loop);
    for (int i = 0; i < 5; i++) unlink(paths[i]);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_all_sizes), cmocka_unit_test(back_pressure),
        cmocka_unit_test(last_word),           cmocka_unit_test(another_key),
        cmocka_unit_test(no_way_around),       cmocka_unit_test(stripped_hello),
        cmocka_unit_test(strangers),           cmocka_unit_test(certificates),
        cmocka_unit_test(endless_hello),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
