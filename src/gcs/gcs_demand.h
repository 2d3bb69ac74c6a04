/* gcs_demand.h - demand that no raylet could meet alone; src/gcs only. See gcs_demand.c. */
#ifndef SKATE_GCS_GCS_DEMAND_H
#define SKATE_GCS_GCS_DEMAND_H

#include "gcs/gcs_int.h"
#include "wire/row_list.h"

void gcs_demand_report(struct gcs *g, const struct gcs_from *from,
                       const struct wire_demand_report *m);
/* Place what there is room for: at the end of a step. */
void gcs_demand_place(struct gcs *g);
/* This node has more room than before: what fits there is tried again. */
void gcs_demand_room(struct gcs *g, const struct sched_node *row);
/* A node came or went: what can be met at all is another question now. */
void gcs_demand_nodes(struct gcs *g);
void gcs_demand_node_lost(struct gcs *g, uint32_t node);
/* All that waits in the cluster: leases, actors, bundles. */
void gcs_demand_list(struct gcs *g, struct wire_row_list *r);
void gcs_demand_release(struct gcs *g);

/* gcs_place.c: sched_pick, and when only what actors being started take is in the way, as if that
 * were free. */
SKATE_NODISCARD int gcs_place_pick(struct gcs *g, const struct sched_ask *ask,
                                   uint32_t *ret_node);
/* gcs_nodes.c: so much is free there, it says. */
void gcs_node_has(struct gcs *g, struct gcs_node *n, const struct resources *avail);
/* So many that they are not all told of each other. */
bool gcs_nodes_many(const struct gcs *g);
void gcs_node_get(struct gcs *g, const struct gcs_from *from, const struct wire_node_get *m);

#endif
