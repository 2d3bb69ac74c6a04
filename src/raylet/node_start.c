/* node_start.c - the node's own things: directory, socket, arena, signals, lifeline, its end. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <dirent.h>

#include "base/assert.h"
#include "base/futex.h"
#include "raylet/answers.h"
#include "raylet/beats.h"
#include "raylet/bundles.h"
#include "raylet/demand.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"
#include "raylet/memory_monitor.h"
#include "raylet/pulls.h"
#include "raylet/rejoin.h"
#include "raylet/spill.h"
#include "raylet/raylet.h"
#include "raylet/said.h"

enum { BEAT_MS = 1000 };
enum { LOG_BURST = 200, LOG_EACH_MS = 50 }; /* lines at once; then one line each 50 ms */

static struct {
    int64_t since_ms;
    uint32_t lines, lost;
} log_rate;

/* Whoever can make us complain can do it often: the log file must not grow with it. */
static bool log_allowed(void) {
    int64_t now_ms = time_now_ns() / 1000000;
    int64_t back = (now_ms - log_rate.since_ms) / LOG_EACH_MS;

    if (back > 0) {
        log_rate.lines = back < log_rate.lines ? log_rate.lines - (uint32_t)back : 0;
        log_rate.since_ms = now_ms;
    }
    if (log_rate.lines >= LOG_BURST) return log_rate.lost++, false;
    log_rate.lines++;
    return true;
}

void node_log(const char *format, ...) {
    char line[1024];
    va_list ap;
    int n;

    if (!log_allowed()) return;
    if (log_rate.lost) {
        n = snprintf(line, sizeof line, "%u lines like the last ones left out\n", log_rate.lost);
        log_rate.lost = 0;
        if (n > 0 && write(2, line, (size_t)n) < 0) return;
    }
    va_start(ap, format);
    n = vsnprintf(line, sizeof line - 1, format, ap);
    va_end(ap);
    if (n < 0) return;
    if ((size_t)n > sizeof line - 2) n = (int)sizeof line - 2;
    line[n] = '\n';
    said_add(line, (uint32_t)n + 1);
    if (write(2, line, (size_t)n + 1) < 0) return;
}

struct sched_node *node_own(struct raylet *r) { return sched_view_find(&r->view, r->node); }

/* ---- the end ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)ftw;
    if (kind == FTW_DP ? rmdir(path) : unlink(path)) {} /* what cannot go stays */
    return 0;
}

/* Packages and Python environments of runtime environments: what the workers made for this node. */
static void remove_resources(struct raylet *r) {
    char path[300];

    snprintf(path, sizeof path, "%s/runtime_resources", r->set.run_dir);
    for (int i = 0; i < 3 && access(path, F_OK) == 0; i++) /* a worker may still be writing */
        (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_files(struct raylet *r) {
    const char *folders[3] = {"/logs", "/spill", ""}; /* what is spilled went with spill_stop() */

    remove_resources(r);
    for (int i = 0; i < 3; i++) {
        char path[300];
        struct dirent *d;
        DIR *dir;

        snprintf(path, sizeof path, "%s%s", r->set.run_dir, folders[i]);
        dir = opendir(path);
        if (!dir) continue;
        while ((d = readdir(dir)))
            if (!strcmp(d->d_name, "raylet.sock") || !strcmp(d->d_name, "address") ||
                !strncmp(d->d_name, "worker-", 7) ||
                !strncmp(d->d_name, "zygote", 6) || !strcmp(d->d_name, "spill.err"))
                (void)unlinkat(dirfd(dir), d->d_name, 0);
        closedir(dir);
        (void)rmdir(path);
    }
}

/* What workers have started in sessions of their own came to us when they died: we are the
 * subreaper. Bounded: who does not die at once is left to the kernel. */
static void kill_adopted(void) {
    char path[64], text[4096], *rest;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (int i = 0; i < 50; i++) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        if (fd >= 0) close(fd);
        if (n <= 0) return;
        text[n] = 0;
        for (char *at = text;; at = rest) {
            long pid = strtol(at, &rest, 10);

            if (rest == at || pid < 2) break;
            kill((pid_t)pid, SIGKILL);
        }
        usleep(1000); /* what they had started comes to us only when they are gone; at most 50 ms */
    }
}

void node_clear(struct raylet *r, const char *why) {
    struct proc *p;
    uint32_t at = 0;

    r->ending = true;
    log_rate.lines = 0; /* the last word counts */
    node_log("raylet of node %u ends: %s", r->node, why);
    zygote_stop(r);
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->role == PROC_WORKER && p->pid) {
            kill((pid_t)p->pid, SIGKILL);
            kill(-(pid_t)p->pid, SIGKILL);
        }
    kill_adopted();
    spill_stop(r);
    remove_files(r);
}

