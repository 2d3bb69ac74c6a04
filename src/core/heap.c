/* heap.c - see heap.h. */
#include "core/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/limits.h"

enum { SLAB_BYTES = 256 << 10, SLABS = LIMIT_EXTENT_BYTES / SLAB_BYTES, CLASSES = 19 };

/* Slot sizes, header included. */
static const uint32_t class_bytes[CLASSES] = {256,   384,   512,   768,   1024,  1536,  2048,
                                              3072,  4096,  6144,  8192,  12288, 16384, 24576,
                                              32768, 43648, 65536, 87360, 131072};

struct slab {
    uint32_t class, slots, used;
    uint64_t bitmap[SLAB_BYTES / 256 / 64]; /* slots in use */
    uint64_t open[SLAB_BYTES / 256 / 64];   /* of these: not sealed */
};
struct extent {
    uint64_t offset, bytes; /* bytes: paid for, of an address range that may be longer */
    uint8_t *map;
    uint64_t freed_at;  /* large and spare: order of freeing; 0 while in use */
    uint64_t sealed_at; /* order of the last sealing */
    bool large, offered;
    uint32_t slab_count, live, unsealed; /* live: objects, of which `unsealed` are not complete */
    struct slab *slabs; /* small: SLABS of them */
};
struct heap {
    struct heap_env env;
    struct extent **extents; /* sorted by offset */
    struct extent *last;     /* of the last object given out: the next to be sealed */
    uint32_t count, cap;
    uint64_t held, spare, clock;
    uint32_t generation;
    struct {
        struct extent *extent;
        uint32_t slab;
    } hint[CLASSES];
};

int heap_new(const struct heap_env *env, struct heap **ret) {
    struct heap *h = calloc(1, sizeof *h);

    if (!h) return -SKATE_ENOMEM;
    h->env = *env;
    *ret = h;
    return 0;
}

void heap_free_all(struct heap *h) {
    if (!h) return;
    for (uint32_t i = 0; i < h->count; i++) {
        (void)munmap(h->extents[i]->map, h->extents[i]->bytes);
        free(h->extents[i]->slabs);
        free(h->extents[i]);
    }
    free(h->extents);
    free(h);
}

uint64_t heap_held(const struct heap *h) { return h->held; }
uint64_t heap_spare(const struct heap *h) { return h->spare; }

uint32_t heap_live(const struct heap *h) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->count; i++) n += h->extents[i]->live;
    return n;
}

/* Index of the last extent that begins at or before offset, or -1. */
static int64_t find(const struct heap *h, uint64_t offset) {
    int64_t low = 0, high = (int64_t)h->count - 1, best = -1;

    while (low <= high) {
        int64_t mid = (low + high) / 2;

        if (h->extents[mid]->offset <= offset) {
            best = mid;
            low = mid + 1;
        } else
            high = mid - 1;
    }
    return best;
}

/* Give the bytes their pages now: a full machine is an error here, not a SIGBUS while they are
 * written. Also faster than one fault for each page (100 MB: 52 ms instead of 67). */
