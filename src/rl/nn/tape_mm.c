/* tape_mm.c - the tape's products: plans by shape, matmul, dense layers, a matrix a row.
 *
 * Row-major y = x w is column-major y' = w' x': the forward product needs no transpose. x' dy is a
 * product with a transposed second factor; dy w' wants w transposed in memory, which is done once
 * per node. One owner; never blocks. Tests: tests/unit/rl_tape_test.c. */
#include <stdlib.h>

#include "rl/nn/tape_int.h"

enum { PLANS_FIRST = 64, PLANS_MAX = 4096, LOT_FLOATS = 1 << 17, LOT_MIN = 64,
       LOT_MAX = 1024, LOT_ANY = 256 };

/* ---- plans ---- */

static bool same_plan(const struct gemm_plan *a, const struct gemm_plan *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda &&
           a->ldb == b->ldb && a->ldc == b->ldc && a->trans_b == b->trans_b && a->add == b->add;
}

static struct tape_plan *place_of(struct tape_plan *plans, int room, const struct gemm_plan *p) {
    uint32_t h = (uint32_t)p->m * 0x9e3779b1u;

    h = (h ^ (uint32_t)p->n) * 0x85ebca6bu;
    h = (h ^ (uint32_t)p->k) * 0xc2b2ae35u;
    h = (h ^ (uint32_t)p->ldb ^ (uint32_t)p->trans_b << 30 ^ (uint32_t)p->add << 31) * 0x9e3779b1u;
    h ^= h >> 15;
    for (;; h++) {
        struct tape_plan *at = &plans[h & (uint32_t)(room - 1)];

        if (!at->used || same_plan(&at->plan, p))
            return at;
    }
}

/* Twice the places; at the bound all plans are forgotten (making one again is cheap: libxsmm
 * keeps the code). */
static int more_plans(struct tape *t) {
    int room = t->plan_room ? 2 * t->plan_room : PLANS_FIRST;
    struct tape_plan *plans;

    if (room > PLANS_MAX) {
        memset(t->plans, 0, (size_t)t->plan_room * sizeof *t->plans);
        t->n_plans = 0;
        return 0;
    }
    t->allocations++;
    plans = calloc((size_t)room, sizeof *plans);
    if (!plans) {
        tape_fail(t, -SKATE_ENOMEM, "no memory for the plans of products");
        return -1;
    }
    for (int i = 0; i < t->plan_room; i++)
        if (t->plans[i].used)
            *place_of(plans, room, &t->plans[i].plan) = t->plans[i];
    free(t->plans);
    t->plans = plans;
    t->plan_room = room;
    return 0;
}

static int product(struct tape *t, const struct gemm_plan *shape, const float *a, const float *b,
                   float *c) {
    struct tape_plan *at;

    if (2 * t->n_plans >= t->plan_room && more_plans(t) < 0)
        return -1;
    at = place_of(t->plans, t->plan_room, shape);
    if (!at->used) {
        at->plan = *shape;
        if (gemm_plan_init(&at->plan) < 0) {
            tape_fail(t, -SKATE_EINVAL, "product of %d x %d x %d: no plan", shape->n, shape->k,
                      shape->m);
            return -1;
        }
        at->used = true;
        t->n_plans++;
    }
    gemm_f32(&at->plan, a, b, c);
    return 0;
}

/* How many of the rows that are left come next. Many rows are done in lots that stay in the second
 * cache. And batches of ever new sizes must not make ever new kernels: above LOT_ANY there are
 * multiples of 64 only, whatever is left over comes last. It depends on the shape alone, so sums
 * are the same in every process. */
static int next_lot(const struct tape_mm *s, int left) {
    int lot = LOT_FLOATS / (s->k + s->m) & ~63;

    lot = lot < LOT_MIN ? LOT_MIN : lot > LOT_MAX ? LOT_MAX : lot;
    if (left >= lot)
        return lot;
    return left <= LOT_ANY ? left : left & ~63;
}

int tape_mm(struct tape *t, const struct tape_mm *s, const float *x, const float *w, float *y) {
    struct gemm_plan p = { .m = s->m, .n = s->n, .k = s->k, .lda = s->m, .ldb = s->ldx,
                           .ldc = s->ldy, .add = s->add };
    int r = 0;

    for (int at = 0; at < s->n && r == 0; at += p.n) {
        p.n = next_lot(s, s->n - at);
        r = product(t, &p, w, x + (size_t)at * (size_t)s->ldx, y + (size_t)at * (size_t)s->ldy);
    }
    return r;
}

