/* tape_cols.c - the tape's operations over rows and columns: sums, softmax, choice, shape.
 *
 * One owner; never blocks. Tests: tests/unit/rl_tape_test.c. */
#include <math.h>

#include "rl/nn/tape_int.h"

static void add_to(float *restrict g, const float *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++)
        g[i] += x[i];
}

/* A node of one operand. */
static struct tape_node *push_of(struct tape *t, const struct tape_op *op, tvar x, int rows,
                                 int cols) {
    struct tape_node *n = tape_push(t, op, rows, cols);

    if (n)
        tape_link(t, n, x);
    return n;
}

/* A node whose value is a part of its operand's. */
static struct tape_node *view_of(struct tape *t, const struct tape_op *op, tvar x, int rows,
                                 int cols) {
    struct tape_node *n = tape_push_at(t, op, rows, cols, t->nodes[x].value);

    if (n)
        tape_link(t, n, x);
    return n;
}

/* ---- softmax and its kin ---- */

/* Groups of `group` columns as if they were rows; 0 for a group that does not fit (error set). */
static size_t groups(struct tape *t, const struct tape_op *op, const struct tape_node *x,
                     int group) {
    if (group < 1 || x->cols % group != 0) {
        tape_fail(t, -SKATE_EINVAL, "%s: groups of %d in %d x %d", op->name, group, x->rows,
                  x->cols);
        return 0;
    }
    return tape_size(x) / (size_t)group;
}

