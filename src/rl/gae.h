/* gae.h - generalised advantage estimates over one environment's column of a fragment.
 *
 * Flags say where a segment ends: TERMINATED (the value beyond is 0), TRUNCATED or CUT (the value
 * beyond is boot[t], the estimate for the observation that came next). Pure, any thread, never
 * blocks. Tests: tests/unit/rl_math_test.c and tests/rl/test_engine.py. */
#ifndef SKATE_RL_GAE_H
#define SKATE_RL_GAE_H

#include <stddef.h>
#include <stdint.h>

enum gae_flag { GAE_TERMINATED = 1, GAE_TRUNCATED = 2, GAE_CUT = 4 };

struct gae_column {
    const float *reward, *value, *boot;
    const uint8_t *flags;
    size_t n;                   /* steps */
    size_t stride;              /* distance between two steps of this column, in items */
};

/* advantage[t * stride] and target[t * stride] (advantage + value) for each t. The last step must
 * end a segment; one that does not is treated as a cut. */
void gae_column(const struct gae_column *c, float gamma, float lambda, float *advantage,
                float *target);

#endif
