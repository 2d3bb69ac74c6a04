/* vtrace.h - V-trace (Espeholt et al. 2018): value targets and advantages of steps that an older
 * policy took, by truncated importance weights.
 *
 *   rho_t = min(rho_max, pi/mu), c_t = min(1, pi/mu), delta_t = rho_t (r_t + gamma V' - V_t)
 *   vs_t = V_t + delta_t + gamma c_t (vs_{t+1} - V_{t+1})
 *   adv_t = min(pg_rho_max, pi/mu) (r_t + gamma vs_{t+1} - V_t)
 * Flags say where a segment ends, as in gae.h: beyond TERMINATED the value is 0, beyond TRUNCATED
 * and CUT it is boot[t]. Pure, any thread, never blocks. Sums in double.
 * Tests: tests/unit/rl_vtrace_test.c, tests/rl/test_on_policy_math.py. */
#ifndef SKATE_RL_VTRACE_H
#define SKATE_RL_VTRACE_H

#include <stddef.h>
#include <stdint.h>

struct vtrace_column {
    const float *logp, *old_logp;       /* of the actions: by pi (learned), by mu (that acted) */
    const float *reward, *value, *boot;
    const uint8_t *flags;
    size_t n;                           /* steps, one after the other */
};

struct vtrace_opts {
    float gamma, rho_max, pg_rho_max;   /* <= 0: no limit */
};

/* The last step ends a segment, flagged or not. A weight is at most exp(20). */
void vtrace(const struct vtrace_column *c, const struct vtrace_opts *o, float *vs,
            float *advantage);

#endif
