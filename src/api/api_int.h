/* api_int.h - what the files of src/api, and the native worker, share behind include/skate.
 *
 * A session is a core and what a driver needs around it. Tests: tests/c. */
#ifndef SKATE_API_API_INT_H
#define SKATE_API_API_INT_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/plain.h"
#include "core/core.h"
#include "skate/actor.h"
#include "skate/group.h"
#include "skate/skate.h"

struct api_node; /* node_own.h: daemons of a session of its own */

/* Actors of this session whose calls are tried again; few. */
struct api_retries {
    struct api_retries *next;
    struct skate_id actor;
    int32_t count;
};

struct skate_session {
    struct core *c;
    bool worker;           /* of a native worker: skate_close() leaves it alone */
    bool forked;
    uint32_t interrupts;   /* how often skate_interrupt() was called */
    char name_space[128];  /* of named actors */
    struct api_node *node; /* NULL: a cluster that was there before */
    pthread_mutex_t lock;  /* what follows */
    struct api_retries *retries;
    uint32_t spawned;      /* actors that were given a number; their upper half is `salt` */
    uint32_t salt;
    struct api_draft *drafts; /* of skate_create() */
    /* events.c, one thread at a time */
    void *event;           /* the frame of the last event */
    char *event_text;
    uint32_t event_at, event_len;
    struct skate_session *next; /* of all in this process, for forks */
};

/* last_error.c: keep the sentence that belongs to a failure for skate_last_error(), return code. */
int api_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, of what the core said; without words: those of the code. _in: of this session. */
int api_fail_of(int code, const struct skate_error *err);
int api_fail_in(skate_session *s, int code, const struct skate_error *err);

/* What failed before on this thread is no longer known: a task of another begins. */
void api_forget(void);

/* session.c */
/* A session around a worker's core; api_unwrap() frees it, not the core. */
SKATE_NODISCARD int api_wrap(struct core *c, const char *name_space, skate_session **ret);
void api_unwrap(skate_session *s);
/* Ask a daemon: the answer is malloc'd and of that kind, else -SKATE_E... with words. BLOCKS. */
SKATE_NODISCARD int api_ask(skate_session *s, const void *frame, uint32_t len, uint16_t kind,
                            void **ret);

/* wait.c */
/* What an error value says; keeps its words for skate_last_error(). Takes over view->pin. */
int api_error_of(skate_session *s, const struct core_view *view);

/* create_values.c: values that were not sealed; the session is over. */
void api_drafts_free(skate_session *s);

/* functions.c */
/* Make a definition known (docs/design/0003-native.md): its key. */
SKATE_NODISCARD int api_define(skate_session *s, const char *kind, const char *library,
                               const char *name, uint64_t *ret);
struct api_wants {
    double num_cpus;
    const struct skate_resource *resources;
    size_t count;
};
enum { API_PACKED = 32 * 80 };
/* Packed resources; bytes, or negative with words. */
int api_pack(const struct api_wants *w, uint8_t out[API_PACKED]);
/* Submit until there is room; words for a failure. */
SKATE_NODISCARD int api_submit(skate_session *s, const struct core_task *t, struct skate_id *ret);

/* groups_api.c */
struct core_bundle api_place(const struct skate_group *g, int32_t bundle);

extern const char api_native_env[]; /* the runtime environment of native workers */

static inline struct skate_id api_id(skate_ref r) { return (struct skate_id){r.id[0], r.id[1]}; }
static inline skate_ref api_ref(struct skate_id id) {
    return (skate_ref){{id.owner, id.seq}};
}

#endif
