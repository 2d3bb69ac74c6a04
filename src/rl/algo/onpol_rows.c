/* onpol_rows.c - see onpol.h: rows of a batch in the order of the nets; advantages.
 * Tests: tests/unit/rl_algo_test.c, tests/rl/test_on_policy_math.py. */
#include <string.h>

#include "rl/algo/onpol.h"
#include "rl/gae.h"

/* ---- views ---- */

int onpol_pick(struct onpol *o, const struct algo_batch *b, const uint32_t *pick, int n,
               struct onpol_rows *v) {
    int steps = o->cell > 0 ? b->steps : 1;
    uint32_t *index;

    *v = (struct onpol_rows){ .b = b, .rows = n * steps, .steps = steps, .seqs = n };
    if (o->cell == 0) {
        v->index = pick;
        return 0;
    }
    index = onpol_room(o, (size_t)v->rows * sizeof *index);
    if (!index)
        return -SKATE_ENOMEM;
    for (int k = 0; k < steps; k++)
        for (int i = 0; i < n; i++)
            index[k * n + i] = pick[i] * (uint32_t)steps + (uint32_t)k;
    v->index = index;
    v->seq_index = pick;
    return 0;
}

int onpol_all(struct onpol *o, const struct algo_batch *b, struct onpol_rows *v,
              struct skate_error *err) {
    int seqs = b->rows / b->steps;
    uint32_t *pick;

    if (o->cell == 0) {
        *v = (struct onpol_rows){ .b = b, .rows = b->rows, .steps = 1, .seqs = b->rows };
        return 0;
    }
    pick = onpol_room(o, (size_t)seqs * sizeof *pick);
    for (int i = 0; pick && i < seqs; i++)
        pick[i] = (uint32_t)i;
    if (!pick || onpol_pick(o, b, pick, seqs, v) < 0)
        return err_fail(err, -SKATE_ENOMEM, "no memory for %d sequences", seqs);
    return 0;
}

static const void *gather(struct onpol *o, const struct onpol_rows *v, const void *from,
                          size_t bytes) {
    char *to;

    if (!v->index)
        return from;
    to = onpol_room(o, (size_t)v->rows * bytes);
    for (int i = 0; to && i < v->rows; i++)
        memcpy(to + (size_t)i * bytes, (const char *)from + (size_t)v->index[i] * bytes, bytes);
    return to;
}

const float *onpol_order(struct onpol *o, const struct onpol_rows *v, const float *x, int width) {
    return gather(o, v, x, (size_t)width * sizeof *x);
}

const float *onpol_f32(struct onpol *o, const struct onpol_rows *v, const char *name, int width,
                       struct skate_error *err) {
    const float *x = algo_f32(v->b, name, width, err);

    if (x && !(x = onpol_order(o, v, x, width)))
        err_fail(err, -SKATE_ENOMEM, "no memory for '%s'", name);
    return x;
}

const void *onpol_actions(struct algo *a, struct onpol *o, const struct onpol_rows *v,
                          struct skate_error *err) {
    int width = a->action.kind == ALGO_DISCRETE ? 1 : a->action.size;
    const void *x = a->action.kind == ALGO_BOX
                        ? (const void *)algo_f32(v->b, "actions", width, err)
                        : (const void *)algo_i32(v->b, "actions", width, err);

    if (x && !(x = gather(o, v, x, (size_t)width * 4)))
        err_fail(err, -SKATE_ENOMEM, "no memory for 'actions'");
    return x;
}

const float *onpol_mask(struct onpol *o, const struct onpol_rows *v, double *valid,
                        struct skate_error *err) {
    const float *x;
    float *ones;

    *valid = (double)v->rows;
    if (!algo_col(v->b, "mask")) {
        ones = onpol_room(o, (size_t)v->rows * sizeof *ones);
        for (int i = 0; ones && i < v->rows; i++)
            ones[i] = 1.0f;
        if (!ones)
            err_fail(err, -SKATE_ENOMEM, "no memory for a mask");
        return ones;
    }
    x = onpol_f32(o, v, "mask", 1, err);
    *valid = 0.0;
    for (int i = 0; x && i < v->rows; i++)
        *valid += x[i] != 0.0f;
    if (x && *valid == 0.0) {
        err_fail(err, -SKATE_EINVAL, "'mask' is 0 in every row");
        return NULL;
    }
    return x;
}

