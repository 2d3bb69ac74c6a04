/* node_own.c - see node_own.h. The settings and the READY line: docs/design/0001-runtime.md. */
#include "api/node_own.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { KEY_BYTES = 32, SETTINGS_MAX = 8192, STOP_MS = 2000 };

static int64_t now_ns(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- where we are installed ---- */

struct place {
    char bin[PATH_MAX];    /* the daemons */
    char site[PATH_MAX];   /* the folder that holds the package */
    char python[PATH_MAX]; /* an interpreter that finds the package */
};

static bool on_path(const char *name, char out[PATH_MAX]) {
    const char *path = getenv("PATH");
    char copy[8192], *save = NULL;

    (void)snprintf(copy, sizeof copy, "%s", path && *path ? path : "/usr/local/bin:/usr/bin:/bin");
    for (char *p = strtok_r(copy, ":", &save); p; p = strtok_r(NULL, ":", &save))
        if (snprintf(out, PATH_MAX, "%s/%s", p, name) < PATH_MAX && access(out, X_OK) == 0)
            return true;
    return false;
}

/* The parent folder in place. */
static bool up(char *path) {
    char *slash = strrchr(path, '/');

    if (!slash || slash == path) return false;
    *slash = 0;
    return true;
}

static bool find_python(struct place *p) {
    char prefix[PATH_MAX], version[64];
    const char *given = getenv("SKATE_PYTHON"), *slash;

    p->python[0] = 0;
    if (given && *given) return snprintf(p->python, sizeof p->python, "%s", given) < PATH_MAX;
    memcpy(prefix, p->site, sizeof prefix); /* <prefix>/lib/python3.X/site-packages */
    version[0] = 0;
    if (up(prefix) && (slash = strrchr(prefix, '/')) && !strncmp(slash, "/python3", 8)) {
        (void)snprintf(version, sizeof version, "%s", slash + 1);
        if (up(prefix) && up(prefix)) {
            int n = snprintf(p->python, sizeof p->python, "%s/bin/%s", prefix, version);

            if (n < PATH_MAX && access(p->python, X_OK) == 0) return true;
            n = snprintf(p->python, sizeof p->python, "%s/bin/python3", prefix);
            if (n < PATH_MAX && access(p->python, X_OK) == 0) return true;
        }
    }
    if ((version[0] && on_path(version, p->python)) || on_path("python3", p->python)) return true;
    p->python[0] = 0;
    return false;
}

static int find_place(struct place *p, struct skate_error *err) {
    const char *bin = getenv("SKATE_BIN_DIR");
    Dl_info info;

    if (!dladdr((const void *)(uintptr_t)&skate_dtype_size, &info) || !info.dli_fname ||
        !realpath(info.dli_fname, p->site) || !up(p->site) || !up(p->site))
        return err_fail(err, -SKATE_ENOENT, "cannot find the folder of libskate.so");
    if (bin && *bin)
        (void)snprintf(p->bin, sizeof p->bin, "%s", bin);
    else if (snprintf(p->bin, sizeof p->bin, "%s/bin", p->site) >= PATH_MAX)
        return -SKATE_ETOOBIG;
    (void)up(p->site); /* .../skate -> the folder of packages */
    if (!find_python(p) || access(p->python, X_OK) < 0) {
        if (p->python[0])
            return err_fail(err, -SKATE_ENOENT, "%.300s cannot be run: let SKATE_PYTHON name the "
                            "interpreter that has Skate", p->python);
        return err_fail(err, -SKATE_ENOENT, "no python3 was found for the node: set SKATE_PYTHON "
                        "to the interpreter that has Skate");
    }
    return 0;
}

/* ---- one daemon ---- */

struct daemon {
    const char *name;
    int pid, in, out, log;
    char ready[1024]; /* its first line */
};

static void daemon_close(struct daemon *d) {
    if (d->out >= 0) (void)close(d->out);
    if (d->log >= 0) (void)close(d->log);
    d->out = d->log = -1;
}

static int spawn(const char *path, int in, int out, int log, int *ret_pid) {
    char *argv[] = {(char *)(uintptr_t)path, NULL};
    posix_spawn_file_actions_t acts;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    pid_t pid;
    int e;

    (void)posix_spawn_file_actions_init(&acts);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_adddup2(&acts, in, 0);
    (void)posix_spawn_file_actions_adddup2(&acts, out, 1);
    (void)posix_spawn_file_actions_adddup2(&acts, log, 2);
    (void)sigemptyset(&none);
    (void)sigemptyset(&usual);
    (void)sigaddset(&usual, SIGINT);
    (void)sigaddset(&usual, SIGPIPE);
    (void)sigaddset(&usual, SIGTERM);
    (void)sigaddset(&usual, SIGCHLD);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &usual);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETSID);
    e = posix_spawn(&pid, path, &acts, &attr, argv, environ);
    (void)posix_spawn_file_actions_destroy(&acts);
    (void)posix_spawnattr_destroy(&attr);
    *ret_pid = e ? -1 : pid;
    return e;
}

