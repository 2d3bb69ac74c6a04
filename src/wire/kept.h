/* kept.h - which frames a raylet keeps until the GCS has them for good. */
#ifndef SKATE_WIRE_KEPT_H
#define SKATE_WIRE_KEPT_H

#include <stdbool.h>

#include "wire/wire_gen.h"

/* Both ends count these on a link, for lane_got. All others are said anew after a break, or can be
 * missed. */
static inline bool wire_is_kept(unsigned kind) {
    return kind == WIRE_ROUTE || kind == WIRE_PROC_DIED || kind == WIRE_JOB_END ||
           (kind >= WIRE_ACTOR_CREATE && kind <= WIRE_ACTOR_BY_NAME) ||
           (kind >= WIRE_GROUP_CREATE && kind <= WIRE_GROUP_RELEASE);
}

#endif
