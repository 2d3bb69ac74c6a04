/* id.h - 16-byte ids that name their owner.
 *
 * owner: node epoch (high 32 bits) and process number on that node (low 32); process number 0 is
 * the node's raylet, owner 0 as a whole is the GCS. seq: a 48-bit sequence of that owner (high)
 * and a 16-bit index (low): index 0 is a task or an actor, 1..65534 its results; a `put` takes a
 * sequence of its own with index 65535. */
#ifndef SKATE_BASE_ID_H
#define SKATE_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

struct skate_id {
    uint64_t owner;
    uint64_t seq;
};
_Static_assert(sizeof(struct skate_id) == 16, "ids are on the wire and in shared memory");

enum { SKATE_INDEX_TASK = 0, SKATE_INDEX_PUT = 0xffff };
#define SKATE_GCS UINT64_C(0)

static inline uint64_t proc_make(uint32_t node, uint32_t number) {
    return (uint64_t)node << 32 | number;
}
static inline uint32_t proc_node(uint64_t proc) { return (uint32_t)(proc >> 32); }
static inline uint32_t proc_number(uint64_t proc) { return (uint32_t)proc; }
static inline uint64_t proc_raylet(uint64_t proc) { return proc & ~UINT64_C(0xffffffff); }

static inline bool id_equal(const struct skate_id *a, const struct skate_id *b) {
    return a->seq == b->seq && a->owner == b->owner;
}
static inline bool id_is_nil(const struct skate_id *a) { return a->owner == 0 && a->seq == 0; }
static inline uint32_t id_index(const struct skate_id *a) { return (uint32_t)(a->seq & 0xffff); }
static inline struct skate_id id_with_index(struct skate_id a, uint32_t index) {
    a.seq = (a.seq & ~UINT64_C(0xffff)) | index;
    return a;
}
static inline uint64_t id_hash(const struct skate_id *a) {
    uint64_t x = (a->owner ^ (a->seq * UINT64_C(0x9e3779b97f4a7c15))) + a->seq;

    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ (x >> 29);
}

#endif
