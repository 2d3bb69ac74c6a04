/* gcsd_hold_test.c - what the control store says waits for a log that is slow, fails, or is lost.
 * The log's place is played by the test.
 * links: base loop wire net sched gcs gcsd. */
#include "gcs_rig_actors.h"

#include "gcsd/gcs_log_int.h"
#include "gcsd/gcsd_hold.h"

static struct loop *loop;
static struct hold *held;
static uint32_t told;       /* frames that went out */
enum { STALLS = 1 };
static int place_says;      /* STALLS, or to a commit that is not of everything; atomic */
static uint32_t rows, anew; /* of the last commit that was done; how many were of everything */

static int place_open(const struct gcs_log_opts *opts, void **ret, struct skate_error *err) {
    (void)opts, (void)err;
    *ret = &place_says;
    return 0;
}

static int place_raise(void *self, uint64_t *ret_epoch, struct skate_error *err) {
    (void)self, (void)err;
    *ret_epoch = log_epoch_least();
    return 0;
}

static int place_load(void *self, void (*on_row)(void *arg, const struct log_row *row), void *arg,
                      struct skate_error *err) {
    (void)self, (void)on_row, (void)arg, (void)err;
    return 0;
}

static int place_commit(void *self, const struct log_batch *b, struct skate_error *err) {
    int status = b->anew ? 0 : __atomic_load_n(&place_says, __ATOMIC_SEQ_CST);

    while (status == STALLS) {
        (void)usleep(1000);
        status = __atomic_load_n(&place_says, __ATOMIC_SEQ_CST);
    }

    (void)self;
    if (status < 0) return err_fail(err, status, "no room");
    __atomic_store_n(&rows, b->count, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&anew, b->anew, __ATOMIC_SEQ_CST);
    return 0;
}

static uint64_t place_witness(void *self) {
    (void)self;
    return 0;
}

static int place_renew(void *self, uint64_t epoch, struct skate_error *err) {
    (void)self, (void)epoch;
    return err_fail(err, -SKATE_EIO, "not here");
}

static void place_close(void *self) { (void)self; }

const struct log_place log_sqlite = {place_open,    place_raise, place_load, place_commit,
                                     place_witness, place_renew, place_close};
const struct log_place log_redis = {place_open,    place_raise, place_load, place_commit,
                                    place_witness, place_renew, place_close};

static void deliver(void *arg, const struct gcs_out *o) {
    (void)arg;
    told += o->count;
}

static void on_end(void *arg, int status, const char *text) {
    (void)arg;
    fail_msg("%d %s", status, text);
}

static int begin(void **state) {
    struct hold_opts opts = {.deliver = deliver, .on_end = on_end};
    struct gcs_opts store = {.away_ms = 1000};
    struct skate_error err = {""};

    (void)state;
    now = SECOND;
    place_says = 0;
    told = anew = 0;
    assert_int_equal(loop_new(&loop), 0);
    opts.log.loop = loop;
    opts.log.path = "played";
    return hold_new(&opts, &store, &g, &held, &err);
}

static int end(void **state) {
    __atomic_store_n(&place_says, 0, __ATOMIC_SEQ_CST);
    held = hold_free(held);
    loop = loop_free(loop);
    return stop(state);
}

#define HOLD_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define UNTIL(what)                                                                            \
    do {                                                                                       \
        for (int i_ = 0; i_ < 3000 && !(what); i_++) loop_run_once(loop, 10);                  \
        assert_true(what);                                                                     \
    } while (0)

/* What the last step said goes to the log, or out. */
static uint32_t hand_over(void) {
    uint32_t before = told;

    hold_step(held, &out);
    return told - before;
}

static void waits(void **state) {
    (void)state;
    join(1, 4);
    assert_int_equal(hand_over(), 0);
    UNTIL(told > 0 && hold_bytes(held) == 0);
    report(1, 4);
    assert_true(hand_over() > 0); /* nothing is on its way, it changes nothing */
}

/* It fails: who changes something waits, who asks is answered, and all goes out in the end. */
static void fails(void **state) {
    (void)state;
    join(1, 4);
    (void)hand_over();
    UNTIL(told > 0);
    place_says = -SKATE_EIO;
    assert_int_equal(job(DRIVER), 1);
    assert_int_equal(hand_over(), 0);
    for (int i = 0; i < 3000 && job(DRIVER) > 0; i++) {
        (void)hand_over();
        loop_run_once(loop, 10);
    }
    assert_int_equal(job(DRIVER), 0); /* refused, */
    assert_true(hand_over() > 0);     /* and told so */
    report(1, 4);
    assert_true(hand_over() > 0);
    assert_true(hold_bytes(held) > 0);
    __atomic_store_n(&place_says, 0, __ATOMIC_SEQ_CST);
    UNTIL(hold_bytes(held) == 0);
}

/* A commit takes long: who changes something waits, who asks does not, and raylets, to whom nothing
 * is acknowledged, hear that the store is there. */
static void is_late(void **state) {
    uint32_t pings = 0;

    (void)state;
    join(1, 4);
    (void)hand_over();
    UNTIL(told > 0);
    place_says = STALLS;
    assert_int_equal(job(DRIVER), 1);
    assert_int_equal(hand_over(), 0);
    for (int i = 0; i < 3000 && !pings; i++) {
        bool ping;

        report(1, 4);
        ping = sent(1, WIRE_PING) != NULL;
        pings += hand_over() > 0 && ping;
        loop_run_once(loop, 10);
    }
    assert_int_equal(pings, 1);
    assert_true(hold_bytes(held) > 0);
    __atomic_store_n(&place_says, 0, __ATOMIC_SEQ_CST);
    UNTIL(hold_bytes(held) == 0);
    now += 2 * (int64_t)SECOND;
    report(1, 4);
    assert_null(sent(1, WIRE_PING));
    assert_non_null(sent(1, WIRE_LANE_GOT));
}

/* Its place has lost everything: all of the store is written, with what changed meanwhile. */
static void is_lost(void **state) {
    (void)state;
    join(1, 4);
    (void)hand_over();
    UNTIL(told > 0);
    place_says = -SKATE_ENOENT;
    assert_int_equal(job(DRIVER), 1);
    assert_int_equal(hand_over(), 0);
    assert_int_equal(job(DRIVER), 2);
    assert_int_equal(hand_over(), 0);
    UNTIL(hold_bytes(held) == 0);
    assert_int_equal(anew, 1);
    assert_int_equal(rows, 5); /* a node, two jobs, numbers, the log's own */
    __atomic_store_n(&place_says, 0, __ATOMIC_SEQ_CST);
    assert_int_equal(job(DRIVER), 3);
    assert_int_equal(hand_over(), 0);
    UNTIL(hold_bytes(held) == 0);
    assert_int_equal(anew, 1);
    assert_int_equal(rows, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {HOLD_TEST(waits), HOLD_TEST(fails), HOLD_TEST(is_late),
                                       HOLD_TEST(is_lost)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
