/* rl_optim_test.c - each optimiser against its formula in double, clipping, checkpoints.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/nn/optim.h"

enum { ROWS = 5, COLS = 7, N = ROWS * COLS, STEPS = 20 };

static struct params *some(void) {
    struct params *p = params_new();
    struct rl_rng r;

    rl_rng_init(&r, 1, 1);
    assert_int_equal(params_add(p, "w", ROWS, COLS, PARAM_NORMAL, 1.0f), 0);
    assert_int_equal(params_add(p, "b", 1, 3, PARAM_CONST, 0.5f), 1);
    assert_int_equal(params_seal(p, &r), 0);
    return p;
}

static float gradient(int step, int i) {
    return sinf((float)(step * 37 + i * 11)) * 2.0f;
}

struct reference {
    double p, m, v;
};

static void reference_step(struct reference *x, double g, int t, const struct optim_opts *o) {
    double lr = (double)o->lr, b1 = (double)o->beta1, b2 = (double)o->beta2;
    double eps = (double)o->eps, decay = (double)o->weight_decay;

    if (o->kind == OPTIM_ADAMW)
        x->p *= 1.0 - lr * decay;
    else
        g += decay * x->p;
    if (o->kind == OPTIM_SGD) {
        x->m = b1 * x->m + g;
        x->p -= lr * x->m;
    } else if (o->kind == OPTIM_RMSPROP) {
        x->v = b2 * x->v + (1.0 - b2) * g * g;
        x->m = b1 * x->m + g / (sqrt(x->v) + eps);
        x->p -= lr * x->m;
    } else {
        x->m = b1 * x->m + (1.0 - b1) * g;
        x->v = b2 * x->v + (1.0 - b2) * g * g;
        x->p -= lr * (x->m / (1.0 - pow(b1, t))) / (sqrt(x->v / (1.0 - pow(b2, t))) + eps);
    }
}

static void compare(const struct optim_opts *opts) {
    struct params *p = some();
    struct reference want[N];
    struct optim o;

    assert_int_equal(optim_init(&o, p, opts), 0);
    for (int i = 0; i < N; i++)
        want[i] = (struct reference){ .p = (double)p->value[i] };
    for (int s = 1; s <= STEPS; s++) {
        for (int i = 0; i < N; i++) {
            p->grad[i] = gradient(s, i);
            reference_step(&want[i], (double)p->grad[i], s, opts);
        }
        assert_int_equal(optim_step(&o), 0);
        for (size_t i = 0; i < p->n_padded; i++)
            assert_true(p->grad[i] == 0.0f);
    }
    for (int i = 0; i < N; i++)
        assert_true(fabs((double)p->value[i] - want[i].p) < 2e-5 * (1.0 + fabs(want[i].p)));
    for (size_t i = N; i < p->tensors[1].at; i++)
        assert_true(p->value[i] == 0.0f);       /* the padding stays */
    assert_true(o.steps == STEPS);
    optim_release(&o);
    params_free(p);
}

static void each_follows_its_formula(void **state) {
    static const struct optim_opts list[] = {
        { .kind = OPTIM_SGD, .lr = 0.1f },
        { .kind = OPTIM_SGD, .lr = 0.01f, .beta1 = 0.9f, .weight_decay = 0.01f },
        { .kind = OPTIM_RMSPROP, .lr = 0.01f, .beta2 = 0.99f, .eps = 1e-5f },
        { .kind = OPTIM_RMSPROP, .lr = 0.01f, .beta1 = 0.5f, .beta2 = 0.99f, .eps = 1e-5f },
        { .kind = OPTIM_ADAM, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f },
        { .kind = OPTIM_ADAM, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f,
          .weight_decay = 0.1f },
        { .kind = OPTIM_ADAMW, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f,
          .weight_decay = 0.1f },
    };

    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        compare(&list[i]);
}

/* One step of SGD with lr 1 shows the gradient after the clip. */
static void clipped(enum optim_clip clip, float by, float want[2]) {
    struct optim_opts opts = { .kind = OPTIM_SGD, .lr = 1.0f, .clip = clip, .clip_by = by };
    struct params *p = some();
    float was[2] = { p->value[0], p->value[p->tensors[1].at] };
    struct optim o;

    assert_int_equal(optim_init(&o, p, &opts), 0);
    p->grad[0] = 3.0f;
    p->grad[p->tensors[1].at] = -4.0f;
    assert_int_equal(optim_step(&o), 0);
    assert_true(fabsf(o.grad_norm - 5.0f) < 1e-6f);
    want[0] = was[0] - p->value[0];
    want[1] = was[1] - p->value[p->tensors[1].at];
    optim_release(&o);
    params_free(p);
}

