/* optim.c - see optim.h. One owner; never blocks. Tests: tests/unit/rl_optim_test.c. */
#include "rl/nn/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/kern.h"
#include "rl/mlp.h"

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

static const uint64_t state_mark = 0x316d6974706f6b73u;     /* "skoptim1" */

struct state_head {
    uint64_t mark, n;
    long long steps;
    uint32_t has_m, has_v;
};

void optim_opts_default(struct optim_opts *opts) {
    *opts = (struct optim_opts){ .kind = OPTIM_ADAM, .lr = 1e-3f, .beta1 = 0.9f,
                                 .beta2 = 0.999f, .eps = 1e-8f };
}

static bool wants_m(const struct optim_opts *o) {
    return o->kind == OPTIM_ADAM || o->kind == OPTIM_ADAMW || o->beta1 > 0.0f;
}

static bool opts_ok(const struct optim_opts *o) {
    if ((int)o->kind < OPTIM_SGD || o->kind > OPTIM_ADAMW)
        return false;
    if ((int)o->clip < CLIP_NONE || o->clip > CLIP_NORM || !isfinite(o->clip_by))
        return false;
    if (!(o->lr >= 0.0f) || !isfinite(o->lr) || !(o->eps >= 0.0f) || !isfinite(o->eps))
        return false;
    if (!(o->beta1 >= 0.0f && o->beta1 < 1.0f) || !(o->beta2 >= 0.0f && o->beta2 < 1.0f))
        return false;
    return o->weight_decay >= 0.0f && isfinite(o->weight_decay);
}

int optim_init(struct optim *o, struct params *p, const struct optim_opts *opts) {
    SKATE_ASSERT(o);
    SKATE_ASSERT(p);
    *o = (struct optim){ .opts = *opts, .p = p };
    if (!opts_ok(opts) || !p->value)
        return -SKATE_EINVAL;
    if (wants_m(opts))
        o->m = mlp_alloc(p->n_padded);
    if (opts->kind != OPTIM_SGD)
        o->v = mlp_alloc(p->n_padded);
    if ((wants_m(opts) && !o->m) || (opts->kind != OPTIM_SGD && !o->v)) {
        optim_release(o);
        return -SKATE_ENOMEM;
    }
    return 0;
}

void optim_release(struct optim *o) {
    free(o->m);
    free(o->v);
    o->m = o->v = NULL;
}

static void scale_by(float *g, size_t n, float by) {
    for (size_t i = 0; i < n; i++)
        g[i] *= by;
}

static size_t padded(const struct params *p, int tensor) {
    size_t end = tensor + 1 < p->n_tensors ? p->tensors[tensor + 1].at : p->n_padded;

    return end - p->tensors[tensor].at;
}

/* Clips in place, but for the global norm: its factor is returned and applied by the step. */
static float clip_gradient(const struct optim *o, double norm) {
    float *g = o->p->grad, by = o->opts.clip_by;

    if (o->opts.clip == CLIP_NONE || by <= 0.0f)
        return 1.0f;
    if (o->opts.clip == CLIP_GLOBAL_NORM)
        return norm + 1e-6 > (double)by ? (float)((double)by / (norm + 1e-6)) : 1.0f;
    if (o->opts.clip == CLIP_VALUE) {
        for (size_t i = 0; i < o->p->n_padded; i++) {
            float x = g[i] > by ? by : g[i];

            g[i] = x < -by ? -by : x;
        }
        return 1.0f;
    }
    for (int t = 0; t < o->p->n_tensors; t++) {
        size_t at = o->p->tensors[t].at, n = padded(o->p, t);
        double own = sqrt(kern_get()->norm2(g + at, n)) + 1e-6;

        if (own > (double)by)
            scale_by(g + at, n, (float)((double)by / own));
    }
    return 1.0f;
}

static void step_adam(struct optim *o, float factor) {
    const struct optim_opts *opts = &o->opts;
    double t = (double)o->steps;
    struct kern_adam a = {
        .lr = opts->lr, .beta1 = opts->beta1, .beta2 = opts->beta2, .eps = opts->eps,
        .scale1 = (float)(1.0 / (1.0 - pow((double)opts->beta1, t))),
        .scale2 = (float)(1.0 / sqrt(1.0 - pow((double)opts->beta2, t))), .grad_scale = factor,
    };

    if (opts->kind == OPTIM_ADAMW && opts->weight_decay > 0.0f)
        scale_by(o->p->value, o->p->n_padded, 1.0f - opts->lr * opts->weight_decay);
    kern_get()->adam(&a, o->p->value, o->p->grad, o->m, o->v, o->p->n_padded);
}

