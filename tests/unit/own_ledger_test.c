/* The ledger's slots and byte area, the heap's slots and extents. libs: base wire own core */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "core/heap.h"
#include "own/ledger.h"
#include "wire/frame.h"

static void ledger_cycle(void **state) {
    void *map = mmap(NULL, LEDGER_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct ledger l;
    uint64_t offsets[500], again;
    uint32_t slot, other;

    (void)state;
    assert_true(map != MAP_FAILED);
    ledger_init(&l, map, 42);
    assert_int_equal(l.header->magic, LEDGER_MAGIC);
    assert_int_equal(ledger_slot_take(&l, LEDGER_OF_OBJECTS, &slot), 0);
    assert_int_equal(ledger_state_of(&l.slots[slot]), LEDGER_FREE);
    ledger_move(&l, slot, LEDGER_INLINE, 3, VAL_ERROR);
    assert_int_equal(ledger_format_of(&l.slots[slot]), 3);
    assert_int_equal(ledger_flags_of(&l.slots[slot]), VAL_ERROR);
    assert_int_equal(ledger_slot_take(&l, LEDGER_OF_OBJECTS, &other), 0);
    assert_int_not_equal(slot, other);
    ledger_slot_free(&l, LEDGER_OF_OBJECTS, slot);
    assert_int_equal(ledger_slot_take(&l, LEDGER_OF_OBJECTS, &other), 0);
    assert_int_equal(slot, other);
    ledger_slot_free(&l, LEDGER_OF_OBJECTS, slot);
    for (uint32_t i = 0; i < 3 * LEDGER_BLOCK; i++) { /* no page holds slots of both kinds */
        assert_int_equal(ledger_slot_take(&l, LEDGER_OF_OBJECTS, &slot), 0);
        assert_int_equal(ledger_slot_take(&l, LEDGER_OF_TASKS, &other), 0);
        assert_int_not_equal(slot / LEDGER_BLOCK, other / LEDGER_BLOCK);
        assert_true(slot < l.header->slots_used && other < l.header->slots_used);
    }
    ledger_slot_free(&l, LEDGER_OF_TASKS, other);
    assert_int_equal(ledger_slot_take(&l, LEDGER_OF_OBJECTS, &slot), 0);
    assert_int_not_equal(slot, other); /* each is reused by its own kind */
    assert_int_equal(ledger_slot_take(&l, LEDGER_OF_TASKS, &slot), 0);
    assert_int_equal(slot, other);
    for (uint32_t i = 0; i < 500; i++) { /* pieces never overlap */
        assert_int_equal(ledger_alloc(&l, i * 7 + 1, &offsets[i]), 0);
        assert_int_equal(offsets[i] % 16, 0);
        memset(l.area + offsets[i], (int)(i & 0xff), i * 7 + 1);
    }
    for (uint32_t i = 0; i < 500; i++)
        for (uint32_t k = 0; k < i * 7 + 1; k++)
            assert_int_equal(l.area[offsets[i] + k], i & 0xff);
    ledger_free(&l, offsets[100], 701);
    assert_int_equal(ledger_alloc(&l, 690, &again), 0); /* the same class: reused */
    assert_int_equal(again, offsets[100]);
    assert_int_equal(ledger_alloc(&l, LEDGER_AREA * 2, &again), -SKATE_ETOOBIG);
    ledger_release(&l);
    (void)munmap(map, LEDGER_BYTES);
}

struct arena {
    uint64_t next, bytes;
    int lent;
};

static int lend(void *arg, uint64_t bytes, uint64_t *ret_offset, uint64_t *ret_bytes,
                struct skate_error *err) {
    struct arena *a = arg;

    if (a->next + bytes > a->bytes) return err_fail(err, -SKATE_EFULL, "full");
    *ret_offset = a->next;
    *ret_bytes = bytes;
    a->next += bytes;
    a->lent++;
    return 0;
}

static void give_back(void *arg, uint64_t offset) {
    (void)offset;
    ((struct arena *)arg)->lent--;
}

static void heap_random(void **state) {
    enum { LIVE = 300 };
    struct arena a = {.bytes = UINT64_C(1) << 30};
    int fd = memfd_create("test", MFD_CLOEXEC);
    struct heap_env env = {.lend = lend, .give_back = give_back, .arg = &a, .arena_fd = fd,
                           .spare_max = HEAP_SPARE_BYTES};
    struct {
        uint64_t offset, size;
        uint8_t *data;
    } live[LIVE] = {{0}};
    struct skate_id id = {1, 2};
    struct heap *h;
    uint64_t seed = 3;

    (void)state;
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
    assert_int_equal(heap_new(&env, &h), 0);
    for (int i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t k = (uint32_t)(seed >> 33) % LIVE;

        if (live[k].data) {
            for (uint64_t b = 0; b < live[k].size; b += 61)
                assert_int_equal(live[k].data[b], k & 0xff);
            assert_int_equal(heap_free(h, live[k].offset), 0);
            assert_int_equal(heap_free(h, live[k].offset + 64), -SKATE_ENOENT);
            live[k].data = NULL;
        } else {
            void *data;

            live[k].size = seed % 100 < 97 ? (seed >> 20) % 5000 : (seed >> 20) % 400000;
            assert_int_equal(heap_alloc(h, live[k].size, &id, FORMAT_RAW, &live[k].offset, &data,
                                        NULL), 0);
            assert_int_equal((uintptr_t)data % 64, 0);
            live[k].data = data;
            memset(data, (int)(k & 0xff), live[k].size);
        }
    }
    assert_true(heap_held(h) < UINT64_C(256) << 20); /* reused, not grown for ever */
    heap_free_all(h);
    (void)close(fd);
}

/* A freed large object leaves its extent warm for the next one; a full arena is a typed error. */
static void heap_large(void **state) {
    struct arena a = {.bytes = 64 << 20};
    int fd = memfd_create("test", MFD_CLOEXEC);
    struct heap_env env = {.lend = lend, .give_back = give_back, .arg = &a, .arena_fd = fd,
                           .spare_max = HEAP_SPARE_BYTES};
    struct skate_id id = {1, 2};
    struct skate_error err;
    uint64_t first, second;
    struct heap *h;
    void *data;

    (void)state;
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    assert_int_equal(heap_new(&env, &h), 0);
    assert_int_equal(heap_alloc(h, 10 << 20, &id, FORMAT_RAW, &first, &data, &err), 0);
    assert_int_equal(heap_free(h, first), 0);
    assert_int_equal(heap_free(h, first), -SKATE_ENOENT); /* twice is refused */
    assert_int_equal(heap_alloc(h, 10 << 20, &id, FORMAT_RAW, &second, &data, &err), 0);
    assert_int_equal(first, second);
    assert_int_equal(heap_alloc(h, 100 << 20, &id, FORMAT_RAW, &first, &data, &err),
                     -SKATE_EFULL);
    assert_string_equal(err.text, "full");
    assert_int_equal(heap_free(h, 12345), -SKATE_ENOENT);
    heap_free_all(h);
    env.spare_max = 1 << 20; /* a small store keeps nothing large warm */
    a.lent = 0;
    assert_int_equal(heap_new(&env, &h), 0);
    a.next = 0;
    assert_int_equal(heap_alloc(h, 10 << 20, &id, FORMAT_RAW, &first, &data, &err), 0);
    assert_int_equal(heap_free(h, first), 0);
    assert_int_equal(a.lent, 0);
    heap_free_all(h);
    (void)close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ledger_cycle), cmocka_unit_test(heap_random),
        cmocka_unit_test(heap_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
