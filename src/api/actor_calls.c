/* actor_calls.c - actors: created, found by name, called, killed; their handles as values.
 *
 * A handle is a counted ref on the actor's id. Tests: tests/c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/atomic.h"
#include "wire/wire_gen.h"
#include "core/core_room.h"

enum { STATE_RESTARTING = 2 };

static int take_options(const struct skate_actor_options *given, struct skate_actor_options *o) {
    skate_actor_options_init(o);
    if (!given) return 0;
    if (given->size < sizeof(size_t) || given->size > 4096)
        return api_fail(-SKATE_EINVAL, "begin with skate_actor_options_init(): the struct's size "
                        "is %zu", given->size);
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    if ((o->name && (!*o->name || strlen(o->name) > 255)) ||
        (o->name_space && (!*o->name_space || strlen(o->name_space) > 127)))
        return api_fail(-SKATE_EINVAL, "the name of an actor has 1 to 255 bytes, a namespace 1 to "
                        "127");
    if ((o->detached || o->get_if_exists) && !o->name)
        return api_fail(-SKATE_EINVAL, "detached and get_if_exists need a name");
    if (o->max_restarts < -1 || o->max_task_retries < -1)
        return api_fail(-SKATE_EINVAL, "max_restarts and max_task_retries are 0 or more, or -1");
    if (!o->group && o->bundle != -1)
        return api_fail(-SKATE_EINVAL, "bundle is %d, but there is no group", (int)o->bundle);
    return 0;
}

/* ---- what Python must know of an actor that it finds by name ---- */

/* ActorMeta.pack() of python/skate/_actor.py: any method, plain arguments. */
static int meta_value(struct plain_out *o, const char *library, const char *cls, int32_t retries) {
    skate_value none = skate_list(NULL, 0), fields[7], option[2], options, method[3], methods;
    skate_value calls[3], whole[5], v;

    fields[0] = fields[3] = fields[4] = none;
    fields[1] = fields[2] = skate_int(0);
    fields[5] = fields[6] = skate_bool(true);
    option[0] = skate_str("_plain");
    option[1] = skate_bool(true);
    options = skate_list(option, 2);
    method[0] = skate_str("*");
    method[1] = skate_list(fields, 7);
    method[2] = skate_list(&options, 1);
    methods = skate_list(method, 3);
    calls[0] = skate_bool(false);
    calls[1] = skate_int(0);
    calls[2] = none;
    whole[0] = skate_str(cls);
    whole[1] = skate_str(library ? library : "");
    whole[2] = skate_list(&methods, 1);
    whole[3] = skate_int(retries);
    whole[4] = skate_list(calls, 3);
    v = skate_list(whole, 5);
    return plain_pack(o, &v);
}

static int publish(skate_session *s, const struct skate_id *id, const char *library,
                   const char *cls, int32_t retries) {
    char key[64] = "actor-meta:";
    const uint8_t *raw = (const uint8_t *)id;
    void *answer = NULL;
    struct plain_out o;
    struct wire_buf b;
    int r;

    for (int i = 0; i < 16; i++) (void)snprintf(key + 11 + 2 * i, 3, "%02x", raw[i]);
    plain_out_init(&o);
    r = meta_value(&o, library, cls, retries);
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_KV_PUT);
    WIRE_PUT(&b, kv_put, key, key, strlen(key));
    WIRE_PUT(&b, kv_put, value, o.out, o.len);
    if (r == 0) r = wire_end(&b);
    if (r < 0) r = api_fail_in(s, r, NULL);
    if (r == 0) r = api_ask(s, b.p, b.len, WIRE_STATUS, &answer);
    wire_release(&b);
    plain_out_release(&o, s->c);
    free(answer);
    return r;
}

/* ---- creation ---- */

