/* rows.c - processes of the node and what they ran, for the state API and the timeline.
 *
 * Each process keeps a ring of its newest runs at the end of its ledger's file (own/trace.h); it is
 * read by pread, so that a process that cuts its file short cannot hurt us, and twice, so that a
 * record that was being written is seen. Of a dead process the newest DEAD_EACH runs stay here, in
 * a ring of DEAD_ALL; one that still ran counts as failed. Loop thread only; a question costs two
 * reads of 256 KB for each process. Tests: tests/compat/test_compat_state.py, tests/e2e. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "own/ledger.h"
#include "raylet/answers.h"
#include "raylet/raylet.h"
#include "wire/row_list.h"

enum { DEAD_EACH = 512, DEAD_ALL = 8192 };

struct dead_run {
    struct trace_slot s;
    uint64_t proc;
    uint32_t pid, job;
};
struct dead_runs {
    uint64_t written;
    struct dead_run v[DEAD_ALL];
};
struct rows {
    struct wire_row_list list;
    int64_t wall; /* wall clock less CLOCK_MONOTONIC */
};

static void proc_row(struct rows *r, const struct proc *p) {
    uint8_t packed[RESOURCES_MAX * 80];
    size_t len = resources_pack(&p->used, packed, sizeof packed);
    struct wire_proc_row *m;
    uint64_t stack[400];
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_PROC_ROW);
    m->proc = p->id;
    m->owner = p->owner;
    m->actor = p->work == WORK_ACTOR ? p->actor : (struct skate_id){0, 0};
    m->pid = p->pid;
    m->job = p->job;
    m->role = p->role;
    m->state = p->state;
    m->work = p->work;
    m->blocked = p->blocked;
    WIRE_PUT(&b, proc_row, used, packed, len);
    wire_rows_add(&r->list, &b);
}

static int64_t wall_offset(void) {
    struct timespec wall, mono;

    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &mono);
    return ((int64_t)wall.tv_sec - mono.tv_sec) * 1000000000 + wall.tv_nsec - mono.tv_nsec;
}

static void run_row(struct rows *r, const struct dead_run *d) {
    const struct trace_slot *s = &d->s;
    uint64_t stack[64];
    struct wire_task_row *m;
    struct wire_buf b;
    bool lost = s->state == TRACE_LOST;

    if (s->state < TRACE_RUNNING || s->state > TRACE_LOST || s->kind > 2) return;
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_TASK_ROW);
    m->task = s->task;
    m->actor = s->actor;
    m->proc = d->proc;
    m->begin_ns = s->begin_ns + r->wall;
    m->end_ns = s->end_ns ? s->end_ns + r->wall : 0;
    if (!lost && s->u.marks[0]) m->args_ns = s->u.marks[0] + r->wall;
    if (!lost && s->u.marks[1]) m->done_ns = s->u.marks[1] + r->wall;
    m->pid = d->pid;
    m->job = d->job;
    m->kind = s->kind;
    m->state = s->state + 3u;
    m->attempt = s->attempt;
    WIRE_PUT(&b, task_row, name, s->name, strnlen(s->name, sizeof s->name - 1));
    if (lost) WIRE_PUT(&b, task_row, error, s->u.error, strnlen(s->u.error, TRACE_ERROR - 1));
    wire_rows_add(&r->list, &b);
}

static bool read_all(int fd, uint8_t *to) {
    uint64_t got = 0;

    while (got < TRACE_BYTES) {
        ssize_t n = pread(fd, to + got, TRACE_BYTES - got, (off_t)(LEDGER_TRACE_OFFSET + got));

        if (n <= 0) return false;
        got += (uint64_t)n;
    }
    return true;
}

/* The newest runs of a process, newest first, into `out` (TRACE_SLOTS of them). */
static uint32_t runs_of(const struct proc *p, struct trace_slot *out, uint32_t max) {
    uint8_t *two = p->ledger_fd < 0 ? NULL : malloc(2 * TRACE_BYTES);
    uint32_t n = 0;

    if (two && read_all(p->ledger_fd, two) && read_all(p->ledger_fd, two + TRACE_BYTES))
        n = trace_read(two, two + TRACE_BYTES, out, max);
    free(two);
    return n;
}

void rows_died(struct proc *p) {
    struct trace_slot *slots = malloc(TRACE_SLOTS * sizeof *slots);
    struct raylet *r = p->r;
    uint32_t n = slots ? runs_of(p, slots, DEAD_EACH) : 0;

    if (n && !r->dead_runs) r->dead_runs = calloc(1, sizeof *r->dead_runs);
    while (n-- > 0 && r->dead_runs) { /* the oldest first */
        struct dead_run *d = &r->dead_runs->v[r->dead_runs->written++ % DEAD_ALL];

        *d = (struct dead_run){.s = slots[n], .proc = p->id, .pid = p->pid, .job = p->job};
        if (d->s.state != TRACE_RUNNING) continue;
        d->s.state = TRACE_LOST;
        d->s.end_ns = loop_now_ns(r->loop);
        memset(d->s.u.error, 0, TRACE_ERROR);
        memcpy(d->s.u.error, "worker_died", sizeof "worker_died");
    }
    free(slots);
}

static void all_runs(struct raylet *r, struct rows *rows) {
    struct trace_slot *slots = malloc(TRACE_SLOTS * sizeof *slots);
    uint64_t n = r->dead_runs ? r->dead_runs->written : 0;
    uint32_t at = 0;
    struct proc *p;

    while (slots && (p = table_next(&r->procs, &at, NULL))) {
        uint32_t found = runs_of(p, slots, TRACE_SLOTS);

        for (uint32_t i = 0; i < found; i++) {
            struct dead_run d = {.s = slots[i], .proc = p->id, .pid = p->pid, .job = p->job};

            run_row(rows, &d);
        }
    }
    free(slots);
    for (uint32_t i = 0; i < DEAD_ALL && i < n; i++)
        run_row(rows, &r->dead_runs->v[(n - 1 - i) % DEAD_ALL]);
}

static void env_rows(struct raylet *r, struct rows *rows) {
    uint32_t at = 0;
    struct job *j;

    while ((j = table_next(&r->jobs, &at, NULL)))
        for (const struct job_env *e = j->envs; e; e = e->next) {
            struct wire_env_row *m;
            struct wire_buf b;

            wire_init(&b, NULL, 0);
            m = wire_begin(&b, WIRE_ENV_ROW);
            m->job = j->number;
            m->refs = e->refs;
            WIRE_PUT(&b, env_row, env, e->bytes, e->len);
            wire_rows_add(&rows->list, &b);
        }
}

void rows_answer(struct raylet *r, uint64_t src, const struct wire_state_req *m) {
    struct rows rows = {.list = {.max = m->max < WIRE_ROWS_MOST ? m->max : WIRE_ROWS_MOST,
                                 .bytes_max = WIRE_ROWS_BYTES},
                        .wall = wall_offset()};
    struct wire_buf b;
    struct proc *p;
    uint32_t at = 0;

    if (!m->head.call || !r->node) return;
    if (m->what == 4) all_runs(r, &rows);
    if (m->what == 6) env_rows(r, &rows);
    while (m->what == 3 && (p = table_next(&r->procs, &at, NULL))) proc_row(&rows, p);
    wire_init(&b, NULL, 0);
    wire_rows_answer(&rows.list, m, &b);
    if (wire_end(&b) == 0) route_send(r, src, b.p, b.len);
    wire_release(&b);
}
