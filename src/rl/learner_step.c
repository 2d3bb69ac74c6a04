/* learner_step.c - the epochs of one update, as each thread runs them.
 *
 * One minibatch has two phases. Phase 1, by tiles of rows: gather, forward, loss, backward to the
 * first layer's output. Phase 2, by slabs of parameters: the slab's gradient over all rows, Adam on
 * it while it is in the cache, and the transposed copy that the next backward pass reads. Each tile
 * and slab is computed the same way whoever does it, so the number of threads cannot change a bit.
 * With a gradient clip, phase 2 is split by a barrier at the global norm.
 * Threads: every member of the learner's team; barriers only inside a gang. Blocks at barriers.
 * Tests: tests/unit/rl_ppo_test.c, tests/rl/test_engine.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/learner_int.h"

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

enum { STREAM_ORDER = 1000 };

static void trunk_free_buffers(struct trunk *t) {
    for (int l = 0; l < MLP_LAYERS_MAX; l++) {
        free(t->h[l]);
        free(t->d[l]);
        t->h[l] = t->d[l] = NULL;
    }
    free(t->x);
    free(t->tile_sums);
    t->x = NULL;
    t->tile_sums = NULL;
    t->rows = 0;
}

void learner_trunk_release(struct trunk *t) {
    trunk_free_buffers(t);
    for (int l = 0; l < MLP_LAYERS_MAX; l++)
        free(t->wt[l]);
    free(t->m);
    free(t->v);
    free(t->gradient);
    free(t->slab_norm2);
}

static int layer_slabs(const struct mlp *net, int l) {
    return (net->dims[l] + SLAB_ROWS - 1) / SLAB_ROWS;
}

static int plan_layer(struct trunk *t, int l, int last_rows) {
    int in = t->net->dims[l], out = t->net->dims[l + 1], r = 0;
    int last_slab = in - (layer_slabs(t->net, l) - 1) * SLAB_ROWS;
    struct gemm_plan back = { .m = in, .n = TILE_ROWS, .k = out, .lda = in + WT_PAD, .ldb = out,
                              .ldc = in };
    struct gemm_plan grad = { .m = out, .n = SLAB_ROWS, .k = t->rows, .lda = out, .ldb = in,
                              .ldc = out, .trans_b = true };

    t->grad[l] = t->last_grad[l] = grad;
    t->last_grad[l].n = last_slab;
    if (in >= SLAB_ROWS)
        r = gemm_plan_init(&t->grad[l]);
    if (r == 0)
        r = gemm_plan_init(&t->last_grad[l]);
    if (r < 0 || l == 0)
        return r;
    t->back[l] = t->last_back[l] = back;
    t->last_back[l].n = last_rows;
    r = gemm_plan_init(&t->back[l]);
    return r < 0 ? r : gemm_plan_init(&t->last_back[l]);
}

static int alloc_once(struct trunk *t) {
    const struct mlp *net = t->net;

    t->n_slabs = 0;
    for (int l = 0; l < net->n_layers; l++)
        t->n_slabs += layer_slabs(net, l);
    t->m = mlp_alloc(net->n_padded);
    t->v = mlp_alloc(net->n_padded);
    t->gradient = mlp_alloc(net->n_padded);
    t->slab_norm2 = calloc((size_t)t->n_slabs, sizeof *t->slab_norm2);
    if (!t->m || !t->v || !t->gradient || !t->slab_norm2)
        return -SKATE_ENOMEM;
    for (int l = 1; l < net->n_layers; l++) {
        t->wt[l] = mlp_alloc((size_t)net->dims[l + 1] * (size_t)(net->dims[l] + WT_PAD));
        if (!t->wt[l])
            return -SKATE_ENOMEM;
    }
    return 0;
}

int learner_trunk_prepare(struct trunk *t, int rows) {
    const struct mlp *net = t->net;
    int last_rows = (rows - 1) % TILE_ROWS + 1, r;

    SKATE_ASSERT(rows > 0);
    if (!t->m) {
        r = alloc_once(t);
        if (r < 0)
            return r;
    }
    if (t->rows == rows)
        return 0;
    trunk_free_buffers(t);
    t->n_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    t->x = mlp_alloc((size_t)rows * (size_t)net->dims[0]);
    t->tile_sums = calloc((size_t)t->n_tiles, sizeof *t->tile_sums);
    if (!t->x || !t->tile_sums)
        return -SKATE_ENOMEM;
    for (int l = 0; l < net->n_layers; l++) {
        t->h[l] = mlp_alloc((size_t)rows * (size_t)net->dims[l + 1]);
        t->d[l] = mlp_alloc((size_t)rows * (size_t)net->dims[l + 1]);
        if (!t->h[l] || !t->d[l])
            return -SKATE_ENOMEM;
    }
    r = mlp_tile_init(&t->tile, net, TILE_ROWS);
    if (r == 0)
        r = mlp_tile_init(&t->last_tile, net, last_rows);
    t->rows = rows;
    for (int l = 0; l < net->n_layers && r == 0; l++)
        r = plan_layer(t, l, last_rows);
    if (r < 0)
        t->rows = 0;
    return r;
}

/* Phase 1 for one tile: rows first..first + n - 1 of the minibatch. */
static void tile_task(const struct learner *l, struct trunk *t, const uint32_t *index,
                      int number) {
    const struct mlp *net = t->net;
    const struct ppo_batch *b = &l->batch;
    int first = number * TILE_ROWS, is_last = number == t->n_tiles - 1;
    const struct mlp_tile *tile = is_last ? &t->last_tile : &t->tile;
    int rows = tile->rows, top = net->n_layers - 1;
    float scale = 1.0f / (float)t->rows, *h[MLP_LAYERS_MAX], *d[MLP_LAYERS_MAX];
    size_t width = (size_t)b->obs_dim;
    float *x = t->x + (size_t)first * width;

    index += first;
    for (int i = 0; i < rows; i++)
        memcpy(x + (size_t)i * width, b->obs + (size_t)index[i] * width, width * sizeof(float));
    for (int j = 0; j <= top; j++) {
        h[j] = t->h[j] + (size_t)first * (size_t)net->dims[j + 1];
        d[j] = t->d[j] + (size_t)first * (size_t)net->dims[j + 1];
    }
    mlp_forward(net, tile, x, h);
    t->tile_sums[number] = (struct ppo_sums){ 0 };
    if (t->is_value)
        ppo_value_tile(&l->params, b, index, rows, scale, h[top], d[top],
                       &t->tile_sums[number]);
    else
        ppo_policy_tile(&l->params, b, index, rows, scale, h[top], d[top],
                        &t->tile_sums[number]);
    for (int j = top; j > 0; j--) {
        gemm_f32(is_last ? &t->last_back[j] : &t->back[j], t->wt[j], d[j], d[j - 1]);
        net->kern->act_back(d[j - 1], h[j - 1], (size_t)rows * (size_t)net->dims[j], net->act);
    }
}

