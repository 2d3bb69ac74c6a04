/* heap_mixes.c - the allocator inside lent extents, alone: what it wastes, how long it takes.
 *
 * Random allocations (each sealed) and frees of random objects, around LIVE bytes, for three mixes
 * of sizes. The lender's part is played by a table of granules over a memory file: the first that
 * fit, with the pages they had. Rows, each `name value unit`:
 *   heap_waste_MIX  1 - bytes asked for by live objects / bytes of lent extents, the greatest of
 *                   the last tenth of the operations: headers, rounding, holes, spare extents
 *   heap_p99_MIX    of allocating, sealing and freeing one object, four looks at the clock
 *                   included; heap_p50_MIX the median
 *   heap_lends_MIX  of 100 allocations, those that needed an extent
 * Mixes: mid: log-uniform 2 KB to 64 KB; wide: log-uniform 2 KB to 4 MB; small: 90 % 2 to 8 KB,
 * 9 % up to 64 KB, 1 % up to 1 MB. --json: one object a mix instead.
 * Usage: heap_mixes [--json] [OPERATIONS [MIX]]; without OPERATIONS 10,000,000, of the wide mix a
 * tenth (it maps memory most of the time). `ninja -C build/py bench/micro/heap_mixes`. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/heap.h"
#include "wire/frame.h"

enum { GRANULE = 256 << 10, GRANULES = 1 << 15, OBJECTS = 1 << 19, BUCKETS = 64 * 16 };
#define LIVE (UINT64_C(512) << 20)

#define MUST(x)                                                                                \
    do {                                                                                       \
        if (!(x)) {                                                                            \
            fprintf(stderr, "heap_mixes: line %d failed: %s\n", __LINE__, #x);           \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

struct object {
    uint64_t offset, size;
    uint32_t ns;
};
static struct {
    int fd;
    uint32_t length[GRANULES]; /* granules lent from here on */
    bool taken[GRANULES];
    uint64_t lends;
} lender;
static struct object objects[OBJECTS];
static uint64_t histogram[BUCKETS], random_state = 88172645463325252;

