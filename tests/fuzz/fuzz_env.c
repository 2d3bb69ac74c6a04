/* fuzz_env.c - environments in C: configs of every built-in one, actions of any value, states that
 * are loaded back, and what a strange environment may say of its spaces. */
#include "fuzz.h"

#include "rl/env/rl_env.h"
#include "rl/env/rl_env_lib.h"
#include "rl/env/rl_env_list.h"

static const char *const keys[] = {
    "\"g\"", "\"goal_velocity\"", "\"desc\"", "\"map_name\"", "\"is_slippery\"", "\"success_rate\"",
    "\"reward_schedule\"", "\"is_rainy\"", "\"fickle_passenger\"", "\"natural\"", "\"sab\"",
    "\"sticky_action_prob\"", "\"mode\"", "\"points\"", "\"layout\"", "\"size\"", "\"game\"",
    "\"opponent\"", "\"kind\"", "\"arms\"", "\"dims\"", "\"noise\"", "\"problem\"", "\"kernel\"",
    "\"rainy_probability\"", "\"sutton_barto_reward\""};
static const char *const values[] = {
    "1", "0", "-1", "1e300", "-1e-300", "0.5", "7", "25", "true", "false", "null", "NaN", "\"4x4\"",
    "\"8x8\"", "[\"SF\",\"HG\"]", "[\"S\"]", "[\"SFFFFG\"]", "[]", "[1,2,3]", "[1,2", "\"ram\"",
    "\"door_key\"", "\"four_rooms\"", "\"connect_four\"", "\"self\"", "\"wheel\"", "\"scalar\"",
    "{\"a\":[1]}", "\"\\\"", "\""};
enum { KEYS = sizeof keys / sizeof *keys, VALUES = sizeof values / sizeof *values };

static uint64_t sum;

/* A config in memory of exactly its size. */
static char *make_config(struct fuzz_in *in) {
    char text[1024];
    size_t n = 0;
    char *exact;

    text[n++] = '{';
    for (uint32_t k = fuzz_below(in, 4); k > 0; k--)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s:%s%s", keys[fuzz_below(in, KEYS)],
                              values[fuzz_below(in, VALUES)], k > 1 ? "," : "");
    if (fuzz_below(in, 4) == 0)
        for (uint32_t k = fuzz_below(in, 40); k > 0; k--)
            text[n++] = (char)(1 + fuzz_below(in, 126));
    text[n++] = '}';
    text[n] = 0;
    exact = malloc(n + 1);
    if (exact) memcpy(exact, text, n + 1);
    return exact;
}

/* Another task, then a picture into memory of exactly its size. */
static void look(struct fuzz_in *in, struct rl_env *e) {
    char *task = make_config(in);
    uint32_t size[2];

    if (task) sum += (uint64_t)rl_env_set_task(e, task, NULL);
    free(task);
    if (rl_env_picture(e, 0, size, NULL) == 0) {
        uint8_t *rgb = malloc((size_t)size[0] * size[1] * 3);

        if (rgb && rl_env_render(e, 0, rgb, NULL) < 0) abort();
        if (rgb) sum += rgb[size[0]];
        free(rgb);
    }
}

static void play(struct fuzz_in *in, struct rl_env *e) {
    size_t n = rl_env_action_bytes(e) * rl_env_lanes(e), bytes = rl_env_state_bytes(e);
    struct rl_env_totals totals;
    char *kept = malloc(bytes ? bytes : 1);

    if (!kept) return;
    if (fuzz_below(in, 3) == 0) look(in, e);
    for (uint32_t k = 0; k < 30; k++) {
        uint8_t *action = rl_env_actions(e);

        switch (fuzz_below(in, 5)) {
        case 0:
            for (size_t i = 0; i < n; i++) action[i] = (uint8_t)fuzz_bytes(in, 1);
            break;
        case 1: memset(action, 0, n); break;
        case 2: sum += (uint64_t)rl_env_save(e, fuzz_below(in, 4), kept, bytes); break;
        case 3:
            if (rl_env_random(e, fuzz_below(in, 60), 1, &totals, NULL) < 0) abort();
            break;
        default: break;
        }
        if (rl_env_step(e, NULL) < 0 && rl_env_reset(e, NULL, NULL, NULL) < 0) abort();
    }
    free(kept);
    if (fuzz_below(in, 3) == 0) look(in, e);
}

static void check_built_in(struct fuzz_in *in) {
    struct rl_env_opts o = {.lanes = 1 + fuzz_below(in, 20), .max_steps = -1};
    struct skate_error err = {""};
    struct rl_env *e = NULL;
    uint32_t count = 0;
    char *config;

    while (rl_env_names[count].name) count++;
    o.name = rl_env_names[fuzz_below(in, count)].name;
    o.mode = (enum rl_env_reset_mode)fuzz_below(in, 3);
    config = make_config(in);
    o.config = config;
    if (config && rl_env_open(&o, &e, &err) == 0) {
        if (rl_env_reset(e, NULL, NULL, &err) < 0) abort();
        play(in, e);
    } else if (!err.text[0]) {
        abort(); /* each refusal has a sentence */
    }
    rl_env_free(e);
    free(config);
}

static void fill_space(struct fuzz_in *in, struct skate_env_space *s) {
    static const double numbers[4] = {-1, 0, 1, 2};
    static const int64_t sizes[SKATE_ENV_PARTS_MAX] = {3, 2, 1, -5};

    s->kind = fuzz_below(in, 6);
    s->dtype = fuzz_below(in, 9);
    s->ndim = fuzz_below(in, 7);
    for (int i = 0; i < SKATE_ENV_DIMS; i++) s->shape[i] = (uint32_t)fuzz_word(in);
    if (fuzz_below(in, 2)) s->shape[0] = 1 + fuzz_below(in, 4);
    s->n = (int64_t)fuzz_word(in);
    s->start = (int64_t)fuzz_word(in);
    s->low = (double)(int64_t)fuzz_word(in);
    s->high = (double)(int64_t)fuzz_word(in);
    s->sizes = fuzz_below(in, 2) ? sizes : NULL;
    if (s->ndim == 1 && s->shape[0] <= 4 && fuzz_below(in, 2)) {
        s->lows = numbers; /* as long as the shape says: that is the environment's word */
        s->highs = fuzz_below(in, 2) ? numbers : NULL;
    }
}

static void check_spaces(struct fuzz_in *in) {
    struct skate_env_info info = {.agents = (uint32_t)fuzz_word(in)};
    uint32_t lanes = 1 + fuzz_below(in, 65536);
    uint64_t row;

    fill_space(in, &info.obs);
    fill_space(in, &info.action);
    if (rl_env_check_info(&info, lanes, "fuzz", NULL) < 0) return;
    row = skate_env_row_bytes(&info.obs, 0);
    if (row == 0 || row > SKATE_ENV_ROW_MAX || row * lanes > SKATE_ENV_BYTES_MAX) abort();
    if (skate_env_row_bytes(&info.action, 1) == 0) abort();
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};

    if (fuzz_below(&in, 2))
        check_built_in(&in);
    else
        check_spaces(&in);
    return 0;
}
