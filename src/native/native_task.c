/* native_task.c - what a task written in C may call: the functions of skate/task.h.
 *
 * All are for the thread that runs the task. Plain arguments and results need no malloc. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cancel.h"
#include "native/native_int.h"
#include "wire/frame.h"

static const char *kind_name(const skate_value *v) {
    static const char *const names[] = {"nil", "bool", "int", "float", "str", "bytes", "list",
                                        "map", "ref", "tensor", "Arrow stream",
                                        "pickle that only Python reads: store it there with "
                                        "cross_language.put(), or return it from its task "
                                        "through cross_language.plain()"};

    return v->kind < sizeof names / sizeof *names ? names[v->kind] : "value of unknown kind";
}

/* ---- arguments ---- */

size_t skate_arg_count(const skate_task *t) {
    return t->args.count > t->skip ? t->args.count - t->skip : 0;
}

static const skate_value *arg(const skate_task *t, size_t i) {
    return i < skate_arg_count(t) ? &t->args.v[i + t->skip] : NULL;
}

int skate_arg(skate_task *t, size_t i, skate_value *ret) {
    const skate_value *v = arg(t, i);

    if (!v)
        return api_fail(-SKATE_EINVAL, "%s has no argument %zu: it was given %zu", t->what, i,
                        skate_arg_count(t));
    *ret = *v;
    ret->owned = 0; /* released with the call */
    return 0;
}

/* The argument, if it is of that kind; else the call fails. */
static const skate_value *need(skate_task *t, size_t i, uint32_t kind, const char *what) {
    const skate_value *v = arg(t, i);

    if (v && v->kind == kind) return v;
    if (!v)
        (void)fault_set(t, "TypeError", "%s needs argument %zu (%s), and was given %zu arguments",
                        t->what, i, what, skate_arg_count(t));
    else
        (void)fault_set(t, "TypeError", "argument %zu of %s must be %s, not %s", i, t->what, what,
                        kind_name(v));
    return NULL;
}

int64_t skate_arg_int(skate_task *t, size_t i) {
    const skate_value *v = need(t, i, SKATE_INT, "an int");

    return v ? v->as.i : 0;
}

double skate_arg_float(skate_task *t, size_t i) {
    const skate_value *v = arg(t, i);

    if (v && v->kind == SKATE_INT) return (double)v->as.i;
    v = need(t, i, SKATE_FLOAT, "a float");
    return v ? v->as.f : 0;
}

static const char *block(skate_task *t, size_t i, uint32_t kind, const char *what,
                         size_t *ret_size) {
    const skate_value *v = need(t, i, kind, what);

    if (ret_size) *ret_size = v ? v->as.s.size : 0;
    return v ? v->as.s.data : NULL;
}

const char *skate_arg_str(skate_task *t, size_t i, size_t *ret_size) {
    return block(t, i, SKATE_STR, "a str", ret_size);
}

const void *skate_arg_bytes(skate_task *t, size_t i, size_t *ret_size) {
    return block(t, i, SKATE_BYTES, "bytes", ret_size);
}

const skate_tensor *skate_arg_tensor(skate_task *t, size_t i, uint32_t dtype) {
    const skate_value *v = need(t, i, SKATE_TENSOR, "a tensor");

    if (!v) return NULL;
    if (v->as.tensor->dtype == dtype) return v->as.tensor;
    (void)fault_set(t, "TypeError",
                    "argument %zu of %s is a tensor of dtype %u, dtype %u is needed (enum "
                    "skate_dtype)", i, t->what, v->as.tensor->dtype, dtype);
    return NULL;
}

/* ---- results ---- */

const struct core_value *native_nil(void) {
    static const uint8_t byte = 0xc0;
    static const struct core_part part = {&byte, 1, 8};
    static const struct core_value nil = {.format = FORMAT_MSGPACK, .part_count = 1,
                                          .parts = &part};

    return &nil;
}

static void result_drop(struct native_worker *w, struct native_result *r) {
    for (uint32_t i = 0; i < r->held; i++) core_ref_drop(w->c, &r->out.refs[i]);
    r->held = 0;
    free(r->copy);
    r->copy = NULL;
    plain_out_release(&r->out, w->c);
}

