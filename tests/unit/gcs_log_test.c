/* gcs_log_test.c - the log of the control store: what was said to be durable is there again after
 * an end at any write, torn writes, a failing power; a second head, a full disk, a damaged file.
 * links: base loop wire net sched gcs gcsd. */
#include "gcs_rig_actors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/futex.h"
#include "crash_vfs.h"
#include "folder_rig.h"
#include "gcs/gcs_int.h"
#include "gcsd/gcs_log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { ROUNDS = 24 };

static struct loop *loop;
static struct gcs_log *logged;
static int last_status;
static uint32_t dones, troubles;
static char dir[64], path[96], last_text[600];

static void on_done(void *arg, int status, const char *text) {
    (void)arg;
    last_status = status;
    snprintf(last_text, sizeof last_text, "%s", text);
    if (status == 0)
        dones++;
    else
        troubles++;
}

#define UNTIL(condition)                                                                       \
    do {                                                                                       \
        int64_t end_ = time_now_ns() + INT64_C(60000000000);                                   \
        while (!(condition)) {                                                                 \
            if (time_now_ns() > end_) fail_msg("not in time: %s", #condition);                 \
            loop_run_once(loop, 20);                                                           \
        }                                                                                      \
    } while (0)

/* Open and load into a new `g`. */
static int open_log(bool recover, struct skate_error *err) {
    struct gcs_log_opts opts = {.loop = loop, .path = path, .recover = recover,
                                .on_done = on_done};
    struct gcs_opts store = {.heartbeat_ms = 1 << 30, .records = true};
    int r = gcs_log_open(&opts, &logged, err);

    if (r < 0) return r;
    store.epoch = gcs_log_epoch(logged);
    assert_int_equal(gcs_new(&store, &g), 0);
    r = gcs_log_load(logged, g, SECOND, err);
    if (r < 0) {
        logged = gcs_log_free(logged);
        g = gcs_free(g);
    }
    return r;
}

static void close_log(void) {
    logged = gcs_log_free(logged);
    g = gcs_free(g);
}

static void commit(void) {
    struct gcs_records batch = {0};

    assert_true(gcs_records_take(g, &batch));
    gcs_log_commit(logged, &batch);
}

static void commit_done(void) {
    uint32_t before = dones;

    commit();
    UNTIL(dones > before);
}

/* All that is in the store, in any order, as one number. */
static uint64_t print_of(struct gcs *of) {
    struct gcs_records r = {0};
    uint64_t sum = 0;

    gcs_records_all(of);
    (void)gcs_records_take(of, &r);
    for (uint32_t i = 0; i < r.count; i++)
        sum += XXH3_64bits(r.bytes + r.v[i].at, r.v[i].len) ^
               XXH3_64bits(r.bytes + r.v[i].key_at, r.v[i].key_len);
    gcs_records_release(&r);
    return sum;
}

static void put(uint32_t n, uint32_t len) {
    uint8_t bytes[6000];
    struct wire_buf b;
    char name[16];

    memset(bytes, (int)n, sizeof bytes);
    snprintf(name, sizeof name, "value%u", n % 5);
    wire_init(&b, NULL, 0);
    ((struct wire_kv_put *)wire_begin(&b, WIRE_KV_PUT))->overwrite = 1;
    WIRE_PUT(&b, kv_put, key, name, strlen(name));
    WIRE_PUT(&b, kv_put, value, bytes, len);
    give(1, DRIVER, &b);
}

static void work(uint32_t i) {
    if (i == 0)
        join(1, 4);
    else if (i == 1 || i == 9)
        (void)job(DRIVER);
    else if (i % 6 == 2)
        (void)create((struct spec){.seq = i, .placing = 1, .name = "n"});
    else if (i % 6 == 4)
        kill_actor(i - 2, true);
    else
        put(i, i * 211 % 6000);
}

static int begin(void **state) {
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)state;
    snprintf(dir, sizeof dir, "%s/gcslog-XXXXXX", root);
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/log", dir);
    dones = troubles = 0;
    now = SECOND;
    return loop_new(&loop);
}

