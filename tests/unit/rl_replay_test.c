/* rl_replay_test.c - the priority tree against plain sums, the ring, states, n-step, sequences,
 * episodes. links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/replay/episodes.h"
#include "rl/replay/nstep.h"
#include "rl/replay/prio.h"
#include "rl/replay/replay.h"
#include "rl/replay/seq.h"

/* The place found is the one at which a plain running sum passes the target. */
static void check_tree(struct prio *p, const float *plain, uint32_t n, struct rl_rng *rng) {
    double total = 0.0, least = INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        total += (double)plain[i];
        if (plain[i] > 0.0f && (double)plain[i] < least)
            least = (double)plain[i];
    }
    assert_true(fabs((double)prio_total(p) - total) <= 1e-5 * total);
    assert_true((double)prio_least(p) == least);
    for (int k = 0; k < 50; k++) {
        double target = total * (double)rl_rng_float(rng), before = 0.0;
        uint32_t at = prio_find(p, target);

        for (uint32_t i = 0; i < at && i < n; i++)
            before += (double)plain[i];
        assert_true(before <= target + 1e-5 * total);
        if (at < n)
            assert_true(before + (double)plain[at] >= target - 1e-5 * total);
    }
}

static void tree_is_a_running_sum(void **state) {
    static const uint32_t sizes[] = { 1, 2, 15, 16, 17, 255, 256, 257, 4097, 70000 };
    struct rl_rng rng;

    (void)state;
    rl_rng_init(&rng, 7, 0);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint32_t n = sizes[s], rows[700];
        float *plain = calloc(n, sizeof(float)), values[700];
        struct prio p;

        assert_int_equal(prio_init(&p, n), 0);
        assert_true(isinf(prio_least(&p)));
        for (int round = 0; round < 6; round++) {
            uint32_t m = 1 + rl_rng_below(&rng, 700);

            for (uint32_t i = 0; i < m; i++) {
                rows[i] = rl_rng_below(&rng, n);
                values[i] = 0.01f + 10.0f * rl_rng_float(&rng);
                plain[rows[i]] = values[i];
            }
            prio_set(&p, rows, values, m);
            check_tree(&p, plain, n, &rng);
        }
        prio_release(&p);
        free(plain);
    }
}

static struct replay *make(uint64_t capacity, double alpha) {
    struct replay_opts o = { .capacity = capacity,
                             .n_cols = 2,
                             .cols = { { "number", 4 }, { "wide", 12 } },
                             .alpha = alpha,
                             .seed = 3 };
    struct replay *r = NULL;

    assert_int_equal(replay_new(&o, &r), 0);
    return r;
}

static int add(struct replay *r, uint32_t first, uint32_t n, const float *priorities) {
    uint32_t *number = malloc(n * sizeof(*number)), *wide = malloc(3 * n * sizeof(*wide));
    const void *columns[2] = { number, wide };
    int code;

    for (uint32_t i = 0; i < n; i++) {
        number[i] = first + i;
        for (uint32_t k = 0; k < 3; k++)
            wide[3 * i + k] = 10 * (first + i) + k;
    }
    code = replay_add(r, columns, n, priorities);
    free(number);
    free(wide);
    return code;
}

/* After 100 rows in pieces of all sizes, the ring holds the last ones and says their ages. */
static void ring_keeps_the_newest(void **state) {
    for (uint32_t piece = 1; piece < 40; piece++) {
        struct replay *r = make(17, 0.6);
        uint32_t rows[17], number[17], wide[51], added = 0;

        (void)state;
        for (; added < 100; added += piece)
            assert_int_equal(add(r, added, piece, NULL), 0);
        assert_int_equal(replay_size(r), 17);
        assert_int_equal(replay_added(r), added);
        for (uint32_t i = 0; i < 17; i++)
            rows[i] = i;
        assert_int_equal(replay_gather(r, 0, rows, 17, number), 0);
        assert_int_equal(replay_gather(r, 1, rows, 17, wide), 0);
        for (uint32_t i = 0; i < 17; i++) {
            assert_int_equal(number[i], added - 1 - (uint32_t)replay_age(r, i));
            assert_int_equal(wide[3 * i + 2], 10 * number[i] + 2);
        }
        assert_true(replay_age(r, 17) == UINT64_MAX);
        replay_free(r);
    }
}

