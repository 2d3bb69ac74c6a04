/* native_int.h - a native worker from inside: one thread that runs tasks and methods written in C.
 *
 * native_loop.c takes jobs, native_task.c is what they call (skate/task.h), native_actor.c makes
 * the process an actor with many instances, native_error.c says what went wrong. All state belongs
 * to that thread. Tests: tests/e2e/test_native_worker.py, tests/unit/native_*_test.c. */
#ifndef SKATE_NATIVE_NATIVE_INT_H
#define SKATE_NATIVE_NATIVE_INT_H

#include "api/api_int.h"
#include "api/plain.h"
#include "core/core.h"
#include "native/entries.h"
#include "native/instances.h"
#include "skate/task.h"

enum { ERROR_TYPE = 64, ERROR_TEXT = 4096, RESULTS_KEPT = 16 };

/* One result of a task, kept between tasks: plain values need no malloc. */
struct native_result {
    struct plain_out out;
    void *copy;     /* of bytes that are not in `out` */
    uint32_t held;  /* refs of `out` that we count */
};

/* How the error of a call is told. */
struct native_fault {
    bool set, cancelled;
    char type[ERROR_TYPE];
    char text[ERROR_TEXT];
};

struct skate_task {
    struct native_worker *w;
    struct core_job *job;
    struct plain_args args;
    uint32_t skip;              /* leading arguments that are not the method's */
    uint32_t given;             /* results so far */
    struct plain_out *batch;    /* where the result goes; NULL: it is one of the job's */
    bool leaving;               /* the instance ends after the call */
    bool quiet;                 /* a constructor: what it returns is nobody's */
    uint64_t index;             /* of the instance */
    const char *what;           /* the function's name, for errors */
    struct native_fault fault;
};

struct native_worker {
    struct core *c;
    skate_session *session;
    struct skate_task task;
    /* results of the running job */
    struct native_result **results;
    struct core_value *values;
    uint32_t result_cap;
    /* functions by key: open addressing; a key is never 0 */
    struct native_function {
        uint64_t key;
        const struct skate_entry *entry;
    } *functions;
    uint32_t function_count, function_mask;
    uint64_t last_key;
    const struct skate_entry *last;
    /* of an actor process */
    const struct native_class *cls; /* NULL: no actor */
    struct skate_id actor;
    void *self, *self_memory; /* instance 0 */
    struct instances instances;
    struct plain_out batch;
    struct plain_args batch_args;
    bool exiting;
};

/* native_error.c */
int fault_set(struct skate_task *t, const char *type, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The function gave a negative code: its words are skate_last_error(). */
void fault_of_code(struct skate_task *t, int code);
/* Finish the job with the fault; every result is that error. */
int fault_finish(struct native_worker *w, struct core_job *job, const struct native_fault *f);
int finish_cancelled(struct native_worker *w, struct core_job *job);
int finish_job(struct native_worker *w, struct core_job *job, enum core_status status,
               const struct core_value *values, uint32_t count);

/* native_task.c */
void results_drop(struct native_worker *w, uint32_t count);
const struct core_value *native_nil(void);
/* Finish the job with what the task has returned. */
int results_finish(struct native_worker *w, struct core_job *job);

/* native_actor.c */
void actor_construct(struct native_worker *w, struct core_job *job);
void actor_method(struct native_worker *w, struct core_job *job);
void actor_end(struct native_worker *w); /* destroy what lives */

/* native_loop.c */
/* The library and name of the definition under a key. False: the task's fault says why. */
bool function_named(struct native_worker *w, struct core_job *job, bool actor,
                    char library[LIBRARY_NAME_MAX + 1], char name[ENTRY_NAME_MAX + 1]);
bool native_interrupted(struct native_worker *w); /* the running task was cancelled */
int native_end_call(struct skate_task *t, int code); /* what the function gave becomes a fault */

/* native_out.c: stdout and stderr mark their lines with the name of what runs. */
void out_open(void);
void out_name(const char *name);
void out_flush(void);
void out_close(void);

#endif
