/* rl_env_lib.c - see rl_env_lib.h. The id and the spaces come from somebody else's code: each is
 * checked before it is used. (Its functions run in this process: a crash there is a crash here;
 * workers are processes of their own.) Tests: tests/unit/rl_env_hostile_test.c. */
#include "rl/env/rl_env_lib.h"

#include <dlfcn.h>
#include <math.h>
#include <string.h>

static int is_id_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._-/", c) != NULL);
}

int rl_env_check_api(const struct skate_env_api *api, const char *what, struct skate_error *err) {
    size_t n = 0;

    if (api->abi != SKATE_ENV_ABI)
        return err_fail(err, -SKATE_EVERSION, "%s is built for version %u of skate/env.h, this is "
                        "version %u: compile it with the header of this Skate", what, api->abi,
                        SKATE_ENV_ABI);
    if (api->bytes < SKATE_ENV_API_MIN || api->bytes > 65536)
        return err_fail(err, -SKATE_EVERSION, "%s: its table has %u bytes, not %zu: set .bytes = "
                        "sizeof(struct skate_env_api)", what, api->bytes, sizeof *api);
    if (!api->id)
        return err_fail(err, -SKATE_EINVAL, "%s has no id", what);
    while (n < SKATE_ENV_ID_MAX && is_id_letter(api->id[n]))
        n++;
    if (n == 0 || n == SKATE_ENV_ID_MAX || api->id[n] != '\0')
        return err_fail(err, -SKATE_EINVAL, "%s: its id must be 1 to %d letters, digits or . _ - /",
                        what, SKATE_ENV_ID_MAX - 1);
    if (!api->make || !api->close || !api->reset || !api->step)
        return err_fail(err, -SKATE_EINVAL, "%s has no %s()", what,
                        !api->make ? "make" : !api->close ? "close" : !api->reset ? "reset" :
                        "step");
    if ((api->save || api->load) && !(api->save && api->load && api->state_bytes))
        return err_fail(err, -SKATE_EINVAL, "%s: save(), load() and state_bytes() come together",
                        what);
    return 0;
}

