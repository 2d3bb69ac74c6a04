/* execute.c - the worker's side: tasks that came to be run, their arguments, their results.
 *
 * Tasks lie in one queue that the core thread may fill, rob (steal) and return while user code
 * runs. One thread executes. A running task holds its arguments and the refs in them; what it still
 * holds at the end is told in `kept`, so that nothing is freed under it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"
#include "core/restore.h"
#include "core/report.h"
#include "core/worker_lease.h"

enum { REFILL_EVERY = 32 };

static void enqueue(struct core *c, struct run *r) {
    c->runs++;
    if (r->link) r->link->queued_runs++;
    if (c->groups) {
        group_enqueue(c, r);
        return;
    }
    r->next = NULL;
    *c->run_tail = r;
    c->run_tail = &r->next;
}

/* blocked: 0 stolen, 1 we sleep, 2 we leave */
static void send_returned(struct core *c, struct link *l, const struct skate_id *ids, uint32_t n,
                          uint32_t blocked) {
    uint64_t stack[LIMIT_RING_FRAME / 8];
    struct wire_returned *m;
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_RETURNED);
    m->blocked = blocked;
    WIRE_PUT(&b, returned, tasks, ids, n * sizeof *ids);
    if (wire_end(&b) == 0) (void)link_send(c, l, b.p, b.len, BELL_URGENT, 0);
    wire_release(&b);
}

void runs_on_task(struct core *c, uint64_t src, struct link *l, const void *frame, uint32_t len,
                  uint32_t sequence) {
    const struct wire_task *m = frame;
    struct run *r;

    if (!l) l = link_get(c, src);
    if (!l || c->info.is_driver || m->kind > 1) return;
    if ((c->blocked_told || c->retiring) && m->kind == 0) { /* sent before the owner knew: back */
        send_returned(c, l, &m->task, 1, c->retiring ? 2 : 1);
        return;
    }
    r = run_new(c, src, frame, len);
    if (!r) return;
    r->link = l;
    r->sequence = sequence;
    enqueue(c, r);
}

/* Take up to `max` unstarted tasks of link l (NULL: of any) off the queue's end into ids. */
static uint32_t unqueue(struct core *c, struct link *l, uint32_t max, struct skate_id *ids) {
    uint32_t mine = 0, n = 0, skip;
    struct run **at;

    for (struct run *r = c->run_head; r; r = r->next)
        mine += r->link == l && ((struct wire_task *)(void *)r->node->data)->kind == 0;
    skip = mine > max ? mine - max : 0;
    for (at = &c->run_head; *at;) {
        struct run *r = *at;
        const struct wire_task *m = (const void *)r->node->data;

        if (r->link != l || m->kind != 0 || skip) {
            if (r->link == l && m->kind == 0) skip--;
            at = &r->next;
            continue;
        }
        ids[n++] = m->task;
        *at = r->next;
        c->runs--;
        l->queued_runs--;
        run_release(c, r);
    }
    c->run_tail = &c->run_head;
    while (*c->run_tail) c->run_tail = &(*c->run_tail)->next;
    return n;
}

static void give(struct core *c, struct link *l, uint32_t max, uint32_t blocked) {
    struct skate_id *ids = malloc((c->runs + 1) * sizeof *ids);
    uint32_t n;

    if (!ids) return;
    n = unqueue(c, l, max, ids);
    send_returned(c, l, ids, n, blocked);
    free(ids);
}

void runs_on_steal(struct core *c, struct link *l, uint32_t max) { give(c, l, max, 0); }

void runs_give_back(struct core *c) {
    const struct run *r = c->run_current;

    if (!r || !r->link || r->job.kind != 0 || c->blocked_told) return;
    c->blocked_told = true;
    give(c, r->link, UINT32_MAX, 1);
}

void runs_leave(struct core *c) {
    if (c->run_current && c->run_current->link) give(c, c->run_current->link, UINT32_MAX, 2);
}

