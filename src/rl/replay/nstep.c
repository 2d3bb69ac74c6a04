/* nstep.c - see nstep.h. */
#include "rl/replay/nstep.h"

void nstep_lane(const struct nstep_lane *lane, int n, float gamma) {
    size_t stride = lane->stride;

    /* Forwards: step t reads rewards t to t + n - 1 only, so returns may overwrite rewards. */
    for (size_t t = 0; t < lane->steps; t++) {
        float sum = 0.0f, factor = 1.0f;
        size_t k = t;

        for (;; k++) {
            sum += factor * lane->rewards[k * stride];
            factor *= gamma;
            if (lane->ends[k * stride] || k + 1 == lane->steps || k + 1 - t >= (size_t)n)
                break;
        }
        lane->returns[t * stride] = sum;
        lane->discounts[t * stride] = factor;
        lane->last[t * stride] = (uint32_t)k;
    }
}
