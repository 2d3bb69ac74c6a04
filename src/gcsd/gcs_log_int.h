/* gcs_log_int.h - what gcs_log.c asks of a place to keep records (SQLite, Redis). Blocking calls,
 * from one thread at a time. A row is {table, key, value, sum}; what they mean is not its business.
 * Errors as gcs_log.h says. */
#ifndef SKATE_GCSD_GCS_LOG_INT_H
#define SKATE_GCSD_GCS_LOG_INT_H

#include "gcsd/gcs_log.h"

enum { ROW_SUM = 16 };

struct log_row {
    uint32_t table, key_len, len;
    const void *key, *value; /* value NULL: remove the row */
    const uint8_t *sum;      /* ROW_SUM bytes */
};

struct log_batch {
    uint64_t epoch, seq; /* seq: of this commit, one more than that of the last */
    const struct log_row *rows;
    uint32_t count;
    bool anew; /* these are all there is: what lies there goes first */
};

struct log_place {
    int (*open)(const struct gcs_log_opts *opts, void **ret, struct skate_error *err);
    /* Raise the epoch, durably, to log_epoch_least() or by one, and say what it is now. */
    int (*raise)(void *self, uint64_t *ret_epoch, struct skate_error *err);
    /* Give every row that can be read; -SKATE_EPROTO when some could not. */
    int (*load)(void *self, void (*on_row)(void *arg, const struct log_row *row), void *arg,
                struct skate_error *err);
    /* All rows in one transaction, durable when it returns 0, if the epoch is still ours.
     * -SKATE_ENOENT: what was durable is not there any more, and nobody else has opened it. */
    int (*commit)(void *self, const struct log_batch *batch, struct skate_error *err);
    /* The seq of a commit that was durable once, kept apart from the log; 0: nothing is known. A
     * log that ends before it has lost its end. */
    uint64_t (*witness)(void *self);
    /* Put what is there aside and begin an empty log with this epoch. */
    int (*renew)(void *self, uint64_t epoch, struct skate_error *err);
    void (*close)(void *self);
};
extern const struct log_place log_sqlite, log_redis;

/* The time in microseconds: larger than any epoch of a log that was lost, or of which an old copy
 * was put back, so that raylets that have seen those do not take its new head for a stale one. */
uint64_t log_epoch_least(void);

#endif
