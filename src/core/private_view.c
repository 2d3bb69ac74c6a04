/* private_view.c - bytes of the arena that the caller may write to: their pages, mapped privately.
 *
 * And the end of the arena. Called from any thread; no lock: the descriptor and place never change.
 * Tests: tests/python/test_writable.py. */
#include "core/private_view.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/core_int.h"

int core_private_view(struct core *c, const void *data, uint64_t size, void **ret_map,
                      size_t *ret_len) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), from, to;
    const uint8_t *p = data;
    void *map;

    if (p < c->arena || size > c->info.arena_bytes ||
        (uint64_t)(p - c->arena) > c->info.arena_bytes - size || c->arena_fd < 0)
        return -SKATE_EINVAL;
    from = (uint64_t)(p - c->arena);
    if (c->residency && size &&
        !residency_all_here(c->residency, granule_first(from), granule_end(from, size)))
        return -SKATE_EINVAL; /* pinned, but read from a file (restore.c): the arena has no pages */
    from &= ~(page - 1);
    to = ((uint64_t)(p - c->arena) + size + page - 1) & ~(page - 1);
    map = mmap(NULL, to - from, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, c->arena_fd,
               (off_t)from);
    if (map == MAP_FAILED) return -SKATE_ENOMEM;
    *ret_map = map;
    *ret_len = to - from;
    return 0;
}

void core_unmap(struct core *c, const struct core_pages *kept, size_t n) {
    uint8_t *at = c->arena, *end = at + c->arena_mapped;

    if (!at || !c->stop) return;
    for (size_t i = 0; i < n; i++) {
        if (kept[i].from < at || kept[i].to > end) continue;
        if (kept[i].from > at) (void)munmap(at, (size_t)(kept[i].from - at));
        at = kept[i].to;
    }
    if (end > at) (void)munmap(at, (size_t)(end - at));
    c->arena = NULL;
}
