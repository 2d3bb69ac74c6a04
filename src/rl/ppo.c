/* ppo.c - see ppo.h: the PPO loss and its gradient, row by row. Called by the learner's threads on
 * tiles; never blocks. Tests: tests/unit/rl_ppo_test.c, tests/rl/test_engine.py. */
#include "rl/ppo.h"

#include <math.h>

#include "rl/dist.h"

/* `logits` is overwritten by the new log probabilities. */
void ppo_policy_tile(const struct ppo_params *p, const struct ppo_batch *b,
                     const uint32_t *index, int rows, float scale, float *logits, float *d,
                     struct ppo_sums *sums) {
    const int n = b->n_actions;

    for (int i = 0; i < rows; i++, logits += n, d += n) {
        size_t row = index[i];
        const float *old = b->old_log_probs + row * (size_t)n;
        float advantage = b->advantage[row], ratio, plain, clipped, entropy = 0.0f, kl = 0.0f;
        float d_logp;

        dist_log_softmax(logits, logits, n);
        ratio = expf(logits[b->action[row]] - b->logp[row]);
        plain = advantage * ratio;
        clipped = ratio < 1.0f - p->clip ? 1.0f - p->clip : ratio;
        clipped = advantage * (clipped > 1.0f + p->clip ? 1.0f + p->clip : clipped);
        /* The clipped branch is flat; inside the range both branches are the same number. */
        d_logp = plain <= clipped ? -plain : 0.0f;
        for (int j = 0; j < n; j++) {
            d[j] = expf(logits[j]);
            entropy -= d[j] * logits[j];
        }
        for (int j = 0; j < n; j++) {
            float prob = d[j], old_prob = expf(old[j]);

            kl += old_prob * (old[j] - logits[j]);
            d[j] = -d_logp * prob + p->kl_coeff * (prob - old_prob) +
                   p->entropy_coeff * prob * (logits[j] + entropy);
        }
        d[b->action[row]] += d_logp;
        for (int j = 0; j < n; j++)
            d[j] *= scale;
        sums->policy_loss -= (double)(plain < clipped ? plain : clipped);
        sums->kl += (double)kl;
        sums->entropy += (double)entropy;
    }
}

void ppo_value_tile(const struct ppo_params *p, const struct ppo_batch *b,
                    const uint32_t *index, int rows, float scale, const float *value, float *d,
                    struct ppo_sums *sums) {
    for (int i = 0; i < rows; i++) {
        size_t row = index[i];
        float v = value[i], old = b->value[row], target = b->target[row];
        float move = v - old, error = v - target, limited, loss, loss_limited;

        move = move > p->vf_clip ? p->vf_clip : move < -p->vf_clip ? -p->vf_clip : move;
        limited = old + move - target;
        loss = error * error;
        loss_limited = p->vf_clip_loss ? p->vf_clip : limited * limited;
        /* Its gradient counts: nothing is cut, or (of the move) the cut one is smaller. */
        if (p->vf_clip_loss ? !(loss > loss_limited) : v - old == move || loss >= loss_limited) {
            d[i] = 2.0f * error * p->vf_coeff * scale;
        } else {
            loss = loss_limited;
            d[i] = 0.0f;
        }
        sums->vf_loss += (double)loss;
        sums->error += (double)error;
        sums->error2 += (double)error * (double)error;
        sums->target += (double)target;
        sums->target2 += (double)target * (double)target;
    }
}

void ppo_sums_add(struct ppo_sums *to, const struct ppo_sums *from) {
    to->policy_loss += from->policy_loss;
    to->kl += from->kl;
    to->entropy += from->entropy;
    to->vf_loss += from->vf_loss;
    to->error += from->error;
    to->error2 += from->error2;
    to->target += from->target;
    to->target2 += from->target2;
}