static void mistakes_are_refused(void **state) {
    struct replay_opts o = { .capacity = 0, .n_cols = 1, .cols = { { "x", 4 } } };
    const float bad[] = { 0.0f, -1.0f, NAN, INFINITY };
    struct replay *r = NULL;
    uint32_t row = 5, ret;
    float weight, fine = 1.0f;

    (void)state;
    assert_int_equal(replay_new(&o, &r), -SKATE_EINVAL);
    o.capacity = 8, o.n_cols = 0;
    assert_int_equal(replay_new(&o, &r), -SKATE_EINVAL);
    o.n_cols = 1, o.alpha = NAN;
    assert_int_equal(replay_new(&o, &r), -SKATE_EINVAL);
    r = make(8, 1.0);
    assert_int_equal(replay_draw(r, 1, 0.4, &row, &weight), -SKATE_EINVAL);
    assert_int_equal(add(r, 0, 5, NULL), 0);
    row = 5;
    assert_int_equal(replay_gather(r, 0, &row, 1, &ret), -SKATE_EINVAL);
    assert_int_equal(replay_update(r, &row, &fine, 1), -SKATE_EINVAL);
    row = 4;
    assert_int_equal(replay_gather(r, 2, &row, 1, &ret), -SKATE_EINVAL);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(replay_update(r, &row, &bad[i], 1), -SKATE_EINVAL);
        assert_int_equal(add(r, 0, 1, &bad[i]), -SKATE_EINVAL);
    }
    assert_int_equal(replay_added(r), 5);
    replay_free(r);
}

/* Shares of draws follow p^alpha, weights are (least / p)^(alpha beta). */
static void draws_follow_priorities(void **state) {
    const float priorities[] = { 1.0f, 2.0f, 4.0f, 9.0f };
    const double alpha = 0.5, beta = 0.7;
    double count[4] = { 0 }, total = 0.0;
    struct replay *r = make(64, alpha);
    uint32_t rows[500];
    float weights[500];

    (void)state;
    assert_int_equal(add(r, 0, 4, priorities), 0);
    for (int k = 0; k < 40; k++) {
        assert_int_equal(replay_draw(r, 500, beta, rows, weights), 0);
        for (int i = 0; i < 500; i++) {
            double expected = pow(1.0 / (double)priorities[rows[i]], alpha * beta);

            count[rows[i]] += 1.0;
            assert_true(fabs((double)weights[i] - expected) < 1e-5);
        }
    }
    for (int i = 0; i < 4; i++)
        total += pow((double)priorities[i], alpha);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(count[i] / 20000.0 - pow((double)priorities[i], alpha) / total) < 0.01);
    replay_free(r);
}

/* A buffer from a state draws what the first would have drawn; damaged states change nothing. */
static void states_go_on(void **state) {
    for (int prioritised = 0; prioritised < 2; prioritised++) {
        struct replay *a = make(50, prioritised ? 0.6 : 0.0);
        struct replay *b = make(50, prioritised ? 0.6 : 0.0), *other = make(51, 0.6);
        uint32_t rows_a[32], rows_b[32];
        float weights_a[32], weights_b[32], errors[32];
        unsigned char *block;
        size_t bytes;

        (void)state;
        assert_int_equal(add(a, 0, 70, NULL), 0);
        for (int i = 0; i < 32; i++)
            errors[i] = 0.1f * (float)(i + 1);
        assert_int_equal(replay_draw(a, 32, 0.4, rows_a, weights_a), 0);
        assert_int_equal(replay_update(a, rows_a, errors, 32), 0);
        bytes = replay_state_bytes(a);
        block = malloc(bytes);
        replay_get_state(a, block);
        assert_int_equal(replay_set_state(other, block, bytes), -SKATE_EINVAL);
        assert_int_equal(replay_set_state(b, block, bytes - 1), -SKATE_EINVAL);
        block[3] ^= 1;
        assert_int_equal(replay_set_state(b, block, bytes), -SKATE_EINVAL);
        assert_int_equal(replay_size(b), 0);
        block[3] ^= 1;
        assert_int_equal(replay_set_state(b, block, bytes), 0);
        for (uint32_t k = 0; k < 5; k++) {
            assert_int_equal(replay_draw(a, 32, 0.4, rows_a, weights_a), 0);
            assert_int_equal(replay_draw(b, 32, 0.4, rows_b, weights_b), 0);
            assert_memory_equal(rows_a, rows_b, sizeof(rows_a));
            assert_memory_equal(weights_a, weights_b, sizeof(weights_a));
            assert_int_equal(add(a, 100 * k, 7, NULL), 0);
            assert_int_equal(add(b, 100 * k, 7, NULL), 0);
        }
        free(block);
        replay_free(a);
        replay_free(b);
        replay_free(other);
    }
}

