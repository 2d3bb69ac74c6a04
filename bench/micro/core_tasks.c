/* core_tasks.c - the C core alone: what a task costs without Python.
 *
 * Two real processes, a driver (this one) and a worker (forked), each with the core that a Python
 * process has; a thread of the driver plays the raylet's part (one lease, one channel, extents) and
 * then sleeps. The task adds one to the 8 bytes it is given. Rows, each `name value unit`:
 *   spin_round_trip    submit, wait, read; both sides spin
 *   futex_round_trip   the same, neither spins: each waits in the kernel
 *   pipelined          1,000 submitted, then all awaited and read; CPU of each side for a task
 *   submit_100k        100,000 submitted before the first wait; drain_100k: until all are read
 * A rate or a time is the median of short pieces (256 trips, 1,000 tasks): when others use the
 * machine, whole pieces are theirs. CPU is the mean over all.
 * Usage: core_tasks [SECONDS [spin|futex|pipelined|bulk]]. SECONDS a row (0.5); 0: a fixed number
 * of tasks, for callgrind (--trace-children=yes). `ninja -C build/py bench/micro/core_tasks`. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/core_int.h"

enum { ARENA = 64 << 20, BATCH = 1000, BULK = 100000, FIXED = 20000, TRIPS = 256, PIECES = 65536 };

#define MUST(x)                                                                                \
    do {                                                                                       \
        if (!(x)) {                                                                            \
            fprintf(stderr, "core_tasks: line %d failed: %s\n", __LINE__, #x);                 \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* ---- the raylet's part ---- */

static struct {
    int socks[2], bells[2], arena, listener;
    uint64_t next, request; /* request: for workers, of which `wanted` were not granted yet */
    uint32_t wanted;
    bool channel, leased;
} node; /* 0 driver, 1 worker */

static int memory(size_t bytes) {
    int fd = memfd_create("core_tasks", MFD_CLOEXEC);

    MUST(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    return fd;
}

static void say(int who, void *frame, uint32_t len, const int *fds, int n) {
    char space[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec iov = {frame, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct doorbell *bell;

    if (n) {
        struct cmsghdr *h;

        msg.msg_control = space;
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        h = CMSG_FIRSTHDR(&msg);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(h), fds, (size_t)n * sizeof(int));
    }
    MUST(sendmsg(node.socks[who], &msg, MSG_NOSIGNAL) == (ssize_t)len);
    bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, node.bells[who], 0);
    MUST(bell != MAP_FAILED);
    bell_ring(bell, 0, BELL_URGENT);
    (void)munmap(bell, 4096);
}

static void welcome(int who) {
    uint64_t stack[64];
    struct wire_buf b;
    struct wire_welcome *m;
    int fds[3] = {node.arena, memory(LEDGER_BYTES), node.bells[who] = memory(4096)};

    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_WELCOME);
    m->proc = proc_make(1, (uint32_t)who + 1);
    m->driver = proc_make(1, 1);
    m->arena_bytes = ARENA;
    m->version = WIRE_VERSION;
    m->job = 1;
    m->head.nfds = 3;
    MUST(wire_end(&b) == 0);
    say(who, b.p, b.len, fds, 3);
    (void)close(fds[1]);
}

static void open_channel(void) {
    int channel = memory(CHANNEL_BYTES);

    for (int who = 0; who < 2 && !node.channel; who++) {
        struct wire_channel m = {.head = {.size = sizeof m, .kind = WIRE_CHANNEL,
                                          .fixed = sizeof m, .nfds = 2},
                                 .peer = proc_make(1, (uint32_t)!who + 1), .side = (uint32_t)who,
                                 .my_bit = 5, .peer_bit = 5};
        int fds[2] = {channel, node.bells[!who]};

        say(who, &m, sizeof m, fds, 2);
    }
    node.channel = true;
    (void)close(channel);
}

static void grant(void) {
    struct wire_lease_grant m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_GRANT, .fixed = sizeof m},
        .req = node.request, .worker = proc_make(1, 2)};

    if (node.leased || node.wanted == 0) return;
    node.wanted--;
    node.leased = true;
    open_channel();
    say(0, &m, sizeof m, NULL, 0);
}

static void on_frame(int who, const void *frame) {
    const struct wire_head *head = frame;

    if (head->kind == WIRE_LEASE_REQ) {
        node.request = ((const struct wire_lease_req *)frame)->req;
        node.wanted = ((const struct wire_lease_req *)frame)->count;
        grant();
    } else if (head->kind == WIRE_LEASE_CANCEL) {
        node.wanted = 0;
    } else if (head->kind == WIRE_LEASE_RETURN) {
        node.leased = false;
        grant();
    } else if (head->kind == WIRE_EXTENT_REQ) {
        const struct wire_extent_req *req = frame;
        struct wire_extent m = {.head = {.size = sizeof m, .kind = WIRE_EXTENT, .fixed = sizeof m,
                                         .call = head->call, .flags = WIRE_REPLY},
                                .offset = node.next, .bytes = req->bytes};

        node.next += (req->bytes + 4095) & ~UINT64_C(4095);
        say(who, &m, sizeof m, NULL, 0);
    } else if (head->kind == WIRE_CONNECT)
        open_channel();
}

