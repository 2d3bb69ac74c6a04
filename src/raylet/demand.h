/* demand.h - leases that this node cannot grant: the GCS hears of them, and says where they go.
 * Loop thread; never blocks. See demand.c. */
#ifndef SKATE_RAYLET_DEMAND_H
#define SKATE_RAYLET_DEMAND_H

#include "raylet/raylet.h"

/* No other node is known: nothing can be placed elsewhere. */
bool demand_alone(const struct raylet *r);
/* May what fits here go here, though another node might be better? Not while the GCS is asked. */
bool demand_settled(struct raylet *r, const struct lease_class *c);
/* After a pass over the queue: kinds of which more wait than the GCS knows, or none. */
void demand_grew(struct raylet *r);
/* With a report: all kinds of which the number has changed. beat: it is that of each second. */
void demand_changed(struct raylet *r, bool beat);
/* What is free may have changed: a report, now or soon. */
void demand_report_soon(struct raylet *r);
/* The GCS knows of a lease that it has placed here: it was granted; or there was no room for it. */
void demand_granted(struct raylet *r, const struct resources *want);
void demand_refused(struct raylet *r, const struct resources *want);
/* The GCS has forgotten: say all again. */
void demand_again(struct raylet *r);
void demand_placed(struct raylet *r, const struct wire_demand_place *m);

/* grants.c: n leases of the request leave for another node; it fails, for no node can ever run it;
 * its driver hears that no node can. */
void grants_pass_on(struct raylet *r, uint32_t node, struct lease_ask *a, uint32_t n);
void grants_no_node(struct raylet *r, struct lease_ask *a);
void grants_tell_never(struct raylet *r, const struct lease_ask *a, const char *text);

#endif
