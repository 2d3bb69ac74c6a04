/* private_view.h - part of the interface of core.h: stored bytes that the reader may write to. */
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

#endif
