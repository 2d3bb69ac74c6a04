/* raylet_pulls_test.c - chunks for other nodes: in turn, passed on by receivers, refused.
 * links: base loop wire net store sched own gcs gcsd raylet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"
#include "raylet/pulls_int.h"
#include "store/object.h"

#define MIB (UINT64_C(1) << 20)
#define SPAN (64 * MIB)

enum { NODES = 4, CHUNK = 256 * 1024, WHOLE = 9 << 20 };

/* Another node, at the far end of a bulk connection. */
struct other {
    struct conn *conn, *server; /* its end, the raylet's */
    uint32_t chunks, near, instead, refused, bad, closed;
    uint64_t last;
};
static struct raylet *ray, *rays[8]; /* one a test; a raylet's state ends with its process */
static uint32_t ray_count;
static struct net *net[2];
static struct net_listener *listener;
static struct other others[NODES];
static uint32_t accepted;
static struct near *near; /* of the first */
static const struct skate_id OBJECT = {77, 5}, COPY = {78, 6};
static uint64_t start; /* of OBJECT */
static struct copy *copy;

static uint8_t byte_at(uint64_t at) { return (uint8_t)(at * 7 + at / 4099); }

static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    const struct wire_bulk_data *m = frame;
    struct other *o = arg;
    const uint8_t *p;

    (void)c;
    if (m->head.kind == WIRE_BULK_NEAR_OK) near_agreed(near);
    if (m->head.kind == WIRE_BULK_INSTEAD)
        o->instead = ((const struct wire_bulk_instead *)frame)->node;
    if (m->head.kind != WIRE_BULK_DATA) return;
    if (m->status < 0) {
        o->refused++;
        return;
    }
    p = wire_bulk_data_data(frame, &len);
    if (len == 0) {
        p = near_at(near, m->place);
        len = m->len;
        assert_non_null(p);
        o->near++;
    }
    for (uint32_t i = 0; i < len; i++)
        if (p[i] != byte_at(m->pos + i)) o->bad++;
    o->chunks++;
    o->last = m->pos;
}

static void on_close(void *arg, struct conn *c, int code, const char *text) {
    (void)c, (void)code, (void)text;
    if (arg) ((struct other *)arg)->closed++;
}

static void on_gone(void *arg, struct conn *c, int code, const char *text) {
    struct other *o = arg;

    (void)code, (void)text;
    pulls_conn_closed(ray, c);
    if (o) o->server = NULL;
}

static void on_drain(void *arg, struct conn *c) {
    (void)arg, (void)c;
    pulls_drained(ray);
}

static const struct conn_events server_events = {.on_close = on_gone, .on_drain = on_drain};
static const struct conn_events other_events = {.on_frame = on_frame, .on_close = on_close};

static void on_accept(void *arg, struct conn *c) {
    (void)arg;
    others[accepted].server = c;
    conn_set_events(c, &server_events, &others[accepted++]);
}

static const struct conn_events fresh = {.on_ready = on_accept, .on_close = on_close};

#define UNTIL(condition)                                                                      \
    for (int64_t end_ = time_now_ns() + INT64_C(60000000000); !(condition);) {                \
        assert_true(time_now_ns() < end_);                                                    \
        loop_run_once(ray->loop, 50);                                                         \
    }

static void settle(void) {
    for (int i = 0; i < 20; i++) loop_run_once(ray->loop, 1);
}

static uint64_t lend(uint64_t bytes) {
    struct extent_span span;

    assert_int_equal(extents_lend(ray->extents, ray->self, bytes, &span, NULL), 0);
    return span.offset;
}

static void make_object(void) {
    struct heap_header h = {.magic = HEAP_MAGIC, .id = OBJECT, .size = WHOLE};

    start = lend(WHOLE + sizeof h) + sizeof h;
    memcpy(ray->arena + start - sizeof h, &h, sizeof h);
    for (uint64_t i = 0; i < WHOLE; i++) ray->arena[start + i] = byte_at(i);
}

/* As if all of it had been asked of node 99. */
static void make_copy(void) {
    struct pulls *s = ray->pulls;

    copy = calloc(1, sizeof *copy);
    *copy = (struct copy){.id = COPY, .key = id_hash(&COPY), .holder = proc_make(99, 1),
                          .size = WHOLE, .offset = lend(WHOLE), .req = ++s->next_req,
                          .asked = WHOLE, .in_flight = WHOLE / CHUNK, .source = 99,
                          .next = NULL, .link = &s->open[PULL_GET]};
    s->open[PULL_GET] = copy;
    s->flying = copy->in_flight;
    assert_int_equal(table_set(&s->by_key, copy->key, copy), 0);
    assert_int_equal(table_set(&s->by_offset, copy->offset, copy), 0);
    assert_int_equal(table_set(&s->by_req, copy->req, copy), 0);
}

