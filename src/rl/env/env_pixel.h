/* env_pixel.h - what the pixel games share: a picture of 84 x 84, the last four of them, RAM mode.
 *
 * Positions are sixteenths of a pixel, all integers: the same on every machine. Configs: "mode":
 * "pixels" (uint8 [84][84][4], the oldest picture first) or "ram" (a few float32 in 0 .. 1).
 * Any thread, one object at a time; never blocks. Tests: tests/python/test_rl_env_games.py. */
#ifndef SKATE_RL_ENV_PIXEL_H
#define SKATE_RL_ENV_PIXEL_H

#include "rl/env/env_builtin.h"

enum { SCREEN = 84, UNIT = 16, WIDE = SCREEN * UNIT };

struct pixels {
    int is_ram;
    uint32_t stack[SCREEN * SCREEN];    /* four pictures, a byte each, the newest on top */
};

struct rect {
    int x, y, w, h;                     /* pixels */
};

static inline int pixels_make(struct pixels *p, const struct skate_env_make *m,
                              struct skate_env_info *info, uint32_t n_ram) {
    char mode[8] = "pixels";
    int e = skate_env_text(m, "mode", mode, sizeof mode);

    if (e < 0)
        return e;
    p->is_ram = strcmp(mode, "ram") == 0;
    if (!p->is_ram && strcmp(mode, "pixels") != 0)
        return skate_env_wrong(m, "mode", "\"pixels\" or \"ram\"");
    if (p->is_ram)
        env_box(&info->obs, n_ram, 0, 1);
    else
        info->obs = (struct skate_env_space){ .kind = SKATE_SPACE_BOX, .dtype = SKATE_U8,
                                              .ndim = 3, .shape = { SCREEN, SCREEN, 4 },
                                              .low = 0, .high = 255 };
    env_discrete(&info->action, 3);
    info->reward_threshold = NAN;
    return 0;
}

/* Begin a new picture, black. */
static inline void pixels_next(struct pixels *p) {
    for (int i = 0; i < SCREEN * SCREEN; i++)
        p->stack[i] >>= 8;
}

static inline void pixels_draw(struct pixels *p, struct rect r, uint8_t grey) {
    for (int y = r.y < 0 ? 0 : r.y; y < r.y + r.h && y < SCREEN; y++)
        for (int x = r.x < 0 ? 0 : r.x; x < r.x + r.w && x < SCREEN; x++)
            p->stack[y * SCREEN + x] = (p->stack[y * SCREEN + x] & 0xffffffu) |
                                       (uint32_t)grey << 24;
}

/* After a reset all four pictures are the same one. */
static inline void pixels_fill(struct pixels *p) {
    for (int i = 0; i < SCREEN * SCREEN; i++)
        p->stack[i] = (p->stack[i] >> 24) * 0x01010101u;
}

/* The newest picture. */
static inline void pixels_render(const struct pixels *p, const struct canvas *c) {
    for (int i = 0; i < SCREEN * SCREEN; i++)
        canvas_dot(c, i % SCREEN, i / SCREEN, (p->stack[i] >> 24) * 0x010101u);
}

static inline int pixels_clamp(int x, int low, int high) {
    return x < low ? low : x > high ? high : x;
}

#endif
