/* algo_dist.c - see algo.h: distributions over actions: draws, and log probability, entropy and
 * divergence on the tape. Categorical (with forbidden actions), one categorical per part, diagonal
 * Gaussian (means, then logarithms of the standard deviations). Never blocks.
 * Tests: tests/unit/rl_algo_test.c, tests/rl/test_on_policy_math.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/algo.h"
#include "rl/dist.h"

static const float HALF_LOG_2PI = 0.918938533204672742f;

/* ---- draws ---- */

/* One categorical of `n` logits, forbidden ones pushed down in place. The action, or -1. */
static int draw_one(struct algo *a, float *logits, float *lp, int n, bool explore, float *logp) {
    int action;

    dist_log_softmax(logits, lp, n);
    for (int j = 0; j < n; j++)
        if (!isfinite(logits[j]) || !isfinite(lp[j]))
            return -1;
    action = explore ? dist_sample(lp, n, &a->rng) : dist_argmax(logits, n);
    *logp += lp[action];
    return action;
}

static int draw_categorical(struct algo *a, float *row, float *lp, const struct algo_act *io,
                            int i, float *logp) {
    const struct algo_space *s = &a->action;
    int parts = s->kind == ALGO_MULTI ? s->size : 1;
    int32_t *actions = (int32_t *)io->actions + (size_t)i * (size_t)parts;

    if (io->mask && s->kind == ALGO_DISCRETE) {
        const float *mask = io->mask + (size_t)i * (size_t)s->size;

        for (int j = 0; j < s->size; j++)
            row[j] += mask[j] != 0.0f ? 0.0f : ALGO_MASKED;
    }
    for (int k = 0; k < parts; k++) {
        int n = s->kind == ALGO_MULTI ? s->sizes[k] : s->size;

        actions[k] = draw_one(a, row, lp, n, io->explore, logp);
        if (actions[k] < 0)
            return -SKATE_EINVAL;
        row += n;
    }
    return 0;
}

static int draw_gaussian(struct algo *a, const float *row, const struct algo_act *io, int i,
                         float *logp) {
    int n = a->action.size;
    float *actions = (float *)io->actions + (size_t)i * (size_t)n;

    for (int j = 0; j < n; j++) {
        float z = io->explore ? (float)rl_rng_normal(&a->rng) : 0.0f;

        actions[j] = row[j] + expf(row[n + j]) * z;
        *logp -= 0.5f * z * z + row[n + j] + HALF_LOG_2PI;
        if (!isfinite(actions[j]))
            return -SKATE_EINVAL;
    }
    return 0;
}

int algo_draw(struct algo *a, const float *inputs, const struct algo_act *io,
              struct skate_error *err) {
    size_t width = (size_t)algo_n_inputs(&a->action);
    float *scratch = malloc(2 * width * sizeof *scratch);
    int r = scratch ? 0 : -SKATE_ENOMEM;

    for (int i = 0; i < io->n && r == 0; i++) {
        float *row = scratch, logp = 0.0f;

        memcpy(row, inputs + (size_t)i * width, width * sizeof *row);
        if (a->action.kind == ALGO_BOX)
            r = draw_gaussian(a, row, io, i, &logp);
        else
            r = draw_categorical(a, row, scratch + width, io, i, &logp);
        if (r == 0 && !isfinite(logp))
            r = -SKATE_EINVAL;
        if (io->logp)
            io->logp[i] = logp;
        if (io->inputs)
            memcpy(io->inputs + (size_t)i * width, row, width * sizeof *row);
    }
    free(scratch);
    if (r == -SKATE_EINVAL)
        return err_fail(err, r, "the net has diverged: it gives an action distribution that is "
                        "not finite; use a lower learning rate or grad_clip");
    return r;
}

/* ---- on the tape ---- */

tvar algo_mask(struct algo *a, tvar inputs, const float *mask) {
    int rows = tape_rows(a->tape, inputs), n = a->action.size;
    tvar m = t_data(a->tape, mask, rows, n);

    return t_add(a->tape, inputs, t_affine(a->tape, m, -ALGO_MASKED, ALGO_MASKED));
}

static int part_size(const struct algo_space *s, int k) {
    return s->kind == ALGO_MULTI ? s->sizes[k] : s->size;
}

