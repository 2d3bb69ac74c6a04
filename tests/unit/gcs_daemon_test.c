/* gcs_daemon_test.c - the GCS daemon in one loop with its raylets: real sockets, real frames.
 * links: base loop wire net sched gcs gcsd. */
#include <setjmp.h>
#include <stdarg.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"
#include "folder_rig.h"
#include "gcsd/gcsd.h"
#include "wire/wire_gen.h"

struct peer {
    struct conn *conn;
    bool ready, closed;
    int code;
    int status;
    uint32_t node, infos, dead, job, answers, kinds[256];
    char why[300]; /* the last dead one is */
};

static struct loop *loop;
static struct net *net;
static struct gcsd *gcsd;
static uint32_t heads_lost;

static void on_ready(void *arg, struct conn *c) {
    (void)c;
    ((struct peer *)arg)->ready = true;
}

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct peer *p = arg;

    (void)c, (void)len;
    p->kinds[wire_head(frame)->kind]++;
    if (wire_head(frame)->kind == WIRE_NODE_WELCOME)
        p->node = ((const struct wire_node_welcome *)frame)->node;
    if (wire_head(frame)->kind == WIRE_NODE_INFO) {
        p->infos++;
        if (!((const struct wire_node_info *)frame)->state) {
            uint32_t n;
            const char *why = wire_node_info_reason(frame, &n);

            p->dead = ((const struct wire_node_info *)frame)->node;
            snprintf(p->why, sizeof p->why, "%.*s", (int)n, why);
        }
    }
    if (wire_head(frame)->kind == WIRE_ROUTE) {
        const struct wire_route *m = frame;
        uint32_t n;
        const void *inner = wire_route_frame(m, &n);

        if (wire_check(inner, n) < 0) return;
        p->answers++;
        if (wire_head(inner)->kind == WIRE_JOB_STARTED) {
            p->job = ((const struct wire_job_started *)inner)->job;
            p->status = ((const struct wire_job_started *)inner)->status;
        }
        if (wire_head(inner)->kind == WIRE_STATUS)
            p->status = ((const struct wire_status *)inner)->status;
    }
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    struct peer *p = arg;

    (void)c, (void)text;
    p->closed = true;
    p->code = code;
    p->conn = NULL;
}

static const struct conn_events events = {.on_ready = on_ready, .on_frame = on_frame,
                                          .on_close = on_close};

static void on_head_lost(void *arg) {
    (void)arg;
    heads_lost++;
}

static char log_dir[64], log_path[96];

static int start_with(uint32_t heartbeat_ms, bool local_session) {
    struct gcsd_settings s = {.listen_ip = "127.0.0.1", .local_session = local_session};
    struct gcsd_opts opts = {.settings = &s, .on_head_lost = on_head_lost,
                             .heartbeat_ms = heartbeat_ms};
    struct net_opts n = {0};

    heads_lost = 0;
    memcpy(s.log, log_path, sizeof log_path);
    memset(s.key, 3, sizeof s.key);
    memset(n.key, 3, sizeof n.key);
    if (loop_new(&loop) < 0) return -1;
    opts.loop = n.loop = loop;
    if (gcsd_new(&opts, &gcsd, NULL) < 0) return -1;
    return net_new(&n, &net);
}

static int start(void **state) {
    (void)state;
    return start_with(500, true);
}

static int start_patient(void **state) {
    (void)state;
    return start_with(600000, false);
}

static int stop(void **state) {
    (void)state;
    net = net_free(net);
    gcsd = gcsd_free(gcsd);
    loop = loop_free(loop);
    return 0;
}

/* The same with a log in a folder of its own. */
static int start_kept(void **state) {
    snprintf(log_dir, sizeof log_dir, "/tmp/gcs-daemon-XXXXXX");
    if (!mkdtemp(log_dir)) return -1;
    snprintf(log_path, sizeof log_path, "%s/log", log_dir);
    return start_patient(state);
}

