/* mcts.c - see mcts.h. Nodes are rows of arrays; a child has a larger number than its parent. */
#include "rl/own/mcts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 8 };              /* capacity in searches: what is kept of earlier moves */

struct node {
    int parent, action;         /* -1: the root */
    int player;
    bool terminal;
    int visits;                 /* of this node, its first included */
    double reward;              /* of the step here */
    double total;               /* of values found at or below, for the one who moves here */
};

struct mcts {
    struct mcts_opts o;
    int n, capacity;
    bool waiting;               /* a leaf is out */
    double scale;               /* 1, or the greatest value found: brings values to -1 .. 1 */
    struct mcts_leaf leaf;
    struct node *nodes;
    float *priors;              /* [capacity][actions], < 0: forbidden */
    int32_t *children;          /* [capacity][actions], -1: none */
    double *noise;              /* [actions] */
};

int mcts_new(const struct mcts_opts *opts, struct mcts **ret, struct skate_error *err) {
    struct mcts *m;
    size_t cells;

    if (opts->actions < 1 || opts->actions > MCTS_ACTIONS_MAX)
        return err_fail(err, -SKATE_EINVAL, "actions: %d, 1 to %d work", opts->actions,
                        MCTS_ACTIONS_MAX);
    if (opts->simulations < 1 || opts->simulations > MCTS_SIMULATIONS_MAX)
        return err_fail(err, -SKATE_EINVAL, "num_simulations: %d, 1 to %d work",
                        opts->simulations, MCTS_SIMULATIONS_MAX);
    if (!(opts->puct >= 0.0) || !(opts->temperature >= 0.0) || !(opts->epsilon >= 0.0) ||
        !(opts->epsilon <= 1.0) || (opts->epsilon > 0.0 && !(opts->alpha > 0.0)) ||
        !(opts->gamma >= 0.0) || !(opts->gamma <= 1.0) || isinf(opts->puct))
        return err_fail(err, -SKATE_EINVAL, "puct_coefficient and temperature must be at least "
                        "0, dirichlet_epsilon and gamma 0 to 1, dirichlet_noise above 0");
    m = calloc(1, sizeof(*m));
    if (!m)
        return -SKATE_ENOMEM;
    m->o = *opts;
    m->capacity = KEPT * (opts->simulations + 1);
    cells = (size_t)m->capacity * (size_t)opts->actions;
    m->nodes = calloc((size_t)m->capacity, sizeof(*m->nodes));
    m->priors = calloc(cells, sizeof(*m->priors));
    m->children = calloc(cells, sizeof(*m->children));
    m->noise = calloc((size_t)opts->actions, sizeof(*m->noise));
    if (!m->nodes || !m->priors || !m->children || !m->noise) {
        mcts_free(m);
        return -SKATE_ENOMEM;
    }
    mcts_reset(m);
    *ret = m;
    return 0;
}

struct mcts *mcts_free(struct mcts *m) {
    if (m) {
        free(m->nodes);
        free(m->priors);
        free(m->children);
        free(m->noise);
        free(m);
    }
    return NULL;
}

int mcts_capacity(const struct mcts *m) {
    return m->capacity;
}

void mcts_reset(struct mcts *m) {
    m->n = 0;
    m->waiting = false;
    m->scale = 1.0;
}

/* ---- numbers ---- */

/* Marsaglia and Tsang 2000; below 1 by the power of a uniform number. Its logarithm, because a
 * small alpha's numbers are too small for a double. */
static double log_gamma_draw(struct rl_rng *rng, double alpha) {
    double d = (alpha < 1.0 ? alpha + 1.0 : alpha) - 1.0 / 3, c = 1.0 / sqrt(9.0 * d), boost = 0.0;

    if (alpha < 1.0)
        boost = log(((double)rl_rng_float(rng) + 0x1p-25)) / alpha;
    for (;;) {
        double x = rl_rng_normal(rng), v = 1.0 + c * x, u;

        if (v <= 0.0)
            continue;
        v = v * v * v;
        u = (double)rl_rng_float(rng) + 0x1p-25;
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return log(d * v) + boost;
    }
}

void mcts_dirichlet(struct rl_rng *rng, double alpha, int n, double *ret) {
    double most = -INFINITY, sum = 0.0;

    for (int i = 0; i < n; i++) {
        ret[i] = log_gamma_draw(rng, alpha);
        most = ret[i] > most ? ret[i] : most;
    }
    for (int i = 0; i < n; i++) {
        ret[i] = exp(ret[i] - most);
        sum += ret[i];
    }
    for (int i = 0; i < n; i++)
        ret[i] /= sum;
}

