/* fuzz_core_test.c - two seconds of tests/fuzz/fuzz_core.c. links: base wire sched own core. */
#include "../fuzz/fuzz_core.c"

#include "../fuzz/fuzz_plain.h"
