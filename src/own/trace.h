/* trace.h - what a process did: a ring of task records at the end of its ledger's memory file.
 *
 * One writer, the process, under its core mutex; no system call, no malloc. A record is written at
 * the start of a run and completed at its end, in place; the ring holds the newest TRACE_SLOTS. The
 * raylet reads it from outside, also after the process's death (twice, and believes only records
 * that both copies have alike). Value types; nothing blocks. Tests: tests/unit/own_trace_test.c. */
#ifndef SKATE_OWN_TRACE_H
#define SKATE_OWN_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

enum { TRACE_SLOTS = 2048, TRACE_NAME = 48, TRACE_ERROR = 16 };
/* SUBMITTED: by this process; some of them only. LOST: it failed at its owner, without an answer of
 * a worker; error says why. */
enum trace_state { TRACE_RUNNING = 1, TRACE_FINISHED, TRACE_FAILED, TRACE_SUBMITTED, TRACE_LOST };

struct trace_slot {
    uint64_t number; /* of the record, from 1; 0: free, or being written */
    struct skate_id task, actor;
    int64_t begin_ns, end_ns; /* CLOCK_MONOTONIC; end 0: not ended */
    union {
        int64_t marks[2]; /* arguments read; function returned. 0: not noted */
        char error[TRACE_ERROR];
    } u;
    uint8_t kind; /* 0 task 1 call 2 constructor */
    uint8_t once; /* it is not to be tried again when its worker dies */
    uint16_t state;
    uint32_t attempt;
    char name[TRACE_NAME];
};
_Static_assert(sizeof(struct trace_slot) == 128, "two cache lines");

struct trace_header {
    uint64_t magic, proc;
    uint64_t written; /* records so far */
    uint64_t finished, failed;
};
#define TRACE_MAGIC UINT64_C(0x3165636172747473)
#define TRACE_BYTES (UINT64_C(4096) + TRACE_SLOTS * UINT64_C(128))

struct trace { /* the writer's private view */
    struct trace_header *header;
    struct trace_slot *slots;
};

/* Take over a zeroed mapping of TRACE_BYTES (borrowed) as its writer. */
void trace_init(struct trace *t, void *mapping, uint64_t proc);
/* A new record: its zeroed slot, to be filled in place, and its number; valid after trace_close. */
struct trace_slot *trace_open(struct trace *t, uint64_t *ret_number);
void trace_close(struct trace *t, struct trace_slot *s, uint64_t number);
/* The slot of a record again, to be changed until trace_close; NULL: the ring has gone over it. */
struct trace_slot *trace_reopen(struct trace *t, uint64_t number);
/* The name, cut to fit. */
void trace_name(struct trace_slot *s, const char *name, const char *method);
/* Reader: two copies of the whole, one taken after the other; the newest `max` records that are
 * alike in both, newest first. Returns how many. */
uint32_t trace_read(const void *first, const void *second, struct trace_slot *out, uint32_t max);

#endif
