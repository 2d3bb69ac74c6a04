/* why_facts.c - what this process can say about a ref, a task or what it runs: why is it not done?
 *
 * Called by the pump for others' questions (any thread that pumps, the core thread too) and by
 * why_walk.c for our own. Reads the tables under the core mutex, never blocks. Tests:
 * tests/e2e/test_e2e_why.py. */
#include "core/waits.h"

#include <stdio.h>
#include <string.h>

#include "base/futex.h"
#include "core/restore.h"

enum { FIRST = 16 }; /* of a long list of missing things, the first are named */
enum { ACTOR_PENDING, ACTOR_ALIVE, ACTOR_RESTARTING, ACTOR_DEAD, ACTOR_UNKNOWN };

static const char *seconds_since(int64_t then_ns, char out[32]) {
    (void)snprintf(out, 32, "%.1f s", (double)(time_now_ns() - then_ns) / 1e9);
    return out;
}

/* ---- tasks of ours ---- */

static const struct wire_task *spec_of(struct core *c, const struct task *t) {
    return task_spec(c, t);
}

/* "f" of a task, "A.m" of a call, at most 80 bytes of it. */
static const char *name_of(const struct wire_task *m, char out[96]) {
    uint32_t name_len, method_len;
    const char *name = wire_task_name(m, &name_len);
    const char *method = wire_task_method(m, &method_len);

    if (m->kind != 0 && method_len)
        (void)snprintf(out, 96, "%.*s%s%.*s", (int)name_len, name, name_len ? "." : "",
                       (int)method_len, method);
    else
        (void)snprintf(out, 96, "%.*s", name_len < 90 ? (int)name_len : 90, name);
    if (name_len && memchr(name, '.', name_len) && m->kind != 0 && method_len)
        (void)snprintf(out, 96, "%.*s", name_len < 90 ? (int)name_len : 90, name);
    return out;
}

static void say_deps(struct core *c, const struct task *t, struct why_fact *f) {
    why_say(f, " waits for %u of its %u arguments", t->missing, t->dep_count);
    f->end = WHY_WAITS;
    for (uint32_t i = 0; i < t->dep_count; i++) {
        uint32_t slot = object_find(c, &t->holds[i]);

        if (slot == MAP_NONE || !object_ready(c, slot))
            why_edge_add(f, t->holds[i].owner, WHY_REF, t->holds[i]);
    }
}

/* In the queue of its class: any worker of ours, or a new lease, would do. */
static void say_queued(struct core *c, const struct task *t, struct why_fact *f) {
    const struct sched_class *k = &c->classes[t->cls];

    f->end = WHY_WAITS;
    f->any = true;
    why_say(f, " is queued: %u task%s of its kind wait%s here for a worker", k->queued,
            k->queued == 1 ? "" : "s", k->queued == 1 ? "s" : "");
    if (k->worker_count)
        why_say(f, "; %u worker%s at work on others", k->worker_count,
                k->worker_count == 1 ? " is" : "s are");
    if (k->request)
        why_edge_add(f, proc_raylet(c->info.proc), WHY_LEASE,
                     (struct skate_id){c->info.proc, k->request});
    for (uint32_t i = 0; i < k->worker_count; i++)
        why_edge_add(f, k->workers[i]->proc, WHY_RUN, (struct skate_id){0, 0});
}

static void say_pushed(struct why_fact *f, const struct worker *w, struct skate_id task) {
    if (!w) {
        f->end = WHY_GOES;
        why_say(f, " is on its way to a worker");
        return;
    }
    f->end = WHY_WAITS;
    why_say(f, " was sent to worker %u of node %u", proc_number(w->proc), proc_node(w->proc));
    why_edge_add(f, w->proc, WHY_RUN, task);
}

static bool on_worker(struct core *c, const struct worker *w, uint32_t index) {
    uint32_t at = w->head;

    for (uint32_t n = w->inflight; n > 0; n--, at = task_get(c, at)->next)
        if (at == index) return true;
    return false;
}

