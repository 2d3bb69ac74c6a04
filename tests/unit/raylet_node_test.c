/* raylet_node_test.c - a whole raylet in a process of its own, with a real GCS in the test's loop.
 * links: base loop wire net store sched own gcs gcsd raylet.
 *
 * The test is the driver. The raylet's "python" is this program again: called with -E it plays the
 * zygote, whose workers obey commands that come as STEAL frames (struct wire_steal.max). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"
#include "base/ring.h"
#include "gcsd/gcsd.h"
#include "raylet/raylet.h"

enum {
    DO_ECHO = 1,
    DO_DIE = 2,
    DO_EXIT = 3,
    DO_PRINT = 4,
    DO_EXTENT = 5,
    DO_LAST_WORDS = 6,
    DO_HOLD_PIPES = 7,
};

/* ---- the fake zygote and its workers (other processes) ---- */

static uint64_t in_buf[8192];
static size_t in_len;
static int in_fds[16];
static uint32_t in_fd_count;

/* Cut the next whole frame off a blocking socket into out. 0: the end. */
static uint32_t next_frame(int sock, void *out, size_t cap, int flags) {
    for (;;) {
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(8 * sizeof(int))];
        } control;
        struct iovec iov = {(char *)in_buf + in_len, sizeof in_buf - in_len};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
        uint32_t size = 0;
        ssize_t n;

        if (in_len >= sizeof size) memcpy(&size, in_buf, sizeof size);
        if (size && size <= in_len && size <= cap) {
            memcpy(out, in_buf, size);
            memmove(in_buf, (char *)in_buf + size, in_len - size);
            in_len -= size;
            return size;
        }
        n = recvmsg(sock, &msg, flags);
        if (n <= 0) return 0;
        in_len += (size_t)n;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
            uint32_t count = (uint32_t)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));

            memcpy(in_fds + in_fd_count, CMSG_DATA(h), count * sizeof(int));
            in_fd_count += count;
        }
    }
}

static void put_route(int sock, uint64_t dst, uint64_t src, const void *frame, uint32_t len) {
    uint64_t room[64];
    struct wire_buf b;
    struct wire_route *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_ROUTE);
    m->dst = dst;
    m->src = src;
    WIRE_PUT(&b, route, frame, frame, len);
    if (wire_end(&b) < 0 || write(sock, b.p, b.len) != (ssize_t)b.len) _exit(9);
    wire_release(&b);
}

#define HEAD(type, kind_)                                                                      \
    {.size = sizeof(struct type), .kind = (kind_), .fixed = sizeof(struct type)}

/* A child of the worker that outlives it, with its pipes open; the raylet's end is its own. */
static void hold_pipes(int sock) {
    if (fork() > 0) return;
    close(sock);
    alarm(120);
    for (;;) pause();
}

static void obey(int sock, uint64_t self, uint64_t driver, uint32_t what) {
    struct wire_unblocked echo = {.head = HEAD(wire_unblocked, WIRE_UNBLOCKED)};
    struct wire_extent_req ask = {.head = HEAD(wire_extent_req, WIRE_EXTENT_REQ), .bytes = 8192};

    if (what == DO_DIE) raise(SIGKILL);
    if (what == DO_EXIT) _exit(3);
    if (what == DO_PRINT && write(1, "\1f\1hello\nplain\nhalf", 19) != 19) _exit(9);
    if (what == DO_EXTENT && write(sock, &ask, sizeof ask) != sizeof ask) _exit(9);
    if (what == DO_HOLD_PIPES) hold_pipes(sock);
    put_route(sock, driver, self, &echo, sizeof echo);
    if (what == DO_LAST_WORDS) _exit(0);
}

static void worker(int sock) {
    static uint64_t frame[8192];
    uint64_t self = 0, driver = 0;

    in_len = in_fd_count = 0;
    while (next_frame(sock, frame, sizeof frame, 0)) {
        const struct wire_head *head = (const void *)frame;

        if (head->kind == WIRE_WELCOME) {
            self = ((const struct wire_welcome *)(const void *)frame)->proc;
            driver = ((const struct wire_welcome *)(const void *)frame)->driver;
        } else if (head->kind == WIRE_ROUTE) {
            uint32_t len;
            const void *inner = wire_route_frame((const void *)frame, &len);

            if (wire_check(inner, len) == 0 && wire_head(inner)->kind == WIRE_STEAL)
                obey(sock, self, driver, ((const struct wire_steal *)inner)->max);
        } else if (head->kind == WIRE_PROC_DIED) {
            struct wire_extents_done done = {.head = HEAD(wire_extents_done, WIRE_EXTENTS_DONE),
                                             .proc = ((const struct wire_proc_died *)(const void *)
                                                          frame)->proc};

            if (write(sock, &done, sizeof done) != sizeof done) _exit(9);
        }
    }
    _exit(0);
}

