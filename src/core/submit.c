/* submit.c - tasks of this process: their specs, dependencies, results, failures.
 *
 * A task's spec is a whole TASK frame in the ledger's byte area (lineage lives there); the table
 * here is working state. States: DEPS (values missing) -> QUEUED (at its class or actor) ->
 * PUSHED (on a worker's ring) -> gone. A task holds its arguments' objects from submit to end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core_int.h"
#include "core/report.h"

enum { TASKS_MAX = 1 << 22 };

static uint32_t task_find(struct core *c, const struct skate_id *id) {
    return map_get(&c->tasks, id);
}

static bool task_is(const struct core *c, uint32_t index, const struct skate_id *id) {
    return c->task_v[index].state != TASK_FREE && id_equal(&c->task_v[index].id, id);
}

static int task_take(struct core *c, uint32_t *ret) {
    if (c->task_free == NONE && c->task_count == c->task_cap) {
        uint32_t cap = c->task_cap ? c->task_cap * 2 : 256;
        struct task *grown = cap > TASKS_MAX ? NULL : realloc(c->task_v, cap * sizeof *grown);

        if (!grown) return -SKATE_EFULL;
        c->task_v = grown;
        c->task_cap = cap;
    }
    if (c->task_free != NONE) {
        *ret = c->task_free;
        c->task_free = c->task_v[*ret].next;
    } else
        *ret = c->task_count++;
    c->task_v[*ret] = (struct task){.next = NONE, .slot = NONE};
    c->tasks_live++;
    return 0;
}

static void task_give(struct core *c, uint32_t index) {
    c->task_v[index].state = TASK_FREE;
    c->task_v[index].next = c->task_free;
    c->task_free = index;
    c->tasks_live--;
}

/* A task that ends before its dependencies are there must not be told of them later. */
static void deps_unwatch(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    for (uint32_t i = 0; i < t->dep_count; i++) {
        uint32_t slot = object_find(c, &t->holds[i]);
        struct dependent **at = slot == MAP_NONE ? NULL : &c->object_v[slot].dependents;

        while (at && *at) {
            struct dependent *d = *at;

            if (d->task != index) {
                at = &d->next;
                continue;
            }
            *at = d->next;
            free(d);
        }
    }
}

/* The end of a task, however it ended: its holds go, its spec goes. */
void task_end(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    struct skate_id *holds = t->holds;
    uint32_t n = t->hold_count;

    if (t->missing) deps_unwatch(c, index);
    (void)map_remove(&c->tasks, &t->id);
    if (t->slot != NONE) {
        /* First: a freed piece is overwritten. */
        ledger_slot_free(&c->ledger, LEDGER_OF_TASKS, t->slot);
        ledger_free(&c->ledger, c->ledger.slots[t->slot].offset,
                    task_spec_len(c, t) + (t->has_parent ? sizeof t->id : 0));
    }
    t->holds = NULL;
    task_give(c, index);
    for (uint32_t i = 0; i < n; i++) object_unhold(c, &holds[i]);
    free(holds);
}

/* ---- specs ---- */

/* Arguments too large for a frame become an object of ours that only the task holds. */
static int args_object(struct core *c, const struct core_task *in, struct wire_val *args,
                       struct skate_error *err) {
    struct skate_id id = {c->info.proc, ++c->next_seq << 16 | SKATE_INDEX_PUT};
    uint32_t slot;
    int r = object_store(c, &in->args, &id, args, err);

    if (r < 0) return r;
    slot = object_make(c, &id);
    if (slot == NONE) return (void)heap_free(c->heap, args->offset), -SKATE_EFULL;
    c->object_v[slot].holds = 1;
    args->nref = in->args.ref_count;
    object_put(c, slot, args, NULL, in->args.refs);
    return 0;
}

