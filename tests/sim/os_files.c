/* os_files.c - descriptors: Unix sockets, pipes, memory files, signalfd, eventfd, pidfd.
 *
 * All are virtual, with numbers from FIRST_FD on; those below are the machine's own and go to the
 * kernel. Memory files are pieces of one sparse real one, so that they can be mapped. A file says
 * that it has changed to the loops that watch it and the threads that poll it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sim_os.h"
#include "wire/wire_gen.h"

enum { FIRST_FD = 1 << 20, SOCKET_ROOM = 200 * 1024, SCM_MOST = 8, WORD_PAGES = 4096 };

enum kind {
    K_SOCKET, K_LISTEN, K_PIPE_OUT, K_PIPE_IN, K_MEMORY, K_SIGNALS, K_EVENT, K_PID, K_NULL
};

struct chunk {
    struct chunk *next;
    uint32_t len, pos, count;
    struct sim_file *files[SCM_MOST];
    uint8_t data[];
};
struct watching {
    struct watching *next;
    struct loop_watch *w;
};
struct sim_file {
    enum kind kind;
    uint32_t refs;
    uint32_t pid; /* of who made this end; K_PID: whom it means */
    struct sim_file *peer; /* NULL: closed, or not connected */
    bool connected;
    struct chunk *first, *last; /* to be read here */
    uint64_t bytes, size, base; /* queued; of memory */
    uint64_t number;
    char path[108];
    struct sim_file *backlog[128];
    uint32_t backlogs;
    struct watching *watches;
    struct sim_queue polls;
    struct sim_file *next_listen;
    uint64_t value; /* K_EVENT; K_SIGNALS: SIGCHLD waits */
};
struct entry {
    struct sim_file *file;
    struct sim_proc *owner;
    int next_free;
};

static struct entry *table;
static int count, cap, first_free = -1;
static struct sim_file *listeners;
static uint64_t numbers, pool_used;
static int pool_fd = -1;

int __real_close(int fd);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __real_write(int fd, const void *p, size_t n);
int __real_fcntl64(int fd, int cmd, ...);
int __real_ftruncate64(int fd, off_t n);
int __real_fallocate64(int fd, int mode, off_t at, off_t n);
void *__real_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t at);
int __real_munmap(void *addr, size_t n);
int __real_fstat64(int fd, struct stat *st);
int __real_memfd_create(const char *name, unsigned flags);

/* ---- the table ---- */

static struct sim_file *file_new(enum kind kind) {
    struct sim_file *f = calloc(1, sizeof *f);

    if (!f) abort();
    f->kind = kind;
    f->number = ++numbers;
    f->pid = sim_cur ? sim_cur->pid : 0;
    return f;
}

static int fd_new(struct sim_file *f, struct sim_proc *owner) {
    int i = first_free;

    if (i >= 0)
        first_free = table[i].next_free;
    else {
        if (count == cap) {
            cap = cap ? cap * 2 : 256;
            table = realloc(table, (size_t)cap * sizeof *table);
            if (!table) abort();
        }
        i = count++;
    }
    table[i] = (struct entry){.file = f, .owner = owner};
    f->refs++;
    return FIRST_FD + i;
}

static struct sim_file *file_of(int fd) {
    int i = fd - FIRST_FD;

    return i >= 0 && i < count ? table[i].file : NULL;
}

static void changed(struct sim_file *f) {
    for (struct watching *w = f->watches; w; w = w->next) sim_watch_ready(w->w);
    while (sim_wake(&f->polls)) {}
}

static void file_unref(struct sim_file *f);

static void drop_chunk(struct sim_file *f) {
    struct chunk *c = f->first;

    f->first = c->next;
    if (!f->first) f->last = NULL;
    f->bytes -= c->len - c->pos;
    for (uint32_t i = 0; i < c->count; i++)
        if (c->files[i]) file_unref(c->files[i]);
    free(c);
}

static void file_end(struct sim_file *f) {
    if (f->kind == K_LISTEN) {
        for (struct sim_file **at = &listeners; *at; at = &(*at)->next_listen)
            if (*at == f) {
                *at = f->next_listen;
                break;
            }
        for (uint32_t i = 0; i < f->backlogs; i++) file_unref(f->backlog[i]);
    }
    while (f->first) drop_chunk(f);
    if (f->peer) {
        struct sim_file *peer = f->peer;

        peer->peer = NULL;
        changed(peer);
    }
    if (f->kind == K_MEMORY && f->size)
        (void)__real_fallocate64(pool_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 (off_t)f->base, (off_t)f->size);
    for (struct sim_proc *p = sim_procs; p && f->kind == K_SIGNALS; p = p->next)
        if (p->signals == f) p->signals = NULL;
    free(f);
}

