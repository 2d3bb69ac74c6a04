/* rl_offpol_test.c - DDPG, TD3, SAC, TQC, RNNSAC, MADDPG: gradients against finite differences,
 * acting in the bounds, the squashed Gaussian at its ends, checkpoints, errors, and learning a
 * small task.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/algo/algo.h"
#include "rl/algo/squash.h"

enum { ROWS = 24, OBS = 3, ACT = 2, CHOICES = 3, OPTIONS = 16 };

static const float LOW[ACT] = {-2.0f, 0.0f}, HIGH[ACT] = {2.0f, 3.0f};
static const double HIDDENS[] = {10, 6}, WIDER[] = {32, 32};

struct fixture {
    struct algo_option options[OPTIONS];
    double numbers[OPTIONS];
    struct algo_setup setup;
    struct algo *a;
    float obs[ROWS * OBS], new_obs[ROWS * OBS], rewards[ROWS], terminateds[ROWS], weights[ROWS];
    float actions[ROWS * ACT], noise[ROWS * ACT], new_noise[ROWS * ACT], td[ROWS];
    float discounts[ROWS], mask[ROWS];
    float team_obs[ROWS * 7], team_new_obs[ROWS * 7], team_actions[ROWS * 5];
    float team_noise[ROWS * 5];
    int32_t choices[ROWS];
    struct algo_batch b;
};

static void number(struct fixture *f, const char *key, double value) {
    int i = f->setup.n_options++;

    assert_true(i < OPTIONS);
    f->numbers[i] = value;
    f->options[i] = (struct algo_option){.key = key, .list = &f->numbers[i], .n = 1};
}

static void text(struct fixture *f, const char *key, const char *value) {
    int i = f->setup.n_options++;

    assert_true(i < OPTIONS);
    f->options[i] = (struct algo_option){.key = key, .text = value};
}

static void list(struct fixture *f, const char *key, const double *value, int n) {
    int i = f->setup.n_options++;

    assert_true(i < OPTIONS);
    f->options[i] = (struct algo_option){.key = key, .list = value, .n = n, .is_list = true};
}

static void column(struct fixture *f, const char *name, enum algo_dtype type, int width,
                   void *p) {
    f->b.cols[f->b.n_cols++] = (struct algo_col){name, type, width, ROWS, p, true};
}

/* Smooth nets, so that finite differences mean something. */
static struct fixture *fixture(bool discrete) {
    struct fixture *f = calloc(1, sizeof(*f));
    struct rl_rng rng;

    assert_non_null(f);
    rl_rng_init(&rng, 7, 1);
    for (int i = 0; i < ROWS * OBS; i++) {
        f->obs[i] = (float)rl_rng_normal(&rng);
        f->new_obs[i] = (float)rl_rng_normal(&rng);
    }
    for (int i = 0; i < ROWS * ACT; i++) {
        f->actions[i] = LOW[i % ACT] + (HIGH[i % ACT] - LOW[i % ACT]) * rl_rng_float(&rng);
        f->noise[i] = (float)rl_rng_normal(&rng);
        f->new_noise[i] = (float)rl_rng_normal(&rng);
    }
    for (int i = 0; i < ROWS; i++) {
        f->choices[i] = (int32_t)rl_rng_below(&rng, CHOICES);
        f->rewards[i] = 2.0f * (float)rl_rng_normal(&rng);
        f->terminateds[i] = rl_rng_float(&rng) < 0.3f;
        f->weights[i] = 0.5f + rl_rng_float(&rng);
        f->discounts[i] = rl_rng_float(&rng);
    }
    f->setup.obs = (struct algo_space){.kind = ALGO_BOX, .size = OBS};
    f->setup.action = (struct algo_space){.kind = ALGO_BOX, .size = ACT, .low = LOW, .high = HIGH};
    if (discrete)
        f->setup.action = (struct algo_space){.kind = ALGO_DISCRETE, .size = CHOICES};
    f->setup.options = f->options;
    f->setup.seed = 3;
    f->b.rows = ROWS;
    f->b.steps = 1;
    column(f, "obs", ALGO_F32, OBS, f->obs);
    column(f, "new_obs", ALGO_F32, OBS, f->new_obs);
    column(f, "rewards", ALGO_F32, 1, f->rewards);
    column(f, "terminateds", ALGO_F32, 1, f->terminateds);
    column(f, "weights", ALGO_F32, 1, f->weights);
    column(f, "td_errors", ALGO_F32, 1, f->td);
    if (discrete)
        column(f, "actions", ALGO_I32, 1, f->choices);
    else
        column(f, "actions", ALGO_F32, ACT, f->actions);
    list(f, "actor_hiddens", HIDDENS, 2);
    list(f, "critic_hiddens", HIDDENS, 2);
    text(f, "actor_hidden_activation", "tanh");
    text(f, "critic_hidden_activation", "tanh");
    return f;
}