/* A slab: input rows from..from + n - 1 of layer `layer`; slab 0 of a layer owns its biases. */
struct slab {
    int layer, from, n;
    size_t at, size, bias_at, bias_size;    /* floats into params; bias_size 0: not the owner */
};

static struct slab slab_of(const struct mlp *net, int number) {
    struct slab s = { .layer = 0 };

    while (number >= layer_slabs(net, s.layer))
        number -= layer_slabs(net, s.layer++);
    s.from = number * SLAB_ROWS;
    s.n = net->dims[s.layer] - s.from < SLAB_ROWS ? net->dims[s.layer] - s.from : SLAB_ROWS;
    s.at = net->w_off[s.layer] + (size_t)s.from * (size_t)net->dims[s.layer + 1];
    s.size = (size_t)s.n * (size_t)net->dims[s.layer + 1];
    s.bias_at = net->b_off[s.layer];
    s.bias_size = s.from == 0 ? (size_t)net->dims[s.layer + 1] : 0;
    return s;
}

static void slab_gradient(struct trunk *t, const struct slab *s) {
    const struct mlp *net = t->net;
    const float *x = s->layer == 0 ? t->x : t->h[s->layer - 1];

    gemm_f32(s->n == SLAB_ROWS ? &t->grad[s->layer] : &t->last_grad[s->layer], t->d[s->layer],
             x + s->from, t->gradient + s->at);
    if (s->bias_size > 0)
        net->kern->col_sum(t->gradient + s->bias_at, t->d[s->layer], t->rows,
                           net->dims[s->layer + 1]);
}

