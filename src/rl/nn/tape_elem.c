/* tape_elem.c - the tape's elementwise operations, with and without broadcasting.
 *
 * Each operation is a row of a table: a loop for the value and one for each operand's gradient.
 * The loops are written so that the compiler turns them into vectors. One owner; never blocks.
 * Tests: tests/unit/rl_tape_test.c. */
#include <math.h>

#include "rl/nn/tape_int.h"

/* ---- two operands ---- */

/* `step` is 1, or 0 where one y stands for all n. The gradient of such a y is summed up. */
struct binary {
    struct tape_op op;          /* first: a node's op is its row of the table */
    void (*value)(float *o, const float *x, const float *y, int n, int step);
    void (*back_x)(float *gx, const float *g, const float *x, const float *y, int n, int step);
    void (*back_y)(float *gy, const float *g, const float *x, const float *y, int n, int step);
};

/* The three loops of an operation: value, d/dx and d/dy (times G) as expressions of X, Y, G. */
#define BINARY(name, VALUE, DX, DY)                                                            \
    static void name##_value(float *restrict o, const float *x, const float *y, int n,        \
                             int step) {                                                       \
        if (step)                                                                              \
            for (int i = 0; i < n; i++) {                                                      \
                const float X = x[i], Y = y[i];                                                \
                o[i] = (VALUE);                                                                \
            }                                                                                  \
        else                                                                                   \
            for (int i = 0; i < n; i++) {                                                      \
                const float X = x[i], Y = y[0];                                                \
                o[i] = (VALUE);                                                                \
            }                                                                                  \
    }                                                                                          \
    static void name##_back_x(float *restrict gx, const float *g, const float *x,             \
                              const float *y, int n, int step) {                               \
        for (int i = 0; i < n; i++) {                                                          \
            const float X = x[i], Y = y[step ? i : 0], G = g[i];                               \
            (void)X, (void)Y;                                                                  \
            gx[i] += (DX);                                                                     \
        }                                                                                      \
    }                                                                                          \
    static void name##_back_y(float *restrict gy, const float *g, const float *x,             \
                              const float *y, int n, int step) {                               \
        double sum = 0.0;                                                                      \
        if (step)                                                                              \
            for (int i = 0; i < n; i++) {                                                      \
                const float X = x[i], Y = y[i], G = g[i];                                      \
                (void)X, (void)Y;                                                              \
                gy[i] += (DY);                                                                 \
            }                                                                                  \
        else                                                                                   \
            for (int i = 0; i < n; i++) {                                                      \
                const float X = x[i], Y = y[0], G = g[i];                                      \
                (void)X, (void)Y;                                                              \
                sum += (double)(DY);                                                           \
            }                                                                                  \
        if (!step)                                                                             \
            gy[0] += (float)sum;                                                               \
    }

BINARY(add, X + Y, G, G)
BINARY(sub, X - Y, G, -G)
BINARY(mul, X *Y, G *Y, G *X)
BINARY(div, X / Y, G / Y, -G * X / (Y * Y))
/* Either operand's NaN comes through: a loss must not hide what has gone wrong. */
BINARY(min, Y < X || Y != Y ? Y : X, Y < X ? 0.0f : G, Y < X ? G : 0.0f)
BINARY(max, Y > X || Y != Y ? Y : X, Y > X ? 0.0f : G, Y > X ? G : 0.0f)

/* How a node's rows meet the second operand: n rows of n columns, y moving on by y_row a row and
 * by y_step a column. Everything that can be one long row is one. */
struct meeting {
    int rows, cols, y_row, y_step;
};

static struct meeting meet(const struct tape_node *x, const struct tape_node *y) {
    if ((x->rows == y->rows && x->cols == y->cols) || tape_size(y) == 1)
        return (struct meeting){ 1, (int)tape_size(x), 0, tape_size(y) > 1 };
    if (y->rows == 1)
        return (struct meeting){ x->rows, x->cols, 0, 1 };
    return (struct meeting){ x->rows, x->cols, 1, 0 };
}

