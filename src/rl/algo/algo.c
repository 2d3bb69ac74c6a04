/* algo.c - see algo.h: the base of all algorithms: what they share from set-up to checkpoint.
 * One owner at a time; never blocks. Tests: tests/unit/rl_algo_test.c, tests/rl/test_algo.py. */
#include "rl/algo/algo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t STATE_MAGIC = 0x31657461747361u;  /* "astate1" */
enum { STREAM_ALGO = 41, SPACE_MAX = 1 << 24, ROWS_MAX = 1 << 26 };

static size_t space_numbers(const struct algo_space *s) {
    return s->size > 0 ? (size_t)s->size : 0;
}

static float *copy_floats(const float *x, size_t n, int *r) {
    float *copy = NULL;

    if (x) {
        copy = malloc(n * sizeof *copy);
        if (copy)
            memcpy(copy, x, n * sizeof *copy);
        else
            *r = -SKATE_ENOMEM;
    }
    return copy;
}

static int space_copy(struct algo_space *to, const struct algo_space *from) {
    size_t n = space_numbers(from);
    int r = 0, *sizes;

    *to = *from;
    to->sizes = NULL;
    to->low = copy_floats(from->low, n, &r);
    to->high = copy_floats(from->high, n, &r);
    if (from->kind == ALGO_MULTI) {
        sizes = malloc(n * sizeof *sizes);
        if (!sizes)
            return -SKATE_ENOMEM;
        memcpy(sizes, from->sizes, n * sizeof *sizes);
        to->sizes = sizes;
    }
    return r;
}

static void space_release(struct algo_space *s) {
    free((void *)(uintptr_t)s->sizes);
    free((void *)(uintptr_t)s->low);
    free((void *)(uintptr_t)s->high);
}

static int space_check(const struct algo_space *s, const char *what, struct skate_error *err) {
    if (s->size < 1 || s->size > SPACE_MAX)
        return err_fail(err, -SKATE_EINVAL, "%s: a size of %d is out of 1..%d", what, s->size,
                        SPACE_MAX);
    if (s->kind == ALGO_MULTI && !s->sizes)
        return err_fail(err, -SKATE_EINVAL, "%s: its sizes are missing", what);
    for (int i = 0; s->kind == ALGO_MULTI && i < s->size; i++)
        if (s->sizes[i] < 1 || s->sizes[i] > SPACE_MAX / s->size)
            return err_fail(err, -SKATE_EINVAL, "%s: part %d has a size of %d", what, i,
                            s->sizes[i]);
    if (s->kind == ALGO_BOX && s->image[0] &&
        (s->image[0] < 1 || s->image[1] < 1 || s->image[2] < 1 ||
         (int64_t)s->image[0] * s->image[1] * s->image[2] != s->size))
        return err_fail(err, -SKATE_EINVAL, "%s: its shape has not its size", what);
    return 0;
}

static int check_used(const struct algo_setup *s, const char *name, struct skate_error *err) {
    for (int i = 0; i < s->n_options; i++)
        if (!s->options[i].used)
            return err_fail(err, -SKATE_EINVAL,
                            "option '%s' means nothing to %s, or is of the wrong type",
                            s->options[i].key, name);
    return 0;
}

/* What make() may have left out, and what it must not have done. */
static int finish(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    int r = check_used(s, a->api->name, err);

    for (int i = 0; r == 0 && i < a->n_params; i++)
        if (!a->params[i]->value)
            r = params_seal(a->params[i], &a->rng);
    return r;
}

