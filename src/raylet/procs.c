/* procs.c - user processes of this node: their sockets, doorbells and ledgers.
 *
 * A driver appears when it connects to the Unix socket and says hello; a worker when a fork is
 * asked (its welcome waits in its socket before it exists). Loop thread only. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "own/ledger.h"
#include "raylet/raylet.h"

enum { GUESTS_MAX = 64, HELLO_BYTES = 4096 };

/* A connection that has not said hello yet. */
struct guest {
    struct raylet *r;
    struct stream *stream;
    uint32_t pid;
};

static int new_memory(const char *name, uint64_t bytes) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    /* we read it, too: who has it must not cut it under our eyes */
    if (fd >= 0 && (ftruncate(fd, (off_t)bytes) < 0 ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void on_cut_off(void *arg) { death_of(arg, -1, -1); }

struct proc *proc_new(struct raylet *r, enum proc_role role, uint32_t job) {
    struct proc *p = calloc(1, sizeof *p);

    if (!p) return NULL;
    *p = (struct proc){.id = proc_make(r->node, r->next_number++), .r = r, .job = job,
                       .role = role, .pidfd = -1, .ledger_fd = -1, .zygote = r->zygote_number};
    p->state = role == PROC_DRIVER ? PROC_LIVE : PROC_STARTING;
    p->bits[0] = 1;
    loop_task_init(&p->cut_off, on_cut_off, p);
    p->bell_fd = new_memory("skate-bell", 4096);
    if (p->bell_fd >= 0) {
        void *bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p->bell_fd, 0);

        p->bell = bell == MAP_FAILED ? NULL : bell;
    }
    if (!p->bell || table_set(&r->procs, proc_number(p->id), p) < 0) {
        proc_free(p);
        return NULL;
    }
    return p;
}

void proc_free(struct proc *p) {
    if (!p) return;
    if (table_get(&p->r->procs, proc_number(p->id)) == p)
        table_take(&p->r->procs, proc_number(p->id));
    loop_unpost(p->r->loop, &p->cut_off);
    stream_close(p->stream);
    loop_unwatch(p->pid_watch);
    if (p->pidfd >= 0) close(p->pidfd);
    if (p->bell) munmap(p->bell, 4096);
    if (p->bell_fd >= 0) close(p->bell_fd);
    if (p->pins) (void)munmap((void *)(uintptr_t)p->pins, pins_bytes(p->r->span));
    if (p->ledger_fd >= 0) close(p->ledger_fd);
    free(p->channels);
    env_unref(p->env);
    death_notes_release(&p->notes);
    free(p);
}

struct proc *proc_find(struct raylet *r, uint64_t id) {
    if (proc_node(id) != r->node || proc_number(id) == 0) return NULL;
    return table_get(&r->procs, proc_number(id));
}

static void on_frame(void *arg, const void *frame, uint32_t len) {
    struct proc *p = arg;

    (void)len;
    if (p->state == PROC_DOOMED && p->role != PROC_WORKER) return;
    inbox_frame(p->r, p->id, frame);
}

/* A hang-up is the end of a user's program (it has closed its runtime). A worker's is a hint: it is
 * ending and its parent says how; if it lives on without its socket it is of no use (proc_beat). */
static void on_close(void *arg, int code) {
    struct proc *p = arg;

    if (p->role != PROC_WORKER)
        death_of(p, -1, -1);
    else if (code == -SKATE_EPROTO)
        proc_doom(p, "it sent a malformed frame to its raylet");
    else {
        p->state = PROC_DOOMED;
        p->hung_up = 1;
    }
}

void proc_beat(struct raylet *r) {
    uint32_t at = 0;
    struct proc *p;

    if (r->socket_watch) loop_watch_set(r->socket_watch, LOOP_READ);
    while ((p = table_next(&r->procs, &at, NULL))) {
        if (!p->hung_up || !p->pid || p->hung_up++ < 2) continue;
        if (!p->reason[0])
            snprintf(p->reason, sizeof p->reason, "it closed its connection to the raylet");
        kill((pid_t)p->pid, SIGKILL);
    }
}

static void on_written(void *arg) { bell_ring(((struct proc *)arg)->bell, 0, BELL_URGENT); }

static const struct stream_events proc_events = {
    .on_frame = on_frame, .on_close = on_close, .on_written = on_written};

int proc_attach(struct proc *p, int fd) {
    SKATE_ASSERT(!p->stream);
    return stream_new(p->r->loop, fd, &proc_events, p, &p->stream);
}

static void sent(struct proc *p, int e, enum bell_class cls) {
    if (e == 0)
        bell_ring(p->bell, 0, cls);
    else if (e != -SKATE_EDEAD)
        proc_doom(p, "it did not read its messages from the raylet");
}

void proc_send(struct proc *p, const void *frame, uint32_t len) {
    proc_send_as(p, frame, len, BELL_URGENT);
}

void proc_send_as(struct proc *p, const void *frame, uint32_t len, enum bell_class cls) {
    if (p->state == PROC_DOOMED || !p->stream) return;
    sent(p, stream_send(p->stream, frame, len, NULL, 0), cls);
}

void proc_send_fds(struct proc *p, void *frame, uint32_t len, const int *fds, uint8_t count) {
    struct wire_head *head = frame;

    if (p->state == PROC_DOOMED || !p->stream) return;
    head->nfds = count;
    sent(p, stream_send(p->stream, frame, len, fds, count), BELL_URGENT);
}

void procs_tell_drivers(struct raylet *r, uint32_t level, const char *text) {
    uint64_t room[200];
    struct wire_notice *m;
    struct wire_buf b;
    struct proc *p;
    uint32_t at = 0;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_NOTICE);
    m->level = level;
    WIRE_PUT(&b, notice, text, text, strlen(text));
    if (wire_end(&b) == 0)
        while ((p = table_next(&r->procs, &at, NULL)))
            if (p->role == PROC_DRIVER) proc_send(p, b.p, b.len);
    wire_release(&b);
}

