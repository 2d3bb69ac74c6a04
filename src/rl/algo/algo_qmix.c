/* algo_qmix.c - see algo.h: QMIX (Rashid et al. 2018) and VDN: a team of agents, one reward.
 *
 * The action space is MULTI, one part an agent, all of one size; an observation is the agents' own
 * ones, of one size, one after the other, then (option action_mask) a number for each action of
 * each agent, 0 where it must not be taken, then state_size numbers of the environment's state.
 * All agents share one recurrent net (dense, GRU, dense); a mixing net, monotonous in each agent's
 * value, whose weights are made from the state, gives the value of the team. Without a state of
 * the environment it is the agents' observations together. What must not be taken is neither
 * drawn nor looked ahead to.
 * Sequences, mask, state_in and which steps are learned from are as in algo_r2d2.c; the loss is the
 * mean square over those steps.
 * Options besides the net's: gamma, double_q, tau, target_update_every, lr, optim_alpha, optim_eps,
 * grad_clip, mixer ("qmix", "vdn" or "none": each agent for itself), mixing_embed_dim,
 * lstm_cell_size. One owner, never blocks. Tests: tests/rl/test_qmix.py,
 * tests/unit/rl_value_test.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/qnet.h"

enum mixer { MIX_QMIX, MIX_VDN, MIX_NONE };

struct qmix {
    struct net agent, w1, b1, w2, v;    /* v: the bias of the last layer, two layers of its own */
    enum mixer mixer;
    int agents, actions, own;           /* own: numbers an agent sees */
    int told, state;                    /* numbers of the state that is observed, mixed by */
    bool masked;
    int embed, every;
    float gamma, tau;
    bool double_q;
    int ask, since;
    float *room;
    size_t n_room;
};

struct qmix_batch {
    int n, steps;
    const float *state_in;
    float *obs, *rewards, *terminateds, *mask, *learned;
    float *allowed;                     /* [steps][n * agents][actions], NULL: all are */
    float *state;                       /* [steps][n][state]; obs itself if none is told */
    float *values, *later;              /* [steps][n * agents][actions] */
    float *weights, *targets;           /* [steps][n] or [steps][n * agents] without a mixer */
    float *agent_mask;                  /* [n * agents] of a step */
    float *best;                        /* [n * agents] */
    int32_t *actions;                   /* [steps][n * agents] */
};

static void qmix_close(struct algo *a) {
    struct qmix *d = a->own;

    if (d)
        free(d->room);
    free(d);
}

static int read_sizes(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    const char *mixer = algo_text(s, "mixer", "qmix");
    struct qmix *d = a->own;
    double told, rest;

    if (s->action.kind != ALGO_MULTI)
        return err_fail(err, -SKATE_EINVAL, "QMIX needs an action of several Discrete parts, one "
                        "an agent");
    d->agents = s->action.size;
    d->actions = s->action.sizes[0];
    for (int i = 1; i < d->agents; i++)
        if (s->action.sizes[i] != d->actions)
            return err_fail(err, -SKATE_EINVAL, "QMIX needs agents of one action space: agent %d "
                            "has %d actions, agent 0 has %d", i, s->action.sizes[i], d->actions);
    d->masked = algo_flag(s, "action_mask", false);
    told = algo_num(s, "state_size", 0.0);
    rest = s->obs.size - told - (d->masked ? d->agents * d->actions : 0);
    if (!(told >= 0.0) || rest < d->agents || fmod(rest, d->agents) != 0.0)
        return err_fail(err, -SKATE_EINVAL, "QMIX needs agents of one observation space: %g "
                        "numbers for %d agents", rest, d->agents);
    d->own = (int)rest / d->agents;
    d->told = (int)told;
    d->state = d->told > 0 ? d->told : d->agents * d->own;
    d->mixer = strcmp(mixer, "vdn") == 0 ? MIX_VDN : strcmp(mixer, "none") == 0 ? MIX_NONE
                                                                                 : MIX_QMIX;
    if (d->mixer == MIX_QMIX && strcmp(mixer, "qmix") != 0)
        return err_fail(err, -SKATE_EINVAL, "mixer '%s': there are qmix, vdn and none", mixer);
    return 0;
}

