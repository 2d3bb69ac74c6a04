/* old_logs.c - files of workers that have ended: the newest are kept, the oldest go.
 *
 * Called by worker_logs.c when a worker's output has ended.
 * Tests: tests/e2e/test_e2e_promises.py */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "raylet/raylet.h"

enum { FILES = 512, OLDER_MAX = 100 };
#define BYTES (1ULL << 30)

struct old_logs {
    uint64_t bytes;
    uint32_t first, count;
    struct old_log {
        uint64_t bytes;
        uint32_t pid;
        bool is_err;
    } files[FILES];
};

/* With its older parts, .1 and on. */
static void remove_file(struct raylet *r, const struct old_log *f) {
    char path[340];
    int n = logs_path(r, f->pid, f->is_err, path, sizeof path - 8);

    (void)unlink(path);
    for (unsigned i = 1; i <= OLDER_MAX; i++) {
        snprintf(path + n, sizeof path - (size_t)n, ".%u", i);
        if (unlink(path) < 0) break;
    }
}

void old_logs_add(struct raylet *r, uint32_t pid, bool is_err, uint64_t bytes) {
    struct old_logs *o = r->old_logs;

    if (!o) o = r->old_logs = calloc(1, sizeof *o);
    if (!o) return;
    while (o->count == FILES || (o->count && o->bytes + bytes > BYTES)) {
        const struct old_log *f = &o->files[o->first];

        if (!logs_living(r, f->pid)) remove_file(r, f); /* else the number was given again */
        o->bytes -= f->bytes;
        o->first = (o->first + 1) % FILES;
        o->count--;
    }
    o->files[(o->first + o->count++) % FILES] = (struct old_log){bytes, pid, is_err};
    o->bytes += bytes;
}
