/* core_heap_test.c - the heap against a simple model: random allocations, seals, offers and frees,
 * also while an extent is being lent; lending fails at random.
 * links: base wire own core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "core/heap.h"
#include "wire/frame.h"

#if defined(__SANITIZE_ADDRESS__)
enum { STEPS = 60000 };
#else
enum { STEPS = 1000000 };
#endif
enum { LIVE = 3000, GRANULE = 256 << 10, MAP_GRANULES = 1 << 14, LARGEST = 1 << 20, OFFERS = 16 };
#define BUDGET (UINT64_C(160) << 20)
#define SPARE (UINT64_C(24) << 20)

/* ---- the lender: granules of a sparse file, and the model of what lies there ---- */

enum offered { NO, OFFERED };
struct lent {
    uint64_t bytes; /* paid; 0: not lent */
    uint32_t objects, unsealed;
    uint64_t sealed_at; /* of the last sealing; 0: none */
    enum offered offered;
};
struct object {
    uint64_t offset, size, pattern;
    uint8_t *data;
    bool used, sealed;
};
struct world {
    struct heap *h;
    struct heap_env env;
    struct lent lent[MAP_GRANULES]; /* by first granule */
    uint8_t taken[MAP_GRANULES];
    uint64_t held, seed, clock, returned;
    uint32_t hand, count;
    bool within; /* a step during a lending */
    struct object objects[LIVE];
    uint64_t lends, refusals, nested, offers, back_offered;
    uint64_t units[MAP_GRANULES * (GRANULE / 64 / 64)]; /* a bit for each 64 bytes in use */
    uint32_t refuse;                                    /* of 100 lendings */
};
static struct world w;

static uint64_t dice(void) {
    w.seed = w.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return w.seed >> 29;
}

static void steps(uint32_t n);

static int lend(void *arg, uint64_t bytes, uint64_t *ret_offset, uint64_t *ret_bytes,
                struct skate_error *err) {
    uint32_t n = (uint32_t)((bytes + GRANULE - 1) / GRANULE), at, run = 0;

    assert_ptr_equal(arg, &w);
    assert_true(bytes > 0 && bytes % 4096 == 0);
    w.lends++;
    if (!w.within && dice() % 3 == 0) { /* the core pumps frames here: anything may happen */
        w.within = true;
        w.nested++;
        steps((uint32_t)(dice() % 12));
        w.within = false;
    }
    if (dice() % 100 < w.refuse || w.held + bytes > BUDGET) {
        w.refusals++;
        return err_fail(err, -SKATE_EFULL, "full");
    }
    for (at = w.hand; run < n; at++) {
        if (at == MAP_GRANULES) at = 1, run = 0;
        run = w.taken[at] ? 0 : run + 1;
    }
    at -= n;
    w.hand = at + n;
    memset(w.taken + at, 1, n);
    w.lent[at] = (struct lent){.bytes = bytes};
    w.held += bytes;
    *ret_offset = (uint64_t)at * GRANULE;
    *ret_bytes = (uint64_t)n * GRANULE;
    return 0;
}

static void give_back(void *arg, uint64_t offset) {
    struct lent *l = &w.lent[offset / GRANULE];

    assert_ptr_equal(arg, &w);
    assert_true(offset % GRANULE == 0 && offset / GRANULE < MAP_GRANULES && l->bytes);
    assert_int_equal(l->objects, 0);
    if (l->offered) w.back_offered++;
    memset(w.taken + offset / GRANULE, 0, (l->bytes + GRANULE - 1) / GRANULE);
    assert_int_equal(fallocate(w.env.arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)offset, (off_t)l->bytes), 0);
    w.held -= l->bytes;
    w.returned += l->bytes;
    l->bytes = 0;
}

static struct lent *lent_of(uint64_t offset) {
    uint32_t at = (uint32_t)(offset / GRANULE);

    while (at && !w.lent[at].bytes) at--;
    assert_true(w.lent[at].bytes && offset < (uint64_t)at * GRANULE + w.lent[at].bytes);
    return &w.lent[at];
}

/* ---- the model's objects ---- */

/* The object's bytes and header become used, or unused; all of them were not. */
static void mark(const struct object *o, bool used) {
    uint64_t end = o->offset + o->size;

    for (uint64_t at = o->offset - sizeof(struct heap_header); at < end; at += 64) {
        uint64_t bit = UINT64_C(1) << at / 64 % 64;

        assert_true(!(w.units[at / 64 / 64] & bit) == used);
        w.units[at / 64 / 64] ^= bit;
    }
}

