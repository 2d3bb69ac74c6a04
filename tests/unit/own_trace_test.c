/* The ring of a process's runs: order, completion in place, going round, torn and false records.
 * links: base wire own */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "own/trace.h"

struct ring {
    struct trace t;
    uint8_t *memory;
    struct trace_slot out[TRACE_SLOTS];
};

static int set_up(void **state) {
    struct ring *r = calloc(1, sizeof *r);

    r->memory = calloc(1, TRACE_BYTES);
    trace_init(&r->t, r->memory, 7);
    *state = r;
    return 0;
}

static int tear_down(void **state) {
    struct ring *r = *state;

    free(r->memory);
    free(r);
    return 0;
}

static uint64_t record(struct ring *r, uint64_t task, uint16_t state) {
    uint64_t number;
    struct trace_slot *s = trace_open(&r->t, &number);

    s->task = (struct skate_id){7, task};
    s->state = state;
    s->begin_ns = (int64_t)task;
    trace_name(s, "f", NULL);
    trace_close(&r->t, s, number);
    return number;
}

static uint32_t all(struct ring *r, uint32_t max) {
    return trace_read(r->memory, r->memory, r->out, max);
}

static void newest_first(void **state) {
    struct ring *r = *state;

    assert_int_equal(all(r, TRACE_SLOTS), 0);
    for (uint64_t i = 1; i <= 3; i++) assert_int_equal(record(r, i, TRACE_RUNNING), i);
    assert_int_equal(all(r, TRACE_SLOTS), 3);
    for (uint64_t i = 0; i < 3; i++) assert_int_equal(r->out[i].task.seq, 3 - i);
    assert_int_equal(all(r, 2), 2);
    assert_int_equal(r->out[0].task.seq, 3);
}

static void completed_in_place(void **state) {
    struct ring *r = *state;
    uint64_t first = record(r, 1, TRACE_RUNNING);
    struct trace_slot *s;

    (void)record(r, 2, TRACE_RUNNING);
    s = trace_reopen(&r->t, first);
    assert_non_null(s);
    assert_int_equal(all(r, TRACE_SLOTS), 1); /* it is being written */
    s->state = TRACE_FINISHED;
    s->end_ns = 99;
    trace_close(&r->t, s, first);
    assert_int_equal(all(r, TRACE_SLOTS), 2);
    assert_int_equal(r->out[1].state, TRACE_FINISHED);
    assert_int_equal(r->out[1].end_ns, 99);
    assert_int_equal(r->out[0].state, TRACE_RUNNING);
    assert_int_equal(r->t.header->finished, 1);
    assert_int_equal(r->t.header->written, 2);
}

static void goes_round(void **state) {
    struct ring *r = *state;
    uint64_t first = record(r, 1, TRACE_RUNNING), last = TRACE_SLOTS * 2 + 5;

    for (uint64_t i = 2; i <= last; i++) (void)record(r, i, TRACE_FINISHED);
    assert_int_equal(all(r, TRACE_SLOTS), TRACE_SLOTS);
    for (uint64_t i = 0; i < TRACE_SLOTS; i++) assert_int_equal(r->out[i].task.seq, last - i);
    assert_null(trace_reopen(&r->t, first)); /* its slot has another's record */
    assert_non_null(trace_reopen(&r->t, last));
}

static void half_written_records_are_left_out(void **state) {
    struct ring *r = *state;
    uint8_t *later = malloc(TRACE_BYTES);

    for (uint64_t i = 1; i <= 3; i++) (void)record(r, i, TRACE_RUNNING);
    memcpy(later, r->memory, TRACE_BYTES);
    ((struct trace_slot *)(void *)(later + 4096))[2].end_ns = 5; /* changed between the copies */
    assert_int_equal(trace_read(r->memory, later, r->out, TRACE_SLOTS), 2);
    r->t.slots[3].number = 0; /* its writer died in it */
    assert_int_equal(all(r, TRACE_SLOTS), 2);
    assert_int_equal(r->out[0].task.seq, 2);
    free(later);
}

/* A process may write what it likes into its own memory: nothing is read beyond it. */
static void noise(void **state) {
    struct ring *r = *state;

    srandom(1);
    for (int round = 0; round < 50; round++) {
        for (uint64_t i = 0; i < TRACE_BYTES; i++) r->memory[i] = (uint8_t)random();
        r->t.header->magic = TRACE_MAGIC;
        if (round & 1) r->t.header->written = UINT64_MAX - (uint64_t)round;
        (void)all(r, TRACE_SLOTS);
        for (uint64_t i = 0; i < TRACE_SLOTS; i++) r->t.slots[i].number = i + TRACE_SLOTS;
        r->t.header->written = TRACE_SLOTS * 2;
        for (uint32_t i = 0, n = all(r, TRACE_SLOTS); i < n; i++)
            assert_true(strnlen(r->out[i].name, TRACE_NAME) < TRACE_NAME);
    }
    r->t.header->magic = 0;
    assert_int_equal(all(r, TRACE_SLOTS), 0);
}

static void names(void **state) {
    struct trace_slot s;
    char longest[200];

    (void)state;
    trace_name(&s, "Cls", "method");
    assert_string_equal(s.name, "Cls.method");
    trace_name(&s, "Cls.method", "method");
    assert_string_equal(s.name, "Cls.method");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    trace_name(&s, longest, longest);
    assert_int_equal(strlen(s.name), TRACE_NAME - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(newest_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(completed_in_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(goes_round, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_written_records_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(noise, set_up, tear_down),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
