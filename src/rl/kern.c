/* kern.c - which table of kernels this CPU gets, and the one random function that is not inline.
 * Any thread; never blocks; asks the CPU each time (a load from libgcc's cached answer).
 * Tests: rl_kern_test.c. */
#include "rl/kern.h"

#include <math.h>

#include "base/assert.h"
#include "rl/rl_rng.h"

const struct kern_table *kern_nth(int i) {
    SKATE_ASSERT(i >= 0);
    SKATE_ASSERT(i < KERN_TABLES);
    if (i == 0)
        return &kern_table_base;
#ifdef __x86_64__
    if (i == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &kern_table_avx2;
    if (i == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return &kern_table_avx512;
#endif
    return NULL;
}

const struct kern_table *kern_get(void) {
    for (int i = KERN_TABLES - 1; i > 0; i--)
        if (kern_nth(i))
            return kern_nth(i);
    return kern_nth(0);
}

double rl_rng_normal(struct rl_rng *r) {
    double u = 1.0 - (double)(rl_rng_next(r) >> 11) * 0x1p-53; /* in (0, 1]: the log is finite */
    double angle = (double)(rl_rng_next(r) >> 11) * 0x1p-53 * 6.283185307179586;

    return sqrt(-2.0 * log(u)) * cos(angle);
}
