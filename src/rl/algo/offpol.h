/* offpol.h - what the off-policy actor-critics share: rows, action units, critics, steps.
 *
 * DDPG, TD3, SAC and TQC differ in their losses; the columns of a batch, the set of critics with
 * its target, the optimisers' options and the way from a loss to new weights are here. Inside,
 * actions of a bounded space are in [-1, 1] (the nets see nothing else); outside they are in the
 * engine's units: the environment's own, or [-1, 1] with the option "normalize_actions".
 * The caller's algorithm owns all of it. No locks, never blocks. Errors: -SKATE_EINVAL with a
 * sentence. Tests: tests/unit/rl_offpol_test.c, tests/rl/test_continuous_math.py. */
#ifndef SKATE_RL_ALGO_OFFPOL_H
#define SKATE_RL_ALGO_OFFPOL_H

#include "rl/algo/algo.h"

enum { OFFPOL_CRITICS_MAX = 8 };

/* ---- the columns of a batch ---- */
struct offpol_rows {
    int n;
    const float *obs, *new_obs, *rewards, *terminateds;
    const float *discounts, *weights;   /* NULL: `discount`, 1 */
    float discount;                     /* gamma to the power of n_step */
    const float *actions;               /* BOX, in the engine's units */
    const int32_t *choices;             /* DISCRETE */
    float *td_errors;                   /* NULL: not wanted */
};

SKATE_NODISCARD int offpol_rows(const struct algo *a, const struct algo_batch *b, float discount,
                                struct offpol_rows *ret, struct skate_error *err);

/* ---- actions ---- */
struct offpol_units {
    int n;
    bool bounded;
    float *mid, *half;                  /* engine's units = mid + half * unit */
};

/* `memory` has 2 * action size floats. -SKATE_EINVAL: a bound is empty. */
SKATE_NODISCARD int offpol_units(const struct algo_setup *s, float *memory,
                                 struct offpol_units *ret, struct skate_error *err);
/* A batch's actions as units on the tape, [rows][n]. */
tvar offpol_unit_actions(struct tape *t, const struct offpol_units *u, const float *actions,
                         int rows);

/* ---- nets ---- */
/* The net of `prefix` "actor" or "critic": <prefix>_hiddens, <prefix>_hidden_activation, else the
 * model's; `out` columns out. `extra`: columns beside the observation. */
SKATE_NODISCARD int offpol_net(const struct algo_setup *s, const char *prefix, int extra, int out,
                               struct net_opts *ret, struct skate_error *err);

struct offpol_critics {
    int n;
    struct net nets[OFFPOL_CRITICS_MAX];
    struct params *p, *target;
};

/* n nets of `opts` in one params and a copy as the target, both sealed and in the base. */
SKATE_NODISCARD int offpol_critics(struct algo *a, int n, const struct net_opts *opts,
                                   struct offpol_critics *ret);
/* Adds the batch's rows to `*rows_since`, a var of the algorithm; true and 0 again when it has come
 * to `freq`: then the targets move. freq 0: every time. */
bool offpol_target_due(double *rows_since, int rows, double freq);
/* The two first vars of an algorithm: rows since the targets moved, and "update_target": until a
 * plan sets it offpol_target_due() decides, then the targets move once each time that it is 1. */
enum { OFFPOL_SINCE, OFFPOL_ASKED };
SKATE_NODISCARD int offpol_target_vars(struct algo *a);
bool offpol_target_now(struct algo *a, int rows, double freq);
/* Optimiser of `p` with the options grad_clip, grad_clip_by and adam_epsilon of the setup. */
SKATE_NODISCARD int offpol_optim(struct algo *a, const struct algo_setup *s, struct params *p,
                                 double lr);

/* ---- losses ---- */
/* reward + discount * (1 - terminated) * value, [n][value's columns], without gradient. */
tvar offpol_target(struct tape *t, const struct offpol_rows *r, tvar value);
/* mean(weight * loss(error)): 0.5 e^2, or Huber's with delta > 0. */
tvar offpol_td_loss(struct tape *t, const struct offpol_rows *r, tvar error, float huber);
/* loss + 0.5 * coeff * the squares of p's kernels; coeff 0: the loss itself. */
tvar offpol_l2(struct tape *t, struct params *p, tvar loss, float coeff);
void offpol_q_stats(const struct tape *t, tvar q, struct algo_stats *st);

/* ---- from gradients to weights ---- */
/* Steps the optimisers of the bits in `which`, or none if a gradient is not finite. */
SKATE_NODISCARD int offpol_step(struct algo *a, unsigned which, struct skate_error *err);

/* ---- draws ---- */
struct offpol_scratch {
    float *p;
    size_t n;
};

/* At least n floats, kept until offpol_scratch_free(); NULL: no memory. */
float *offpol_scratch(struct offpol_scratch *s, size_t n);
void offpol_scratch_free(struct offpol_scratch *s);
/* A [rows][cols] constant of standard normal draws, from the batch's column `name` if it is there
 * (tests give their own draws), else from the algorithm's stream. */
tvar offpol_noise(struct algo *a, const struct algo_batch *b, const char *name, int cols,
                  struct offpol_scratch *s);

#endif
