/* native_tasks.c - tasks and actors for test_native_worker.py, which compiles it as a user does. */
#include <errno.h>
#include <signal.h>
#include <skate/task.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

SKATE_TASK(add) {
    return skate_return_int(call, skate_arg_int(call, 0) + skate_arg_int(call, 1));
}

SKATE_TASK(half) { return skate_return_float(call, skate_arg_float(call, 0) / 2); }

SKATE_TASK(nothing) {
    (void)call;
    return 0;
}

SKATE_TASK(echo) {
    skate_value v;
    int r = skate_arg(call, 0, &v);

    return r < 0 ? r : skate_return(call, &v);
}

SKATE_TASK(sizes) { /* of a str, bytes, and the count of arguments */
    size_t text, bytes;
    const char *s = skate_arg_str(call, 0, &text);

    (void)skate_arg_bytes(call, 1, &bytes);
    if (s && s[text] != 0) return skate_fail(call, "AssertionError", "no 0 behind a text");
    skate_value items[3] = {skate_int((int64_t)text), skate_int((int64_t)bytes),
                            skate_int((int64_t)skate_arg_count(call))};
    skate_value list = skate_list(items, 3);
    return skate_return(call, &list);
}

SKATE_TASK(many) {
    int64_t n = skate_arg_int(call, 0);
    int r = 0;

    for (int64_t i = 0; r == 0 && i < n; i++) r = skate_return_int(call, i * i);
    return r;
}

SKATE_TASK(fails) {
    return skate_fail(call, "ValueError", "%s is bad", skate_arg_str(call, 0, NULL));
}

SKATE_TASK(latin) { return skate_fail(call, "ValueError", "a caf\xe9 and \xed\xa0\x80"); }

SKATE_TASK(returns_latin) { return skate_return_str(call, "caf\xe9"); }

SKATE_TASK(gives) { return (int)skate_arg_int(call, 0); }

SKATE_TASK(says) {
    printf("one of %s\ntwo of it", skate_arg_str(call, 0, NULL));
    fprintf(stderr, "a complaint\n");
    return 0;
}

SKATE_TASK(crashes) { /* unless a file of that name is there; makes it */
    const char *path = skate_arg_str(call, 0, NULL);
    FILE *f = path ? fopen(path, "rx") : NULL;

    if (path && access(path, F_OK) == 0) return skate_return_int(call, skate_task_attempt(call));
    f = path ? fopen(path, "w") : NULL;
    if (f) fclose(f);
    raise(SIGSEGV);
    return 0;
}

static void mark(const char *path) {
    FILE *f = fopen(path, "w");

    if (f) fclose(f);
}

/* Marks a file when it begins, then waits to be cancelled. */
SKATE_TASK(patient) {
    struct timespec moment = {0, 1000000};

    mark(skate_arg_str(call, 0, NULL));
    while (!skate_task_cancelled(call)) nanosleep(&moment, NULL);
    return 0;
}

/* The same in a call that a signal ends. */
SKATE_TASK(sleeper) {
    struct timespec hour = {3600, 0};

    mark(skate_arg_str(call, 0, NULL));
    if (nanosleep(&hour, NULL) < 0 && errno == EINTR && skate_task_cancelled(call))
        return skate_fail(call, "RuntimeError", "interrupted");
    return 0;
}

SKATE_TASK(deaf) {
    struct timespec hour = {3600, 0};

    mark(skate_arg_str(call, 0, NULL));
    for (;;) nanosleep(&hour, NULL);
    return 0;
}

SKATE_TASK(pid) { return skate_return_int(call, getpid()); }

/* An object of this worker's own, in a list; its count here ends before the task does. */
SKATE_TASK(boxed) {
    skate_session *s = skate_task_session(call);
    skate_value v, item, list;
    skate_ref ref;
    int r = skate_arg(call, 0, &v);

    if (r == 0) r = skate_put(s, &v, &ref);
    if (r < 0) return r;
    item = skate_of_ref(ref);
    list = skate_list(&item, 1);
    r = skate_return(call, &list);
    skate_ref_drop(s, ref);
    return r;
}

