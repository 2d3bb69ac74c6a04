/* The codec: what is built is read back, what is broken is refused. libs: base wire */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "wire/row_list.h"
#include "wire/wire_gen.h"

static void build(struct wire_buf *b, void *stack, uint32_t cap) {
    struct skate_id ids[3] = {{1, 2}, {3, 4}, {5, 6}};
    struct wire_val val = {.kind = VAL_INLINE, .format = FORMAT_RAW, .len = 5, .nref = 3};
    struct wire_task *m;

    wire_init(b, stack, cap);
    m = wire_begin(b, WIRE_TASK);
    m->task = (struct skate_id){7, 8};
    m->nreturns = 1;
    WIRE_PUT(b, task, name, "hello", 5);
    WIRE_PUT(b, task, args, &val, sizeof val);
    WIRE_PUT(b, task, refs, ids, sizeof ids);
    WIRE_PUT(b, task, data, "12345", 5);
    assert_int_equal(wire_end(b), 0);
}

static void round_trip(void **state) {
    uint64_t stack[64];
    struct wire_buf b;
    const struct wire_task *m;
    uint32_t n;

    (void)state;
    build(&b, stack, 64); /* too small: it moves to the heap */
    assert_true(b.heap);
    assert_int_equal(wire_check(b.p, b.len), 0);
    m = (const void *)b.p;
    assert_int_equal(m->task.seq, 8);
    assert_memory_equal(wire_task_name(m, &n), "hello", 5);
    assert_int_equal(n, 5);
    assert_int_equal(wire_task_refs(m, &n)[2].owner, 5);
    assert_int_equal(n, 3);
    (void)wire_task_deps(m, &n);
    assert_int_equal(n, 0);
    assert_int_equal(wire_check_vals(wire_task_args(m, &n), 1, 5, 3), 0);
    assert_int_equal(wire_check_vals(wire_task_args(m, &n), 1, 4, 3), -SKATE_EPROTO);
    assert_int_equal(wire_check_vals(wire_task_args(m, &n), 1, 5, 2), -SKATE_EPROTO);
    wire_release(&b);
}

/* Any single changed byte or cut gives either a frame whose spans all lie inside, or an error. */
static void mutations(void **state) {
    uint64_t stack[512];
    struct wire_buf b;
    uint8_t *copy;
    uint32_t sum = 0;

    (void)state;
    build(&b, stack, sizeof stack);
    for (uint32_t i = 0; i < b.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            uint32_t n;

            copy = malloc(b.len); /* exact size: ASan sees a read beyond it */
            memcpy(copy, b.p, b.len);
            copy[i] ^= (uint8_t)(1 << bit);
            if (wire_check(copy, b.len) == 0 && wire_head(copy)->kind == WIRE_TASK) {
                const struct wire_task *m = (const void *)copy;
                const uint8_t *data = wire_task_data(m, &n);

                while (n) sum += data[--n];
                const char *name = wire_task_name(m, &n);
                while (n) sum += (uint8_t)name[--n];
            }
            free(copy);
        }
    for (uint32_t len = 0; len < b.len; len++) {
        copy = malloc(len + 1);
        memcpy(copy, b.p, len);
        assert_int_equal(wire_check(copy, len), -SKATE_EPROTO);
        free(copy);
    }
    assert_true(sum > 0);
    wire_release(&b);
}

static void add_ping(struct wire_row_list *r, uint64_t stamp) {
    uint64_t stack[8];
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    ((struct wire_ping *)wire_begin(&b, WIRE_PING))->stamp = stamp;
    wire_rows_add(r, &b);
}

/* A list of frames: what is there can be walked, what passes a bound is counted only. */
static void rows(void **state) {
    struct wire_row_list r = {.max = 700, .bytes_max = 500 * sizeof(struct wire_ping) + 8},
                         few = {.max = 3, .bytes_max = WIRE_ROWS_BYTES};
    struct wire_state_req req = {.head = {.call = 9}};
    const struct wire_state_rows *m;
    const uint8_t *frames;
    struct wire_buf b;
    uint32_t len;

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) add_ping(&r, i);
    assert_int_equal(r.total, 1000);
    assert_int_equal(r.count, 500);
    for (uint32_t i = 0; i < 5; i++) add_ping(&few, i);
    assert_int_equal(few.count, 3);
    free(few.p);
    wire_init(&b, NULL, 0);
    wire_rows_answer(&r, &req, &b);
    assert_int_equal(wire_end(&b), 0);
    assert_int_equal(wire_check(b.p, b.len), 0);
    m = (const void *)b.p;
    assert_int_equal(m->head.call, 9);
    assert_true(m->head.flags & WIRE_REPLY);
    assert_int_equal(m->count, 500);
    assert_int_equal(m->total, 1000);
    frames = wire_state_rows_frames(m, &len);
    for (uint64_t i = 0; i < 500; i++) {
        const struct wire_ping *ping = (const void *)frames;

        assert_int_equal(wire_check(frames, ping->head.size), 0);
        assert_int_equal(ping->stamp, i);
        frames += (ping->head.size + 7) & ~7u;
    }
    wire_release(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(mutations),
                                       cmocka_unit_test(rows)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
