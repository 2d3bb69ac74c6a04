/* cancel.c - the end of tasks that nobody wants any more: the owner's side and the worker's.
 *
 * Owner: what is not pushed fails at once; what is pushed is marked (never to be tried again), and
 * its worker told, behind the task on the same path. Worker: what is queued is answered unstarted;
 * what runs is marked, and the executing thread gets a signal again and again until its handler has
 * taken the interrupt. An interrupt belongs to one run: with the run it ends, so that a late one
 * never meets the next task. A plain task that has not taken it GRACE_NS later (it is inside a C
 * call) costs the worker its process; an actor is never ended here. The core thread does all that
 * without the interpreter. Tests: tests/unit/core_cancel_test.c. */
#include "core/cancel.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/core_int.h"

#define GRACE_NS INT64_C(2000000000)
enum { CANCELS_MAX = 1 << 16 };

int cancel_text(const struct skate_id *task, const char *how, char *out, size_t cap) {
    return snprintf(out, cap, "task_cancelled %016llx%016llx\n%s",
                    (unsigned long long)__builtin_bswap64(task->owner),
                    (unsigned long long)__builtin_bswap64(task->seq), how);
}

/* ---- the owner ---- */

/* Its results become the error; it counts as waiting and lies in no list. */
void task_fail_cancelled(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    char text[160];

    (void)cancel_text(&t->id, t->cancelled ? "its worker was ended" : "it had not started", text,
                      sizeof text);
    c->waiting--;
    task_fail(c, index, text);
}

static bool lies_on(struct core *c, const struct worker *w, uint32_t index) {
    uint32_t at = w->head;

    for (uint32_t n = 0; n < w->inflight; n++, at = task_get(c, at)->next)
        if (at == index) return true;
    return false;
}

static struct link *link_of(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    const struct wire_task *m = task_spec(c, t);
    struct sched_class *k;
    struct actor *a;

    if (t->kind == 1) {
        a = actor_get(c, &m->actor);
        return a ? a->worker.link : NULL;
    }
    k = &c->classes[t->cls];
    for (uint32_t i = 0; i < k->worker_count; i++)
        if (lies_on(c, k->workers[i], index)) return k->workers[i]->link;
    return NULL;
}

static void tell(struct core *c, struct link *l, const struct skate_id *task, unsigned flags) {
    struct wire_cancel m = {.head = {.size = sizeof m, .kind = WIRE_CANCEL, .fixed = sizeof m},
                            .task = *task, .flags = flags};

    if (l) (void)link_send(c, l, &m, sizeof m, BELL_URGENT, 0);
}

static int task_cancel(struct core *c, uint32_t index, unsigned flags) {
    struct task *t = task_get(c, index);
    const struct wire_task *m = task_spec(c, t);
    struct skate_id actor = t->kind == 1 ? m->actor : t->id;
    bool call = t->kind == 1;

    if (t->kind == 2 || t->state == TASK_KEPT) return 0;
    if (call && (flags & CORE_CANCEL_FORCE)) return -SKATE_EINVAL;
    if (t->state == TASK_PUSHED) {
        t->cancelled = true;
        tell(c, link_of(c, index), &t->id, flags);
        return 0;
    }
    /* In no queue: a dependency of it has failed, and so does it, by the next dispatch. */
    if (t->state == TASK_QUEUED && !(call ? actor_unqueue(c, index) : class_unqueue(c, index)))
        return 0;
    if (call && t->state == TASK_DEPS) actor_call_dropped(c, &actor);
    task_fail_cancelled(c, index);
    if (call) actor_flush(c, actor_get(c, &actor)); /* it may have held back the later ones */
    return 0;
}

static void cancel_children(struct core *c, struct skate_id run, unsigned flags) {
    for (uint32_t i = 0; i < c->task_count; i++) {
        const struct task *t = task_get(c, i);
        struct skate_id parent;

        if (t->state == TASK_FREE || !t->has_parent) continue;
        parent = task_parent(c, t);
        if (!id_equal(&parent, &run)) continue;
        (void)task_cancel(c, i, t->kind == 1 ? flags & ~(unsigned)CORE_CANCEL_FORCE : flags);
    }
}

int core_cancel(struct core *c, const struct skate_id *object, unsigned flags) {
    struct skate_id task = id_with_index(*object, SKATE_INDEX_TASK);
    uint32_t index;
    int r = core_enter(c);

    if (r < 0) return r;
    if (c->dead)
        r = -SKATE_EDEAD;
    else if (task.owner != c->info.proc)
        tell(c, link_get(c, task.owner), &task, flags);
    else {
        if (!c->leader) pump(c); /* it may have ended just now */
        index = map_get(&c->tasks, &task);
        if (index != MAP_NONE) r = task_cancel(c, index, flags);
        if (c->dirty_classes) classes_dispatch(c);
    }
    core_leave(c);
    return r;
}

