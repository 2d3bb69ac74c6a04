/* last_error.c - the words that belong to the last failed call of each thread; no locks, never
 * blocks. They are kept in a buffer of the thread that grows for long texts (tracebacks). */
#include "api/api_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    char fixed[1024];
    char *text; /* NULL: nothing failed yet */
} last;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void forget(void *text) { free(text); }
static void make_key(void) { (void)pthread_key_create(&key, forget); }

/* Room for a text of n bytes; longer than fixed: heap that ends with the thread. */
static char *room(size_t n, size_t *ret_cap) {
    char *p = NULL;

    (void)pthread_once(&once, make_key);
    if (n > sizeof last.fixed) p = malloc(n);
    free(pthread_getspecific(key));
    (void)pthread_setspecific(key, p);
    last.text = p ? p : last.fixed;
    *ret_cap = p ? n : sizeof last.fixed;
    return last.text;
}

void api_forget(void) { last.text = NULL; }

const char *skate_last_error(void) { return last.text ? last.text : ""; }

int api_fail(int code, const char *format, ...) {
    char stack[512], *p;
    va_list args, again;
    size_t cap;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(stack, sizeof stack, format, args);
    va_end(args);
    /* The old text may be one of the arguments: it is replaced only now. */
    if (n >= 0 && (size_t)n < sizeof stack) {
        p = room(0, &cap);
        memcpy(p, stack, (size_t)n + 1);
    } else {
        char *whole = n > 0 ? malloc((size_t)n + 1) : NULL;

        if (whole) (void)vsnprintf(whole, (size_t)n + 1, format, again);
        p = room(n > 0 ? (size_t)n + 1 : 0, &cap);
        (void)snprintf(p, cap, "%s", whole ? whole : stack);
        free(whole);
    }
    va_end(again);
    return code;
}

int api_fail_in(skate_session *s, int code, const struct skate_error *err) {
    struct skate_error reason = {{0}};

    if (err && err->text[0]) return api_fail(code, "%s", err->text);
    if (code == -SKATE_EFORKED)
        return api_fail(code, "this process was forked from one that uses Skate; a forked child "
                        "cannot use its parent's session: connect anew in it, after exec()");
    if (code == -SKATE_EDEAD && s && !core_alive(s->c, &reason) && reason.text[0])
        return api_fail(code, "the node's daemon is gone: %s", reason.text);
    return api_fail(code, "%s", skate_strerror(code));
}

int api_fail_of(int code, const struct skate_error *err) { return api_fail_in(NULL, code, err); }