static void binary_back(struct tape *t, struct tape_node *n) {
    const struct binary *how = (const struct binary *)(const void *)n->op;
    const struct tape_node *x = &t->nodes[n->in[0]], *y = &t->nodes[n->in[1]];
    struct meeting m = meet(x, y);
    float *gx = tape_grad_in(t, n, 0), *gy = tape_grad_in(t, n, 1);

    for (int r = 0; r < m.rows; r++) {
        size_t at = (size_t)r * (size_t)m.cols, y_at = (size_t)r * (size_t)m.y_row;

        if (gx)
            how->back_x(gx + at, n->grad + at, x->value + at, y->value + y_at, m.cols, m.y_step);
        if (gy)
            how->back_y(gy + y_at, n->grad + at, x->value + at, y->value + y_at, m.cols,
                        m.y_step);
    }
}

static tvar binary(struct tape *t, const struct binary *how, tvar a, tvar b) {
    const struct tape_node *x = tape_arg(t, &how->op, a), *y = tape_arg(t, &how->op, b);
    struct tape_node *n;
    struct meeting m;

    if (!x || !y)
        return TAPE_BAD;
    if ((y->rows != x->rows && y->rows != 1) || (y->cols != x->cols && y->cols != 1))
        return tape_fail(t, -SKATE_EINVAL, "%s: %d x %d and %d x %d", how->op.name, x->rows,
                         x->cols, y->rows, y->cols);
    n = tape_push(t, &how->op, x->rows, x->cols);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, a);
    tape_link(t, n, b);
    x = &t->nodes[a];
    y = &t->nodes[b];
    m = meet(x, y);
    for (int r = 0; r < m.rows; r++) {
        size_t at = (size_t)r * (size_t)m.cols;

        how->value(n->value + at, x->value + at, y->value + (size_t)r * (size_t)m.y_row, m.cols,
                   m.y_step);
    }
    return tape_index(t, n);
}

#define BINARY_OP(name)                                                                        \
    tvar t_##name(struct tape *t, tvar a, tvar b) {                                            \
        static const struct binary how = { { #name, binary_back }, name##_value,              \
                                           name##_back_x, name##_back_y };                     \
        return binary(t, &how, a, b);                                                          \
    }

BINARY_OP(add)
BINARY_OP(sub)
BINARY_OP(mul)
BINARY_OP(div)
BINARY_OP(min)
BINARY_OP(max)

/* ---- one operand ---- */

struct unary {
    struct tape_op op;
    void (*value)(float *o, const float *x, size_t n, const float *f);
    void (*back)(float *gx, const float *g, const struct tape_node *x,
                 const struct tape_node *y);
};

/* The loops of an operation: its value from X, the derivative (times G) from X and the value Y.
 * A and B are its two numbers. */
#define UNARY(name, VALUE, DX)                                                                 \
    static void name##_value(float *restrict o, const float *restrict x, size_t n,            \
                             const float *f) {                                                 \
        const float A = f[0], B = f[1];                                                        \
        (void)A, (void)B;                                                                      \
        for (size_t i = 0; i < n; i++) {                                                       \
            const float X = x[i];                                                              \
            o[i] = (VALUE);                                                                    \
        }                                                                                      \
    }                                                                                          \
    static void name##_back(float *restrict gx, const float *restrict g,                      \
                            const struct tape_node *nx, const struct tape_node *ny) {          \
        const float *x = nx->value, *y = ny->value, A = ny->f[0], B = ny->f[1];                \
        size_t n = tape_size(ny);                                                              \
        (void)A, (void)B;                                                                      \
        for (size_t i = 0; i < n; i++) {                                                       \
            const float X = x[i], Y = y[i], G = g[i];                                          \
            (void)X, (void)Y;                                                                  \
            gx[i] += (DX);                                                                     \
        }                                                                                      \
    }

static inline float softplus(float x) {
    return (x > 0.0f ? x : 0.0f) + log1pf(kern_exp(-fabsf(x)));
}

static inline float gelu_slope(float x) {
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * kern_exp(-0.5f * x * x);
}

static inline float huber(float x, float delta) {
    float a = fabsf(x);

    return a <= delta ? 0.5f * x * x : delta * (a - 0.5f * delta);
}

static inline float cut(float x, float low, float high) {
    float y = x < low ? low : x;

    return y > high ? high : y;
}

