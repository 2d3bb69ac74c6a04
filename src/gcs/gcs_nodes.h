/* gcs_nodes.h - nodes: join, loss, health, return; part of gcs_int.h. */
#ifndef SKATE_GCS_GCS_NODES_H
#define SKATE_GCS_GCS_NODES_H

#include "gcs/gcs_int.h"

/* gcs_nodes.c */
struct gcs_node *gcs_node_find(struct gcs *g, uint32_t number); /* living or dead; NULL */
void gcs_node_register(struct gcs *g, const struct gcs_from *from,
                       const struct wire_node_register *m, const char *peer_ip);
void gcs_node_report(struct gcs *g, struct gcs_node *n, const struct wire_node_report *m);
void gcs_node_drain(struct gcs *g, const struct gcs_from *from, const struct wire_node_drain *m);
void gcs_node_lost(struct gcs *g, struct gcs_node *n, const char *why);
void gcs_node_bye(struct gcs *g, struct gcs_node *n, const struct wire_node_bye *m);
void gcs_node_frame(const struct gcs_node *n, struct wire_buf *b); /* node_info, begun and put */
/* A newcomer hears of all living nodes and live jobs. */
void gcs_node_tell_all(struct gcs *g, const struct gcs_node *n);
void gcs_node_welcome(struct gcs *g, const struct gcs_from *from, const struct gcs_node *n,
                      int status, const char *reason); /* n NULL: refused; the link ends */

/* gcs_return.c: nodes whose link breaks, and that come back */
void gcs_node_away(struct gcs *g, struct gcs_node *n, const char *why);
void gcs_node_return(struct gcs *g, const struct gcs_from *from,
                     const struct wire_node_register *m);
void gcs_node_state(struct gcs *g, struct gcs_node *n, const struct wire_node_state *m);
/* It sent a frame: now and then it hears how many of those that it keeps are here. */
void gcs_node_got(struct gcs *g, struct gcs_node *n, uint32_t kind);

#endif