static void slab_transpose(struct trunk *t, const struct slab *s) {
    const struct mlp *net = t->net;
    int in = net->dims[s->layer], out = net->dims[s->layer + 1];

    if (s->layer > 0)
        net->kern->transpose(t->wt[s->layer] + s->from, in + WT_PAD, net->params + s->at, out,
                             s->n, out);
}

static void slab_adam(struct trunk *t, const struct slab *s, const struct kern_adam *a) {
    const struct mlp *net = t->net;
    float *p = net->params;

    net->kern->adam(a, p + s->at, t->gradient + s->at, t->m + s->at, t->v + s->at, s->size);
    if (s->bias_size > 0)
        net->kern->adam(a, p + s->bias_at, t->gradient + s->bias_at, t->m + s->bias_at,
                        t->v + s->bias_at, s->bias_size);
    slab_transpose(t, s);
}

static double norm2(const float *x, size_t n) {
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

static struct kern_adam adam_at(const struct learner *l, uint64_t step) {
    const struct learner_opts *o = &l->opts;
    double t = (double)step;

    return (struct kern_adam){
        .lr = o->lr, .beta1 = o->beta1, .beta2 = o->beta2, .eps = o->adam_eps,
        .scale1 = (float)(1.0 / (1.0 - pow((double)o->beta1, t))),
        .scale2 = (float)(1.0 / sqrt(1.0 - pow((double)o->beta2, t))),
        .grad_scale = 1.0f,
    };
}

/* The first rank of the gang adds up what the tiles of this minibatch reported. */
static void collect_sums(struct gang *g) {
    for (int i = 0; i < g->n_trunks; i++) {
        struct trunk *t = g->trunks[i];
        struct ppo_sums s = { 0 };
        double n = (double)t->rows, variance, spread;

        for (int k = 0; k < t->n_tiles; k++)
            ppo_sums_add(&s, &t->tile_sums[k]);
        ppo_sums_add(&t->sums, &s);
        t->last = s;
        variance = s.error2 / n - (s.error / n) * (s.error / n);
        spread = s.target2 / n - (s.target / n) * (s.target / n);
        if (t->is_value && spread > 0.0)
            t->explained_var += variance < 2.0 * spread ? 1.0 - variance / spread : -1.0;
    }
}

static float clip_scale(const struct learner *l, const struct gang *g) {
    double sum = 0.0, limit = (double)l->opts.grad_clip;

    for (int i = 0; i < g->n_trunks; i++)
        for (int s = 0; s < g->trunks[i]->n_slabs; s++)
            sum += g->trunks[i]->slab_norm2[s];
    sum = sqrt(sum);
    return sum > limit ? (float)(limit / (sum + 1e-6)) : 1.0f;
}

/* Phase 2 on this rank's slabs. pass 0: gradient and Adam; with a clip, pass 1 computes gradients
 * and norms and pass 2 applies them. */
static void slab_phase(struct learner *l, struct gang *g, int rank, int pass,
                       const struct kern_adam *a) {
    int number = 0, size = (int)g->barrier.size;

    for (int i = 0; i < g->n_trunks; i++) {
        struct trunk *t = g->trunks[i];

        for (int s = 0; s < t->n_slabs; s++, number++) {
            struct slab slab;

            if (number % size != rank)
                continue;
            slab = slab_of(t->net, s);
            if (pass != 2)
                slab_gradient(t, &slab);
            if (pass == 1)
                t->slab_norm2[s] = norm2(t->gradient + slab.at, slab.size) +
                                   norm2(t->gradient + slab.bias_at, slab.bias_size);
            if (pass != 1 && !l->gradient_only)
                slab_adam(t, &slab, a);
        }
    }
}

static void minibatch(struct learner *l, struct gang *g, int rank, const uint32_t *index,
                      uint64_t step) {
    struct kern_adam a = adam_at(l, step);
    int number = 0, size = (int)g->barrier.size;

    for (int i = 0; i < g->n_trunks; i++)
        for (int k = 0; k < g->trunks[i]->n_tiles; k++, number++)
            if (number % size == rank)
                tile_task(l, g->trunks[i], index, k);
    team_barrier_wait(&g->barrier);
    if (rank == 0)
        collect_sums(g);
    if (l->opts.grad_clip > 0.0f && !l->gradient_only) {
        slab_phase(l, g, rank, 1, &a);
        team_barrier_wait(&g->barrier);
        a.grad_scale = clip_scale(l, g);
        slab_phase(l, g, rank, 2, &a);
    } else {
        slab_phase(l, g, rank, 0, &a);
    }
    team_barrier_wait(&g->barrier);
}

static void shuffle(struct learner *l, uint32_t *order, int epoch) {
    struct rl_rng rng;
    uint32_t n = (uint32_t)l->batch.n;

    rl_rng_init(&rng, l->opts.seed, STREAM_ORDER + l->updates * 100003u + (uint64_t)epoch);
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    if (l->gradient_only || !l->opts.shuffle)
        return;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = rl_rng_below(&rng, i), swap = order[i - 1];

        order[i - 1] = order[j];
        order[j] = swap;
    }
}

