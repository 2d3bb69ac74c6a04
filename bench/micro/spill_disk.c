/* spill_disk.c - spilling and restoring beside what the disk can do, in turns.
 *   spill_write    GB/s from the arena into spill files (src/raylet/spill_io.c), checksums and all
 *   spill_read     GB/s back into punched out pages of the arena, verified
 *   direct_write, direct_read   as many bytes by a plain loop of 16 MB with O_DIRECT, warm memory
 *   dd_write, dd_read           the same by dd bs=16M oflag=direct (iflag=direct), and its start
 *   spill_granule  us to bring back one granule of a large record, alone
 * Usage: spill_disk DIRECTORY [MB [ROUNDS [MB_OF_A_RECORD [READS_AT_ONCE]]]]. Prints lines
 * `name value unit`, medians of the rounds, and the median of the ratios of ours to each rival's in
 * each round. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "raylet/spill_dir.h"
#include "raylet/spill_io.h"

#define MIB (UINT64_C(1) << 20)
enum { ROUNDS_MAX = 99, RECORDS_MAX = 4096, FILE_MB = 256, GRANULES = 200 };
enum { OURS, PLAIN, DD, KINDS };

static struct bench {
    struct loop *loop;
    struct spill_io *io;
    const char *dir;
    char path[400];
    uint8_t *arena;
    int fd, left, at_once;
    uint64_t bytes, record;
    struct spill_place places[RECORDS_MAX];
    uint32_t count;
} b;

static void die(const char *what) {
    fprintf(stderr, "spill_disk: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void on_wrote(void *arg, int status, const struct spill_place *places, uint32_t n,
                     const char *why) {
    b.left--;
    if (status < 0) {
        fprintf(stderr, "spill_disk: %s\n", why);
        exit(1);
    }
    memcpy(arg, places, n * sizeof *places);
}

static void on_read(void *arg, int status, const char *why) {
    (void)arg;
    b.left--;
    if (status < 0) {
        fprintf(stderr, "spill_disk: %s\n", why);
        exit(1);
    }
}

static void wait_below(int left) {
    while (b.left > left) loop_run_once(b.loop, 1000);
}

static double rate(int64_t since) {
    return (double)b.bytes / (double)(time_now_ns() - since);
}

/* Fused files of 256 MB, two under way. */
static double our_write(void) {
    uint32_t each = (uint32_t)(FILE_MB * MIB / b.record);
    int64_t since = time_now_ns();

    if (each == 0) each = 1;
    for (uint32_t i = 0; i < b.count; i += each) {
        struct extent_span pieces[SPILL_RECORDS_MAX];
        uint32_t n = b.count - i < each ? b.count - i : each;

        for (uint32_t k = 0; k < n; k++)
            pieces[k] = (struct extent_span){(i + k) * b.record, b.record};
        if (spill_io_write(b.io, pieces, n, on_wrote, &b.places[i]) < 0) die("write");
        b.left++;
        wait_below(1);
    }
    wait_below(0);
    return rate(since);
}

static double our_read(void) {
    int64_t since;

    if (fallocate(b.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)b.bytes) < 0)
        die("punch");
    since = time_now_ns();
    for (uint32_t i = 0; i < b.count; i++) {
        struct spill_read r = {.place = b.places[i], .bytes = b.record, .to_fd = b.fd,
                               .to = b.places[i].offset, .done = on_read};

        if (spill_io_read(b.io, &r) < 0) die("read");
        b.left++;
        wait_below(b.at_once - 1);
    }
    wait_below(0);
    return rate(since);
}

static void our_drop(void) {
    struct spill_io_stats stats;

    for (uint32_t i = 0; i < b.count; i++) spill_io_drop(b.io, &b.places[i]);
    do {
        loop_run_once(b.loop, 1);
        spill_io_stats(b.io, &stats);
    } while (stats.files);
}

static double granule_us(void) {
    int64_t since = time_now_ns();

    for (uint32_t i = 0; i < GRANULES; i++) {
        struct spill_read r = {.place = b.places[0], .bytes = SPILL_GRANULE, .to_fd = b.fd,
                               .done = on_read};

        r.from = i * UINT64_C(7919) % (b.record / SPILL_GRANULE) * SPILL_GRANULE;
        r.to = r.place.offset + r.from;
        if (spill_io_read(b.io, &r) < 0) die("read");
        b.left++;
        wait_below(0);
    }
    return (double)(time_now_ns() - since) / 1e3 / GRANULES;
}

static double plain(int is_write) {
    int64_t since = time_now_ns();
    int fd = open(b.path, is_write ? O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT : O_RDONLY | O_DIRECT,
                  0600);

    if (fd < 0) die(b.path);
    for (uint64_t at = 0; at < b.bytes;) {
        size_t n = b.bytes - at < 16 * MIB ? b.bytes - at : 16 * MIB;
        ssize_t done = is_write ? pwrite(fd, b.arena + at, n, (off_t)at)
                                : pread(fd, b.arena, n, (off_t)at); /* one warm place, as dd */

        if (done <= 0) die("plain");
        at += (uint64_t)done;
    }
    close(fd);
    return rate(since);
}

