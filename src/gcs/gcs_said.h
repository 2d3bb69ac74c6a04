/* gcs_said.h - what raylets say of themselves: kept, and told to the drivers. */
#ifndef SKATE_GCS_GCS_SAID_H
#define SKATE_GCS_GCS_SAID_H

#include "gcs/gcs_int.h"
#include "wire/row_list.h"

enum { SAID_BYTES = 16384, SAID_NODES = 64 }; /* of a node; nodes, the most silent goes first */

void gcs_said(struct gcs *g, const struct gcs_node *n, const struct wire_node_said *m);
void gcs_said_list(const struct gcs *g, struct wire_row_list *r);
void gcs_said_release(struct gcs *g);

#endif
