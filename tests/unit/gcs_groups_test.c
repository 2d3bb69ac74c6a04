/* gcs_groups_test.c - placement groups in the control store: frames in, frames out, no I/O.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"

enum { PENDING, CREATED, RESCHEDULING, REMOVED };

static struct skate_id group_id(uint64_t n) { return (struct skate_id){n, 77}; }

/* A group of bundles of so many CPUs, made by `creator`; the status of the answer. */
static int make_as(uint64_t n, uint32_t strategy, const char *name, uint64_t creator,
                   const double *cpus, uint32_t count) {
    struct wire_group_create *m;
    const struct wire_status *s;
    uint8_t packed[1024];
    uint32_t used = 0;
    struct wire_buf b;

    memset(packed, 0, sizeof packed);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t head[2] = {i, 0};

        head[1] = (uint32_t)pack("CPU", cpus[i], packed + used + 8, sizeof packed - used - 8);
        memcpy(packed + used, head, sizeof head);
        used += (8 + head[1] + 7) & ~7u;
    }
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_CREATE);
    m->head.call = 3;
    m->group = group_id(n);
    m->creator = creator;
    m->job = 1;
    m->strategy = strategy & 15;
    m->flags = strategy >> 4;
    WIRE_PUT(&b, group_create, name, name, strlen(name));
    WIRE_PUT(&b, group_create, namespace, "space", 5);
    WIRE_PUT(&b, group_create, bundles, packed, used);
    give(1, creator, &b);
    s = sent(creator, WIRE_STATUS);
    assert_non_null(s);
    return s->status;
}

static int make(uint64_t n, uint32_t strategy, const char *name, const double *cpus,
                uint32_t count) {
    return make_as(n, strategy, name, DRIVER, cpus, count);
}

/* A raylet's answer to the attempt that it was asked for. */
static void reserved(uint64_t link, uint64_t n, uint32_t epoch, int status) {
    struct wire_group_reserved *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_RESERVED);
    m->group = group_id(n);
    m->epoch = epoch;
    m->status = status;
    give(link, 0, &b);
}

static void remove_group(uint64_t n) {
    struct wire_group_remove *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_REMOVE);
    m->head.call = 4;
    m->group = group_id(n);
    give(1, DRIVER, &b);
}

/* State of a group as a process is told; the nodes of its bundles. */
static uint32_t look(uint64_t n, const char *name, uint32_t *nodes) {
    const struct wire_group_info *i;
    struct wire_group_get *m;
    const uint32_t *found;
    struct wire_buf b;
    uint32_t count;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_GET);
    m->head.call = 5;
    if (n) m->group = group_id(n);
    WIRE_PUT(&b, group_get, name, name, strlen(name));
    WIRE_PUT(&b, group_get, namespace, "space", 5);
    give(1, DRIVER, &b);
    i = sent(DRIVER, WIRE_GROUP_INFO);
    assert_non_null(i);
    found = wire_group_info_nodes(i, &count);
    for (uint32_t k = 0; nodes && k < count; k++) nodes[k] = found[k];
    return i->state;
}

/* What the last step told the raylet of this link. */
static uint32_t told_state(uint64_t link) {
    const struct wire_group_info *m = sent(link, WIRE_GROUP_INFO);

    assert_non_null(m);
    return m->state;
}

static uint32_t asked_epoch(uint64_t link) {
    const struct wire_group_reserve *m = sent(link, WIRE_GROUP_RESERVE);

    assert_non_null(m);
    return m->epoch;
}

static uint32_t released_epoch(uint64_t link) {
    const struct wire_group_release *m = sent(link, WIRE_GROUP_RELEASE);

    assert_non_null(m);
    return m->epoch;
}

static void node_and_job(double cpus) {
    join(1, cpus);
    job(DRIVER);
}

/* Group 1, a bundle on each of two nodes: both are asked. */
static void two_are_asked(uint32_t strategy) {
    join(1, 1);
    join(2, 1);
    job(DRIVER);
    make(1, strategy, "", (double[]){1, 1}, 2);
    assert_int_equal(asked_epoch(1), 1);
    assert_int_equal(asked_epoch(2), 1);
}

/* Reserve, answer, commit: the commit goes to the raylet that holds the bundles. */
static void group_is_placed(void **state) {
    uint32_t nodes[2];

    (void)state;
    node_and_job(4);
    assert_int_equal(make(1, 0, "g", (double[]){1, 2}, 2), 0);
    assert_int_equal(asked_epoch(1), 1);
    assert_int_equal(look(1, "", nodes), PENDING);
    reserved(1, 1, 1, 0);
    assert_int_equal(told_state(1), CREATED);
    assert_int_equal(look(1, "", nodes), CREATED);
    assert_int_equal(nodes[0], 1);
    assert_int_equal(nodes[1], 1);
    assert_int_equal(look(0, "g", NULL), CREATED);
    reserved(1, 1, 1, 0); /* said again after a break: what the group holds is not given back */
    assert_null(sent(1, WIRE_GROUP_RELEASE));
    assert_int_equal(look(1, "", nodes), CREATED);
}