static void file_unref(struct sim_file *f) {
    if (--f->refs == 0) file_end(f);
}

void sim_fd_close(int fd) {
    int i = fd - FIRST_FD;
    struct sim_file *f = file_of(fd);

    if (!f) return;
    table[i] = (struct entry){.next_free = first_free};
    first_free = i;
    file_unref(f);
}

void sim_files_end(struct sim_proc *p) {
    for (int i = 0; i < count; i++)
        if (table[i].file && table[i].owner == p) sim_fd_close(FIRST_FD + i);
}

int sim_fd_give(int fd, struct sim_proc *to) {
    struct sim_file *f = file_of(fd);

    if (!f) return -1;
    f->pid = to->pid;
    return fd_new(f, to);
}

void sim_socketpair(struct sim_proc *a, struct sim_proc *b, int ret[2]) {
    struct sim_file *f = file_new(K_SOCKET), *g = file_new(K_SOCKET);

    f->peer = g;
    g->peer = f;
    f->connected = g->connected = true;
    ret[0] = fd_new(f, a);
    ret[1] = fd_new(g, b);
}

/* ---- readiness ---- */

static unsigned ready(const struct sim_file *f) {
    unsigned e = 0;

    switch (f->kind) {
    case K_SOCKET:
        if (f->first || (f->connected && !f->peer)) e |= LOOP_READ;
        if (!f->peer || f->peer->bytes < SOCKET_ROOM) e |= LOOP_WRITE;
        break;
    case K_PIPE_OUT:
        if (f->first || !f->peer) e |= LOOP_READ;
        break;
    case K_PIPE_IN:
        if (!f->peer || f->peer->bytes < SOCKET_ROOM) e |= LOOP_WRITE;
        break;
    case K_LISTEN: e = f->backlogs ? LOOP_READ : 0; break;
    case K_SIGNALS:
    case K_EVENT: e = (f->value ? LOOP_READ : 0) | LOOP_WRITE; break;
    case K_PID: e = f->value ? LOOP_READ : 0; break;
    case K_MEMORY:
    case K_NULL: e = LOOP_READ | LOOP_WRITE; break;
    }
    return e;
}

unsigned sim_file_ready(int fd) {
    struct sim_file *f = file_of(fd);

    return f ? ready(f) : 0;
}

int sim_file_watch(int fd, struct loop_watch *w) {
    struct sim_file *f = file_of(fd);
    struct watching *at;

    if (!f) return fd >= 0 && fd < 3 ? 0 : -1;
    at = malloc(sizeof *at);
    if (!at) abort();
    *at = (struct watching){f->watches, w};
    f->watches = at;
    return 0;
}

void sim_file_unwatch(int fd, struct loop_watch *w) {
    struct sim_file *f = file_of(fd);

    for (struct watching **at = f ? &f->watches : NULL; at && *at; at = &(*at)->next)
        if ((*at)->w == w) {
            struct watching *gone = *at;

            *at = gone->next;
            free(gone);
            return;
        }
}

void sim_signal_child(struct sim_proc *p) {
    if (!p->signals) return;
    p->signals->value = 1;
    changed(p->signals);
}

void sim_pid_ended(struct sim_proc *p) {
    for (int i = 0; i < count; i++)
        if (table[i].file && table[i].file->kind == K_PID && table[i].file->pid == p->pid) {
            table[i].file->value = 1;
            changed(table[i].file);
        }
}

/* ---- making them ---- */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol) {
    (void)domain, (void)type, (void)protocol;
    return fd_new(file_new(K_SOCKET), sim_cur);
}

int __wrap_socketpair(int domain, int type, int protocol, int pair[2]);
int __wrap_socketpair(int domain, int type, int protocol, int pair[2]) {
    (void)domain, (void)type, (void)protocol;
    sim_socketpair(sim_cur, sim_cur, pair);
    return 0;
}

