/* rl_rng.h - the random streams of the RL engine: seeded, copyable, the same on every machine.
 *
 * A stream is 32 bytes of state (xoshiro256++), filled from (seed, stream) by splitmix64, so that
 * workers, epochs and policies get streams that do not overlap in practice and do not depend on
 * the number of threads. One owner at a time; never blocks. Tests: tests/unit/rl_math_test.c. */
#ifndef SKATE_RL_RL_RNG_H
#define SKATE_RL_RL_RNG_H

#include <stdint.h>

struct rl_rng {
    uint64_t s[4];
};

static inline uint64_t rl_rng_mix(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline void rl_rng_init(struct rl_rng *r, uint64_t seed, uint64_t stream) {
    uint64_t x = seed ^ rl_rng_mix(&stream);

    for (int i = 0; i < 4; i++)
        r->s[i] = rl_rng_mix(&x);
}

static inline uint64_t rl_rng_next(struct rl_rng *r) {
    uint64_t *s = r->s, sum = s[0] + s[3];
    uint64_t result = ((sum << 23) | (sum >> 41)) + s[0], t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in [0, 1) with 24 bits, so that it is exact in a float. */
static inline float rl_rng_float(struct rl_rng *r) {
    return (float)(rl_rng_next(r) >> 40) * 0x1p-24f;
}

/* Uniform in [0, n), n > 0, without the modulo's bias being visible (64-bit multiply). */
static inline uint32_t rl_rng_below(struct rl_rng *r, uint32_t n) {
    return (uint32_t)(((rl_rng_next(r) >> 32) * (uint64_t)n) >> 32);
}

/* Standard normal (sum of two calls of the polar method's cousin, Box-Muller): two draws each. */
double rl_rng_normal(struct rl_rng *r);

#endif