/* ---- the worker ---- */

__attribute__((noreturn)) static void end_process(struct core *c, const char *reason) {
    uint64_t stack[96];
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    (void)wire_begin(&b, WIRE_LAST_WORDS);
    WIRE_PUT(&b, last_words, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) (void)sock_send(c, b.p, b.len);
    (void)kill(getpid(), SIGKILL);
    for (;;) (void)pause();
}

static void end_for(struct core *c, const struct run *r, const char *how) {
    char reason[300];

    (void)snprintf(reason, sizeof reason, "the task %.100s that it ran was cancelled%s",
                   r->job.name ? r->job.name : "?", how);
    end_process(c, reason);
}

static void send_signal(struct core *c) {
    if (c->interrupt_signal && c->runner_known)
        (void)pthread_kill(c->runner, c->interrupt_signal);
}

static void run_cancel(struct core *c, struct run *r, unsigned flags) {
    bool plain = r->job.kind == 0;

    r->cancelled = true;
    if (flags & CORE_CANCEL_CHILDREN) cancel_children(c, r->job.task, flags);
    if (!plain) return; /* a call of an actor sees the flag */
    if (r->began_ns && (flags & CORE_CANCEL_FORCE)) end_for(c, r, " with force=True");
    c->interrupt = true;
    c->interrupt_since_ns = r->began_ns ? time_now_ns() : 0;
    send_signal(c);
}

/* A call of an actor that runs several at once: Python knows whether and where it runs. */
static void call_cancel(struct core *c, const struct skate_id *task, unsigned flags) {
    if (flags & CORE_CANCEL_CHILDREN) cancel_children(c, *task, flags);
    if (c->cancel_count == c->cancel_cap) {
        uint32_t cap = c->cancel_cap ? c->cancel_cap * 2 : 16;
        struct skate_id *grown = NULL;

        if (cap <= CANCELS_MAX) grown = realloc(c->cancels, cap * sizeof *grown);

        if (!grown) return; /* who wants it can say it again */
        c->cancels = grown;
        c->cancel_cap = cap;
    }
    c->cancels[c->cancel_count++] = *task;
    (void)pthread_cond_broadcast(&c->cond); /* core_serve() may wait behind another thread */
}

bool core_cancel_next(struct core *c, struct skate_id *ret) {
    bool some;

    if (core_enter(c) < 0) return false;
    some = c->cancel_count > 0;
    if (some) *ret = c->cancels[--c->cancel_count];
    core_leave(c);
    return some;
}

void cancel_on_frame(struct core *c, uint64_t src, const struct wire_cancel *m) {
    struct skate_id task = id_with_index(m->task, SKATE_INDEX_TASK);
    struct run *r = c->run_current;
    uint32_t index;

    if (task.owner == c->info.proc) { /* of a holder of the ref */
        index = map_get(&c->tasks, &task);
        if (index != MAP_NONE) (void)task_cancel(c, index, m->flags);
    } else if (runs_cancel(c, src, &task)) {
        return;
    } else if (c->groups) {
        call_cancel(c, &task, m->flags);
    } else if (r && r->link && r->link->proc == src &&
               id_equal(&((const struct wire_task *)(const void *)r->node->data)->task, &task)) {
        run_cancel(c, r, m->flags);
    }
}

void cancel_tick(struct core *c) {
    if (c->interrupt_since_ns && c->run_current &&
        time_now_ns() - c->interrupt_since_ns > GRACE_NS)
        end_for(c, c->run_current, ", and did not return from a call of C code within 2 s");
    send_signal(c);
}

void cancel_over(struct core *c) { c->interrupt = false; }

void core_interrupt_signal(struct core *c, int number) {
    if (core_enter(c) < 0) return;
    c->interrupt_signal = number;
    core_leave(c);
}

bool core_interrupt_take(struct core *c) {
    bool mine;

    if (core_enter(c) < 0) return false;
    mine = c->interrupt && c->run_current && c->run_current->began_ns &&
           pthread_equal(c->runner, pthread_self());
    if (mine) c->interrupt = false;
    core_leave(c);
    return mine;
}

bool core_cancelled(struct core *c) {
    bool yes;

    if (core_enter(c) < 0) return false;
    yes = c->run_current && c->run_current->cancelled;
    core_leave(c);
    return yes;
}
