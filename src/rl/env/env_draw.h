/* env_draw.h - pictures of the built-in environments: rectangles, thick lines and discs on a
 * white canvas of RGB bytes. What lies outside is cut off; what is not finite draws nothing.
 * Any thread; never blocks. Tests: tests/python/test_rl_env_pictures.py. */
#ifndef SKATE_RL_ENV_DRAW_H
#define SKATE_RL_ENV_DRAW_H

#include <math.h>
#include <stdint.h>
#include <string.h>

struct canvas {
    uint8_t *rgb;
    int w, h;
};

enum { INK_BLACK = 0x202020, INK_BROWN = 0xb87333, INK_BLUE = 0x3465a4, INK_GREEN = 0x4e9a06,
       INK_RED = 0xcc0000, INK_GREY = 0x888a85 };

/* The start of a render(): the size, and with `to` a white canvas. 0: only the size was asked. */
static inline int canvas_begin(struct canvas *c, uint8_t *to, uint32_t size[2], int w, int h) {
    *c = (struct canvas){ to, w, h };
    size[0] = (uint32_t)w;
    size[1] = (uint32_t)h;
    if (to)
        memset(to, 255, (size_t)w * (size_t)h * 3);
    return to != NULL;
}

static inline void canvas_dot(const struct canvas *c, int x, int y, uint32_t ink) {
    uint8_t *p = c->rgb + ((size_t)y * (size_t)c->w + (size_t)x) * 3;

    p[0] = (uint8_t)(ink >> 16);
    p[1] = (uint8_t)(ink >> 8);
    p[2] = (uint8_t)ink;
}

/* All points nearer than r to the line from (x0, y0) to (x1, y1), in pixels. */
static inline void canvas_line(const struct canvas *c, const double from[2], const double to[2],
                               double r, uint32_t ink) {
    double dx = to[0] - from[0], dy = to[1] - from[1], length = dx * dx + dy * dy;

    if (!isfinite(from[0] + from[1] + to[0] + to[1] + r))
        return;
    for (int y = 0; y < c->h; y++)
        for (int x = 0; x < c->w; x++) {
            double px = x + 0.5 - from[0], py = y + 0.5 - from[1];
            double at = length > 0 ? (px * dx + py * dy) / length : 0;

            at = at < 0 ? 0 : at > 1 ? 1 : at;
            px -= at * dx;
            py -= at * dy;
            if (px * px + py * py < r * r)
                canvas_dot(c, x, y, ink);
        }
}

static inline void canvas_disc(const struct canvas *c, const double at[2], double r,
                               uint32_t ink) {
    canvas_line(c, at, at, r, ink);
}

static inline void canvas_rect(const struct canvas *c, const double from[2], const double to[2],
                               uint32_t ink) {
    for (int y = 0; y < c->h; y++)
        for (int x = 0; x < c->w; x++)
            if (x + 0.5 >= from[0] && x + 0.5 < to[0] && y + 0.5 >= from[1] && y + 0.5 < to[1])
                canvas_dot(c, x, y, ink);
}

#endif
