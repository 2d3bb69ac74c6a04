/* env_bandit.c - contextual bandits: LinearBandit-v0 and WheelBandit-v0. Each step is an episode.
 *
 * "kind": "linear": an arm's mean reward is its weights times the context (`dims` numbers in
 * -1 .. 1); the weights of the `arms` are drawn from `problem`, a number; `noise` is the deviation.
 * "wheel": a context in the unit disc and five arms; within radius `delta` the first is best,
 * beyond it one of the four others, by the quadrant, which then pays 50.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_games.py. */
#include "rl/env/env_builtin.h"
#include "rl/env/rl_env_list.h"

enum { WEIGHTS_MAX = 1024, DIMS_MAX = 64, WHEEL_ARMS = 5 };

struct bandit {
    int is_wheel, arms, dims;
    double noise, delta;
    double context[DIMS_MAX], weight[WEIGHTS_MAX];
};

static int read_sizes(struct bandit *b, const struct skate_env_make *m) {
    double arms = WHEEL_ARMS, dims = b->is_wheel ? 2 : 8, problem = 0;
    struct skate_rng rng;

    if (skate_env_number(m, "arms", &arms) < 0 || skate_env_number(m, "dims", &dims) < 0 ||
        skate_env_number(m, "problem", &problem) < 0 ||
        skate_env_number(m, "noise", &b->noise) < 0 ||
        skate_env_number(m, "delta", &b->delta) < 0)
        return -SKATE_EINVAL;
    if (!(arms >= 2 && dims >= 1 && dims <= DIMS_MAX && arms * dims <= WEIGHTS_MAX))
        return skate_env_wrong(m, "arms, dims", "at least 2 and 1, their product at most 1024");
    if (b->is_wheel && ((int)arms != WHEEL_ARMS || (int)dims != 2))
        return skate_env_wrong(m, "arms, dims", "left out: the wheel has five arms");
    if (!(b->noise >= 0 && b->delta > 0 && b->delta < 1 && problem >= 0 && problem < 0x1p53))
        return skate_env_wrong(m, "noise, delta, problem", "not negative, delta below 1");
    b->arms = (int)arms;
    b->dims = (int)dims;
    skate_rng_seed(&rng, (uint64_t)problem);
    for (int i = 0; i < b->arms * b->dims; i++)
        b->weight[i] = skate_rng_uniform(&rng, -1, 1);
    return 0;
}

static int bandit_make(struct bandit *b, const struct skate_env_make *m,
                       struct skate_env_info *info) {
    char kind[8] = "linear";
    int e = skate_env_known(m, "kind arms dims problem noise delta");

    if (e == 0)
        e = skate_env_text(m, "kind", kind, sizeof kind);
    if (e < 0)
        return e;
    b->is_wheel = strcmp(kind, "wheel") == 0;
    if (!b->is_wheel && strcmp(kind, "linear") != 0)
        return skate_env_wrong(m, "kind", "\"linear\" or \"wheel\"");
    b->noise = b->is_wheel ? 0.01 : 0.1;
    b->delta = 0.5;
    e = read_sizes(b, m);
    if (e < 0)
        return e;
    env_box(&info->obs, (uint32_t)b->dims, -1, 1);
    env_discrete(&info->action, b->arms);
    info->reward_threshold = NAN;
    return 0;
}

static void bandit_reset(struct bandit *b, struct skate_rng *rng, void *obs) {
    do
        for (int i = 0; i < b->dims; i++)
            b->context[i] = skate_rng_uniform(rng, -1, 1);
    while (b->is_wheel && b->context[0] * b->context[0] + b->context[1] * b->context[1] > 1);
    env_put(obs, b->context, b->dims);
}

static double normal(struct skate_rng *rng) {
    double radius = sqrt(-2.0 * log(1.0 - skate_rng_double(rng)));

    return radius * cos(2 * ENV_PI * skate_rng_double(rng));
}

static double mean_of(const struct bandit *b, int arm) {
    double sum = 0.0, x = b->context[0], y = b->context[1];

    if (b->is_wheel) {
        if (arm == 0)
            return 1.2;
        if (x * x + y * y <= b->delta * b->delta)
            return 1.0;
        return arm == 1 + (x < 0) + 2 * (y < 0) ? 50.0 : 1.0;
    }
    for (int i = 0; i < b->dims; i++)
        sum += b->weight[arm * b->dims + i] * b->context[i];
    return sum;
}

static struct skate_env_answer bandit_step(struct bandit *b, struct skate_rng *rng,
                                           const void *action, void *obs) {
    struct skate_env_answer answer = { .terminated = 1 };

    answer.reward = mean_of(b, env_action(action)) + b->noise * normal(rng);
    env_put(obs, b->context, b->dims);
    return answer;
}

SKATE_ENV_SCALAR(rl_env_bandit, "Bandit", struct bandit, bandit, 0)
