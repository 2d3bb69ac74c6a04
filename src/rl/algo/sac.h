/* sac.h - soft actor-critic inside: for algo_sac.c, algo_tqc.c and what builds on them.
 *
 * Not for users of the engine. Optimisers: 0 the actor, 1 the critics, 2 the temperature.
 * One owner, no locks. Tests: tests/unit/rl_offpol_test.c. */
#ifndef SKATE_RL_ALGO_SAC_H
#define SKATE_RL_ALGO_SAC_H

#include "rl/algo/offpol.h"
#include "rl/algo/squash.h"

enum { SAC_VAR_SINCE = OFFPOL_SINCE };
enum { SAC_ACTOR = 1u, SAC_CRITIC = 2u, SAC_ALPHA = 4u, SAC_ALL = 7u };

struct sac {
    bool discrete;
    struct squash dist;
    struct offpol_units units;
    struct net pi;
    struct params *actor, *temperature;
    struct offpol_critics q;
    struct offpol_scratch scratch, quantiles;
    float discount, huber, tau, target_entropy;
    double target_freq;
    bool fixed_alpha;
    int cell_size;                      /* RNNSAC; 0: no LSTM */
    int n_quantiles, n_drop;            /* TQC; 0: a critic says one number */
    bool sum_quantiles;
    float memory[];                     /* of units */
};

/* A batch's part of the tape: what the losses of one update share. */
struct sac_step {
    struct offpol_rows r;
    const struct algo_batch *b;
    struct algo_stats *st;
    tvar obs, new_obs, alpha;           /* alpha: 1 x 1, no gradient */
    tvar action, logp;                  /* in obs, of the actor as it is; BOX */
    tvar new_action, new_logp;          /* in new_obs, no gradient; BOX */
    tvar log_pi, new_log_pi;            /* DISCRETE */
};

/* make(), with `quantiles` numbers a critic (0: one). */
SKATE_NODISCARD int sac_make(struct algo *a, const struct algo_setup *s, int quantiles,
                             struct skate_error *err);
/* The same with an LSTM of cell_size behind the hidden layers of every net (0: none). */
SKATE_NODISCARD int sac_make_with(struct algo *a, const struct algo_setup *s, int quantiles,
                                  int cell_size, struct skate_error *err);
void sac_close(struct algo *a);
int sac_act(struct algo *a, const struct algo_act *io, struct skate_error *err);
/* Observations, draws and log probabilities of a batch, on the tape. */
SKATE_NODISCARD int sac_begin(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                              struct sac_step *ret, struct skate_error *err);
/* (state, action) of a row for a critic; `action` in units. */
tvar sac_pair(struct algo *a, tvar obs, tvar action);
/* mean(log alpha * -(logp + target entropy)), and its stats. */
tvar sac_alpha_loss(struct algo *a, const struct sac_step *s);
/* Optimisers and targets after a backward pass. */
SKATE_NODISCARD int sac_update(struct algo *a, int rows, struct skate_error *err);
int sac_apply(struct algo *a, const float *flat, struct skate_error *err);

/* algo_tqc.c: the loss of the quantile critics, and the actor's value of its own action. */
tvar tqc_critic_loss(struct algo *a, struct sac_step *s);
tvar tqc_actor_value(struct algo *a, const struct sac_step *s);

/* The whole loss of a batch: gradients are in the params afterwards. */
SKATE_NODISCARD int sac_losses(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                               struct skate_error *err);
int sac_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
              struct skate_error *err);
int sac_gradient(struct algo *a, const struct algo_batch *b, float *flat, struct algo_stats *st,
                 struct skate_error *err);

#endif
