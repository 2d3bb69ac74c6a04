/* locality.c - tasks go where their large arguments lie.
 *
 * For a task with large arguments a lease is asked for first on the node that has most of them
 * (lease_req.locality); any lease that comes serves it then, so nothing waits for a full node.
 * Under the core mutex; never sleeps. */
#include "core/core_int.h"
#include "core/worker_lease.h"

enum { LARGE = 64 << 10, NODES = 8, LOOK = 32 };

/* The raylet of the node with most bytes of its arguments; 0: they are small. */
uint64_t task_near(struct core *c, const struct task *t) {
    struct { uint64_t raylet, bytes; } node[NODES] = {{0}};
    uint32_t n = 0, best = 0;

    for (uint32_t i = 0; i < t->dep_count && i < LOOK; i++) {
        uint32_t slot = object_find(c, &t->holds[i]), k = 0;
        const uint8_t *data;
        struct wire_val v;

        if (slot == MAP_NONE || !object_ready(c, slot)) continue;
        object_val(c, slot, &v, &data);
        if (v.kind != VAL_ARENA || v.size < LARGE) continue;
        while (k < n && node[k].raylet != proc_raylet(v.holder)) k++;
        if (k == NODES) continue;
        if (k == n) node[n++].raylet = proc_raylet(v.holder);
        node[k].bytes += v.size;
        if (node[k].bytes > node[best].bytes) best = k;
    }
    return n ? node[best].raylet : 0;
}

/* Where the first tasks of a class want to be; those that want nothing say nothing. */
uint32_t class_near(struct core *c, const struct sched_class *k, uint64_t *out, uint32_t cap) {
    uint32_t n = 0, at = k->head;

    for (uint32_t i = 0; at != NONE && i < cap; i++, at = task_get(c, at)->next) {
        struct task *t = task_get(c, at);
        uint64_t near = t->dep_count ? task_near(c, t) : 0;

        t->sought = true;
        if (near) out[n++] = near;
    }
    return n;
}
