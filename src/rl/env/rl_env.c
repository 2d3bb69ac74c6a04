/* rl_env.c - see rl_env.h. A step is one call into the environment's table and one pass over the
 * flags; then only the lanes that have ended cost anything. Nobody counts the steps of a lane: it
 * has a deadline, and all lanes are looked at only when the first of them may have come to its own.
 * One owner at a time. Tests: tests/unit/rl_env_host_test.c. */
#include "rl/env/rl_env.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/env/rl_env_lib.h"
#include "rl/env/rl_env_list.h"
#include "rl/rl_rng.h"

struct rl_env {
    const struct skate_env_api *api;    /* &table */
    struct skate_env_api table;         /* as ours is now: zero where theirs ends */
    void *library, *env;
    struct skate_env_info info;
    struct skate_env_rows rows;
    char id[SKATE_ENV_ID_MAX];
    char said[SKATE_ENV_ERROR_BYTES];
    uint32_t lanes, n_ended;
    uint64_t max_steps;         /* very large: never */
    uint64_t now;               /* steps made since the start */
    uint64_t soonest;           /* no lane's deadline is earlier */
    enum rl_env_reset_mode mode;
    int started;                /* all lanes have been reset once */
    uint64_t seed;
    size_t obs_bytes, action_bytes;
    void *action, *last;
    uint64_t *deadline;         /* [lanes]: the step that is truncated */
    uint32_t *ended;            /* [n_ended]: ascending; in mode NEXT_STEP kept for that step */
    uint32_t *list;             /* [lanes]: scratch */
    uint64_t *seeds;            /* [lanes]: scratch */
    char *block;                /* all of the above arrays */
};

static size_t round_64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/* Every array on 64 bytes, with 64 more behind it: vectors may read a little too far. */
static int get_arrays(struct rl_env *e) {
    const size_t n = e->lanes, bytes[] = {
        n * e->obs_bytes, n * e->obs_bytes, n * e->action_bytes, n * sizeof(double), n, n, n,
        n * sizeof(uint64_t), n * sizeof(uint32_t), n * sizeof(uint32_t), n * sizeof(uint64_t),
    };
    char *to[sizeof bytes / sizeof bytes[0]];
    size_t total = 0;
    void *block;

    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++)
        total += round_64(bytes[i]) + 64;
    if (posix_memalign(&block, 64, total) != 0)
        return -SKATE_ENOMEM;
    memset(block, 0, total);
    e->block = block;
    total = 0;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        to[i] = e->block + total;
        total += round_64(bytes[i]) + 64;
    }
    e->last = to[1];
    e->action = to[2];
    e->rows = (struct skate_env_rows){ .obs = to[0], .action = to[2], .reward = (double *)to[3],
                                       .terminated = (uint8_t *)to[4],
                                       .truncated = (uint8_t *)to[5], .turn = (uint8_t *)to[6],
                                       .error = e->said };
    e->deadline = (uint64_t *)to[7];
    e->ended = (uint32_t *)to[8];
    e->list = (uint32_t *)to[9];
    e->seeds = (uint64_t *)to[10];
    return 0;
}

static int fail_call(struct rl_env *e, int code, const char *call, struct skate_error *err) {
    e->said[SKATE_ENV_ERROR_BYTES - 1] = '\0';
    if (code < -SKATE_ERROR_MAX)
        code = -SKATE_EINVAL;
    return err_fail(err, code, "%s: %s: %s", e->id, call,
                    e->said[0] ? e->said : skate_strerror(code));
}

static int make_env(struct rl_env *e, const char *config, struct skate_error *err) {
    struct skate_env_make m = { .bytes = sizeof m, .lanes = e->lanes, .seed = e->seed,
                                .config = config, .error = e->said };
    int r = e->api->make(&m, &e->info, &e->env);

    if (r < 0) {
        e->env = NULL;
        return fail_call(e, r, "make", err);
    }
    return rl_env_check_info(&e->info, e->lanes, e->id, err);
}

/* One object of two: what comes first counts. Text that is not an object stays as it is, for the
 * environment to refuse. malloc()ed, or NULL. */
