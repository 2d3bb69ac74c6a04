/* rl_mcts_test.c - the tree search: visits, masks, players, subtrees, bounds; tic-tac-toe solved.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/own/mcts.h"

static const struct mcts_opts plain = { .actions = 9, .simulations = 50, .puct = 1.5,
                                        .temperature = 1.0, .gamma = 1.0 };

static struct mcts *tree(const struct mcts_opts *o) {
    struct mcts *m = NULL;

    assert_int_equal(mcts_new(o, &m, NULL), 0);
    return m;
}

/* A board: 0 empty, 1 and 2 the players. */
struct board {
    int cells[9], player;
};

static int won(const struct board *b, int player) {
    static const int lines[8][3] = { { 0, 1, 2 }, { 3, 4, 5 }, { 6, 7, 8 }, { 0, 3, 6 },
                                     { 1, 4, 7 }, { 2, 5, 8 }, { 0, 4, 8 }, { 2, 4, 6 } };

    for (int i = 0; i < 8; i++)
        if (b->cells[lines[i][0]] == player && b->cells[lines[i][1]] == player &&
            b->cells[lines[i][2]] == player)
            return 1;
    return 0;
}

static int full(const struct board *b) {
    for (int i = 0; i < 9; i++)
        if (!b->cells[i])
            return 0;
    return 1;
}

/* Simulations with even priors and no judgement of positions. */
static void search(struct mcts *m, struct board *boards, int n, struct rl_rng *rng) {
    static const float even[9];

    for (int i = 0; i < n; i++) {
        struct mcts_leaf leaf = mcts_select(m);
        struct mcts_found found = { .logits = even };
        float mask[9];
        struct board b = boards[leaf.parent < 0 ? 0 : leaf.parent];
        int node;

        if (leaf.known)
            continue;
        if (leaf.parent >= 0) {
            assert_int_equal(b.cells[leaf.action], 0);
            b.cells[leaf.action] = b.player + 1;
            found.reward = won(&b, b.player + 1) ? 1.0 : 0.0;
            b.player = !b.player;
        }
        found.terminal = found.reward > 0.0 || full(&b);
        found.player = b.player;
        for (int k = 0; k < 9; k++)
            mask[k] = b.cells[k] ? 0.0f : 1.0f;
        found.mask = mask;
        node = mcts_expand(m, &found, rng);
        assert_true(node >= 0);
        boards[node] = b;
    }
}

static int answer(const struct board *b, int simulations, double *value) {
    struct mcts_opts o = plain;
    struct mcts *m;
    struct board *boards;
    struct rl_rng rng;
    int action;

    o.simulations = simulations;
    m = tree(&o);
    boards = calloc((size_t)mcts_capacity(m), sizeof(*boards));
    boards[0] = *b;
    rl_rng_init(&rng, 1, 1);
    search(m, boards, simulations, &rng);
    action = mcts_choose(m, true, &rng);
    *value = mcts_value(m);
    free(boards);
    mcts_free(m);
    return action;
}

static void finds_the_win_and_the_block(void **state) {
    struct board win = { .cells = { 1, 1, 0, 2, 2, 0, 0, 0, 0 }, .player = 0 };
    struct board block = { .cells = { 1, 0, 0, 2, 2, 0, 1, 0, 0 }, .player = 0 };
    struct board lost = { .cells = { 1, 0, 1, 0, 2, 0, 1, 0, 2 }, .player = 1 };
    double value;

    (void)state;
    assert_int_equal(answer(&win, 200, &value), 2);
    assert_true(value > 0.8);
    block.cells[0] = 0;
    block.cells[8] = 1;                         /* 1 at 6, 8: it wins itself with 7 */
    assert_int_equal(answer(&block, 200, &value), 7);
    block.cells[8] = 0;
    block.cells[1] = 1;                         /* 1 at 1, 6: it must block 5 */
    assert_int_equal(answer(&block, 800, &value), 5);
    answer(&lost, 2000, &value);                /* two threats at once: the first player wins */
    assert_true(value < -0.6);
}

static void visits_add_up(void **state) {
    struct mcts *m = tree(&plain);
    struct board *boards = calloc((size_t)mcts_capacity(m), sizeof(*boards));
    struct rl_rng rng;
    float p[9];
    double sum = 0.0;

    (void)state;
    rl_rng_init(&rng, 4, 4);
    boards[0].cells[4] = 1;
    boards[0].player = 1;
    search(m, boards, 50, &rng);
    assert_int_equal(mcts_visits(m), 50);
    mcts_policy(m, p);
    for (int i = 0; i < 9; i++)
        sum += (double)p[i];
    assert_true(fabs(sum - 1.0) < 1e-6);
    assert_true(p[4] == 0.0f);
    for (int i = 0; i < 100; i++)
        assert_true(mcts_choose(m, false, &rng) != 4);
    free(boards);
    mcts_free(m);
}

