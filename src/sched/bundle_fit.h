/* bundle_fit.h - the bundles of a placement group: their packed form, and the nodes they go to.
 *
 * A bundle is a set of resources on one node; a group places all of its bundles or none. Packed
 * (messages.def): {u32 index, u32 length, packed resources} for each, padded to 8 bytes. Pure; one
 * thread; never blocks. Tests: tests/unit/sched_bundle_fit_test.c. */
#ifndef SKATE_SCHED_BUNDLE_FIT_H
#define SKATE_SCHED_BUNDLE_FIT_H

#include "sched/policy.h"

enum { BUNDLES_MAX = 1024 };
enum group_strategy { GROUP_PACK, GROUP_SPREAD, GROUP_STRICT_PACK, GROUP_STRICT_SPREAD };

struct bundle_want {
    uint32_t index, node; /* node 0: not placed */
    struct resources want;
};

/* A malloc'd array. -SKATE_EPROTO, -SKATE_EFULL, -SKATE_ENOMEM. */
SKATE_NODISCARD int bundles_unpack(const void *data, size_t len, struct bundle_want **ret,
                                   uint32_t *ret_count);
/* Those of `node` (0: all) as malloc'd bytes. NULL: out of memory. */
void *bundles_pack(const struct bundle_want *b, uint32_t count, uint32_t node, uint32_t *ret_len);
/* Find nodes for those that have none, and take what they need from the rows' free amounts.
 * 0; -SKATE_EAGAIN: not now; -SKATE_ENOENT: the living nodes can never hold it. On failure nothing
 * has changed. */
SKATE_NODISCARD int bundles_place(struct sched_view *v, struct bundle_want *b, uint32_t count,
                                  enum group_strategy strategy);

#endif
