/* locate.h - part of the interface of core.h: where the bytes of an object lie. */
#ifndef SKATE_CORE_LOCATE_H
#define SKATE_CORE_LOCATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"

struct core;

struct core_place {
    bool ready;    /* there is a value, and this process knows where */
    bool copied;   /* this node has a copy of what lies on another */
    uint32_t node; /* number of the node where it was stored; of its owner's, when it is small */
    uint64_t size;
};
/* What this process knows of an object. Any thread; never blocks. */
SKATE_NODISCARD int core_locate(struct core *c, const struct skate_id *id, struct core_place *ret);

#endif
