/* rl_env_cartpole_test.c - CartPole in vectors gives what CartPole one by one gives, bit for bit.
 * links: base rl */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "rl/env/rl_env.h"
#include "rl/rl_rng.h"

enum { LANES = 61, STEPS = 20000 };

static struct rl_env *open_kernel(const char *kernel, uint32_t lanes, enum rl_env_reset_mode mode) {
    struct rl_env_opts o = { .name = "CartPole-v1", .config = kernel, .lanes = lanes,
                             .max_steps = 60, .mode = mode, .seed = 11 };
    struct skate_error err = { "" };
    struct rl_env *e = NULL;

    assert_int_equal(rl_env_open(&o, &e, &err), 0);
    assert_int_equal(rl_env_reset(e, NULL, NULL, &err), 0);
    return e;
}

static void compare(const char *kernel, enum rl_env_reset_mode mode) {
    struct rl_env *a = open_kernel("{\"kernel\": \"scalar\"}", LANES, mode);
    struct rl_env *b = open_kernel(kernel, LANES, mode);
    const struct skate_env_rows *x = rl_env_rows(a), *y = rl_env_rows(b);
    struct skate_error err = { "" };
    struct rl_rng rng;
    uint64_t ended = 0;

    rl_rng_init(&rng, 3, 0);
    for (int step = 0; step < STEPS; step++) {
        for (uint32_t i = 0; i < LANES; i++) {
            /* some lanes balance, so that angles of both signs and all sizes come */
            const float *obs = (const float *)x->obs + 4 * i;
            int32_t action = i % 3 == 0 && rl_rng_below(&rng, 8) > 0
                                 ? obs[2] + obs[3] > 0.0f
                                 : (int32_t)rl_rng_below(&rng, 2);

            ((int32_t *)rl_env_actions(a))[i] = action;
            ((int32_t *)rl_env_actions(b))[i] = action;
        }
        assert_int_equal(rl_env_step(a, &err), 0);
        assert_int_equal(rl_env_step(b, &err), 0);
        assert_memory_equal(x->obs, y->obs, LANES * 4 * sizeof(float));
        assert_memory_equal(x->reward, y->reward, LANES * sizeof(double));
        assert_memory_equal(x->terminated, y->terminated, LANES);
        assert_memory_equal(x->truncated, y->truncated, LANES);
        for (uint32_t i = 0; i < LANES; i++)
            ended += x->terminated[i];
    }
    assert_true(ended > STEPS / 10);
    rl_env_free(a);
    rl_env_free(b);
}

static void vectors_equal_scalars(void **state) {
    (void)state;
    compare("{\"kernel\": \"best\"}", RL_ENV_SAME_STEP);
    compare("{\"kernel\": \"avx2\"}", RL_ENV_NEXT_STEP);
}

/* Lanes that nobody resets go on far beyond the angles that the vectors know. */
static void beyond_the_end(void **state) {
    struct rl_env *a = open_kernel("{\"kernel\": \"scalar\"}", 16, RL_ENV_NEVER);
    struct rl_env *b = open_kernel(NULL, 16, RL_ENV_NEVER);
    const struct skate_env_rows *x = rl_env_rows(a), *y = rl_env_rows(b);
    struct skate_error err = { "" };
    double late = 0.0;

    (void)state;
    for (int step = 0; step < 300; step++) {
        assert_int_equal(rl_env_step(a, &err), 0);
        assert_int_equal(rl_env_step(b, &err), 0);
        assert_memory_equal(x->obs, y->obs, 16 * 4 * sizeof(float));
        assert_memory_equal(x->reward, y->reward, 16 * sizeof(double));
        late += step > 100 ? x->reward[3] : 0.0;
    }
    assert_true(fabsf(((float *)x->obs)[2]) > 1.0f);
    assert_true(late < 100.0);      /* a fallen pole earns nothing more */
    rl_env_free(a);
    rl_env_free(b);
}

/* save, go on, load: the same future, random stream included. */
static void saved_and_loaded(void **state) {
    struct rl_env *e = open_kernel(NULL, 9, RL_ENV_SAME_STEP);
    const struct skate_env_rows *rows = rl_env_rows(e);
    char kept[256], obs[2][16];
    struct skate_error err = { "" };
    size_t n = rl_env_state_bytes(e);

    (void)state;
    assert_in_range(n, 1, sizeof kept);
    for (int round = 0; round < 2; round++) {
        if (round == 0)
            assert_int_equal(rl_env_save(e, 4, kept, n), 0);
        else
            assert_int_equal(rl_env_load(e, 4, kept, n), 0);
        for (int step = 0; step < 100; step++)
            assert_int_equal(rl_env_step(e, &err), 0);
        memcpy(obs[round], (char *)rows->obs + 4 * 16, 16);
    }
    assert_memory_equal(obs[0], obs[1], 16);
    assert_int_equal(rl_env_load(e, 4, kept, n - 1), -SKATE_EINVAL);
    kept[3] ^= 1;
    assert_int_equal(rl_env_load(e, 4, kept, n), -SKATE_EINVAL);
    assert_int_equal(rl_env_load(e, 9, kept, n), -SKATE_EINVAL);
    rl_env_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_equal_scalars),
        cmocka_unit_test(beyond_the_end),
        cmocka_unit_test(saved_and_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
