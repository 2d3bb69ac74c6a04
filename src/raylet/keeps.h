/* keeps.h - objects whose process ends, and surplus idle workers (keeps.c).
 *
 * Included by raylet.h alone. Loop thread; never blocks. */
#ifndef SKATE_RAYLET_KEEPS_H
#define SKATE_RAYLET_KEEPS_H

#include "store/extents.h"
#include "wire/wire_gen.h"

struct proc;
struct raylet;

uint64_t keeps_holder(const struct raylet *r); /* the number that kept extents are lent to */
SKATE_NODISCARD int keeps_lend(struct raylet *r, const struct proc *p, uint64_t bytes,
                               struct extent_span *ret, struct skate_error *err);
void keeps_release(struct raylet *r, const struct wire_free *m);
bool keeps_is_done(struct raylet *r, uint64_t offset); /* kept there, and whole: it may leave */
void keeps_stays(struct proc *p);
void keeps_beat(struct raylet *r);

#endif
