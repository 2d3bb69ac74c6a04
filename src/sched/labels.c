/* labels.c - see labels.h. */
#include "sched/labels.h"

#include <stdio.h>
#include <string.h>

static const char OPS[] = "=!+^";

bool labels_copy(char out[LABELS_MAX], const char *text, size_t len) {
    out[0] = 0;
    if (len >= LABELS_MAX || (len && memchr(text, 0, len))) return false;
    if (len) memcpy(out, text, len);
    out[len] = 0;
    return true;
}

/* One term: its key, its operator, and where its values lie. */
struct term {
    const char *key, *values;
    size_t key_len, values_len;
    char op;
};

/* False: not a term. */
static bool read_term(const char *p, struct term *ret) {
    size_t all = strcspn(p, ";\n"), key = strcspn(p, "=!+^;\n");

    *ret = (struct term){.key = p, .key_len = key};
    if (key == 0 || key >= all) return false;
    ret->op = p[key];
    ret->values = p + key + 1;
    ret->values_len = all - key - 1;
    return true;
}

static const char *after(const char *p) { /* the term at p; the next one of the alternative */
    p += strcspn(p, ";\n");
    return *p == ';' ? p + 1 : NULL;
}

bool labels_is_selector(const char *text) {
    for (; text; text = labels_next(text)) {
        const char *p = text;
        struct term t;

        if (*p == 0 || *p == '\n') continue; /* any node */
        for (; p; p = after(p)) {
            if (!read_term(p, &t)) return false;
            if ((t.op == '+' || t.op == '^') && t.values_len) return false;
            for (size_t i = 0; i < t.values_len; i++)
                if (strchr(OPS, t.values[i])) return false;
        }
    }
    return true;
}

/* The value of a label; false: the node has none of that name. */
static bool find(const char *labels, const struct term *t, const char **ret, size_t *ret_len) {
    for (const char *p = labels; *p;) {
        size_t all = strcspn(p, ","), key = strcspn(p, "=,");

        if (key < all && key == t->key_len && memcmp(p, t->key, key) == 0) {
            *ret = p + key + 1;
            *ret_len = all - key - 1;
            return true;
        }
        p += all + (p[all] == ',');
    }
    return false;
}

static bool among(const struct term *t, const char *value, size_t len) {
    const char *p = t->values, *end = t->values + t->values_len;

    for (;;) {
        const char *stop = memchr(p, '|', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);

        if (n == len && memcmp(p, value, n) == 0) return true;
        if (!stop) return false;
        p = stop + 1;
    }
}

static bool holds(const char *labels, const struct term *t) {
    const char *value = NULL;
    size_t len = 0;
    bool there = find(labels, t, &value, &len);

    switch (t->op) {
    case '=': return there && among(t, value, len);
    case '!': return !there || !among(t, value, len);
    case '+': return there;
    default: return !there;
    }
}

bool labels_fit(const char *labels, const char *alternative) {
    struct term t;

    if (*alternative == 0 || *alternative == '\n') return true;
    for (const char *p = alternative; p; p = after(p))
        if (!read_term(p, &t) || !holds(labels, &t)) return false;
    return true;
}

const char *labels_next(const char *alternative) {
    const char *p = strchr(alternative, '\n');

    return p ? p + 1 : NULL;
}

/* The values with ", " between them. */
static size_t say_values(const struct term *t, char *out, size_t cap) {
    size_t used = 0;

    for (size_t i = 0; i < t->values_len && used + 3 < cap; i++) {
        if (t->values[i] == '|') out[used++] = ',';
        out[used++] = t->values[i] == '|' ? ' ' : t->values[i];
    }
    out[used] = 0;
    return used;
}

const char *labels_text(const char *selector, char *out, size_t cap) {
    static const char *const words[] = {"in (", "not in (", "exists", "is absent"};
    size_t used = 0;

    if (cap) out[0] = 0;
    for (const char *a = selector; a; a = labels_next(a)) {
        bool any = *a == 0 || *a == '\n';

        for (const char *p = a; p && used + 1 < cap; p = any ? NULL : after(p)) {
            const char *sep = p != a ? ", " : a != selector ? "; or " : "";
            char values[200] = "";
            struct term t = {0};
            int n;

            if (!any && !read_term(p, &t)) break;
            if (!any) (void)say_values(&t, values, sizeof values);
            if (any)
                n = snprintf(out + used, cap - used, "%sany node", sep);
            else
                n = snprintf(out + used, cap - used, "%s%.*s %s%s%s", sep, (int)t.key_len, t.key,
                             words[strchr(OPS, t.op) - OPS], values,
                             t.op == '=' || t.op == '!' ? ")" : "");
            if (n < 0) return out;
            used += (size_t)n < cap - used ? (size_t)n : cap - used - 1;
        }
    }
    return out;
}
