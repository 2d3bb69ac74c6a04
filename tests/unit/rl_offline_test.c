/* rl_offline_test.c - BC, MARWIL, CQL, IQL: updates that lower the loss, the same bytes twice and
 * from a checkpoint, acting, and what is left after a batch that cannot be learned from.
 * Formulas and gradients: tests/rl/test_offline_math.py. links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/algo/algo.h"

enum { ROWS = 32, OBS = 3, ACT = 2, CHOICES = 3, OPTIONS = 16, KINDS = 7 };

static const float LOW[ACT] = { -2.0f, 0.0f }, HIGH[ACT] = { 2.0f, 3.0f };
static const double HIDDENS[] = { 12, 8 };

struct kind {
    const char *name;
    bool discrete, lagrangian, one_critic;
    const char *loss;
};

static const struct kind kinds[KINDS] = {
    { "BC", true, false, false, "policy_loss" },
    { "BC", false, false, false, "policy_loss" },
    { "MARWIL", true, false, false, "vf_loss" },
    { "MARWIL", false, false, false, "vf_loss" },
    { "IQL", false, false, false, "actor_loss" },
    { "CQL", false, false, false, "actor_loss" },
    { "CQL", false, true, true, "critic_loss" },
};

struct fixture {
    struct algo_option options[OPTIONS];
    double numbers[OPTIONS];
    struct algo_setup setup;
    struct algo *a;
    float obs[ROWS * OBS], new_obs[ROWS * OBS], rewards[ROWS], terminateds[ROWS], targets[ROWS];
    float actions[ROWS * ACT], td[ROWS];
    int32_t choices[ROWS];
    struct algo_batch b;
};

static void number(struct fixture *f, const char *key, double value) {
    int i = f->setup.n_options++;

    assert_true(i < OPTIONS);
    f->numbers[i] = value;
    f->options[i] = (struct algo_option){ .key = key, .list = &f->numbers[i], .n = 1 };
}

static void column(struct fixture *f, const char *name, enum algo_dtype type, int width,
                   void *p) {
    f->b.cols[f->b.n_cols++] = (struct algo_col){ name, type, width, ROWS, p, true };
}

static void fill(struct fixture *f) {
    struct rl_rng rng;

    rl_rng_init(&rng, 5, 2);
    for (int i = 0; i < ROWS * OBS; i++) {
        f->obs[i] = (float)rl_rng_normal(&rng);
        f->new_obs[i] = (float)rl_rng_normal(&rng);
    }
    for (int i = 0; i < ROWS * ACT; i++)
        f->actions[i] = LOW[i % ACT] + (HIGH[i % ACT] - LOW[i % ACT]) * rl_rng_float(&rng);
    for (int i = 0; i < ROWS; i++) {
        f->choices[i] = (int32_t)rl_rng_below(&rng, CHOICES);
        f->rewards[i] = (float)rl_rng_normal(&rng);
        f->targets[i] = 3.0f * (float)rl_rng_normal(&rng);
        f->terminateds[i] = rl_rng_float(&rng) < 0.3f;
    }
}

static void options(struct fixture *f, const struct kind *k) {
    static const char *const critics[] = { "actor_hiddens", "critic_hiddens" };
    bool pair = k->name[1] == 'Q';      /* CQL, IQL */

    for (int i = 0; i < (pair ? 2 : 1); i++)
        f->options[f->setup.n_options++] = (struct algo_option){
            .key = pair ? critics[i] : "fcnet_hiddens", .list = HIDDENS, .n = 2, .is_list = true };
    number(f, "lr", 1e-2);
    if (k->name[0] == 'C') {
        number(f, "bc_iters", k->lagrangian ? 3 : 1000);
        number(f, "num_actions", 4);
        number(f, "min_q_weight", 0.5);
        number(f, "lagrangian", k->lagrangian);
        number(f, "twin_q", !k->one_critic);
    }
}

static struct fixture *fixture(const struct kind *k) {
    struct fixture *f = calloc(1, sizeof *f);
    struct skate_error err = { { 0 } };

    assert_non_null(f);
    fill(f);
    f->setup.obs = (struct algo_space){ .kind = ALGO_BOX, .size = OBS };
    f->setup.action = (struct algo_space){ .kind = ALGO_BOX, .size = ACT, .low = LOW,
                                           .high = HIGH };
    if (k->discrete)
        f->setup.action = (struct algo_space){ .kind = ALGO_DISCRETE, .size = CHOICES };
    f->setup.options = f->options;
    f->setup.seed = 3;
    options(f, k);
    f->b.rows = ROWS;
    f->b.steps = 1;
    column(f, "obs", ALGO_F32, OBS, f->obs);
    if (k->discrete)
        column(f, "actions", ALGO_I32, 1, f->choices);
    else
        column(f, "actions", ALGO_F32, ACT, f->actions);
    column(f, "new_obs", ALGO_F32, OBS, f->new_obs);
    column(f, "rewards", ALGO_F32, 1, f->rewards);
    column(f, "terminateds", ALGO_F32, 1, f->terminateds);
    column(f, "value_targets", ALGO_F32, 1, f->targets);
    column(f, "td_errors", ALGO_F32, 1, f->td);
    if (algo_new(k->name, &f->setup, &f->a, &err))
        fail_msg("%s: %s", k->name, err.text);
    return f;
}

