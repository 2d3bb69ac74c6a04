/* native_loop.c - a worker without Python: join the node, run what comes, until it is over.
 *
 * One thread does all of it (the core has one more). Functions are found by key once; then a task
 * costs no lookup but the key's, no malloc and no clock here.
 * Tests: tests/e2e/test_native_worker.py. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cancel.h"
#include "core/core_async.h"
#include "core/inspect.h"
#include "native/native_int.h"
#include "native/native_main.h"
#include "wire/frame.h"

enum { SOCKET = 3, FUNCTIONS_FIRST = 64, EXIT_ACTOR = 1 };

static volatile sig_atomic_t interrupted;

/* It only ends a blocking call of the task; the core tells whether the task is meant. */
static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

bool native_interrupted(struct native_worker *w) {
    if (!interrupted) return false;
    interrupted = 0;
    return core_cancelled(w->c);
}

/* ---- functions ---- */

/* ["c", library, name] or ["c_actor", library, name] */
static bool read_definition(struct native_worker *w, const skate_value *v, bool actor,
                            char library[LIBRARY_NAME_MAX + 1], char name[ENTRY_NAME_MAX + 1]) {
    const skate_value *items = v->as.list.items;
    const char *want = actor ? "c_actor" : "c";

    if (v->kind != SKATE_LIST || v->as.list.count != 3 || items[0].kind != SKATE_STR ||
        items[1].kind != SKATE_STR || items[2].kind != SKATE_STR ||
        strcmp(items[0].as.s.data, want) != 0)
        return fault_set(&w->task, "TypeError", "this worker runs C code, and what it was given is "
                         "no %s of a shared library", actor ? "actor class" : "task"), false;
    if (items[1].as.s.size > LIBRARY_NAME_MAX || items[2].as.s.size > ENTRY_NAME_MAX)
        return fault_set(&w->task, "ValueError", "the name of a library has up to %d bytes, that "
                         "of a task or class up to %d", LIBRARY_NAME_MAX, ENTRY_NAME_MAX), false;
    memcpy(library, items[1].as.s.data, items[1].as.s.size + 1);
    memcpy(name, items[2].as.s.data, items[2].as.s.size + 1);
    return true;
}

bool function_named(struct native_worker *w, struct core_job *job, bool actor,
                    char library[LIBRARY_NAME_MAX + 1], char name[ENTRY_NAME_MAX + 1]) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));
    struct core_view view;
    skate_value v;
    bool ok;
    int r;

    do r = core_function(w->c, job, job->fn, copy, &view);
    while (r == -SKATE_EINTR && !native_interrupted(w));
    if (r == 0) r = plain_decode(w->c, &view, NULL, &v);
    if (r < 0) {
        (void)fault_set(&w->task, "RuntimeError", "the function's definition cannot be read: %s",
                        skate_strerror(r));
        return false;
    }
    ok = read_definition(w, &v, actor, library, name);
    plain_release(w->c, &v);
    return ok;
}

static struct native_function *slot_of(struct native_worker *w, uint64_t key) {
    uint32_t at = (uint32_t)(key ^ key >> 32) & w->function_mask;

    while (w->functions[at].key && w->functions[at].key != key) at = (at + 1) & w->function_mask;
    return &w->functions[at];
}

static void functions_grow(struct native_worker *w) {
    uint32_t size = w->functions ? (w->function_mask + 1) * 2 : FUNCTIONS_FIRST;
    struct native_function *old = w->functions, *grown = calloc(size, sizeof *grown);
    uint32_t count = w->functions ? w->function_mask + 1 : 0;

    if (!grown) return; /* not kept: looked up each time */
    w->functions = grown;
    w->function_mask = size - 1;
    for (uint32_t i = 0; i < count; i++)
        if (old[i].key) *slot_of(w, old[i].key) = old[i];
    free(old);
}

static const struct skate_entry *load(struct native_worker *w, struct core_job *job) {
    char library[LIBRARY_NAME_MAX + 1], name[ENTRY_NAME_MAX + 1];
    const struct skate_entry *e = NULL;
    struct entry_error err = {NULL, {{0}}};
    struct library *l;

    if (!function_named(w, job, false, library, name)) return NULL;
    l = entries_library(library, &err);
    if (l) e = entries_task(l, name, &err);
    if (!e) (void)fault_set(&w->task, err.type, "%s", err.text.text);
    return e;
}

static const struct skate_entry *function_of(struct native_worker *w, struct core_job *job) {
    uint64_t key = job->fn;
    const struct skate_entry *e;

    if (w->last && w->last_key == key) return w->last;
    if (w->functions && slot_of(w, key)->key == key) {
        e = slot_of(w, key)->entry;
    } else {
        e = load(w, job);
        if (!e || key == 0) return e;
        if (!w->functions || 2 * w->function_count > w->function_mask) functions_grow(w);
        if (!w->functions || 2 * w->function_count > w->function_mask + 1) return e;
        *slot_of(w, key) = (struct native_function){key, e};
        w->function_count++;
    }
    w->last = e;
    w->last_key = key;
    return e;
}

/* ---- one job ---- */

/* A dependency that is an error is the error of the call. */
static bool failed_dep(struct native_worker *w, struct core_job *job) {
    for (uint32_t i = 0; i < job->dep_count; i++) {
        const struct core_view *d = &job->deps[i];
        struct core_part part = {d->data, d->size, 8};
        struct core_value v = {.format = d->format, .flags = d->flags, .part_count = 1,
                               .parts = &part}, *values;
        uint32_t n = job->kind == 2 ? 1 : job->returns;

        if (!(d->flags & VAL_ERROR)) continue;
        values = calloc(n ? n : 1, sizeof *values);
        for (uint32_t k = 0; values && k < n; k++) values[k] = v;
        if (!values || finish_job(w, job, CORE_ERROR, values, n) < 0) {
            (void)fault_set(&w->task, "RuntimeError", "an argument of the call is an error");
            (void)fault_finish(w, job, &w->task.fault);
        }
        free(values);
        return true;
    }
    return false;
}

