/* native_error.c - how the errors of C tasks travel: the map that a Python task's error is, without
 * a pickled exception (docs/design/0003-native.md). The worker's thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "native/native_int.h"
#include "wire/frame.h"

int fault_set(struct skate_task *t, const char *type, const char *format, ...) {
    struct native_fault *f = &t->fault;
    va_list args;

    if (f->set) return -SKATE_ETASK; /* the first one counts */
    f->set = true;
    f->cancelled = false;
    (void)snprintf(f->type, sizeof f->type, "%s", type && *type ? type : "RuntimeError");
    va_start(args, format);
    (void)vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    utf8_make(f->type); /* Python reads UTF-8 only */
    utf8_make(f->text);
    return -SKATE_ETASK;
}

static const char *type_of(int code) {
    switch (-code) {
    case SKATE_ENOMEM: return "MemoryError";
    case SKATE_EINVAL:
    case SKATE_ETOOBIG: return "ValueError";
    case SKATE_ETIMEOUT: return "TimeoutError";
    case SKATE_ENOENT: return "LookupError";
    case SKATE_ETYPE: return "TypeError";
    case SKATE_ESYS:
    case SKATE_EIO: return "OSError";
    default: return "RuntimeError";
    }
}

void fault_of_code(struct skate_task *t, int code) {
    const char *words = skate_last_error();

    if (t->fault.set) return;
    if (code > 0) {
        (void)fault_set(t, "RuntimeError",
                        "%s returned %d: a task returns 0, or a negative code of skate/errors.h",
                        t->what, code);
        return;
    }
    if (code == -SKATE_ECANCELLED) t->fault.cancelled = true;
    (void)fault_set(t, type_of(code), "%s", *words ? words : skate_strerror(code));
}

int finish_job(struct native_worker *w, struct core_job *job, enum core_status status,
               const struct core_value *values, uint32_t count) {
    int r;

    do r = core_finish(w->c, job, status, values, count);
    while (r == -SKATE_EINTR);
    return r == -SKATE_ESHUTDOWN || r == -SKATE_EDEAD ? 0 : r; /* core_next says it next */
}

/* One value for all results. */
static int finish_with(struct native_worker *w, struct core_job *job, enum core_status status,
                       const struct core_value *v) {
    uint32_t count = job->kind == 2 ? 1 : job->returns;
    struct core_value *values = calloc(count ? count : 1, sizeof *values);
    int r = -SKATE_ENOMEM;

    for (uint32_t i = 0; values && i < count; i++) values[i] = *v;
    if (values) r = finish_job(w, job, status, values, count);
    free(values);
    return r;
}

/* A text of the core's own kinds: "kind\nwords". */
static int finish_system(struct native_worker *w, struct core_job *job, enum core_status status,
                         const char *text) {
    struct core_part part = {text, strlen(text), 1};
    struct core_value v = {.format = FORMAT_RAW, .flags = VAL_ERROR | VAL_SYSTEM, .part_count = 1,
                           .parts = &part};

    return finish_with(w, job, status, &v);
}

int finish_cancelled(struct native_worker *w, struct core_job *job) {
    char text[200];

    (void)snprintf(text, sizeof text,
                   "task_cancelled %016llx%016llx\nit was cancelled while it ran",
                   (unsigned long long)__builtin_bswap64(job->task.owner),
                   (unsigned long long)__builtin_bswap64(job->task.seq));
    return finish_system(w, job, CORE_CANCELLED, text);
}

static void hex(const void *data, size_t n, char *out) {
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i++) (void)snprintf(out + 2 * i, 3, "%02x", p[i]);
}

struct pairs {
    skate_value v[24];
    size_t count;
};

static void pair(struct pairs *p, const char *key, skate_value v) {
    p->v[2 * p->count] = skate_str(key);
    p->v[2 * p->count++ + 1] = v;
}

int fault_finish(struct native_worker *w, struct core_job *job, const struct native_fault *f) {
    char trace[ERROR_TYPE + ERROR_TEXT + 300], function[300], title[310], actor[33];
    const char *name = job->name && *job->name ? job->name : "?";
    struct pairs p = {.count = 0};
    struct plain_out out;
    skate_value map;
    int r;

    if (job->kind == 2) {
        (void)snprintf(function, sizeof function, "%.280s.__init__",
                       w->cls ? w->cls->entry->name : job->cls ? job->cls : "?");
    } else
        (void)snprintf(function, sizeof function, "%.290s", name);
    (void)snprintf(title, sizeof title, "ray::%s", function);
    (void)snprintf(trace, sizeof trace, "  in the C function %.200s\n%s: %s\n", w->task.what,
                   f->type, f->text);
    utf8_make(function); /* a long name may have been cut inside of a character */
    utf8_make(title);
    utf8_make(trace);
    pair(&p, "pid", skate_int(getpid()));
    pair(&p, "ip", skate_str(core_get_info(w->c)->node_ip));
    pair(&p, "function", skate_str(function));
    pair(&p, "proctitle", skate_str(title));
    pair(&p, "traceback", skate_str(trace));
    pair(&p, "type", skate_str(f->type));
    pair(&p, "message", skate_str(f->text));
    if (job->kind != 0) {
        hex(&job->actor, sizeof job->actor, actor);
        pair(&p, "actor", skate_str(actor));
    }
    if (job->kind == 1 && w->cls) pair(&p, "repr", skate_str(w->cls->entry->name));
    if (job->kind == 2) pair(&p, "init_failed", skate_bool(true));
    map = skate_map(p.v, p.count);
    plain_out_init(&out);
    r = plain_encode(&out, &map, NULL);
    out.v.flags = VAL_ERROR;
    if (r == 0)
        r = finish_with(w, job, job->flags & CORE_RETRY_EXCEPTIONS ? CORE_RETRY : CORE_ERROR,
                        &out.v);
    plain_out_release(&out, NULL);
    if (r < 0) /* the store is full, or there is no memory: in few words */
        r = finish_system(w, job, CORE_ERROR, r == -SKATE_EFULL ? "store_full\nthe error of a C "
                          "task found no room" : "system\nthe error of a C task could not be sent");
    return r;
}