static void own_noise(struct fixture *f) {
    column(f, "noise", ALGO_F32, ACT, f->noise);
    column(f, "new_noise", ALGO_F32, ACT, f->new_noise);
}

static void start(struct fixture *f, const char *name) {
    struct skate_error err = {{0}};
    int code = algo_new(name, &f->setup, &f->a, &err);

    if (code)
        print_error("%s\n", err.text);
    assert_int_equal(code, 0);
}

static void end(struct fixture *f) {
    algo_free(f->a);
    free(f);
}

static double stat(const struct algo_stats *st, const char *name) {
    for (int i = 0; i < st->n; i++)
        if (!strcmp(st->names[i], name))
            return st->values[i];
    fail_msg("no statistic %s", name);
    return 0;
}

static void learn_some(struct fixture *f, int updates) {
    struct algo_stats st;
    struct skate_error err;

    for (int i = 0; i < updates; i++) {
        st.n = 0;
        if (algo_learn(f->a, &f->b, &st, &err))
            fail_msg("%s", err.text);
    }
}

static double loss(struct fixture *f, const char *name, float *grad) {
    struct algo_stats st = {0};
    struct skate_error err = {{0}};

    if (algo_gradient(f->a, &f->b, grad, &st, &err))
        fail_msg("%s", err.text);
    return stat(&st, name);
}

/* Each optimiser's params against the loss of the same number. */
static void check_gradients(struct fixture *f, const char *const *losses) {
    size_t n = algo_n_gradient(f->a), at = 0, checked = 0;
    float *grad = calloc(n, sizeof(float)), *unused = calloc(n, sizeof(float));

    assert_non_null(grad);
    assert_non_null(unused);
    loss(f, losses[0], grad);
    for (int i = 0; i < f->a->n_params; i++) {
        struct params *p = f->a->params[i];
        int which = -1;

        for (int k = 0; k < f->a->n_optims; k++)
            if (f->a->optims[k].p == p)
                which = k;
        if (which < 0)
            continue;
        for (int k = 0; k < p->n_tensors; k++) {
            int cells = p->tensors[k].rows * p->tensors[k].cols;

            for (int c = 0; c < cells; c += 1 + cells / 7) {
                float *x = p->value + p->tensors[k].at + c, old = *x, h = 4e-3f;
                double up, down, slope, got = (double)grad[at + (size_t)c];

                *x = old + h;
                up = loss(f, losses[which], unused);
                *x = old - h;
                down = loss(f, losses[which], unused);
                *x = old;
                slope = (up - down) / (2.0 * (double)h);
                if (fabs(slope - got) > 2e-3 + 1e-2 * fabs(slope))
                    fail_msg("%s of params %d, tensor %s, cell %d: %g, differences say %g",
                             losses[which], i, p->tensors[k].name, c, got, slope);
                checked++;
            }
            at += (size_t)cells;
        }
    }
    assert_int_equal(at, n);
    assert_true(checked > 40);
    free(grad);
    free(unused);
}

static const char *const SAC_LOSSES[] = {"actor_loss", "critic_loss", "alpha_loss"};

