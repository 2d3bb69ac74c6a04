/* spill_open.h - where objects that leave memory go, as the settings say (raylet_settings.h). */
#ifndef SKATE_RAYLET_SPILL_OPEN_H
#define SKATE_RAYLET_SPILL_OPEN_H

#include "raylet/raylet.h"
#include "raylet/spill_target.h"

/* Blocks: at start only. */
SKATE_NODISCARD int spill_open(struct raylet *r, uint64_t nonce, struct spill_target **ret,
                               struct skate_error *err);

#endif