static int read_numbers(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    double embed = algo_num(s, "mixing_embed_dim", 32.0);
    double every = algo_num(s, "target_update_every", 0.0);
    struct qmix *d = a->own;

    d->gamma = (float)algo_num(s, "gamma", 0.99);
    d->tau = (float)algo_num(s, "tau", 1.0);
    d->double_q = algo_flag(s, "double_q", true);
    if (!(d->gamma >= 0.0f && d->gamma <= 1.0f) || !(d->tau > 0.0f && d->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "gamma must be 0 to 1 and tau above 0: %g, %g",
                        (double)d->gamma, (double)d->tau);
    if (!(embed >= 1.0 && embed <= 4096.0) || !(every >= 0.0 && every <= 1e9))
        return err_fail(err, -SKATE_EINVAL, "mixing_embed_dim must be 1 to 4096 and "
                        "target_update_every 0 or more: %g, %g", embed, every);
    d->embed = (int)embed;
    d->every = (int)every;
    d->ask = algo_var(a, "update_target", 0.0);
    d->since = algo_var(a, NULL, 0.0);
    return d->ask < 0 || d->since < 0 ? -SKATE_EINVAL : 0;
}

/* A net that starts as torch.nn.Linear does: in -> out, with one hidden layer if `hidden` > 0. */
static struct net_opts linear(int in, int hidden, int out) {
    struct net_opts o;

    net_opts_default(&o);
    o.in = in;
    o.out = out;
    o.n_hiddens = hidden > 0;
    o.hiddens[0] = hidden;
    o.act = ACT_RELU;
    o.init = o.out_init = PARAM_FAN_IN;
    o.scale = o.out_scale = 1.0f;
    o.torch_bias = true;
    return o;
}

static int add_nets(struct qmix *d, struct params *p, const struct net_opts *agent, int state) {
    struct net_opts w1 = linear(state, 0, d->agents * d->embed);
    struct net_opts each = linear(state, 0, d->embed), v = linear(state, d->embed, 1);
    int r = net_add(&d->agent, p, "agent", agent);

    if (r < 0 || d->mixer != MIX_QMIX)
        return r;
    r = net_add(&d->w1, p, "mixer/w1", &w1);
    if (r == 0)
        r = net_add(&d->b1, p, "mixer/b1", &each);
    if (r == 0)
        r = net_add(&d->w2, p, "mixer/w2", &each);
    return r < 0 ? r : net_add(&d->v, p, "mixer/v", &v);
}

static int make_params(struct algo *a, const struct algo_setup *s, const struct net_opts *agent,
                       struct skate_error *err) {
    struct params *online = algo_params(a, true), *target = algo_params(a, false);
    struct optim_opts o;
    struct qmix copy = *(struct qmix *)a->own;
    int r;

    if (!online || !target)
        return -SKATE_ENOMEM;
    r = add_nets(&copy, target, agent, copy.state);
    if (r == 0)
        r = add_nets(a->own, online, agent, copy.state);
    if (r < 0)
        return err_fail(err, r, "the net cannot be built: sizes out of range");
    optim_opts_default(&o);
    o.kind = OPTIM_RMSPROP;
    o.lr = (float)algo_num(s, "lr", 5e-4);
    o.beta1 = 0.0f;
    o.beta2 = (float)algo_num(s, "optim_alpha", 0.99);
    o.eps = (float)algo_num(s, "optim_eps", 1e-5);
    o.clip_by = (float)algo_num(s, "grad_clip", 10.0);
    o.clip = o.clip_by > 0.0f ? CLIP_GLOBAL_NORM : CLIP_NONE;
    if (!(o.lr >= 0.0f) || !(o.eps > 0.0f) || !(o.beta2 >= 0.0f && o.beta2 < 1.0f))
        return err_fail(err, -SKATE_EINVAL, "lr must be >= 0, optim_eps above 0 and optim_alpha "
                        "0 to 1");
    r = algo_optim(a, online, &o);
    if (r == 0)
        r = params_seal(target, &a->rng);
    if (r == 0)
        params_blend(target, online, 1.0f);
    return r;
}

static int qmix_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct qmix *d = calloc(1, sizeof(*d));
    struct net_opts agent, told;
    int r;

    if (!d)
        return -SKATE_ENOMEM;
    a->own = d;
    r = read_sizes(a, s, err);
    if (r == 0)
        r = read_numbers(a, s, err);
    if (r == 0)
        r = algo_net_opts(s, d->actions, &told, err);
    if (r < 0)
        return r;
    if (told.image[0] > 0)
        return err_fail(err, -SKATE_EINVAL, "QMIX takes no images");
    agent = linear(d->own, 0, d->actions);
    agent.n_hiddens = told.n_hiddens;
    memcpy(agent.hiddens, told.hiddens, sizeof(agent.hiddens));
    agent.act = told.act;
    agent.cell = CELL_GRU;
    agent.cell_size = (int)algo_num(s, "lstm_cell_size", 64.0);
    r = make_params(a, s, &agent, err);
    a->state_size = d->agents * net_state_size(&d->agent);
    return r;
}

