/* Rings, doorbells and the id map of src/base. libs: base */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/doorbell.h"
#include "base/futex.h"
#include "base/map.h"
#include "base/ring.h"

static void *channel_new(struct ring *a_out, struct ring *a_in, struct ring *b_out,
                         struct ring *b_in) {
    void *channel = calloc(1, CHANNEL_BYTES);

    assert_non_null(channel);
    ring_attach(a_out, a_in, channel, 0);
    ring_attach(b_out, b_in, channel, 1);
    return channel;
}

/* Frames of all sizes come out whole and in order, many times around the ring. */
static void ring_order(void **state) {
    struct ring ao, ai, bo, bi;
    void *channel = channel_new(&ao, &ai, &bo, &bi);
    uint64_t buf[LIMIT_RING_FRAME / 8];
    uint32_t sent = 0, got = 0, sequence;

    (void)state;
    while (got < 20000) {
        while (sent < 20000) {
            uint32_t bytes = 8 + sent * 37 % (LIMIT_RING_FRAME - 8);
            void *to = ring_reserve(&ao, bytes, sent);

            if (!to) break;
            memset(to, (int)(sent & 0xff), bytes);
            ring_publish(&ao, bytes);
            sent++;
        }
        for (int n; (n = ring_take(&bi, buf, &sequence)) != 0; got++) {
            assert_int_equal(n, 8 + got * 37 % (LIMIT_RING_FRAME - 8));
            assert_int_equal(sequence, got);
            assert_int_equal(((uint8_t *)buf)[n - 1], got & 0xff);
        }
    }
    assert_true(ring_is_empty(&bi));
    free(channel);
}

/* A full ring refuses, and takes again once the reader has freed. */
static void ring_full(void **state) {
    struct ring ao, ai, bo, bi;
    void *channel = channel_new(&ao, &ai, &bo, &bi);
    uint64_t buf[LIMIT_RING_FRAME / 8];
    uint32_t n = 0, sequence;

    (void)state;
    while (ring_reserve(&ao, 1000, n)) ring_publish(&ao, 1000), n++;
    assert_int_equal(n, LIMIT_RING_BYTES / 1008);
    assert_false(ring_has_room(&ao, 1000));
    assert_int_equal(ring_take(&bi, buf, &sequence), 1000);
    assert_true(ring_has_room(&ao, 1000));
    free(channel);
}

/* What a broken or hostile peer writes is an error, never a crash or a read out of bounds. */
static void ring_corrupt(void **state) {
    struct ring ao, ai, bo, bi;
    uint8_t *channel = channel_new(&ao, &ai, &bo, &bi);
    struct ring_shared *shared = (struct ring_shared *)(void *)channel;
    uint64_t buf[LIMIT_RING_FRAME / 8], seed = 88172645463325252u;
    uint32_t sequence;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        for (int i = 0; i < 40; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            shared->data[seed % 256] = (uint8_t)(seed >> 32);
        }
        shared->head = seed % 3 ? (seed >> 8) % (2 * LIMIT_RING_BYTES) : seed;
        ring_attach(&bo, &bi, channel, 1);
        for (int i = 0; i < 100; i++)
            if (ring_take(&bi, buf, &sequence) <= 0) break;
        shared->tail = 0;
    }
    free(channel);
}

/* Counters that the peer wrote before we came: no record begins where it would leave the ring. */
static void ring_crooked_counters(void **state) {
    uint64_t buf[LIMIT_RING_FRAME / 8];
    uint32_t sequence;

    (void)state;
    for (uint64_t off = 1; off < 16; off++) {
        struct ring_shared *shared = calloc(1, CHANNEL_BYTES);
        struct ring out, in;
        uint8_t *to;

        assert_non_null(shared);
        shared[0].head = shared[0].tail = LIMIT_RING_BYTES - off;
        shared[1].tail = LIMIT_RING_BYTES - off;
        shared[1].head = LIMIT_RING_BYTES + 8;
        ring_attach(&out, &in, shared, 0);
        to = ring_reserve(&out, 16, 1);
        assert_ptr_equal(to, shared[0].data + 8);
        assert_int_equal(shared[1].head, LIMIT_RING_BYTES + 8); /* what lies behind it */
        assert_true(ring_take(&in, buf, &sequence) < 0);
        free(shared);
    }
}

