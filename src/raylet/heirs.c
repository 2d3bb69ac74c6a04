/* heirs.c - the estate of a dead process goes to its job's driver.
 *
 * At a death the ledger is read once (own/adopt.c): what others still hold is sent to the heir, the
 * workers that have tasks of the dead are told which to finish, and the owners of objects that lie
 * in the estate's values hear that the heir holds them too. All of it goes out before the news of
 * the death, on the same paths, so everyone meets it in this order. Later frames to the dead about
 * its objects are handed to the heir by the raylet of the dead one's node: one path, one order.
 * Design: docs/design/0002-adoption.md. Tests: tests/compat/test_compat_ownership.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "own/adopt.h"
#include "raylet/links.h"
#include "raylet/raylet.h"

enum { HEIRS_MAX = 4096, BATCH_VALS = 256, BATCH_BYTES = 48 * 1024 };

struct batch { /* an `adopt` frame in the making */
    struct wire_val vals[BATCH_VALS];
    uint32_t count, data_len, ref_count, ref_cap;
    uint8_t data[BATCH_BYTES + LIMIT_INLINE_VALUE + 64];
    struct skate_id *refs;
};
struct will { /* one death being settled */
    struct raylet *r;
    struct adopt a;
    uint64_t heir;
    struct batch *batch;
};

uint64_t heirs_of(const struct raylet *r, uint64_t dead) {
    return (uint64_t)(uintptr_t)table_get(&r->heirs, dead);
}

void heirs_note(struct raylet *r, uint64_t dead, uint64_t heir) {
    if (heir && r->heirs.count < HEIRS_MAX &&
        table_set(&r->heirs, dead, (void *)(uintptr_t)heir) < 0)
        node_log("no memory for the heir of process %u, ignoring", proc_number(dead));
}

void heirs_job_end(struct raylet *r, uint64_t driver) {
    uint64_t dead, gone[64];
    uint32_t at, n;

    do {
        void *heir;

        for (at = n = 0; n < 64 && (heir = table_next(&r->heirs, &at, &dead));)
            if ((uint64_t)(uintptr_t)heir == driver) gone[n++] = dead;
        for (uint32_t i = 0; i < n; i++) table_take(&r->heirs, gone[i]);
    } while (n == 64);
}

/* A process that begins now must know who owns what it may be handed. */
void heirs_welcome(struct raylet *r, struct proc *p) {
    uint64_t dead;
    uint32_t at = 0;

    while (table_next(&r->heirs, &at, &dead)) death_tell_again(r, dead, p->id);
}

void heirs_tell_node(struct raylet *r, uint32_t node) {
    uint64_t dead;
    uint32_t at = 0;

    while (table_next(&r->heirs, &at, &dead))
        if (proc_node(dead) == r->node) death_tell_again(r, dead, proc_make(node, 0));
}

/* ---- later frames to the dead ---- */

static bool is_owners_business(uint16_t kind) {
    return kind == WIRE_RESULT || kind == WIRE_VALUE_REQ || kind == WIRE_BORROW ||
           kind == WIRE_RELEASE || kind == WIRE_CLAIM || kind == WIRE_ORPHANS_KEPT;
}

bool heirs_forward(struct raylet *r, const struct wire_route *m) {
    uint64_t heir = heirs_of(r, m->dst);
    struct wire_route *copy;
    uint32_t len;
    const uint8_t *inner = wire_route_frame(m, &len);

    if (!heir || wire_check(inner, len) < 0 ||
        !is_owners_business(((const struct wire_head *)(const void *)inner)->kind))
        return false;
    copy = malloc(m->head.size);
    if (!copy) return false;
    memcpy(copy, m, m->head.size);
    copy->dst = heir;
    route_frame(r, copy, 0);
    free(copy);
    return true;
}

void heirs_on_lease(struct raylet *r, uint64_t src, const struct wire_lease_heir *m) {
    struct proc *p = proc_find(r, m->worker);

    if (!p || p->work != WORK_LEASE || p->owner != m->owner || src != proc_raylet(m->owner))
        return;
    p->owner = m->heir;
}

