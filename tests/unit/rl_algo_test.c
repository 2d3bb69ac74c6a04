/* rl_algo_test.c - the base of the algorithms: options, columns, distributions, gradients by finite
 * differences, state and refusals, with A2C and PG as what is driven.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/algo/algo.h"

enum { OBS = 3, ROWS = 24, STEPS = 6, CELL = 5 };

static const int part_sizes[] = { 3, 2 };
static const struct algo_space discrete = { .kind = ALGO_DISCRETE, .size = 4 };
static const struct algo_space multi = { .kind = ALGO_MULTI, .size = 2, .sizes = part_sizes };
static const struct algo_space box = { .kind = ALGO_BOX, .size = 2 };
static const double small_net[] = { 7, 5 }, numbers[] = { 0.0, 1.0, CELL, 0.02, 0.5 };

static struct algo *make(const char *name, const struct algo_space *action, bool lstm) {
    struct algo_option options[] = {
        { .key = "fcnet_hiddens", .list = small_net, .n = 2, .is_list = true },
        { .key = "use_lstm", .list = numbers + (lstm ? 1 : 0), .n = 1 },
        { .key = "lstm_cell_size", .list = numbers + 2, .n = 1 },
        { .key = "lr", .list = numbers + 3, .n = 1 },
    };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = OBS }, .action = *action,
                            .options = options, .n_options = 4, .seed = 7 };
    struct skate_error err = { .text = "" };
    struct algo *a = NULL;
    int r = algo_new(name, &s, &a, &err);

    assert_string_equal(err.text, "");
    assert_int_equal(r, 0);
    return a;
}

/* ---- batches of random numbers ---- */

struct data {
    struct algo_batch b;
    float obs[ROWS * OBS], new_obs[ROWS * OBS], rewards[ROWS], terminateds[ROWS],
        truncateds[ROWS], mask[ROWS], actions_f[ROWS * 2], state_in[ROWS * 2 * CELL],
        logp[ROWS], vf[ROWS], inputs[ROWS * 5];
    int32_t actions[ROWS * 2];
};

static void add(struct data *d, const char *name, enum algo_dtype dtype, int width, void *p) {
    d->b.cols[d->b.n_cols++] = (struct algo_col){ name, dtype, width, ROWS, p, true };
}

static struct data *random_data(const struct algo *a, uint64_t seed) {
    struct data *d = calloc(1, sizeof *d);
    bool lstm = a->state_size > 0;
    int parts = a->action.kind == ALGO_MULTI ? a->action.size : 1;
    struct rl_rng r;

    rl_rng_init(&r, seed, 0);
    for (int i = 0; i < ROWS * OBS; i++) {
        d->obs[i] = (float)rl_rng_normal(&r);
        d->new_obs[i] = (float)rl_rng_normal(&r);
    }
    for (int i = 0; i < ROWS; i++) {
        d->rewards[i] = (float)rl_rng_normal(&r);
        d->terminateds[i] = i % 7 == 4;
        d->truncateds[i] = i % 11 == 7;
        d->mask[i] = i % STEPS < 5 || i > 12;
        for (int k = 0; k < parts; k++)
            d->actions[i * parts + k] = (int32_t)rl_rng_below(
                &r, (uint32_t)(parts == 1 ? a->action.size : a->action.sizes[k]));
        d->actions_f[2 * i] = (float)rl_rng_normal(&r);
        d->actions_f[2 * i + 1] = (float)rl_rng_normal(&r);
    }
    for (int i = 0; i < ROWS / STEPS * 2 * CELL; i++)
        d->state_in[i] = 0.3f * (float)rl_rng_normal(&r);
    for (int i = 0; i < ROWS; i++) {
        d->logp[i] = -1.5f + 0.3f * (float)rl_rng_normal(&r);
        d->vf[i] = 0.05f * (float)rl_rng_normal(&r);
    }
    for (int i = 0; i < ROWS * 5; i++)
        d->inputs[i] = 0.3f * (float)rl_rng_normal(&r);
    d->b.rows = ROWS;
    d->b.steps = lstm ? STEPS : 1;
    add(d, "obs", ALGO_F32, OBS, d->obs);
    add(d, "new_obs", ALGO_F32, OBS, d->new_obs);
    add(d, "rewards", ALGO_F32, 1, d->rewards);
    add(d, "terminateds", ALGO_F32, 1, d->terminateds);
    add(d, "truncateds", ALGO_F32, 1, d->truncateds);
    add(d, "mask", ALGO_F32, 1, d->mask);
    add(d, "logp", ALGO_F32, 1, d->logp);
    add(d, "vf", ALGO_F32, 1, d->vf);
    add(d, "inputs", ALGO_F32, a->n_inputs, d->inputs);
    if (a->action.kind == ALGO_BOX)
        add(d, "actions", ALGO_F32, 2, d->actions_f);
    else
        add(d, "actions", ALGO_I32, parts, d->actions);
    if (lstm)
        d->b.cols[d->b.n_cols++] = (struct algo_col){ "state_in", ALGO_F32, 2 * CELL,
                                                      ROWS / STEPS, d->state_in, true };
    return d;
}

