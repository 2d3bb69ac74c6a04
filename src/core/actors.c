/* actors.c - the caller's side of actors: creation, state, ordered calls, the last handle.
 *
 * The GCS owns an actor's life; this process subscribes when it first uses a handle. Calls queue
 * here in submission order and go to the actor's process in that order (a call whose arguments are
 * missing holds back the later ones). After a death, started calls count an attempt and unstarted
 * ones are sent again; what happens to them is decided when the GCS says restarting or dead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "core/core_int.h"

enum { ACTOR_PENDING, ACTOR_ALIVE, ACTOR_RESTARTING, ACTOR_DEAD, ACTOR_UNKNOWN };
enum { ACTOR_STARVED = 3 /* cause: ended for want of memory */ };
/* A handle may be here before the actor's creation is at the GCS, which came by another path. */
enum { ASK_MOST = 50 };
enum { WINDOW = 2000, WIDE_WINDOW = 1 << 16 }; /* calls in flight to one actor; that runs many */

static void subscribe(struct core *c, struct actor *a) {
    struct wire_actor_sub m = {
        .head = {.size = sizeof m, .kind = WIRE_ACTOR_SUB, .fixed = sizeof m}, .actor = a->id};

    if (a->subscribed) return;
    a->subscribed = true;
    (void)proc_send(c, SKATE_GCS, &m, sizeof m, BELL_URGENT);
}

/* The GCS forgot who wants to hear of which actor, or could not say it for a while. */
void actors_on_gcs_back(struct core *c) {
    for (uint32_t i = 0; i < c->actor_count; i++) {
        struct actor *a = c->actor_v[i];

        if (a->state == ACTOR_DEAD || !(a->owned || a->subscribed)) continue;
        a->subscribed = false;
        subscribe(c, a);
    }
}

static struct actor *actor_add(struct core *c, const struct skate_id *id) {
    struct actor **grown = realloc(c->actor_v, (c->actor_count + 1) * sizeof *grown);
    struct actor *a = calloc(1, sizeof *a);

    if (grown) c->actor_v = grown;
    if (!grown || !a || map_put(&c->actors, id, c->actor_count) < 0) return free(a), NULL;
    a->id = *id;
    a->head = a->tail = a->ctor = NONE;
    a->worker.cls = NONE;
    a->worker.head = a->worker.tail = NONE;
    c->actor_v[c->actor_count++] = a;
    return a;
}

/* The path to the process it had knows it no longer. */
static void lease_end(struct actor *a) {
    if (a->worker.link && a->worker.link->lease == &a->worker) a->worker.link->lease = NULL;
}

void actor_free(struct actor *a) {
    lease_end(a);
    free(a->reason);
    free(a->error);
    wire_release(&a->create);
    free(a);
}

struct actor *actor_get(struct core *c, const struct skate_id *id) {
    uint32_t i = map_get(&c->actors, id);
    struct actor *a = i == MAP_NONE ? actor_add(c, id) : c->actor_v[i];

    if (a && !a->owned) subscribe(c, a);
    return a;
}

void core_actor_calls(struct core *c, const struct skate_id *actor, bool unordered,
                      uint32_t max_pending) {
    struct actor *a;

    if (core_enter(c) < 0) return;
    a = actor_get(c, actor);
    if (a) {
        a->unordered = a->worker.patient = unordered; /* a call may wait for a later one */
        a->max_pending = max_pending;
    }
    core_leave(c);
}

bool actor_full(const struct actor *a) {
    return a->max_pending && a->queued + a->worker.inflight + a->unready >= a->max_pending;
}

void core_actor_state(struct core *c, const struct skate_id *actor,
                      struct core_actor_state *ret) {
    struct actor *a;

    memset(ret, 0, sizeof *ret);
    if (core_enter(c) < 0) return;
    a = actor_get(c, actor);
    if (a) {
        ret->state = a->state;
        ret->pid = a->pid;
        ret->restarts = a->restarts;
        ret->proc = a->worker.proc;
        if (a->reason) (void)snprintf(ret->reason, sizeof ret->reason, "%s", a->reason);
    }
    core_leave(c);
}

static void became_dead(struct core *c, struct actor *a);

/* ---- creation ---- */

