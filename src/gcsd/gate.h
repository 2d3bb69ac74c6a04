/* gate.h - the way to and from raylets that nobody can dial: frames relayed through the GCS's port.
 *
 * An outpost is the raylet of a driver outside of the cluster's network: it reaches this port and
 * nothing else, and nobody reaches it. It dials here, names a node in its first frame (gate_hello),
 * and from then on its connection and one that we dial to that node are one: each frame goes
 * through unread. The other way round, an outpost leaves connections here in reserve (parked); who
 * wants to it dials here and is joined with one of them. Either end's end is the other's; what was
 * on its way is sent again by the lanes of raylet/links.c.
 * Loop thread; never blocks. Tests: tests/unit/gcs_gate_test.c. */
#ifndef SKATE_GCSD_GATE_H
#define SKATE_GCSD_GATE_H

#include "loop/loop.h"
#include "net/conn.h"
#include "wire/wire_gen.h"

struct gate;

/* Both borrowed; they outlive it. 0 or -SKATE_ENOMEM. */
SKATE_NODISCARD int gate_new(struct loop *loop, struct net *net, struct gate **ret);
struct gate *gate_free(struct gate *g); /* closes what it has; NULL is fine; NULL back */
/* A proven connection whose first frame this was; the gate has it from now on, and closes it when
 * the frame asks for what cannot be. */
void gate_take(struct gate *g, struct conn *c, const struct wire_gate_hello *m);
/* Ends of connections that it has now, for tests. */
uint32_t gate_count(const struct gate *g);

#endif
