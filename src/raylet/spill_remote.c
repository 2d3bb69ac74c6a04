/* spill_remote.c - see spill_remote.h. Any I/O thread; blocks, without the lock.
 *
 * Two slots, each a socket and a piece of the staging memory: a call takes one, and has at most one
 * request under way in it. Layouts and operations are those of python/skate/_spill_remote.py.
 * A helper that does not answer, or answers what it should not, is killed; the next request starts
 * another one, when nobody uses the sockets of the old one any more. Children are reaped by the
 * raylet's loop, so a helper is named by its pidfd, never by its number. */
#include "raylet/spill_remote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"
#include "net/conn.h"
#include "raylet/spawn.h"

enum { MAGIC = 0x31504B53, START = 1, WRITE = 2, READ = 3, REMOVE = 4, FIRST = 1, LAST = 2 };
enum { OK = 0, TRANSIENT = 1, GONE = 2, FULL = 3, REFUSED = 4 };
enum { SLOTS = 2, SLOT_BYTES = 8 << 20, TEXT_MAX = 2000 };
enum { START_MS = 60000, ANSWER_MS = 120000, END_MS = 1500 };
enum { TRIES = 5, PAUSE_MS = 100, REST_MS = 1000 };

struct request {
    uint32_t magic, op;
    uint64_t file, at, bytes;
    uint32_t flags, text;
};
struct reply {
    uint32_t magic, op, status, text;
    uint64_t file, bytes;
};
_Static_assert(sizeof(struct request) == 40 && sizeof(struct reply) == 32, "as the helper has it");

enum state { DOWN, STARTED, AWAITED, UP }; /* STARTED: START is not answered, nobody waits for it */

struct slot {
    int fd;
    bool busy;
    uint8_t *memory;
};
struct spill_remote {
    struct spill_target target; /* first */
    char *python, *python_path, *log_path, *uris, *options;
    uint64_t nonce;
    int pause_ms;
    int memory_fd;
    uint8_t *memory;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    enum state state;
    uint32_t number; /* of the helper: counts them */
    uint32_t using;  /* calls that wait on one of its sockets */
    bool stopping;
    int control, pidfd;
    struct slot slots[SLOTS];
    int rest_code; /* why no helper could start, and until when none is tried */
    int64_t rest_until;
    struct skate_error rest;
};

static const char boot[] =
    "import sys\n"
    "path, own = sys.argv[1], []\n"
    "if path[:1] == '+': path, own = path[1:], sys.path[:]\n" /* before the interpreter's own */
    "if path: sys.path[:] = [p for p in path.split(':') + own if p]\n"
    "from skate._spill_remote import main\n"
    "main()\n";

/* ---- the helper process ---- */

static int spawn(struct spill_remote *t, const int fds[1 + SLOTS]) {
    char *argv[] = {t->python, "-E", "-s", "-X", "frozen_modules=on", "-c", (char *)boot,
                    t->python_path, NULL};
    struct spawning s;
    pid_t pid;
    int e;

    spawn_init(&s, 0);
    spawn_log(&s, t->log_path);
    for (int i = 0; i <= SLOTS; i++) posix_spawn_file_actions_adddup2(&s.acts, fds[i], 3 + i);
    e = spawn_run(&s, &pid, t->python, argv);
    if (e) return -e;
    t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* -1: dead already, the sockets tell it */
    return 0;
}

/* Its sockets end for both sides; who waits on one of them sees it. They are closed when nobody
 * does: in launch(). */
static void helper_kill(struct spill_remote *t) {
    if (t->pidfd >= 0) (void)syscall(SYS_pidfd_send_signal, t->pidfd, SIGKILL, NULL, 0);
    if (t->control >= 0) (void)shutdown(t->control, SHUT_RDWR);
    for (int i = 0; i < SLOTS; i++)
        if (t->slots[i].fd >= 0) (void)shutdown(t->slots[i].fd, SHUT_RDWR);
    t->state = DOWN;
    pthread_cond_broadcast(&t->changed);
}