int tape_mm_dw(struct tape *t, const struct tape_mm *s, const float *x, const float *dy,
               float *dw) {
    struct gemm_plan p = { .m = s->m, .n = s->k, .k = s->n, .lda = s->ldy, .ldb = s->ldx,
                           .ldc = s->m, .trans_b = true, .add = s->add };
    int r = 0;

    for (int at = 0; at < s->n && r == 0; at += p.k) {
        p.k = next_lot(s, s->n - at);
        r = product(t, &p, dy + (size_t)at * (size_t)s->ldy, x + (size_t)at * (size_t)s->ldx, dw);
        p.add = true;
    }
    return r;
}

int tape_mm_dx(struct tape *t, const struct tape_mm *s, const float *turned, const float *dy,
               float *dx) {
    struct gemm_plan p = { .m = s->k, .n = s->n, .k = s->m,
                           .lda = s->ldw ? s->ldw : tape_turned_stride(s->k), .ldb = s->ldy,
                           .ldc = s->ldx, .add = s->add };
    int r = 0;

    for (int at = 0; at < s->n && r == 0; at += p.n) {
        p.n = next_lot(s, s->n - at);
        r = product(t, &p, turned, dy + (size_t)at * (size_t)s->ldy,
                    dx + (size_t)at * (size_t)s->ldx);
    }
    return r;
}

const float *tape_turned(struct tape *t, struct tape_node *n, int k) {
    struct tape_node *w = &t->nodes[n->in[k]];
    int stride = tape_turned_stride(w->rows);

    if (!w->turned) {
        w->turned = tape_alloc(t, (size_t)stride * (size_t)w->cols * sizeof(float));
        if (!w->turned)
            return NULL;
        t->kern->transpose(w->turned, stride, w->value, w->cols, w->rows, w->cols);
    }
    return w->turned;
}

/* The gradients of x and w of a node y = x w (operands 0 and 1) from dy [n,m]. */
static void product_back(struct tape *t, struct tape_node *n, const float *dy) {
    const struct tape_node *x = &t->nodes[n->in[0]], *w = &t->nodes[n->in[1]];
    struct tape_mm s = { .n = x->rows, .k = x->cols, .m = w->cols, .ldx = x->cols,
                         .ldy = w->cols };
    bool fresh;
    float *g = tape_grad_raw(t, n, 1, &fresh);

    s.add = !fresh;
    if (g && tape_mm_dw(t, &s, x->value, dy, g) < 0)
        return;
    g = tape_grad_raw(t, n, 0, &fresh);
    s.add = !fresh;
    if (g) {
        const float *turned = tape_turned(t, n, 1);

        if (turned)
            tape_mm_dx(t, &s, turned, dy, g);
    }
}

/* ---- matmul ---- */

static void matmul_back(struct tape *t, struct tape_node *n) {
    product_back(t, n, n->grad);
}

static const struct tape_op op_matmul = { .name = "matmul", .back = matmul_back };

tvar t_matmul(struct tape *t, tvar a, tvar b) {
    const struct tape_node *x = tape_arg(t, &op_matmul, a), *w = tape_arg(t, &op_matmul, b);
    struct tape_mm s;
    struct tape_node *n;

    if (!x || !w)
        return TAPE_BAD;
    if (x->cols != w->rows)
        return tape_fail(t, -SKATE_EINVAL, "matmul: %d x %d times %d x %d", x->rows, x->cols,
                         w->rows, w->cols);
    s = (struct tape_mm){ .n = x->rows, .k = x->cols, .m = w->cols, .ldx = x->cols,
                          .ldy = w->cols };
    n = tape_push(t, &op_matmul, s.n, s.m);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, a);
    tape_link(t, n, b);
    if (tape_mm(t, &s, t->nodes[a].value, t->nodes[b].value, n->value) < 0)
        return TAPE_BAD;
    return tape_index(t, n);
}

/* ---- dense ---- */

