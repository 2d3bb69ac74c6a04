/* learner_int.h - what learner.c (batch, options, state) and learner_step.c (the epochs on the
 * threads) share; nobody else includes it.
 *
 * A trunk is one net with all that is needed to train it on minibatches of `rows` rows. A gang is
 * a set of threads that trains one trunk, or both. */
#ifndef SKATE_RL_LEARNER_INT_H
#define SKATE_RL_LEARNER_INT_H

#include "rl/learner.h"
#include "rl/ppo.h"
#include "rl/team.h"

enum {
    TILE_ROWS = 32,             /* rows of one forward and backward task */
    SLAB_ROWS = 64,             /* input rows of one gradient and Adam task */
    WT_PAD = 16,                /* floats; an odd stride in cache lines for the transposed copy */
};

struct trunk {
    struct mlp *net;            /* borrowed from the policy */
    int is_value;
    int rows, n_tiles, n_slabs; /* of a minibatch; slabs of all layers */
    struct mlp_tile tile, last_tile;
    struct gemm_plan back[MLP_LAYERS_MAX], last_back[MLP_LAYERS_MAX];
    struct gemm_plan grad[MLP_LAYERS_MAX], last_grad[MLP_LAYERS_MAX];
    float *x;                   /* [rows][obs_dim]: the gathered observations */
    float *h[MLP_LAYERS_MAX];   /* [rows][dims[l + 1]]: activations */
    float *d[MLP_LAYERS_MAX];   /* the same shape: gradients at them */
    float *wt[MLP_LAYERS_MAX];  /* W transposed, [out][in + WT_PAD]; none for layer 0 */
    float *m, *v, *gradient;    /* as net->params */
    double *slab_norm2;         /* [n_slabs]: squared norm of each slab's gradient */
    struct ppo_sums *tile_sums; /* [n_tiles] of the minibatch under way */
    struct ppo_sums sums;       /* of the update */
    struct ppo_sums last;       /* of its latest minibatch */
    double explained_var;       /* sum over minibatches */
};

struct gang {
    struct trunk *trunks[2];
    int n_trunks;
    struct team_barrier barrier;
};

struct learner {
    struct policy *policy;
    struct learner_opts opts;
    struct team *team;
    struct trunk trunks[2];     /* policy, value */
    struct gang gangs[2];
    int n_gangs;
    struct ppo_params params;   /* of the update under way */
    struct ppo_batch batch;
    size_t batch_max;           /* rows allocated */
    uint32_t *order[TEAM_MAX];  /* per thread and gang: the epoch's permutation */
    uint64_t adam_steps, updates;
    int gradient_only;
};

/* Make trunk ready for minibatches of `rows` rows. -SKATE_ENOMEM, -SKATE_EINVAL. */
SKATE_NODISCARD int learner_trunk_prepare(struct trunk *t, int rows);
void learner_trunk_release(struct trunk *t);

/* Body of one thread for one update (team_run's fn; arg is the learner). */
void learner_thread(void *arg, int rank);

/* Minibatches of so many epochs over the batch. */
static inline size_t learner_minibatches(const struct learner *l, size_t epochs) {
    size_t rows = (size_t)l->trunks[0].rows, n = l->batch.n;

    if (l->opts.wrap)
        return (epochs * n + rows - 1) / rows;
    return epochs * (n / rows > 0 ? n / rows : 1);
}

#endif
