/* heap.c - see heap.h.
 *
 * An extent is in one of three lists: `busy` (it has objects; the longest sealed first), `offered`,
 * or `spare` (it has none; the longest empty first). What is spare stays lent as long as the
 * process needed about as much a short while ago. */
#include "core/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "core/blocks.h"

enum {
    HEADER = sizeof(struct heap_header),
    PAGE = 4096,
    BLOCK_MAX = 128 << 10, /* larger objects have an extent of their own */
    EXTENT_STEP = 1 << 20, /* extents for blocks: at first that, later LIMIT_EXTENT_BYTES */
    WARM_BYTES = 256 << 10,
    SPARE_LEAST = 16 << 20, /* so much may be spare in any case */
    SLACK = 8,              /* a spare extent may be larger by that part than what is wanted */
    FORGET = 64            /* a need is forgotten over about that many extents put to use */
};
_Static_assert(LIMIT_EXTENT_BYTES / BLOCK_UNIT <= BLOCK_UNITS_MAX, "one region");
_Static_assert(LIMIT_EXTENT_BYTES / WARM_BYTES <= 32, "bits of warm");

struct extent {
    struct region region;      /* of a small one; first, so that the extent is found by it */
    struct extent *prev, *next; /* in its list */
    uint64_t offset, bytes;    /* bytes: paid for, of an address range that may be longer */
    uint8_t *map;
    bool large, offered;
    uint32_t live, unsealed; /* live: objects, of which `unsealed` are not complete */
    uint32_t warm; /* small: a bit for each WARM_BYTES that have pages; large: 1 if all have */
};
struct list {
    struct extent *first, *last;
};
struct place {
    uint64_t key; /* what the array is sorted by */
    struct extent *extent;
};
struct sorted {
    struct place *v;
    uint32_t count, cap;
};
struct heap {
    struct heap_env env;
    struct blocks blocks;
    struct sorted all;    /* by offset */
    struct sorted larges; /* spare ones, by bytes */
    struct list busy, offered, spare;
    struct extent *last;  /* of the last object given out: the next to be sealed */
    uint64_t held, held_small, spare_bytes, peak; /* peak: of held - spare_bytes, lately */
    uint32_t spare_small, live, generation;
};

/* ---- lists, sorted arrays ---- */

static void list_add(struct list *l, struct extent *e) {
    e->next = NULL;
    e->prev = l->last;
    *(l->last ? &l->last->next : &l->first) = e;
    l->last = e;
}

static void list_remove(struct list *l, struct extent *e) {
    *(e->prev ? &e->prev->next : &l->first) = e->next;
    *(e->next ? &e->next->prev : &l->last) = e->prev;
}

