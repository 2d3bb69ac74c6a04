/* memory_info.h - how much memory is used, of how much: this machine's, and that of the cgroups
 * (v2 or v1, or both) that we are in, up to the root; and what processes hold.
 *
 * Used is what cannot be had back: page cache that the kernel drops when it must does not count,
 * shared memory does, once. Only reads small files of /proc and /sys below `root` ("" but in
 * tests), each into a bounded buffer; whatever they hold does no harm: what cannot be read is not
 * known. Blocks as short as a read of such a file does; loop thread. A look at the node costs some
 * 60 us, at a process 5 us. Tests: tests/unit/raylet_memory_info_test.c. */
#ifndef SKATE_RAYLET_MEMORY_INFO_H
#define SKATE_RAYLET_MEMORY_INFO_H

#include <stdbool.h>
#include <stdint.h>

struct memory_rules {
    double fraction;  /* of the limit: more is too much */
    int64_t min_free; /* but not before less than this is free; -1: no such bound */
};

/* One thing that has a limit. limit 0: not known, or it has none. */
struct memory_use {
    uint64_t used, limit, threshold;
    char what[16]; /* "node", "cgroup", "session" */
};

uint64_t memory_threshold(uint64_t limit, const struct memory_rules *rules);
/* How far it is below its threshold, in bytes; negative: above. INT64_MAX: it has no limit. */
int64_t memory_room(const struct memory_use *u);
/* The one with the least room: the machine, or a cgroup of ours. */
struct memory_use memory_read(const char *root, const struct memory_rules *rules);

/* Memory of its own that a process has in RAM: neither files nor shared memory. What it shares
 * with the one that it was forked from is counted too. 0: no such process. */
uint64_t memory_of_pid(const char *root, uint32_t pid);
/* What would come back if it ended, in RAM or swap: exact, but the kernel walks all its pages
 * (some ms for each GB). 0: not known. */
uint64_t memory_exact(const char *root, uint32_t pid);

struct memory_proc {
    uint32_t pid, group; /* group: of processes */
    uint64_t bytes;      /* memory_of_pid */
    char name[16];
};
/* All processes that are seen, `max` at most. Returns how many. */
uint32_t memory_scan(const char *root, struct memory_proc *out, uint32_t max);

#endif
