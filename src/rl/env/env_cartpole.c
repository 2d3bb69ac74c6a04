/* env_cartpole.c - CartPole-v0 and -v1, bit-equal to Gymnasium's, scalar and in vectors.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/unit/rl_env_cartpole_test.c, tests/python/test_rl_env_equal.py. */
#include "rl/env/env_cartpole.h"

#include <skate/env_config.h>
#include <stdlib.h>

#include "rl/env/env_draw.h"
#include "rl/env/rl_env_list.h"

static int pick_vector(struct cartpole *c, const struct skate_env_make *m) {
    char wanted[8] = "best";
    int e = skate_env_text(m, "kernel", wanted, sizeof wanted);

    if (e < 0)
        return e;
    if (strcmp(wanted, "scalar") == 0)
        return 0;
    if (strcmp(wanted, "best") != 0 && strcmp(wanted, "avx2") != 0)
        return skate_env_wrong(m, "kernel", "\"best\", \"avx2\" or \"scalar\"");
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        c->vector = cartpole_avx2;
    if (strcmp(wanted, "best") == 0 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        c->vector = cartpole_avx512;
#endif
    return 0;
}

static void cartpole_close(void *env) {
    struct cartpole *c = env;

    free(c->x);
    free(c->fallen);
    free(c->rng);
    free(c);
}

static int cartpole_make(const struct skate_env_make *m, struct skate_env_info *ret_info,
                         void **ret_env) {
    static const double lows[4] = { -4.8, -INFINITY, -2 * CARTPOLE_ANGLE, -INFINITY };
    static const double highs[4] = { 4.8, INFINITY, 2 * CARTPOLE_ANGLE, INFINITY };
    size_t padded = ((size_t)m->lanes + 7) & ~(size_t)7;
    struct cartpole *c;
    void *block = NULL;
    int e = skate_env_known(m, "sutton_barto_reward kernel");

    if (e < 0)
        return e;
    c = calloc(1, sizeof *c);
    if (!c)
        return -SKATE_ENOMEM;
    c->lanes = m->lanes;
    c->fallen = calloc(padded, 1);
    c->rng = calloc(m->lanes, sizeof *c->rng);
    if (posix_memalign(&block, 64, 4 * padded * sizeof(double)) != 0)
        block = NULL;
    c->x = block;
    e = c->fallen && c->rng && block ? 0 : -SKATE_ENOMEM;
    if (e == 0)
        e = skate_env_flag_of(m, "sutton_barto_reward", &c->sutton);
    if (e == 0)
        e = pick_vector(c, m);
    if (e < 0) {
        cartpole_close(c);
        return e;
    }
    memset(block, 0, 4 * padded * sizeof(double));
    c->xd = c->x + padded;
    c->th = c->xd + padded;
    c->thd = c->th + padded;
    ret_info->obs = (struct skate_env_space){ .kind = SKATE_SPACE_BOX, .dtype = SKATE_F32,
                                              .ndim = 1, .shape = { 4 }, .lows = lows,
                                              .highs = highs };
    ret_info->action = (struct skate_env_space){ .kind = SKATE_SPACE_DISCRETE, .n = 2 };
    ret_info->max_steps = 500;
    ret_info->reward_threshold = 475.0;
    *ret_env = c;
    return 0;
}

static int cartpole_reset(void *env, const struct skate_env_rows *rows, const uint32_t *lanes,
                          uint32_t n, const uint64_t *seeds) {
    struct cartpole *c = env;

    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = lanes[k];
        float *obs = (float *)rows->obs + (size_t)i * 4;

        if (seeds)
            skate_rng_seed(&c->rng[i], seeds[k]);
        obs[0] = (float)(c->x[i] = skate_rng_uniform(&c->rng[i], -0.05, 0.05));
        obs[1] = (float)(c->xd[i] = skate_rng_uniform(&c->rng[i], -0.05, 0.05));
        obs[2] = (float)(c->th[i] = skate_rng_uniform(&c->rng[i], -0.05, 0.05));
        obs[3] = (float)(c->thd[i] = skate_rng_uniform(&c->rng[i], -0.05, 0.05));
        c->fallen[i] = 0;
    }
    return 0;
}

static int cartpole_step(void *env, const struct skate_env_rows *rows, uint32_t lo, uint32_t hi) {
    struct cartpole *c = env;

    for (; lo < hi && (lo & 7) != 0; lo++)
        cartpole_one(c, rows, lo);
    if (c->vector && hi - lo >= 8)
        lo = c->vector(c, rows, lo, hi);
    for (; lo < hi; lo++)
        cartpole_one(c, rows, lo);
    return 0;
}

struct saved {
    double state[4];
    struct skate_rng rng;
    uint64_t fallen;
};

static size_t cartpole_state_bytes(void *env) {
    (void)env;
    return sizeof(struct saved);
}

static void cartpole_save(void *env, uint32_t lane, void *to) {
    const struct cartpole *c = env;
    struct saved s = { .state = { c->x[lane], c->xd[lane], c->th[lane], c->thd[lane] },
                       .rng = c->rng[lane], .fallen = c->fallen[lane] };

    memcpy(to, &s, sizeof s);
}

static int cartpole_load(void *env, uint32_t lane, const void *from) {
    struct cartpole *c = env;
    struct saved s;

    memcpy(&s, from, sizeof s);
    c->x[lane] = s.state[0];
    c->xd[lane] = s.state[1];
    c->th[lane] = s.state[2];
    c->thd[lane] = s.state[3];
    c->rng[lane] = s.rng;
    c->fallen[lane] = s.fallen != 0;
    return 0;
}

static int cartpole_render(void *env, uint32_t lane, uint8_t *to, uint32_t size[2]) {
    const struct cartpole *c = env;
    struct canvas canvas;
    double x = 150 + c->x[lane] / 2.4 * 150;
    const double foot[2] = { x, 150 }, top[2] = { x + 60 * sin(c->th[lane]),
                                                  150 - 60 * cos(c->th[lane]) };

    if (!canvas_begin(&canvas, to, size, 300, 200))
        return 0;
    canvas_rect(&canvas, (double[2]){ 0, 164 }, (double[2]){ 300, 165 }, INK_BLACK);
    canvas_rect(&canvas, (double[2]){ x - 13, 150 }, (double[2]){ x + 13, 164 }, INK_BLACK);
    canvas_line(&canvas, foot, top, 3, INK_BROWN);
    canvas_disc(&canvas, foot, 3, INK_BLUE);
    return 0;
}

const struct skate_env_api rl_env_cartpole = {
    .abi = SKATE_ENV_ABI,
    .bytes = sizeof(struct skate_env_api),
    .flags = SKATE_ENV_RANGES | SKATE_ENV_STEP_ANY,
    .id = "CartPole-v1",
    .make = cartpole_make,
    .close = cartpole_close,
    .reset = cartpole_reset,
    .step = cartpole_step,
    .state_bytes = cartpole_state_bytes,
    .save = cartpole_save,
    .load = cartpole_load,
    .render = cartpole_render,
};
