/* env_cliff_walking.c - CliffWalking-v1, slippery or not, bit-equal to Gymnasium's.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

enum { ROWS = 4, COLUMNS = 12, START = 36, GOAL = 47 };

struct cliff_walking {
    int slippery, at;
};

static int cliff_walking_make(struct cliff_walking *s, const struct skate_env_make *m,
                              struct skate_env_info *info) {
    int e = skate_env_known(m, "is_slippery");

    if (e == 0)
        e = skate_env_flag_of(m, "is_slippery", &s->slippery);
    env_discrete(&info->obs, ROWS * COLUMNS);
    env_discrete(&info->action, 4);
    info->reward_threshold = NAN;
    return e;
}

static void cliff_walking_reset(struct cliff_walking *s, struct skate_rng *rng, void *obs) {
    skate_rng_double(rng);      /* drawn there, too: from a distribution with one state */
    s->at = START;
    *(int64_t *)obs = s->at;
}

static struct skate_env_answer cliff_walking_step(struct cliff_walking *s, struct skate_rng *rng,
                                                  const void *action, void *obs) {
    static const double thirds[3] = { 1.0 / 3, 1.0 / 3, 1.0 / 3 };
    int direction = env_action(action), row = s->at / COLUMNS, column = s->at % COLUMNS;

    if (s->slippery)
        direction = (direction + 3 + (int)env_categorical(rng, thirds, 3)) & 3;
    else
        skate_rng_double(rng);
    row += (direction == 2 && row < ROWS - 1) - (direction == 0 && row > 0);
    column += (direction == 1 && column < COLUMNS - 1) - (direction == 3 && column > 0);
    s->at = row * COLUMNS + column;
    if (s->at > START && s->at < GOAL) {
        s->at = START;
        *(int64_t *)obs = s->at;
        return (struct skate_env_answer){ -100.0, 0 };
    }
    *(int64_t *)obs = s->at;
    return (struct skate_env_answer){ -1.0, s->at == GOAL };
}

SKATE_ENV_SCALAR(rl_env_cliff_walking, "CliffWalking-v1", struct cliff_walking, cliff_walking, 0)
