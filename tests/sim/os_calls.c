/* os_calls.c - the other system calls: clocks, signals, children, files of the disk, chance.
 *
 * There is no disk but what gcs_log's backend plays: a file that is opened to be read is not
 * there, one that is written is written to nowhere. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim_os.h"

enum { LOOK_NS = 30 }; /* what looking at the clock takes: who spins on it gets on */

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __real_open64(const char *path, int flags, ...);
FILE *__real_fopen64(const char *path, const char *mode);
pid_t __real_getpid(void);

int64_t sim_wall_offset = INT64_C(1700000000) * SIM_S;

int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret) {
    int64_t at;

    if (!sim_cur) return __real_clock_gettime(id, ret);
    sim_now += LOOK_NS;
    at = id == CLOCK_REALTIME ? sim_now + sim_wall_offset : sim_now;
    *ret = (struct timespec){at / SIM_S, at % SIM_S};
    return 0;
}

time_t __wrap_time(time_t *ret);
time_t __wrap_time(time_t *ret) {
    time_t t = (sim_now + sim_wall_offset) / SIM_S;

    if (ret) *ret = t;
    return t;
}

int __wrap_usleep(useconds_t us);
int __wrap_usleep(useconds_t us) {
    if (sim_thread_cur) sim_sleep(us * SIM_US); /* a raylet's last moment takes none */
    return 0;
}

pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void) { return sim_cur ? (pid_t)sim_cur->pid : __real_getpid(); }

ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags) {
    (void)flags;
    sim_random_bytes(p, n);
    return (ssize_t)n;
}

/* ---- ends ---- */

int __wrap_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal) {
    struct sim_proc *p = pid > 0 ? sim_proc_by_pid((uint32_t)pid) : NULL;

    if (!p) return errno = ESRCH, -1;
    if (signal && !p->dead) sim_kill(p, signal); /* a zombie takes it, too */
    return 0;
}

void __wrap__exit(int code) __attribute__((noreturn));
void __wrap__exit(int code) { sim_exit(code); }

pid_t __wrap_wait4(pid_t pid, int *status, int flags, struct rusage *used);
pid_t __wrap_wait4(pid_t pid, int *status, int flags, struct rusage *used) {
    struct sim_proc *found = NULL;

    (void)flags;
    if (used) memset(used, 0, sizeof *used);
    for (struct sim_proc *p = sim_procs; p; p = p->next)
        if (p->parent == sim_cur && p->dead && !p->reaped &&
            (pid <= 0 || p->pid == (uint32_t)pid))
            found = p; /* the oldest */
    if (!found) return errno = ECHILD, pid <= 0 ? -1 : 0;
    found->reaped = true;
    sim_cur->children_ended--;
    if (status) *status = found->status;
    return (pid_t)found->pid;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int flags);
pid_t __wrap_waitpid(pid_t pid, int *status, int flags) {
    return __wrap_wait4(pid, status, flags, NULL);
}

/* ---- children ---- */

static int spawn_sock = -1;

int __wrap_posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *a, int fd, int to);
int __wrap_posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *a, int fd, int to) {
    (void)a;
    if (to == 3) spawn_sock = fd;
    return 0;
}

int __wrap_posix_spawn(pid_t *ret, const char *path, const posix_spawn_file_actions_t *acts,
                       const posix_spawnattr_t *attr, char *const argv[], char *const envp[]);
int __wrap_posix_spawn(pid_t *ret, const char *path, const posix_spawn_file_actions_t *acts,
                       const posix_spawnattr_t *attr, char *const argv[], char *const envp[]) {
    uint32_t pid;
    int e;

    (void)acts, (void)attr, (void)argv, (void)envp;
    e = sim_spawn(path, spawn_sock, &pid);
    if (e == 0) *ret = (pid_t)pid;
    return e;
}

/* ---- what has no meaning here ---- */

int __wrap_prctl(int what, ...);
int __wrap_prctl(int what, ...) {
    (void)what;
    return 0;
}
pid_t __wrap_setsid(void);
pid_t __wrap_setsid(void) { return __wrap_getpid(); }
int __wrap_sigprocmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    (void)how, (void)set, (void)old;
    return 0;
}
int __wrap_setrlimit64(int what, const struct rlimit *limit);
int __wrap_setrlimit64(int what, const struct rlimit *limit) {
    (void)what, (void)limit;
    return 0;
}
int __wrap_gethostname(char *out, size_t cap);
int __wrap_gethostname(char *out, size_t cap) {
    snprintf(out, cap, "%s", sim_cur && sim_cur->machine ? sim_cur->machine->name : "sim");
    return 0;
}

/* ---- the disk ---- */

int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...) {
    if (!sim_cur) return __real_open64(path, flags, 0600);
    if (flags & O_CREAT) return sim_null_file();
    return errno = ENOENT, -1;
}
FILE *__wrap_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode) {
    if (!sim_cur) return __real_fopen64(path, mode);
    return errno = ENOENT, NULL;
}
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path) {
    (void)path;
    return errno = ENOENT, NULL;
}
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode) {
    (void)path, (void)mode;
    return 0;
}
int __wrap_rmdir(const char *path);
int __wrap_rmdir(const char *path) {
    (void)path;
    return 0;
}
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path) {
    (void)path;
    return 0;
}
int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode) {
    (void)path, (void)mode;
    return errno = ENOENT, -1;
}
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    (void)from, (void)to;
    return 0;
}
int __wrap_dprintf(int fd, const char *format, ...);
int __wrap_dprintf(int fd, const char *format, ...) {
    (void)fd, (void)format;
    return 1;
}

/* ---- a daemon that ends, or begins anew ---- */

void __wrap_exit(int code) __attribute__((noreturn));
void __real_exit(int code) __attribute__((noreturn));
void __wrap_exit(int code) {
    if (!sim_cur) __real_exit(code);
    sim_exit(code);
}

/* A raylet that was declared dead: its settings are the machine's own. */
int __wrap_execv(const char *path, char *const argv[]);
int __wrap_execv(const char *path, char *const argv[]) {
    (void)path;
    sim_raylet_anew(sim_cur->machine, strtoull(argv[3], NULL, 10));
    sim_exit(0);
}

off_t __real_lseek64(int fd, off_t at, int whence);
off_t __wrap_lseek64(int fd, off_t at, int whence);
off_t __wrap_lseek64(int fd, off_t at, int whence) {
    return sim_cur ? 0 : __real_lseek64(fd, at, whence);
}

/* ---- the end of all ---- */

void __real_abort(void) __attribute__((noreturn));
void __wrap_abort(void) __attribute__((noreturn));
void __wrap_abort(void) {
    (void)fflush(stdout);
    __real_abort();
}
