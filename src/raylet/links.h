/* links.h - connections to other raylets: one for control to each that we talk to (opened on
 * demand), and one more for bulk bytes. Loop thread; never blocks. */
#ifndef SKATE_RAYLET_LINKS_H
#define SKATE_RAYLET_LINKS_H

#include "raylet/raylet.h"

/* Listen, and start to connect to the GCS (gcs_link.h). */
SKATE_NODISCARD int links_start(struct raylet *r, struct skate_error *err);
uint16_t links_port(const struct raylet *r);
/* Send to the raylet of a node; connects first when needed. -SKATE_EDEAD: that node is dead;
 * -SKATE_EFULL: it takes nothing. A node that nobody has told of yet is waited for, shortly. */
SKATE_NODISCARD int links_to_node(struct raylet *r, uint32_t node, const void *frame,
                                  uint32_t len);
/* Send to every raylet that is alive, or that something waits for; their process ids go to out
 * (cap), for answers to come. Returns how many. */
uint32_t links_to_all(struct raylet *r, const void *frame, uint32_t len, uint64_t *out,
                      uint32_t cap);
/* The memory shared with a node of this machine, for chunks that come on the bulk connection to it;
 * NULL: none. */
struct near *links_near(const struct raylet *r, uint32_t node);
/* On the bulk connection of a node. */
SKATE_NODISCARD int links_bulk(struct raylet *r, uint32_t node, const void *frame, uint32_t len);
/* What the GCS says of a node. */
void links_node_info(struct raylet *r, const struct wire_node_info *m);
void links_node_doubt(struct raylet *r, const struct wire_node_doubt *m);
/* Between these the GCS names all living nodes; who was not named is dead. */
void links_mark(struct raylet *r);
void links_sweep(struct raylet *r, bool partial); /* ... is asked for, when it named only some */
bool links_is_dead(const struct raylet *r, uint32_t node);
uint32_t links_count(const struct raylet *r);
/* Once a second: nodes that nobody told of are given up, broken connections tried again. */
void links_beat(struct raylet *r);
/* A connection that we made, on which a raylet speaks from now on as on one that it has dialled;
 * its first frame. */
void links_adopt(struct raylet *r, struct conn *c, const void *frame, uint32_t len);

#endif
