/* doorbell.h - how a process is told that one of its inputs has something.
 *
 * One page per process, created by the raylet, mapped by all who send to it. The content is a
 * hint: a lost or forged ring costs at most one bounded sleep. Bit 0 stands for the raylet's
 * socket, bit n for the channel that the raylet numbered n.
 *
 * Two threads of a process may sleep: the leader (a thread inside get or wait) and the core
 * thread (when there is no leader). Classes of a frame: URGENT (steal, borrow, value request,
 * first call), WANTED (a result after which the worker has nothing left, or that refills), QUIET.
 * Sender: publish in the ring, bell_ring(). Receiver: store its state (seq_cst), scan, sleep. */
#ifndef SKATE_BASE_DOORBELL_H
#define SKATE_BASE_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

enum bell_class { BELL_URGENT = 1, BELL_WANTED = 2, BELL_QUIET = 3 };

struct doorbell {
    uint32_t leader;      /* 0 none; 1 awake; 2 asleep, wakes for all; 3 asleep, not for QUIET */
    uint32_t leader_bell; /* futex word */
    uint32_t core;        /* 0 awake; 1 asleep, URGENT only; 2 asleep, WANTED too */
    uint32_t core_bell;   /* futex word */
    uint8_t pad[48];
    uint64_t summary; /* bit w: word w of ready may be non-zero */
    uint8_t pad2[56];
    uint64_t ready[LIMIT_CHANNELS / 64];
};
_Static_assert(sizeof(struct doorbell) <= 4096, "one page");

/* Sender's side, after its publish. */
void bell_ring(struct doorbell *peer, uint32_t bit, enum bell_class cls);

/* Receiver: the next ready bit, cleared, or -1. Call until -1. */
int bell_next(struct doorbell *own);
/* Receiver: is any bit set? (seq_cst; for the look before a sleep) */
bool bell_any(const struct doorbell *own);
/* Receiver: set one of its own bits again (input left unread). */
void bell_set(struct doorbell *own, uint32_t bit);

#endif
