/* catch_env.c - an environment in C: a ball falls over a board, a paddle must be below it.
 *
 *  cc -O2 -shared -fPIC -o catch_env.so catch_env.c $(pkg-config --cflags skate)
 *
 * From Python, with or without a trainer:
 *
 *     from skate.rllib.env.native import NativeEnv, NativeVectorEnv
 *     envs = NativeVectorEnv("c:./catch_env.so", 1024, rows=8)
 *     tune.run("PPO", config={"env": "c:./catch_env.so", "env_config": {"rows": 8}})
 *
 * One environment is written here; skate/env_scalar.h makes the vector of it. */
#include <skate/env_config.h>
#include <skate/env_scalar.h>

enum { ROWS_MAX = 32 };

struct catch {
    int rows, columns, ball_row, ball_column, paddle;
};

/* Once for each lane: read the config, say what observations and actions look like. */
static int catch_make(struct catch *c, const struct skate_env_make *m,
                      struct skate_env_info *info) {
    double rows = 10, columns = 5;

    if (skate_env_known(m, "rows columns") < 0 || skate_env_number(m, "rows", &rows) < 0 ||
        skate_env_number(m, "columns", &columns) < 0)
        return -SKATE_EINVAL;
    if (!(rows >= 2 && rows <= ROWS_MAX && columns >= 2 && columns <= ROWS_MAX))
        return skate_env_wrong(m, "rows and columns", "from 2 to 32");
    c->rows = (int)rows;
    c->columns = (int)columns;
    info->obs = (struct skate_env_space){.kind = SKATE_SPACE_BOX,
                                         .dtype = SKATE_F32,
                                         .ndim = 1,
                                         .shape = {3},
                                         .low = 0,
                                         .high = 1};
    info->action = (struct skate_env_space){.kind = SKATE_SPACE_DISCRETE, .n = 3};
    info->reward_threshold = 0.95;
    return 0;
}

static void show(const struct catch *c, void *obs) {
    float *to = obs;

    to[0] = (float)c->ball_row / (float)(c->rows - 1);
    to[1] = (float)c->ball_column / (float)(c->columns - 1);
    to[2] = (float)c->paddle / (float)(c->columns - 1);
}

static void catch_reset(struct catch *c, struct skate_rng *rng, void *obs) {
    c->ball_row = 0;
    c->ball_column = (int)skate_rng_below(rng, (uint32_t)c->columns);
    c->paddle = c->columns / 2;
    show(c, obs);
}

static struct skate_env_answer catch_step(struct catch *c, struct skate_rng *rng,
                                          const void *action, void *obs) {
    int to = c->paddle + *(const int32_t *)action - 1;

    (void)rng;
    if (to >= 0 && to < c->columns)
        c->paddle = to;
    c->ball_row++;
    show(c, obs);
    if (c->ball_row < c->rows - 1)
        return (struct skate_env_answer){0.0, 0};
    return (struct skate_env_answer){c->paddle == c->ball_column ? 1.0 : -1.0, 1};
}

SKATE_ENV_SCALAR(skate_env_v1, "Catch-v0", struct catch, catch, SKATE_ENV_STEP_ANY)
