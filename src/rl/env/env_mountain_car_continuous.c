/* env_mountain_car_continuous.c - MountainCarContinuous-v0, bit-equal to Gymnasium's.
 *
 * There the state is float64 after a reset and float32 after a step, and NumPy's rule that a Python
 * float takes the other operand's type decides the precision of each operation: hence two bodies.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

struct car_continuous {
    double x, v;                /* float32 values unless fresh */
    double goal_v;
    int fresh;
};

static const double lows[2] = { -1.2, -0.07 }, highs[2] = { 0.6, 0.07 };

static int car_continuous_make(struct car_continuous *s, const struct skate_env_make *m,
                               struct skate_env_info *info) {
    int e = skate_env_known(m, "goal_velocity");

    if (e == 0)
        e = skate_env_number(m, "goal_velocity", &s->goal_v);
    env_box(&info->obs, 2, 0, 0);
    info->obs.lows = lows;
    info->obs.highs = highs;
    env_box(&info->action, 1, -1.0, 1.0);
    info->max_steps = 999;
    info->reward_threshold = 90.0;
    return e;
}

static void car_continuous_reset(struct car_continuous *s, struct skate_rng *rng, void *obs) {
    s->x = skate_rng_uniform(rng, -0.6, -0.4);
    s->v = 0.0;
    s->fresh = 1;
    env_put(obs, &s->x, 2);
}

/* What is added to the velocity: `wide` says that it is a double there, not a float32. */
static double push(float a, double three_x, int *ret_wide) {
    double slope = 0.0025 * cos(three_x);

    *ret_wide = a < -1.0f || a > 1.0f;
    if (*ret_wide)
        return (a < -1.0f ? -1.0 : 1.0) * 0.0015 - slope;
    return a * 0.0015f - (float)slope;
}

static void move_fresh(struct car_continuous *s, float a) {
    int wide;

    s->v += push(a, 3 * s->x, &wide);
    s->v = s->v > 0.07 ? 0.07 : s->v;
    s->v = s->v < -0.07 ? -0.07 : s->v;
    s->x += s->v;
    s->x = s->x > 0.6 ? 0.6 : s->x;
    s->x = s->x < -1.2 ? -1.2 : s->x;
    if (s->x == -1.2 && s->v < 0)
        s->v = 0;
}

static int move(struct car_continuous *s, float a) {
    float x = (float)s->x, v = (float)s->v;
    int wide, ended;

    v += (float)push(a, 3.0f * x, &wide);
    v = v > 0.07f ? 0.07f : v;
    v = v < -0.07f ? -0.07f : v;
    x += v;
    x = x > 0.6f ? 0.6f : x;
    x = x < -1.2f ? -1.2f : x;
    if (x == -1.2f && v < 0)
        v = 0;
    ended = x >= 0.45f && v >= (float)s->goal_v;
    s->x = x;
    s->v = v;
    return ended;
}

static struct skate_env_answer car_continuous_step(struct car_continuous *s,
                                                   struct skate_rng *rng, const void *action,
                                                   void *obs) {
    float a = *(const float *)action;
    int ended;

    (void)rng;
    if (s->fresh) {
        move_fresh(s, a);
        ended = s->x >= 0.45 && s->v >= s->goal_v;
        s->x = (float)s->x;
        s->v = (float)s->v;
        s->fresh = 0;
    } else {
        ended = move(s, a);
    }
    env_put(obs, &s->x, 2);
    return (struct skate_env_answer){ (ended ? 100.0 : 0.0) - env_pow2(a) * 0.1, ended };
}

SKATE_ENV_SCALAR(rl_env_mountain_car_continuous, "MountainCarContinuous-v0",
                 struct car_continuous, car_continuous, SKATE_ENV_STEP_ANY)
