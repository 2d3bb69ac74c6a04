/* az.c - see az.h. */
#include "rl/own/az.h"

#include <stdlib.h>
#include <string.h>

#include "rl/own/lane.h"

enum { STREAM_AZ = 62 };
#define STATES_MAX (UINT64_C(1) << 32)      /* bytes of the saved states */

struct az_search {
    struct algo *net;
    struct rl_env *env;
    struct az_opts o;
    struct mcts *tree;
    struct rl_rng rng;
    int actions;
    size_t bytes;
    char *states, *home;        /* [capacity][bytes]; the game's own */
    double *returns;            /* [capacity]: sum of rewards from the game's start */
    double so_far;              /* of the game */
    uint8_t turn;               /* in the game */
    int *moved;
    float *obs, *mask, *logits;
    uint8_t *allowed;
};

static int allocate(struct az_search *s) {
    size_t capacity = (size_t)mcts_capacity(s->tree), actions = (size_t)s->actions;

    s->states = malloc(capacity * s->bytes);
    s->home = malloc(s->bytes);
    s->returns = calloc(capacity, sizeof(*s->returns));
    s->moved = calloc(capacity, sizeof(*s->moved));
    s->obs = calloc((size_t)s->net->obs.size, sizeof(float));
    s->mask = calloc(actions, sizeof(float));
    s->logits = calloc(actions, sizeof(float));
    s->allowed = calloc(actions, 1);
    return s->states && s->home && s->returns && s->moved && s->obs && s->mask && s->logits &&
           s->allowed ? 0 : -SKATE_ENOMEM;
}

