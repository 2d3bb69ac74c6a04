/* core_side.c - one core on the rig of tests/fuzz/fuzz_core.c, and frames to it as its raylet
 * passes them: what core_hostile_test.c and core_sweep_test.c share. */
#include "../fuzz/fuzz_core.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/futex.h"

#define HEAD(type, kind_)                                                                      \
    {.size = sizeof(struct type), .kind = (kind_), .fixed = sizeof(struct type)}

static struct side *rig;

static int start_driver(void **state) {
    (void)state;
    rig = side_new(true);
    return 0;
}

static int stop(void **state) {
    (void)state;
    side_free(rig);
    return 0;
}

static void said(const void *frame, uint32_t len) { /* by the raylet */
    send_fds(rig->sock, frame, len, NULL, 0);
    bell_ring(rig->bell, 0, BELL_URGENT);
}

/* By another process: the raylet passes it on. */
static void routed(uint64_t src, const void *frame, uint32_t len) {
    struct wire_buf b;
    struct wire_route *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ROUTE);
    m->dst = SELF;
    m->src = src;
    WIRE_PUT(&b, route, frame, frame, len);
    assert_int_equal(wire_end(&b), 0);
    said(b.p, b.len);
    wire_release(&b);
}
