/* private_view.h - part of the interface of core.h: stored bytes that the reader may write to, and
 * what stays of the arena when the session has ended. */
#ifndef SKATE_CORE_PRIVATE_VIEW_H
#define SKATE_CORE_PRIVATE_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct core;

/* A private, writable mapping of the pages in which `size` bytes of a view lie; the caller keeps
 * its pin, and unmaps. Any thread; one system call. -SKATE_EINVAL: not in the arena. */
SKATE_NODISCARD int core_private_view(struct core *c, const void *data, uint64_t size,
                                      void **ret_map, size_t *ret_len);

/* Pages of the arena, or more of them that touch. */
struct core_pages {
    uint8_t *from, *to;
};
/* After core_close: unmap the arena but for these pages, which are sorted and do not overlap. They
 * are the caller's. */
void core_unmap(struct core *c, const struct core_pages *kept, size_t n);

#endif
