/* native_actor.c - this process as an actor: its own instance, and the many that it was asked for.
 *
 * Number 0 is the instance that the actor was made for; others are spawned by a reserved method and
 * reached by others (docs/design/0003-native.md). One call runs at a time. What a message says
 * (numbers, counts, bytes of a batch) is checked; a false one is an error of that call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "native/batch.h"
#include "native/native_int.h"
#include "wire/frame.h"

/* ---- one call ---- */

static void *self_new(size_t bytes, void **ret_memory) {
    if (bytes > SIZE_MAX / 2) return NULL;
    *ret_memory = calloc(1, bytes + 64);
    return *ret_memory ? (void *)(((uintptr_t)*ret_memory + 63) & ~(uintptr_t)63) : NULL;
}

static int construct(struct skate_task *t, const struct native_class *k, void *self) {
    int r = 0;

    if (!k->entry->construct) return 0;
    t->quiet = true;
    r = native_end_call(t, k->entry->construct(t, self));
    t->quiet = false;
    return r;
}

static const struct native_method *method_of(struct skate_task *t, const struct native_class *k,
                                             const char *name, size_t len) {
    const struct native_method *m = class_method(k, name, len);
    char known[600];

    if (m) return m;
    class_methods(k, known, sizeof known);
    (void)fault_set(t, "AttributeError", "%.100s has no method '%.*s'; it has: %s", k->entry->name,
                    (int)(len < 100 ? len : 100), name, known);
    return NULL;
}

static void end_instance(struct native_worker *w, uint64_t index, const struct native_class *k,
                         void *self) {
    if (k->entry->destroy) k->entry->destroy(self);
    (void)instances_end(&w->instances, index);
}

/* The call asked that its instance end. */
static void leave(struct native_worker *w, struct skate_task *t, const struct native_class *k,
                  void *self) {
    t->leaving = false;
    if (t->index)
        end_instance(w, t->index, k, self);
    else
        w->exiting = true;
}

static void *instance_of(struct native_worker *w, uint64_t index, const struct native_class **k) {
    const void *cls = w->cls;
    void *self = index ? instances_find(&w->instances, index, &cls) : w->self;

    *k = cls;
    if (self) return self;
    (void)fault_set(&w->task, "LookupError", "actor %llu of this process does not live: it has "
                    "ended, or was never made", (unsigned long long)index);
    return NULL;
}

static void call_instance(struct native_worker *w, uint64_t index, const char *name, size_t len) {
    const struct native_class *k;
    const struct native_method *m;
    struct skate_task *t = &w->task;
    void *self = instance_of(w, index, &k);

    if (!self) return;
    t->index = index;
    m = method_of(t, k, name, len);
    if (!m) return;
    t->what = m->name;
    (void)native_end_call(t, m->run(t, self));
    if (t->leaving) leave(w, t, k, self);
}

/* ---- the reserved methods ---- */

/* Argument i as an int or a text; a false one is the call's fault. */
static bool number(struct skate_task *t, uint32_t i, uint64_t *ret) {
    if (i < t->args.count && t->args.v[i].kind == SKATE_INT) {
        *ret = (uint64_t)t->args.v[i].as.i;
        return true;
    }
    return fault_set(t, "TypeError", "malformed call of a native actor: argument %u is no int", i),
           false;
}

static const skate_value *text(struct skate_task *t, uint32_t i, uint32_t kind) {
    if (i < t->args.count && t->args.v[i].kind == kind) return &t->args.v[i];
    (void)fault_set(t, "TypeError", "malformed call of a native actor: argument %u is no %s", i,
                    kind == SKATE_STR ? "str" : "bytes");
    return NULL;
}

/* The first `made` of them, and their numbers, are taken back. */
static void unspawn(struct native_worker *w, const struct native_class *k, uint64_t first,
                    uint64_t count, uint64_t made) {
    for (uint64_t i = 0; k->entry->destroy && i < made; i++)
        k->entry->destroy(instances_state(&w->instances, first + i));
    instances_undo(&w->instances, first, count);
}

static int add_instances(struct native_worker *w, const struct native_class *k, uint64_t first,
                         uint64_t count) {
    int r = instances_add(&w->instances, first, count, k, k->entry->self_bytes);

    switch (-r) {
    case 0: return 0;
    case SKATE_EFULL:
        return fault_set(&w->task, "MemoryError", "no room for %llu more actors of %zu bytes in "
                         "this process, which has %llu: make another one",
                         (unsigned long long)count, k->entry->self_bytes,
                         (unsigned long long)w->instances.count);
    case SKATE_EEXIST:
        return fault_set(&w->task, "ValueError", "an actor of the number %llu or behind it is "
                         "there already", (unsigned long long)first);
    case SKATE_EINVAL:
        return fault_set(&w->task, "ValueError", "%llu actors from number %llu on cannot be made",
                         (unsigned long long)count, (unsigned long long)first);
    default: return fault_set(&w->task, "MemoryError", "out of memory");
    }
}

