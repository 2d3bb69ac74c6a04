/* gateway.h - connections that go through the GCS's port (gcsd/gate.h) instead of straight.
 *
 * An outpost is the raylet of one driver on a machine that is not part of the cluster: it runs no
 * task, listens nowhere (its port is 0 in node_info), and reaches no address but the GCS's. It
 * dials every node through that port, and keeps connections in reserve there for nodes that want
 * to reach it; a node that dials an outpost does so through that port, too. links.c does not see
 * the difference. Loop thread; never blocks. Tests: tests/e2e/test_e2e_remote_driver.py. */
#ifndef SKATE_RAYLET_GATEWAY_H
#define SKATE_RAYLET_GATEWAY_H

#include "net/conn.h"
#include "raylet/raylet.h"

/* Where to dial for a node at this address, in place. */
void gateway_way(const struct raylet *r, struct net_address *to);
/* The first frame on a connection that was dialled there; none when it leads straight to `at`. */
SKATE_NODISCARD int gateway_hello(const struct raylet *r, struct conn *c, uint32_t node,
                                  struct net_address at);
/* An outpost keeps connections in reserve: after its welcome, and each second. */
void gateway_beat(struct raylet *r);

#endif
