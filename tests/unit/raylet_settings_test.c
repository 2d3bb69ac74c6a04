/* raylet_settings_test.c - the line of settings, good and bad.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "raylet/raylet_settings.h"

#define KEY "cluster_key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define REST "\tgcs=127.0.0.1:700\tnode_ip=127.0.0.1\trun_dir=/r\tpython=/usr/bin/python3"

static int parse(const char *text, struct raylet_settings *ret, struct skate_error *err) {
    char line[2000];

    snprintf(line, sizeof line, "%s\n", text);
    return raylet_settings_parse(line, ret, err);
}

static void test_good(void **state) {
    struct raylet_settings s;
    struct skate_error err = {""};

    (void)state;
    assert_int_equal(parse(KEY REST "\tlisten_port=0\tpython_path=/a:/b\tresources=CPU:2,a:b:0.5"
                           "\tarena_bytes=1048576\tis_head=1\tlocal_session=1\tlifeline_pid=12"
                           "\tshared_cpus=3\tlend_cpus=1\treport_log=1\tgcs_wait_s=9\tslot=s-1"
                           "\tsomething_newer=x", &s, &err), 0);
    assert_int_equal(s.key[1], 0x11);
    assert_int_equal(s.shared_cpus, 3);
    assert_int_equal(s.lend_cpus, 1);
    assert_true(s.report_log);
    assert_int_equal(s.gcs_wait_s, 9);
    assert_string_equal(s.slot, "s-1");
    assert_string_equal(s.gcs_ip, "127.0.0.1");
    assert_int_equal(s.gcs_port, 700);
    assert_string_equal(s.python_path, "/a:/b");
    assert_int_equal(resources_amount(&s.resources, "CPU"), 20000);
    assert_int_equal(resources_amount(&s.resources, "a:b"), 5000);
    assert_int_equal(s.arena_bytes, 1048576);
    assert_true(s.is_head);
    assert_true(s.local_session);
    assert_int_equal(s.lifeline_pid, 12);
    assert_false(s.no_lifeline);
    raylet_settings_release(&s);
    assert_int_equal(s.key[1], 0);
}

static void test_tls(void **state) {
    struct raylet_settings s;
    struct skate_error err = {""};

    (void)state;
    assert_int_equal(parse(KEY REST, &s, &err), 0);
    assert_false(s.tls.on);
    assert_null(tls_settings_of(&s.tls).cert);
    raylet_settings_release(&s);
    assert_int_equal(parse(KEY REST "\ttls=1\ttls_cert=/c\ttls_key=/k\ttls_ca=/a", &s, &err), 0);
    assert_true(s.tls.on);
    assert_string_equal(tls_settings_of(&s.tls).key, "/k");
    assert_string_equal(tls_settings_of(&s.tls).ca, "/a");
    raylet_settings_release(&s);
    assert_int_equal(parse(KEY REST "\ttls=yes", &s, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "tls"));
}

static void test_store(void **state) {
    struct raylet_settings s;
    struct skate_error err = {""};

    (void)state;
    assert_int_equal(parse(KEY REST, &s, &err), 0);
    assert_string_equal(s.spill, "/r/spill");
    assert_false(s.spill_remote);
    assert_null(s.spill_options);
    assert_true(s.spill_threshold == 0.8 && s.store_wait_s == 30 && s.span == 0);
    raylet_settings_release(&s);
    assert_null(s.spill);
    assert_int_equal(parse(KEY REST "\tspill=/a:/b c\tspill_threshold=0.5\tstore_wait_s=1.5"
                           "\tspan=1073741824\tspill_min_bytes=100\tspill_file_bytes=200",
                           &s, &err), 0);
    assert_string_equal(s.spill, "/a:/b c");
    assert_true(s.spill_threshold == 0.5 && s.store_wait_s == 1.5 && s.span == 1 << 30);
    assert_true(s.spill_min_bytes == 100 && s.spill_file_bytes == 200);
    raylet_settings_release(&s);
    assert_int_equal(parse(KEY REST "\tspill=s3://b/a=b\tspill_remote=1\tspill_options={\"a\": 1}",
                           &s, &err), 0);
    assert_string_equal(s.spill, "s3://b/a=b");
    assert_string_equal(s.spill_options, "{\"a\": 1}");
    assert_true(s.spill_remote);
    raylet_settings_release(&s);
    assert_int_equal(parse(KEY REST "\tspill=", &s, &err), 0);
    assert_null(s.spill); /* switched off */
    raylet_settings_release(&s);
}