static double dd(int is_write) {
    char from[440], to[440], count[32];
    int64_t since = time_now_ns();
    int status;
    pid_t pid;

    snprintf(from, sizeof from, "if=%s", is_write ? "/dev/zero" : b.path);
    snprintf(to, sizeof to, "of=%s", is_write ? b.path : "/dev/null");
    snprintf(count, sizeof count, "count=%llu", (unsigned long long)(b.bytes / (16 * MIB)));
    pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        execlp("dd", "dd", from, to, "bs=16M", count, is_write ? "oflag=direct" : "iflag=direct",
               "status=none", (char *)NULL);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status) die("dd");
    return rate(since);
}

static int by_size(const void *x, const void *y) {
    double a = *(const double *)x, c = *(const double *)y;

    return (a > c) - (a < c);
}

static double median(const double *v, int n) {
    double copy[ROUNDS_MAX];

    memcpy(copy, v, (size_t)n * sizeof *v);
    qsort(copy, (size_t)n, sizeof *copy, by_size);
    return copy[n / 2];
}

static void say(const char *what, double v[KINDS][ROUNDS_MAX], int rounds) {
    static const char *const names[KINDS] = {"spill", "direct", "dd"};

    for (int k = 0; k < KINDS; k++)
        printf("%s_%s %.2f GB/s\n", names[k], what, median(v[k], rounds));
    for (int k = PLAIN; k < KINDS; k++) {
        double ratios[ROUNDS_MAX];

        for (int i = 0; i < rounds; i++) ratios[i] = v[OURS][i] / v[k][i];
        printf("spill_%s_to_%s %.2f ratio\n", what, names[k], median(ratios, rounds));
    }
}

static void start(uint64_t mb, uint64_t record_mb) {
    struct spill_dirs d = {.paths = &b.dir, .count = 1, .nonce = (uint64_t)getpid()};
    struct spill_io_start s = {.nonce = d.nonce};
    struct skate_error err;

    b.record = record_mb * MIB;
    b.bytes = mb * MIB / b.record * b.record;
    b.count = (uint32_t)(b.bytes / b.record);
    if (b.count == 0 || b.count > RECORDS_MAX) die("sizes");
    b.fd = memfd_create("bench", MFD_CLOEXEC);
    if (b.fd < 0 || ftruncate(b.fd, (off_t)b.bytes) < 0) die("memfd");
    s.arena = b.arena = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b.fd, 0);
    if (b.arena == MAP_FAILED) die("mmap");
    for (uint64_t i = 0; i < b.bytes; i += 8)
        memcpy(b.arena + i, &(uint64_t){i * UINT64_C(0x9e3779b97f4a7c15)}, 8);
    snprintf(b.path, sizeof b.path, "%s/spill-bench-%d", b.dir, (int)getpid());
    if (loop_new(&b.loop) < 0) die("loop");
    s.loop = b.loop;
    if (spill_dir_new(&d, &s.target, &err) < 1 || spill_io_start(&s, &b.io, &err) < 0) {
        fprintf(stderr, "spill_disk: %s\n", err.text);
        exit(1);
    }
}

int main(int argc, char **argv) {
    static double write_rates[KINDS][ROUNDS_MAX], read_rates[KINDS][ROUNDS_MAX], us[ROUNDS_MAX];
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;

    b.at_once = argc > 5 ? (int)strtol(argv[5], NULL, 10) : 4;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || b.at_once < 1) {
        fprintf(stderr, "usage: spill_disk DIRECTORY [MB [ROUNDS [MB_OF_A_RECORD "
                        "[READS_AT_ONCE]]]]\n");
        return 2;
    }
    b.dir = argv[1];
    start(argc > 2 ? strtoull(argv[2], NULL, 10) : 1024,
          argc > 4 ? strtoull(argv[4], NULL, 10) : 64);
    for (int i = 0; i < rounds; i++) {
        write_rates[OURS][i] = our_write();
        read_rates[OURS][i] = our_read();
        us[i] = granule_us();
        our_drop();
        write_rates[PLAIN][i] = plain(1);
        read_rates[PLAIN][i] = plain(0);
        unlink(b.path);
        write_rates[DD][i] = dd(1);
        read_rates[DD][i] = dd(0);
        unlink(b.path);
    }
    say("write", write_rates, rounds);
    say("read", read_rates, rounds);
    printf("spill_granule %.0f us\n", median(us, rounds));
    spill_io_stop(b.io);
    loop_free(b.loop);
    return 0;
}