static int stop_kept(void **state) {
    (void)stop(state);
    log_path[0] = 0;
    return folder_empty(log_dir) ? rmdir(log_dir) : -1;
}

#define UNTIL(condition)                                                                       \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + INT64_C(60000000000);                                   \
        while (!(condition)) {                                                                 \
            if (time_now_ns() > end_) fail_msg("not in time: %s", #condition);                 \
            loop_run_once(loop, 20);                                                           \
        }                                                                                      \
    } while (0)

static void join_at(struct peer *p, bool head, uint16_t port) {
    struct wire_node_register m = {.head = {.size = sizeof m, .kind = WIRE_NODE_REGISTER,
                                            .fixed = sizeof m},
                                   .version = WIRE_VERSION, .is_head = head, .port = port};

    *p = (struct peer){0};
    m.node_id.owner = (uintptr_t)p;
    assert_int_equal(conn_connect(net, (struct net_address){"127.0.0.1", gcsd_port(gcsd)}, &events,
                                  p, &p->conn), 0);
    UNTIL(p->ready);
    assert_int_equal(conn_send(p->conn, &m, sizeof m), 0);
    UNTIL(p->node);
}

static void join(struct peer *p, bool head) { join_at(p, head, 0); }

static void say_ping(struct peer *p) {
    struct wire_ping m = {.head = {.size = sizeof m, .kind = WIRE_PING, .fixed = sizeof m}};

    assert_int_equal(conn_send(p->conn, &m, sizeof m), 0);
}

static void say_bye(struct peer *p) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_BYE);
    assert_int_equal(wire_end(&b), 0);
    assert_int_equal(conn_send(p->conn, b.p, b.len), 0);
    wire_release(&b);
}

/* A process of a raylet's asks the store. */
static void ask(struct peer *p, uint64_t src, struct wire_buf *inner) {
    struct wire_route *m;
    struct wire_buf r;

    assert_int_equal(wire_end(inner), 0);
    wire_init(&r, NULL, 0);
    m = wire_begin(&r, WIRE_ROUTE);
    m->src = src;
    WIRE_PUT(&r, route, frame, inner->p, inner->len);
    assert_int_equal(wire_end(&r), 0);
    assert_int_equal(conn_send(p->conn, r.p, r.len), 0);
    wire_release(inner);
    wire_release(&r);
}

static void ask_job(struct peer *p) {
    struct wire_buf b;
    struct wire_job_start *m;

    p->job = p->status = 0;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_START);
    m->head.call = 1;
    m->driver = proc_make(p->node, 1);
    ask(p, m->driver, &b);
}

static void ask_put(struct peer *p, uint32_t n, uint32_t bytes) {
    struct wire_kv_put *m;
    struct wire_buf b;

    p->answers = 0;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_KV_PUT);
    m->head.call = 2;
    m->overwrite = 1;
    WIRE_PUT(&b, kv_put, key, &n, sizeof n);
    WIRE_PUT(&b, kv_put, value, NULL, bytes);
    ask(p, proc_make(p->node, 1), &b);
}

/* Two raylets join, a driver starts a job by route, a lost raylet is told to the other, the head's
 * loss to the daemon's owner. */
static void session(void **state) {
    struct peer a, b;

    (void)state;
    join(&a, true);
    join(&b, false);
    assert_int_equal(a.node, 1);
    assert_int_equal(b.node, 2);
    UNTIL(a.infos == 2 && b.infos == 2);
    ask_job(&b);
    UNTIL(b.job == 1);
    assert_int_equal(b.kinds[WIRE_JOB_INFO], 1);
    UNTIL(a.kinds[WIRE_JOB_INFO] == 1);
    b.conn = conn_close(b.conn);
    UNTIL(a.dead == 2 && a.kinds[WIRE_JOB_END] == 1);
    assert_int_equal(heads_lost, 0);
    a.conn = conn_close(a.conn);
    UNTIL(heads_lost);
    assert_int_equal(heads_lost, 1);
}