static void write_pattern(const struct object *o) {
    for (uint64_t at = 0; at + 16 <= o->size; at += 1024) memcpy(o->data + at, &o->pattern, 8);
    if (o->size >= 8) memcpy(o->data + o->size - 8, &o->pattern, 8);
}

static void check_pattern(const struct object *o) {
    const struct heap_header *header = (const void *)(o->data - sizeof *header);

    assert_true(header->magic == HEAP_MAGIC && header->size == o->size &&
                header->id.seq == o->pattern);
    for (uint64_t at = 0; at + 16 <= o->size; at += 1024)
        assert_memory_equal(o->data + at, &o->pattern, 8);
    if (o->size >= 8) assert_memory_equal(o->data + o->size - 8, &o->pattern, 8);
}

static uint64_t some_size(void) {
    uint64_t d = dice() % 1000, within = dice();

    if (d < 20) return LIMIT_SLOT_BYTES + within % LARGEST;
    if (d < 120) return within % (LIMIT_SLOT_BYTES + 1);
    if (d < 160) return within % 3;
    return within % 4 ? within % 600 : within % 8000;
}

static void step_alloc(struct object *o) {
    struct object new = {.size = some_size(), .pattern = dice() + 1};
    struct skate_id id = {7, new.pattern};
    struct skate_error err;
    struct lent *l;
    void *data;
    int r;

    r = heap_alloc(w.h, new.size, &id, FORMAT_RAW, &new.offset, &data, &err);
    if (r == -SKATE_EFULL) return;
    assert_int_equal(r, 0);
    l = lent_of(new.offset);
    assert_false(l->offered);
    assert_ptr_equal(l, lent_of(new.offset + new.size - !!new.size)); /* all is paid for */
    assert_int_equal((uintptr_t)data % 64, 0);
    assert_int_equal(new.offset % 64, 0);
    l->objects++;
    l->unsealed++;
    w.count++;
    new.data = data;
    new.used = true;
    mark(&new, true);
    if (new.size > 1 << 17) assert_true(l->bytes <= (new.size + 4160) / 8 * 9);
    write_pattern(&new);
    if (o->used) { /* taken by a step during the lending */
        for (o = w.objects; o < w.objects + LIVE && o->used;) o++;
        assert_true(o < w.objects + LIVE);
    }
    *o = new;
}

static void step_seal(struct object *o) {
    struct lent *l = lent_of(o->offset);

    if (!o->sealed) {
        l->unsealed--;
        l->sealed_at = ++w.clock;
    }
    o->sealed = true;
    heap_seal(w.h, o->offset);
    if (dice() % 16 == 0) heap_seal(w.h, o->offset); /* twice changes nothing */
    heap_seal(w.h, o->offset + 1); /* none begins there, nor inside of it */
    if (o->size > 64) heap_seal(w.h, o->offset + 64 * (1 + dice() % ((o->size - 1) / 64)));
}

static void step_free(struct object *o) {
    struct lent *l = lent_of(o->offset);
    bool offered = l->offered;
    uint64_t offset = o->offset;

    check_pattern(o);
    mark(o, false);
    o->used = false;
    w.count--;
    if (!o->sealed) l->unsealed--;
    l->objects--;
    assert_int_equal(heap_free(w.h, offset + 32), -SKATE_ENOENT);
    assert_int_equal(heap_free(w.h, offset), 0);
    if (offered && !l->objects) assert_int_equal(l->bytes, 0); /* at once */
    assert_int_equal(heap_free(w.h, offset), -SKATE_ENOENT);
    assert_int_equal(heap_free(w.h, offset + 32), -SKATE_ENOENT);
}

/* ---- offers ---- */

static bool fits(uint64_t offset) { return offset / GRANULE % 7 != 3; }

static bool fit(void *arg, uint64_t offset, uint64_t bytes) {
    assert_ptr_equal(arg, &w);
    assert_int_equal(w.lent[offset / GRANULE].bytes, bytes);
    return fits(offset);
}

static void step_offer(void) {
    struct heap_offer got[OFFERS];
    uint64_t bytes = dice() % (24 << 20), before = w.returned, last = 0, together;
    uint32_t max = (uint32_t)(dice() % OFFERS) + 1, n;

    n = heap_offer(w.h, bytes, fit, &w, got, max);
    together = w.returned - before;
    assert_true(n <= max);
    w.offers += n;
    for (uint32_t i = 0; i < n; i++) {
        struct lent *l = &w.lent[got[i].offset / GRANULE];

        assert_int_equal(l->bytes, got[i].bytes);
        assert_true(l->objects && !l->unsealed && !l->offered && fits(got[i].offset));
        assert_true(together < bytes); /* no more than was asked */
        assert_true(l->sealed_at > last);
        last = l->sealed_at;
        l->offered = OFFERED;
        together += l->bytes;
    }
    if (together >= bytes || n == max) return;
    for (uint32_t at = 0; at < MAP_GRANULES; at++) { /* too little: then there was no more */
        const struct lent *l = &w.lent[at];

        if (l->bytes && l->objects && !l->unsealed && !l->offered)
            assert_false(fits((uint64_t)at * GRANULE));
        assert_true(!l->bytes || l->objects);
    }
}