int __wrap_pipe2(int pair[2], int flags);
int __wrap_pipe2(int pair[2], int flags) {
    struct sim_file *out = file_new(K_PIPE_OUT), *in = file_new(K_PIPE_IN);

    (void)flags;
    out->peer = in;
    in->peer = out;
    pair[0] = fd_new(out, sim_cur);
    pair[1] = fd_new(in, sim_cur);
    return 0;
}

int __wrap_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags) {
    struct sim_file *f = file_new(K_EVENT);

    (void)flags;
    f->value = value;
    return fd_new(f, sim_cur);
}

int __wrap_signalfd(int fd, const void *set, int flags);
int __wrap_signalfd(int fd, const void *set, int flags) {
    struct sim_file *f = file_new(K_SIGNALS);

    (void)fd, (void)set, (void)flags;
    sim_cur->signals = f;
    if (sim_cur->children_ended) f->value = 1;
    return fd_new(f, sim_cur);
}

int sim_pidfd(uint32_t pid) {
    struct sim_proc *p = sim_proc_by_pid(pid);
    struct sim_file *f;

    if (!p) return errno = ESRCH, -1;
    f = file_new(K_PID);
    f->pid = pid;
    f->value = p->dead;
    return fd_new(f, sim_cur);
}

int sim_null_file(void) { return fd_new(file_new(K_NULL), sim_cur); }

int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len) {
    struct sim_file *f = file_of(fd);

    (void)len;
    if (!f) return errno = EBADF, -1;
    snprintf(f->path, sizeof f->path, "%s",
             ((const struct sockaddr_un *)(const void *)addr)->sun_path);
    return 0;
}

int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog) {
    struct sim_file *f = file_of(fd);

    (void)backlog;
    f->kind = K_LISTEN;
    f->next_listen = listeners;
    listeners = f;
    return 0;
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    const char *path = ((const struct sockaddr_un *)(const void *)addr)->sun_path;
    struct sim_file *f = file_of(fd), *l = listeners, *g;

    (void)len;
    if (addr->sa_family == AF_INET) { /* a plain look whether somebody listens: gcsd_probe.c */
        const struct sockaddr_in *at = (const struct sockaddr_in *)(const void *)addr;
        char ip[16];

        inet_ntop(AF_INET, &at->sin_addr, ip, sizeof ip);
        errno = sim_dial(ip, ntohs(at->sin_port));
        return errno ? -1 : 0;
    }
    while (l && strcmp(l->path, path) != 0) l = l->next_listen;
    if (!f || !l || l->backlogs == sizeof l->backlog / sizeof *l->backlog)
        return errno = ECONNREFUSED, -1;
    g = file_new(K_SOCKET);
    g->connected = f->connected = true;
    g->peer = f;
    f->peer = g;
    g->refs++;
    l->backlog[l->backlogs++] = g;
    changed(l);
    return 0;
}

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    struct sim_file *l = file_of(fd), *f;
    int ret;

    (void)addr, (void)len, (void)flags;
    if (!l || !l->backlogs) return errno = EAGAIN, -1;
    f = l->backlog[0];
    memmove(l->backlog, l->backlog + 1, --l->backlogs * sizeof *l->backlog);
    ret = fd_new(f, sim_cur);
    f->refs--;
    return ret;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    struct sim_file *f = file_of(fd);
    struct ucred cred = {.uid = geteuid(), .gid = getegid()};

    (void)level;
    if (!f || name != SO_PEERCRED || *len < sizeof cred) return errno = EINVAL, -1;
    cred.pid = f->peer ? (pid_t)f->peer->pid : 0;
    memcpy(value, &cred, sizeof cred);
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    (void)fd, (void)level, (void)name, (void)value, (void)len;
    return 0;
}

int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how) {
    struct sim_file *f = file_of(fd), *peer = f ? f->peer : NULL;

    (void)how;
    if (!peer) return 0;
    f->peer = peer->peer = NULL;
    changed(peer);
    changed(f);
    return 0;
}

int __wrap_close(int fd);
int __wrap_close(int fd) {
    if (fd < FIRST_FD) return fd < 3 && sim_cur ? 0 : __real_close(fd);
    sim_fd_close(fd);
    return 0;
}

