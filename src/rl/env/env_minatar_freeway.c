/* env_minatar_freeway.c - MinAtar's Freeway: a chicken crosses eight lanes of cars.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_minatar.py. */
#include "rl/env/env_minatar.h"
#include "rl/env/rl_env_list.h"

enum { CHICKEN, CAR, SPEED_1, CHANNELS = SPEED_1 + 5 };
enum { CARS = 8, PAUSE = 3, TIME = 2500, COLUMN = 4 };

struct car {
    int x, timer, speed;        /* steps between moves, negative to the left; row: index + 1 */
};

struct freeway {
    struct minatar m;
    int y, pause, left;
    struct car car[CARS];
};

static void new_speeds(struct freeway *g) {
    for (int i = 0; i < CARS; i++)
        g->car[i].speed = 1 + mt_below(&g->m, 5);
    for (int i = 0; i < CARS; i++) {
        g->car[i].timer = g->car[i].speed;
        if (mt_double(&g->m) < 0.5)
            g->car[i].speed = -g->car[i].speed;
    }
}

static void freeway_start(struct freeway *g) {
    new_speeds(g);
    for (int i = 0; i < CARS; i++)
        g->car[i].x = 0;
    g->y = 9;
    g->pause = PAUSE;
    g->left = TIME;
}

static double freeway_act(struct freeway *g, int a) {
    double reward = 0.0;

    if ((a == UP || a == DOWN) && g->pause == 0) {
        g->pause = PAUSE;
        g->y = a == UP ? at_least(0, g->y - 1) : at_most(9, g->y + 1);
    }
    if (g->y == 0) {
        reward = 1.0;
        new_speeds(g);
        g->y = 9;
    }
    for (int i = 0; i < CARS; i++) {
        struct car *c = &g->car[i];

        if (c->x == COLUMN && g->y == i + 1)
            g->y = 9;
        if (c->timer-- > 0)
            continue;
        c->timer = abs(c->speed);
        c->x = (c->x + (c->speed > 0 ? 1 : 9)) % 10;
        if (c->x == COLUMN && g->y == i + 1)
            g->y = 9;
    }
    g->pause -= g->pause > 0;
    if (--g->left < 0)
        g->m.over = 1;
    return reward;
}

static void freeway_show(const struct freeway *g, uint8_t (*to)[SIDE][CHANNELS]) {
    to[g->y][COLUMN][CHICKEN] = 1;
    for (int i = 0; i < CARS; i++) {
        const struct car *c = &g->car[i];

        to[i + 1][c->x][CAR] = 1;
        to[i + 1][(c->x + (c->speed > 0 ? 9 : 1)) % 10][SPEED_1 + abs(c->speed) - 1] = 1;
    }
}

MINATAR_GAME(rl_env_minatar_freeway, "MinAtar-Freeway", freeway, CHANNELS, NONE, UP, DOWN)
