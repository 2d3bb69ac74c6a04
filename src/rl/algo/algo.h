/* algo.h - an algorithm as the engine sees it: nets, how it acts, how it learns from a batch.
 *
 * One `struct algo_api` per algorithm (algo_list.c names them), 50 to 300 lines each: make() adds
 * nets and optimisers to the base, act() answers observations, learn() makes one update from the
 * columns of a batch. Everything that a checkpoint or another worker needs is in the base: params,
 * optimisers, vars, rng. What decides WHEN to sample, store and learn is not here: python/skate/
 * rllib's plans call this through python/ext_rl.
 *
 * Columns are matrices of `rows` rows; for sequences rows = sequences x steps, a sequence's steps
 * one after the other, and "state_in" has one row a sequence. The usual names:
 *   obs, new_obs        f32 [rows][obs size]
 *   actions             i32 [rows] (DISCRETE), i32 [rows][parts] (MULTI), f32 [rows][size] (BOX)
 *   rewards             f32 [rows]
 *   terminateds, truncateds     f32 [rows], 0 or 1
 *   discounts           f32 [rows]: gamma^n before the bootstrap (n-step); else gamma is used
 *   weights             f32 [rows]: importance weights of prioritised replay; missing: 1
 *   td_errors           f32 [rows], written by learn() if it is there
 *   logp, vf, inputs    f32 [rows], [rows], [rows][n_inputs]: what act() said
 *   advantages, value_targets   f32 [rows]
 *   mask                f32 [rows]: 0 for padding of a sequence
 *   state_in            f32 [sequences][state size]
 *
 * Errors: -SKATE_EINVAL with a sentence that names the field: a column is missing or of another
 * shape, a number is not finite, the net has diverged (then the sentence has that word). After a
 * failed learn() the parameters are as before unless the sentence says otherwise. One owner at a
 * time, no locks, never blocks. Same setup, same calls: same bytes.
 * Tests: tests/unit/rl_algo_test.c, tests/rl/. */
#ifndef SKATE_RL_ALGO_ALGO_H
#define SKATE_RL_ALGO_ALGO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "rl/nn/nets.h"
#include "rl/nn/optim.h"
#include "rl/nn/tape.h"
#include "rl/rl_rng.h"

enum { ALGO_PARAMS_MAX = 16, ALGO_OPTIMS_MAX = 12, ALGO_STATS_MAX = 48, ALGO_VARS = 16,
       ALGO_COLS_MAX = 32 };
#define ALGO_MASKED (-1e9f)     /* the logit of a forbidden action */

/* ---- set-up ---- */
enum algo_space_kind { ALGO_BOX, ALGO_DISCRETE, ALGO_MULTI };

struct algo_space {
    enum algo_space_kind kind;
    int size;                   /* BOX: numbers; DISCRETE: n; MULTI: parts */
    int image[3];               /* BOX of three dimensions: height, width, channels; else 0 */
    const int *sizes;           /* MULTI: of each part */
    const float *low, *high;    /* BOX: of each number; may be infinite; NULL: unknown */
};

struct algo_option {            /* a number (flags are 0 and 1), a list or a text */
    const char *key, *text;     /* text NULL: number or list */
    const double *list;         /* n >= 0 numbers; a single number has n = 1 and is no list */
    int n;
    bool is_list, used;
};

struct algo_setup {
    struct algo_space obs, action;
    struct algo_option *options;
    int n_options;
    uint64_t seed;
};

/* An option's value, or the default when it is missing; marks it as used. */
double algo_num(const struct algo_setup *s, const char *key, double missing);
bool algo_flag(const struct algo_setup *s, const char *key, bool missing);
const char *algo_text(const struct algo_setup *s, const char *key, const char *missing);
/* Up to `max` integers into `ret`; how many, or -1 if the option is missing. */
int algo_ints(const struct algo_setup *s, const char *key, int *ret, int max);
/* fcnet_hiddens, fcnet_activation, conv_filters, ... of the options into `o`, and the input's
 * shape from s->obs; `out` columns out. -SKATE_EINVAL. */
SKATE_NODISCARD int algo_net_opts(const struct algo_setup *s, int out, struct net_opts *o,
                                  struct skate_error *err);
/* Columns of the distribution's inputs for the action space: n, sum of sizes, or 2 * size. */
int algo_n_inputs(const struct algo_space *action);

/* ---- acting ---- */
struct algo_act {
    int n;
    const float *obs;           /* [n][obs size] */
    const float *mask;          /* [n][n of DISCRETE]: 0 forbids the action; or NULL */
    float *state;               /* [n][state size], changed in place; NULL if there is none */
    bool explore;
    float epsilon;              /* of epsilon-greedy: value-based algorithms */
    float noise;                /* standard deviation of Gaussian noise: deterministic policies */
    void *actions;              /* out: as the column "actions" */
    float *logp, *vf, *inputs;  /* out, each NULL if not wanted */
};

/* ---- learning ---- */
enum algo_dtype { ALGO_F32, ALGO_I32, ALGO_U8 };

struct algo_col {
    const char *name;
    enum algo_dtype dtype;
    int width;                  /* numbers in a row */
    int rows;
    void *p;
    bool writable;
};

struct algo_batch {
    int rows, steps;            /* steps > 1: sequences of that length */
    int n_cols;
    struct algo_col cols[ALGO_COLS_MAX];
};

/* A column of `rows` rows; NULL and a sentence in `err` if it is missing or of another shape. */
const float *algo_f32(const struct algo_batch *b, const char *name, int width,
                      struct skate_error *err);
