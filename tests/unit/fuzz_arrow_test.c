/* fuzz_arrow_test.c - two seconds of tests/fuzz/fuzz_arrow.c.
 * links: base loop wire sched arrow. */
#include "../fuzz/fuzz_arrow.c"

#include "../fuzz/fuzz_plain.h"