static int zygote(void) {
    static uint64_t frame[64];
    struct pollfd p = {.fd = 3, .events = POLLIN};
    pid_t pid, self = getpid();
    int status;

    for (;;) {
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            struct wire_exited m = {.head = HEAD(wire_exited, WIRE_EXITED),
                                    .pid = (uint32_t)pid, .wait_status = status};

            if (write(3, &m, sizeof m) != sizeof m) return 1;
        }
        if (poll(&p, 1, 5) <= 0) continue;
        if (!next_frame(3, frame, sizeof frame, 0)) return 0;
        if (write(1, "fork\n", 5) != 5) return 1; /* its log: the test counts */
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != self) _exit(1);
            dup2(in_fds[1], 1);
            dup2(in_fds[2], 2);
            close(3);
            worker(in_fds[0]);
        }
        for (int i = 0; i < 3; i++) close(in_fds[i]);
        in_fd_count = 0;
        struct wire_forked m = {.head = HEAD(wire_forked, WIRE_FORKED),
                                .proc = ((struct wire_fork *)(void *)frame)->proc,
                                .pid = (uint32_t)pid};
        if (write(3, &m, sizeof m) != sizeof m) return 1;
    }
}

/* ---- the test's side: GCS in the loop, raylet in a child, a driver's socket ---- */

static struct loop *loop;
static struct gcsd *gcsd;
static pid_t raylet_pid;
static int lifeline, ready_fd, driver_fd;
static char run_dir[64], self_path[512];
static uint64_t driver, frame_buf[8192];