/* A pipe end that is 0 to 2 (the program has closed those) would be overwritten in the child. */
static int high_pipe(int fds[2]) {
    if (pipe2(fds, O_CLOEXEC) < 0) return -1;
    for (int i = 0; i < 2; i++) {
        int fd = fds[i] < 3 ? fcntl(fds[i], F_DUPFD_CLOEXEC, 3) : fds[i];

        if (fd < 0) {
            (void)close(fds[0]);
            (void)close(fds[1]);
            fds[0] = fds[1] = -1; /* the caller closes what it has */
            return -1;
        }
        if (fd != fds[i]) (void)close(fds[i]);
        fds[i] = fd;
    }
    return 0;
}

static int daemon_start(struct daemon *d, const struct place *p, const char *settings,
                        struct skate_error *err) {
    char path[PATH_MAX];
    int in[2] = {-1, -1}, out[2] = {-1, -1}, e;
    size_t len = strlen(settings);

    if (snprintf(path, sizeof path, "%s/%s", p->bin, d->name) >= PATH_MAX) return -SKATE_ETOOBIG;
    if (access(path, X_OK) < 0)
        return err_fail(err, -SKATE_ENOENT, "%s is missing: Skate is not installed completely",
                        path);
    d->log = memfd_create(d->name, MFD_CLOEXEC);
    if (d->log < 0 || high_pipe(in) < 0 || high_pipe(out) < 0) {
        e = errno;
        if (in[0] >= 0) (void)close(in[0]), (void)close(in[1]);
        return err_fail(err, -SKATE_ESYS, "cannot make pipes for %s: %s", d->name, strerror(e));
    }
    /* Before it lives, while we hold the other end: no SIGPIPE, and it fits into a pipe. */
    e = write(in[1], settings, len) == (ssize_t)len ? 0 : EIO;
    if (e == 0) e = spawn(path, in[0], out[1], d->log, &d->pid);
    (void)close(in[0]);
    (void)close(out[1]);
    d->in = in[1];
    d->out = out[0];
    if (e) return err_fail(err, -SKATE_ESYS, "cannot start %s: %s", path, strerror(e));
    return 0;
}

static int last_words(struct daemon *d, const char *what, struct skate_error *err) {
    char text[300];
    off_t size = lseek(d->log, 0, SEEK_END);
    ssize_t n = pread(d->log, text, sizeof text - 1, size > 299 ? size - 299 : 0);

    text[n > 0 ? n : 0] = 0;
    return err_fail(err, -SKATE_EDEAD, "%s %s%s%s", d->name, what, n > 0 ? ": " : "", text);
}