static void end(struct fixture *f) {
    algo_free(f->a);
    free(f);
}

/* The named statistic of one update. */
static double learn(struct fixture *f, const char *name) {
    struct algo_stats st = { 0 };
    struct skate_error err = { { 0 } };

    if (algo_learn(f->a, &f->b, &st, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < st.n; i++)
        if (!strcmp(st.names[i], name))
            return st.values[i];
    fail_msg("no statistic %s", name);
    return 0;
}

static void *state_of(const struct fixture *f) {
    void *block = malloc(algo_state_bytes(f->a));

    assert_non_null(block);
    algo_get_state(f->a, block);
    return block;
}

static void assert_same(const struct fixture *a, const struct fixture *b) {
    void *one = state_of(a), *two = state_of(b);

    assert_int_equal(algo_state_bytes(a->a), algo_state_bytes(b->a));
    assert_memory_equal(one, two, algo_state_bytes(a->a));
    free(one);
    free(two);
}

static void updates_lower_the_loss(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        struct fixture *f = fixture(&kinds[i]);
        double first = learn(f, kinds[i].loss), last = first;

        for (int k = 0; k < 150; k++)
            last = learn(f, kinds[i].loss);
        /* With the multiplier the losses pull at each other: finite is enough. */
        if (!kinds[i].lagrangian && !(last < first - 0.05 * fabs(first)))
            fail_msg("%s: %s went from %g to %g", kinds[i].name, kinds[i].loss, first, last);
        end(f);
    }
}

static void same_bytes_also_from_a_checkpoint(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        struct fixture *a = fixture(&kinds[i]), *b = fixture(&kinds[i]), *c = fixture(&kinds[i]);
        void *kept;

        for (int k = 0; k < 5; k++) {
            learn(a, kinds[i].loss);
            learn(b, kinds[i].loss);
        }
        assert_same(a, b);
        kept = state_of(a);
        learn(c, kinds[i].loss);        /* other numbers, which the state replaces */
        assert_int_equal(algo_set_state(c->a, kept, algo_state_bytes(a->a)), 0);
        free(kept);
        for (int k = 0; k < 5; k++) {
            learn(a, kinds[i].loss);
            learn(c, kinds[i].loss);
        }
        assert_same(a, c);
        end(a);
        end(b);
        end(c);
    }
}

static void acts_in_its_space(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        struct fixture *f = fixture(&kinds[i]);
        float actions[ROWS * ACT], logp[ROWS], inputs[ROWS * 2 * ACT];
        int32_t choices[ROWS];
        struct algo_act io = { .n = ROWS, .obs = f->obs, .explore = true, .logp = logp,
                               .inputs = inputs };
        struct skate_error err;

        io.actions = kinds[i].discrete ? (void *)choices : (void *)actions;
        assert_int_equal(algo_act(f->a, &io, &err), 0);
        for (int k = 0; k < ROWS; k++) {
            assert_true(isfinite(logp[k]));
            if (kinds[i].discrete)
                assert_in_range(choices[k], 0, CHOICES - 1);
        }
        for (int k = 0; k < ROWS * ACT && kinds[i].name[1] == 'Q'; k++) {
            assert_true(actions[k] >= LOW[k % ACT]);
            assert_true(actions[k] <= HIGH[k % ACT]);
        }
        end(f);
    }
}

/* Fails with a sentence, and leaves everything but the random numbers as it was. */
static void refuses(struct fixture *f, const struct fixture *twin, const char *word) {
    struct algo_stats st = { 0 };
    struct skate_error err = { { 0 } };

    assert_int_equal(algo_learn(f->a, &f->b, &st, &err), -SKATE_EINVAL);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not say '%s'", err.text, word);
    for (int i = 0; i < f->a->n_params; i++)
        assert_memory_equal(f->a->params[i]->value, twin->a->params[i]->value,
                            f->a->params[i]->n_padded * sizeof(float));
    assert_memory_equal(f->a->vars, twin->a->vars, sizeof f->a->vars);
}

static void batches_that_cannot_be_learned_from(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        struct fixture *f = fixture(&kinds[i]), *twin = fixture(&kinds[i]);
        bool pair = kinds[i].name[1] == 'Q', marwil = kinds[i].name[0] == 'M';

        f->obs[4] = NAN;
        refuses(f, twin, "obs");
        f->obs[4] = 0.0f;
        if (pair) {
            f->rewards[2] = INFINITY;
            refuses(f, twin, "rewards");
            f->rewards[2] = 0.0f;
        }
        if (marwil) {
            f->targets[2] = 1e30f;      /* exp() of it is not finite */
            refuses(f, twin, "finite");
            f->targets[2] = 0.0f;
        }
        f->b.cols[1].name = "other";
        refuses(f, twin, "actions");
        f->b.cols[1].name = "actions";
        learn(f, kinds[i].loss);
        end(f);
        end(twin);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_lower_the_loss),
        cmocka_unit_test(same_bytes_also_from_a_checkpoint),
        cmocka_unit_test(acts_in_its_space),
        cmocka_unit_test(batches_that_cannot_be_learned_from),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
