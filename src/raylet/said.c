/* said.c - see said.h. Tests: tests/spark/test_spark_guards.py. */
#include "raylet/said.h"

#include <stdio.h>
#include <string.h>

#include "raylet/gcs_link.h"

enum { ROOM = 8192, LAST = 64 }; /* LAST: for the line that counts the others */

static struct {
    bool on;
    uint32_t used, lost;
    char text[ROOM];
} said;

void said_on(void) { said.on = true; }

/* Each node says that a peer is gone, also one that was told to go: the GCS tells that. */
static const char of_peers[] = "connection to node ";

void said_add(const char *line, uint32_t len) {
    if (!said.on || !strncmp(line, of_peers, sizeof of_peers - 1)) return;
    if (said.used + len > ROOM - LAST) {
        said.lost++;
        return;
    }
    memcpy(said.text + said.used, line, len);
    said.used += len;
}

void said_beat(struct raylet *r) {
    struct wire_node_said *m;
    struct wire_buf b;

    if (!said.used || !gcs_link_knows(r)) return;
    if (said.lost)
        said.used += (uint32_t)snprintf(said.text + said.used, LAST, "%u more lines left out\n",
                                        said.lost);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_SAID);
    m->node = r->node;
    WIRE_PUT(&b, node_said, text, said.text, said.used);
    said.used = said.lost = 0;
    if (wire_end(&b) == 0) gcs_link_send(r, b.p, b.len);
    wire_release(&b);
}