static void be_raylet(int settings_fd, int out_fd) {
    struct raylet *r = calloc(1, sizeof *r);
    struct skate_error err = {""};

    dup2(settings_fd, 0);
    dup2(out_fd, 1);
    close_range(3, ~0u, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (!r || raylet_settings_read(0, &r->set, &err) < 0) _exit(8);
    if (node_start(r, &err) < 0) node_fail(r, 1, err.text);
    loop_run(r->loop);
    _exit(7);
}

static void pump(int ms) { loop_run_once(loop, (uint32_t)ms); }

static int start(void **state) {
    struct gcsd_settings s = {.listen_ip = "127.0.0.1"};
    struct gcsd_opts opts = {.settings = &s};
    char line[1200], key[65] = "";
    int in[2], out[2], n;

    (void)state;
    for (int i = 0; i < 32; i++) snprintf(key + i * 2, 3, "03");
    memset(s.key, 3, sizeof s.key);
    in_len = in_fd_count = 0;
    if (loop_new(&loop) < 0) return -1;
    opts.loop = loop;
    if (gcsd_new(&opts, &gcsd, NULL) < 0) return -1;
    snprintf(run_dir, sizeof run_dir, "/tmp/skate-node-test-XXXXXX");
    if (!mkdtemp(run_dir) || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) return -1;
    raylet_pid = fork();
    if (raylet_pid == 0) be_raylet(in[0], out[1]);
    close(in[0]);
    close(out[1]);
    lifeline = in[1];
    ready_fd = out[0];
    n = snprintf(line, sizeof line,
                 "cluster_key=%s\tgcs=127.0.0.1:%u\tnode_ip=127.0.0.1\tlisten_port=0\trun_dir=%s\t"
                 "python=%s\tresources=CPU:2\tarena_bytes=16777216\tis_head=1\tlocal_session=1\n",
                 key, gcsd_port(gcsd), run_dir, self_path);
    return write(lifeline, line, (size_t)n) == n ? 0 : -1;
}

/* SIGTERM: it removes its files itself. */
static int stop(void **state) {
    (void)state;
    if (raylet_pid) {
        kill(raylet_pid, SIGTERM);
        waitpid(raylet_pid, NULL, 0);
    }
    if (access(run_dir, F_OK) == 0) return -1;
    close(lifeline);
    close(ready_fd);
    if (driver_fd) close(driver_fd);
    driver_fd = 0;
    for (uint32_t i = 0; i < in_fd_count; i++) close(in_fds[i]);
    gcsd = gcsd_free(gcsd);
    loop = loop_free(loop);
    return 0;
}

/* The next frame for the driver of this kind; others are dropped, but for their descriptors. */
static const void *await_kind(uint16_t kind) {
    int64_t end = time_now_ns() + INT64_C(60000000000);

    for (;;) {
        const struct wire_head *head = (const void *)frame_buf;

        while (next_frame(driver_fd, frame_buf, sizeof frame_buf, MSG_DONTWAIT)) {
            if (head->kind == kind) return frame_buf;
            if (head->kind == WIRE_ROUTE) {
                uint32_t len;
                const void *inner = wire_route_frame((const void *)frame_buf, &len);

                if (wire_check(inner, len) == 0 && wire_head(inner)->kind == kind) return inner;
            }
        }
        if (time_now_ns() > end) fail_msg("no %s came", wire_name(kind));
        pump(5);
    }
}

static void say(const void *frame, uint32_t len) {
    assert_int_equal(write(driver_fd, frame, len), len);
}

/* hello, welcome, a job. */
static void join(void) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct wire_hello hello = {.head = HEAD(wire_hello, WIRE_HELLO), .version = WIRE_VERSION};
    struct wire_job_start job = {.head = HEAD(wire_job_start, WIRE_JOB_START)};
    const struct wire_welcome *w;
    char line[500] = "";
    struct stat st;

    for (size_t n = 0; !strchr(line, '\n');) {
        struct pollfd p = {.fd = ready_fd, .events = POLLIN};
        ssize_t got = poll(&p, 1, 0) > 0 ? read(ready_fd, line + n, sizeof line - 1 - n) : 0;

        if (got > 0) n += (size_t)got;
        pump(5);
    }
    assert_true(!strncmp(line, "READY node=1 ", 13));
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/raylet.sock", run_dir);
    assert_int_equal(stat(addr.sun_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    driver_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(driver_fd, (struct sockaddr *)&addr, sizeof addr), 0);
    say(&hello, sizeof hello);
    w = await_kind(WIRE_WELCOME);
    driver = w->proc;
    assert_int_equal(w->head.nfds, 3);
    assert_int_equal(in_fd_count, 3);
    assert_int_equal(w->store_bytes, 16777216);
    assert_true(w->arena_bytes > 16 * w->store_bytes);
    for (; in_fd_count > 0;) close(in_fds[--in_fd_count]);
    job.driver = driver;
    job.head.call = 1;
    put_route(driver_fd, SKATE_GCS, driver, &job, sizeof job);
    assert_int_equal(((const struct wire_job_started *)await_kind(WIRE_JOB_STARTED))->job, 1);
}

/* Another program of this user; what await_kind() reads and say() writes from now on is its. */
static uint64_t another(void) {
    struct wire_hello hello = {.head = HEAD(wire_hello, WIRE_HELLO), .version = WIRE_VERSION};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    uint64_t proc;

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/raylet.sock", run_dir);
    in_len = 0;
    driver_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(driver_fd, (struct sockaddr *)&addr, sizeof addr), 0);
    say(&hello, sizeof hello);
    proc = ((const struct wire_welcome *)await_kind(WIRE_WELCOME))->proc;
    while (in_fd_count > 0) close(in_fds[--in_fd_count]);
    return proc;
}

static int32_t join_job(uint32_t job) {
    struct wire_job_join m = {.head = HEAD(wire_job_join, WIRE_JOB_JOIN), .job = job};
    const struct wire_job_joined *told;

    m.head.call = 9;
    say(&m, sizeof m);
    told = await_kind(WIRE_JOB_JOINED);
    assert_int_equal(told->head.call, 9);
    assert_true(told->head.flags & WIRE_REPLY);
    assert_int_equal(told->job, job);
    assert_int_equal(told->driver, told->status == 0 ? driver : 0);
    return told->status;
}

