/* rl_alphazero_test.c - AlphaZero's loss and gradient against finite differences; search in C.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/own/az.h"

enum { OBS = 4, ACTIONS = 3, ROWS = 7 };

struct data {
    float obs[ROWS * OBS], policies[ROWS * ACTIONS], label[ROWS], mask[ROWS * ACTIONS];
};

static struct algo *make(bool shared) {
    double numbers[] = { 1e-2, shared, 6, 5 };
    struct algo_option options[] = {
        { .key = "lr", .list = numbers, .n = 1 },
        { .key = "vf_share_layers", .list = numbers + 1, .n = 1 },
        { .key = "fcnet_hiddens", .list = numbers + 2, .n = 2, .is_list = true } };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = OBS },
                            .action = { .kind = ALGO_DISCRETE, .size = ACTIONS },
                            .options = options, .n_options = 3, .seed = 4 };
    struct skate_error err = { "" };
    struct algo *a = NULL;

    if (algo_new("AlphaZero", &s, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static struct data random_data(void) {
    struct data d;
    struct rl_rng rng;

    rl_rng_init(&rng, 5, 5);
    for (int i = 0; i < ROWS * OBS; i++)
        d.obs[i] = (float)rl_rng_normal(&rng);
    for (int i = 0; i < ROWS; i++) {
        float *p = d.policies + i * ACTIONS, *m = d.mask + i * ACTIONS, sum = 0.0f;

        d.label[i] = (float)rl_rng_normal(&rng);
        for (int k = 0; k < ACTIONS; k++) {
            m[k] = k == i % 4 ? 0.0f : 1.0f;
            p[k] = m[k] * (0.1f + rl_rng_float(&rng));
            sum += p[k];
        }
        for (int k = 0; k < ACTIONS; k++)
            p[k] /= sum;
    }
    return d;
}

static struct algo_batch batch(struct data *d, bool masked) {
    return (struct algo_batch){ .rows = ROWS, .steps = 1, .n_cols = masked ? 4 : 3, .cols = {
        { "obs", ALGO_F32, OBS, ROWS, d->obs, false },
        { "mcts_policies", ALGO_F32, ACTIONS, ROWS, d->policies, false },
        { "value_label", ALGO_F32, 1, ROWS, d->label, false },
        { "action_mask", ALGO_F32, ACTIONS, ROWS, d->mask, false } } };
}

/* The loss from what act() says, in doubles. */
static double loss(struct algo *a, const struct data *d, bool masked) {
    float inputs[ROWS * ACTIONS], values[ROWS];
    int32_t actions[ROWS];
    struct algo_act io = { .n = ROWS, .obs = d->obs, .actions = actions, .inputs = inputs,
                           .vf = values };
    double sum = 0.0;

    assert_int_equal(algo_act(a, &io, NULL), 0);
    for (int i = 0; i < ROWS; i++) {
        const float *y = inputs + i * ACTIONS, *m = d->mask + i * ACTIONS;
        double all = 0.0, error = (double)(values[i] - d->label[i]);

        for (int k = 0; k < ACTIONS; k++)
            all += masked && !(m[k] > 0.0f) ? 0.0 : exp((double)y[k]);
        for (int k = 0; k < ACTIONS; k++)
            sum -= (double)d->policies[i * ACTIONS + k] * ((double)y[k] - log(all));
        sum += error * error;
    }
    return sum / 2 / ROWS;
}

static void check_gradient(bool shared, bool masked) {
    struct algo *a = make(shared);
    struct data d = random_data();
    struct algo_batch b = batch(&d, masked);
    struct algo_stats st;
    size_t n = algo_n_weights(a);
    float *w = malloc(n * sizeof(*w)), *g = malloc(n * sizeof(*g));

    assert_int_equal(algo_n_gradient(a), n);
    algo_get_weights(a, w);
    assert_int_equal(algo_gradient(a, &b, g, &st, NULL), 0);
    assert_true(fabs(st.values[0] - loss(a, &d, masked)) < 1e-5);
    for (size_t i = 0; i < n; i++) {
        float old = w[i], step = 4e-3f;
        double up, down;

        w[i] = old + step;
        algo_set_weights(a, w, 0);
        up = loss(a, &d, masked);
        w[i] = old - step;
        algo_set_weights(a, w, 0);
        down = loss(a, &d, masked);
        w[i] = old;
        assert_true(fabs((up - down) / (2.0 * (double)step) - (double)g[i]) < 2e-4);
    }
    free(w);
    free(g);
    algo_free(a);
}

static void gradients_are_those_of_the_loss(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++)
        check_gradient(i & 1, i & 2);
}

static void learning_lowers_the_loss(void **state) {
    struct algo *a = make(false);
    struct data d = random_data();
    struct algo_batch b = batch(&d, false);
    struct algo_stats st;
    double before = loss(a, &d, false);

    (void)state;
    for (int i = 0; i < 200; i++)
        assert_int_equal(algo_learn(a, &b, &st, NULL), 0);
    assert_true(loss(a, &d, false) < 0.6 * before);
    algo_free(a);
}

