/* rl_gemm_test.c - products against a naive loop in double, generated kernel and plain loop.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rl/gemm.h"
#include "rl/kern.h"
#include "rl/rl_rng.h"

enum { ROOM = 300 * 300 };

static float a[ROOM], b[ROOM], c[ROOM], c2[ROOM];

static void fill(float *x, uint64_t seed) {
    struct rl_rng r;

    rl_rng_init(&r, seed, 0);
    for (int i = 0; i < ROOM; i++)
        x[i] = rl_rng_float(&r) - 0.5f;
}

static void compare(const struct gemm_plan *p, const float *got) {
    for (int j = 0; j < p->n; j++)
        for (int i = 0; i < p->m; i++) {
            double want = 0.0;

            for (int k = 0; k < p->k; k++)
                want += (double)a[k * p->lda + i] *
                        (double)(p->trans_b ? b[k * p->ldb + j] : b[j * p->ldb + k]);
            assert_true(fabs(want - (double)got[j * p->ldc + i]) < 1e-4);
        }
}

static void products_match_the_naive_loop(void **state) {
    static const int shapes[][3] = { { 256, 32, 256 }, { 256, 64, 128 }, { 2, 32, 256 },
                                     { 256, 1, 4 }, { 1, 17, 33 }, { 33, 3, 1 }, { 5, 4, 7 },
                                     { 64, 13, 100 }, { 1, 32, 256 }, { 3, 90, 70 },
                                     { 4, 64, 128 }, { 2, 5, 1100 }, { 1, 16, 15 } };

    (void)state;
    fill(a, 1);
    fill(b, 2);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int trans = 0; trans < 2; trans++) {
            int m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            struct gemm_plan p = { .m = m, .n = n, .k = k, .lda = m + 3,
                                   .ldb = (trans ? n : k) + 5, .ldc = m + 1,
                                   .trans_b = trans == 1 };

            assert_int_equal(gemm_plan_init(&p), 0);
            for (int i = 0; i < ROOM; i++)
                c[i] = c2[i] = 77.0f;
            gemm_f32(&p, a, b, c);
            compare(&p, c);
            gemm_f32_plain(&p, a, b, c2);
            compare(&p, c2);
            assert_true(c[m] == 77.0f);      /* the gap between columns is not written */
        }
}

static void rows_do_not_depend_on_their_number(void **state) {
    struct gemm_plan many = { .m = 256, .n = 32, .k = 64, .lda = 256, .ldb = 64, .ldc = 256 };

    (void)state;
    fill(a, 3);
    fill(b, 4);
    assert_int_equal(gemm_plan_init(&many), 0);
    gemm_f32(&many, a, b, c);
    gemm_f32(&many, a, b, c2);
    assert_memory_equal(c, c2, 256 * 32 * sizeof(float));
}

/* One row of C at a time, as a policy is asked, or many, as it learns. */
static void thin_rows_do_not_depend_on_their_number(void **state) {
    struct gemm_plan many = { .m = 2, .n = 7, .k = 70, .lda = 2, .ldb = 70, .ldc = 2 }, one = many;

    (void)state;
    one.n = 1;
    fill(a, 7);
    fill(b, 8);
    assert_int_equal(gemm_plan_init(&many), 0);
    assert_int_equal(gemm_plan_init(&one), 0);
    assert_non_null(many.thin);
    gemm_f32(&many, a, b, c);
    for (int j = 0; j < 7; j++)
        gemm_f32(&one, a, b + j * 70, c2 + j * 2);
    assert_memory_equal(c, c2, 14 * sizeof(float));
}

static void thin_products_of_every_instruction_set(void **state) {
    (void)state;
    fill(a, 9);
    fill(b, 10);
    for (int table = 0; table < KERN_TABLES; table++)
        for (int m = 1; m <= KERN_THIN_MAX && kern_nth(table); m++) {
            struct gemm_plan p = { .m = m, .n = 85, .k = 90, .lda = 5, .ldb = 91, .ldc = 5 };

            kern_nth(table)->thin_nn(&p, a, b, c);
            compare(&p, c);
            p.trans_b = true;
            kern_nth(table)->thin_nt(&p, a, b, c);
            compare(&p, c);
        }
}

static void adding_to_what_is_there(void **state) {
    struct gemm_plan p = { .n = 9, .k = 33, .lda = 20, .ldb = 33, .ldc = 21 };

    (void)state;
    fill(a, 5);
    fill(b, 6);
    for (int way = 0; way < 4; way++) {
        p.trans_b = way % 2 == 1;
        p.m = way < 2 ? 20 : 2;
        p.add = false;
        assert_int_equal(gemm_plan_init(&p), 0);
        gemm_f32(&p, a, b, c2);
        p.add = true;
        assert_int_equal(gemm_plan_init(&p), 0);
        for (int i = 0; i < ROOM; i++)
            c[i] = 3.0f;
        gemm_f32(&p, a, b, c);
        for (int j = 0; j < 9; j++)
            for (int i = 0; i < p.m; i++)
                assert_true(fabsf(c[j * 21 + i] - c2[j * 21 + i] - 3.0f) < 1e-5f);
        for (int i = 0; i < ROOM; i++)
            c[i] = 3.0f;
        gemm_f32_plain(&p, a, b, c);
        for (int i = 0; i < p.m; i++)
            assert_true(fabsf(c[i] - c2[i] - 3.0f) < 1e-5f);
    }
}

static void bad_sizes_are_refused(void **state) {
    struct gemm_plan p = { .m = 4, .n = 4, .k = 4, .lda = 4, .ldb = 4, .ldc = 4 }, q;

    (void)state;
    assert_int_equal(gemm_plan_init(&p), 0);
    q = p, q.m = 0;
    assert_int_equal(gemm_plan_init(&q), -SKATE_EINVAL);
    q = p, q.lda = 3;
    assert_int_equal(gemm_plan_init(&q), -SKATE_EINVAL);
    q = p, q.ldb = 3;
    assert_int_equal(gemm_plan_init(&q), -SKATE_EINVAL);
    q = p, q.ldc = 3;
    assert_int_equal(gemm_plan_init(&q), -SKATE_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_the_naive_loop),
        cmocka_unit_test(rows_do_not_depend_on_their_number),
        cmocka_unit_test(thin_rows_do_not_depend_on_their_number),
        cmocka_unit_test(thin_products_of_every_instruction_set),
        cmocka_unit_test(adding_to_what_is_there),
        cmocka_unit_test(bad_sizes_are_refused),
    };

    return cmocka_run_group_tests_name("rl_gemm", tests, NULL, NULL);
}