static void ddpg_gradients(void **state) {
    struct fixture *f = fixture(false);

    (void)state;
    number(f, "l2_reg", 0.01);
    number(f, "n_step", 3);
    start(f, "DDPG");
    assert_int_equal(f->a->n_optims, 2);
    check_gradients(f, SAC_LOSSES);
    end(f);
}

static void td3_gradients(void **state) {
    struct fixture *f = fixture(false);

    (void)state;
    number(f, "twin_q", 1);
    number(f, "use_huber", 1);
    number(f, "smooth_target_policy", 1);
    own_noise(f);
    column(f, "discounts", ALGO_F32, 1, f->discounts);
    start(f, "DDPG");
    check_gradients(f, SAC_LOSSES);
    end(f);
}

static void sac_gradients(void **state) {
    struct fixture *f = fixture(false);

    (void)state;
    number(f, "initial_alpha", 0.3);
    own_noise(f);
    start(f, "SAC");
    assert_int_equal(f->a->n_optims, 3);
    check_gradients(f, SAC_LOSSES);
    end(f);
}

static void sac_discrete_gradients(void **state) {
    struct fixture *f = fixture(true);

    (void)state;
    number(f, "use_huber", 0);
    start(f, "SAC");
    check_gradients(f, SAC_LOSSES);
    end(f);
}

static void tqc_gradients(void **state) {
    struct fixture *f = fixture(false);

    (void)state;
    number(f, "n_quantiles", 7);
    number(f, "n_critics", 3);
    number(f, "sum_over_quantiles", 0);
    own_noise(f);
    start(f, "TQC");
    check_gradients(f, SAC_LOSSES);
    end(f);
}

/* Sequences of 6 steps, some padded at the end, one at the start. */
static struct fixture *sequences(bool discrete) {
    struct fixture *f = fixture(discrete);

    f->b.steps = 6;
    for (int i = 0; i < ROWS; i++)
        f->mask[i] = i % 6 < 6 - i / 6;
    f->mask[0] = 0.0f;
    column(f, "mask", ALGO_F32, 1, f->mask);
    for (int i = 0; i < f->b.n_cols; i++)
        if (!strcmp(f->b.cols[i].name, "td_errors"))
            f->b.cols[i].rows = ROWS / 6;
    number(f, "lstm_cell_size", 5);
    number(f, "initial_alpha", 0.3);
    return f;
}

static void rnnsac_gradients(void **state) {
    struct fixture *f = sequences(false);

    (void)state;
    number(f, "twin_q", 0);     /* the least of two has corners */
    own_noise(f);
    start(f, "RNNSAC");
    assert_int_equal(f->a->state_size, 10);
    check_gradients(f, SAC_LOSSES);
    for (int i = 0; i < ROWS / 6; i++)
        assert_true(f->td[i] > 0.0f);
    end(f);
}

static void rnnsac_discrete_gradients(void **state) {
    struct fixture *f = sequences(true);
    float kept[40];

    (void)state;
    number(f, "zero_init_states", 0);
    for (int i = 0; i < 40; i++)
        kept[i] = 0.02f * (float)i - 0.4f;
    column(f, "state_in", ALGO_F32, 10, kept);
    f->b.cols[f->b.n_cols - 1].rows = ROWS / 6;
    start(f, "RNNSAC");
    check_gradients(f, SAC_LOSSES);
    end(f);
}

/* What is padding changes nothing. */
static void rnnsac_padding(void **state) {
    struct fixture *f = sequences(false);
    size_t n;
    float *x, *y;

    (void)state;
    number(f, "burn_in", 1);
    own_noise(f);
    start(f, "RNNSAC");
    n = algo_n_gradient(f->a);
    x = malloc(n * sizeof(float));
    y = malloc(n * sizeof(float));
    assert_non_null(x);
    assert_non_null(y);
    loss(f, "critic_loss", x);
    for (int i = 0; i < ROWS; i++)
        if (f->mask[i] == 0.0f) {
            f->rewards[i] = 77.0f;
            f->obs[i * OBS] = -5.0f;
            f->actions[i * ACT] = 1.9f;
        }
    loss(f, "critic_loss", y);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(x[i] - y[i]) < 1e-6f);
    free(x);
    free(y);
    end(f);
}

