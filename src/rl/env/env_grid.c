/* env_grid.c - gridworlds: an agent that sees 7 x 7 cells before it looks for the goal.
 *
 * "layout": "empty", "four_rooms" or "door_key" (a wall with a locked door, its key on this side);
 * "size": 5 to 25 cells a side, walls included. Actions: turn left, turn right, forward, pick up,
 * open. The view is uint8 [7][7][2]: what is there (0 unseen or outside, 1 empty, 2 wall, 3 door,
 * 4 key, 5 goal) and its state (of a door: 0 open, 1 locked), the agent in the middle of the last
 * row, facing up; in [6][3][1] whether it carries the key. The goal is worth
 * 1 - 0.9 x steps / limit.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_games.py. */
#include "rl/env/env_builtin.h"
#include "rl/env/rl_env_list.h"

enum { SIZE_MAX_GRID = 25, VIEW = 7 };
enum { UNSEEN, EMPTY, WALL, DOOR, KEY, GOAL };
enum { TURN_LEFT, TURN_RIGHT, FORWARD, PICK_UP, OPEN, GRID_ACTIONS };
enum { LAYOUT_EMPTY, FOUR_ROOMS, DOOR_KEY };

struct grid {
    int size, layout, limit, steps;
    int x, y, facing;           /* 0 right, 1 down, 2 left, 3 up */
    int has_key, is_locked;
    uint8_t cell[SIZE_MAX_GRID][SIZE_MAX_GRID];
};

static const int ahead_x[4] = { 1, 0, -1, 0 }, ahead_y[4] = { 0, 1, 0, -1 };

static int grid_make(struct grid *g, const struct skate_env_make *m,
                     struct skate_env_info *info) {
    static const char *const names[] = { "empty", "four_rooms", "door_key" };
    char layout[16] = "empty";
    double size = 8;
    int e = skate_env_known(m, "layout size");

    if (e == 0)
        e = skate_env_text(m, "layout", layout, sizeof layout);
    if (e == 0)
        e = skate_env_number(m, "size", &size);
    if (e < 0)
        return e;
    g->layout = -1;
    for (int i = 0; i < 3; i++)
        if (strcmp(layout, names[i]) == 0)
            g->layout = i;
    if (g->layout < 0)
        return skate_env_wrong(m, "layout", "\"empty\", \"four_rooms\" or \"door_key\"");
    if (!(size >= (g->layout == FOUR_ROOMS ? 7 : 5) && size <= SIZE_MAX_GRID))
        return skate_env_wrong(m, "size", "from 5 (four_rooms: 7) to 25");
    g->size = (int)size;
    g->limit = 4 * g->size * g->size;
    info->obs = (struct skate_env_space){ .kind = SKATE_SPACE_BOX, .dtype = SKATE_U8, .ndim = 3,
                                          .shape = { VIEW, VIEW, 2 }, .low = 0, .high = 5 };
    env_discrete(&info->action, GRID_ACTIONS);
    info->max_steps = (uint32_t)g->limit;
    info->reward_threshold = NAN;
    return 0;
}

static int between(struct skate_rng *rng, int low, int high) {
    return low + (int)skate_rng_below(rng, (uint32_t)(high - low));
}

/* An empty cell with column in low .. high - 1. */
static void find_empty(const struct grid *g, struct skate_rng *rng, int low, int high, int *x,
                       int *y) {
    do {
        *x = between(rng, low, high);
        *y = between(rng, 1, g->size - 1);
    } while (g->cell[*y][*x] != EMPTY);
}

static void build_rooms(struct grid *g, struct skate_rng *rng) {
    int half = g->size / 2;

    for (int i = 0; i < g->size; i++)
        g->cell[i][half] = g->cell[half][i] = WALL;
    g->cell[between(rng, 1, half)][half] = EMPTY;
    g->cell[between(rng, half + 1, g->size - 1)][half] = EMPTY;
    g->cell[half][between(rng, 1, half)] = EMPTY;
    g->cell[half][between(rng, half + 1, g->size - 1)] = EMPTY;
}

static void build(struct grid *g, struct skate_rng *rng) {
    int n = g->size < 5 ? 5 : g->size, wall = n - 1, x, y; /* make() has seen to it */

    for (y = 0; y < n; y++)
        for (x = 0; x < n; x++)
            g->cell[y][x] = x == 0 || y == 0 || x == n - 1 || y == n - 1 ? WALL : EMPTY;
    if (g->layout == FOUR_ROOMS) {
        build_rooms(g, rng);
        find_empty(g, rng, 1, n - 1, &x, &y);
        g->cell[y][x] = GOAL;
    } else {
        g->cell[n - 2][n - 2] = GOAL;
    }
    if (g->layout == DOOR_KEY) {
        wall = between(rng, 2, n - 2);
        for (y = 1; y < n - 1; y++)
            g->cell[y][wall] = WALL;
        g->cell[between(rng, 1, n - 1)][wall] = DOOR;
        find_empty(g, rng, 1, wall, &x, &y);
        g->cell[y][x] = KEY;
    }
    find_empty(g, rng, 1, wall, &g->x, &g->y);
}

static void look(const struct grid *g, uint8_t (*to)[VIEW][2]) {
    int fx = ahead_x[g->facing], fy = ahead_y[g->facing], rx = -fy, ry = fx;

    for (int row = 0; row < VIEW; row++)
        for (int column = 0; column < VIEW; column++) {
            int forward = VIEW - 1 - row, right = column - VIEW / 2;
            int x = g->x + forward * fx + right * rx, y = g->y + forward * fy + right * ry;
            int in = x >= 0 && y >= 0 && x < g->size && y < g->size;

            to[row][column][0] = in ? g->cell[y][x] : UNSEEN;
            to[row][column][1] = in && g->cell[y][x] == DOOR && g->is_locked;
        }
    to[VIEW - 1][VIEW / 2][1] = (uint8_t)g->has_key;
}

static void grid_reset(struct grid *g, struct skate_rng *rng, void *obs) {
    g->is_locked = 1;
    g->has_key = g->steps = 0;
    build(g, rng);
    g->facing = (int)skate_rng_below(rng, 4);
    look(g, obs);
}

static struct skate_env_answer grid_step(struct grid *g, struct skate_rng *rng,
                                         const void *action, void *obs) {
    int a = env_action(action), x = g->x + ahead_x[g->facing], y = g->y + ahead_y[g->facing];
    struct skate_env_answer answer = { 0 };
    uint8_t *front = &g->cell[y][x];

    (void)rng;
    g->steps++;
    if (a == TURN_LEFT || a == TURN_RIGHT) {
        g->facing = (g->facing + (a == TURN_RIGHT ? 1 : 3)) & 3;
    } else if (a == FORWARD && (*front == EMPTY || *front == GOAL ||
                                (*front == DOOR && !g->is_locked))) {
        g->x = x;
        g->y = y;
        answer.terminated = *front == GOAL;
        if (answer.terminated)
            answer.reward = 1.0 - 0.9 * g->steps / g->limit;
    } else if (a == PICK_UP && *front == KEY) {
        *front = EMPTY;
        g->has_key = 1;
    } else if (a == OPEN && *front == DOOR && g->has_key) {
        g->is_locked = 0;
    }
    look(g, obs);
    return answer;
}

SKATE_ENV_SCALAR(rl_env_grid, "Grid", struct grid, grid, SKATE_ENV_STEP_ANY)