static void forget_files(void) { assert_true(folder_empty(dir)); }

static int end(void **state) {
    (void)state;
    close_log();
    loop = loop_free(loop);
    gcs_out_release(&out);
    forget_files();
    return rmdir(dir);
}

/* ------------------------------------------------------------------ in order */

static void reopened(void **state) {
    uint64_t print, epoch;

    (void)state;
    assert_int_equal(open_log(false, NULL), 0);
    epoch = gcs_log_epoch(logged);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        work(i);
        commit_done();
    }
    print = print_of(g);
    close_log();
    assert_int_equal(open_log(false, NULL), 0);
    assert_true(gcs_log_epoch(logged) > epoch);
    assert_true(print_of(g) == print);
    assert_int_equal(troubles, 0);
}

/* Raylets take a head whose epoch is below one that they have seen for a stale one: a log that was
 * lost, or of which an old copy was put back, goes on above all that they can have seen. */
static void lost(void **state) {
    uint64_t epoch = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        if (i == 3) forget_files();
        assert_int_equal(open_log(false, NULL), 0);
        assert_true(gcs_log_epoch(logged) > epoch);
        epoch = gcs_log_epoch(logged);
        close_log();
    }
}

/* One process at a time; the second hears which file and why. */
static void second_head(void **state) {
    struct skate_error err = {""};
    struct stat s;
    pid_t child;
    int status;

    (void)state;
    assert_int_equal(open_log(false, NULL), 0);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    child = fork();
    if (child == 0) {
        struct gcs_log_opts opts = {.loop = loop, .path = path, .on_done = on_done};
        struct gcs_log *other;
        int r = gcs_log_open(&opts, &other, &err);

        _exit(r == -SKATE_EBUSY && strstr(err.text, path) && strstr(err.text, "one head") ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    work(0);
    commit_done();
}

/* A file put in the place of ours, as when somebody starts a head with a copy: we are the past. */
static void replaced(void **state) {
    char other[128];

    (void)state;
    assert_int_equal(open_log(false, NULL), 0);
    work(0);
    commit_done();
    snprintf(other, sizeof other, "%s.other", path);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600)), 0);
    work(1);
    commit();
    UNTIL(troubles);
    assert_int_equal(last_status, -SKATE_ESTALE);
}

/* No room: said so, tried again, and done when there is room. */
static void full(void **state) {
    struct rlimit old, small = {200000, RLIM_INFINITY};
    uint64_t print;

    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(open_log(false, NULL), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    work(0);
    work(1);
    commit_done();
    for (uint32_t i = 0; !troubles && i < 1000; i++) {
        uint32_t before = dones;

        put(i, 6000);
        commit();
        UNTIL(dones > before || troubles);
    }
    assert_int_equal(last_status, -SKATE_EIO);
    assert_true(strstr(last_text, path) != NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    UNTIL(last_status == 0);
    print = print_of(g);
    close_log();
    assert_int_equal(open_log(false, NULL), 0);
    assert_true(print_of(g) == print);
}

/* ------------------------------------------------------------------ ends at every write */

/* In a child: the work, with an end at write n; says after each commit that it is done. */
__attribute__((noreturn)) static void live(int to, int n) {
    struct skate_error err = {""};

    crash_left = n;
    if (open_log(false, &err) < 0) {
        print_message("write %d: %s\n", n, err.text);
        _exit(1);
    }
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint8_t count = (uint8_t)(i + 1);

        work(i);
        commit_done();
        if (write(to, &count, 1) != 1) _exit(2);
    }
    _exit(0);
}

/* What the store is after each commit. */
static void expect(uint64_t prints[ROUNDS + 1]) {
    struct gcs_opts store = {.heartbeat_ms = 1 << 30, .records = true};

    assert_int_equal(gcs_new(&store, &g), 0);
    prints[0] = print_of(g);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        work(i);
        prints[i + 1] = print_of(g);
    }
    g = gcs_free(g);
}

