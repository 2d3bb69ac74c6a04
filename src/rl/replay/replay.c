/* replay.c - see replay.h: columns in a ring, and priorities in a tree (prio.h). */
#include "rl/replay/replay.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/replay/prio.h"

#define REPLAY_MAGIC 0x31796c70724b53u         /* "SKrply1" */
#define ROWS_MAX ((uint64_t)1 << 31)
enum { ROW_BYTES_MAX = 1 << 30, CHUNK = 512, AHEAD = 8 };
static const float PRIO_FLOOR = 1e-30f, PRIO_CEILING = 1e28f;

struct replay {
    struct replay_opts opts;
    uint64_t added;
    unsigned char *data[REPLAY_COLS_MAX];
    struct prio tree;
    struct rl_rng rng;
    float greatest;             /* priority so far, before the power */
    float last[2];              /* a priority and its power: adds mostly repeat one */
};

/* What a checkpoint begins with; then the places (floats), then the columns. */
struct replay_head {
    uint64_t magic, capacity, added;
    double alpha;
    struct rl_rng rng;
    float greatest;
    uint32_t n_cols;
    struct replay_col cols[REPLAY_COLS_MAX];
};

static int opts_ok(const struct replay_opts *o) {
    if (o->capacity == 0 || o->capacity > ROWS_MAX || o->n_cols < 1 ||
        o->n_cols > REPLAY_COLS_MAX || !(o->alpha >= 0.0 && o->alpha <= 4.0))
        return 0;
    for (int i = 0; i < o->n_cols; i++)
        if (o->cols[i].bytes == 0 || o->cols[i].bytes > ROW_BYTES_MAX ||
            o->capacity > SIZE_MAX / o->cols[i].bytes ||
            !memchr(o->cols[i].name, 0, REPLAY_NAME_BYTES))
            return 0;
    return 1;
}

int replay_new(const struct replay_opts *opts, struct replay **ret) {
    struct replay *r;
    int code = 0;

    *ret = NULL;
    if (!opts_ok(opts))
        return -SKATE_EINVAL;
    r = calloc(1, sizeof(*r));
    if (!r)
        return -SKATE_ENOMEM;
    r->opts = *opts;
    /* Names are compared as bytes in checkpoints. */
    for (int i = 0; i < opts->n_cols; i++) {
        size_t len = strlen(opts->cols[i].name);

        memset(r->opts.cols[i].name + len, 0, REPLAY_NAME_BYTES - len);
    }
    rl_rng_init(&r->rng, opts->seed, 0x7265706c6179u);
    r->greatest = 1.0f;
    for (int i = 0; i < opts->n_cols && code == 0; i++) {
        r->data[i] = calloc(opts->capacity, opts->cols[i].bytes);
        if (!r->data[i])
            code = -SKATE_ENOMEM;
    }
    if (code == 0 && opts->alpha > 0.0)
        code = prio_init(&r->tree, opts->capacity);
    if (code < 0)
        r = replay_free(r);
    *ret = r;
    return code;
}

struct replay *replay_free(struct replay *r) {
    if (!r)
        return NULL;
    for (int i = 0; i < r->opts.n_cols; i++)
        free(r->data[i]);
    if (r->opts.alpha > 0.0)
        prio_release(&r->tree);
    free(r);
    return NULL;
}

uint64_t replay_size(const struct replay *r) {
    return r->added < r->opts.capacity ? r->added : r->opts.capacity;
}

uint64_t replay_added(const struct replay *r) {
    return r->added;
}

uint64_t replay_age(const struct replay *r, uint32_t row) {
    uint64_t newest = (r->added - 1) % r->opts.capacity;

    if (row >= replay_size(r))
        return UINT64_MAX;
    return newest >= row ? newest - row : newest + r->opts.capacity - row;
}

static int are_priorities(const float *p, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (!(p[i] > 0.0f) || !isfinite(p[i]))
            return 0;
    return 1;
}

static float powered(struct replay *r, float priority) {
    float x;

    if (priority == r->last[0])
        return r->last[1];
    x = powf(priority, (float)r->opts.alpha);
    x = x < PRIO_FLOOR ? PRIO_FLOOR : x > PRIO_CEILING ? PRIO_CEILING : x;
    r->last[0] = priority;
    r->last[1] = x;
    return x;
}