static float *priors_of(const struct mcts *m, int node) {
    return m->priors + (size_t)node * (size_t)m->o.actions;
}

static int32_t *children_of(const struct mcts *m, int node) {
    return m->children + (size_t)node * (size_t)m->o.actions;
}

/* Softmax over what is allowed; -1 for the rest. */
static int to_priors(const struct mcts *m, const struct mcts_found *f, float *priors) {
    float most = -INFINITY;
    double sum = 0.0;

    for (int i = 0; i < m->o.actions; i++) {
        if (f->mask && f->mask[i] == 0.0f)
            continue;
        if (!isfinite(f->logits[i]))
            return -SKATE_EINVAL;
        most = f->logits[i] > most ? f->logits[i] : most;
    }
    if (isinf(most))
        return -SKATE_EINVAL;
    for (int i = 0; i < m->o.actions; i++) {
        priors[i] = f->mask && f->mask[i] == 0.0f ? -1.0f : expf(f->logits[i] - most);
        sum += priors[i] > 0.0f ? (double)priors[i] : 0.0;
    }
    for (int i = 0; i < m->o.actions; i++)
        if (priors[i] > 0.0f)
            priors[i] = (float)((double)priors[i] / sum);
    return 0;
}

/* Mixes noise into the root's priors; only allowed actions take part. */
static void root_noise(struct mcts *m, struct rl_rng *rng) {
    float *priors = priors_of(m, 0);
    int n = 0;

    for (int i = 0; i < m->o.actions; i++)
        n += priors[i] >= 0.0f;
    if (m->o.epsilon <= 0.0 || n == 0)
        return;
    mcts_dirichlet(rng, m->o.alpha, n, m->noise);
    for (int i = 0, k = 0; i < m->o.actions; i++)
        if (priors[i] >= 0.0f)
            priors[i] = (float)((1.0 - m->o.epsilon) * (double)priors[i] +
                                m->o.epsilon * m->noise[k++]);
}

/* ---- a simulation ---- */

/* What an action is worth at `node` to the one who moves there: reward and what comes after. */
static double worth(const struct mcts *m, int node, int child) {
    const struct node *c = &m->nodes[child];
    double after = m->o.gamma * c->total / c->visits;

    return c->reward + (c->player == m->nodes[node].player ? after : -after);
}

static int best_action(const struct mcts *m, int node) {
    const float *priors = priors_of(m, node);
    const int32_t *children = children_of(m, node);
    double scale = m->o.puct * sqrt((double)m->nodes[node].visits), best = -INFINITY;
    int choice = -1;

    for (int i = 0; i < m->o.actions; i++) {
        int child = children[i];
        double score;

        if (priors[i] < 0.0f)
            continue;
        score = scale * (double)priors[i];
        if (child >= 0)
            score = worth(m, node, child) / m->scale +
                    score / (1 + m->nodes[child].visits);
        if (choice < 0 || score > best) {
            best = score;
            choice = i;
        }
    }
    return choice;
}

/* Adds a value found at `node` to it and all above. */
static void back_up(struct mcts *m, int node, double value) {
    for (;;) {
        struct node *x = &m->nodes[node];
        int parent = x->parent;

        x->visits++;
        x->total += value;
        m->scale = fabs(value) > m->scale ? fabs(value) : m->scale;
        if (parent < 0)
            return;
        value *= m->o.gamma;
        if (m->nodes[parent].player != x->player)
            value = -value;
        value += x->reward;
        node = parent;
    }
}

struct mcts_leaf mcts_select(struct mcts *m) {
    int node = 0;

    m->leaf = (struct mcts_leaf){ -1, -1, false };
    m->waiting = true;
    if (m->n == 0)
        return m->leaf;
    for (;;) {
        int action, child;

        if (m->nodes[node].terminal || m->n == m->capacity) {
            m->waiting = false;
            m->leaf.known = true;
            back_up(m, node, m->nodes[node].terminal ? 0.0
                             : m->nodes[node].total / m->nodes[node].visits);
            return m->leaf;
        }
        action = best_action(m, node);
        child = children_of(m, node)[action];
        if (child < 0) {
            m->leaf.parent = node;
            m->leaf.action = action;
            return m->leaf;
        }
        node = child;
    }
}

