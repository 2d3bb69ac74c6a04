/* quarantine.c - see quarantine.h. */
#include "store/quarantine.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct wait_set {
    uint32_t count;
    uint64_t procs[];
};

void quarantine_release(struct quarantine *q) {
    struct wait_set *w;
    uint32_t at = 0;

    while ((w = table_next(&q->dead, &at, NULL))) free(w);
    table_release(&q->dead);
}

int quarantine_begin(struct quarantine *q, uint64_t dead, const uint64_t *waits,
                     uint32_t count) {
    struct wait_set *w;
    int e;

    SKATE_ASSERT(count > 0);
    SKATE_ASSERT(!table_get(&q->dead, dead));
    w = malloc(sizeof *w + count * sizeof *waits);
    if (!w) return -SKATE_ENOMEM;
    w->count = count;
    memcpy(w->procs, waits, count * sizeof *waits);
    e = table_set(&q->dead, dead, w);
    if (e < 0) free(w);
    return e;
}

static bool strike(struct wait_set *w, uint64_t proc) {
    for (uint32_t i = 0; i < w->count; i++)
        if (w->procs[i] == proc) {
            w->procs[i] = w->procs[--w->count];
            break;
        }
    return w->count == 0;
}

bool quarantine_done(struct quarantine *q, uint64_t dead, uint64_t proc) {
    struct wait_set *w = table_get(&q->dead, dead);

    if (!w || !strike(w, proc)) return false;
    free(table_take(&q->dead, dead));
    return true;
}

bool quarantine_holds(const struct quarantine *q, uint64_t dead) {
    return table_get(&q->dead, dead) != NULL;
}

int quarantine_pass(struct quarantine *q, uint64_t dead, uint64_t from, uint64_t to) {
    struct wait_set *w = table_get(&q->dead, dead), *grown;

    if (!w) return 0;
    for (uint32_t i = 0; i < w->count; i++)
        if (w->procs[i] == to) return (void)strike(w, from), 0;
    for (uint32_t i = 0; i < w->count; i++)
        if (w->procs[i] == from) return w->procs[i] = to, 0;
    grown = realloc(w, sizeof *w + (w->count + 1) * sizeof *w->procs);
    if (!grown) return -SKATE_ENOMEM;
    grown->procs[grown->count++] = to;
    return table_set(&q->dead, dead, grown); /* replaces: needs no memory */
}

uint64_t quarantine_gone(struct quarantine *q, uint64_t proc) {
    struct wait_set *w;
    uint64_t dead;
    uint32_t at = 0;

    while ((w = table_next(&q->dead, &at, &dead)))
        if (strike(w, proc)) {
            free(table_take(&q->dead, dead));
            return dead;
        }
    return 0;
}
