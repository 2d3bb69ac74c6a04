/* users.h - programs of the simulated cluster: drivers and workers with the real core. */
#ifndef SKATE_SIM_USERS_H
#define SKATE_SIM_USERS_H

#include "base/id.h"
#include "sim.h"

/* What a driver is to do, and what came of it. */
struct sim_driver {
    struct sim_driver *next;
    struct sim_machine *machine;
    struct sim_proc *proc;
    uint32_t number, tasks, actors; /* how much it is to do */
    uint32_t calls, names_made;
    uint32_t done, right, errors;   /* waits that ended; with the right value; with an error */
    bool started, finished, quiet;  /* quiet: all it had is gone again */
    bool checker; /* it looks for all names first */
    bool excused; /* it, or its node, was killed */
    char trouble[600];
};
extern struct sim_driver *sim_drivers;
extern bool sim_groups; /* drivers make placement groups, too */
extern bool sim_places; /* ... with actors in them, and spread tasks and such for a node */

/* A detached actor whose making was acknowledged: it keeps its name for ever. */
struct sim_name {
    struct sim_name *next;
    struct skate_id actor;
    char name[40];
};
extern struct sim_name *sim_names;
struct sim_driver *sim_driver_new(struct sim_machine *m, uint32_t tasks, uint32_t actors);
void sim_drivers_node_lost(const struct sim_machine *m); /* its raylet has ended */
/* The main thread of each worker. */
void *sim_worker_main(void *fd);

#endif
