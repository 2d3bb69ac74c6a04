/* env_cartpole_body.h - CartPole in vectors of W lanes; env_cartpole_avx*.c define the types.
 *
 * Bit-equality needs libm's own sine and cosine. They are computed here in two doubles each (an
 * error far below the last bit), which gives the correctly rounded value; libm's is that, too,
 * except where the true value lies close to the middle of two doubles. There - a few lanes in a
 * hundred - libm itself is called, so no knowledge of its inside is used, only a bound of its
 * error in units of the last place: 0.5 + what the three constants say. (glibc, 200 million
 * angles: 0.0073 for the sine within 0.125, 0.0155 within 0.25, 0.0015 for the cosine.) A division
 * by the mass, 1.1, is a product with 1 / 1.1 as the sum of two doubles (Brisebarre, Muller, Raina:
 * "Accelerating correctly rounded floating-point division when the divisor is known in advance").
 * It errs by less than 2^-103 of the quotient, so it can round wrongly only where a x 2^j leaves a
 * remainder of a few units modulo 1.1's integer; all such a, up to 400 units, were tried.
 * Included once a file; see env_cartpole.h. Tests: tests/unit/rl_env_cartpole_test.c. */
#define CLOSE_SINE_SMALL 0.011      /* angles within 0.125 */
#define CLOSE_SINE 0.02
#define CLOSE_COSINE 0.004
#define ANGLE_MAX 0.25

enum { ALL = (1 << W) - 1 };

static inline vd spread(double x) {
    return (vd){ 0 } + x;
}

static inline vd over_mass(vd a) {
    return FMA(a, spread(0x1.d1745d1745d17p-1), a * spread(-0x1.8dc08767ab5f2p-55));
}

static inline vd sine(vd x, vd x2, vd x2_low, unsigned *close) {
    const vd third_high = spread(-1.0 / 6.0), third_low = spread(-9.251858538542970e-18);
    vd p = x * x2, p_low = FMA(x, x2, -p) + x * x2_low;
    vd q = third_high * p;
    vd q_low = FMA(third_high, p, -q) + (third_high * p_low + third_low * p);
    vd t = FMA(x2, spread(1.0 / 6227020800.0), spread(-1.0 / 39916800.0));
    vd high, low, r, rest, ulp;

    t = FMA(t, x2, spread(1.0 / 362880.0));
    t = FMA(t, x2, spread(-1.0 / 5040.0));
    t = FMA(t, x2, spread(1.0 / 120.0));
    t = t * (p * x2);
    high = x + q;
    low = ((x - high) + q) + (q_low + t);
    r = high + low;
    ulp = (vd)((vi)(r * (1.0 - 0x1p-53)) & 0x7ff0000000000000);
    rest = ABS((high - r) + low);
    *close = GREATER(rest, (0.5 - CLOSE_SINE_SMALL) * 0x1p-52 * ulp) |
             (GREATER(rest, (0.5 - CLOSE_SINE) * 0x1p-52 * ulp) & GREATER(ABS(x), spread(0.125)));
    return r;
}

static inline vd cosine(vd x2, vd x2_low, unsigned *close) {
    vd half = 0.5 * x2, high = 1.0 - half;
    vd t = FMA(x2, spread(1.0 / 479001600.0), spread(-1.0 / 3628800.0));
    vd low, r;

    t = FMA(t, x2, spread(1.0 / 40320.0));
    t = FMA(t, x2, spread(-1.0 / 720.0));
    t = FMA(t, x2, spread(1.0 / 24.0));
    t = t * (x2 * x2);
    low = ((1.0 - high) - half) + (t - 0.5 * x2_low);
    r = high + low;
    *close = GREATER(ABS((high - r) + low), spread((0.5 - CLOSE_COSINE) * 0x1p-53));
    return r;
}

/* Blocks of lanes: what is rare (asking libm, ended lanes) is noted in a word of bits and done
 * after the block, so that the vectors themselves run without a branch. */
enum { BLOCK = 64 };

struct block {
    double si[BLOCK], co[BLOCK];
    uint64_t ask_si, ask_co;    /* lanes for libm */
} __attribute__((aligned(64)));

