/* squash.c - see squash.h. Pure; never blocks. Tests: tests/unit/rl_offpol_test.c. */
#include "rl/algo/squash.h"

#include <math.h>

#define LOG_2PI_HALF 0.91893853320467274f
#define LOG_2 0.69314718055994531f

/* Sum over the columns of log(1 - tanh(u)^2), [n][1]. */
static tvar correction(struct tape *t, tvar u) {
    tvar soft = t_act(t, t_affine(t, u, -2.0f, 0.0f), ACT_SOFTPLUS);

    return t_sum_cols(t, t_affine(t, t_add(t, u, soft), -2.0f, 2.0f * LOG_2));
}

tvar squash_draw(struct tape *t, const struct squash *s, tvar inputs, tvar noise, tvar *logp) {
    tvar mean = t_cols(t, inputs, 0, s->k);
    tvar log_std = t_clip(t, t_cols(t, inputs, s->k, s->k), s->low, s->high);
    tvar u = t_add(t, mean, t_mul(t, t_exp(t, log_std), noise));

    if (logp) {
        /* (u - mean) / std is the noise itself, whatever the inputs. */
        tvar density = t_affine(t, t_square(t, noise), -0.5f, -LOG_2PI_HALF);

        *logp = t_sum_cols(t, t_sub(t, density, log_std));
        if (s->tanh)
            *logp = t_sub(t, *logp, correction(t, u));
    }
    return s->tanh ? t_act(t, u, ACT_TANH) : u;
}

float squash_row(const struct squash *s, const float *inputs, const float *noise, float *unit) {
    float logp = 0.0f;

    for (int i = 0; i < s->k; i++) {
        float log_std = fminf(fmaxf(inputs[s->k + i], s->low), s->high);
        float eps = noise ? noise[i] : 0.0f, u = inputs[i] + expf(log_std) * eps;

        logp += -0.5f * eps * eps - log_std - LOG_2PI_HALF;
        unit[i] = u;
        if (s->tanh) {
            float x = -2.0f * u, soft = fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));

            logp -= 2.0f * (LOG_2 - u - soft);
            unit[i] = tanhf(u);
        }
    }
    return logp;
}

tvar squash_logp(struct tape *t, const struct squash *s, tvar inputs, tvar unit) {
    tvar mean = t_cols(t, inputs, 0, s->k);
    tvar log_std = t_clip(t, t_cols(t, inputs, s->k, s->k), s->low, s->high);
    tvar u = unit, z, logp;

    if (s->tanh) {              /* atanh */
        tvar a = t_clip(t, unit, -1.0f + 1e-6f, 1.0f - 1e-6f);

        u = t_sub(t, t_log(t, t_affine(t, a, 1.0f, 1.0f)), t_log(t, t_affine(t, a, -1.0f, 1.0f)));
        u = t_affine(t, u, 0.5f, 0.0f);
    }
    z = t_div(t, t_sub(t, u, mean), t_exp(t, log_std));
    logp = t_affine(t, t_square(t, z), -0.5f, -LOG_2PI_HALF);
    logp = t_sum_cols(t, t_sub(t, logp, log_std));
    return s->tanh ? t_sub(t, logp, correction(t, u)) : logp;
}
