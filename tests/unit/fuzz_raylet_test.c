/* fuzz_raylet_test.c - two seconds of tests/fuzz/fuzz_raylet.c.
 * links: base loop wire net store sched own gcs gcsd raylet. */
#include "../fuzz/fuzz_raylet.c"

#include "../fuzz/fuzz_plain.h"