static int set_up(void **state) {
    struct extents_env env = {0};
    struct net_opts opts = {0};

    (void)state;
    ray = rays[ray_count++] = calloc(1, sizeof *ray);
    assert_int_equal(loop_new(&ray->loop), 0);
    ray->node = 1;
    ray->self = proc_make(1, 0);
    memcpy(ray->set.node_ip, "127.0.0.1", 10);
    ray->arena = malloc(SPAN);
    ray->span = SPAN;
    ray->extents = extents_new(SPAN, SPAN, &env);
    assert_int_equal(pulls_start(ray), 0);
    make_object();
    make_copy();
    opts.loop = ray->loop;
    accepted = 0;
    memset(others, 0, sizeof others);
    for (int i = 0; i < 2; i++) assert_int_equal(net_new(&opts, &net[i]), 0);
    assert_int_equal(net_listen(net[0], (struct net_address){"127.0.0.1", 0}, &fresh, NULL,
                                &listener, NULL), 0);
    for (uint32_t i = 0; i < NODES; i++) {
        struct net_address to = {"127.0.0.1", net_listener_port(listener)};

        assert_int_equal(conn_connect(net[1], to, &other_events, &others[i], &others[i].conn), 0);
        UNTIL(accepted == i + 1 && conn_is_ready(others[i].conn));
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) net[i] = net_free(net[i]);
    ray->loop = loop_free(ray->loop);
    ray->extents = extents_free(ray->extents);
    free(ray->arena);
    return 0;
}

static void ask(uint32_t i, const struct skate_id *id, uint64_t at, uint32_t flags) {
    struct wire_bulk_get m = {.head = {.size = sizeof m, .kind = WIRE_BULK_GET,
                                       .fixed = sizeof m},
                              .obj = *id, .offset = start + at, .size = CHUNK, .req = i,
                              .start = start, .whole = WHOLE, .at = at, .flags = flags};

    if (flags & BULK_COPY) m.start = m.offset = 0;
    pulls_asked(ray, 10 + i, others[i].server, &m);
}

static void comes(uint64_t at) {
    struct wire_bulk_data *m = calloc(1, sizeof *m + CHUNK);

    m->head = (struct wire_head){.size = sizeof *m + CHUNK, .kind = WIRE_BULK_DATA,
                                 .fixed = sizeof *m};
    m->req = copy->req;
    m->pos = at;
    m->data = (struct wire_span){sizeof *m, CHUNK};
    for (uint32_t i = 0; i < CHUNK; i++) ((uint8_t *)(m + 1))[i] = byte_at(at + i);
    pulls_data(ray, 99, m);
    free(m);
}

/* The first gets it from here, the next is sent to the one before it, unless it comes back. */
static void chain(void **state) {
    (void)state;
    ask(0, &OBJECT, 0, 0);
    ask(1, &OBJECT, 0, 0);
    ask(2, &OBJECT, 0, 0);
    UNTIL(others[0].chunks && others[1].instead && others[2].instead);
    assert_int_equal(others[1].instead, 10);
    assert_int_equal(others[2].instead, 11);
    ask(1, &OBJECT, CHUNK, BULK_DIRECT);
    for (uint64_t at = CHUNK; at < WHOLE; at += CHUNK) ask(0, &OBJECT, at, 0);
    UNTIL(others[1].chunks == 1 && others[0].chunks == WHOLE / CHUNK);
    assert_int_equal(others[0].last, WHOLE - CHUNK);
    ask(3, &OBJECT, 0, 0); /* the first has all of it: from here again */
    UNTIL(others[3].chunks);
    assert_int_equal(others[3].instead + others[0].bad + others[1].bad + others[3].bad, 0);
}

/* What has not come is waited for, and goes on as it comes. */
static void passed_on(void **state) {
    (void)state;
    ask(0, &COPY, 0, BULK_COPY);
    ask(0, &COPY, CHUNK, BULK_COPY);
    ask(1, &COPY, CHUNK, BULK_COPY);
    settle();
    assert_int_equal(others[0].chunks + others[1].chunks, 0);
    assert_int_equal(ray->pulls->askers, 3);
    comes(CHUNK); /* not the next: nothing of it counts */
    assert_int_equal(copy->got, 0);
    comes(0);
    UNTIL(others[0].chunks == 1);
    assert_int_equal(ray->pulls->askers, 2);
    comes(CHUNK);
    UNTIL(others[0].chunks == 2 && others[1].chunks == 1);
    ask(2, &COPY, 0, BULK_COPY); /* here already */
    UNTIL(others[2].chunks == 1);
    for (uint64_t at = 2 * CHUNK; at < WHOLE; at += CHUNK) comes(at);
    assert_true(copy->ready);
    ask(2, &COPY, WHOLE - CHUNK, BULK_COPY);
    UNTIL(others[2].chunks == 2);
    assert_int_equal(others[0].bad + others[1].bad + others[2].bad, 0);
    assert_int_equal(ray->pulls->askers + ray->pulls->flying, 0);
}

