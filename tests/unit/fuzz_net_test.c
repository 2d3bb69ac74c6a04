/* fuzz_net_test.c - two seconds of tests/fuzz/fuzz_net.c.
 * links: base loop wire sched net. */
#include "../fuzz/fuzz_net.c"

#include "../fuzz/fuzz_plain.h"
