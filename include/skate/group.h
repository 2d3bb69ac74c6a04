/* skate/group.h - placement groups: shares of the cluster that are reserved together.
 * The rules of skate/skate.h for errors, threads and time hold here. */
#ifndef SKATE_GROUP_H
#define SKATE_GROUP_H

#include "skate/skate.h"

#ifdef __cplusplus
extern "C" {
#endif

struct skate_bundle {
    const struct skate_resource *resources; /* "CPU" among them */
    size_t count;
};
enum skate_strategy {
    SKATE_PACK = 0, SKATE_SPREAD = 1, SKATE_STRICT_PACK = 2, SKATE_STRICT_SPREAD = 3
};

/* Ask for the bundles. Returns before they are reserved. *ret is freed by skate_group_remove() or
 * skate_group_free(). name may be NULL. */
SKATE_API int skate_group_create(skate_session *s, const struct skate_bundle *bundles,
                                 size_t count, enum skate_strategy strategy, const char *name,
                                 struct skate_group **ret);
/* Until all are reserved. -SKATE_ETIMEOUT says what is short. BLOCKS. */
SKATE_API int skate_group_wait(skate_session *s, const struct skate_group *g, int64_t timeout_ms);
/* Give the shares back; what runs in them is killed. Frees g. BLOCKS shortly. */
SKATE_API int skate_group_remove(skate_session *s, struct skate_group *g);
/* Forget the handle only; the group ends with the session. */
SKATE_API void skate_group_free(skate_session *s, struct skate_group *g);

#ifdef __cplusplus
}
#endif

#endif
