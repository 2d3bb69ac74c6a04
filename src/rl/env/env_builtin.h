/* env_builtin.h - what the built-in environments share: their tables, and NumPy's arithmetic.
 *
 * Bit-equality with Gymnasium rests on making the calls that NumPy makes: libm's sin, cos and pow
 * for doubles (NumPy's own loops call them, too), pow(x, 2) where Python squares a NumPy scalar
 * (it is not always x * x: a rounding apart in one of a thousand), powf for float32. The compiler
 * would turn pow(x, 2) into x * x, hence the exponent that it cannot see; and it must not fuse
 * products with sums (-ffp-contract=off in meson.build). Any thread; never blocks.
 * Tests: tests/python/test_rl_env_equal.py. */
#ifndef SKATE_RL_ENV_BUILTIN_H
#define SKATE_RL_ENV_BUILTIN_H

#include <math.h>
#include <skate/env.h>
#include <skate/env_config.h>
#include <skate/env_rng.h>
#include <skate/env_scalar.h>

#include "rl/env/env_draw.h"

#define ENV_PI 3.141592653589793

static inline double env_pow2(double x) {
    volatile double two = 2.0;

    return pow(x, two);
}

static inline float env_pow2f(float x) {
    volatile float two = 2.0f;

    return powf(x, two);
}

/* numpy.clip: a NaN stays. */
static inline double env_clip(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

/* Python's and NumPy's x % m for m > 0. */
static inline double env_mod(double x, double m) {
    double r = fmod(x, m);

    if (r != 0.0)
        return r < 0.0 ? r + m : r;
    return 0.0;
}

/* The index that Gymnasium's categorical_sample() finds in n probabilities. */
static inline uint32_t env_categorical(struct skate_rng *rng, const double *p, uint32_t n) {
    double r = skate_rng_double(rng), sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        sum += p[i];
        if (sum > r)
            return i;
    }
    return 0;
}

static inline void env_discrete(struct skate_env_space *s, int64_t n) {
    *s = (struct skate_env_space){ .kind = SKATE_SPACE_DISCRETE, .n = n };
}

/* A box of one dimension with the same bounds everywhere. */
static inline void env_box(struct skate_env_space *s, uint32_t n, double low, double high) {
    *s = (struct skate_env_space){ .kind = SKATE_SPACE_BOX, .dtype = SKATE_F32, .ndim = 1,
                                   .shape = { n }, .low = low, .high = high };
}

/* A picture [rows][columns][channels] of bytes that are 0 or 1. */
static inline void env_picture(struct skate_env_space *s, uint32_t side, uint32_t channels) {
    *s = (struct skate_env_space){ .kind = SKATE_SPACE_BOX, .dtype = SKATE_BOOL, .ndim = 3,
                                   .shape = { side, side, channels }, .low = 0, .high = 1 };
}

static inline void env_put(void *obs, const double *x, int n) {
    float *to = (float *)obs;

    for (int i = 0; i < n; i++)
        to[i] = (float)x[i];
}

static inline int32_t env_action(const void *action) {
    return *(const int32_t *)action;
}

#endif