static void take_frames(int who) {
    static uint8_t in[2][65536];
    static size_t have[2];
    ssize_t got = read(node.socks[who], in[who] + have[who], sizeof in[who] - have[who]);
    struct wire_head head;
    uint64_t frame[8192];

    if (got > 0) have[who] += (size_t)got;
    while (have[who] >= sizeof head) {
        memcpy(&head, in[who], sizeof head);
        if (have[who] < head.size) break;
        memcpy(frame, in[who], head.size);
        MUST(wire_check(frame, head.size) == 0);
        on_frame(who, frame);
        have[who] -= head.size;
        memmove(in[who], in[who] + head.size, have[who]);
    }
}

static void *raylet(void *arg) {
    (void)arg;
    node.socks[0] = accept(node.listener, NULL, NULL);
    MUST(node.socks[0] >= 0);
    welcome(0);
    for (;;) {
        struct pollfd p[2] = {{node.socks[0], POLLIN, 0}, {node.socks[1], POLLIN, 0}};

        (void)poll(p, 2, -1);
        for (int who = 0; who < 2; who++)
            if (p[who].revents & POLLIN) take_frames(who);
    }
    return NULL;
}

/* ---- the worker ---- */

static void work(int fd, const volatile int *spin) {
    struct core *c;
    struct core_job *job;
    int r;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    MUST(core_attach(fd, &c, NULL) == 0);
    while ((r = core_next(c, &job)) == 0 || r == -SKATE_EINTR) {
        int64_t x = 0;
        struct core_part part = {&x, sizeof x, 8};
        struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

        if (*spin >= 0) c->spin_most = (uint32_t)*spin;
        if (r < 0) continue;
        if (job->args.size == sizeof x) memcpy(&x, job->args.data, sizeof x);
        x++;
        MUST(core_finish(c, job, CORE_OK, &v, 1) == 0);
        if (*spin < 0) exit(0);
    }
    exit(0);
}

/* ---- the driver ---- */

static struct core *core;
static pid_t worker;
static volatile int *spin;
static uint32_t cls;