/* Its READY line. */
static int daemon_ready(struct daemon *d, int64_t deadline, struct skate_error *err) {
    size_t have = 0;
    char *end;

    while (!(end = memchr(d->ready, '\n', have))) {
        struct pollfd p = {.fd = d->out, .events = POLLIN};
        int64_t left = deadline - now_ns();
        ssize_t n;

        if (left <= 0)
            return err_fail(err, -SKATE_ETIMEOUT, "%s did not say READY in time", d->name);
        if (poll(&p, 1, (int)(left / 1000000) + 1) <= 0) continue;
        n = read(d->out, d->ready + have, sizeof d->ready - 1 - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return last_words(d, "ended at its start", err);
        have += (size_t)n;
    }
    *end = 0;
    if (strncmp(d->ready, "READY ", 6) != 0)
        return err_fail(err, -SKATE_EDEAD, "%s did not start: %.300s", d->name, d->ready);
    return 0;
}

/* The word behind key= of the READY line. */
static bool ready_word(const struct daemon *d, const char *key, char *out, size_t cap) {
    size_t n = strlen(key);

    for (const char *p = d->ready; (p = strstr(p, key)); p += n) {
        size_t len;

        if (p[-1] != ' ' || p[n] != '=') continue;
        len = strcspn(p + n + 1, " ");
        if (len >= cap) return false;
        memcpy(out, p + n + 1, len);
        out[len] = 0;
        return true;
    }
    return false;
}

/* ---- ends ---- */

static bool wait_pid(int pid, int ms) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t deadline = now_ns() + (int64_t)ms * 1000000;
    bool gone = false;

    while (fd >= 0 && !gone) {
        int64_t left = (deadline - now_ns()) / 1000000;

        gone = poll(&p, 1, left > 0 ? (int)left : 0) > 0;
        if (!gone && left <= 0) break;
    }
    if (fd < 0 || gone)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    if (fd >= 0) (void)close(fd);
    return fd < 0 || gone;
}

static void end_daemon(int pid) {
    if (pid <= 0 || wait_pid(pid, STOP_MS)) return;
    (void)kill(pid, SIGKILL);
    (void)wait_pid(pid, 5000);
}

static void remove_tree(const char *path) {
    DIR *d = opendir(path);

    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        char inner[PATH_MAX];
        struct stat st;

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= PATH_MAX) continue;
        if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(inner);
        else
            (void)unlink(inner);
    }
    if (d) (void)closedir(d);
    (void)rmdir(path);
}

void api_node_stop(struct api_node *n) {
    if (!n) return;
    if (n->gcs_in >= 0) (void)close(n->gcs_in);
    if (n->raylet_in >= 0) (void)close(n->raylet_in);
    end_daemon(n->raylet_pid);
    end_daemon(n->gcs_pid);
    remove_tree(n->dir);
    free(n);
}

void api_node_forked(struct api_node *n) {
    if (n->gcs_in >= 0) (void)close(n->gcs_in);
    if (n->raylet_in >= 0) (void)close(n->raylet_in);
    n->gcs_in = n->raylet_in = -1;
}

/* ---- a session ---- */

static int new_dir(char out[API_PATH], struct skate_error *err) {
    char base[API_PATH], stamp[32];
    struct timespec t;
    struct tm tm;
    int r = machine_base(base, err);

    if (r < 0) return r;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    (void)localtime_r(&t.tv_sec, &tm);
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%d_%H-%M-%S", &tm);
    if (snprintf(out, API_PATH, "%s/session_%s_%06ld_%d", base, stamp, t.tv_nsec / 1000,
                 (int)getpid()) > 107 - (int)sizeof "/raylet.sock")
        return err_fail(err, -SKATE_ETOOBIG, "the folder %s has too long a path for a Unix socket: "
                        "set SKATE_TMPDIR to a shorter one", base);
    return 0; /* the raylet makes it, and removes it however the session ends */
}

static int start_gcs(struct api_node *n, struct daemon *d, const struct place *p, const char *key,
                     struct skate_error *err) {
    char settings[SETTINGS_MAX];

    (void)snprintf(settings, sizeof settings,
                   "cluster_key=%s\tlisten_ip=127.0.0.1\tlisten_port=0\tsession_dir=%s\t"
                   "lifeline_pid=%d\n", key, n->dir, (int)getpid());
    return daemon_start(d, p, settings, err);
}