static const struct worker *pushed_to(struct core *c, uint32_t index) {
    const struct task *t = task_get(c, index);
    const struct sched_class *k = &c->classes[t->cls];

    for (uint32_t i = 0; i < k->worker_count; i++)
        if (on_worker(c, k->workers[i], index)) return k->workers[i];
    return NULL;
}

static const struct actor *actor_of(struct core *c, const struct skate_id *id) {
    uint32_t i = map_get(&c->actors, id);

    return i == MAP_NONE ? NULL : c->actor_v[i];
}

const struct worker *why_worker_of(struct core *c, uint32_t index) {
    const struct task *t = task_get(c, index);
    const struct actor *a;

    if (t->state != TASK_PUSHED || t->kind == 2) return NULL;
    if (t->kind == 0) return pushed_to(c, index);
    a = actor_of(c, &spec_of(c, t)->actor);
    return a ? &a->worker : NULL;
}

/* An actor that does not run (yet, or any more) as its caller sees it. */
static void say_actor(struct core *c, const struct actor *a, struct why_fact *f) {
    static const char *const states[] = {"is pending", "is alive", "is restarting", "is dead",
                                         "is unknown"};

    f->end = WHY_WAITS;
    why_say(f, " is queued: its actor %s, %u call%s of ours wait%s",
            states[a->state <= ACTOR_UNKNOWN ? a->state : ACTOR_UNKNOWN], a->queued,
            a->queued == 1 ? "" : "s", a->queued == 1 ? "s" : "");
    if (a->owned && a->ctor != NONE && task_get(c, a->ctor)->missing)
        why_edge_add(f, c->info.proc, WHY_TASK, a->id);
    else
        why_edge_add(f, SKATE_GCS, WHY_ACTOR, a->id);
}

static void say_call(struct core *c, uint32_t index, struct why_fact *f) {
    const struct task *t = task_get(c, index);
    const struct actor *a = actor_of(c, &spec_of(c, t)->actor);
    char name[96];

    if (!a || t->state == TASK_PUSHED) {
        say_pushed(f, a ? &a->worker : NULL, t->id);
    } else if (t->missing && a->head == index) {
        say_deps(c, t, f);
    } else if (a->head != NONE && a->head != index && task_get(c, a->head)->missing) {
        const struct task *first = task_get(c, a->head);

        f->end = WHY_WAITS;
        why_say(f, " is queued behind the call %s, which is not sent yet",
                name_of(spec_of(c, first), name));
        why_edge_add(f, c->info.proc, WHY_TASK, first->id);
    } else if (a->state != ACTOR_ALIVE || a->unsettled) {
        say_actor(c, a, f);
    } else {
        f->end = WHY_WAITS;
        why_say(f, " is queued: %u calls of ours are at the actor already", a->worker.inflight);
        why_edge_add(f, a->worker.proc, WHY_RUN, (struct skate_id){0, 0});
    }
}

static void say_task(struct core *c, uint32_t index, struct why_fact *f) {
    const struct task *t = task_get(c, index);
    char name[96];

    why_say(f, "%s %s", t->kind == 0 ? "task" : t->kind == 1 ? "call" : "constructor",
            name_of(spec_of(c, t), name));
    if (t->attempt) why_say(f, " (attempt %u)", t->attempt + 1);
    if (t->kind == 1)
        say_call(c, index, f);
    else if (t->missing)
        say_deps(c, t, f);
    else if (t->kind == 0 && t->state == TASK_PUSHED)
        say_pushed(f, pushed_to(c, index), t->id);
    else if (later_left_ns(c, index) >= 0) {
        why_say(f, " pauses %.0f s before it is tried again: it was ended for want of memory",
                (double)later_left_ns(c, index) / 1e9);
        f->end = WHY_GOES;
    } else if (t->kind == 0 && t->state == TASK_QUEUED)
        say_queued(c, t, f);
    else
        f->end = WHY_GOES;
}

