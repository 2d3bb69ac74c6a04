/* core_frames.h - frames that are kept for later, and lists of them (pump.c). */
#ifndef SKATE_CORE_CORE_FRAMES_H
#define SKATE_CORE_CORE_FRAMES_H

#include <stdint.h>

struct frame_node { /* a frame kept for later */
    struct frame_node *next;
    uint64_t src;
    uint32_t len, sequence;
    uint8_t cls;
    int fds[3];
    uint64_t data[]; /* 8-byte aligned copy */
};
struct frame_list {
    struct frame_node *head, **tail;
    uint32_t count;
};

#endif
