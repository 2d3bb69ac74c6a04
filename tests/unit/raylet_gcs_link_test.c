/* raylet_gcs_link_test.c - a raylet and its GCS, played by the test: links that break at a bad
 * moment. The raylet runs in this process; its tests are one story, in order.
 * links: base loop wire net store sched own gcs raylet. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/conn.h"
#include "raylet/bundles.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"
#include "raylet/pulls.h"
#include "raylet/raylet.h"

enum { ARENA = 1 << 20, FRAMES = 64, FRAME_MAX = 4096 };

#define HEAD(type, kind_)                                                                      \
    {.size = sizeof(struct type), .kind = (kind_), .fixed = sizeof(struct type)}

static struct raylet *ray;
static struct net *net;

/* What came at one port of ours, the newest connection to it, and its listener. */
struct port {
    struct net_listener *listener;
    struct conn *conn;
    uint64_t frames[FRAMES][FRAME_MAX / 8];
    uint32_t count, taken;
};
static struct port gcs, peer, caller; /* caller: a connection that we dial */

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct port *p = arg;

    (void)c;
    if (p->count == FRAMES || len > FRAME_MAX) return;
    memcpy(p->frames[p->count++], frame, len);
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    struct port *p = arg;

    (void)code, (void)text;
    if (p->conn == c) p->conn = NULL;
}

static const struct conn_events events = {.on_frame = on_frame, .on_close = on_close};

static void on_accept(void *arg, struct conn *c) {
    struct port *p = arg;

    p->conn = c;
    conn_set_events(c, &events, p);
}

static const struct conn_events fresh = {.on_ready = on_accept, .on_frame = on_frame,
                                         .on_close = on_close};

static uint16_t open_port(struct port *p) {
    struct net_address at = {.ip = "127.0.0.1"};

    assert_int_equal(net_listen(net, at, &fresh, p, &p->listener, NULL), 0);
    return net_listener_port(p->listener);
}

static void break_off(struct port *p) {
    if (p->conn) p->conn = conn_close(p->conn);
    p->count = p->taken = 0;
}

static void say(struct port *p, const void *frame) {
    assert_non_null(p->conn);
    assert_int_equal(conn_send(p->conn, frame, wire_head(frame)->size), 0);
}

static void say_built(struct port *p, struct wire_buf *b) {
    assert_int_equal(wire_end(b), 0);
    say(p, b->p);
    wire_release(b);
}

/* The next frame of that kind; others before it are passed over. */
static const void *await_kind(struct port *p, uint16_t kind) {
    for (int i = 0; i < 3000; i++) {
        while (p->taken < p->count) {
            const void *frame = p->frames[p->taken++];

            if (wire_head(frame)->kind == kind) return frame;
        }
        loop_run_once(ray->loop, 10);
    }
    fail_msg("no %s came", wire_name(kind));
    return NULL;
}

static void welcome(uint32_t node, int status, bool resumed) {
    struct wire_node_welcome *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_WELCOME);
    m->node = node;
    m->status = status;
    m->epoch = 1;
    m->resumed = resumed;
    say_built(&gcs, &b);
}

static int set_up(void **state) {
    struct net_opts opts = {0};
    struct extents_env env = {0};
    struct skate_error err = {""};

    (void)state;
    ray = calloc(1, sizeof *ray);
    assert_non_null(ray);
    assert_int_equal(loop_new(&ray->loop), 0);
    opts.loop = ray->loop;
    memset(opts.key, 3, sizeof opts.key);
    assert_int_equal(net_new(&opts, &net), 0);
    memset(ray->set.key, 3, sizeof ray->set.key);
    snprintf(ray->set.gcs_ip, sizeof ray->set.gcs_ip, "127.0.0.1");
    snprintf(ray->set.node_ip, sizeof ray->set.node_ip, "127.0.0.1");
    snprintf(ray->set.run_dir, sizeof ray->set.run_dir, "/tmp/skate-link-test-XXXXXX");
    assert_non_null(mkdtemp(ray->set.run_dir));
    ray->set.gcs_port = open_port(&gcs);
    ray->set.rejoin.again = true;
    ray->next_number = 1;
    ray->reclaim_ms = 10;
    assert_int_equal(resources_set(&ray->set.resources, "CPU", 20000), 0);
    ray->extents = extents_new(ARENA, ARENA, &env);
    assert_non_null(ray->extents);
    assert_int_equal(groups_new(ray), 0);
    ray->leases = leases_new(1000);
    loop_task_init(&ray->sched_task, grants_run, ray);
    assert_int_equal(loop_timer_new(ray->loop, grants_reclaim_tick, ray, &ray->reclaim_timer), 0);
    assert_int_equal(pulls_start(ray), 0);
    assert_int_equal(links_start(ray, &err), 0);
    return 0;
}