static char *join(const char *config, const char *preset) {
    size_t n = strlen(config), m = strlen(preset);
    char *text = malloc(n + m + 1);

    if (!text)
        return NULL;
    memcpy(text, config, n + 1);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    if (n < 2 || text[n - 1] != '}' || m <= 2)
        return text;
    text[n - 1] = ',';
    memcpy(text + n, preset + 1, m);
    return text;
}

static void set_api(struct rl_env *e, const struct skate_env_api *api) {
    memcpy(&e->table, api, api->bytes < sizeof e->table ? api->bytes : sizeof e->table);
    e->api = &e->table;
    memcpy(e->id, api->id, strlen(api->id) + 1);
}

static int find_api(struct rl_env *e, const struct rl_env_opts *o, const char **ret_preset,
                    struct skate_error *err) {
    const struct skate_env_api *api;
    const struct rl_env_name *n;

    if (strncmp(o->name, "c:", 2) == 0) {
        int r = rl_env_load_library(o->name, &api, &e->library, err);

        if (r == 0)
            set_api(e, api);
        return r;
    }
    n = rl_env_find(o->name);
    if (!n)
        return err_fail(err, -SKATE_ENOENT, "no built-in environment is called '%.80s'", o->name);
    set_api(e, n->api);
    memcpy(e->id, n->name, strlen(n->name) + 1);
    *ret_preset = n->config;
    return 0;
}

int rl_env_open(const struct rl_env_opts *o, struct rl_env **ret, struct skate_error *err) {
    const struct rl_env_name *n;
    const char *preset = "{}";
    struct rl_env *e;
    char *config;
    int r;

    SKATE_ASSERT(o->name);
    if (o->lanes < 1 || o->lanes > SKATE_ENV_LANES_MAX)
        return err_fail(err, -SKATE_EINVAL, "%u lanes: 1 to %d can be had", o->lanes,
                        SKATE_ENV_LANES_MAX);
    e = calloc(1, sizeof *e);
    if (!e)
        return -SKATE_ENOMEM;
    e->lanes = o->lanes;
    e->mode = o->mode;
    e->seed = o->seed;
    r = find_api(e, o, &preset, err);
    config = r == 0 ? join(o->config ? o->config : preset, o->config ? preset : "") : NULL;
    if (r == 0)
        r = config ? make_env(e, config, err) : -SKATE_ENOMEM;
    free(config);
    if (r == 0) {
        e->obs_bytes = skate_env_row_bytes(&e->info.obs, 0);
        e->action_bytes = skate_env_row_bytes(&e->info.action, 1);
        r = get_arrays(e);
    }
    if (r < 0) {
        rl_env_free(e);
        return r;
    }
    n = e->library ? NULL : rl_env_find(o->name);
    if (n && n->threshold != 0)
        e->info.reward_threshold = n->threshold;
    if (n && n->max_steps >= 0)
        e->info.max_steps = (uint32_t)n->max_steps;
    if (o->max_steps >= 0)
        e->info.max_steps = (uint32_t)o->max_steps;
    e->max_steps = e->info.max_steps ? e->info.max_steps : UINT64_MAX / 4;
    *ret = e;
    return 0;
}

struct rl_env *rl_env_free(struct rl_env *e) {
    if (!e)
        return NULL;
    if (e->env)
        e->api->close(e->env);
    rl_env_unload(e->library);
    free(e->block);
    free(e);
    return NULL;
}

const struct skate_env_info *rl_env_info(const struct rl_env *e) {
    return &e->info;
}

const char *rl_env_id(const struct rl_env *e) {
    return e->id;
}

uint32_t rl_env_lanes(const struct rl_env *e) {
    return e->lanes;
}

enum rl_env_reset_mode rl_env_mode(const struct rl_env *e) {
    return e->mode;
}

const struct skate_env_rows *rl_env_rows(const struct rl_env *e) {
    return &e->rows;
}

void *rl_env_actions(struct rl_env *e) {
    return e->action;
}

void *rl_env_last(struct rl_env *e) {
    return e->last;
}

