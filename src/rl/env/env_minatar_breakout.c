/* env_minatar_breakout.c - MinAtar's Breakout: a ball, a paddle, three rows of bricks.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_minatar.py. */
#include "rl/env/env_minatar.h"
#include "rl/env/rl_env_list.h"

enum { PADDLE, BALL, TRAIL, BRICK, CHANNELS };

struct breakout {
    struct minatar m;
    int x, y, last_x, last_y, paddle;
    int dx, dy;                 /* the ball moves along diagonals: 1 or -1 each */
    int struck;                 /* it broke a brick in the last step */
    uint8_t brick[SIDE][SIDE];
};

static void lay_bricks(struct breakout *g) {
    memset(g->brick[1], 1, 3 * SIDE);
}

static void breakout_start(struct breakout *g) {
    int right = mt_below(&g->m, 2);

    g->x = g->last_x = right ? 9 : 0;
    g->y = g->last_y = 3;
    g->dx = right ? -1 : 1;
    g->dy = 1;
    g->paddle = 4;
    g->struck = 0;
    memset(g->brick, 0, sizeof g->brick);
    lay_bricks(g);
}

/* The ball is about to enter the lowest row. */
static void meet_paddle(struct breakout *g, int x, int *y) {
    if (!memchr(g->brick, 1, sizeof g->brick))
        lay_bricks(g);
    if (g->x == g->paddle) {            /* straight above it: back the way of a mirror */
        g->dy = -g->dy;
        *y = g->last_y;
    } else if (x == g->paddle) {        /* at its edge: back where it came from */
        g->dx = -g->dx;
        g->dy = -g->dy;
        *y = g->last_y;
    } else {
        g->m.over = 1;
    }
}

static double breakout_act(struct breakout *g, int a) {
    int x = g->x + g->dx, y = g->y + g->dy, touches = 0;
    double reward = 0.0;

    if (a == LEFT)
        g->paddle = at_least(0, g->paddle - 1);
    else if (a == RIGHT)
        g->paddle = at_most(9, g->paddle + 1);
    g->last_x = g->x;
    g->last_y = g->y;
    if (x < 0 || x > 9) {
        x = x < 0 ? 0 : 9;
        g->dx = -g->dx;
    }
    if (y < 0) {
        y = 0;
        g->dy = -g->dy;
    } else if (g->brick[y][x]) {
        touches = 1;
        if (!g->struck) {
            reward = 1.0;
            g->struck = 1;
            g->brick[y][x] = 0;
            y = g->last_y;
            g->dy = -g->dy;
        }
    } else if (y == 9) {
        meet_paddle(g, x, &y);
    }
    if (!touches)
        g->struck = 0;
    g->x = x;
    g->y = y;
    return reward;
}

static void breakout_show(const struct breakout *g, uint8_t (*to)[SIDE][CHANNELS]) {
    to[g->y][g->x][BALL] = 1;
    to[9][g->paddle][PADDLE] = 1;
    to[g->last_y][g->last_x][TRAIL] = 1;
    for (int y = 1; y < 4; y++)
        for (int x = 0; x < SIDE; x++)
            to[y][x][BRICK] = g->brick[y][x];
}

MINATAR_GAME(rl_env_minatar_breakout, "MinAtar-Breakout", breakout, CHANNELS, NONE, LEFT, RIGHT)