static int back(const struct heap *h, const struct extent *e, uint64_t at, uint64_t bytes,
                struct skate_error *err) {
    if (madvise(e->map + at, bytes, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno == EINVAL && /* a kernel before 5.14 */
        fallocate(h->env.arena_fd, 0, (off_t)(e->offset + at), (off_t)bytes) == 0)
        return 0;
    return err_fail(err, -SKATE_EFULL,
                      "this machine has no %llu bytes of memory left for the object store: %s",
                      (unsigned long long)bytes, strerror(errno));
}

static int grow(struct heap *h) {
    uint32_t cap = h->cap ? h->cap * 2 : 16;
    struct extent **grown;

    if (h->count < h->cap) return 0;
    grown = realloc(h->extents, cap * sizeof(void *));
    if (!grown) return -SKATE_ENOMEM;
    h->extents = grown;
    h->cap = cap;
    return 0;
}

/* While `lend` waits, all of the heap may be called: nothing looked up before is used after. */
static int add_extent(struct heap *h, uint64_t bytes, bool large, struct extent **ret,
                      struct skate_error *err) {
    struct extent *e = calloc(1, sizeof *e);
    uint64_t range;
    int64_t at;
    int r;

    if (!e) return -SKATE_ENOMEM;
    if (!large) e->slabs = calloc(SLABS, sizeof *e->slabs);
    r = -SKATE_ENOMEM;
    if (!large && !e->slabs) goto fail;
    r = h->env.lend(h->env.arg, bytes, &e->offset, &range, err);
    if (r < 0) goto fail;
    e->bytes = bytes;
    r = grow(h);
    if (r < 0) {
        h->env.give_back(h->env.arg, e->offset);
        goto fail;
    }
    e->map = mmap(NULL, e->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, h->env.arena_fd,
                  (off_t)e->offset);
    if (e->map == MAP_FAILED) {
        h->env.give_back(h->env.arg, e->offset);
        r = err_fail(err, -SKATE_ENOMEM, "cannot map %llu bytes of the object store",
                       (unsigned long long)bytes);
        goto fail;
    }
    (void)madvise(e->map, e->bytes, MADV_DONTFORK);
    if (large) r = back(h, e, 0, bytes, err);
    if (r < 0) {
        (void)munmap(e->map, e->bytes);
        h->env.give_back(h->env.arg, e->offset);
        goto fail;
    }
    e->large = large;
    h->held += e->bytes;
    at = find(h, e->offset) + 1;
    memmove(&h->extents[at + 1], &h->extents[at], (h->count - (size_t)at) * sizeof(void *));
    h->extents[at] = e;
    h->count++;
    *ret = e;
    return 0;

fail:
    free(e->slabs);
    free(e);
    return r;
}

static void drop_extent(struct heap *h, struct extent *e) {
    int64_t at = find(h, e->offset);

    SKATE_ASSERT(at >= 0 && h->extents[at] == e);
    memmove(&h->extents[at], &h->extents[at + 1],
            (h->count - (size_t)at - 1) * sizeof(void *));
    h->count--;
    h->held -= e->bytes;
    if (h->last == e) h->last = NULL;
    for (unsigned i = 0; i < CLASSES; i++)
        if (h->hint[i].extent == e) h->hint[i].extent = NULL;
    (void)munmap(e->map, e->bytes);
    h->env.give_back(h->env.arg, e->offset);
    free(e->slabs);
    free(e);
}

/* The smallest spare extent that fits without much waste, or NULL. */
static struct extent *take_spare(struct heap *h, uint64_t bytes) {
    struct extent *best = NULL;

    for (uint32_t i = 0; i < h->count; i++) {
        struct extent *e = h->extents[i];

        if (e->freed_at && e->bytes >= bytes && e->bytes <= bytes + bytes / 2 + (1 << 20) &&
            (!best || e->bytes < best->bytes))
            best = e;
    }
    if (best) {
        best->freed_at = 0;
        h->spare -= best->bytes;
    }
    return best;
}

static void trim_spare(struct heap *h, uint64_t limit) {
    while (h->spare > limit) {
        struct extent *oldest = NULL;

        for (uint32_t i = 0; i < h->count; i++) {
            struct extent *e = h->extents[i];

            if (e->freed_at && (!oldest || e->freed_at < oldest->freed_at)) oldest = e;
        }
        SKATE_ASSERT(oldest);
        h->spare -= oldest->bytes;
        drop_extent(h, oldest);
    }
}

static int alloc_large(struct heap *h, uint64_t bytes, uint64_t *ret_offset, uint8_t **ret_at,
                       struct skate_error *err) {
    struct extent *e = take_spare(h, bytes);
    int r;

    if (!e) {
        uint64_t paid = (bytes + 0xfff) & ~UINT64_C(0xfff);

        r = add_extent(h, paid, true, &e, err);
        if (r == -SKATE_EFULL && h->spare) {
            trim_spare(h, 0);
            r = add_extent(h, paid, true, &e, err);
        }
        if (r < 0) return r;
    }
    e->live = e->unsealed = 1;
    h->last = e;
    *ret_offset = e->offset;
    *ret_at = e->map;
    return 0;
}

/* A slab of the class with a free slot, in an extent that has one or can start one: 1, or 0 when
 * there is none, or negative. */
static int find_slab(struct heap *h, uint32_t class, struct extent **ret, uint32_t *ret_slab,
                     struct skate_error *err) {
    for (uint32_t i = 0; i < h->count; i++) {
        struct extent *e = h->extents[i];

        for (uint32_t s = 0; !e->large && !e->offered && s < e->slab_count; s++)
            if (e->slabs[s].class == class && e->slabs[s].used < e->slabs[s].slots)
                return *ret = e, *ret_slab = s, 1;
    }
    for (uint32_t i = 0; i < h->count; i++) {
        struct extent *e = h->extents[i];
        uint32_t s = 0;
        int r;

        if (e->large || e->offered) continue;
        while (s < e->slab_count && e->slabs[s].used) s++;
        if (s == SLABS) continue;
        r = back(h, e, (uint64_t)s * SLAB_BYTES, SLAB_BYTES, err);
        if (r < 0) return r;
        if (s == e->slab_count) e->slab_count++;
        memset(&e->slabs[s], 0, sizeof e->slabs[s]);
        e->slabs[s].class = class;
        e->slabs[s].slots = SLAB_BYTES / class_bytes[class];
        return *ret = e, *ret_slab = s, 1;
    }
    return 0;
}

static int alloc_small(struct heap *h, uint64_t bytes, uint64_t *ret_offset, uint8_t **ret_at,
                       struct skate_error *err) {
    uint32_t class = 0, s = 0, slot = 0;
    struct extent *e;
    struct slab *slab;
    uint64_t at;

    while (class_bytes[class] < bytes) class++;
    e = h->hint[class].extent;
    s = h->hint[class].slab;
    if (!e || e->offered || e->slabs[s].class != class ||
        e->slabs[s].used == e->slabs[s].slots) {
        int r;

        while ((r = find_slab(h, class, &e, &s, err)) == 0) {
            r = add_extent(h, LIMIT_EXTENT_BYTES, false, &e, err);
            if (r < 0) break;
        }
        if (r < 0) return r;
        h->hint[class].extent = e;
        h->hint[class].slab = s;
    }
    slab = &e->slabs[s];
    for (uint32_t w = 0;; w++) {
        SKATE_ASSERT(w < sizeof slab->bitmap / 8);
        if (~slab->bitmap[w]) {
            slot = w * 64 + (uint32_t)__builtin_ctzll(~slab->bitmap[w]);
            break;
        }
    }
    SKATE_ASSERT(slot < slab->slots);
    slab->bitmap[slot / 64] |= UINT64_C(1) << slot % 64;
    slab->open[slot / 64] |= UINT64_C(1) << slot % 64;
    slab->used++;
    e->live++;
    e->unsealed++;
    h->last = e;
    at = (uint64_t)s * SLAB_BYTES + (uint64_t)slot * class_bytes[class];
    *ret_offset = e->offset + at;
    *ret_at = e->map + at;
    return 0;
}

int heap_alloc(struct heap *h, uint64_t bytes, const struct skate_id *id, uint8_t format,
               uint64_t *ret_offset, void **ret_data, struct skate_error *err) {
    struct heap_header *header;
    uint64_t total = bytes + sizeof *header, offset = 0;
    uint8_t *at = NULL;
    int r;

    if (bytes > UINT64_C(1) << 46) return -SKATE_ETOOBIG;
    r = total > LIMIT_SLOT_BYTES + sizeof *header ? alloc_large(h, total, &offset, &at, err)
                                                  : alloc_small(h, total, &offset, &at, err);
    if (r < 0) return r;
    header = (struct heap_header *)(void *)at;
    *header = (struct heap_header){
        .magic = HEAP_MAGIC, .generation = ++h->generation, .id = *id, .size = bytes,
        .format = format};
    *ret_offset = offset + sizeof *header;
    *ret_data = at + sizeof *header;
    return 0;
}

/* The extent that holds an object's place, or NULL: offset is that of its bytes. */
static struct extent *extent_of(const struct heap *h, uint64_t offset) {
    int64_t i = offset < sizeof(struct heap_header) ? -1 : find(h, offset);
    uint64_t at;

    if (i < 0) return NULL;
    at = offset - h->extents[i]->offset;
    return at < sizeof(struct heap_header) || at >= h->extents[i]->bytes ? NULL : h->extents[i];
}

/* The slot in use that begins at `at` of a small extent: its slab, or NULL. */
static struct slab *slot_at(struct extent *e, uint64_t at, uint32_t *ret) {
    struct slab *slab;
    uint32_t slot;

    if (at / SLAB_BYTES >= e->slab_count) return NULL;
    slab = &e->slabs[at / SLAB_BYTES];
    slot = (uint32_t)(at % SLAB_BYTES / class_bytes[slab->class]);
    if (at % SLAB_BYTES % class_bytes[slab->class] || slot >= slab->slots ||
        !(slab->bitmap[slot / 64] >> slot % 64 & 1))
        return NULL;
    *ret = slot;
    return slab;
}

void heap_seal(struct heap *h, uint64_t offset) {
    struct extent *e = h->last;
    struct slab *slab;
    uint64_t at;
    uint32_t slot;

    if (!e || offset < e->offset || offset - e->offset >= e->bytes) e = extent_of(h, offset);
    at = e ? offset - sizeof(struct heap_header) - e->offset : 0;
    if (!e || !e->unsealed || (e->large && at)) return;
    if (!e->large) {
        slab = slot_at(e, at, &slot);
        if (!slab || !(slab->open[slot / 64] >> slot % 64 & 1)) return;
        slab->open[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    }
    e->unsealed--;
    e->sealed_at = ++h->clock;
}

/* The last object of an extent is gone. */
static void now_empty(struct heap *h, struct extent *e) {
    if (e->offered) {
        drop_extent(h, e);
    } else if (e->large) {
        e->freed_at = ++h->clock;
        h->spare += e->bytes;
        trim_spare(h, h->env.spare_max < HEAP_SPARE_BYTES ? h->env.spare_max : HEAP_SPARE_BYTES);
    }
}

int heap_free(struct heap *h, uint64_t offset) {
    struct extent *e = extent_of(h, offset);
    struct slab *slab;
    uint64_t at, bit;
    uint32_t slot;

    if (!e) return -SKATE_ENOENT;
    at = offset - sizeof(struct heap_header) - e->offset;
    if (e->large) {
        if (at != 0 || e->freed_at) return -SKATE_ENOENT;
        e->unsealed = 0;
    } else {
        slab = slot_at(e, at, &slot);
        if (!slab) return -SKATE_ENOENT;
        bit = UINT64_C(1) << slot % 64;
        if (slab->open[slot / 64] & bit) e->unsealed--;
        slab->open[slot / 64] &= ~bit;
        slab->bitmap[slot / 64] &= ~bit;
        slab->used--;
    }
    if (--e->live == 0) now_empty(h, e);
    return 0;
}

/* ---- room for others: what may leave memory ---- */

/* Give back what holds no object, until `bytes` are together. Returns the bytes given back. */
static uint64_t give_empty(struct heap *h, uint64_t bytes) {
    uint64_t given = h->spare;

    trim_spare(h, 0);
    for (uint32_t i = h->count; i-- > 0 && given < bytes;) {
        if (h->extents[i]->live) continue;
        given += h->extents[i]->bytes;
        drop_extent(h, h->extents[i]);
    }
    return given;
}

uint32_t heap_offer(struct heap *h, uint64_t bytes,
                    bool (*fit)(void *arg, uint64_t offset, uint64_t bytes), void *arg,
                    struct heap_offer *ret, uint32_t max) {
    uint64_t together = give_empty(h, bytes), after = 0;
    uint32_t n = 0;

    while (n < max && together < bytes) {
        struct extent *best = NULL;

        for (uint32_t i = 0; i < h->count; i++) {
            struct extent *e = h->extents[i];

            if (e->live && !e->unsealed && !e->offered && e->sealed_at > after &&
                (!best || e->sealed_at < best->sealed_at))
                best = e;
        }
        if (!best) break;
        after = best->sealed_at;
        if (fit && !fit(arg, best->offset, best->bytes)) continue;
        best->offered = true;
        together += best->bytes;
        ret[n++] = (struct heap_offer){best->offset, best->bytes};
    }
    return n;
}

void heap_take_back(struct heap *h, uint64_t offset) {
    int64_t i = find(h, offset);

    if (i >= 0 && h->extents[i]->offset == offset) h->extents[i]->offered = false;
}
