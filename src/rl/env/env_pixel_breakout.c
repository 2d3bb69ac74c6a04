/* env_pixel_breakout.c - Breakout in pixels, rules of our own: six rows of 14 bricks, five lives.
 *
 * Actions: stay, left, right. A brick is worth 1, 4 or 7 by its height; the third wall does not
 * come: two cleared walls end the game, as do five balls lost. Where the ball meets the paddle
 * decides its angle; it gets faster with the upper rows.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_games.py. */
#include "rl/env/env_pixel.h"
#include "rl/env/rl_env_list.h"

enum { ROWS = 6, COLUMNS = 14, BRICK_W = 6, BRICK_H = 3, TOP = 15, LIVES = 5, WALLS = 2 };
enum { PADDLE = 12 * UNIT, PADDLE_Y = 78 * UNIT, BALL = 2 * UNIT, OUR_SPEED = 44, RAM = 5 };
enum { SLOW = 24, FAST = 40, SIDE_MAX = 36 };

struct wall {
    struct pixels p;
    int lives, walls, left;     /* left: bricks of this wall */
    int x, y, dx, dy, paddle, speed;
    uint8_t brick[ROWS][COLUMNS];
};

static int wall_make(struct wall *g, const struct skate_env_make *m, struct skate_env_info *info) {
    int e = skate_env_known(m, "mode");

    if (e < 0)
        return e;
    info->max_steps = 10000;
    return pixels_make(&g->p, m, info, RAM + ROWS * COLUMNS);
}

static void serve(struct wall *g, struct skate_rng *rng) {
    g->x = (int)skate_rng_below(rng, WIDE / 2) + WIDE / 4;
    g->y = 40 * UNIT;
    g->speed = SLOW;
    g->dx = skate_rng_below(rng, 2) ? SLOW / 2 : -SLOW / 2;
    g->dy = g->speed;
}

static void build(struct wall *g) {
    memset(g->brick, 1, sizeof g->brick);
    g->left = ROWS * COLUMNS;
}

static void wall_draw(struct wall *g) {
    pixels_next(&g->p);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++)
            if (g->brick[r][c])
                pixels_draw(&g->p, (struct rect){ c * BRICK_W, TOP + r * BRICK_H, BRICK_W - 1,
                                                  BRICK_H - 1 }, (uint8_t)(220 - 20 * r));
    pixels_draw(&g->p, (struct rect){ g->paddle / UNIT, PADDLE_Y / UNIT, 12, 2 }, 200);
    pixels_draw(&g->p, (struct rect){ g->x / UNIT, g->y / UNIT, 2, 2 }, 255);
}

static void wall_show(struct wall *g, void *obs) {
    if (g->p.is_ram) {
        const double ram[RAM] = { (double)g->x / WIDE,
                                  (double)pixels_clamp(g->y, 0, WIDE) / WIDE,
                                  0.5 + (double)g->dx / (2 * FAST),
                                  0.5 + (double)g->dy / (2 * FAST), (double)g->paddle / WIDE };

        env_put(obs, ram, RAM);
        for (int i = 0; i < ROWS * COLUMNS; i++)
            ((float *)obs)[RAM + i] = g->brick[i / COLUMNS][i % COLUMNS];
        return;
    }
    memcpy(obs, g->p.stack, sizeof g->p.stack);
}

static void wall_reset(struct wall *g, struct skate_rng *rng, void *obs) {
    g->lives = LIVES;
    g->walls = WALLS;
    g->paddle = (WIDE - PADDLE) / 2;
    build(g);
    serve(g, rng);
    if (!g->p.is_ram) {
        wall_draw(g);
        pixels_fill(&g->p);
    }
    wall_show(g, obs);
}

/* The brick under the middle of the ball, if any, goes. */
static double strike(struct wall *g) {
    int c = (g->x + BALL / 2) / UNIT / BRICK_W, r = (g->y + BALL / 2) / UNIT - TOP;

    if (r < 0 || r / BRICK_H >= ROWS || c < 0 || c >= COLUMNS || !g->brick[r / BRICK_H][c])
        return 0.0;
    r /= BRICK_H;
    g->brick[r][c] = 0;
    g->left--;
    g->dy = -g->dy;
    if (r < 4 && g->speed < FAST) {
        g->speed = r < 2 ? FAST : SLOW + (FAST - SLOW) / 2;
        g->dy = g->dy < 0 ? -g->speed : g->speed;
    }
    return r < 2 ? 7.0 : r < 4 ? 4.0 : 1.0;
}

static void wall_move(struct wall *g, int action) {
    int from = g->y;

    if (action > 0)
        g->paddle += action == 1 ? -OUR_SPEED : OUR_SPEED;
    g->paddle = pixels_clamp(g->paddle, 0, WIDE - PADDLE);
    g->x += g->dx;
    g->y += g->dy;
    if (g->x < 0 || g->x > WIDE - BALL) {
        g->x = g->x < 0 ? -g->x : 2 * (WIDE - BALL) - g->x;
        g->dx = -g->dx;
    }
    if (g->y < 0) {
        g->y = -g->y;
        g->dy = -g->dy;
    }
    if (g->dy > 0 && from + BALL <= PADDLE_Y && g->y + BALL > PADDLE_Y &&
        g->x + BALL > g->paddle && g->x < g->paddle + PADDLE) {
        int off = g->x + BALL / 2 - (g->paddle + PADDLE / 2);

        g->y = PADDLE_Y - BALL;
        g->dx = off * SIDE_MAX / (PADDLE / 2 + BALL / 2);
        g->dy = -g->speed;
    }
}

static struct skate_env_answer wall_step(struct wall *g, struct skate_rng *rng,
                                         const void *action, void *obs) {
    struct skate_env_answer answer = { 0 };

    wall_move(g, env_action(action));
    answer.reward = strike(g);
    if (g->left == 0 && --g->walls > 0)
        build(g);
    if (g->y > WIDE && --g->lives > 0)
        serve(g, rng);
    answer.terminated = g->lives <= 0 || g->walls <= 0;
    if (!g->p.is_ram)
        wall_draw(g);
    wall_show(g, obs);
    return answer;
}

static int wall_render(const struct wall *g, uint8_t *to, uint32_t size[2]) {
    struct wall copy = *g;
    struct canvas c;

    if (canvas_begin(&c, to, size, SCREEN, SCREEN)) {
        wall_draw(&copy);
        pixels_render(&copy.p, &c);
    }
    return 0;
}

SKATE_ENV_SCALAR_LANES(struct wall, wall, SKATE_ENV_NO_TURN)
SKATE_ENV_SCALAR_RENDER(wall)
SKATE_ENV_SCALAR_TABLE(rl_env_pixel_breakout, "PixelBreakout-v0", wall, 0,
                       .render = wall_render_lane)
