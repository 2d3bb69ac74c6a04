/* raylet_helper_hostile_test.c - what a helper process once could make its raylet do, each by its
 * name. The rig is that of tests/fuzz/fuzz_helper.c.
 * links: base loop wire net store sched own gcs raylet. */
#include "../fuzz/fuzz_helper.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Found by fuzz_helper.c: an error number that has no negative was negated. */
static void fork_failed_with_no_error_number(void **state) {
    struct wire_forked m = {.head = {.size = sizeof m, .kind = WIRE_FORKED, .fixed = sizeof m},
                            .proc = 1};
    struct raylet r = {0};

    (void)state;
    for (int32_t status = INT32_MIN; status < -1; status += INT32_MAX / 2 + 1) {
        procs[0] = (struct proc){.state = PROC_STARTING};
        m.status = status;
        noted = 0;
        zygote_events.on_frame(&r, &m, sizeof m);
        assert_true(noted > 1); /* it is logged, and the fork is lost */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fork_failed_with_no_error_number)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
