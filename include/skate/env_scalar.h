/* skate/env_scalar.h - write one environment, get the vector: the macro SKATE_ENV_SCALAR.
 *
 *     struct game { int at; };
 *     static int game_make(struct game *g, const struct skate_env_make *m,
 *                          struct skate_env_info *info);          0 or an error; once for each lane
 *     static void game_reset(struct game *g, struct skate_rng *rng, void *obs);
 *     static struct skate_env_answer game_step(struct game *g, struct skate_rng *rng,
 *                                              const void *action, void *obs);
 *     SKATE_ENV_SCALAR(skate_env_v1, "Game-v0", struct game, game, 0)
 *
 * The last argument is flags of enum skate_env_flag (SKATE_ENV_RANGES is added). The state must
 * hold no pointers into itself: it is saved and loaded as bytes. SKATE_ENV_SCALAR_GAME takes two
 * functions more: void game_mask(struct game *g, uint8_t *to), 1 for each action that is allowed,
 * and int game_turn(const struct game *g), whose move is next.
 *
 * With pictures or tasks, the three parts of it one by one:
 *     static int game_render(const struct game *g, uint8_t *to, uint32_t size[2]);
 *     static int game_task(struct game *g, const struct skate_env_make *task);    config: the task
 *     SKATE_ENV_SCALAR_LANES(struct game, game, SKATE_ENV_NO_TURN)
 *     SKATE_ENV_SCALAR_RENDER(game)
 *     SKATE_ENV_SCALAR_TASK(game)
 *     SKATE_ENV_SCALAR_TABLE(skate_env_v1, "Game-v0", game, 0, .render = game_render_lane,
 *                            .set_task = game_task_lanes)
 * Header only. */
#ifndef SKATE_ENV_SCALAR_H
#define SKATE_ENV_SCALAR_H

#include <skate/env.h>
#include <skate/env_rng.h>
#include <stdlib.h>
#include <string.h>

struct skate_env_answer {
    double reward;
    int terminated;
};

#define SKATE_ENV_NO_TURN(game) 0

#define SKATE_ENV_SCALAR(symbol, name, type, prefix, more_flags)                                \
    SKATE_ENV_SCALAR_LANES(type, prefix, SKATE_ENV_NO_TURN)                                     \
    SKATE_ENV_SCALAR_TABLE(symbol, name, prefix, more_flags, .mask = NULL)