/* ---- a death ---- */

/* The estate names objects of others: each owner counts the heir. */
static void pass_foreign(struct will *w, const struct skate_id *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct wire_borrow m = {.head = {.size = sizeof m, .kind = WIRE_BORROW, .fixed = sizeof m},
                                .obj = ids[i], .proc = w->heir, .n = 1};
        uint64_t owner = ids[i].owner;

        if (owner == w->a.proc || owner == w->heir || heirs_of(w->r, owner) == w->heir) continue;
        route_as(w->r, owner, w->r->self, &m, sizeof m);
    }
}

static void batch_send(struct will *w, const char *last) {
    struct batch *p = w->batch;
    struct wire_adopt *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ADOPT);
    m->dead = w->a.proc;
    m->last = last != NULL;
    WIRE_PUT(&b, adopt, vals, p->vals, p->count * sizeof *p->vals);
    WIRE_PUT(&b, adopt, refs, p->refs, p->ref_count * sizeof *p->refs);
    WIRE_PUT(&b, adopt, data, p->data, p->data_len);
    if (last) WIRE_PUT(&b, adopt, text, last, strlen(last));
    if (wire_end(&b) == 0) route_as(w->r, w->heir, w->r->self, b.p, b.len);
    wire_release(&b);
    p->count = p->data_len = p->ref_count = 0;
}

static void give_object(struct will *w, uint32_t slot) {
    struct batch *p = w->batch;
    const struct skate_id *refs;
    const uint8_t *data;
    struct wire_val v;

    if (!adopt_object(&w->a, slot, &v, &data, &refs)) return;
    if (p->ref_count + v.nref > p->ref_cap) {
        uint32_t cap = p->ref_count + v.nref + 256;
        struct skate_id *grown = realloc(p->refs, cap * sizeof *grown);

        if (!grown) return;
        p->refs = grown;
        p->ref_cap = cap;
    }
    if (v.nref) memcpy(p->refs + p->ref_count, refs, v.nref * sizeof *refs);
    pass_foreign(w, p->refs + p->ref_count, v.nref);
    v.ref0 = p->ref_count;
    p->ref_count += v.nref;
    if (v.kind == VAL_INLINE) {
        v.off = p->data_len;
        if (v.len) memcpy(p->data + v.off, data, v.len);
        p->data_len += (v.len + 63) & ~63u;
    }
    p->vals[p->count++] = v;
    if (v.kind == VAL_ARENA && v.holder != w->a.proc && proc_number(v.holder) &&
        quarantine_pass(&w->r->quarantine, v.holder, w->a.proc, w->heir) < 0)
        node_log("no memory to hold the bytes of process %u", proc_number(v.holder));
    if (p->count == BATCH_VALS || p->data_len > BATCH_BYTES || p->ref_count > 4096)
        batch_send(w, NULL);
}

static void give_task(struct will *w, uint32_t slot) {
    struct wire_adopt_task *m;
    struct skate_id *ids;
    struct wire_buf b;
    uint64_t worker;
    struct wire_task *t = adopt_task(&w->a, slot, &worker);
    uint32_t n = t ? adopt_task_uses(t, NULL, 0) : 0;

    if (!t) return;
    ids = malloc((n + 1) * sizeof *ids);
    if (ids) {
        n = adopt_task_uses(t, ids, n);
        pass_foreign(w, ids, n);
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ADOPT_TASK);
        m->task = t->task;
        m->dead = w->a.proc;
        m->worker = worker;
        m->nreturns = t->nreturns;
        m->kind = t->kind;
        WIRE_PUT(&b, adopt_task, holds, ids, n * sizeof *ids);
        if (wire_end(&b) == 0) route_as(w->r, w->heir, w->r->self, b.p, b.len);
        wire_release(&b);
    }
    free(ids);
    free(t);
}