void results_drop(struct native_worker *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        result_drop(w, w->results[i]);
        if (i < RESULTS_KEPT) continue;
        free(w->results[i]);
        w->results[i] = NULL;
    }
}

static struct native_result *result_new(struct native_worker *w, uint32_t at) {
    if (at < w->result_cap && w->results[at]) return w->results[at];
    if (at >= w->result_cap) {
        uint32_t cap = w->result_cap ? w->result_cap : RESULTS_KEPT;
        struct native_result **results;
        struct core_value *values;

        while (cap <= at) cap *= 2; /* at most twice LIMIT_RETURNS */
        results = realloc(w->results, cap * sizeof *results);
        if (!results) return NULL;
        w->results = results;
        values = realloc(w->values, cap * sizeof *values);
        if (!values) return NULL;
        w->values = values;
        memset(results + w->result_cap, 0, (cap - w->result_cap) * sizeof *results);
        w->result_cap = cap;
    }
    if (!w->results[at]) {
        w->results[at] = malloc(sizeof *w->results[at]);
        if (!w->results[at]) return NULL;
        w->results[at]->copy = NULL;
        w->results[at]->held = 0;
        plain_out_init(&w->results[at]->out);
    }
    return w->results[at];
}

/* What it points to may go when the caller goes on: copied, and its refs counted. */
static int result_own(struct native_worker *w, struct native_result *r) {
    struct core_part *last = &r->out.parts[r->out.v.part_count - 1];

    if (r->out.v.format != FORMAT_MSGPACK && last->size) {
        if (posix_memalign(&r->copy, 64, last->size)) {
            r->copy = NULL;
            return -SKATE_ENOMEM;
        }
        memcpy(r->copy, last->data, last->size);
        last->data = r->copy;
    }
    for (; r->held < r->out.v.ref_count; r->held++) core_ref_add(w->c, &r->out.refs[r->held]);
    return 0;
}

/* n bytes behind what is there; nine are copied, since that is one move. */
static bool append(struct plain_out *o, const uint8_t bytes[9], size_t n) {
    uint8_t *p = plain_room(o, 9);

    if (!p) return false;
    memcpy(p, bytes, 9);
    o->len -= 9 - n;
    return true;
}

/* The next result in MSGPACK, of a few bytes. */
static int return_bytes(skate_task *t, const uint8_t bytes[9], size_t n) {
    struct native_result *r;

    if (t->batch && !t->quiet) {
        if (t->given++) return api_fail(-SKATE_EINVAL, "%s has returned already", t->what);
        if (!append(t->batch, bytes, n)) return api_fail(-SKATE_ENOMEM, "out of memory");
        return 0;
    }
    if (t->quiet || t->job->returns == 0) return 0; /* nobody wants it */
    if (t->given >= t->job->returns)
        return api_fail(-SKATE_EINVAL, "%s returns more than its %u results", t->what,
                        t->job->returns);
    r = result_new(t->w, t->given);
    if (!r || !append(&r->out, bytes, n)) return api_fail(-SKATE_ENOMEM, "out of memory");
    plain_close(&r->out);
    t->given++;
    return 0;
}

int skate_return_int(skate_task *t, int64_t i) {
    uint8_t b[9] = {0};
    uint64_t wide = __builtin_bswap64((uint64_t)i);
    uint32_t narrow = __builtin_bswap32((uint32_t)i);

    b[0] = (uint8_t)i;
    if (i >= -32 && i <= 127) return return_bytes(t, b, 1);
    if (i >= INT32_MIN && i <= INT32_MAX) {
        b[0] = 0xd2;
        memcpy(b + 1, &narrow, 4);
        return return_bytes(t, b, 5);
    }
    b[0] = 0xd3;
    memcpy(b + 1, &wide, 8);
    return return_bytes(t, b, 9);
}

int skate_return_float(skate_task *t, double f) {
    uint8_t b[9] = {0xcb};
    uint64_t bits;

    memcpy(&bits, &f, 8);
    bits = __builtin_bswap64(bits);
    memcpy(b + 1, &bits, 8);
    return return_bytes(t, b, 9);
}