size_t rl_env_obs_bytes(const struct rl_env *e) {
    return e->obs_bytes;
}

size_t rl_env_action_bytes(const struct rl_env *e) {
    return e->action_bytes;
}

/* `left` steps from now, that one included, are the last of the lane's episode. */
static void set_deadline(struct rl_env *e, uint32_t lane, uint64_t left) {
    e->deadline[lane] = e->now + left;
    if (e->deadline[lane] < e->soonest)
        e->soonest = e->deadline[lane];
}

int rl_env_reset(struct rl_env *e, const uint8_t *mask, const uint64_t *seeds,
                 struct skate_error *err) {
    uint32_t n = 0, kept = 0;
    int r;

    for (uint32_t i = 0; i < e->lanes; i++) {
        if (mask && !mask[i])
            continue;
        e->seeds[n] = seeds ? seeds[i] : e->seed + i;
        e->list[n++] = i;
    }
    if (!e->started && n < e->lanes)
        return err_fail(err, -SKATE_EINVAL, "%s: the first reset is of all lanes", e->id);
    e->said[0] = '\0';
    r = n ? e->api->reset(e->env, &e->rows, e->list, n, seeds || !e->started ? e->seeds : NULL) : 0;
    if (r < 0) {
        e->started = 0;
        return fail_call(e, r, "reset", err);
    }
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = e->list[k];

        set_deadline(e, i, e->max_steps);
        e->rows.reward[i] = 0.0;
        e->rows.terminated[i] = e->rows.truncated[i] = 0;
    }
    for (uint32_t k = 0; k < e->n_ended; k++)   /* those are not waiting for a reset any more */
        if (mask && !mask[e->ended[k]])
            e->ended[kept++] = e->ended[k];
    e->n_ended = kept;
    e->started = 1;
    return 0;
}

static int check_discrete(const struct rl_env *e, struct skate_error *err) {
    const int32_t *a = e->action, start = (int32_t)e->info.action.start;
    const uint32_t n = (uint32_t)e->info.action.n;
    uint32_t bad = 0;

    for (uint32_t i = 0; i < e->lanes; i++)
        bad |= (uint32_t)a[i] - (uint32_t)start >= n;
    if (!bad)
        return 0;
    for (uint32_t i = 0; i < e->lanes; i++)
        if ((uint32_t)a[i] - (uint32_t)start >= n)
            return err_fail(err, -SKATE_EINVAL, "%s: action %d of lane %u is not in %d .. %d",
                            e->id, a[i], i, start, start + (int)n - 1);
    return 0;
}

static int check_actions(const struct rl_env *e, struct skate_error *err) {
    const struct skate_env_space *s = &e->info.action;
    const int32_t *a = e->action;

    if (s->kind == SKATE_SPACE_DISCRETE)
        return check_discrete(e, err);
    for (uint32_t i = 0; s->kind == SKATE_SPACE_MULTI && i < e->lanes; i++)
        for (uint32_t k = 0; k < s->shape[0]; k++, a++)
            if (*a < 0 || *a >= s->sizes[k])
                return err_fail(err, -SKATE_EINVAL, "%s: part %u of the action of lane %u is %d, "
                                "not in 0 .. %lld", e->id, k, i, *a, (long long)s->sizes[k] - 1);
    return 0;
}

/* Step all lanes but those that wait for their reset, unless stepping them does no harm. */
static int step_lanes(struct rl_env *e) {
    uint32_t lo = 0, n = e->mode == RL_ENV_NEXT_STEP ? e->n_ended : 0;
    int r;

    if (n == 0 || (e->api->flags & SKATE_ENV_STEP_ANY))
        return e->api->step(e->env, &e->rows, 0, e->lanes);
    for (uint32_t k = 0; k <= n; k++) {
        uint32_t hi = k < n ? e->ended[k] : e->lanes;

        r = lo < hi ? e->api->step(e->env, &e->rows, lo, hi) : 0;
        if (r < 0)
            return r;
        lo = hi + 1;
    }
    return 0;
}