static void a_missing_column_is_named(void **state) {
    struct algo *a = make(false);
    struct data d = random_data();
    struct algo_batch b = batch(&d, true);
    struct algo_stats st;
    struct skate_error err = { "" };

    (void)state;
    b.cols[1].name = "policies";
    assert_int_equal(algo_learn(a, &b, &st, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "mcts_policies"));
    b = batch(&d, true);
    b.cols[3].width = 2;
    assert_int_equal(algo_learn(a, &b, &st, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "action_mask"));
    algo_free(a);
}

static struct rl_env *board(const char *name, const char *config) {
    struct rl_env_opts o = { .name = name, .config = config, .lanes = 1, .max_steps = -1,
                             .mode = RL_ENV_NEVER };
    struct rl_env *env = NULL;
    uint64_t seed = 3;

    assert_int_equal(rl_env_open(&o, &env, NULL), 0);
    assert_int_equal(rl_env_reset(env, NULL, &seed, NULL), 0);
    return env;
}

static struct algo *net_for(int obs, int actions) {
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = obs },
                            .action = { .kind = ALGO_DISCRETE, .size = actions }, .seed = 4 };
    struct algo *a = NULL;

    assert_int_equal(algo_new("AlphaZero", &s, &a, NULL), 0);
    return a;
}

static struct az_opts opts(int simulations) {
    return (struct az_opts){ .tree = { .simulations = simulations, .puct = 1.5, .gamma = 1.0,
                                       .temperature = 1.0 }, .seed = 1 };
}

/* A game of the search against random moves; the search's result. */
static double game(struct az_search *s, struct rl_env *env, bool first, struct rl_rng *rng) {
    float seen[18], mask[9], policy[9], after[18];
    bool ended = false, mine = first;
    double reward = 0.0;

    assert_int_equal(rl_env_reset(env, NULL, NULL, NULL), 0);
    az_restart(s);
    while (!ended) {
        int action = az_think(s, true, seen, mask, policy, NULL);
        double sum = 0.0;

        assert_in_range(action, 0, 8);
        for (int i = 0; i < 18; i++)            /* the lane is where it was */
            after[i] = (float)((const uint8_t *)rl_env_rows(env)->obs)[i];
        assert_memory_equal(seen, after, sizeof(seen));
        for (int i = 0; i < 9; i++) {
            assert_true(mask[i] > 0.0f || !(policy[i] > 0.0f));
            sum += (double)policy[i];
        }
        assert_true(fabs(sum - 1.0) < 1e-5);
        while (!mine && !(mask[action = (int)rl_rng_below(rng, 9)] > 0.0f))
            continue;
        assert_int_equal(az_move(s, action, &reward, &ended, NULL), 0);
        reward = mine ? reward : -reward;
        mine = !mine;
    }
    return reward;
}

static void a_search_without_learning_plays_well(void **state) {
    struct rl_env *env = board("TicTacToe-v0", "{\"opponent\": \"self\"}");
    struct algo *net = net_for(18, 9);
    struct az_opts o = opts(150);
    struct az_search *s = NULL;
    struct rl_rng rng;
    double sum = 0.0;

    (void)state;
    rl_rng_init(&rng, 2, 2);
    assert_int_equal(az_new(net, env, &o, &s, NULL), 0);
    for (int i = 0; i < 12; i++) {
        double result = game(s, env, i & 1, &rng);

        assert_true(result >= 0.0);
        sum += result;
    }
    assert_true(sum >= 8.0);
    az_free(s);
    algo_free(net);
    rl_env_free(env);
}

static void searches_repeat(void **state) {
    struct rl_env *env = board("CartPole-v1", "{}");
    struct algo *net = net_for(4, 2);
    struct az_opts o = opts(40);
    struct az_search *s, *t;
    float obs[4], mask[2], p[2], q[2];

    (void)state;
    o.tree.epsilon = 0.25;
    o.tree.alpha = 0.5;
    assert_int_equal(az_new(net, env, &o, &s, NULL), 0);
    assert_int_equal(az_new(net, env, &o, &t, NULL), 0);
    az_restart(s);
    az_restart(t);
    assert_int_equal(az_think(s, false, obs, mask, p, NULL),
                     az_think(t, false, obs, mask, q, NULL));
    assert_memory_equal(p, q, sizeof(p));
    assert_int_equal(mcts_visits(az_tree(s)), 40);
    az_free(s);
    az_free(t);
    algo_free(net);
    rl_env_free(env);
}

static void what_cannot_be_searched_is_said(void **state) {
    struct rl_env *env = board("Pendulum-v1", "{}"), *cart = board("CartPole-v1", "{}");
    struct algo *net = net_for(3, 2);
    struct az_opts o = opts(40);
    struct az_search *s = NULL;
    struct skate_error err = { "" };

    (void)state;
    assert_int_equal(az_new(net, env, &o, &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "action space"));
    assert_int_equal(az_new(net, cart, &o, &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "observation space"));
    algo_free(net);
    rl_env_free(env);
    rl_env_free(cart);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_loss),
        cmocka_unit_test(learning_lowers_the_loss),
        cmocka_unit_test(a_missing_column_is_named),
        cmocka_unit_test(a_search_without_learning_plays_well),
        cmocka_unit_test(searches_repeat),
        cmocka_unit_test(what_cannot_be_searched_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