/* The frame is written where it stays; behind it the parent's id, if any. */
static int spec_build(struct core *c, struct task *t, const struct core_task *in,
                      const struct wire_val *args, const struct skate_id *parent) {
    size_t name = in->name ? strlen(in->name) : 0, method = in->method ? strlen(in->method) : 0;
    uint64_t data = args->kind == VAL_INLINE ? args->len : 0;
    uint64_t bytes = sizeof(struct wire_task) + ((name + 7) & ~(size_t)7) +
                     ((method + 7) & ~(size_t)7) + (in->dep_count + 1) * sizeof *args +
                     t->ref_count * sizeof *t->holds + ((data + 7) & ~UINT64_C(7));
    uint64_t at, all = bytes + (id_is_nil(parent) ? 0 : sizeof *parent);
    struct ledger_slot *s;
    struct wire_task *m;
    struct wire_buf b;
    struct wire_val *deps;
    uint8_t *room;
    int r = bytes > LIMIT_FRAME_BYTES ? -SKATE_ENOMEM : ledger_alloc(&c->ledger, all, &at);

    if (r < 0) return r;
    wire_init(&b, c->ledger.area + at, (uint32_t)bytes);
    m = WIRE_BEGIN_INLINE(&b, task, WIRE_TASK);
    m->task = t->id;
    m->actor = in->actor;
    m->fn = in->fn;
    m->kind = t->kind;
    m->nreturns = in->returns;
    m->flags = in->flags | (in->retries == 0 ? (uint32_t)CORE_ONCE : 0);
    (void)WIRE_PUT_INLINE(&b, task, name, in->name, name);
    (void)WIRE_PUT_INLINE(&b, task, method, in->method, method);
    (void)WIRE_PUT_INLINE(&b, task, args, args, sizeof *args);
    deps = WIRE_PUT(&b, task, deps, NULL, in->dep_count * sizeof *args);
    for (uint32_t i = 0; deps && i < in->dep_count; i++) deps[i].id = in->deps[i];
    WIRE_PUT(&b, task, refs, t->holds + in->dep_count, t->ref_count * sizeof *t->holds);
    room = wire_room(&b, offsetof(struct wire_task, data), data);
    if (room) value_copy(room, &in->args);
    r = b.heap ? -SKATE_ENOMEM : wire_end(&b); /* heap: the sum above was wrong */
    if (r == 0) r = ledger_slot_take(&c->ledger, LEDGER_OF_TASKS, &t->slot);
    if (r < 0) {
        ledger_free(&c->ledger, at, all);
        wire_release(&b);
        t->slot = NONE;
        return r;
    }
    t->has_parent = all > bytes;
    if (t->has_parent) memcpy(c->ledger.area + at + b.len, parent, sizeof *parent);
    s = &c->ledger.slots[t->slot];
    s->id = t->id;
    s->offset = at;
    s->size = b.len;
    s->holder = 0;
    ledger_move(&c->ledger, t->slot, LEDGER_TASK, 0, 0);
    return 0;
}

static int holds_take(struct core *c, struct task *t, const struct core_task *in,
                      const struct wire_val *args) {
    bool object = args->kind == VAL_ARENA, call = t->kind == 1;
    uint32_t refs = object ? 0 : in->args.ref_count, plain = in->dep_count + refs;
    uint32_t n = plain + object + call;

    if (n == 0) return 0;
    t->holds = malloc(n * sizeof *t->holds);
    if (!t->holds) return -SKATE_ENOMEM;
    for (uint32_t i = 0; i < in->dep_count; i++) t->holds[i] = in->deps[i];
    for (uint32_t i = 0; i < refs; i++) t->holds[in->dep_count + i] = in->args.refs[i];
    if (call) t->holds[plain] = in->actor; /* a call keeps its actor */
    for (uint32_t i = 0; i < plain + call; i++) object_hold(c, &t->holds[i]);
    if (object) t->holds[n - 1] = args->id; /* its hold was made with it */
    t->hold_count = n;
    t->dep_count = in->dep_count;
    t->ref_count = refs;
    return 0;
}