static void fact_of_task(struct core *c, const struct skate_id *id, struct why_fact *f) {
    uint32_t index = map_get(&c->tasks, id);

    if (index == MAP_NONE) {
        f->end = WHY_UNKNOWN;
        why_say(f, "its task has ended just now");
    } else
        say_task(c, index, f);
}

/* ---- objects ---- */

static void fact_of_ref(struct core *c, const struct skate_id *id, struct why_fact *f) {
    uint32_t slot = object_find(c, id), index;
    struct skate_id task = id_with_index(*id, SKATE_INDEX_TASK);

    if (slot != MAP_NONE && object_ready(c, slot)) {
        f->end = WHY_DONE;
        why_say(f, object_is_error(c, slot) ? "is ready: it is an error" : "is ready");
        if (c->object_v[slot].pulling) {
            f->end = WHY_GOES;
            why_say(f, ", and is being copied here from node %u",
                    proc_node(c->ledger.slots[slot].holder));
        } else if (restore_waits(c, slot)) {
            f->end = WHY_GOES;
            why_say(f, ", and is being read back from the file that it was written to");
        }
        return;
    }
    if (id->owner != c->info.proc) {
        f->end = WHY_WAITS;
        why_say(f, "belongs to process %u of node %u, which was asked for it",
                proc_number(id->owner), proc_node(id->owner));
        why_edge_add(f, id->owner, WHY_REF, *id);
        return;
    }
    index = map_get(&c->tasks, &task);
    if (index != MAP_NONE) {
        say_task(c, index, f);
        return;
    }
    f->end = WHY_UNKNOWN;
    why_say(f, slot == MAP_NONE ? "is not known to its owner any more"
                                : "has no value, and no task that makes it");
}

/* ---- what runs here ---- */

void why_wait_begin(struct core *c, struct waiting *w, int64_t now_ns) {
    w->thread = pthread_self();
    w->since_ns = w->asked_ns = now_ns;
    w->next = c->waits;
    c->waits = w;
}

void why_wait_end(struct core *c, struct waiting *w) {
    struct waiting **at = &c->waits;

    while (*at != w) at = &(*at)->next;
    *at = w->next;
}

void why_fact_of_wait(struct core *c, const struct waiting *w, struct why_fact *f) {
    uint32_t missing = 0;
    char since[32];

    f->end = WHY_WAITS;
    if (w->gone) {
        memcpy(f->edges, w->gone->edges, sizeof f->edges);
        f->edge_count = w->gone->edge_count;
        why_say(f, "waited in get() for %s", seconds_since(w->asked_ns, since));
        return;
    }
    f->any = w->need < w->count;
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->ready[i] || (object_ready(c, w->slots[i]) && !c->object_v[w->slots[i]].pulling))
            continue;
        if (missing++ < FIRST)
            why_edge_add(f, w->ids[i].owner, WHY_REF, w->ids[i]);
        else
            f->cut = true;
    }
    why_say(f, "blocked in %s of %u ref%s since %s", f->any ? "wait()" : "get()", w->count,
            w->count == 1 ? "" : "s", seconds_since(w->asked_ns, since));
    if (missing && missing < w->count) why_say(f, ", %u of them missing", missing);
    if (w->deadline_ns != INT64_MAX && !c->info.is_driver)
        why_say(f, ", gives up in %.1f s", (double)(w->deadline_ns - time_now_ns()) / 1e9);
}

