/* vtrace.c - see vtrace.h. Runs on the learner's thread; never blocks.
 * Tests: tests/unit/rl_vtrace_test.c, tests/rl/test_on_policy_math.py. */
#include "rl/vtrace.h"

#include <math.h>

#include "rl/gae.h"

static double limited(double weight, float max) {
    return max > 0.0f && weight > (double)max ? (double)max : weight;
}

void vtrace(const struct vtrace_column *c, const struct vtrace_opts *o, float *vs,
            float *advantage) {
    /* Of the step after: its value, its target, and how far apart they are. */
    double next = 0.0, next_vs = 0.0, gap = 0.0, gamma = (double)o->gamma;

    for (size_t t = c->n; t-- > 0;) {
        double value = (double)c->value[t], reward = (double)c->reward[t];
        double weight = exp(fmin((double)c->logp[t] - (double)c->old_logp[t], 20.0));

        if (c->flags[t] & GAE_TERMINATED) {
            next = next_vs = gap = 0.0;
        } else if (c->flags[t] || t == c->n - 1) {
            next = next_vs = (double)c->boot[t];
            gap = 0.0;
        }
        advantage[t] = (float)(limited(weight, o->pg_rho_max) *
                               (reward + gamma * next_vs - value));
        gap = limited(weight, o->rho_max) * (reward + gamma * next - value) +
              gamma * fmin(weight, 1.0) * gap;
        next = value;
        next_vs = value + gap;
        vs[t] = (float)next_vs;
    }
}
