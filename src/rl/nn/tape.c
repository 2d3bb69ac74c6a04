/* tape.c - see tape.h: memory, nodes, leaves, the way back. The operations are in tape_mm.c,
 * tape_elem.c, tape_cols.c and tape_layers.c. One owner; never blocks.
 * Tests: tests/unit/rl_tape_test.c. */
#include "rl/nn/tape.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "rl/nn/tape_int.h"

enum {
    FIRST_BLOCK = 64 << 10, BLOCK_MAX = 64 << 20, FIRST_NODES = 64, NODES_MAX = 1 << 22,
    HEAD = 64,                  /* bytes of a block's header */
};

static const size_t value_max = INT32_MAX;    /* numbers in one node */

/* ---- memory ---- */

struct tape *tape_new(void) {
    struct tape *t = calloc(1, sizeof *t);

    if (t)
        t->kern = kern_get();
    return t;
}

struct tape *tape_free(struct tape *t) {
    if (!t)
        return NULL;
    while (t->blocks) {
        struct tape_block *next = t->blocks->next;

        free(t->blocks);
        t->blocks = next;
    }
    for (int i = 0; i < TAPE_SCRATCHES; i++)
        free(t->scratch[i]);
    free(t->plans);
    free(t->nodes);
    free(t);
    return NULL;
}

void tape_reset(struct tape *t) {
    t->n_nodes = 0;
    t->error = 0;
    t->text[0] = '\0';
    for (struct tape_block *b = t->blocks; b; b = b->next)
        b->used = 0;            /* all: one may have been passed over, and be empty between two */
    t->block = t->blocks;
}

tvar tape_fail(struct tape *t, int code, const char *format, ...) {
    va_list args;

    if (t->error)
        return TAPE_BAD;
    t->error = code;
    va_start(args, format);
    vsnprintf(t->text, sizeof t->text, format, args);
    va_end(args);
    return TAPE_BAD;
}

int tape_error(const struct tape *t) {
    return t->error;
}

const char *tape_error_text(const struct tape *t) {
    return t->text;
}

static void *no_memory(struct tape *t, size_t bytes) {
    tape_fail(t, -SKATE_ENOMEM, "no memory for %zu bytes of values", bytes);
    return NULL;
}

/* A block of at least `bytes` behind `after` (NULL: the first). */
static struct tape_block *add_block(struct tape *t, struct tape_block *after, size_t bytes) {
    size_t size = after ? 2 * after->size : FIRST_BLOCK;
    void *p = NULL;
    struct tape_block *b;

    size = size > BLOCK_MAX ? BLOCK_MAX : size;
    size = size < bytes ? bytes : size;
    t->allocations++;
    if (posix_memalign(&p, 64, size + HEAD) != 0)
        return no_memory(t, size);
    b = p;
    *b = (struct tape_block){ .size = size };
    if (after) {
        b->next = after->next;
        after->next = b;
    } else {
        t->blocks = b;
    }
    return b;
}

void *tape_alloc(struct tape *t, size_t bytes) {
    struct tape_block *b = t->block;
    void *p;

    bytes = (bytes + 63) & ~(size_t)63;
    if (!b || b->size - b->used < bytes) {
        if (b && b->next && b->next->size >= bytes)
            b = b->next;
        else
            b = add_block(t, b, bytes);
        if (!b)
            return NULL;
        t->block = b;
    }
    p = (char *)b + HEAD + b->used;
    b->used += bytes;
    return p;
}

float *tape_scratch(struct tape *t, int which, size_t n) {
    if (t->scratch_size[which] < n) {
        void *p = NULL;

        t->allocations++;
        if (posix_memalign(&p, 64, n * sizeof(float)) != 0)
            return no_memory(t, n * sizeof(float));
        free(t->scratch[which]);
        t->scratch[which] = p;
        t->scratch_size[which] = n;
    }
    return t->scratch[which];
}

/* ---- nodes ---- */

const struct tape_node *tape_arg(struct tape *t, const struct tape_op *op, tvar v) {
    if (t->error)
        return NULL;
    if (v < 0 || v >= t->n_nodes) {
        tape_fail(t, -SKATE_EINVAL, "%s: an operand is not on this tape", op->name);
        return NULL;
    }
    return &t->nodes[v];
}