/* ---- segments ---- */

/* A column of flags that may be missing; *r says whether one does not fit. */
static const float *maybe(const struct algo_batch *b, const char *name, struct skate_error *err,
                          int *r) {
    const float *x = algo_col(b, name) ? algo_f32(b, name, 1, err) : NULL;

    if (!x && algo_col(b, name))
        *r = -SKATE_EINVAL;
    return x;
}

const uint8_t *onpol_flags(struct onpol *o, const struct algo_batch *b, struct skate_error *err) {
    int r = 0;
    const float *terminated = algo_f32(b, "terminateds", 1, err);
    const float *truncated = maybe(b, "truncateds", err, &r), *cut = maybe(b, "cuts", err, &r);
    const float *mask = maybe(b, "mask", err, &r);
    uint8_t *flags = onpol_room(o, (size_t)b->rows);

    if (!terminated || r < 0)
        return NULL;
    if (!flags) {
        err_fail(err, -SKATE_ENOMEM, "no memory for %d rows", b->rows);
        return NULL;
    }
    for (int i = 0; i < b->rows; i++) {
        bool last = i == b->rows - 1 || (!cut && b->steps > 1 && (i + 1) % b->steps == 0);

        flags[i] = 0;
        if (mask && i < b->rows - 1 && mask[i + 1] == 0.0f)
            last = true;
        if (terminated[i] != 0.0f)
            flags[i] = GAE_TERMINATED;
        else if (truncated && truncated[i] != 0.0f)
            flags[i] = GAE_TRUNCATED;
        else if (last || (cut && cut[i] != 0.0f))
            flags[i] = GAE_CUT;
    }
    return flags;
}

/* Critic's values of new_obs in the rows `at`, into boot. With an LSTM the state after each row
 * comes from a pass over the whole batch. */
static int judge(struct algo *a, struct onpol *o, const struct algo_batch *b, const uint32_t *at,
                 int n, float *boot, struct skate_error *err) {
    const float *next = algo_f32(b, "new_obs", a->obs.size, err), *x;
    struct onpol_rows some = { .b = b, .rows = n, .steps = 1, .seqs = n, .index = at };
    struct tape *t = a->tape;
    size_t width = (size_t)a->state_size;
    float *states = NULL;
    tvar y;

    if (!next)
        return -SKATE_EINVAL;
    tape_reset(t);
    if (o->cell > 0) {
        struct onpol_rows all;
        struct onpol_out out;
        int r = onpol_all(o, b, &all, err);

        if (r == 0)
            r = onpol_forward(a, o, &all, NULL, true, &out, err);
        states = r == 0 ? onpol_room(o, (size_t)n * width * sizeof *states) : NULL;
        if (!states)
            return r < 0 ? r : -SKATE_ENOMEM;
        for (int i = 0; i < n; i++) {
            uint32_t seq = at[i] / (uint32_t)b->steps, k = at[i] % (uint32_t)b->steps;

            memcpy(states + (size_t)i * width, tape_value(t, out.states[k]) + seq * width,
                   width * sizeof *states);
        }
    }
    x = onpol_order(o, &some, next, a->obs.size);
    if (!x)
        return -SKATE_ENOMEM;
    y = t_data(t, x, n, a->obs.size);
    if (o->shared)
        y = net_apply(t, &o->body, y, NULL, true, NULL);
    if (o->cell > 0)
        y = t_cols(t, t_lstm(t, y, t_data(t, states, n, a->state_size),
                             t_frozen(t, o->p, o->lstm_w), t_frozen(t, o->p, o->lstm_b)),
                   0, o->cell);
    y = net_apply(t, &o->vf, y, NULL, true, NULL);
    if (y == TAPE_BAD)
        return err_fail(err, tape_error(t), "%s", tape_error_text(t));
    for (int i = 0; i < n; i++)
        boot[at[i]] = tape_value(t, y)[i];
    return 0;
}