void node_end(struct raylet *r, const char *why) {
    node_clear(r, why);
    gcs_link_bye(r, why);
    _exit(0);
}

void node_fail(struct raylet *r, int code, const char *text) {
    char line[700];
    int n = snprintf(line, sizeof line, "ERROR %d %s\n", code, text);

    if (r->set.rejoin.again) node_log("cannot join anew: %s", text);
    if (n > 0 && write(1, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0) {}
    r->ending = true;
    zygote_stop(r);
    spill_stop(r);
    remove_files(r);
    _exit(1);
}

/* ---- start ---- */

static int make_dirs(struct raylet *r, struct skate_error *err) {
    char path[300];

    snprintf(path, sizeof path, "%s/logs", r->set.run_dir);
    if ((mkdir(r->set.run_dir, 0700) < 0 && errno != EEXIST) ||
        (mkdir(path, 0700) < 0 && errno != EEXIST))
        return err_fail(err, -SKATE_ESYS, "cannot make %s: %s", path, strerror(errno));
    return 0;
}

static int make_socket(struct raylet *r, struct skate_error *err) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    mode_t mask;
    int e;

    if ((size_t)snprintf(addr.sun_path, sizeof addr.sun_path, "%s/raylet.sock", r->set.run_dir) >=
        sizeof addr.sun_path)
        return err_fail(err, -SKATE_EINVAL, "the run directory's path is longer than a Unix "
                          "socket allows: %s", r->set.run_dir);
    snprintf(r->socket_path, sizeof r->socket_path, "%s", addr.sun_path);
    r->socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (r->socket_fd < 0) return err_fail(err, -SKATE_ESYS, "socket: %s", strerror(errno));
    mask = umask(0177);
    e = bind(r->socket_fd, (struct sockaddr *)&addr, sizeof addr);
    umask(mask);
    if (e < 0 || listen(r->socket_fd, 64) < 0)
        return err_fail(err, -SKATE_ESYS, "cannot listen on %s: %s", addr.sun_path,
                          strerror(errno));
    return loop_watch_fd(r->loop, r->socket_fd, LOOP_READ, proc_accept, r, &r->socket_watch);
}

/* May a process of ours map as much, beside its ledger and what else it needs? */
static bool has_addresses(uint64_t bytes) {
    void *p;

    bytes += UINT64_C(16) << 30;
    p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) (void)munmap(p, bytes);
    return p != MAP_FAILED;
}

/* The addresses that the store has, for a budget of `bytes`: what is spilled keeps its own. */
static uint64_t span_of(const struct raylet *r, uint64_t bytes) {
    const uint64_t most = UINT64_C(16) << 40, least = UINT64_C(1) << 30;
    uint64_t span = r->set.span ? r->set.span : bytes < most / 64 ? bytes * 64 : most;

    if (!r->set.span && span < least) span = least;
    while (!r->set.span && span / 2 > bytes && !has_addresses(span)) span /= 2;
    if (span < bytes) span = bytes;
    return (span + 2 * GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
}

static void punch(void *arg, struct extent_span span) {
    struct raylet *r = arg;

    (void)fallocate(r->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)span.offset,
                    (off_t)span.bytes);
}