int __wrap_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...) {
    struct sim_file *f = file_of(fd);
    va_list args;
    long arg;

    va_start(args, cmd);
    arg = va_arg(args, long);
    va_end(args);
    if (fd < FIRST_FD) return __real_fcntl64(fd, cmd, arg);
    if (!f) return errno = EBADF, -1;
    return cmd == F_DUPFD_CLOEXEC || cmd == F_DUPFD ? fd_new(f, sim_cur) : 0;
}

/* ---- bytes ---- */

/* For people; what lies in a route is told, too. */
static void tell_frame(const struct sim_file *to, const void *p) {
    struct wire_head head;
    struct wire_route m;
    struct wire_head inner = {0};

    memcpy(&head, p, sizeof head);
    if (head.kind == WIRE_ROUTE) {
        memcpy(&m, p, sizeof m);
        memcpy(&inner, (const uint8_t *)p + sizeof m, sizeof inner);
    }
    printf("%12.6f %-14s -> process %u: %s%s%s", (double)sim_now / 1e9,
           sim_cur ? sim_cur->name : "-", to->pid, wire_name(head.kind), inner.kind ? " of " : "",
           inner.kind ? wire_name(inner.kind) : "");
    if (inner.kind) {
        printf(" for %llx from %llx", (unsigned long long)m.dst, (unsigned long long)m.src);
    } else {
        uint64_t copy[32] = {0}; /* what is told lies in the fixed part */

        memcpy(copy, p, head.fixed < sizeof copy ? head.fixed : sizeof copy);
        sim_tell_inner(copy);
    }
    printf("\n");
}

static ssize_t give(struct sim_file *f, const uint8_t *p, size_t n, const int *fds,
                    uint32_t fd_count) {
    struct sim_file *to = f->peer;
    struct chunk *c;
    size_t room;

    sim_write_happens();
    if (!to) return errno = EPIPE, -1;
    room = to->bytes < SOCKET_ROOM ? SOCKET_ROOM - to->bytes : 0;
    if (room == 0) return errno = EAGAIN, -1;
    if (n > room) n = room;
    if (sim_tracing && f->kind == K_SOCKET && n >= sizeof(struct wire_head))
        tell_frame(to, p);
    c = malloc(sizeof *c + n);
    if (!c || fd_count > SCM_MOST) abort();
    *c = (struct chunk){.len = (uint32_t)n, .count = fd_count};
    memcpy(c->data, p, n);
    for (uint32_t i = 0; i < fd_count; i++) {
        c->files[i] = file_of(fds[i]);
        if (!c->files[i]) abort();
        c->files[i]->refs++;
    }
    if (to->last)
        to->last->next = c;
    else
        to->first = c;
    to->last = c;
    to->bytes += n;
    changed(to);
    return (ssize_t)n;
}

/* ret_fds: where descriptors go; NULL: they are dropped. */
static ssize_t take(struct sim_file *f, uint8_t *p, size_t n, int *ret_fds, uint32_t *ret_count) {
    size_t got = 0;

    if (!f->first) {
        if (!f->peer) return f->connected || f->kind == K_PIPE_OUT ? 0 : (errno = ENOTCONN, -1);
        return errno = EAGAIN, -1;
    }
    while (f->first && got < n) {
        struct chunk *c = f->first;
        size_t part = c->len - c->pos < n - got ? c->len - c->pos : n - got;
        bool with = c->count > 0;

        if (with && got) break;
        memcpy(p + got, c->data + c->pos, part);
        got += part;
        c->pos += (uint32_t)part;
        f->bytes -= part;
        for (uint32_t i = 0; i < c->count && ret_fds; i++) {
            ret_fds[(*ret_count)++] = fd_new(c->files[i], sim_cur);
            file_unref(c->files[i]);
        }
        if (ret_fds) c->count = 0;
        if (c->pos == c->len) drop_chunk(f);
        if (with) break;
    }
    if (f->peer) changed(f->peer);
    return (ssize_t)got;
}

ssize_t __wrap_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags) {
    struct sim_file *f = file_of(fd);

    (void)flags;
    return f ? give(f, p, n, NULL, 0) : (errno = EBADF, -1);
}