static void ask_leases(uint64_t req, uint32_t count, int64_t cpus) {
    struct resources want = {0};
    uint8_t packed[100];
    uint64_t room[64];
    struct wire_buf b;
    struct wire_lease_req *m;

    assert_int_equal(resources_set(&want, "CPU", cpus * RESOURCE_UNIT), 0);
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LEASE_REQ);
    m->req = req;
    m->owner = driver;
    m->job = 1;
    m->count = count;
    WIRE_PUT(&b, lease_req, resources, packed, resources_pack(&want, packed, sizeof packed));
    WIRE_PUT(&b, lease_req, name, "f", 1);
    assert_int_equal(wire_end(&b), 0);
    say(b.p, b.len);
    wire_release(&b);
}

/* A granted worker. Its channel was opened before. */
static uint64_t grant(uint64_t req) {
    const struct wire_lease_grant *g = await_kind(WIRE_LEASE_GRANT);

    assert_int_equal(g->req, req);
    return g->worker;
}

static void command(uint64_t proc, uint32_t what) {
    struct wire_steal m = {.head = HEAD(wire_steal, WIRE_STEAL), .max = what};

    put_route(driver_fd, proc, driver, &m, sizeof m);
}

static void give_back(uint64_t proc) {
    struct wire_lease_return m = {.head = HEAD(wire_lease_return, WIRE_LEASE_RETURN),
                                  .worker = proc};

    say(&m, sizeof m);
}

static void text_has(const struct wire_proc_died *m, const char *part) {
    uint32_t len;
    const char *text = wire_proc_died_text(m, &len);

    if (!memmem(text, len, part, strlen(part))) fail_msg("%.*s", (int)len, text);
}

static void test_leases(void **state) {
    const struct wire_channel *c;
    uint64_t a, b;

    (void)state;
    join();
    ask_leases(7, 3, 1);
    c = await_kind(WIRE_CHANNEL);
    assert_int_equal(c->status, 0);
    assert_int_equal(c->head.nfds, 2);
    assert_true(c->my_bit > 0 && c->peer_bit > 0);
    a = c->peer;
    assert_int_equal(grant(7), a);
    b = grant(7);
    assert_true(a != b);
    command(b, DO_ECHO); /* both CPUs are taken: a third needs one back */
    (void)await_kind(WIRE_UNBLOCKED);
    give_back(a);
    assert_int_equal(grant(7), a); /* the same worker serves again, on its old channel */
    give_back(a);
    give_back(b);
    ask_leases(8, 1, 2); /* both CPUs at once */
    a = grant(8);
    give_back(a);
    give_back(a); /* twice is harmless */
    ask_leases(9, 2, 1);
    (void)grant(9);
    (void)grant(9);
}

/* A member: in the driver's job, not its end; told when the job ends. */
static void test_members(void **state) {
    struct wire_bye bye = {.head = HEAD(wire_bye, WIRE_BYE)};
    uint64_t own = 0, first, worker;
    int driver_own;

    (void)state;
    join();
    own = driver;
    driver_own = driver_fd;
    bye.head.call = 5;
    assert_true(another() != own);
    assert_int_equal(join_job(0), -SKATE_EAGAIN);
    assert_int_equal(join_job(77), -SKATE_EAGAIN);
    assert_int_equal(join_job(1), 0);
    assert_int_equal(join_job(1), -SKATE_EINVAL);
    say(&bye, sizeof bye); /* it leaves; the job goes on */
    assert_int_equal(((const struct wire_bye *)await_kind(WIRE_BYE))->head.call, 5);
    close(driver_fd);

    first = driver = another();
    driver = own;
    assert_int_equal(join_job(1), 0);
    driver = first; /* it gets the job's workers */
    ask_leases(7, 1, 1);
    worker = grant(7);
    give_back(worker);
    own = driver;
    close(driver_fd); /* dies: the others hear so, and the job goes on */
    driver_fd = driver_own;
    for (;;) {
        const struct wire_proc_died *d = await_kind(WIRE_PROC_DIED);

        if (d->proc != first) continue;
        text_has(d, "member process");
        break;
    }
    driver = proc_make(1, 1);
    ask_leases(8, 1, 1);
    give_back(grant(8));

    (void)another();
    assert_int_equal(join_job(1), 0);
    {
        int member = driver_fd;

        in_len = 0;
        driver_fd = driver_own;
        say(&bye, sizeof bye); /* the driver's: the job ends */
        driver_fd = member;
    }
    assert_int_equal(((const struct wire_job_end *)await_kind(WIRE_JOB_END))->job, 1);
    assert_int_equal(next_frame(driver_fd, frame_buf, sizeof frame_buf, 0), 0); /* cut off */
    close(driver_fd);
    driver = 0;
    (void)another();
    assert_int_equal(join_job(1), -SKATE_ENOENT);
    close(driver_fd);
    driver_fd = driver_own;
}