static float largest(const float *x, int n) {
    float top = x[0];

    for (int i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    return top;
}

static float sum_of(const float *x, int n) {
    float sum = 0.0f;

    for (int i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* o = x - the largest of its group. */
static void below_largest(float *restrict o, const float *restrict x, size_t n, int group) {
    for (size_t at = 0; at < n; at += (size_t)group) {
        float top = largest(x + at, group);

        for (size_t i = at; i < at + (size_t)group; i++)
            o[i] = x[i] - top;
    }
}

static void softmax_back(struct tape *t, struct tape_node *n) {
    float *gx = tape_grad_in(t, n, 0);
    int group = n->i[0];

    for (size_t at = 0; gx && at < tape_size(n); at += (size_t)group) {
        const float *y = n->value + at, *g = n->grad + at;
        float sum = 0.0f;

        for (int i = 0; i < group; i++)
            sum += g[i] * y[i];
        for (int i = 0; i < group; i++)
            gx[at + (size_t)i] += y[i] * (g[i] - sum);
    }
}

tvar t_softmax(struct tape *t, tvar x, int group) {
    static const struct tape_op op = { "softmax", softmax_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n;

    if (!nx)
        return TAPE_BAD;
    group = group == 0 ? nx->cols : group;
    if (groups(t, &op, nx, group) == 0)
        return TAPE_BAD;
    n = push_of(t, &op, x, nx->rows, nx->cols);
    if (!n)
        return TAPE_BAD;
    n->i[0] = group;
    below_largest(n->value, t->nodes[x].value, tape_size(n), group);
    t->kern->exp(n->value, tape_size(n));
    for (size_t at = 0; at < tape_size(n); at += (size_t)group) {
        float *out = n->value + at, by = 1.0f / sum_of(out, group);

        for (int i = 0; i < group; i++)
            out[i] *= by;
    }
    return tape_index(t, n);
}

/* aux: the probabilities. */
static void log_softmax_back(struct tape *t, struct tape_node *n) {
    float *gx = tape_grad_in(t, n, 0);
    const float *p = n->aux;
    int group = n->i[0];

    for (size_t at = 0; gx && at < tape_size(n); at += (size_t)group) {
        const float *g = n->grad + at;
        float sum = sum_of(g, group);

        for (int i = 0; i < group; i++)
            gx[at + (size_t)i] += g[i] - p[at + (size_t)i] * sum;
    }
}

tvar t_log_softmax(struct tape *t, tvar x, int group) {
    static const struct tape_op op = { "log_softmax", log_softmax_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n;
    float *p;

    if (!nx)
        return TAPE_BAD;
    group = group == 0 ? nx->cols : group;
    if (groups(t, &op, nx, group) == 0)
        return TAPE_BAD;
    n = push_of(t, &op, x, nx->rows, nx->cols);
    if (!n)
        return TAPE_BAD;
    n->i[0] = group;
    n->aux = p = tape_alloc(t, tape_size(n) * sizeof *p);
    if (!p)
        return TAPE_BAD;
    below_largest(n->value, t->nodes[x].value, tape_size(n), group);
    memcpy(p, n->value, tape_size(n) * sizeof *p);
    t->kern->exp(p, tape_size(n));
    for (size_t at = 0; at < tape_size(n); at += (size_t)group) {
        float sum = sum_of(p + at, group), log_sum = logf(sum), by = 1.0f / sum;

        for (size_t i = at; i < at + (size_t)group; i++) {
            n->value[i] -= log_sum;
            p[i] *= by;
        }
    }
    return tape_index(t, n);
}

static void logsumexp_back(struct tape *t, struct tape_node *n) {
    const struct tape_node *x = &t->nodes[n->in[0]];
    float *gx = tape_grad_in(t, n, 0);
    size_t cols = (size_t)x->cols;

    for (size_t r = 0; gx && r < (size_t)n->rows; r++) {
        float g = n->grad[r], y = n->value[r];

        for (size_t c = 0; c < cols; c++)
            gx[r * cols + c] += g * kern_exp(x->value[r * cols + c] - y);
    }
}

tvar t_logsumexp(struct tape *t, tvar x) {
    static const struct tape_op op = { "logsumexp", logsumexp_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n = nx ? push_of(t, &op, x, nx->rows, 1) : NULL;
    float *room;
    int cols;

    if (!n)
        return TAPE_BAD;
    cols = t->nodes[x].cols;
    room = tape_scratch(t, 0, (size_t)cols);
    if (!room)
        return TAPE_BAD;
    for (int r = 0; r < n->rows; r++) {
        const float *in = t->nodes[x].value + (size_t)r * (size_t)cols;
        below_largest(room, in, (size_t)cols, cols);
        t->kern->exp(room, (size_t)cols);
        n->value[r] = largest(in, cols) + logf(sum_of(room, cols));
    }
    return tape_index(t, n);
}

/* ---- choice ---- */

static void pick_back(struct tape *t, struct tape_node *n) {
    const int32_t *index = n->aux;
    float *gx = tape_grad_in(t, n, 0);
    size_t cols = (size_t)t->nodes[n->in[0]].cols, width = (size_t)n->cols;

    for (size_t r = 0; gx && r < (size_t)n->rows; r++)
        add_to(gx + r * cols + (size_t)index[r] * width, n->grad + r * width, width);
}

/* A copy of `n` indices, each checked to be below `limit`. */
static int32_t *checked(struct tape *t, const struct tape_op *op, const int32_t *index, int n,
                        int limit) {
    int32_t *copy;

    if (!index) {
        tape_fail(t, -SKATE_EINVAL, "%s: no indices were given", op->name);
        return NULL;
    }
    for (int i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= limit) {
            tape_fail(t, -SKATE_EINVAL, "%s: index %d of row %d is not in 0..%d", op->name,
                      (int)index[i], i, limit - 1);
            return NULL;
        }
    copy = tape_alloc(t, (size_t)n * sizeof *copy);
    if (copy)
        memcpy(copy, index, (size_t)n * sizeof *copy);
    return copy;
}

static tvar pick(struct tape *t, const struct tape_op *op, tvar x, const int32_t *index,
                 int width) {
    const struct tape_node *nx = tape_arg(t, op, x);
    struct tape_node *n;
    int32_t *copy;
    size_t cols;

    if (!nx)
        return TAPE_BAD;
    if (width < 1 || nx->cols % width != 0)
        return tape_fail(t, -SKATE_EINVAL, "%s: blocks of %d in %d x %d", op->name, width,
                         nx->rows, nx->cols);
    copy = checked(t, op, index, nx->rows, nx->cols / width);
    n = copy ? push_of(t, op, x, nx->rows, width) : NULL;
    if (!n)
        return TAPE_BAD;
    n->aux = copy;
    cols = (size_t)t->nodes[x].cols;
    for (size_t r = 0; r < (size_t)n->rows; r++)
        memcpy(n->value + r * (size_t)width,
               t->nodes[x].value + r * cols + (size_t)copy[r] * (size_t)width,
               (size_t)width * sizeof(float));
    return tape_index(t, n);
}

tvar t_pick(struct tape *t, tvar x, const int32_t *index) {
    static const struct tape_op op = { "pick", pick_back };

    return pick(t, &op, x, index, 1);
}

tvar t_pick_block(struct tape *t, tvar x, const int32_t *index, int width) {
    static const struct tape_op op = { "pick_block", pick_back };

    return pick(t, &op, x, index, width);
}

static void lookup_back(struct tape *t, struct tape_node *n) {
    const int32_t *index = n->aux;
    float *g = tape_grad_in(t, n, 0);
    size_t cols = (size_t)n->cols;

    for (size_t r = 0; g && r < (size_t)n->rows; r++)
        add_to(g + (size_t)index[r] * cols, n->grad + r * cols, cols);
}

tvar t_lookup(struct tape *t, tvar table, const int32_t *index, int rows) {
    static const struct tape_op op = { "lookup", lookup_back };
    const struct tape_node *nt = tape_arg(t, &op, table);
    struct tape_node *n;
    int32_t *copy;
    size_t cols;

    if (!nt)
        return TAPE_BAD;
    if (rows < 1)
        return tape_fail(t, -SKATE_EINVAL, "lookup: %d rows", rows);
    copy = checked(t, &op, index, rows, nt->rows);
    n = copy ? push_of(t, &op, table, rows, nt->cols) : NULL;
    if (!n)
        return TAPE_BAD;
    n->aux = copy;
    cols = (size_t)n->cols;
    for (size_t r = 0; r < (size_t)rows; r++)
        memcpy(n->value + r * cols, t->nodes[table].value + (size_t)copy[r] * cols,
               cols * sizeof(float));
    return tape_index(t, n);
}

static void max_cols_back(struct tape *t, struct tape_node *n) {
    const int32_t *index = n->aux;
    float *gx = tape_grad_in(t, n, 0);
    size_t cols = (size_t)t->nodes[n->in[0]].cols;

    for (size_t r = 0; gx && r < (size_t)n->rows; r++)
        gx[r * cols + (size_t)index[r]] += n->grad[r];
}

tvar t_max_cols(struct tape *t, tvar x) {
    static const struct tape_op op = { "max_cols", max_cols_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n = nx ? push_of(t, &op, x, nx->rows, 1) : NULL;
    int32_t *index;
    int cols;

    if (!n)
        return TAPE_BAD;
    n->aux = index = tape_alloc(t, (size_t)n->rows * sizeof *index);
    if (!index)
        return TAPE_BAD;
    cols = t->nodes[x].cols;
    for (int r = 0; r < n->rows; r++) {
        const float *in = t->nodes[x].value + (size_t)r * (size_t)cols;
        int best = 0;

        for (int c = 1; c < cols; c++)
            best = in[c] > in[best] || in[c] != in[c] ? c : best;   /* NaN wins */
        index[r] = best;
        n->value[r] = in[best];
    }
    return tape_index(t, n);
}

/* ---- sums ---- */

static void sum_groups_back(struct tape *t, struct tape_node *n) {
    float *gx = tape_grad_in(t, n, 0);
    size_t group = (size_t)n->i[0];

    for (size_t k = 0; gx && k < tape_size(n); k++) {
        float g = n->grad[k];

        for (size_t i = 0; i < group; i++)
            gx[k * group + i] += g;
    }
}

static tvar sum_groups(struct tape *t, const struct tape_op *op, tvar x, int group) {
    const struct tape_node *nx = tape_arg(t, op, x);
    struct tape_node *n;

    if (!nx)
        return TAPE_BAD;
    group = group == 0 ? nx->cols : group;
    if (groups(t, op, nx, group) == 0)
        return TAPE_BAD;
    n = push_of(t, op, x, nx->rows, nx->cols / group);
    if (!n)
        return TAPE_BAD;
    n->i[0] = group;
    for (size_t k = 0; k < tape_size(n); k++) {
        const float *in = t->nodes[x].value + k * (size_t)group;
        float sum = 0.0f;

        for (int i = 0; i < group; i++)
            sum += in[i];
        n->value[k] = sum;
    }
    return tape_index(t, n);
}

tvar t_sum_groups(struct tape *t, tvar x, int group) {
    static const struct tape_op op = { "sum_groups", sum_groups_back };

    if (group == 0)
        return tape_fail(t, -SKATE_EINVAL, "sum_groups: groups of 0");
    return sum_groups(t, &op, x, group);
}

tvar t_sum_cols(struct tape *t, tvar x) {
    static const struct tape_op op = { "sum_cols", sum_groups_back };

    return sum_groups(t, &op, x, 0);
}

static void total_back(struct tape *t, struct tape_node *n) {
    float *restrict gx = tape_grad_in(t, n, 0), g = n->grad[0] * n->f[0];
    size_t size = tape_size(&t->nodes[n->in[0]]);

    for (size_t i = 0; gx && i < size; i++)
        gx[i] += g;
}

static tvar total(struct tape *t, const struct tape_op *op, tvar x, bool mean) {
    const struct tape_node *nx = tape_arg(t, op, x);
    struct tape_node *n = nx ? push_of(t, op, x, 1, 1) : NULL;
    double sum = 0.0;
    size_t size;

    if (!n)
        return TAPE_BAD;
    size = tape_size(&t->nodes[x]);
    for (size_t i = 0; i < size; i++)
        sum += (double)t->nodes[x].value[i];
    n->f[0] = mean ? 1.0f / (float)size : 1.0f;
    n->value[0] = (float)(mean ? sum / (double)size : sum);
    return tape_index(t, n);
}

tvar t_sum(struct tape *t, tvar x) {
    static const struct tape_op op = { "sum", total_back };

    return total(t, &op, x, false);
}

tvar t_mean(struct tape *t, tvar x) {
    static const struct tape_op op = { "mean", total_back };

    return total(t, &op, x, true);
}

/* ---- shape ---- */

static void concat_back(struct tape *t, struct tape_node *n) {
    size_t all = (size_t)n->cols, from = 0;

    for (int k = 0; k < 2; k++) {
        size_t cols = (size_t)t->nodes[n->in[k]].cols;
        float *g = tape_grad_in(t, n, k);

        for (size_t r = 0; g && r < (size_t)n->rows; r++)
            add_to(g + r * cols, n->grad + r * all + from, cols);
        from += cols;
    }
}

tvar t_concat(struct tape *t, tvar a, tvar b) {
    static const struct tape_op op = { "concat", concat_back };
    const struct tape_node *x = tape_arg(t, &op, a), *y = tape_arg(t, &op, b);
    struct tape_node *n;
    size_t nx, ny;

    if (!x || !y)
        return TAPE_BAD;
    if (x->rows != y->rows)
        return tape_fail(t, -SKATE_EINVAL, "concat: %d x %d and %d x %d", x->rows, x->cols,
                         y->rows, y->cols);
    nx = (size_t)x->cols;
    ny = (size_t)y->cols;
    n = push_of(t, &op, a, x->rows, nx + ny > INT32_MAX ? 0 : (int)(nx + ny));
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, b);
    for (size_t r = 0; r < (size_t)n->rows; r++) {
        float *out = n->value + r * (nx + ny);

        memcpy(out, t->nodes[a].value + r * nx, nx * sizeof(float));
        memcpy(out + nx, t->nodes[b].value + r * ny, ny * sizeof(float));
    }
    return tape_index(t, n);
}

static void stack_back(struct tape *t, struct tape_node *n) {
    size_t from = 0;

    for (int k = 0; k < 2; k++) {
        size_t size = tape_size(&t->nodes[n->in[k]]);
        float *g = tape_grad_in(t, n, k);

        if (g)
            add_to(g, n->grad + from, size);
        from += size;
    }
}

tvar t_stack(struct tape *t, tvar a, tvar b) {
    static const struct tape_op op = { "stack", stack_back };
    const struct tape_node *x = tape_arg(t, &op, a), *y = tape_arg(t, &op, b);
    struct tape_node *n;
    size_t size;

    if (!x || !y)
        return TAPE_BAD;
    if (x->cols != y->cols)
        return tape_fail(t, -SKATE_EINVAL, "stack: %d x %d on %d x %d", x->rows, x->cols,
                         y->rows, y->cols);
    n = push_of(t, &op, a, (int64_t)x->rows + y->rows > INT32_MAX ? 0 : x->rows + y->rows,
                x->cols);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, b);
    size = tape_size(&t->nodes[a]);
    memcpy(n->value, t->nodes[a].value, size * sizeof(float));
    memcpy(n->value + size, t->nodes[b].value, tape_size(&t->nodes[b]) * sizeof(float));
    return tape_index(t, n);
}

static void cols_back(struct tape *t, struct tape_node *n) {
    float *g = tape_grad_in(t, n, 0);
    size_t all = (size_t)t->nodes[n->in[0]].cols, cols = (size_t)n->cols;

    for (size_t r = 0; g && r < (size_t)n->rows; r++)
        add_to(g + r * all + (size_t)n->i[0], n->grad + r * cols, cols);
}

tvar t_cols(struct tape *t, tvar x, int first, int count) {
    static const struct tape_op op = { "cols", cols_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n;
    size_t all;

    if (!nx)
        return TAPE_BAD;
    if (first < 0 || count < 1 || first > nx->cols - count)
        return tape_fail(t, -SKATE_EINVAL, "cols: %d from %d of %d x %d", count, first, nx->rows,
                         nx->cols);
    n = push_of(t, &op, x, nx->rows, count);
    if (!n)
        return TAPE_BAD;
    n->i[0] = first;
    all = (size_t)t->nodes[x].cols;
    for (size_t r = 0; r < (size_t)n->rows; r++)
        memcpy(n->value + r * (size_t)count, t->nodes[x].value + r * all + (size_t)first,
               (size_t)count * sizeof(float));
    return tape_index(t, n);
}

static void view_back(struct tape *t, struct tape_node *n) {
    float *g = tape_grad_in(t, n, 0);

    if (g)
        add_to(g + (size_t)n->i[0] * (size_t)n->cols, n->grad, tape_size(n));
}

tvar t_rows(struct tape *t, tvar x, int first, int count) {
    static const struct tape_op op = { "rows", view_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n;

    if (!nx)
        return TAPE_BAD;
    if (first < 0 || count < 1 || first > nx->rows - count)
        return tape_fail(t, -SKATE_EINVAL, "rows: %d from %d of %d x %d", count, first, nx->rows,
                         nx->cols);
    n = view_of(t, &op, x, count, nx->cols);
    if (!n)
        return TAPE_BAD;
    n->i[0] = first;
    n->value += (size_t)first * (size_t)n->cols;
    return tape_index(t, n);
}

tvar t_reshape(struct tape *t, tvar x, int rows, int cols) {
    static const struct tape_op op = { "reshape", view_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n;

    if (!nx)
        return TAPE_BAD;
    if (rows < 1 || cols < 1 || (size_t)rows * (size_t)cols != tape_size(nx))
        return tape_fail(t, -SKATE_EINVAL, "reshape: %d x %d to %d x %d", nx->rows, nx->cols,
                         rows, cols);
    n = view_of(t, &op, x, rows, cols);
    return n ? tape_index(t, n) : TAPE_BAD;
}

static void repeat_back(struct tape *t, struct tape_node *n) {
    float *g = tape_grad_in(t, n, 0);
    size_t cols = (size_t)n->cols, times = (size_t)n->i[0];

    for (size_t r = 0; g && r < (size_t)n->rows; r++)
        add_to(g + r / times * cols, n->grad + r * cols, cols);
}

tvar t_repeat(struct tape *t, tvar x, int times) {
    static const struct tape_op op = { "repeat", repeat_back };
    const struct tape_node *nx = tape_arg(t, &op, x);
    struct tape_node *n;
    size_t cols;

    if (!nx)
        return TAPE_BAD;
    if (times < 1 || (int64_t)nx->rows * times > INT32_MAX)
        return tape_fail(t, -SKATE_EINVAL, "repeat: %d x %d, %d times", nx->rows, nx->cols,
                         times);
    n = push_of(t, &op, x, nx->rows * times, nx->cols);
    if (!n)
        return TAPE_BAD;
    n->i[0] = times;
    cols = (size_t)n->cols;
    for (size_t r = 0; r < (size_t)n->rows; r++)
        memcpy(n->value + r * cols, t->nodes[x].value + r / (size_t)times * cols,
               cols * sizeof(float));
    return tape_index(t, n);
}
