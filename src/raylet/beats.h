/* beats.h - the raylet's sign of life: a thread of its own beats to the GCS every 200 ms, on a
 * connection of its own, so that a main loop that is busy is not taken for a dead node.
 *
 * The thread shares with the raylet what is fixed at its start, a counter that the main loop
 * raises, and an eventfd. What it hears from the GCS (that this node was declared dead) is told to
 * the main loop. Tests: tests/unit/raylet_beats_test.c, tests/e2e/test_e2e_detection.py. */
#ifndef SKATE_RAYLET_BEATS_H
#define SKATE_RAYLET_BEATS_H

#include "base/id.h"
#include "loop/loop.h"
#include "net/conn.h"

struct beats;

struct beats_opts {
    struct loop *loop;          /* of the owner, who is told there */
    uint8_t key[NET_KEY_BYTES]; /* copied; wipe your own copy */
    char gcs_ip[16];
    uint16_t gcs_port;
    struct net_tls tls; /* its files are read by beats_new() */
    struct skate_id node_id;
    /* Once at most, from the owner's loop: the GCS has declared this node dead. */
    void (*on_convicted)(void *arg, const char *reason);
    void *arg;
};

/* Prepare it (no thread yet). 0, -SKATE_ENOMEM, -SKATE_ESYS. */
SKATE_NODISCARD int beats_new(const struct beats_opts *opts, struct beats **ret);
/* The GCS has given us a number: beat from now on. 0 or -SKATE_ENOMEM. */
SKATE_NODISCARD int beats_start(struct beats *b, uint32_t node);
/* The owner's loop has come round: at least once a second. NULL is fine. */
void beats_turn(struct beats *b);
/* The highest epoch of a GCS that was seen. NULL is fine. */
void beats_epoch(struct beats *b, uint64_t epoch);
/* Waits for the thread. NULL is fine; NULL back. */
struct beats *beats_free(struct beats *b);

#endif