static void run_gang(struct learner *l, struct gang *g, int rank, uint32_t *order) {
    size_t rows = (size_t)l->trunks[0].rows, left = 0;   /* left: rows not learned from yet */
    int epochs = l->gradient_only ? 1 : l->opts.epochs;
    uint64_t step = l->adam_steps;

    for (int i = rank; i < g->n_trunks; i += (int)g->barrier.size)
        for (int s = 0; s < g->trunks[i]->n_slabs; s++) {
            struct slab slab = slab_of(g->trunks[i]->net, s);

            slab_transpose(g->trunks[i], &slab);    /* the weights may have been set */
        }
    team_barrier_wait(&g->barrier);
    for (int e = 0; e < epochs || left > 0; e++) {
        size_t n = left + l->batch.n, at = 0;

        shuffle(l, order + left, e);
        for (; at + rows <= n && (e < epochs || at == 0); at += rows)
            minibatch(l, g, rank, order + at, ++step);
        left = l->opts.wrap && e < epochs ? n - at : 0;
        memmove(order, order + at, left * sizeof *order);
    }
}

void learner_thread(void *arg, int rank) {
    struct learner *l = arg;
    int size = team_size(l->team);
#ifdef __x86_64__
    unsigned control = _mm_getcsr();

    _mm_setcsr(control | 0x8040);   /* denormals are zero: moments fade through them, slowly */
#endif
    if (l->n_gangs == 1) {
        run_gang(l, &l->gangs[0], rank, l->order[rank]);
    } else if (size == 1) {
        run_gang(l, &l->gangs[0], 0, l->order[0]);
        run_gang(l, &l->gangs[1], 0, l->order[0]);
    } else {
        int half = size / 2;

        run_gang(l, &l->gangs[rank >= half], rank % half, l->order[rank]);
    }
#ifdef __x86_64__
    _mm_setcsr(control);
#endif
}