int algo_new(const char *name, const struct algo_setup *s, struct algo **ret,
             struct skate_error *err) {
    const struct algo_api *api = algo_find(name);
    struct algo *a;
    int r;

    *ret = NULL;
    if (!api)
        return err_fail(err, -SKATE_EINVAL, "no algorithm is called '%s'", name);
    r = space_check(&s->obs, "observation space", err);
    if (r == 0)
        r = space_check(&s->action, "action space", err);
    if (r < 0)
        return r;
    a = calloc(1, sizeof *a);
    if (!a)
        return -SKATE_ENOMEM;
    a->api = api;
    rl_rng_init(&a->rng, s->seed, STREAM_ALGO);
    r = space_copy(&a->obs, &s->obs);
    if (r == 0)
        r = space_copy(&a->action, &s->action);
    a->tape = tape_new();
    if (r == 0 && !a->tape)
        r = -SKATE_ENOMEM;
    a->n_inputs = algo_n_inputs(&s->action);
    if (r == 0)
        r = api->make(a, s, err);
    if (r >= 0)
        r = finish(a, s, err);
    if (r < 0) {
        algo_free(a);
        return r;
    }
    *ret = a;
    return 0;
}

struct algo *algo_free(struct algo *a) {
    if (!a)
        return NULL;
    if (a->api->close)
        a->api->close(a);
    else
        free(a->own);
    for (int i = 0; i < a->n_optims; i++)
        optim_release(&a->optims[i]);
    for (int i = 0; i < a->n_params; i++)
        params_free(a->params[i]);
    tape_free(a->tape);
    space_release(&a->obs);
    space_release(&a->action);
    free(a);
    return NULL;
}

struct params *algo_params(struct algo *a, bool acting) {
    struct params *p;

    if (a->n_params == ALGO_PARAMS_MAX || (acting && a->n_params != a->n_acting))
        return NULL;
    p = params_new();
    if (!p)
        return NULL;
    a->params[a->n_params++] = p;
    a->n_acting += acting;
    return p;
}

int algo_optim(struct algo *a, struct params *p, const struct optim_opts *opts) {
    int r = 0;

    if (a->n_optims == ALGO_OPTIMS_MAX)
        return -SKATE_EINVAL;
    if (!p->value)
        r = params_seal(p, &a->rng);
    if (r == 0)
        r = optim_init(&a->optims[a->n_optims], p, opts);
    if (r == 0)
        a->n_optims++;
    return r;
}

int algo_var(struct algo *a, const char *name, double value) {
    if (a->n_vars == ALGO_VARS)
        return -SKATE_EINVAL;
    a->vars[a->n_vars] = value;
    a->var_names[a->n_vars] = name;
    return a->n_vars++;
}

int algo_set(struct algo *a, const char *key, double value, struct skate_error *err) {
    bool known = strcmp(key, "lr") == 0 && a->n_optims > 0;

    if (!isfinite(value))
        return err_fail(err, -SKATE_EINVAL, "%s must be a finite number", key);
    if (known && value < 0.0)
        return err_fail(err, -SKATE_EINVAL, "lr must be >= 0, it is %g", value);
    for (int i = 0; known && i < a->n_optims; i++)
        a->optims[i].opts.lr = (float)value;
    for (int i = 0; i < a->n_vars; i++) {
        if (a->var_names[i] && strcmp(key, a->var_names[i]) == 0) {
            a->vars[i] = value;
            known = true;
        }
    }
    if (!known)
        return err_fail(err, -SKATE_EINVAL, "%s has no '%s' that could be set", a->api->name,
                        key);
    return 0;
}

/* ---- acting and learning ---- */

static bool all_finite(const float *x, size_t n) {
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, x + i, sizeof bits);
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    return bad == 0;
}

int algo_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    size_t n = (size_t)io->n;

    if (io->n < 1 || io->n > ROWS_MAX)
        return err_fail(err, -SKATE_EINVAL, "act: %d observations", io->n);
    if (!io->obs || !io->actions)
        return err_fail(err, -SKATE_EINVAL, "act: '%s' is missing",
                        io->obs ? "actions" : "obs");
    if (a->state_size > 0 && !io->state)
        return err_fail(err, -SKATE_EINVAL, "act: 'state' is missing: the net is recurrent");
    if (!all_finite(io->obs, n * (size_t)a->obs.size))
        return err_fail(err, -SKATE_EINVAL, "act: 'obs' has a number that is not finite");
    if (io->state && !all_finite(io->state, n * (size_t)a->state_size))
        return err_fail(err, -SKATE_EINVAL, "act: 'state' has a number that is not finite");
    tape_reset(a->tape);
    return a->api->act(a, io, err);
}

