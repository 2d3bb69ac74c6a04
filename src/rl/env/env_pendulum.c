/* env_pendulum.c - Pendulum-v1, bit-equal to Gymnasium's with float32 actions.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

struct pendulum {
    double angle, speed, g, next_g;
};

static const double lows[3] = { -1.0, -1.0, -8.0 }, highs[3] = { 1.0, 1.0, 8.0 };

static int pendulum_make(struct pendulum *s, const struct skate_env_make *m,
                         struct skate_env_info *info) {
    int e = skate_env_known(m, "g");

    s->g = 10.0;
    if (e == 0)
        e = skate_env_number(m, "g", &s->g);
    s->next_g = s->g;
    env_box(&info->obs, 3, 0, 0);
    info->obs.lows = lows;
    info->obs.highs = highs;
    env_box(&info->action, 1, -2.0, 2.0);
    info->max_steps = 200;
    info->reward_threshold = NAN;
    return e;
}

static void put(const struct pendulum *s, void *obs) {
    double row[3] = { cos(s->angle), sin(s->angle), s->speed };

    env_put(obs, row, 3);
}

static void pendulum_reset(struct pendulum *s, struct skate_rng *rng, void *obs) {
    s->angle = skate_rng_uniform(rng, -ENV_PI, ENV_PI);
    s->speed = skate_rng_uniform(rng, -1.0, 1.0);
    s->g = s->next_g;
    put(s, obs);
}

static struct skate_env_answer pendulum_step(struct pendulum *s, struct skate_rng *rng,
                                             const void *action, void *obs) {
    float u = *(const float *)action;
    double normal, costs;

    (void)rng;
    u = u < -2.0f ? -2.0f : u > 2.0f ? 2.0f : u;
    normal = env_mod(s->angle + ENV_PI, 2 * ENV_PI) - ENV_PI;
    costs = env_pow2(normal) + 0.1 * env_pow2(s->speed) + (double)(0.001f * env_pow2f(u));
    s->speed = s->speed + (3 * s->g / 2.0 * sin(s->angle) + (double)(3.0f * u)) * 0.05;
    s->speed = env_clip(s->speed, -8.0, 8.0);
    s->angle = s->angle + s->speed * 0.05;
    put(s, obs);
    return (struct skate_env_answer){ -costs, 0 };
}

static int pendulum_render(const struct pendulum *s, uint8_t *to, uint32_t size[2]) {
    const double middle[2] = { 100, 100 };
    struct canvas c;

    if (!canvas_begin(&c, to, size, 200, 200))
        return 0;
    canvas_line(&c, middle, (double[2]){ 100 - 80 * sin(s->angle), 100 - 80 * cos(s->angle) }, 8,
                INK_RED);
    canvas_disc(&c, middle, 4, INK_BLACK);
    return 0;
}

static int pendulum_task(struct pendulum *s, const struct skate_env_make *task) {
    double g = 10.0;
    int e = skate_env_known(task, "g");

    if (e == 0)
        e = skate_env_number(task, "g", &g);
    if (e == 0)
        s->next_g = g;
    return e;
}

SKATE_ENV_SCALAR_LANES(struct pendulum, pendulum, SKATE_ENV_NO_TURN)
SKATE_ENV_SCALAR_RENDER(pendulum)
SKATE_ENV_SCALAR_TASK(pendulum)
SKATE_ENV_SCALAR_TABLE(rl_env_pendulum, "Pendulum-v1", pendulum, SKATE_ENV_STEP_ANY,
                       .render = pendulum_render_lane, .set_task = pendulum_task_lanes)