/* ---- acting ---- */

static int count_allowed(const struct qmix *d, const float *allowed) {
    int n = 0;

    for (int i = 0; allowed && i < d->actions; i++)
        n += allowed[i] != 0.0f;
    return allowed ? n : d->actions;
}

/* `n`: how many are allowed, at least one. */
static int draw(struct algo *a, const float *values, const float *allowed, int n, float epsilon) {
    struct qmix *d = a->own;
    int k, left;

    if (!(epsilon > 0.0f && rl_rng_float(&a->rng) < epsilon))
        return qnet_best(values, allowed, d->actions);
    left = (int)rl_rng_below(&a->rng, (uint32_t)n);
    if (!allowed)
        return left;
    for (k = 0; allowed[k] == 0.0f || left-- > 0; k++)
        ;
    return k;
}

/* The actions of environment i, and what is said of them; -1 if an agent may do nothing. */
static int choose(struct algo *a, const struct algo_act *io, int i, const float *values) {
    struct qmix *d = a->own;
    const float *masks = io->obs + (size_t)i * (size_t)a->obs.size + d->agents * d->own;
    float epsilon = io->explore ? io->epsilon : 0.0f, logp = 0.0f, best = 0.0f;
    int32_t *actions = (int32_t *)io->actions + (size_t)i * (size_t)d->agents;

    for (int k = 0; k < d->agents; k++) {
        const float *row = values + ((size_t)i * (size_t)d->agents + (size_t)k) *
                                        (size_t)d->actions;
        const float *allowed = d->masked ? masks + k * d->actions : NULL;
        int top = qnet_best(row, allowed, d->actions), n = count_allowed(d, allowed);

        if (n == 0)
            return -1;
        actions[k] = draw(a, row, allowed, n, epsilon);
        logp += logf((actions[k] == top ? 1.0f - epsilon : 0.0f) + epsilon / (float)n);
        best += row[top];
    }
    if (io->logp)
        io->logp[i] = logp;
    if (io->vf)
        io->vf[i] = best;
    return 0;
}

/* [n * agents, own] of observations [n, all]. */
static tvar agents_see(struct algo *a, const float *obs, int n) {
    struct qmix *d = a->own;
    struct tape *t = a->tape;
    tvar x = t_data(t, obs, n, a->obs.size);

    if (a->obs.size != d->agents * d->own)
        x = t_cols(t, x, 0, d->agents * d->own);
    return t_reshape(t, x, n * d->agents, d->own);
}

static int qmix_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct qmix *d = a->own;
    struct tape *t = a->tape;
    int rows = io->n * d->agents;       /* an observation is its agents' rows, as is a state */
    tvar state = t_copy(t, io->state, rows, a->state_size / d->agents);
    tvar out = net_apply(t, &d->agent, agents_see(a, io->obs, io->n), &state, true, NULL);
    const float *values = tape_value(t, out);

    if (!values)
        return err_fail(err, tape_error(t), "act: %s", tape_error_text(t));
    for (int i = 0; i < rows * d->actions; i++)
        if (!isfinite(values[i]))
            return err_fail(err, -SKATE_EINVAL, "the net has diverged: a value of an action is "
                            "not finite");
    for (int i = 0; i < io->n; i++)
        if (choose(a, io, i, values) < 0)
            return err_fail(err, -SKATE_EINVAL, "an agent's action_mask allows no action");
    if (io->inputs)
        memcpy(io->inputs, values, (size_t)rows * (size_t)d->actions * sizeof(float));
    memcpy(io->state, tape_value(t, state),
           (size_t)io->n * (size_t)a->state_size * sizeof(float));
    return 0;
}

