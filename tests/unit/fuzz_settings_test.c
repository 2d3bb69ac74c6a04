/* fuzz_settings_test.c - two seconds of tests/fuzz/fuzz_settings.c.
 * links: base loop wire net store sched own gcs gcsd raylet. */
#include "../fuzz/fuzz_settings.c"

#include "../fuzz/fuzz_plain.h"