/* One of two raylets says no: the other gives its part back; a report starts a new attempt. */
static void half_an_attempt_is_released(void **state) {
    (void)state;
    two_are_asked(1);
    reserved(1, 1, 1, 0);
    assert_null(sent(1, WIRE_GROUP_RELEASE));
    reserved(2, 1, 1, -SKATE_EAGAIN);
    assert_int_equal(released_epoch(1), 1);
    assert_null(sent(2, WIRE_GROUP_RELEASE));
    assert_int_equal(look(1, "", NULL), PENDING);
    report(1, 1);
    assert_null(sent(1, WIRE_GROUP_RESERVE));
    report(2, 1);
    assert_int_equal(asked_epoch(2), 2);
    reserved(2, 1, 1, 0); /* of the attempt that is over */
    assert_non_null(sent(2, WIRE_GROUP_RELEASE));
    reserved(1, 1, 2, 0);
    reserved(2, 1, 2, 0);
    assert_int_equal(look(1, "", NULL), CREATED);
}

/* Between the reservation and the report that shows it nothing else is placed on that room. */
static void what_is_reserved_is_taken(void **state) {
    (void)state;
    node_and_job(2);
    make(1, 0, "", (double[]){2}, 1);
    assert_int_equal(asked_epoch(1), 1);
    report(1, 2); /* on its way before the reservation came */
    create((struct spec){.seq = 1, .held = 1, .placing = 1});
    assert_null(sent(1, WIRE_ACTOR_START));
    make(2, 0, "", (double[]){1}, 1);
    assert_null(sent(1, WIRE_GROUP_RESERVE));
    reserved(1, 1, 1, -SKATE_EAGAIN);
    report(1, 2);
    assert_non_null(sent(1, WIRE_GROUP_RESERVE));
}

/* A lost node's bundle goes elsewhere; the other stays where it is. */
static void node_is_lost(void **state) {
    uint32_t nodes[2];

    (void)state;
    two_are_asked(3);
    reserved(1, 1, 1, 0);
    reserved(2, 1, 1, 0);
    report(1, 0);
    assert_int_equal(look(1, "", nodes), CREATED);
    assert_int_not_equal(nodes[0], nodes[1]);
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_int_equal(told_state(1), RESCHEDULING);
    join(3, 4);
    assert_non_null(sent(3, WIRE_GROUP_RESERVE));
    reserved(3, 1, 2, 0);
    assert_int_equal(look(1, "", nodes), CREATED);
    assert_true(nodes[0] + nodes[1] == 4); /* 1 and 3 */
}

/* The node that was asked dies before it answers. */
static void asked_node_is_lost(void **state) {
    (void)state;
    two_are_asked(3);
    reserved(1, 1, 1, 0);
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_int_equal(released_epoch(1), 1);
    assert_int_equal(look(1, "", NULL), PENDING);
    report(1, 1);
    join(3, 1);
    assert_non_null(sent(3, WIRE_GROUP_RESERVE));
    reserved(1, 1, 2, 0);
    reserved(3, 1, 2, 0);
    assert_int_equal(look(1, "", NULL), CREATED);
}

/* Removal: raylets give everything back, the name is free, the group is known as removed. */
static void group_is_removed(void **state) {
    (void)state;
    node_and_job(4);
    make(1, 0, "g", (double[]){1}, 1);
    assert_int_equal(make(2, 0, "g", (double[]){1}, 1), -SKATE_EEXIST);
    reserved(1, 1, 1, 0);
    remove_group(1);
    assert_int_equal(released_epoch(1), 0);
    assert_int_equal(told_state(1), REMOVED);
    assert_int_equal(look(1, "", NULL), REMOVED);
    assert_int_equal(look(0, "g", NULL), REMOVED);
    assert_int_equal(make(3, 0, "g", (double[]){1}, 1), 0);
    remove_group(1); /* again, and one that never was */
    remove_group(99);
    assert_int_equal(look(99, "", NULL), REMOVED);
    for (uint64_t n = 10; n < 30; n++) { /* what is removed is remembered up to a bound */
        assert_int_equal(make(n, 0, "", (double[]){1}, 1), 0);
        remove_group(n);
        assert_int_equal(look(n, "", NULL), REMOVED);
    }
    assert_int_equal(look(0, "g", NULL), PENDING);
}

/* The job's end ends its groups, but for detached ones. */
static void job_ends(void **state) {
    (void)state;
    node_and_job(4);
    make(1, 0, "mine", (double[]){1}, 1);
    reserved(1, 1, 1, 0);
    make(2, 16, "stays", (double[]){1}, 1);
    reserved(1, 2, 1, 0);
    died(DRIVER, -1, true);
    assert_non_null(sent(1, WIRE_GROUP_RELEASE));
    job(DRIVER);
    assert_int_equal(look(0, "mine", NULL), REMOVED);
    assert_int_equal(look(0, "stays", NULL), CREATED);
}