/* Ask for each dependency; the task waits for those that are not there. */
int task_watch(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    for (uint32_t i = 0; i < t->dep_count; i++) {
        uint32_t slot = object_find(c, &t->holds[i]);
        struct dependent *d;

        if (slot == MAP_NONE) return -SKATE_ENOMEM;
        object_want(c, slot);
        if (object_ready(c, slot)) continue;
        d = malloc(sizeof *d);
        if (!d) return -SKATE_ENOMEM;
        *d = (struct dependent){c->object_v[slot].dependents, index};
        c->object_v[slot].dependents = d;
        t->missing++;
    }
    return 0;
}

static int returns_make(struct core *c, const struct task *t) {
    for (uint32_t i = 1; i <= t->returns; i++) {
        struct skate_id id = id_with_index(t->id, i);
        uint32_t slot = object_new(c, &id);

        if (slot == NONE) return -SKATE_EFULL;
        c->object_v[slot].local = 1;
        c->ledger.slots[slot].refs = 1;
    }
    return 0;
}

/* Most tasks run the function of the one before. */
static uint32_t function_find(struct core *c, uint64_t fn) {
    struct skate_id key = map_key(fn);

    if (c->function_last == MAP_NONE || c->function_last_key != fn) {
        c->function_last = map_get(&c->functions, &key);
        c->function_last_key = fn;
    }
    return c->function_last;
}

int task_new(struct core *c, const struct core_task *in, uint32_t kind, uint32_t *ret,
             struct skate_error *err) {
    struct wire_val args = {.format = in->args.format, .kind = VAL_INLINE};
    const struct skate_id *parent = id_is_nil(&in->parent) && c->run_current
                                        ? &c->run_current->job.task : &in->parent;
    uint64_t size = value_size(&in->args);
    struct task *t;
    uint32_t index;
    int r;

    if (c->dead) return err_fail(err, -SKATE_EDEAD, "%s", c->death.text);
    r = 0;
    if (size > LIMIT_INLINE_VALUE) {
        objects_apply_drops(c); /* what the program let go of gives its room first */
        r = args_object(c, in, &args, err);
    } else {
        args.len = (uint32_t)size;
        args.nref = in->args.ref_count;
        args.size = size;
    }
    if (r < 0) return r;
    r = task_take(c, &index);
    if (r < 0) return err_fail(err, r, "%u tasks are waiting already", c->tasks_live);
    t = task_get(c, index);
    t->id = kind == 2 ? in->actor
                      : (struct skate_id){c->info.proc, ++c->next_seq << 16};
    t->kind = kind;
    t->cls = in->cls;
    t->returns = in->returns;
    t->retries = in->retries;
    t->flags = in->flags;
    t->state = TASK_DEPS;
    t->function = kind == 0 ? function_find(c, in->fn) : NONE;
    if (args.kind == VAL_ARENA) args.nref = 0; /* its object holds what it contains */
    r = holds_take(c, t, in, &args);
    if (r == 0) r = spec_build(c, t, in, &args, parent);
    if (r == 0) r = map_put(&c->tasks, &t->id, index);
    if (r == 0) r = returns_make(c, t);
    if (r == 0) r = task_watch(c, index);
    if (r == 0 && t->flags & (CORE_STREAM | CORE_DYNAMIC)) r = stream_new(c, &t->id, t->flags);
    if (r < 0) {
        task_end(c, index);
        if (r == -SKATE_ETOOBIG)
            return err_fail(err, r, "%u refs are too many for the arguments of one call: pass "
                              "them in a list and get() them in the task",
                              in->dep_count + in->args.ref_count);
        return err_fail(err, r, "no room for the task: %s", skate_strerror(r));
    }
    *ret = index;
    return 0;
}