/* All of the frame but the constructor's spec. */
static int create_frame(struct core *c, const struct core_actor *in, const struct skate_id *id,
                        struct wire_buf *b) {
    struct skate_id key = map_key(in->fn);
    uint32_t i = map_get(&c->functions, &key), n, len;
    struct wire_actor_create *m;
    const struct wire_func *f;
    struct wire_val val;
    struct core_view view;
    const void *bytes;

    if (i == MAP_NONE) return -SKATE_ENOENT;
    f = (const void *)c->function_v[i].frame->data;
    val = *wire_func_value(f, &n);
    bytes = wire_func_data(f, &len);
    if (val.kind == VAL_ARENA) { /* the GCS keeps the class itself */
        uint32_t slot = object_find(c, &val.id);

        if (slot == MAP_NONE || !object_ready(c, slot) || view_wait(c, slot, &view) < 0)
            return -SKATE_ENOENT;
        core_unpin(c, view.pin);
        bytes = view.data; /* pinned until the next pump */
        if (val.size != c->ledger.slots[slot].size) return -SKATE_ENOENT;
        val = (struct wire_val){.kind = VAL_INLINE, .format = val.format,
                                .len = (uint32_t)val.size, .size = val.size};
    }
    m = wire_begin(b, WIRE_ACTOR_CREATE);
    m->actor = *id;
    m->owner = c->info.proc;
    m->job = c->info.job;
    m->flags = (in->detached ? 1u : 0) | (in->get_if_exists ? 2u : 0);
    m->max_restarts = in->max_restarts;
    m->max_task_retries = in->max_task_retries;
    m->strategy = in->strategy;
    m->max_concurrency = in->max_concurrency;
    m->affinity = in->affinity;
    m->group = in->place.group;
    m->bundle = in->place.bundle;
    m->capture = in->place.capture;
    WIRE_PUT(b, actor_create, name, in->name, strlen(in->name));
    WIRE_PUT(b, actor_create, namespace, in->space, strlen(in->space));
    WIRE_PUT(b, actor_create, cls, in->cls, strlen(in->cls));
    WIRE_PUT(b, actor_create, held, in->held, in->held_len);
    WIRE_PUT(b, actor_create, placing, in->placing, in->placing_len);
    WIRE_PUT(b, actor_create, fn_value, &val, sizeof val);
    WIRE_PUT(b, actor_create, fn_data, bytes, val.len);
    WIRE_PUT(b, actor_create, env, in->env, in->env_len);
    if (in->labels) WIRE_PUT(b, actor_create, labels, in->labels, strlen(in->labels));
    return wire_end(b);
}

static bool ctor_settled(struct core *c, void *arg) {
    uint32_t *index = arg;

    (void)c;
    return task_get(c, *index)->missing == 0;
}

/* The answer of the GCS about a name: 0, 1 existed, or negative. */
static int create_named(struct core *c, struct wire_buf *b, struct skate_id *ret,
                        struct skate_error *err) {
    struct wire_actor_created *m;
    void *reply;
    uint32_t len, n;
    int r;

    core_leave(c);
    r = core_call(c, SKATE_GCS, b->p, b->len, INT64_C(60000000000), &reply, &len);
    if (core_enter(c) < 0) (void)pthread_mutex_lock(&c->lock);
    if (r < 0) return err_fail(err, r, "the GCS did not answer: %s", skate_strerror(r));
    m = reply;
    r = -SKATE_EPROTO;
    if (m->head.kind == WIRE_ACTOR_CREATED) {
        const char *text = wire_actor_created_reason(m, &n);

        r = m->status;
        if (r == 1) *ret = m->actor;
        if (r < 0) r = err_fail(err, r, "%.*s", (int)n, text);
    }
    free(reply);
    return r;
}

/* The constructor's arguments are there (or failed): complete the frame and send it. */
static int create_send(struct core *c, struct actor *a, bool named, struct skate_id *ret,
                       struct skate_error *err) {
    struct task *t = task_get(c, a->ctor);
    const struct wire_task *frame = task_spec(c, t);
    struct wire_buf spec;
    int r = 0;

    wire_init(&spec, NULL, 0);
    if (t->dep_count) {
        r = task_frame(c, a->ctor, &spec);
        frame = (const void *)spec.p;
    }
    if (r == 0) WIRE_PUT(&a->create, actor_create, spec, frame, frame->head.size);
    if (r == 0) r = wire_end(&a->create);
    if (r == 0 && named)
        r = create_named(c, &a->create, ret, err);
    else if (r == 0) {
        ((struct wire_head *)(void *)a->create.p)->call = ++c->next_call;
        r = proc_send(c, SKATE_GCS, a->create.p, a->create.len, BELL_URGENT);
    }
    wire_release(&spec);
    wire_release(&a->create);
    return r;
}