/* Reset the lanes in ended[]; their streams go on. */
static int reset_ended(struct rl_env *e) {
    int r = e->api->reset(e->env, &e->rows, e->ended, e->n_ended, NULL);

    for (uint32_t k = 0; k < e->n_ended; k++)
        set_deadline(e, e->ended[k], e->max_steps);
    return r;
}

/* Truncate the lanes whose deadline has come. One that nobody resets stays truncated. */
static void truncate(struct rl_env *e) {
    uint64_t soonest = UINT64_MAX;

    for (uint32_t i = 0; i < e->lanes; i++) {
        uint64_t deadline = e->deadline[i];

        if (deadline <= e->now) {
            e->rows.truncated[i] = 1;
            deadline = e->now + 1;
        }
        soonest = deadline < soonest ? deadline : soonest;
    }
    e->soonest = soonest;
}

/* A bit for each of 8 bytes that are 0 or 1, in their order. */
static inline uint64_t to_bits(uint64_t bytes) {
    return bytes * UINT64_C(0x0102040810204080) >> 56;
}

static void find_ended(struct rl_env *e) {
    const uint8_t *terminated = e->rows.terminated, *truncated = e->rows.truncated;
    uint32_t n = 0, i = 0;

    for (; i + 64 <= e->lanes; i += 64) {
        uint64_t bits = 0, a, b;

        for (uint32_t k = 0; k < 64; k += 8) {
            memcpy(&a, terminated + i + k, 8);
            memcpy(&b, truncated + i + k, 8);
            bits |= to_bits((a | b) & UINT64_C(0x0101010101010101)) << k;
        }
        for (; bits; bits &= bits - 1)
            e->ended[n++] = i + (uint32_t)__builtin_ctzll(bits);
    }
    for (; i < e->lanes; i++)
        if ((terminated[i] | truncated[i]) & 1)
            e->ended[n++] = i;
    e->n_ended = n;
}

static int finish_step(struct rl_env *e) {
    int r = 0;

    if (e->mode == RL_ENV_NEXT_STEP && e->n_ended > 0) {
        r = reset_ended(e);
        for (uint32_t k = 0; k < e->n_ended; k++) {
            uint32_t i = e->ended[k];

            e->rows.reward[i] = 0.0;
            e->rows.terminated[i] = e->rows.truncated[i] = 0;
        }
    }
    find_ended(e);
    if (r < 0 || e->mode != RL_ENV_SAME_STEP || e->n_ended == 0)
        return r;
    for (uint32_t k = 0; k < e->n_ended; k++) {
        size_t at = e->ended[k] * e->obs_bytes;

        memcpy((char *)e->last + at, (char *)e->rows.obs + at, e->obs_bytes);
    }
    return reset_ended(e);
}

static int step_once(struct rl_env *e, struct skate_error *err) {
    int r;

    if (e->lanes < 8)
        for (uint32_t i = 0; i < e->lanes; i++)
            e->rows.truncated[i] = 0;
    else
        memset(e->rows.truncated, 0, e->lanes);
    r = step_lanes(e);
    e->now++;
    if (r == 0) {
        if (e->now >= e->soonest)
            truncate(e);
        r = finish_step(e);
    }
    if (r < 0) {
        e->started = 0;
        e->n_ended = 0;
        return fail_call(e, r, "step", err);
    }
    return 0;
}

int rl_env_step(struct rl_env *e, struct skate_error *err) {
    int r;

    if (!e->started)
        return err_fail(err, -SKATE_EINVAL, "%s: call reset before step", e->id);
    r = check_actions(e, err);
    return r < 0 ? r : step_once(e, err);
}

static void random_discrete(struct rl_env *e, struct rl_rng *rng) {
    const uint32_t n = (uint32_t)e->info.action.n;
    const int32_t start = (int32_t)e->info.action.start;
    int32_t *a = e->action;

    if (n > 65536 || e->lanes < 4) {
        for (uint32_t i = 0; i < e->lanes; i++)
            a[i] = start + (int32_t)rl_rng_below(rng, n);
        return;
    }
    for (uint32_t i = 0; i < e->lanes; i += 4) {        /* four draws of 16 bits a word */
        uint64_t word = rl_rng_next(rng);

        for (uint32_t k = 0; k < 4; k++)                /* the array has room for three more */
            a[i + k] = start + (int32_t)((uint32_t)(word >> (16 * k) & 0xffff) * n >> 16);
    }
}

