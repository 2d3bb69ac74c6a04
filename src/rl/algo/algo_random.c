/* algo_random.c - "RandomAgent": uniform actions, nothing learned; the baseline of baselines.
 *
 * A box is drawn uniformly between its bounds (a bound that is infinite counts as 1 from the other
 * or from 0); with normalize_actions between -1 and 1. Tests: tests/unit/rl_random_test.c. */
#include <math.h>

#include "rl/algo/algo.h"

enum { NORMALISED };            /* of a->vars */

static int random_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct params *p = algo_params(a, true);
    int r;

    (void)err;
    if (!p)
        return -SKATE_ENOMEM;
    a->vars[NORMALISED] = algo_flag(s, "normalize_actions", false) ? 1.0 : 0.0;
    a->n_inputs = algo_n_inputs(&s->action);
    r = params_add(p, "none", 1, 1, PARAM_ZERO, 0.0f);  /* so that there are weights to send */
    return r < 0 ? r : params_seal(p, &a->rng);
}

static float box_number(struct algo *a, int i) {
    float low = a->action.low ? a->action.low[i] : -1.0f;
    float high = a->action.high ? a->action.high[i] : 1.0f;

    if (a->vars[NORMALISED] > 0.0)
        low = -1.0f, high = 1.0f;
    if (isinf(low))
        low = isinf(high) ? -1.0f : high - 1.0f;
    if (isinf(high))
        high = low + 1.0f;
    return low + (high - low) * rl_rng_float(&a->rng);
}

static int one_action(struct algo *a, const struct algo_act *io, int row) {
    int32_t *whole = io->actions;
    float *numbers = io->actions;
    const float *mask = io->mask;
    int n = a->action.size;
    uint32_t allowed = 0, pick;

    if (a->action.kind == ALGO_BOX) {
        for (int i = 0; i < n; i++)
            numbers[(size_t)row * (size_t)n + (size_t)i] = box_number(a, i);
        return 0;
    }
    if (a->action.kind == ALGO_MULTI) {
        for (int i = 0; i < n; i++)
            whole[(size_t)row * (size_t)n + (size_t)i] =
                (int32_t)rl_rng_below(&a->rng, (uint32_t)a->action.sizes[i]);
        return 0;
    }
    if (!mask) {
        whole[row] = (int32_t)rl_rng_below(&a->rng, (uint32_t)n);
        return 0;
    }
    mask += (size_t)row * (size_t)n;
    for (int i = 0; i < n; i++)
        allowed += mask[i] > 0.0f;
    if (allowed == 0)
        return -SKATE_EINVAL;
    pick = rl_rng_below(&a->rng, allowed);
    for (int i = 0; i < n; i++)
        if (mask[i] > 0.0f && pick-- == 0)
            whole[row] = i;
    return 0;
}

static int random_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    for (int row = 0; row < io->n; row++) {
        if (one_action(a, io, row) < 0)
            return err_fail(err, -SKATE_EINVAL, "the mask forbids every action");
        if (io->logp)
            io->logp[row] = 0.0f;
        if (io->vf)
            io->vf[row] = 0.0f;
        for (int i = 0; io->inputs && i < a->n_inputs; i++)
            io->inputs[(size_t)row * (size_t)a->n_inputs + (size_t)i] = 0.0f;
    }
    return 0;
}

static int random_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                        struct skate_error *err) {
    (void)a;
    (void)b;
    (void)st;
    (void)err;
    return 0;
}

const struct algo_api algo_random_api = {
    .name = "RandomAgent", .make = random_make, .act = random_act, .learn = random_learn,
};
