/* fuzz_helper_test.c - two seconds of tests/fuzz/fuzz_helper.c.
 * links: base loop wire net store sched own gcs raylet. */
#include "../fuzz/fuzz_helper.c"

#include "../fuzz/fuzz_plain.h"
