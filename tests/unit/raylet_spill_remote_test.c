/* raylet_spill_remote_test.c - spilling to URIs through the real helper: file://, memory://, and a
 * file system of the test's own that fails, hangs and dies when it is told to.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "raylet/spill_remote.h"

enum { LARGE = 20 << 20, SMALL = 8192, PATH = 300 };

static char folder[PATH], python[PATH];
static uint8_t *bytes, *back;

/* What `tricky://` does, by the words in the file `orders`: "fail N" (the next N operations, for a
 * reason that may pass), "refuse", "hang", "die". */
static const char tricky[] =
    "import os, threading\n"
    "from fsspec.implementations.local import LocalFileSystem\n"
    "HERE = os.path.dirname(__file__)\n"
    "class Tricky(LocalFileSystem):\n"
    "    protocol = ('tricky',)\n"
    "    @classmethod\n"
    "    def _strip_protocol(cls, path):\n"
    "        return LocalFileSystem._strip_protocol(str(path).removeprefix('tricky://'))\n"
    "    def obey(self):\n"
    "        try:\n"
    "            words = open(HERE + '/orders').read().split()\n"
    "        except FileNotFoundError:\n"
    "            return\n"
    "        if words[0] == 'fail':\n"
    "            left = int(words[1]) - 1\n"
    "            if left: open(HERE + '/orders', 'w').write(f'fail {left}')\n"
    "            else: os.unlink(HERE + '/orders')\n"
    "            raise ConnectionResetError('the far end hung up')\n"
    "        if words[0] == 'refuse': raise PermissionError('not with this key: pass-word')\n"
    "        if words[0] == 'full': raise OSError(28, 'No space left on device')\n"
    "        os.rename(HERE + '/orders', HERE + '/obeyed')\n"
    "        if words[0] == 'die': os._exit(9)\n"
    "        threading.Event().wait()\n"
    "    def pipe_file(self, *a, **k):\n"
    "        self.obey()\n"
    "        return super().pipe_file(*a, **k)\n"
    "    def cat_file(self, *a, **k):\n"
    "        self.obey()\n"
    "        return super().cat_file(*a, **k)\n";

