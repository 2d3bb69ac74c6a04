/* skate/env_config.h - reading the config that make() gets: a JSON object, without a library.
 *
 * Each reader leaves *io as it is when the key is absent, and returns -SKATE_EINVAL with a sentence
 * in m->error when the value is of another kind. Call skate_env_known() first: it checks the whole
 * text and refuses keys that are not in its list, so that a typo is told. Header only. */
#ifndef SKATE_ENV_CONFIG_H
#define SKATE_ENV_CONFIG_H

#include <skate/env.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline const char *skate_json_blank(const char *p) {
    return p + strspn(p, " \t\r\n");
}

/* Past a string that begins at p, or NULL. */
static inline const char *skate_json_string(const char *p) {
    if (*p++ != '"')
        return NULL;
    for (; *p != '"'; p++) {
        if ((unsigned char)*p < 32)
            return NULL;
        if (*p == '\\' && (unsigned char)*++p < 32)
            return NULL;
    }
    return p + 1;
}

/* Past a value that begins at p, or NULL; brackets are only counted. */
static inline const char *skate_json_value(const char *p) {
    int depth = 0;

    do {
        p = skate_json_blank(p);
        if (*p == '"') {
            p = skate_json_string(p);
            if (!p)
                return NULL;
        } else if (*p == '[' || *p == '{') {
            depth++;
            p++;
        } else if (*p == ']' || *p == '}' || ((*p == ',' || *p == ':') && depth > 0)) {
            if (*p == ']' || *p == '}')
                depth--;
            p++;
        } else {
            size_t n = strspn(p, "+-.0123456789abcdefghijklmnopqrstuvwxyzEINQ");

            if (n == 0)
                return NULL;
            p += n;
        }
    } while (depth > 0);
    return depth == 0 ? p : NULL;
}

/* The next pair: *ret_key begins after its quote. The place after the value, or NULL: at the end
 * (*ret_key is NULL too) or malformed (*ret_key is not NULL). p starts after the '{'. */
static inline const char *skate_json_pair(const char *p, const char **ret_key, size_t *ret_n,
                                          const char **ret_value) {
    const char *end;

    p = skate_json_blank(p);
    if (*p == ',')
        p = skate_json_blank(p + 1);
    *ret_key = NULL;
    if (*p == '}')
        return NULL;
    *ret_key = p + 1;
    end = skate_json_string(p);
    if (!end)
        return NULL;
    *ret_n = (size_t)(end - p) - 2;
    end = skate_json_blank(end);
    if (*end != ':')
        return NULL;
    *ret_value = skate_json_blank(end + 1);
    return skate_json_value(*ret_value);
}

/* The value of a key, or NULL. */
static inline const char *skate_env_find(const struct skate_env_make *m, const char *key) {
    const char *p = skate_json_blank(m->config), *name, *value;
    size_t n;

    if (*p++ != '{')
        return NULL;
    while ((p = skate_json_pair(p, &name, &n, &value)))
        if (strlen(key) == n && memcmp(name, key, n) == 0)
            return strncmp(value, "null", 4) == 0 ? NULL : value;
    return NULL;
}

/* Check the whole config against a list of keys parted by single spaces. */
static inline int skate_env_known(const struct skate_env_make *m, const char *keys) {
    const char *p = skate_json_blank(m->config), *name = p, *value;
    size_t n = 0;

    if (*p != '{') {
        snprintf(m->error, SKATE_ENV_ERROR_BYTES, "the config is not a JSON object");
        return -SKATE_EINVAL;
    }
    p++;
    while ((p = skate_json_pair(p, &name, &n, &value))) {
        const char *k = keys;

        while (*k && !(strcspn(k, " ") == n && memcmp(k, name, n) == 0))
            k += strcspn(k, " ") + (k[strcspn(k, " ")] == ' ');
        if (!*k) {
            snprintf(m->error, SKATE_ENV_ERROR_BYTES, "unknown key '%.*s'; it knows: %s",
                     n < 40 ? (int)n : 40, name, *keys ? keys : "none");
            return -SKATE_EINVAL;
        }
    }
    if (!name)
        return 0;
    snprintf(m->error, SKATE_ENV_ERROR_BYTES, "the config is not well-formed JSON");
    return -SKATE_EINVAL;
}

static inline int skate_env_wrong(const struct skate_env_make *m, const char *key,
                                  const char *wanted) {
    snprintf(m->error, SKATE_ENV_ERROR_BYTES, "'%s' must be %s", key, wanted);
    return -SKATE_EINVAL;
}

static inline int skate_env_number(const struct skate_env_make *m, const char *key, double *io) {
    const char *value = skate_env_find(m, key);
    char *end;
    double x;

    if (!value)
        return 0;
    x = strtod(value, &end);
    if (end == value || !strchr(",} \t\r\n", *end))
        return skate_env_wrong(m, key, "a number");
    *io = x;
    return 0;
}

static inline int skate_env_flag_of(const struct skate_env_make *m, const char *key, int *io) {
    const char *value = skate_env_find(m, key);

    if (!value)
        return 0;
    if (strncmp(value, "true", 4) == 0 || (value[0] == '1' && strchr(",} ", value[1])))
        *io = 1;
    else if (strncmp(value, "false", 5) == 0 || (value[0] == '0' && strchr(",} ", value[1])))
        *io = 0;
    else
        return skate_env_wrong(m, key, "true or false");
    return 0;
}

/* A string without escapes, shorter than `bytes`. */
static inline int skate_env_text(const struct skate_env_make *m, const char *key, char *io,
                                 size_t bytes) {
    const char *value = skate_env_find(m, key);
    size_t n;

    if (!value)
        return 0;
    n = *value == '"' ? strcspn(value + 1, "\"\\") : bytes;
    if (n >= bytes || value[n + 1] != '"')
        return skate_env_wrong(m, key, "a short string");
    memcpy(io, value + 1, n);
    io[n] = '\0';
    return 0;
}

#endif
