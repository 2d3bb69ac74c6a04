/* rl_env_list.h - the built-in environments: their tables, and the names they are known by.
 *
 * A name is a table with presets: what its config begins with and where the host truncates.
 * Constant data; any thread. Tests: tests/unit/rl_env_host_test.c. */
#ifndef SKATE_RL_ENV_LIST_H
#define SKATE_RL_ENV_LIST_H

#include <skate/env.h>

extern const struct skate_env_api rl_env_cartpole, rl_env_mountain_car,
    rl_env_mountain_car_continuous, rl_env_pendulum, rl_env_acrobot, rl_env_frozen_lake,
    rl_env_taxi, rl_env_cliff_walking, rl_env_blackjack, rl_env_minatar_asterix,
    rl_env_minatar_breakout, rl_env_minatar_freeway, rl_env_minatar_invaders,
    rl_env_minatar_seaquest, rl_env_pixel_pong, rl_env_pixel_breakout, rl_env_grid, rl_env_board,
    rl_env_bandit;

struct rl_env_name {
    const char *name;
    const struct skate_env_api *api;
    const char *config;         /* what the caller's config does not say */
    double threshold;           /* "solved"; 0: the table's */
    int max_steps;              /* -1: the table's */
};

/* The names, ended by one with name NULL; sorted as in the documentation. */
extern const struct rl_env_name rl_env_names[];

/* NULL: no built-in environment is called so. */
const struct rl_env_name *rl_env_find(const char *name);

#endif