static void never_created(struct core *c, struct actor *a, const char *reason) {
    a->state = ACTOR_DEAD;
    if (!a->reason) a->reason = strdup(reason);
    wire_release(&a->create);
    became_dead(c, a);
}

/* The dependencies of a constructor are settled: a named creation waits for it in its thread. */
void actor_create_ready(struct core *c, uint32_t index) {
    struct actor *a = actor_get(c, &task_get(c, index)->id);

    if (!a || a->named) return;
    c->waiting--;
    if (task_dep_failed(c, index))
        never_created(c, a, "an argument of its constructor failed");
    else if (create_send(c, a, false, NULL, NULL) < 0)
        never_created(c, a, "its creation could not be sent");
}

int core_actor_create(struct core *c, const struct core_actor *in, struct skate_id *ret_actor,
                      struct skate_error *err) {
    struct core_task ctor = {.fn = in->fn, .args = in->args, .deps = in->deps,
                             .dep_count = in->dep_count, .name = in->cls, .method = "__init__"};
    struct skate_id id, existing = {0, 0};
    struct actor *a;
    uint32_t slot;
    int r = core_enter(c);

    if (r < 0) return r;
    id = (struct skate_id){c->info.proc, ++c->next_seq << 16 | SKATE_INDEX_TASK};
    ctor.actor = id;
    a = actor_add(c, &id);
    slot = a ? object_make(c, &id) : NONE;
    if (slot == NONE) return core_leave(c), -SKATE_ENOMEM;
    c->object_v[slot].local = 1;
    a->owned = a->subscribed = true; /* the GCS tells the creator without being asked */
    a->flags = in->detached;
    a->named = in->name[0] != 0;
    wire_init(&a->create, NULL, 0);
    r = create_frame(c, in, &id, &a->create);
    if (r == 0) r = task_new(c, &ctor, 2, &a->ctor, err);
    if (r == 0) {
        uint32_t index = a->ctor; /* its arguments stay held for restarts, until it is dead */

        if (a->named && task_get(c, index)->missing)
            r = pump_until(c, ctor_settled, &index, INT64_MAX, false);
        if (r == 0 && a->named && task_dep_failed(c, index))
            never_created(c, a, "an argument of its constructor failed");
        else if (r == 0 && a->named)
            r = create_send(c, a, true, &existing, err);
        else if (r == 0) {
            c->waiting++;
            if (task_get(c, index)->missing == 0) actor_create_ready(c, index);
        }
    }
    *ret_actor = r == 1 ? existing : id;
    if (r != 0) {
        never_created(c, a, "it was not created");
        core_ref_drop(c, &id);
    }
    core_leave(c);
    if (r == 1) core_ref_add(c, &existing);
    return r;
}

/* ---- calls ---- */

static void text_of(const struct actor *a, const char *kind, char *out, size_t cap) {
    if (a->state == ACTOR_DEAD && a->cause && a->cause != ACTOR_STARVED) {
        (void)snprintf(out, cap, "%s\n%s", a->cause == 1 ? "actor_pg_removed"
                                                         : "actor_unschedulable",
                       a->reason ? a->reason : "it can never be placed");
        return;
    }
    if (a->cause == ACTOR_STARVED) kind = a->state == ACTOR_DEAD ? "actor_oom" : "actor_oom_again";
    (void)snprintf(out, cap, "%s %016llx%016llx %d\n%s", kind,
                   (unsigned long long)__builtin_bswap64(a->id.owner),
                   (unsigned long long)__builtin_bswap64(a->id.seq), a->error != NULL,
                   a->reason ? a->reason : "the actor has ended");
}

/* Fail one call as the state of the actor says. */
static void call_fail(struct core *c, struct actor *a, uint32_t index, const char *kind) {
    char text[LIMIT_INLINE_VALUE];

    if (task_get(c, index)->cancelled) {
        (void)cancel_text(&task_get(c, index)->id, "its actor died meanwhile", text, sizeof text);
        task_fail(c, index, text);
        return;
    }
    if (a->state == ACTOR_DEAD && a->error) {
        const struct wire_actor_state *m = (const void *)a->error->data;
        uint32_t n, len;
        const struct wire_val *v = wire_actor_state_error(m, &n);
        const uint8_t *data = wire_actor_state_data(m, &len);

        if (n == 1 && wire_check_vals(v, 1, len, 0) == 0 && v->kind == VAL_INLINE) {
            task_fail_like(c, index, v, data + v->off);
            return;
        }
    }
    text_of(a, kind, text, sizeof text);
    task_fail(c, index, text);
}

