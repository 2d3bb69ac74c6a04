/* spill_steps.h - private to spill_io.c: a write or a read, cut into steps for two threads.
 *
 * A write: step 0 opens the file; each of the middle ones sums up and writes some 8 MB; the last
 * one writes the heads of large records and of the file, and closes it. A target that takes a file
 * only as a whole has one step. A read: step 0 reads the record's head, with the first 2 MB when
 * these follow it and are wanted; each other one reads some 2 MB, waits for the head, verifies and
 * hands over. A job's fields are guarded by spill_io's lock, but for what the steps below say that
 * they write. */
#ifndef SKATE_RAYLET_SPILL_STEPS_H
#define SKATE_RAYLET_SPILL_STEPS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "raylet/spill_io.h"

enum {
    SPILL_THREADS = 2,
    SPILL_WRITE_STEP = 8 << 20,
    SPILL_READ_STEP = 2 << 20, /* stays in a core's cache until it is verified */
    SPILL_ROOM = SPILL_BLOCK + SPILL_READ_STEP,
    SPILL_TRIES = 17, /* one more than a target has places */
};

enum job_kind { JOB_READ, JOB_WRITE, JOB_TRASH };

/* Some whole records, or one part of a large one. */
struct part {
    uint32_t first, count;
    uint64_t from, bytes; /* count 1: of that record; else from is 0 */
    bool is_whole;
};

struct job {
    struct job *next;
    enum job_kind kind;
    uint32_t next_step, steps, running, tries;
    bool ready;  /* step 0 has ended */
    bool opened; /* written by step 0: the target may have such a file */
    int status;
    struct skate_error err;
    uint64_t file, at, bytes; /* at, bytes: of a punch (0: the whole file); bytes of data written */

    /* a write */
    uint32_t count, part_count;
    struct spill_place *places; /* written by the steps: check */
    uint64_t *sums;             /* of all granules, record by record; written by the steps */
    uint64_t *first_sum;        /* where a record's begin in it */
    uint8_t *heads; /* of the file, then of its records one after the other; written by the steps */
    uint64_t *head_at; /* where a record's is in it */
    struct part *parts;
    spill_wrote_fn *wrote;
    void *arg;

    /* a read */
    struct spill_read read;
    uint32_t record;
    uint64_t step_bytes;
    bool is_joined; /* step 0 reads the first part, too */
    uint8_t *head; /* written by step 0 ... */
    struct spill_record_head head_says;
    struct skate_error head_why;
    int head_state; /* ... which ends with this: 0, 1: right, negative: not; under env's lock */
};

struct spill_env {
    const uint8_t *arena;
    struct spill_target *target;
    uint64_t nonce;
    pthread_mutex_t lock; /* head_state */
    pthread_cond_t head_known;
};

/* A record with its head, on disk. */
static inline uint64_t record_room(uint64_t bytes) {
    return spill_head_bytes(bytes) + spill_padded(bytes);
}

/* The caller fills in who is told, and the number of the file. */
struct job *job_new_write(const struct spill_env *env, const struct extent_span *pieces,
                          uint32_t n);
struct job *job_new_read(const struct spill_read *read);
void job_free(struct job *j);
/* A step that may begin now (counted as running), or false. */
bool job_claim(struct job *j, uint32_t *ret_step);
/* A write that failed begins anew, if that may help: the target may know another place. */
bool job_again(struct job *j);
/* Run a claimed step, without the lock. `room`: SPILL_ROOM bytes of this thread. */
int job_step(struct spill_env *env, struct job *j, uint32_t step, uint8_t *room,
             struct skate_error *err);

#endif
