/* object.h - what lies in front of each object's bytes in the arena, 64-byte aligned.
 *
 * Written by the process to which the extent is lent; whoever reads the bytes of an object, or
 * sends them to another node, looks here first that they are that object's. Copies that a raylet
 * pulled have none. */
#ifndef SKATE_STORE_OBJECT_H
#define SKATE_STORE_OBJECT_H

#include <stdint.h>

#include "base/id.h"

#define HEAP_MAGIC 0x6f6b6173u

struct heap_header {
    uint32_t magic;
    uint32_t generation; /* grows each time these bytes are used anew */
    struct skate_id id;
    uint64_t size;
    uint8_t format;
    uint8_t pad[31];
};
_Static_assert(sizeof(struct heap_header) == 64, "in shared memory");

#endif