/* What is free on a node no other node is told: the GCS places what waits (gcs_demand_test.c). */
static void free_amounts_are_not_told(void **state) {
    (void)state;
    join(1, 2);
    join(2, 2);
    report(2, 1);
    report(1, 0);
    assert_null(sent(1, WIRE_NODE_INFO));
    report(2, 2);
    assert_null(sent(1, WIRE_NODE_INFO));
}

static void refused(void **state) {
    struct wire_group_create *m;
    struct wire_buf b;

    (void)state;
    node_and_job(4);
    assert_int_equal(make(1, 9, "", (double[]){1}, 1), -SKATE_EINVAL);
    assert_int_equal(make(1, 0, "", NULL, 0), -SKATE_EINVAL);
    make(1, 0, "", (double[]){1}, 1);
    assert_int_equal(make(1, 0, "", (double[]){1}, 1), -SKATE_EEXIST); /* the same id */
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_CREATE);
    m->head.call = 3;
    m->group = group_id(5);
    m->job = 1;
    WIRE_PUT(&b, group_create, bundles, "\0\0\0\0\xff\xff\xff\x7f", 8);
    give(1, DRIVER, &b);
    assert_int_equal(((const struct wire_status *)sent(DRIVER, WIRE_STATUS))->status,
                     -SKATE_EPROTO);
    reserved(1, 6, 1, 0); /* of a group that nobody made: given back */
    assert_non_null(sent(1, WIRE_GROUP_RELEASE));
}

/* Bundles count against the budget of specs; groups that were removed give way. */
static void bundles_have_a_budget(void **state) {
    static const double cpus[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    uint64_t n = 0;
    struct gcs_counts before, counts;

    (void)state;
    node_and_job(1);
    gcs_count(g, &before);
    while (make(++n, 0, "", cpus, 12) == 0) assert_true(n < 100);
    assert_true(n > 2);
    gcs_count(g, &counts);
    assert_true(counts.spec_bytes <= 100000);
    assert_int_equal(make(n, 0, "", cpus, 12), -SKATE_EFULL);
    assert_int_equal(look(n, "", NULL), REMOVED); /* it never was */
    remove_group(1);
    assert_int_equal(look(1, "", NULL), REMOVED);
    assert_int_equal(make(n, 0, "", cpus, 12), 0);
    assert_int_equal(make(n + 1, 0, "", cpus, 12), -SKATE_EFULL);
    for (uint64_t i = 2; i <= n; i++) remove_group(i);
    for (uint64_t i = 0; i < 3; i++) { /* ... and the last few are forgotten in their turn */
        assert_int_equal(make(100 + i, 0, "", cpus, 1), 0);
        remove_group(100 + i);
    }
    gcs_count(g, &counts);
    assert_true(counts.spec_bytes - before.spec_bytes < 4 * 4000);
}

/* A node that comes back has not said yet what runs there: an actor of a group waits until it has,
 * else it would be started twice. */
static void actor_waits_for_its_nodes_return(void **state) {
    struct gcs_opts opts = {.away_ms = 1000};
    struct skate_id id = group_id(1);
    struct wire_node_register *m;
    uint32_t epoch = 1;
    struct wire_buf b;

    (void)state;
    g = gcs_free(g);
    assert_int_equal(gcs_new(&opts, &g), 0);
    node_and_job(4);
    join(2, 0);
    make(1, 0, "", (double[]){1}, 1);
    reserved(1, 1, 1, 0);
    assert_int_equal(told_state(1), CREATED);
    event(GCS_LINK_DOWN, 1, NULL, 0);
    create((struct spec){.seq = 1, .placing = 1, .owner = proc_make(2, 5), .group = group_id(1)});
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){101, 1};
    m->version = WIRE_VERSION;
    m->node = 1;
    give(101, 0, &b);
    assert_non_null(sent(101, WIRE_NODE_WELCOME));
    create((struct spec){.seq = 2, .placing = 1, .owner = proc_make(2, 5), .group = group_id(1)});
    assert_null(sent(101, WIRE_ACTOR_START));
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_STATE);
    WIRE_PUT(&b, node_state, groups, &id, sizeof id);
    WIRE_PUT(&b, node_state, group_epochs, &epoch, sizeof epoch);
    give(101, 0, &b);
    assert_null(sent(101, WIRE_ACTOR_START));
    report(101, 3);
    assert_non_null(sent_nth(101, WIRE_ACTOR_START, 1));
    assert_null(sent_nth(101, WIRE_ACTOR_START, 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(actor_waits_for_its_nodes_return),
        TEST(group_is_placed),   TEST(half_an_attempt_is_released),
        TEST(node_is_lost),      TEST(what_is_reserved_is_taken),
        TEST(group_is_removed),  TEST(asked_node_is_lost),
        TEST(job_ends),          TEST(refused),
        TEST(free_amounts_are_not_told), TEST(bundles_have_a_budget),
    };

    return cmocka_run_group_tests_name("gcs_groups", tests, NULL, NULL);
}
