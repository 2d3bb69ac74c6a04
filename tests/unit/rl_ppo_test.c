/* rl_ppo_test.c - the loss's gradient by finite differences, updates that do not depend on the
 * number of threads, state, refusals.
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
#include "rl/learner.h"
#include "rl/ppo.h"

enum { STEPS = 150, ACTIONS = 3, OBS = 4 };

static struct policy *make_policy(uint64_t seed) {
    struct policy_opts o = { .obs_dim = OBS, .n_actions = ACTIONS, .n_hiddens = 2,
                             .hiddens = { 70, 33 }, .act = KERN_TANH, .seed = seed };
    struct policy *p = NULL;

    assert_int_equal(policy_new(&o, &p), 0);
    return p;
}

/* A fragment of random numbers that a rollout could have made. */
static char *make_fragment(uint64_t seed, struct frag *ret) {
    const struct frag_shape shape = { STEPS, 1, OBS, ACTIONS };
    char *buffer = calloc(1, frag_bytes(&shape));
    struct rl_rng r;

    rl_rng_init(&r, seed, 0);
    assert_int_equal(frag_format(buffer, frag_bytes(&shape), &shape, ret), 0);
    for (int i = 0; i < STEPS; i++) {
        for (int j = 0; j < OBS; j++)
            ret->obs[i * OBS + j] = (float)rl_rng_normal(&r);
        for (int j = 0; j < ACTIONS; j++)
            ret->inputs[i * ACTIONS + j] = 0.3f * (float)rl_rng_normal(&r);
        ret->action[i] = (int32_t)rl_rng_below(&r, ACTIONS);
        ret->logp[i] = -1.1f + 0.2f * (float)rl_rng_normal(&r);
        ret->reward[i] = (float)rl_rng_normal(&r);
        ret->value[i] = (float)rl_rng_normal(&r);
        ret->boot[i] = (float)rl_rng_normal(&r);
        ret->flags[i] = i % 37 == 36 ? GAE_TERMINATED : 0;
    }
    ret->flags[STEPS - 1] = GAE_CUT;
    return buffer;
}

/* One row of the policy's loss as a function of its logits, in double, from the definition. */
static double policy_loss(const struct ppo_params *p, const double *x, const float *old,
                          int action, double logp, double adv) {
    double z = 0.0, kl = 0.0, h = 0.0, ratio, clipped, surrogate;

    for (int j = 0; j < ACTIONS; j++)
        z += exp(x[j]);
    ratio = exp(x[action] - log(z) - logp);
    clipped = fmin(fmax(ratio, 1.0 - (double)p->clip), 1.0 + (double)p->clip);
    surrogate = fmin(adv * ratio, adv * clipped);
    for (int j = 0; j < ACTIONS; j++) {
        double lp = x[j] - log(z);

        kl += exp((double)old[j]) * ((double)old[j] - lp);
        h -= exp(lp) * lp;
    }
    return -surrogate + (double)p->kl_coeff * kl - (double)p->entropy_coeff * h;
}

static void gradient_at_the_logits(void **state) {
    const struct ppo_params params = { 0.3f, 10.0f, 1.0f, 0.7f, 0.05f, false };
    struct rl_rng r;
    double largest = 0.0;

    (void)state;
    rl_rng_init(&r, 11, 0);
    for (int trial = 0; trial < 300; trial++) {
        float old[ACTIONS], logits[ACTIONS], d[ACTIONS], logp = -1.0f, adv;
        double x[ACTIONS], z = 0.0;
        int32_t action = (int32_t)rl_rng_below(&r, ACTIONS);
        uint32_t index = 0;
        struct ppo_sums sums = { 0 };
        struct ppo_batch b = { .n = 1, .obs_dim = 1, .n_actions = ACTIONS, .old_log_probs = old,
                               .logp = &logp, .advantage = &adv, .action = &action };

        for (int j = 0; j < ACTIONS; j++) {
            old[j] = (float)rl_rng_normal(&r);
            x[j] = (double)(logits[j] = (float)rl_rng_normal(&r));
            z += exp((double)old[j]);
        }
        for (int j = 0; j < ACTIONS; j++)
            old[j] -= (float)log(z);
        adv = (float)rl_rng_normal(&r);
        ppo_policy_tile(&params, &b, &index, 1, 1.0f, logits, d, &sums);
        for (int j = 0; j < ACTIONS; j++) {
            double up, down, keep = x[j], want;

            x[j] = keep + 1e-6;
            up = policy_loss(&params, x, old, action, (double)logp, (double)adv);
            x[j] = keep - 1e-6;
            down = policy_loss(&params, x, old, action, (double)logp, (double)adv);
            x[j] = keep;
            want = (up - down) / 2e-6;
            largest = fmax(largest, fabs(want - (double)d[j]) / (1.0 + fabs(want)));
        }
    }
    assert_true(largest < 1e-5);
}

/* The value loss: inside the clip, beyond it towards the target, beyond it away from it. */
static void value_loss_cases(void **state) {
    struct ppo_params params = { 0.3f, 2.0f, 0.5f, 0.0f, 0.0f, false };
    float old[3] = { 0, 0, 0 }, target[3] = { 10, 10, 10 }, value[3] = { 1, 5, -5 }, d[3];
    const uint32_t index[3] = { 0, 1, 2 };
    struct ppo_batch b = { .n = 3, .value = old, .target = target };
    struct ppo_sums s = { 0 };

    (void)state;
    ppo_value_tile(&params, &b, index, 3, 1.0f, value, d, &s);
    assert_true(d[0] == 0.5f * 2.0f * (1 - 10));
    assert_true(d[1] == 0.0f);                  /* moved 5 > 2 towards it: the cut loss is larger */
    assert_true(d[2] == 0.5f * 2.0f * (-5 - 10));
    assert_true(fabs(s.vf_loss - (81.0 + 64.0 + 225.0)) < 1e-4);
    params.vf_clip_loss = true;                 /* the newer era's: the squared error is cut */
    params.vf_clip = 50.0f;
    s = (struct ppo_sums){ 0 };
    ppo_value_tile(&params, &b, index, 3, 1.0f, value, d, &s);
    assert_true(d[0] == 0.0f && d[2] == 0.0f);
    assert_true(d[1] == 0.5f * 2.0f * (5 - 10));
    assert_true(fabs(s.vf_loss - (50.0 + 25.0 + 50.0)) < 1e-4);
    value[0] = NAN;
    ppo_value_tile(&params, &b, index, 3, 1.0f, value, d, &s);
    assert_true(isnan(s.vf_loss));              /* never hidden by the cut */
}

