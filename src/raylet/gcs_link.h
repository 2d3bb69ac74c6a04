/* gcs_link.h - the connection to the GCS, which may break and come back, with another GCS at its
 * end (src/gcs/gcs_return.c has the other side). Loop thread; never blocks. */
#ifndef SKATE_RAYLET_GCS_LINK_H
#define SKATE_RAYLET_GCS_LINK_H

#include "raylet/raylet.h"

/* Start to connect; node_ready() is called when the GCS has welcomed us. */
SKATE_NODISCARD int gcs_link_start(struct raylet *r, struct skate_error *err);
/* Send to the GCS. While it is away this waits; in a private session it is lost, and we end. */
void gcs_link_send(struct raylet *r, const void *frame, uint32_t len);
/* A process ended: nobody waits for the answers to it. */
void gcs_link_forget(struct raylet *r, uint64_t proc);
/* The last word, when all that ran here has ended. */
void gcs_link_bye(struct raylet *r, const char *why);
/* Once a second: a silent GCS, a dial that leads nowhere. */
void gcs_link_beat(struct raylet *r);

/* Is it there, and has it told us of all that we may have missed? */
bool gcs_link_knows(const struct raylet *r);
/* The highest epoch of a GCS that was seen. */
uint64_t gcs_link_epoch(const struct raylet *r);

#endif
