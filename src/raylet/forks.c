/* forks.c - the zygote: started first of all, restarted when it dies, asked to fork workers.
 *
 * The raylet is a child subreaper: when the zygote dies its workers die with it (PDEATHSIG) and
 * their ends come to us through SIGCHLD, with their wait status. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/futex.h"
#include "raylet/raylet.h"
#include "raylet/spawn.h"

enum { QUICK_DEATH_MS = 1000, QUICK_DEATHS_MAX = 3, RETRY_MS = 1000 };

static const char boot[] =
    "import gc, sys\n"
    "gc.disable()\n" /* until it is warm: imports make no garbage worth a search */
    "path, own = sys.argv[2], []\n"
    "if path[:1] == '+': path, own = path[1:], sys.path[:]\n" /* before the interpreter's own */
    "sys.path[:] = [p for p in path.split(':') + own if p]\n"
    "from skate._zygote import main\n"
    "main(sys.argv[1], sys.argv[3])\n";

static void on_frame(void *arg, const void *frame, uint32_t len) {
    struct raylet *r = arg;
    const struct wire_head *head = frame;

    (void)len;
    if (head->kind == WIRE_FORKED) {
        const struct wire_forked *m = frame;
        struct proc *p = proc_find(r, m->proc);

        if (!p || p->state == PROC_LIVE || p->pid) return;
        if (m->status < 0)
            node_log("fork of a worker failed: %s",
                     strerror(m->status > -4096 ? -m->status : EPROTO));
        if (m->status < 0 || m->pid < 2 || m->pid > INT32_MAX) /* kill() means others by those */
            pool_fork_lost(r, p);
        else
            pool_forked(r, p, (int)m->pid);
    } else if (head->kind == WIRE_EXITED) {
        const struct wire_exited *m = frame;

        death_of_pid(r, (pid_t)m->pid, m->wait_status, m->peak_bytes);
    }
}

/* It closed its end: kill it, SIGCHLD does the rest. */
static void on_close(void *arg, int code) {
    struct raylet *r = arg;

    (void)code;
    if (r->zygote_pid > 0) kill(r->zygote_pid, SIGKILL);
}

static const struct stream_events zygote_events = {.on_frame = on_frame, .on_close = on_close};

static int spawn(struct raylet *r, int sock, pid_t *ret) {
    char log_path[320];
    const char *worker = r->set.worker[0] ? r->set.worker : "skate._worker";
    char *argv[] = {r->set.python, "-E", "-s", "-X", "frozen_modules=on", "-c", (char *)boot,
                    r->set.run_dir, r->set.python_path ? r->set.python_path : "",
                    (char *)worker, NULL};
    struct spawning s;
    int e;

    snprintf(log_path, sizeof log_path, "%s/logs/zygote.err", r->set.run_dir);
    spawn_init(&s, 0);
    spawn_log(&s, log_path);
    posix_spawn_file_actions_adddup2(&s.acts, sock, 3);
    e = spawn_run(&s, ret, r->set.python, argv);
    if (e) node_log("cannot start %s: %s", r->set.python, strerror(e));
    return e ? -SKATE_ESYS : 0;
}

static void restart(void *arg);

int zygote_start(struct raylet *r) {
    int pair[2], e;

    SKATE_ASSERT(!r->zygote);
    if (!r->zygote_timer && loop_timer_new(r->loop, restart, r, &r->zygote_timer) < 0)
        return -SKATE_ENOMEM;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -SKATE_ESYS;
    e = spawn(r, pair[1], &r->zygote_pid);
    close(pair[1]);
    if (e == 0) e = stream_new(r->loop, pair[0], &zygote_events, r, &r->zygote);
    if (e < 0) {
        close(pair[0]);
        return e;
    }
    r->zygote_number++;
    r->zygote_served = false;
    r->zygote_started_ns = time_now_ns();
    return 0;
}

static void restart(void *arg) {
    struct raylet *r = arg;
    uint32_t at = 0;
    struct job *j;

    if (r->zygote || r->ending) return;
    if (zygote_start(r) < 0) {
        loop_timer_start(r->zygote_timer, RETRY_MS, 0);
        return;
    }
    while ((j = table_next(&r->jobs, &at, NULL))) pool_kick(r, j);
}

/* Tell every driver of this node once why no worker can start. */
static void complain(struct raylet *r) {
    char tail[400] = "", text[1024], path[320];
    int fd;

    snprintf(path, sizeof path, "%s/logs/zygote.err", r->set.run_dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        ssize_t n = pread(fd, tail, sizeof tail - 1, end > 399 ? end - 399 : 0);

        tail[n > 0 ? n : 0] = 0;
        close(fd);
    }
    snprintf(text, sizeof text, "no worker can start on this node: %s dies at once: %s",
             r->set.python, tail);
    node_log("%s", text);
    procs_tell_drivers(r, 2, text);
}

/* One of its workers that has ended, whose end it had heard of and not told. NULL: no more. */
static struct proc *untold(struct raylet *r) {
    uint32_t at = 0;
    struct proc *p;

    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->role == PROC_WORKER && p->zygote == r->zygote_number && p->pid &&
            kill((pid_t)p->pid, SIGKILL) < 0 && errno == ESRCH)
            return p;
    return NULL;
}

void zygote_gone(struct raylet *r, int wait_status) {
    struct proc *lost[RAYLET_STARTING_MAX], *p;
    uint32_t count = 0, at = 0;
    bool useless = !r->zygote_served &&
                   time_now_ns() - r->zygote_started_ns < QUICK_DEATH_MS * INT64_C(1000000);

    node_log("the zygote ended (wait status %d), restarting it", wait_status);
    stream_drain(r->zygote);
    stream_close(r->zygote);
    r->zygote = NULL;
    r->zygote_pid = 0;
    while ((p = table_next(&r->procs, &at, NULL))) {
        if (p->role != PROC_WORKER || p->zygote != r->zygote_number) continue;
        if (!p->pid && count < RAYLET_STARTING_MAX) lost[count++] = p;
    }
    while (count > 0) pool_fork_lost(r, lost[--count]);
    while ((p = untold(r))) death_of(p, -1, -1); /* the others' ends follow by SIGCHLD */
    r->zygote_fails = useless ? r->zygote_fails + 1 : 0;
    if (r->zygote_fails == QUICK_DEATHS_MAX) complain(r);
    loop_timer_start(r->zygote_timer, r->zygote_fails >= QUICK_DEATHS_MAX ? RETRY_MS : 0, 0);
}

int zygote_fork(struct raylet *r, struct proc *p, const int fds[3]) {
    struct wire_fork m = {.head = {.size = sizeof m, .kind = WIRE_FORK, .fixed = sizeof m,
                                   .nfds = 3},
                          .proc = p->id};

    if (!r->zygote) return -SKATE_EDEAD;
    p->zygote = r->zygote_number;
    return stream_send(r->zygote, &m, sizeof m, fds, 3);
}

void zygote_stop(struct raylet *r) {
    if (r->zygote_pid > 0) kill(r->zygote_pid, SIGKILL);
}
