/* near.h - chunks between two raylets of one machine: through memory that both map.
 *
 * The receiver makes a small memory file of SLOTS places for chunks and tells the sender, on their
 * authenticated connection, where it is and a secret that lies in it; who can open it and finds the
 * secret is on the same machine, and may. A chunk is then copied into the place that was named when
 * it was asked for, and the answer, sealed as ever, says only that it is there. A place is used
 * again when it was answered, and the file ends with the connection, so a late sender harms
 * nothing. All else, and chunks without a place, go over the connection. Loop thread; never blocks.
 * Tests: tests/unit/raylet_pulls_test.c, tests/e2e/test_e2e_pulls.py. */
#ifndef SKATE_RAYLET_NEAR_H
#define SKATE_RAYLET_NEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/wire_gen.h"

enum { NEAR_SLOTS = 32, NEAR_CHUNK = 256 * 1024 };

struct near;

/* Receiver: make one, and say in *ret how it is found. NULL: not possible, do without. */
struct near *near_offer(struct wire_bulk_near *ret);
/* The sender has it: places can be named from now on. */
void near_agreed(struct near *n);
/* A free place, to be given back; 0: none now, or n is NULL or not agreed upon. */
uint32_t near_take(struct near *n);
bool near_is_used(const struct near *n); /* agreed upon */
void near_give(struct near *n, uint32_t place); /* anything that is not taken: ignored */
/* What lies in a place that was taken; NULL: it was not. */
const uint8_t *near_at(const struct near *n, uint32_t place);

/* Sender: map what was offered. NULL: it is not there, or not that. */
struct near *near_open(const struct wire_bulk_near *m);
/* Where to write a chunk; NULL: no such place, or too large for it. */
uint8_t *near_room(struct near *n, uint32_t place, uint64_t bytes);

/* Once a second: the memory of places that nobody used since is given back. */
void near_beat(struct near *n);
struct near *near_free(struct near *n); /* NULL is fine; NULL back */

#endif