static void rnnsac_remembers(void **state) {
    struct fixture *f = fixture(false);
    float kept[ROWS * 10] = {0}, actions[ROWS * ACT], again[ROWS * ACT];
    struct algo_act io = {.n = ROWS, .obs = f->obs, .actions = actions, .state = kept};
    struct skate_error err;

    (void)state;
    number(f, "lstm_cell_size", 5);
    start(f, "RNNSAC");
    assert_int_equal(algo_act(f->a, &io, &err), 0);
    assert_true(kept[0] != 0.0f);
    io.actions = again;
    assert_int_equal(algo_act(f->a, &io, &err), 0);
    assert_memory_not_equal(actions, again, sizeof(actions));
    end(f);
}

/* Two agents: one Box, one of three choices; observations of 2 and 3, then both rewards. */
static struct fixture *team(void) {
    static const double sizes[] = {2, 3}, acts[] = {2, 3}, discrete[] = {0, 1};
    struct fixture *f = fixture(false);
    struct rl_rng rng;

    rl_rng_init(&rng, 21, 1);
    for (int i = 0; i < ROWS * 7; i++) {
        f->team_obs[i] = (float)rl_rng_normal(&rng);
        f->team_new_obs[i] = (float)rl_rng_normal(&rng);
    }
    for (int i = 0; i < ROWS * 5; i++) {
        f->team_actions[i] = 2.0f * rl_rng_float(&rng) - 1.0f;
        f->team_noise[i] = (float)rl_rng_normal(&rng);
    }
    f->setup.obs.size = 7;
    f->setup.action = (struct algo_space){.kind = ALGO_BOX, .size = 5};
    for (int i = 0; i < f->b.n_cols; i++) {
        struct algo_col *c = &f->b.cols[i];

        if (!strcmp(c->name, "obs"))
            *c = (struct algo_col){"obs", ALGO_F32, 7, ROWS, f->team_obs, true};
        if (!strcmp(c->name, "new_obs"))
            *c = (struct algo_col){"new_obs", ALGO_F32, 7, ROWS, f->team_new_obs, true};
        if (!strcmp(c->name, "actions"))
            *c = (struct algo_col){"actions", ALGO_F32, 5, ROWS, f->team_actions, true};
    }
    column(f, "noise", ALGO_F32, 5, f->team_noise);
    column(f, "new_noise", ALGO_F32, 5, f->team_noise);
    list(f, "obs_sizes", sizes, 2);
    list(f, "action_sizes", acts, 2);
    list(f, "discrete", discrete, 2);
    return f;
}

static void maddpg_gradients(void **state) {
    (void)state;
    for (int local = 0; local < 2; local++) {
        struct fixture *f = team();

        number(f, "use_local_critic", local);
        number(f, "actor_feature_reg", 0.05);
        start(f, "MADDPG");
        check_gradients(f, SAC_LOSSES);
        learn_some(f, 2);
        end(f);
    }
}

static void maddpg_acts(void **state) {
    struct fixture *f = team();
    float actions[ROWS * 5];
    struct algo_act io = {.n = ROWS, .obs = f->team_obs, .actions = actions, .explore = true,
                          .noise = 0.3f};
    struct skate_error err;

    (void)state;
    start(f, "MADDPG");
    assert_int_equal(algo_act(f->a, &io, &err), 0);
    for (int i = 0; i < ROWS; i++) {
        const float *x = actions + 5 * i;

        assert_true(fabsf(x[0]) <= 1.0f && fabsf(x[1]) <= 1.0f);
        assert_true(x[2] + x[3] + x[4] == 1.0f);
        assert_true(x[2] * x[3] == 0.0f && x[3] * x[4] == 0.0f && x[2] * x[4] == 0.0f);
    }
    end(f);
}

