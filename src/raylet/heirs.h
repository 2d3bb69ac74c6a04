/* heirs.h - what others hold of a dead process, and who owns it from then on (heirs.c).
 *
 * Included by raylet.h alone. Loop thread; never blocks. */
#ifndef SKATE_RAYLET_HEIRS_H
#define SKATE_RAYLET_HEIRS_H

#include "wire/wire_gen.h"

struct proc;
struct raylet;

uint64_t heirs_adopt(struct raylet *r, struct proc *p, const char *text); /* the heir, or 0 */
uint64_t heirs_of(const struct raylet *r, uint64_t dead);
void heirs_note(struct raylet *r, uint64_t dead, uint64_t heir);
bool heirs_forward(struct raylet *r, const struct wire_route *m); /* dst is dead: to its heir */
void heirs_on_lease(struct raylet *r, uint64_t src, const struct wire_lease_heir *m);
void heirs_welcome(struct raylet *r, struct proc *p);
void heirs_tell_node(struct raylet *r, uint32_t node);
void heirs_job_end(struct raylet *r, uint64_t driver);

#endif