/* Returns whether the child came to its end. */
static bool one_end(const uint64_t prints[ROUNDS + 1], int n) {
    struct skate_error err = {""};
    uint8_t acked = 0, byte;
    int ends[2], status;
    uint64_t print;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    crash_seed = (uint32_t)n;
    child = fork();
    if (child == 0) live(ends[1], n);
    (void)close(ends[1]);
    while (read(ends[0], &byte, 1) == 1) acked = byte;
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != 0) assert_int_equal(WEXITSTATUS(status), CRASH_EXIT);
    if (open_log(false, &err) < 0) fail_msg("write %d, %u acked: %s", n, acked, err.text);
    print = print_of(g);
    if (print != prints[acked] && (acked == ROUNDS || print != prints[acked + 1]))
        fail_msg("write %d: something else than after %u commits", n, acked);
    close_log();
    forget_files();
    return WEXITSTATUS(status) == 0;
}

static void every_write(void **state) {
    static const enum crash_mode modes[] = {CRASH_AFTER, CRASH_TORN, CRASH_POWER};
    uint64_t prints[ROUNDS + 1];
    int n;

    (void)state;
    expect(prints);
    for (uint32_t m = 0; m < 3; m++) {
        crash_mode = modes[m];
        for (n = 0; !one_end(prints, n); n++) {}
        assert_true(n > ROUNDS);
    }
}

/* ------------------------------------------------------------------ damaged files */

struct image {
    uint8_t *bytes;
    size_t len;
};

static struct image read_file(const char *tail) {
    struct image m = {malloc(1 << 20), 0};
    char name[128];
    ssize_t n;
    int fd;

    snprintf(name, sizeof name, "%s%s", path, tail);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    n = read(fd, m.bytes, 1 << 20);
    assert_true(n >= 0 && n < 1 << 20);
    m.len = (size_t)n;
    (void)close(fd);
    return m;
}

static void write_file(const char *tail, const struct image *m, size_t len) {
    char name[128];
    int fd;

    snprintf(name, sizeof name, "%s%s", path, tail);
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, m->bytes, len), len);
    (void)close(fd);
}

