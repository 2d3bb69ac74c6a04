/* lineage.h - the part of struct core that lineage.c and estate.c write, and their public door.
 *
 * core_lineage_max: any thread, never blocks. The rest under the core mutex. */
#ifndef SKATE_CORE_LINEAGE_H
#define SKATE_CORE_LINEAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"

struct core;
struct estate;
struct limbo_entry;

enum { LINEAGE_BYTES = 1 << 30 };

struct lineage { /* what is kept to make lost results again */
    bool far, redoing;         /* far: objects may be lost without us: on other nodes, in files */
    uint32_t head, tail, redo; /* kept tasks, oldest first; those to be run again */
    uint64_t bytes, max;
    const char *why; /* of the loss that is being handled */
};
struct heritage { /* what outlived its owner */
    struct map estates; /* dead process -> index: we are its heir */
    struct estate *estate_v;
    uint32_t estate_count;
    uint32_t heirs_known; /* dead owners with another heir */
    struct limbo_entry *limbo_v;
    uint32_t limbo_count, limbo_cap;
    int64_t looked_ns;
};

/* A copy of ours came here whose node is lost: it takes its place, if that was why it came. */
void lineage_found(struct core *c, uint32_t slot);
/* values.c: have it brought here, from wherever it is. */
void object_bring(struct core *c, uint32_t slot);
/* How many bytes may be kept for making lost results again; the oldest goes beyond that. */
void core_lineage_max(struct core *c, uint64_t bytes);

#endif
