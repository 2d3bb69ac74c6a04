/* frag.c - see frag.h. The layout is a pure function of the shape, so a header from elsewhere is
 * checked by computing it again and comparing. Any thread; never blocks.
 * Tests: tests/unit/rl_frag_test.c. */
#include "rl/frag.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

static const char frag_magic[8] = "SKTFRAG";

static const struct {
    const char *name;
    enum frag_dtype dtype;
    uint32_t bytes;
} layout[FRAG_FIELDS] = {
    [FRAG_OBS] = { "obs", FRAG_F32, 4 },
    [FRAG_ACTION] = { "action", FRAG_I32, 4 },
    [FRAG_REWARD] = { "reward", FRAG_F32, 4 },
    [FRAG_FLAGS] = { "flags", FRAG_U8, 1 },
    [FRAG_LOGP] = { "logp", FRAG_F32, 4 },
    [FRAG_INPUTS] = { "inputs", FRAG_F32, 4 },
    [FRAG_VALUE] = { "value", FRAG_F32, 4 },
    [FRAG_BOOT] = { "boot", FRAG_F32, 4 },
    [FRAG_EPISODE_REWARD] = { "episode_reward", FRAG_F64, 8 },
    [FRAG_EPISODE_LEN] = { "episode_len", FRAG_I32, 4 },
};

static uint64_t round_64(uint64_t n) {
    return (n + 63) & ~(uint64_t)63;
}

static uint64_t lay_out(const struct frag_shape *s, struct frag_field *fields) {
    uint64_t rows = (uint64_t)s->steps * s->envs;
    uint64_t at = round_64(sizeof(struct frag_header));

    for (int i = 0; i < FRAG_FIELDS; i++) {
        struct frag_field f = { .dtype = layout[i].dtype, .columns = 1, .offset = at };

        memcpy(f.name, layout[i].name, strlen(layout[i].name));
        if (i == FRAG_OBS)
            f.columns = s->obs_dim;
        else if (i == FRAG_INPUTS)
            f.columns = s->n_inputs;
        f.bytes = rows * f.columns * layout[i].bytes;
        at += round_64(f.bytes);
        fields[i] = f;
    }
    return at;
}

uint64_t frag_bytes(const struct frag_shape *s) {
    struct frag_field fields[FRAG_FIELDS];

    SKATE_ASSERT(s);
    if (s->steps < 1 || s->steps > FRAG_STEPS_MAX || s->envs < 1 || s->envs > FRAG_ENVS_MAX)
        return 0;
    if ((uint64_t)s->steps * s->envs > FRAG_ROWS_MAX)
        return 0;
    if (s->obs_dim < 1 || s->obs_dim > 65536 || s->n_inputs < 1 || s->n_inputs > 65536)
        return 0;
    return lay_out(s, fields);
}

static void point(void *buffer, struct frag *f) {
    struct frag_header *h = buffer;
    char *base = buffer;

    f->header = h;
    f->obs = (float *)(base + h->fields[FRAG_OBS].offset);
    f->action = (int32_t *)(base + h->fields[FRAG_ACTION].offset);
    f->reward = (float *)(base + h->fields[FRAG_REWARD].offset);
    f->flags = (uint8_t *)(base + h->fields[FRAG_FLAGS].offset);
    f->logp = (float *)(base + h->fields[FRAG_LOGP].offset);
    f->inputs = (float *)(base + h->fields[FRAG_INPUTS].offset);
    f->value = (float *)(base + h->fields[FRAG_VALUE].offset);
    f->boot = (float *)(base + h->fields[FRAG_BOOT].offset);
    f->episode_reward = (double *)(base + h->fields[FRAG_EPISODE_REWARD].offset);
    f->episode_len = (int32_t *)(base + h->fields[FRAG_EPISODE_LEN].offset);
}

int frag_format(void *buffer, size_t bytes, const struct frag_shape *shape, struct frag *ret) {
    struct frag_header *h = buffer;
    uint64_t need = frag_bytes(shape);

    SKATE_ASSERT(buffer);
    if (need == 0 || bytes < need || ((uintptr_t)buffer & 7) != 0)
        return -SKATE_EINVAL;
    *h = (struct frag_header){ .version = FRAG_VERSION, .n_fields = FRAG_FIELDS, .bytes = need,
                               .shape = *shape };
    memcpy(h->magic, frag_magic, sizeof frag_magic);
    lay_out(shape, h->fields);
    point(buffer, ret);
    return 0;
}

int frag_open(void *buffer, size_t bytes, struct frag *ret) {
    struct frag_field expected[FRAG_FIELDS];
    struct frag_header *h = buffer;

    SKATE_ASSERT(buffer);
    if (bytes < sizeof *h || ((uintptr_t)buffer & 7) != 0)
        return -SKATE_EINVAL;
    if (memcmp(h->magic, frag_magic, sizeof frag_magic) != 0 || h->version != FRAG_VERSION ||
        h->n_fields != FRAG_FIELDS)
        return -SKATE_EINVAL;
    if (frag_bytes(&h->shape) == 0 || h->bytes != frag_bytes(&h->shape) || h->bytes > bytes)
        return -SKATE_EINVAL;
    lay_out(&h->shape, expected);
    if (memcmp(expected, h->fields, sizeof expected) != 0)
        return -SKATE_EINVAL;
    if (h->episodes > (uint64_t)h->shape.steps * h->shape.envs)
        return -SKATE_EINVAL;
    point(buffer, ret);
    return 0;
}

static int all_finite(const float *x, uint64_t n) {
    float sum = 0.0f;

    for (uint64_t i = 0; i < n; i++)
        sum += x[i] * 0.0f;     /* 0 for a finite number, NaN for any other */
    return isfinite(sum);
}

const char *frag_bad_field(const struct frag *f) {
    const struct frag_shape *s = &f->header->shape;
    uint64_t rows = (uint64_t)s->steps * s->envs;

    if (!all_finite(f->obs, rows * s->obs_dim))
        return "obs";
    if (!all_finite(f->reward, rows))
        return "reward";
    if (!all_finite(f->logp, rows))
        return "logp";
    if (!all_finite(f->inputs, rows * s->n_inputs))
        return "inputs";
    if (!all_finite(f->value, rows))
        return "value";
    if (!all_finite(f->boot, rows))
        return "boot";
    for (uint64_t i = 0; i < rows; i++)
        if (f->action[i] < 0 || (uint32_t)f->action[i] >= s->n_inputs)
            return "action";
    return NULL;
}
