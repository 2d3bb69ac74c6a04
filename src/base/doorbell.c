/* doorbell.c - see doorbell.h. */
#include "base/doorbell.h"

#include <limits.h>

#include "base/atomic.h"
#include "base/futex.h"

void bell_set(struct doorbell *bell, uint32_t bit) {
    uint32_t word = bit / 64 % (LIMIT_CHANNELS / 64);

    (void)at_or_seq(&bell->ready[word], UINT64_C(1) << bit % 64);
    (void)at_or_seq(&bell->summary, UINT64_C(1) << word);
}

void bell_ring(struct doorbell *peer, uint32_t bit, enum bell_class cls) {
    uint32_t word = bit / 64 % (LIMIT_CHANNELS / 64), leader, core;
    uint64_t mask = UINT64_C(1) << bit % 64;

    /* The fence orders our publish before the look: if the bit is still set, its owner has not
     * scanned since and will see what we published. */
    at_fence_seq();
    if (!(at_load(&peer->ready[word]) & mask)) bell_set(peer, bit);
    leader = at_load_seq(&peer->leader);
    if (leader == 1) return;
    if (leader >= 2) {
        if (leader == 2 || cls <= BELL_WANTED) {
            (void)at_add_seq(&peer->leader_bell, 1);
            futex_wake(&peer->leader_bell, 1);
        }
        return;
    }
    core = at_load_seq(&peer->core);
    if (core >= (uint32_t)cls) {
        (void)at_add_seq(&peer->core_bell, 1);
        futex_wake(&peer->core_bell, 1);
    }
}

int bell_next(struct doorbell *own) {
    for (;;) {
        uint64_t summary = at_load_seq(&own->summary), bits;
        int word, bit;

        if (!summary) return -1;
        word = __builtin_ctzll(summary);
        bits = at_load_seq(&own->ready[word]);
        if (!bits) {
            /* Clear the summary bit, then look again: a sender sets ready first. */
            (void)at_and_seq(&own->summary, ~(UINT64_C(1) << word));
            if (at_load_seq(&own->ready[word])) (void)at_or_seq(&own->summary, UINT64_C(1) << word);
            continue;
        }
        bit = __builtin_ctzll(bits);
        (void)at_and_seq(&own->ready[word], ~(UINT64_C(1) << bit));
        return word * 64 + bit;
    }
}

bool bell_any(const struct doorbell *own) { return at_load_seq(&own->summary) != 0; }