void runs_forget(struct core *c, uint64_t proc) {
    for (struct run *r = groups_forget(c, proc), *next; r; r = next) {
        next = r->next;
        c->runs--;
        run_release(c, r);
    }
    for (struct run **at = &c->run_head; *at;) {
        struct run *r = *at;

        if (!r->link || r->link->proc != proc ||
            orphan_is_kept(r->link, &((struct wire_task *)(void *)r->node->data)->task)) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        c->runs--;
        run_release(c, r);
    }
    c->run_tail = &c->run_head;
    while (*c->run_tail) c->run_tail = &(*c->run_tail)->next;
}

static void refuse(struct core *c, struct run *r, int e);

/* A task that has not been started is taken out of the queue, and its owner told. */
bool runs_cancel(struct core *c, uint64_t owner, const struct skate_id *task) {
    struct run *r = c->groups ? groups_unqueue(c, owner, task) : NULL;

    for (struct run **at = &c->run_head; !r && *at; at = &(*at)->next) {
        const struct wire_task *m = (const void *)(*at)->node->data;

        if (!(*at)->link || (*at)->link->proc != owner || !id_equal(&m->task, task)) continue;
        r = *at;
        *at = r->next;
        if (!*at) c->run_tail = at;
        break;
    }
    if (!r) return false;
    c->runs--;
    r->link->queued_runs--;
    r->cancelled = true;
    refuse(c, r, -SKATE_EINTR);
    run_release(c, r);
    return true;
}

/* ---- definitions ---- */

void functions_on_func(struct core *c, uint64_t src, const void *frame, uint32_t len) {
    const struct wire_func *m = frame;
    struct skate_id key = map_key(m->fn);
    struct function *grown, f = {.run_ns = -1};
    uint32_t n, size;
    const struct wire_val *v = wire_func_value(m, &n);

    (void)wire_func_data(m, &size);
    if (n != 1 || wire_check_vals(v, 1, size, 0) < 0) return;
    if (map_get(&c->functions, &key) != MAP_NONE) return;
    grown = realloc(c->function_v, (c->function_count + 1) * sizeof *grown);
    if (!grown) return;
    c->function_v = grown;
    f.frame = frame_keep(src, frame, len);
    if (!f.frame || map_put(&c->functions, &key, c->function_count) < 0) return free(f.frame);
    c->function_v[c->function_count++] = f;
    if (v->kind == VAL_ARENA) { /* an object of the definer, for as long as we live */
        uint32_t slot = object_make(c, &v->id);

        if (slot == NONE) return;
        c->object_v[slot].holds++;
        object_set(c, slot, v, NULL, NULL);
    }
}

static bool slot_usable(struct core *c, void *arg) {
    const uint32_t *slot = arg;

    return usable(c, *slot, FETCH_ARGUMENT);
}

static bool slot_settled(struct core *c, void *arg) {
    const uint32_t *slot = arg;

    return !object_ready(c, *slot) || usable(c, *slot, FETCH_ARGUMENT);
}

/* An argument that was lost with its node is made again: our CPU may be what that needs. */
static int await_slot(struct core *c, uint32_t slot) {
    bool lent = false;
    int r;

    do {
        if (!object_ready(c, slot) && !lent) {
            runs_give_back(c);
            tell_blocked(c, true);
            lent = true;
        }
        r = pump_until(c, lent ? slot_usable : slot_settled, &slot, INT64_MAX, false);
        /* whatever signals come, but for cancel */
    } while ((r == -SKATE_EINTR && !c->interrupt) || (r == 0 && !usable(c, slot, FETCH_ARGUMENT)));
    if (lent) tell_blocked(c, false);
    return r;
}

