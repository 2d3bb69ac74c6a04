/* mcts.h - Monte Carlo tree search with priors (PUCT; Silver et al. 2017), without environment and
 * net: the caller steps the one and asks the other between mcts_select() and mcts_expand().
 *
 *   for each simulation: mcts_select() names a node and an action (or the root itself); the
 *   caller goes there, and mcts_expand() tells what it found. Then mcts_policy() has the visit
 *   counts as probabilities, mcts_choose() an action, and mcts_advance() keeps that action's part
 *   of the tree for the next move.
 *
 * A value is the expected sum of rewards of the player who moves at the node (one player: the
 * only one); values beyond -1 .. 1 are weighed by the greatest that was found. Nodes are numbered;
 * what belongs to them (saved states) the caller keeps under these numbers, and moves as
 * mcts_advance() says. Bounded: capacity nodes, allocated at the start.
 * One owner, no locks, never blocks. Same calls, same rng: same tree.
 * Tests: tests/unit/rl_mcts_test.c. */
#ifndef SKATE_RL_OWN_MCTS_H
#define SKATE_RL_OWN_MCTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "rl/rl_rng.h"

enum { MCTS_ACTIONS_MAX = 4096, MCTS_SIMULATIONS_MAX = 1 << 20 };

struct mcts_opts {
    int actions, simulations;   /* of a search */
    double puct, temperature;   /* probabilities are visits^temperature, as in RLlib */
    double epsilon, alpha;      /* of the root's Dirichlet noise; epsilon 0: none */
    double gamma;
};

struct mcts;

struct mcts_leaf {
    int parent, action;         /* the way there; -1, -1: the root, not evaluated yet */
    bool known;                 /* an end of the game seen before: nothing to do */
};

struct mcts_found {
    double reward;              /* of the step to the leaf, for the player who made it */
    bool terminal;              /* priors and value are not looked at */
    int player;                 /* who moves at the leaf */
    double value;
    const float *logits;        /* [actions] */
    const float *mask;          /* [actions], 0 forbids; NULL: all allowed */
};

/* -SKATE_EINVAL (with a sentence), -SKATE_ENOMEM. */
SKATE_NODISCARD int mcts_new(const struct mcts_opts *opts, struct mcts **ret,
                             struct skate_error *err);
struct mcts *mcts_free(struct mcts *m);
int mcts_capacity(const struct mcts *m);        /* nodes are 0 .. capacity - 1; the root is 0 */
void mcts_reset(struct mcts *m);                /* an empty tree */

/* The next leaf to look at. Every call that does not say `known` must be followed by
 * mcts_expand(). */
struct mcts_leaf mcts_select(struct mcts *m);
/* The new node's number. -SKATE_EINVAL: no leaf was selected, numbers that are not finite, a mask
 * that forbids all; the tree is as before. `rng` draws the root's noise. */
int mcts_expand(struct mcts *m, const struct mcts_found *found, struct rl_rng *rng);

int mcts_visits(const struct mcts *m);          /* of the root */
double mcts_value(const struct mcts *m);        /* of the root: the mean of what was found */
/* visits^temperature of the root's actions, as probabilities; 0 for what was never tried. */
void mcts_policy(const struct mcts *m, float *probabilities);
/* An action drawn from mcts_policy(), or its most visited one. -SKATE_EINVAL: no visits. */
int mcts_choose(const struct mcts *m, bool argmax, struct rl_rng *rng);
/* The root moves on by an action. Old node i is now moved[i] (<= i), or gone: -1; `moved` has
 * capacity entries. How many nodes are left: 0 when nothing is known of that move. */
int mcts_advance(struct mcts *m, int action, int *moved, struct rl_rng *rng);

/* n positive numbers of sum 1, Dirichlet(alpha, ..., alpha). */
void mcts_dirichlet(struct rl_rng *rng, double alpha, int n, double *ret);

#endif
