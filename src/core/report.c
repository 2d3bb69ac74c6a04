/* report.c - what this process tells of itself: its live tasks, what it ran.
 *
 * state_req is answered under the core mutex by whoever pumps, without the interpreter, with at
 * most WIRE_ROWS_MOST rows. What it ran goes into the ring of own/trace.h as it happens; the raylet
 * reads that, not we. Per run: two writes of 128 bytes and one look at the clock; the marks inside
 * a run (for the timeline) and the submissions are noted for some hundred a second only. Tests:
 * tests/compat/test_compat_state.py, tests/unit/own_trace_test.c. */
#include "core/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/waits.h"
#include "wire/row_list.h"

enum { MARKED_A_SECOND = 512, SUBMITS_A_TICK = 128 };

/* ---- what it ran ---- */

static struct trace_slot *note_run(struct core *c, struct run *r) {
    const struct core_job *j = &r->job;
    struct trace_slot *s = trace_open(&c->trace, &r->trace);

    s->task = j->task;
    s->actor = j->actor;
    s->begin_ns = r->began_ns;
    s->kind = (uint8_t)j->kind;
    s->once = (j->flags & CORE_ONCE) != 0;
    s->state = TRACE_RUNNING;
    s->attempt = j->attempt;
    trace_name(s, j->kind == 2 && j->cls ? j->cls : j->name,
               j->kind == 0 ? NULL : j->kind == 2 ? "__init__" : j->method);
    return s;
}

void report_run_begin(struct core *c, struct run *r) {
    struct trace_slot *s;

    if (r->began_ns - c->marks_since > INT64_C(1000000000)) {
        c->marks_since = r->began_ns;
        c->marks_left = MARKED_A_SECOND;
    }
    r->timed = c->marks_left > 0;
    c->marks_left -= r->timed;
    s = note_run(c, r);
    trace_close(&c->trace, s, r->trace);
}

void report_run_end(struct core *c, struct run *r, enum core_status status) {
    struct trace_slot *s = trace_reopen(&c->trace, r->trace);

    if (!s) s = note_run(c, r); /* 2,048 others began meanwhile */
    s->state = status == CORE_OK ? TRACE_FINISHED : TRACE_FAILED;
    s->end_ns = r->ended_ns = time_now_ns();
    s->u.marks[0] = r->marks[0];
    s->u.marks[1] = r->marks[1];
    trace_close(&c->trace, s, r->trace);
}

void core_mark(struct core_job *job, int which) {
    struct run *r = job->frame;

    if (r->timed) r->marks[which] = time_now_ns();
}

static void cut(char out[TRACE_NAME], const char *text, uint32_t len) {
    if (len >= TRACE_NAME) len = TRACE_NAME - 1;
    if (len) memcpy(out, text, len);
    out[len] = 0;
}

/* A record about a task of ours, in whose words it is not known to a worker. */
static void note_task(struct core *c, const struct task *t, enum trace_state state,
                      const char *error, size_t error_len) {
    const struct wire_task *m = task_spec(c, t);
    char name[TRACE_NAME], method[TRACE_NAME];
    uint32_t name_len, method_len;
    const char *p = wire_task_name(m, &name_len), *q = wire_task_method(m, &method_len);
    uint64_t number;
    struct trace_slot *s = trace_open(&c->trace, &number);

    cut(name, p, name_len);
    cut(method, q, method_len);
    s->task = t->id;
    s->actor = m->actor;
    s->kind = (uint8_t)t->kind;
    s->state = (uint16_t)state;
    s->attempt = t->attempt;
    s->begin_ns = s->end_ns = time_now_ns();
    if (error_len) memcpy(s->u.error, error, error_len);
    trace_name(s, name, t->kind == 0 ? NULL : method);
    trace_close(&c->trace, s, number);
}

void report_submitted(struct core *c, uint32_t index) {
    if (c->submits_left == 0) return;
    c->submits_left--;
    note_task(c, task_get(c, index), TRACE_SUBMITTED, NULL, 0);
}

void report_tick(struct core *c) { c->submits_left = SUBMITS_A_TICK; }

/* It failed without a worker's answer. data: the error value that the core made, or another's. */
void report_lost(struct core *c, uint32_t index, const struct wire_val *v, const uint8_t *data) {
    const struct task *t = task_get(c, index);
    const char *error = (const char *)data;
    size_t n = 0;

    if (t->slot == NONE) return; /* it never came to be */
    if ((v->flags & VAL_SYSTEM) && v->kind == VAL_INLINE)
        while (n < v->len && n < TRACE_ERROR - 1 && data[n] > ' ') n++;
    if (n == 0) {
        error = "dependency";
        n = strlen(error);
    }
    note_task(c, t, TRACE_LOST, error, n);
}

/* ---- rows ---- */

static uint64_t worker_proc(struct core *c, const struct task *t, uint32_t index) {
    const struct worker *w = t->state == TASK_PUSHED ? why_worker_of(c, index) : NULL;

    return w ? w->proc : 0;
}

static void tasks_rows(struct core *c, struct wire_row_list *r) {
    uint64_t stack[64];

    for (uint32_t i = 0; i < c->task_count; i++) {
        const struct task *t = &c->task_v[i];
        const struct wire_task *m;
        struct wire_task_row *row;
        uint32_t name_len, method_len;
        const char *name, *method;
        struct wire_buf b;

        if (t->state == TASK_FREE || t->slot == NONE) continue;
        if (r->total >= r->max) {
            r->total++;
            continue;
        }
        m = task_spec(c, t);
        wire_init(&b, stack, sizeof stack);
        row = wire_begin(&b, WIRE_TASK_ROW);
        row->task = t->id;
        row->actor = m->actor;
        row->kind = t->kind;
        row->job = c->info.job;
        row->attempt = t->attempt;
        row->state = t->missing ? 1 : t->state == TASK_PUSHED ? 3 : 2;
        row->proc = worker_proc(c, t, i);
        name = wire_task_name(m, &name_len);
        method = wire_task_method(m, &method_len);
        if (name_len == 0 && method_len)
            WIRE_PUT(&b, task_row, name, method, method_len);
        else
            WIRE_PUT(&b, task_row, name, name, name_len);
        wire_rows_add(r, &b);
    }
}

void report_on_req(struct core *c, uint64_t src, const struct wire_state_req *m) {
    struct wire_row_list r = {.max = m->max < WIRE_ROWS_MOST ? m->max : WIRE_ROWS_MOST,
                              .bytes_max = WIRE_ROWS_BYTES};
    struct wire_buf b;

    if (!m->head.call) return;
    if (m->what == 1) tasks_rows(c, &r);
    wire_init(&b, NULL, 0);
    wire_rows_answer(&r, m, &b);
    if (wire_end(&b) == 0) (void)proc_route(c, src, b.p, b.len);
    wire_release(&b);
}