static int n_parts(const struct algo_space *s) {
    return s->kind == ALGO_MULTI ? s->size : 1;
}

/* Log probabilities of part k, whose first column is *at; moves *at on. */
static tvar part_lp(struct algo *a, tvar inputs, int k, int *at) {
    struct tape *t = a->tape;
    int n = part_size(&a->action, k);
    tvar x = n_parts(&a->action) == 1 ? inputs : t_cols(t, inputs, *at, n);

    *at += n;
    return t_log_softmax(t, x, 0);
}

static tvar plus(struct tape *t, tvar sum, tvar x) {
    return sum == TAPE_BAD ? x : t_add(t, sum, x);
}

static tvar gaussian_logp(struct algo *a, tvar inputs, const float *actions) {
    struct tape *t = a->tape;
    int n = a->action.size, rows = tape_rows(t, inputs);
    tvar mean = t_cols(t, inputs, 0, n), log_std = t_cols(t, inputs, n, n);
    tvar z = t_div(t, t_sub(t, t_data(t, actions, rows, n), mean), t_exp(t, log_std));

    z = t_add(t, t_affine(t, t_square(t, z), -0.5f, -HALF_LOG_2PI), t_affine(t, log_std, -1, 0));
    return t_sum_cols(t, z);
}

tvar algo_logp(struct algo *a, tvar inputs, const void *actions) {
    int parts = n_parts(&a->action), rows = tape_rows(a->tape, inputs), at = 0;
    const int32_t *x = actions;
    int32_t *column;
    tvar sum = TAPE_BAD;

    if (inputs == TAPE_BAD)
        return TAPE_BAD;
    if (a->action.kind == ALGO_BOX)
        return gaussian_logp(a, inputs, actions);
    if (parts == 1)
        return t_pick(a->tape, part_lp(a, inputs, 0, &at), x);
    column = malloc((size_t)rows * sizeof *column);
    for (int k = 0; column && k < parts; k++) {
        for (int i = 0; i < rows; i++)
            column[i] = x[(size_t)i * (size_t)parts + (size_t)k];
        sum = plus(a->tape, sum, t_pick(a->tape, part_lp(a, inputs, k, &at), column));
    }
    free(column);
    return sum;
}

tvar algo_entropy(struct algo *a, tvar inputs) {
    struct tape *t = a->tape;
    int parts = n_parts(&a->action), n = a->action.size, at = 0;
    tvar sum = TAPE_BAD;

    if (a->action.kind == ALGO_BOX)
        return t_sum_cols(t, t_affine(t, t_cols(t, inputs, n, n), 1, HALF_LOG_2PI + 0.5f));
    for (int k = 0; k < parts; k++) {
        tvar lp = part_lp(a, inputs, k, &at);
        tvar h = t_sum_cols(t, t_mul(t, t_exp(t, lp), lp));

        sum = plus(t, sum, t_affine(t, h, -1, 0));
    }
    return sum;
}

static tvar gaussian_kl(struct algo *a, tvar old, tvar new) {
    struct tape *t = a->tape;
    int n = a->action.size;
    tvar ls_old = t_cols(t, old, n, n), ls_new = t_cols(t, new, n, n);
    tvar gap = t_square(t, t_sub(t, t_cols(t, old, 0, n), t_cols(t, new, 0, n)));
    tvar square = t_add(t, t_exp(t, t_affine(t, ls_old, 2, 0)), gap);
    tvar ratio = t_mul(t, square, t_exp(t, t_affine(t, ls_new, -2, 0)));

    return t_sum_cols(t, t_add(t, t_sub(t, ls_new, ls_old), t_affine(t, ratio, 0.5f, -0.5f)));
}

tvar algo_kl(struct algo *a, tvar old_inputs, tvar new_inputs) {
    struct tape *t = a->tape;
    int parts = n_parts(&a->action), at = 0, at_new = 0;
    tvar sum = TAPE_BAD;

    if (a->action.kind == ALGO_BOX)
        return gaussian_kl(a, old_inputs, new_inputs);
    for (int k = 0; k < parts; k++) {
        tvar p = part_lp(a, old_inputs, k, &at), q = part_lp(a, new_inputs, k, &at_new);

        sum = plus(t, sum, t_sum_cols(t, t_mul(t, t_exp(t, p), t_sub(t, p, q))));
    }
    return sum;
}
