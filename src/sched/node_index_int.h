/* node_index_int.h - the index's state; node_index.c keeps it, node_search.c reads it. */
#ifndef SKATE_SCHED_NODE_INDEX_INT_H
#define SKATE_SCHED_NODE_INDEX_INT_H

#include <string.h>

#include "base/map.h"
#include "sched/node_index.h"

enum { NO_LEAF = UINT32_MAX, SOME_ALIVE = 1, SOME_OPEN = 2 };

struct dim { /* a resource of a shape */
    char name[64];
    int64_t total; /* of each node when exact, else about that */
    bool exact;
};
struct peak { /* the most below a node of the tree */
    int64_t free, total;
    double part; /* free / total */
};
struct shape {
    uint64_t hash;
    char labels[LABELS_MAX];
    uint32_t dim_count;
    struct dim dims[RESOURCES_MAX];
    uint32_t count, leaves;  /* leaves: a power of two */
    uint32_t *rows;          /* numbers of nodes, ascending; a former member's is empty */
    struct peak *peaks;      /* [2 * leaves][dim_count]; the root is 1 */
    uint8_t *flags;          /* [2 * leaves] */
};
struct named { /* a node that has a name of its own; a list for each name */
    uint32_t node, next;
};
struct node_index {
    struct shape **shapes;
    uint32_t shape_count, shape_cap;
    uint32_t *queue, queued, queue_cap; /* numbers of nodes to look at again */
    struct map names;                   /* of a node alone -> the first in named */
    struct named *named;
    uint32_t named_count, named_cap;
    bool broken; /* out of memory: to be made anew */
};

#define OWN_LABEL "ray.io/node-id"
#define OWN_RESOURCE "node:"

static inline bool is_own_resource(const char *name) {
    return strncmp(name, OWN_RESOURCE, sizeof OWN_RESOURCE - 1) == 0;
}
/* The list of those with that name ("" before a label's value, or a resource's name). */
struct skate_id own_name_key(const char *text, size_t len);

#endif
