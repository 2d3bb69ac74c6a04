/* rl_env_hostile_test.c - environments that say wrong things of themselves, configs and actions
 * that are wrong: each is refused with its own error, nothing crashes.
 * links: base rl */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/env/rl_env.h"
#include "rl/env/rl_env_lib.h"
#include "rl/env/rl_env_list.h"

static int refused(const char *name, const char *config, uint32_t lanes, const char *said) {
    struct rl_env_opts o = { .name = name, .config = config, .lanes = lanes, .max_steps = -1 };
    struct skate_error err = { "" };
    struct rl_env *e = NULL;
    int r = rl_env_open(&o, &e, &err);

    assert_true(r < 0);
    assert_null(e);
    if (!strstr(err.text, said))
        fail_msg("\"%s\" does not say \"%s\"", err.text, said);
    return r;
}

static void names(void **state) {
    (void)state;
    assert_int_equal(refused("CartPole-v9", NULL, 1, "CartPole-v9"), -SKATE_ENOENT);
    assert_int_equal(refused("c:", NULL, 1, "c:PATH"), -SKATE_ENOENT);
    assert_int_equal(refused("c:/no/such/file.so", NULL, 1, "/no/such/file.so"), -SKATE_ENOENT);
    assert_int_equal(refused("c:libc.so.6", NULL, 1, "./libc.so.6"), -SKATE_ENOENT);
    assert_int_equal(refused("c:libc.so.6:printf", NULL, 1, "./libc.so.6"), -SKATE_ENOENT);
    assert_int_equal(refused("CartPole-v1", NULL, 0, "lanes"), -SKATE_EINVAL);
    assert_int_equal(refused("CartPole-v1", NULL, 1u << 30, "lanes"), -SKATE_EINVAL);
}

static void configs(void **state) {
    static const char *const bad[] = {
        "", "[]", "{", "{\"goal_velocity\"", "{\"goal_velocity\":", "{\"goal_velocity\":}",
        "{\"goal_velocity\": [1, {\"a\": 2}", "{\"goal_velocity\": \"fast\"}", "{\"x\\", "{\"\\",
        "{\"goal_velocity\": 1 2}", "{\"goal_velocity\": true}", "{,", "{\"a\" \"b\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = strlen(bad[i]);
        char *exact = malloc(n + 1);    /* so that a sanitizer sees a read beyond the end */

        memcpy(exact, bad[i], n + 1);
        assert_int_equal(refused("MountainCar-v0", exact, 1, ""), -SKATE_EINVAL);
        free(exact);
    }
    refused("MountainCar-v0", "{\"goal_velocty\": 1}", 1, "goal_velocty");
    refused("FrozenLake-v1", "{\"map_name\": \"9x9\"}", 1, "4x4");
    refused("FrozenLake-v1", "{\"desc\": [\"SF\", \"FFG\"]}", 1, "desc");
    refused("FrozenLake-v1", "{\"desc\": [\"FF\", \"FG\"]}", 1, "desc");
    refused("FrozenLake-v1", "{\"desc\": []}", 1, "desc");
    refused("FrozenLake-v1", "{\"success_rate\": 1.5}", 1, "success_rate");
    refused("FrozenLake-v1", "{\"reward_schedule\": [1, 2]}", 1, "reward_schedule");
    refused("Taxi-v4", "{\"is_rainy\": \"yes\"}", 1, "is_rainy");
}

static int nothing(const struct skate_env_make *m, struct skate_env_info *info, void **ret) {
    (void)m;
    (void)info;
    *ret = NULL;
    return 0;
}

static void closed(void *env) {
    (void)env;
}

static int reset_none(void *env, const struct skate_env_rows *rows, const uint32_t *lanes,
                      uint32_t n, const uint64_t *seeds) {
    (void)env; (void)rows; (void)lanes; (void)n; (void)seeds;
    return 0;
}

static int step_none(void *env, const struct skate_env_rows *rows, uint32_t lo, uint32_t hi) {
    (void)env; (void)rows; (void)lo; (void)hi;
    return 0;
}

static void save_none(void *env, uint32_t lane, void *to) {
    (void)env; (void)lane; (void)to;
}

static const struct skate_env_api good = {
    .abi = SKATE_ENV_ABI, .bytes = sizeof good, .id = "Good-v0", .make = nothing, .close = closed,
    .reset = reset_none, .step = step_none,
};