/* What it reads, as it says: behind its ledger. */
static void map_pins(struct proc *p) {
    void *pins = p->r->residency && p->ledger_fd >= 0
                     ? mmap(NULL, pins_bytes(p->r->span), PROT_READ, MAP_SHARED | MAP_NORESERVE,
                            p->ledger_fd, (off_t)LEDGER_BYTES)
                     : MAP_FAILED;

    if (pins != MAP_FAILED)
        p->pins = pins;
    else if (p->r->residency)
        proc_doom(p, "no memory for what it reads");
}

void proc_welcome(struct proc *p) {
    struct raylet *r = p->r;
    struct job *j = p->job ? table_get(&r->jobs, p->job) : NULL;
    uint64_t bytes = LEDGER_BYTES + pins_bytes(r->span);
    int fds[3] = {r->arena_fd, new_memory("skate-ledger", bytes), p->bell_fd};
    char gcs[40];
    uint64_t room[64];
    struct wire_buf b;
    struct wire_welcome *m;

    snprintf(gcs, sizeof gcs, "%s:%u", r->set.gcs_ip, r->set.gcs_port);
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_WELCOME);
    m->proc = p->id;
    m->arena_bytes = r->span;
    m->store_bytes = r->residency ? r->set.arena_bytes : 0;
    m->version = WIRE_VERSION;
    m->job = p->job;
    m->pid = (uint32_t)getpid();
    m->node = r->node;
    m->node_id = r->node_id;
    m->job_node = r->node_id;
    m->driver = j ? j->driver : p->role == PROC_DRIVER ? p->id : 0;
    WIRE_PUT(&b, welcome, node_ip, r->set.node_ip, strlen(r->set.node_ip));
    WIRE_PUT(&b, welcome, session_dir, r->set.session_dir, strlen(r->set.session_dir));
    WIRE_PUT(&b, welcome, gcs_address, gcs, strlen(gcs));
    if (j) WIRE_PUT(&b, welcome, config, j->config, j->config_len);
    if (p->env) WIRE_PUT(&b, welcome, env, p->env->bytes, p->env->len);
    if (fds[1] < 0 || wire_end(&b) < 0)
        proc_doom(p, "no memory for its ledger");
    else
        proc_send_fds(p, b.p, b.len, fds, 3);
    wire_release(&b);
    p->ledger_fd = fds[1]; /* read after its death */
    map_pins(p);
    heirs_welcome(r, p);
}

