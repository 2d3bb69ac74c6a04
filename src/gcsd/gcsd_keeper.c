/* gcsd_keeper.c - see gcsd_keeper.h. No loop, no thread, no memory that grows: it must not fail. */
#include "gcsd/gcsd_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* An end so soon after the start is one in a row: the pauses before the next grow. */
enum { QUICK_MS = 50, PAUSE_FIRST_MS = 20, PAUSE_MOST_MS = 1000, START_MS = 60000 };

static volatile sig_atomic_t server_pid; /* for the signal handler */

static int64_t now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void on_signal(int number) {
    (void)number;
    if (server_pid) (void)kill((pid_t)server_pid, SIGTERM);
    _exit(0);
}

static int open_pid(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

static bool put(int fd, const char *text, size_t n) { return write(fd, text, n) == (ssize_t)n; }

/* The settings line again, in a file of its own, with what differs for this start behind it: of a
 * key that comes twice the last counts. No buffer of this process holds a copy; who is started
 * empties the file. */
static int line_file(const struct gcsd_settings *s, const char *more) {
    int fd = (int)syscall(SYS_memfd_create, "settings", 0);

    if (fd < 0) return -1;
    if (!put(fd, s->line, strlen(s->line)) || !put(fd, "\t", 1) || !put(fd, more, strlen(more)) ||
        !put(fd, "\n", 1) || lseek(fd, 0, SEEK_SET) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* A new process of this program with these settings; its stdout goes to `out`. -1: none. */
static pid_t start(const struct gcsd_settings *s, const char *more, int out) {
    char *argv[] = {(char[]){"skate-gcs"}, NULL};
    int in = line_file(s, more);
    sigset_t none;
    pid_t pid;

    if (in < 0) return -1;
    pid = fork();
    if (pid == 0) {
        (void)signal(SIGTERM, SIG_DFL);
        (void)signal(SIGINT, SIG_DFL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)dup2(in, STDIN_FILENO);
        (void)dup2(out, STDOUT_FILENO);
        (void)close_range(3, ~0U, 0);
        (void)execv("/proc/self/exe", argv);
        _exit(127);
    }
    (void)close(in);
    return pid;
}

/* The first line that the server says; 0: it is ready. */
static int first_line(int fd, char *line, size_t cap) {
    int64_t end = now_ms() + START_MS;
    size_t used = 0;

    while (used < cap - 1 && now_ms() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, 1000) <= 0) continue;
        n = read(fd, line + used, cap - 1 - used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
        line[used] = 0;
        if (line[used - 1] == '\n') return strncmp(line, "READY ", 6) == 0 ? 0 : -1;
    }
    line[used] = 0;
    return -1;
}

/* Start a server; its first line is in `line`. 0 when it is ready. */
static int start_server(const struct gcsd_settings *s, unsigned port, char *line, size_t cap) {
    char more[160];
    sigset_t ends, old;
    int out[2], r;
    pid_t pid;

    (void)snprintf(more, sizeof more, "keep=0\tadopt_pid=0\tkeeper_pid=%d\tlisten_port=%u\t%s%d",
                   (int)getpid(), port, s->lasting ? "lifeline=none\tlifeline_pid=" :
                   "lifeline_pid=", s->lasting ? 0 : (int)getpid());
    line[0] = 0;
    if (pipe2(out, O_CLOEXEC) < 0) return -1;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ends, &old); /* none is started behind our end */
    pid = start(s, more, out[1]);
    server_pid = pid > 0 ? pid : 0;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    (void)close(out[1]);
    r = pid > 0 ? first_line(out[0], line, cap) : -1;
    (void)close(out[0]);
    if (r < 0 && pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        server_pid = 0;
    }
    return r;
}

/* Until the server has ended; its exit code, or -1 when it was killed or is not our child. */
static int wait_server(const struct gcsd_settings *s) {
    struct pollfd p[] = {{.fd = open_pid((pid_t)server_pid), .events = POLLIN},
                         {.fd = s->lasting ? -1 : STDIN_FILENO, .events = POLLIN},
                         {.fd = s->lifeline_pid ? open_pid((pid_t)s->lifeline_pid) : -1,
                          .events = POLLIN}};
    char rest[256];
    int status;

    while (p[0].fd >= 0) {
        if (poll(p, 3, -1) < 0 && errno != EINTR) break;
        if (p[2].revents) on_signal(0);
        if (p[1].revents && read(STDIN_FILENO, rest, sizeof rest) <= 0) on_signal(0);
        if (p[0].revents) break;
    }
    if (p[0].fd >= 0) (void)close(p[0].fd);
    if (p[2].fd >= 0) (void)close(p[2].fd);
    if (waitpid((pid_t)server_pid, &status, 0) < 0 || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

static void rename_self(char *argv0) {
    static const char name[] = "skate-keeper";
    size_t room = strlen(argv0);

    (void)prctl(PR_SET_NAME, name);
    memset(argv0, 0, room);
    memcpy(argv0, name, room < sizeof name ? room : sizeof name);
}

static void pause_ms(uint32_t ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    (void)nanosleep(&t, NULL); /* between two starts that failed: nothing tells when one will not */
}

/* Start it until it runs. */
static uint32_t start_again(const struct gcsd_settings *s, unsigned port, uint32_t ms) {
    char line[600];

    for (;;) {
        if (ms) pause_ms(ms);
        ms = ms ? ms * 2 : PAUSE_FIRST_MS;
        if (ms > PAUSE_MOST_MS) ms = PAUSE_MOST_MS;
        if (start_server(s, port, line, sizeof line) == 0) return ms;
        (void)fprintf(stderr, "skate-gcs does not start: %s\n", line);
    }
}

void keeper_run(const struct gcsd_settings *s, char *argv0) {
    unsigned port = s->listen_port;
    uint32_t ms = 0;
    char line[600];

    rename_self(argv0);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGINT, on_signal);
    if (s->adopt_pid)
        server_pid = (sig_atomic_t)s->adopt_pid;
    else {
        int r = start_server(s, port, line, sizeof line);

        (void)fputs(line, stdout);
        (void)fflush(stdout);
        if (r < 0) _exit(1);
        (void)sscanf(line, "READY port=%u", &port);
    }
    for (;;) {
        int64_t began = now_ms();
        int code = wait_server(s);

        if (code == 0 || code == EXIT_STALE) _exit(code);
        (void)fprintf(stderr, "skate-gcs has ended code=%d, starting it again\n", code);
        if (now_ms() - began > QUICK_MS) ms = 0;
        ms = start_again(s, port, ms);
    }
}

/* ------------------------------------------------------------------ in the server */

struct watched {
    const struct gcsd_settings *s;
    struct loop *loop;
    struct loop_watch *watch;
    pid_t keeper;
    int fd;
};

static void write_pids(const struct watched *w) {
    char path[300], beside[310];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/gcs.pids", w->s->session_dir);
    (void)snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "we");
    if (!f) return;
    (void)fprintf(f, "%d %d\n", (int)w->keeper, (int)getpid());
    if (fclose(f) == 0) (void)rename(beside, path);
}

static void look_after(struct watched *w);

static void on_keeper_gone(void *arg, unsigned events) {
    struct watched *w = arg;
    char more[96];
    int none = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)events;
    w->watch = loop_unwatch(w->watch);
    (void)close(w->fd);
    while (waitpid(-1, NULL, WNOHANG) > 0) {} /* a keeper that we have started */
    (void)snprintf(more, sizeof more, "keep=1\tadopt_pid=%d\tlisten_port=%u", (int)getpid(),
                   w->s->listen_port);
    w->keeper = start(w->s, more, none);
    (void)close(none);
    if (w->keeper > 0) look_after(w);
}

static void look_after(struct watched *w) {
    w->fd = open_pid(w->keeper);
    if (w->fd < 0 ||
        loop_watch_fd(w->loop, w->fd, LOOP_READ, on_keeper_gone, w, &w->watch) < 0)
        (void)fprintf(stderr, "the keeper is not there: nobody starts this process again\n");
    write_pids(w);
}

static struct watched watched;

void keeper_watch(struct loop *loop, const struct gcsd_settings *s) {
    if (!s->keeper_pid || !s->lasting) return; /* else it is the lifeline */
    watched = (struct watched){.s = s, .loop = loop, .keeper = (pid_t)s->keeper_pid};
    look_after(&watched);
}

void keeper_end(const struct gcsd_settings *s) {
    if (watched.s == s && watched.keeper > 0) (void)kill(watched.keeper, SIGTERM);
}