static void put_file(const char *name, const char *text) {
    char path[PATH + 50];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static bool there(const char *name) {
    char path[PATH + 50];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void forget(const char *name) {
    char path[PATH + 50];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    (void)unlink(path);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)ftw;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

static int setup(void **state) {
    const char *tmp = getenv("TMPDIR");
    char path[PATH + 50];
    ssize_t n;

    (void)state;
    n = readlink("/proc/self/exe", python, sizeof python - 1);
    assert_true(n > 0);
    python[n] = 0;
    for (int i = 0; i < 5; i++) *strrchr(python, '/') = 0; /* build/<variant>/tests/unit/<this> */
    n = (ssize_t)strlen(python);
    snprintf(python + n, sizeof python - (size_t)n, "/.venv/bin/python");
    assert_int_equal(access(python, X_OK), 0);
    snprintf(folder, sizeof folder, "%s/skt-remote-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    put_file("tricky_fs.py", tricky);
    snprintf(path, sizeof path, "%s/tricky-1.dist-info", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    put_file("tricky-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tricky\nVersion: 1\n");
    put_file("tricky-1.dist-info/entry_points.txt", "[fsspec.specs]\ntricky = tricky_fs:Tricky\n");
    bytes = malloc(LARGE);
    back = malloc(LARGE);
    for (int i = 0; i < LARGE; i++) bytes[i] = (uint8_t)(i * 31 + i / 4096);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(bytes);
    free(back);
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Our only child; 0: none. */
static pid_t helper(void) {
    char path[64], text[64] = "";
    int fd;
    ssize_t n;

    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    fd = open(path, O_RDONLY);
    n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static void kill_helper(void) {
    pid_t pid = helper();

    if (pid > 0) kill(pid, SIGKILL);
    while (pid > 0 && helper() == pid) usleep(1000);
}

static struct spill_target *begin(const char *scheme, const char *options) {
    char uri[PATH + 50], path[PATH + 50], log_path[PATH + 50];
    struct spill_remote_start s = {.python = python, .python_path = path, .log_path = log_path,
                                   .uris = uri, .options = options, .nonce = 0xabcdef,
                                   .pause_ms = 10};
    struct spill_target *t = NULL;
    struct skate_error err = {""};

    snprintf(uri, sizeof uri, "%s://%s/far", scheme, folder);
    snprintf(path, sizeof path, "+%s", folder);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    assert_int_equal(spill_remote_new(&s, &t, &err), 0);
    return t;
}

/* Everything is gone: files, and the process. */
static void end(struct spill_target *t) {
    char path[PATH + 50];
    struct dirent *d;
    DIR *dir;

    t->free(t);
    assert_int_equal(helper(), 0);
    snprintf(path, sizeof path, "%s/far", folder);
    dir = opendir(path);
    while (dir && (d = readdir(dir))) assert_int_equal(d->d_name[0], '.');
    if (dir) closedir(dir);
}

static int put_bytes(struct spill_target *t, uint64_t file, uint64_t from, uint64_t count,
                     struct skate_error *err) {
    struct iovec pieces[3] = {{bytes + from, 4096},
                              {bytes + from + 4096, count / 2},
                              {bytes + from + 4096 + count / 2, count - count / 2 - 4096}};

    return t->write(t, file, pieces, 3, err);
}

static void check(struct spill_target *t, uint64_t file, uint64_t from, uint64_t at,
                  uint64_t count) {
    struct skate_error err = {""};

    memset(back, 0, count);
    assert_int_equal(t->read(t, file, at, back, count, &err), 0);
    assert_memory_equal(back, bytes + from + at, count);
}

static void round_trip(const char *scheme) {
    struct spill_target *t = begin(scheme, NULL);
    struct skate_error err = {""};

    assert_int_equal(put_bytes(t, 1, 4096, LARGE - 4096, &err), 0);
    assert_int_equal(put_bytes(t, 2, 0, SMALL, &err), 0);
    check(t, 1, 4096, 0, LARGE - 4096);
    check(t, 1, 4096, 8 << 20, 12288);
    check(t, 2, 0, 4096, 4096);
    assert_int_equal(put_bytes(t, 2, 8192, SMALL, &err), 0); /* anew */
    check(t, 2, 8192, 0, SMALL);
    assert_int_equal(t->read(t, 2, 4096, back, SMALL, &err), -SKATE_ENOENT); /* it ends before */
    assert_int_equal(t->remove(t, 2), 0);
    assert_int_equal(t->remove(t, 2), 0);
    assert_int_equal(t->read(t, 2, 0, back, 4096, &err), -SKATE_ENOENT);
    t->punch(t, 1, 0, 4096);
    end(t);
}

static void test_files(void **state) {
    (void)state;
    round_trip("file");
}

static void test_memory(void **state) {
    (void)state;
    round_trip("memory");
}

struct user {
    struct spill_target *t;
    uint64_t file;
    int rounds, result;
    pthread_t thread;
};

static void *use(void *arg) {
    struct user *u = arg;
    uint8_t *own = malloc(LARGE);
    struct skate_error err = {""};

    for (int i = 0; i < u->rounds && u->result == 0; i++) {
        uint64_t count = i % 2 ? LARGE - 8192 : SMALL;

        u->result = put_bytes(u->t, u->file + (uint64_t)i, 4096, count, &err);
        if (u->result == 0)
            u->result = u->t->read(u->t, u->file + (uint64_t)i, 0, own, count, &err);
        if (u->result == 0 && memcmp(own, bytes + 4096, count) != 0) u->result = 1;
        if (u->result < 0) fprintf(stderr, "%s\n", err.text);
    }
    free(own);
    return NULL;
}

/* Three callers of two slots. */
static void test_threads(void **state) {
    struct spill_target *t = begin("file", NULL);
    struct user users[3];

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        users[i] = (struct user){.t = t, .file = 100 * (i + 1), .rounds = 4};
        assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(users[i].thread, NULL);
        assert_int_equal(users[i].result, 0);
    }
    end(t);
}

/* The helper is killed again and again while two threads work: each call ends right. */
static void test_killed_in_between(void **state) {
    struct spill_target *t = begin("file", NULL);
    struct skate_error err = {""};

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct user users[2];

        for (uint64_t i = 0; i < 2; i++) {
            users[i] = (struct user){.t = t, .file = 100 * (i + 1), .rounds = 2};
            assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
        }
        while (!helper()) usleep(1000);
        usleep(1000u * (unsigned)(round * 150)); /* some before it serves, some while it writes */
        kill_helper();
        for (int i = 0; i < 2; i++) {
            pthread_join(users[i].thread, NULL);
            assert_int_equal(users[i].result, 0);
        }
        kill_helper();
        check(t, 100, 4096, 0, SMALL); /* what was written stays */
    }
    kill_helper(); /* the end cleans up all the same */
    end(t);
    t = begin("memory", NULL);
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), 0);
    kill_helper();
    assert_int_equal(t->read(t, 1, 0, back, 4096, &err), -SKATE_ENOENT); /* gone with it */
    end(t);
}

static void test_what_may_pass_is_tried_again(void **state) {
    struct spill_target *t = begin("tricky", NULL);
    struct skate_error err = {""};

    (void)state;
    put_file("orders", "fail 2");
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), 0);
    assert_false(there("orders"));
    put_file("orders", "fail 2");
    check(t, 1, 0, 0, SMALL);
    put_file("orders", "die");
    check(t, 1, 0, 0, SMALL);
    put_file("orders", "die");
    assert_int_equal(put_bytes(t, 2, 0, SMALL, &err), 0);
    put_file("orders", "fail 1000"); /* for good */
    assert_int_equal(put_bytes(t, 3, 0, SMALL, &err), -SKATE_EIO);
    assert_non_null(strstr(err.text, "the far end hung up"));
    forget("orders");
    end(t);
}