static int tear_down(void **state) {
    char path[300];

    (void)state;
    snprintf(path, sizeof path, "%s/address", ray->set.run_dir);
    (void)unlink(path);
    ray->net = net_free(ray->net);
    net = net_free(net);
    return rmdir(ray->set.run_dir);
}

/* What the raylet writes to its log while `what` happens. */
static void logged(void (*what)(void), char *ret, size_t cap) {
    int old = dup(2), fd = memfd_create("log", 0);
    ssize_t n;

    (void)fflush(stderr);
    assert_true(dup2(fd, 2) == 2);
    what();
    assert_true(dup2(old, 2) == 2);
    n = pread(fd, ret, cap - 1, 0);
    ret[n > 0 ? n : 0] = 0;
    close(old);
    close(fd);
}

static void break_and_hear(void) {
    const struct wire_node_register *m;

    break_off(&gcs);
    m = await_kind(&gcs, WIRE_NODE_REGISTER);
    assert_int_equal(m->node, 1);
}

/* It joins anew; the link breaks before the welcome, which the GCS has given it: under its id a
 * node lives there, until the GCS sees that this one will not come back. */
static void joins_anew(void **state) {
    char text[4096];

    (void)state;
    (void)await_kind(&gcs, WIRE_NODE_REGISTER);
    break_off(&gcs);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(((const struct wire_node_register *)
                              await_kind(&gcs, WIRE_NODE_REGISTER))->node, 0);
        welcome(0, -SKATE_EEXIST, false);
        conn_finish(gcs.conn);
        gcs.conn = NULL;
        gcs.count = gcs.taken = 0;
    }
    (void)await_kind(&gcs, WIRE_NODE_REGISTER);
    welcome(1, 0, false);
    for (int i = 0; i < 3000 && !ray->node; i++) loop_run_once(ray->loop, 10);
    assert_int_equal(ray->node, 1);
    /* It counts as away from this break on, not since its first attempt. */
    logged(break_and_hear, text, sizeof text);
    if (!strstr(text, "the link to the GCS ended")) fail_msg("'%s'", text);
    welcome(1, 0, true);
    (void)await_kind(&gcs, WIRE_NODE_STATE);
}

static void back_again(void) {
    struct wire_node_synced m = {.head = HEAD(wire_node_synced, WIRE_NODE_SYNCED), .epoch = 1};
    struct wire_node_info *info;
    struct wire_buf b;

    welcome(1, 0, true);
    (void)await_kind(&gcs, WIRE_NODE_STATE);
    wire_init(&b, NULL, 0);
    info = wire_begin(&b, WIRE_NODE_INFO);
    info->node = 2;
    info->state = 1;
    info->port = net_listener_port(peer.listener);
    WIRE_PUT(&b, node_info, ip, "127.0.0.1", 9);
    say_built(&gcs, &b);
    say(&gcs, &m);
}

/* A node that joined while our GCS is away speaks to us: that nobody has told us of it means
 * nothing, for the GCS cannot be asked. What is for it waits. */