static void tables(void **state) {
    static char long_id[SKATE_ENV_ID_MAX + 1];
    struct skate_error err = { "" };
    struct skate_env_api a = good;

    (void)state;
    assert_int_equal(rl_env_check_api(&good, "x", &err), 0);
    a.abi = 2;
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EVERSION);
    a = good;
    a.bytes = 8;
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EVERSION);
    a = good;
    a.id = NULL;
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EINVAL);
    memset(long_id, 'a', SKATE_ENV_ID_MAX);
    a.id = long_id;
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EINVAL);
    a.id = "two words";
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EINVAL);
    a = good;
    a.step = NULL;
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "step()"));
    a = good;
    a.state_bytes = NULL;
    a.save = save_none;
    assert_int_equal(rl_env_check_api(&a, "x", &err), -SKATE_EINVAL);
}

static struct skate_env_info plain(void) {
    return (struct skate_env_info){
        .obs = { .kind = SKATE_SPACE_BOX, .dtype = SKATE_F32, .ndim = 1, .shape = { 4 },
                 .low = -1, .high = 1 },
        .action = { .kind = SKATE_SPACE_DISCRETE, .n = 2 },
    };
}

static void spaces(void **state) {
    const double low = 1, high = 0;
    const int64_t sizes[2] = { 3, 0 };
    struct skate_env_info i = plain();
    struct skate_error err = { "" };

    (void)state;
    assert_int_equal(rl_env_check_info(&i, 1, "x", &err), 0);
#define REFUSED(code, change)                                               \
    i = plain();                                                            \
    change;                                                                 \
    assert_int_equal(rl_env_check_info(&i, 1000, "x", &err), code)
    REFUSED(-SKATE_EINVAL, i.obs.kind = 0);
    REFUSED(-SKATE_EINVAL, i.obs.kind = 77);
    REFUSED(-SKATE_EINVAL, i.obs.dtype = 99);
    REFUSED(-SKATE_EINVAL, i.obs.ndim = 5);
    REFUSED(-SKATE_ETOOBIG, i.obs.shape[0] = 0);
    REFUSED(-SKATE_ETOOBIG, i.obs.shape[0] = UINT32_MAX);
    REFUSED(-SKATE_ETOOBIG, (i.obs.ndim = 4, memset(i.obs.shape, 0xff, sizeof i.obs.shape)));
    REFUSED(-SKATE_ETOOBIG, i.obs.shape[0] = SKATE_ENV_ROW_MAX / 4);    /* x 1000 lanes */
    REFUSED(-SKATE_EINVAL, i.obs.low = 2);
    REFUSED(-SKATE_EINVAL, i.obs.high = NAN);
    REFUSED(-SKATE_EINVAL, i.obs.lows = &low);
    REFUSED(-SKATE_EINVAL, (i.obs.shape[0] = 1, i.obs.lows = &low, i.obs.highs = &high));
    REFUSED(-SKATE_EINVAL, i.action.n = 0);
    REFUSED(-SKATE_EINVAL, i.action.n = INT64_MAX);
    REFUSED(-SKATE_EINVAL, i.action.start = INT32_MAX);
    REFUSED(-SKATE_EINVAL, i.action.kind = SKATE_SPACE_MULTI);
    REFUSED(-SKATE_EINVAL, (i.action.kind = SKATE_SPACE_MULTI, i.action.shape[0] = 2,
                            i.action.sizes = sizes));
    REFUSED(-SKATE_EINVAL, (i.action.kind = SKATE_SPACE_TUPLE, i.action.shape[0] = 1,
                            i.action.sizes = sizes));
    REFUSED(-SKATE_EINVAL, i.agents = 1000);
#undef REFUSED
}

static void actions(void **state) {
    struct rl_env_opts o = { .name = "CartPole-v1", .lanes = 20, .max_steps = -1 };
    struct skate_error err = { "" };
    struct rl_env *e = NULL;
    uint8_t one[20] = { 1 };
    int32_t *a;

    (void)state;
    assert_int_equal(rl_env_open(&o, &e, &err), 0);
    assert_int_equal(rl_env_step(e, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "reset"));
    assert_int_equal(rl_env_reset(e, one, NULL, &err), -SKATE_EINVAL);
    assert_int_equal(rl_env_reset(e, NULL, NULL, &err), 0);
    a = rl_env_actions(e);
    a[17] = 2;
    assert_int_equal(rl_env_step(e, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "action 2 of lane 17"));
    a[17] = -1;
    assert_int_equal(rl_env_step(e, &err), -SKATE_EINVAL);
    a[17] = 1;
    assert_int_equal(rl_env_step(e, &err), 0);
    rl_env_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),   cmocka_unit_test(configs), cmocka_unit_test(tables),
        cmocka_unit_test(spaces),  cmocka_unit_test(actions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