void actor_enqueue(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    struct wire_task *m = task_spec(c, t);
    struct actor *a = actor_get(c, &m->actor);

    SKATE_ASSERT(a); /* core_submit made it */
    if (a->unordered && t->missing) { /* others go first: task_dep_ready sends it here again */
        a->unready++;
        return;
    }
    if (t->state == TASK_PUSHED) { /* tried again after an exception: to the end */
        t->state = TASK_QUEUED;
    } else {
        m->seq = ++a->seq;
        t->state = TASK_QUEUED;
    }
    t->next = NONE;
    if (a->head == NONE)
        a->head = index;
    else
        task_get(c, a->tail)->next = index;
    a->tail = index;
    a->queued++;
    actor_flush(c, a);
}

/* A call whose arguments were missing has ended without them. */
void actor_call_dropped(struct core *c, const struct skate_id *actor) {
    struct actor *a = actor_get(c, actor);

    if (a && a->unready) a->unready--;
}

/* The last argument of a call is there. */
void actor_call_ready(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    const struct wire_task *m = task_spec(c, t);
    struct actor *a = actor_get(c, &m->actor);

    if (t->state == TASK_DEPS) {
        if (a && a->unready) a->unready--;
        actor_enqueue(c, index);
    } else
        actor_flush(c, a);
}

void actor_call_done(struct core *c, struct actor *a) {
    if (a->queued) actor_flush(c, a);
}

/* Take a call out of the queue of its actor; false: it is not there. */
bool actor_unqueue(struct core *c, uint32_t index) {
    const struct wire_task *m = task_spec(c, task_get(c, index));
    struct actor *a = actor_get(c, &m->actor);
    uint32_t before = NONE, at = a ? a->head : NONE;

    for (; at != NONE && at != index; at = task_get(c, at)->next) before = at;
    if (at == NONE) return false;
    if (before == NONE)
        a->head = task_get(c, at)->next;
    else
        task_get(c, before)->next = task_get(c, at)->next;
    if (a->tail == at) a->tail = before;
    a->queued--;
    return true;
}

static void pop(struct core *c, struct actor *a) {
    a->head = task_get(c, a->head)->next;
    if (a->head == NONE) a->tail = NONE;
    a->queued--;
}

void actor_flush(struct core *c, struct actor *a) {
    if (!a) return;
    while (a->head != NONE) {
        uint32_t index = a->head;
        struct task *t = task_get(c, index);
        int r;

        if (t->missing && a->state != ACTOR_DEAD) return; /* later calls wait too */
        if (a->state == ACTOR_DEAD) {
            pop(c, a);
            c->waiting--;
            call_fail(c, a, index, "actor_died");
            continue;
        }
        if (t->dep_count && task_dep_failed(c, index)) {
            pop(c, a);
            c->waiting--;
            (void)task_fail_dep(c, index);
            continue;
        }
        if (a->state != ACTOR_ALIVE || a->unsettled) return;
        if (a->worker.inflight >= (a->unordered ? WIDE_WINDOW : WINDOW)) return;
        pop(c, a);
        r = task_push(c, index, &a->worker);
        if (r < 0) { /* room comes with the next result; a death with proc_died */
            if (r == -SKATE_EAGAIN && !a->worker.inflight) link_want_room(c, a->worker.link);
            task_get(c, index)->next = a->head;
            a->head = index;
            if (a->tail == NONE) a->tail = index;
            a->queued++;
            return;
        }
    }
}

/* ---- state ---- */

/* Calls that were on their way to a process that is gone. */
static void settle_inflight(struct core *c, struct actor *a) {
    struct worker *w = &a->worker;
    uint32_t at = w->head, n = w->inflight, again = NONE, again_tail = NONE;

    w->inflight = 0;
    w->head = w->tail = NONE;
    while (n-- > 0) {
        struct task *t = task_get(c, at);
        uint32_t next = t->next;

        if (a->state != ACTOR_DEAD && task_lost(c, at, t->sequence != 0)) {
            t->state = TASK_QUEUED;
            t->next = NONE;
            if (again == NONE)
                again = at;
            else
                task_get(c, again_tail)->next = at;
            again_tail = at;
            a->queued++;
            c->waiting++;
        } else
            call_fail(c, a, at, a->state == ACTOR_DEAD ? "actor_died" : "actor_unavailable");
        at = next;
    }
    if (again != NONE) { /* in front of what was not sent */
        task_get(c, again_tail)->next = a->head;
        if (a->head == NONE) a->tail = again_tail;
        a->head = again;
    }
    a->unsettled = false;
}

