/* dist.c - see dist.h: the categorical distribution. Any thread; never blocks.
 * Tests: tests/unit/rl_math_test.c. */
#include "rl/dist.h"

#include <math.h>

void dist_log_softmax(const float *logits, float *out, int n) {
    float top = logits[0], sum = 0.0f;

    for (int i = 1; i < n; i++)
        top = logits[i] > top ? logits[i] : top;
    for (int i = 0; i < n; i++)
        sum += expf(logits[i] - top);
    sum = logf(sum);
    for (int i = 0; i < n; i++)
        out[i] = logits[i] - top - sum;
}

int dist_sample(const float *log_probs, int n, struct rl_rng *rng) {
    float u = rl_rng_float(rng), sum = 0.0f;

    for (int i = 0; i < n - 1; i++) {
        sum += expf(log_probs[i]);
        if (u < sum)
            return i;
    }
    return n - 1;
}

int dist_argmax(const float *logits, int n) {
    int best = 0;

    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

float dist_entropy(const float *log_probs, int n) {
    float sum = 0.0f;

    for (int i = 0; i < n; i++)
        sum -= expf(log_probs[i]) * log_probs[i];
    return sum;
}

float dist_kl(const float *log_p, const float *log_q, int n) {
    float sum = 0.0f;

    for (int i = 0; i < n; i++)
        sum += expf(log_p[i]) * (log_p[i] - log_q[i]);
    return sum;
}
