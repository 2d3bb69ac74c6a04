/* rl_env_list.c - see rl_env_list.h. Any thread; never blocks.
 * Tests: tests/unit/rl_env_host_test.c. */
#include "rl/env/rl_env_list.h"

#include <string.h>

#define MINIMAL "{\"use_minimal_action_set\": true}"

const struct rl_env_name rl_env_names[] = {
    { "CartPole-v0", &rl_env_cartpole, "{}", 195.0, 200 },
    { "CartPole-v1", &rl_env_cartpole, "{}", 0, -1 },
    { "MountainCar-v0", &rl_env_mountain_car, "{}", 0, -1 },
    { "MountainCarContinuous-v0", &rl_env_mountain_car_continuous, "{}", 0, -1 },
    { "Pendulum-v1", &rl_env_pendulum, "{}", 0, -1 },
    { "Acrobot-v1", &rl_env_acrobot, "{}", 0, -1 },
    { "FrozenLake-v1", &rl_env_frozen_lake, "{}", 0, -1 },
    { "FrozenLake8x8-v1", &rl_env_frozen_lake, "{\"map_name\": \"8x8\"}", 0.85, 200 },
    { "Taxi-v3", &rl_env_taxi, "{}", 0, -1 },
    { "Taxi-v4", &rl_env_taxi, "{}", 0, -1 },
    { "CliffWalking-v1", &rl_env_cliff_walking, "{}", 0, -1 },
    { "CliffWalkingSlippery-v1", &rl_env_cliff_walking, "{\"is_slippery\": true}", 0, -1 },
    { "Blackjack-v1", &rl_env_blackjack, "{}", 0, -1 },
    { "MinAtar-Asterix-v0", &rl_env_minatar_asterix, "{}", 0, -1 },
    { "MinAtar-Asterix-v1", &rl_env_minatar_asterix, MINIMAL, 0, -1 },
    { "MinAtar-Breakout-v0", &rl_env_minatar_breakout, "{}", 0, -1 },
    { "MinAtar-Breakout-v1", &rl_env_minatar_breakout, MINIMAL, 0, -1 },
    { "MinAtar-Freeway-v0", &rl_env_minatar_freeway, "{}", 0, -1 },
    { "MinAtar-Freeway-v1", &rl_env_minatar_freeway, MINIMAL, 0, -1 },
    { "MinAtar-Seaquest-v0", &rl_env_minatar_seaquest, "{}", 0, -1 },
    { "MinAtar-Seaquest-v1", &rl_env_minatar_seaquest, MINIMAL, 0, -1 },
    { "MinAtar-SpaceInvaders-v0", &rl_env_minatar_invaders, "{}", 0, -1 },
    { "MinAtar-SpaceInvaders-v1", &rl_env_minatar_invaders, MINIMAL, 0, -1 },
    { "PixelPong-v0", &rl_env_pixel_pong, "{}", 0, -1 },
    { "PixelBreakout-v0", &rl_env_pixel_breakout, "{}", 0, -1 },
    { "GridEmpty-v0", &rl_env_grid, "{}", 0, -1 },
    { "GridFourRooms-v0", &rl_env_grid, "{\"layout\": \"four_rooms\", \"size\": 13}", 0, -1 },
    { "GridDoorKey-v0", &rl_env_grid, "{\"layout\": \"door_key\"}", 0, -1 },
    { "TicTacToe-v0", &rl_env_board, "{\"game\": \"tic_tac_toe\"}", 0, -1 },
    { "Connect4-v0", &rl_env_board, "{\"game\": \"connect_four\"}", 0, -1 },
    { "LinearBandit-v0", &rl_env_bandit, "{\"kind\": \"linear\"}", 0, -1 },
    { "WheelBandit-v0", &rl_env_bandit, "{\"kind\": \"wheel\"}", 0, -1 },
    { .name = NULL },
};

const struct rl_env_name *rl_env_find(const char *name) {
    for (const struct rl_env_name *n = rl_env_names; n->name; n++)
        if (strcmp(n->name, name) == 0)
            return n;
    return NULL;
}