/* Index of the first place whose key is `key` at least. */
static uint32_t sorted_find(const struct sorted *s, uint64_t key) {
    uint32_t low = 0, high = s->count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (s->v[mid].key < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int sorted_add(struct sorted *s, uint64_t key, struct extent *e) {
    uint32_t at = sorted_find(s, key);

    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 16;
        struct place *grown = realloc(s->v, cap * sizeof *grown);

        if (!grown) return -SKATE_ENOMEM;
        s->v = grown;
        s->cap = cap;
    }
    memmove(&s->v[at + 1], &s->v[at], (s->count - at) * sizeof *s->v);
    s->v[at] = (struct place){key, e};
    s->count++;
    return 0;
}

static void sorted_remove(struct sorted *s, uint64_t key, const struct extent *e) {
    uint32_t at = sorted_find(s, key);

    while (at < s->count && s->v[at].extent != e) at++;
    SKATE_ASSERT(at < s->count);
    s->count--;
    memmove(&s->v[at], &s->v[at + 1], (s->count - at) * sizeof *s->v);
}

/* ---- extents ---- */

int heap_new(const struct heap_env *env, struct heap **ret) {
    struct heap *h = calloc(1, sizeof *h);

    if (!h) return -SKATE_ENOMEM;
    h->env = *env;
    *ret = h;
    return 0;
}

/* Forget it; the caller has taken it from its list. */
static void extent_free(struct heap *h, struct extent *e) {
    if (!e->large) {
        blocks_hide(&h->blocks, &e->region);
        region_release(&e->region);
    }
    (void)munmap(e->map, e->bytes);
    free(e);
}

void heap_free_all(struct heap *h) {
    if (!h) return;
    for (uint32_t i = 0; i < h->all.count; i++) extent_free(h, h->all.v[i].extent);
    free(h->all.v);
    free(h->larges.v);
    blocks_release(&h->blocks);
    free(h);
}

uint64_t heap_held(const struct heap *h) { return h->held; }
uint32_t heap_live(const struct heap *h) { return h->live; }
uint64_t heap_spare(const struct heap *h) { return h->spare_bytes; }

/* Also faster than one fault for each page (100 MB: 52 ms instead of 67). */
int heap_back(int arena_fd, uint64_t offset, void *data, uint64_t bytes, struct skate_error *err) {
    uint64_t before = offset % PAGE;

    if (madvise((uint8_t *)data - before, bytes + before, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno == EINVAL && /* a kernel before 5.14 */
        fallocate(arena_fd, 0, (off_t)(offset - before), (off_t)(bytes + before)) == 0)
        return 0;
    return err_fail(err, -SKATE_EFULL,
                    "this machine has no %llu bytes of memory left for the object store: %s",
                    (unsigned long long)bytes, strerror(errno));
}

/* Pages for the bytes [at, at + bytes) of a small extent. */
static int back_blocks(const struct heap *h, struct extent *e, uint64_t at, uint64_t bytes,
                       struct skate_error *err) {
    for (uint64_t w = at / WARM_BYTES; w <= (at + bytes - 1) / WARM_BYTES; w++) {
        int r;

        if (e->warm >> w & 1) continue;
        r = heap_back(h->env.arena_fd, e->offset + w * WARM_BYTES, e->map + w * WARM_BYTES,
                      WARM_BYTES, err);
        if (r < 0) return r;
        e->warm |= 1u << w;
    }
    return 0;
}

/* Map what was lent and enter it. A small one is spare; a large one gets its object at once. */
static int extent_enter(struct heap *h, struct extent *e, struct skate_error *err) {
    bool filed = h->env.file_fd && *h->env.file_fd >= 0;
    int r;

    e->map = mmap(NULL, e->bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                  filed ? *h->env.file_fd : h->env.arena_fd, filed ? 0 : (off_t)e->offset);
    if (filed) (void)close(*h->env.file_fd);
    if (filed) *h->env.file_fd = -1;
    if (e->map == MAP_FAILED)
        return err_fail(err, -SKATE_ENOMEM, "cannot map %llu bytes of the object store",
                        (unsigned long long)e->bytes);
    (void)madvise(e->map, e->bytes, MADV_DONTFORK);
    if (filed) e->warm = 1; /* the kernel gives a file its pages */
    r = sorted_add(&h->all, e->offset, e);
    if (r < 0) return (void)munmap(e->map, e->bytes), r;
    h->held += e->bytes;
    if (e->large) return 0;
    h->held_small += e->bytes;
    h->spare_bytes += e->bytes;
    h->spare_small++;
    list_add(&h->spare, e);
    blocks_show(&h->blocks, &e->region);
    return 0;
}

/* While `lend` waits, all of the heap may be called: nothing looked up before is used after. */
static int extent_new(struct heap *h, uint64_t bytes, bool large, struct extent **ret,
                      struct skate_error *err) {
    struct extent *e = calloc(1, sizeof *e);
    uint64_t range;
    int r;

    if (!e) return -SKATE_ENOMEM;
    e->bytes = bytes;
    e->large = large;
    r = large ? 0 : region_init(&e->region, (uint32_t)(bytes / BLOCK_UNIT));
    if (r == 0) r = h->env.lend(h->env.arg, bytes, &e->offset, &range, err);
    if (r == 0) {
        r = extent_enter(h, e, err);
        if (r < 0) h->env.give_back(h->env.arg, e->offset);
    }
    if (r < 0) {
        region_release(&e->region);
        free(e);
        return r;
    }
    *ret = e;
    return 0;
}

/* Give it back; it is in no list any more. */
static void extent_drop(struct heap *h, struct extent *e) {
    uint64_t offset = e->offset;

    SKATE_ASSERT(!e->live);
    sorted_remove(&h->all, offset, e);
    h->held -= e->bytes;
    if (!e->large) h->held_small -= e->bytes;
    if (h->last == e) h->last = NULL;
    extent_free(h, e);
    h->env.give_back(h->env.arg, offset);
}

/* ---- spare extents ---- */

static void spare_remove(struct heap *h, struct extent *e) {
    list_remove(&h->spare, e);
    h->spare_bytes -= e->bytes;
    if (e->large)
        sorted_remove(&h->larges, e->bytes, e);
    else
        h->spare_small--;
}

/* Give the longest spare ones back until no more than `limit` bytes are; the last small one stays
 * when the limit is not 0. Returns the bytes given back. */
static uint64_t spare_trim(struct heap *h, uint64_t limit) {
    uint64_t given = 0;

    for (struct extent *e = h->spare.first, *next; e && h->spare_bytes > limit; e = next) {
        next = e->next;
        if (limit && !e->large && h->spare_small == 1) continue;
        given += e->bytes;
        spare_remove(h, e);
        extent_drop(h, e);
    }
    return given;
}

/* The last object of an extent is gone. */
static void now_empty(struct heap *h, struct extent *e) {
    uint64_t most = h->env.spare_max < HEAP_SPARE_BYTES ? h->env.spare_max : HEAP_SPARE_BYTES;
    uint64_t used = h->held - h->spare_bytes - e->bytes, room;

    list_remove(e->offered ? &h->offered : &h->busy, e);
    if (e->offered || (e->large && sorted_add(&h->larges, e->bytes, e) < 0)) {
        extent_drop(h, e);
        return;
    }
    list_add(&h->spare, e);
    h->spare_bytes += e->bytes;
    if (!e->large) h->spare_small++;
    room = h->peak + h->peak / 64 - used;
    if (room < SPARE_LEAST) room = SPARE_LEAST;
    spare_trim(h, (room < most ? room : most) | 1);
}

/* The first object of an extent is there. */
static void now_busy(struct heap *h, struct extent *e) {
    uint64_t used = h->held - h->spare_bytes;

    list_add(&h->busy, e);
    if (used >= h->peak)
        h->peak = used;
    else
        h->peak -= (h->peak - used) / FORGET;
}

/* ---- objects ---- */

static int alloc_large(struct heap *h, uint64_t bytes, struct extent **ret,
                       struct skate_error *err) {
    uint64_t paid = (bytes + PAGE - 1) / PAGE * PAGE;
    uint32_t at = sorted_find(&h->larges, bytes);
    int r;

    if (at < h->larges.count && h->larges.v[at].key <= paid + paid / SLACK) {
        *ret = h->larges.v[at].extent;
        spare_remove(h, *ret);
    } else {
        r = extent_new(h, paid, true, ret, err);
        if (r == -SKATE_EFULL && spare_trim(h, 0)) r = extent_new(h, paid, true, ret, err);
        if (r < 0) return r;
    }
    now_busy(h, *ret);
    return 0;
}

static int alloc_block(struct heap *h, uint64_t bytes, struct extent **ret, uint64_t *ret_at,
                       struct skate_error *err) {
    uint32_t units = (uint32_t)((bytes + BLOCK_UNIT - 1) / BLOCK_UNIT), at;
    struct region *g = NULL;
    struct extent *e;
    int r;

    while ((at = blocks_take(&h->blocks, units, &g)) == BLOCK_NONE) {
        uint64_t fresh = h->held_small / 16 / EXTENT_STEP * EXTENT_STEP; /* little is wasted */

        if (fresh < EXTENT_STEP) fresh = EXTENT_STEP;
        if (fresh > LIMIT_EXTENT_BYTES) fresh = LIMIT_EXTENT_BYTES;
        r = extent_new(h, fresh, false, &e, err);
        if (r == -SKATE_EFULL && spare_trim(h, 0)) r = extent_new(h, fresh, false, &e, err);
        if (r == -SKATE_EFULL) r = extent_new(h, WARM_BYTES, false, &e, err);
        if (r < 0) return r;
    }
    e = (struct extent *)g;
    if (e->live == 0) {
        spare_remove(h, e);
        now_busy(h, e);
    }
    *ret_at = (uint64_t)at * BLOCK_UNIT;
    *ret = e;
    r = back_blocks(h, e, *ret_at, bytes, err);
    if (r < 0 && spare_trim(h, 0)) r = back_blocks(h, e, *ret_at, bytes, err);
    if (r < 0) {
        (void)blocks_free(&h->blocks, g, at);
        if (e->live == 0) now_empty(h, e);
    }
    return r;
}

int heap_alloc_cold(struct heap *h, uint64_t bytes, const struct skate_id *id, bool own,
                    struct heap_place *ret, struct skate_error *err) {
    uint64_t total = bytes + !bytes + HEADER, at = 0; /* one of no bytes has a place, too */
    struct heap_header *header;
    struct extent *e;
    int r;

    if (bytes > UINT64_C(1) << 46) return -SKATE_ETOOBIG;
    own = own || total > BLOCK_MAX;
    r = own ? alloc_large(h, total, &e, err) : alloc_block(h, total, &e, &at, err);
    if (r < 0) return r;
    e->live++;
    e->unsealed++;
    h->live++;
    h->last = e;
    header = (struct heap_header *)(void *)(e->map + at);
    if (own && !e->warm) { /* a full machine is an error here, not a SIGBUS */
        r = heap_back(h->env.arena_fd, e->offset, e->map, PAGE, err);
        if (r < 0) return (void)heap_free(h, e->offset + HEADER), spare_trim(h, 0), r;
    }
    *header = (struct heap_header){
        .magic = HEAP_MAGIC, .generation = ++h->generation, .id = *id, .size = bytes};
    *ret = (struct heap_place){e->offset + at + HEADER, header + 1, own && !e->warm};
    return 0;
}

int heap_alloc(struct heap *h, uint64_t bytes, const struct skate_id *id, uint8_t format,
               uint64_t *ret_offset, void **ret_data, struct skate_error *err) {
    struct heap_place place;
    int r = heap_alloc_cold(h, bytes, id, false, &place, err);

    if (r == 0 && place.cold) {
        r = heap_back(h->env.arena_fd, place.offset, place.data, bytes, err);
        if (r < 0) (void)heap_free(h, place.offset), spare_trim(h, 0);
    }
    if (r < 0) return r;
    ((struct heap_header *)place.data - 1)->format = format;
    *ret_offset = place.offset;
    *ret_data = place.data;
    return 0;
}

/* The extent that holds the place of an object, and where in it its header lies. NULL: none. */
static struct extent *extent_of(const struct heap *h, uint64_t offset, uint64_t *ret_at) {
    struct extent *e = h->last;
    uint32_t i;

    if (offset < HEADER) return NULL;
    offset -= HEADER;
    if (!e || offset < e->offset || offset - e->offset >= e->bytes) {
        i = sorted_find(&h->all, offset + 1);
        if (i == 0) return NULL;
        e = h->all.v[i - 1].extent;
    }
    *ret_at = offset - e->offset;
    return *ret_at >= e->bytes || *ret_at % BLOCK_UNIT || !e->live ? NULL : e;
}

void heap_seal(struct heap *h, uint64_t offset) {
    uint64_t at;
    struct extent *e = extent_of(h, offset, &at);

    if (!e || !e->unsealed) return;
    if (e->large ? at != 0 : !region_seal(&e->region, at / BLOCK_UNIT)) return;
    e->unsealed--;
    if (e->large) e->warm = 1; /* it was written to */
    if (!e->next) return;
    list_remove(&h->busy, e);
    list_add(&h->busy, e);
}

uint8_t **heap_map(struct heap *h, uint64_t offset, uint64_t *ret_bytes) {
    uint64_t at;
    struct extent *e = extent_of(h, offset, &at);

    if (!e || !e->large || at) return NULL;
    *ret_bytes = e->bytes;
    return &e->map;
}

int heap_free(struct heap *h, uint64_t offset) {
    uint64_t at;
    struct extent *e = extent_of(h, offset, &at);
    int open;

    if (!e) return -SKATE_ENOENT;
    if (e->large)
        open = at ? -SKATE_ENOENT : (int)e->unsealed;
    else
        open = blocks_free(&h->blocks, &e->region, at / BLOCK_UNIT);
    if (open < 0) return open;
    e->unsealed -= (uint32_t)open;
    h->live--;
    if (--e->live == 0) now_empty(h, e);
    return 0;
}

/* ---- room for others: what may leave memory ---- */

uint32_t heap_offer(struct heap *h, uint64_t bytes,
                    bool (*fit)(void *arg, uint64_t offset, uint64_t bytes), void *arg,
                    struct heap_offer *ret, uint32_t max) {
    uint64_t together = spare_trim(h, 0);
    uint32_t n = 0;

    for (struct extent *e = h->busy.first, *next; e && n < max && together < bytes; e = next) {
        next = e->next;
        if (e->unsealed || (fit && !fit(arg, e->offset, e->bytes))) continue;
        if (!e->large) blocks_hide(&h->blocks, &e->region);
        e->offered = true;
        list_remove(&h->busy, e);
        list_add(&h->offered, e);
        together += e->bytes;
        ret[n++] = (struct heap_offer){e->offset, e->bytes};
    }
    return n;
}

void heap_take_back(struct heap *h, uint64_t offset) {
    uint32_t i = sorted_find(&h->all, offset);
    struct extent *e;

    if (i == h->all.count || h->all.v[i].key != offset || !h->all.v[i].extent->offered) return;
    e = h->all.v[i].extent;
    e->offered = false;
    if (!e->large) blocks_show(&h->blocks, &e->region);
    list_remove(&h->offered, e);
    list_add(&h->busy, e);
}