const int32_t *algo_i32(const struct algo_batch *b, const char *name, int width,
                        struct skate_error *err);
/* The same, NULL without a word if it is missing. */
const struct algo_col *algo_col(const struct algo_batch *b, const char *name);

struct algo_stats {
    int n;
    const char *names[ALGO_STATS_MAX];  /* of static storage */
    double values[ALGO_STATS_MAX];
};
void algo_stat(struct algo_stats *st, const char *name, double value);

/* ---- the algorithm ---- */
struct algo;

struct algo_api {
    const char *name;
    /* Adds nets and optimisers; what it allocates itself hangs on a->own. */
    int (*make)(struct algo *a, const struct algo_setup *s, struct skate_error *err);
    void (*close)(struct algo *a);      /* frees a->own; NULL: free() does */
    int (*act)(struct algo *a, const struct algo_act *io, struct skate_error *err);
    int (*learn)(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err);
    /* Optional: the gradient of the loss instead of a step, flat over all trained params, in the
     * order of a->params (for tests and for A3C). */
    int (*gradient)(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err);
    /* Optional: steps the optimisers by such a gradient. */
    int (*apply)(struct algo *a, const float *flat, struct skate_error *err);
};

struct algo {                   /* base; freed by algo_free() with all that it lists */
    const struct algo_api *api;
    struct algo_space obs, action;      /* copied, with what they point at */
    struct tape *tape;
    struct rl_rng rng;
    int n_params, n_acting;     /* the first n_acting params are what a worker needs to act */
    struct params *params[ALGO_PARAMS_MAX];
    int n_optims;
    struct optim optims[ALGO_OPTIMS_MAX];
    int state_size;             /* of a recurrent net; 0: none */
    int n_inputs;
    double vars[ALGO_VARS];     /* what else a checkpoint keeps: coefficients, counters */
    const char *var_names[ALGO_VARS];   /* those that algo_set() can change; else NULL */
    int n_vars;                 /* given out by algo_var() */
    uint64_t version;           /* counts updates */
    void *own;
};

/* NULL: no algorithm of that name. */
const struct algo_api *algo_find(const char *name);
const struct algo_api *algo_nth(int i);         /* NULL after the last */

/* -SKATE_EINVAL with a sentence (an option that nobody used, a space it cannot have),
 * -SKATE_ENOMEM. */
SKATE_NODISCARD int algo_new(const char *name, const struct algo_setup *s, struct algo **ret,
                             struct skate_error *err);
struct algo *algo_free(struct algo *a);
SKATE_NODISCARD int algo_act(struct algo *a, const struct algo_act *io, struct skate_error *err);
SKATE_NODISCARD int algo_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                               struct skate_error *err);

/* The gradient of one batch, and a step by such a gradient: flat over the params that have an
 * optimiser, in the order of a->params. -SKATE_EINVAL also if the algorithm has none. */
size_t algo_n_gradient(const struct algo *a);
SKATE_NODISCARD int algo_gradient(struct algo *a, const struct algo_batch *b, float *flat,
                                  struct algo_stats *st, struct skate_error *err);
SKATE_NODISCARD int algo_apply(struct algo *a, const float *flat, struct skate_error *err);
/* For gradient() and apply(): the gradients out of the params, and into them. */
void algo_pull_grads(const struct algo *a, float *flat);
void algo_push_grads(struct algo *a, const float *flat);

/* Whether an error says that the net has diverged, which is no mistake of the caller. */
bool algo_diverged(const struct skate_error *err);

/* For make(): a new params in the base (acting ones first), and an optimiser of one. */
struct params *algo_params(struct algo *a, bool acting);
SKATE_NODISCARD int algo_optim(struct algo *a, struct params *p, const struct optim_opts *opts);
/* The next of a->vars under a name of static storage; its number, or -SKATE_EINVAL (full). */
int algo_var(struct algo *a, const char *name, double value);
/* Between updates (schedules): "lr" sets every optimiser, else the variable of that name.
 * -SKATE_EINVAL with a sentence: no such name, not a finite number. */
SKATE_NODISCARD int algo_set(struct algo *a, const char *key, double value,
                             struct skate_error *err);

/* What workers get: the acting params, flat. */
size_t algo_n_weights(const struct algo *a);
void algo_get_weights(const struct algo *a, float *flat);
void algo_set_weights(struct algo *a, const float *flat, uint64_t version);
/* Everything, for a checkpoint that goes on as if nothing had been. */
size_t algo_state_bytes(const struct algo *a);
void algo_get_state(const struct algo *a, void *block);
SKATE_NODISCARD int algo_set_state(struct algo *a, const void *block, size_t bytes);

/* Draw from, or take the best of, distribution inputs of the action space: categorical,
 * multi-categorical, diagonal Gaussian (mean, log std). `logp` may be NULL. -SKATE_EINVAL: an
 * input is not finite. */
SKATE_NODISCARD int algo_draw(struct algo *a, const float *inputs, const struct algo_act *io,
                              struct skate_error *err);
/* The same on the tape: log probability [n,1] of actions, entropy [n,1], KL(old || new) [n,1]. */
tvar algo_logp(struct algo *a, tvar inputs, const void *actions);
tvar algo_entropy(struct algo *a, tvar inputs);
tvar algo_kl(struct algo *a, tvar old_inputs, tvar new_inputs);
/* Logits with those of forbidden actions pushed down to ALGO_MASKED; `mask` [n][n of DISCRETE]. */
tvar algo_mask(struct algo *a, tvar inputs, const float *mask);

#endif