/* A head is killed with a part of its work in the file and a part in the write-ahead log. */
static void leave_log(struct image images[3]) {
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (open_log(false, NULL) < 0) _exit(1);
        for (uint32_t i = 0; i < ROUNDS; i++) {
            work(i);
            commit_done();
            if (i == ROUNDS / 2) { /* checkpointed by the close */
                close_log();
                if (open_log(false, NULL) < 0) _exit(1);
                for (uint32_t k = 0; k < g->node_count; k++) {
                    struct skate_id key = map_key(k + 1);

                    g->nodes[k]->link = k + 1;
                    if (map_put(&g->links, &key, k + 1) < 0) _exit(1);
                }
            }
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    images[0] = read_file("");
    images[1] = read_file("-wal");
    images[2] = read_file("-seq");
}

static uint32_t chance(uint32_t n) { return crash_draw() * 65536u + crash_draw() % n; }

/* One of the two files altered or cut; what that came to. */
static int mutated(const struct image images[3], uint64_t good, uint32_t round) {
    struct image m = {malloc(1 << 20), 0};
    uint32_t which = round % 2;
    struct skate_error err = {""};
    int r;

    m.len = images[which].len;
    memcpy(m.bytes, images[which].bytes, m.len);
    if (chance(8) % 8 == 0)
        m.len = chance((uint32_t)m.len) % m.len;
    else
        for (uint32_t k = 1 + chance(4) % 4; k > 0; k--)
            m.bytes[chance((uint32_t)m.len) % m.len] ^= (uint8_t)(1u << chance(8) % 8);
    write_file("", which == 0 ? &m : &images[0], which == 0 ? m.len : images[0].len);
    write_file("-wal", which == 1 ? &m : &images[1], which == 1 ? m.len : images[1].len);
    write_file("-seq", &images[2], images[2].len);
    free(m.bytes);
    r = open_log(false, &err);
    if (r == 0) {
        if (print_of(g) != good) fail_msg("round %u: a damaged log was taken as whole", round);
        close_log();
    } else
        assert_true(strstr(err.text, "log") != NULL);
    return r;
}

static void mutations(void **state) {
    uint32_t refused = 0, whole = 0, rounds = getenv("SKATE_LONG") ? 100000 : 10000;
    struct image images[3];
    uint64_t good;

    (void)state;
    crash_no_sync = true;
    crash_seed = 5;
    leave_log(images);
    assert_true(images[1].len > 4096);
    assert_int_equal(open_log(false, NULL), 0);
    good = print_of(g);
    close_log();
    for (uint32_t round = 0; round < rounds; round++)
        if (mutated(images, good, round) < 0)
            refused++;
        else
            whole++;
    assert_true(refused > rounds / 4 && whole > 0); /* whole: pages that nobody reads any more */
    for (int i = 0; i < 3; i++) free(images[i].bytes);
    crash_no_sync = false;
}

/* With `recover` what can be read is the log from then on, and the damaged one lies beside it. */
static void recovered(void **state) {
    struct image images[3];
    struct skate_error err = {""};
    uint32_t got = 0, refused = 0;

    (void)state;
    crash_seed = 9;
    leave_log(images);
    assert_int_equal(open_log(false, NULL), 0);
    close_log(); /* all of it into the one file */
    free(images[0].bytes);
    images[0] = read_file("");
    for (uint32_t round = 0; round < 40; round++) {
        struct image m = {malloc(1 << 20), images[0].len};

        forget_files();
        memcpy(m.bytes, images[0].bytes, m.len);
        for (int k = 0; k < 4; k++) m.bytes[chance((uint32_t)m.len) % m.len] ^= 0x55;
        write_file("", &m, m.len);
        free(m.bytes);
        if (open_log(false, &err) == 0) {
            close_log();
            continue;
        }
        refused++;
        assert_true(strstr(err.text, "--recover") != NULL);
        if (open_log(true, &err) < 0) fail_msg("%s", err.text);
        got += g->value_count;
        close_log();
        if (open_log(false, &err) < 0) fail_msg("after recovery: %s", err.text);
        close_log();
    }
    assert_true(refused > 10 && got > refused);
    for (int i = 0; i < 3; i++) free(images[i].bytes);
}

/* A recovery that ends at any of its writes leaves no empty log that looks whole. */
static void recovery_ends(void **state) {
    struct image images[3], m = {malloc(1 << 20), 0};
    struct skate_error err = {""};
    int status = -1;

    (void)state;
    crash_seed = 9;
    crash_mode = CRASH_AFTER;
    leave_log(images);
    assert_int_equal(open_log(false, NULL), 0);
    close_log();
    free(images[0].bytes);
    images[0] = read_file("");
    do { /* until something is damaged that matters */
        if (status == 0) close_log();
        forget_files();
        m.len = images[0].len;
        memcpy(m.bytes, images[0].bytes, m.len);
        m.bytes[m.len / 2 + chance((uint32_t)m.len / 2) % (m.len / 2)] ^= 0x55;
        write_file("", &m, m.len);
        write_file("-seq", &images[2], images[2].len);
        status = open_log(false, &err);
    } while (status == 0);
    for (int n = 0; status != 0; n++) {
        pid_t child;

        forget_files();
        write_file("", &m, m.len);
        write_file("-seq", &images[2], images[2].len);
        child = fork();
        if (child == 0) {
            crash_left = n;
            _exit(open_log(true, &err) < 0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) != 0) assert_int_equal(WEXITSTATUS(status), CRASH_EXIT);
        if (open_log(false, &err) < 0) continue;
        if (g->value_count == 0) fail_msg("write %d: all was lost", n);
        close_log();
    }
    free(m.bytes);
    for (int i = 0; i < 3; i++) free(images[i].bytes);
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        LOG_TEST(reopened),    LOG_TEST(second_head), LOG_TEST(replaced),  LOG_TEST(full),
        LOG_TEST(every_write), LOG_TEST(mutations),   LOG_TEST(recovered), LOG_TEST(lost),
        LOG_TEST(recovery_ends),
    };

    crash_vfs_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
