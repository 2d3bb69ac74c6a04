/* rl_env_host_test.c - the host of environments: every built-in one runs in every mode; time
 * limits, resets, masks, saved lanes; the random stream is NumPy's.
 * links: base rl */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <skate/env_rng.h>

#include "rl/env/rl_env.h"
#include "rl/env/rl_env_list.h"

static struct rl_env *open_env(const char *name, uint32_t lanes, int max_steps,
                               enum rl_env_reset_mode mode) {
    struct rl_env_opts o = { .name = name, .lanes = lanes, .max_steps = max_steps, .mode = mode,
                             .seed = 5 };
    struct skate_error err = { "" };
    struct rl_env *e = NULL;

    if (rl_env_open(&o, &e, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    return e;
}

static void must(int result) {
    assert_int_equal(result, 0);
}

static void finite_rows(const struct rl_env *e) {
    const struct skate_env_rows *rows = rl_env_rows(e);
    size_t n = rl_env_obs_bytes(e) / sizeof(float) * rl_env_lanes(e);

    for (uint32_t i = 0; i < rl_env_lanes(e); i++)
        assert_true(isfinite(rows->reward[i]));
    if (rl_env_info(e)->obs.kind != SKATE_SPACE_BOX || rl_env_info(e)->obs.dtype != SKATE_F32)
        return;
    for (size_t i = 0; i < n; i++)
        assert_true(isfinite(((const float *)rows->obs)[i]));
}

static void each_runs_in_each_mode(void **state) {
    (void)state;
    for (const struct rl_env_name *n = rl_env_names; n->name; n++)
        for (int mode = RL_ENV_NEXT_STEP; mode <= RL_ENV_NEVER; mode++) {
            struct rl_env *e = open_env(n->name, 13, 70, (enum rl_env_reset_mode)mode);
            struct skate_error err = { "" };
            struct rl_env_totals t = { 0 };

            must(rl_env_random(e, 300, 1, &t, &err));
            assert_int_equal(t.steps, 300 * 13);
            assert_true(t.episodes > 0);
            assert_true(isfinite(t.reward));
            finite_rows(e);
            rl_env_free(e);
        }
}

/* What a saved lane does does not depend on the lane, the object or what was before. */
static void each_can_be_saved(void **state) {
    (void)state;
    for (const struct rl_env_name *n = rl_env_names; n->name; n++) {
        struct rl_env *a = open_env(n->name, 3, 40, RL_ENV_SAME_STEP);
        struct rl_env *b = open_env(n->name, 1, 40, RL_ENV_SAME_STEP);
        size_t bytes = rl_env_state_bytes(a), row = rl_env_obs_bytes(a);
        struct skate_error err = { "" };
        char *kept = malloc(bytes);
        struct rl_env_totals t;

        assert_true(bytes > row);
        must(rl_env_random(a, 25, 1, &t, &err));
        must(rl_env_random(b, 7, 2, &t, &err));
        must(rl_env_save(a, 2, kept, bytes));
        must(rl_env_load(b, 0, kept, bytes));
        memset(rl_env_actions(a), 0, 3 * rl_env_action_bytes(a));
        memset(rl_env_actions(b), 0, rl_env_action_bytes(b));
        for (int step = 0; step < 60; step++) {
            must(rl_env_step(a, &err));
            must(rl_env_step(b, &err));
            assert_memory_equal((char *)rl_env_rows(a)->obs + 2 * row, rl_env_rows(b)->obs, row);
            assert_int_equal(rl_env_rows(a)->truncated[2], rl_env_rows(b)->truncated[0]);
            assert_int_equal(rl_env_rows(a)->terminated[2], rl_env_rows(b)->terminated[0]);
        }
        free(kept);
        rl_env_free(a);
        rl_env_free(b);
    }
}

static void limit_next_step(void **state) {
    struct rl_env *e = open_env("MountainCar-v0", 3, 5, RL_ENV_NEXT_STEP);
    const struct skate_env_rows *rows = rl_env_rows(e);
    struct skate_error err = { "" };

    (void)state;
    must(rl_env_reset(e, NULL, NULL, &err));
    for (int step = 1; step <= 24; step++) {
        must(rl_env_step(e, &err));
        for (int i = 0; i < 3; i++) {
            assert_int_equal(rows->truncated[i], step % 6 == 5);    /* the sixth is the reset */
            assert_int_equal(rows->terminated[i], 0);
            assert_true(rows->reward[i] == (step % 6 == 0 ? 0.0 : -1.0));
        }
    }
    rl_env_free(e);
}

static void limit_same_step(void **state) {
    struct rl_env *e = open_env("MountainCar-v0", 70, 5, RL_ENV_SAME_STEP);
    struct rl_env *free_running = open_env("MountainCar-v0", 70, 0, RL_ENV_SAME_STEP);
    struct skate_error err = { "" };

    (void)state;
    must(rl_env_reset(e, NULL, NULL, &err));
    must(rl_env_reset(free_running, NULL, NULL, &err));
    for (int step = 1; step <= 5; step++) {
        must(rl_env_step(e, &err));
        must(rl_env_step(free_running, &err));
    }
    for (int i = 0; i < 70; i++) {
        assert_int_equal(rl_env_rows(e)->truncated[i], 1);
        assert_int_equal(rl_env_rows(free_running)->truncated[i], 0);
    }
    assert_memory_equal(rl_env_last(e), rl_env_rows(free_running)->obs, 70 * 8);
    assert_memory_not_equal(rl_env_rows(e)->obs, rl_env_rows(free_running)->obs, 70 * 8);
    rl_env_free(e);
    rl_env_free(free_running);
}

/* Never reset by the host: a lane stays truncated until its mask resets it. */
static void limit_never(void **state) {
    struct rl_env *e = open_env("Pendulum-v1", 4, 3, RL_ENV_NEVER);
    const struct skate_env_rows *rows = rl_env_rows(e);
    const uint8_t third[4] = { 0, 0, 1, 0 };
    struct skate_error err = { "" };

    (void)state;
    must(rl_env_reset(e, NULL, NULL, &err));
    for (int step = 1; step <= 4; step++)
        must(rl_env_step(e, &err));
    must(rl_env_reset(e, third, NULL, &err));
    assert_int_equal(rows->truncated[2], 0);
    for (int step = 1; step <= 3; step++) {
        must(rl_env_step(e, &err));
        assert_int_equal(rows->truncated[2], step == 3);
        assert_int_equal(rows->truncated[1], 1);
    }
    rl_env_free(e);
}

/* In mode NEXT_STEP a lane that was reset by hand is not reset again. */
static void mask_takes_the_wait_away(void **state) {
    struct rl_env *e = open_env("MountainCar-v0", 2, 2, RL_ENV_NEXT_STEP);
    const struct skate_env_rows *rows = rl_env_rows(e);
    const uint8_t first[2] = { 1, 0 };
    struct skate_error err = { "" };

    (void)state;
    must(rl_env_reset(e, NULL, NULL, &err));
    must(rl_env_step(e, &err));
    must(rl_env_step(e, &err));
    assert_int_equal(rows->truncated[0] + rows->truncated[1], 2);
    must(rl_env_reset(e, first, NULL, &err));
    must(rl_env_step(e, &err));
    assert_true(rows->reward[0] == -1.0);
    assert_true(rows->reward[1] == 0.0);
    rl_env_free(e);
}

static void masks(void **state) {
    struct rl_env *taxi = open_env("Taxi-v4", 1, -1, RL_ENV_NEVER);
    struct rl_env *pole = open_env("CartPole-v1", 1, -1, RL_ENV_NEVER);
    struct skate_error err = { "" };
    uint8_t mask[6];

    (void)state;
    assert_int_equal(rl_env_mask(taxi, 0, mask, 6), -SKATE_EINVAL);     /* not reset */
    must(rl_env_reset(taxi, NULL, NULL, &err));
    must(rl_env_mask(taxi, 0, mask, 6));
    assert_int_equal(mask[5], 0);       /* nobody is in the taxi */
    assert_int_equal(rl_env_mask(taxi, 0, mask, 5), -SKATE_EINVAL);
    assert_int_equal(rl_env_mask(taxi, 1, mask, 6), -SKATE_EINVAL);
    assert_int_equal(rl_env_mask(pole, 0, mask, 2), -SKATE_ENOENT);
    rl_env_free(taxi);
    rl_env_free(pole);
}

/* A name's own config and the caller's: the caller's counts, the rest stays. */
static void configs_are_joined(void **state) {
    static const struct { const char *config; int64_t n; } all[] = {
        { NULL, 64 }, { "{}", 64 }, { " { } ", 64 }, { "{\"is_slippery\": false}", 64 },
        { "{\"map_name\": \"4x4\"}", 16 }, { "{\"map_name\": \"4x4\"} ", 16 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct rl_env_opts o = { .name = "FrozenLake8x8-v1", .config = all[i].config, .lanes = 1,
                                 .max_steps = -1 };
        struct rl_env *e = NULL;

        must(rl_env_open(&o, &e, NULL));
        assert_int_equal(rl_env_info(e)->obs.n, all[i].n);
        assert_int_equal(rl_env_info(e)->max_steps, 200);
        rl_env_free(e);
    }
}

/* numpy.random.default_rng(seed) */
static void the_stream_is_numpys(void **state) {
    static const uint32_t below[8] = { 0, 7, 6, 4, 4, 8, 0, 6 };
    struct skate_rng r;

    (void)state;
    skate_rng_seed(&r, 12345);
    assert_true(skate_rng_double(&r) == 0.22733602246716966);
    assert_true(skate_rng_double(&r) == 0.31675833970975287);
    skate_rng_seed(&r, 42);
    for (int i = 0; i < 8; i++)
        assert_int_equal(skate_rng_below(&r, 10), below[i]);
    assert_int_equal(skate_rng_below(&r, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_runs_in_each_mode), cmocka_unit_test(each_can_be_saved),
        cmocka_unit_test(limit_next_step),        cmocka_unit_test(limit_same_step),
        cmocka_unit_test(limit_never),            cmocka_unit_test(mask_takes_the_wait_away),
        cmocka_unit_test(masks),                  cmocka_unit_test(configs_are_joined),
        cmocka_unit_test(the_stream_is_numpys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
