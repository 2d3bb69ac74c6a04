/* What a death record says: the cause, the place, the last lines; and that it has a bound.
 * links: base loop wire net store sched own gcs raylet */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "raylet/death_record.h"

static struct death_facts facts(const struct death_notes *n) {
    return (struct death_facts){.pid = 77, .node = 3, .signal = 0, .code = -1, .reason = "",
                                .node_ip = "10.0.0.1", .notes = n};
}

static void says(const char *text, const char *what) {
    if (!strstr(text, what)) fail_msg("no \"%s\" in: %s", what, text);
}

static void says_not(const char *text, const char *what) {
    if (strstr(text, what)) fail_msg("\"%s\" in: %s", what, text);
}

static void test_causes(void **state) {
    struct death_notes n = {.peak_bytes = 123 * 1000000};
    struct death_facts f = facts(&n);
    char out[DEATH_TEXT];

    (void)state;
    f.signal = SIGSEGV;
    death_record(&f, out);
    says(out, "worker process 77 was killed by signal 11 (SIGSEGV)");
    says(out, "on node 3 (10.0.0.1); at most 123 MB of memory");
    says_not(out, "outside");
    f.signal = SIGKILL;
    death_record(&f, out);
    says(out, "killed from outside");
    f.oom = true;
    death_record(&f, out);
    says(out, "OOM killer");
    f.oom = false;
    f.reason = "its owner died";
    death_record(&f, out);
    says(out, "(SIGKILL): its owner died");
    says_not(out, "outside");
    f.signal = 0;
    f.code = 7;
    f.reason = "";
    death_record(&f, out);
    says(out, "exited with code 7");
    f.intended = true;
    f.reason = "the actor ended itself";
    death_record(&f, out);
    assert_string_equal(out, "worker process 77 ended: the actor ended itself");
}

/* Ended for want of memory: that is the whole reason, its last lines come behind it. */
static void test_verdict(void **state) {
    struct death_notes n = {.verdict = "Task f was killed due to this"};
    struct death_facts f = facts(&n);
    char out[DEATH_TEXT];

    (void)state;
    f.signal = SIGKILL;
    f.reason = "the node ran low";
    death_record(&f, out);
    assert_string_equal(out, "Task f was killed due to this");
    death_notes_output(&n, "step 7\n", 7);
    death_record(&f, out);
    says(out, "its last lines:");
    says(out, "| step 7");
    f.intended = true; /* an idle worker: nobody lost anything */
    death_record(&f, out);
    assert_string_equal(out, "worker process 77 ended: the node ran low");
    n.verdict = NULL;
    death_notes_release(&n);
}

static void test_last_lines(void **state) {
    struct death_notes n = {0};
    struct death_facts f = facts(&n);
    char out[DEATH_TEXT], line[64];

    (void)state;
    f.code = 1;
    for (int i = 0; i < 500; i++) {
        int len = snprintf(line, sizeof line, "line %d.\n", i);

        death_notes_output(&n, line, (uint32_t)len);
    }
    death_notes_output(&n, "\x1b[31mred\x1b[0m \x01\rend\n", 18);
    death_record(&f, out);
    says(out, "\n    | red ?end");
    says(out, "\n    | line 499.");
    says(out, "\n    | line 481.");
    says_not(out, "line 480.");
    death_notes_release(&n);
}

static void test_no_lines_of_our_own(void **state) {
    static const char text[] = "Fatal\n  File \"/a/b.py\", line 1 in f\n"
                               "  File \"/x/skate/_worker.py\", line 2 in g\n"
                               "  File \"<string>\", line 4 in <module>\n";
    struct death_notes n = {0};
    struct death_facts f = facts(&n);
    char out[DEATH_TEXT];

    (void)state;
    death_notes_output(&n, text, sizeof text - 1);
    death_record(&f, out);
    says(out, "| Fatal");
    says(out, "/a/b.py");
    says_not(out, "skate/_worker");
    says_not(out, "<string>");
    death_notes_release(&n);
}

static void test_bounds(void **state) {
    static char much[100000], why[DEATH_REASON];
    struct death_notes n = {0};
    struct death_facts f = facts(&n);
    char out[DEATH_TEXT];

    (void)state;
    memset(much, 'x', sizeof much);
    memset(why, 'y', sizeof why - 1);
    f.signal = SIGKILL;
    f.reason = why;
    death_notes_output(&n, much, sizeof much); /* one line without an end */
    assert_int_equal(n.tail_len, DEATH_TAIL);
    death_record(&f, out);
    assert_true(strlen(out) < DEATH_TEXT);
    for (size_t i = 0; i < sizeof much; i += 1 + i % 97) much[i] = '\n';
    for (size_t i = 0; i + 200 < sizeof much; i += 199) {
        death_notes_output(&n, much + i, 199);
        death_record(&f, out);
        assert_true(strlen(out) < DEATH_TEXT);
    }
    death_notes_release(&n);
}

static void test_counter(void **state) {
    (void)state;
    assert_int_equal(death_counter("low 0\noom 5\noom_kill 3\noom_group_kill 0\n", "oom_kill"), 3);
    assert_int_equal(death_counter("oom_kill 4", "oom_kill"), 4);
    assert_int_equal(death_counter("oom_killer 4\n\n", "oom_kill"), 0);
    assert_int_equal(death_counter("", "oom_kill"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_causes), cmocka_unit_test(test_verdict),
        cmocka_unit_test(test_last_lines),
        cmocka_unit_test(test_no_lines_of_our_own), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_counter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
