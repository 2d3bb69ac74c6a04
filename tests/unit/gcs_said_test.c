/* gcs_said_test.c - lines of raylets' logs: told to drivers, kept for those who ask, bounded.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"
#include "gcs/gcs_said.h"

static void say(uint64_t link, const char *text, uint32_t len) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_SAID);
    WIRE_PUT(&b, node_said, text, text, len);
    give(link, 0, &b);
}

/* What is kept of a node; NULL: nothing. */
static const char *kept(uint32_t node) {
    static char text[SAID_BYTES + 1];
    const struct wire_rows *rows;
    struct wire_list *m;
    struct wire_buf b;
    uint32_t len, n;
    const uint8_t *p;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_LIST);
    m->what = 8;
    m->head.call = 5;
        give(1, proc_make(1, 9), &b);
    rows = sent(proc_make(1, 9), WIRE_ROWS);
    assert_non_null(rows);
    p = wire_rows_frames(rows, &len);
    for (uint32_t at = 0; at < len; at += (wire_head(p + at)->size + 7) & ~7u) {
        const struct wire_node_said *row = (const void *)(p + at);
        const uint8_t *said = wire_node_said_text(row, &n);

        if (row->node != node) continue;
        assert_true(n <= SAID_BYTES);
        memcpy(text, said, n);
        text[n] = 0;
        return text;
    }
    return NULL;
}

static void test_told_and_kept(void **state) {
    const struct wire_notice *m;

    (void)state;
    join(1, 4);
    join(2, 4);
    (void)job(proc_make(1, 1));
    assert_null(kept(2));
    say(2, "the \033[1mzygote ended\n", 21);
    m = sent(proc_make(1, 1), WIRE_NOTICE);
    assert_non_null(m);
    assert_int_equal(m->kind, 3);
    HAS_TEXT(m, notice, name, "nodename");
    HAS_TEXT(m, notice, text, "the ?[1mzygote ended\n");
    say(2, "again\n", 6);
    assert_string_equal(kept(2), "the ?[1mzygote ended\nagain\n");
    assert_null(kept(1));
    event(GCS_LINK_DOWN, 2, NULL, 0);
    assert_string_equal(kept(2), "the ?[1mzygote ended\nagain\n"); /* it is dead */
}

static void test_bounds(void **state) {
    static char line[SAID_BYTES + 2];
    const char *now_kept;

    (void)state;
    join(1, 4);
    memset(line, 'x', sizeof line);
    say(1, line, 10); /* no whole line */
    say(1, "", 0);
    line[SAID_BYTES] = '\n';
    say(1, line, SAID_BYTES + 1); /* too much at once */
    assert_null(kept(1));
    line[SAID_BYTES] = 'x';
    line[99] = '\n';
    for (int i = 0; i < 500; i++) say(1, line, 100);
    say(1, "last\n", 5);
    now_kept = kept(1);
    assert_non_null(now_kept);
    assert_true(strlen(now_kept) > SAID_BYTES - 200);
    assert_int_equal(now_kept[0], 'x');
    assert_int_equal(strlen(now_kept) % 100, 5); /* whole lines went */
    assert_string_equal(now_kept + strlen(now_kept) - 6, "\nlast\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_told_and_kept, start, stop),
        cmocka_unit_test_setup_teardown(test_bounds, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
