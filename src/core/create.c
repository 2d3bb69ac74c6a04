/* create.c - see create.h.
 *
 * A draft is an object with an extent of its own that is not sealed; its entry in the table exists
 * from the start, so that dropping the draft is dropping a ref. Its memory is the heap's writable
 * mapping of the extent. Sealing moves the pages of that mapping to another address, where the heap
 * goes on using them, and leaves the old range behind with nothing mapped in it, which costs
 * nothing to make read-only: changing a million page table entries would. Reads of the old range
 * map its pages again, read-only. Any thread. Tests: tests/python/test_create.py,
 * tests/c/create_case.c. */
#include "core/create.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/core_int.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* Page tables of that many bytes move as one when both addresses agree modulo it. */
enum { HUGE = 2 << 20 };

int core_create(struct core *c, uint64_t size, struct core_draft *ret, struct skate_error *err) {
    struct heap_place place;
    struct wire_val val;
    struct skate_id id;
    uint32_t slot;
    int r = core_enter(c);

    if (r < 0) return r;
    objects_apply_drops(c);
    id = (struct skate_id){c->info.proc, ++c->next_seq << 16 | SKATE_INDEX_PUT};
    if (c->dead) r = err_fail(err, -SKATE_EDEAD, "%s", c->death.text);
    if (r == 0) r = heap_alloc_cold(c->heap, size, &id, true, &place, err);
    if (r < 0) goto out;
    slot = object_new(c, &id);
    if (slot == NONE) {
        (void)heap_free(c->heap, place.offset);
        r = err_fail(err, -SKATE_EFULL, "the table of objects is full (%u)", LEDGER_OBJECTS);
        goto out;
    }
    c->object_v[slot].local = 1;
    val = (struct wire_val){.kind = VAL_ARENA, .format = FORMAT_RAW, .id = id, .size = size,
                            .holder = c->info.proc, .offset = place.offset};
    object_put(c, slot, &val, NULL, NULL);
    *ret = (struct core_draft){.id = id, .size = size, .data = place.data};
out:
    core_leave(c);
    return r;
}

/* Another address for the pages at `at`, which stays as an empty mapping of the same file. */
static uint8_t *move_pages(uint8_t *at, size_t bytes) {
    size_t room = bytes + HUGE;
    uint8_t *free = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *to, *end;

    if (free == MAP_FAILED) return NULL;
    to = free + (((uintptr_t)at - (uintptr_t)free) & (HUGE - 1));
    end = to + bytes;
    if (mremap(at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) ==
        MAP_FAILED) {
        (void)munmap(free, room);
        return NULL;
    }
    if (to > free) (void)munmap(free, (size_t)(to - free));
    if (end < free + room) (void)munmap(end, (size_t)(free + room - end));
    return to;
}

/* The heap uses another mapping of the extent from now on; this one is the draft's. */
static int part(struct core *c, uint64_t offset, struct core_draft *draft, bool read_only,
                struct skate_error *err) {
    uint64_t bytes;
    uint8_t **map = heap_map(c->heap, offset, &bytes), *other;

    if (!map) return err_fail(err, -SKATE_EINVAL, "no such buffer");
    other = move_pages(*map, bytes);
    if (!other && !read_only) { /* a kernel before 5.13; the heap will not look at it again */
        other = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (other == MAP_FAILED) other = NULL;
    }
    if (!other) goto fail;
    if (read_only && mprotect(*map, bytes, PROT_READ) < 0) {
        if (mremap(other, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, *map) == MAP_FAILED)
            *map = other; /* the draft's mapping stays writable; it fills again from the file */
        goto fail;
    }
    if (read_only) (void)madvise(*map, bytes, MADV_DOFORK);
    draft->map = *map;
    draft->map_bytes = bytes;
    *map = other;
    return 0;

fail:
    return err_fail(err, -SKATE_ENOMEM, "the buffer cannot be mapped anew: %s", strerror(errno));
}

int core_seal_put(struct core *c, struct core_draft *draft, uint8_t format, uint16_t flags,
                  struct skate_error *err) {
    struct ledger_slot *s;
    struct core_view view;
    uint32_t slot;
    int r = core_enter(c);

    if (r < 0) return r;
    slot = object_find(c, &draft->id);
    if (c->dead)
        r = err_fail(err, -SKATE_EDEAD, "%s", c->death.text);
    else if (slot == MAP_NONE || draft->map)
        r = err_fail(err, -SKATE_EINVAL, "no such buffer");
    else
        r = view_wait(c, slot, &view); /* pinned before it may leave memory */
    if (r < 0) goto out;
    SKATE_ASSERT(slot == object_find(c, &draft->id)); /* its ref is the draft's */
    s = &c->ledger.slots[slot];
    ((struct heap_header *)(void *)draft->data - 1)->format = format;
    r = part(c, s->offset, draft, true, err);
    if (r == 0) {
        heap_seal(c->heap, s->offset);
        ledger_move(&c->ledger, slot, LEDGER_ARENA, format, flags);
        draft->pin = view.pin;
    } else
        core_unpin(c, view.pin);
out:
    core_leave(c);
    return r;
}

void core_draft_drop(struct core *c, struct core_draft *draft) { core_ref_drop(c, &draft->id); }

void core_draft_take(struct core *c, struct core_draft *draft) {
    uint32_t slot;

    (void)pthread_mutex_lock(&c->lock); /* legal after core_interrupt() */
    slot = object_find(c, &draft->id);
    if (slot != MAP_NONE && !draft->map)
        (void)part(c, c->ledger.slots[slot].offset, draft, false, NULL);
    (void)pthread_mutex_unlock(&c->lock);
}
