/* arrow_tasks.c - tasks for test_c_arrow.py: Arrow streams, tensors, handles of actors. */
#include <skate/arrow.h>
#include <stdlib.h>

/* The stream that came, given back. */
SKATE_TASK(again) {
    struct ArrowArrayStream s;
    skate_value v;
    int r = skate_arg(call, 0, &v);

    if (r == 0) r = skate_arrow_open(&v, &s);
    return r < 0 ? r : skate_return_arrow(call, &s);
}

/* The same through the store: put, and read again by a stream that keeps the bytes by itself. */
SKATE_TASK(stored) {
    skate_session *session = skate_task_session(call);
    struct ArrowArrayStream s;
    skate_value v;
    skate_ref ref;
    int r = skate_arg(call, 0, &v);

    if (r == 0) r = skate_arrow_open(&v, &s);
    if (r == 0) r = skate_put_arrow(session, &s, &ref);
    if (r < 0) return r;
    r = skate_get_arrow(session, ref, 10000, &s);
    skate_ref_drop(session, ref);
    return r < 0 ? r : skate_return_arrow(call, &s);
}

/* What skate_get_arrow() says of something else, as the result. */
SKATE_TASK(no_table) {
    skate_session *session = skate_task_session(call);
    struct ArrowArrayStream s;
    skate_value five = skate_int(5);
    skate_ref ref;
    int r = skate_put(session, &five, &ref);

    if (r < 0) return r;
    r = skate_get_arrow(session, ref, 10000, &s);
    skate_ref_drop(session, ref);
    return r < 0 ? skate_return_str(call, skate_last_error()) : skate_return_int(call, r);
}

SKATE_TASK(scaled) {
    const skate_tensor *in = skate_arg_tensor(call, 0, SKATE_F64);
    double by = skate_arg_float(call, 1), *room;
    skate_tensor out;
    skate_value v;
    int64_t n;
    int r;

    if (!in) return 0; /* the call fails, and says why */
    n = skate_tensor_elements(in);
    room = malloc((size_t)n * sizeof *room + 1);
    if (!room) return skate_fail(call, "MemoryError", "no room");
    for (int64_t i = 0; i < n; i++) room[i] = ((const double *)in->data)[i] * by;
    out = *in;
    out.data = room;
    v = skate_of_tensor(&out);
    r = skate_return(call, &v);
    free(room);
    return r;
}

SKATE_TASK(echo) {
    skate_value v;
    int r = skate_arg(call, 0, &v);

    return r < 0 ? r : skate_return(call, &v);
}

struct keeper {
    int64_t n;
};

static int keeper_make(skate_task *call, void *self) {
    ((struct keeper *)self)->n = skate_arg_int(call, 0);
    return 0;
}

static int keeper_add(skate_task *call, void *self) {
    struct keeper *k = self;

    return skate_return_int(call, k->n += skate_arg_int(call, 0));
}
SKATE_ACTOR(keeper, sizeof(struct keeper), keeper_make, NULL, SKATE_METHOD("add", keeper_add))

/* add_to(actor, n): what its method add says. */
SKATE_TASK(add_to) {
    skate_session *s = skate_task_session(call);
    skate_value v, by, sum;
    skate_actor a;
    skate_ref ref;
    int r = skate_arg(call, 0, &v);

    if (r == 0) r = skate_actor_of(s, &v, &a);
    if (r == 0) r = skate_arg(call, 1, &by);
    if (r < 0) return r;
    r = skate_call(s, a, "add", &by, 1, 1, &ref);
    if (r == 0) r = skate_get(s, ref, -1, &sum);
    if (r == 0) {
        r = skate_return(call, &sum);
        skate_release(s, &sum);
    }
    skate_actor_drop(s, a);
    return r;
}

/* twins(actor): two more of its class, in its process. */
SKATE_TASK(twins) {
    skate_session *s = skate_task_session(call);
    skate_value v, nil, both[2], list, zero = skate_int(0);
    skate_actor a, one;
    skate_ref done;
    uint64_t first;
    int r = skate_arg(call, 0, &v);

    if (r == 0) r = skate_actor_of(s, &v, &a);
    if (r == 0) r = skate_spawn(s, a, "keeper", &zero, 1, 2, &first, &done);
    if (r == 0) r = skate_get(s, done, -1, &nil); /* other callers may be faster than this call */
    if (r < 0) return r;
    for (uint64_t i = 0; r == 0 && i < 2; i++) {
        one = a;
        one.index = first + i;
        r = skate_of_actor(s, one, &both[i]);
    }
    list = skate_list(both, 2);
    if (r == 0) r = skate_return(call, &list);
    skate_ref_drop(s, done);
    skate_actor_drop(s, a);
    return r;
}

/* through(path, value, n): what that Python function gives for (value, n); must not be opaque. */
SKATE_TASK(through) {
    skate_session *s = skate_task_session(call);
    skate_function *f;
    skate_value args[2], v;
    skate_ref ref;
    int r = skate_python_function(s, skate_arg_str(call, 0, NULL), NULL, &f);

    if (r < 0) return r;
    r = skate_arg(call, 1, &args[0]);
    if (r == 0) r = skate_arg(call, 2, &args[1]);
    if (r == 0) r = skate_submit(s, f, args, 2, &ref);
    skate_function_free(s, f);
    if (r < 0) return r;
    r = skate_get(s, ref, -1, &v);
    skate_ref_drop(s, ref);
    if (r < 0) return r;
    r = v.kind == SKATE_OPAQUE ? skate_fail(call, "TypeError", "a pickle") : skate_return(call, &v);
    skate_release(s, &v);
    return r;
}