/* A view of an arena value, pulled here first when it lies elsewhere. */
static int view_of(struct core *c, const struct wire_val *v, const uint8_t *data,
                   struct core_view *ret) {
    uint32_t slot;
    int r;

    *ret = (struct core_view){.size = v->size, .format = v->format, .flags = v->flags};
    if (v->kind == VAL_INLINE) {
        ret->data = data + v->off;
        ret->size = v->len;
        return 0;
    }
    slot = object_find(c, &v->id);
    if (slot == MAP_NONE) return -SKATE_ENOENT;
    for (;;) {
        r = await_slot(c, slot);
        if (r < 0) return r;
        ret->flags = ledger_flags_of(&c->ledger.slots[slot]);
        if (ledger_state_of(&c->ledger.slots[slot]) == LEDGER_INLINE) break;
        r = view_arena(c, slot, ret);
        if (r != -SKATE_EAGAIN) return r;
    }
    ret->format = ledger_format_of(&c->ledger.slots[slot]); /* it was lost on the way: an error */
    ret->size = c->ledger.slots[slot].size;
    ret->data = c->ledger.area + c->ledger.slots[slot].offset;
    return 0;
}

int core_function(struct core *c, const struct core_job *job, uint64_t fn, void *inline_copy,
                  struct core_view *ret) {
    struct skate_id key = map_key(fn);
    const struct wire_func *m;
    uint32_t i, n;
    int r = core_enter(c);

    (void)job;
    (void)inline_copy;
    if (r < 0) return r;
    i = map_get(&c->functions, &key);
    if (i == MAP_NONE) return core_leave(c), -SKATE_ENOENT;
    m = (const void *)c->function_v[i].frame->data;
    r = view_of(c, wire_func_value(m, &n), wire_func_data(m, &n), ret);
    core_leave(c);
    return r;
}

/* ---- constructors ---- */

void runs_on_start(struct core *c, const void *frame, uint32_t len) {
    const struct wire_actor_start *m = frame;
    uint32_t spec_len, n, size;
    const uint8_t *spec = wire_actor_start_spec(m, &spec_len);
    const struct wire_val *v = wire_actor_start_fn_value(m, &n);
    const uint8_t *data = wire_actor_start_fn_data(m, &size);
    struct run *r;
    struct wire_func *f;
    struct wire_buf b;

    if (c->info.is_driver || n != 1 || wire_check_vals(v, 1, size, 0) < 0) return;
    r = run_new(c, m->owner, spec, spec_len);
    if (!r) return;
    r->start = frame_keep(0, frame, len);
    if (!r->start || wire_check(r->node->data, spec_len) < 0 ||
        wire_head(r->node->data)->kind != WIRE_TASK)
        return run_release(c, r);
    wire_init(&b, NULL, 0);
    f = wire_begin(&b, WIRE_FUNC);
    f->fn = ((const struct wire_task *)(const void *)r->node->data)->fn;
    WIRE_PUT(&b, func, value, v, sizeof *v);
    WIRE_PUT(&b, func, data, data, size);
    if (wire_end(&b) == 0) functions_on_func(c, m->owner, b.p, b.len);
    wire_release(&b);
    enqueue(c, r);
}

/* ---- running ---- */

/* Hold what the task uses, for as long as it runs. */
static void hold_refs(struct core *c, struct run *r) {
    const struct wire_task *m = (const void *)r->node->data;
    uint32_t n;
    const struct skate_id *refs = wire_task_refs(m, &n);

    for (uint32_t i = 0; i < n; i++) object_hold(c, &refs[i]);
}

static void hold_vals(struct core *c, const struct wire_val *vals, uint32_t nvals) {
    for (uint32_t i = 0; i < nvals; i++) {
        struct wire_val v = vals[i];
        uint32_t slot;

        if (v.kind != VAL_ARENA) continue;
        slot = object_make(c, &v.id);
        if (slot == NONE) continue;
        c->object_v[slot].holds++;
        v.nref = 0; /* held as refs of the task */
        if (!object_ready(c, slot)) object_set(c, slot, &v, NULL, NULL);
    }
}