/* Tell the worker of task slot `from` which tasks of the dead it is to finish; strike them off. */
static void tell_worker(struct will *w, uint32_t *tasks, uint32_t n, uint32_t from) {
    struct wire_lease_heir lease = {
        .head = {.size = sizeof lease, .kind = WIRE_LEASE_HEIR, .fixed = sizeof lease},
        .owner = w->a.proc, .heir = w->heir};
    struct skate_id *ids = malloc(n * sizeof *ids);
    struct wire_orphans *m;
    struct wire_buf b;
    uint32_t count = 0;

    for (uint32_t i = from; ids && i < n; i++) {
        uint64_t worker = 0;
        struct wire_task *t = tasks[i] == UINT32_MAX ? NULL : adopt_task(&w->a, tasks[i], &worker);

        if (t && lease.worker == 0) lease.worker = worker;
        if (t && worker == lease.worker) {
            if (w->a.kept[tasks[i]] == ADOPT_AWAITED) ids[count++] = t->task;
            tasks[i] = UINT32_MAX;
        }
        free(t);
    }
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ORPHANS);
    m->dead = w->a.proc;
    WIRE_PUT(&b, orphans, tasks, ids, count * sizeof *ids);
    if (wire_end(&b) == 0 && lease.worker) {
        route_as(w->r, proc_raylet(lease.worker), w->r->self, &lease, sizeof lease);
        route_as(w->r, lease.worker, w->heir, b.p, b.len); /* if it is dead, the heir hears so */
    }
    wire_release(&b);
    free(ids);
}

static int settle(struct will *w, const char *text) {
    uint32_t n = adopt_count(&w->a), count = 0;
    uint32_t *tasks = malloc((n + 1) * sizeof *tasks);

    w->batch = calloc(1, sizeof *w->batch);
    if (!w->batch || !tasks) return free(tasks), -SKATE_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = adopt_slot(&w->a, i);
        uint64_t worker;
        struct wire_task *t = adopt_task(&w->a, slot, &worker);

        if (t) {
            tasks[count++] = slot;
            give_task(w, slot);
        } else
            give_object(w, slot);
        free(t);
    }
    batch_send(w, text);
    for (uint32_t i = 0; i < count; i++)
        if (tasks[i] != UINT32_MAX) tell_worker(w, tasks, count, i);
    free(tasks);
    free(w->batch->refs);
    free(w->batch);
    return 0;
}

/* Objects of the dead that nobody else holds, in extents of those who live: their bytes go. */
static void free_elsewhere(struct will *w) {
    const struct skate_id *refs;
    const uint8_t *data;
    struct wire_val v;

    for (uint32_t i = 0; i < w->a.slots; i++) {
        uint64_t room[8];
        struct wire_buf b;

        if (w->a.kept[i] || !adopt_object(&w->a, i, &v, &data, &refs)) continue;
        if (v.kind != VAL_ARENA || v.holder == w->a.proc || heirs_of(w->r, v.holder)) continue;
        wire_init(&b, room, sizeof room);
        (void)wire_begin(&b, WIRE_FREE);
        WIRE_PUT(&b, free, offsets, &v.offset, sizeof v.offset);
        if (wire_end(&b) == 0) route_as(w->r, v.holder, w->r->self, b.p, b.len);
        wire_release(&b);
    }
}

uint64_t heirs_adopt(struct raylet *r, struct proc *p, const char *text) {
    struct job *j = p->job ? table_get(&r->jobs, p->job) : NULL;
    struct will w = {.r = r, .heir = j ? j->driver : 0};
    uint64_t heir = 0;
    void *map;

    if (p->role == PROC_DRIVER || !j || j->ended || !w.heir || p->ledger_fd < 0) return 0;
    if (proc_node(w.heir) == r->node ? !proc_find(r, w.heir)
                                     : links_is_dead(r, proc_node(w.heir)))
        return 0;
    map = mmap(NULL, LEDGER_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, p->ledger_fd, 0);
    if (map == MAP_FAILED) return 0;
    if (r->heirs.count < HEIRS_MAX && adopt_open(&w.a, map, p->id) == 0) {
        if (adopt_count(&w.a) && settle(&w, text) == 0) heir = w.heir;
        free_elsewhere(&w);
        adopt_close(&w.a);
    }
    (void)munmap(map, LEDGER_BYTES);
    return heir;
}
