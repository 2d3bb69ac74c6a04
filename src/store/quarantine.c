/* quarantine.c - see quarantine.h. */
#include "store/quarantine.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct awaited {
    uint64_t proc;
    uint64_t *live; /* offsets that it still uses; NULL and spoke: none yet known */
    uint32_t live_count;
    bool spoke;
};
struct wait_set {
    uint32_t count;
    struct awaited procs[];
};

static void free_set(struct wait_set *w) {
    for (uint32_t i = 0; w && i < w->count; i++) free(w->procs[i].live);
    free(w);
}

void quarantine_release(struct quarantine *q) {
    struct wait_set *w;
    uint32_t at = 0;

    while ((w = table_next(&q->dead, &at, NULL))) free_set(w);
    table_release(&q->dead);
}

int quarantine_begin(struct quarantine *q, uint64_t dead, const uint64_t *waits,
                     uint32_t count) {
    struct wait_set *w;
    int e;

    SKATE_ASSERT(count > 0);
    SKATE_ASSERT(!table_get(&q->dead, dead));
    w = calloc(1, sizeof *w + count * sizeof *w->procs);
    if (!w) return -SKATE_ENOMEM;
    w->count = count;
    for (uint32_t i = 0; i < count; i++) w->procs[i].proc = waits[i];
    e = table_set(&q->dead, dead, w);
    if (e < 0) free(w);
    return e;
}

static struct awaited *find(struct wait_set *w, uint64_t proc) {
    for (uint32_t i = 0; w && i < w->count; i++)
        if (w->procs[i].proc == proc) return &w->procs[i];
    return NULL;
}

/* Nobody left: true. */
static bool strike(struct wait_set *w, uint64_t proc) {
    struct awaited *a = find(w, proc);

    if (a) {
        free(a->live);
        *a = w->procs[--w->count];
    }
    return w->count == 0;
}

bool quarantine_done(struct quarantine *q, uint64_t dead, uint64_t proc) {
    struct wait_set *w = table_get(&q->dead, dead);

    if (!w || !strike(w, proc)) return false;
    free_set(table_take(&q->dead, dead));
    return true;
}

bool quarantine_live(struct quarantine *q, uint64_t dead, uint64_t proc, const uint64_t *live,
                     uint32_t count) {
    struct awaited *a = find(table_get(&q->dead, dead), proc);
    uint64_t *copy = a ? malloc((count + 1) * sizeof *copy) : NULL;

    if (!copy) return false;
    memcpy(copy, live, count * sizeof *copy);
    free(a->live);
    a->live = copy;
    a->live_count = count;
    a->spoke = true;
    return true;
}

static int by_number(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

int quarantine_used(const struct quarantine *q, uint64_t dead, uint64_t **ret,
                    uint32_t *ret_count) {
    const struct wait_set *w = table_get(&q->dead, dead);
    uint64_t total = 0, *all;
    uint32_t n = 0;

    for (uint32_t i = 0; w && i < w->count; i++) {
        if (!w->procs[i].spoke) return -SKATE_EAGAIN;
        total += w->procs[i].live_count;
    }
    if (!w || total > UINT32_MAX) return -SKATE_ENOENT;
    all = malloc((total + 1) * sizeof *all);
    if (!all) return -SKATE_ENOMEM;
    for (uint32_t i = 0; i < w->count; i++) {
        memcpy(all + n, w->procs[i].live, w->procs[i].live_count * sizeof *all);
        n += w->procs[i].live_count;
    }
    qsort(all, n, sizeof *all, by_number);
    *ret = all;
    *ret_count = n;
    return 0;
}

bool quarantine_holds(const struct quarantine *q, uint64_t dead) {
    return table_get(&q->dead, dead) != NULL;
}

int quarantine_pass(struct quarantine *q, uint64_t dead, uint64_t from, uint64_t to) {
    struct wait_set *w = table_get(&q->dead, dead), *grown;
    struct awaited *old = find(w, from), *heir = find(w, to);

    if (!w) return 0;
    if (heir) { /* what it said before is not all any more */
        heir->spoke = false;
        (void)strike(w, from);
        return 0;
    }
    if (old) {
        old->proc = to;
        old->spoke = false;
        return 0;
    }
    grown = realloc(w, sizeof *w + (w->count + 1) * sizeof *w->procs);
    if (!grown) return -SKATE_ENOMEM;
    grown->procs[grown->count++] = (struct awaited){.proc = to};
    return table_set(&q->dead, dead, grown); /* replaces: needs no memory */
}

uint64_t quarantine_gone(struct quarantine *q, uint64_t proc) {
    struct wait_set *w;
    uint64_t dead;
    uint32_t at = 0;

    while ((w = table_next(&q->dead, &at, &dead)))
        if (strike(w, proc)) {
            free_set(table_take(&q->dead, dead));
            return dead;
        }
    return 0;
}
