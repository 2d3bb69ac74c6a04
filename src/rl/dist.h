/* dist.h - the categorical distribution over actions, from logits.
 *
 * Scalar and in a fixed order, for `n` logits at a time: it is a few per cent of the work.
 * Pure functions, any thread, never block. Tests: tests/unit/rl_math_test.c. */
#ifndef SKATE_RL_DIST_H
#define SKATE_RL_DIST_H

#include "rl/rl_rng.h"

/* out[i] = log softmax(logits)[i]; in place is fine. */
void dist_log_softmax(const float *logits, float *out, int n);
/* Draw an index by one uniform number; log_probs as dist_log_softmax gives them. */
int dist_sample(const float *log_probs, int n, struct rl_rng *rng);
/* The most probable index, the first of equals. */
int dist_argmax(const float *logits, int n);
/* -sum p log p */
float dist_entropy(const float *log_probs, int n);
/* KL(p || q) of two sets of log probabilities. */
float dist_kl(const float *log_p, const float *log_q, int n);

#endif