ssize_t __wrap_recv(int fd, void *p, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t n, int flags) {
    struct sim_file *f = file_of(fd);

    (void)flags;
    return f ? take(f, p, n, NULL, NULL) : (errno = EBADF, -1);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags) {
    struct cmsghdr *h = m->msg_controllen ? CMSG_FIRSTHDR(m) : NULL;
    struct sim_file *f = file_of(fd);
    uint32_t n = 0;
    int fds[SCM_MOST];

    (void)flags;
    if (!f || m->msg_iovlen != 1) return errno = EBADF, -1;
    if (h && h->cmsg_type == SCM_RIGHTS) {
        n = (uint32_t)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (n > SCM_MOST) abort();
        memcpy(fds, CMSG_DATA(h), n * sizeof(int));
    }
    return give(f, m->msg_iov->iov_base, m->msg_iov->iov_len, fds, n);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags) {
    struct sim_file *f = file_of(fd);
    uint32_t n = 0;
    int fds[SCM_MOST];
    ssize_t got;

    (void)flags;
    if (!f || m->msg_iovlen != 1) return errno = EBADF, -1;
    got = take(f, m->msg_iov->iov_base, m->msg_iov->iov_len, m->msg_control ? fds : NULL, &n);
    if (n) {
        struct cmsghdr *h = CMSG_FIRSTHDR(m);

        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(h), fds, n * sizeof(int));
        m->msg_controllen = CMSG_SPACE(n * sizeof(int));
    } else
        m->msg_controllen = 0;
    return got;
}

ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n) {
    struct sim_file *f = file_of(fd);

    if (fd == 0 && sim_cur) return errno = EAGAIN, -1;
    if (fd < FIRST_FD) return __real_read(fd, p, n);
    if (!f) return errno = EBADF, -1;
    if (f->kind == K_SIGNALS) {
        struct signalfd_siginfo info = {.ssi_signo = SIGCHLD};

        if (!f->value || n < sizeof info) return errno = EAGAIN, -1;
        f->value = 0;
        memcpy(p, &info, sizeof info);
        return sizeof info;
    }
    if (f->kind == K_EVENT) {
        if (!f->value) return errno = EAGAIN, -1;
        memcpy(p, &f->value, sizeof f->value);
        f->value = 0;
        return sizeof f->value;
    }
    return f->kind == K_NULL ? 0 : take(f, p, n, NULL, NULL);
}

ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n) {
    struct sim_file *f = file_of(fd);

    if (fd == 1 && sim_cur) {
        if (sim_cur->on_out) sim_cur->on_out(sim_cur, p, n);
        return (ssize_t)n;
    }
    if (fd == 2 && sim_cur) {
        sim_note("says: %.*s", (int)n, (const char *)p);
        if (memmem(p, n, "joined anew: READY", 18) && sim_cur->on_out)
            sim_cur->on_out(sim_cur, "READY", 6);
        if (memmem(p, n, "invariant", 9))
            printf("%s: %.*s", sim_cur->name, (int)n, (const char *)p);
        return (ssize_t)n;
    }
    if (fd < FIRST_FD) return __real_write(fd, p, n);
    if (!f) return errno = EBADF, -1;
    if (f->kind == K_EVENT) {
        uint64_t more;

        memcpy(&more, p, sizeof more);
        f->value += more;
        changed(f);
        return sizeof more;
    }
    return f->kind == K_NULL ? (ssize_t)n : give(f, p, n, NULL, 0);
}

int __wrap_poll(struct pollfd *v, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *v, nfds_t n, int timeout_ms) {
    int64_t until = timeout_ms < 0 ? -1 : sim_now + timeout_ms * SIM_MS;
    struct sim_file *f = n == 1 ? file_of(v->fd) : NULL;

    if (n == 0) return sim_sleep(timeout_ms * SIM_MS), 0;
    if (!f) return errno = EBADF, -1;
    for (;;) {
        unsigned e = ready(f);

        v->revents = 0;
        if (e & LOOP_READ) v->revents |= v->events & POLLIN;
        if (e & LOOP_WRITE) v->revents |= v->events & POLLOUT;
        if (v->revents) return 1;
        if (timeout_ms == 0 || sim_wait(&f->polls, until) < 0) return 0;
    }
}

int sim_fd_wait(int fd) {
    struct sim_file *f = file_of(fd);

    if (ready(f) & LOOP_READ) return 0;
    return sim_wait(&f->polls, -1);
}

/* ---- memory files ---- */

struct mapping {
    struct mapping *next, *next_page;
    struct sim_proc *proc;
    uint8_t *at;
    size_t len;
    struct sim_file *file; /* NULL: nobody else's */
    uint64_t offset;
};
static struct mapping *mappings, *pages[WORD_PAGES];