static uint64_t dice(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static double unit(void) { return (double)(dice() >> 11) / 9007199254740992.0; }

static uint64_t log_uniform(double low, double high) {
    return (uint64_t)(low * exp(unit() * log(high / low)));
}

static uint64_t size_mid(void) { return log_uniform(2048, 65536); }
static uint64_t size_wide(void) { return log_uniform(2048, 4 << 20); }
static uint64_t size_small(void) {
    double d = unit();

    if (d < 0.9) return 2048 + (uint64_t)(unit() * 6144);
    return d < 0.99 ? log_uniform(8192, 65536) : log_uniform(65536, 1 << 20);
}

/* ---- the lender's part ---- */

static int lend(void *arg, uint64_t bytes, uint64_t *ret_offset, uint64_t *ret_bytes,
                struct skate_error *err) {
    uint32_t n = (uint32_t)((bytes + GRANULE - 1) / GRANULE), run = 0, at = 0;

    (void)arg;
    (void)err;
    for (; run < n; at++) {
        MUST(at < GRANULES);
        run = lender.taken[at] ? 0 : run + 1;
    }
    at -= n;
    memset(lender.taken + at, 1, n);
    lender.length[at] = n;
    lender.lends++;
    *ret_offset = (uint64_t)at * GRANULE;
    *ret_bytes = (uint64_t)n * GRANULE;
    return 0;
}

static void give_back(void *arg, uint64_t offset) {
    uint32_t at = (uint32_t)(offset / GRANULE);

    (void)arg;
    memset(lender.taken + at, 0, lender.length[at]);
}

/* ---- one mix ---- */

static uint64_t now(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void count(uint64_t ns) { /* 16 buckets a doubling */
    uint32_t doubling = ns < 16 ? 0 : 60 - (uint32_t)__builtin_clzll(ns);

    histogram[doubling * 16 + (ns >> doubling)]++;
}

/* Microseconds below which that part of the times lies. */
static double quantile(double part) {
    uint64_t all = 0, seen = 0;

    for (int i = 0; i < BUCKETS; i++) all += histogram[i];
    for (uint32_t i = 0; i < BUCKETS; i++) {
        uint32_t doubling = i < 32 ? 0 : i / 16 - 1;

        seen += histogram[i];
        if ((double)seen >= part * (double)all)
            return (double)((uint64_t)(i - doubling * 16 + 1) << doubling) / 1e3;
    }
    return 0;
}

static void object_new(struct heap *h, uint64_t size, struct object *o) {
    struct skate_id id = {1, dice()};
    uint64_t began = now();
    void *data;

    MUST(heap_alloc(h, size, &id, FORMAT_RAW, &o->offset, &data, NULL) == 0);
    heap_seal(h, o->offset);
    o->ns = (uint32_t)(now() - began);
    o->size = size;
}

static void object_end(struct heap *h, const struct object *o) {
    uint64_t began = now();

    MUST(heap_free(h, o->offset) == 0);
    count(now() - began + o->ns);
}

static void run(const char *name, uint64_t (*size)(void), uint64_t operations, bool json) {
    struct heap_env env = {.lend = lend, .give_back = give_back, .arena_fd = lender.fd,
                           .spare_max = HEAP_SPARE_BYTES};
    uint64_t live = 0, allocs = 0;
    struct heap *h;
    uint32_t n = 0;
    double waste = 0, began = (double)now();

    memset(histogram, 0, sizeof histogram);
    lender.lends = 0;
    MUST(heap_new(&env, &h) == 0);
    for (uint64_t i = 0; i < operations; i++) {
        if (live < LIVE / 50 * 49 || (live < LIVE && dice() & 1)) {
            MUST(n < OBJECTS);
            object_new(h, size(), &objects[n]);
            live += objects[n++].size;
            allocs++;
        } else {
            struct object *o = &objects[dice() % n];

            object_end(h, o);
            live -= o->size;
            *o = objects[--n];
        }
        if (i >= operations / 10 * 9) {
            double w = 1 - (double)live / (double)heap_held(h);

            if (w > waste) waste = w;
        }
    }
    if (json)
        printf("{\"name\": \"heap_%s\", \"operations\": %llu, \"waste_percent\": %.2f, "
               "\"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"lends\": %llu, "
               "\"seconds\": %.1f}\n", name, (unsigned long long)operations, 100 * waste,
               quantile(.5), quantile(.99), quantile(.999), (unsigned long long)lender.lends,
               ((double)now() - began) / 1e9);
    else
        printf("heap_waste_%s %.2f %%\nheap_p99_%s %.2f us\nheap_p50_%s %.2f us\n"
               "heap_lends_%s %.3f %%\n", name, 100 * waste, name, quantile(.99), name,
               quantile(.5), name, 100.0 * (double)lender.lends / (double)allocs);
    (void)fflush(stdout);
    while (n) MUST(heap_free(h, objects[--n].offset) == 0);
    (void)heap_offer(h, UINT64_MAX, NULL, NULL, NULL, 0); /* all spare extents go back */
    MUST(heap_held(h) == 0);
    heap_free_all(h);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        uint64_t (*size)(void);
        uint64_t operations;
    } mixes[] = {{"mid", size_mid, 10000000},
                 {"wide", size_wide, 1000000},
                 {"small", size_small, 10000000}};
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    uint64_t operations = argc > 1 + json ? strtoull(argv[1 + json], NULL, 10) : 1000;
    const char *only = argc > 2 + json ? argv[2 + json] : NULL;

    if (operations < 1000) {
        fprintf(stderr, "usage: heap_mixes [--json] [OPERATIONS [MIX]], 1,000 at least\n");
        return 2;
    }
    lender.fd = memfd_create("heap", MFD_CLOEXEC);
    MUST(lender.fd >= 0 && ftruncate(lender.fd, (off_t)GRANULES * GRANULE) == 0);
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (!only || strcmp(only, mixes[i].name) == 0)
            run(mixes[i].name, mixes[i].size,
                argc > 1 + json ? operations : mixes[i].operations, json);
    return 0;
}