static int prepare(struct core *c, struct run *r) {
    const struct wire_task *m = (const void *)r->node->data;
    uint32_t nargs, ndeps, nrefs, ndata;
    const struct wire_val *args = wire_task_args(m, &nargs), *deps = wire_task_deps(m, &ndeps);
    const uint8_t *data = wire_task_data(m, &ndata);
    int e;

    (void)wire_task_refs(m, &nrefs);
    if (nargs != 1 || m->nreturns > LIMIT_RETURNS ||
        wire_check_vals(args, 1, ndata, nrefs) < 0 ||
        wire_check_vals(deps, ndeps, ndata, nrefs) < 0)
        return -SKATE_EPROTO;
    e = run_describe(r, ndeps);
    if (e < 0) return e;
    hold_refs(c, r);
    hold_vals(c, args, 1);
    hold_vals(c, deps, ndeps);
    e = view_of(c, args, data, &r->views[0]);
    for (uint32_t i = 0; i < ndeps && c->pins_v; i++) restore_ahead(c, &deps[i].id);
    for (uint32_t i = 0; e == 0 && i < ndeps; i++) e = view_of(c, &deps[i], data, &r->views[i + 1]);
    r->job.args = r->views[0];
    r->job.deps = r->views + 1;
    r->job.dep_count = ndeps;
    if (e == 0) e = yield_begin(c, r);
    return e;
}

/* A task that cannot be run here (an argument is gone, its frame is false) is still answered: its
 * owner never waits for nothing. */
static void refuse(struct core *c, struct run *r, int e) {
    const struct wire_task *m = (const void *)r->node->data;
    uint32_t n = m->nreturns <= LIMIT_RETURNS ? m->nreturns : 0;
    struct wire_val *vals = calloc(n + 1, sizeof *vals);
    struct wire_result *out;
    struct wire_buf b;
    char text[200];
    int len = r->cancelled
                  ? cancel_text(&m->task, "it had not started", text, sizeof text)
                  : snprintf(text, sizeof text, "object_lost\nan argument could not be read: %s",
                             skate_strerror(e));

    wire_init(&b, NULL, 0);
    for (uint32_t i = 0; vals && i < n; i++)
        vals[i] = (struct wire_val){.kind = VAL_INLINE, .format = FORMAT_RAW,
                                    .flags = VAL_ERROR | VAL_SYSTEM, .len = (uint32_t)len,
                                    .id = id_with_index(m->task, i + 1)};
    if (vals && r->link) {
        out = wire_begin(&b, WIRE_RESULT);
        out->task = m->task;
        out->status = r->cancelled ? CORE_CANCELLED : CORE_ERROR;
        out->queued = r->link->queued_runs;
        WIRE_PUT(&b, result, vals, vals, n * sizeof *vals);
        WIRE_PUT(&b, result, data, text, (size_t)len);
        if (wire_end(&b) == 0) (void)link_send(c, r->link, b.p, b.len, BELL_WANTED, 0);
    }
    wire_release(&b);
    free(vals);
}

static int answer_cancelled(struct core *c, struct run *r, const char *how);

/* A run that was taken from its queue: its job, or why there is none (its owner was told). */
int run_begin(struct core *c, struct run *r, struct core_job **ret) {
    int e;

    c->runs--;
    if (r->link) {
        r->link->queued_runs--;
        if (r->link->state == LINK_OPEN) {
            uint64_t *started = &r->link->in.shared->started;

            /* Calls of several groups start in any order. */
            if (!c->groups || (int32_t)(r->sequence - (uint32_t)at_load(started)) > 0)
                at_store_release(started, r->sequence);
        }
    }
    r->thread = pthread_self();
    r->whose = &c->begun;
    r->other = c->begun;
    if (r->other) r->other->whose = &r->other;
    c->begun = r;
    e = prepare(c, r);
    if (r->cancelled && (e == 0 || e == -SKATE_EINTR)) {
        e = answer_cancelled(c, r, "it had not started");
        if (e == 0) e = -SKATE_EAGAIN; /* take the next */
    }
    if (e == 0) {
        if (c->lease.changes != c->lease.seen) lease_look(c, &r->job);
        r->began_ns = c->ended_ns && r->job.args.pin == 0 && r->job.dep_count == 0
                          ? c->ended_ns /* one look at the clock for two tasks in a row */
                          : time_now_ns();
        c->ended_ns = 0;
        report_run_begin(c, r);
        *ret = &r->job;
        return 0;
    }
    if (e != -SKATE_EDEAD && e != -SKATE_ESHUTDOWN && e != -SKATE_EAGAIN) refuse(c, r, e);
    run_release(c, r);
    return e;
}