static void random_box(struct rl_env *e, struct rl_rng *rng) {
    const struct skate_env_space *s = &e->info.action;
    size_t bytes = skate_env_dtype_bytes(s->dtype), n = e->action_bytes / bytes;

    for (size_t i = 0; i < n * e->lanes; i++) {
        double low = s->lows ? s->lows[i % n] : s->low, high = s->lows ? s->highs[i % n] : s->high;
        double x = low + (high - low) * (double)rl_rng_float(rng);

        if (s->dtype == SKATE_F32)
            ((float *)e->action)[i] = (float)x;
        else if (s->dtype == SKATE_F64)
            ((double *)e->action)[i] = x;
        else if (s->dtype == SKATE_I32)
            ((int32_t *)e->action)[i] = (int32_t)x;
        else if (s->dtype == SKATE_I64)
            ((int64_t *)e->action)[i] = (int64_t)x;
        else
            ((uint8_t *)e->action)[i] = (uint8_t)x;
    }
}

static void random_actions(struct rl_env *e, struct rl_rng *rng) {
    const struct skate_env_space *s = &e->info.action;
    int32_t *a = e->action;

    if (s->kind == SKATE_SPACE_DISCRETE)
        random_discrete(e, rng);
    else if (s->kind == SKATE_SPACE_BOX)
        random_box(e, rng);
    else
        for (uint32_t i = 0; i < e->lanes; i++)
            for (uint32_t k = 0; k < s->shape[0]; k++)
                *a++ = (int32_t)rl_rng_below(rng, (uint32_t)s->sizes[k]);
}

static double sum_of(const double *x, uint32_t n) {
    double sum[8] = { 0 }, rest = 0.0;
    uint32_t i = 0;

    if (n == 1)
        return x[0];
    for (; i + 8 <= n; i += 8)
        for (uint32_t k = 0; k < 8; k++)
            sum[k] += x[i + k];
    for (; i < n; i++)
        rest += x[i];
    for (uint32_t k = 0; k < 8; k++)
        rest += sum[k];
    return rest;
}

int rl_env_random(struct rl_env *e, uint64_t steps, uint64_t seed, struct rl_env_totals *ret,
                  struct skate_error *err) {
    struct rl_env_totals t = { 0 };
    struct rl_rng rng;

    if (!e->started) {
        int r = rl_env_reset(e, NULL, NULL, err);

        if (r < 0)
            return r;
    }
    rl_rng_init(&rng, seed, 0);
    for (uint64_t i = 0; i < steps; i++) {
        int r;

        random_actions(e, &rng);
        r = step_once(e, err);
        if (r < 0)
            return r;
        t.episodes += e->n_ended;
        t.reward += sum_of(e->rows.reward, e->lanes);
    }
    t.steps = steps * e->lanes;
    *ret = t;
    return 0;
}

int rl_env_mask(const struct rl_env *e, uint32_t lane, uint8_t *to, size_t n) {
    if (!e->api->mask || e->info.action.kind != SKATE_SPACE_DISCRETE)
        return -SKATE_ENOENT;
    if (!e->started || lane >= e->lanes || n != (size_t)e->info.action.n)
        return -SKATE_EINVAL;
    e->api->mask(e->env, lane, to);
    return 0;
}

int rl_env_picture(struct rl_env *e, uint32_t lane, uint32_t size[2], struct skate_error *err) {
    int r;

    if (!e->api->render)
        return err_fail(err, -SKATE_ENOENT, "%s draws no pictures", e->id);
    if (!e->started || lane >= e->lanes)
        return err_fail(err, -SKATE_EINVAL, "%s: reset first; it has %u lanes", e->id, e->lanes);
    e->said[0] = '\0';
    size[0] = size[1] = 0;
    r = e->api->render(e->env, lane, NULL, size);
    if (r < 0)
        return fail_call(e, r, "render", err);
    for (int i = 0; i < 2; i++)
        if (size[i] < 1 || size[i] > SKATE_ENV_PICTURE_MAX)
            return err_fail(err, -SKATE_EINVAL, "%s: a picture of %u x %u", e->id, size[0],
                            size[1]);
    return 0;
}