/* Sparse: a page costs memory when it is first written. Behind the arena lies the residency map. */
static int make_arena(struct raylet *r, struct skate_error *err) {
    uint64_t budget = r->set.arena_bytes - r->set.arena_bytes % EXTENT_PAGE, all;
    struct extents_env env = {.punch = punch, .gone = spill_gone, .arg = r};
    void *p;

    r->set.arena_bytes = budget;
    r->span = span_of(r, budget);
    all = r->span + residency_bytes(r->span);
    r->arena_fd = memfd_create("skate-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (r->arena_fd < 0 || ftruncate(r->arena_fd, (off_t)all) < 0 ||
        fcntl(r->arena_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_fail(err, -SKATE_ESYS, "an object store of %.0f MB cannot be made: %s",
                          (double)budget / 1e6, strerror(errno));
    p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->arena_fd, 0);
    if (p == MAP_FAILED)
        return err_fail(err, -SKATE_ESYS, "an object store of %.0f MB cannot be mapped: %s",
                          (double)budget / 1e6, strerror(errno));
    r->arena = p;
    r->residency = r->arena + r->span;
    r->extents = extents_new(r->span, budget, &env);
    return r->extents ? spill_start(r, err) : err_fail(err, -SKATE_ENOMEM, "out of memory");
}

static void reap(struct raylet *r) {
    struct rusage used;
    int status;
    pid_t pid;

    natives_join(r);
    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0) {
        if (pid == r->zygote_pid)
            zygote_gone(r, status);
        else
            death_of_pid(r, pid, status, (uint64_t)used.ru_maxrss << 10);
    }
}

static void on_signal(void *arg, unsigned events) {
    struct raylet *r = arg;
    struct signalfd_siginfo info;

    (void)events;
    while (read(r->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap(r);
        else
            node_end(r, "it was told to by a signal");
    }
}

static int watch_signals(struct raylet *r) {
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signal_fd < 0) return -SKATE_ESYS;
    return loop_watch_fd(r->loop, r->signal_fd, LOOP_READ, on_signal, r, &r->signal_watch);
}

static void on_lifeline(void *arg, unsigned events) {
    (void)events;
    node_end(arg, "the process that it belongs to is gone");
}

static void on_stdin(void *arg, unsigned events) {
    char waste[256];
    ssize_t n = read(0, waste, sizeof waste);

    (void)events;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        node_end(arg, "its lifeline (stdin) was closed");
}

static int watch_lifelines(struct raylet *r, struct skate_error *err) {
    if (!r->set.no_lifeline &&
        loop_watch_fd(r->loop, 0, LOOP_READ, on_stdin, r, &r->stdin_watch) < 0)
        return err_fail(err, -SKATE_EINVAL, "stdin cannot be watched: it must be a pipe");
    r->lifeline_fd = -1;
    if (r->set.lifeline_pid == 0) return 0;
    r->lifeline_fd = (int)syscall(SYS_pidfd_open, (pid_t)r->set.lifeline_pid, 0);
    if (r->lifeline_fd < 0 ||
        loop_watch_fd(r->loop, r->lifeline_fd, LOOP_READ, on_lifeline, r, &r->lifeline_watch) < 0)
        return err_fail(err, -SKATE_EDEAD, "process %u, to which this raylet belongs, is gone",
                          r->set.lifeline_pid);
    return 0;
}

static void report(struct raylet *r, bool beat) {
    struct sched_node *own = node_own(r);
    uint8_t packed[RESOURCES_MAX * 80];
    struct resources avail;
    uint64_t room[1024];
    struct wire_buf b;
    struct wire_node_report *m;
    size_t len;

    if (!own || r->ending) return;
    r->reported_ns = loop_now_ns(r->loop);
    avail = own->avail;
    for (uint32_t i = 0; i < avail.count; i++) /* below zero is our own affair */
        if (avail.v[i].amount < 0) avail.v[i].amount = 0;
    len = resources_pack(&avail, packed, sizeof packed);
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_NODE_REPORT);
    m->arena_used = extents_used(r->extents);
    WIRE_PUT(&b, node_report, available, packed, len);
    if (wire_end(&b) == 0) gcs_link_send(r, b.p, b.len);
    wire_release(&b);
    demand_changed(r, beat);
}

static void send_report(void *arg) { demand_report_soon(arg); }
void node_report(struct raylet *r) { report(r, false); }

static void on_beat(void *arg) {
    struct raylet *r = arg;
    struct job *j;
    uint32_t at = 0;

    if (!r->node) return;
    beats_turn(r->beats);
    report(r, true);
    gcs_link_beat(r);
    said_beat(r);
    links_beat(r);
    pulls_beat(r);
    proc_beat(r);
    keeps_beat(r);
    store_stats_beat(r);
    claims_check(r);
    while ((j = table_next(&r->jobs, &at, NULL)))
        if (j->waiting_count) pool_kick(r, j);
}