static bool have_run(struct core *c, void *arg) {
    (void)arg;
    return c->run_head || c->exiting || (c->retiring && retire_may_end(c));
}

int core_next(struct core *c, struct core_job **ret) {
    struct run *r;
    int e = core_enter(c);

    if (e < 0) return e;
    c->runner = pthread_self();
    c->runner_known = true;
    for (;;) {
        if (!c->run_head) c->ended_ns = 0;
        e = pump_until(c, have_run, NULL, INT64_MAX, false);
        if (e < 0) break;
        r = c->run_head;
        if (!r) {
            e = -SKATE_ESHUTDOWN;
            break;
        }
        c->run_head = r->next;
        if (!r->next) c->run_tail = &c->run_head;
        c->run_current = r;
        e = run_begin(c, r, ret);
        if (e == 0) break;
        c->run_current = NULL;
        if (e == -SKATE_EDEAD || e == -SKATE_ESHUTDOWN) break;
    }
    core_leave(c);
    return e;
}

uint64_t core_job_pin(struct core *c, struct core_job *job, const struct core_view *view) {
    struct run *r = job->frame;
    uint64_t pin = 0;

    (void)c;
    for (uint32_t i = 0; i <= job->dep_count; i++)
        if (r->views[i].data == view->data && r->views[i].pin) {
            pin = r->views[i].pin;
            r->views[i].pin = 0;
            break;
        }
    return pin;
}

/* The end of a hold. True: something of ours still needs the object, the owner must know (not of a
 * constructor's: its creator holds them while the actor lives). */
static bool unhold_kept(struct core *c, const struct run *r, const struct skate_id *id) {
    uint32_t slot = object_find(c, id);
    struct object *o;

    if (slot == MAP_NONE) return false;
    o = &c->object_v[slot];
    if (o->local + o->holds > 1 && id->owner != c->info.proc) {
        o->holds--;
        o->registered += !r->start;
        c->ledger.slots[slot].refs = o->local + o->holds;
        return !r->start;
    }
    object_unhold(c, id);
    return false;
}

static uint32_t unhold_all(struct core *c, struct run *r, struct skate_id *kept) {
    const struct wire_task *m = (const void *)r->node->data;
    uint32_t n, nvals, k = 0;
    const struct skate_id *refs = wire_task_refs(m, &n);
    const struct wire_val *vals = wire_task_args(m, &nvals);

    for (uint32_t i = 0; i <= r->job.dep_count; i++)
        if (r->views[i].pin) {
            core_unpin(c, r->views[i].pin);
            r->views[i].pin = 0;
        }
    objects_apply_drops(c);
    for (uint32_t i = 0; i < n; i++)
        if (unhold_kept(c, r, &refs[i])) kept[k++] = refs[i];
    if (vals->kind == VAL_ARENA && unhold_kept(c, r, &vals->id)) kept[k++] = vals->id;
    vals = wire_task_deps(m, &nvals);
    for (uint32_t i = 0; i < nvals; i++)
        if (vals[i].kind == VAL_ARENA && unhold_kept(c, r, &vals[i].id)) kept[k++] = vals[i].id;
    return k;
}

/* ---- results ---- */

/* Fill vals: small ones get their place in the frame's data, large ones go to our extents. */
static int place_values(struct core *c, struct core_job *job, const struct core_value *values,
                        uint32_t count, struct wire_val *vals) {
    uint32_t off = 0, ref0 = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t size = value_size(&values[i]);
        struct skate_id id = id_with_index(job->task, i + 1);

        if (size <= LIMIT_INLINE_VALUE || job->kind == 2)
            vals[i] = (struct wire_val){.kind = VAL_INLINE, .format = values[i].format,
                                        .flags = values[i].flags, .off = off, .id = id,
                                        .len = (uint32_t)size, .size = size};
        else {
            int r;

            c->trouble.text[0] = 0;
            do {
                r = c->lasting ? retire_store(c, &values[i], &id, &vals[i], &c->trouble)
                               : -SKATE_EFULL;
                if (r == -SKATE_EFULL) /* ours, then: only that can wait for room */
                    r = object_store(c, &values[i], &id, &vals[i], &c->trouble);
            } while (r == -SKATE_EFULL && restore_room(c, &c->trouble) == 0);
            if (r < 0) return r;
        }
        off += (vals[i].len + 63) & ~63u;
        vals[i].ref0 = ref0;
        vals[i].nref = values[i].ref_count;
        ref0 += values[i].ref_count;
    }
    return (int)off;
}

