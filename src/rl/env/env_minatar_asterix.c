/* env_minatar_asterix.c - MinAtar's Asterix: treasure and enemies cross eight rows.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_minatar.py. */
#include "rl/env/env_minatar.h"
#include "rl/env/rl_env_list.h"

enum { PLAYER, ENEMY, TRAIL, GOLD, CHANNELS };
enum { ROWS = 8, RAMP = 100, SPAWN = 10, MOVE = 5 };

struct thing {
    int is_there, x, right, is_gold;    /* its row is its index + 1 */
};

struct asterix {
    struct minatar m;
    int x, y;
    int spawn_speed, spawn_timer, move_speed, move_timer, ramp_timer, ramp_index;
    struct thing thing[ROWS];
};

static void asterix_start(struct asterix *g) {
    g->x = g->y = 5;
    memset(g->thing, 0, sizeof g->thing);
    g->spawn_speed = g->spawn_timer = SPAWN;
    g->move_speed = g->move_timer = MOVE;
    g->ramp_timer = RAMP;
    g->ramp_index = 0;
}

static void spawn(struct asterix *g) {
    int right = mt_double(&g->m) < 0.5, is_gold = mt_double(&g->m) < 1.0 / 3, n = 0;
    int empty[ROWS];

    for (int i = 0; i < ROWS; i++)
        if (!g->thing[i].is_there)
            empty[n++] = i;
    if (n > 0)
        g->thing[empty[mt_below(&g->m, (uint32_t)n)]] =
            (struct thing){ 1, right ? 0 : 9, right, is_gold };
}

static void move_player(struct asterix *g, int a) {
    if (a == LEFT)
        g->x = at_least(0, g->x - 1);
    else if (a == RIGHT)
        g->x = at_most(9, g->x + 1);
    else if (a == UP)
        g->y = at_least(1, g->y - 1);
    else if (a == DOWN)
        g->y = at_most(8, g->y + 1);
}

/* Gold is taken, an enemy ends the game. */
static double meet(struct asterix *g, int i) {
    struct thing *t = &g->thing[i];

    if (!t->is_there || t->x != g->x || i + 1 != g->y)
        return 0.0;
    if (!t->is_gold) {
        g->m.over = 1;
        return 0.0;
    }
    t->is_there = 0;
    return 1.0;
}

static void ramp(struct asterix *g) {
    if (!g->m.ramping || (g->spawn_speed <= 1 && g->move_speed <= 1))
        return;
    if (g->ramp_timer >= 0) {
        g->ramp_timer--;
        return;
    }
    if (g->move_speed > 1 && g->ramp_index % 2)
        g->move_speed--;
    if (g->spawn_speed > 1)
        g->spawn_speed--;
    g->ramp_index++;
    g->ramp_timer = RAMP;
}

static double asterix_act(struct asterix *g, int a) {
    double reward = 0.0;

    if (g->spawn_timer == 0) {
        spawn(g);
        g->spawn_timer = g->spawn_speed;
    }
    move_player(g, a);
    for (int i = 0; i < ROWS; i++)
        reward += meet(g, i);
    if (g->move_timer == 0) {
        g->move_timer = g->move_speed;
        for (int i = 0; i < ROWS; i++) {
            struct thing *t = &g->thing[i];

            if (!t->is_there)
                continue;
            t->x += t->right ? 1 : -1;
            if (t->x < 0 || t->x > 9)
                t->is_there = 0;
            reward += meet(g, i);
        }
    }
    g->spawn_timer--;
    g->move_timer--;
    ramp(g);
    return reward;
}

static void asterix_show(const struct asterix *g, uint8_t (*to)[SIDE][CHANNELS]) {
    to[g->y][g->x][PLAYER] = 1;
    for (int i = 0; i < ROWS; i++) {
        const struct thing *t = &g->thing[i];
        int back = t->right ? t->x - 1 : t->x + 1;

        if (!t->is_there)
            continue;
        to[i + 1][t->x][t->is_gold ? GOLD : ENEMY] = 1;
        if (back >= 0 && back <= 9)
            to[i + 1][back][TRAIL] = 1;
    }
}

MINATAR_GAME(rl_env_minatar_asterix, "MinAtar-Asterix", asterix, CHANNELS, NONE, LEFT, UP, RIGHT,
             DOWN)