static int check_actions(const struct algo *a, const struct algo_col *c,
                         struct skate_error *err) {
    const struct algo_space *s = &a->action;
    const int32_t *x = c->p;
    size_t n = (size_t)c->rows * (size_t)c->width;

    if (s->kind == ALGO_BOX || c->dtype != ALGO_I32 ||
        (s->kind == ALGO_MULTI && c->width != s->size))
        return 0;       /* the algorithm asks for its type and width itself */
    for (size_t i = 0; i < n; i++) {
        int limit = s->kind == ALGO_DISCRETE ? s->size : s->sizes[i % (size_t)s->size];

        if (x[i] < 0 || x[i] >= limit)
            return err_fail(err, -SKATE_EINVAL, "'actions' has %d, not one of 0..%d", x[i],
                            limit - 1);
    }
    return 0;
}

static int check_batch(const struct algo *a, const struct algo_batch *b,
                       struct skate_error *err) {
    int r = 0;

    if (b->rows < 1 || b->rows > ROWS_MAX || b->steps < 1 || b->rows % b->steps != 0)
        return err_fail(err, -SKATE_EINVAL, "a batch of %d rows in sequences of %d steps",
                        b->rows, b->steps);
    for (int i = 0; r == 0 && i < b->n_cols; i++) {
        const struct algo_col *c = &b->cols[i];

        if (c->dtype == ALGO_F32 && strcmp(c->name, "td_errors") != 0 &&
            !all_finite(c->p, (size_t)c->rows * (size_t)c->width))
            return err_fail(err, -SKATE_EINVAL, "'%s' has a number that is not finite", c->name);
        if (strcmp(c->name, "actions") == 0)
            r = check_actions(a, c, err);
    }
    return r;
}

static int prepare(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                   struct skate_error *err) {
    int r = check_batch(a, b, err);

    st->n = 0;
    tape_reset(a->tape);
    for (int i = 0; i < a->n_params; i++)
        params_zero_grad(a->params[i]);
    return r;
}

int algo_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
               struct skate_error *err) {
    int r;

    if (!a->api->learn)
        return err_fail(err, -SKATE_EINVAL, "%s does not learn from batches", a->api->name);
    r = prepare(a, b, st, err);
    if (r == 0)
        r = a->api->learn(a, b, st, err);
    if (r >= 0)
        a->version++;
    return r < 0 ? r : 0;
}

size_t algo_n_gradient(const struct algo *a) {
    size_t n = 0;

    for (int i = 0; i < a->n_params; i++)
        for (int j = 0; j < a->n_optims; j++)
            if (a->optims[j].p == a->params[i]) {
                n += a->params[i]->n;
                break;
            }
    return n;
}

/* All trained params in order: `flat` to their gradients (in) or from them. */
static void move_grads(const struct algo *a, float *out, const float *in) {
    for (int i = 0; i < a->n_params; i++) {
        struct params *p = a->params[i];
        bool trained = false;

        for (int j = 0; j < a->n_optims; j++)
            trained |= a->optims[j].p == p;
        for (int k = 0; trained && k < p->n_tensors; k++) {
            size_t n = (size_t)p->tensors[k].rows * (size_t)p->tensors[k].cols;

            if (in) {
                memcpy(p->grad + p->tensors[k].at, in, n * sizeof *in);
                in += n;
            } else {
                memcpy(out, p->grad + p->tensors[k].at, n * sizeof *out);
                out += n;
            }
        }
    }
}

void algo_pull_grads(const struct algo *a, float *flat) {
    move_grads(a, flat, NULL);
}

void algo_push_grads(struct algo *a, const float *flat) {
    move_grads(a, NULL, flat);
}

int algo_gradient(struct algo *a, const struct algo_batch *b, float *flat,
                  struct algo_stats *st, struct skate_error *err) {
    int r;

    if (!a->api->gradient)
        return err_fail(err, -SKATE_EINVAL, "%s gives no gradients", a->api->name);
    r = prepare(a, b, st, err);
    return r < 0 ? r : a->api->gradient(a, b, flat, st, err);
}

