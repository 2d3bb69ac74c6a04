/* raylet_memory_info_test.c - memory of the machine, of cgroups v1 and v2, of processes: read from
 * a folder of made files, good ones and hostile ones; then from the real /proc.
 * links: base loop wire net store sched own gcs raylet */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "raylet/memory_info.h"

#define MB (UINT64_C(1) << 20)
#define MEMINFO "MemTotal:       16384000 kB\nMemFree: 5 kB\nMemAvailable:    8192000 kB\n"

static char root[64];
static const struct memory_rules rules = {.fraction = 0.9, .min_free = -1};

static int begin(void **state) {
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/skate-memory-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)ftw;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

static int end(void **state) {
    (void)state;
    return nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
}

/* A file below root, its folders made. */
static void put(const char *name, const char *text, size_t len) {
    char path[400];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        (void)mkdir(path, 0700);
        *at = '/';
    }
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void say(const char *name, const char *text) { put(name, text, strlen(text)); }

static struct memory_use now(void) { return memory_read(root, &rules); }

static void test_thresholds(void **state) {
    struct memory_rules r = {.fraction = 0.5, .min_free = -1};

    (void)state;
    assert_int_equal(memory_threshold(1000, &r), 500);
    r.min_free = 100; /* large machines: not half of it, only what must be free */
    assert_int_equal(memory_threshold(1000, &r), 900);
    r.min_free = 600;
    assert_int_equal(memory_threshold(1000, &r), 500);
    r.min_free = 5000;
    assert_int_equal(memory_threshold(1000, &r), 500);
    r = (struct memory_rules){.fraction = 1.0, .min_free = -1};
    assert_int_equal(memory_threshold(UINT64_MAX / 4, &r), UINT64_MAX / 4);
    r.fraction = 0;
    assert_int_equal(memory_threshold(1000, &r), 0);
}

static void test_machine(void **state) {
    struct memory_use u = now();

    (void)state;
    assert_int_equal(u.limit, 0); /* nothing is known: no limit, no danger */
    assert_true(memory_room(&u) == INT64_MAX);
    say("proc/meminfo", MEMINFO);
    u = now();
    assert_string_equal(u.what, "node");
    assert_int_equal(u.limit, 16000 * MB);
    assert_int_equal(u.used, 8000 * MB);
    assert_int_equal(u.threshold, 14400 * MB);
    assert_true(memory_room(&u) == (int64_t)(6400 * MB));
}

/* The group itself has no limit, its parent has one: page cache does not count. */
static void test_v2(void **state) {
    struct memory_use u;

    (void)state;
    say("proc/meminfo", MEMINFO);
    say("proc/self/cgroup", "0::/box/inner\n");
    say("sys/fs/cgroup/box/inner/memory.max", "max\n");
    say("sys/fs/cgroup/box/inner/memory.current", "99999999999\n");
    say("sys/fs/cgroup/box/memory.max", "1048576000\n");
    say("sys/fs/cgroup/box/memory.current", "1000000000\n");
    u = now();
    assert_string_equal(u.what, "cgroup");
    assert_int_equal(u.limit, 1048576000);
    assert_int_equal(u.used, 1000000000);
    assert_true(memory_room(&u) < 0);
    say("sys/fs/cgroup/box/memory.stat",
        "anon 5\nfile 400000000\nshmem 7\ninactive_file 280000000\nactive_file 100000000\nslab 5\n"
        "slab_reclaimable 20000000\n");
    u = now();
    assert_int_equal(u.used, 600000000);
    assert_true(memory_room(&u) > 0);
    say("proc/self/cgroup", "0::/../../of-the-host\n"); /* seen from inside a namespace */
    say("sys/fs/cgroup/memory.max", "1000000\n");
    say("sys/fs/cgroup/memory.current", "960000\n");
    u = now();
    assert_int_equal(u.used, 960000);
    assert_true(memory_room(&u) < 0);
}

