/* replay.h - the replay buffer: rows of columns in a ring, drawn uniformly or by priority.
 *
 * A buffer is laid out once: named columns with their bytes a row. replay_add() copies rows in,
 * over the oldest when it is full. replay_draw() picks row numbers, replay_gather() copies rows of
 * one column out. A row's number is its place in the ring; replay_age() tells whether it is still
 * the row it was. Priorities live in a 16-ary sum tree with a min tree beside it: O(log16 n) each,
 * drawn stratified (Schaul et al. 2016). Sequences (R2D2) are rows of `steps` steps.
 * One owner, no locks, never blocks. Tests: tests/unit/rl_replay_test.c, tests/rl/test_replay.py;
 * speed: bench/rl/replay.py. */
#ifndef SKATE_RL_REPLAY_REPLAY_H
#define SKATE_RL_REPLAY_REPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rl/rl_rng.h"

enum { REPLAY_COLS_MAX = 24, REPLAY_NAME_BYTES = 24 };

struct replay_col {
    char name[REPLAY_NAME_BYTES];
    uint32_t bytes;             /* of one row */
};

struct replay_opts {
    uint64_t capacity;          /* rows, 1 to 2^31 */
    int n_cols;
    struct replay_col cols[REPLAY_COLS_MAX];
    double alpha;               /* 0: uniform, no tree */
    uint64_t seed;
};

struct replay;

/* Memory is touched as rows come. -SKATE_EINVAL, -SKATE_ENOMEM. */
SKATE_NODISCARD int replay_new(const struct replay_opts *opts, struct replay **ret);
struct replay *replay_free(struct replay *r);
uint64_t replay_size(const struct replay *r);       /* rows in it */
uint64_t replay_added(const struct replay *r);      /* rows ever added */
/* Rows added after this one: 0 is the newest; UINT64_MAX: there is none. */
uint64_t replay_age(const struct replay *r, uint32_t row);

/* `rows` rows; columns[i] is the dense array of column i. Priorities are NULL (the greatest so
 * far, 1 at first) or one a row, before the power of alpha. -SKATE_EINVAL: not finite, not > 0. */
SKATE_NODISCARD int replay_add(struct replay *r, const void *const *columns, uint64_t rows,
                               const float *priorities);

/* n row numbers, with replacement. With priorities: stratified, and weights (n / beta as in the
 * paper, divided by the greatest possible) if `weights` is not NULL. -SKATE_EINVAL: empty. */
SKATE_NODISCARD int replay_draw(struct replay *r, uint32_t n, double beta, uint32_t *rows,
                                float *weights);
SKATE_NODISCARD int replay_gather(const struct replay *r, int col, const uint32_t *rows,
                                  uint32_t n, void *ret);
/* |error| + 1e-6 is usual. -SKATE_EINVAL: a row that is not there, not finite, not > 0. */
SKATE_NODISCARD int replay_update(struct replay *r, const uint32_t *rows,
                                  const float *priorities, uint32_t n);

/* Everything, for checkpoints. -SKATE_EINVAL: another layout or a damaged block; the buffer is
 * then as it was. */
size_t replay_state_bytes(const struct replay *r);
void replay_get_state(const struct replay *r, void *block);
SKATE_NODISCARD int replay_set_state(struct replay *r, const void *block, size_t bytes);

#endif