static void dense_back(struct tape *t, struct tape_node *n) {
    enum tape_act act = (enum tape_act)n->i[0];
    const float *dy = n->grad;
    bool fresh;
    float *g;

    if (act != ACT_LINEAR) {
        float *d = tape_scratch(t, 0, tape_size(n));

        if (!d)
            return;
        memcpy(d, n->grad, tape_size(n) * sizeof(float));
        tape_act_back(t, d, n->value, tape_size(n), act);
        dy = d;
    }
    g = tape_grad_raw(t, n, 2, &fresh);
    if (g) {
        float *sum = fresh ? g : tape_scratch(t, 1, (size_t)n->cols);

        if (!sum)
            return;
        t->kern->col_sum(sum, dy, n->rows, n->cols);
        for (int c = 0; c < n->cols && !fresh; c++)
            g[c] += sum[c];
    }
    product_back(t, n, dy);
}

static const struct tape_op op_dense = { .name = "dense", .back = dense_back };

tvar t_dense(struct tape *t, tvar x, tvar w, tvar b, enum tape_act act) {
    const struct tape_node *nx = tape_arg(t, &op_dense, x), *nw = tape_arg(t, &op_dense, w);
    const struct tape_node *nb = tape_arg(t, &op_dense, b);
    struct tape_mm s;
    struct tape_node *n;

    if (!nx || !nw || !nb)
        return TAPE_BAD;
    if (nx->cols != nw->rows || nb->rows != 1 || nb->cols != nw->cols)
        return tape_fail(t, -SKATE_EINVAL, "dense: %d x %d times %d x %d plus %d x %d",
                         nx->rows, nx->cols, nw->rows, nw->cols, nb->rows, nb->cols);
    if (!tape_act_by_value(act))
        return t_act(t, t_dense(t, x, w, b, ACT_LINEAR), act);
    s = (struct tape_mm){ .n = nx->rows, .k = nx->cols, .m = nw->cols, .ldx = nx->cols,
                          .ldy = nw->cols };
    n = tape_push(t, &op_dense, s.n, s.m);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, x);
    tape_link(t, n, w);
    tape_link(t, n, b);
    n->i[0] = (int)act;
    if (tape_mm(t, &s, t->nodes[x].value, t->nodes[w].value, n->value) < 0)
        return TAPE_BAD;
    tape_act_rows(t, n->value, t->nodes[b].value, n->rows, n->cols, act);
    return tape_index(t, n);
}

/* ---- each row its own matrix ---- */

static void rowmat_back(struct tape *t, struct tape_node *n) {
    const struct tape_node *x = &t->nodes[n->in[0]], *w = &t->nodes[n->in[1]];
    float *gx = tape_grad_in(t, n, 0), *gw = tape_grad_in(t, n, 1);
    size_t k = (size_t)x->cols, m = (size_t)n->cols;

    for (size_t r = 0; r < (size_t)n->rows; r++) {
        const float *restrict g = n->grad + r * m;

        for (size_t i = 0; i < k; i++) {
            const float *restrict row = w->value + (r * k + i) * m;
            float xi = x->value[r * k + i], sum = 0.0f;

            for (size_t j = 0; j < m && gx; j++)
                sum += g[j] * row[j];
            if (gx)
                gx[r * k + i] += sum;
            for (size_t j = 0; j < m && gw; j++)
                gw[(r * k + i) * m + j] += g[j] * xi;
        }
    }
}

static const struct tape_op op_rowmat = { .name = "rowmat", .back = rowmat_back };

tvar t_rowmat(struct tape *t, tvar x, tvar w, int m) {
    const struct tape_node *nx = tape_arg(t, &op_rowmat, x), *nw = tape_arg(t, &op_rowmat, w);
    struct tape_node *n;
    size_t k;

    if (!nx || !nw)
        return TAPE_BAD;
    if (m < 1 || nx->rows != nw->rows || (size_t)nx->cols * (size_t)m != (size_t)nw->cols)
        return tape_fail(t, -SKATE_EINVAL, "rowmat: rows of %d x %d times matrices of %d in "
                         "%d x %d", nx->rows, nx->cols, m, nw->rows, nw->cols);
    n = tape_push(t, &op_rowmat, nx->rows, m);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, x);
    tape_link(t, n, w);
    k = (size_t)t->nodes[x].cols;
    memset(n->value, 0, tape_size(n) * sizeof(float));
    for (size_t r = 0; r < (size_t)n->rows; r++)
        for (size_t i = 0; i < k; i++) {
            const float *restrict row = t->nodes[w].value + (r * k + i) * (size_t)m;
            float *restrict out = n->value + r * (size_t)m, xi = t->nodes[x].value[r * k + i];

            for (int j = 0; j < m; j++)
                out[j] += xi * row[j];
        }
    return tape_index(t, n);
}
