/* gcs_log.h - where the records of the control store outlive its process.
 *
 * One log holds, for each thing of the store, its latest record with a checksum, and the sum over
 * all of them, so that a record that is damaged, missing or left over is found when it is opened.
 * A commit is atomic and durable, or did not happen. Each opening raises the log's epoch, and every
 * commit is fenced by it: who opened it before can write nothing more. Opening and loading block;
 * then a thread of the log's own commits, and on_done comes from the loop.
 * Where: an SQLite file, or a Redis server. Tests: tests/unit/gcs_log_test.c. */
#ifndef SKATE_GCSD_GCS_LOG_H
#define SKATE_GCSD_GCS_LOG_H

#include "gcs/gcs.h"
#include "loop/loop.h"

struct gcs_log;

struct gcs_log_opts {
    struct loop *loop;     /* borrowed */
    const char *path;      /* of the SQLite file; "" or NULL: it is in Redis */
    const char *redis;     /* host:port */
    const char *user;      /* of Redis; "" or NULL: the default one */
    const char *password;  /* of Redis; "" or NULL: none */
    const char *name;      /* of the cluster within Redis; "" or NULL: "default" */
    bool recover;          /* go on without records that are damaged or do not fit */
    /* 0: the batch is durable. -SKATE_EIO: it is not yet, and is tried again and again (told once,
     * and when the reason changes). -SKATE_ESTALE: another has opened this log; -SKATE_EPROTO: it
     * is damaged; after these two nothing is committed any more. -SKATE_ENOENT: the place has lost
     * what it had, the batch too: gcs_log_commit_all() is next. */
    void (*on_done)(void *arg, int status, const char *text);
    void *arg;
};

/* Open or make the log and raise its epoch. -SKATE_EBUSY: another process has it open.
 * -SKATE_EPROTO: it is damaged. -SKATE_EAUTH, -SKATE_EIO, -SKATE_EINVAL. The text says what to
 * do. */
SKATE_NODISCARD int gcs_log_open(const struct gcs_log_opts *opts, struct gcs_log **ret,
                                 struct skate_error *err);
uint64_t gcs_log_epoch(const struct gcs_log *l);
/* Give every record to `g` and end its restore; then the thread starts. -SKATE_EPROTO. */
SKATE_NODISCARD int gcs_log_load(struct gcs_log *l, struct gcs *g, int64_t now_ns,
                                 struct skate_error *err);
/* Write these; their memory is the log's from now on. One batch at a time: until on_done(0). */
void gcs_log_commit(struct gcs_log *l, struct gcs_records *batch);
/* The same, of all records that there are, in the place of what the log has. */
void gcs_log_commit_all(struct gcs_log *l, struct gcs_records *all);
/* Ends after the attempt that runs. NULL is fine; NULL back. */
struct gcs_log *gcs_log_free(struct gcs_log *l);

#endif
