/* fuzz_spill_test.c - two seconds of tests/fuzz/fuzz_spill.c. links: base wire sched store. */
#include "../fuzz/fuzz_spill.c"

#include "../fuzz/fuzz_plain.h"
