/* tape_int.h - the inside of a tape, for the files that implement operations (tape*.c).
 *
 * An operation checks its operands (tape_arg), makes its node (tape_push, then tape_link for each
 * operand), fills in the value, and gives its number. Its back() gets the node, whose gradient is
 * final by then, and adds to the gradients of the operands that need one. A pointer to a node is
 * good until the next tape_push().
 * Memory is a list of blocks that tape_reset() rewinds. Tests: tests/unit/rl_tape_test.c. */
#ifndef SKATE_RL_NN_TAPE_INT_H
#define SKATE_RL_NN_TAPE_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rl/gemm.h"
#include "rl/kern.h"
#include "rl/kern_exp.h"
#include "rl/nn/tape.h"

enum {
    TAPE_IN_MAX = 6,            /* operands of one node */
    TAPE_TEXT_BYTES = 200,
    TAPE_LEAVES = 256,          /* places where a parameter's node is found again */
    TAPE_SCRATCHES = 3,
};

struct tape_node;

struct tape_op {
    const char *name;
    void (*back)(struct tape *t, struct tape_node *n);      /* NULL: a leaf */
};

struct tape_node {
    const struct tape_op *op;
    float *value, *grad;        /* grad: of the pass `pass`; parameters': in their params */
    float *turned;              /* the value transposed, once a product has asked for it */
    void *aux;                  /* what the operation keeps for its way back */
    int rows, cols;
    uint32_t pass;              /* the backward pass that reached it */
    bool needs;                 /* a gradient */
    bool is_param;
    int n_in;
    tvar in[TAPE_IN_MAX];
    int i[3];
    float f[2];
};

struct tape_block {
    struct tape_block *next;
    size_t size, used;          /* bytes after this header, which takes 64 */
};

struct tape_plan {              /* a place of the table of products */
    bool used;
    struct gemm_plan plan;
};

struct tape {
    struct tape_node *nodes;
    int n_nodes, room;
    struct tape_block *blocks, *block;      /* first, current */
    int error;
    char text[TAPE_TEXT_BYTES];
    uint32_t pass;
    const struct kern_table *kern;
    struct tape_plan *plans;                /* by shape, open addressing */
    int n_plans, plan_room;
    tvar leaves[TAPE_LEAVES];               /* by the address of the parameter; checked */
    float *scratch[TAPE_SCRATCHES];
    size_t scratch_size[TAPE_SCRATCHES];
    unsigned long allocations;              /* calls of malloc's kind, for tests */
};

/* The first error stays. Returns TAPE_BAD. */
tvar tape_fail(struct tape *t, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* `bytes` on 64, not cleared, good until tape_reset(); NULL: the tape's error is set. */
void *tape_alloc(struct tape *t, size_t bytes);
/* Scratch of `n` floats, good until it is asked for again. */
float *tape_scratch(struct tape *t, int which, size_t n);

/* The operand's node; NULL: it is TAPE_BAD or no node (the tape's error is set). */
const struct tape_node *tape_arg(struct tape *t, const struct tape_op *op, tvar v);
/* A new node with memory for its value, or without (tape_push_at: the value is elsewhere). */
struct tape_node *tape_push(struct tape *t, const struct tape_op *op, int rows, int cols);
struct tape_node *tape_push_at(struct tape *t, const struct tape_op *op, int rows, int cols,
                               float *value);

static inline struct tape_node *tape_node(struct tape *t, tvar v) {
    return &t->nodes[v];
}

static inline tvar tape_index(const struct tape *t, const struct tape_node *n) {
    return (tvar)(n - t->nodes);
}

static inline size_t tape_size(const struct tape_node *n) {
    return (size_t)n->rows * (size_t)n->cols;
}

static inline void tape_link(struct tape *t, struct tape_node *n, tvar v) {
    n->in[n->n_in++] = v;
    n->needs = n->needs || t->nodes[v].needs;
}

/* The gradient of operand `k`, to be added to; NULL: it needs none (or no memory: error set). */
float *tape_grad_in(struct tape *t, struct tape_node *n, int k);
/* The same, but a gradient that nobody has written yet is not cleared: *fresh says so. */
float *tape_grad_raw(struct tape *t, struct tape_node *n, int k, bool *fresh);

/* y [n,m] = x [n,k] w [k,m]; x and y may have longer rows, w may not. `add`: y +=. `ldw`: the
 * stride of `turned`, where it is not tape_turned_stride(k) (a part of a taller w). */
struct tape_mm {
    int n, k, m, ldx, ldy, ldw;
    bool add;
};
int tape_mm(struct tape *t, const struct tape_mm *s, const float *x, const float *w, float *y);
/* dw (+)= x' dy, and dx (+)= dy w' where `turned` is w'. */
int tape_mm_dw(struct tape *t, const struct tape_mm *s, const float *x, const float *dy,
               float *dw);
int tape_mm_dx(struct tape *t, const struct tape_mm *s, const float *turned, const float *dy,
               float *dx);
/* The transposed value of operand k, kept with it: rows of tape_turned_stride(rows). */
const float *tape_turned(struct tape *t, struct tape_node *n, int k);

static inline int tape_turned_stride(int rows) {
    return rows < 16 ? rows : ((rows + 15) & ~15) + 16;     /* powers of two are slow */
}

/* Activations in place whose derivative follows from the value (not swish, gelu, softplus). */
bool tape_act_by_value(enum tape_act act);
void tape_act_rows(const struct tape *t, float *y, const float *bias, int rows, int cols,
                   enum tape_act act);      /* y = act(y + bias) */
void tape_act_back(const struct tape *t, float *d, const float *h, size_t n, enum tape_act act);

static inline float tape_sigmoid(float x) {
    return 1.0f / (1.0f + kern_exp(-x));
}

#endif
