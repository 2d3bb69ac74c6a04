/* episodes.h - which rows of a replay ring are one episode, and hindsight goals (HER).
 *
 * The caller adds the rows of whole episodes to a struct replay of the same capacity and says
 * their lengths here; an episode of which a row has been overwritten is forgotten. Steps are drawn
 * uniformly; a hindsight goal is a later step of the same episode (the strategy "future" of
 * Andrychowicz et al. 2017). One owner, no locks, never blocks.
 * Tests: tests/unit/rl_replay_test.c, tests/rl/test_replay.py. */
#ifndef SKATE_RL_REPLAY_EPISODES_H
#define SKATE_RL_REPLAY_EPISODES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rl/rl_rng.h"

struct episodes;

/* capacity: rows of the ring, 1 to 2^31. -SKATE_EINVAL, -SKATE_ENOMEM. */
SKATE_NODISCARD int episodes_new(uint64_t capacity, uint64_t seed, struct episodes **ret);
struct episodes *episodes_free(struct episodes *e);
/* The next `length` rows of the ring are an episode. -SKATE_EINVAL: 0, or more than the ring. */
SKATE_NODISCARD int episodes_add(struct episodes *e, uint32_t length);
uint32_t episodes_count(const struct episodes *e);      /* whole ones */
uint64_t episodes_steps(const struct episodes *e);      /* of all of them */
/* n episodes, uniformly, with replacement: first row and length of each; the rows of one follow
 * each other in the ring (after the last comes row 0). -SKATE_EINVAL: there is none. */
SKATE_NODISCARD int episodes_draw(struct episodes *e, uint32_t n, uint32_t *rows,
                                  uint32_t *lengths);
/* n steps, uniformly. goals[i] is rows[i]'s goal: with probability share the row of a step from
 * rows[i] to the end of its episode, else UINT32_MAX (its own goal). share = k / (k + 1) for k
 * hindsight goals to one real. -SKATE_EINVAL: no episode, share not in 0 to 1. */
SKATE_NODISCARD int episodes_hindsight(struct episodes *e, uint32_t n, double share,
                                       uint32_t *rows, uint32_t *goals);

#endif