static void clips(void **state) {
    static const struct {
        enum optim_clip clip;
        float by, want[2];
    } list[] = {
        { CLIP_NONE, 1.0f, { 3.0f, -4.0f } },
        { CLIP_GLOBAL_NORM, 0.0f, { 3.0f, -4.0f } },
        { CLIP_GLOBAL_NORM, 10.0f, { 3.0f, -4.0f } },
        { CLIP_GLOBAL_NORM, 1.0f, { 0.6f, -0.8f } },
        { CLIP_VALUE, 2.0f, { 2.0f, -2.0f } },
        { CLIP_NORM, 3.5f, { 3.0f, -3.5f } },
    };
    float got[2];

    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        clipped(list[i].clip, list[i].by, got);
        for (int k = 0; k < 2; k++)
            assert_true(fabsf(got[k] - list[i].want[k]) < 1e-5f);
    }
}

static void a_bad_gradient_changes_nothing(void **state) {
    struct optim_opts opts;
    struct params *p = some();
    struct optim o;
    float was[N], moment;

    (void)state;
    optim_opts_default(&opts);
    assert_int_equal(optim_init(&o, p, &opts), 0);
    p->grad[3] = 1.0f;
    assert_int_equal(optim_step(&o), 0);
    memcpy(was, p->value, sizeof was);
    moment = o.m[3];
    for (int k = 0; k < 2; k++) {
        p->grad[3] = 1.0f;
        p->grad[4] = k ? NAN : INFINITY;
        assert_int_equal(optim_step(&o), -SKATE_EINVAL);
        assert_memory_equal(was, p->value, sizeof was);
        assert_true(o.m[3] == moment && o.steps == 1 && p->grad[3] == 0.0f);
    }
    p->grad[4] = 1e30f;         /* its square is no float, but the gradient is fine */
    assert_int_equal(optim_step(&o), 0);
    optim_release(&o);
    params_free(p);
}

static void a_checkpoint_goes_on_the_same(void **state) {
    struct optim_opts opts;
    struct params *p = some(), *q = some();
    struct optim a, b;
    char *block;

    (void)state;
    optim_opts_default(&opts);
    assert_int_equal(optim_init(&a, p, &opts), 0);
    assert_int_equal(optim_init(&b, q, &opts), 0);
    for (int s = 1; s < 6; s++) {
        p->grad[0] = gradient(s, 0);
        assert_int_equal(optim_step(&a), 0);
    }
    block = malloc(optim_state_bytes(&a));
    optim_get_state(&a, block);
    params_blend(q, p, 1.0f);
    assert_int_equal(optim_set_state(&b, block, optim_state_bytes(&b) - 1), -SKATE_EINVAL);
    assert_int_equal(optim_set_state(&b, block, optim_state_bytes(&b)), 0);
    p->grad[0] = q->grad[0] = 0.7f;
    assert_int_equal(optim_step(&a), 0);
    assert_int_equal(optim_step(&b), 0);
    assert_memory_equal(p->value, q->value, p->n_padded * sizeof(float));
    block[0] ^= 1;
    assert_int_equal(optim_set_state(&b, block, optim_state_bytes(&b)), -SKATE_EINVAL);
    free(block);
    optim_release(&a);
    optim_release(&b);
    params_free(p);
    params_free(q);
}

static void options_that_make_no_sense(void **state) {
    static const struct optim_opts list[] = {
        { .kind = (enum optim_kind)9, .lr = 1.0f },
        { .kind = OPTIM_SGD, .lr = -1.0f },
        { .kind = OPTIM_ADAM, .lr = 1.0f, .beta1 = 1.0f },
        { .kind = OPTIM_ADAM, .lr = NAN },
        { .kind = OPTIM_SGD, .lr = 1.0f, .clip = (enum optim_clip)7 },
    };
    struct params *p = some();
    struct optim o;

    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        assert_int_equal(optim_init(&o, p, &list[i]), -SKATE_EINVAL);
    params_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_follows_its_formula),
        cmocka_unit_test(clips),
        cmocka_unit_test(a_bad_gradient_changes_nothing),
        cmocka_unit_test(a_checkpoint_goes_on_the_same),
        cmocka_unit_test(options_that_make_no_sense),
    };

    return cmocka_run_group_tests_name("rl optim", tests, NULL, NULL);
}
