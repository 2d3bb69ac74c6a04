/* fuzz_peer_test.c - two seconds of tests/fuzz/fuzz_peer.c.
 * links: base loop wire net store sched own gcs gcsd raylet. */
#include "../fuzz/fuzz_peer.c"

#include "../fuzz/fuzz_plain.h"
