/* skate/env_rng.h - random numbers for environments, draw for draw those of Gymnasium.
 *
 * A lane's stream is NumPy's default_rng(seed): PCG64 (XSL-RR 128/64) seeded through SeedSequence.
 * skate_rng_double() is Generator.random(), skate_rng_uniform() is Generator.uniform(low, high),
 * skate_rng_below(n) is Generator.integers(0, n) and the index of Generator.choice(n things).
 * Header only; a stream has one owner. */
#ifndef SKATE_ENV_RNG_H
#define SKATE_ENV_RNG_H

#include <stdint.h>

__extension__ typedef unsigned __int128 skate_rng_u128;

struct skate_rng {
    uint64_t state[2], inc[2];  /* low word first */
    uint32_t spare, has_spare;  /* the other half of a word that a 32-bit draw has split */
    uint64_t seed, is_new;      /* what it was started with; 1 until an environment that has a
                                 * generator of its own has seeded that and writes 0 */
};

static inline void skate_rng_advance(struct skate_rng *r) {
    const skate_rng_u128 mult =
        (skate_rng_u128)UINT64_C(0x2360ed051fc65da4) << 64 | UINT64_C(0x4385df649fccf645);
    skate_rng_u128 s = (skate_rng_u128)r->state[1] << 64 | r->state[0];

    s = s * mult + ((skate_rng_u128)r->inc[1] << 64 | r->inc[0]);
    r->state[0] = (uint64_t)s;
    r->state[1] = (uint64_t)(s >> 64);
}

static inline uint64_t skate_rng_next(struct skate_rng *r) {
    uint64_t x;
    unsigned turn;

    skate_rng_advance(r);
    x = r->state[0] ^ r->state[1];
    turn = (unsigned)(r->state[1] >> 58);
    return x >> turn | x << ((64 - turn) & 63);
}

static inline uint32_t skate_rng_next32(struct skate_rng *r) {
    uint64_t x;

    if (r->has_spare) {
        r->has_spare = 0;
        return r->spare;
    }
    x = skate_rng_next(r);
    r->has_spare = 1;
    r->spare = (uint32_t)(x >> 32);
    return (uint32_t)x;
}

/* In [0, 1), 53 bits. */
static inline double skate_rng_double(struct skate_rng *r) {
    return (double)(skate_rng_next(r) >> 11) * (1.0 / 9007199254740992.0);
}

static inline double skate_rng_uniform(struct skate_rng *r, double low, double high) {
    return low + (high - low) * skate_rng_double(r);
}

/* In 0 .. n - 1 without bias; n of 0 and 1 give 0 and draw nothing. */
static inline uint32_t skate_rng_below(struct skate_rng *r, uint32_t n) {
    uint64_t m;

    if (n <= 1)
        return 0;
    m = (uint64_t)skate_rng_next32(r) * n;
    if ((uint32_t)m < n) {
        uint32_t threshold = (UINT32_MAX - (n - 1)) % n;

        while ((uint32_t)m < threshold)
            m = (uint64_t)skate_rng_next32(r) * n;
    }
    return (uint32_t)(m >> 32);
}

static inline uint32_t skate_rng_hash(uint32_t value, uint32_t *constant, uint32_t mult) {
    value ^= *constant;
    *constant *= mult;
    value *= *constant;
    return value ^ value >> 16;
}

/* Start the stream of numpy.random.default_rng(seed). */
static inline void skate_rng_seed(struct skate_rng *r, uint64_t seed) {
    uint32_t pool[4], word[8], constant = 0x43b0d7e5u;
    uint64_t init_low, init_high;

    r->seed = seed;
    r->is_new = 1;
    for (int i = 0; i < 4; i++)
        pool[i] = skate_rng_hash(i == 0 ? (uint32_t)seed : i == 1 ? (uint32_t)(seed >> 32) : 0,
                                 &constant, 0x931e8875u);
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++)
            if (from != to) {
                uint32_t x = 0xca01f9ddu * pool[to] -
                             0x4973f715u * skate_rng_hash(pool[from], &constant, 0x931e8875u);

                pool[to] = x ^ x >> 16;
            }
    constant = 0x8b51f9ddu;
    for (int i = 0; i < 8; i++)
        word[i] = skate_rng_hash(pool[i % 4], &constant, 0x58f38dedu);
    init_high = (uint64_t)word[1] << 32 | word[0];
    init_low = (uint64_t)word[3] << 32 | word[2];
    r->inc[1] = (uint64_t)word[5] << 32 | word[4];
    r->inc[0] = (uint64_t)word[7] << 32 | word[6];
    r->inc[1] = r->inc[1] << 1 | r->inc[0] >> 63;
    r->inc[0] = r->inc[0] << 1 | 1;
    r->state[0] = r->state[1] = 0;
    r->spare = r->has_spare = 0;
    skate_rng_advance(r);
    r->state[0] += init_low;
    r->state[1] += init_high + (r->state[0] < init_low);
    skate_rng_advance(r);
}

#endif