int az_new(struct algo *net, struct rl_env *env, const struct az_opts *opts,
           struct az_search **ret, struct skate_error *err) {
    struct az_search *s;
    int r = lane_check(env, &net->obs, &net->action, err);

    *ret = NULL;
    if (r < 0)
        return r;
    if (net->action.kind != ALGO_DISCRETE)
        return err_fail(err, -SKATE_EINVAL, "tree search needs a discrete action space");
    if (rl_env_state_bytes(env) == 0)
        return err_fail(err, -SKATE_EINVAL, "%s cannot save and load its state",
                        rl_env_id(env));
    s = calloc(1, sizeof(*s));
    if (!s)
        return -SKATE_ENOMEM;
    s->net = net;
    s->env = env;
    s->o = *opts;
    s->actions = s->o.tree.actions = net->action.size;
    s->bytes = rl_env_state_bytes(env);
    rl_rng_init(&s->rng, opts->seed, STREAM_AZ);
    r = mcts_new(&s->o.tree, &s->tree, err);
    if (r == 0 && (uint64_t)mcts_capacity(s->tree) * s->bytes > STATES_MAX)
        r = err_fail(err, -SKATE_ETOOBIG, "num_simulations: %d states of %zu bytes are too many",
                     mcts_capacity(s->tree), s->bytes);
    if (r == 0)
        r = allocate(s);
    if (r < 0) {
        az_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct az_search *az_free(struct az_search *s) {
    if (s) {
        mcts_free(s->tree);
        free(s->states);
        free(s->home);
        free(s->returns);
        free(s->moved);
        free(s->obs);
        free(s->mask);
        free(s->logits);
        free(s->allowed);
        free(s);
    }
    return NULL;
}

struct mcts *az_tree(struct az_search *s) {
    return s->tree;
}

void az_restart(struct az_search *s) {
    mcts_reset(s->tree);
    s->so_far = 0.0;
    s->turn = rl_env_rows(s->env)->turn[0];
}

void az_threshold(struct az_search *s, double threshold) {
    s->o.threshold = threshold;
}

/* What the lane's position looks like: s->obs and s->mask. */
static void look(struct az_search *s) {
    int r = rl_env_mask(s->env, 0, s->allowed, (size_t)s->actions);

    lane_obs(s->env, 0, s->obs);
    for (int i = 0; i < s->actions; i++)
        s->mask[i] = r < 0 || s->allowed[i] ? 1.0f : 0.0f;
}

/* The net's view of the position in s->obs. */
static int ask(struct az_search *s, struct mcts_found *found, struct skate_error *err) {
    float value = 0.0f;
    int32_t action;
    struct algo_act io = { .n = 1, .obs = s->obs, .mask = s->mask, .actions = &action,
                           .inputs = s->logits, .vf = &value };
    int r = algo_act(s->net, &io, err);

    found->value = (double)value;
    found->logits = s->logits;
    found->mask = s->mask;
    return r;
}

/* The lane is at the leaf: what is there, and its place in the tree. */
static int found_leaf(struct az_search *s, struct mcts_found *found, double so_far,
                      struct skate_error *err) {
    int node, r = 0;

    look(s);
    if (!found->terminal)
        r = ask(s, found, err);
    if (r < 0)
        return r;
    node = mcts_expand(s->tree, found, &s->rng);
    if (node < 0)
        return err_fail(err, node, "a reward or value is not finite, or no action is allowed");
    s->returns[node] = so_far;
    return found->terminal ? 0 : rl_env_save(s->env, 0, s->states + (size_t)node * s->bytes,
                                             s->bytes);
}

static int simulate(struct az_search *s, struct skate_error *err) {
    const struct skate_env_rows *rows = rl_env_rows(s->env);
    struct mcts_leaf leaf = mcts_select(s->tree);
    struct mcts_found found = { 0 };
    double so_far = s->so_far;
    int r;

    if (leaf.known)
        return 0;
    if (leaf.parent < 0) {
        r = rl_env_load(s->env, 0, s->home, s->bytes);
    } else {
        r = rl_env_load(s->env, 0, s->states + (size_t)leaf.parent * s->bytes, s->bytes);
        *(int32_t *)rl_env_actions(s->env) = leaf.action;
        if (r == 0)
            r = rl_env_step(s->env, err);
        if (r < 0)
            return r;
        found.reward = rows->reward[0];
        found.terminal = rows->terminated[0] || rows->truncated[0];
        so_far = s->returns[leaf.parent] + found.reward;
        if (s->o.ranked)
            found.reward = !found.terminal ? 0.0 : so_far >= s->o.threshold ? 1.0 : -1.0;
    }
    found.player = leaf.parent < 0 ? s->turn : rows->turn[0];
    return r < 0 ? r : found_leaf(s, &found, so_far, err);
}

int az_think(struct az_search *s, bool argmax, float *obs, float *mask, float *policy,
             struct skate_error *err) {
    int r = rl_env_save(s->env, 0, s->home, s->bytes), back;

    look(s);
    memcpy(obs, s->obs, (size_t)s->net->obs.size * sizeof(float));
    memcpy(mask, s->mask, (size_t)s->actions * sizeof(float));
    for (int i = 0; i < s->o.tree.simulations && r == 0; i++)
        r = simulate(s, err);
    back = rl_env_load(s->env, 0, s->home, s->bytes);
    r = r < 0 ? r : back;
    if (r < 0)
        return r;
    mcts_policy(s->tree, policy);
    r = mcts_choose(s->tree, argmax, &s->rng);
    return r < 0 ? err_fail(err, r, "num_simulations must be at least 2: nothing was tried") : r;
}

int az_move(struct az_search *s, int action, double *ret_reward, bool *ret_ended,
            struct skate_error *err) {
    const struct skate_env_rows *rows = rl_env_rows(s->env);
    int r, capacity = mcts_capacity(s->tree);

    *(int32_t *)rl_env_actions(s->env) = action;
    r = rl_env_step(s->env, err);
    if (r < 0)
        return r;
    *ret_reward = rows->reward[0];
    *ret_ended = rows->terminated[0] || rows->truncated[0];
    s->so_far += *ret_reward;
    s->turn = rows->turn[0];
    mcts_advance(s->tree, action, s->moved, &s->rng);
    for (int i = 0; i < capacity; i++)
        if (s->moved[i] >= 0 && s->moved[i] != i) {
            memcpy(s->states + (size_t)s->moved[i] * s->bytes,
                   s->states + (size_t)i * s->bytes, s->bytes);
            s->returns[s->moved[i]] = s->returns[i];
        }
    return 0;
}
