/* gcs_rig.h - what the tests of the control store share: make frames, give them, look at what was
 * sent. Included by one test program each; a link of a test has its node's number. */
#ifndef SKATE_TESTS_GCS_RIG_H
#define SKATE_TESTS_GCS_RIG_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gcs/gcs.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

#define RIG __attribute__((unused)) static

enum { SECOND = 1000000000 };

static struct gcs *g;
static struct gcs_out out;
static int64_t now;

RIG int start(void **state) {
    struct gcs_opts opts = {.actors_max = 8, .dead_max = 3, .subs_max = 12, .kv_bytes = 1000,
                            .spec_bytes = 100000, .jobs_max = 3, .nodes_max = 4};

    (void)state;
    now = SECOND;
    return gcs_new(&opts, &g);
}

RIG int stop(void **state) {
    (void)state;
    g = gcs_free(g);
    gcs_out_release(&out);
    return 0;
}

RIG void event(enum gcs_event_kind kind, uint64_t link, const void *frame, uint32_t len) {
    struct gcs_event e = {.kind = kind, .link = link, .frame = frame, .len = len,
                          .text = "cable cut", .peer_ip = "10.0.0.9"};

    gcs_step(g, &e, now, &out);
}

/* As the daemon does it: checked, then given. src 0: plainly from the raylet. */
RIG void give(uint64_t link, uint64_t src, struct wire_buf *b) {
    assert_int_equal(wire_end(b), 0);
    assert_int_equal(wire_check(b->p, b->len), 0);
    if (src) {
        struct wire_buf r;
        struct wire_route *m;

        wire_init(&r, NULL, 0);
        m = wire_begin(&r, WIRE_ROUTE);
        m->dst = SKATE_GCS;
        m->src = src;
        WIRE_PUT(&r, route, frame, b->p, b->len);
        assert_int_equal(wire_end(&r), 0);
        event(GCS_FRAME, link, r.p, r.len);
        wire_release(&r);
    } else
        event(GCS_FRAME, link, b->p, b->len);
    wire_release(b);
}

/* The nth frame of a kind that goes to `to`: a link (below 1000) or a process. NULL: none. */
RIG const void *sent_nth(uint64_t to, uint16_t kind, uint32_t nth) {
    for (uint32_t i = 0; i < out.count; i++) {
        const void *frame = out.bytes + out.sends[i].at;
        uint64_t dst = out.sends[i].link;

        if (out.sends[i].close) continue;
        assert_int_equal(wire_check(frame, out.sends[i].len), 0);
        if (wire_head(frame)->kind == WIRE_ROUTE && to >= 1000) {
            const struct wire_route *m = frame;
            uint32_t len;

            frame = wire_route_frame(m, &len);
            assert_int_equal(wire_check(frame, len), 0);
            assert_int_equal(m->src, SKATE_GCS);
            assert_int_equal(proc_node(m->dst), dst); /* test links have their node's number */
            dst = m->dst;
        }
        if (dst == to && wire_head(frame)->kind == kind && nth-- == 0) return frame;
    }
    return NULL;
}

RIG const void *sent(uint64_t to, uint16_t kind) { return sent_nth(to, kind, 0); }

RIG bool closed(uint64_t link) {
    for (uint32_t i = 0; i < out.count; i++)
        if (out.sends[i].close && out.sends[i].link == link) return true;
    return false;
}

/* Position of a frame among the sends, for order. */
RIG uint32_t place_of(const void *frame) {
    for (uint32_t i = 0; i < out.count; i++) {
        const uint8_t *p = out.bytes + out.sends[i].at;

        if ((const uint8_t *)frame >= p && (const uint8_t *)frame < p + out.sends[i].len) return i;
    }
    fail();
    return 0;
}

RIG size_t pack(const char *name, double amount, uint8_t *p, size_t cap) {
    struct resources r = {0};

    if (amount > 0) assert_int_equal(resources_set(&r, name, (int64_t)(amount * 10000)), 0);
    return resources_pack(&r, p, cap);
}

#define HAS_TEXT(frame, message, field, text)                                                  \
    do {                                                                                       \
        uint32_t n_;                                                                           \
        const void *p_ = wire_##message##_##field((frame), &n_);                               \
        char buf_[600];                                                                        \
        snprintf(buf_, sizeof buf_, "%.*s", (int)n_, (const char *)p_);                        \
        if (!strstr(buf_, (text))) fail_msg("'%s' is not in '%s'", (text), buf_);              \
    } while (0)

RIG void join_as(uint64_t link, uint64_t id, double cpus, bool head, uint32_t version) {
    uint8_t packed[200];
    struct wire_buf b;
    struct wire_node_register *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){id, 1};
    m->version = version;
    m->is_head = head;
    m->port = 4000 + (uint32_t)link;
    WIRE_PUT(&b, node_register, name, "nodename", 8);
    WIRE_PUT(&b, node_register, resources, packed, pack("CPU", cpus, packed, sizeof packed));
    give(link, 0, &b);
}

RIG void join(uint64_t link, double cpus) {
    const struct wire_node_welcome *w;

    join_as(link, 100 + link, cpus, link == 1, WIRE_VERSION);
    w = sent(link, WIRE_NODE_WELCOME);
    assert_non_null(w);
    assert_int_equal(w->status, 0);
    assert_int_equal(w->node, link);
}

RIG void report(uint64_t link, double cpus) {
    uint8_t packed[200];
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_REPORT);
    WIRE_PUT(&b, node_report, available, packed, pack("CPU", cpus, packed, sizeof packed));
    give(link, 0, &b);
}

/* The driver and a worker of node 1. */
#define DRIVER proc_make(1, 5)
#define WORKER proc_make(1, 6)

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

#endif