static void test_what_does_not_pass_is_said_at_once(void **state) {
    struct spill_target *t = begin("tricky", "{\"secret\": \"pass-word\"}");
    struct skate_error err = {""};

    (void)state;
    put_file("orders", "refuse");
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), -SKATE_EIO); /* and options it knows not */
    assert_null(strstr(err.text, "pass-word"));
    end(t);
    t = begin("tricky", NULL);
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), -SKATE_EIO);
    assert_non_null(strstr(err.text, "not with this key"));
    put_file("orders", "full");
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), -SKATE_EFULL);
    forget("orders");
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), 0); /* the fault has ended */
    check(t, 1, 0, 0, SMALL);
    end(t);
    t = begin("nosuch", NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), -SKATE_EIO);
        assert_non_null(strstr(err.text, "nosuch"));
    }
    assert_int_equal(t->read(t, 1, 0, back, 4096, &err), -SKATE_EIO);
    t->free(t);
    while (helper()) usleep(1000);
}

/* Who hangs at the far end is woken by the end of the node. */
static void test_the_end_waits_for_nobody(void **state) {
    struct spill_target *t = begin("tricky", NULL);
    struct user u = {.t = t, .file = 7, .rounds = 1};
    struct skate_error err = {""};
    int64_t from;

    (void)state;
    assert_int_equal(put_bytes(t, 1, 0, SMALL, &err), 0);
    forget("obeyed");
    put_file("orders", "hang");
    assert_int_equal(pthread_create(&u.thread, NULL, use, &u), 0);
    while (!there("obeyed")) usleep(1000);
    from = time_now_ns();
    t->stop(t);
    pthread_join(u.thread, NULL);
    assert_int_equal(u.result, -SKATE_ESHUTDOWN);
    assert_int_equal(put_bytes(t, 2, 0, SMALL, &err), -SKATE_ESHUTDOWN);
    end(t);
    assert_true(time_now_ns() - from < INT64_C(20000000000));
    t = begin("tricky", NULL); /* and before it has served at all */
    end(t);
}

static void test_bad_starts(void **state) {
    struct spill_remote_start s = {.python = "/nonexistent/python", .log_path = "/dev/null",
                                   .uris = "memory://x"};
    struct spill_target *t = NULL;
    struct skate_error err = {""};

    (void)state;
    assert_int_equal(spill_remote_new(&s, &t, &err), -SKATE_ESYS);
    assert_non_null(strstr(err.text, "/nonexistent/python"));
    s.uris = "";
    assert_int_equal(spill_remote_new(&s, &t, &err), -SKATE_EINVAL);
    s.uris = "a\nb";
    assert_int_equal(spill_remote_new(&s, &t, &err), -SKATE_EINVAL);
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_killed_in_between),
        cmocka_unit_test(test_what_may_pass_is_tried_again),
        cmocka_unit_test(test_what_does_not_pass_is_said_at_once),
        cmocka_unit_test(test_the_end_waits_for_nobody),
        cmocka_unit_test(test_bad_starts),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
