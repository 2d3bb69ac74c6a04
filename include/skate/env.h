/* skate/env.h - the interface of environments written in C, version 1.
 *
 * A shared object exports one `const struct skate_env_api` (symbol skate_env_v1 unless the config
 * says otherwise: "env": "c:mygame.so" or "c:mygame.so:other_symbol"). Nothing is linked: this
 * header is all an environment needs. It is vector-first: one object steps N lanes, each an
 * environment of its own, over arrays that the host owns. To write a single environment and get
 * the vector for nothing, use skate/env_scalar.h; configs are read with skate/env_config.h.
 *
 * Rows. Lane i has row i of each array; arrays are dense and begin on 64 bytes. An observation row
 * has the shape and dtype of its space; a discrete observation is an int64_t. An action row is an
 * int32_t (DISCRETE), int32_t[] (MULTI) or the box's dtype. Actions of DISCRETE and MULTI are
 * checked by the host; those of a box come as the user gave them (NaN included).
 *
 * Who does what. The host seeds, counts steps, truncates at info.max_steps, resets lanes that have
 * ended and keeps their last observation. The environment writes an observation row for each lane
 * it is told to reset or step, and for a step reward and terminated; truncated is 0 before each
 * step and may be set to 1.
 *
 * Threads. The host calls one object from one thread at a time; with SKATE_ENV_RANGES step() may
 * run on several threads for disjoint ranges of lanes. Different objects may run on different
 * threads: keep nothing mutable outside the object. No function may block, call exit() or throw.
 *
 * Ownership. All rows belong to the host and are valid during the call only. What make() gave
 * belongs to the host until close(); pointers inside the info must live as long.
 *
 * Errors. make, reset and step return 0 or a negative code of skate/errors.h, and should write a
 * sentence into the error buffer they are given. After a failed step the host resets all lanes or
 * closes the object. */
#ifndef SKATE_ENV_H
#define SKATE_ENV_H

#include <skate/errors.h>
#include <stddef.h>
#include <stdint.h>

#define SKATE_ENV_ABI 1u
#define SKATE_ENV_EXPORT __attribute__((visibility("default")))

enum skate_env_limits {
    SKATE_ENV_DIMS = 4,                 /* of a box's shape */
    SKATE_ENV_LANES_MAX = 1 << 20,
    SKATE_ENV_ROW_MAX = 1 << 26,        /* bytes of a row */
    SKATE_ENV_PARTS_MAX = 1024,         /* of MULTI and TUPLE */
    SKATE_ENV_ID_MAX = 64,              /* bytes of an id, with its zero */
    SKATE_ENV_ERROR_BYTES = 256,
    SKATE_ENV_PICTURE_MAX = 4096,       /* columns and rows of a picture */
};
#define SKATE_ENV_BYTES_MAX (UINT64_C(1) << 36)         /* rows of all lanes together */

enum skate_env_kind {
    SKATE_SPACE_BOX = 1,        /* numbers of dtype in shape[0..ndim-1], between low and high */
    SKATE_SPACE_DISCRETE = 2,   /* start .. start + n - 1 */
    SKATE_SPACE_MULTI = 3,      /* shape[0] numbers; number i in 0 .. sizes[i] - 1 */
    SKATE_SPACE_TUPLE = 4,      /* the same, a tuple of ints to Python; observations only */
};

enum skate_env_dtype {
    SKATE_F32 = 1,
    SKATE_F64 = 2,
    SKATE_I32 = 3,
    SKATE_I64 = 4,
    SKATE_U8 = 5,
    SKATE_BOOL = 6,             /* a byte, 0 or 1 */
};

struct skate_env_space {
    uint32_t kind, dtype;       /* dtype of a box; other kinds leave it 0 */
    uint32_t ndim, shape[SKATE_ENV_DIMS];
    uint32_t reserved;
    int64_t n, start;           /* DISCRETE */
    const int64_t *sizes;       /* MULTI, TUPLE */
    double low, high;           /* BOX: of each number, unless the next two are given */
    const double *lows, *highs; /* BOX: one a number, or NULL */
};

struct skate_env_info {
    struct skate_env_space obs, action;
    uint32_t max_steps;         /* the host truncates here; 0: never */
    uint32_t agents;            /* players who move in turn; 0 and 1 are the same */
    double reward_threshold;    /* "solved"; NaN: none */
    uint64_t reserved[4];
};