static int more_nodes(struct tape *t) {
    int room = t->room ? 2 * t->room : FIRST_NODES;
    struct tape_node *nodes;

    if (room > NODES_MAX) {
        tape_fail(t, -SKATE_EINVAL, "a tape holds at most %d operations", (int)NODES_MAX);
        return -1;
    }
    t->allocations++;
    nodes = realloc(t->nodes, (size_t)room * sizeof *nodes);
    if (!nodes) {
        no_memory(t, (size_t)room * sizeof *nodes);
        return -1;
    }
    t->nodes = nodes;
    t->room = room;
    return 0;
}

struct tape_node *tape_push_at(struct tape *t, const struct tape_op *op, int rows, int cols,
                               float *value) {
    struct tape_node *n;

    if (t->error)
        return NULL;
    if (rows < 1 || cols < 1 || (size_t)rows * (size_t)cols > value_max) {
        tape_fail(t, -SKATE_EINVAL, "%s: %d x %d is no size of a matrix", op->name, rows, cols);
        return NULL;
    }
    if (t->n_nodes == t->room && more_nodes(t) < 0)
        return NULL;
    n = &t->nodes[t->n_nodes++];
    memset(n, 0, sizeof *n);
    n->op = op;
    n->rows = rows;
    n->cols = cols;
    n->value = value;
    return n;
}

struct tape_node *tape_push(struct tape *t, const struct tape_op *op, int rows, int cols) {
    struct tape_node *n = tape_push_at(t, op, rows, cols, NULL);

    if (!n)
        return NULL;
    n->value = tape_alloc(t, tape_size(n) * sizeof(float));
    return n->value ? n : NULL;
}

/* ---- leaves ---- */

static const struct tape_op op_data = { .name = "data" }, op_copy = { .name = "copy" },
                            op_fill = { .name = "fill" }, op_leaf = { .name = "leaf" },
                            op_param = { .name = "param" }, op_frozen = { .name = "frozen" };

tvar t_data(struct tape *t, const float *x, int rows, int cols) {
    struct tape_node *n;

    if (!x)
        return tape_fail(t, -SKATE_EINVAL, "data: no memory was given");
    n = tape_push_at(t, &op_data, rows, cols, (float *)(uintptr_t)x);   /* never written */
    return n ? tape_index(t, n) : TAPE_BAD;
}

static tvar copied(struct tape *t, const struct tape_op *op, const float *x, int rows, int cols) {
    struct tape_node *n;

    if (!x)
        return tape_fail(t, -SKATE_EINVAL, "%s: no memory was given", op->name);
    n = tape_push(t, op, rows, cols);
    if (!n)
        return TAPE_BAD;
    memcpy(n->value, x, tape_size(n) * sizeof(float));
    n->needs = op == &op_leaf;
    return tape_index(t, n);
}

tvar t_copy(struct tape *t, const float *x, int rows, int cols) {
    return copied(t, &op_copy, x, rows, cols);
}

tvar t_leaf(struct tape *t, const float *x, int rows, int cols) {
    return copied(t, &op_leaf, x, rows, cols);
}

tvar t_fill(struct tape *t, float x, int rows, int cols) {
    struct tape_node *n = tape_push(t, &op_fill, rows, cols);

    if (!n)
        return TAPE_BAD;
    for (size_t i = 0; i < tape_size(n); i++)
        n->value[i] = x;
    return tape_index(t, n);
}

/* A parameter is one node however often it is asked for: what belongs to the node (its transposed
 * copy) is then made once for all steps of a sequence. A place that is taken costs only that. */
