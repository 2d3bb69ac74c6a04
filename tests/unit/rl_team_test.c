/* rl_team_test.c - every member runs, barriers order what is written, a child may not use it.
 * links: base rl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "rl/team.h"

enum { ROUNDS = 300 };

struct shared {
    struct team_barrier barrier;
    int size;
    int slots[TEAM_MAX], runs[TEAM_MAX], wrong;
};

static void body(void *arg, int rank) {
    struct shared *s = arg;

    s->runs[rank]++;
    for (int i = 1; i <= ROUNDS; i++) {
        s->slots[rank] = i;
        team_barrier_wait(&s->barrier);
        for (int k = 0; k < s->size; k++)
            if (s->slots[k] != i && rank == 0)
                s->wrong++;
        team_barrier_wait(&s->barrier);
    }
}

static void members_meet_at_barriers(void **state) {
    (void)state;
    for (int size = 1; size <= 5; size += 2) {
        struct shared s = { .size = size };
        struct team *t = NULL;

        assert_int_equal(team_new(size, &t), 0);
        assert_int_equal(team_size(t), size);
        team_barrier_init(&s.barrier, size);
        for (int i = 0; i < 3; i++)
            assert_int_equal(team_run(t, body, &s), 0);
        assert_int_equal(s.wrong, 0);
        for (int i = 0; i < size; i++)
            assert_int_equal(s.runs[i], 3);
        team_free(t);
    }
}

static void nothing(void *arg, int rank) {
    (void)arg;
    (void)rank;
}

static void a_child_may_not_use_it(void **state) {
    struct team *t = NULL;
    int status = 0;
    pid_t pid;

    (void)state;
    assert_int_equal(team_new(2, &t), 0);
    pid = fork();
    if (pid == 0)
        _exit(team_run(t, nothing, NULL) == -SKATE_EFORKED ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    team_free(t);
}

static void bad_sizes_are_refused(void **state) {
    struct team *t = NULL;

    (void)state;
    assert_int_equal(team_new(0, &t), -SKATE_EINVAL);
    assert_int_equal(team_new(TEAM_MAX + 1, &t), -SKATE_EINVAL);
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_meet_at_barriers),
        cmocka_unit_test(a_child_may_not_use_it),
        cmocka_unit_test(bad_sizes_are_refused),
    };

    return cmocka_run_group_tests_name("rl_team", tests, NULL, NULL);
}
