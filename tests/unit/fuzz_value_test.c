/* fuzz_value_test.c - two seconds of tests/fuzz/fuzz_value.c.
 * links: base loop wire store sched own core arrow api. */
#include "../fuzz/fuzz_value.c"

#include "../fuzz/fuzz_plain.h"
