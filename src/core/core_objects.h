/* core_objects.h - an entry of the table of objects; included by core_int.h alone. */
#ifndef SKATE_CORE_CORE_OBJECTS_H
#define SKATE_CORE_CORE_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

/* What bytes of another node are brought here for; the first comes first. */
enum fetch { FETCH_NOT, FETCH_GET, FETCH_WAIT, FETCH_ARGUMENT };

struct borrower {
    struct borrower *next;
    uint64_t proc;
    int64_t count; /* borrows known to us; below zero for a moment, see 0001 */
    bool wants;    /* asked for the value and waits */
};
struct dependent {
    struct dependent *next;
    uint32_t task;
};
/* Working state of the object in ledger slot i; objects[i]. The slot holds id, state and counts. */
struct object {
    struct borrower *borrowers;
    struct dependent *dependents;
    uint32_t registered;    /* foreign: borrows registered for us at the owner */
    uint32_t local, holds;  /* local refs; holds of tasks, pins, containers */
    bool requested : 1;     /* foreign: value_req is out */
    bool pulling : 1;
    bool waited : 1;
    bool evicted : 1; /* ours: its bytes are gone; its task makes it again when it is needed */
    bool kept : 1;    /* ours: its task is kept */
    bool claimed : 1; /* of a dead owner: its heir was told that we have it */
    bool more : 1;    /* its entry of more_v is in use */
    bool sought : 1;  /* ours: other nodes are asked for a copy */
    uint8_t why;      /* ours: why it cannot be made again (lineage.c) */
    uint8_t limbo;    /* inherited: enum limbo (estate.c) */
};
_Static_assert(sizeof(struct object) == 32, "a process may have a million of them");

/* What few objects have, in a table of its own whose pages are touched for those alone. */
struct object_more {
    uint64_t local_offset; /* where a pulled copy lies in this node's arena, 0: none */
    uint32_t lineage;      /* ours: kept tasks that name it */
    uint32_t heard_ms;     /* inherited: when somebody last spoke of it */
};

#endif
