/* frag.h - the fragment: one block of experience, the only data format between workers and learner.
 *
 * A fixed struct of arrays [steps][envs][columns] in ONE contiguous buffer behind a header with a
 * field table, every field on 64 bytes, so that it travels as one numpy array through the object
 * store and both ends use it in place. frag_format() lays a buffer out, frag_open() checks one that
 * came from elsewhere and gives pointers into it (borrowed). No allocation, no locks, any thread,
 * one writer. Tests: tests/unit/rl_frag_test.c. */
#ifndef SKATE_RL_FRAG_H
#define SKATE_RL_FRAG_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { FRAG_VERSION = 1, FRAG_NAME_BYTES = 16 };
enum {
    FRAG_ENVS_MAX = 65536,
    FRAG_STEPS_MAX = 1 << 24,
    FRAG_ROWS_MAX = 1 << 26,    /* steps x envs */
};

enum frag_dtype { FRAG_F32, FRAG_F64, FRAG_I32, FRAG_U8 };

enum frag_index {
    FRAG_OBS,                   /* f32 [rows][obs_dim] */
    FRAG_ACTION,                /* i32 [rows] */
    FRAG_REWARD,                /* f32 [rows] */
    FRAG_FLAGS,                 /* u8 [rows]: enum gae_flag */
    FRAG_LOGP,                  /* f32 [rows]: log probability of the action taken */
    FRAG_INPUTS,                /* f32 [rows][n_inputs]: the distribution's inputs (logits) */
    FRAG_VALUE,                 /* f32 [rows] */
    FRAG_BOOT,                  /* f32 [rows]: value beyond a segment's end, see gae.h */
    FRAG_EPISODE_REWARD,        /* f64 [episodes ended here, at most rows] */
    FRAG_EPISODE_LEN,           /* i32 [the same] */
    FRAG_FIELDS,
};

struct frag_shape {
    uint32_t steps, envs, obs_dim, n_inputs;
};

struct frag_field {
    char name[FRAG_NAME_BYTES]; /* zero-terminated */
    uint32_t dtype, columns;
    uint64_t offset, bytes;     /* from the start of the buffer */
};

struct frag_header {
    char magic[8];              /* "SKTFRAG" */
    uint32_t version, n_fields;
    uint64_t bytes;             /* of the whole block */
    struct frag_shape shape;
    uint32_t episodes;          /* filled entries of the two episode fields */
    uint32_t worker;            /* index of the worker that filled it, 0: local */
    uint64_t policy_version;    /* of the weights that acted */
    struct frag_field fields[FRAG_FIELDS];
};
_Static_assert(sizeof(struct frag_field) == 40, "part of the format");
_Static_assert(sizeof(struct frag_header) == 56 + 40 * FRAG_FIELDS, "part of the format");

struct frag {
    struct frag_header *header;
    float *obs, *reward, *logp, *inputs, *value, *boot;
    int32_t *action, *episode_len;
    uint8_t *flags;
    double *episode_reward;
};

/* Bytes of a fragment, or 0 if the shape is outside the limits. */
uint64_t frag_bytes(const struct frag_shape *shape);
/* Write header and field table; the data is left as it is. -SKATE_EINVAL: bad shape, short or
 * unaligned (8) buffer. */
SKATE_NODISCARD int frag_format(void *buffer, size_t bytes, const struct frag_shape *shape,
                                struct frag *ret);
/* Check everything in the header against `bytes` and our own layout. -SKATE_EINVAL. */
SKATE_NODISCARD int frag_open(void *buffer, size_t bytes, struct frag *ret);
/* The first field that holds a value no learner can use (not finite; an action outside
 * 0..n_inputs - 1), or NULL. */
const char *frag_bad_field(const struct frag *f);

#endif
