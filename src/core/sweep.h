/* sweep.h - what the dead leave behind in this process: paths to ended processes, entries of ended
 * actors. Freed by the core thread when nothing points to them; who was dead stays known, by one
 * bit for each process number (ids are never used again). sweep.c; included by core_int.h. */
#ifndef SKATE_CORE_SWEEP_H
#define SKATE_CORE_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

struct actor;
struct core;
struct link;

struct dead_node { /* the ended processes of one node */
    uint32_t node, words;
    uint64_t *bits; /* by process number */
};
struct sweep {
    struct dead_node *nodes;
    uint32_t node_count;
    bool dirty; /* somebody dead is still here */
    int64_t looked_ns;
};

/* All under the core mutex. */
void sweep_tick(struct core *c); /* the core thread, outside of everything else */
void sweep_note(struct core *c, uint64_t proc);       /* it is dead */
bool sweep_is_dead(const struct core *c, uint64_t proc);
void sweep_release(struct core *c);
void link_free(struct link *l);   /* link.c */
void actor_free(struct actor *a); /* actors.c */
void streams_mark(struct core *c); /* items.c: their links are needed */

#endif
