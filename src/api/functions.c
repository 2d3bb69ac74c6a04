/* functions.c - functions of shared libraries and of Python; submitting them; cancelling.
 *
 * A submit of a few plain arguments needs no malloc and no formatting: the arguments are encoded on
 * the stack, everything else was made ready with the function. Tests: tests/c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_int.h"
#include "core/cancel.h"
#include "sched/resources.h"
#include "core/core_room.h"

const char api_native_env[] = "skate-native";

struct skate_function {
    struct core_task task; /* what is fixed about it; name and method point behind the struct */
};

/* ---- definitions ---- */

/* FNV-1a of the definition: equal functions are one function, in every process. */
static uint64_t key_of(const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h ? h : 1;
}

int api_define(skate_session *s, const char *kind, const char *library, const char *name,
               uint64_t *ret) {
    skate_value parts[3], list;
    struct skate_error err = {{0}};
    const char *shown = strrchr(name, '.');
    struct plain_out o;
    size_t n = 0;
    int r;

    parts[n++] = skate_str(kind);
    if (library) parts[n++] = skate_str(library);
    parts[n++] = skate_str(name);
    list = skate_list(parts, n);
    plain_out_init(&o);
    o.any_text = library != NULL;
    r = plain_encode(&o, &list, &err);
    if (r == 0) {
        *ret = key_of(o.out, o.len);
        do {
            r = core_define(s->c, *ret, shown ? shown + 1 : name, &o.v, &err);
            r = core_room_for(s->c, r, &err);
        } while (r == -SKATE_EINTR);
    }
    plain_out_release(&o, s->c);
    return r < 0 ? api_fail_in(s, r, &err) : 0;
}

static int64_t units(double amount) { return (int64_t)(amount * RESOURCE_UNIT + 0.5); }

int api_pack(const struct api_wants *w, uint8_t out[API_PACKED]) {
    struct resources r = {0};

    if (!(w->num_cpus >= 0 && w->num_cpus < 1e9))
        return api_fail(-SKATE_EINVAL, "num_cpus is 0 or more; it is %g", w->num_cpus);
    if (w->count && !w->resources) return api_fail(-SKATE_EINVAL, "resources is NULL");
    if (w->num_cpus > 0 && resources_set(&r, "CPU", units(w->num_cpus)) < 0)
        return api_fail(-SKATE_EINVAL, "num_cpus cannot be set");
    for (size_t i = 0; i < w->count; i++) {
        const struct skate_resource *one = &w->resources[i];
        const char *name = one->name;

        if (!name || !*name || strlen(name) > 63)
            return api_fail(-SKATE_EINVAL, "the name of a resource has 1 to 63 bytes");
        if (!(one->amount >= 0 && one->amount < 1e14))
            return api_fail(-SKATE_EINVAL, "the amount of %s is 0 or more; it is %g", name,
                            one->amount);
        if (one->amount == 0) continue;
        if (resources_set(&r, name, units(one->amount)) < 0)
            return api_fail(-SKATE_EINVAL, "there are more than %d resources", RESOURCES_MAX);
    }
    return (int)resources_pack(&r, out, API_PACKED);
}

/* What get_assigned_resources() of a Python task reads, when it is not one CPU. */
static void held_text(const struct api_wants *w, char *out, size_t cap) {
    size_t at = 0;

    if (w->num_cpus > 0) at = (size_t)snprintf(out, cap, "CPU=%.10g", w->num_cpus);
    for (size_t i = 0; i < w->count && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s=%.10g", at ? "\x1f" : "",
                               w->resources[i].name, w->resources[i].amount);
    if (at == 0) (void)snprintf(out, cap, "\x1f"); /* nothing at all is not nothing said */
}

static int take_options(const struct skate_task_options *given, struct skate_task_options *o) {
    skate_task_options_init(o);
    if (!given) return 0;
    if (given->size < sizeof(size_t) || given->size > 4096)
        return api_fail(-SKATE_EINVAL, "begin with skate_task_options_init(): the struct's size is "
                        "%zu", given->size);
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    if (o->returns > LIMIT_RETURNS)
        return api_fail(-SKATE_EINVAL, "returns is at most %d; it is %u", LIMIT_RETURNS,
                        o->returns);
    if (o->max_retries < -1)
        return api_fail(-SKATE_EINVAL, "max_retries is 0 or more, or -1 for no end; it is %d",
                        (int)o->max_retries);
    if (!o->group && o->bundle != -1)
        return api_fail(-SKATE_EINVAL, "bundle is %d, but there is no group", (int)o->bundle);
    return 0;
}