static void close_all(struct spill_remote *t) {
    int *const fds[] = {&t->control, &t->pidfd, &t->slots[0].fd, &t->slots[1].fd};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0) close(*fds[i]);
        *fds[i] = -1;
    }
}

static bool send_all(int fd, const void *data, size_t len) {
    const char *p = data;

    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* The staging memory, what to write to, and for whom. */
static bool send_start(struct spill_remote *t) {
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    char nonce[32];
    struct request head = {.magic = MAGIC, .op = START, .at = (uint64_t)getpid(),
                           .bytes = SLOT_BYTES};
    struct iovec iov = {&head, sizeof head};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                         .msg_controllen = sizeof control.room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &t->memory_fd, sizeof(int));
    snprintf(nonce, sizeof nonce, "\n%016llx\n", (unsigned long long)t->nonce);
    head.text = (uint32_t)(strlen(t->uris) + strlen(nonce) + strlen(t->options));
    return sendmsg(t->control, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof head &&
           send_all(t->control, t->uris, strlen(t->uris)) &&
           send_all(t->control, nonce, strlen(nonce)) &&
           send_all(t->control, t->options, strlen(t->options));
}

/* Start a helper. With the lock; nobody uses the sockets of the last one. 0 or -errno. */
static int launch(struct spill_remote *t) {
    int theirs[1 + SLOTS], e = 0, made = 0;

    close_all(t);
    for (; made <= SLOTS; made++) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) break;
        *(made ? &t->slots[made - 1].fd : &t->control) = pair[0];
        theirs[made] = fcntl(pair[1], F_DUPFD_CLOEXEC, 3 + 1 + SLOTS); /* dup2 must not hit them */
        close(pair[1]);
        if (theirs[made] < 0) break;
    }
    e = made <= SLOTS ? -errno : spawn(t, theirs);
    for (int i = 0; i < made; i++) close(theirs[i]);
    if (e < 0) {
        close_all(t);
        return e;
    }
    t->number++;
    t->state = STARTED;
    if (!send_start(t)) helper_kill(t);
    return 0;
}

/* ---- one request ---- */