int mcts_expand(struct mcts *m, const struct mcts_found *f, struct rl_rng *rng) {
    int k = m->n;

    if (!m->waiting || !isfinite(f->reward) || (!f->terminal && !isfinite(f->value)))
        return -SKATE_EINVAL;
    if (!f->terminal && to_priors(m, f, priors_of(m, k)) < 0)
        return -SKATE_EINVAL;
    m->waiting = false;
    m->n++;
    m->nodes[k] = (struct node){ .parent = m->leaf.parent, .action = m->leaf.action,
                                 .player = f->player, .terminal = f->terminal,
                                 .reward = f->reward };
    for (int i = 0; i < m->o.actions; i++)
        children_of(m, k)[i] = -1;
    if (m->leaf.parent >= 0)
        children_of(m, m->leaf.parent)[m->leaf.action] = k;
    else if (!f->terminal)
        root_noise(m, rng);
    back_up(m, k, f->terminal ? 0.0 : f->value);
    return k;
}

/* ---- the answer ---- */

int mcts_visits(const struct mcts *m) {
    return m->n ? m->nodes[0].visits : 0;
}

double mcts_value(const struct mcts *m) {
    return m->n ? m->nodes[0].total / m->nodes[0].visits : 0.0;
}

static int child_visits(const struct mcts *m, int action) {
    int child = m->n ? children_of(m, 0)[action] : -1;

    return child < 0 ? 0 : m->nodes[child].visits;
}

void mcts_policy(const struct mcts *m, float *probabilities) {
    int most = 0;
    double sum = 0.0;

    for (int i = 0; i < m->o.actions; i++)
        most = child_visits(m, i) > most ? child_visits(m, i) : most;
    for (int i = 0; i < m->o.actions; i++) {
        int n = child_visits(m, i);
        double p = n ? pow((double)n / most, m->o.temperature) : 0.0;

        probabilities[i] = (float)p;
        sum += p;
    }
    for (int i = 0; i < m->o.actions && sum > 0.0; i++)
        probabilities[i] = (float)((double)probabilities[i] / sum);
}

int mcts_choose(const struct mcts *m, bool argmax, struct rl_rng *rng) {
    int most = 0, last = -1;
    double sum = 0.0, u;

    for (int i = 0; i < m->o.actions; i++)
        if (child_visits(m, i) > most) {
            most = child_visits(m, i);
            last = i;
        }
    if (last < 0)
        return -SKATE_EINVAL;
    if (argmax)
        return last;
    for (int i = 0; i < m->o.actions; i++)
        if (child_visits(m, i))
            sum += pow((double)child_visits(m, i) / most, m->o.temperature);
    u = (double)rl_rng_float(rng) * sum;
    for (int i = 0; i < m->o.actions; i++) {
        if (!child_visits(m, i))
            continue;
        last = i;
        u -= pow((double)child_visits(m, i) / most, m->o.temperature);
        if (u < 0.0)
            break;
    }
    return last;
}

/* Row `from` of every array to row `to`, its links renumbered. */
static void move_node(struct mcts *m, int from, int to, const int *moved) {
    size_t actions = (size_t)m->o.actions;
    int32_t *children = children_of(m, to);

    m->nodes[to] = m->nodes[from];
    m->nodes[to].parent = to ? moved[m->nodes[from].parent] : -1;
    memmove(priors_of(m, to), priors_of(m, from), actions * sizeof(float));
    memmove(children, children_of(m, from), actions * sizeof(*children));
    for (size_t i = 0; i < actions; i++)
        if (children[i] >= 0)
            children[i] = moved[children[i]];
}

int mcts_advance(struct mcts *m, int action, int *moved, struct rl_rng *rng) {
    int root = m->n && action >= 0 && action < m->o.actions ? children_of(m, 0)[action] : -1;
    int kept = 0;

    for (int i = 0; i < m->capacity; i++) {
        int parent = i < m->n && i ? m->nodes[i].parent : -1;

        moved[i] = root >= 0 && (i == root || (parent >= 0 && moved[parent] >= 0)) ? kept++ : -1;
    }
    if (root >= 0 && (m->nodes[root].terminal || m->capacity - kept < m->o.simulations)) {
        for (int i = 0; i < m->n; i++)
            moved[i] = -1;
        kept = 0;
    }
    for (int i = 0; i < m->n && kept; i++)
        if (moved[i] >= 0)
            move_node(m, i, moved[i], moved);
    m->n = kept;
    m->waiting = false;
    if (kept)
        root_noise(m, rng);
    return kept;
}