static void test_v1(void **state) {
    struct memory_use u;

    (void)state;
    say("proc/meminfo", MEMINFO);
    say("proc/self/cgroup", "9:name=systemd:/x\n5:cpu,memory,pids:/docker/abc\n0::/\n");
    say("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"); /* the container's own */
    say("sys/fs/cgroup/memory/memory.usage_in_bytes", "530000000\n");
    say("sys/fs/cgroup/memory/memory.stat",
        "inactive_file 9\ntotal_inactive_file 30000000\ntotal_active_file 1000\n");
    u = now();
    assert_string_equal(u.what, "cgroup");
    assert_int_equal(u.used, 530000000 - 30001000);
    assert_true(memory_room(&u) < 0);
    say("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    assert_string_equal(now().what, "node");
    say("proc/self/cgroup", "5:memoryless,xmemory:/docker/abc\n");
    say("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
    assert_string_equal(now().what, "node"); /* not its controller */
}

static void test_processes(void **state) {
    struct memory_proc v[4];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    (void)state;
    say("proc/12/statm", "9000 2000 500 1 0 1200 0\n");
    say("proc/12/stat", "12 (a) b) (c) S 1 7 7 0 -1 4194560\n");
    say("proc/12/smaps_rollup", "00-ff ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\n"
        "Private_Clean:       10 kB\nPrivate_Dirty:      300 kB\nSwap:      40 kB\n");
    say("proc/13/statm", "1 2\n");
    say("proc/13/stat", "13 (dead");
    say("proc/self/statm", "1 1 1\n");
    assert_int_equal(memory_of_pid(root, 12), 1500 * page);
    assert_int_equal(memory_of_pid(root, 13), 0);
    assert_int_equal(memory_of_pid(root, 14), 0);
    assert_int_equal(memory_exact(root, 12), 350 * 1024);
    assert_int_equal(memory_exact(root, 13), 0);
    assert_int_equal(memory_scan(root, v, 4), 1);
    assert_true(v[0].pid == 12 && v[0].group == 7 && v[0].bytes == 1500 * page);
    assert_string_equal(v[0].name, "a) b) (c");
    assert_int_equal(memory_scan(root, v, 0), 0);
}

/* Whatever the files hold, nothing breaks, and what is no sense is not known. */
static void test_hostile(void **state) {
    static const char *const files[] = {
        "proc/meminfo", "proc/self/cgroup", "sys/fs/cgroup/memory.max", "proc/7/stat",
        "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat", "proc/7/statm",
        "sys/fs/cgroup/memory/memory.limit_in_bytes", "proc/7/smaps_rollup",
        "sys/fs/cgroup/memory/memory.usage_in_bytes"};
    static const char *const texts[] = {
        "", "\n", ":", "::", "0::", "0::/", "5:memory:/a/../b", "MemTotal:", "MemTotal: -5 kB\n",
        "99999999999999999999999999999999", "inactive_file 99999999999999999999999\n",
        "MemTotal: 99999999999999999999 kB\nMemAvailable: 99999999999999999999999 kB\n",
        "MemTotal: 10 kB\nMemAvailable: 99 kB\n", "7 ()", "7 (", "7 )(", "7 (x) S", "7 (x) S 1",
        "1 99999999999999999999 1", "1 5 99", ") 1 2 3 4 (", "Swap: x kB\nSwap: 1\n", "max"};
    static char large[70000];
    uint64_t random = 11;
    struct memory_proc v[2];
    struct memory_use u;

    (void)state;
    memset(large, '/', sizeof large);
    memcpy(large, "0::/", 4);
    for (int round = 0; round < 150; round++) {
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            if ((random >> 33) % 40 == 0)
                put(files[i], large, sizeof large);
            else if ((random >> 33) % 40 == 1)
                put(files[i], (const char *)&random, 8);
            else
                say(files[i], texts[(random >> 40) % (sizeof texts / sizeof *texts)]);
        }
        u = now();
        assert_true(u.threshold <= u.limit);
        assert_true(memory_room(&u) <= (int64_t)u.threshold || u.limit == 0);
        (void)memory_exact(root, 7);
        assert_true(memory_scan(root, v, 2) <= 1);
    }
}

/* The real thing: a process that touches 64 MB has 64 MB more, shared memory does not count. */
static void test_real(void **state) {
    struct memory_use u = memory_read("", &rules);
    uint32_t me = (uint32_t)getpid();
    uint64_t before = memory_of_pid("", me), exact = memory_exact("", me);
    char *own, *shared;

    (void)state;
    assert_true(u.limit > 64 * MB && u.used > 0);
    assert_true(before > 0 && exact > 0);
    own = mmap(NULL, 64 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, 64 * MB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(own != MAP_FAILED && shared != MAP_FAILED);
    memset(own, 1, 64 * MB);
    memset(shared, 1, 64 * MB);
    assert_in_range(memory_of_pid("", me), before + 60 * MB, before + 80 * MB);
    assert_true(memory_exact("", me) >= exact + 60 * MB);
    (void)munmap(own, 64 * MB);
    (void)munmap(shared, 64 * MB);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thresholds), TEST(test_machine), TEST(test_v2), TEST(test_v1),
        TEST(test_processes), TEST(test_hostile), cmocka_unit_test(test_real)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
