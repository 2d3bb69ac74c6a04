/* api_int.h - what the files of src/api, and the native worker, share behind include/skate.
 *
 * A session is a core and what a driver needs around it. Tests: tests/c. */
#ifndef SKATE_API_API_INT_H
#define SKATE_API_API_INT_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "skate/skate.h"

struct api_node; /* daemons of a session of its own */

struct skate_session {
    struct core *c;
    bool worker;           /* of a native worker: skate_close() leaves it alone */
    char name_space[128];  /* of named actors */
    struct api_node *node; /* NULL: a cluster that was there before */
    struct api_classes *classes;
    pthread_mutex_t lock;  /* the tables below and `classes` */
    void *event;           /* the frame of the last event */
    char *event_text;
    struct skate_session *next; /* of all in this process, for forks */
};

/* last_error.c: keep the sentence that belongs to a failure for skate_last_error(), return code. */
int api_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, of what the core said; without words: those of the code. */
int api_fail_of(int code, const struct skate_error *err);

/* What failed before on this thread is no longer known: a task of another begins. */
void api_forget(void);

/* session.c */
/* A session around a worker's core; api_unwrap() frees it, not the core. */
SKATE_NODISCARD int api_wrap(struct core *c, const char *name_space, skate_session **ret);
void api_unwrap(skate_session *s);

static inline struct skate_id api_id(skate_ref r) { return (struct skate_id){r.id[0], r.id[1]}; }
static inline skate_ref api_ref(struct skate_id id) {
    return (skate_ref){{id.owner, id.seq}};
}

#endif
