/* params.c - see params.h: layout, start values, copies. One owner at a time; never blocks.
 * Tests: tests/unit/rl_nn_test.c. */
#include "rl/nn/params.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/mlp.h"

enum { PARAM_DIM_MAX = 1 << 24, PARAM_BLOCK_MAX = 1 << 29 };

static size_t count(const struct param_tensor *t) {
    return (size_t)t->rows * (size_t)t->cols;
}

struct params *params_new(void) {
    return calloc(1, sizeof(struct params));
}

struct params *params_free(struct params *p) {
    if (p) {
        free(p->value);
        free(p->grad);
        free(p);
    }
    return NULL;
}

int params_add(struct params *p, const char *name, int rows, int cols, enum param_init init,
               float scale) {
    struct param_tensor *t;
    size_t room;

    SKATE_ASSERT(p);
    if (p->value || p->n_tensors >= PARAM_TENSORS_MAX || !name)
        return -SKATE_EINVAL;
    if (!name[0] || strlen(name) >= PARAM_NAME_BYTES || !isfinite(scale))
        return -SKATE_EINVAL;
    if (rows < 1 || cols < 1 || rows > PARAM_DIM_MAX || cols > PARAM_DIM_MAX)
        return -SKATE_EINVAL;
    room = ((size_t)rows * (size_t)cols + 15) & ~(size_t)15;
    if (room > PARAM_BLOCK_MAX || p->n_padded + room > PARAM_BLOCK_MAX)
        return -SKATE_EINVAL;
    for (int i = 0; i < p->n_tensors; i++)
        if (strcmp(p->tensors[i].name, name) == 0)
            return -SKATE_EINVAL;

    t = &p->tensors[p->n_tensors];
    *t = (struct param_tensor){ .rows = rows, .cols = cols, .init = init, .scale = scale,
                                .at = p->n_padded };
    memcpy(t->name, name, strlen(name) + 1);
    p->n_padded += room;
    p->n += (size_t)rows * (size_t)cols;
    return p->n_tensors++;
}

/* ---- start values ---- */

static void draw_uniform(float *w, size_t n, double limit, struct rl_rng *rng) {
    for (size_t i = 0; i < n; i++)
        w[i] = (float)((2.0 * (double)rl_rng_float(rng) - 1.0) * limit);
}

static void draw_normc(float *w, const struct param_tensor *t, struct rl_rng *rng) {
    size_t cols = (size_t)t->cols;

    for (size_t c = 0; c < cols; c++) {
        double square = 0.0;

        for (size_t r = 0; r < (size_t)t->rows; r++) {
            double x = rl_rng_normal(rng);

            square += x * x;
            w[r * cols + c] = (float)x;
        }
        square = square > 0.0 ? (double)t->scale / sqrt(square) : 0.0;
        for (size_t r = 0; r < (size_t)t->rows; r++)
            w[r * cols + c] *= (float)square;
    }
}

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* The shorter side's vectors become orthonormal (Gram and Schmidt, twice for the rounding). */
static int draw_ortho(float *w, const struct param_tensor *t, struct rl_rng *rng) {
    size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    size_t n = rows < cols ? rows : cols, length = rows < cols ? cols : rows;
    double *v = malloc(n * length * sizeof *v);

    if (!v)
        return -SKATE_ENOMEM;
    for (size_t i = 0; i < n * length; i++)
        v[i] = rl_rng_normal(rng);
    for (size_t i = 0; i < n; i++) {
        double *x = v + i * length, norm;

        for (int pass = 0; pass < 2; pass++)
            for (size_t j = 0; j < i; j++) {
                double along = dot(x, v + j * length, length);

                for (size_t k = 0; k < length; k++)
                    x[k] -= along * v[j * length + k];
            }
        norm = sqrt(dot(x, x, length));
        for (size_t k = 0; k < length && norm > 0.0; k++)
            x[k] /= norm;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            w[r * cols + c] =
                (float)((double)t->scale * (rows < cols ? v[r * length + c] : v[c * length + r]));
    free(v);
    return 0;
}

static int draw(float *w, const struct param_tensor *t, struct rl_rng *rng) {
    size_t n = count(t);
    double scale = (double)t->scale;

    switch (t->init) {
    case PARAM_ZERO:
        return 0;
    case PARAM_CONST:
        for (size_t i = 0; i < n; i++)
            w[i] = t->scale;
        return 0;
    case PARAM_NORMC:
        draw_normc(w, t, rng);
        return 0;
    case PARAM_FAN_IN:
        draw_uniform(w, n, scale / sqrt((double)t->rows), rng);
        return 0;
    case PARAM_XAVIER:
        draw_uniform(w, n, scale * sqrt(6.0 / ((double)t->rows + (double)t->cols)), rng);
        return 0;
    case PARAM_ORTHO:
        return draw_ortho(w, t, rng);
    case PARAM_NORMAL:
        for (size_t i = 0; i < n; i++)
            w[i] = (float)(scale * rl_rng_normal(rng));
        return 0;
    }
    return -SKATE_EINVAL;
}

int params_seal(struct params *p, struct rl_rng *rng) {
    SKATE_ASSERT(p);
    SKATE_ASSERT(rng);
    if (p->value)
        return -SKATE_EINVAL;
    p->value = mlp_alloc(p->n_padded);
    p->grad = mlp_alloc(p->n_padded);
    if (!p->value || !p->grad)
        return -SKATE_ENOMEM;
    for (int i = 0; i < p->n_tensors; i++) {
        int r = draw(p->value + p->tensors[i].at, &p->tensors[i], rng);

        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- values ---- */

void params_get(const struct params *p, float *flat) {
    for (int i = 0; i < p->n_tensors; i++) {
        memcpy(flat, p->value + p->tensors[i].at, count(&p->tensors[i]) * sizeof(float));
        flat += count(&p->tensors[i]);
    }
}

void params_set(struct params *p, const float *flat) {
    for (int i = 0; i < p->n_tensors; i++) {
        memcpy(p->value + p->tensors[i].at, flat, count(&p->tensors[i]) * sizeof(float));
        flat += count(&p->tensors[i]);
    }
}

void params_zero_grad(struct params *p) {
    memset(p->grad, 0, p->n_padded * sizeof(float));
}

void params_blend(struct params *dst, const struct params *src, float tau) {
    float *restrict d = dst->value;
    const float *restrict s = src->value;
    const float keep = 1.0f - tau;

    SKATE_ASSERT(dst->n_padded == src->n_padded);
    if (tau >= 1.0f) {
        memcpy(d, s, dst->n_padded * sizeof(float));
        return;
    }
    for (size_t i = 0; i < dst->n_padded; i++)
        d[i] = tau * s[i] + keep * d[i];
}

int params_bad(const struct params *p) {
    uint32_t bad = 0;

    for (size_t i = 0; i < p->n_padded; i++) {
        uint32_t bits;

        memcpy(&bits, p->value + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return (int)bad;
}