UNARY(affine, A *X + B, G *A)
UNARY(log, logf(X), G / X)
UNARY(square, X *X, 2.0f * G * X)
UNARY(sqrt, sqrtf(X), 0.5f * G / Y)
UNARY(abs, fabsf(X), X > 0.0f ? G : (X < 0.0f ? -G : 0.0f))
UNARY(clip, cut(X, A, B), X >= A && X <= B ? G : 0.0f)
UNARY(huber, huber(X, A), G *cut(X, -A, A))
UNARY(elu, X > 0.0f ? X : kern_exp(X) - 1.0f, X > 0.0f ? G : G *(Y + 1.0f))
UNARY(swish, X *tape_sigmoid(X), G *tape_sigmoid(X) * (1.0f + X * (1.0f - tape_sigmoid(X))))
UNARY(softplus, softplus(X), G *tape_sigmoid(X))
UNARY(leaky, X > 0.0f ? X : 0.01f * X, X > 0.0f ? G : 0.01f * G)
UNARY(gelu, 0.5f * X * (1.0f + erff(X * 0.70710678f)), G *gelu_slope(X))
UNARY(relu, X <= 0.0f ? 0.0f : X, Y > 0.0f ? G : 0.0f)

/* By the kernels, in place; the derivatives follow from the values. */
static void exp_value(float *restrict o, const float *restrict x, size_t n, const float *f) {
    (void)f;
    memcpy(o, x, n * sizeof(float));
    kern_get()->exp(o, n);
}

static void sigmoid_value(float *restrict o, const float *restrict x, size_t n, const float *f) {
    (void)f;
    memcpy(o, x, n * sizeof(float));
    kern_get()->sigmoid(o, n);
}

static void exp_back(float *restrict gx, const float *restrict g, const struct tape_node *x,
                     const struct tape_node *y) {
    (void)x;
    for (size_t i = 0; i < tape_size(y); i++)
        gx[i] += g[i] * y->value[i];
}

static void sigmoid_back(float *restrict gx, const float *restrict g, const struct tape_node *x,
                         const struct tape_node *y) {
    (void)x;
    for (size_t i = 0; i < tape_size(y); i++)
        gx[i] += g[i] * y->value[i] * (1.0f - y->value[i]);
}

static void unary_back(struct tape *t, struct tape_node *n) {
    const struct unary *how = (const struct unary *)(const void *)n->op;
    float *gx = tape_grad_in(t, n, 0);

    if (gx)
        how->back(gx, n->grad, &t->nodes[n->in[0]], n);
}

static tvar unary(struct tape *t, const struct unary *how, tvar x, float a, float b) {
    const struct tape_node *nx = tape_arg(t, &how->op, x);
    struct tape_node *n;

    if (!nx)
        return TAPE_BAD;
    n = tape_push(t, &how->op, nx->rows, nx->cols);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, x);
    n->f[0] = a;
    n->f[1] = b;
    how->value(n->value, t->nodes[x].value, tape_size(n), n->f);
    return tape_index(t, n);
}

#define UNARY_ROW(name) { { #name, unary_back }, name##_value, name##_back }
#define UNARY_OP(name)                                                                         \
    tvar t_##name(struct tape *t, tvar x) {                                                    \
        static const struct unary how = UNARY_ROW(name);                                       \
        return unary(t, &how, x, 0.0f, 0.0f);                                                  \
    }

UNARY_OP(exp)
UNARY_OP(log)
UNARY_OP(square)
UNARY_OP(sqrt)
UNARY_OP(abs)

tvar t_affine(struct tape *t, tvar x, float scale, float shift) {
    static const struct unary how = UNARY_ROW(affine);

    return unary(t, &how, x, scale, shift);
}

tvar t_clip(struct tape *t, tvar x, float low, float high) {
    static const struct unary how = UNARY_ROW(clip);

    if (!(low <= high))
        return tape_fail(t, -SKATE_EINVAL, "clip: from %g to %g", (double)low, (double)high);
    return unary(t, &how, x, low, high);
}

tvar t_huber(struct tape *t, tvar x, float delta) {
    static const struct unary how = UNARY_ROW(huber);

    if (!(delta > 0.0f))
        return tape_fail(t, -SKATE_EINVAL, "huber: delta is %g", (double)delta);
    return unary(t, &how, x, delta, 0.0f);
}

