/* env_minatar_invaders.c - MinAtar's Space Invaders: a cannon against a block of aliens.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_minatar.py. */
#include "rl/env/env_minatar.h"
#include "rl/env/rl_env_list.h"

enum { CANNON, ALIEN, ALIEN_LEFT, ALIEN_RIGHT, OURS, THEIRS, CHANNELS };
enum { COOL_DOWN = 5, MOVE = 12, FASTEST = 6, SHOT = 10 };

struct invaders {
    struct minatar m;
    int x, direction, interval, move_timer, shot_timer, cool_down;
    uint8_t alien[SIDE][SIDE], ours[SIDE][SIDE], theirs[SIDE][SIDE];
};

static void land(struct invaders *g) {
    for (int y = 0; y < 4; y++)
        memset(&g->alien[y][2], 1, 6);
}

static void invaders_start(struct invaders *g) {
    memset(g->alien, 0, sizeof g->alien);
    memset(g->ours, 0, sizeof g->ours);
    memset(g->theirs, 0, sizeof g->theirs);
    land(g);
    g->x = 5;
    g->direction = -1;
    g->interval = g->move_timer = MOVE;
    g->shot_timer = SHOT;
    g->cool_down = 0;
}

static int count_aliens(const struct invaders *g) {
    int n = 0;

    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            n += g->alien[y][x];
    return n;
}

static int in_column(const struct invaders *g, int x) {
    for (int y = SIDE - 1; y >= 0; y--)
        if (g->alien[y][x])
            return y;
    return -1;
}

static void move_aliens(struct invaders *g) {
    uint8_t row[SIDE];

    g->move_timer = at_most(count_aliens(g), g->interval);
    if (in_column(g, g->direction < 0 ? 0 : 9) >= 0) {
        g->direction = -g->direction;
        if (memchr(g->alien[9], 1, SIDE))
            g->m.over = 1;
        memcpy(row, g->alien[9], SIDE);
        memmove(g->alien[1], g->alien[0], 9 * SIDE);
        memcpy(g->alien[0], row, SIDE);
    } else {
        for (int y = 0; y < SIDE; y++) {
            memcpy(row, g->alien[y], SIDE);
            for (int x = 0; x < SIDE; x++)
                g->alien[y][(x + SIDE + g->direction) % SIDE] = row[x];
        }
    }
    if (g->alien[9][g->x])
        g->m.over = 1;
}

/* The lowest alien of the column nearest to the cannon shoots; the left one of two. */
static void shoot_back(struct invaders *g) {
    g->shot_timer = SHOT;
    for (int d = 0; d < SIDE; d++)
        for (int side = -1; side <= 1; side += 2) {
            int x = g->x + side * d, y = x >= 0 && x < SIDE ? in_column(g, x) : -1;

            if (y >= 0) {
                g->theirs[y][x] = 1;
                return;
            }
        }
}

static void move_bullets(struct invaders *g) {
    memmove(g->ours[0], g->ours[1], 9 * SIDE);
    memset(g->ours[9], 0, SIDE);
    memmove(g->theirs[1], g->theirs[0], 9 * SIDE);
    memset(g->theirs[0], 0, SIDE);
    if (g->theirs[9][g->x])
        g->m.over = 1;
}

static double hits(struct invaders *g) {
    int n = 0;

    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            if (g->alien[y][x] & g->ours[y][x]) {
                g->alien[y][x] = g->ours[y][x] = 0;
                n++;
            }
    return n;
}

static double invaders_act(struct invaders *g, int a) {
    double reward;

    if (a == FIRE && g->cool_down == 0) {
        g->ours[9][g->x] = 1;
        g->cool_down = COOL_DOWN;
    } else if (a == LEFT) {
        g->x = at_least(0, g->x - 1);
    } else if (a == RIGHT) {
        g->x = at_most(9, g->x + 1);
    }
    move_bullets(g);
    if (g->alien[9][g->x])
        g->m.over = 1;
    if (g->move_timer == 0)
        move_aliens(g);
    if (g->shot_timer == 0)
        shoot_back(g);
    reward = hits(g);
    g->cool_down -= g->cool_down > 0;
    g->move_timer--;
    g->shot_timer--;
    if (count_aliens(g) == 0) {
        if (g->interval > FASTEST && g->m.ramping)
            g->interval--;
        land(g);
    }
    return reward;
}

static void invaders_show(const struct invaders *g, uint8_t (*to)[SIDE][CHANNELS]) {
    int facing = g->direction < 0 ? ALIEN_LEFT : ALIEN_RIGHT;

    to[9][g->x][CANNON] = 1;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            to[y][x][ALIEN] = to[y][x][facing] = g->alien[y][x];
            to[y][x][OURS] = g->ours[y][x];
            to[y][x][THEIRS] = g->theirs[y][x];
        }
}

MINATAR_GAME(rl_env_minatar_invaders, "MinAtar-SpaceInvaders", invaders, CHANNELS, NONE, LEFT,
             RIGHT, FIRE)
