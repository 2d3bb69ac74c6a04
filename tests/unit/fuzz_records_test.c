/* fuzz_records_test.c - two seconds of tests/fuzz/fuzz_records.c.
 * links: base loop wire sched gcs. */
#include "../fuzz/fuzz_records.c"

#include "../fuzz/fuzz_plain.h"
