/* node_own.h - the daemons of a session that a program starts for itself: skate-gcs and
 * skate-raylet, found beside libskate.so; they end with the program, however it ends.
 *
 * One thread for each node; start and stop block (start: bounded by the deadline). */
#ifndef SKATE_API_NODE_OWN_H
#define SKATE_API_NODE_OWN_H

#include "api/machine.h"
#include "skate/skate.h"

struct api_node {
    int gcs_pid, raylet_pid;
    int gcs_in, raylet_in; /* the daemons' standard input: their lifeline */
    char dir[API_PATH];
    char socket_path[API_PATH];
};

SKATE_NODISCARD int api_node_start(const struct skate_options *o, int64_t deadline_ns,
                                   struct api_node **ret, struct skate_error *err);
void api_node_stop(struct api_node *n);
/* In a forked child: let go of the lifelines. */
void api_node_forked(struct api_node *n);

#endif
