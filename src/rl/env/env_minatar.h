/* env_minatar.h - what MinAtar's five games share: NumPy's older generator, sticky actions, the
 * 10 x 10 picture, and the macro that makes a game's three functions an environment.
 *
 * The games follow MinAtar 1.0.15 move for move and draw for draw (RandomState(seed): MT19937), so
 * that results can be compared with published ones; the code is our own. Configs:
 * sticky_action_prob 0.1, difficulty_ramping true, use_minimal_action_set (true in the names that
 * end in -v1). Any thread, one object at a time; never blocks.
 * Tests: tests/python/test_rl_env_minatar.py. */
#ifndef SKATE_RL_ENV_MINATAR_H
#define SKATE_RL_ENV_MINATAR_H

#include "rl/env/env_builtin.h"

enum { MT_WORDS = 624, MT_AHEAD = 397, SIDE = 10, DOT = 8 };

enum minatar_action { NONE, LEFT, UP, RIGHT, DOWN, FIRE, ACTIONS };

struct minatar {
    double sticky;
    int ramping, is_minimal, last_action, over;
    uint32_t at, key[MT_WORDS];
};

static inline void mt_seed(struct minatar *m, uint64_t seed) {
    uint32_t x = (uint32_t)(seed ^ seed >> 32);

    for (uint32_t i = 0; i < MT_WORDS; i++) {
        m->key[i] = x;
        x = 1812433253u * (x ^ x >> 30) + i + 1;
    }
    m->at = MT_WORDS;
}

static inline uint32_t mt_next(struct minatar *m) {
    uint32_t x;

    if (m->at == MT_WORDS) {
        for (uint32_t i = 0; i < MT_WORDS; i++) {
            x = (m->key[i] & 0x80000000u) | (m->key[(i + 1) % MT_WORDS] & 0x7fffffffu);
            m->key[i] = m->key[(i + MT_AHEAD) % MT_WORDS] ^ x >> 1 ^ (x & 1 ? 0x9908b0dfu : 0);
        }
        m->at = 0;
    }
    x = m->key[m->at++];
    x ^= x >> 11;
    x ^= x << 7 & 0x9d2c5680u;
    x ^= x << 15 & 0xefc60000u;
    return x ^ x >> 18;
}

/* RandomState.rand() */
static inline double mt_double(struct minatar *m) {
    uint32_t a = mt_next(m) >> 5, b = mt_next(m) >> 6;

    return (a * 67108864.0 + b) / 9007199254740992.0;
}

/* RandomState.randint(n): draws under a mask until one fits. */
static inline int mt_below(struct minatar *m, uint32_t n) {
    uint32_t mask = n - 1, x;

    if (n <= 1)
        return 0;
    for (int shift = 1; shift < 32; shift *= 2)
        mask |= mask >> shift;
    do
        x = mt_next(m) & mask;
    while (x >= n);
    return (int)x;
}

static inline int minatar_make(struct minatar *m, const struct skate_env_make *make,
                               struct skate_env_info *info, uint32_t channels,
                               uint32_t n_minimal) {
    int e = skate_env_known(make, "sticky_action_prob difficulty_ramping use_minimal_action_set");

    m->sticky = 0.1;
    m->ramping = 1;
    if (e == 0)
        e = skate_env_number(make, "sticky_action_prob", &m->sticky);
    if (e == 0)
        e = skate_env_flag_of(make, "difficulty_ramping", &m->ramping);
    if (e == 0)
        e = skate_env_flag_of(make, "use_minimal_action_set", &m->is_minimal);
    env_picture(&info->obs, SIDE, channels);
    env_discrete(&info->action, m->is_minimal ? n_minimal : ACTIONS);
    info->reward_threshold = NAN;
    return e;
}

static inline void minatar_begin(struct minatar *m, struct skate_rng *rng) {
    if (rng->is_new)
        mt_seed(m, rng->seed);
    rng->is_new = 0;
    m->over = 0;
}

/* The action that counts: sometimes the last one again. */
static inline int minatar_action(struct minatar *m, const void *action,
                                 const uint8_t *minimal) {
    int a = env_action(action);

    if (m->is_minimal)
        a = minimal[a];
    if (mt_double(m) < m->sticky)
        a = m->last_action;
    m->last_action = a;
    return a;
}

/* A picture of squares, a colour a channel; the last channel that is set is seen. */
static inline void minatar_render(const uint8_t *picture, uint32_t channels,
                                  const struct canvas *c) {
    static const uint32_t inks[] = { INK_BLUE, INK_RED, INK_GREEN, INK_BROWN, INK_GREY, 0xf57900,
                                     0x75507b, 0xedd400, 0x06989a, 0xad7fa8, INK_BLACK };

    for (int y = 0; y < c->h; y++)
        for (int x = 0; x < c->w; x++)
            for (uint32_t k = 0; k < channels; k++)
                if (picture[((uint32_t)(y / DOT) * SIDE + (uint32_t)(x / DOT)) * channels + k])
                    canvas_dot(c, x, y, inks[k % (sizeof inks / sizeof *inks)]);
}

static inline int at_least(int a, int b) {
    return a > b ? a : b;
}

static inline int at_most(int a, int b) {
    return a < b ? a : b;
}

/* game##_start(g), game##_act(g, action) -> reward (sets g->m.over), game##_show(g, picture);
 * the picture is cleared before. */
#define MINATAR_GAME(symbol, name, game, n_channels, ...)                                       \
    static const uint8_t game##_minimal[] = { __VA_ARGS__ };                                    \
    static int game##_make(struct game *g, const struct skate_env_make *make,                   \
                           struct skate_env_info *info) {                                       \
        return minatar_make(&g->m, make, info, n_channels, sizeof game##_minimal);              \
    }                                                                                           \
    static void game##_picture(const struct game *g, void *obs) {                               \
        memset(obs, 0, SIDE * SIDE * n_channels);                                               \
        game##_show(g, obs);                                                                    \
    }                                                                                           \
    static void game##_reset(struct game *g, struct skate_rng *rng, void *obs) {                \
        minatar_begin(&g->m, rng);                                                              \
        game##_start(g);                                                                        \
        game##_picture(g, obs);                                                                 \
    }                                                                                           \
    static struct skate_env_answer game##_step(struct game *g, struct skate_rng *rng,           \
                                               const void *action, void *obs) {                 \
        int a = minatar_action(&g->m, action, game##_minimal);                                  \
        double reward = g->m.over ? 0.0 : game##_act(g, a);                                     \
                                                                                                \
        (void)rng;                                                                              \
        game##_picture(g, obs);                                                                 \
        return (struct skate_env_answer){ reward, g->m.over };                                  \
    }                                                                                           \
    static int game##_render(const struct game *g, uint8_t *to, uint32_t size[2]) {             \
        uint8_t picture[SIDE * SIDE * n_channels];                                              \
        struct canvas c;                                                                        \
                                                                                                \
        game##_picture(g, picture);                                                             \
        if (canvas_begin(&c, to, size, SIDE * DOT, SIDE * DOT))                                 \
            minatar_render(picture, n_channels, &c);                                            \
        return 0;                                                                               \
    }                                                                                           \
    SKATE_ENV_SCALAR_LANES(struct game, game, SKATE_ENV_NO_TURN)                                \
    SKATE_ENV_SCALAR_RENDER(game)                                                               \
    SKATE_ENV_SCALAR_TABLE(symbol, name, game, 0, .render = game##_render_lane)

#endif