void proc_doom(struct proc *p, const char *reason) {
    if (p->state == PROC_DOOMED) return;
    p->state = PROC_DOOMED;
    if (!p->reason[0] || !p->intended)
        snprintf(p->reason, sizeof p->reason, "%s", reason);
    /* A driver is the user's process: it is only cut off, soon (our caller may be using it). */
    if (p->role != PROC_WORKER)
        loop_post(p->r->loop, &p->cut_off);
    else if (p->pid)
        kill((pid_t)p->pid, SIGKILL);
}

static void guest_free(struct guest *g) {
    g->r->guests--;
    stream_close(g->stream);
    free(g);
}

static void on_pidfd(void *arg, unsigned events) {
    (void)events;
    death_of(arg, -1, -1);
}

static void refuse_guest(struct guest *g, int status, const char *reason) {
    uint64_t room[32];
    struct wire_buf b;
    struct wire_status *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_STATUS);
    m->status = status;
    WIRE_PUT(&b, status, reason, reason, strlen(reason));
    if (wire_end(&b) == 0 && stream_send(g->stream, b.p, b.len, NULL, 0) == 0) {}
    wire_release(&b);
    guest_free(g);
}

static void on_hello(void *arg, const void *frame, uint32_t len) {
    struct guest *g = arg;
    struct raylet *r = g->r;
    const struct wire_hello *m = frame;
    struct proc *p;

    (void)len;
    if (m->head.kind != WIRE_HELLO) {
        refuse_guest(g, -SKATE_EPROTO, "the first message must be hello");
        return;
    }
    if (m->version != WIRE_VERSION) {
        refuse_guest(g, -SKATE_EVERSION, "this raylet speaks another protocol version");
        return;
    }
    p = r->procs.count < RAYLET_PROCS_MAX ? proc_new(r, PROC_DRIVER, 0) : NULL;
    if (!p) {
        refuse_guest(g, -SKATE_EFULL, "this node has no room for another process");
        return;
    }
    p->pid = g->pid;
    p->pidfd = (int)syscall(SYS_pidfd_open, g->pid, 0);
    if (p->pidfd >= 0 &&
        loop_watch_fd(r->loop, p->pidfd, LOOP_READ, on_pidfd, p, &p->pid_watch) < 0)
        node_log("cannot watch process %u, ignoring", g->pid);
    p->stream = g->stream;
    stream_set_arg(p->stream, &proc_events, p);
    stream_limit(p->stream, LIMIT_FRAME_BYTES);
    g->stream = NULL;
    guest_free(g);
    r->drivers++;
    proc_welcome(p);
}

static void on_guest_close(void *arg, int code) {
    (void)code;
    guest_free(arg);
}

static const struct stream_events guest_events = {.on_frame = on_hello,
                                                  .on_close = on_guest_close};

static void welcome_guest(struct raylet *r, int fd) {
    struct ucred cred;
    socklen_t len = sizeof cred;
    struct guest *g;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.uid != geteuid() ||
        r->guests >= GUESTS_MAX || !r->node) { /* without a number we can name nobody */
        close(fd);
        return;
    }
    g = calloc(1, sizeof *g);
    if (!g) {
        close(fd);
        return;
    }
    *g = (struct guest){.r = r, .pid = (uint32_t)cred.pid};
    if (stream_new(r->loop, fd, &guest_events, g, &g->stream) < 0) {
        close(fd);
        free(g);
        return;
    }
    stream_limit(g->stream, HELLO_BYTES);
    r->guests++;
}

void proc_accept(void *arg, unsigned events) {
    struct raylet *r = arg;

    (void)events;
    for (;;) {
        int fd = accept4(r->socket_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            welcome_guest(r, fd);
            continue;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) { /* no descriptor left: the backlog would call us again and again */
            node_log("a process cannot be let in: %s", strerror(errno));
            loop_watch_set(r->socket_watch, 0); /* until the next beat */
        }
        return;
    }
}