int core_submit(struct core *c, const struct core_task *in, struct skate_id *ret_task,
                struct skate_error *err) {
    bool method = !id_is_nil(&in->actor);
    uint32_t index;
    int r = core_enter(c);

    if (r < 0) return r;
    if (bell_any(c->bell) && !c->leader && (c->next_seq & 31) == 0) pump(c);
    if (method) {
        struct actor *a = actor_get(c, &in->actor);

        if (!a) return core_leave(c), -SKATE_ENOMEM;
        if (actor_full(a)) return core_leave(c), -SKATE_EBUSY;
    } else if (in->cls >= c->class_count)
        return core_leave(c), err_fail(err, -SKATE_EINVAL, "no such scheduling class");
    r = task_new(c, in, method, &index, err);
    if (r == 0) {
        *ret_task = task_get(c, index)->id;
        report_submitted(c, index);
        c->waiting++;
        if (method)
            actor_enqueue(c, index);
        else if (task_get(c, index)->missing == 0)
            task_settle_deps(c, index);
        if (c->dirty_classes) classes_dispatch(c);
    }
    core_leave(c);
    return r;
}

/* ---- dependencies ---- */

void task_dep_ready(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    SKATE_ASSERT(t->state != TASK_FREE && t->missing > 0);
    if (--t->missing > 0) return;
    if (t->kind == 1)
        actor_call_ready(c, index);
    else
        task_settle_deps(c, index);
}

/* Dependencies were lost with a node: who is queued with one of them waits for it again. */
void tasks_watch_again(struct core *c) {
    for (uint32_t index = 0; index < c->task_count; index++) {
        struct task *t = task_get(c, index);
        bool lacks = false;

        if (t->state != TASK_QUEUED || t->kind > 1) continue;
        for (uint32_t i = 0; i < t->dep_count && !lacks; i++) {
            uint32_t slot = object_find(c, &t->holds[i]);

            lacks = slot != MAP_NONE && !object_ready(c, slot);
        }
        if (!lacks || t->missing || (t->kind == 0 && !class_unqueue(c, index))) continue;
        if (t->kind == 0) t->state = TASK_DEPS;
        if (task_watch(c, index) < 0) {
            c->waiting--;
            task_fail(c, index, "object_lost\nno memory to wait for a dependency");
        }
    }
}

/* The slot of the first dependency that is an error, or NONE. */
static uint32_t failed_dep(struct core *c, const struct task *t) {
    for (uint32_t i = 0; i < t->dep_count; i++) {
        uint32_t slot = object_find(c, &t->holds[i]);

        if (slot != MAP_NONE && object_is_error(c, slot)) return slot;
    }
    return NONE;
}

bool task_dep_failed(struct core *c, uint32_t index) {
    return failed_dep(c, task_get(c, index)) != NONE;
}

void task_settle_deps(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    t->state = TASK_QUEUED;
    if (t->kind == 2)
        actor_create_ready(c, index);
    else if (failed_dep(c, t) != NONE) {
        t->next = c->failing; /* failed by the next dispatch: a long chain must not recurse */
        c->failing = index;
        c->dirty_classes++;
    } else
        class_enqueue(c, index, false);
}

/* Fail a task because of its failed dependency; true when it had one. */
bool task_fail_dep(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    uint32_t slot = failed_dep(c, t);
    const uint8_t *data;
    struct wire_val v;

    if (slot == NONE) return false;
    object_val(c, slot, &v, &data);
    if (v.kind == VAL_ARENA && proc_node(v.holder) == proc_node(c->info.proc))
        data = object_bytes(c, slot);
    if (data)
        task_fail_like(c, index, &v, data);
    else
        task_fail(c, index, "object_lost\na dependency failed on another node");
    return true;
}

void task_fail_like(struct core *c, uint32_t index, const struct wire_val *v,
                    const uint8_t *data) {
    struct task *t = task_get(c, index);
    struct core_part part = {data, v->kind == VAL_INLINE ? v->len : v->size, 1};
    struct core_value copy = {.format = v->format, .flags = v->flags, .part_count = 1,
                              .parts = &part};
    struct skate_id id = t->id;
    uint32_t n = t->returns;
    uint8_t keep[LIMIT_INLINE_VALUE];

    report_lost(c, index, v, data);
    if (part.size <= sizeof keep) { /* the table may move while results are set */
        memcpy(keep, data, part.size);
        part.data = keep;
    }
    for (uint32_t i = 1; i <= n; i++) {
        struct skate_id ret = id_with_index(id, i);
        uint32_t slot = object_find(c, &ret);
        struct wire_val val = {.kind = VAL_INLINE, .format = v->format, .flags = v->flags,
                               .len = (uint32_t)part.size};

        if (slot == MAP_NONE || object_ready(c, slot)) continue;
        if (part.size <= sizeof keep)
            object_set(c, slot, &val, part.data, NULL);
        else if (object_store(c, &copy, &ret, &val, NULL) == 0)
            object_set(c, slot, &val, NULL, NULL);
        else
            object_set_system(c, slot, "store_full\nno room for the error of a dependency");
    }
    if (task_get(c, index)->flags & (CORE_STREAM | CORE_DYNAMIC)) stream_over(c, &id);
    task_end(c, index);
}

