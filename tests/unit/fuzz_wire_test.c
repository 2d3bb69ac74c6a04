/* fuzz_wire_test.c - two seconds of tests/fuzz/fuzz_wire.c. links: base wire sched. */
#include "../fuzz/fuzz_wire.c"

#include "../fuzz/fuzz_plain.h"
