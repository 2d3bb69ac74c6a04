/* env_pixel_pong.c - Pong in pixels, rules of our own: a paddle each, first to 21 (or `points`).
 *
 * Actions: stay, up, down. The agent has the right paddle; the other follows the ball, slower than
 * a fast ball. Where the ball meets a paddle decides its angle, and each return makes it faster.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_games.py. */
#include "rl/env/env_pixel.h"
#include "rl/env/rl_env_list.h"

enum { PADDLE = 12 * UNIT, OURS_X = 78 * UNIT, THEIRS_X = 4 * UNIT, THICK = 2 * UNIT };
enum { BALL = 2 * UNIT, SLOW = 20, FAST = 44, OUR_SPEED = 40, THEIR_SPEED = 20, RAM = 6 };

struct pong {
    struct pixels p;
    int points, ours_score, theirs_score;
    int x, y, dx, dy, ours, theirs;
};

static int pong_make(struct pong *g, const struct skate_env_make *m, struct skate_env_info *info) {
    double points = 21;
    int e = skate_env_known(m, "mode points");

    if (e == 0)
        e = skate_env_number(m, "points", &points);
    if (e < 0)
        return e;
    if (!(points >= 1 && points <= 100))
        return skate_env_wrong(m, "points", "from 1 to 100");
    g->points = (int)points;
    info->max_steps = 10000;
    return pixels_make(&g->p, m, info, RAM);
}

static void serve(struct pong *g, struct skate_rng *rng, int to_us) {
    g->x = WIDE / 2;
    g->y = (int)skate_rng_below(rng, WIDE / 2) + WIDE / 4;
    g->dx = to_us ? SLOW : -SLOW;
    g->dy = (int)skate_rng_below(rng, 2 * SLOW + 1) - SLOW;
}

static void pong_draw(struct pong *g) {
    pixels_next(&g->p);
    pixels_draw(&g->p, (struct rect){ OURS_X / UNIT, g->ours / UNIT, 2, 12 }, 200);
    pixels_draw(&g->p, (struct rect){ THEIRS_X / UNIT, g->theirs / UNIT, 2, 12 }, 140);
    pixels_draw(&g->p, (struct rect){ g->x / UNIT, g->y / UNIT, 2, 2 }, 255);
}

static void pong_show(struct pong *g, void *obs) {
    if (g->p.is_ram) {
        const double ram[RAM] = { (double)pixels_clamp(g->x, 0, WIDE) / WIDE, (double)g->y / WIDE,
                                  0.5 + (double)g->dx / (2 * FAST),
                                  0.5 + (double)g->dy / (2 * FAST),
                                  (double)g->ours / WIDE, (double)g->theirs / WIDE };

        env_put(obs, ram, RAM);
        return;
    }
    memcpy(obs, g->p.stack, sizeof g->p.stack);
}

static void pong_reset(struct pong *g, struct skate_rng *rng, void *obs) {
    g->ours = g->theirs = (WIDE - PADDLE) / 2;
    g->ours_score = g->theirs_score = 0;
    serve(g, rng, (int)skate_rng_below(rng, 2));
    if (!g->p.is_ram) {
        pong_draw(g);
        pixels_fill(&g->p);
    }
    pong_show(g, obs);
}

/* Whether the ball, on its way from `from`, passed the front of a paddle that it meets. */
static int meets(const struct pong *g, int from, int front, int paddle) {
    int crosses = g->dx > 0 ? from + BALL <= front && g->x + BALL > front
                            : from >= front && g->x < front;

    return crosses && g->y + BALL > paddle && g->y < paddle + PADDLE;
}

static void bounce(struct pong *g, int front, int paddle) {
    int off = g->y + BALL / 2 - (paddle + PADDLE / 2);

    g->x = g->dx > 0 ? front - BALL : front;
    g->dx = g->dx > 0 ? -pixels_clamp(g->dx + 2, SLOW, FAST) : pixels_clamp(2 - g->dx, SLOW, FAST);
    g->dy = pixels_clamp(off * FAST / (PADDLE / 2 + BALL / 2), -FAST, FAST);
}

static void pong_move(struct pong *g, int action) {
    int target = g->y + BALL / 2 - PADDLE / 2, from = g->x;

    if (action > 0)
        g->ours += action == 1 ? -OUR_SPEED : OUR_SPEED;
    g->ours = pixels_clamp(g->ours, 0, WIDE - PADDLE);
    g->theirs += pixels_clamp(target - g->theirs, -THEIR_SPEED, THEIR_SPEED);
    g->theirs = pixels_clamp(g->theirs, 0, WIDE - PADDLE);
    g->x += g->dx;
    g->y += g->dy;
    if (g->y < 0 || g->y > WIDE - BALL) {
        g->y = g->y < 0 ? -g->y : 2 * (WIDE - BALL) - g->y;
        g->dy = -g->dy;
    }
    if (g->dx > 0 && meets(g, from, OURS_X, g->ours))
        bounce(g, OURS_X, g->ours);
    else if (g->dx < 0 && meets(g, from, THEIRS_X + THICK, g->theirs))
        bounce(g, THEIRS_X + THICK, g->theirs);
}

static struct skate_env_answer pong_step(struct pong *g, struct skate_rng *rng,
                                         const void *action, void *obs) {
    struct skate_env_answer answer = { 0 };

    pong_move(g, env_action(action));
    if (g->x < -BALL) {
        answer.reward = 1.0;
        g->ours_score++;
        serve(g, rng, 0);
    } else if (g->x > WIDE) {
        answer.reward = -1.0;
        g->theirs_score++;
        serve(g, rng, 1);
    }
    answer.terminated = g->ours_score >= g->points || g->theirs_score >= g->points;
    if (!g->p.is_ram)
        pong_draw(g);
    pong_show(g, obs);
    return answer;
}

static int pong_render(const struct pong *g, uint8_t *to, uint32_t size[2]) {
    struct pong copy = *g;
    struct canvas c;

    if (canvas_begin(&c, to, size, SCREEN, SCREEN)) {
        pong_draw(&copy);
        pixels_render(&copy.p, &c);
    }
    return 0;
}

SKATE_ENV_SCALAR_LANES(struct pong, pong, SKATE_ENV_NO_TURN)
SKATE_ENV_SCALAR_RENDER(pong)
SKATE_ENV_SCALAR_TABLE(rl_env_pixel_pong, "PixelPong-v0", pong, 0, .render = pong_render_lane)
