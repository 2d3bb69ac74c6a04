/* lend.h - a driver that holds cores of its own beside a shared node (raylet/lent.h) says when it
 * waits in get() or wait(), so that the node may use them meanwhile. Off unless asked for.
 * core_lend: any thread, never blocks. Tests: tests/e2e/test_lent_cores.py. */
#ifndef SKATE_CORE_LEND_H
#define SKATE_CORE_LEND_H

#include <stdbool.h>

struct core;
void core_lend(struct core *c, bool on);

#endif
