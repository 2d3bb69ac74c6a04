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
    bool spilled;  /* some of its bytes on this node are in a spill file, and not in memory */
};
/* What this process knows of an object. Any thread; never blocks. */
SKATE_NODISCARD int core_locate(struct core *c, const struct skate_id *id, struct core_place *ret);

/* The bytes of an arena value on this node, its own or those of its copy: in memory, or in a spill
 * file, or in one that cannot be read. Under the mutex. */
enum locate_memory { LOCATE_HERE, LOCATE_PARTLY, LOCATE_OUT, LOCATE_LOST };
enum locate_memory locate_memory(const struct core *c, uint32_t slot);

#endif