static double stat(const struct algo_stats *st, const char *name) {
    for (int i = 0; i < st->n; i++)
        if (strcmp(st->names[i], name) == 0)
            return st->values[i];
    fail_msg("no %s among the statistics", name);
    return 0.0;
}

/* ---- gradients ---- */

static bool hold_vtrace;

/* The part of the loss that moves with weight i and no stopped gradient. */
static double moving(const struct algo *a, const struct algo_stats *st, size_t i) {
    const struct params *p = a->params[0];
    size_t at = 0;

    if (!hold_vtrace)
        return stat(st, "total_loss");
    for (int k = 0; k < p->n_tensors; k++) {
        at += (size_t)p->tensors[k].rows * (size_t)p->tensors[k].cols;
        if (i < at)
            return p->tensors[k].name[0] == 'v' ? 0.5 * stat(st, "vf_loss")
                                                : stat(st, "total_loss");
    }
    return 0.0;
}

static void gradient_fits(const char *name, const struct algo_space *action, bool lstm) {
    struct algo *a = make(name, action, lstm);
    struct data *d = random_data(a, 5);
    size_t n = algo_n_gradient(a);
    float *w = malloc(n * sizeof *w), *g = malloc(n * sizeof *g), *scratch = malloc(n * sizeof *g);
    static float adv[ROWS], target[ROWS];
    struct algo_stats st;
    struct skate_error err = { .text = "" };
    double worst = 0.0;

    for (int i = 0; i < ROWS; i++) {    /* else advantages would move with the weights */
        adv[i] = d->rewards[i];
        target[i] = d->actions_f[i];
    }
    for (int i = 0; i < ROWS && hold_vtrace; i++) {
        d->terminateds[i] = 1.0f;
        d->logp[i] = -8.0f;
    }
    add(d, "advantages", ALGO_F32, 1, adv);
    add(d, "value_targets", ALGO_F32, 1, target);
    assert_int_equal(algo_gradient(a, &d->b, g, &st, &err), 0);
    algo_get_weights(a, w);
    for (size_t i = 0; i < n; i += 1 + n / 60) {
        const float h = 3e-3f;
        float keep = w[i];
        double up, down;

        w[i] = keep + h;
        algo_set_weights(a, w, 0);
        assert_int_equal(algo_gradient(a, &d->b, scratch, &st, &err), 0);
        up = moving(a, &st, i);
        w[i] = keep - h;
        algo_set_weights(a, w, 0);
        assert_int_equal(algo_gradient(a, &d->b, scratch, &st, &err), 0);
        down = moving(a, &st, i);
        w[i] = keep;
        algo_set_weights(a, w, 0);
        worst = fmax(worst, fabs((up - down) / (2.0 * (double)h) - (double)g[i]) /
                                (1.0 + fabs((double)g[i])));
    }
    if (worst > 1e-2)
        fail_msg("%s: a gradient is off by %g", name, worst);
    free(w);
    free(g);
    free(scratch);
    free(d);
    algo_free(a);
}

static void gradients(void **state) {
    (void)state;
    gradient_fits("PG", &discrete, false);
    gradient_fits("A2C", &discrete, false);
    gradient_fits("A2C", &multi, false);
    gradient_fits("A2C", &box, false);
    gradient_fits("A2C", &discrete, true);
    gradient_fits("A2C", &box, true);
    gradient_fits("PPO", &discrete, false);
    gradient_fits("PPO", &multi, true);
    gradient_fits("PPO", &box, false);
    gradient_fits("DDPPO", &discrete, true);
}