static int make_timers(struct raylet *r) {
    loop_task_init(&r->sched_task, grants_run, r);
    if (loop_timer_new(r->loop, send_report, r, &r->report_timer) < 0 ||
        loop_timer_new(r->loop, on_beat, r, &r->beat_timer) < 0 ||
        loop_timer_new(r->loop, grants_reclaim_tick, r, &r->reclaim_timer) < 0)
        return -SKATE_ENOMEM;
    loop_timer_start(r->beat_timer, BEAT_MS, BEAT_MS);
    if (r->set.report_log) said_on();
    store_stats_beat(r); /* rates are since now */
    return 0;
}

static void raise_limits(void) {
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &lim);
    }
}

static void on_convicted(void *arg, const char *reason) { node_rejoin(arg, reason); }

/* A private session has one node, whose daemons end with each other: no beats. */
static int make_beats(struct raylet *r) {
    struct beats_opts opts = {.loop = r->loop, .gcs_port = r->set.gcs_port, .node_id = r->node_id,
                              .tls = tls_settings_of(&r->set.tls),
                              .on_convicted = on_convicted, .arg = r};
    int e;

    if (r->set.local_session) return 0;
    memcpy(opts.key, r->set.key, sizeof opts.key);
    memcpy(opts.gcs_ip, r->set.gcs_ip, sizeof opts.gcs_ip);
    e = beats_new(&opts, &r->beats);
    net_wipe(opts.key, sizeof opts.key);
    return e;
}

int node_start(struct raylet *r, struct skate_error *err) {
    int e;

    r->next_number = 1;
    r->reclaim_ms = 10;
    r->oom_kills = death_oom_kills();
    r->signal_fd = r->lifeline_fd = r->socket_fd = r->arena_fd = -1;
    (void)setsid(); /* Ctrl-C in the user's terminal is not for us */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return -SKATE_ESYS;
    if (getrandom(&r->node_id, sizeof r->node_id, 0) != (ssize_t)sizeof r->node_id)
        return -SKATE_ESYS;
    e = loop_new(&r->loop);
    if (e == 0) e = make_dirs(r, err);
    if (e == 0) e = watch_signals(r);
    memory_protect_self();
    if (e == 0 && !r->set.outpost) e = zygote_start(r); /* first of all: it takes longest */
    if (e == 0) e = watch_lifelines(r, err);
    if (e == 0) e = make_arena(r, err);
    if (e == 0) e = make_socket(r, err);
    if (e == 0) e = make_timers(r);
    if (e == 0) e = pulls_start(r);
    if (e == 0) e = memory_monitor_start(r);
    if (e == 0) e = make_beats(r);
    if (e < 0) return e;
    r->leases = groups_new(r) < 0 ? NULL : leases_new(LEASES_REQUESTS_MAX);
    if (!r->leases) return -SKATE_ENOMEM;
    raise_limits();
    return links_start(r, err);
}

/* By this file another program of the user finds the node of a session that it has the address of
 * (clusters of `skate start` have records of their own). */
static void write_address(struct raylet *r) {
    char path[300];
    int fd;

    snprintf(path, sizeof path, "%s/address", r->set.run_dir);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "%s:%u\n", r->set.gcs_ip, r->set.gcs_port) < 0)
        node_log("cannot write %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
}

void node_ready(struct raylet *r) {
    const uint8_t *id = (const uint8_t *)&r->node_id;
    char line[400], hex[33];
    int n;

    for (int i = 0; i < 16; i++) snprintf(hex + i * 2, 3, "%02x", id[i]);
    if (!r->set.outpost) write_address(r); /* it serves its driver alone */
    n = snprintf(line, sizeof line, "READY node=%u node_id=%s port=%u socket=%s\n", r->node, hex,
                 links_port(r), r->socket_path);
    SKATE_ASSERT(n > 0 && (size_t)n < sizeof line);
    if (r->set.rejoin.again)
        node_log("joined anew: %.*s", n - 1, line); /* who started it has its READY long since */
    else if (write(1, line, (size_t)n) != n)
        node_end(r, "nobody reads its stdout");
    if (r->beats && beats_start(r->beats, r->node) < 0) node_log("no thread for beats");
    grants_wake(r);
}