static void spawn(struct native_worker *w) {
    struct skate_task *t = &w->task;
    const skate_value *name = text(t, 0, SKATE_STR);
    struct entry_error err = {NULL, {{0}}};
    const struct native_class *k;
    uint64_t first, count;

    if (!name || !number(t, 1, &first) || !number(t, 2, &count)) return;
    k = entries_class(w->cls->library, name->as.s.data, &err);
    if (!k) {
        (void)fault_set(t, err.type, "%s", err.text.text);
        return;
    }
    if (count == 0 || add_instances(w, k, first, count) < 0) return;
    t->skip = 3;
    t->what = k->entry->name;
    for (uint64_t i = 0; i < count; i++) {
        t->index = first + i;
        if (construct(t, k, instances_state(&w->instances, first + i)) < 0) {
            unspawn(w, k, first, count, i);
            return;
        }
        instances_born(&w->instances, first + i);
    }
}

static void end_one(struct native_worker *w) {
    const struct native_class *k;
    const void *cls;
    uint64_t index;
    void *self;

    if (!number(&w->task, 0, &index)) return;
    self = index ? instances_find(&w->instances, index, &cls) : NULL;
    if (!self) return; /* it has ended before */
    k = cls;
    end_instance(w, index, k, self);
}

/* ---- batches ---- */

static bool put(struct plain_out *o, const void *bytes, size_t n) {
    uint8_t *p = plain_room(o, n);

    if (p) memcpy(p, bytes, n);
    return p != NULL;
}

/* {"error": "type: words"} in the place of the result. */
static bool put_fault(struct plain_out *o, const struct native_fault *f) {
    char words[ERROR_TYPE + ERROR_TEXT + 3];
    uint32_t n = (uint32_t)snprintf(words, sizeof words, "%s: %s", f->type, f->text);
    uint32_t big = __builtin_bswap32(n);

    return put(o, "\x81\xa5" "error\xdb", 8) && put(o, &big, 4) && put(o, words, n);
}

/* What one call after the other needs anew only when it changes. */
struct batch_run {
    const struct native_class *cls;
    const struct native_method *method; /* of cls */
};

static void batch_call(struct native_worker *w, struct batch_run *b,
                       const struct batch_call *call) {
    struct core_view view = {.data = call->args, .size = call->args_len, .format = FORMAT_MSGPACK};
    struct skate_task *t = &w->task;
    const struct native_class *k;
    void *self = instance_of(w, call->index, &k);
    int r;

    if (!self) return;
    if (k != b->cls || !b->method || b->method->len != call->method_len ||
        memcmp(b->method->name, call->method, call->method_len) != 0) {
        b->cls = k;
        b->method = method_of(t, k, call->method, call->method_len);
        if (!b->method) return;
    }
    t->what = b->method->name;
    t->index = call->index;
    r = plain_args_open(&t->args, w->c, &view, NULL, 0);
    if (r < 0) {
        (void)fault_set(t, "ValueError", "the arguments cannot be read: %s", skate_strerror(r));
        return;
    }
    (void)native_end_call(t, b->method->run(t, self));
    plain_args_close(&t->args, w->c);
    if (t->leaving) leave(w, t, k, self);
}

/* Run all, their results one behind the other in w->batch; how many, or negative. */
static int64_t batch_all(struct native_worker *w, struct batch *b) {
    struct skate_task *t = &w->task;
    struct plain_out *o = &w->batch;
    struct batch_call call, next;
    struct batch_run run = {NULL, NULL};
    int more = batch_next(b, &call);
    int64_t n = 0;

    for (; more > 0; n++, call = next) {
        size_t before = o->len;
        bool ok = true;

        more = batch_next(b, &next);
        if (more > 0) __builtin_prefetch(instances_state(&w->instances, next.index), 1);
        t->given = 0;
        t->fault.set = false;
        t->batch = o;
        batch_call(w, &run, &call);
        if (t->fault.set) {
            o->len = before;
            ok = put_fault(o, &t->fault);
        } else if (!t->given) {
            ok = put(o, "\xc0", 1);
        }
        if (!ok) return -SKATE_ENOMEM;
    }
    return more < 0 ? more : n;
}

