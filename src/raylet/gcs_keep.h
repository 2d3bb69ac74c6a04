/* gcs_keep.h - what this node has said to the GCS and may have to say again.
 *
 * Frames in the order in which they were said. One that asks for an answer (src, call) stays until
 * the answer has passed; any other until the GCS has it for good (lane_got). After a break all that
 * is left is sent again, marked WIRE_AGAIN. Bounded by bytes. Loop thread; never blocks.
 * Tests: tests/unit/raylet_gcs_keep_test.c. */
#ifndef SKATE_RAYLET_GCS_KEEP_H
#define SKATE_RAYLET_GCS_KEEP_H

#include <stdbool.h>

#include "store/table.h"

struct kept {
    struct kept *next, *prev;
    uint64_t src, no; /* no: its place on this connection; 0: not sent on it */
    uint32_t call, len;
    bool before;   /* sent on an earlier connection */
    bool waiting;  /* the GCS has it, the answer is missing: in `asked` */
    bool answered; /* only its place is waited for */
    uint64_t data[];
};
struct kept_list {
    struct kept *first, *last;
};
struct gcs_keep { /* zeroed: empty */
    struct kept_list asked, sent; /* asked: got, not answered; older than all of `sent` */
    struct kept *unsent;          /* the first of `sent` that was not sent yet */
    struct table calls;           /* src, call -> struct kept */
    uint64_t numbers, bytes, bytes_max;
};

/* Keep a copy. call 0: no answer is awaited. -SKATE_EFULL, -SKATE_ENOMEM. */
SKATE_NODISCARD int gcs_keep_add(struct gcs_keep *k, const void *frame, uint32_t len, uint64_t src,
                                 uint32_t call);
/* k->unsent went out. */
void gcs_keep_sent(struct gcs_keep *k);
/* The GCS has the first `count` of this connection for good. */
void gcs_keep_got(struct gcs_keep *k, uint64_t count);
void gcs_keep_answered(struct gcs_keep *k, uint64_t src, uint32_t call);
/* A new connection: all of it is to be sent. */
void gcs_keep_again(struct gcs_keep *k);
/* Nobody waits for the answers to `src` any more. */
void gcs_keep_forget(struct gcs_keep *k, uint64_t src);
void gcs_keep_release(struct gcs_keep *k);

#endif
