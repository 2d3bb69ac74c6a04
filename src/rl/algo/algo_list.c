/* algo_list.c - see algo.h: the algorithms by name, one line each, in alphabetical order.
 * Constant. Tests: tests/unit/rl_algo_test.c. */
#include <string.h>

#include "rl/algo/algo.h"

#define ALGOS(X) \
    X(algo_a2c_api) \
    X(algo_a3c_api) \
    X(algo_appo_api) \
    X(algo_ars_api) \
    X(algo_alphazero_api) \
    X(algo_bc_api) \
    X(algo_cql_api) \
    X(algo_ddpg_api) \
    X(algo_ddppo_api) \
    X(algo_dqn_api) \
    X(algo_es_api) \
    X(algo_impala_api) \
    X(algo_iql_api) \
    X(algo_lin_ts_api) \
    X(algo_lin_ucb_api) \
    X(algo_maddpg_api) \
    X(algo_marwil_api) \
    X(algo_pg_api) \
    X(algo_ppo_api) \
    X(algo_qmix_api) \
    X(algo_r2d2_api) \
    X(algo_rnnsac_api) \
    X(algo_random_api) \
    X(algo_sac_api) \
    X(algo_tqc_api)

#define DECLARE(api) extern const struct algo_api api;
ALGOS(DECLARE)

#define LIST(api) &api,
static const struct algo_api *const list[] = { ALGOS(LIST) };

const struct algo_api *algo_nth(int i) {
    return i >= 0 && (size_t)i < sizeof list / sizeof *list ? list[i] : NULL;
}

const struct algo_api *algo_find(const char *name) {
    const struct algo_api *api;

    for (int i = 0; (api = algo_nth(i)); i++)
        if (strcmp(api->name, name) == 0)
            return api;
    return NULL;
}