/* True: the job is finished here. */
static bool batch(struct native_worker *w, struct core_job *job) {
    struct skate_task *t = &w->task;
    const skate_value *bytes = text(t, 0, SKATE_BYTES);
    struct plain_args outer = t->args;
    struct batch b;
    uint32_t count;
    int64_t n;

    if (!bytes) return false;
    if (batch_init(&b, bytes->as.s.data, bytes->as.s.size) < 0)
        return fault_set(t, "ValueError", "a batch has up to 64 MiB of arguments"), false;
    t->args = w->batch_args;
    plain_out_init(&w->batch);
    n = put(&w->batch, "\xdd\0\0\0\0", 5) ? batch_all(w, &b) : -SKATE_ENOMEM;
    w->batch_args = t->args;
    t->args = outer;
    t->batch = NULL;
    t->fault.set = false;
    t->given = 0;
    t->what = "a batch";
    if (n >= 0) {
        count = __builtin_bswap32((uint32_t)n);
        memcpy(w->batch.out + 1, &count, 4);
        plain_close(&w->batch);
        out_flush();
        n = finish_job(w, job, CORE_OK, &w->batch.v, 1);
    }
    plain_out_release(&w->batch, w->c);
    if (n < 0)
        (void)fault_set(t, n == -SKATE_EPROTO ? "ValueError" : "MemoryError",
                        "the batch cannot be run to its end: %s", skate_strerror((int)n));
    return n >= 0;
}

/* ---- jobs ---- */

/* A method that every actor has. True: it was one. */
static bool of_all(struct native_worker *w, struct core_job *job) {
    static const skate_value yes = {.kind = SKATE_BOOL, .as = {.b = true}};

    if (!strcmp(job->method, "__ray_ready__")) {
        (void)native_end_call(&w->task, skate_return(&w->task, &yes));
        return true;
    }
    if (strcmp(job->method, "__ray_terminate__") != 0) return false;
    w->exiting = true;
    return true;
}

/* True: the job is finished. */
static bool reserved(struct native_worker *w, struct core_job *job) {
    struct skate_task *t = &w->task;
    const char *name = job->method + 1;
    const skate_value *method;
    uint64_t index;

    t->what = name;
    if (!strcmp(name, "batch") && job->returns == 1) return batch(w, job);
    if (!strcmp(name, "spawn")) {
        spawn(w);
    } else if (!strcmp(name, "kill")) {
        end_one(w);
    } else if (!strcmp(name, "call")) {
        method = number(t, 0, &index) ? text(t, 1, SKATE_STR) : NULL;
        t->skip = 2;
        if (method) call_instance(w, index, method->as.s.data, method->as.s.size);
    } else
        (void)fault_set(t, "AttributeError", "a native actor has no reserved method '%.60s'", name);
    return false;
}

void actor_method(struct native_worker *w, struct core_job *job) {
    struct skate_task *t = &w->task;

    if (!w->cls) {
        (void)fault_set(t, "RuntimeError", "this process is no actor");
    } else if (job->method[0] == 1) {
        if (reserved(w, job)) return;
    } else if (!of_all(w, job)) {
        call_instance(w, 0, job->method, strlen(job->method));
    }
    out_flush();
    if (t->fault.set)
        (void)fault_finish(w, job, &t->fault);
    else
        (void)results_finish(w, job);
}

static void become(struct native_worker *w, struct core_job *job) {
    char library[LIBRARY_NAME_MAX + 1], name[ENTRY_NAME_MAX + 1];
    struct entry_error err = {NULL, {{0}}};
    const struct native_class *k = NULL;
    struct skate_task *t = &w->task;
    struct library *l;
    long pages = sysconf(_SC_PHYS_PAGES);

    if (!function_named(w, job, true, library, name)) return;
    l = entries_library(library, &err);
    if (l) k = entries_class(l, name, &err);
    if (!k) {
        (void)fault_set(t, err.type, "%s", err.text.text);
        return;
    }
    t->what = k->entry->name;
    out_name(k->entry->name);
    w->self = self_new(k->entry->self_bytes, &w->self_memory);
    if (!w->self) {
        (void)fault_set(t, "MemoryError", "no memory for an actor of %zu bytes",
                        k->entry->self_bytes);
        return;
    }
    w->actor = job->actor;
    if (construct(t, k, w->self) < 0) return;
    instances_init(&w->instances, (uint64_t)(pages > 0 ? pages : 1 << 18) * 4096);
    plain_out_init(&w->batch);
    w->cls = k;
}

void actor_construct(struct native_worker *w, struct core_job *job) {
    if (w->cls)
        (void)fault_set(&w->task, "RuntimeError", "this process is an actor already");
    else
        become(w, job);
    out_flush();
    if (w->task.fault.set)
        (void)fault_finish(w, job, &w->task.fault);
    else
        (void)finish_job(w, job, CORE_OK, native_nil(), 1);
}

void actor_end(struct native_worker *w) {
    uint64_t at = 0, index;
    const void *cls;
    void *self;

    if (!w->cls) return;
    while ((self = instances_next(&w->instances, &at, &index, &cls))) {
        const struct native_class *k = cls;

        if (k->entry->destroy) k->entry->destroy(self);
    }
    if (w->cls->entry->destroy) w->cls->entry->destroy(w->self);
}
