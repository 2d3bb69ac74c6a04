/* gae.c - see gae.h. Runs on the learner's thread before the epochs; never blocks.
 * Tests: tests/unit/rl_math_test.c, tests/rl/test_engine.py. */
#include "rl/gae.h"

void gae_column(const struct gae_column *c, float gamma, float lambda, float *advantage,
                float *target) {
    double running = 0.0, next = 0.0;

    for (size_t t = c->n; t-- > 0;) {
        size_t i = t * c->stride;
        uint8_t flags = c->flags[i];

        if (flags & GAE_TERMINATED) {
            running = next = 0.0;
        } else if ((flags & (GAE_TRUNCATED | GAE_CUT)) || t == c->n - 1) {
            running = 0.0;
            next = (double)c->boot[i];
        }
        running = (double)c->reward[i] + (double)gamma * next - (double)c->value[i] +
                  (double)gamma * (double)lambda * running;
        next = (double)c->value[i];
        advantage[i] = (float)running;
        target[i] = (float)(running + (double)c->value[i]);
    }
}
