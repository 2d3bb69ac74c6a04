/* env_frozen_lake.c - FrozenLake-v1 (4x4, 8x8, a map of one's own), bit-equal to Gymnasium's.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

enum { CELLS = 1024 };

struct frozen_lake {
    double chance[3];           /* of moving to the left of an action, along it, to its right */
    double reward[3];           /* goal, hole, ice */
    uint32_t rows, columns, at;
    int slippery;
    char cell[CELLS];
};

static const char map_4x4[] = "[\"SFFF\",\"FHFH\",\"FFFH\",\"HFFG\"]";
static const char map_8x8[] = "[\"SFFFFFFF\",\"FFFFFFFF\",\"FFFHFFFF\",\"FFFFFHFF\","
                              "\"FFFHFFFF\",\"FHHFFFHF\",\"FHFFHFHF\",\"FFFHFFFG\"]";

/* A list of strings of one length, of the letters S F H G. */
static int read_map(struct frozen_lake *s, const char *p) {
    uint32_t n = 0, starts = 0;

    s->rows = s->columns = 0;
    if (*p != '[')
        return -SKATE_EINVAL;
    do {
        uint32_t width;

        p = skate_json_blank(p + 1);
        if (*p++ != '"')
            return -SKATE_EINVAL;
        width = (uint32_t)strspn(p, "SFHG");
        if (width == 0 || p[width] != '"' || n + width > CELLS ||
            (s->rows > 0 && width != s->columns))
            return -SKATE_EINVAL;
        for (uint32_t i = 0; i < width; i++)
            starts += p[i] == 'S';
        memcpy(s->cell + n, p, width);
        n += width;
        s->columns = width;
        s->rows++;
        p = skate_json_blank(p + width + 1);
    } while (*p == ',');
    return *p == ']' && starts > 0 ? 0 : -SKATE_EINVAL;
}

static int read_rewards(struct frozen_lake *s, const struct skate_env_make *m) {
    const char *p = skate_env_find(m, "reward_schedule");

    s->reward[0] = 1.0;
    for (int i = 0; p && i < 3; i++) {
        char *end;

        if (*p != (i == 0 ? '[' : ','))
            return skate_env_wrong(m, "reward_schedule", "[goal, hole, ice]");
        s->reward[i] = strtod(p + 1, &end);
        if (end == p + 1)
            return skate_env_wrong(m, "reward_schedule", "[goal, hole, ice]");
        p = skate_json_blank(end);
    }
    return p && *p != ']' ? skate_env_wrong(m, "reward_schedule", "[goal, hole, ice]") : 0;
}

static int frozen_lake_make(struct frozen_lake *s, const struct skate_env_make *m,
                            struct skate_env_info *info) {
    char name[8] = "4x4";
    const char *map;
    int e = skate_env_known(m, "map_name desc is_slippery success_rate reward_schedule");

    s->slippery = 1;
    s->chance[1] = 1.0 / 3.0;
    if (e == 0)
        e = skate_env_text(m, "map_name", name, sizeof name);
    if (e == 0)
        e = skate_env_flag_of(m, "is_slippery", &s->slippery);
    if (e == 0)
        e = skate_env_number(m, "success_rate", &s->chance[1]);
    if (e == 0)
        e = read_rewards(s, m);
    if (e < 0)
        return e;
    if (!(s->chance[1] >= 0.0 && s->chance[1] <= 1.0))
        return skate_env_wrong(m, "success_rate", "between 0 and 1");
    s->chance[0] = s->chance[2] = (1.0 - s->chance[1]) / 2.0;
    map = skate_env_find(m, "desc");
    if (!map && strcmp(name, "4x4") != 0 && strcmp(name, "8x8") != 0)
        return skate_env_wrong(m, "map_name", "\"4x4\" or \"8x8\"");
    if (read_map(s, map ? map : strcmp(name, "4x4") == 0 ? map_4x4 : map_8x8) < 0)
        return skate_env_wrong(m, "desc", "a list of strings of one length, of the letters "
                               "S F H G, with an S, at most 1024 in all");
    env_discrete(&info->obs, s->rows * s->columns);
    env_discrete(&info->action, 4);
    info->max_steps = 100;
    info->reward_threshold = 0.70;
    return 0;
}

static void frozen_lake_reset(struct frozen_lake *s, struct skate_rng *rng, void *obs) {
    double r = skate_rng_double(rng), sum = 0.0, starts = 0.0;
    uint32_t cells = s->rows * s->columns;

    for (uint32_t i = 0; i < cells; i++)
        starts += s->cell[i] == 'S';
    s->at = 0;
    for (uint32_t i = 0; i < cells; i++) {
        if (s->cell[i] != 'S')
            continue;
        sum += 1.0 / starts;
        if (sum > r) {
            s->at = i;
            break;
        }
    }
    *(int64_t *)obs = s->at;
}

static uint32_t neighbour(const struct frozen_lake *s, int direction) {
    uint32_t row = s->at / s->columns, column = s->at % s->columns;

    if (direction == 0 && column > 0)
        return s->at - 1;
    if (direction == 1 && row < s->rows - 1)
        return s->at + s->columns;
    if (direction == 2 && column < s->columns - 1)
        return s->at + 1;
    if (direction == 3 && row > 0)
        return s->at - s->columns;
    return s->at;
}

static struct skate_env_answer frozen_lake_step(struct frozen_lake *s, struct skate_rng *rng,
                                                const void *action, void *obs) {
    static const double surely[1] = { 1.0 };
    int direction = env_action(action), over = s->cell[s->at] == 'G' || s->cell[s->at] == 'H';
    char cell;

    if (over || !s->slippery)
        env_categorical(rng, surely, 1);
    else
        direction = (direction + 3 + (int)env_categorical(rng, s->chance, 3)) & 3;
    if (!over)
        s->at = neighbour(s, direction);
    *(int64_t *)obs = s->at;
    cell = s->cell[s->at];
    if (over)
        return (struct skate_env_answer){ 0.0, 1 };
    return (struct skate_env_answer){ s->reward[cell == 'G' ? 0 : cell == 'H' ? 1 : 2],
                                      cell == 'G' || cell == 'H' };
}

SKATE_ENV_SCALAR(rl_env_frozen_lake, "FrozenLake-v1", struct frozen_lake, frozen_lake, 0)