static int start_raylet(struct api_node *n, struct daemon *d, const struct place *p,
                        const struct skate_options *o, const char *key, const char *gcs_port,
                        struct skate_error *err) {
    uint64_t memory = machine_memory(), store = o->store_bytes ? o->store_bytes : memory / 10 * 3;
    unsigned gpus = machine_gpus();
    const char *names = getenv("CUDA_VISIBLE_DEVICES");
    char settings[SETTINGS_MAX], gpu[64] = "";
    int len;

    store &= ~UINT64_C(4095);
    if (gpus) (void)snprintf(gpu, sizeof gpu, "GPU:%u.0000,", gpus);
    len = snprintf(settings, sizeof settings,
                   "cluster_key=%s\tgcs=127.0.0.1:%s\tnode_ip=127.0.0.1\tlisten_port=0\t"
                   "session_dir=%s\trun_dir=%s\tpython=%s\tpython_path=+%s\t"
                   "resources=CPU:%u.0000,%smemory:%llu.0000,object_store_memory:%llu.0000,"
                   "node:127.0.0.1:1.0000,node:__internal_head__:1.0000\tgpu_names=%s\tlabels=\t"
                   "arena_bytes=%llu\tnode_name=127.0.0.1\tis_head=1\tlocal_session=1\t"
                   "lifeline_pid=%d\n", key, gcs_port, n->dir, n->dir, p->python, p->site,
                   o->num_cpus >= 0 ? (unsigned)o->num_cpus : machine_cpus(), gpu,
                   (unsigned long long)(memory / 10 * 7), (unsigned long long)store,
                   names ? names : "", (unsigned long long)store, (int)getpid());
    if (len >= SETTINGS_MAX)
        return err_fail(err, -SKATE_ETOOBIG, "the paths of Skate are too long");
    return daemon_start(d, p, settings, err);
}

static int start_both(struct api_node *n, const struct skate_options *o, struct daemon d[2],
                      int64_t deadline, struct skate_error *err) {
    struct place *p = malloc(sizeof *p);
    uint8_t random[KEY_BYTES];
    char key[2 * KEY_BYTES + 1], port[16];
    int r = p ? find_place(p, err) : -SKATE_ENOMEM;

    if (r == 0 && getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) r = -SKATE_ESYS;
    for (int i = 0; r == 0 && i < KEY_BYTES; i++) (void)snprintf(key + 2 * i, 3, "%02x", random[i]);
    if (r == 0) r = new_dir(n->dir, err);
    if (r == 0) r = start_gcs(n, &d[0], p, key, err);
    if (r == 0) r = daemon_ready(&d[0], deadline, err);
    if (r == 0 && !ready_word(&d[0], "port", port, sizeof port)) r = -SKATE_EPROTO;
    if (r == 0) r = start_raylet(n, &d[1], p, o, key, port, err);
    if (r == 0) r = daemon_ready(&d[1], deadline, err);
    if (r == 0 && !ready_word(&d[1], "socket", n->socket_path, sizeof n->socket_path))
        r = -SKATE_EPROTO;
    free(p);
    return r;
}

int api_node_start(const struct skate_options *o, int64_t deadline_ns, struct api_node **ret,
                   struct skate_error *err) {
    struct daemon d[2] = {{"skate-gcs", -1, -1, -1, -1, ""}, {"skate-raylet", -1, -1, -1, -1, ""}};
    struct api_node *n = calloc(1, sizeof *n);
    int r = n ? start_both(n, o, d, deadline_ns, err) : -SKATE_ENOMEM;

    for (int i = 0; i < 2; i++) daemon_close(&d[i]);
    if (!n) return r;
    n->gcs_pid = d[0].pid;
    n->raylet_pid = d[1].pid;
    n->gcs_in = d[0].in;
    n->raylet_in = d[1].in;
    if (r < 0) return api_node_stop(n), r;
    *ret = n;
    return 0;
}
