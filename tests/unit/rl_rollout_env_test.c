/* rl_rollout_env_test.c - environments and policy in one loop give what stepping them one by one
 * gives; what does not fit together is refused; answers that are not finite are told.
 * links: base rl */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/gae.h"
#include "rl/rollout_env.h"

enum { STEPS = 60, LANES = 5 };

static struct rl_env *open_env(const char *name, uint32_t lanes, enum rl_env_reset_mode mode) {
    struct rl_env_opts o = { .name = name, .lanes = lanes, .max_steps = 17, .mode = mode };
    struct skate_error err = { "" };
    struct rl_env *e = NULL;

    if (rl_env_open(&o, &e, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    return e;
}

static struct policy *make_policy(int width, int actions) {
    struct policy_opts o = { .obs_dim = width, .n_actions = actions, .n_hiddens = 1,
                             .hiddens = { 8 }, .act = KERN_TANH, .seed = 1 };
    struct policy *p = NULL;

    assert_int_equal(policy_new(&o, &p), 0);
    return p;
}

/* One lane's row as the net takes it, written from the documentation. */
static void put(const struct rl_env *e, const void *row, float *to, uint32_t width) {
    if (rl_env_info(e)->obs.kind == SKATE_SPACE_BOX) {
        memcpy(to, row, width * sizeof(float));
        return;
    }
    memset(to, 0, width * sizeof(float));
    to[*(const int64_t *)row] = 1.0f;
}

/* Lanes that are objects of their own, reset as each ends. */
static void one_by_one(const char *name, struct rollout *r, void *buffer, size_t bytes) {
    const struct frag_shape *s = rollout_shape(r);
    struct rl_env *e[LANES];
    const int32_t *a;

    for (uint32_t i = 0; i < LANES; i++) {
        uint64_t seed = 100 + i;

        e[i] = open_env(name, 1, RL_ENV_NEVER);
        assert_int_equal(rl_env_reset(e[i], NULL, &seed, NULL), 0);
        put(e[i], rl_env_rows(e[i])->obs, rollout_obs(r, i), s->obs_dim);
    }
    assert_int_equal(rollout_begin(r, buffer, bytes, 0), 0);
    while (!rollout_is_full(r)) {
        assert_int_equal(rollout_act(r, &a), 0);
        for (uint32_t i = 0; i < LANES; i++) {
            const struct skate_env_rows *rows = rl_env_rows(e[i]);
            uint8_t flags;

            *(int32_t *)rl_env_actions(e[i]) = a[i];
            assert_int_equal(rl_env_step(e[i], NULL), 0);
            flags = (uint8_t)((rows->terminated[0] ? GAE_TERMINATED : 0) |
                              (rows->truncated[0] ? GAE_TRUNCATED : 0));
            put(e[i], rows->obs, rollout_obs(r, i), s->obs_dim);
            assert_int_equal(rollout_step(r, i, rows->reward[0], flags), 0);
            if (flags) {
                assert_int_equal(rl_env_reset(e[i], NULL, NULL, NULL), 0);
                put(e[i], rows->obs, rollout_obs(r, i), s->obs_dim);
            }
        }
    }
    assert_int_equal(rollout_finish(r), 0);
    for (uint32_t i = 0; i < LANES; i++)
        rl_env_free(e[i]);
}

static void in_one_loop(const char *name, struct rollout *r, void *buffer, size_t bytes) {
    struct rl_env *e = open_env(name, LANES, RL_ENV_SAME_STEP);
    struct skate_error err = { "" };
    uint64_t seeds[LANES];
    struct rollout_env *x;

    for (uint32_t i = 0; i < LANES; i++)
        seeds[i] = 100 + i;
    assert_int_equal(rollout_env_new(r, e, &x, &err), 0);
    assert_int_equal(rollout_env_run(x, 1, &err), -SKATE_EINVAL);       /* not reset yet */
    assert_int_equal(rollout_env_reset(x, seeds, &err), 0);
    assert_int_equal(rollout_begin(r, buffer, bytes, 0), 0);
    assert_int_equal(rollout_env_run(x, 7, &err), 0);
    assert_false(rollout_is_full(r));
    assert_int_equal(rollout_env_run(x, UINT32_MAX, &err), 0);
    assert_true(rollout_is_full(r));
    assert_int_equal(rollout_finish(r), 0);
    rollout_env_free(x);
    rl_env_free(e);
}

static void the_same_fragment(void **state) {
    static const struct { const char *name; uint32_t width, actions; } all[] = {
        { "CartPole-v1", 4, 2 }, { "Taxi-v4", 500, 6 }, { "Acrobot-v1", 6, 3 },
    };

    (void)state;
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        struct frag_shape shape = { STEPS, LANES, all[k].width, all[k].actions };
        uint64_t bytes = frag_bytes(&shape);
        char *a = calloc(1, bytes), *b = calloc(1, bytes);

        for (int native = 0; native < 2; native++) {
            struct policy *p = make_policy((int)all[k].width, (int)all[k].actions);
            struct rollout *r;

            assert_int_equal(rollout_new(p, &shape, 13, &r), 0);
            (native ? in_one_loop : one_by_one)(all[k].name, r, native ? b : a, bytes);
            rollout_free(r);
            policy_free(p);
        }
        assert_memory_equal(a, b, bytes);
        assert_true(((struct frag_header *)a)->episodes > 0);
        free(a);
        free(b);
    }
}

static void refused(const char *name, uint32_t lanes, enum rl_env_reset_mode mode, int width,
                    int actions, const char *said) {
    struct frag_shape shape = { STEPS, LANES, (uint32_t)width, (uint32_t)actions };
    struct policy *p = make_policy(width, actions);
    struct rl_env *e = open_env(name, lanes, mode);
    struct skate_error err = { "" };
    struct rollout_env *x = NULL;
    struct rollout *r;

    assert_int_equal(rollout_new(p, &shape, 0, &r), 0);
    assert_int_equal(rollout_env_new(r, e, &x, &err), -SKATE_EINVAL);
    assert_null(x);
    if (!strstr(err.text, said))
        fail_msg("\"%s\" does not say \"%s\"", err.text, said);
    rollout_free(r);
    rl_env_free(e);
    policy_free(p);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    refused("CartPole-v1", LANES, RL_ENV_SAME_STEP, 5, 2, "4 numbers");
    refused("CartPole-v1", LANES, RL_ENV_SAME_STEP, 4, 3, "3 discrete actions");
    refused("Pendulum-v1", LANES, RL_ENV_SAME_STEP, 3, 1, "discrete actions");
    refused("CartPole-v1", LANES - 1, RL_ENV_SAME_STEP, 4, 2, "5 lanes");
    refused("CartPole-v1", LANES, RL_ENV_NEXT_STEP, 4, 2, "reset themselves");
    refused("Blackjack-v1", LANES, RL_ENV_SAME_STEP, 44, 2, "45 numbers");
}

static void not_finite_is_told(void **state) {
    struct frag_shape shape = { STEPS, 2, 3, 2 };
    uint64_t bytes = frag_bytes(&shape);
    struct policy *p = make_policy(3, 2);
    void *buffer = calloc(1, bytes);
    const int32_t *a;
    struct rollout *r;

    (void)state;
    assert_int_equal(rollout_new(p, &shape, 0, &r), 0);
    for (int round = 0; round < 3; round++) {
        int bad_reward = round == 1;

        rollout_reset(r);
        memset(rollout_obs(r, 0), 0, 6 * sizeof(float));
        assert_int_equal(rollout_begin(r, buffer, bytes, 0), 0);
        assert_int_equal(rollout_act(r, &a), 0);
        assert_int_equal(rollout_step(r, 0, 1.0, 0), 0);
        assert_null(rollout_bad(r));
        if (!bad_reward)
            rollout_obs(r, 1)[2] = round ? -INFINITY : NAN;
        assert_int_equal(rollout_step(r, 1, bad_reward ? 1e39 : 1.0, 0), -SKATE_EINVAL);
        assert_non_null(rollout_bad(r));
        assert_string_equal(rollout_bad(r)->field, bad_reward ? "reward" : "observation");
        assert_int_equal(rollout_bad(r)->env, 1);
        assert_int_equal(rollout_bad(r)->step, 1);
        assert_int_equal(rollout_bad(r)->column, bad_reward ? 0 : 2);
    }
    rollout_free(r);
    policy_free(p);
    free(buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_fragment),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(not_finite_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