static double clock_s(clockid_t id) {
    struct timespec t = {0};

    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now_s(void) { return clock_s(CLOCK_MONOTONIC); }

static double cpu_s(pid_t pid) {
    clockid_t id = CLOCK_PROCESS_CPUTIME_ID;

    if (pid) MUST(clock_getcpuclockid(pid, &id) == 0);
    return clock_s(id);
}

static struct skate_id submit(int64_t x) {
    struct core_part part = {&x, sizeof x, 8};
    struct core_task t = {.fn = 1, .cls = cls, .returns = 1, .name = "add_one",
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_id id;

    MUST(core_submit(core, &t, &id, NULL) == 0);
    return id_with_index(id, 1);
}

static void wait_all(const struct skate_id *ids, uint32_t n) {
    static uint8_t ready[BULK];
    int r;

    do r = core_wait(core, ids, n, n, -1, CORE_FETCH, ready);
    while (r == -SKATE_EINTR);
    MUST(r == (int)n);
}

/* ---- pieces ---- */

static double *piece_s;
static uint32_t pieces;

static void piece(double seconds) {
    if (!piece_s) piece_s = calloc(PIECES, sizeof *piece_s);
    MUST(piece_s);
    piece_s[pieces++ % PIECES] = seconds;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Of the pieces since the last call. */
static double median_s(void) {
    uint32_t n = pieces < PIECES ? pieces : PIECES;

    MUST(n > 0);
    qsort(piece_s, n, sizeof *piece_s, by_size);
    pieces = 0;
    return piece_s[n / 2];
}

static void check(const struct skate_id *id, int64_t want) {
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_view v;
    int64_t x;

    MUST(core_read(core, id, copy, &v) == 0 && v.size == sizeof x);
    memcpy(&x, v.data, sizeof x);
    MUST(x == want);
    core_unpin(core, v.pin);
    core_ref_drop(core, id);
}

static void round_trips(const char *name, double seconds, int spins) {
    double began, spent = 0, driver, other;
    int64_t n = 0, most = seconds > 0 ? INT64_MAX : FIXED / 10;

    *spin = spins;
    core->spin_most = (uint32_t)spins;
    core->spin = 0;
    for (int64_t i = 0; i < 100; i++) { /* the worker learns of it; both are warm */
        struct skate_id id = submit(i);

        wait_all(&id, 1);
        check(&id, i + 1);
    }
    driver = cpu_s(0);
    other = cpu_s(worker);
    began = now_s();
    while (n < most && (seconds <= 0 || spent < seconds)) {
        struct skate_id id = submit(n);

        wait_all(&id, 1);
        check(&id, n + 1);
        if (++n % TRIPS == 0) {
            piece(now_s() - began - spent);
            spent = now_s() - began;
        }
    }
    printf("%s %.2f us\n", name, median_s() / TRIPS * 1e6);
    printf("%s_cpu_driver %.2f us\n", name, (cpu_s(0) - driver) / (double)n * 1e6);
    printf("%s_cpu_worker %.2f us\n", name, (cpu_s(worker) - other) / (double)n * 1e6);
}

static void pipelined(double seconds) {
    static struct skate_id ids[BATCH];
    double began = now_s(), spent = 0, driver = cpu_s(0), other = cpu_s(worker);
    int64_t n = 0, most = seconds > 0 ? INT64_MAX : FIXED;

    while (n < most && (seconds <= 0 || spent < seconds)) {
        for (int i = 0; i < BATCH; i++) ids[i] = submit(n + i);
        wait_all(ids, BATCH);
        for (int i = 0; i < BATCH; i++) check(&ids[i], n + i + 1);
        n += BATCH;
        piece(now_s() - began - spent);
        spent = now_s() - began;
    }
    printf("pipelined %.3f M/s\n", BATCH / median_s() / 1e6);
    printf("pipelined_cpu_driver %.0f ns\n", (cpu_s(0) - driver) / (double)n * 1e9);
    printf("pipelined_cpu_worker %.0f ns\n", (cpu_s(worker) - other) / (double)n * 1e9);
}

static void bulk(double seconds) {
    static struct skate_id ids[BULK];
    double submitting = 0, draining = 0, driver = cpu_s(0), other = cpu_s(worker);
    int64_t n = 0;

    do {
        double a = now_s(), b;

        for (int i = 0; i < BULK; i++) ids[i] = submit(n + i);
        b = now_s();
        wait_all(ids, BULK);
        draining += now_s() - b;
        submitting += b - a;
        for (int i = 0; i < BULK; i++) check(&ids[i], n + i + 1);
        n += BULK;
    } while (submitting + draining < seconds);
    printf("submit_100k %.3f M/s\n", (double)n / submitting / 1e6);
    printf("drain_100k %.3f M/s\n", (double)n / (submitting + draining) / 1e6);
    printf("bulk_cpu_driver %.0f ns\n", (cpu_s(0) - driver) / (double)n * 1e9);
    printf("bulk_cpu_worker %.0f ns\n", (cpu_s(worker) - other) / (double)n * 1e9);
}

static void start(void) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct core_class_opts o = {.resources = "", .name = "add_one"};
    int64_t code = 1;
    struct core_part part = {&code, sizeof code, 8};
    struct core_value f = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    int pair[2];
    pthread_t t;

    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "/tmp/core_tasks-%d", (int)getpid());
    (void)unlink(addr.sun_path);
    node.arena = memory(ARENA);
    spin = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(spin != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    *spin = SPIN_FULL;
    worker = fork();
    MUST(worker >= 0);
    if (worker == 0) work(pair[1], spin);
    node.socks[1] = pair[0];
    (void)close(pair[1]);
    node.listener = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(node.listener, (struct sockaddr *)&addr, sizeof addr) == 0);
    MUST(listen(node.listener, 1) == 0);
    welcome(1);
    MUST(pthread_create(&t, NULL, raylet, NULL) == 0);
    MUST(core_connect(addr.sun_path, INT64_C(30000000000), &core, NULL) == 0);
    (void)unlink(addr.sun_path);
    MUST(core_define(core, 1, "add_one", &f, NULL) == 0);
    MUST(core_class(core, &o, &cls) == 0);
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    const char *row = argc > 2 ? argv[2] : "";

    start();
    if (!*row || !strcmp(row, "spin")) round_trips("spin_round_trip", seconds, SPIN_FULL);
    if (!*row || !strcmp(row, "futex")) round_trips("futex_round_trip", seconds, 0);
    *spin = SPIN_FULL;
    core->spin_most = SPIN_FULL;
    if (!*row || !strcmp(row, "pipelined")) pipelined(seconds);
    if (!*row || !strcmp(row, "bulk")) bulk(seconds);
    *spin = -1; /* the worker ends after one more */
    (void)submit(0);
    (void)waitpid(worker, NULL, 0);
    return 0;
}
