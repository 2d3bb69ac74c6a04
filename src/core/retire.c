/* retire.c - a worker that leaves in order: it has run its max_calls tasks, or the raylet has more
 * idle workers than it needs.
 *
 * From then on it takes no task: what was queued goes back to its owner (`returned` with blocked 2,
 * on the same path behind the results), which gives the lease up. The process ends when nothing
 * needs it any more: no frame unsent, no task of its own, no object that it owns, no bytes in
 * extents lent to it. So that large results of tasks with max_calls do not keep it (and a GPU's
 * memory with it) they lie in extents that the raylet keeps; their owner frees them there.
 * Tests: tests/compat/test_compat_max_calls.py, tests/e2e/test_e2e_idle.py. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/core_int.h"

static bool owns_objects(const struct core *c) {
    for (uint32_t i = 0; c->objects.count && i <= c->objects.mask; i++)
        if (c->objects.cells[i].used &&
            c->ledger.slots[c->objects.cells[i].used - 1].id.owner == c->info.proc)
            return true;
    return false;
}

static bool owns_actors(const struct core *c) {
    for (uint32_t i = 0; i < c->actor_count; i++)
        if (c->actor_v[i]->owned && c->actor_v[i]->state != 3) return true;
    return false;
}

bool retire_may_end(struct core *c) {
    return !c->run_head && !c->run_current && !c->backlogs && !c->tasks_live &&
           !heap_live(c->heap) && !owns_objects(c) && !owns_actors(c);
}

void core_limited(struct core *c, bool last) {
    if (core_enter(c) < 0) return;
    c->lasting = true;
    if (last && !c->retiring) {
        c->retiring = true;
        runs_leave(c);
    }
    core_leave(c);
}

/* The raylet asks: yes by leaving, no by saying so. */
void retire_on_asked(struct core *c) {
    struct wire_worker_stays m = {.head = {.size = sizeof m, .kind = WIRE_WORKER_STAYS,
                                           .fixed = sizeof m}};

    if (retire_may_end(c))
        c->retiring = true;
    else
        (void)sock_send(c, &m, sizeof m);
}

struct kept { /* an extent that the raylet keeps, mapped */
    struct heap_header *at;
    uint64_t offset, bytes;
};

static int keep_req(struct core *c, uint64_t bytes, struct kept *ret, struct skate_error *err) {
    struct wire_keep_req ask = {.head = {.size = sizeof ask, .kind = WIRE_KEEP_REQ,
                                         .fixed = sizeof ask}, .bytes = bytes};
    struct frame_node *n = NULL;
    const struct wire_extent *m;
    const char *reason;
    uint32_t len;
    void *at;
    int r = sock_call(c, &ask, sizeof ask, &n);

    if (r < 0) return r;
    m = (const void *)n->data;
    r = m->head.kind != WIRE_EXTENT ? -SKATE_EPROTO : m->status;
    if (r < 0 && m->head.kind == WIRE_EXTENT) {
        reason = wire_extent_reason(m, &len);
        r = err_fail(err, -SKATE_EFULL, "%.*s", (int)len, reason);
    }
    if (r == 0 && (m->offset > c->info.arena_bytes || m->bytes < bytes ||
                   m->bytes > c->info.arena_bytes - m->offset))
        r = -SKATE_EPROTO;
    if (r == 0) {
        at = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->arena_fd,
                  (off_t)m->offset);
        if (at == MAP_FAILED) r = err_fail(err, -SKATE_ENOMEM, "the result cannot be mapped");
        *ret = (struct kept){at, m->offset, m->bytes};
    }
    free(n);
    return r;
}

/* Write a value into an extent that the raylet keeps; the mutex is given up meanwhile when it is
 * large. */
int retire_store(struct core *c, const struct core_value *v, const struct skate_id *id,
                 struct wire_val *ret, struct skate_error *err) {
    uint64_t size = value_size(v);
    struct kept k = {NULL, 0, 0};
    bool large = size > LIMIT_SLOT_BYTES;
    int e, r = keep_req(c, size + sizeof *k.at, &k, err);

    if (r < 0) return r;
    if (large) core_leave(c);
    e = madvise(k.at, k.bytes, MADV_POPULATE_WRITE);
    if (e == 0) {
        *k.at = (struct heap_header){.magic = HEAP_MAGIC, .generation = 1, .id = *id, .size = size,
                                  .format = v->format};
        value_copy(k.at + 1, v);
    }
    (void)munmap(k.at, k.bytes);
    if (large) {
        r = core_enter(c);
        if (r < 0) (void)pthread_mutex_lock(&c->lock); /* the caller expects the lock */
    }
    if (e < 0) return err_fail(err, -SKATE_EFULL, "this machine has no memory for the result");
    *ret = (struct wire_val){.kind = VAL_ARENA, .format = v->format, .flags = v->flags, .id = *id,
                             .holder = proc_raylet(c->info.proc), .offset = k.offset + sizeof *k.at,
                             .size = size};
    return 0;
}
