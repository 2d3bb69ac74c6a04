/* rejoin.h - a node that was declared dead, wrongly or late, starts anew in the same process.
 *
 * What ran here is over: others have taken it on. The workers end, then the program is executed
 * again in place: same process id, same lifeline, same settings (from a memory file of its own,
 * since the line on stdin is long read), another node id, and a new number from the GCS. Drivers
 * of this node hear why, lose their connection, and get LocalRayletDiedError.
 * Tests: tests/e2e/test_e2e_detection.py, tests/unit/raylet_rejoin_test.c. */
#ifndef SKATE_RAYLET_REJOIN_H
#define SKATE_RAYLET_REJOIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct raylet;

/* What main() was called with: nothing, or what node_rejoin() gave. */
struct rejoin {
    int settings_fd; /* where the line of settings is read from; 0: stdin */
    bool again;      /* this is not the first start of this process */
    uint64_t epoch;  /* of the latest GCS that was seen */
};
SKATE_NODISCARD int rejoin_args(int argc, char *const *argv, struct rejoin *ret);

/* A memory file with this line of settings, closed by exec; or -SKATE_ESYS. */
SKATE_NODISCARD int rejoin_keep(const char *line, uint64_t len);
/* Write the arguments for exec; fd: of the memory file, open across it. */
enum { REJOIN_ARGS = 4, REJOIN_ARG = 24 };
void rejoin_argv(int fd, uint64_t epoch, char room[REJOIN_ARGS][REJOIN_ARG],
                 char *ret[REJOIN_ARGS + 1]);

/* Start anew; a private session, and an outpost, end instead. Never returns. */
__attribute__((noreturn)) void node_rejoin(struct raylet *r, const char *why);

#endif