static void put_data(struct wire_buf *b, size_t field, const struct core_value *values,
                     const struct wire_val *vals, uint32_t count, uint32_t bytes) {
    uint8_t *room = count == 1 ? wire_room(b, field, vals->len) /* no gaps */
                               : wire_put(b, field, NULL, bytes);

    for (uint32_t i = 0; room && i < count; i++)
        if (vals[i].kind == VAL_INLINE) value_copy(room + vals[i].off, &values[i]);
}

static int send_ready(struct core *c, struct core_job *job, enum core_status status,
                      const struct core_value *values, const struct wire_val *vals,
                      uint32_t bytes) {
    struct wire_actor_ready *m;
    struct wire_buf b;
    int r;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_READY);
    m->actor = job->actor;
    m->proc = c->info.proc;
    m->incarnation = job->incarnation;
    m->pid = (uint32_t)c->pid;
    m->status = status == CORE_OK ? 0 : -SKATE_EINVAL;
    if (status != CORE_OK) {
        WIRE_PUT(&b, actor_ready, error, vals, sizeof *vals);
        put_data(&b, offsetof(struct wire_actor_ready, data), values, vals, 1, bytes);
    }
    r = wire_end(&b);
    if (r == 0) r = proc_send(c, SKATE_GCS, b.p, b.len, BELL_URGENT);
    wire_release(&b);
    return r;
}

static int send_result(struct core *c, struct run *run, enum core_status status,
                       const struct core_value *values, uint32_t count,
                       const struct wire_val *vals, uint32_t bytes) {
    const struct wire_task *task = (const void *)run->node->data;
    uint64_t stack[LIMIT_RING_FRAME / 8];
    struct link *l = run->link;
    struct wire_result *m;
    struct skate_id *kept, few[16];
    struct wire_buf b;
    uint32_t nkept, nrefs, total = 0;
    uint8_t *room;
    int r;

    for (uint32_t i = 0; i < count; i++) {
        object_pass_refs(c, values[i].refs, values[i].ref_count, l->heir ? l->heir : l->proc);
        total += values[i].ref_count;
    }
    (void)wire_task_refs(task, &nrefs);
    nrefs += run->job.dep_count + 1;
    kept = nrefs <= 16 ? few : malloc(nrefs * sizeof *kept);
    if (!kept) return -SKATE_ENOMEM;
    nkept = unhold_all(c, run, kept);
    wire_init(&b, stack, sizeof stack);
    m = WIRE_BEGIN_INLINE(&b, result, WIRE_RESULT);
    m->task = run->job.task;
    if (!run->ended_ns) run->ended_ns = time_now_ns();
    m->exec_ns = (uint64_t)(run->ended_ns - run->began_ns);
    m->status = status;
    m->queued = l->queued_runs;
    (void)WIRE_PUT_INLINE(&b, result, vals, vals, count * sizeof *vals);
    room = WIRE_PUT(&b, result, refs, NULL, total * sizeof *kept);
    for (uint32_t i = 0; room && i < count; i++)
        if (values[i].ref_count)
            memcpy(room + vals[i].ref0 * sizeof *kept, values[i].refs,
                   values[i].ref_count * sizeof *kept);
    WIRE_PUT(&b, result, kept, kept, nkept * sizeof *kept);
    put_data(&b, offsetof(struct wire_result, data), values, vals, count, bytes);
    r = wire_end(&b);
    if (r == 0)
        r = link_send(c, l, b.p, b.len,
                      l->queued_runs % REFILL_EVERY == 0 ? BELL_WANTED : BELL_QUIET, 0);
    wire_release(&b);
    if (kept != few) free(kept);
    for (uint32_t i = 0; r == -SKATE_EDEAD && i < count; i++) /* nobody wants it */
        if (vals[i].kind == VAL_ARENA) (void)heap_free(c->heap, vals[i].offset);
    return r == -SKATE_EDEAD ? 0 : r;
}