struct pair {
    struct ring out, in;
    struct doorbell *mine, *peer;
    int rounds, late; /* late: sleeps that nobody ended */
};

static void *echo(void *arg) {
    struct pair *p = arg;
    uint64_t buf[LIMIT_RING_FRAME / 8];
    uint32_t sequence;

    for (int i = 0; i < p->rounds;) {
        int n;

        while (bell_next(p->mine) >= 0) continue;
        n = ring_take(&p->in, buf, &sequence);
        if (n > 0) {
            memcpy(ring_reserve(&p->out, (uint32_t)n, sequence), buf, (size_t)n);
            ring_publish(&p->out, (uint32_t)n);
            bell_ring(p->peer, 1, BELL_WANTED);
            i++;
            continue;
        }
        uint32_t word = at_load_seq(&p->mine->leader_bell);
        at_store_seq(&p->mine->leader, 2);
        if (!bell_any(p->mine) &&
            futex_wait(&p->mine->leader_bell, word, INT64_C(30000000000)) == -SKATE_ETIMEOUT)
            p->late++;
        at_store_seq(&p->mine->leader, 1);
    }
    return NULL;
}

/* Two threads, 20,000 round trips, each side sleeping whenever it finds nothing: no lost ring. */
static void doorbell_ping_pong(void **state) {
    struct doorbell *a = calloc(1, 4096), *b = calloc(1, 4096);
    struct pair pa = {.mine = a, .peer = b, .rounds = 20000}, pb = {.mine = b, .peer = a,
                                                                    .rounds = 20000};
    void *channel = channel_new(&pa.out, &pa.in, &pb.out, &pb.in);
    pthread_t thread;

    (void)state;
    memcpy(ring_reserve(&pa.out, 8, 7), "12345678", 8);
    ring_publish(&pa.out, 8);
    bell_ring(b, 1, BELL_WANTED);
    assert_int_equal(pthread_create(&thread, NULL, echo, &pb), 0);
    (void)echo(&pa);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pa.late + pb.late, 0); /* a lost ring: both sleep */
    free(a);
    free(b);
    free(channel);
}

/* Which sleeper is woken: nobody awake is rung, a bulk leader sleeps through QUIET. */
static void doorbell_levels(void **state) {
    struct doorbell *d = calloc(1, 4096);

    (void)state;
    d->leader = 1;
    bell_ring(d, 70, BELL_URGENT);
    assert_int_equal(d->leader_bell + d->core_bell, 0);
    d->leader = 3;
    bell_ring(d, 70, BELL_QUIET);
    assert_int_equal(d->leader_bell, 0);
    bell_ring(d, 70, BELL_WANTED);
    assert_int_equal(d->leader_bell, 1);
    d->leader = 0;
    d->core = 1;
    bell_ring(d, 3, BELL_WANTED);
    assert_int_equal(d->core_bell, 0);
    bell_ring(d, 3, BELL_URGENT);
    assert_int_equal(d->core_bell, 1);
    assert_int_equal(bell_next(d), 3);
    assert_int_equal(bell_next(d), 70);
    assert_int_equal(bell_next(d), -1);
    assert_false(bell_any(d));
    free(d);
}

/* The map against a plain array, with many removals (backward shifts). */
static void map_random(void **state) {
    enum { KEYS = 4096 };
    static uint32_t truth[KEYS];
    struct map m = {0};
    uint64_t seed = 1;

    (void)state;
    memset(truth, 0xff, sizeof truth);
    for (int i = 0; i < 200000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t k = (uint32_t)(seed >> 40) % KEYS;
        struct skate_id key = {k % 7, k};

        if (seed >> 63) {
            assert_int_equal(map_put(&m, &key, (uint32_t)i), 0);
            truth[k] = (uint32_t)i;
        } else {
            assert_int_equal(map_remove(&m, &key), truth[k]);
            truth[k] = MAP_NONE;
        }
        assert_int_equal(map_get(&m, &key), truth[k]);
    }
    for (uint32_t k = 0; k < KEYS; k++) {
        struct skate_id key = {k % 7, k};

        assert_int_equal(map_get(&m, &key), truth[k]);
    }
    map_release(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_order),      cmocka_unit_test(ring_full),
        cmocka_unit_test(ring_corrupt),    cmocka_unit_test(ring_crooked_counters),
        cmocka_unit_test(doorbell_levels), cmocka_unit_test(doorbell_ping_pong),
        cmocka_unit_test(map_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
