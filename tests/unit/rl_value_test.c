/* rl_value_test.c - DQN, R2D2 and QMIX: act, learn, states, padding, refusals (for sanitizers;
 * the numbers are checked in tests/rl). links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/algo/algo.h"

enum { OBS = 6, ROWS = 24, STEPS = 6, SEQUENCES = ROWS / STEPS, PARTS = 3, OPTIONS = 6 };

static const int part_sizes[PARTS] = { 2, 2, 2 };

struct data {
    float obs[ROWS * OBS], new_obs[ROWS * OBS], rewards[ROWS], over[ROWS], mask[ROWS];
    float weights[ROWS], errors[ROWS], state[ROWS * 64];
    int32_t actions[ROWS * PARTS];
};

static void fill(struct data *d, uint64_t seed) {
    struct rl_rng rng;

    rl_rng_init(&rng, seed, 1);
    for (int i = 0; i < ROWS * OBS; i++) {
        d->obs[i] = 2.0f * rl_rng_float(&rng) - 1.0f;
        d->new_obs[i] = 2.0f * rl_rng_float(&rng) - 1.0f;
    }
    for (int i = 0; i < ROWS; i++) {
        d->rewards[i] = rl_rng_float(&rng);
        d->over[i] = rl_rng_below(&rng, 5) == 0;
        d->mask[i] = i >= 2 && i < ROWS - 1;
        d->weights[i] = rl_rng_float(&rng);
    }
    for (int i = 0; i < ROWS * PARTS; i++)
        d->actions[i] = (int32_t)rl_rng_below(&rng, 2);
    memset(d->state, 0, sizeof(d->state));
}

static void column(struct algo_batch *b, const char *name, void *p, int rows, int width) {
    b->cols[b->n_cols++] = (struct algo_col){ name, ALGO_F32, width, rows, p, true };
}

static struct algo *make(const char *name, bool parts, uint64_t seed) {
    const double small = 5, atoms = 7, on = 1;
    struct algo_option options[OPTIONS] = {
        { .key = "fcnet_hiddens", .list = &small, .n = 1, .is_list = true },
        { .key = "lstm_cell_size", .list = &small, .n = 1 },
        { .key = "num_atoms", .list = &atoms, .n = 1 },
        { .key = "noisy", .list = &on, .n = 1 },
    };
    bool dqn = strcmp(name, "DQN") == 0;
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = OBS },
                            .action = { .kind = ALGO_DISCRETE, .size = 2 },
                            .options = options, .n_options = 2, .seed = seed };
    struct skate_error err = { .text = "" };
    struct algo *a = NULL;

    if (parts)
        s.action = (struct algo_space){ .kind = ALGO_MULTI, .size = PARTS, .sizes = part_sizes };
    if (dqn) {
        options[1] = options[3];
        s.n_options = 3;
    }
    assert_int_equal(algo_new(name, &s, &a, &err), 0);
    return a;
}

static int learn(struct algo *a, struct data *d, bool parts, struct skate_error *err) {
    bool dqn = strcmp(a->api->name, "DQN") == 0;
    struct algo_batch b = { .rows = ROWS, .steps = dqn ? 1 : STEPS };
    struct algo_stats st = { .n = 0 };

    column(&b, "obs", d->obs, ROWS, OBS);
    column(&b, "new_obs", d->new_obs, ROWS, OBS);
    column(&b, "rewards", d->rewards, ROWS, 1);
    column(&b, "terminateds", d->over, ROWS, 1);
    column(&b, "weights", d->weights, ROWS, 1);
    if (!parts)
        column(&b, "td_errors", d->errors, dqn ? ROWS : SEQUENCES, 1);
    if (!dqn) {
        column(&b, "mask", d->mask, ROWS, 1);
        column(&b, "state_in", d->state, SEQUENCES, a->state_size);
    }
    column(&b, "actions", d->actions, ROWS, parts ? PARTS : 1);
    b.cols[b.n_cols - 1].dtype = ALGO_I32;
    return algo_learn(a, &b, &st, err);
}

static void act(struct algo *a, struct data *d, bool parts) {
    float logp[ROWS], vf[ROWS], inputs[ROWS * PARTS * 2];
    struct skate_error err = { .text = "" };
    struct algo_act io = { .n = ROWS, .obs = d->obs, .explore = true, .epsilon = 0.5f,
                           .actions = d->actions, .logp = logp, .vf = vf, .inputs = inputs,
                           .state = a->state_size ? d->state : NULL };

    assert_int_equal(algo_act(a, &io, &err), 0);
    for (int i = 0; i < ROWS * (parts ? PARTS : 1); i++)
        assert_in_range(d->actions[i], 0, 1);
    for (int i = 0; i < ROWS; i++)
        assert_true(logp[i] <= 0.0f && isfinite(vf[i]));
}

static void go_on_from(const char *name, bool parts) {
    struct algo *a = make(name, parts, 1), *b = make(name, parts, 2);
    size_t bytes = algo_state_bytes(a);
    void *block = malloc(bytes), *other = malloc(bytes);
    struct data *d = malloc(sizeof(*d));
    struct skate_error err = { .text = "" };

    for (uint64_t k = 0; k < 5; k++) {
        fill(d, k);
        act(a, d, parts);
        fill(d, k);
        if (k == 2)
            assert_int_equal(algo_set(a, "update_target", 1.0, &err), 0);
        assert_int_equal(learn(a, d, parts, &err), 0);
    }
    algo_get_state(a, block);
    assert_int_equal(algo_set_state(b, block, bytes), 0);
    fill(d, 9);
    assert_int_equal(learn(a, d, parts, &err), 0);
    fill(d, 9);
    assert_int_equal(learn(b, d, parts, &err), 0);
    algo_get_state(a, block);
    algo_get_state(b, other);
    assert_memory_equal(block, other, bytes);
    d->rewards[3] = NAN;
    assert_int_equal(learn(a, d, parts, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "rewards"));
    free(block);
    free(other);
    free(d);
    algo_free(a);
    algo_free(b);
}

static void dqn_goes_on(void **state) {
    (void)state;
    go_on_from("DQN", false);
}

static void r2d2_goes_on(void **state) {
    (void)state;
    go_on_from("R2D2", false);
}

static void qmix_goes_on(void **state) {
    (void)state;
    go_on_from("QMIX", true);
}

/* Sequences without a step to learn from, teams of unlike agents, actions that are not parts. */
static void mistakes_are_refused(void **state) {
    static const int unlike[2] = { 2, 3 };
    struct algo *a = make("R2D2", false, 1);
    struct data *d = malloc(sizeof(*d));
    struct skate_error err = { .text = "" };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = OBS },
                            .action = { .kind = ALGO_MULTI, .size = 2, .sizes = unlike } };

    (void)state;
    fill(d, 1);
    memset(d->mask, 0, sizeof(d->mask));
    assert_int_equal(learn(a, d, false, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "no step to learn from"));
    algo_free(a);
    free(d);
    assert_int_equal(algo_new("QMIX", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "one action space"));
    s.action.sizes = part_sizes;
    s.obs.size = 5;
    assert_int_equal(algo_new("QMIX", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "one observation space"));
    assert_int_equal(algo_new("DQN", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "Discrete"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dqn_goes_on),
        cmocka_unit_test(r2d2_goes_on),
        cmocka_unit_test(qmix_goes_on),
        cmocka_unit_test(mistakes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
