/* yield.c - generators that run here: their items go to the owner one by one.
 *
 * A producer goes on until the limit that the owner has told (core/items.c); then it waits,
 * without lending its CPUs, but what lies unstarted behind it goes back to the owner, or a program
 * that reads slowly would hold up tasks that have nothing to do with it. When the owner has closed
 * the stream, or is dead, items are dropped here. Called by the thread that runs the generator and
 * by the pump. Tests: tests/unit/core_items_test.c. */
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/core_int.h"
#include "core/restore.h"
#include "core/items.h"
#include "wire/why.h"

#define FULL_WAIT_NS INT64_C(10000000000)
#define FULL_SLICE_NS INT64_C(20000000)

struct yield {
    struct yield *next, **at; /* of core.yields */
    struct run *run;
    uint64_t produced, limit, read;
    uint64_t base, next_base; /* first ids of the present chunk and of the next */
    uint32_t chunk, next_chunk;
    bool closed, gave_back;
    bool rings; /* the loop that runs it is rung when it may go on */
};

static struct yield *make(struct core *c, struct run *r) {
    const struct wire_task *m = (const void *)r->node->data;
    struct yield *y = calloc(1, sizeof *y);
    uint32_t unread = stream_unread(m->flags);

    if (!y) return NULL;
    y->run = r;
    y->limit = unread < STREAM_WINDOW ? unread : STREAM_WINDOW;
    y->base = m->task.seq;
    y->next = c->yields;
    y->at = &c->yields;
    if (y->next) y->next->at = &y->next;
    c->yields = y;
    return r->yield = y;
}

int yield_begin(struct core *c, struct run *r) {
    const struct wire_task *m = (const void *)r->node->data;

    if (!(m->flags & (CORE_STREAM | CORE_DYNAMIC)) || r->yield || !r->link) return 0;
    return make(c, r) ? 0 : -SKATE_ENOMEM;
}

void yield_free(struct run *r) {
    struct yield *y = r->yield;

    if (!y) return;
    *y->at = y->next;
    if (y->next) y->next->at = y->at;
    r->yield = NULL;
    free(y);
}

void yield_done(struct core *c, struct run *r) {
    struct wire_unblocked m = {
        .head = {.size = sizeof m, .kind = WIRE_UNBLOCKED, .fixed = sizeof m}};

    if (!r->yield->gave_back || !c->blocked_told) return;
    c->blocked_told = false;
    (void)link_send(c, r->link, &m, sizeof m, BELL_WANTED, 0);
}

static bool may_go(struct core *c, void *arg) {
    const struct yield *y = arg;
    uint64_t chunk = y->produced / STREAM_CHUNK;

    (void)c;
    if (y->closed || y->run->link->state == LINK_DEAD) return true;
    return y->produced < y->limit && (chunk == y->chunk || chunk == y->next_chunk);
}

static void ring(struct core *c, struct yield *y) {
    if (!y->rings || !may_go(c, y)) return;
    y->rings = false;
    group_ring(c, y->run);
}

/* That of a task in a queue: made before its time. */
static struct yield *not_begun(struct core *c, uint64_t owner, const struct skate_id *task) {
    struct run *r = c->groups ? groups_find(c, owner, task) : c->run_head;
    const struct wire_task *m;

    for (; r; r = r->next) {
        m = (const void *)r->node->data;
        if (r->link && r->link->proc == owner && id_equal(&m->task, task)) break;
    }
    if (!r || !(m->flags & (CORE_STREAM | CORE_DYNAMIC))) return NULL;
    r->job.task = m->task;
    return r->yield ? r->yield : make(c, r);
}

void yields_on_ack(struct core *c, uint64_t src, const struct wire_gen_ack *m) {
    struct yield *y = c->yields;

    while (y && !(id_equal(&y->run->job.task, &m->task) && y->run->link->proc == src)) y = y->next;
    if (!y) y = not_begun(c, src, &m->task);
    if (!y) return; /* it has ended meanwhile */
    if (m->limit > y->limit) y->limit = m->limit;
    if (m->read > y->read) y->read = m->read;
    if (m->closed) y->closed = true;
    if (m->chunk == y->chunk + 1) {
        y->next_chunk = m->chunk;
        y->next_base = m->base & ~UINT64_C(0xffff);
    }
    ring(c, y);
}

void yields_on_died(struct core *c, uint64_t proc) {
    for (struct yield *y = c->yields; y; y = y->next)
        if (y->run->link->proc == proc) {
            y->closed = true;
            ring(c, y);
        }
}

void yield_why(const struct run *r, struct why_fact *f) {
    const struct yield *y = r->yield;

    if (may_go(NULL, (void *)(uintptr_t)y)) return;
    why_say(f, ", paused after item %llu: its caller has taken only %llu",
            (unsigned long long)y->produced, (unsigned long long)y->read);
}

/* ---- producing ---- */

static int next_id(struct yield *y, struct skate_id *ret) {
    uint64_t chunk = y->produced / STREAM_CHUNK;

    if (chunk != y->chunk && chunk != y->next_chunk) return -SKATE_EINVAL; /* it did not wait */
    if (chunk != y->chunk) {
        y->chunk = y->next_chunk;
        y->base = y->next_base;
    }
    ret->owner = y->run->job.task.owner;
    ret->seq = (y->base & ~UINT64_C(0xffff)) | (y->produced % STREAM_CHUNK + 2);
    return 0;
}