static tvar param_node(struct tape *t, const struct tape_op *op, const struct params *p,
                       int tensor) {
    float *value = p->value + p->tensors[tensor].at;
    tvar *place = &t->leaves[((uintptr_t)value / 64 * 0x9e3779b1u >> 7) % TAPE_LEAVES];
    const struct param_tensor *what = &p->tensors[tensor];
    struct tape_node *n;

    if (*place < t->n_nodes && t->nodes[*place].value == value && t->nodes[*place].op == op)
        return *place;
    n = tape_push_at(t, op, what->rows, what->cols, value);
    if (!n)
        return TAPE_BAD;
    if (op == &op_param) {
        n->needs = n->is_param = true;
        n->grad = p->grad + what->at;
    }
    *place = tape_index(t, n);
    return *place;
}

tvar t_param(struct tape *t, struct params *p, int tensor) {
    if (t->error)
        return TAPE_BAD;
    if (!p || !p->value || tensor < 0 || tensor >= p->n_tensors)
        return tape_fail(t, -SKATE_EINVAL, "param: there is no tensor %d", tensor);
    return param_node(t, &op_param, p, tensor);
}

tvar t_frozen(struct tape *t, const struct params *p, int tensor) {
    if (t->error)
        return TAPE_BAD;
    if (!p || !p->value || tensor < 0 || tensor >= p->n_tensors)
        return tape_fail(t, -SKATE_EINVAL, "frozen: there is no tensor %d", tensor);
    return param_node(t, &op_frozen, p, tensor);
}

/* ---- the way back ---- */

float *tape_grad_raw(struct tape *t, struct tape_node *n, int k, bool *fresh) {
    struct tape_node *x = &t->nodes[n->in[k]];

    *fresh = false;
    if (!x->needs)
        return NULL;
    if (x->pass == t->pass)
        return x->grad;
    if (!x->grad) {
        x->grad = tape_alloc(t, tape_size(x) * sizeof(float));
        if (!x->grad)
            return NULL;
    }
    *fresh = !x->is_param;
    x->pass = t->pass;
    return x->grad;
}

float *tape_grad_in(struct tape *t, struct tape_node *n, int k) {
    bool fresh;
    float *g = tape_grad_raw(t, n, k, &fresh);

    if (g && fresh)
        memset(g, 0, tape_size(&t->nodes[n->in[k]]) * sizeof(float));
    return g;
}

int tape_backward(struct tape *t, tvar loss) {
    static const struct tape_op op_backward = { .name = "backward" };
    const struct tape_node *arg = tape_arg(t, &op_backward, loss);
    struct tape_node seed = { .n_in = 1, .in = { loss } };
    float *g;

    if (!arg)
        return t->error;
    if (arg->rows != 1 || arg->cols != 1) {
        tape_fail(t, -SKATE_EINVAL, "backward: the loss is %d x %d, not 1 x 1", arg->rows,
                  arg->cols);
        return t->error;
    }
    if (!isfinite(arg->value[0])) {
        tape_fail(t, -SKATE_EINVAL, "backward: the loss is not finite");
        return t->error;
    }
    t->pass++;
    g = tape_grad_in(t, &seed, 0);
    if (!g)
        return t->error;        /* no parameter below: nothing to do */
    g[0] += 1.0f;
    for (tvar v = loss; v >= 0 && !t->error; v--) {
        struct tape_node *n = &t->nodes[v];

        if (n->pass == t->pass && n->op->back)
            n->op->back(t, n);
    }
    return t->error;
}

/* ---- results ---- */

static const struct tape_node *known(const struct tape *t, tvar v) {
    return v >= 0 && v < t->n_nodes ? &t->nodes[v] : NULL;
}

int tape_rows(const struct tape *t, tvar v) {
    const struct tape_node *n = known(t, v);

    return n ? n->rows : 0;
}

int tape_cols(const struct tape *t, tvar v) {
    const struct tape_node *n = known(t, v);

    return n ? n->cols : 0;
}

const float *tape_value(const struct tape *t, tvar v) {
    const struct tape_node *n = known(t, v);

    return n ? n->value : NULL;
}

float tape_scalar(const struct tape *t, tvar v) {
    const struct tape_node *n = known(t, v);

    return n && tape_size(n) == 1 ? n->value[0] : NAN;
}

const float *tape_grad(const struct tape *t, tvar v) {
    const struct tape_node *n = known(t, v);

    return n && n->pass == t->pass && t->pass > 0 ? n->grad : NULL;
}
