/* raylet_beats_test.c - beats over a real connection: while the main loop stands, after a break,
 * and the news that the node was declared dead.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"
#include "raylet/beats.h"
#include "wire/wire_gen.h"

static struct loop *loop;  /* the raylet's */
static struct loop *other; /* of the GCS here: it is run while the raylet's is not */
static struct net *net;
static struct net_listener *listener;
static struct conn *guest;
static struct beats *b;
static uint32_t beats, accepted, told;
static struct wire_beat last;
static char why[100];

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    (void)arg, (void)c;
    if (wire_head(frame)->kind != WIRE_BEAT) return;
    assert_true(len >= sizeof last);
    memcpy(&last, frame, sizeof last);
    beats++;
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)code, (void)text;
    if (guest == c) guest = NULL;
}

static void on_ready(void *arg, struct conn *c) {
    (void)arg;
    guest = c;
    accepted++;
}

static const struct conn_events events = {
    .on_ready = on_ready, .on_frame = on_frame, .on_close = on_close};

static void on_convicted(void *arg, const char *reason) {
    assert_ptr_equal(arg, &told);
    told++;
    strncpy(why, reason, sizeof why - 1);
}

static int start(void **state) {
    struct net_opts n = {0};
    struct beats_opts opts = {.gcs_ip = "127.0.0.1", .node_id = {5, 6},
                              .on_convicted = on_convicted, .arg = &told};

    (void)state;
    beats = accepted = told = 0;
    guest = NULL;
    if (loop_new(&loop) < 0 || loop_new(&other) < 0) return -1;
    n.loop = other;
    if (net_new(&n, &net) < 0) return -1;
    if (net_listen(net, (struct net_address){"127.0.0.1", 0}, &events, NULL, &listener, NULL) < 0)
        return -1;
    opts.loop = loop;
    opts.gcs_port = net_listener_port(listener);
    return beats_new(&opts, &b);
}

static int stop(void **state) {
    (void)state;
    b = beats_free(b);
    net = net_free(net);
    other = loop_free(other);
    loop = loop_free(loop);
    return 0;
}

#define UNTIL(which, condition)                                                                \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + INT64_C(60000000000);                                   \
        while (!(condition)) {                                                                 \
            if (time_now_ns() > end_) fail_msg("not in time: %s", #condition);                 \
            loop_run_once(which, 20);                                                          \
        }                                                                                      \
    } while (0)

/* The raylet's own loop does not run here at all. */
static void while_the_loop_stands(void **state) {
    (void)state;
    assert_int_equal(beats_start(b, 3), 0);
    UNTIL(other, beats >= 3);
    assert_int_equal(last.node, 3);
    assert_int_equal(last.node_id.owner, 5);
    assert_int_equal(last.turns, 0);
    beats_turn(b);
    beats_turn(b);
    beats_epoch(b, 9);
    UNTIL(other, last.turns == 2 && last.epoch == 9);
}

static void connects_again(void **state) {
    (void)state;
    assert_int_equal(beats_start(b, 3), 0);
    for (uint32_t i = 1; i <= 3; i++) {
        beats = 0;
        UNTIL(other, beats >= 1);
        assert_int_equal(accepted, i);
        guest = conn_close(guest);
    }
}

static void hears_of_its_death(void **state) {
    struct wire_buf f;
    struct wire_convicted *m;

    (void)state;
    assert_int_equal(beats_start(b, 3), 0);
    UNTIL(other, beats >= 1);
    for (uint32_t node = 4; node >= 3; node--) /* of another node first: not meant */
        for (int i = 0; i < 2; i++) {
            wire_init(&f, NULL, 0);
            m = wire_begin(&f, WIRE_CONVICTED);
            m->node = node;
            WIRE_PUT(&f, convicted, reason, "silent", 6);
            assert_int_equal(wire_end(&f), 0);
            assert_int_equal(conn_send(guest, f.p, f.len), 0);
            wire_release(&f);
        }
    while (!told) {
        loop_run_once(other, 10);
        loop_run_once(loop, 10);
    }
    assert_string_equal(why, "silent");
    for (int i = 0; i < 10; i++) loop_run_once(loop, 10);
    assert_int_equal(told, 1);
}

/* Never started, and freed while it dials in vain. */
static void ends(void **state) {
    (void)state;
    b = beats_free(b);
    net = net_free(net);
    (void)stop(NULL);
    assert_int_equal(start(NULL), 0);
    listener = net_listener_free(listener);
    assert_int_equal(beats_start(b, 3), 0);
    b = beats_free(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(while_the_loop_stands), TEST(connects_again),
                                       TEST(hears_of_its_death), TEST(ends)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
