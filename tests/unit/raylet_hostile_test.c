/* raylet_hostile_test.c - what a process once could make its raylet do, each by its name. The rig
 * is that of tests/fuzz/fuzz_raylet.c.
 * links: base loop wire net store sched own gcs gcsd raylet. */
#include "../fuzz/fuzz_raylet.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "hostile.c"

#define HEAD(type, kind_)                                                                      \
    {.size = sizeof(struct type), .kind = (kind_), .fixed = sizeof(struct type)}

static int start(void **state) {
    (void)state;
    if (!ray) set_up();
    be_driver(0);
    return 0;
}

static void say(uint32_t i, const void *bytes, size_t len) {
    for (size_t at = 0; at < len; turn()) {
        ssize_t n = send(ends[i], (const uint8_t *)bytes + at, len - at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            at += (size_t)n;
        else if (errno != EAGAIN)
            return;
    }
    for (int k = 0; k < 20; k++) turn();
}

/* It answers the driver that behaves. */
static void serves(void) {
    struct wire_extent_req ask = {.head = HEAD(wire_extent_req, WIRE_EXTENT_REQ), .bytes = 1};
    bool came = false;

    ask.head.call = ++asked;
    assert_int_equal(send(ends[HONEST], &ask, sizeof ask, MSG_DONTWAIT), sizeof ask);
    for (int i = 0; i < 1000 && !came; i++) {
        turn();
        came = honest_reads(asked);
    }
    assert_true(came);
}

/* The next frame for end 0, or NULL. */
static const struct wire_head *heard(void) {
    static uint64_t buf[1 << 10];
    struct wire_head head;

    if (recv(ends[0], &head, sizeof head, MSG_DONTWAIT | MSG_PEEK) != sizeof head) return NULL;
    assert_true(head.size <= sizeof buf);
    assert_int_equal(recv(ends[0], buf, head.size, MSG_DONTWAIT), head.size);
    return (const struct wire_head *)buf;
}

/* A route in a route in a route ...: each level once was a level of the stack. */
static void nested_routes(void **state) {
    enum { LEVELS = 100000, EACH = sizeof(struct wire_route) };
    struct wire_route *m = calloc(LEVELS, EACH);

    (void)state;
    assert_non_null(m);
    for (uint32_t i = 0; i < LEVELS; i++) {
        m[i] = (struct wire_route){.head = HEAD(wire_route, WIRE_ROUTE), .dst = ray->self,
                                   .src = end_procs[0]};
        m[i].head.size = (LEVELS - i) * EACH;
        if (i + 1 < LEVELS) m[i].frame = (struct wire_span){EACH, (LEVELS - i - 1) * EACH};
    }
    assert_int_equal(wire_check(m, LEVELS * EACH), 0);
    say(0, m, LEVELS * EACH);
    free(m);
    serves();
}

/* A frame that claims descriptors would take those of the next frame at its receiver. */
static void false_descriptors(void **state) {
    struct wire_route m = {.head = HEAD(wire_route, WIRE_ROUTE), .dst = end_procs[HONEST],
                           .src = end_procs[0]};

    (void)state;
    m.head.nfds = 1;
    say(0, &m, sizeof m);
    assert_null(proc_find(ray, end_procs[0])); /* it broke the protocol */
    serves();
}

/* Frames for nodes that never were: their names do not pile up, and the sender hears. */
static void nodes_that_never_were(void **state) {
    uint32_t before = links_count(ray), answers = 0;
    const struct wire_head *head;

    (void)state;
    for (uint32_t i = 0; i < 5000; i++) {
        struct wire_route m = {.head = HEAD(wire_route, WIRE_ROUTE), .src = end_procs[0],
                               .dst = proc_make(1000 + i, 1)};

        say(0, &m, sizeof m);
        while ((head = heard())) answers += head->kind == WIRE_PROC_DIED;
    }
    assert_true(links_count(ray) <= before + 1024);
    assert_true(answers >= 3900);
    for (int i = 0; i < 10; i++) links_beat(ray);
    assert_int_equal(links_count(ray), before);
    while (heard()) {}
    serves();
}

/* Four thousand million leases of a ten-thousandth: placed are as many as can become processes. */
static void endless_leases(void **state) {
    struct wire_job_start job = {.head = HEAD(wire_job_start, WIRE_JOB_START)};
    struct wire_route *route;
    struct wire_lease_req *m;
    struct resources want = {0};
    uint8_t packed[100];
    struct wire_buf b;

    (void)state;
    job.driver = end_procs[0];
    wire_init(&b, NULL, 0);
    route = wire_begin(&b, WIRE_ROUTE);
    route->src = end_procs[0];
    WIRE_PUT(&b, route, frame, &job, sizeof job);
    assert_int_equal(wire_end(&b), 0);
    say(0, b.p, b.len);
    wire_release(&b);
    for (int i = 0; i < 1000 && !proc_find(ray, end_procs[0])->job; i++)
        loop_run_once(ray->loop, 5);
    assert_int_equal(resources_set(&want, "CPU", 1), 0);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_LEASE_REQ);
    m->owner = end_procs[0];
    m->req = 1;
    m->job = proc_find(ray, end_procs[0])->job;
    m->count = UINT32_MAX;
    WIRE_PUT(&b, lease_req, resources, packed, resources_pack(&want, packed, sizeof packed));
    assert_int_equal(wire_end(&b), 0);
    say(0, b.p, b.len);
    wire_release(&b);
    assert_true(ray->waiting > 100 && ray->waiting <= RAYLET_PROCS_MAX);
    close(ends[0]);
    ends[0] = 0;
    for (int i = 0; i < 20; i++) turn();
    assert_int_equal(ray->waiting, 0);
    be_zygote(true);
    serves();
}