/* ---- the batch ---- */

static int lay_out(struct algo *a, const struct algo_batch *b, struct qmix_batch *ret) {
    struct qmix *d = a->own;
    size_t rows = (size_t)b->rows, all = rows * (size_t)d->agents, each;
    size_t wanted = rows * ((size_t)a->obs.size + 4) + all * (3 + 2 * (size_t)d->actions);
    float *at;

    ret->steps = b->steps;
    ret->n = b->rows / b->steps;
    each = (size_t)ret->n * (size_t)d->agents;
    wanted += all + 2 * each;
    if (wanted > d->n_room) {
        at = realloc(d->room, wanted * sizeof(*at));
        if (!at)
            return -SKATE_ENOMEM;
        d->room = at;
        d->n_room = wanted;
    }
    at = d->room;
    ret->obs = ret->state = at, at += all * (size_t)d->own;
    if (d->masked)
        ret->allowed = at, at += all * (size_t)d->actions;
    if (d->told > 0)
        ret->state = at, at += rows * (size_t)d->told;
    ret->rewards = at, at += rows;
    ret->terminateds = at, at += rows;
    ret->mask = at, at += rows;
    ret->learned = at, at += rows;
    ret->actions = (int32_t *)(void *)at, at += all;
    ret->weights = at, at += all;
    ret->targets = at, at += all;
    ret->values = at, at += all * (size_t)d->actions;
    ret->later = at, at += all * (size_t)d->actions;
    ret->agent_mask = at, at += each;
    ret->best = at;
    return 0;
}

/* Observations [n][steps][all] to what is seen, allowed and told, each by time. */
static void take_apart(const struct algo *a, const float *obs, struct qmix_batch *ret) {
    const struct qmix *d = a->own;
    size_t seen = (size_t)(d->agents * d->own), masks = (size_t)(d->agents * d->actions);

    for (int i = 0; i < ret->n; i++)
        for (int k = 0; k < ret->steps; k++, obs += a->obs.size) {
            size_t to = (size_t)k * (size_t)ret->n + (size_t)i;
            const float *from = obs + seen;

            memcpy(ret->obs + to * seen, obs, seen * sizeof(float));
            if (ret->allowed) {
                memcpy(ret->allowed + to * masks, from, masks * sizeof(float));
                from += masks;
            }
            if (d->told > 0)
                memcpy(ret->state + to * (size_t)d->told, from, (size_t)d->told * sizeof(float));
        }
}

static int read_batch(struct algo *a, const struct algo_batch *b, struct qmix_batch *ret,
                      struct skate_error *err) {
    struct qmix *d = a->own;
    const float *obs = algo_f32(b, "obs", a->obs.size, err), *rewards, *over, *mask = NULL;
    const struct algo_col *state = algo_col(b, "state_in");
    const int32_t *actions;
    int r = lay_out(a, b, ret), count = 0;
    size_t n = (size_t)ret->n;

    if (r < 0)
        return r;
    if (!obs || !(actions = algo_i32(b, "actions", d->agents, err)) ||
        !(rewards = algo_f32(b, "rewards", 1, err)) ||
        !(over = algo_f32(b, "terminateds", 1, err)) ||
        (algo_col(b, "mask") && !(mask = algo_f32(b, "mask", 1, err))))
        return -SKATE_EINVAL;
    if (state && (state->dtype != ALGO_F32 || state->rows != ret->n ||
                  state->width != a->state_size))
        return err_fail(err, -SKATE_EINVAL, "'state_in' must be float32 %d x %d, it is %d x %d",
                        ret->n, a->state_size, state->rows, state->width);
    ret->state_in = state ? state->p : NULL;
    take_apart(a, obs, ret);
    qnet_by_time(rewards, ret->n, ret->steps, 1, ret->rewards);
    qnet_by_time(over, ret->n, ret->steps, 1, ret->terminateds);
    qnet_by_time((const float *)(const void *)actions, ret->n, ret->steps, d->agents,
                 (float *)(void *)ret->actions);
    for (int i = 0; i < b->rows; i++)
        ret->mask[i] = 1.0f;
    if (mask)
        qnet_by_time(mask, ret->n, ret->steps, 1, ret->mask);
    for (size_t at = 0; at < (size_t)b->rows; at++) {
        bool next = at + n < (size_t)b->rows && ret->mask[at + n] != 0.0f;

        ret->learned[at] = ret->mask[at] != 0.0f && (next || ret->terminateds[at] != 0.0f);
        count += ret->learned[at] != 0.0f;
    }
    if (count == 0)
        return err_fail(err, -SKATE_EINVAL, "the batch has no step to learn from: sequences of "
                        "one step, or all padding");
    return 0;
}