/* Once for each actor, however often it is found. */
static int remember_retries(skate_session *s, const struct skate_id *id, int32_t count) {
    struct api_retries *one;
    int r = 0;

    if (!count) return 0;
    (void)pthread_mutex_lock(&s->lock);
    for (one = s->retries; one && !id_equal(&one->actor, id);) one = one->next;
    if (!one && (one = malloc(sizeof *one))) {
        *one = (struct api_retries){.next = s->retries, .actor = *id, .count = count};
        at_store_release(&s->retries, one);
    } else if (!one) {
        r = -SKATE_ENOMEM;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return r < 0 ? api_fail(r, "no memory for an actor") : 0;
}

static int32_t retries_of(skate_session *s, const struct skate_id *id) {
    int32_t count = 0;

    if (!at_load_acquire(&s->retries)) return 0;
    (void)pthread_mutex_lock(&s->lock);
    for (const struct api_retries *r = s->retries; r; r = r->next)
        if (id_equal(&r->actor, id)) count = r->count;
    (void)pthread_mutex_unlock(&s->lock);
    return count;
}

struct making {
    const char *library, *path; /* library NULL: of Python */
    const skate_value *args;
    size_t count;
};

static int create(skate_session *s, const struct making *m, const struct skate_actor_options *o,
                  struct core_actor *a, struct skate_id *ret) {
    struct skate_error err = {{0}};
    struct plain_out out;
    int r;

    plain_out_init(&out);
    r = plain_encode_args(&out, s->c, m->args, m->count, &err);
    if (r == 0) {
        a->args = out.v;
        a->deps = out.deps;
        a->dep_count = out.dep_count;
        do {
            err.text[0] = 0;
            r = core_room_for(s->c, core_actor_create(s->c, a, ret, &err), &err);
        } while (r == -SKATE_EINTR);
    }
    plain_out_release(&out, s->c);
    if (r < 0) return api_fail_in(s, r, &err);
    r = remember_retries(s, ret, o->max_task_retries);
    if (r == 0 && o->name) r = publish(s, ret, m->library, a->cls, o->max_task_retries);
    if (r < 0) core_ref_drop(s->c, ret);
    return r;
}

static int actor_new(skate_session *s, const struct making *m,
                     const struct skate_actor_options *given, skate_actor *ret) {
    const char *dot = strrchr(m->path, '.'), *cls = m->library || !dot ? m->path : dot + 1;
    struct core_actor a = {.max_concurrency = 1, .cls = cls};
    struct skate_actor_options o;
    struct api_wants wants;
    uint8_t packed[API_PACKED];
    struct skate_id id;
    int r = take_options(given, &o);

    if (r < 0) return r;
    wants = (struct api_wants){o.num_cpus, o.resources, o.resource_count};
    r = api_pack(&wants, packed);
    if (r < 0) return r;
    a.held = a.placing = packed;
    a.held_len = a.placing_len = (uint32_t)r;
    r = api_define(s, m->library ? "c_actor" : "python", m->library, m->path, &a.fn);
    if (r < 0) return r;
    a.max_restarts = o.max_restarts;
    a.max_task_retries = o.max_task_retries;
    a.detached = o.detached;
    a.get_if_exists = o.get_if_exists;
    a.name = o.name ? o.name : "";
    a.space = o.name_space ? o.name_space : s->name_space;
    a.place = api_place(o.group, o.bundle);
    if (m->library) {
        a.env = api_native_env;
        a.env_len = (uint32_t)strlen(api_native_env);
    }
    r = create(s, m, &o, &a, &id);
    if (r < 0) return r;
    *ret = (skate_actor){.process = api_ref(id), .index = 0};
    return 0;
}

int skate_c_actor(skate_session *s, const char *library, const char *name,
                  const struct skate_actor_options *o, const skate_value *args, size_t count,
                  skate_actor *ret) {
    struct making m = {library, name, args, count};

    if (!library || !*library || !name || !*name || !ret)
        return api_fail(-SKATE_EINVAL, "an actor class of C has a library and a name");
    return actor_new(s, &m, o, ret);
}

int skate_python_actor(skate_session *s, const char *path, const struct skate_actor_options *o,
                       const skate_value *args, size_t count, skate_actor *ret) {
    const char *dot = path ? strrchr(path, '.') : NULL;
    struct making m = {NULL, path, args, count};

    if (!dot || dot == path || !dot[1] || !ret)
        return api_fail(-SKATE_EINVAL, "a class of Python is named by its import path, "
                        "\"package.module.Class\", not \"%s\"", path ? path : "");
    return actor_new(s, &m, o, ret);
}

/* ---- found by name ---- */

int skate_get_actor(skate_session *s, const char *name, const char *name_space, skate_actor *ret) {
    const char *space = name_space ? name_space : s->name_space;
    const struct wire_actor_state *m;
    void *answer = NULL;
    struct wire_buf b;
    struct skate_id id;
    bool lives;
    int r;

    if (!name || !*name || !ret) return api_fail(-SKATE_EINVAL, "name or ret is missing");
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_ACTOR_BY_NAME);
    WIRE_PUT(&b, actor_by_name, name, name, strlen(name));
    WIRE_PUT(&b, actor_by_name, namespace, space, strlen(space));
    r = wire_end(&b);
    if (r < 0) r = api_fail_in(s, r, NULL);
    if (r == 0) r = api_ask(s, b.p, b.len, WIRE_ACTOR_STATE, &answer);
    wire_release(&b);
    if (r < 0) return r;
    m = answer;
    lives = m->state <= STATE_RESTARTING;
    id = m->actor;
    r = lives ? remember_retries(s, &id, m->max_task_retries) : 0;
    free(answer);
    if (!lives)
        return api_fail(-SKATE_ENOENT, "no actor named \"%s\" lives in the namespace \"%s\"", name,
                        space);
    if (r < 0) return r;
    core_ref_add(s->c, &id);
    *ret = (skate_actor){.process = api_ref(id), .index = 0};
    return 0;
}