#define SKATE_ENV_SCALAR_GAME(symbol, name, type, prefix, more_flags)                           \
    SKATE_ENV_SCALAR_LANES(type, prefix, prefix##_turn)                                         \
    static void prefix##_mask_lane(void *env, uint32_t lane, uint8_t *to) {                     \
        prefix##_mask(&((struct prefix##_lanes *)env)->lane[lane].game, to);                    \
    }                                                                                           \
    SKATE_ENV_SCALAR_TABLE(symbol, name, prefix, more_flags, .mask = prefix##_mask_lane)

#define SKATE_ENV_SCALAR_LANES(type, prefix, turn_of)                                           \
    struct prefix##_lane {                                                                      \
        type game;                                                                              \
        struct skate_rng rng;                                                                   \
    };                                                                                          \
    struct prefix##_lanes {                                                                     \
        size_t obs_row, action_row;                                                             \
        uint32_t lanes;                                                                         \
        struct prefix##_lane lane[];                                                            \
    };                                                                                          \
    static int prefix##_make_lanes(const struct skate_env_make *m,                              \
                                   struct skate_env_info *ret_info, void **ret_env) {           \
        struct prefix##_lanes *v;                                                               \
                                                                                                \
        v = (struct prefix##_lanes *)calloc(1, sizeof *v + m->lanes * sizeof v->lane[0]);       \
        if (!v)                                                                                 \
            return -SKATE_ENOMEM;                                                               \
        for (uint32_t i = 0; i < m->lanes; i++) {                                               \
            int e = prefix##_make(&v->lane[i].game, m, ret_info);                               \
                                                                                                \
            if (e < 0) {                                                                        \
                free(v);                                                                        \
                return e;                                                                       \
            }                                                                                   \
        }                                                                                       \
        v->lanes = m->lanes;                                                                    \
        v->obs_row = skate_env_row_bytes(&ret_info->obs, 0);                                    \
        v->action_row = skate_env_row_bytes(&ret_info->action, 1);                              \
        *ret_env = v;                                                                           \
        return 0;                                                                               \
    }                                                                                           \
    static void prefix##_close_lanes(void *env) { free(env); }                                  \
    static int prefix##_reset_lanes(void *env, const struct skate_env_rows *rows,               \
                                    const uint32_t *lanes, uint32_t n, const uint64_t *seeds) { \
        struct prefix##_lanes *v = (struct prefix##_lanes *)env;                                \
                                                                                                \
        for (uint32_t i = 0; i < n; i++) {                                                      \
            struct prefix##_lane *l = &v->lane[lanes[i]];                                       \
                                                                                                \
            if (seeds)                                                                          \
                skate_rng_seed(&l->rng, seeds[i]);                                              \
            prefix##_reset(&l->game, &l->rng, (char *)rows->obs + lanes[i] * v->obs_row);       \
            rows->turn[lanes[i]] = (uint8_t)turn_of(&l->game);                                  \
        }                                                                                       \
        return 0;                                                                               \
    }                                                                                           \
    static int prefix##_step_lanes(void *env, const struct skate_env_rows *rows, uint32_t lo,   \
                                   uint32_t hi) {                                               \
        struct prefix##_lanes *v = (struct prefix##_lanes *)env;                                \
                                                                                                \
        for (uint32_t i = lo; i < hi; i++) {                                                    \
            struct prefix##_lane *l = &v->lane[i];                                              \
            struct skate_env_answer a =                                                         \
                prefix##_step(&l->game, &l->rng,                                                \
                              (const char *)rows->action + i * v->action_row,                   \
                              (char *)rows->obs + i * v->obs_row);                              \
                                                                                                \
            rows->reward[i] = a.reward;                                                         \
            rows->terminated[i] = a.terminated != 0;                                            \
            rows->turn[i] = (uint8_t)turn_of(&l->game);                                         \
        }                                                                                       \
        return 0;                                                                               \
    }                                                                                           \
    static size_t prefix##_state_bytes(void *env) {                                             \
        (void)env;                                                                              \
        return sizeof(struct prefix##_lane);                                                    \
    }                                                                                           \
    static void prefix##_save_lane(void *env, uint32_t lane, void *to) {                        \
        memcpy(to, &((struct prefix##_lanes *)env)->lane[lane], sizeof(struct prefix##_lane));  \
    }                                                                                           \
    static int prefix##_load_lane(void *env, uint32_t lane, const void *from) {                 \
        memcpy(&((struct prefix##_lanes *)env)->lane[lane], from,                               \
               sizeof(struct prefix##_lane));                                                   \
        return 0;                                                                               \
    }

#define SKATE_ENV_SCALAR_RENDER(prefix)                                                         \
    static int prefix##_render_lane(void *env, uint32_t lane, uint8_t *to, uint32_t size[2]) {  \
        return prefix##_render(&((struct prefix##_lanes *)env)->lane[lane].game, to, size);     \
    }

/* All lanes or none: what one refuses all refuse, and lane 0 is asked first. */
#define SKATE_ENV_SCALAR_TASK(prefix)                                                           \
    static int prefix##_task_lanes(void *env, const char *task, char *error) {                  \
        struct prefix##_lanes *v = (struct prefix##_lanes *)env;                                \
        struct skate_env_make m = { sizeof m, v->lanes, 0, task, error };                       \
        int e = 0;                                                                              \
                                                                                                \
        for (uint32_t i = 0; e == 0 && i < v->lanes; i++)                                       \
            e = prefix##_task(&v->lane[i].game, &m);                                            \
        return e;                                                                               \
    }

/* The last arguments are initialisers of more members: .mask, .render, .set_task. */
#define SKATE_ENV_SCALAR_TABLE(symbol, name, prefix, more_flags, ...)                           \
    extern const struct skate_env_api symbol;                                                   \
    SKATE_ENV_EXPORT const struct skate_env_api symbol = {                                      \
        .abi = SKATE_ENV_ABI,                                                                   \
        .bytes = sizeof(struct skate_env_api),                                                  \
        .flags = SKATE_ENV_RANGES | (more_flags),                                               \
        .id = name,                                                                             \
        .make = prefix##_make_lanes,                                                            \
        .close = prefix##_close_lanes,                                                          \
        .reset = prefix##_reset_lanes,                                                          \
        .step = prefix##_step_lanes,                                                            \
        .state_bytes = prefix##_state_bytes,                                                    \
        .save = prefix##_save_lane,                                                             \
        .load = prefix##_load_lane,                                                             \
        __VA_ARGS__                                                                             \
    };

#endif
