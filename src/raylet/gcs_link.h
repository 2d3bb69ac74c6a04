/* gcs_link.h - the connection to the GCS. Loop thread; never blocks. */
#ifndef SKATE_RAYLET_GCS_LINK_H
#define SKATE_RAYLET_GCS_LINK_H

#include "raylet/raylet.h"

/* Start to connect; node_ready() is called when the GCS has welcomed us. */
SKATE_NODISCARD int gcs_link_start(struct raylet *r, struct skate_error *err);
/* Send to the GCS. What cannot be sent is lost with the GCS, and we end. */
void gcs_link_send(struct raylet *r, const void *frame, uint32_t len);
/* Something waits: ask the GCS what the other nodes have free now (at most once a second; it says
 * by itself what changes, since our reports say that something waits). */
void gcs_link_poll(struct raylet *r);

#endif