static void step_take_back(void) {
    uint32_t at = (uint32_t)(dice() % MAP_GRANULES);

    for (uint32_t i = 0; i < 2000 && !w.lent[at].offered; i++) at = (at + 1) % MAP_GRANULES;
    if (!w.lent[at].bytes || !w.lent[at].offered) {
        heap_take_back(w.h, (uint64_t)at * GRANULE + 64); /* nothing there */
        return;
    }
    w.lent[at].offered = NO;
    w.lent[at].sealed_at = ++w.clock; /* as if it were: it goes to the end of the queue */
    heap_take_back(w.h, (uint64_t)at * GRANULE);
}

static void step(void) {
    struct object *o = &w.objects[dice() % (LIVE - 64)];
    uint64_t d = dice() % 1000;

    if (d == 0) {
        step_offer();
    } else if (d < 4) {
        step_take_back();
    } else if (!o->used) {
        if (w.count < LIVE - 64) step_alloc(o);
    } else if (!o->sealed && d % 32) {
        step_seal(o);
    } else {
        step_free(o);
    }
}

static void steps(uint32_t n) {
    while (n--) step();
}

static void free_all(void) {
    for (uint32_t i = 0; i < LIVE; i++)
        if (w.objects[i].used) step_free(&w.objects[i]);
}

static void world_begin(uint64_t seed, uint32_t refuse) {
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.refuse = refuse;
    w.hand = 1;
    w.taken[0] = 1;
    w.env = (struct heap_env){.lend = lend, .give_back = give_back, .arg = &w, .spare_max = SPARE,
                              .arena_fd = memfd_create("heap", MFD_CLOEXEC)};
    assert_int_equal(ftruncate(w.env.arena_fd, (off_t)MAP_GRANULES * GRANULE), 0);
    assert_int_equal(heap_new(&w.env, &w.h), 0);
}

static void world_end(void) {
    heap_free_all(w.h);
    (void)close(w.env.arena_fd);
}

/* All is given back. */
static void world_is_empty(void) {
    uint64_t held = 0;

    assert_int_equal(heap_live(w.h), 0);
    assert_int_equal(heap_offer(w.h, 0, NULL, NULL, NULL, 0), 0);
    for (uint32_t at = 0; at < MAP_GRANULES; at++) held += w.lent[at].bytes;
    assert_int_equal(held, 0);
    assert_int_equal(heap_held(w.h), 0);
}

static void test_random(void **state) {
    (void)state;
    world_begin(20261123, 10);
    for (int i = 0; i < 40; i++) {
        steps(STEPS / 40);
        if (i % 10 == 9) free_all(); /* the pool breathes */
        assert_int_equal(heap_held(w.h), w.held);
        assert_int_equal(heap_live(w.h), w.count);
    }
    assert_true(w.lends > w.refusals && w.refusals && w.nested && w.offers && w.back_offered);
    free_all();
    world_is_empty();
    world_end();
}

static uint64_t put(uint64_t size) {
    struct skate_id id = {7, 9};
    uint64_t offset = 0;
    void *data;

    w.within = true; /* nothing happens meanwhile */
    assert_int_equal(heap_alloc(w.h, size, &id, FORMAT_RAW, &offset, &data, NULL), 0);
    lent_of(offset)->objects++;
    return offset;
}

static void drop(uint64_t offset) {
    lent_of(offset)->objects--;
    assert_int_equal(heap_free(w.h, offset), 0);
}

/* An offered extent takes nothing until it is taken back; one with an object that is not complete
 * is not offered. */