static void a_kept_subtree_is_the_same(void **state) {
    struct mcts_opts o = plain;
    struct mcts *m;
    struct board *boards;
    struct rl_rng rng;
    float before[9], after[9];
    int action, kept, *moved, visits;

    (void)state;
    o.simulations = 400;
    m = tree(&o);
    boards = calloc((size_t)mcts_capacity(m), sizeof(*boards));
    moved = calloc((size_t)mcts_capacity(m), sizeof(*moved));
    rl_rng_init(&rng, 2, 2);
    search(m, boards, 400, &rng);
    action = mcts_choose(m, true, &rng);
    mcts_policy(m, before);
    kept = mcts_advance(m, action, moved, &rng);
    visits = mcts_visits(m);
    assert_true(kept > 10 && visits >= kept);
    assert_true(fabs((double)before[action] * 399 - visits) < 0.01);
    for (int i = 0; i < 400; i++)
        if (moved[i] >= 0)
            boards[moved[i]] = boards[i];
    assert_int_equal(boards[0].cells[action], 1);
    mcts_policy(m, before);
    search(m, boards, 400, &rng);           /* states still fit: search() checks each move */
    mcts_policy(m, after);
    assert_int_equal(mcts_visits(m), visits + 400);
    assert_int_equal(mcts_advance(m, action, moved, &rng), 0);      /* a taken cell */
    assert_int_equal(mcts_visits(m), 0);
    free(moved);
    free(boards);
    mcts_free(m);
}

static void the_tree_is_bounded(void **state) {
    struct mcts_opts o = { .actions = 3, .simulations = 4, .puct = 1.0, .temperature = 1.0,
                           .gamma = 0.9 };
    struct mcts *m = tree(&o);
    static const float even[3];
    struct rl_rng rng;

    (void)state;
    rl_rng_init(&rng, 6, 6);
    for (int i = 0; i < 1000; i++) {
        struct mcts_leaf leaf = mcts_select(m);
        struct mcts_found found = { .logits = even, .value = 0.5 };

        if (!leaf.known)
            assert_in_range(mcts_expand(m, &found, &rng), 0, mcts_capacity(m) - 1);
    }
    assert_int_equal(mcts_visits(m), 1000);
    assert_true(mcts_value(m) > 0.0 && mcts_value(m) <= 0.5);
    mcts_free(m);
}

static void bad_numbers_change_nothing(void **state) {
    struct mcts *m = tree(&plain), *none = NULL;
    struct mcts_opts o = plain;
    struct skate_error err = { "" };
    float logits[9] = { 0 }, forbidden[9] = { 0 };
    struct mcts_found found = { .logits = logits };
    struct rl_rng rng;

    (void)state;
    rl_rng_init(&rng, 1, 1);
    assert_int_equal(mcts_expand(m, &found, &rng), -SKATE_EINVAL);  /* nothing selected */
    assert_int_equal(mcts_choose(m, true, &rng), -SKATE_EINVAL);
    mcts_select(m);
    found.value = (double)NAN;
    assert_int_equal(mcts_expand(m, &found, &rng), -SKATE_EINVAL);
    found.value = 0.0;
    found.mask = forbidden;
    assert_int_equal(mcts_expand(m, &found, &rng), -SKATE_EINVAL);
    found.mask = NULL;
    logits[3] = NAN;
    assert_int_equal(mcts_expand(m, &found, &rng), -SKATE_EINVAL);
    assert_int_equal(mcts_visits(m), 0);
    logits[3] = 0.0f;
    assert_int_equal(mcts_expand(m, &found, &rng), 0);
    o.simulations = 0;
    assert_int_equal(mcts_new(&o, &none, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "num_simulations"));
    o = plain;
    o.puct = (double)NAN;
    assert_int_equal(mcts_new(&o, &none, &err), -SKATE_EINVAL);
    mcts_free(m);
}

static void dirichlet_has_its_moments(void **state) {
    static const double alphas[] = { 0.03, 0.3, 1.0, 4.0 };
    struct rl_rng rng;

    (void)state;
    rl_rng_init(&rng, 8, 8);
    for (int k = 0; k < 4; k++) {
        double x[5], mean = 0.0, square = 0.0, a = alphas[k];
        const int n = 20000;
        const double variance = 4.0 / (25.0 * (5.0 * a + 1.0));

        for (int i = 0; i < n; i++) {
            mcts_dirichlet(&rng, a, 5, x);
            assert_true(fabs(x[0] + x[1] + x[2] + x[3] + x[4] - 1.0) < 1e-9);
            mean += x[2] / n;
            square += x[2] * x[2] / n;
        }
        assert_true(fabs(mean - 0.2) < 6 * sqrt(variance / n));
        assert_true(fabs(square - mean * mean - variance) < 0.05 * variance);
    }
}

static void noise_moves_the_root_only_within_the_mask(void **state) {
    struct mcts_opts o = plain;
    struct mcts *m;
    struct board boards[600];
    struct rl_rng rng;
    int first[9] = { 0 };

    (void)state;
    o.epsilon = 1.0;
    o.alpha = 0.3;
    m = tree(&o);
    rl_rng_init(&rng, 3, 3);
    for (int i = 0; i < 60; i++) {
        memset(boards, 0, sizeof(boards));
        boards[0].cells[0] = 1;
        boards[0].player = 1;
        mcts_reset(m);
        search(m, boards, 10, &rng);
        first[mcts_choose(m, true, &rng)]++;
    }
    assert_int_equal(first[0], 0);
    for (int i = 1; i < 9; i++)
        assert_true(first[i] > 0 && first[i] < 30);
    mcts_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_win_and_the_block),
        cmocka_unit_test(visits_add_up),
        cmocka_unit_test(a_kept_subtree_is_the_same),
        cmocka_unit_test(the_tree_is_bounded),
        cmocka_unit_test(bad_numbers_change_nothing),
        cmocka_unit_test(dirichlet_has_its_moments),
        cmocka_unit_test(noise_moves_the_root_only_within_the_mask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
