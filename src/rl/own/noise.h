/* noise.h - the shared noise table of evolution strategies, without the table.
 *
 * A position in a table of standard normal numbers names a direction in parameter space, so that
 * workers tell each other positions instead of directions. Every number is computed from (seed,
 * position) when it is asked for: the table needs no memory, no time at start and never differs
 * between processes or machines (plain arithmetic, no libm). Any thread; never blocks.
 * Tests: tests/unit/rl_noise_test.c. */
#ifndef SKATE_RL_OWN_NOISE_H
#define SKATE_RL_OWN_NOISE_H

#include <stddef.h>
#include <stdint.h>

/* to[i] = table[position + i] */
void noise_read(uint64_t seed, uint64_t position, float *to, size_t n);
/* to[i] += scale * table[position + i] */
void noise_add(uint64_t seed, uint64_t position, float scale, float *to, size_t n);

#endif
