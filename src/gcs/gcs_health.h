/* gcs_health.h - is a node alive: a part of gcs_int.h, which includes it. */
#ifndef SKATE_GCS_GCS_HEALTH_H
#define SKATE_GCS_GCS_HEALTH_H

#include "gcs/gcs.h"
#include "wire/wire_gen.h"

struct gcs_from;
struct gcs_node;

/* What is known of it. */
struct gcs_health {
    bool beats, suspect;        /* beats: its raylet has a beat thread */
    uint64_t turns;             /* of its main loop */
    int64_t turned_ns, told_ns; /* when these grew; when the reason was last written anew */
    int64_t probed_ns;          /* when its port was last tried; 0: never */
};

void gcs_health_beat(struct gcs *g, const struct gcs_from *from, const struct wire_beat *m);
void gcs_health_heard(struct gcs *g, struct gcs_node *n); /* a frame came on its link */
void gcs_health_tick(struct gcs *g);
void gcs_health_tell(struct gcs *g); /* the end of a step: who has become suspect */
void gcs_health_away(struct gcs *g, struct gcs_node *n); /* its link has ended */
void gcs_health_probed(struct gcs *g, uint32_t node, bool refused);
uint32_t gcs_health_tick_ms(const struct gcs *g); /* how often that is wanted */
/* Dead from now on; its raylet is told, so that it joins anew. */
void gcs_convict(struct gcs *g, struct gcs_node *n, const char *why);

#endif
