/* env_acrobot.c - Acrobot-v1, bit-equal to Gymnasium's.
 *
 * There the state is float32 until the first step, so the first observation comes from NumPy's
 * float32 sine and cosine. Those are polynomials in fused arithmetic (CPUs with FMA; elsewhere
 * NumPy calls libm), written down here for the small angles of a reset.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

struct acrobot {
    double s[4];                /* two angles, two speeds */
};

static const double lows[6] = { -1, -1, -1, -1, -4 * ENV_PI, -9 * ENV_PI };
static const double highs[6] = { 1, 1, 1, 1, 4 * ENV_PI, 9 * ENV_PI };

static int acrobot_make(struct acrobot *s, const struct skate_env_make *m,
                        struct skate_env_info *info) {
    (void)s;
    env_box(&info->obs, 6, 0, 0);
    info->obs.lows = lows;
    info->obs.highs = highs;
    env_discrete(&info->action, 3);
    info->max_steps = 500;
    info->reward_threshold = -100.0;
    return skate_env_known(m, "");
}

static int has_fma(void) {
#ifdef __x86_64__
    return __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
#else
    return 1;
#endif
}

/* Angles of a reset lie within 0.1: no reduction of the argument. */
static float small_sin(float x) {
    float x2 = x * x, r;

    if (!has_fma())
        return sinf(x);
    r = fmaf(0x1.7d3bbcp-19f, x2, -0x1.a06bbap-13f);
    r = fmaf(r, x2, 0x1.11119ap-07f);
    r = fmaf(r, x2, -0x1.555556p-03f);
    r = r * x2;
    return fmaf(r, x, x);
}

static float small_cos(float x) {
    float x2 = x * x, r;

    if (!has_fma())
        return cosf(x);
    r = fmaf(0x1.98e616p-16f, x2, -0x1.6c06dcp-10f);
    r = fmaf(r, x2, 0x1.55553cp-05f);
    r = fmaf(r, x2, -0x1.000000p-01f);
    return fmaf(r, x2, 1.0f);
}

static void acrobot_reset(struct acrobot *s, struct skate_rng *rng, void *obs) {
    float *to = obs;

    for (int i = 0; i < 4; i++)
        s->s[i] = (float)skate_rng_uniform(rng, -0.1, 0.1);
    for (int i = 0; i < 2; i++) {
        to[2 * i] = small_cos((float)s->s[i]);
        to[2 * i + 1] = small_sin((float)s->s[i]);
        to[4 + i] = (float)s->s[2 + i];
    }
}

/* Masses, lengths and moments are 1, centres of mass at 0.5. */
static void slope(const double *s, double torque, double *to) {
    double c2 = cos(s[1]), s2 = sin(s[1]);
    double d1 = 0.25 + (1.25 + 1.0 * c2) + 1.0 + 1.0;
    double d2 = (0.25 + 0.5 * c2) + 1.0;
    double phi2 = 0.5 * 9.8 * cos(s[0] + s[1] - ENV_PI / 2.0);
    double phi1 = -0.5 * env_pow2(s[3]) * s2 - 1.0 * s[3] * s[2] * s2 +
                  1.5 * 9.8 * cos(s[0] - ENV_PI / 2) + phi2;

    to[0] = s[2];
    to[1] = s[3];
    to[3] = (torque + d2 / d1 * phi1 - 0.5 * env_pow2(s[2]) * s2 - phi2) /
            (0.25 + 1.0 - env_pow2(d2) / d1);
    to[2] = -(d2 * to[3] + phi1) / d1;
}

static void ahead(const double *s, double dt, const double *k, double *to) {
    for (int i = 0; i < 4; i++)
        to[i] = s[i] + dt * k[i];
}

static double wrap(double x) {
    while (x > ENV_PI)
        x = x - 2 * ENV_PI;
    while (x < -ENV_PI)
        x = x + 2 * ENV_PI;
    return x;
}

static struct skate_env_answer acrobot_step(struct acrobot *s, struct skate_rng *rng,
                                            const void *action, void *obs) {
    double torque = env_action(action) - 1, k[4][4], at[4], row[6], c0;
    int ended;

    (void)rng;
    slope(s->s, torque, k[0]);
    ahead(s->s, 0.1, k[0], at);
    slope(at, torque, k[1]);
    ahead(s->s, 0.1, k[1], at);
    slope(at, torque, k[2]);
    ahead(s->s, 0.2, k[2], at);
    slope(at, torque, k[3]);
    for (int i = 0; i < 4; i++)
        s->s[i] = s->s[i] + 0.2 / 6.0 * (k[0][i] + 2 * k[1][i] + 2 * k[2][i] + k[3][i]);
    s->s[0] = wrap(s->s[0]);
    s->s[1] = wrap(s->s[1]);
    s->s[2] = env_clip(s->s[2], -4 * ENV_PI, 4 * ENV_PI);
    s->s[3] = env_clip(s->s[3], -9 * ENV_PI, 9 * ENV_PI);
    c0 = cos(s->s[0]);
    ended = -c0 - cos(s->s[1] + s->s[0]) > 1.0;
    row[0] = c0;
    row[1] = sin(s->s[0]);
    row[2] = cos(s->s[1]);
    row[3] = sin(s->s[1]);
    row[4] = s->s[2];
    row[5] = s->s[3];
    env_put(obs, row, 6);
    return (struct skate_env_answer){ ended ? 0.0 : -1.0, ended };
}

static int acrobot_render(const struct acrobot *s, uint8_t *to, uint32_t size[2]) {
    const double a = s->s[0], b = s->s[0] + s->s[1], middle[2] = { 100, 100 };
    const double knee[2] = { 100 + 40 * sin(a), 100 + 40 * cos(a) };
    const double foot[2] = { knee[0] + 40 * sin(b), knee[1] + 40 * cos(b) };
    struct canvas c;

    if (!canvas_begin(&c, to, size, 200, 200))
        return 0;
    canvas_rect(&c, (double[2]){ 0, 60 }, (double[2]){ 200, 61 }, INK_GREY);
    canvas_line(&c, middle, knee, 4, INK_BLUE);
    canvas_line(&c, knee, foot, 4, INK_GREEN);
    return 0;
}

SKATE_ENV_SCALAR_LANES(struct acrobot, acrobot, SKATE_ENV_NO_TURN)
SKATE_ENV_SCALAR_RENDER(acrobot)
SKATE_ENV_SCALAR_TABLE(rl_env_acrobot, "Acrobot-v1", acrobot, SKATE_ENV_STEP_ANY,
                       .render = acrobot_render_lane)