static bool receive(int fd, void *to, size_t len, int64_t until) {
    char *p = to;

    while (len > 0) {
        int64_t left = (until - time_now_ns()) / 1000000;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int e = left > 0 ? poll(&wait, 1, (int)left) : 0;
        ssize_t n;

        if (e < 0 && errno == EINTR) continue;
        if (e <= 0) return false;
        n = recv(fd, p, len, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static int code_of(uint32_t status) {
    return status == OK          ? 0
           : status == TRANSIENT ? -SKATE_EAGAIN
           : status == GONE      ? -SKATE_ENOENT
           : status == FULL      ? -SKATE_EFULL
                                 : -SKATE_EIO;
}

/* What came back; -SKATE_EDEAD: nothing that makes sense. */
static int answer(int fd, const struct request *q, int ms, struct skate_error *err) {
    int64_t until = time_now_ns() + ms * INT64_C(1000000);
    char text[TEXT_MAX + 1];
    struct reply r;

    if (!receive(fd, &r, sizeof r, until) || r.magic != MAGIC || r.op != q->op ||
        r.file != q->file || r.text > TEXT_MAX || !receive(fd, text, r.text, until))
        return err_fail(err, -SKATE_EDEAD,
                        "the process that spills to a URI has ended, or did not answer");
    text[r.text] = 0;
    return r.status == OK ? 0 : err_fail(err, code_of(r.status), "%s", text);
}

/* The first answer of a new helper. With the lock, which is given up meanwhile. */
static int await_start(struct spill_remote *t, struct skate_error *err) {
    const struct request q = {.op = START};
    uint32_t number = t->number;
    int fd = t->control, e;

    t->state = AWAITED;
    t->using++;
    pthread_mutex_unlock(&t->lock);
    e = answer(fd, &q, START_MS, err);
    pthread_mutex_lock(&t->lock);
    t->using--;
    pthread_cond_broadcast(&t->changed);
    if (t->number != number || t->state != AWAITED) return -SKATE_EDEAD; /* killed meanwhile */
    if (e == 0) {
        t->state = UP;
        return 0;
    }
    if (!t->stopping) helper_kill(t); /* at the end it has to clean up */
    return e;
}

/* A helper that serves; *number is which (0: any, else that one). With the lock. */
static int ensure(struct spill_remote *t, uint32_t *number, struct skate_error *err) {
    int e = 0;

    while (!t->stopping && t->state != UP) {
        if (t->state == AWAITED || (t->state == DOWN && t->using > 0)) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        if (t->state == DOWN && time_now_ns() < t->rest_until)
            return err_fail(err, t->rest_code, "%s", t->rest.text);
        if (t->state == DOWN) {
            e = launch(t);
            if (e < 0)
                e = err_fail(err, -SKATE_EAGAIN, "cannot start %s to spill to a URI: %s",
                             t->python, strerror(-e));
        }
        if (e == 0 && t->state == STARTED) e = await_start(t, err);
        if (e == 0) continue;
        t->rest_code = e == -SKATE_EDEAD ? -SKATE_EAGAIN : e;
        t->rest_until = time_now_ns() + (e == -SKATE_EIO ? REST_MS * INT64_C(1000000) : 0);
        t->rest = *err;
        return t->rest_code;
    }
    if (t->stopping)
        return err_fail(err, -SKATE_ESHUTDOWN, "the node ends");
    if (*number && *number != t->number)
        return err_fail(err, -SKATE_EAGAIN, "the process that spills to a URI was started again");
    *number = t->number;
    return 0;
}

/* -SKATE_EAGAIN: may go better the next time. */
static int exchange(struct spill_remote *t, struct slot *s, const struct request *q,
                    uint32_t *number, struct skate_error *err) {
    int e, fd;

    pthread_mutex_lock(&t->lock);
    e = ensure(t, number, err);
    if (e < 0) {
        pthread_mutex_unlock(&t->lock);
        return e;
    }
    fd = s->fd;
    t->using++;
    pthread_mutex_unlock(&t->lock);
    e = send_all(fd, q, sizeof *q) ? answer(fd, q, ANSWER_MS, err) : -SKATE_EDEAD;
    pthread_mutex_lock(&t->lock);
    t->using--;
    pthread_cond_broadcast(&t->changed);
    if (e == -SKATE_EDEAD) {
        if (t->number == *number && t->state != DOWN && !t->stopping) helper_kill(t);
        e = t->stopping ? err_fail(err, -SKATE_ESHUTDOWN, "the node ends") : -SKATE_EAGAIN;
    }
    pthread_mutex_unlock(&t->lock);
    return e;
}

/* ---- calls ---- */

static struct slot *take_slot(struct spill_remote *t) {
    struct slot *s = NULL;

    pthread_mutex_lock(&t->lock);
    while (!s) {
        for (int i = 0; i < SLOTS && !s; i++)
            if (!t->slots[i].busy) s = &t->slots[i];
        if (!s) pthread_cond_wait(&t->changed, &t->lock);
    }
    s->busy = true;
    pthread_mutex_unlock(&t->lock);
    return s;
}

static void give_slot(struct spill_remote *t, struct slot *s) {
    pthread_mutex_lock(&t->lock);
    s->busy = false;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* Before the next try; false: there is none. Ends early when everything does. */
static bool pause_before(struct spill_remote *t, int tries, int code) {
    struct timespec until;
    int64_t ms = t->pause_ms;
    bool go;

    if (code != -SKATE_EAGAIN || tries >= TRIES) return false;
    for (int i = 1; i < tries; i++) ms *= 3; /* 0.1, 0.3, 0.9, 2.7 s, unless told */
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (until.tv_nsec / 1000000 + ms) / 1000;
    until.tv_nsec = (until.tv_nsec / 1000000 + ms) % 1000 * 1000000;
    pthread_mutex_lock(&t->lock);
    while (!t->stopping && pthread_cond_timedwait(&t->changed, &t->lock, &until) != ETIMEDOUT) {}
    go = !t->stopping;
    pthread_mutex_unlock(&t->lock);
    return go;
}

/* What the caller is told in the end: "try again" was our affair. */
static int told(int e) { return e == -SKATE_EAGAIN ? -SKATE_EIO : e; }

struct cursor {
    const struct iovec *pieces;
    int n, i;
    size_t at; /* in pieces[i] */
};

static size_t gather(struct cursor *c, uint8_t *to, size_t room) {
    size_t used = 0;

    while (c->i < c->n && used < room) {
        const struct iovec *p = &c->pieces[c->i];
        size_t n = p->iov_len - c->at < room - used ? p->iov_len - c->at : room - used;

        memcpy(to + used, (const uint8_t *)p->iov_base + c->at, n);
        used += n;
        c->at += n;
        if (c->at < p->iov_len) break;
        c->at = 0;
        c->i++;
    }
    return used;
}

static int write_once(struct spill_remote *t, struct slot *s, uint64_t file, struct cursor c,
                      struct skate_error *err) {
    uint64_t total = 0;
    struct request q = {.magic = MAGIC, .op = WRITE, .file = file};
    uint32_t number = 0;
    int e;

    for (int i = 0; i < c.n; i++) total += c.pieces[i].iov_len;
    do {
        q.bytes = gather(&c, s->memory, SLOT_BYTES);
        q.flags = (q.at == 0 ? FIRST : 0) | (q.at + q.bytes == total ? LAST : 0);
        e = exchange(t, s, &q, &number, err);
        q.at += q.bytes;
    } while (e == 0 && q.at < total);
    return e;
}

static int remote_write(struct spill_target *target, uint64_t file, const struct iovec *pieces,
                        int n, struct skate_error *err) {
    struct spill_remote *t = (struct spill_remote *)target;
    struct skate_error own;
    struct slot *s = take_slot(t);
    int e, tries = 0;

    do
        e = write_once(t, s, file, (struct cursor){.pieces = pieces, .n = n}, err ? err : &own);
    while (pause_before(t, ++tries, e));
    give_slot(t, s);
    return told(e);
}

static int remote_read(struct spill_target *target, uint64_t file, uint64_t at, void *to,
                       uint64_t bytes, struct skate_error *err) {
    struct spill_remote *t = (struct spill_remote *)target;
    struct skate_error own;
    struct slot *s = take_slot(t);
    uint64_t got = 0;
    int e = 0;

    while (e == 0 && got < bytes) {
        struct request q = {.magic = MAGIC, .op = READ, .file = file, .at = at + got,
                            .bytes = bytes - got < SLOT_BYTES ? bytes - got : SLOT_BYTES};
        int tries = 0;

        do {
            uint32_t number = 0;

            e = exchange(t, s, &q, &number, err ? err : &own);
        } while (pause_before(t, ++tries, e));
        if (e == 0) memcpy((uint8_t *)to + got, s->memory, q.bytes);
        got += q.bytes;
    }
    give_slot(t, s);
    return told(e);
}

static int remote_remove(struct spill_target *target, uint64_t file) {
    struct spill_remote *t = (struct spill_remote *)target;
    const struct request q = {.magic = MAGIC, .op = REMOVE, .file = file};
    struct slot *s = take_slot(t);
    int e, tries = 0;

    do {
        struct skate_error err;
        uint32_t number = 0;

        e = exchange(t, s, &q, &number, &err);
    } while (pause_before(t, ++tries, e));
    give_slot(t, s);
    return told(e);
}

/* ---- begin and end ---- */

void spill_remote_stop(struct spill_target *target) {
    struct spill_remote *t = (struct spill_remote *)target;

    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    for (int i = 0; i < SLOTS; i++)
        if (t->slots[i].fd >= 0) (void)shutdown(t->slots[i].fd, SHUT_RDWR);
    /* Who waits for START is woken; the helper does not see it, for that end is its own. */
    if (t->control >= 0) (void)shutdown(t->control, SHUT_RD);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void release(struct spill_remote *t) {
    char **const texts[] = {&t->python, &t->python_path, &t->log_path, &t->uris, &t->options};

    close_all(t);
    if (t->memory) munmap(t->memory, (size_t)SLOTS * SLOT_BYTES);
    if (t->memory_fd >= 0) close(t->memory_fd);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->changed);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (*texts[i]) net_wipe(*texts[i], strlen(*texts[i]));
        free(*texts[i]);
    }
    free(t);
}

static bool helper_ends(const struct spill_remote *t, int ms) {
    struct pollfd wait = {.fd = t->pidfd, .events = POLLIN};

    return t->pidfd < 0 || poll(&wait, 1, ms) > 0;
}

static void remote_free(struct spill_target *target) {
    struct spill_remote *t = (struct spill_remote *)target;

    spill_remote_stop(target);
    if (t->state == DOWN || helper_ends(t, 0)) (void)launch(t); /* who else removes the files? */
    if (t->control >= 0) (void)shutdown(t->control, SHUT_RDWR); /* it cleans up and ends */
    if (!helper_ends(t, END_MS))
        (void)syscall(SYS_pidfd_send_signal, t->pidfd, SIGKILL, NULL, 0);
    release(t);
}

/* Nothing is freed at the far end before a file goes. */
static void remote_punch(struct spill_target *target, uint64_t file, uint64_t at, uint64_t bytes) {
    (void)target;
    (void)file;
    (void)at;
    (void)bytes;
}

static int make_memory(struct spill_remote *t) {
    const size_t bytes = (size_t)SLOTS * SLOT_BYTES;
    void *p;

    t->memory_fd = memfd_create("skate-spill", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (t->memory_fd < 0 || ftruncate(t->memory_fd, (off_t)bytes) < 0 ||
        fcntl(t->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -SKATE_ESYS;
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t->memory_fd, 0);
    if (p == MAP_FAILED) return -SKATE_ESYS;
    t->memory = p;
    for (int i = 0; i < SLOTS; i++) t->slots[i].memory = t->memory + (size_t)i * SLOT_BYTES;
    return 0;
}

int spill_remote_new(const struct spill_remote_start *s, struct spill_target **ret,
                     struct skate_error *err) {
    struct spill_remote *t;
    pthread_condattr_t attr;
    int e;

    if (!s->python || !s->log_path || !s->uris || !*s->uris || strchr(s->uris, '\n'))
        return err_fail(err, -SKATE_EINVAL, "a URI to spill to is missing");
    t = calloc(1, sizeof *t);
    if (!t) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    t->target = (struct spill_target){.write = remote_write, .read = remote_read,
                                      .remove = remote_remove, .punch = remote_punch,
                                      .stop = spill_remote_stop, .free = remote_free};
    t->nonce = s->nonce;
    t->pause_ms = s->pause_ms ? s->pause_ms : PAUSE_MS;
    t->memory_fd = t->control = t->pidfd = -1;
    for (int i = 0; i < SLOTS; i++) t->slots[i].fd = -1;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    t->python = strdup(s->python);
    t->python_path = strdup(s->python_path ? s->python_path : "");
    t->log_path = strdup(s->log_path);
    t->uris = strdup(s->uris);
    t->options = strdup(s->options ? s->options : "");
    e = t->python && t->python_path && t->log_path && t->uris && t->options ? make_memory(t)
                                                                            : -SKATE_ENOMEM;
    if (e == 0 && launch(t) < 0) e = -SKATE_ESYS;
    if (e < 0) {
        release(t);
        return err_fail(err, e, "cannot start %s to spill to a URI: %s", s->python,
                        e == -SKATE_ENOMEM ? "out of memory" : strerror(errno));
    }
    *ret = &t->target;
    return 0;
}
