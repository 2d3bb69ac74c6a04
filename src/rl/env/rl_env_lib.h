/* rl_env_lib.h - finding an environment's table, and the checks of what it says of itself.
 * Any thread; loading a shared object reads files. Tests: tests/unit/rl_env_hostile_test.c. */
#ifndef SKATE_RL_ENV_LIB_H
#define SKATE_RL_ENV_LIB_H

#include <skate/env.h>

#include "base/err.h"

/* The table behind "c:path" or "c:path:symbol", checked. *ret_library is for rl_env_unload(). */
SKATE_NODISCARD int rl_env_load_library(const char *name, const struct skate_env_api **ret_api,
                                        void **ret_library, struct skate_error *err);
void rl_env_unload(void *library);
/* Version, id and needed functions of a table; `what` is for messages. */
SKATE_NODISCARD int rl_env_check_api(const struct skate_env_api *api, const char *what,
                                     struct skate_error *err);
/* Spaces and sizes. -SKATE_EINVAL, -SKATE_ETOOBIG. */
SKATE_NODISCARD int rl_env_check_info(const struct skate_env_info *info, uint32_t lanes,
                                      const char *what, struct skate_error *err);

#endif