int algo_apply(struct algo *a, const float *flat, struct skate_error *err) {
    int r;

    if (!a->api->apply)
        return err_fail(err, -SKATE_EINVAL, "%s takes no gradients", a->api->name);
    if (!all_finite(flat, algo_n_gradient(a)))
        return err_fail(err, -SKATE_EINVAL, "the gradient has a number that is not finite");
    r = a->api->apply(a, flat, err);
    if (r >= 0)
        a->version++;
    return r < 0 ? r : 0;
}

bool algo_diverged(const struct skate_error *err) {
    return strstr(err->text, "diverged") != NULL;
}

/* ---- weights and state ---- */

size_t algo_n_weights(const struct algo *a) {
    size_t n = 0;

    for (int i = 0; i < a->n_acting; i++)
        n += a->params[i]->n;
    return n;
}

void algo_get_weights(const struct algo *a, float *flat) {
    for (int i = 0; i < a->n_acting; i++) {
        params_get(a->params[i], flat);
        flat += a->params[i]->n;
    }
}

void algo_set_weights(struct algo *a, const float *flat, uint64_t version) {
    for (int i = 0; i < a->n_acting; i++) {
        params_set(a->params[i], flat);
        flat += a->params[i]->n;
    }
    a->version = version;
}

/* First in a state; the sizes tell whether it is one of this algorithm's shape. */
struct state_head {
    uint64_t magic, bytes, n_params, n_optims, version;
    struct rl_rng rng;
    double vars[ALGO_VARS];
    double lr[ALGO_OPTIMS_MAX];
};

size_t algo_state_bytes(const struct algo *a) {
    size_t n = sizeof(struct state_head);

    for (int i = 0; i < a->n_params; i++)
        n += (a->params[i]->n * sizeof(float) + 7) / 8 * 8;
    for (int i = 0; i < a->n_optims; i++)
        n += (optim_state_bytes(&a->optims[i]) + 7) / 8 * 8;
    return n;
}

void algo_get_state(const struct algo *a, void *block) {
    struct state_head head = { STATE_MAGIC, algo_state_bytes(a), (uint64_t)a->n_params,
                               (uint64_t)a->n_optims, a->version, a->rng, { 0 }, { 0 } };
    char *at = block;

    memset(block, 0, head.bytes);
    memcpy(head.vars, a->vars, sizeof head.vars);
    for (int i = 0; i < a->n_optims; i++)
        head.lr[i] = (double)a->optims[i].opts.lr;
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    for (int i = 0; i < a->n_params; i++) {
        params_get(a->params[i], (float *)(void *)at);
        at += (a->params[i]->n * sizeof(float) + 7) / 8 * 8;
    }
    for (int i = 0; i < a->n_optims; i++) {
        optim_get_state(&a->optims[i], at);
        at += (optim_state_bytes(&a->optims[i]) + 7) / 8 * 8;
    }
}

int algo_set_state(struct algo *a, const void *block, size_t bytes) {
    struct state_head head;
    const char *at = block;
    int r = 0;

    if (bytes != algo_state_bytes(a))
        return -SKATE_EINVAL;
    memcpy(&head, at, sizeof head);
    if (head.magic != STATE_MAGIC || head.bytes != bytes ||
        head.n_params != (uint64_t)a->n_params || head.n_optims != (uint64_t)a->n_optims)
        return -SKATE_EINVAL;
    at += sizeof head;
    for (int i = 0; i < a->n_params; i++) {
        params_set(a->params[i], (const float *)(const void *)at);
        at += (a->params[i]->n * sizeof(float) + 7) / 8 * 8;
    }
    for (int i = 0; i < a->n_optims && r == 0; i++) {
        size_t n = optim_state_bytes(&a->optims[i]);

        r = optim_set_state(&a->optims[i], at, n);
        a->optims[i].opts.lr = (float)head.lr[i];
        at += (n + 7) / 8 * 8;
    }
    a->version = head.version;
    a->rng = head.rng;
    memcpy(a->vars, head.vars, sizeof head.vars);
    return r;
}