static bool bytes_freed(struct core *c, void *arg) {
    const uint64_t *seen = arg;

    return c->heap_frees != *seen;
}

/* Like object_store, but when the store is full it waits for room; the items that the program has
 * not taken yet may make it. (On a rig without spilling only these: a while.) */
static int store(struct core *c, struct yield *y, const struct core_value *v,
                 const struct skate_id *id, struct wire_val *ret, struct skate_error *err) {
    int64_t give_up = time_now_ns() + FULL_WAIT_NS;

    for (;;) {
        uint64_t seen = c->heap_frees;
        int64_t now;
        int r = c->lasting ? retire_store(c, v, id, ret, err) : -SKATE_EFULL;

        if (r == -SKATE_EFULL) r = object_store(c, v, id, ret, err);
        if (r != -SKATE_EFULL || y->closed) return r;
        if (c->pins_v) {
            r = restore_room(c, err);
            if (r < 0) return r;
            continue;
        }
        now = time_now_ns();
        if (y->produced == y->read || now >= give_up) return r;
        r = pump_until(c, bytes_freed, &seen, now + FULL_SLICE_NS, false);
        if (r == -SKATE_EDEAD || r == -SKATE_ESHUTDOWN) return r;
    }
}

static int send_item(struct core *c, struct yield *y, const struct core_value *v,
                     const struct wire_val *val) {
    uint64_t stack[LIMIT_RING_FRAME / 8];
    struct link *l = y->run->link;
    struct wire_gen_item *m;
    struct wire_buf b;
    uint8_t *room;
    int r;

    object_pass_refs(c, v->refs, v->ref_count, l->proc);
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_GEN_ITEM);
    m->task = y->run->job.task;
    m->index = y->produced++; /* so many, if it goes out */
    WIRE_PUT(&b, gen_item, vals, val, sizeof *val);
    if (v->ref_count) WIRE_PUT(&b, gen_item, refs, v->refs, v->ref_count * sizeof *v->refs);
    room = val->kind == VAL_INLINE ? WIRE_PUT(&b, gen_item, data, NULL, val->len) : NULL;
    if (room) value_copy(room, v);
    r = wire_end(&b);
    if (r == 0)
        r = link_send(c, l, b.p, b.len, may_go(c, y) ? BELL_WANTED : BELL_URGENT, 0);
    wire_release(&b);
    if (r < 0) {
        y->produced--;
        if (val->kind == VAL_ARENA) (void)heap_free(c->heap, val->offset);
    }
    return r;
}

int core_yield(struct core *c, struct core_job *job, const struct core_value *v,
               struct skate_id *ret_id, struct skate_error *err) {
    struct run *run = job->frame;
    uint64_t size = value_size(v);
    struct wire_val val = {.kind = VAL_INLINE, .format = v->format, .flags = v->flags,
                           .len = (uint32_t)size, .size = size};
    struct skate_id id = {0, 0};
    struct yield *y;
    int r = core_enter(c);

    if (r < 0) return r;
    y = run->yield;
    r = y ? 0 : -SKATE_EINVAL;
    if (r == 0 && (y->closed || run->link->state == LINK_DEAD)) {
        core_leave(c);
        return 0;
    }
    if (r == 0) r = next_id(y, &id);
    if (r == 0 && ret_id) *ret_id = id;
    if (r == 0 && size > LIMIT_INLINE_VALUE) r = store(c, y, v, &id, &val, err);
    val.id = id;
    val.nref = v->ref_count;
    if (r == 0) r = send_item(c, y, v, &val);
    if (r == -SKATE_EDEAD) r = 0; /* the owner is gone: nobody wants it */
    if (r == 0 && !may_go(c, y)) {
        if (!c->leader && bell_any(c->bell)) pump(c);
        r = !may_go(c, y);
    }
    core_leave(c);
    return r;
}

int core_yield_wait(struct core *c, struct core_job *job, int64_t timeout_ns) {
    struct run *run = job->frame;
    int64_t now = time_now_ns(), deadline = INT64_MAX;
    int r = core_enter(c);

    if (r < 0) return r;
    if (timeout_ns >= 0 && timeout_ns < INT64_MAX - now) deadline = now + timeout_ns;
    if (timeout_ns == 0 && !c->leader) pump(c);
    if (!may_go(c, run->yield)) {
        if (timeout_ns == 0) {
            run->yield->rings = true;
            core_leave(c);
            return -SKATE_ETIMEOUT;
        }
        if (job->kind == 0 && !c->blocked_told) {
            runs_give_back(c);
            run->yield->gave_back = true;
        }
        r = pump_until(c, may_go, run->yield, deadline, false);
    }
    core_leave(c);
    return r;
}

int core_yield_end(struct core *c, struct core_job *job) {
    struct run *run = job->frame;
    struct wire_gen_end m = {.head = {.size = sizeof m, .kind = WIRE_GEN_END, .fixed = sizeof m},
                             .task = job->task};
    int r = core_enter(c);

    if (r < 0) return r;
    m.count = run->yield ? run->yield->produced : 0;
    if (run->yield && !run->yield->closed)
        r = link_send(c, run->link, &m, sizeof m, BELL_QUIET, 0);
    core_leave(c);
    return r == -SKATE_EDEAD ? 0 : r;
}
