/* kern_exp.h - e^x as one expression, for the kernels and for loops beside them.
 *
 * Pure; any thread. Deterministic for one instruction set: fused multiply-add changes the last bit.
 * Tests: rl_kern_test.c, rl_tape_test.c. */
#ifndef SKATE_RL_KERN_EXP_H
#define SKATE_RL_KERN_EXP_H

#include <stdint.h>

/* e^x to 2 units in the last place without a branch, so that loops over it become vectors. */
static inline float kern_exp(float x) {
    float top = x < 88.722839f ? x : 88.722839f, low = top < -87.33654f ? -87.33654f : top;
    float n = low * 1.44269504f + 12582912.0f, r, p;    /* 1.5 * 2^23: rounds to an integer */
    union { float f; int32_t i; } bits, half, rest;
    int32_t power;

    bits.f = n;
    n -= 12582912.0f;
    r = low - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    power = bits.i - 0x4b400000;        /* -126..128: 2^power in two factors, each normal */
    half.i = ((power >> 1) + 127) * (1 << 23);
    rest.i = (power - (power >> 1) + 127) * (1 << 23);
    p = p * half.f * rest.f;
    p = x < -87.33654f ? 0.0f : p;
    p = x > 88.722839f ? __builtin_inff() : p;
    return x != x ? x : p;
}

#endif
