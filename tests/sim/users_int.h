/* users_int.h - what the files of the simulated programs share. */
#ifndef SKATE_SIM_USERS_INT_H
#define SKATE_SIM_USERS_INT_H

#include "core/core.h"
#include "users.h"

enum { FN_ADD = 1, FN_SLEEP, FN_BIG, FN_NEST, FN_FAIL, FN_COUNTER, FN_READ, FNS };

/* Wait for a value. 0: *ret is its number; 1: it is an error; negative. */
int sim_read_number(struct core *c, const struct skate_id *id, int64_t *ret);
/* Count an actor one on. */
int sim_call(struct core *c, const struct skate_id *actor, struct skate_id *ret);
/* users_groups.c: make a placement group, run tasks and an actor in it, give it back (or not). */
void sim_do_group(struct sim_driver *d, struct core *c);

#endif
