/* rl_frag_test.c - the fragment's header is checked, a rollout fills it in place.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/gae.h"
#include "rl/rollout.h"

static const struct frag_shape shape = { .steps = 10, .envs = 2, .obs_dim = 3, .n_inputs = 4 };

static struct policy *make_policy(void) {
    struct policy_opts o = { .obs_dim = 3, .n_actions = 4, .n_hiddens = 1, .hiddens = { 8 },
                             .act = KERN_TANH, .seed = 1 };
    struct policy *p = NULL;

    assert_int_equal(policy_new(&o, &p), 0);
    return p;
}

static void format_and_open_agree(void **state) {
    uint64_t n = frag_bytes(&shape);
    char *buffer = calloc(1, n);
    struct frag a, b;

    (void)state;
    assert_int_equal(frag_format(buffer, n, &shape, &a), 0);
    assert_int_equal(frag_open(buffer, n, &b), 0);
    assert_ptr_equal(a.obs, b.obs);
    assert_ptr_equal(a.episode_len, b.episode_len);
    assert_true((char *)(a.episode_len + 20) <= buffer + n);
    for (int i = 0; i < FRAG_FIELDS; i++)
        assert_int_equal(a.header->fields[i].offset % 64, 0);
    assert_int_equal(frag_format(buffer, n - 1, &shape, &a), -SKATE_EINVAL);
    free(buffer);
}

/* Any changed byte of the header that matters is noticed; nothing is read beyond the buffer. */
static void damaged_headers_are_refused(void **state) {
    uint64_t n = frag_bytes(&shape);
    char *buffer = calloc(1, n), *copy = malloc(n);
    const size_t own = 36 + 4 + 8;          /* episodes < 20 is checked; worker, version free */
    struct frag f;

    (void)state;
    assert_int_equal(frag_format(buffer, n, &shape, &f), 0);
    for (size_t i = 0; i < sizeof(struct frag_header); i++) {
        memcpy(copy, buffer, n);
        copy[i] ^= 0x55;
        if (i >= own - 4 && i < 56)         /* worker and policy_version mean nothing here */
            continue;
        assert_int_equal(frag_open(copy, n, &f), -SKATE_EINVAL);
    }
    for (size_t cut = 0; cut < n; cut += 7)
        assert_int_equal(frag_open(buffer, cut, &f), -SKATE_EINVAL);
    assert_int_equal(frag_open(buffer + 1, n - 1, &f), -SKATE_EINVAL);
    free(buffer);
    free(copy);
}

static void absurd_shapes_have_no_size(void **state) {
    struct frag_shape s = shape;

    (void)state;
    s.steps = 0;
    assert_int_equal(frag_bytes(&s), 0);
    s = shape, s.envs = UINT32_MAX;
    assert_int_equal(frag_bytes(&s), 0);
    s = shape, s.steps = FRAG_STEPS_MAX, s.envs = FRAG_ENVS_MAX;
    assert_int_equal(frag_bytes(&s), 0);
    s = shape, s.obs_dim = 1u << 31;
    assert_int_equal(frag_bytes(&s), 0);
}

/* Environment 0 ends (terminated) at step 3 and (truncated) at 7; environment 1 never. */
static void a_rollout_fills_every_row(void **state) {
    struct policy *p = make_policy();
    uint64_t n = frag_bytes(&shape);
    char *buffer = calloc(1, n);
    struct rollout *r = NULL;
    const int32_t *actions;
    float value, obs[3];
    struct frag f;

    (void)state;
    assert_int_equal(rollout_new(p, &shape, 5, &r), 0);
    assert_int_equal(rollout_begin(r, buffer, n, 9), 0);
    for (int t = 0; t < 10; t++) {
        assert_int_equal(rollout_act(r, &actions), 0);
        for (uint32_t e = 0; e < 2; e++) {
            uint8_t flags = e == 0 && t == 3 ? GAE_TERMINATED
                            : e == 0 && t == 7 ? GAE_TRUNCATED : 0;

            for (int i = 0; i < 3; i++)
                rollout_obs(r, e)[i] = (float)(100 * (t + 1)) + 10.0f * (float)e + (float)i;
            assert_int_equal(rollout_step(r, e, t + 1, flags), 0);
            if (flags)
                memset(rollout_obs(r, e), 0, 3 * sizeof(float));
        }
    }
    assert_true(rollout_is_full(r));
    assert_int_equal(rollout_act(r, &actions), -SKATE_EINVAL);
    assert_int_equal(rollout_finish(r), 0);
    assert_int_equal(frag_open(buffer, n, &f), 0);
    assert_null(frag_bad_field(&f));
    assert_int_equal(f.header->worker, 9);
    assert_int_equal(f.header->episodes, 2);
    assert_true(f.episode_reward[0] == 1 + 2 + 3 + 4);
    assert_true(f.episode_reward[1] == 5 + 6 + 7 + 8);
    assert_int_equal(f.episode_len[0], 4);
    assert_int_equal(f.flags[2 * 3], GAE_TERMINATED);
    assert_int_equal(f.flags[2 * 7], GAE_TRUNCATED);
    assert_int_equal(f.flags[2 * 4], GAE_CUT);      /* a cut every 5 steps, both environments */
    assert_int_equal(f.flags[2 * 4 + 1], GAE_CUT);
    assert_int_equal(f.flags[2 * 9], GAE_CUT);
    assert_int_equal(f.flags[2 * 5], 0);
    assert_true(f.obs[2 * 3 * 1] == 100.0f && f.obs[2 * 3 * 1 + 3] == 110.0f);
    assert_true(f.obs[2 * 3 * 4] == 0.0f);          /* after the reset */
    for (int i = 0; i < 3; i++)
        obs[i] = 800.0f + (float)i;
    policy_values(p, obs, 1, &value);               /* the final observation, not the reset one */
    assert_true(fabsf(f.boot[2 * 7] - value) < 1e-6f);
    assert_true(f.boot[2 * 3] == 0.0f);
    for (int i = 0; i < 20; i++) {
        policy_values(p, f.obs + 3 * i, 1, &value);
        assert_true(fabsf(f.value[i] - value) < 1e-6f);
        assert_true(f.action[i] >= 0 && f.action[i] < 4);
        assert_true(f.logp[i] < 0.0f);
    }
    rollout_free(r);
    policy_free(p);
    free(buffer);
}

