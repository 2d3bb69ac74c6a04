/* store_counts.h - what a node's object store has done and holds: plain numbers.
 *
 * One struct in the raylet (`counts`), grown by whoever does the thing: pulls.c, inbox.c, what
 * spills. store_stats.c tells it to those who ask. Value types; pure; the clock is the caller's;
 * never blocks. Tests: store_extents_test.c. */
#ifndef SKATE_STORE_STORE_COUNTS_H
#define SKATE_STORE_STORE_COUNTS_H

#include <stdint.h>

enum { STORE_SAMPLES = 11, STORE_WAITS = 240 };

struct store_counts {
    /* Now. Bytes. Who does not know one leaves it 0. */
    uint64_t spilled;   /* out of memory: their bytes lie in spill files only */
    uint64_t in_files;  /* mapped from files, since they can never fit */
    uint64_t lost;      /* of damaged or missing spill records */
    uint64_t waiting;   /* requests for room that wait */
    /* Since the start. */
    uint64_t spills, spilled_bytes, spill_ns;       /* writes, their bytes and time */
    uint64_t restores, restored_bytes, restore_ns;
    uint64_t evictions, evicted_bytes;              /* copies that nobody held, dropped */
    uint64_t pulls, pulled_bytes;                   /* copies that came from other nodes */
    uint64_t failures;       /* of spill I/O: errors and damaged records */
    uint64_t waits, refused; /* requests that waited; that ended with EFULL */
    char waits_for[STORE_WAITS]; /* why the oldest of them waits; "" */
};

/* Totals of the last seconds, for rates. */
struct store_sample {
    int64_t at_ns;
    uint64_t spilled, restored, evicted, pulled;
};
struct store_history {
    struct store_sample v[STORE_SAMPLES];
    uint32_t written;
};
/* Bytes a second over the samples' time; 0 when there is nothing to compare with. */
struct store_rates {
    uint64_t spill, restore, evict, pull;
};

static inline struct store_sample store_sample_of(const struct store_counts *c, int64_t now_ns) {
    return (struct store_sample){.at_ns = now_ns, .spilled = c->spilled_bytes,
                                 .restored = c->restored_bytes, .evicted = c->evicted_bytes,
                                 .pulled = c->pulled_bytes};
}

/* To be called about once a second. */
static inline void store_history_add(struct store_history *h, const struct store_counts *c,
                                     int64_t now_ns) {
    h->v[h->written++ % STORE_SAMPLES] = store_sample_of(c, now_ns);
}

static inline uint64_t store_rate(uint64_t before, uint64_t now, int64_t ns) {
    return now > before ? (uint64_t)((double)(now - before) * 1e9 / (double)ns) : 0;
}

/* Since the oldest sample. */
static inline struct store_rates store_rates_of(const struct store_history *h,
                                                const struct store_counts *c, int64_t now_ns) {
    uint32_t first = h->written > STORE_SAMPLES ? h->written % STORE_SAMPLES : 0;
    struct store_sample now = store_sample_of(c, now_ns);
    const struct store_sample *old = &h->v[first];
    int64_t ns = now_ns - old->at_ns;

    if (h->written == 0 || ns <= 0) return (struct store_rates){0};
    return (struct store_rates){store_rate(old->spilled, now.spilled, ns),
                                store_rate(old->restored, now.restored, ns),
                                store_rate(old->evicted, now.evicted, ns),
                                store_rate(old->pulled, now.pulled, ns)};
}

#endif
