/* fuzz_ring.c - the reader of a ring against a writer that owns the shared memory and keeps to
 * nothing: heads that jump, go back or are not aligned, records of any size, ends of ring that are
 * none, counters that were there before us, a thread that scribbles while we read. And the writer's
 * side against a reader whose tail lies. Nothing outside the ring is read or written (the channel
 * is exactly as large as it must be), what comes out fits the buffer, and a ring to which nobody
 * adds runs dry. */
#include "fuzz.h"

#include <pthread.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "base/ring.h"

enum { STORM = 2000, GUARD = 0x5a, MOST_FRAMES = LIMIT_RING_BYTES / 16 + 1 };

static struct {
    struct ring in, out, writer; /* ours; writer: of a peer that knows how it should be done */
    struct ring_shared *rings;
    uint32_t sequence, storm;
    bool broken;
} at;

static void attach(void) {
    struct ring unused;

    ring_attach(&at.out, &at.in, at.rings, 0);
    ring_attach(&at.writer, &unused, at.rings, 1);
    at.broken = false;
}

static void fresh(void) {
    memset(at.rings, 0, CHANNEL_BYTES);
    attach();
}

/* Like link_drain(): a corrupt ring is given up. How many frames it took. */
static uint32_t drain(void) {
    static uint64_t buf[LIMIT_RING_FRAME / 8 + 8];
    uint32_t taken = 0, sequence;
    int n;

    memset(buf + LIMIT_RING_FRAME / 8, GUARD, 64);
    while (!at.broken && taken <= MOST_FRAMES && (n = ring_take(&at.in, buf, &sequence)) != 0) {
        taken++;
        if (n > LIMIT_RING_FRAME) abort();
        if (n < 0 || wire_check(buf, (size_t)n) < 0) at.broken = true;
    }
    for (int i = 0; i < 64; i++)
        if (((uint8_t *)(buf + LIMIT_RING_FRAME / 8))[i] != GUARD) abort();
    return taken;
}

static void *scribble(void *arg) {
    uint64_t x = 88172645463325252u;

    (void)arg;
    for (;;) {
        while (!at_load_acquire(&at.storm)) (void)futex_wait(&at.storm, 0, -1);
        for (int i = 0; i < STORM; i++) {
            uint64_t *word = (uint64_t *)(void *)at.rings[1].data + (x >> 20) % 64;

            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            at_store(word, x >> 40 & 1 ? x : x % 40);
            if (x >> 41 & 1) at_store(&at.rings[1].head, x % LIMIT_RING_BYTES & ~UINT64_C(7));
        }
        at_store_release(&at.storm, 0);
    }
    return NULL;
}

static void storm(void) {
    static bool started;
    pthread_t thread;

    if (!started) {
        if (pthread_create(&thread, NULL, scribble, NULL) != 0) abort();
        (void)pthread_detach(thread);
    }
    started = true;
    fresh();
    at_store_release(&at.storm, 1);
    futex_wake(&at.storm, 1);
    while (at_load_acquire(&at.storm)) {
        (void)drain();
        if (at.broken) attach();
    }
}

static uint64_t near(struct fuzz_in *in, uint64_t counter) {
    switch (fuzz_below(in, 5)) {
    case 0: return fuzz_word(in);
    case 1: return counter + fuzz_below(in, 256);
    case 2: return counter - fuzz_below(in, 256);
    case 3: return counter + 8 * fuzz_below(in, LIMIT_RING_BYTES / 8 + 2);
    default: return counter + LIMIT_RING_BYTES;
    }
}

static void honest_frame(struct fuzz_in *in) {
    struct wire_buf b;
    uint8_t *to;

    wire_init(&b, NULL, 0);
    fuzz_frame(in, fuzz_kind(in), 1, &b);
    to = b.len <= LIMIT_RING_FRAME ? ring_reserve(&at.writer, b.len, ++at.sequence) : NULL;
    if (to) {
        memcpy(to, b.p, b.len);
        if (fuzz_below(in, 8) == 1) { /* but for its record */
            uint32_t bytes = fuzz_below(in, 3) ? (uint32_t)fuzz_word(in) : UINT32_MAX;

            memcpy(to - 8, &bytes, 4);
        }
        ring_publish(&at.writer, b.len);
    }
    wire_release(&b);
}

/* What we write lies in the ring, whatever the reader says of its tail. */
static void we_write(struct fuzz_in *in) {
    uint32_t bytes = 1 + fuzz_below(in, LIMIT_RING_FRAME);
    uint8_t *to, *data = at.rings[0].data;

    if (fuzz_below(in, 2)) at.rings[0].tail = near(in, at.rings[0].tail);
    to = ring_reserve(&at.out, bytes, ++at.sequence);
    if (!to) return;
    if (to < data + 8 || to + bytes > data + LIMIT_RING_BYTES) abort();
    memset(to, 1, bytes);
    ring_publish(&at.out, bytes);
}

static void one_step(struct fuzz_in *in) {
    struct ring_shared *r = &at.rings[1];
    uint64_t x;

    switch (fuzz_below(in, 16)) {
    case 0: r->head = near(in, r->head); break;
    case 1: r->tail = near(in, r->tail); break;
    case 2: r->started = fuzz_word(in), r->starved = (uint32_t)fuzz_word(in); break;
    case 3:
        x = fuzz_word(in);
        memcpy(r->data + fuzz_below(in, LIMIT_RING_BYTES - 8), &x, 8);
        break;
    case 4: /* counters that were there before us */
        at.rings[0].head = near(in, at.rings[0].head);
        attach();
        break;
    case 5: fresh(); break;
    case 6:
        if (fuzz_below(in, 64) == 1) storm();
        break;
    case 7:
    case 8: we_write(in); break;
    case 9:
        if (drain() > MOST_FRAMES) abort(); /* more than was ever there */
        if (at.broken) attach();
        break;
    default: honest_frame(in);
    }
}

static int fuzz_one(const uint8_t *data, size_t len) {
    const uint64_t pool[] = {8, 16, LIMIT_RING_FRAME, LIMIT_RING_FRAME + 1, LIMIT_RING_BYTES,
                             LIMIT_RING_BYTES - 8, LIMIT_RING_BYTES - 1, UINT32_MAX};
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 8};

    if (!at.rings) at.rings = malloc(CHANNEL_BYTES);
    if (!at.rings) abort();
    fresh();
    while (in.left) one_step(&in);
    return 0;
}
