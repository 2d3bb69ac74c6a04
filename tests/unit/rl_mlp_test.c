/* rl_mlp_test.c - layout, start values and the forward pass against a plain loop in double.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/mlp.h"
#include "rl/rl_policy.h"

static const int dims[] = { 5, 19, 33, 3 };

static void forward_matches_a_plain_loop(void **state) {
    struct mlp net;
    struct mlp_tile tile;
    struct rl_rng rng;
    float x[6 * 5], h0[6 * 19], h1[6 * 33], h2[6 * 3], *h[] = { h0, h1, h2 };

    (void)state;
    assert_int_equal(mlp_init(&net, dims, 3, KERN_TANH), 0);
    assert_int_equal(net.n_params, 5 * 19 + 19 + 19 * 33 + 33 + 33 * 3 + 3);
    rl_rng_init(&rng, 1, 0);
    mlp_randomise(&net, 0.5f, &rng);
    for (int l = 0; l < 3; l++)
        for (int o = 0; o < dims[l + 1]; o++)
            net.params[net.b_off[l] + (size_t)o] = (float)rl_rng_normal(&rng);
    for (int i = 0; i < 30; i++)
        x[i] = (float)rl_rng_normal(&rng);
    assert_int_equal(mlp_tile_init(&tile, &net, 6), 0);
    mlp_forward(&net, &tile, x, h);
    for (int r = 0; r < 6; r++) {
        double in[64], out[64];

        for (int i = 0; i < 5; i++)
            in[i] = (double)x[r * 5 + i];
        for (int l = 0; l < 3; l++) {
            for (int o = 0; o < dims[l + 1]; o++) {
                out[o] = (double)net.params[net.b_off[l] + (size_t)o];
                for (int i = 0; i < dims[l]; i++)
                    out[o] += in[i] * (double)net.params[net.w_off[l] +
                                                         (size_t)(i * dims[l + 1] + o)];
                if (l < 2)
                    out[o] = tanh(out[o]);
            }
            memcpy(in, out, sizeof in);
        }
        for (int o = 0; o < 3; o++)
            assert_true(fabs(in[o] - (double)h2[r * 3 + o]) < 1e-5);
    }
    mlp_release(&net);
}

static void start_values_have_unit_columns(void **state) {
    struct mlp net;
    struct rl_rng rng;

    (void)state;
    assert_int_equal(mlp_init(&net, dims, 3, KERN_TANH), 0);
    rl_rng_init(&rng, 2, 0);
    mlp_randomise(&net, 0.01f, &rng);
    for (int l = 0; l < 3; l++)
        for (int o = 0; o < dims[l + 1]; o++) {
            double square = 0.0, want = l == 2 ? 0.01 : 1.0;

            for (int i = 0; i < dims[l]; i++)
                square += pow((double)net.params[net.w_off[l] + (size_t)(i * dims[l + 1] + o)],
                              2);
            assert_true(fabs(sqrt(square) / want - 1.0) < 1e-5);
            assert_true(net.params[net.b_off[l] + (size_t)o] == 0.0f);
        }
    mlp_release(&net);
}

static void packing_is_a_round_trip(void **state) {
    struct mlp net;
    float *flat, *again;

    (void)state;
    assert_int_equal(mlp_init(&net, dims, 3, KERN_RELU), 0);
    flat = calloc(net.n_params, sizeof *flat);
    again = calloc(net.n_params, sizeof *again);
    for (size_t i = 0; i < net.n_params; i++)
        flat[i] = (float)i;
    mlp_unpack(&net, flat);
    mlp_pack(&net, again);
    assert_memory_equal(flat, again, net.n_params * sizeof *flat);
    assert_true(net.params[net.b_off[0]] == 5 * 19);
    free(flat);
    free(again);
    mlp_release(&net);
}

static void bad_shapes_are_refused(void **state) {
    const int zero[] = { 4, 0, 2 };
    struct mlp net;
    struct policy_opts o = { .obs_dim = 4, .n_actions = 0, .n_hiddens = 1, .hiddens = { 8 } };
    struct policy *p = NULL;

    (void)state;
    assert_int_equal(mlp_init(&net, zero, 2, KERN_TANH), -SKATE_EINVAL);
    assert_int_equal(mlp_init(&net, dims, 0, KERN_TANH), -SKATE_EINVAL);
    assert_int_equal(mlp_init(&net, dims, 3, KERN_ACT_MAX), -SKATE_EINVAL);
    assert_int_equal(policy_new(&o, &p), -SKATE_EINVAL);
    assert_null(p);
}

static void tiles_agree_with_single_rows(void **state) {
    struct policy_opts o = { .obs_dim = 4, .n_actions = 2, .n_hiddens = 2,
                             .hiddens = { 256, 256 }, .act = KERN_TANH, .seed = 3 };
    struct policy *p;
    struct rl_rng rng;
    float x[43 * 4], many[43 * 2], one[2], values[43], value;

    (void)state;
    assert_int_equal(policy_new(&o, &p), 0);
    rl_rng_init(&rng, 4, 0);
    for (int i = 0; i < 43 * 4; i++)
        x[i] = (float)rl_rng_normal(&rng);
    policy_logits(p, x, 43, many);          /* 32 + 8 + 1 + 1 + 1 */
    policy_values(p, x, 43, values);
    for (int i = 0; i < 43; i++) {
        policy_logits(p, x + 4 * i, 1, one);
        policy_values(p, x + 4 * i, 1, &value);
        assert_true(fabsf(one[0] - many[2 * i]) < 1e-6f);
        assert_true(fabsf(one[1] - many[2 * i + 1]) < 1e-6f);
        assert_true(fabsf(value - values[i]) < 1e-6f);
    }
    policy_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_matches_a_plain_loop),
        cmocka_unit_test(start_values_have_unit_columns),
        cmocka_unit_test(packing_is_a_round_trip),
        cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(tiles_agree_with_single_rows),
    };

    return cmocka_run_group_tests_name("rl_mlp", tests, NULL, NULL);
}
