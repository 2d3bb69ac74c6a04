/* panic.c - the end of a process whose own invariant broke: where, what, then abort. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void skate_panic(const char *file, int line, const char *what) {
    char text[512];
    int n = snprintf(text, sizeof text, "skate[%d]: internal invariant broken at %s:%d: %s\n",
                     (int)getpid(), file, line, what);

    if (n > 0 && write(2, text, (size_t)n < sizeof text ? (size_t)n : sizeof text) < 0) abort();
    abort();
}
