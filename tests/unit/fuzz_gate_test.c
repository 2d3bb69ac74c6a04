/* fuzz_gate_test.c - two seconds of tests/fuzz/fuzz_gate.c.
 * links: base loop wire net store sched own gcs gcsd. */
#include "../fuzz/fuzz_gate.c"

#include "../fuzz/fuzz_plain.h"