/* ---- the distribution ---- */

static void squash_ends(void **state) {
    static const float means[] = {-60.0f, -5.0f, -0.3f, 0.0f, 0.7f, 9.0f, 60.0f};
    struct squash s = {.k = 1, .tanh = true, .low = -5.0f, .high = 2.0f};
    struct tape *t = tape_new();

    (void)state;
    assert_non_null(t);
    for (size_t i = 0; i < sizeof(means) / sizeof(means[0]); i++)
        for (float log_std = -30.0f; log_std <= 30.0f; log_std += 7.5f) {
            float inputs[2] = {means[i], log_std}, noise = -1.3f, unit;
            float clipped = fminf(fmaxf(log_std, s.low), s.high);
            double u = (double)means[i] + exp((double)clipped) * -1.3, exact;
            tvar x, logp, unit_var;

            /* log(4) - 2u - 2 softplus(-2u) = log(1 - tanh(u)^2), in double. */
            exact = -0.5 * 1.3 * 1.3 - (double)clipped - 0.918938533204672742;
            exact -= 2.0 * (log(2.0) - fabs(u) - log1p(exp(-2.0 * fabs(u))));
            assert_true(fabs((double)squash_row(&s, inputs, &noise, &unit) - exact) <
                        1e-5 * (1.0 + fabs(exact)));
            assert_true(fabsf(unit) <= 1.0f);
            tape_reset(t);
            x = t_leaf(t, inputs, 1, 2);
            unit_var = squash_draw(t, &s, x, t_copy(t, &noise, 1, 1), &logp);
            assert_true(fabsf(tape_scalar(t, unit_var) - unit) < 1e-5f);
            assert_true(fabs((double)tape_scalar(t, logp) - exact) < 1e-5 * (1.0 + fabs(exact)));
            assert_int_equal(tape_backward(t, logp), 0);
            assert_true(isfinite(tape_grad(t, x)[0]));
            assert_true(isfinite(tape_grad(t, x)[1]));
        }
    tape_free(t);
}

static void squash_given_actions(void **state) {
    struct squash s = {.k = 2, .tanh = true, .low = -5.0f, .high = 2.0f};
    float inputs[4] = {0.3f, -0.8f, -0.4f, 0.2f}, noise[2] = {0.6f, -0.9f}, unit[2];
    float logp = squash_row(&s, inputs, noise, unit);
    struct tape *t = tape_new();
    tvar got;

    (void)state;
    assert_non_null(t);
    got = squash_logp(t, &s, t_copy(t, inputs, 1, 4), t_copy(t, unit, 1, 2));
    assert_true(fabsf(tape_scalar(t, got) - logp) < 1e-4f);
    tape_free(t);
}

/* ---- acting ---- */

static void act_in_bounds(void **state) {
    static const char *const names[] = {"DDPG", "SAC", "TQC"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fixture *f = fixture(false);
        float actions[ROWS * ACT], same[ROWS * ACT];
        struct algo_act io = {.n = ROWS, .obs = f->obs, .explore = true, .noise = 5.0f,
                              .actions = actions};
        struct skate_error err;
        int ends = 0;

        start(f, names[i]);
        assert_int_equal(algo_act(f->a, &io, &err), 0);
        for (int k = 0; k < ROWS * ACT; k++) {
            assert_true(actions[k] >= LOW[k % ACT]);
            assert_true(actions[k] <= HIGH[k % ACT]);
            ends += actions[k] <= LOW[k % ACT] || actions[k] >= HIGH[k % ACT];
        }
        if (i == 0)
            assert_true(ends > ROWS / 2);
        io.explore = false;
        assert_int_equal(algo_act(f->a, &io, &err), 0);
        io.actions = same;
        assert_int_equal(algo_act(f->a, &io, &err), 0);
        assert_memory_equal(actions, same, sizeof(same));
        end(f);
    }
}

