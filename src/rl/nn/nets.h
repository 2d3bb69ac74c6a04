/* nets.h - nets by description on the tape: a body (dense, convolutions, recurrent) and heads.
 *
 * net_add() adds the tensors of a net to a struct params under a prefix ("pi/0/kernel", ...), and
 * net_apply() puts its forward pass on a tape. With `frozen` no gradient flows to the parameters
 * (target nets, acting). The same description gives the same tensors in the same order, so that
 * params_blend() copies one net onto its target. Tests: tests/unit/rl_nn_test.c. */
#ifndef SKATE_RL_NN_NETS_H
#define SKATE_RL_NN_NETS_H

#include <stdbool.h>

#include "rl/nn/tape.h"

enum { NET_LAYERS_MAX = 8 };
enum net_cell { CELL_NONE, CELL_LSTM, CELL_GRU };

struct net_opts {
    int in;                             /* columns of the input (besides the image, if any) */
    int image[3];                       /* height, width, channels; 0: no image */
    int n_convs, convs[NET_LAYERS_MAX][3];      /* filters, kernel, stride */
    enum tape_act conv_act;
    bool conv_same;                     /* all but the last are padded: out = ceil(in / stride) */
    int n_hiddens, hiddens[NET_LAYERS_MAX];
    enum tape_act act;
    enum net_cell cell;                 /* after the hidden layers */
    int cell_size;
    int out;                            /* columns of the output; 0: the last hidden layer */
    enum param_init init, out_init;     /* kernels; biases start at 0 unless `torch_bias` */
    float scale, out_scale;
    bool torch_bias;                    /* biases uniform in +-1/sqrt(fan in), as nn.Linear */
    bool layer_norm;                    /* after each hidden layer, before its activation */
    bool noisy;                         /* factorised Gaussian noise on hidden and out layers */
    float sigma0;                       /* of the noise; Fortunato et al. 2018: 0.5 */
};

struct net {
    struct net_opts opts;
    struct params *p;                   /* borrowed */
    int first, count;                   /* its tensors */
};

/* RLlib's fcnet: 256 x 256 tanh, normc 1.0, out 0.01. */
void net_opts_default(struct net_opts *o);
/* -SKATE_EINVAL: sizes; before params_seal(). */
SKATE_NODISCARD int net_add(struct net *net, struct params *p, const char *prefix,
                            const struct net_opts *opts);
/* x [n, image + in] -> [n, out]. `state` NULL, or [n, state size] in and the next one out.
 * `noise`: draws for noisy layers; NULL: their means. */
tvar net_apply(struct tape *t, const struct net *net, tvar x, tvar *state, bool frozen,
               struct rl_rng *noise);
/* The same with the tensors of another params of the same description: a target net. */
tvar net_apply_with(struct tape *t, const struct net *net, const struct params *p, tvar x,
                    tvar *state, struct rl_rng *noise);
/* The columns that such a net gives; -SKATE_EINVAL: its images are too small. */
SKATE_NODISCARD int net_width(const struct net_opts *opts);
int net_state_size(const struct net *net);      /* columns of the state; 0: none */

#endif
