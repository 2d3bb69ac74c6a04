/* native_wrap.c - a session around a worker's core, where src/api has none of its own. */
#include <stdio.h>
#include <stdlib.h>

#include "native/native_int.h"

__attribute__((weak)) int api_wrap(struct core *c, const char *name_space, skate_session **ret) {
    skate_session *s = calloc(1, sizeof *s);

    if (!s) return -SKATE_ENOMEM;
    s->c = c;
    s->worker = true;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)snprintf(s->name_space, sizeof s->name_space, "%s", name_space);
    *ret = s;
    return 0;
}