/* A tensor of doubles, doubled: the memory is gone when it returns. */
SKATE_TASK(doubled) {
    const skate_tensor *t = skate_arg_tensor(call, 0, SKATE_F64);
    int64_t n = t ? skate_tensor_elements(t) : 0;
    double *out = calloc((size_t)n + 1, sizeof *out);
    skate_tensor made;
    skate_value v;
    int r;

    if (!t || !out) return 0;
    for (int64_t i = 0; i < n; i++) out[i] = 2 * ((const double *)t->data)[i];
    made = *t;
    made.data = out;
    v = skate_of_tensor(&made);
    r = skate_return(call, &v);
    memset(out, 0, (size_t)n * sizeof *out);
    free(out);
    return r;
}

/* fibonacci(library, n): each call waits for two others. */
SKATE_TASK(fibonacci) {
    skate_session *s = skate_task_session(call);
    skate_value args[2], parts[2];
    int64_t n = skate_arg_int(call, 1);
    skate_function *f;
    skate_ref refs[2];
    int r;

    if (n < 2) return skate_return_int(call, n);
    r = skate_c_function(s, skate_arg_str(call, 0, NULL), "fibonacci", NULL, &f);
    if (r < 0) return r;
    args[0] = skate_str(skate_arg_str(call, 0, NULL));
    for (int i = 0; i < 2; i++) {
        args[1] = skate_int(n - 1 - i);
        r = skate_submit(s, f, args, 2, &refs[i]);
        if (r < 0) return r;
    }
    r = skate_get_many(s, refs, 2, -1, parts);
    for (int i = 0; i < 2; i++) skate_ref_drop(s, refs[i]);
    skate_function_free(s, f);
    skate_close(s); /* does nothing in a task */
    return r < 0 ? r : skate_return_int(call, parts[0].as.i + parts[1].as.i);
}

/* The value of a ref in a list; marks a file when it begins. */
SKATE_TASK(waits) {
    skate_value list, v;
    int r = skate_arg(call, 1, &list);

    mark(skate_arg_str(call, 0, NULL));
    if (r < 0) return r;
    r = skate_get(skate_task_session(call), list.as.list.items[0].as.ref, -1, &v);
    return r < 0 ? r : skate_return(call, &v);
}

/* ---- actors ---- */

struct counter {
    int64_t n;
    const char *goodbye; /* a file that destroy makes */
    char path[256];
};

static int make(skate_task *call, void *self) {
    struct counter *c = self;

    if (skate_arg_count(call) > 0) c->n = skate_arg_int(call, 0);
    if (c->n == 13) return skate_fail(call, "ValueError", "an unlucky number");
    if (skate_arg_count(call) > 1) {
        snprintf(c->path, sizeof c->path, "%s", skate_arg_str(call, 1, NULL));
        c->goodbye = c->path;
    }
    return skate_return_int(call, 99); /* nobody's */
}

static void end(void *self) {
    struct counter *c = self;

    if (c->goodbye) mark(c->goodbye);
}

static int add_to(skate_task *call, void *self) {
    struct counter *c = self;

    return skate_return_int(call, c->n += skate_arg_int(call, 0));
}

static int value(skate_task *call, void *self) {
    return skate_return_int(call, ((struct counter *)self)->n);
}

static int crash(skate_task *call, void *self) {
    (void)call;
    (void)self;
    abort();
}

static int leave(skate_task *call, void *self) {
    (void)self;
    return skate_task_exit_actor(call);
}

static int which(skate_task *call, void *self) {
    (void)self;
    return skate_return_int(call, (int64_t)skate_task_actor(call).index);
}

static int text(skate_task *call, void *self) {
    (void)self;
    return skate_return_str(call, skate_arg_str(call, 0, NULL));
}

SKATE_ACTOR(counter, sizeof(struct counter), make, end, SKATE_METHOD("add", add_to),
            SKATE_METHOD("value", value), SKATE_METHOD("crash", crash),
            SKATE_METHOD("leave", leave), SKATE_METHOD("which", which), SKATE_METHOD("text", text))

SKATE_ACTOR(small, sizeof(int32_t), NULL, NULL, SKATE_METHOD("which", which))

/* Compiled for a future skate/task.h. */
SKATE_EXPORT const struct skate_entry skate_entry_of_tomorrow;
const struct skate_entry skate_entry_of_tomorrow = {
    SKATE_ABI + 1, 0, "of_tomorrow", pid, 0, NULL, NULL, NULL};