/* V-trace's targets move with the weights but have no gradient, so they are held still: each step
 * ends an episode and was most improbable, which makes vs the reward. What then moves with the
 * critic is the value loss alone. */
static void asynchronous_gradients(void **state) {
    (void)state;
    hold_vtrace = true;
    gradient_fits("IMPALA", &discrete, false);
    gradient_fits("IMPALA", &box, false);
    gradient_fits("APPO", &discrete, false);
    gradient_fits("APPO", &multi, false);
    hold_vtrace = false;
}

/* A step by gradient() and apply() is a step by learn(). */
static void apart_or_at_once(void **state) {
    struct algo *a = make("A3C", &discrete, false), *b = make("A3C", &discrete, false);
    struct data *d = random_data(a, 3);
    size_t n = algo_n_gradient(a);
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    struct algo_stats st;
    struct skate_error err;

    (void)state;
    assert_int_equal(algo_learn(a, &d->b, &st, &err), 0);
    assert_int_equal(algo_gradient(b, &d->b, x, &st, &err), 0);
    assert_int_equal(algo_apply(b, x, &err), 0);
    assert_int_equal(a->version, 1);
    assert_int_equal(b->version, 1);
    algo_get_weights(a, x);
    algo_get_weights(b, y);
    assert_memory_equal(x, y, n * sizeof *x);
    free(x);
    free(y);
    free(d);
    algo_free(a);
    algo_free(b);
}

/* ---- distributions ---- */

static void draws(void **state) {
    struct algo *a = make("PG", &discrete, false);
    float inputs[4] = { 0.0f, logf(2.0f), logf(3.0f), 9.0f }, mask[4] = { 1, 1, 1, 0 };
    float obs[OBS] = { 0 }, logp[1], said[4];
    int32_t action[1];
    int count[4] = { 0 };
    struct skate_error err;
    struct algo_act io = { .n = 1, .obs = obs, .mask = mask, .explore = true,
                           .actions = action, .logp = logp, .inputs = said };

    (void)state;
    for (int i = 0; i < 6000; i++) {
        assert_int_equal(algo_draw(a, inputs, &io, &err), 0);
        count[action[0]]++;
        assert_true(fabsf(logp[0] - logf((float)(action[0] + 1) / 6.0f)) < 1e-5f);
    }
    for (int k = 0; k < 3; k++)
        assert_in_range(count[k], 1000 * (k + 1) - 200, 1000 * (k + 1) + 200);
    assert_int_equal(count[3], 0);
    io.explore = false;
    assert_int_equal(algo_draw(a, inputs, &io, &err), 0);
    assert_int_equal(action[0], 2);
    inputs[1] = NAN;
    assert_int_equal(algo_draw(a, inputs, &io, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "diverged"));
    algo_free(a);
}

/* What algo_draw() says of a draw is what algo_logp() says of it. */
static void same_logp(void **state) {
    const struct algo_space *const spaces[] = { &discrete, &multi, &box };

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct algo *a = make("A2C", spaces[k], false);
        float inputs[ROWS * 5], logp[ROWS], obs[ROWS * OBS] = { 0 };
        int32_t actions[ROWS * 2];
        struct skate_error err;
        struct algo_act io = { .n = ROWS, .obs = obs, .explore = true, .actions = actions,
                               .logp = logp };
        struct rl_rng r;
        tvar x, y;

        rl_rng_init(&r, 1, 1);
        for (int i = 0; i < ROWS * a->n_inputs; i++)
            inputs[i] = (float)rl_rng_normal(&r);
        assert_int_equal(algo_draw(a, inputs, &io, &err), 0);
        tape_reset(a->tape);
        x = t_data(a->tape, inputs, ROWS, a->n_inputs);
        y = algo_logp(a, x, actions);
        assert_int_not_equal(y, TAPE_BAD);
        for (int i = 0; i < ROWS; i++)
            assert_true(fabsf(tape_value(a->tape, y)[i] - logp[i]) < 1e-4f);
        y = algo_kl(a, x, x);
        for (int i = 0; i < ROWS; i++)
            assert_true(fabsf(tape_value(a->tape, y)[i]) < 1e-5f);
        algo_free(a);
    }
}

/* ---- state ---- */

