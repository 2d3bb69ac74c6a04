/* fuzz_gcs_test.c - two seconds of tests/fuzz/fuzz_gcs.c. links: base wire sched gcs. */
#include "../fuzz/fuzz_gcs.c"

#include "../fuzz/fuzz_plain.h"