static void ask_to(uint32_t i, uint64_t at, uint32_t place, uint64_t size) {
    struct wire_bulk_get m = {.head = {.size = sizeof m, .kind = WIRE_BULK_GET,
                                       .fixed = sizeof m},
                              .obj = OBJECT, .offset = start + at, .size = size, .req = i,
                              .start = start, .whole = WHOLE, .at = at, .place = place};

    pulls_asked(ray, 10 + i, others[i].server, &m);
}

/* Who is on this machine gets chunks through memory, and by the connection what has no place. */
static void through_memory(void **state) {
    struct wire_bulk_near m;
    uint32_t place;

    (void)state;
    near = near_offer(&m);
    assert_non_null(near);
    assert_int_equal(near_take(near), 0); /* nobody has it yet */
    m.secret1 ^= 1;
    assert_null(near_open(&m)); /* as in another namespace of processes: some other file */
    pulls_near(ray, others[0].server, &m);
    m.secret1 ^= 1;
    m.fd = (uint32_t)STDERR_FILENO;
    assert_null(near_open(&m));
    m.pid = 0;
    assert_null(near_open(&m));
    settle();
    assert_false(near_is_used(near));
    near = near_free(near);
    near = near_offer(&m);
    pulls_near(ray, others[0].server, &m);
    UNTIL(near_is_used(near));
    place = near_take(near);
    ask_to(0, 0, place, CHUNK);
    UNTIL(others[0].chunks == 1);
    assert_int_equal(others[0].near, 1);
    ask_to(0, CHUNK, NEAR_SLOTS + 1, CHUNK);  /* no such place */
    ask_to(0, 2 * CHUNK, place, CHUNK + 8);   /* larger than one */
    ask_to(0, 3 * CHUNK, 0, CHUNK);
    ask_to(1, 4 * CHUNK, place, CHUNK); /* of another connection, which has none */
    UNTIL(others[0].chunks == 4 && others[1].chunks == 1);
    assert_int_equal(others[0].near, 1);
    assert_int_equal(others[0].bad + others[1].bad, 0);
    near_give(near, place);
    assert_null(near_at(near, place));
    for (uint32_t i = 0; i < NEAR_SLOTS; i++) assert_int_equal(near_take(near), i + 1);
    assert_int_equal(near_take(near), 0);
    near_give(near, 0);
    near_give(near, NEAR_SLOTS + 1);
    near_give(near, 3);
    assert_int_equal(near_take(near), 3);
    assert_non_null(near_at(near, NEAR_SLOTS));
    near_give(near, NEAR_SLOTS);
    assert_null(near_at(near, NEAR_SLOTS));
    assert_int_equal(near_take(near), NEAR_SLOTS);
    near = near_free(near);
}

/* No copy, another size, more than a chunk, past its end: refused; a copy that fails tells all who
 * wait for it; who leaves waits no more. */
static void refused(void **state) {
    static const struct skate_id none = {1, 2};
    struct wire_bulk_get m = {.head = {.size = sizeof m, .kind = WIRE_BULK_GET,
                                       .fixed = sizeof m},
                              .obj = COPY, .size = CHUNK, .whole = WHOLE + 8, .flags = BULK_COPY};

    (void)state;
    ask(0, &none, 0, BULK_COPY);
    pulls_asked(ray, 10, others[0].server, &m);
    m.whole = WHOLE;
    m.at = UINT64_MAX - 5;
    pulls_asked(ray, 10, others[0].server, &m);
    m.at = 0;
    m.size = WHOLE;
    pulls_asked(ray, 10, others[0].server, &m);
    UNTIL(others[0].refused == 4);
    ask(1, &COPY, 0, BULK_COPY);
    ask(2, &COPY, 0, BULK_COPY);
    UNTIL(ray->pulls->askers == 2);
    others[2].conn = conn_close(others[2].conn);
    UNTIL(!others[2].server);
    assert_int_equal(ray->pulls->askers, 1);
    pulls_fail(ray, copy, -SKATE_EDEAD, "gone");
    UNTIL(others[1].refused == 1);
    assert_int_equal(ray->pulls->askers + ray->pulls->flying, 0);
    assert_int_equal(others[0].chunks + others[1].chunks, 0);
}

/* "It is in memory that we share", where none is: who waits hears that it cannot come. */
static void empty(void **state) {
    struct wire_bulk_data m = {.head = {.size = sizeof m, .kind = WIRE_BULK_DATA,
                                        .fixed = sizeof m},
                               .req = copy->req, .len = CHUNK, .place = 1};

    (void)state;
    copy->searched = true; /* no other node has it */
    ask(0, &COPY, 0, BULK_COPY);
    UNTIL(ray->pulls->askers == 1);
    pulls_data(ray, 99, &m);
    UNTIL(others[0].refused == 1);
    assert_null(pulls_find(ray->pulls, &COPY));
    assert_int_equal(ray->pulls->askers + ray->pulls->flying, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(chain), TEST(passed_on), TEST(refused), TEST(empty),
                                       TEST(through_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