/* ---- the loss ---- */

static tvar apply(struct algo *a, const struct net *net, const struct params *p, tvar x) {
    return p ? net_apply_with(a->tape, net, p, x, NULL, NULL)
             : net_apply(a->tape, net, x, NULL, false, NULL);
}

/* The team's value [n,1] of the agents' [n, agents] in the states [n, state]; without a mixer
 * the agents' own. */
static tvar mix(struct algo *a, const struct params *p, tvar values, tvar state) {
    struct qmix *d = a->own;
    struct tape *t = a->tape;
    tvar hidden, w2;

    if (d->mixer == MIX_NONE)
        return values;
    if (d->mixer == MIX_VDN)
        return t_sum_cols(t, values);
    hidden = t_rowmat(t, values, t_abs(t, apply(a, &d->w1, p, state)), d->embed);
    hidden = t_act(t, t_add(t, hidden, apply(a, &d->b1, p, state)), ACT_ELU);
    w2 = t_abs(t, apply(a, &d->w2, p, state));
    return t_add(t, t_sum_cols(t, t_mul(t, hidden, w2)), apply(a, &d->v, p, state));
}

static tvar state_at(struct algo *a, const struct qmix_batch *b, int step) {
    const struct qmix *d = a->own;

    return t_data(a->tape, b->state + (size_t)step * (size_t)b->n * (size_t)d->state, b->n,
                  d->state);
}

static void unroll(struct algo *a, struct qmix_batch *b, const struct params *p, float *ret,
                   tvar *outs) {
    struct qmix *d = a->own;
    struct tape *t = a->tape;
    int rows = b->n * d->agents, size = a->state_size / d->agents;
    size_t each = (size_t)rows * (size_t)d->actions;
    tvar state = b->state_in ? t_data(t, b->state_in, rows, size) : t_fill(t, 0.0f, rows, size);

    for (int k = 0; k < b->steps; k++) {
        const float *obs = b->obs + (size_t)k * (size_t)rows * (size_t)d->own;
        tvar next = state, x = t_data(t, obs, rows, d->own), out;

        out = p ? net_apply_with(t, &d->agent, p, x, &next, NULL)
                : net_apply(t, &d->agent, x, &next, false, NULL);
        for (int i = 0; i < rows; i++)
            b->agent_mask[i] = b->mask[k * b->n + i / d->agents];
        state = qnet_keep_state(t, b->agent_mask, rows, state, next);
        if (outs)
            outs[k] = out;
        if (tape_value(t, out))
            memcpy(ret + (size_t)k * each, tape_value(t, out), each * sizeof(float));
    }
}

/* rewards + gamma * the target's value of the best actions of the next step. */
static void make_targets(struct algo *a, struct qmix_batch *b) {
    struct qmix *d = a->own;
    int rows = b->n * d->agents, width = d->mixer == MIX_NONE ? d->agents : 1;
    size_t each = (size_t)rows * (size_t)d->actions;

    for (int k = 0; k < b->steps; k++) {
        const float *after = NULL;

        if (k + 1 < b->steps) {
            const float *later = b->later + (size_t)(k + 1) * each;
            const float *by = d->double_q ? b->values + (size_t)(k + 1) * each : later;

            for (int i = 0; i < rows; i++) {
                size_t at = (size_t)i * (size_t)d->actions;

                const float *allowed = b->allowed ? b->allowed + (size_t)(k + 1) * each + at : NULL;

                b->best[i] = later[at + (size_t)qnet_best(by + at, allowed, d->actions)];
            }
            after = tape_value(a->tape, mix(a, a->params[1], t_copy(a->tape, b->best, b->n,
                                                                     d->agents),
                                            state_at(a, b, k + 1)));
        }
        for (int i = 0; i < b->n * width; i++) {
            size_t at = (size_t)k * (size_t)b->n + (size_t)(i / width);
            float more = after && b->terminateds[at] == 0.0f ? d->gamma * after[i] : 0.0f;

            b->targets[k * b->n * width + i] = b->rewards[at] + more;
            b->weights[k * b->n * width + i] = b->learned[at];
        }
    }
}