static void knows_nobody_alone(void **state) {
    struct wire_peer_hello hello = {.head = HEAD(wire_peer_hello, WIRE_PEER_HELLO), .node = 2,
                                    .version = WIRE_VERSION};
    struct wire_copy_ask ask = {.head = HEAD(wire_copy_ask, WIRE_COPY_ASK), .req = 7, .node = 2};
    struct net_address to = {.ip = "127.0.0.1", .port = links_port(ray)};

    (void)state;
    (void)open_port(&peer);
    break_off(&gcs);
    (void)await_kind(&gcs, WIRE_NODE_REGISTER); /* it waits for its welcome now */
    assert_int_equal(conn_connect(net, to, &events, &caller, &caller.conn), 0);
    for (int i = 0; i < 1000 && !conn_is_ready(caller.conn); i++) loop_run_once(ray->loop, 10);
    say(&caller, &hello);
    say(&caller, &ask);
    (void)await_kind(&caller, WIRE_LANE_GOT);
    for (int i = 0; i < 100 && links_count(ray) == 0; i++) loop_run_once(ray->loop, 10);
    for (int i = 0; i < 20; i++) links_beat(ray);
    assert_false(links_is_dead(ray, 2));
    back_again();
    assert_int_equal(((const struct wire_peer_hello *)await_kind(&peer, WIRE_PEER_HELLO))->node, 1);
    {
        struct wire_lane_got got = {.head = HEAD(wire_lane_got, WIRE_LANE_GOT)};

        say(&peer, &got);
    }
    assert_int_equal(((const struct wire_copy_told *)await_kind(&peer, WIRE_COPY_TOLD))->req, 7);
}

/* Nodes that nobody knows call: when they hang up nothing is left of them. */
static void strangers_are_forgotten(void **state) {
    struct wire_peer_hello hello = {.head = HEAD(wire_peer_hello, WIRE_PEER_HELLO),
                                    .version = WIRE_VERSION};
    struct net_address to = {.ip = "127.0.0.1", .port = links_port(ray)};
    uint32_t before = links_count(ray);
    static struct port strangers[8];

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        struct port *p = &strangers[i];

        hello.node = 1000 + i;
        assert_int_equal(conn_connect(net, to, &events, p, &p->conn), 0);
        for (int k = 0; k < 1000 && !conn_is_ready(p->conn); k++) loop_run_once(ray->loop, 10);
        say(p, &hello);
        (void)await_kind(p, WIRE_LANE_GOT);
    }
    for (int i = 0; i < 20; i++) links_beat(ray);
    assert_true(links_is_dead(ray, 1000));
    for (uint32_t i = 0; i < 8; i++) break_off(&strangers[i]);
    for (int i = 0; i < 1000 && links_count(ray) > before; i++) loop_run_once(ray->loop, 10);
    assert_int_equal(links_count(ray), before);
}

static void start_actor(uint64_t seq, uint32_t incarnation) {
    struct resources want = {0};
    struct wire_actor_start *m;
    uint8_t packed[64];
    struct wire_buf b;

    assert_int_equal(resources_set(&want, "CPU", 100 * RESOURCE_UNIT), 0); /* more than is free */
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_START);
    m->actor = (struct skate_id){seq, 1};
    m->incarnation = incarnation;
    m->job = 1;
    WIRE_PUT(&b, actor_start, placing, packed, resources_pack(&want, packed, sizeof packed));
    say_built(&gcs, &b);
}

/* The end of an incarnation that is over comes when the next one waits for room here. */
static void later_incarnation_waits_on(void **state) {
    struct wire_worker_kill kill = {.head = HEAD(wire_worker_kill, WIRE_WORKER_KILL),
                                    .actor = {5, 1}, .incarnation = 1};
    const struct wire_actor_refused *m;

    (void)state;
    start_actor(5, 2); /* there is no room: it waits, and is sent back */
    say(&gcs, &kill);
    m = await_kind(&gcs, WIRE_ACTOR_REFUSED);
    assert_int_equal(m->actor.owner, 5);
    assert_int_equal(m->incarnation, 2);
    start_actor(5, 3);
    kill.incarnation = 3; /* the one that is meant does not wait on */
    say(&gcs, &kill);
    start_actor(6, 1);
    m = await_kind(&gcs, WIRE_ACTOR_REFUSED);
    assert_int_equal(m->actor.owner, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(joins_anew),
                                       cmocka_unit_test(knows_nobody_alone),
                                       cmocka_unit_test(strangers_are_forgotten),
                                       cmocka_unit_test(later_incarnation_waits_on)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