static void state_goes_on(void **state) {
    for (int lstm = 0; lstm < 2; lstm++) {
        struct algo *a = make("A2C", &discrete, lstm), *b = make("A2C", &discrete, lstm);
        struct data *d = random_data(a, 2);
        size_t n = algo_state_bytes(a);
        char *x = malloc(n), *y = malloc(n);
        struct algo_stats st;
        struct skate_error err;

        (void)state;
        for (int i = 0; i < 3; i++)
            assert_int_equal(algo_learn(a, &d->b, &st, &err), 0);
        algo_get_state(a, x);
        assert_int_equal(algo_set_state(b, x, n), 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(algo_learn(a, &d->b, &st, &err), 0);
            assert_int_equal(algo_learn(b, &d->b, &st, &err), 0);
        }
        algo_get_state(a, x);
        algo_get_state(b, y);
        assert_memory_equal(x, y, n);
        assert_int_equal(algo_set_state(b, x, n - 1), -SKATE_EINVAL);
        x[0] ^= 1;
        assert_int_equal(algo_set_state(b, x, n), -SKATE_EINVAL);
        free(x);
        free(y);
        free(d);
        algo_free(a);
        algo_free(b);
    }
}

/* ---- refusals ---- */

static void refuse(struct algo *a, const struct algo_batch *b, const char *word) {
    struct algo_stats st;
    struct skate_error err = { .text = "" };
    size_t n = algo_n_weights(a) * sizeof(float);
    char *before = malloc(n), *after = malloc(n);

    algo_get_weights(a, (float *)(void *)before);
    assert_int_equal(algo_learn(a, b, &st, &err), -SKATE_EINVAL);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not name %s", err.text, word);
    algo_get_weights(a, (float *)(void *)after);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
}

static void refusals(void **state) {
    struct algo *a = make("A2C", &discrete, false);
    struct data *d = random_data(a, 4);
    struct algo_batch b = d->b;
    struct skate_error err;

    (void)state;
    b.rows = 0;
    refuse(a, &b, "0 rows");
    b = d->b;
    b.n_cols--;
    refuse(a, &b, "'actions'");
    b = d->b;
    b.cols[0].width = 2;
    b.cols[0].rows = ROWS;
    refuse(a, &b, "'obs'");
    d->rewards[5] = NAN;
    refuse(a, &d->b, "'rewards'");
    d->rewards[5] = INFINITY;
    refuse(a, &d->b, "'rewards'");
    d->rewards[5] = 0.0f;
    d->actions[3] = 4;
    refuse(a, &d->b, "'actions'");
    d->actions[3] = -1;
    refuse(a, &d->b, "'actions'");
    d->actions[3] = 0;
    memset(d->mask, 0, sizeof d->mask);
    refuse(a, &d->b, "'mask'");
    assert_int_equal(algo_set(a, "nothing", 1.0, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "'nothing'"));
    assert_int_equal(algo_set(a, "lr", -1.0, &err), -SKATE_EINVAL);
    assert_int_equal(algo_set(a, "entropy_coeff", 0.5, &err), 0);
    assert_true(a->vars[0] == 0.5);
    free(d);
    algo_free(a);
}

static void bad_setups(void **state) {
    struct algo_option option = { .key = "lrr", .list = numbers, .n = 1 };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = OBS }, .action = discrete,
                            .options = &option, .n_options = 1 };
    struct skate_error err;
    struct algo *a;

    (void)state;
    assert_int_equal(algo_new("A2C", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "'lrr'"));
    assert_int_equal(algo_new("NoSuch", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "'NoSuch'"));
    s.n_options = 0;
    s.action.size = 0;
    assert_int_equal(algo_new("A2C", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "action space"));
    s.action = (struct algo_space){ .kind = ALGO_MULTI, .size = 2 };
    assert_int_equal(algo_new("A2C", &s, &a, &err), -SKATE_EINVAL);
    s.action = discrete;
    s.obs = (struct algo_space){ .kind = ALGO_BOX, .size = 27, .image = { 3, 3, 3 } };
    assert_int_equal(algo_new("A2C", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "conv_filters"));
    for (int i = 0; algo_nth(i); i++)       /* each name once */
        assert_ptr_equal(algo_find(algo_nth(i)->name), algo_nth(i));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),     cmocka_unit_test(apart_or_at_once),
        cmocka_unit_test(asynchronous_gradients),
        cmocka_unit_test(draws),         cmocka_unit_test(same_logp),
        cmocka_unit_test(state_goes_on), cmocka_unit_test(refusals),
        cmocka_unit_test(bad_setups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
