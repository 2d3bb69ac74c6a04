/* rl_vtrace_test.c - V-trace against its definition (a double sum), and its limits: on-policy it is
 * the discounted return, with nothing allowed it is the value.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rl/gae.h"
#include "rl/rl_rng.h"
#include "rl/vtrace.h"

enum { N = 90 };

struct data {
    float logp[N], old_logp[N], reward[N], value[N], boot[N], vs[N], adv[N];
    uint8_t flags[N];
};

static struct vtrace_column column(struct data *d, uint64_t seed) {
    struct rl_rng r;

    memset(d, 0, sizeof *d);
    rl_rng_init(&r, seed, 0);
    for (int t = 0; t < N; t++) {
        d->logp[t] = -1.0f + 0.8f * (float)rl_rng_normal(&r);
        d->old_logp[t] = -1.0f + 0.8f * (float)rl_rng_normal(&r);
        d->reward[t] = (float)rl_rng_normal(&r);
        d->value[t] = (float)rl_rng_normal(&r);
        d->boot[t] = (float)rl_rng_normal(&r);
        d->flags[t] = t % 13 == 8 ? GAE_TERMINATED : t % 17 == 5 ? GAE_TRUNCATED
                    : t % 19 == 3 ? GAE_CUT : 0;
    }
    d->flags[N - 1] = GAE_CUT;
    return (struct vtrace_column){ d->logp, d->old_logp, d->reward, d->value, d->boot, d->flags,
                                   N };
}

/* The value after step t. */
static double after(const struct data *d, int t) {
    if (d->flags[t] & GAE_TERMINATED)
        return 0.0;
    return d->flags[t] ? (double)d->boot[t] : (double)d->value[t + 1];
}

static double ratio(const struct data *d, int t, double limit) {
    return fmin(exp((double)d->logp[t] - (double)d->old_logp[t]), limit);
}

/* vs by the sum of the paper's equation (1). */
static double target(const struct data *d, int s, double gamma, double rho_max) {
    double sum = (double)d->value[s], factor = 1.0;

    for (int t = s; t < N; t++) {
        sum += factor * ratio(d, t, rho_max) *
               ((double)d->reward[t] + gamma * after(d, t) - (double)d->value[t]);
        if (d->flags[t])
            break;
        factor *= gamma * ratio(d, t, 1.0);
    }
    return sum;
}

static void by_definition(void **state) {
    const struct vtrace_opts o = { .gamma = 0.9f, .rho_max = 1.2f, .pg_rho_max = 0.8f };
    double gamma = (double)o.gamma;

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct data d;
        struct vtrace_column c = column(&d, seed);

        vtrace(&c, &o, d.vs, d.adv);
        for (int t = 0; t < N; t++) {
            double next = d.flags[t] ? after(&d, t) : target(&d, t + 1, gamma, (double)o.rho_max);
            double adv = ratio(&d, t, (double)o.pg_rho_max) *
                         ((double)d.reward[t] + gamma * next - (double)d.value[t]);

            assert_true(fabs((double)d.vs[t] - target(&d, t, gamma, (double)o.rho_max)) < 1e-5);
            assert_true(fabs((double)d.adv[t] - adv) < 1e-5);
        }
    }
}

static void on_policy_is_the_return(void **state) {
    const struct vtrace_opts o = { .gamma = 0.9f, .rho_max = 1.0f, .pg_rho_max = 1.0f };
    struct data d;
    struct vtrace_column c = column(&d, 4);
    float adv[N], ret[N];
    struct gae_column g = { d.reward, d.value, d.boot, d.flags, N, 1 };

    (void)state;
    memcpy(d.old_logp, d.logp, sizeof d.logp);
    vtrace(&c, &o, d.vs, d.adv);
    gae_column(&g, o.gamma, 1.0f, adv, ret);
    for (int t = 0; t < N; t++) {
        assert_true(fabsf(d.vs[t] - ret[t]) < 1e-5f);
        assert_true(fabsf(d.adv[t] - adv[t]) < 1e-5f);
    }
}

/* Actions that pi would never take teach nothing; weights beyond measure stay numbers. */
static void the_far_ends(void **state) {
    const struct vtrace_opts o = { .gamma = 0.9f };
    struct data d;
    struct vtrace_column c = column(&d, 5);

    (void)state;
    for (int t = 0; t < N; t++)
        d.logp[t] = -1e9f;
    vtrace(&c, &o, d.vs, d.adv);
    for (int t = 0; t < N; t++) {
        assert_true(d.vs[t] == d.value[t]);
        assert_true(d.adv[t] == 0.0f);
        d.logp[t] = 0.0f;
        d.old_logp[t] = -1e9f;
    }
    vtrace(&c, &o, d.vs, d.adv);
    for (int t = 0; t < N; t++)
        assert_true(isfinite(d.vs[t]) && isfinite(d.adv[t]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_definition),
        cmocka_unit_test(on_policy_is_the_return),
        cmocka_unit_test(the_far_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