static uint32_t page_of(const void *p) { return (uint32_t)((uintptr_t)p >> 12) % WORD_PAGES; }

int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags) {
    (void)name, (void)flags;
    if (pool_fd < 0) {
        pool_fd = __real_memfd_create("sim", MFD_CLOEXEC);
        if (pool_fd < 0 || __real_ftruncate64(pool_fd, INT64_C(1) << 60) < 0) abort();
    }
    return fd_new(file_new(K_MEMORY), sim_cur);
}

int __wrap_ftruncate64(int fd, off_t n);
int __wrap_ftruncate64(int fd, off_t n) {
    struct sim_file *f = file_of(fd);

    if (fd < FIRST_FD) return __real_ftruncate64(fd, n);
    if (f && f->kind == K_NULL) return 0;
    if (!f || f->kind != K_MEMORY || f->size) return errno = EINVAL, -1;
    f->size = ((uint64_t)n + 4095) & ~UINT64_C(4095);
    f->base = pool_used;
    pool_used += f->size;
    return 0;
}

int __wrap_fallocate64(int fd, int mode, off_t at, off_t n);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t n) {
    struct sim_file *f = file_of(fd);

    if (fd < FIRST_FD) return __real_fallocate64(fd, mode, at, n);
    if (!f || (uint64_t)at + (uint64_t)n > f->size) return errno = EINVAL, -1;
    return __real_fallocate64(pool_fd, mode, (off_t)f->base + at, n);
}

int __wrap_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st) {
    struct sim_file *f = file_of(fd);

    if (fd < FIRST_FD) return __real_fstat64(fd, st);
    memset(st, 0, sizeof *st);
    st->st_size = f ? (off_t)f->size : 0;
    return f ? 0 : (errno = EBADF, -1);
}

void *__wrap_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t at);
void *__wrap_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t at) {
    struct sim_file *f = file_of(fd);
    struct mapping *m;
    void *p;

    if (!sim_cur) return __real_mmap64(addr, n, prot, flags, fd, at);
    if (fd >= FIRST_FD && (!f || f->kind != K_MEMORY || (uint64_t)at + n > f->size))
        return errno = EINVAL, MAP_FAILED;
    p = __real_mmap64(addr, n, prot, flags, f ? pool_fd : fd, f ? (off_t)f->base + at : at);
    if (p == MAP_FAILED) {
        printf("mmap of %zu bytes: %s\n", n, strerror(errno));
        return p;
    }
    m = calloc(1, sizeof *m);
    if (!m) abort();
    *m = (struct mapping){.next = mappings, .proc = sim_cur, .at = p, .len = n, .file = f,
                          .offset = (uint64_t)at};
    mappings = m;
    if (!f) return p;
    f->refs++;
    if (n <= 4096) {
        m->next_page = pages[page_of(p)];
        pages[page_of(p)] = m;
    }
    return p;
}

static void unmap(struct mapping **at) {
    struct mapping *m = *at;

    *at = m->next;
    for (struct mapping **page = &pages[page_of(m->at)]; *page; page = &(*page)->next_page)
        if (*page == m) {
            *page = m->next_page;
            break;
        }
    (void)__real_munmap(m->at, m->len);
    if (m->file) file_unref(m->file);
    free(m);
}

int __wrap_munmap(void *addr, size_t n);
int __wrap_munmap(void *addr, size_t n) {
    for (struct mapping **at = &mappings; *at && sim_cur; at = &(*at)->next)
        if ((*at)->at == addr && (*at)->len == n) return unmap(at), 0;
    return __real_munmap(addr, n);
}

void sim_maps_end(struct sim_proc *p) {
    for (struct mapping **at = &mappings; *at;) {
        if ((*at)->proc == p)
            unmap(at);
        else
            at = &(*at)->next;
    }
}

void sim_word_key(const void *word, uint64_t *ret_file, uint64_t *ret_offset) {
    const uint8_t *p = word;

    for (struct mapping *m = pages[page_of(word)]; m; m = m->next_page)
        if (p >= m->at && p < m->at + m->len) {
            *ret_file = m->file->number;
            *ret_offset = m->offset + (uint64_t)(p - m->at);
            return;
        }
    *ret_file = 0;
    *ret_offset = (uintptr_t)word;
}