static void act_discrete(void **state) {
    struct fixture *f = fixture(true);
    int32_t actions[ROWS];
    float logp[ROWS], inputs[ROWS * CHOICES];
    struct algo_act io = {.n = ROWS, .obs = f->obs, .explore = true, .actions = actions,
                          .logp = logp, .inputs = inputs};
    struct skate_error err;

    (void)state;
    start(f, "SAC");
    assert_int_equal(algo_act(f->a, &io, &err), 0);
    for (int i = 0; i < ROWS; i++) {
        double sum = 0.0;

        assert_in_range(actions[i], 0, CHOICES - 1);
        for (int k = 0; k < CHOICES; k++)
            sum += exp((double)inputs[i * CHOICES + k]);
        assert_true(fabs((double)logp[i] -
                         ((double)inputs[i * CHOICES + actions[i]] - log(sum))) < 1e-5);
    }
    end(f);
}

/* ---- checkpoints, learning ---- */

static void resume_equals(void **state) {
    static const char *const names[] = {"DDPG", "SAC", "TQC"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fixture *f = fixture(false), *g = fixture(false);
        size_t n;
        char *x, *y;

        start(f, names[i]);
        g->setup.seed = 99;
        start(g, names[i]);
        n = algo_state_bytes(f->a);
        x = malloc(n);
        y = malloc(n);
        assert_non_null(x);
        assert_non_null(y);
        learn_some(f, 3);
        algo_get_state(f->a, x);
        assert_int_equal(algo_set_state(g->a, x, n), 0);
        learn_some(f, 3);
        learn_some(g, 3);
        algo_get_state(f->a, x);
        algo_get_state(g->a, y);
        assert_memory_equal(x, y, n);
        free(x);
        free(y);
        end(f);
        end(g);
    }
}

/* One step to the end; the reward is best where the action is half of the first observation. */
static void learn_one_step(struct fixture *f, int updates) {
    struct rl_rng rng;

    rl_rng_init(&rng, 11, 2);
    for (int i = 0; i < updates; i++) {
        for (int r = 0; r < ROWS; r++) {
            float want = f->obs[r * OBS] = 2.0f * rl_rng_float(&rng) - 1.0f;

            f->terminateds[r] = 1.0f;
            f->obs[r * OBS + 1] = f->obs[r * OBS + 2] = 0.0f;
            f->rewards[r] = 0.0f;
            f->weights[r] = 1.0f;
            for (int k = 0; k < ACT; k++) {
                float unit = 2.0f * rl_rng_float(&rng) - 1.0f, miss = unit - 0.5f * want;

                f->actions[r * ACT + k] = 0.5f * (LOW[k] + HIGH[k]) +
                                          0.5f * (HIGH[k] - LOW[k]) * unit;
                f->rewards[r] -= 4.0f * miss * miss;
            }
        }
        learn_some(f, 1);
    }
}

static void learns(void **state) {
    static const char *const names[] = {"DDPG", "SAC", "TQC"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fixture *f = fixture(false);
        float obs[2 * OBS] = {-0.8f, 0, 0, 0.8f, 0, 0}, actions[2 * ACT];
        struct algo_act io = {.n = 2, .obs = obs, .actions = actions};
        struct skate_error err;

        f->options[0].list = f->options[1].list = WIDER;
        number(f, "actor_lr", 1e-3);
        number(f, "critic_lr", 5e-3);
        if (i)
            number(f, "initial_alpha", 0.05);
        start(f, names[i]);
        learn_one_step(f, 1200);
        assert_int_equal(algo_act(f->a, &io, &err), 0);
        for (int k = 0; k < 2 * ACT; k++) {
            float mid = 0.5f * (LOW[k % ACT] + HIGH[k % ACT]), half = HIGH[k % ACT] - mid;
            float unit = (actions[k] - mid) / half, want = k < ACT ? -0.4f : 0.4f;

            if (fabsf(unit - want) > 0.2f)
                fail_msg("%s: action %d is %g, best is %g", names[i], k, (double)unit,
                         (double)want);
        }
        end(f);
    }
}

