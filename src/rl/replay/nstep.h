/* nstep.h - n-step returns of one lane of an environment's steps, over ends of episodes.
 *
 * A step's return sums the next n rewards, discounted, and stops at an end of the episode or at
 * the end of what there is (a fragment's last steps get fewer than n). What comes after is valued
 * at the observation after the last step summed, times `discount` = gamma^steps summed.
 * Any thread, never blocks. Tests: tests/unit/rl_replay_test.c, tests/rl/test_replay.py. */
#ifndef SKATE_RL_REPLAY_NSTEP_H
#define SKATE_RL_REPLAY_NSTEP_H

#include <stddef.h>
#include <stdint.h>

struct nstep_lane {
    const float *rewards;
    const uint8_t *ends;        /* not 0: the episode ended with this step, in whichever way */
    size_t steps, stride;       /* items from one step to the next, in all five arrays */
    float *returns, *discounts; /* out; returns may be rewards */
    uint32_t *last;             /* out: the step whose new_obs and ends the return stops at */
};

void nstep_lane(const struct nstep_lane *lane, int n, float gamma);

#endif
