/* fuzz_ring_test.c - two seconds of tests/fuzz/fuzz_ring.c. links: base wire sched. */
#include "../fuzz/fuzz_ring.c"

#include "../fuzz/fuzz_plain.h"