static void test_memory(void **state) {
    struct raylet_settings s;
    struct skate_error err = {""};

    (void)state;
    assert_int_equal(parse(KEY REST, &s, &err), 0);
    assert_true(s.memory.refresh_ms == 250 && s.memory.threshold == 0.95 &&
                s.memory.min_free == -1 && s.memory.limit == 0 && !s.memory.enforce);
    raylet_settings_release(&s);
    assert_int_equal(parse(KEY REST "\tmemory_monitor_refresh_ms=0\tmemory_usage_threshold=0.5"
                           "\tmin_memory_free_bytes=7\tmemory_limit_bytes=9\tenforce_task_memory=1"
                           "\tidle_worker_killing_memory_threshold_bytes=5", &s, &err), 0);
    assert_true(s.memory.refresh_ms == 0 && s.memory.threshold == 0.5 && s.memory.min_free == 7 &&
                s.memory.limit == 9 && s.memory.enforce && s.memory.idle_bytes == 5);
    raylet_settings_release(&s);
}

/* Each bad line is refused, with a text that names the setting and never its value. */
static void test_bad(void **state) {
    static const char *lines[][2] = {
        {"", "missing"},
        {KEY, "missing"},
        {"nonsense", "'='"},
        {"cluster_key=00" REST, "cluster_key"},
        {"cluster_key=zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" REST,
         "cluster_key"},
        {KEY REST "\tgcs=localhost", "gcs"},
        {KEY REST "\tlisten_port=70000", "listen_port"},
        {KEY REST "\tmemory_usage_threshold=1.5", "memory_usage_threshold"},
        {KEY REST "\tmemory_usage_threshold=nan", "memory_usage_threshold"},
        {KEY REST "\tmemory_monitor_refresh_ms=-1", "memory_monitor_refresh_ms"},
        {KEY REST "\tmin_memory_free_bytes=-1", "min_memory_free_bytes"},
        {KEY REST "\tenforce_task_memory=2", "enforce_task_memory"},
        {KEY REST "\tmemory_limit_bytes=18446744073709551615", "memory_limit_bytes"},
        {KEY REST "\tshared_cpus=2000000", "shared_cpus"},
        {KEY REST "\tlend_cpus=-1", "lend_cpus"},
        {KEY REST "\tgcs_wait_s=-1", "gcs_wait_s"},
        {KEY REST "\tlisten_port=-1", "listen_port"},
        {KEY REST "\tarena_bytes=1e9", "arena_bytes"},
        {KEY REST "\tarena_bytes=10", "arena_bytes"},
        {KEY REST "\tresources=CPU", "resources"},
        {KEY REST "\tresources=CPU:-1", "resources"},
        {KEY REST "\tresources=CPU:nan", "resources"},
        {KEY REST "\tresources=:1", "resources"},
        {KEY REST "\tspill_threshold=1.1", "spill_threshold"},
        {KEY REST "\tspill_threshold=nan", "spill_threshold"},
        {KEY REST "\tstore_wait_s=-1", "store_wait_s"},
        {KEY REST "\tstore_wait_s=", "store_wait_s"},
        {KEY REST "\tspan=x", "span"},
        {KEY REST "\tspill_file_bytes=-1", "spill_file_bytes"},
    };
    struct raylet_settings s;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct skate_error err = {""};

        assert_int_equal(parse(lines[i][0], &s, &err), -SKATE_EINVAL);
        assert_non_null(strstr(err.text, lines[i][1]));
        assert_null(strstr(err.text, "2233"));
    }
}

static void test_read(void **state) {
    static const char line[] = KEY REST "\n";
    struct raylet_settings s;
    struct skate_error err = {""};
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], line, 10), 10);
    assert_int_equal(write(fds[1], line + 10, sizeof line - 11), sizeof line - 11);
    assert_int_equal(raylet_settings_read(fds[0], &s, &err), 0);
    raylet_settings_release(&s);
    close(fds[1]);
    assert_int_equal(raylet_settings_read(fds[0], &s, &err), -SKATE_EDEAD);
    close(fds[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_store),
                                       cmocka_unit_test(test_tls),
                                       cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
