/* fuzz_tls_test.c - two seconds of tests/fuzz/fuzz_tls.c.
 * links: base loop wire sched net. */
#include "../fuzz/fuzz_tls.c"

#include "../fuzz/fuzz_plain.h"
