/* env_taxi.c - Taxi-v4 (rainy, fickle or neither), bit-equal to Gymnasium's; Taxi-v3 is the same.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

enum { SOUTH, NORTH, EAST, WEST, PICK_UP, DROP_OFF, IN_TAXI = 4, STATES = 500 };

struct taxi {
    double rain, change;        /* probabilities */
    int is_rainy, is_fickle, may_change;
    int row, column, passenger, goal;
};

struct place {
    int row, column;
};

static const struct place stand[4] = { { 0, 0 }, { 0, 4 }, { 4, 0 }, { 4, 3 } };
/* Whether one can go east from a cell. */
static const char is_open[5][6] = { "10110", "10110", "11110", "01010", "01010" };

static int taxi_make(struct taxi *s, const struct skate_env_make *m,
                     struct skate_env_info *info) {
    int e = skate_env_known(m, "is_rainy fickle_passenger rainy_probability fickle_probability");

    s->rain = 0.8;
    s->change = 0.3;
    if (e == 0)
        e = skate_env_flag_of(m, "is_rainy", &s->is_rainy);
    if (e == 0)
        e = skate_env_flag_of(m, "fickle_passenger", &s->is_fickle);
    if (e == 0)
        e = skate_env_number(m, "rainy_probability", &s->rain);
    if (e == 0)
        e = skate_env_number(m, "fickle_probability", &s->change);
    env_discrete(&info->obs, STATES);
    env_discrete(&info->action, 6);
    info->max_steps = 200;
    info->reward_threshold = 8.0;
    return e;
}

static void put(const struct taxi *s, void *obs) {
    *(int64_t *)obs = ((s->row * 5 + s->column) * 5 + s->passenger) * 4 + s->goal;
}

static void taxi_reset(struct taxi *s, struct skate_rng *rng, void *obs) {
    double r = skate_rng_double(rng), sum = 0.0;
    int state = 0;

    for (int i = 0; i < STATES; i++) {
        if (i / 4 % 5 == IN_TAXI || i / 4 % 5 == i % 4)
            continue;
        sum += 1.0 / 300.0;     /* as NumPy's cumsum: its rounding decides at the borders */
        if (sum > r) {
            state = i;
            break;
        }
    }
    s->goal = state % 4;
    s->passenger = state / 4 % 5;
    s->column = state / 20 % 5;
    s->row = state / 100;
    s->may_change = s->is_fickle && skate_rng_double(rng) < s->change;
    put(s, obs);
}

static int can_go(struct place p, int direction) {
    switch (direction) {
    case SOUTH:
        return p.row < 4;
    case NORTH:
        return p.row > 0;
    case EAST:
        return p.column < 4 && is_open[p.row][p.column] == '1';
    default:
        return p.column > 0 && is_open[p.row][p.column - 1] == '1';
    }
}

static struct place go(struct place p, int direction) {
    if (can_go(p, direction)) {
        p.row += (direction == SOUTH) - (direction == NORTH);
        p.column += (direction == EAST) - (direction == WEST);
    }
    return p;
}

/* In rain a taxi that can go may slip to the side; one that cannot go stays. */
static struct place drive(struct taxi *s, struct skate_rng *rng, int direction) {
    static const int left[4] = { EAST, WEST, NORTH, SOUTH };
    static const int right[4] = { WEST, EAST, SOUTH, NORTH };
    const double aside = (1.0 - s->rain) / 2.0, chance[3] = { s->rain, aside, aside };
    struct place here = { s->row, s->column };
    uint32_t which;

    if (!s->is_rainy) {
        skate_rng_double(rng);
        return go(here, direction);
    }
    which = env_categorical(rng, chance, 3);
    if (!can_go(here, direction))
        return here;
    return go(here, which == 0 ? direction : which == 1 ? left[direction] : right[direction]);
}

static int stand_here(const struct taxi *s) {
    for (int i = 0; i < 4; i++)
        if (stand[i].row == s->row && stand[i].column == s->column)
            return i;
    return -1;
}

static struct skate_env_answer load_or_unload(struct taxi *s, int action) {
    int here = stand_here(s);

    if (action == PICK_UP) {
        if (s->passenger == IN_TAXI || s->passenger != here)
            return (struct skate_env_answer){ -10.0, 0 };
        s->passenger = IN_TAXI;
        return (struct skate_env_answer){ -1.0, 0 };
    }
    if (s->passenger != IN_TAXI || here < 0)
        return (struct skate_env_answer){ -10.0, 0 };
    s->passenger = here;
    return (struct skate_env_answer){ here == s->goal ? 20.0 : -1.0, here == s->goal };
}

static struct skate_env_answer taxi_step(struct taxi *s, struct skate_rng *rng,
                                         const void *action, void *obs) {
    struct skate_env_answer answer = { -1.0, 0 };
    int was_in = s->passenger == IN_TAXI, a = env_action(action);

    if (a < PICK_UP) {
        struct place to = drive(s, rng, a);
        int moved = to.row != s->row || to.column != s->column;

        s->row = to.row;
        s->column = to.column;
        if (s->may_change && was_in && moved) {
            int other = (int)skate_rng_below(rng, 3);

            s->may_change = 0;
            s->goal = other + (other >= s->goal);
        }
    } else {
        skate_rng_double(rng);
        answer = load_or_unload(s, a);
    }
    put(s, obs);
    return answer;
}

static void taxi_mask(struct taxi *s, uint8_t *to) {
    const struct place here = { s->row, s->column };
    int at = stand_here(s);

    for (int a = SOUTH; a <= WEST; a++)
        to[a] = (uint8_t)can_go(here, a);
    to[PICK_UP] = s->passenger != IN_TAXI && s->passenger == at;
    to[DROP_OFF] = s->passenger == IN_TAXI && at >= 0;
}

#define taxi_turn SKATE_ENV_NO_TURN
SKATE_ENV_SCALAR_GAME(rl_env_taxi, "Taxi-v4", struct taxi, taxi, 0)
