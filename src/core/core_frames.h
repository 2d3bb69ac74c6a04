/* core_frames.h - frames kept for later (pump.c), and paths to other processes (link.c). */
#ifndef SKATE_CORE_CORE_FRAMES_H
#define SKATE_CORE_CORE_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/doorbell.h"
#include "base/map.h"
#include "base/ring.h"

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

struct worker;

enum link_state { LINK_NEW, LINK_ASKED, LINK_OPEN, LINK_ROUTED, LINK_DEAD };

struct link { /* the path to one other process */
    uint64_t proc;
    enum link_state state;
    struct ring out, in;
    void *channel;
    struct doorbell *bell; /* the peer's */
    uint32_t my_bit, peer_bit;
    struct frame_list backlog; /* not yet on the ring */
    struct link *next_backlog;
    uint32_t sequence;         /* of the last task put on the ring */
    struct map functions;      /* keys already sent */
    uint64_t function_sent;    /* one of them, 0: none */
    uint32_t arena_live;       /* entries of ours whose bytes this process holds */
    uint32_t arena_told;       /* dead: how many of them its raylet knows of */
    struct worker *lease;      /* its worker, when we lease it or call the actor in it */
    uint32_t queued_runs;      /* its unstarted tasks here (we are the worker) */
    bool in_backlog, extents_done, needed; /* needed: of sweep.c alone */
    uint64_t heir;             /* dead: who owns now what others held of it; 0: nobody */
    struct id_list *orphans;   /* its tasks that we are to finish though it is dead */
    char *death;               /* why it died, once it did */
    bool node_lost;            /* with its whole node */
    uint32_t cause;            /* of its death, as in proc_died */
};

#endif