struct skate_env_make {
    uint32_t bytes;             /* sizeof(struct skate_env_make) at the host */
    uint32_t lanes;
    uint64_t seed;              /* for what make() itself draws; lanes are seeded by reset() */
    const char *config;         /* a JSON object, "{}" when there is none; never NULL */
    char *error;                /* SKATE_ENV_ERROR_BYTES for a sentence */
};

struct skate_env_rows {
    void *obs;                  /* [lanes] rows */
    const void *action;         /* [lanes] rows */
    double *reward;             /* [lanes] */
    uint8_t *terminated;        /* [lanes]: 0 or 1 */
    uint8_t *truncated;         /* [lanes]: 0 or 1 */
    uint8_t *turn;              /* [lanes]: whose move is next, if there are several agents */
    char *error;                /* SKATE_ENV_ERROR_BYTES for a sentence */
};

enum skate_env_flag {
    SKATE_ENV_RANGES = 1,       /* step() may run for disjoint ranges at the same time */
    SKATE_ENV_STEP_ANY = 2,     /* stepping a lane that has ended does no harm and draws no random
                                 * number, so the host need not step around it */
};

struct skate_env_api {
    uint32_t abi;               /* SKATE_ENV_ABI */
    uint32_t bytes;             /* sizeof(struct skate_env_api) */
    uint32_t flags, reserved;
    const char *id;             /* for messages: letters, digits, . _ - / */

    /* Make an object of m->lanes lanes; fill info (zeroed before). Needed. */
    int (*make)(const struct skate_env_make *m, struct skate_env_info *ret_info, void **ret_env);
    void (*close)(void *env);
    /* Start new episodes on lanes[0..n-1] (ascending). seeds: NULL, or one for each of the n: start
     * the lane's random stream anew with it. A lane's first reset always has a seed. Needed. */
    int (*reset)(void *env, const struct skate_env_rows *rows, const uint32_t *lanes, uint32_t n,
                 const uint64_t *seeds);
    /* One step of lanes lo..hi-1. Needed. */
    int (*step)(void *env, const struct skate_env_rows *rows, uint32_t lo, uint32_t hi);

    /* All of these may be NULL. A lane's state as bytes: its size, copy out, copy in. */
    size_t (*state_bytes)(void *env);
    void (*save)(void *env, uint32_t lane, void *to);
    int (*load)(void *env, uint32_t lane, const void *from);
    /* Which actions are allowed now: 1 or 0 for each of a DISCRETE's n. */
    void (*mask)(void *env, uint32_t lane, uint8_t *to);

    /* Appended later: a table whose `bytes` ends before them has none of these.
     * A lane's picture: RGB, three bytes a pixel, the top row first. size[0] columns, size[1] rows,
     * 1 to SKATE_ENV_PICTURE_MAX each; with `to` NULL only the size is asked for. */
    int (*render)(void *env, uint32_t lane, uint8_t *to, uint32_t size[2]);
    /* Another task (curricula): a JSON object of the environment's own, "{}" for the first one.
     * Spaces stay; episodes end as they began, each lane's next reset starts one of the new task.
     * On failure nothing changes, and error (SKATE_ENV_ERROR_BYTES) has a sentence. */
    int (*set_task)(void *env, const char *task, char *error);
};
#define SKATE_ENV_API_MIN offsetof(struct skate_env_api, render)     /* bytes of the first tables */

static inline size_t skate_env_dtype_bytes(uint32_t dtype) {
    switch (dtype) {
    case SKATE_F32:
    case SKATE_I32:
        return 4;
    case SKATE_F64:
    case SKATE_I64:
        return 8;
    case SKATE_U8:
    case SKATE_BOOL:
        return 1;
    default:
        return 0;
    }
}

/* Bytes of a row; an action's discrete numbers are int32_t, an observation's int64_t. 0 where the
 * space is not valid. */
static inline size_t skate_env_row_bytes(const struct skate_env_space *s, int is_action) {
    size_t bytes = skate_env_dtype_bytes(s->dtype), word = is_action ? 4 : 8;

    if (s->kind == SKATE_SPACE_DISCRETE)
        return word;
    if (s->kind == SKATE_SPACE_MULTI || s->kind == SKATE_SPACE_TUPLE)
        return s->shape[0] <= SKATE_ENV_PARTS_MAX ? s->shape[0] * word : 0;
    if (s->kind != SKATE_SPACE_BOX || s->ndim > SKATE_ENV_DIMS)
        return 0;
    for (uint32_t i = 0; i < s->ndim; i++) {
        if (s->shape[i] < 1 || s->shape[i] > SKATE_ENV_ROW_MAX / bytes)
            return 0;
        bytes *= s->shape[i];
    }
    return bytes;
}

#endif
