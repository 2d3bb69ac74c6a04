/* skate/task.h - tasks and actors written in C: what a shared library exports to Skate's workers.
 *
 *     #include <skate/task.h>
 *
 *     SKATE_TASK(add) {
 *         return skate_return_int(call, skate_arg_int(call, 0) + skate_arg_int(call, 1));
 *     }
 *
 *     struct counter { int64_t n; };
 *     static int counter_add(skate_task *call, void *self) {
 *         struct counter *c = self;
 *         return skate_return_int(call, c->n += skate_arg_int(call, 0));
 *     }
 *     SKATE_ACTOR(counter, sizeof(struct counter), NULL, NULL, SKATE_METHOD("add", counter_add))
 *
 *     cc -shared -fPIC -o libmine.so mine.c $(pkg-config --cflags --libs skate)
 *
 * A native worker (a process without Python) loads the library on its first task, and runs one
 * task or method at a time, all on one thread. The function returns 0, or the negative result of
 * skate_fail(), skate_return...() or any other call of libskate, which then is the task's error.
 * A task that is not answered when it returns 0 gives NIL. A crash of the function costs the
 * process: its other actors die too, tasks are retried as their options say.
 *
 * Functions on a skate_task are for the thread that runs it, until the function returns. All of
 * skate/skate.h works inside (skate_task_session): a task that waits lends its CPU meanwhile. */
#ifndef SKATE_TASK_H
#define SKATE_TASK_H

#include "skate/actor.h"
#include "skate/skate.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct skate_task skate_task; /* one run of a task or method */
typedef int (*skate_task_fn)(skate_task *call);
typedef int (*skate_method_fn)(skate_task *call, void *self);

/* ---- what is exported ---- */

struct skate_method {
    const char *name;
    skate_method_fn run;
};
/* A symbol skate_entry_NAME of a library: what NAME is. */
struct skate_entry {
    uint32_t abi; /* SKATE_ABI */
    uint32_t is_actor;
    const char *name;
    skate_task_fn run;            /* of a task */
    size_t self_bytes;            /* of an actor: size of its state, which begins as zeros */
    skate_method_fn construct;    /* of an actor, may be NULL; takes the arguments */
    void (*destroy)(void *self);  /* of an actor, may be NULL; not when its process is killed */
    const struct skate_method *methods; /* ends with an empty one */
};
enum { SKATE_ABI = 1 };

#ifdef __cplusplus
#define SKATE_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define SKATE_EXPORT extern __attribute__((visibility("default")))
#endif

/* A task: SKATE_TASK(name) { ...body with the variable `call`... } */
#define SKATE_TASK(task_name)                                                                  \
    static int task_name(skate_task *call);                                                    \
    SKATE_EXPORT const struct skate_entry skate_entry_##task_name;                             \
    const struct skate_entry skate_entry_##task_name = {                                       \
        SKATE_ABI, 0, #task_name, task_name, 0, NULL, NULL, NULL};                             \
    static int task_name(__attribute__((unused)) skate_task *call)

#define SKATE_METHOD(method_name, function) {method_name, function}

/* An actor class: its name, bytes of state, constructor, destructor, and its methods. */
#define SKATE_ACTOR(class_name, bytes, make, end, ...)                                         \
    static const struct skate_method skate_methods_##class_name[] = {__VA_ARGS__, {NULL, NULL}}; \
    SKATE_EXPORT const struct skate_entry skate_entry_##class_name;                            \
    const struct skate_entry skate_entry_##class_name = {                                      \
        SKATE_ABI, 1, #class_name, NULL, bytes, make, end, skate_methods_##class_name};

/* ---- arguments ---- */

SKATE_API size_t skate_arg_count(const skate_task *call);
/* The i-th argument; valid until the function returns. -SKATE_EINVAL: there is none. A ref given
 * as an argument is its object's value here. Keyword arguments of Python come last, as one MAP. */
SKATE_API int skate_arg(skate_task *call, size_t i, skate_value *ret);
/* Short forms. An argument that is missing or of another kind makes the call fail, with a text that
 * says which and what was given, whatever the function returns; they give 0 or NULL then. A float
 * may be given as an int. Text is 0-terminated. */
SKATE_API int64_t skate_arg_int(skate_task *call, size_t i);
SKATE_API double skate_arg_float(skate_task *call, size_t i);
SKATE_API const char *skate_arg_str(skate_task *call, size_t i, size_t *ret_size);
SKATE_API const void *skate_arg_bytes(skate_task *call, size_t i, size_t *ret_size);
SKATE_API const skate_tensor *skate_arg_tensor(skate_task *call, size_t i, uint32_t dtype);

/* ---- results: the first call gives the first result, and so on ---- */

/* The value is copied before it returns. BLOCKS only for a large one in a full store. */
SKATE_API int skate_return(skate_task *call, const skate_value *v);
SKATE_API int skate_return_int(skate_task *call, int64_t i);
SKATE_API int skate_return_float(skate_task *call, double f);
SKATE_API int skate_return_str(skate_task *call, const char *text);
/* Fail with a type (a word, "ValueError") and a sentence; gives -SKATE_ETASK. In Python it raises
 * RayTaskError, and a built-in exception of that name if there is one. */
SKATE_API int skate_fail(skate_task *call, const char *type, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- where am I ---- */

/* The session of this worker; not to be closed. */
SKATE_API skate_session *skate_task_session(skate_task *call);
/* Was it cancelled? A long task asks now and then and returns; after 2 s its process is killed. */
SKATE_API bool skate_task_cancelled(const skate_task *call);
/* How often the task was tried before: 0 the first time. */
SKATE_API uint32_t skate_task_attempt(const skate_task *call);
/* Inside a method: the actor itself; a handle that is not counted. */
SKATE_API skate_actor skate_task_actor(const skate_task *call);
/* Inside a method: end this actor when the call is answered; a spawned one ends alone. */
SKATE_API int skate_task_exit_actor(skate_task *call);

#ifdef __cplusplus
}
#endif

#endif
