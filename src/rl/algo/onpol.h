/* onpol.h - what the on-policy algorithms share: an actor and a critic over plain, image and
 * recurrent nets, rows of a batch in the order that the nets want, advantages.
 *
 * Actor and critic are two nets, or heads on one body if the option vf_share_layers or use_lstm is
 * on. With an LSTM rows are put step by step (all sequences' first steps, then their second ...),
 * so that each step is one product; a sequence may go over the end of an episode, where the state
 * is set to 0 as the worker does. Options read here: RLlib's model keys, free_log_std, ortho_init.
 * One owner, no locks, never blocks. Tests: tests/unit/rl_algo_test.c, tests/rl/. */
#ifndef SKATE_RL_ALGO_ONPOL_H
#define SKATE_RL_ALGO_ONPOL_H

#include "rl/algo/algo.h"

enum { ONPOL_SLOTS = 96 };

struct onpol {                  /* first in an algorithm's own; freed by onpol_close() */
    struct params *p;
    struct net body, pi, vf;    /* body: only if something is shared */
    bool shared, critic;
    int cell, lstm_w, lstm_b;   /* cell 0: no LSTM */
    int log_std;                /* tensor of the free log std, or -1 */
    int features;               /* columns that the heads read */
    struct onpol_slot {
        void *p;
        size_t bytes;
    } slots[ONPOL_SLOTS];       /* memory of one learn(), kept for the next */
    int n_slots;
};

/* Some rows of a batch in the order of the nets. */
struct onpol_rows {
    const struct algo_batch *b;
    int rows, steps, seqs;      /* steps 1 without an LSTM */
    const uint32_t *index;      /* of each row in the batch; NULL: all, as they are */
    const uint32_t *seq_index;  /* of each sequence; with an LSTM */
};

struct onpol_out {
    tvar inputs, value;         /* [rows][n_inputs], [rows][1]; value TAPE_BAD without a critic */
    tvar *states;               /* with an LSTM: after each step */
};

struct onpol_gae {
    float gamma, lambda;
    bool use_gae, use_critic;   /* without a critic advantages are returns, cut off at 0 */
};

/* Adds the nets to a new params of `a` (not sealed yet). */
SKATE_NODISCARD int onpol_init(struct algo *a, struct onpol *o, const struct algo_setup *s,
                               bool critic, struct skate_error *err);
void onpol_close(struct algo *a);
int onpol_act(struct algo *a, const struct algo_act *io, struct skate_error *err);

/* The one optimiser, by lr, grad_clip, adam_epsilon, opt_type, decay, momentum, epsilon. */
SKATE_NODISCARD int onpol_optim(struct algo *a, struct onpol *o, const struct algo_setup *s,
                                double lr, struct skate_error *err);

/* A params of the same tensors as `o->p`, with its values: a target net. NULL: no memory. */
struct params *onpol_twin(struct algo *a, const struct onpol *o);
/* RLlib's adapted coefficient: times 1.5 above twice the target, halved below half of it. */
double onpol_adapt_kl(double coeff, double kl, double target);

/* Gradients of a loss into the params; a step by them; a step by others' (algo_api.apply). */
SKATE_NODISCARD int onpol_backward(struct algo *a, tvar loss, struct skate_error *err);
SKATE_NODISCARD int onpol_step(struct algo *a, struct skate_error *err);
int onpol_apply(struct algo *a, const float *flat, struct skate_error *err);
/* 1 - var(target - value) / var(target) over the rows where mask is not 0 (NULL: all). */
double onpol_explained(const float *value, const float *target, const float *mask, int n);

/* Memory until onpol_reset(); NULL: none, or too many pieces. */
void *onpol_room(struct onpol *o, size_t bytes);
void onpol_reset(struct onpol *o);

/* All rows of a batch. */
SKATE_NODISCARD int onpol_all(struct onpol *o, const struct algo_batch *b, struct onpol_rows *v,
                              struct skate_error *err);
/* Rows (without an LSTM) or sequences number pick[0..n) of the batch. */
SKATE_NODISCARD int onpol_pick(struct onpol *o, const struct algo_batch *b, const uint32_t *pick,
                               int n, struct onpol_rows *v);
/* A column's rows in the view's order; NULL with a sentence. */
const float *onpol_f32(struct onpol *o, const struct onpol_rows *v, const char *name, int width,
                       struct skate_error *err);
const void *onpol_actions(struct algo *a, struct onpol *o, const struct onpol_rows *v,
                          struct skate_error *err);
/* The column "mask" in the view's order, ones if there is none; `valid`: how many are not 0. */
const float *onpol_mask(struct onpol *o, const struct onpol_rows *v, double *valid,
                        struct skate_error *err);
/* `x` has one number a batch row; the view's rows of it. NULL: no memory. */
const float *onpol_order(struct onpol *o, const struct onpol_rows *v, const float *x, int width);

/* Forward pass over a view. `p`: another params of the same nets (a target), frozen; or NULL.
 * The errors are the tape's. */
SKATE_NODISCARD int onpol_forward(struct algo *a, struct onpol *o, const struct onpol_rows *v,
                                  const struct params *p, bool frozen, struct onpol_out *out,
                                  struct skate_error *err);

/* Where a segment of the batch ends (GAE_TERMINATED, TRUNCATED, CUT flags, in batch order): where
 * an episode does, before padding, and where the column "cuts" says so (without it: at the end of
 * each sequence). And the value of what comes after each row that ends one without terminating.
 * Both [rows], or NULL with a sentence. onpol_boot() resets the tape. */
const uint8_t *onpol_flags(struct onpol *o, const struct algo_batch *b, struct skate_error *err);
const float *onpol_boot(struct algo *a, struct onpol *o, const struct algo_batch *b,
                        const uint8_t *flags, struct skate_error *err);
/* The batch's columns "advantages" and "value_targets", or what they would be: [rows] each. */
SKATE_NODISCARD int onpol_advantages(struct algo *a, struct onpol *o, const struct algo_batch *b,
                                     const struct onpol_gae *g, const float **advantages,
                                     const float **targets, struct skate_error *err);

#endif