int rl_env_load_library(const char *name, const struct skate_env_api **ret_api,
                        void **ret_library, struct skate_error *err) {
    char path[4096], *colon;
    const char *symbol = "skate_env_v1";
    const struct skate_env_api *api;
    void *library;
    int e;

    if (strncmp(name, "c:", 2) != 0 || strlen(name + 2) >= sizeof path || name[2] == '\0')
        return err_fail(err, -SKATE_ENOENT, "'%.200s' is not c:PATH or c:PATH:SYMBOL", name);
    memcpy(path, name + 2, strlen(name + 2) + 1);
    colon = strrchr(path, ':');
    if (colon) {
        *colon = '\0';
        symbol = colon + 1;
    }
    if (!strchr(path, '/')) {   /* a plain name is a file here, not one of the system's */
        size_t n = strlen(path);

        if (n + 3 > sizeof path)
            return err_fail(err, -SKATE_ENOENT, "'%.200s': path too long", name);
        memmove(path + 2, path, n + 1 + (colon ? strlen(symbol) + 1 : 0));
        memcpy(path, "./", 2);
        symbol += colon ? 2 : 0;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_fail(err, -SKATE_ENOENT, "cannot load '%.200s': %s", path, dlerror());
    api = dlsym(library, symbol);
    if (!api) {
        e = err_fail(err, -SKATE_ENOENT, "'%.200s' has no symbol %.80s: export a const struct "
                     "skate_env_api of this name (skate/env.h)", path, symbol);
    } else {
        e = rl_env_check_api(api, name, err);
    }
    if (e < 0) {
        dlclose(library);
        return e;
    }
    *ret_api = api;
    *ret_library = library;
    return 0;
}

void rl_env_unload(void *library) {
    if (library)
        dlclose(library);
}

static int check_parts(const struct skate_env_space *s, const char *what, const char *which,
                       struct skate_error *err) {
    if (s->shape[0] < 1 || s->shape[0] > SKATE_ENV_PARTS_MAX || !s->sizes)
        return err_fail(err, -SKATE_EINVAL, "%s: its %s space needs sizes and 1 to %d parts", what,
                        which, SKATE_ENV_PARTS_MAX);
    for (uint32_t i = 0; i < s->shape[0]; i++)
        if (s->sizes[i] < 1 || s->sizes[i] > INT32_MAX)
            return err_fail(err, -SKATE_EINVAL, "%s: part %u of its %s space has %lld values", what,
                            i, which, (long long)s->sizes[i]);
    return 0;
}

static int check_box(const struct skate_env_space *s, const char *what, const char *which,
                     struct skate_error *err) {
    size_t n = 1;

    if (s->ndim > SKATE_ENV_DIMS || skate_env_dtype_bytes(s->dtype) == 0)
        return err_fail(err, -SKATE_EINVAL, "%s: its %s space has dtype %u and %u dimensions", what,
                        which, s->dtype, s->ndim);
    if (skate_env_row_bytes(s, 0) == 0)
        return err_fail(err, -SKATE_ETOOBIG, "%s: its %s space has a row of 0 bytes or of more "
                        "than %d", what, which, SKATE_ENV_ROW_MAX);
    if (!s->lows != !s->highs)
        return err_fail(err, -SKATE_EINVAL, "%s: its %s space has only one of lows and highs", what,
                        which);
    for (uint32_t i = 0; i < s->ndim; i++)
        n *= s->shape[i];
    for (size_t i = 0; i < (s->lows ? n : 1); i++) {
        double low = s->lows ? s->lows[i] : s->low, high = s->lows ? s->highs[i] : s->high;

        if (!(low <= high))
            return err_fail(err, -SKATE_EINVAL, "%s: its %s space has low %g above high %g at %zu",
                            what, which, low, high, i);
    }
    return 0;
}

static int check_space(const struct skate_env_space *s, const char *what, const char *which,
                       struct skate_error *err) {
    switch (s->kind) {
    case SKATE_SPACE_BOX:
        return check_box(s, what, which, err);
    case SKATE_SPACE_DISCRETE:
        if (s->n < 1 || s->n > INT32_MAX || s->start < INT32_MIN ||
            s->start > INT32_MAX - s->n)
            return err_fail(err, -SKATE_EINVAL, "%s: its %s space has n = %lld, start = %lld", what,
                            which, (long long)s->n, (long long)s->start);
        return 0;
    case SKATE_SPACE_MULTI:
    case SKATE_SPACE_TUPLE:
        return check_parts(s, what, which, err);
    default:
        return err_fail(err, -SKATE_EINVAL, "%s: its %s space is of no known kind (%u)", what,
                        which, s->kind);
    }
}

int rl_env_check_info(const struct skate_env_info *info, uint32_t lanes, const char *what,
                      struct skate_error *err) {
    int e = check_space(&info->obs, what, "observation", err);
    uint64_t row;

    if (e == 0)
        e = check_space(&info->action, what, "action", err);
    if (e < 0)
        return e;
    if (info->action.kind == SKATE_SPACE_TUPLE)
        return err_fail(err, -SKATE_EINVAL, "%s: an action space cannot be a tuple", what);
    if (info->agents > 255 || info->max_steps > INT32_MAX)
        return err_fail(err, -SKATE_EINVAL, "%s: %u agents, %u steps at most", what, info->agents,
                        info->max_steps);
    row = skate_env_row_bytes(&info->obs, 0) * 2 + skate_env_row_bytes(&info->action, 1);
    if (row * lanes > SKATE_ENV_BYTES_MAX)
        return err_fail(err, -SKATE_ETOOBIG, "%s: %u lanes with rows of %llu bytes are too many",
                        what, lanes, (unsigned long long)row);
    return 0;
}