const float *onpol_boot(struct algo *a, struct onpol *o, const struct algo_batch *b,
                        const uint8_t *flags, struct skate_error *err) {
    float *boot = onpol_room(o, (size_t)b->rows * sizeof *boot);
    uint32_t *at = onpol_room(o, (size_t)b->rows * sizeof *at);
    int n = 0, r = 0;

    if (!boot || !at) {
        err_fail(err, -SKATE_ENOMEM, "no memory for %d rows", b->rows);
        return NULL;
    }
    memset(boot, 0, (size_t)b->rows * sizeof *boot);
    for (int i = 0; i < b->rows; i++)
        if (flags[i] & (GAE_TRUNCATED | GAE_CUT))
            at[n++] = (uint32_t)i;
    if (n > 0 && o->critic)
        r = judge(a, o, b, at, n, boot, err);
    tape_reset(a->tape);
    return r < 0 ? NULL : boot;
}

/* ---- advantages ---- */

/* The critic's values of the batch: what act() said, or what it says now. */
static const float *values(struct algo *a, struct onpol *o, const struct algo_batch *b,
                           struct skate_error *err) {
    struct onpol_rows v;
    struct onpol_out out;
    float *x = onpol_room(o, (size_t)b->rows * sizeof *x);
    const float *y;

    if (algo_col(b, "vf"))
        return algo_f32(b, "vf", 1, err);
    if (!x)
        return NULL;
    memset(x, 0, (size_t)b->rows * sizeof *x);
    if (!o->critic)
        return x;
    if (onpol_all(o, b, &v, err) < 0 || onpol_forward(a, o, &v, NULL, true, &out, err) < 0)
        return NULL;
    y = tape_value(a->tape, out.value);
    for (int i = 0; i < v.rows; i++)
        x[v.index ? v.index[i] : (uint32_t)i] = y[i];
    tape_reset(a->tape);
    return x;
}

/* Sums of what is still to come, minus `value` (NULL: nothing). */
static void returns(const float *reward, const float *boot, const uint8_t *flags, int n,
                    float gamma, float *out) {
    double sum = 0.0;

    for (int i = n - 1; i >= 0; i--) {
        if (flags[i])
            sum = flags[i] & GAE_TERMINATED ? 0.0 : (double)boot[i];
        sum = (double)reward[i] + (double)gamma * sum;
        out[i] = (float)sum;
    }
}

int onpol_advantages(struct algo *a, struct onpol *o, const struct algo_batch *b,
                     const struct onpol_gae *g, const float **advantages, const float **targets,
                     struct skate_error *err) {
    const float *reward, *value, *boot;
    const uint8_t *flags;
    float *adv, *target;
    size_t n = (size_t)b->rows;

    if (algo_col(b, "advantages")) {
        *advantages = algo_f32(b, "advantages", 1, err);
        *targets = g->use_critic ? algo_f32(b, "value_targets", 1, err) : *advantages;
        return *advantages && *targets ? 0 : -SKATE_EINVAL;
    }
    reward = algo_f32(b, "rewards", 1, err);
    flags = reward ? onpol_flags(o, b, err) : NULL;
    boot = flags ? onpol_boot(a, o, b, flags, err) : NULL;
    value = boot ? values(a, o, b, err) : NULL;
    adv = onpol_room(o, n * sizeof *adv);
    target = onpol_room(o, n * sizeof *target);
    if (!value || !adv || !target)
        return adv && target ? -SKATE_EINVAL : -SKATE_ENOMEM;
    if (g->use_gae) {
        struct gae_column c = { reward, value, boot, flags, n, 1 };

        gae_column(&c, g->gamma, g->lambda, adv, target);
    } else {
        returns(reward, boot, flags, b->rows, g->gamma, target);
        for (size_t i = 0; i < n; i++)
            adv[i] = target[i] - (g->use_critic ? value[i] : 0.0f);
    }
    *advantages = adv;
    *targets = target;
    return 0;
}
