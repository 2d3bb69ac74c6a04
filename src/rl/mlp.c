/* mlp.c - see mlp.h. Layout, start values, forward pass. The backward pass belongs to the learner
 * (learner_step.c), which fuses it with the optimiser slab by slab. */
#include "rl/mlp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static size_t round_16(size_t n) {
    return (n + 15) & ~(size_t)15;
}

float *mlp_alloc(size_t n) {
    void *p = NULL;

    if (n == 0)
        n = 1;
    if (posix_memalign(&p, 64, n * sizeof(float)) != 0)
        return NULL;
    memset(p, 0, n * sizeof(float));
    return p;
}

int mlp_init(struct mlp *net, const int *dims, int n_layers, enum kern_act act) {
    size_t at = 0;

    SKATE_ASSERT(net);
    SKATE_ASSERT(dims);
    if (n_layers < 1 || n_layers > MLP_LAYERS_MAX || (int)act < 0 || act >= KERN_ACT_MAX)
        return -SKATE_EINVAL;
    for (int l = 0; l <= n_layers; l++)
        if (dims[l] < 1 || dims[l] > MLP_DIM_MAX)
            return -SKATE_EINVAL;

    *net = (struct mlp){ .n_layers = n_layers, .act = act, .kern = kern_get() };
    memcpy(net->dims, dims, sizeof(int) * ((size_t)n_layers + 1));
    for (int l = 0; l < n_layers; l++) {
        size_t weights = (size_t)dims[l] * (size_t)dims[l + 1];

        net->w_off[l] = at;
        at += round_16(weights);
        net->b_off[l] = at;
        at += round_16((size_t)dims[l + 1]);
        net->n_params += weights + (size_t)dims[l + 1];
    }
    net->n_padded = at;
    net->params = mlp_alloc(at);
    return net->params ? 0 : -SKATE_ENOMEM;
}

void mlp_release(struct mlp *net) {
    free(net->params);
    net->params = NULL;
}

void mlp_randomise(struct mlp *net, float out_scale, struct rl_rng *rng) {
    for (int l = 0; l < net->n_layers; l++) {
        int in = net->dims[l], out = net->dims[l + 1];
        float *w = net->params + net->w_off[l];
        double scale = l == net->n_layers - 1 ? (double)out_scale : 1.0;

        for (int o = 0; o < out; o++) {
            double square = 0.0;

            for (int i = 0; i < in; i++) {
                double x = rl_rng_normal(rng);

                square += x * x;
                w[(size_t)i * (size_t)out + (size_t)o] = (float)x;
            }
            square = square > 0.0 ? scale / sqrt(square) : 0.0;
            for (int i = 0; i < in; i++)
                w[(size_t)i * (size_t)out + (size_t)o] *= (float)square;
        }
        memset(net->params + net->b_off[l], 0, (size_t)out * sizeof(float));
    }
}

void mlp_pack_block(const struct mlp *net, const float *block, float *flat) {
    for (int l = 0; l < net->n_layers; l++) {
        size_t weights = (size_t)net->dims[l] * (size_t)net->dims[l + 1];
        size_t biases = (size_t)net->dims[l + 1];

        memcpy(flat, block + net->w_off[l], weights * sizeof(float));
        memcpy(flat + weights, block + net->b_off[l], biases * sizeof(float));
        flat += weights + biases;
    }
}

void mlp_unpack_block(const struct mlp *net, const float *flat, float *block) {
    for (int l = 0; l < net->n_layers; l++) {
        size_t weights = (size_t)net->dims[l] * (size_t)net->dims[l + 1];
        size_t biases = (size_t)net->dims[l + 1];

        memcpy(block + net->w_off[l], flat, weights * sizeof(float));
        memcpy(block + net->b_off[l], flat + weights, biases * sizeof(float));
        flat += weights + biases;
    }
}

void mlp_pack(const struct mlp *net, float *flat) {
    mlp_pack_block(net, net->params, flat);
}

void mlp_unpack(struct mlp *net, const float *flat) {
    mlp_unpack_block(net, flat, net->params);
}

int mlp_tile_init(struct mlp_tile *tile, const struct mlp *net, int rows) {
    SKATE_ASSERT(tile);
    SKATE_ASSERT(rows > 0);
    tile->rows = rows;
    for (int l = 0; l < net->n_layers; l++) {
        int in = net->dims[l], out = net->dims[l + 1], r;

        /* Row-major Y = X W is column-major Y' = W' X': no transpose anywhere. */
        tile->fwd[l] = (struct gemm_plan){
            .m = out, .n = rows, .k = in, .lda = out, .ldb = in, .ldc = out };
        r = gemm_plan_init(&tile->fwd[l]);
        if (r < 0)
            return r;
    }
    return 0;
}

void mlp_forward(const struct mlp *net, const struct mlp_tile *tile, const float *x,
                 float *const *h) {
    for (int l = 0; l < net->n_layers; l++) {
        enum kern_act act = l == net->n_layers - 1 ? KERN_LINEAR : net->act;

        gemm_f32(&tile->fwd[l], net->params + net->w_off[l], x, h[l]);
        net->kern->bias_act(h[l], net->params + net->b_off[l], tile->rows, net->dims[l + 1],
                            act);
        x = h[l];
    }
}
