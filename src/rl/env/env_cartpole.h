/* env_cartpole.h - CartPole's lanes (a struct of arrays) and one step of one lane.
 *
 * Private to env_cartpole*.c. The vector kernels step whole vectors of lanes and must give what
 * cartpole_one() gives, bit for bit. One owner; never blocks.
 * Tests: tests/unit/rl_env_cartpole_test.c, tests/python/test_rl_env_equal.py. */
#ifndef SKATE_RL_ENV_CARTPOLE_H
#define SKATE_RL_ENV_CARTPOLE_H

#include <math.h>
#include <skate/env.h>
#include <skate/env_rng.h>

#define CARTPOLE_ANGLE (12 * 2 * 3.141592653589793 / 360)   /* beyond it the pole has fallen */
#define CARTPOLE_X 2.4
#define CARTPOLE_MASS 1.1
#define CARTPOLE_POLE 0.1                                   /* the pole's mass */
#define CARTPOLE_MOMENT (0.1 * 0.5)                         /* mass x half length */

struct cartpole {
    uint32_t lanes;
    int sutton;                 /* rewards of Sutton's book: 0, and -1 for the fall */
    double *x, *xd, *th, *thd;  /* [lanes] each, on 64 bytes */
    uint8_t *fallen;            /* [lanes]: ended before; a further step earns nothing */
    struct skate_rng *rng;
    /* Steps lanes from lo in whole vectors; returns the first lane that it left. */
    uint32_t (*vector)(struct cartpole *c, const struct skate_env_rows *rows, uint32_t lo,
                       uint32_t hi);
};

uint32_t cartpole_avx2(struct cartpole *c, const struct skate_env_rows *rows, uint32_t lo,
                       uint32_t hi);
uint32_t cartpole_avx512(struct cartpole *c, const struct skate_env_rows *rows, uint32_t lo,
                         uint32_t hi);

/* What a lane that has just ended, or goes on after its end, earns. */
static inline double cartpole_last_reward(struct cartpole *c, uint32_t i) {
    double reward = c->sutton ? -1.0 : c->fallen[i] ? 0.0 : 1.0;

    c->fallen[i] = 1;
    return reward;
}

static inline void cartpole_one(struct cartpole *c, const struct skate_env_rows *rows,
                                uint32_t i) {
    double force = ((const int32_t *)rows->action)[i] * 20.0 - 10.0; /* a branch costs more */
    double x = c->x[i], xd = c->xd[i], th = c->th[i], thd = c->thd[i];
    double co = cos(th), si = sin(th);
    double temp = (force + CARTPOLE_MOMENT * (thd * thd) * si) / CARTPOLE_MASS;
    double thacc = (9.8 * si - co * temp) /
                   (0.5 * (4.0 / 3.0 - CARTPOLE_POLE * (co * co) / CARTPOLE_MASS));
    double xacc = temp - CARTPOLE_MOMENT * thacc * co / CARTPOLE_MASS;
    float *obs = (float *)rows->obs + (size_t)i * 4;
    int ended;

    x = x + 0.02 * xd;
    xd = xd + 0.02 * xacc;
    th = th + 0.02 * thd;
    thd = thd + 0.02 * thacc;
    c->x[i] = x;
    c->xd[i] = xd;
    c->th[i] = th;
    c->thd[i] = thd;
    obs[0] = (float)x;
    obs[1] = (float)xd;
    obs[2] = (float)th;
    obs[3] = (float)thd;
    ended = x < -CARTPOLE_X || x > CARTPOLE_X || th < -CARTPOLE_ANGLE || th > CARTPOLE_ANGLE;
    rows->terminated[i] = (uint8_t)ended;
    rows->reward[i] = ended ? cartpole_last_reward(c, i) : c->sutton ? 0.0 : 1.0;
}

#endif