static void steps_out_of_order_are_refused(void **state) {
    struct policy *p = make_policy();
    uint64_t n = frag_bytes(&shape);
    char *buffer = calloc(1, n);
    struct rollout *r = NULL;
    const int32_t *actions;

    (void)state;
    assert_int_equal(rollout_new(p, &shape, 0, &r), 0);
    assert_int_equal(rollout_act(r, &actions), -SKATE_EINVAL);
    assert_int_equal(rollout_begin(r, buffer, n, 0), 0);
    assert_int_equal(rollout_step(r, 0, 1.0, 0), -SKATE_EINVAL);
    assert_int_equal(rollout_act(r, &actions), 0);
    assert_int_equal(rollout_act(r, &actions), -SKATE_EINVAL);
    assert_int_equal(rollout_step(r, 1, 1.0, 0), -SKATE_EINVAL);
    assert_int_equal(rollout_step(r, 0, 1.0, 0), 0);
    assert_int_equal(rollout_finish(r), -SKATE_EINVAL);
    rollout_reset(r);
    assert_int_equal(rollout_act(r, &actions), -SKATE_EINVAL);
    rollout_free(r);
    policy_free(p);
    free(buffer);
}

static void diverged_nets_are_noticed(void **state) {
    struct policy *p = make_policy();
    uint64_t n = frag_bytes(&shape);
    char *buffer = calloc(1, n);
    struct rollout *r = NULL;
    const int32_t *actions;
    float *w = calloc(policy_n_weights(p), sizeof *w);

    (void)state;
    for (size_t i = 0; i < policy_n_weights(p); i++)
        w[i] = NAN;
    policy_set_weights(p, w);
    assert_int_equal(rollout_new(p, &shape, 0, &r), 0);
    assert_int_equal(rollout_begin(r, buffer, n, 0), 0);
    assert_int_equal(rollout_act(r, &actions), -SKATE_EINVAL);
    rollout_free(r);
    policy_free(p);
    free(buffer);
    free(w);
}

/* Two rollouts, the second given the first one's state: they choose the same actions. */
static void a_state_is_taken_over(void **state) {
    uint64_t n = frag_bytes(&shape);
    char *buffer[2] = { calloc(1, n), calloc(1, n) }, *block;
    struct policy *p[2] = { make_policy(), make_policy() };
    struct rollout *r[2] = { NULL, NULL };
    const int32_t *actions[2];
    size_t bytes;

    (void)state;
    for (int k = 0; k < 2; k++)
        assert_int_equal(rollout_new(p[k], &shape, 5, &r[k]), 0);
    for (int i = 0; i < 6; i++)
        rollout_obs(r[0], 0)[i] = 0.25f * (float)i;
    rl_rng_next(&p[0]->rng);
    bytes = rollout_state_bytes(r[0]);
    block = malloc(bytes);
    rollout_get_state(r[0], block);
    assert_int_equal(rollout_set_state(r[1], block, bytes - 1), -SKATE_EINVAL);
    assert_int_equal(rollout_set_state(r[1], block, bytes), 0);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(rollout_begin(r[k], buffer[k], n, 0), 0);
        assert_int_equal(rollout_act(r[k], &actions[k]), 0);
    }
    assert_memory_equal(actions[0], actions[1], 2 * sizeof(int32_t));
    assert_int_equal(rollout_set_state(r[1], block, bytes), -SKATE_EINVAL);     /* under way */
    memset(block + bytes - 4, 0xff, 4);         /* an observation that is not a number */
    rollout_reset(r[1]);
    assert_int_equal(rollout_set_state(r[1], block, bytes), -SKATE_EINVAL);
    for (int k = 0; k < 2; k++) {
        rollout_free(r[k]);
        policy_free(p[k]);
        free(buffer[k]);
    }
    free(block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_and_open_agree),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(absurd_shapes_have_no_size),
        cmocka_unit_test(a_rollout_fills_every_row),
        cmocka_unit_test(steps_out_of_order_are_refused),
        cmocka_unit_test(diverged_nets_are_noticed),
        cmocka_unit_test(a_state_is_taken_over),
    };

    return cmocka_run_group_tests_name("rl_frag", tests, NULL, NULL);
}
