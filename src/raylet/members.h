/* members.h - processes that join a job which another program has started.
 *
 * A member is a user's program (a UDF in Spark's Python worker): it came by the node's socket, is
 * watched by a pidfd and never killed, like a driver; it is in the driver's job, has the job's
 * workers, and its objects that others hold go to the driver when it ends, like a worker. No task
 * is ever given to it. Loop thread only. Tests: raylet_node_test.c, tests/python/test_attach.py. */
#ifndef SKATE_RAYLET_MEMBERS_H
#define SKATE_RAYLET_MEMBERS_H

#include "raylet/raylet.h"

/* It asks to be one; answered. */
void members_join(struct raylet *r, struct proc *p, const struct wire_job_join *m);
/* The job is over: its members are told, and cut off. */
void members_end(struct raylet *r, uint32_t job, const char *why);

#endif