static void test_infeasible(void **state) {
    const struct wire_notice *n;
    const char *text;
    uint32_t len;

    (void)state;
    join();
    ask_leases(7, 1, 64);
    n = await_kind(WIRE_NOTICE);
    assert_int_equal(n->kind, 1);
    text = wire_notice_text(n, &len);
    assert_non_null(memmem(text, len, "Task f needs 64 CPU, but the largest node has 2 CPU", 51));
}

static void test_deaths(void **state) {
    const struct wire_proc_died *d;
    uint64_t a, b;

    (void)state;
    join();
    ask_leases(7, 2, 1);
    a = grant(7);
    b = grant(7);
    command(a, DO_DIE);
    d = await_kind(WIRE_PROC_DIED);
    assert_int_equal(d->proc, a);
    assert_int_equal(d->signal, 9);
    text_has(d, "was killed by signal 9 (SIGKILL)");
    command(b, DO_EXIT);
    d = await_kind(WIRE_PROC_DIED);
    assert_int_equal(d->code, 3);
    text_has(d, "exited with code 3");
    command(a, DO_ECHO); /* dead: the sender is told, with the reason */
    d = await_kind(WIRE_PROC_DIED);
    assert_int_equal(d->proc, a);
    text_has(d, "SIGKILL");
    ask_leases(8, 2, 1); /* its resources are free again */
    (void)grant(8);
    a = grant(8);
    command(a, DO_LAST_WORDS);
    (void)await_kind(WIRE_UNBLOCKED); /* before the news of its death */
    assert_int_equal(((const struct wire_proc_died *)await_kind(WIRE_PROC_DIED))->proc, a);
}

static int32_t ask_extent(uint64_t bytes, uint64_t *ret_offset) {
    struct wire_extent_req m = {.head = HEAD(wire_extent_req, WIRE_EXTENT_REQ), .bytes = bytes};
    const struct wire_extent *e;

    m.head.call = 5;
    say(&m, sizeof m);
    e = await_kind(WIRE_EXTENT);
    assert_int_equal(e->head.call, 5);
    assert_true(e->head.flags & WIRE_REPLY);
    *ret_offset = e->offset;
    return e->status;
}

/* The bytes of a dead worker are not lent again before everybody let go of them. */
static void test_quarantine(void **state) {
    struct wire_extents_done done = {.head = HEAD(wire_extents_done, WIRE_EXTENTS_DONE)};
    struct wire_extent_return back = {.head = HEAD(wire_extent_return, WIRE_EXTENT_RETURN)};
    uint64_t all = 16777216 - 4096, offset, a;
    int status = -1;

    (void)state;
    join();
    assert_int_equal(ask_extent(all, &offset), 0);
    back.offset = offset;
    say(&back, sizeof back);
    ask_leases(7, 1, 1);
    a = grant(7);
    command(a, DO_EXTENT);
    (void)await_kind(WIRE_UNBLOCKED);
    assert_int_equal(ask_extent(all, &offset), -SKATE_EFULL);
    command(a, DO_DIE);
    done.proc = ((const struct wire_proc_died *)await_kind(WIRE_PROC_DIED))->proc;
    assert_int_equal(ask_extent(all, &offset), -SKATE_EFULL);
    say(&done, sizeof done);
    for (int i = 0; i < 500 && status; i++) { /* the other workers answer, too */
        status = ask_extent(all, &offset);
        pump(5);
    }
    assert_int_equal(status, 0);
}

static void test_logs(void **state) {
    static const char *want[2][2] = {{"f", "hello\n"}, {"", "plain\n"}};
    uint32_t len;

    (void)state;
    join();
    ask_leases(7, 1, 1);
    command(grant(7), DO_PRINT);
    for (int i = 0; i < 2; i++) {
        const struct wire_log *m = await_kind(WIRE_LOG);
        const char *name = wire_log_name(m, &len);
        const uint8_t *text;

        assert_int_equal(len, strlen(want[i][0]));
        assert_memory_equal(name, want[i][0], len);
        text = wire_log_text(m, &len);
        assert_int_equal(len, strlen(want[i][1]));
        assert_memory_equal(text, want[i][1], len);
    }
}