/* A raylet that falls silent is told so and cut off; one that pings stays. */
static void silence(void **state) {
    struct peer a, b;

    (void)state;
    join(&a, true);
    join(&b, false);
    while (!b.closed) {
        say_ping(&a);
        loop_run_once(loop, 20);
    }
    assert_int_equal(b.kinds[WIRE_CONVICTED], 1);
    assert_int_equal(b.code, -SKATE_EDEAD);
    UNTIL(a.dead == 2);
    assert_false(a.closed);
}

static void on_gone(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)c, (void)code, (void)text;
}

/* A node whose connection ended and whose port nobody listens at is dead at once; one that still
 * listens is waited for. */
static void refused(void **state) {
    static const struct conn_events own = {.on_close = on_gone};
    struct net_listener *listener;
    struct peer a, b;

    (void)state;
    assert_int_equal(net_listen(net, (struct net_address){"127.0.0.1", 0}, &own, NULL, &listener,
                                NULL), 0);
    join(&a, true);
    join_at(&b, false, net_listener_port(listener));
    b.conn = conn_close(b.conn);
    for (int i = 0; i < 20; i++) loop_run_once(loop, 20);
    assert_string_equal(a.why, "");
    listener = net_listener_free(listener);
    UNTIL(a.dead == b.node);
    assert_non_null(strstr(a.why, "nobody listens at its port"));
}

/* Who speaks before it has registered, and who speaks nonsense, loses its link only. */
static void strangers(void **state) {
    struct peer a, b = {0};
    struct wire_ping bad = {.head = {.size = sizeof bad, .kind = 250, .fixed = sizeof bad}};

    (void)state;
    join(&a, true);
    assert_int_equal(conn_connect(net, (struct net_address){"127.0.0.1", gcsd_port(gcsd)}, &events,
                                  &b, &b.conn), 0);
    UNTIL(b.ready);
    say_ping(&b);
    UNTIL(b.closed);
    b = (struct peer){0};
    join(&b, false);
    assert_int_equal(conn_send(b.conn, &bad, sizeof bad), 0);
    UNTIL(b.closed);
    UNTIL(a.dead == b.node);
    assert_false(a.closed);
}

static void settings(void **state) {
    struct gcsd_settings s;
    struct skate_error err;
    char line[400], hex[65];
    int fds[2];

    (void)state;
    memset(hex, 'c', 64);
    hex[64] = 0;
    snprintf(line, sizeof line, "cluster_key=%s\tlisten_ip=10.0.0.1\tlisten_port=77\tnew=1\t"
             "lifeline_pid=5\tsession_dir=/s\n", hex);
    assert_int_equal(gcsd_settings_parse(line, &s, &err), 0);
    assert_int_equal(s.key[31], 0xcc);
    assert_string_equal(s.listen_ip, "10.0.0.1");
    assert_int_equal(s.listen_port, 77);
    assert_int_equal(s.lifeline_pid, 5);
    assert_false(s.lasting);
    snprintf(line, sizeof line, "cluster_key=%s\tlifeline=none\n", hex);
    assert_int_equal(gcsd_settings_parse(line, &s, &err), 0);
    assert_true(s.lasting);
    snprintf(line, sizeof line, "cluster_key=%s\tlisten_port=65536\n", hex);
    assert_int_equal(gcsd_settings_parse(line, &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "listen_port"));
    snprintf(line, sizeof line, "listen_port=1\n");
    assert_int_equal(gcsd_settings_parse(line, &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "cluster_key"));
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "half a line", 11), 11);
    close(fds[1]);
    assert_int_equal(gcsd_settings_read(fds[0], &s, &err), -SKATE_EDEAD);
    close(fds[0]);
}

