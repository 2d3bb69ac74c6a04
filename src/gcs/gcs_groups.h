/* gcs_groups.h - what the files of src/gcs share about placement groups; nobody else includes it.
 * See gcs_groups.c. */
#ifndef SKATE_GCS_GCS_GROUPS_H
#define SKATE_GCS_GCS_GROUPS_H

#include "gcs/gcs_int.h"
#include "sched/bundle_fit.h"

enum gcs_group_state { GROUP_PENDING, GROUP_CREATED, GROUP_RESCHEDULING, GROUP_REMOVED };
enum gcs_bundle_phase { BUNDLE_NONE, BUNDLE_ASKED, BUNDLE_HELD };

struct gcs_group {
    struct skate_id id, maker; /* maker: the actor that made it, nil: none */
    enum gcs_group_state state;
    uint64_t creator, removed_at, batch;
    uint32_t job, strategy, flags, index;
    uint32_t epoch;         /* of the last attempt to place */
    uint32_t awaited;       /* raylets that have not answered */
    bool attempting, failed, infeasible_told, dirty;
    uint64_t born;
    struct bundle_want *b;  /* with the nodes chosen */
    uint32_t count;
    uint8_t *phase;         /* of each bundle */
    uint32_t *epochs;       /* the attempt that placed it */
    char *name, *space, *reason;
    uint32_t *watchers, watcher_count, watcher_cap; /* nodes that are told of changes */
};

struct gcs_group *gcs_group_find(struct gcs *g, const struct skate_id *id);
void gcs_group_insert(struct gcs *g, struct gcs_group *p); /* counts its weight, too */
void gcs_group_free(struct gcs_group *p);
void gcs_group_frame(const struct gcs_group *p, struct wire_buf *b);
void gcs_group_create(struct gcs *g, const struct gcs_from *from,
                      const struct wire_group_create *m);
void gcs_group_remove(struct gcs *g, const struct gcs_from *from,
                      const struct wire_group_remove *m);
void gcs_group_get(struct gcs *g, const struct gcs_from *from, const struct wire_group_get *m);
void gcs_group_reserved(struct gcs *g, const struct gcs_from *from,
                        const struct wire_group_reserved *m);
/* Is there room for so many bytes in the budget of specs? Removed groups, which are kept for
 * questions only, give way. */
bool gcs_spec_room(struct gcs *g, uint64_t bytes);
void gcs_groups_place(struct gcs *g);
void gcs_groups_node_lost(struct gcs *g, uint32_t node);
/* A node that was away says which bundles it has: the others are placed anew, or given back. */
void gcs_groups_node_back(struct gcs *g, struct gcs_node *n, const struct wire_node_state *m);
void gcs_groups_sweep(struct gcs *g);
void gcs_groups_release(struct gcs *g);
int gcs_group_pick(struct gcs *g, const struct gcs_actor *a, const struct resources *want,
                   uint32_t *ret_node);

#endif
