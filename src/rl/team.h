/* team.h - a few threads that run one function together, and the barrier they meet at.
 *
 * team_run() is called by the owner, who is rank 0; the helpers sleep between runs. Helpers block
 * all signals. A team does not survive fork(): the child gets -SKATE_EFORKED.
 * Tests: tests/unit/rl_team_test.c. */
#ifndef SKATE_RL_TEAM_H
#define SKATE_RL_TEAM_H

#include <stdint.h>

#include "base/err.h"

enum { TEAM_MAX = 64 };

struct team;

/* `size` threads, the caller included, 1..TEAM_MAX. -SKATE_EINVAL, -SKATE_ENOMEM, -SKATE_ESYS. */
SKATE_NODISCARD int team_new(int size, struct team **ret);
struct team *team_free(struct team *t);
int team_size(const struct team *t);

/* Run fn(arg, rank) on each member and return when all are done. */
SKATE_NODISCARD int team_run(struct team *t, void (*fn)(void *arg, int rank), void *arg);

/* A barrier for a fixed number of threads: spins, then yields. Everything written before it by
 * any of them is seen after it by all. */
struct team_barrier {
    uint32_t size, arrived, round;
};
void team_barrier_init(struct team_barrier *b, int size);
void team_barrier_wait(struct team_barrier *b);

#endif
