/* kern_base.c - the kernels for the baseline CPU (x86-64-v2, or whatever the build targets).
 * See kern.h. Any thread; never blocks. Tests: rl_kern_test.c. */
#include "rl/kern_body.h"

const struct kern_table kern_table_base = KERN_TABLE("base");
