/* holdings.h - what objects this process holds, how, and since when (holdings.c, ages.c). All of it
 * under the core mutex. */
#ifndef SKATE_CORE_HOLDINGS_H
#define SKATE_CORE_HOLDINGS_H

#include "core/core_int.h"

/* ages.c: how old an object of ours is, at least, without a clock in the hot path: ids are given
 * out in order, and once a second it is noted which was the last. */
enum { AGES_MOST = 256 };
struct age_note {
    int64_t at_ns;
    uint64_t seq; /* of ids: all up to this one were there */
};
struct ages {
    uint32_t count;
    struct age_note v[AGES_MOST]; /* the oldest first */
};
void ages_note(struct ages *a, uint64_t seq, int64_t now_ns);
int64_t ages_of(const struct ages *a, uint64_t seq, int64_t now_ns); /* 0: since the last note */
void ages_tick(struct core *c); /* the core thread's, now and then */

void holdings_on_req(struct core *c, uint64_t src, const struct wire_memory_req *m);

#endif