/* Cancelled while its arguments came, or while it ran in an actor: that is its result. */
static int answer_cancelled(struct core *c, struct run *r, const char *how) {
    uint32_t n = r->job.returns;
    struct core_value *values = calloc(n + 1, sizeof *values);
    struct wire_val *vals = calloc(n + 1, sizeof *vals);
    char text[200];
    struct core_part part = {text, 0, 1};
    int bytes;

    part.size = (uint64_t)cancel_text(&r->job.task, how, text, sizeof text);
    for (uint32_t i = 0; values && i < n; i++)
        values[i] = (struct core_value){.format = FORMAT_RAW, .flags = VAL_ERROR | VAL_SYSTEM,
                                        .part_count = 1, .parts = &part};
    bytes = values && vals ? place_values(c, &r->job, values, n, vals) : -SKATE_ENOMEM;
    if (bytes >= 0) bytes = send_result(c, r, CORE_CANCELLED, values, n, vals, (uint32_t)bytes);
    free(values);
    free(vals);
    cancel_over(c);
    return bytes < 0 ? bytes : 0;
}

int core_finish(struct core *c, struct core_job *job, enum core_status status,
                const struct core_value *values, uint32_t count) {
    struct run *run = job->frame;
    struct wire_val few[4], *vals = count <= 4 ? few : malloc(count * sizeof *vals);
    int bytes, r = core_enter(c);

    if (r < 0) return r;
    SKATE_ASSERT(c->groups || run == c->run_current);
    r = vals ? 0 : -SKATE_ENOMEM;
    if (run->cancelled && job->kind == 1 && status == CORE_OK) {
        r = bytes = answer_cancelled(c, run, "its actor was told while it ran");
        goto sent;
    }
    if (r == 0) r = bytes = place_values(c, job, values, count, vals);
    if (r >= 0) report_run_end(c, run, status);
    if (r >= 0 && job->kind == 2) {
        r = send_ready(c, job, status, values, vals, (uint32_t)bytes);
        (void)unhold_all(c, run, NULL);
    } else if (r >= 0)
        r = send_result(c, run, status, values, count, vals, (uint32_t)bytes);
sent:
    if (r < 0) { /* a full store: the caller reports that instead */
        core_leave(c);
        if (vals != few) free(vals);
        return r;
    }
    if (run->cancelled) cancel_over(c);
    if (run->yield) yield_done(c, run);
    if (c->watch_lent) watch_unlend(c);
    c->run_current = NULL;
    c->blocked_told = c->lasting = false;
    if (c->groups)
        groups_run_ended(c);
    else
        c->ended_ns = run->ended_ns;
    run_release(c, run);
    if (c->backlogs) link_flush(c);
    core_leave(c);
    if (vals != few) free(vals);
    return 0;
}

void core_trouble(struct core *c, struct skate_error *ret) {
    ret->text[0] = 0;
    if (core_enter(c) < 0) return;
    *ret = c->trouble;
    c->trouble.text[0] = 0;
    core_leave(c);
}

void core_exit_intended(struct core *c, uint32_t why, const char *reason) {
    uint64_t stack[160];
    struct wire_worker_exiting *m;
    struct wire_buf b;

    if (core_enter(c) < 0) return;
    for (int i = 0; c->backlogs && i < 1000; i++) { /* results first */
        pump(c);
        if (c->backlogs) {
            (void)pthread_mutex_unlock(&c->lock);
            (void)futex_wait(&c->bell->leader_bell, at_load(&c->bell->leader_bell), 1000000);
            (void)pthread_mutex_lock(&c->lock);
        }
    }
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_WORKER_EXITING);
    m->why = why;
    WIRE_PUT(&b, worker_exiting, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) (void)sock_send(c, b.p, b.len);
    wire_release(&b);
    core_leave(c);
}