void task_fail(struct core *c, uint32_t index, const char *system_text) {
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW,
                         .flags = VAL_ERROR | VAL_SYSTEM, .len = (uint32_t)strlen(system_text)};

    if (v.len > LIMIT_INLINE_VALUE) v.len = LIMIT_INLINE_VALUE;
    task_fail_like(c, index, &v, (const uint8_t *)system_text);
}

/* ---- pushing ---- */

/* The frame with the values of its dependencies put in. */
static int frame_with_deps(struct core *c, struct task *t, struct wire_buf *b) {
    const struct wire_task *spec = task_spec(c, t);
    uint32_t n, name_len, method_len, ref_len, data_len, at, nrefs = t->ref_count;
    const char *name = wire_task_name(spec, &name_len);
    const char *method = wire_task_method(spec, &method_len);
    const struct wire_val *args = wire_task_args(spec, &n);
    const struct skate_id *refs = wire_task_refs(spec, &ref_len);
    const uint8_t *data = wire_task_data(spec, &data_len);
    struct wire_val *deps = malloc((t->dep_count + 1) * sizeof *deps);
    const uint8_t **bytes = malloc((t->dep_count + 1) * sizeof *bytes);
    struct wire_task *m;
    uint8_t *room;
    int r = -SKATE_ENOMEM;

    if (!deps || !bytes) goto out;
    at = (data_len + 63) & ~63u;
    for (uint32_t i = 0; i < t->dep_count; i++) {
        uint32_t slot = object_find(c, &t->holds[i]);
        struct id_list *in = object_contained(c, slot);

        object_val(c, slot, &deps[i], &bytes[i]);
        deps[i].off = at;
        at += (deps[i].len + 63) & ~63u;
        deps[i].ref0 = nrefs;
        deps[i].nref = in ? in->count : 0;
        nrefs += deps[i].nref;
    }
    m = wire_begin(b, WIRE_TASK);
    memcpy((uint8_t *)m + sizeof m->head, (const uint8_t *)spec + sizeof m->head,
           offsetof(struct wire_task, name) - sizeof m->head);
    WIRE_PUT(b, task, name, name, name_len);
    WIRE_PUT(b, task, method, method, method_len);
    WIRE_PUT(b, task, args, args, sizeof *args);
    WIRE_PUT(b, task, deps, deps, t->dep_count * sizeof *deps);
    room = WIRE_PUT(b, task, refs, NULL, nrefs * sizeof *refs);
    if (room && t->ref_count) memcpy(room, refs, t->ref_count * sizeof *refs);
    for (uint32_t i = 0; room && i < t->dep_count; i++)
        if (deps[i].nref)
            memcpy(room + deps[i].ref0 * sizeof *refs,
                   object_contained(c, object_find(c, &t->holds[i]))->ids,
                   deps[i].nref * sizeof *refs);
    room = WIRE_PUT(b, task, data, NULL, at);
    if (room && data_len) memcpy(room, data, data_len);
    for (uint32_t i = 0; room && i < t->dep_count; i++)
        if (deps[i].len) memcpy(room + deps[i].off, bytes[i], deps[i].len);
    r = wire_end(b);
out:
    free(deps);
    free(bytes);
    return r;
}

int task_frame(struct core *c, uint32_t index, struct wire_buf *b) {
    return frame_with_deps(c, task_get(c, index), b);
}