/* ---- calls ---- */

/* A call with `lead` reserved arguments before those of the caller. */
static int call(skate_session *s, skate_actor a, const char *method, const char *shown,
                const skate_value *lead, size_t lead_count, const skate_value *args, size_t count,
                uint32_t returns, skate_ref *results) {
    struct core_task t = {.actor = api_id(a.process), .returns = returns, .name = shown,
                          .method = method};
    skate_value few[16], *all = few;
    struct skate_error err;
    struct skate_id task;
    struct plain_out o;
    int r;

    if (returns > LIMIT_RETURNS || (returns && !results))
        return api_fail(-SKATE_EINVAL, "returns is %u (at most %d), results may be NULL for 0 only",
                        returns, LIMIT_RETURNS);
    if (id_is_nil(&t.actor)) return api_fail(-SKATE_EINVAL, "the actor's handle is empty");
    if (count && !args) return api_fail(-SKATE_EINVAL, "%zu arguments, but args is NULL", count);
    if (lead_count) {
        if (count > SIZE_MAX / sizeof *all - 16) return api_fail(-SKATE_ETOOBIG, "too many");
        if (lead_count + count > 16) all = malloc((lead_count + count) * sizeof *all);
        if (!all) return api_fail(-SKATE_ENOMEM, "no memory for the arguments");
        memcpy(all, lead, lead_count * sizeof *all);
        if (count) memcpy(all + lead_count, args, count * sizeof *all);
    }
    t.retries = retries_of(s, &t.actor);
    err.text[0] = 0;
    plain_out_init(&o);
    r = plain_encode_args(&o, s->c, lead_count ? all : args, lead_count + count, &err);
    if (r < 0) {
        r = api_fail_in(s, r, &err);
    } else {
        t.args = o.v;
        t.deps = o.deps;
        t.dep_count = o.dep_count;
        r = api_submit(s, &t, &task);
    }
    plain_out_release(&o, s->c);
    if (all != few) free(all);
    if (r < 0) return r;
    for (uint32_t i = 0; i < returns; i++) results[i] = api_ref(id_with_index(task, i + 1));
    return 0;
}

int skate_call(skate_session *s, skate_actor a, const char *method, const skate_value *args,
               size_t count, uint32_t returns, skate_ref *results) {
    skate_value lead[2];

    if (!method || !*method || *method == 1)
        return api_fail(-SKATE_EINVAL, "the name of the method is missing");
    if (a.index == 0) return call(s, a, method, method, NULL, 0, args, count, returns, results);
    lead[0] = skate_int((int64_t)a.index);
    lead[1] = skate_str(method);
    return call(s, a, "\x01" "call", method, lead, 2, args, count, returns, results);
}

int skate_kill(skate_session *s, skate_actor a, bool restart) {
    static uint32_t kills;
    struct skate_id id = api_id(a.process);
    struct wire_actor_kill *m;
    struct wire_buf b;
    char reason[128];
    int r;

    if (id_is_nil(&id)) return api_fail(-SKATE_EINVAL, "the actor's handle is empty");
    if (a.index) {
        skate_value lead = skate_int((int64_t)a.index);

        return call(s, a, "\x01" "kill", "kill", &lead, 1, NULL, 0, 0, NULL);
    }
    (void)snprintf(reason, sizeof reason, "it was killed by skate_kill(), called by process %d "
                   "(job %u)", (int)getpid(), core_get_info(s->c)->job);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_KILL);
    if (m) {
        m->actor = id;
        m->no_restart = !restart;
        m->mark = at_add_seq(&kills, 1) + 1;
    }
    WIRE_PUT(&b, actor_kill, reason, reason, strlen(reason));
    r = wire_end(&b);
    if (r == 0) r = core_send(s->c, SKATE_GCS, b.p, b.len);
    wire_release(&b);
    return r < 0 ? api_fail_in(s, r, NULL) : 0;
}

/* ---- many in one process ---- */