static __attribute__((noinline)) void ask_libm(struct block *b, const double *x) {
    for (; b->ask_si; b->ask_si &= b->ask_si - 1)
        b->si[__builtin_ctzll(b->ask_si)] = sin(x[__builtin_ctzll(b->ask_si)]);
    for (; b->ask_co; b->ask_co &= b->ask_co - 1)
        b->co[__builtin_ctzll(b->ask_co)] = cos(x[__builtin_ctzll(b->ask_co)]);
}

static inline vd load(const double *from) {
    return *(const vd *)from;
}

static inline void store(double *to, vd x) {
    *(vd *)to = x;
}

static inline void sines_cosines(struct block *b, const double *angle, uint32_t n) {
    b->ask_si = b->ask_co = 0;
    for (uint32_t k = 0; k < n; k += W) {
        vd x = load(angle + k), x2 = x * x, x2_low = FMA(x, x, -x2);
        unsigned close_sine, close_cosine, near = GREATER(spread(ANGLE_MAX), ABS(x));

        store(b->si + k, sine(x, x2, x2_low, &close_sine));
        store(b->co + k, cosine(x2, x2_low, &close_cosine));
        b->ask_si |= (uint64_t)(close_sine | (near ^ ALL)) << k;
        b->ask_co |= (uint64_t)(close_cosine | (near ^ ALL)) << k;
    }
    if (b->ask_si | b->ask_co)
        ask_libm(b, angle);
}

/* Lanes i .. i + W - 1; returns the bits of those that have ended. */
static inline uint64_t step_vector(struct cartpole *c, const struct skate_env_rows *rows,
                                   uint32_t i, vd si, vd co) {
    vd x = load(c->x + i), xd = load(c->xd + i), th = load(c->th + i), thd = load(c->thd + i);
    vd force = FORCE((const int32_t *)rows->action + i), temp, thacc, xacc;

    temp = over_mass(force + CARTPOLE_MOMENT * (thd * thd) * si);
    thacc = (9.8 * si - co * temp) /
            (0.5 * (4.0 / 3.0 - over_mass(CARTPOLE_POLE * (co * co))));
    xacc = temp - over_mass(CARTPOLE_MOMENT * thacc * co);
    x = x + 0.02 * xd;
    xd = xd + 0.02 * xacc;
    th = th + 0.02 * thd;
    thd = thd + 0.02 * thacc;
    store(c->x + i, x);
    store(c->xd + i, xd);
    store(c->th + i, th);
    store(c->thd + i, thd);
    put_rows((float *)rows->obs + (size_t)i * 4, x, xd, th, thd);
    return GREATER(ABS(x), spread(CARTPOLE_X)) | GREATER(ABS(th), spread(CARTPOLE_ANGLE));
}

/* A byte 0 or 1 for each of the low 8 bits. */
static inline uint64_t to_bytes(uint64_t bits) {
    bits = (bits & 0xff) * UINT64_C(0x0101010101010101) & UINT64_C(0x8040201008040201);
    return (bits + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & UINT64_C(0x0101010101010101);
}

static inline uint32_t step_range(struct cartpole *c, const struct skate_env_rows *rows,
                                  uint32_t lo, uint32_t hi) {
    const vd reward = spread(c->sutton ? 0.0 : 1.0);
    struct block b;

    while (hi - lo >= 8) {
        uint32_t n = hi - lo < BLOCK ? (hi - lo) & ~7u : BLOCK;
        uint64_t ended = 0, bytes;

        sines_cosines(&b, c->th + lo, n);
        for (uint32_t k = 0; k < n; k += W) {
            ended |= step_vector(c, rows, lo + k, load(b.si + k), load(b.co + k)) << k;
            store(rows->reward + lo + k, reward);
        }
        for (uint32_t k = 0; k < n; k += 8) {
            bytes = to_bytes(ended >> k);
            memcpy(rows->terminated + lo + k, &bytes, 8);
        }
        for (; ended; ended &= ended - 1) {
            uint32_t i = lo + (uint32_t)__builtin_ctzll(ended);

            rows->reward[i] = cartpole_last_reward(c, i);
        }
        lo += n;
    }
    return lo;
}