/* A port in use is said so. */
static void port_in_use(void **state) {
    struct gcsd_settings s = {.listen_ip = "127.0.0.1", .listen_port = gcsd_port(gcsd)};
    struct gcsd_opts opts = {.loop = loop, .settings = &s};
    struct skate_error err;
    struct gcsd *second;

    (void)state;
    assert_int_equal(gcsd_new(&opts, &second, &err), -SKATE_EEXIST);
    assert_non_null(strstr(err.text, "in use"));
}

/* With a log: a daemon that is gone goes on where it was with its next life. */
static void kept(void **state) {
    struct peer a, b;

    join(&a, true);
    ask_job(&a);
    UNTIL(a.job == 1);
    ask_put(&a, 7, 100);
    UNTIL(a.answers);
    assert_int_equal(a.status, 0);
    (void)stop(state);
    assert_int_equal(start_patient(state), 0);
    join(&b, false);
    assert_int_equal(b.node, 2);
    ask_job(&b);
    UNTIL(b.job == 2);
}

/* No room for the log: whoever wants a change hears so; what was asked before is answered when
 * there is room again, and it is there in the next life. */
static void no_room(void **state) {
    struct rlimit old, small = {100000, RLIM_INFINITY};
    struct peer a, b;

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    join(&a, true);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    ask_put(&a, 1, 300000);
    do {
        ask_job(&a);
        say_ping(&a);
        loop_run_once(loop, 20);
    } while (a.status == 0);
    assert_int_equal(a.status, -SKATE_EIO);
    assert_int_equal(a.job, 0);
    a.answers = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    UNTIL(a.answers && a.status == 0);
    do {
        ask_job(&a);
        loop_run_once(loop, 20);
    } while (a.job == 0);
    (void)stop(state);
    assert_int_equal(start_patient(state), 0);
    join(&b, false);
    assert_int_equal(b.node, 2);
}

static void ask_get(struct peer *p, uint32_t n) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_kv_get *)wire_begin(&b, WIRE_KV_GET))->head.call = 3;
    WIRE_PUT(&b, kv_get, key, &n, sizeof n);
    ask(p, proc_make(p->node, 1), &b);
}

/* So much waits for the log that nothing more is read from raylets, but for their beats: here of a
 * node that is dead, and hears so each time. */
static void beats_are_read(void **state) {
    struct wire_beat m = {.head = {.size = sizeof m, .kind = WIRE_BEAT, .fixed = sizeof m}};
    struct rlimit old, small = {100000, RLIM_INFINITY};
    struct peer a, b, beats = {0};

    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    join(&a, true);
    join(&b, false);
    m.node = b.node;
    m.node_id.owner = (uintptr_t)&b;
    say_bye(&b);
    UNTIL(a.dead == b.node);
    assert_int_equal(conn_connect(net, (struct net_address){"127.0.0.1", gcsd_port(gcsd)}, &events,
                                  &beats, &beats.conn), 0);
    UNTIL(beats.ready);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    ask_put(&a, 1, 1 << 20);
    do {
        ask_job(&a);
        loop_run_once(loop, 20);
    } while (a.status == 0);
    for (int i = 0; i < 70; i++) ask_get(&a, 1); /* it is not kept yet: 70 MB wait */
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(conn_send(beats.conn, &m, sizeof m), 0);
        UNTIL(beats.kinds[WIRE_CONVICTED] == i);
    }
    a.answers = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    UNTIL(a.answers >= 71);
}

#define KEPT_TEST(name) cmocka_unit_test_setup_teardown(name, start_kept, stop_kept)
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

#define TEST_PATIENT(name) cmocka_unit_test_setup_teardown(name, start_patient, stop)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(session), TEST(silence),
                                       TEST_PATIENT(refused), TEST(strangers),
                                       TEST(settings), TEST(port_in_use),
                                       KEPT_TEST(kept), KEPT_TEST(no_room),
                                       KEPT_TEST(beats_are_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
