/* fuzz_env_test.c - two seconds of tests/fuzz/fuzz_env.c.
 * links: base wire sched rl. */
#include "../fuzz/fuzz_env.c"

#include "../fuzz/fuzz_plain.h"