/* bye: the half line comes, then the answer; then the session ends with its driver. */
static void test_end(void **state) {
    struct wire_bye bye = {.head = HEAD(wire_bye, WIRE_BYE)};
    const uint8_t *text;
    uint32_t len;
    int status;

    (void)state;
    join();
    ask_leases(7, 1, 1);
    command(grant(7), DO_PRINT);
    (void)await_kind(WIRE_UNBLOCKED);
    bye.head.call = 4;
    say(&bye, sizeof bye);
    do text = wire_log_text(await_kind(WIRE_LOG), &len);
    while (len != 4 || memcmp(text, "half", 4));
    assert_int_equal(((const struct wire_bye *)await_kind(WIRE_BYE))->head.call, 4);
    close(driver_fd);
    driver_fd = 0;
    while (waitpid(raylet_pid, &status, WNOHANG) == 0) pump(5);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    raylet_pid = 0;
    assert_int_equal(access(run_dir, F_OK), -1);
}

/* How often the zygote was asked for a worker. */
static uint32_t forks(void) {
    char path[100], line[16];
    uint32_t n = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/logs/zygote.err", run_dir);
    f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) n += !strcmp(line, "fork\n");
    fclose(f);
    return n;
}

/* The workers that the raylet has, or waits for; none that it has killed. */
static uint32_t workers(void) {
    struct wire_state_req ask = {.head = HEAD(wire_state_req, WIRE_STATE_REQ), .what = 3,
                                 .max = 100};
    const struct wire_state_rows *m;
    const uint8_t *p;
    uint32_t len, n = 0;

    ask.head.call = 6;
    say(&ask, sizeof ask);
    m = await_kind(WIRE_STATE_ROWS);
    p = wire_state_rows_frames(m, &len);
    for (uint32_t at = 0; at < len;) {
        const struct wire_proc_row *row = (const void *)(p + at);

        n += row->role == PROC_WORKER && row->state != PROC_DOOMED;
        at += (row->head.size + 7u) & ~7u;
    }
    return n;
}

/* A lease that is asked for after bye forks nobody: bye waits for the pipes of the job's workers,
 * and a new one would hold its own open. */
static void test_bye_forks_nobody(void **state) {
    struct wire_bye bye = {.head = HEAD(wire_bye, WIRE_BYE)};
    uint64_t a;

    (void)state;
    join();
    ask_leases(7, 2, 1);
    a = grant(7);
    (void)grant(7); /* both that the job began with are there */
    command(a, DO_HOLD_PIPES);
    (void)await_kind(WIRE_UNBLOCKED);
    assert_int_equal(workers(), 2);
    assert_int_equal(forks(), 2);
    bye.head.call = 4;
    say(&bye, sizeof bye);
    ask_leases(8, 2, 1);
    assert_int_equal(((const struct wire_bye *)await_kind(WIRE_BYE))->head.call, 4);
    assert_int_equal(workers(), 0);
    assert_int_equal(forks(), 2);
}

static void test_lifeline(void **state) {
    int status;

    (void)state;
    join();
    close(lifeline);
    lifeline = dup(2);
    while (waitpid(raylet_pid, &status, WNOHANG) == 0) pump(5);
    raylet_pid = 0;
    assert_int_equal(access(run_dir, F_OK), -1);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_leases, start, stop),
        cmocka_unit_test_setup_teardown(test_members, start, stop),
        cmocka_unit_test_setup_teardown(test_infeasible, start, stop),
        cmocka_unit_test_setup_teardown(test_deaths, start, stop),
        cmocka_unit_test_setup_teardown(test_quarantine, start, stop),
        cmocka_unit_test_setup_teardown(test_logs, start, stop),
        cmocka_unit_test_setup_teardown(test_end, start, stop),
        cmocka_unit_test_setup_teardown(test_bye_forks_nobody, start, stop),
        cmocka_unit_test_setup_teardown(test_lifeline, start, stop),
    };
    ssize_t n = readlink("/proc/self/exe", self_path, sizeof self_path - 1);

    if (argc > 1 && !strcmp(argv[1], "-E")) return zygote();
    if (n < 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
