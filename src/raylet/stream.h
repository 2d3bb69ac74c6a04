/* stream.h - frames and descriptors over a Unix stream socket, never blocking the loop.
 *
 * Descriptors belong to the frame whose head.nfds counts them, and travel with its first byte.
 * What the other side sends as descriptors is refused by the kernel (no room is offered), and a
 * frame of its that claims some breaks the protocol.
 * Loop thread only. A callback may call stream_close() on its own stream.
 * Tests: tests/unit/raylet_stream_test.c. */
#ifndef SKATE_RAYLET_STREAM_H
#define SKATE_RAYLET_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

struct stream;

/* Queued on one stream; on all of them, beyond which each may have FAIR bytes only. */
enum { STREAM_QUEUE_MAX = 256 << 20, STREAM_ALL_MAX = 1 << 30, STREAM_FAIR = 1 << 20 };
enum { STREAM_FDS_MAX = 4 };

struct stream_events {
    /* A whole frame that wire_check() accepts, 8-byte aligned, gone when this returns. */
    void (*on_frame)(void *arg, const void *frame, uint32_t len);
    /* The end: the peer closed (-SKATE_EDEAD), broke the protocol (-SKATE_EPROTO) or memory is
     * out. The stream is still there and silent: call stream_close(). */
    void (*on_close)(void *arg, int code);
    /* Queued bytes went out by themselves, after stream_send() had returned. May be NULL. */
    void (*on_written)(void *arg);
};

/* Takes fd on success. -SKATE_ENOMEM, -SKATE_ESYS. `events` is borrowed. */
SKATE_NODISCARD int stream_new(struct loop *l, int fd, const struct stream_events *events,
                               void *arg, struct stream **ret);
void stream_set_arg(struct stream *s, const struct stream_events *events, void *arg);
/* Queue a frame; descriptors are duplicated when they cannot go at once. -SKATE_EFULL: the peer
 * does not read (nothing queued); -SKATE_EDEAD; -SKATE_ENOMEM. */
SKATE_NODISCARD int stream_send(struct stream *s, const void *frame, uint32_t len,
                                const int *fds, uint32_t fd_count);
uint64_t stream_pending(const struct stream *s);
/* The largest frame it may send us (at first LIMIT_FRAME_BYTES): small for who is not known yet. */
void stream_limit(struct stream *s, uint32_t bytes);
/* Read and deliver what is there now (the peer is dead; its last words count); not for ever, when
 * a child of the dead one still writes. */
void stream_drain(struct stream *s);
/* End it; closes the descriptor. NULL is fine. */
void stream_close(struct stream *s);

#endif