static int make_class(skate_session *s, const struct api_wants *w,
                      const struct skate_task_options *o, const char *name, bool native,
                      uint32_t *ret) {
    struct core_class_opts k = {.strategy = o->spread ? 1 : 0, .name = name};
    uint8_t packed[API_PACKED];
    int r = api_pack(w, packed);

    if (r < 0) return r;
    k.resources = packed;
    k.resources_len = (uint32_t)r;
    k.place = api_place(o->group, o->bundle);
    if (native) {
        k.env = api_native_env;
        k.env_len = (uint32_t)strlen(api_native_env);
    }
    r = core_class(s->c, &k, ret);
    return r < 0 ? api_fail_in(s, r, NULL) : 0;
}

/* library NULL: a function of Python by its path. */
static int function_new(skate_session *s, const char *library, const char *name,
                        const struct skate_task_options *given, skate_function **ret) {
    const char *shown = library ? name : strrchr(name, '.') + 1;
    struct skate_task_options o;
    struct api_wants wants;
    struct core_task t = {.fn = 0};
    char held[4096] = "";
    skate_function *f;
    size_t n, m;
    int r = take_options(given, &o);

    if (r < 0) return r;
    wants = (struct api_wants){o.num_cpus, o.resources, o.resource_count};
    r = make_class(s, &wants, &o, shown, library != NULL, &t.cls);
    if (r == 0) r = api_define(s, library ? "c" : "python", library, name, &t.fn);
    if (r < 0) return r;
    if (!library && (o.num_cpus != 1 || o.resource_count)) held_text(&wants, held, sizeof held);
    n = strlen(shown) + 1;
    m = strlen(held) + 1;
    f = malloc(sizeof *f + n + m);
    if (!f) return api_fail(-SKATE_ENOMEM, "no memory for a function");
    memcpy(f + 1, shown, n);
    memcpy((char *)(f + 1) + n, held, m);
    t.returns = o.returns;
    t.retries = o.max_retries;
    t.name = (char *)(f + 1);
    t.method = m > 1 ? (char *)(f + 1) + n : NULL;
    f->task = t;
    *ret = f;
    return 0;
}

int skate_c_function(skate_session *s, const char *library, const char *name,
                     const struct skate_task_options *o, skate_function **ret) {
    if (!library || !*library || !name || !*name || !ret)
        return api_fail(-SKATE_EINVAL, "a function of C has a library and a name");
    return function_new(s, library, name, o, ret);
}

int skate_python_function(skate_session *s, const char *path, const struct skate_task_options *o,
                          skate_function **ret) {
    const char *dot = path ? strrchr(path, '.') : NULL;

    if (!dot || dot == path || !dot[1] || !ret)
        return api_fail(-SKATE_EINVAL, "a function of Python is named by its import path, "
                        "\"package.module.function\", not \"%s\"", path ? path : "");
    return function_new(s, NULL, path, o, ret);
}

void skate_function_free(skate_session *s, skate_function *f) {
    (void)s;
    free(f);
}

/* ---- submitting ---- */

int api_submit(skate_session *s, const struct core_task *t, struct skate_id *ret) {
    struct skate_error err;
    int r;

    do {
        err.text[0] = 0;
        r = core_room_for(s->c, core_submit(s->c, t, ret, &err), &err);
    } while (r == -SKATE_EINTR);
    if (r >= 0) return 0;
    if (r == -SKATE_EFULL && !err.text[0])
        return api_fail(r, "this process has as many unfinished tasks as it can hold: wait for "
                        "some with skate_wait()");
    if (r == -SKATE_EBUSY)
        return api_fail(r, "the actor has as many unanswered calls as it allows: wait for some");
    return api_fail_in(s, r, &err);
}

int skate_submit(skate_session *s, const skate_function *f, const skate_value *args, size_t count,
                 skate_ref *results) {
    struct skate_id task;
    struct skate_error err;
    struct core_task t;
    struct plain_out o;
    int r;

    if (!f || (f->task.returns && !results))
        return api_fail(-SKATE_EINVAL, "the function or results is NULL");
    t = f->task;
    err.text[0] = 0;
    plain_out_init(&o);
    r = plain_encode_args(&o, s->c, args, count, &err);
    if (r < 0) {
        r = api_fail_in(s, r, &err);
    } else {
        t.args = o.v;
        t.deps = o.deps;
        t.dep_count = o.dep_count;
        r = api_submit(s, &t, &task);
    }
    plain_out_release(&o, s->c);
    if (r < 0) return r;
    for (uint32_t i = 0; i < t.returns; i++) results[i] = api_ref(id_with_index(task, i + 1));
    return 0;
}

int skate_cancel(skate_session *s, skate_ref result, bool force) {
    struct skate_id id = api_id(result);
    int r;

    if (id_is_nil(&id)) return api_fail(-SKATE_EINVAL, "the ref is empty (both numbers are 0)");
    r = core_cancel(s->c, &id, CORE_CANCEL_CHILDREN | (force ? CORE_CANCEL_FORCE : 0));
    if (r == -SKATE_EINVAL)
        return api_fail(r, "a call of an actor cannot be forced to end: kill the actor");
    return r < 0 ? api_fail_in(s, r, NULL) : 0;
}