static void became_dead(struct core *c, struct actor *a) {
    c->sweep.dirty = true;
    settle_inflight(c, a);
    actor_flush(c, a);
    if (a->ctor != NONE) {
        uint32_t index = a->ctor;

        a->ctor = NONE;
        task_end(c, index);
    }
}

void actors_on_state(struct core *c, const struct wire_actor_state *m) {
    uint32_t i = map_get(&c->actors, &m->actor), n;
    const char *reason = wire_actor_state_reason(m, &n);
    struct actor *a;

    if (i == MAP_NONE) return;
    a = c->actor_v[i];
    if (a->state == ACTOR_DEAD || m->incarnation < a->incarnation) return;
    if (m->state == ACTOR_UNKNOWN && a->owned) return; /* the creation is on its way */
    if (m->state == ACTOR_UNKNOWN && a->asked++ < ASK_MOST) {
        a->subscribed = false;
        subscribe(c, a);
        return;
    }
    a->pid = m->pid;
    a->restarts = m->restarts;
    a->cause = m->cause;
    if (n) {
        free(a->reason);
        a->reason = strndup(reason, n);
    }
    if (m->error.len && !a->error) a->error = frame_keep(0, m, m->head.size);
    a->state = m->state == ACTOR_UNKNOWN ? ACTOR_DEAD : m->state;
    if (a->state == ACTOR_DEAD) {
        became_dead(c, a);
    } else if (a->state == ACTOR_RESTARTING) {
        a->incarnation = m->incarnation;
        if (a->worker.proc) settle_inflight(c, a);
    } else if (a->state == ACTOR_ALIVE) {
        if (a->worker.inflight && a->worker.proc != m->proc) settle_inflight(c, a);
        a->incarnation = m->incarnation;
        lease_end(a);
        a->worker.proc = m->proc;
        a->worker.link = link_get(c, m->proc);
        if (a->worker.link) a->worker.link->lease = &a->worker;
        a->unsettled = a->worker.link && a->worker.link->death;
        if (a->worker.link) actor_flush(c, a);
    }
}

void actors_on_created(struct core *c, const struct wire_actor_created *m) {
    uint32_t i = map_get(&c->actors, &m->actor), n;
    const char *reason = wire_actor_created_reason(m, &n);
    struct actor *a;

    if (i == MAP_NONE || m->status >= 0) return;
    a = c->actor_v[i];
    if (a->state == ACTOR_DEAD) return;
    a->state = ACTOR_DEAD;
    free(a->reason);
    a->reason = strndup(reason, n);
    became_dead(c, a);
}

/* The process of an actor ended: which calls had it started? The rest waits for the GCS. */
void actors_on_died(struct core *c, uint64_t proc) {
    for (uint32_t i = 0; i < c->actor_count; i++) {
        struct actor *a = c->actor_v[i];
        struct link *l = a->worker.link;
        uint64_t started = UINT64_MAX;
        uint32_t at = a->worker.head;

        if (a->worker.proc != proc) continue;
        if (l && l->state == LINK_OPEN) started = at_load_acquire(&l->out.shared->started);
        for (uint32_t n = a->worker.inflight; n > 0; n--) {
            struct task *t = task_get(c, at);

            if (t->sequence > started) t->sequence = 0; /* never started: no attempt counted */
            at = t->next;
        }
        a->unsettled = true;
        if (a->state == ACTOR_DEAD) settle_inflight(c, a);
    }
}

void actor_handles_gone(struct core *c, const struct skate_id *id) {
    struct wire_actor_unused m = {
        .head = {.size = sizeof m, .kind = WIRE_ACTOR_UNUSED, .fixed = sizeof m}, .actor = *id};
    uint32_t i = map_get(&c->actors, id);
    struct actor *a = i == MAP_NONE ? NULL : c->actor_v[i];

    if (!a || a->unused_sent || a->state == ACTOR_DEAD || a->flags) return;
    a->unused_sent = true;
    (void)proc_send(c, SKATE_GCS, &m, sizeof m, BELL_URGENT);
}