tvar t_stop(struct tape *t, tvar x) {
    static const struct tape_op op = { .name = "stop" };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n = nx ? tape_push_at(t, &op, nx->rows, nx->cols, nx->value) : NULL;

    return n ? tape_index(t, n) : TAPE_BAD;
}

/* ---- activations ---- */

enum { STRIP = 256 };

/* The kernels' tanh adds a bias: here of zeros, over strips as if they were rows. */
static void tanh_value(float *restrict o, const float *restrict x, size_t n, const float *f) {
    static const float zeros[STRIP];
    const struct kern_table *kern = kern_get();
    size_t full = n / STRIP, rest = n % STRIP;

    (void)f;
    memcpy(o, x, n * sizeof(float));
    if (full > 0)
        kern->bias_act(o, zeros, (int)full, STRIP, KERN_TANH);
    if (rest > 0)
        kern->bias_act(o + full * STRIP, zeros, 1, (int)rest, KERN_TANH);
}

static void tanh_back(float *restrict gx, const float *restrict g, const struct tape_node *x,
                      const struct tape_node *y) {
    (void)x;
    for (size_t i = 0; i < tape_size(y); i++)
        gx[i] += g[i] * (1.0f - y->value[i] * y->value[i]);
}

static const struct unary acts[] = {
    [ACT_RELU] = UNARY_ROW(relu),
    [ACT_TANH] = UNARY_ROW(tanh),
    [ACT_SIGMOID] = UNARY_ROW(sigmoid),
    [ACT_ELU] = UNARY_ROW(elu),
    [ACT_SWISH] = UNARY_ROW(swish),
    [ACT_SOFTPLUS] = UNARY_ROW(softplus),
    [ACT_LEAKY_RELU] = UNARY_ROW(leaky),
    [ACT_GELU] = UNARY_ROW(gelu),
};

tvar t_act(struct tape *t, tvar x, enum tape_act act) {
    if (act == ACT_LINEAR)
        return t->error ? TAPE_BAD : x;
    if ((int)act < 0 || act > ACT_GELU)
        return tape_fail(t, -SKATE_EINVAL, "act: there is no activation %d", (int)act);
    return unary(t, &acts[act], x, 0.0f, 0.0f);
}

bool tape_act_by_value(enum tape_act act) {
    return act == ACT_LINEAR || act == ACT_RELU || act == ACT_TANH || act == ACT_SIGMOID ||
           act == ACT_ELU || act == ACT_LEAKY_RELU;
}

static const enum kern_act kern_acts[] = { [ACT_LINEAR] = KERN_LINEAR, [ACT_RELU] = KERN_RELU,
                                           [ACT_TANH] = KERN_TANH };

void tape_act_rows(const struct tape *t, float *y, const float *bias, int rows, int cols,
                   enum tape_act act) {
    size_t n = (size_t)rows * (size_t)cols;

    if (act <= ACT_TANH) {
        t->kern->bias_act(y, bias, rows, cols, kern_acts[act]);
        return;
    }
    t->kern->bias_act(y, bias, rows, cols, KERN_LINEAR);
    if (act == ACT_SIGMOID)
        t->kern->sigmoid(y, n);
    else if (act == ACT_ELU)
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] > 0.0f ? y[i] : kern_exp(y[i]) - 1.0f;
    else
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] > 0.0f ? y[i] : 0.01f * y[i];
}

void tape_act_back(const struct tape *t, float *restrict d, const float *restrict h, size_t n,
                   enum tape_act act) {
    if (act <= ACT_TANH)
        t->kern->act_back(d, h, n, kern_acts[act]);
    else if (act == ACT_SIGMOID)
        for (size_t i = 0; i < n; i++)
            d[i] *= h[i] * (1.0f - h[i]);
    else if (act == ACT_ELU)
        for (size_t i = 0; i < n; i++)
            d[i] *= h[i] > 0.0f ? 1.0f : h[i] + 1.0f;
    else
        for (size_t i = 0; i < n; i++)
            d[i] *= h[i] > 0.0f ? 1.0f : 0.01f;
}