int skate_return_str(skate_task *t, const char *text) {
    skate_value v = skate_str(text ? text : "");

    return skate_return(t, &v);
}

/* Into the list of a batch: what a list can hold. */
static int return_in_batch(skate_task *t, const skate_value *v) {
    struct skate_error err = {{0}};
    uint32_t refs = t->batch->v.ref_count;
    size_t before = t->batch->len;
    int r;

    if (t->given) return api_fail(-SKATE_EINVAL, "%s has returned already", t->what);
    r = plain_append_array(t->batch, v, 1, &err);
    if (r < 0) {
        t->batch->len = before;
        t->batch->v.ref_count = refs;
        if (r == -SKATE_ETYPE)
            return api_fail(r, "the result of a call in a batch is a plain value: no ref, tensor, "
                            "Arrow stream or Python object");
        return api_fail_of(r, &err);
    }
    /* without the head of the array around it */
    memmove(t->batch->out + before, t->batch->out + before + 1, t->batch->len - before - 1);
    t->batch->len--;
    t->given++;
    return 0;
}

int skate_return(skate_task *t, const skate_value *v) {
    struct skate_error err = {{0}};
    struct native_result *r;
    int e;

    if (t->batch && !t->quiet) return return_in_batch(t, v);
    if (t->quiet || t->job->returns == 0) return 0;
    if (t->given >= t->job->returns)
        return api_fail(-SKATE_EINVAL, "%s returns more than its %u results", t->what,
                        t->job->returns);
    r = result_new(t->w, t->given);
    if (!r) return api_fail(-SKATE_ENOMEM, "out of memory");
    e = plain_encode(&r->out, v, &err);
    if (e == 0) e = result_own(t->w, r);
    if (e < 0) {
        result_drop(t->w, r);
        return api_fail_of(e, &err);
    }
    t->given++;
    return 0;
}

int skate_fail(skate_task *t, const char *type, const char *format, ...) {
    char text[ERROR_TEXT];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)fault_set(t, type, "%s", text);
    return api_fail(-SKATE_ETASK, "%s", text);
}

int results_finish(struct native_worker *w, struct core_job *job) {
    struct skate_task *t = &w->task;
    uint32_t n = job->returns;
    int r;

    if (t->given && t->given < n) {
        (void)fault_set(t, "ValueError", "%s was asked for %u results, and returned %u", t->what,
                        n, t->given);
        return fault_finish(w, job, &t->fault);
    }
    if (n <= 1) {
        r = finish_job(w, job, CORE_OK, t->given ? &w->results[0]->out.v : native_nil(), n);
    } else {
        r = t->given || result_new(w, n - 1) ? 0 : -SKATE_ENOMEM;
        for (uint32_t i = 0; r == 0 && i < n; i++)
            w->values[i] = t->given ? w->results[i]->out.v : *native_nil();
        if (r == 0) r = finish_job(w, job, CORE_OK, w->values, n);
    }
    if (r == 0) return 0;
    (void)fault_set(t, r == -SKATE_ENOMEM ? "MemoryError" : "RuntimeError",
                    "the result of %s cannot be stored: %s", t->what, skate_strerror(r));
    return fault_finish(w, job, &t->fault);
}

/* ---- where am I ---- */

skate_session *skate_task_session(skate_task *t) { return t->w->session; }

bool skate_task_cancelled(const skate_task *t) { return core_cancelled(t->w->c); }

uint32_t skate_task_attempt(const skate_task *t) { return t->job->attempt; }

skate_actor skate_task_actor(const skate_task *t) {
    skate_actor a = {{{0, 0}}, 0};

    if (t->job->kind == 0) return a;
    a.process = api_ref(t->w->actor);
    a.index = t->index;
    return a;
}

int skate_task_exit_actor(skate_task *t) {
    if (t->job->kind != 1 || t->quiet) /* quiet: the constructor of a spawned one */
        return api_fail(-SKATE_EINVAL, "skate_task_exit_actor() is for methods of actors");
    t->leaving = true;
    return 0;
}
