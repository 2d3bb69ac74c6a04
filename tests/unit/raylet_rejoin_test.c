/* raylet_rejoin_test.c - the arguments and the settings that a raylet hands to itself.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include <cmocka.h>

#include "raylet/raylet_settings.h"
#include "raylet/rejoin.h"

/* What one writes the other reads. */
static void arguments(void **state) {
    char room[REJOIN_ARGS][REJOIN_ARG], *argv[REJOIN_ARGS + 1];
    struct rejoin got;

    (void)state;
    rejoin_argv(77, UINT64_MAX, room, argv);
    assert_null(argv[REJOIN_ARGS]);
    assert_int_equal(rejoin_args(REJOIN_ARGS, argv, &got), 0);
    assert_int_equal(got.settings_fd, 77);
    assert_true(got.again);
    assert_true(got.epoch == UINT64_MAX);
}

/* A first start has none; what cannot be meant is refused. */
static void other_arguments(void **state) {
    static const char *const bad[][3] = {
        {"--rejoin", "7", "-1"}, {"--rejoin", "x", "1"},  {"--rejoin", "2", "1"},
        {"--rejoin", "", "1"},   {"--rejoin", "7", "1x"}, {"--other", "7", "1"},
        {"--rejoin", "99999999999999999999", "1"},
    };
    char *first[] = {(char *)(uintptr_t)"skate-raylet", NULL};
    struct rejoin got;

    (void)state;
    assert_int_equal(rejoin_args(1, first, &got), 0);
    assert_int_equal(got.settings_fd, 0);
    assert_false(got.again);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *argv[] = {first[0], (char *)(uintptr_t)bad[i][0], (char *)(uintptr_t)bad[i][1],
                        (char *)(uintptr_t)bad[i][2], NULL};

        assert_int_equal(rejoin_args(4, argv, &got), -SKATE_EINVAL);
        assert_false(got.again);
        assert_int_equal(rejoin_args(2, argv, &got), -SKATE_EINVAL);
    }
}

/* The line is kept for a node of a cluster, and read again as often as need be; for a private
 * session it is not. */
static void settings(void **state) {
    static const char common[] = "gcs=127.0.0.1:5\tnode_ip=127.0.0.1\trun_dir=/r\tpython=/p\t"
                                 "arena_bytes=1048576\tcluster_key=";
    char line[600], key[65];
    struct raylet_settings s;
    struct skate_error err;
    int fds[2], n;

    (void)state;
    memset(key, 'a', 64);
    key[64] = 0;
    for (int local = 0; local < 2; local++) {
        assert_int_equal(pipe(fds), 0);
        n = snprintf(line, sizeof line, "%s%s\tlocal_session=%d\n", common, key, local);
        assert_int_equal(write(fds[1], line, (size_t)n), n);
        assert_int_equal(raylet_settings_read(fds[0], &s, &err), 0);
        close(fds[0]);
        close(fds[1]);
        if (local) {
            assert_int_equal(s.line_fd, -1);
            raylet_settings_release(&s);
            continue;
        }
        for (int i = 0; i < 3; i++) {
            int fd = s.line_fd;

            assert_true(fd > 2);
            assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
            assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
            s.line_fd = -1;
            raylet_settings_release(&s);
            assert_int_equal(raylet_settings_read(fd, &s, &err), 0);
            close(fd);
            assert_string_equal(s.run_dir, "/r");
            assert_int_equal(s.key[31], 0xaa);
        }
        raylet_settings_release(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(arguments),
                                       cmocka_unit_test(other_arguments),
                                       cmocka_unit_test(settings)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