static void nstep_stops_at_ends(void **state) {
    const float rewards[] = { 1, 2, 4, 8, 16, 32 };
    const uint8_t ends[] = { 0, 0, 0, 1, 0, 0 };
    const float returns[] = { 1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8, 16 + 16, 32 };
    const float discounts[] = { 0.125f, 0.125f, 0.25f, 0.5f, 0.25f, 0.5f };
    const uint32_t stops[] = { 2, 3, 3, 3, 5, 5 };
    float got[6], gamma[6];
    uint32_t last[6];
    struct nstep_lane lane = { rewards, ends, 6, 1, got, gamma, last };

    (void)state;
    nstep_lane(&lane, 3, 0.5f);
    for (int i = 0; i < 6; i++) {
        assert_true(got[i] == returns[i]);
        assert_true(gamma[i] == discounts[i]);
        assert_int_equal(last[i], stops[i]);
    }
}

/* Every step is taught by exactly one sequence, with the steps before it as context. */
static void sequences_teach_each_step_once(void **state) {
    struct rl_rng rng;

    (void)state;
    rl_rng_init(&rng, 1, 1);
    for (int round = 0; round < 200; round++) {
        uint8_t ends[60] = { 0 };
        uint32_t length = 1 + rl_rng_below(&rng, 12), burn_in = rl_rng_below(&rng, length);
        struct seq_lane lane = { ends, 1 + rl_rng_below(&rng, 60), 1, length, burn_in };
        int32_t *index, taught[60] = { 0 };
        size_t n;

        for (size_t i = 0; i < lane.steps; i++)
            ends[i] = rl_rng_below(&rng, 9) == 0;
        n = seq_cut(&lane, NULL, 0);
        index = malloc(n * length * sizeof(*index));
        assert_int_equal(seq_cut(&lane, index, n), n);
        for (size_t k = 0; k < n * length; k++) {
            uint32_t place = (uint32_t)(k % length);
            int32_t step = index[k];

            assert_true(step >= -1 && step < (int32_t)lane.steps);
            if (step >= 0 && place > 0 && index[k - 1] >= 0) {
                assert_int_equal(index[k - 1], step - 1);
                assert_false(ends[step - 1]);
            } else if (step > 0 && place > 0) {     /* begins inside: an episode begins */
                assert_true(ends[step - 1]);
            }
            if (step >= 0 && place >= burn_in)
                taught[step]++;
        }
        for (size_t i = 0; i < lane.steps; i++)
            assert_int_equal(taught[i], 1);
        free(index);
    }
}

static void goals_come_from_the_same_episode(void **state) {
    uint32_t owner[64] = { 0 }, number[64] = { 0 }, rows[256], goals[256], added = 0, real = 0;
    struct episodes *e = NULL;
    struct rl_rng rng;

    (void)state;
    rl_rng_init(&rng, 4, 4);
    assert_int_equal(episodes_new(64, 9, &e), 0);
    assert_int_equal(episodes_draw(e, 1, rows, goals), -SKATE_EINVAL);
    assert_int_equal(episodes_add(e, 65), -SKATE_EINVAL);
    assert_int_equal(episodes_add(e, 0), -SKATE_EINVAL);
    for (uint32_t k = 1; k < 300; k++) {
        uint32_t length = 1 + rl_rng_below(&rng, 20);

        assert_int_equal(episodes_add(e, length), 0);
        for (uint32_t i = 0; i < length; i++, added++) {
            owner[added % 64] = k;
            number[added % 64] = added;
        }
        assert_true(episodes_steps(e) <= 64);
        assert_int_equal(episodes_hindsight(e, 256, 0.8, rows, goals), 0);
        for (int i = 0; i < 256; i++) {
            real += goals[i] == UINT32_MAX;
            if (goals[i] != UINT32_MAX) {
                assert_int_equal(owner[rows[i]], owner[goals[i]]);
                assert_true(number[goals[i]] >= number[rows[i]]);
            }
        }
        assert_int_equal(episodes_draw(e, 64, rows, goals), 0);
        for (int i = 0; i < 64; i++)
            for (uint32_t s = 0; s < goals[i]; s++)
                assert_int_equal(owner[(rows[i] + s) % 64], owner[rows[i]]);
    }
    assert_true(fabs((double)real / (299.0 * 256.0) - 0.2) < 0.01);
    episodes_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree_is_a_running_sum),
        cmocka_unit_test(ring_keeps_the_newest),
        cmocka_unit_test(mistakes_are_refused),
        cmocka_unit_test(draws_follow_priorities),
        cmocka_unit_test(states_go_on),
        cmocka_unit_test(nstep_stops_at_ends),
        cmocka_unit_test(sequences_teach_each_step_once),
        cmocka_unit_test(goals_come_from_the_same_episode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
