/* seq.h - cutting the steps of one lane into sequences of a fixed length (R2D2).
 *
 * A sequence never crosses the end of an episode. Its first `burn_in` places are context: the
 * sequences overlap by them, and the first of an episode (or of the lane) begins with `burn_in`
 * places of padding, so that each step is learned from exactly once.
 * Any thread, never blocks. Tests: tests/unit/rl_replay_test.c, tests/rl/test_replay.py. */
#ifndef SKATE_RL_REPLAY_SEQ_H
#define SKATE_RL_REPLAY_SEQ_H

#include <stddef.h>
#include <stdint.h>

struct seq_lane {
    const uint8_t *ends;        /* not 0: the last step of an episode */
    size_t steps, stride;       /* below 2^31 steps */
    uint32_t length, burn_in;   /* burn_in < length */
};

/* For each place of each sequence its step, or -1 for padding, into index[max][length]; how many
 * sequences there are (may be more than max: those are only counted). */
size_t seq_cut(const struct seq_lane *lane, int32_t *index, size_t max);

#endif