int skate_spawn(skate_session *s, skate_actor in, const char *name, const skate_value *args,
                size_t args_count, uint64_t count, uint64_t *ret_first, skate_ref *ret_done) {
    skate_value lead[3];
    uint64_t first;
    int r;

    if (!name || !*name || !ret_first || !ret_done)
        return api_fail(-SKATE_EINVAL, "name, ret_first or ret_done is missing");
    if (count == 0 || count > UINT32_MAX / 2)
        return api_fail(-SKATE_EINVAL, "count is 1 to 2 thousand million; it is %llu",
                        (unsigned long long)count);
    (void)pthread_mutex_lock(&s->lock);
    first = (uint64_t)s->salt << 32 | s->spawned;
    r = count > UINT32_MAX - s->spawned ? -SKATE_EFULL : 0;
    if (r == 0) s->spawned += (uint32_t)count;
    (void)pthread_mutex_unlock(&s->lock);
    if (r < 0) return api_fail(r, "this session has given all its numbers for spawned actors");
    lead[0] = skate_str(name);
    lead[1] = skate_int((int64_t)first);
    lead[2] = skate_int((int64_t)count);
    r = call(s, in, "\x01" "spawn", name, lead, 3, args, args_count, 1, ret_done);
    if (r == 0) *ret_first = first;
    return r;
}

enum { BATCH_MAX = 64 << 20 };

/* u64 index, u16 length of the method, method, u32 length of the arguments, arguments. */
static int put_call(struct plain_out *o, const struct skate_batch_call *one,
                    struct skate_error *err) {
    size_t n = one->method ? strlen(one->method) : 0, at;
    uint32_t len;
    uint8_t *p;
    int r;

    if (n == 0 || n > UINT16_MAX)
        return err_fail(err, -SKATE_EINVAL, "the name of a method has 1 to 65535 bytes");
    p = plain_room(o, 10 + n + 4);
    if (!p) return -SKATE_ENOMEM;
    memcpy(p, &one->index, 8);
    memcpy(p + 8, &(uint16_t){(uint16_t)n}, 2);
    memcpy(p + 10, one->method, n);
    at = o->len;
    r = plain_append_array(o, one->args, one->count, err);
    if (r < 0) return r;
    if (o->len > BATCH_MAX)
        return err_fail(err, -SKATE_ETOOBIG, "a batch holds 64 MiB of arguments at most");
    len = (uint32_t)(o->len - at);
    memcpy(o->out + at - 4, &len, 4);
    return 0;
}

int skate_call_batch(skate_session *s, skate_ref process, const struct skate_batch_call *calls,
                     size_t count, skate_ref *ret) {
    skate_actor a = {.process = process, .index = 0};
    struct skate_error err;
    struct plain_out o;
    skate_value bytes;
    int r = 0;

    if (!ret || (count && !calls)) return api_fail(-SKATE_EINVAL, "calls or ret is NULL");
    err.text[0] = 0;
    plain_out_init(&o);
    for (size_t i = 0; r == 0 && i < count; i++) r = put_call(&o, &calls[i], &err);
    if (r < 0)
        r = api_fail_in(s, r, &err);
    else {
        bytes = skate_bytes(o.out, o.len);
        r = call(s, a, "\x01" "batch", "batch", &bytes, 1, NULL, 0, 1, ret);
    }
    plain_out_release(&o, s->c);
    return r;
}

/* ---- handles ---- */

void skate_actor_copy(skate_session *s, skate_actor a) { skate_ref_copy(s, a.process); }
void skate_actor_drop(skate_session *s, skate_actor a) { skate_ref_drop(s, a.process); }

int skate_of_actor(skate_session *s, skate_actor a, skate_value *ret) {
    struct skate_id id = api_id(a.process);

    (void)s;
    if (id_is_nil(&id) || id_index(&id) != SKATE_INDEX_TASK)
        return api_fail(-SKATE_EINVAL, "the actor's handle is empty");
    *ret = skate_of_ref(a.process);
    ret->pin = a.index;
    return 0;
}

int skate_actor_of(skate_session *s, const skate_value *v, skate_actor *ret) {
    struct skate_id id;

    if (v->kind != SKATE_REF) return api_fail(-SKATE_ETYPE, "the value is no actor");
    id = api_id(v->as.ref);
    if (id_index(&id) != SKATE_INDEX_TASK)
        return api_fail(-SKATE_ETYPE, "the value is the ref of an object, not an actor");
    core_ref_add(s->c, &id);
    *ret = (skate_actor){.process = v->as.ref, .index = v->pin};
    return 0;
}
