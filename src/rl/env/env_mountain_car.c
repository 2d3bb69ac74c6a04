/* env_mountain_car.c - MountainCar-v0, bit-equal to Gymnasium's.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

struct mountain_car {
    double x, v, goal_v, next_goal_v;
};

static const double lows[2] = { -1.2, -0.07 }, highs[2] = { 0.6, 0.07 };

static int mountain_car_make(struct mountain_car *s, const struct skate_env_make *m,
                             struct skate_env_info *info) {
    int e = skate_env_known(m, "goal_velocity");

    if (e == 0)
        e = skate_env_number(m, "goal_velocity", &s->goal_v);
    s->next_goal_v = s->goal_v;
    env_box(&info->obs, 2, 0, 0);
    info->obs.lows = lows;
    info->obs.highs = highs;
    env_discrete(&info->action, 3);
    info->max_steps = 200;
    info->reward_threshold = -110.0;
    return e;
}

static void mountain_car_reset(struct mountain_car *s, struct skate_rng *rng, void *obs) {
    s->x = skate_rng_uniform(rng, -0.6, -0.4);
    s->v = 0.0;
    s->goal_v = s->next_goal_v;
    env_put(obs, &s->x, 2);
}

static struct skate_env_answer mountain_car_step(struct mountain_car *s, struct skate_rng *rng,
                                                 const void *action, void *obs) {
    double x = s->x, v = s->v;

    (void)rng;
    v += (env_action(action) - 1) * 0.001 + cos(3 * x) * -0.0025;
    v = env_clip(v, -0.07, 0.07);
    x += v;
    x = env_clip(x, -1.2, 0.6);
    if (x == -1.2 && v < 0)
        v = 0;
    s->x = x;
    s->v = v;
    env_put(obs, &s->x, 2);
    return (struct skate_env_answer){ -1.0, x >= 0.5 && v >= s->goal_v };
}

static double height(double x) {
    return 170 - (sin(3 * x) * 0.45 + 0.55) * 120;
}

static int mountain_car_render(const struct mountain_car *s, uint8_t *to, uint32_t size[2]) {
    const double column = 300 / 1.8, goal = (0.5 + 1.2) * column;
    struct canvas c;

    if (!canvas_begin(&c, to, size, 300, 200))
        return 0;
    for (int x = 0; x < c.w; x++) {
        int y = (int)height((x + 0.5) / column - 1.2);

        for (int thick = 0; thick < 2; thick++)
            canvas_dot(&c, x, y + thick, INK_BLACK);
    }
    canvas_rect(&c, (double[2]){ goal, height(0.5) - 25 }, (double[2]){ goal + 2, height(0.5) },
                INK_GREEN);
    canvas_disc(&c, (double[2]){ (s->x + 1.2) * column, height(s->x) - 6 }, 6, INK_BLUE);
    return 0;
}

static int mountain_car_task(struct mountain_car *s, const struct skate_env_make *task) {
    double goal_v = 0.0;
    int e = skate_env_known(task, "goal_velocity");

    if (e == 0)
        e = skate_env_number(task, "goal_velocity", &goal_v);
    if (e == 0)
        s->next_goal_v = goal_v;
    return e;
}

SKATE_ENV_SCALAR_LANES(struct mountain_car, mountain_car, SKATE_ENV_NO_TURN)
SKATE_ENV_SCALAR_RENDER(mountain_car)
SKATE_ENV_SCALAR_TASK(mountain_car)
SKATE_ENV_SCALAR_TABLE(rl_env_mountain_car, "MountainCar-v0", mountain_car, SKATE_ENV_STEP_ANY,
                       .render = mountain_car_render_lane, .set_task = mountain_car_task_lanes)
