/* env_minatar_seaquest.c - MinAtar's Seaquest: a submarine, divers, enemies and air.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_minatar.py. */
#include "rl/env/env_minatar.h"
#include "rl/env/rl_env_list.h"

enum { FRONT, BACK, OURS, TRAIL, THEIRS, FISH, SUB, OXYGEN, DIVERS, DIVER, CHANNELS };
enum { AIR = 200, SPAWN = 20, DIVER_SPAWN = 30, MOVE = 5, COOL_DOWN = 5, SHOT = 10, FULL = 6 };
enum { THINGS = 128 };          /* of a kind; a game has a few dozen at most */

struct swimmer {
    int x, y, right, timer, shot;
};

/* Kept in the order in which they came: rules go through it from the end. */
struct shoal {
    int n;
    struct swimmer s[THINGS];
};

struct seaquest {
    struct minatar m;
    int x, y, right, oxygen, divers, at_surface;
    int spawn_speed, spawn_timer, diver_timer, move_speed, ramp_index, cool_down;
    struct shoal ours, theirs, fish, subs, free_divers;
};

static void add(struct shoal *s, struct swimmer w) {
    if (s->n < THINGS)
        s->s[s->n++] = w;
}

static void drop(struct shoal *s, int i) {
    s->n--;
    memmove(&s->s[i], &s->s[i + 1], (size_t)(s->n - i) * sizeof s->s[0]);
}

/* The first one at a place, or -1. */
static int find(const struct shoal *s, int x, int y) {
    for (int i = 0; i < s->n; i++)
        if (s->s[i].x == x && s->s[i].y == y)
            return i;
    return -1;
}

static int forward(struct swimmer *w) {
    w->x += w->right ? 1 : -1;
    return w->x >= 0 && w->x <= 9;
}

static int is_here(const struct seaquest *g, const struct swimmer *w) {
    return w->x == g->x && w->y == g->y;
}

static void seaquest_start(struct seaquest *g) {
    g->ours.n = g->theirs.n = g->fish.n = g->subs.n = g->free_divers.n = 0;
    g->x = 5;
    g->y = g->right = g->divers = g->ramp_index = g->cool_down = 0;
    g->oxygen = AIR;
    g->at_surface = 1;
    g->spawn_speed = g->spawn_timer = SPAWN;
    g->diver_timer = DIVER_SPAWN;
    g->move_speed = MOVE;
}

static int is_against(const struct shoal *s, int y, int right) {
    for (int i = 0; i < s->n; i++)
        if (s->s[i].y == y && s->s[i].right != right)
            return 1;
    return 0;
}

/* Nothing comes where it would meet one that swims the other way. */
static void spawn_enemy(struct seaquest *g) {
    int right = mt_double(&g->m) < 0.5, is_sub = mt_double(&g->m) < 1.0 / 3;
    int y = 1 + mt_below(&g->m, 8);
    struct swimmer w = { right ? 0 : 9, y, right, g->move_speed, SHOT };

    if (!is_against(&g->subs, y, right) && !is_against(&g->fish, y, right))
        add(is_sub ? &g->subs : &g->fish, w);
}

static void spawn(struct seaquest *g) {
    if (g->spawn_timer == 0) {
        spawn_enemy(g);
        g->spawn_timer = g->spawn_speed;
    }
    if (g->diver_timer == 0) {
        int right = mt_double(&g->m) < 0.5, y = 1 + mt_below(&g->m, 8);

        add(&g->free_divers, (struct swimmer){ right ? 0 : 9, y, right, MOVE, 0 });
        g->diver_timer = DIVER_SPAWN;
    }
}

static void steer(struct seaquest *g, int a) {
    if (a == FIRE && g->cool_down == 0) {
        add(&g->ours, (struct swimmer){ g->x, g->y, g->right, 0, 0 });
        g->cool_down = COOL_DOWN;
    } else if (a == LEFT || a == RIGHT) {
        g->right = a == RIGHT;
        g->x = g->right ? at_most(9, g->x + 1) : at_least(0, g->x - 1);
    } else if (a == UP) {
        g->y = at_least(0, g->y - 1);
    } else if (a == DOWN) {
        g->y = at_most(8, g->y + 1);
    }
}

static double move_ours(struct seaquest *g) {
    double reward = 0.0;

    for (int i = g->ours.n - 1; i >= 0; i--) {
        struct swimmer *b = &g->ours.s[i];
        int in = forward(b), fish = find(&g->fish, b->x, b->y);
        int sub = find(&g->subs, b->x, b->y);

        if (in && fish < 0 && sub < 0)
            continue;
        if (in) {
            drop(fish >= 0 ? &g->fish : &g->subs, fish >= 0 ? fish : sub);
            reward += 1.0;
        }
        drop(&g->ours, i);
    }
    return reward;
}

static void move_divers(struct seaquest *g) {
    for (int i = g->free_divers.n - 1; i >= 0; i--) {
        struct swimmer *d = &g->free_divers.s[i];
        int taken = is_here(g, d) && g->divers < FULL, gone = 0;

        if (!taken && d->timer-- == 0) {
            d->timer = MOVE;
            gone = !forward(d);
            taken = !gone && is_here(g, d) && g->divers < FULL;
        }
        g->divers += taken;
        if (taken || gone)
            drop(&g->free_divers, i);
    }
}