int rl_env_render(struct rl_env *e, uint32_t lane, uint8_t *to, struct skate_error *err) {
    uint32_t size[2];
    int r = rl_env_picture(e, lane, size, err);

    if (r == 0)
        r = e->api->render(e->env, lane, to, size);
    return r < 0 ? fail_call(e, r, "render", err) : 0;
}

int rl_env_set_task(struct rl_env *e, const char *task, struct skate_error *err) {
    int r;

    if (!e->api->set_task)
        return err_fail(err, -SKATE_ENOENT, "%s has one task only", e->id);
    e->said[0] = '\0';
    r = e->api->set_task(e->env, task, e->said);
    return r < 0 ? fail_call(e, r, "set_task", err) : 0;
}

/* A saved lane: what the environment saved, the observation, this. The digest keeps bytes out that
 * save() did not give: an environment trusts its own state. */
struct tail {
    uint64_t left;              /* steps until it is truncated */
    uint64_t digest;
};

static uint64_t digest_of(const struct rl_env *e, const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t x = n;

    for (const char *id = e->api->id; *id; id++)
        x = (x ^ (uint8_t)*id) * UINT64_C(0x100000001b3);
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        x = (x ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        x ^= x >> 29;
    }
    for (; n > 0; n--, p++)
        x = (x ^ *p) * UINT64_C(0x100000001b3);
    return x;
}

size_t rl_env_state_bytes(const struct rl_env *e) {
    size_t n = e->api->save ? e->api->state_bytes(e->env) : 0;

    return n > 0 && n <= SKATE_ENV_ROW_MAX ? n + e->obs_bytes + sizeof(struct tail) : 0;
}

int rl_env_save(const struct rl_env *e, uint32_t lane, void *to, size_t bytes) {
    size_t all = rl_env_state_bytes(e), obs = all - sizeof(struct tail) - e->obs_bytes;
    char *p = to;
    struct tail t;

    if (all == 0 || bytes != all || lane >= e->lanes || e->deadline[lane] < e->now)
        return -SKATE_EINVAL;
    e->api->save(e->env, lane, p);
    memcpy(p + obs, (char *)e->rows.obs + lane * e->obs_bytes, e->obs_bytes);
    t.left = e->deadline[lane] - e->now;
    memcpy(p + all - sizeof t, &t.left, sizeof t.left);
    t.digest = digest_of(e, p, all - sizeof t.digest);
    memcpy(p + all - sizeof t.digest, &t.digest, sizeof t.digest);
    return 0;
}

int rl_env_load(struct rl_env *e, uint32_t lane, const void *from, size_t bytes) {
    size_t all = rl_env_state_bytes(e), obs = all - sizeof(struct tail) - e->obs_bytes;
    const char *p = from;
    uint32_t kept = 0;
    struct tail t;
    int r;

    if (all == 0 || bytes != all || lane >= e->lanes || !e->started)
        return -SKATE_EINVAL;
    memcpy(&t, p + all - sizeof t, sizeof t);
    if (t.digest != digest_of(e, p, all - sizeof t.digest))
        return -SKATE_EINVAL;
    r = e->api->load(e->env, lane, p);
    if (r < 0)
        return r;
    memcpy((char *)e->rows.obs + lane * e->obs_bytes, p + obs, e->obs_bytes);
    set_deadline(e, lane, t.left < e->max_steps ? t.left : e->max_steps);
    for (uint32_t k = 0; k < e->n_ended; k++)   /* the loaded episode goes on */
        if (e->ended[k] != lane)
            e->ended[kept++] = e->ended[k];
    e->n_ended = kept;
    e->rows.terminated[lane] = e->rows.truncated[lane] = 0;
    return 0;
}
