/* limits.h - every hard limit of the system, with its reason. */
#ifndef SKATE_BASE_LIMITS_H
#define SKATE_BASE_LIMITS_H

enum {
    LIMIT_RING_BYTES = 64 * 1024,   /* one direction of a channel: about 128 task frames */
    LIMIT_RING_FRAME = 4096,        /* larger frames travel as INDIRECT through an extent */
    LIMIT_INLINE_VALUE = 2048,      /* larger values become arena objects: a frame holds one */
    LIMIT_CHANNELS = 4096,          /* ready bits in a doorbell page */
    LIMIT_SLOT_BYTES = 64 * 1024,   /* larger objects are copied without the mutex */
    LIMIT_EXTENT_BYTES = 4 << 20,   /* a lent extent for small objects */
    LIMIT_FRAME_BYTES = 512 << 20,  /* one frame on a socket (class blobs, routed values) */
    LIMIT_CHUNK_BYTES = 1 << 20,    /* one piece of a pull between nodes */
    LIMIT_RETURNS = 65534,          /* index field of an id */
    LIMIT_DEPTH = 128,              /* tasks pushed to one worker and not answered */
};

#endif