static tvar loss(struct algo *a, struct qmix_batch *b, const tvar *outs, struct algo_stats *st) {
    struct qmix *d = a->own;
    struct tape *t = a->tape;
    int width = d->mixer == MIX_NONE ? d->agents : 1, rows = b->n * d->agents;
    double q = 0.0, error = 0.0, aim = 0.0;
    tvar total = t_fill(t, 0.0f, 1, 1);
    float count = 0.0f;

    for (int k = 0; k < b->steps; k++) {
        const float *weights = b->weights + k * b->n * width, *y = b->targets + k * b->n * width;
        tvar team = t_reshape(t, t_pick(t, outs[k], b->actions + k * rows), b->n, d->agents), td;

        team = mix(a, NULL, team, state_at(a, b, k));
        td = t_mul(t, t_sub(t, team, t_data(t, y, b->n, width)),
                   t_data(t, weights, b->n, width));
        total = t_add(t, total, t_sum(t, t_square(t, td)));
        for (int i = 0; i < b->n * width && tape_value(t, team); i++) {
            count += weights[i];
            q += (double)(weights[i] * tape_value(t, team)[i]);
            aim += (double)(weights[i] * y[i]);
            error += fabs((double)tape_value(t, td)[i]);
        }
    }
    algo_stat(st, "q_taken_mean", q / (double)count);
    algo_stat(st, "target_mean", aim / (double)count);
    algo_stat(st, "td_error_abs", error / (double)count);
    return t_affine(t, total, 1.0f / count, 0.0f);
}

static int backward(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                    struct skate_error *err) {
    struct qmix_batch batch = { 0 };
    tvar *outs, total;
    int r = read_batch(a, b, &batch, err);

    if (r < 0)
        return r;
    outs = malloc((size_t)batch.steps * sizeof(*outs));
    if (!outs)
        return -SKATE_ENOMEM;
    unroll(a, &batch, NULL, batch.values, outs);
    unroll(a, &batch, a->params[1], batch.later, NULL);
    make_targets(a, &batch);
    total = loss(a, &batch, outs, st);
    free(outs);
    r = tape_backward(a->tape, total);
    if (r < 0)
        return err_fail(err, r, "the loss is not finite: the net has diverged (lr %g)",
                        (double)a->optims[0].opts.lr);
    algo_stat(st, "loss", (double)tape_scalar(a->tape, total));
    return 0;
}

static int step(struct algo *a, struct skate_error *err) {
    struct qmix *d = a->own;
    int r = optim_step(&a->optims[0]);

    if (r < 0)
        return err_fail(err, r, "a gradient is not finite: the net has diverged (lr %g)",
                        (double)a->optims[0].opts.lr);
    qnet_target(a, d->ask, d->since, d->every, d->tau);
    return 0;
}

static int qmix_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                      struct skate_error *err) {
    int r = backward(a, b, st, err);

    if (r == 0)
        r = step(a, err);
    if (r == 0)
        algo_stat(st, "grad_norm", (double)a->optims[0].grad_norm);
    return r;
}

static int qmix_gradient(struct algo *a, const struct algo_batch *b, float *flat,
                         struct algo_stats *st, struct skate_error *err) {
    int r = backward(a, b, st, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    return r;
}

static int qmix_apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return step(a, err);
}

extern const struct algo_api algo_qmix_api;
const struct algo_api algo_qmix_api = {
    .name = "QMIX",
    .make = qmix_make,
    .close = qmix_close,
    .act = qmix_act,
    .learn = qmix_learn,
    .gradient = qmix_gradient,
    .apply = qmix_apply,
};