static void policy_delay(void **state) {
    struct fixture *f = fixture(false);
    size_t n;
    float *x, *y;

    (void)state;
    number(f, "policy_delay", 2);
    start(f, "DDPG");
    n = algo_n_weights(f->a);
    x = malloc(n * sizeof(float));
    y = malloc(n * sizeof(float));
    assert_non_null(x);
    assert_non_null(y);
    learn_some(f, 1);
    algo_get_weights(f->a, x);
    learn_some(f, 1);
    algo_get_weights(f->a, y);
    assert_memory_equal(x, y, n * sizeof(float));
    learn_some(f, 1);
    algo_get_weights(f->a, y);
    assert_memory_not_equal(x, y, n * sizeof(float));
    free(x);
    free(y);
    end(f);
}

/* ---- errors ---- */

static void refused(struct fixture *f, const char *name, const char *word) {
    struct skate_error err = {{0}};

    assert_int_equal(algo_new(name, &f->setup, &f->a, &err), -SKATE_EINVAL);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not name '%s'", err.text, word);
    free(f);
}

static void bad_options(void **state) {
    struct fixture *f = fixture(true);

    (void)state;
    refused(f, "DDPG", "action_space");
    refused(fixture(true), "TQC", "action_space");
    f = fixture(false);
    number(f, "tau", 1.5);
    refused(f, "SAC", "tau");
    f = fixture(false);
    number(f, "policy_delay", 0);
    refused(f, "DDPG", "policy_delay");
    f = fixture(false);
    text(f, "target_entropy", "automatic");
    refused(f, "SAC", "target_entropy");
    f = fixture(false);
    number(f, "top_quantiles_to_drop_per_net", 25);
    refused(f, "TQC", "top_quantiles_to_drop_per_net");
    f = fixture(false);
    number(f, "n_critics", 99);
    refused(f, "TQC", "n_critics");
    f = team();
    f->setup.obs.size = 8;
    refused(f, "MADDPG", "sizes");
    f = fixture(false);
    number(f, "twin_qs", 1);
    refused(f, "SAC", "twin_qs");
    f = fixture(false);
    f->setup.action.low = HIGH;
    refused(f, "SAC", "action_space");
}

static void bad_batches(void **state) {
    struct fixture *f = fixture(false);
    struct algo_stats st = {0};
    struct skate_error err = {{0}};

    (void)state;
    start(f, "SAC");
    f->b.n_cols--;
    assert_int_equal(algo_learn(f->a, &f->b, &st, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "actions"));
    f->b.n_cols++;
    f->rewards[2] = NAN;
    assert_int_equal(algo_learn(f->a, &f->b, &st, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "rewards"));
    f->rewards[2] = 3e38f;
    f->weights[2] = 3e38f;
    assert_int_equal(algo_learn(f->a, &f->b, &st, &err), -SKATE_EINVAL);
    f->rewards[2] = 0.0f;
    f->weights[2] = 1.0f;
    learn_some(f, 1);
    end(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ddpg_gradients),
        cmocka_unit_test(td3_gradients),
        cmocka_unit_test(sac_gradients),
        cmocka_unit_test(sac_discrete_gradients),
        cmocka_unit_test(tqc_gradients),
        cmocka_unit_test(rnnsac_gradients),
        cmocka_unit_test(rnnsac_discrete_gradients),
        cmocka_unit_test(rnnsac_padding),
        cmocka_unit_test(rnnsac_remembers),
        cmocka_unit_test(maddpg_gradients),
        cmocka_unit_test(maddpg_acts),
        cmocka_unit_test(squash_ends),
        cmocka_unit_test(squash_given_actions),
        cmocka_unit_test(act_in_bounds),
        cmocka_unit_test(act_discrete),
        cmocka_unit_test(resume_equals),
        cmocka_unit_test(learns),
        cmocka_unit_test(policy_delay),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(bad_batches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