/* Before a task uses a function on a path for the first time, the definition goes there. */
static int push_function(struct core *c, struct link *l, uint64_t fn) {
    struct skate_id key = map_key(fn);
    uint32_t i;
    int r;

    if (l->function_sent == fn) return 0;
    if (map_get(&l->functions, &key) != MAP_NONE) return l->function_sent = fn, 0;
    i = map_get(&c->functions, &key);
    if (i == MAP_NONE) return -SKATE_ENOENT;
    r = link_send(c, l, c->function_v[i].frame->data, c->function_v[i].frame->len, BELL_QUIET, 0);
    return r < 0 ? r : map_put(&l->functions, &key, 1);
}

int task_push(struct core *c, uint32_t index, struct worker *w) {
    struct task *t = task_get(c, index);
    struct wire_task *m = task_spec(c, t);
    uint64_t stack[LIMIT_RING_FRAME / 8];
    struct wire_buf b;
    struct link *l = w->link;
    int r = 0;

    if (!w->patient && !link_room(l, task_spec_len(c, t) + 512)) return -SKATE_EAGAIN;
    if (m->fn) r = push_function(c, l, m->fn); /* of a call: what it retries */
    if (r < 0) return r;
    m->attempt = t->attempt;
    wire_init(&b, stack, sizeof stack);
    t->sequence = ++l->sequence;
    if (t->dep_count) {
        r = frame_with_deps(c, t, &b);
        if (r == 0) r = link_send(c, l, b.p, b.len, BELL_QUIET, t->sequence);
    } else
        r = link_send(c, l, m, m->head.size, BELL_QUIET, t->sequence);
    wire_release(&b);
    if (r < 0) return r;
    if (t->flags & (CORE_STREAM | CORE_DYNAMIC)) stream_pushed(c, &t->id, l);
    t->state = TASK_PUSHED;
    t->next = t->before = NONE;
    c->ledger.slots[t->slot].holder = w->proc;
    c->deep_workers += w->inflight == 1 && w->cls != NONE;
    if (w->inflight++ == 0)
        w->head = index;
    else {
        t->before = w->tail;
        task_get(c, w->tail)->next = index;
    }
    w->tail = index;
    c->waiting--;
    return 0;
}

/* Take a task out of its worker's list of pushed ones; false: it is not there. */
bool task_unpush(struct core *c, struct worker *w, uint32_t index) {
    struct task *t = task_get(c, index);

    if (t->state != TASK_PUSHED || c->ledger.slots[t->slot].holder != w->proc || !w->inflight)
        return false;
    if (t->before == NONE)
        w->head = t->next;
    else
        task_get(c, t->before)->next = t->next;
    if (w->tail == index)
        w->tail = t->before;
    else
        task_get(c, t->next)->before = t->before;
    c->deep_workers -= w->inflight == 2 && w->cls != NONE;
    w->inflight--;
    return true;
}

/* A pushed task came back or was lost. True: it is to be tried again (and counted, if started). */
bool task_lost(struct core *c, uint32_t index, bool started) {
    struct task *t = task_get(c, index);

    if (t->cancelled) return false;
    if (!started) return true;
    if (t->retries >= 0 && t->attempt >= (uint32_t)t->retries) return false;
    t->attempt++;
    return true;
}

/* How long calls of a function take: decides how many lie ahead on a worker. */
static void learn_time(struct core *c, const struct task *t, double ns) {
    double *known;

    if (t->function == NONE || t->function >= c->function_count) return;
    known = &c->function_v[t->function].run_ns;
    *known = *known < 0 ? ns : *known + (ns - *known) / 4;
}

static void kept_refs(struct core *c, const struct wire_result *m, uint64_t worker) {
    uint32_t n;
    const struct skate_id *kept = wire_result_kept(m, &n);

    object_pass_refs(c, kept, n, worker);
}