static bool take_args(struct skate_task *t, struct core_job *job) {
    int r = plain_args_open(&t->args, t->w->c, &job->args, job->deps, job->dep_count);

    if (r == -SKATE_ETYPE)
        (void)fault_set(t, "TypeError", "the arguments were pickled by Python: C takes None, bool, "
                        "int, float, str, bytes, lists, dicts, refs, arrays and Arrow tables");
    else if (r < 0)
        (void)fault_set(t, "ValueError", "the arguments cannot be read: %s", skate_strerror(r));
    return r == 0;
}

int native_end_call(struct skate_task *t, int code) {
    if (code != 0) fault_of_code(t, code);
    return t->fault.set ? -SKATE_ETASK : 0;
}

static void run_task(struct native_worker *w, struct core_job *job) {
    const struct skate_entry *e = function_of(w, job);
    struct skate_task *t = &w->task;

    if (e) {
        t->what = e->name;
        core_mark(job, 0);
        (void)native_end_call(t, e->run(t));
        core_mark(job, 1);
    }
    out_flush();
    if (interrupted && native_interrupted(w))
        (void)finish_cancelled(w, job);
    else if (t->fault.set)
        (void)fault_finish(w, job, &t->fault);
    else
        (void)results_finish(w, job);
}

static void tell_lease(struct native_worker *w) {
    struct core_bundle place;
    char gpus[256];

    if (core_lease(w->c, &place, gpus, sizeof gpus) && gpus[0])
        (void)setenv("CUDA_VISIBLE_DEVICES", gpus, 1);
}

static void run_job(struct native_worker *w, struct core_job *job) {
    struct skate_task *t = &w->task;

    api_forget();
    t->job = job;
    t->skip = t->given = 0;
    t->index = 0;
    t->batch = NULL;
    t->leaving = t->quiet = t->fault.set = t->fault.cancelled = false;
    t->what = job->kind == 1 ? job->method : job->name;
    out_name(w->cls ? w->cls->entry->name : job->name);
    if (job->new_lease) tell_lease(w);
    if (job->dep_count && failed_dep(w, job)) return;
    if (job->flags & (CORE_STREAM | CORE_DYNAMIC))
        (void)fault_set(t, "ValueError", "a C task gives its results at its end: it is no "
                        "generator, num_returns must be a number");
    if (t->fault.set || !take_args(t, job)) {
        (void)fault_finish(w, job, &t->fault);
        return;
    }
    if (job->kind == 0)
        run_task(w, job);
    else if (job->kind == 1)
        actor_method(w, job);
    else
        actor_construct(w, job);
    plain_args_close(&t->args, w->c);
    if (t->given) results_drop(w, t->given);
}

/* ---- its life ---- */

/* The job's settings: where it runs, and the namespace of its actors. */
static void take_config(struct native_worker *w, char *space, size_t cap) {
    const struct core_info *i = core_get_info(w->c);
    const uint8_t *config = i->config;
    struct core_view view = {.data = config + 64, .format = config ? config[0] : 0};
    const skate_value *found;
    skate_value v;

    space[0] = 0;
    if (i->config_len < 64) return;
    view.size = i->config_len - 64;
    if (plain_decode(w->c, &view, NULL, &v) < 0) return;
    found = skate_map_find(&v, "cwd");
    if (found && found->kind == SKATE_STR && chdir(found->as.s.data) < 0) {} /* another machine */
    found = skate_map_find(&v, "namespace");
    if (found && found->kind == SKATE_STR) (void)snprintf(space, cap, "%s", found->as.s.data);
    plain_release(w->c, &v);
}

static void take_signals(struct native_worker *w) {
    struct sigaction a = {.sa_handler = on_interrupt}; /* no SA_RESTART: it is to interrupt */

    (void)sigemptyset(&a.sa_mask);
    (void)sigaction(SIGRTMAX - 3, &a, NULL);
    core_interrupt_signal(w->c, SIGRTMAX - 3);
    (void)signal(SIGPIPE, SIG_IGN);
}

static int serve(struct native_worker *w) {
    while (!w->exiting) {
        struct core_job *job;
        int r = core_next(w->c, &job);

        if (r == -SKATE_EINTR) continue;
        if (r < 0) break;
        run_job(w, job);
    }
    actor_end(w);
    out_name("");
    out_flush();
    if (w->exiting)
        core_exit_intended(w->c, EXIT_ACTOR, "the actor ended itself: exit_actor() was called");
    out_close();
    return 0;
}

int skate_native_main(void) {
    static struct native_worker worker; /* large: its task holds room for an error */
    struct native_worker *w = &worker;
    struct skate_error err = {{0}};
    char space[128];
    int r = core_attach(SOCKET, &w->c, &err);

    if (r < 0) {
        (void)fprintf(stderr, "skate-worker: it cannot join its node: %s\n",
                      err.text[0] ? err.text : skate_strerror(r));
        return 1;
    }
    w->task.w = w;
    w->task.what = "?";
    take_config(w, space, sizeof space);
    r = api_wrap(w->c, space, &w->session);
    if (r < 0) return 1;
    out_open();
    take_signals(w);
    return serve(w);
}