static void say_run(struct core *c, const struct run *r, struct why_fact *f) {
    const struct wire_task *m = (const void *)r->node->data;
    char name[96], since[32];

    f->self = m->task;
    why_say(f, "%s%s ", name_of(m, name), r->start ? " (constructor)" : "");
    f->end = WHY_GOES;
    if (r->began_ns == 0) {
        why_say(f, "fetches its arguments");
        return;
    }
    why_say(f, "runs since %s on pid %u of node %u", seconds_since(r->began_ns, since),
            (unsigned)c->pid, proc_node(c->info.proc));
    if (r->yield) yield_why(r, f);
    for (const struct waiting *w = c->waits; w; w = w->next)
        if (pthread_equal(w->thread, r->thread)) {
            why_say(f, ", ");
            why_fact_of_wait(c, w, f);
            return;
        }
}

/* All that runs here: one, or several of an actor with threads or coroutines. */
static void say_now(struct core *c, struct why_fact *f) {
    uint32_t n = 0;

    for (const struct run *r = c->begun; r; r = r->other) n++;
    if (n == 1) {
        say_run(c, c->begun, f);
        return;
    }
    f->end = n ? WHY_WAITS : WHY_GOES;
    f->any = true;
    if (n)
        why_say(f, "%u calls run at once on pid %u of node %u", n, (unsigned)c->pid,
                proc_node(c->info.proc));
    else
        why_say(f, "nothing runs on pid %u of node %u at the moment", (unsigned)c->pid,
                proc_node(c->info.proc));
    for (const struct run *r = c->begun; r; r = r->other)
        why_edge_add(f, c->info.proc, WHY_RUN,
                     ((const struct wire_task *)(const void *)r->node->data)->task);
}

/* Its place in a queue of tasks that came and are not started. */
static bool say_behind(struct core *c, const struct run *r, const struct skate_id *id,
                       struct why_fact *f) {
    uint32_t ahead = 0;
    char name[96];

    for (; r; r = r->next, ahead++) {
        const struct wire_task *m = (const void *)r->node->data;

        if (!id_equal(&m->task, id)) continue;
        f->end = c->begun ? WHY_WAITS : WHY_GOES;
        for (const struct run *b = c->begun; b; b = b->other) ahead++;
        why_say(f, "%s is at pid %u and not started: %u task%s ahead of it", name_of(m, name),
                (unsigned)c->pid, ahead, ahead == 1 ? " is" : "s are");
        if (c->begun) why_edge_add(f, c->info.proc, WHY_RUN, (struct skate_id){0, 0});
        return true;
    }
    return false;
}

static void fact_of_run(struct core *c, const struct skate_id *id, struct why_fact *f) {
    if (id_is_nil(id)) {
        say_now(c, f);
        return;
    }
    for (const struct run *r = c->begun; r; r = r->other)
        if (id_equal(&((const struct wire_task *)(const void *)r->node->data)->task, id)) {
            say_run(c, r, f);
            return;
        }
    if (say_behind(c, c->run_head, id, f)) return;
    for (uint32_t i = 0; i < c->group_count; i++)
        if (say_behind(c, group_queue(c, i), id, f)) return;
    why_say(f, "it is not at its worker: not come yet, or ended just now");
}

void why_fact_of(struct core *c, enum why_kind kind, struct skate_id id, struct why_fact *ret) {
    *ret = (struct why_fact){.self = id, .end = WHY_UNKNOWN, .pid = (uint32_t)c->pid};
    switch (kind) {
    case WHY_REF: fact_of_ref(c, &id, ret); break;
    case WHY_TASK: fact_of_task(c, &id, ret); break;
    case WHY_RUN: fact_of_run(c, &id, ret); break;
    default: why_say(ret, "a process cannot say that"); break;
    }
}

void why_on_req(struct core *c, uint64_t src, const struct wire_why_req *m) {
    uint64_t stack[256];
    struct why_fact fact;
    struct wire_buf b;

    if (!m->head.call || m->kind > WHY_START) return;
    why_fact_of(c, (enum why_kind)m->kind, m->id, &fact);
    wire_init(&b, stack, sizeof stack);
    why_pack(&fact, m->head.call, &b);
    if (wire_end(&b) == 0) (void)proc_route(c, src, b.p, b.len);
    wire_release(&b);
}
