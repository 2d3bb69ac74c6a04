/* text.h - lines for people, gathered in memory of the caller's; what does not fit is cut. */
#ifndef SKATE_RAYLET_TEXT_H
#define SKATE_RAYLET_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct text {
    char *p;
    size_t used, cap; /* cap > 0 */
};

__attribute__((format(printf, 2, 3))) static inline void say(struct text *t, const char *format,
                                                             ...) {
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->p + t->used, t->cap - t->used, format, args);
    va_end(args);
    if (n > 0) t->used = t->used + (size_t)n < t->cap ? t->used + (size_t)n : t->cap - 1;
}

#endif