static struct policy *train(int threads, float grad_clip, uint64_t seed) {
    struct policy *p = make_policy(1);
    struct learner_opts o;
    struct learner *l = NULL;
    struct learner_stats stats;
    struct frag frags[2];
    char *buffers[2];

    learner_opts_default(&o);
    o.threads = threads;
    o.grad_clip = grad_clip;
    o.minibatch = 100;                          /* the last tile is not full */
    o.epochs = 4;
    o.lr = 1e-3f;
    o.seed = seed;
    assert_int_equal(learner_new(p, &o, &l), 0);
    for (int u = 0; u < 3; u++) {
        for (int i = 0; i < 2; i++)
            buffers[i] = make_fragment((uint64_t)(10 * u + i), &frags[i]);
        assert_int_equal(learner_update(l, frags, 2, &stats, NULL), 0);
        assert_int_equal(stats.minibatches, 4 * 3);
        assert_int_equal(stats.samples, 2 * STEPS);
        for (int i = 0; i < 2; i++)
            free(buffers[i]);
    }
    learner_free(l);
    return p;
}

static void threads_do_not_change_a_bit(void **state) {
    static const float clips[] = { 0.0f, 0.1f };

    (void)state;
    for (int c = 0; c < 2; c++) {
        struct policy *one = train(1, clips[c], 7), *other;
        size_t n = policy_n_weights(one);
        float *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);

        policy_get_weights(one, a);
        for (int threads = 2; threads <= 6; threads++) {
            other = train(threads, clips[c], 7);
            policy_get_weights(other, b);
            assert_memory_equal(a, b, n * sizeof *a);
            policy_free(other);
        }
        other = train(1, clips[c], 8);          /* another order of minibatches: another result */
        policy_get_weights(other, b);
        assert_true(memcmp(a, b, n * sizeof *a) != 0);
        policy_free(other);
        policy_free(one);
        free(a);
        free(b);
    }
}

static void state_is_a_round_trip(void **state) {
    struct policy *p = make_policy(1), *q = make_policy(2);
    struct learner_opts o;
    struct learner *l = NULL, *k = NULL;
    struct learner_stats s;
    struct frag f;
    char *buffer = make_fragment(5, &f), *block;
    size_t n = policy_n_weights(p);
    float *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);

    (void)state;
    learner_opts_default(&o);
    o.epochs = 2;
    assert_int_equal(learner_new(p, &o, &l), 0);
    assert_int_equal(learner_new(q, &o, &k), 0);
    assert_int_equal(learner_update(l, &f, 1, &s, NULL), 0);
    block = malloc(learner_state_bytes(l));
    learner_get_state(l, block);
    assert_int_equal(learner_set_state(k, block, learner_state_bytes(l) - 1), -SKATE_EINVAL);
    assert_int_equal(learner_set_state(k, block, learner_state_bytes(l)), 0);
    policy_get_weights(p, a);
    policy_set_weights(q, a);
    assert_int_equal(learner_update(l, &f, 1, &s, NULL), 0);
    assert_int_equal(learner_update(k, &f, 1, &s, NULL), 0);
    policy_get_weights(p, a);
    policy_get_weights(q, b);
    assert_memory_equal(a, b, n * sizeof *a);
    block[0] ^= 1;
    assert_int_equal(learner_set_state(k, block, learner_state_bytes(l)), -SKATE_EINVAL);
    learner_free(l);
    learner_free(k);
    policy_free(p);
    policy_free(q);
    free(buffer);
    free(block);
    free(a);
    free(b);
}

static void bad_batches_are_refused(void **state) {
    struct policy *p = make_policy(1);
    struct learner_opts o;
    struct learner *l = NULL;
    struct learner_stats s;
    struct skate_error err = { .text = "" };
    struct frag f;
    char *buffer = make_fragment(5, &f);

    (void)state;
    learner_opts_default(&o);
    assert_int_equal(learner_new(p, &o, &l), 0);
    assert_int_equal(learner_update(l, &f, 0, &s, &err), -SKATE_EINVAL);
    f.reward[3] = NAN;
    assert_int_equal(learner_update(l, &f, 1, &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "reward"));
    f.reward[3] = 0.0f;
    f.action[7] = ACTIONS;
    assert_int_equal(learner_update(l, &f, 1, &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "action"));
    f.action[7] = 0;
    f.header->shape.obs_dim = OBS + 1;
    assert_int_equal(learner_update(l, &f, 1, &s, &err), -SKATE_EINVAL);
    learner_free(l);
    o.lr = NAN;
    assert_int_equal(learner_new(p, &o, &l), -SKATE_EINVAL);
    policy_free(p);
    free(buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_at_the_logits),
        cmocka_unit_test(value_loss_cases),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(state_is_a_round_trip),
        cmocka_unit_test(bad_batches_are_refused),
    };

    return cmocka_run_group_tests_name("rl_ppo", tests, NULL, NULL);
}