/* bye said again before it is answered: one timer, one answer. */
static void bye_again(void **state) {
    struct wire_bye m = {.head = HEAD(wire_bye, WIRE_BYE)};
    uint32_t answers = 0;
    const struct wire_head *head;

    (void)state;
    for (uint32_t i = 1; i < 50; i++) {
        m.head.call = i;
        say(0, &m, sizeof m);
        while ((head = heard())) answers += head->kind == WIRE_BYE;
    }
    assert_true(answers > 0);
    serves();
}

/* Complaints are counted, not written without end. */
static void complaints(void **state) {
    struct wire_extent_return m = {.head = HEAD(wire_extent_return, WIRE_EXTENT_RETURN)};
    int pair[2], err = dup(2);
    static char text[1 << 20];
    ssize_t n;

    (void)state;
    m.offset = 77;
    assert_int_equal(pipe2(pair, O_NONBLOCK | O_CLOEXEC), 0);
    assert_true(dup2(pair[1], 2) >= 0);
    for (int i = 0; i < 3000; i++) say(0, &m, sizeof m);
    assert_true(dup2(err, 2) >= 0);
    n = read(pair[0], text, sizeof text);
    assert_true(n > 0 && n < 30000);
    close(pair[0]);
    close(pair[1]);
    close(err);
    serves();
}

/* By a route to the GCS, to the raylet, to another process, to a node that never was; as a frame of
 * its own. Whoever breaks the protocol is cut off and comes again. */
static void send_each_way(uint32_t kind, enum shape shape, const struct skate_id *id) {
    const uint64_t places[] = {0, ray->self, end_procs[HONEST], proc_make(77, 1)};
    struct wire_node_drain *drain;
    struct wire_route *m;
    struct wire_buf b, r;

    shape_frame(&b, kind, shape, id);
    if (kind == WIRE_NODE_DRAIN && b.len >= sizeof *drain) {
        drain = (struct wire_node_drain *)(void *)b.p;
        if (drain->on == 2) drain->on = 1; /* 2 ends the node, and anybody may say so */
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        wire_init(&r, NULL, 0);
        m = wire_begin(&r, WIRE_ROUTE);
        m->src = end_procs[0];
        m->dst = places[i];
        WIRE_PUT(&r, route, frame, b.p, b.len);
        assert_int_equal(wire_end(&r), 0);
        say(0, r.p, r.len);
        wire_release(&r);
        if (!proc_find(ray, end_procs[0])) be_driver(0);
        (void)honest_reads(0);
    }
    for (int twice = 0; twice < 2; twice++) {
        say(0, b.p, b.len);
        if (shape >= SHAPES_WHOLE || !proc_find(ray, end_procs[0])) be_driver(0);
    }
    wire_release(&b);
    while (heard()) {}
}

static void every_kind(void **state) {
    struct skate_id ids[] = {{end_procs[0], 1 << 16 | 1}, {end_procs[HONEST], 1 << 16 | 1},
                             {ray->self, 1}, {proc_make(1, 999), 1 << 16}};

    (void)state;
    for (uint32_t kind = FIRST_KIND; kind < wire_info_count; kind++) {
        if (!kind_exists(kind)) continue;
        for (int shape = 0; shape < SHAPES; shape++) {
            ids[0].owner = end_procs[0];
            for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
                send_each_way(kind, (enum shape)shape, &ids[i]);
        }
        serves();
        assert_true(extents_is_valid(ray->extents));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nested_routes, start),
        cmocka_unit_test_setup(false_descriptors, start),
        cmocka_unit_test_setup(nodes_that_never_were, start),
        cmocka_unit_test_setup(endless_leases, start),
        cmocka_unit_test_setup(bye_again, start),
        cmocka_unit_test_setup(complaints, start),
        cmocka_unit_test_setup(every_kind, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