void tasks_on_result(struct core *c, uint64_t src, struct link *l, const struct wire_result *m) {
    uint32_t index = task_find(c, &m->task), n, nrefs, ndata;
    const struct wire_val *vals = wire_result_vals(m, &n);
    const struct skate_id *refs = wire_result_refs(m, &nrefs);
    const uint8_t *data = wire_result_data(m, &ndata);
    struct worker *w = l && l->lease && l->lease->proc == src ? l->lease : worker_of(c, src);
    struct skate_id id = m->task;

    if (wire_check_vals(vals, n, ndata, nrefs) < 0) return;
    if (index == MAP_NONE && c->heritage.estates.count && estate_result(c, src, m)) return;
    if (index == MAP_NONE || !w || !task_unpush(c, w, index)) {
        for (uint32_t i = 0; i < n; i++) object_drop_val(c, &vals[i], refs);
        return;
    }
    kept_refs(c, m, src);
    if (m->status == CORE_RETRY && task_lost(c, index, true)) {
        for (uint32_t i = 0; i < n; i++) object_drop_val(c, &vals[i], refs);
        c->waiting++;
        if (task_get(c, index)->kind == 0)
            class_enqueue(c, index, true);
        else
            actor_enqueue(c, index);
        class_worker_done(c, w);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct skate_id ret = id_with_index(id, i + 1);
        uint32_t slot = object_find(c, &ret);

        if (slot == MAP_NONE)
            object_drop_val(c, &vals[i], refs);
        else
            object_set(c, slot, &vals[i], data, refs);
    }
    if (task_is(c, index, &id)) { /* what its values set free may have ended it */
        if (task_get(c, index)->flags & (CORE_STREAM | CORE_DYNAMIC)) stream_over(c, &id);
        if (m->status != CORE_CANCELLED)
            learn_time(c, task_get(c, index), (double)m->exec_ns);
        if (m->status != CORE_OK || !lineage_keep(c, index)) task_end(c, index);
    }
    class_worker_done(c, w);
}

/* ---- definitions ---- */

int core_define(struct core *c, uint64_t fn, const char *name, const struct core_value *v,
                struct skate_error *err) {
    struct skate_id key = map_key(fn), id;
    struct wire_val val = {.kind = VAL_INLINE, .format = v->format};
    uint64_t size = value_size(v);
    struct function *grown;
    struct wire_func *m;
    struct wire_buf b;
    int r = core_enter(c);

    if (r < 0) return r;
    if (map_get(&c->functions, &key) != MAP_NONE) return core_leave(c), 0;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_FUNC);
    m->fn = fn;
    if (size > LIMIT_INLINE_VALUE) { /* an object of ours for the life of the job */
        id = (struct skate_id){c->info.proc, ++c->next_seq << 16 | SKATE_INDEX_PUT};
        r = object_store(c, v, &id, &val, err);
        if (r == 0) {
            uint32_t slot = object_make(c, &id);

            if (slot != NONE) {
                c->object_v[slot].holds = 1;
                object_set(c, slot, &val, NULL, NULL);
            }
        }
    } else {
        val.len = (uint32_t)size;
        val.size = size;
    }
    if (name) WIRE_PUT(&b, func, name, name, strlen(name));
    WIRE_PUT(&b, func, value, &val, sizeof val);
    if (val.kind == VAL_INLINE) {
        uint8_t copy[LIMIT_INLINE_VALUE];

        value_copy(copy, v);
        WIRE_PUT(&b, func, data, copy, val.len);
    }
    if (r == 0) r = wire_end(&b);
    grown = realloc(c->function_v, (c->function_count + 1) * sizeof *grown);
    if (r == 0 && !grown) r = -SKATE_ENOMEM;
    if (grown) c->function_v = grown;
    if (r == 0) {
        struct function f = {.frame = frame_keep(c->info.proc, b.p, b.len), .run_ns = -1};

        if (!f.frame) r = -SKATE_ENOMEM;
        if (r == 0) r = map_put(&c->functions, &key, c->function_count);
        if (r == 0)
            c->function_v[c->function_count++] = f;
        else
            free(f.frame);
    }
    wire_release(&b);
    core_leave(c);
    return r;
}
