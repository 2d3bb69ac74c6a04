/* mlp.h - a fully connected net: shape, parameters, forward, backward, one tile of rows at a time.
 *
 * Layer l maps dims[l] to dims[l + 1]; all but the last have the activation. Parameters live in one
 * aligned block, W[in][out] then b[out] for each layer, every part starting on 64 bytes;
 * mlp_pack/mlp_unpack copy them to and from the canonical flat form (no padding).
 * A tile holds at most `rows` samples; its GEMM plans are made once (struct mlp_tile). Rows are
 * independent: results do not depend on who computes which tile. No locks: a net that several
 * threads read must not change meanwhile. Never blocks. Tests: tests/unit/rl_mlp_test.c. */
#ifndef SKATE_RL_MLP_H
#define SKATE_RL_MLP_H

#include <stddef.h>

#include "base/err.h"
#include "rl/gemm.h"
#include "rl/kern.h"
#include "rl/rl_rng.h"

enum {
    MLP_LAYERS_MAX = 8,         /* output layer included */
    MLP_DIM_MAX = 65536,        /* widest layer or observation */
};

struct mlp {
    int n_layers;
    int dims[MLP_LAYERS_MAX + 1];
    enum kern_act act;
    const struct kern_table *kern;
    size_t w_off[MLP_LAYERS_MAX], b_off[MLP_LAYERS_MAX];   /* floats into params */
    size_t n_padded;            /* floats in params */
    size_t n_params;            /* without padding */
    float *params;              /* owned, 64-byte aligned */
};

/* Forward plans for tiles of exactly `rows` rows. */
struct mlp_tile {
    int rows;
    struct gemm_plan fwd[MLP_LAYERS_MAX];
};

/* `dims` has n_layers + 1 entries; parameters start at zero. -SKATE_EINVAL, -SKATE_ENOMEM. */
SKATE_NODISCARD int mlp_init(struct mlp *net, const int *dims, int n_layers, enum kern_act act);
void mlp_release(struct mlp *net);

/* RLlib's start: each unit's incoming weights are a random direction of length 1, in the last
 * layer of length `out_scale`; biases are 0. */
void mlp_randomise(struct mlp *net, float out_scale, struct rl_rng *rng);

/* Between params and the canonical flat form of n_params floats. */
void mlp_pack(const struct mlp *net, float *flat);
void mlp_unpack(struct mlp *net, const float *flat);

/* Copy one padded block (gradients, moments) to the canonical form. */
void mlp_pack_block(const struct mlp *net, const float *block, float *flat);
void mlp_unpack_block(const struct mlp *net, const float *flat, float *block);

SKATE_NODISCARD int mlp_tile_init(struct mlp_tile *tile, const struct mlp *net, int rows);

/* x[rows][dims[0]] -> h[l][rows][dims[l + 1]] for each layer l; h[n_layers - 1] is the output. */
void mlp_forward(const struct mlp *net, const struct mlp_tile *tile, const float *x,
                 float *const *h);

/* A zeroed block of n floats on 64 bytes, or NULL; free() releases it. */
float *mlp_alloc(size_t n);

#endif
