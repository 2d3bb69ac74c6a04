/* core_side.c - one core on the rig of tests/fuzz/fuzz_core.c, and frames to it as its raylet
 * passes them: what core_hostile_test.c and core_sweep_test.c share. */
#include "../fuzz/fuzz_core.c"

#include <errno.h>
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

/* By the raylet, which rings for each piece that the socket takes: nobody waits for a timer. */
static void said(const void *frame, uint32_t len) {
    struct pollfd p = {rig->sock, POLLOUT, 0};

    for (uint32_t at = 0; at < len;) {
        ssize_t n = send(rig->sock, (const uint8_t *)frame + at, len - at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        bell_ring(rig->bell, 0, BELL_URGENT);
        if (n > 0)
            at += (uint32_t)n;
        else if (n == 0 || errno != EAGAIN)
            return;
        else
            (void)poll(&p, 1, 10);
    }
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