static void step_sgd(struct optim *o, float factor) {
    float *restrict p = o->p->value, *restrict m = o->m;
    const float *restrict g = o->p->grad;
    const float lr = o->opts.lr, momentum = o->opts.beta1;

    if (!m)
        for (size_t i = 0; i < o->p->n_padded; i++)
            p[i] -= lr * (g[i] * factor);
    else
        for (size_t i = 0; i < o->p->n_padded; i++) {
            m[i] = momentum * m[i] + g[i] * factor;
            p[i] -= lr * m[i];
        }
}

static void step_rmsprop(struct optim *o, float factor) {
    float *restrict p = o->p->value, *restrict m = o->m, *restrict v = o->v;
    const float *restrict g = o->p->grad;
    const float lr = o->opts.lr, momentum = o->opts.beta1, alpha = o->opts.beta2;
    const float rest = 1.0f - alpha, eps = o->opts.eps;

    for (size_t i = 0; i < o->p->n_padded; i++) {
        float gi = g[i] * factor, root;

        v[i] = alpha * v[i] + rest * gi * gi;
        root = sqrtf(v[i]) + eps;
        gi = gi == 0.0f ? 0.0f : gi / root;     /* eps may be 0 */
        if (m) {
            m[i] = momentum * m[i] + gi;
            gi = m[i];
        }
        p[i] -= lr * gi;
    }
}

static void add_decay(struct optim *o, float *factor) {
    float *restrict g = o->p->grad;
    const float *restrict p = o->p->value;
    const float decay = o->opts.weight_decay, by = *factor;

    for (size_t i = 0; i < o->p->n_padded; i++)
        g[i] = g[i] * by + decay * p[i];
    *factor = 1.0f;
}

int optim_step(struct optim *o) {
    double norm = sqrt(kern_get()->norm2(o->p->grad, o->p->n_padded));
    float factor;
#ifdef __x86_64__
    unsigned control = _mm_getcsr();
#endif

    o->grad_norm = (float)norm;
    if (!isfinite(norm)) {      /* a float's square fits in a double: no gradient is too large */
        params_zero_grad(o->p);
        return -SKATE_EINVAL;
    }
#ifdef __x86_64__
    _mm_setcsr(control | 0x8040);   /* denormals are zero: moments fade through them, slowly */
#endif
    o->steps++;
    factor = clip_gradient(o, norm);
    if (o->opts.weight_decay > 0.0f && o->opts.kind != OPTIM_ADAMW)
        add_decay(o, &factor);
    if (o->opts.kind == OPTIM_SGD)
        step_sgd(o, factor);
    else if (o->opts.kind == OPTIM_RMSPROP)
        step_rmsprop(o, factor);
    else
        step_adam(o, factor);
#ifdef __x86_64__
    _mm_setcsr(control);
#endif
    params_zero_grad(o->p);
    return 0;
}

/* ---- checkpoints ---- */

size_t optim_state_bytes(const struct optim *o) {
    size_t block = o->p->n_padded * sizeof(float);

    return sizeof(struct state_head) + (o->m ? block : 0) + (o->v ? block : 0);
}

void optim_get_state(const struct optim *o, void *block) {
    struct state_head head = { .mark = state_mark, .n = o->p->n_padded, .steps = o->steps,
                               .has_m = o->m != NULL, .has_v = o->v != NULL };
    size_t bytes = o->p->n_padded * sizeof(float);
    char *at = block;

    memcpy(at, &head, sizeof head);
    at += sizeof head;
    if (o->m) {
        memcpy(at, o->m, bytes);
        at += bytes;
    }
    if (o->v)
        memcpy(at, o->v, bytes);
}

int optim_set_state(struct optim *o, const void *block, size_t bytes) {
    struct state_head head;
    size_t n = o->p->n_padded * sizeof(float);
    const char *at = block;

    if (bytes != optim_state_bytes(o))
        return -SKATE_EINVAL;
    memcpy(&head, at, sizeof head);
    if (head.mark != state_mark || head.n != o->p->n_padded || head.steps < 0)
        return -SKATE_EINVAL;
    if (head.has_m != (uint32_t)(o->m != NULL) || head.has_v != (uint32_t)(o->v != NULL))
        return -SKATE_EINVAL;
    at += sizeof head;
    if (o->m) {
        memcpy(o->m, at, n);
        at += n;
    }
    if (o->v)
        memcpy(o->v, at, n);
    o->steps = head.steps;
    return 0;
}
