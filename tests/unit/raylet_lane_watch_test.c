/* raylet_lane_watch_test.c - when a connection to another raylet is asked, given up, dialled anew.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "raylet/lane_watch.h"

static struct lane_watch w;
static struct lane_look see;
static int64_t now;

static int start(void **state) {
    (void)state;
    memset(&w, 0, sizeof w);
    see = (struct lane_look){.ready = true, .waits = true, .seen = 7};
    now = 1000000000;
    return 0;
}

/* Look as the raylet does, for so long; how often was it told to do this? */
static uint32_t look_for(int64_t ms, enum lane_do what) {
    uint32_t n = 0;

    for (int64_t t = 0; t < ms; t += LANE_EACH_MS) {
        now += LANE_EACH_MS * INT64_C(1000000);
        if (lane_watch_look(&w, &see, now) == what) n++;
    }
    return n;
}

/* Nothing that waits, nothing to ask. */
static void idle(void **state) {
    (void)state;
    see.waits = false;
    assert_int_equal(look_for(60000, LANE_NOTHING), 240);
}

/* What goes on is never asked; what stands is asked once, and an answer is enough. */
static void progress(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++) {
        see.seen++;
        assert_int_equal(look_for(500, LANE_NOTHING), 2);
    }
    for (int i = 0; i < 20; i++) {
        see.seen++;
        assert_int_equal(look_for(1500, LANE_ASK), 1);
    }
    see.waits = false;
    assert_int_equal(look_for(10000, LANE_NOTHING), 40);
}

/* Silence: asked, and given up within three seconds. */
static void silence(void **state) {
    (void)state;
    assert_int_equal(look_for(1000, LANE_ASK), 1);
    assert_int_equal(look_for(2000, LANE_GIVE_UP), 1);
}

/* A connection that is given up again and again without one answer gets more time each time. */
static void patience(void **state) {
    (void)state;
    for (int64_t ms = LANE_SILENT_MS; ms <= LANE_MOST_MS; ms *= 2) {
        assert_int_equal(look_for(1000, LANE_ASK), 1);
        assert_int_equal(look_for(ms - 500, LANE_GIVE_UP), 0);
        assert_int_equal(look_for(500, LANE_GIVE_UP), 1);
        lane_dialled(&w, now);
    }
    assert_int_equal(look_for(1000, LANE_ASK), 1);
    see.seen++; /* it lives: from here on as at first */
    assert_int_equal(look_for(1000, LANE_ASK), 1);
    assert_int_equal(look_for(2000, LANE_GIVE_UP), 1);
}

/* Attempts to connect take two seconds, but each fourth one, which src/net ends. */
static void dialling(void **state) {
    (void)state;
    see = (struct lane_look){.dialling = true, .waits = true};
    for (int i = 1; i <= 12; i++) {
        lane_dialled(&w, now);
        assert_int_equal(look_for(1500, LANE_GIVE_UP), 0);
        assert_int_equal(look_for(500, LANE_GIVE_UP), i % 4 ? 1 : 0);
        if (i % 4 == 0) assert_int_equal(look_for(60000, LANE_GIVE_UP), 0);
    }
    see = (struct lane_look){.ready = true};
    assert_int_equal(lane_watch_look(&w, &see, now), LANE_NOTHING);
    assert_int_equal(w.tries, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(idle), TEST(progress), TEST(silence), TEST(patience),
                                       TEST(dialling)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
