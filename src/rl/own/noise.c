/* noise.c - see noise.h. Pairs of normals by Box-Muller; logarithm, sine and cosine are series in
 * loops that the compiler turns into vectors, and the same on every machine. */
#include "rl/own/noise.h"

#include <math.h>
#include <string.h>

enum { PAIRS = 64 };

static uint64_t mix(uint64_t seed, uint64_t pair) {
    uint64_t z = seed * 0xd1342543de82ef95u + (pair + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* sqrt(-2 log u), u in (0, 1]. */
static float radius(float u) {
    uint32_t bits, shifted;
    float m, s, s2, log_m;
    int32_t e;

    memcpy(&bits, &u, sizeof(bits));
    shifted = bits - 0x3f3504f3u;                   /* so that m is in sqrt(1/2) .. sqrt(2) */
    e = (int32_t)shifted >> 23;
    bits -= (uint32_t)e << 23;
    memcpy(&m, &bits, sizeof(m));
    s = (m - 1.0f) / (m + 1.0f);
    s2 = s * s;
    log_m = 2.0f * s * (1.0f + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7 + s2 / 9))));
    s = -2.0f * (log_m + 0.6931471805599453f * (float)e);
    return sqrtf(s > 0.0f ? s : 0.0f);
}

/* Sine and cosine of a quarter turn at most, x in -0.5 .. 0.5 quarter turns. */
static void turn(float x, float *sine, float *cosine) {
    float a = x * 1.5707963267948966f, b = a * a;

    *sine = a * (1.0f + b * (-1.0f / 6 + b * (1.0f / 120 + b * (-1.0f / 5040 + b / 362880))));
    *cosine = 1.0f + b * (-0.5f + b * (1.0f / 24 + b * (-1.0f / 720 + b / 40320)));
}

/* Numbers 2 * first .. 2 * (first + PAIRS) - 1 of the table. */
static void block(uint64_t seed, uint64_t first, float out[2 * PAIRS]) {
    float u[PAIRS], x[PAIRS];
    int32_t quarter[PAIRS];

    for (int i = 0; i < PAIRS; i++) {
        uint64_t h = mix(seed, first + (uint64_t)i);

        u[i] = (float)((int32_t)(h >> 40) + 1) * 0x1p-24f;
        quarter[i] = (int32_t)(h & 3);
        x[i] = (float)(int32_t)((h >> 8) & 0xffffff) * 0x1p-24f - 0.5f;
    }
    for (int i = 0; i < PAIRS; i++) {
        float r = radius(u[i]), sine, cosine, a, b;

        turn(x[i], &sine, &cosine);
        a = quarter[i] & 1 ? cosine : sine;
        b = quarter[i] & 1 ? sine : cosine;
        out[2 * i] = quarter[i] & 2 ? -r * a : r * a;
        out[2 * i + 1] = quarter[i] == 1 || quarter[i] == 2 ? -r * b : r * b;
    }
}

void noise_read(uint64_t seed, uint64_t position, float *to, size_t n) {
    memset(to, 0, n * sizeof(float));
    noise_add(seed, position, 1.0f, to, n);
}

void noise_add(uint64_t seed, uint64_t position, float scale, float *to, size_t n) {
    float part[2 * PAIRS];
    size_t done = 0;

    while (done < n) {
        uint64_t at = position + done;
        size_t skip = at & 1, count = 2 * PAIRS - skip;

        if (count > n - done)
            count = n - done;
        block(seed, at >> 1, part);
        for (size_t i = 0; i < count; i++)
            to[done + i] += scale * part[skip + i];
        done += count;
    }
}