/* Priorities of rows that exist, checked by the caller; NULL: the greatest so far. */
static void set_priorities(struct replay *r, const uint32_t *rows, const float *priorities,
                           uint32_t n) {
    float values[CHUNK];

    for (uint32_t at = 0; at < n; at += CHUNK) {
        uint32_t m = n - at < CHUNK ? n - at : CHUNK;

        for (uint32_t i = 0; i < m; i++) {
            float p = priorities ? priorities[at + i] : r->greatest;

            r->greatest = p > r->greatest ? p : r->greatest;
            values[i] = powered(r, p);
        }
        prio_set(&r->tree, rows + at, values, m);
    }
}

/* The tree's part of an add: rows first, first + 1, ... of the ring. */
static void add_priorities(struct replay *r, uint64_t first, uint64_t rows,
                           const float *priorities) {
    uint32_t places[CHUNK];

    for (uint64_t at = 0; at < rows; at += CHUNK) {
        uint32_t m = rows - at < CHUNK ? (uint32_t)(rows - at) : CHUNK;

        for (uint32_t i = 0; i < m; i++)
            places[i] = (uint32_t)((first + at + i) % r->opts.capacity);
        set_priorities(r, places, priorities ? priorities + at : NULL, m);
    }
}

int replay_add(struct replay *r, const void *const *columns, uint64_t rows,
               const float *priorities) {
    uint64_t capacity = r->opts.capacity, skip = rows > capacity ? rows - capacity : 0;
    uint64_t first = r->added + skip, place = first % capacity, n = rows - skip;
    uint64_t until_end = capacity - place < n ? capacity - place : n;

    if (rows > ((uint64_t)1 << 62) - r->added || (priorities && !are_priorities(priorities, rows)))
        return -SKATE_EINVAL;
    for (uint64_t i = 0; priorities && i < skip; i++)
        r->greatest = priorities[i] > r->greatest ? priorities[i] : r->greatest;
    if (r->opts.alpha > 0.0)
        add_priorities(r, first, n, priorities ? priorities + skip : NULL);
    for (int i = 0; i < r->opts.n_cols; i++) {
        size_t bytes = r->opts.cols[i].bytes;
        const unsigned char *from = (const unsigned char *)columns[i] + skip * bytes;

        memcpy(r->data[i] + place * bytes, from, until_end * bytes);
        memcpy(r->data[i], from + until_end * bytes, (n - until_end) * bytes);
    }
    r->added += rows;
    return 0;
}

static double uniform(struct rl_rng *rng) {
    return (double)(rl_rng_next(rng) >> 11) * 0x1p-53;
}

int replay_draw(struct replay *r, uint32_t n, double beta, uint32_t *rows, float *weights) {
    uint32_t size = (uint32_t)replay_size(r);
    double width;
    float least;

    if (size == 0 || !(beta >= 0.0 && beta <= 16.0))
        return -SKATE_EINVAL;
    if (!(r->opts.alpha > 0.0)) {
        for (uint32_t i = 0; i < n; i++)
            rows[i] = rl_rng_below(&r->rng, size);
        for (uint32_t i = 0; weights && i < n; i++)
            weights[i] = 1.0f;
        return 0;
    }
    width = (double)prio_total(&r->tree) / (double)n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = prio_find(&r->tree, width * ((double)i + uniform(&r->rng)));

        rows[i] = row < size ? row : size - 1;
    }
    /* (N p / total)^-beta over the greatest possible one: both N and the total cancel. */
    least = prio_least(&r->tree);
    for (uint32_t i = 0; weights && i < n; i++)
        weights[i] = powf(least / r->tree.sum[0][rows[i]], (float)beta);
    return 0;
}

int replay_gather(const struct replay *r, int col, const uint32_t *rows, uint32_t n, void *ret) {
    uint32_t size = (uint32_t)replay_size(r), bytes;
    const unsigned char *from;
    unsigned char *to = ret;

    if (col < 0 || col >= r->opts.n_cols)
        return -SKATE_EINVAL;
    for (uint32_t i = 0; i < n; i++)
        if (rows[i] >= size)
            return -SKATE_EINVAL;
    bytes = r->opts.cols[col].bytes;
    from = r->data[col];
    if (bytes == 4) {
        for (uint32_t i = 0; i < n; i++)
            memcpy(to + 4 * (size_t)i, from + 4 * (size_t)rows[i], 4);
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            __builtin_prefetch(from + (size_t)bytes * rows[i + AHEAD]);
        memcpy(to + (size_t)bytes * i, from + (size_t)bytes * rows[i], bytes);
    }
    return 0;
}