static void test_offered(void **state) {
    struct heap_offer got[4];
    uint64_t a, b, c, large;

    (void)state;
    world_begin(1, 0);
    a = put(5000);
    b = put(5000);
    heap_seal(w.h, a);
    assert_int_equal(heap_offer(w.h, 1, NULL, NULL, got, 4), 0); /* b is being written */
    heap_seal(w.h, b);
    large = put(3 << 20);
    assert_int_equal(heap_offer(w.h, UINT64_MAX, NULL, NULL, got, 4), 1);
    assert_ptr_equal(lent_of(a), &w.lent[got[0].offset / GRANULE]);
    drop(b);
    c = put(3000);
    assert_ptr_not_equal(lent_of(c), lent_of(a));
    heap_take_back(w.h, got[0].offset);
    heap_take_back(w.h, got[0].offset);       /* twice, or of nothing: left alone */
    heap_take_back(w.h, got[0].offset + 4096);
    drop(c);
    b = put(5000);
    assert_int_equal(heap_offer(w.h, UINT64_MAX, NULL, NULL, got, 4), 0);
    heap_seal(w.h, b);
    heap_seal(w.h, large);
    assert_int_equal(heap_offer(w.h, UINT64_MAX, NULL, NULL, got, 1), 1);
    assert_int_equal(heap_offer(w.h, UINT64_MAX, NULL, NULL, got + 1, 4), 1);
    assert_int_equal(got[1].bytes, (3 << 20) + 4096); /* the header's page, and no granule */
    drop(large);
    assert_int_equal(w.lent[got[1].offset / GRANULE].bytes, 0); /* at once */
    heap_take_back(w.h, got[1].offset);
    drop(a);
    drop(b);
    world_is_empty();
    world_end();
}

/* What was needed a short while ago stays lent; it goes when it is offered, or not needed. */
static void test_spare(void **state) {
    uint64_t offsets[20], lends, first;

    (void)state;
    world_begin(1, 0);
    for (int i = 0; i < 20; i++) offsets[i] = put(1 << 20);
    lends = w.lends;
    for (int i = 0; i < 20; i++) drop(offsets[i]);
    assert_true(w.held > SPARE / 2 && w.held <= SPARE);
    for (int i = 0; i < 16; i++) offsets[i] = put((1 << 20) - 5000 * i); /* a little smaller */
    assert_int_equal(w.lends, lends);
    for (int i = 0; i < 16; i++) drop(offsets[i]);
    first = put(100);
    for (int i = 0; i < 1000; i++) drop(put(300 << 10)); /* much less is needed now */
    assert_true(w.held <= 18 << 20);
    drop(first);
    lends = w.lends;
    for (int i = 0; i < 1000; i++) drop(put(100)); /* an extent for small ones stays */
    assert_int_equal(w.lends, lends);
    world_is_empty();
    heap_free_all(w.h);
    w.env.spare_max = 0; /* the last one even then */
    assert_int_equal(heap_new(&w.env, &w.h), 0);
    for (int i = 0; i < 1000; i++) drop(put(100));
    assert_int_equal(w.lends, lends + 1);
    drop(put(1 << 20));
    assert_int_equal(heap_free(w.h, 64), -SKATE_ENOENT); /* nothing of what is gone is looked at */
    assert_true(w.held <= 1 << 20);
    world_is_empty();
    world_end();
}

/* The machine has no memory for what was lent: an error, and nothing is left over. */
static void test_no_pages(void **state) {
    struct skate_id id = {7, 9};
    struct skate_error err;
    uint64_t offset;
    void *data;

    (void)state;
    world_begin(1, 0);
    w.within = true;
    assert_int_equal(ftruncate(w.env.arena_fd, 0), 0);
    for (uint64_t size = 100; size < UINT64_C(1) << 22; size *= 100) {
        assert_int_equal(heap_alloc(w.h, size, &id, FORMAT_RAW, &offset, &data, &err),
                         -SKATE_EFULL);
        assert_non_null(strstr(err.text, "memory"));
    }
    assert_true(w.lends >= 2);
    assert_int_equal(ftruncate(w.env.arena_fd, (off_t)MAP_GRANULES * GRANULE), 0);
    drop(put(100));
    drop(put(1 << 20));
    world_is_empty();
    world_end();
}

/* Objects of 2 KB to 64 KB come and go: holes and rounding take little. */
static void test_waste(void **state) {
    uint64_t live = 0, sizes[LIVE], offsets[LIVE];
    uint32_t n = 0;

    (void)state;
    world_begin(5, 0);
    for (int i = 0; i < STEPS / 5; i++) {
        if (live < UINT64_C(30) << 20) {
            sizes[n] = (2048 + dice() % 2048) << dice() % 5;
            offsets[n] = put(sizes[n]);
            live += sizes[n++];
        } else {
            uint32_t k = (uint32_t)(dice() % n);

            drop(offsets[k]);
            live -= sizes[k];
            offsets[k] = offsets[--n];
            sizes[k] = sizes[n];
        }
    }
    assert_true(live > w.held / 100 * 85);
    while (n) drop(offsets[--n]);
    world_is_empty();
    world_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_offered),
                                       cmocka_unit_test(test_spare),
                                       cmocka_unit_test(test_no_pages),
                                       cmocka_unit_test(test_waste)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
