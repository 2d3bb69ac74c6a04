/* beats.c - see beats.h. Fields below are of the thread alone but where it says otherwise. */
#include "raylet/beats.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/atomic.h"
#include "wire/wire_gen.h"

enum { EACH_MS = 200, REDIAL_MS = 100, REASON_MAX = 1920, STACK_BYTES = 256 * 1024 };
/* An attempt to connect is given up after so many times EACH_MS, that a broken network which heals
 * is noticed soon; each fourth one has all the time that src/net gives it. */
enum { DIAL_TURNS = 10, PATIENT_TRY = 4 };

struct beats {
    struct beats_opts opts; /* without the key */
    struct loop *loop;
    struct net *net;
    struct conn *conn;
    struct loop_timer *timer;
    struct loop_watch *stop_watch;
    uint32_t tries, dialling; /* attempts since the last connection; turns of this one */
    int stop_fd, told_fd;
    /* of the owner */
    struct loop_watch *told_watch;
    pthread_t thread;
    bool running;
    uint32_t node; /* fixed before the thread starts */
    /* shared, with atomic access */
    uint64_t turns, epoch;
    uint32_t convicted; /* 1: the reason below is written, and stays */
    char reason[REASON_MAX];
};

static void dial(struct beats *b);

static void beat(struct beats *b) {
    struct wire_beat m = {.head = {.size = sizeof m, .kind = WIRE_BEAT, .fixed = sizeof m},
                          .node_id = b->opts.node_id, .turns = at_load(&b->turns),
                          .epoch = at_load(&b->epoch), .node = b->node};

    /* Beats that nobody reads are not piled up: one that cannot go is left out. */
    if (conn_pending_bytes(b->conn) < 4096 && conn_send(b->conn, &m, sizeof m) < 0) {}
}

static void on_time(void *arg) {
    struct beats *b = arg;

    if (b->conn && conn_is_ready(b->conn)) {
        beat(b);
        return;
    }
    if (b->conn && (++b->dialling < DIAL_TURNS || b->tries % PATIENT_TRY == 0)) return;
    b->conn = conn_close(b->conn);
    dial(b);
}

static void on_ready(void *arg, struct conn *c) {
    struct beats *b = arg;

    (void)c;
    b->tries = 0;
    beat(b);
    loop_timer_start(b->timer, EACH_MS, EACH_MS);
}

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    const struct wire_convicted *m = frame;
    struct beats *b = arg;
    uint64_t one = 1;
    const char *why;

    (void)c;
    (void)len;
    if (wire_head(frame)->kind != WIRE_CONVICTED || m->node != b->node || b->convicted) return;
    why = wire_convicted_reason(m, &len);
    if (len >= sizeof b->reason) len = sizeof b->reason - 1;
    memcpy(b->reason, why, len);
    b->reason[len] = 0;
    at_store_release(&b->convicted, 1);
    if (write(b->told_fd, &one, sizeof one) < 0) {} /* cannot fail: it is not at its end */
}

/* The loop's timer tries again; the GCS may be away for long. */
static void on_close(void *arg, struct conn *c, int code, const char *text) {
    struct beats *b = arg;

    (void)c;
    (void)code;
    (void)text;
    b->conn = NULL;
    loop_timer_start(b->timer, REDIAL_MS, EACH_MS);
}

static const struct conn_events events = {
    .on_ready = on_ready, .on_frame = on_frame, .on_close = on_close};

static void dial(struct beats *b) {
    struct net_address to = {.ip = b->opts.gcs_ip, .port = b->opts.gcs_port};

    b->tries++;
    b->dialling = 0;
    if (conn_connect(b->net, to, &events, b, &b->conn) < 0) b->conn = NULL;
}

static void on_stop(void *arg, unsigned ready) {
    struct beats *b = arg;

    (void)ready;
    b->conn = conn_close(b->conn);
    loop_stop(b->loop);
}

static void *run(void *arg) {
    struct beats *b = arg;

    dial(b);
    loop_timer_start(b->timer, EACH_MS, EACH_MS);
    loop_run(b->loop);
    return NULL;
}

/* ---- the owner's side ---- */

static void on_told(void *arg, unsigned ready) {
    struct beats *b = arg;
    uint64_t n;

    (void)ready;
    if (read(b->told_fd, &n, sizeof n) < 0 || !at_load_acquire(&b->convicted)) return;
    b->told_watch = loop_unwatch(b->told_watch);
    b->opts.on_convicted(b->opts.arg, b->reason);
}

int beats_new(const struct beats_opts *opts, struct beats **ret) {
    struct net_opts net = {0};
    struct beats *b = calloc(1, sizeof *b);
    int e;

    if (!b) return -SKATE_ENOMEM;
    b->opts = *opts;
    net_wipe(b->opts.key, sizeof b->opts.key);
    b->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    b->told_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e = b->stop_fd < 0 || b->told_fd < 0 ? -SKATE_ESYS : loop_new(&b->loop);
    if (e == 0) {
        net.loop = b->loop;
        net.tls = opts->tls;
        memcpy(net.key, opts->key, sizeof net.key);
        e = net_new(&net, &b->net);
        net_wipe(net.key, sizeof net.key);
    }
    if (e == 0) e = loop_timer_new(b->loop, on_time, b, &b->timer);
    if (e == 0) e = loop_watch_fd(b->loop, b->stop_fd, LOOP_READ, on_stop, b, &b->stop_watch);
    if (e == 0) e = loop_watch_fd(opts->loop, b->told_fd, LOOP_READ, on_told, b, &b->told_watch);
    if (e < 0) {
        (void)beats_free(b);
        return e;
    }
    *ret = b;
    return 0;
}

int beats_start(struct beats *b, uint32_t node) {
    sigset_t all, before;
    pthread_attr_t attr;
    int failed;

    if (b->running) return 0;
    b->node = node;
    failed = pthread_attr_init(&attr);
    if (failed) return -SKATE_ENOMEM;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the main loop */
    failed = pthread_create(&b->thread, &attr, run, b);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    b->running = !failed;
    return failed ? -SKATE_ENOMEM : 0;
}

void beats_turn(struct beats *b) {
    if (b) at_store(&b->turns, b->turns + 1);
}

void beats_epoch(struct beats *b, uint64_t epoch) {
    if (b) at_store(&b->epoch, epoch);
}

struct beats *beats_free(struct beats *b) {
    uint64_t one = 1;

    if (!b) return NULL;
    if (b->running && write(b->stop_fd, &one, sizeof one) == (ssize_t)sizeof one)
        (void)pthread_join(b->thread, NULL);
    b->told_watch = loop_unwatch(b->told_watch);
    b->net = net_free(b->net);
    b->stop_watch = loop_unwatch(b->stop_watch);
    b->timer = loop_timer_free(b->timer);
    b->loop = loop_free(b->loop);
    if (b->stop_fd >= 0) close(b->stop_fd);
    if (b->told_fd >= 0) close(b->told_fd);
    free(b);
    return NULL;
}