int replay_update(struct replay *r, const uint32_t *rows, const float *priorities, uint32_t n) {
    uint32_t size = (uint32_t)replay_size(r);

    for (uint32_t i = 0; i < n; i++)
        if (rows[i] >= size)
            return -SKATE_EINVAL;
    if (!are_priorities(priorities, n))
        return -SKATE_EINVAL;
    if (r->opts.alpha > 0.0)
        set_priorities(r, rows, priorities, n);
    return 0;
}

static size_t state_bytes(const struct replay *r, uint64_t size) {
    size_t row = r->opts.alpha > 0.0 ? sizeof(float) : 0;

    for (int i = 0; i < r->opts.n_cols; i++)
        row += r->opts.cols[i].bytes;
    return sizeof(struct replay_head) + row * size;
}

size_t replay_state_bytes(const struct replay *r) {
    return state_bytes(r, replay_size(r));
}

void replay_get_state(const struct replay *r, void *block) {
    unsigned char *to = (unsigned char *)block + sizeof(struct replay_head);
    uint64_t size = replay_size(r);
    struct replay_head head;

    memset(&head, 0, sizeof(head));
    head.magic = REPLAY_MAGIC;
    head.capacity = r->opts.capacity;
    head.added = r->added;
    head.alpha = r->opts.alpha;
    head.rng = r->rng;
    head.greatest = r->greatest;
    head.n_cols = (uint32_t)r->opts.n_cols;
    memcpy(head.cols, r->opts.cols, (size_t)r->opts.n_cols * sizeof(head.cols[0]));
    memcpy(block, &head, sizeof(head));
    if (r->opts.alpha > 0.0) {
        memcpy(to, r->tree.sum[0], size * sizeof(float));
        to += size * sizeof(float);
    }
    for (int i = 0; i < r->opts.n_cols; i++) {
        memcpy(to, r->data[i], size * r->opts.cols[i].bytes);
        to += size * r->opts.cols[i].bytes;
    }
}

/* The header of a block of this layout and length, or NULL. */
static const struct replay_head *read_head(const struct replay *r, const void *block,
                                           size_t bytes, struct replay_head *head) {
    uint64_t size;

    if (bytes < sizeof(*head))
        return NULL;
    memcpy(head, block, sizeof(*head));
    if (head->magic != REPLAY_MAGIC || head->capacity != r->opts.capacity ||
        memcmp(&head->alpha, &r->opts.alpha, sizeof(double)) != 0 ||
        head->n_cols != (uint32_t)r->opts.n_cols || head->added > (uint64_t)1 << 62 ||
        !isfinite(head->greatest) || head->greatest < 1.0f ||
        memcmp(head->cols, r->opts.cols, head->n_cols * sizeof(head->cols[0])) != 0)
        return NULL;
    size = head->added < head->capacity ? head->added : head->capacity;
    return bytes == state_bytes(r, size) ? head : NULL;
}

/* The places of the block into a new tree. */
static int read_places(struct replay *r, const unsigned char *from, uint64_t size) {
    struct prio tree;
    int code = prio_init(&tree, r->opts.capacity);

    for (uint64_t at = 0; at < size && code == 0; at += CHUNK) {
        uint32_t rows[CHUNK], m = size - at < CHUNK ? (uint32_t)(size - at) : CHUNK;
        float values[CHUNK];

        memcpy(values, from + at * sizeof(float), m * sizeof(float));
        for (uint32_t i = 0; i < m && code == 0; i++) {
            rows[i] = (uint32_t)at + i;
            if (!(values[i] >= PRIO_FLOOR && values[i] <= PRIO_CEILING))
                code = -SKATE_EINVAL;
        }
        if (code == 0)
            prio_set(&tree, rows, values, m);
    }
    if (code < 0) {
        prio_release(&tree);
        return code;
    }
    prio_release(&r->tree);
    r->tree = tree;
    return 0;
}

int replay_set_state(struct replay *r, const void *block, size_t bytes) {
    const unsigned char *from = (const unsigned char *)block + sizeof(struct replay_head);
    struct replay_head head;
    uint64_t size;

    if (!read_head(r, block, bytes, &head))
        return -SKATE_EINVAL;
    size = head.added < head.capacity ? head.added : head.capacity;
    if (r->opts.alpha > 0.0) {
        int code = read_places(r, from, size);

        if (code < 0)
            return code;
        from += size * sizeof(float);
    }
    for (int i = 0; i < r->opts.n_cols; i++) {
        memcpy(r->data[i], from, size * r->opts.cols[i].bytes);
        from += size * r->opts.cols[i].bytes;
    }
    r->added = head.added;
    r->rng = head.rng;
    r->greatest = head.greatest;
    return 0;
}
