/* natives.c - workers without Python: started by the raylet itself, not by the zygote.
 *
 * A worker whose runtime environment is the native one is `skate-worker`, found beside this
 * program. It is our child: its death comes by SIGCHLD (node_start.c). It joins the pool from the
 * loop, behind the call that asked for it, as one does that the zygote has forked. It ends with us
 * (PDEATHSIG, which it sets itself, and a second look at its parent).
 * Tests: tests/e2e/test_native_worker.py. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "raylet/raylet.h"
#include "raylet/spawn.h"

#define NATIVE_ENV "skate-native"
#define PROGRAM "skate-worker"
#define COMPLAIN_EVERY_NS INT64_C(10000000000)

bool native_env(const struct job_env *e) { return env_is(e, NATIVE_ENV, strlen(NATIVE_ENV)); }

/* Beside our own program. */
static const char *program(void) {
    static char path[PATH_MAX];
    ssize_t n;
    char *slash;

    if (path[0]) return path;
    n = readlink("/proc/self/exe", path, sizeof path - sizeof PROGRAM - 1);
    path[n > 0 ? n : 0] = 0;
    slash = strrchr(path, '/');
    memcpy(slash ? slash + 1 : path, PROGRAM, sizeof PROGRAM);
    return path;
}

/* Tell the drivers of this node why their tasks wait, now and then: it is tried again. */
static void complain(struct raylet *r, int e) {
    int64_t now = loop_now_ns(r->loop);
    char text[600];

    if (r->native_told_ns && now - r->native_told_ns < COMPLAIN_EVERY_NS) return;
    r->native_told_ns = now;
    snprintf(text, sizeof text,
             "no worker for C tasks can start on this node: %.400s: %s; it is tried again",
             program(), strerror(e));
    node_log("%s", text);
    procs_tell_drivers(r, 2, text);
}

/* A process group of its own, every signal as at the birth of a process, nothing of ours open but
 * the three. fds: its socket, stdout, stderr. */
static int spawn(const int fds[3], pid_t *ret) {
    char parent[16];
    char *argv[] = {(char *)PROGRAM, parent, NULL};
    struct spawning s;

    snprintf(parent, sizeof parent, "%d", (int)getpid());
    spawn_init(&s, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&s.attr, 0);
    posix_spawn_file_actions_adddup2(&s.acts, fds[1], 1);
    posix_spawn_file_actions_adddup2(&s.acts, fds[2], 2);
    posix_spawn_file_actions_adddup2(&s.acts, fds[0], 3);
    return spawn_run(&s, ret, program(), argv);
}

/* Those that were started since the last look join the pool. */
static void join(void *arg) {
    struct raylet *r = arg;
    struct proc *p;
    uint32_t at = 0;

    while (r->natives_starting > 0 && (p = table_next(&r->procs, &at, NULL))) {
        int pid = p->spawned;

        if (!pid) continue;
        p->spawned = 0;
        r->natives_starting--;
        pool_forked(r, p, pid);
        at = 0; /* it may have started others */
    }
}

void natives_join(struct raylet *r) {
    if (r->natives_starting) join(r);
}

int native_start(struct raylet *r, struct proc *p, const int fds[3]) {
    pid_t pid;
    int high[3], e = 0;

    p->zygote = 0; /* of none */
    /* dup2 of a descriptor upon itself would leave it to be closed; and none may be overwritten
     * before it is used. */
    for (int i = 0; i < 3; i++) {
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
        if (high[i] < 0) e = errno;
    }
    if (e == 0) e = spawn(high, &pid);
    for (int i = 0; i < 3; i++)
        if (high[i] >= 0) close(high[i]);
    if (e) {
        complain(r, e);
        return -SKATE_ESYS;
    }
    p->spawned = pid;
    if (!r->natives_task.run) loop_task_init(&r->natives_task, join, r);
    r->natives_starting++;
    loop_post(r->loop, &r->natives_task);
    return 0;
}