/* Fish and submarines swim alike; 1 in *ret_gone when it left or was shot. */
static double swim(struct seaquest *g, struct swimmer *w, int *ret_gone) {
    int bullet;

    *ret_gone = 0;
    if (is_here(g, w))
        g->m.over = 1;
    if (w->timer-- > 0)
        return 0.0;
    w->timer = g->move_speed;
    if (!forward(w)) {
        *ret_gone = 1;
        return 0.0;
    }
    if (is_here(g, w)) {
        g->m.over = 1;
        return 0.0;
    }
    bullet = find(&g->ours, w->x, w->y);
    if (bullet < 0)
        return 0.0;
    drop(&g->ours, bullet);
    *ret_gone = 1;
    return 1.0;
}

static double move_subs(struct seaquest *g) {
    double reward = 0.0;
    int gone;

    for (int i = g->subs.n - 1; i >= 0; i--) {
        struct swimmer *w = &g->subs.s[i];

        reward += swim(g, w, &gone);
        if (w->shot-- == 0) {   /* even one that has just gone */
            w->shot = SHOT;
            add(&g->theirs, (struct swimmer){ w->x, w->y, w->right, 0, 0 });
        }
        if (gone)
            drop(&g->subs, i);
    }
    return reward;
}

static void move_theirs(struct seaquest *g) {
    for (int i = g->theirs.n - 1; i >= 0; i--) {
        struct swimmer *b = &g->theirs.s[i];

        if (is_here(g, b))
            g->m.over = 1;
        if (!forward(b))
            drop(&g->theirs, i);
        else if (is_here(g, b))
            g->m.over = 1;
    }
}

static double move_fish(struct seaquest *g) {
    double reward = 0.0;
    int gone;

    for (int i = g->fish.n - 1; i >= 0; i--) {
        reward += swim(g, &g->fish.s[i], &gone);
        if (gone)
            drop(&g->fish, i);
    }
    return reward;
}

/* Six divers are worth the air that is left; else one leaves. It gets harder each time. */
static double surface(struct seaquest *g) {
    double reward = 0.0;

    g->at_surface = 1;
    if (g->divers == FULL) {
        g->divers = 0;
        reward = g->oxygen * 10 / AIR;
    }
    g->oxygen = AIR;
    g->divers--;
    if (g->m.ramping && (g->spawn_speed > 1 || g->move_speed > 2)) {
        if (g->move_speed > 2 && g->ramp_index % 2)
            g->move_speed--;
        if (g->spawn_speed > 1)
            g->spawn_speed--;
        g->ramp_index++;
    }
    return reward;
}

static double seaquest_act(struct seaquest *g, int a) {
    double reward;

    spawn(g);
    steer(g, a);
    reward = move_ours(g);
    move_divers(g);
    reward += move_subs(g);
    move_theirs(g);
    reward += move_fish(g);
    g->spawn_timer -= g->spawn_timer > 0;
    g->diver_timer -= g->diver_timer > 0;
    g->cool_down -= g->cool_down > 0;
    if (g->oxygen <= 0)
        g->m.over = 1;
    if (g->y > 0) {
        g->oxygen--;
        g->at_surface = 0;
    } else if (!g->at_surface) {
        if (g->divers == 0)
            g->m.over = 1;
        else
            reward += surface(g);
    }
    return reward;
}

static void show_shoal(const struct shoal *s, uint8_t (*to)[SIDE][CHANNELS], int channel,
                       int has_trail) {
    for (int i = 0; i < s->n; i++) {
        const struct swimmer *w = &s->s[i];
        int back = w->right ? w->x - 1 : w->x + 1;

        to[w->y][w->x][channel] = 1;
        if (has_trail && back >= 0 && back <= 9)
            to[w->y][back][TRAIL] = 1;
    }
}

static void seaquest_show(const struct seaquest *g, uint8_t (*to)[SIDE][CHANNELS]) {
    int back = g->right ? g->x - 1 : g->x + 1, air = at_least(0, g->oxygen) * 10 / AIR;

    to[g->y][g->x][FRONT] = 1;
    if (back >= 0 && back <= 9)
        to[g->y][back][BACK] = 1;
    for (int x = 0; x < air; x++)
        to[9][x][OXYGEN] = 1;
    for (int x = 9 - g->divers; x < 9; x++)
        to[9][x][DIVERS] = 1;
    show_shoal(&g->ours, to, OURS, 0);
    show_shoal(&g->theirs, to, THEIRS, 0);
    show_shoal(&g->fish, to, FISH, 1);
    show_shoal(&g->subs, to, SUB, 1);
    show_shoal(&g->free_divers, to, DIVER, 1);
}

MINATAR_GAME(rl_env_minatar_seaquest, "MinAtar-Seaquest", seaquest, CHANNELS, NONE, LEFT, UP,
             RIGHT, DOWN, FIRE)
