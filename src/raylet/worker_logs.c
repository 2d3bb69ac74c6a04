/* worker_logs.c - what workers print: pipes read, lines sent to the driver, and kept in files.
 *
 * A line that begins with \x01NAME\x01 carries the name of the task or actor that printed it.
 * Whole lines only; a line longer than the buffer goes in parts. After a read the pipe rests for
 * a moment, so that a loop of prints costs a frame for many lines. Files are capped, and so
 * is what the ended ones leave (old_logs.c). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "raylet/raylet.h"

/* DRAIN_READS: more than a pipe can hold. */
enum {
    BUFFER = 64 * 1024,
    FILE_MAX = 32 << 20,
    OLDER_MAX = 100,
    REST_MS = 5,
    DRAIN_READS = 64,
};

struct worker_log {
    struct worker_log *next, **link;
    struct raylet *r;
    uint64_t proc;
    uint32_t pid, job;
    int fd, file;
    bool is_err;
    struct loop_watch *watch;
    struct loop_timer *rest;
    uint64_t file_bytes, all_bytes; /* of the file; written in all */
    uint32_t used;
    char name[128]; /* of the last line that had one; a part of a long line keeps it */
    char *buffer;
};

static void send_lines(struct worker_log *l, const char *text, uint32_t len) {
    struct job *j = table_get(&l->r->jobs, l->job);
    struct proc *driver;
    struct wire_buf b;
    struct wire_log *m;
    uint64_t room[128];

    if (len == 0 || !j || !j->driver) return;
    driver = proc_find(l->r, j->driver);
    if (proc_node(j->driver) == l->r->node &&
        (!driver || (driver->stream && stream_pending(driver->stream) > (8 << 20))))
        return; /* nobody reads: the file has it */
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LOG);
    m->job = l->job;
    m->pid = l->pid;
    m->is_err = l->is_err;
    WIRE_PUT(&b, log, name, l->name, strlen(l->name));
    WIRE_PUT(&b, log, node_ip, l->r->set.node_ip, strlen(l->r->set.node_ip));
    WIRE_PUT(&b, log, text, text, len);
    if (wire_end(&b) == 0) route_send(l->r, j->driver, b.p, b.len);
    wire_release(&b);
}

/* A number of the environment: SKATE_<name>, else RAY_<name>, else `usual`. */
static uint64_t variable(const char *name, uint64_t usual) {
    char full[64];
    const char *text;

    snprintf(full, sizeof full, "SKATE_%s", name);
    text = getenv(full);
    if (!text) {
        snprintf(full, sizeof full, "RAY_%s", name);
        text = getenv(full);
    }
    return text ? strtoull(text, NULL, 10) : usual;
}

int logs_path(struct raylet *r, uint32_t pid, bool is_err, char *ret_path, size_t cap) {
    return snprintf(ret_path, cap, "%s/logs/worker-%u.%s", r->set.run_dir, pid,
                    is_err ? "err" : "out");
}

bool logs_living(struct raylet *r, uint32_t pid) {
    for (const struct worker_log *l = r->logs; l; l = l->next)
        if (l->pid == pid) return true;
    return false;
}

static void file_open(struct worker_log *l, const char *path) {
    l->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    l->file_bytes = 0;
    if (l->file < 0) l->file = -2;
}

static uint64_t file_most(void) {
    uint64_t most = variable("ROTATION_MAX_BYTES", 0);

    return most == 0 || most > FILE_MAX ? FILE_MAX : most;
}

static uint64_t older_most(void) {
    uint64_t older = variable("ROTATION_BACKUP_COUNT", 1);

    return older > OLDER_MAX ? OLDER_MAX : older;
}

/* The file is full: it becomes .1, that one .2, and so on. False: no older ones are kept. */
static bool rotate(struct worker_log *l, const char *path) {
    uint64_t older = older_most();
    char from[340], to[340];

    if (older == 0) return false;
    for (unsigned i = (unsigned)older; i > 0; i--) {
        snprintf(to, sizeof to, "%s.%u", path, i);
        snprintf(from, sizeof from, i > 1 ? "%s.%u" : "%s", path, i - 1);
        (void)rename(from, to);
    }
    close(l->file);
    file_open(l, path);
    return l->file >= 0;
}

/* How much of the text the file has room for: whole lines, but for a line larger than a file. */
static uint32_t fitting(const char *text, uint32_t len, uint64_t room, bool empty) {
    const char *end;

    if (len <= room) return len;
    end = memrchr(text, '\n', (size_t)room);
    if (end) return (uint32_t)(end - text) + 1;
    return empty ? (uint32_t)room : 0;
}

/* In the file, and the end of it in memory, for the day that the worker dies. */
static void keep(struct worker_log *l, const char *text, uint32_t len) {
    struct proc *p = proc_find(l->r, l->proc);
    uint64_t most = file_most();
    char path[320];

    if (len == 0) return;
    if (p) death_notes_output(&p->notes, text, len);
    (void)logs_path(l->r, l->pid, l->is_err, path, sizeof path);
    if (l->file == -1 && l->pid) file_open(l, path);
    while (len && l->file >= 0) {
        uint32_t n = fitting(text, len, most - l->file_bytes, l->file_bytes == 0);

        if (n == 0 && !rotate(l, path)) return;
        if (n && write(l->file, text, n) != (ssize_t)n) return;
        l->file_bytes += n;
        l->all_bytes += n;
        text += n;
        len -= n;
    }
}

/* Strip \x01NAME\x01 from the start of a line; true when the name is another than before. */
static uint32_t name_of(const char *line, uint32_t len, char *ret_name, size_t cap) {
    const char *end;
    size_t n;

    if (len < 2 || line[0] != 1) return 0;
    end = memchr(line + 1, 1, len - 1);
    if (!end) return 0;
    n = (size_t)(end - line - 1);
    if (n >= cap) n = cap - 1;
    memcpy(ret_name, line + 1, n);
    ret_name[n] = 0;
    return (uint32_t)(end - line) + 1;
}

/* Send the whole lines of the buffer (all of it when `whole`), grouped by name; prefixes are cut
 * out in place. */
static void emit(struct worker_log *l, bool whole) {
    uint32_t at = 0, out = 0, start = 0;

    while (at < l->used) {
        char *line = l->buffer + at, name[sizeof l->name] = "";
        char *newline = memchr(line, '\n', l->used - at);
        uint32_t len = newline ? (uint32_t)(newline - line) + 1 : l->used - at, skip;

        if (!newline && !whole) break;
        skip = name_of(line, len, name, sizeof name);
        if (strcmp(name, l->name)) {
            send_lines(l, l->buffer + start, out - start);
            keep(l, l->buffer + start, out - start);
            start = out;
            snprintf(l->name, sizeof l->name, "%s", name);
        }
        memmove(l->buffer + out, line + skip, len - skip);
        out += len - skip;
        at += len;
    }
    send_lines(l, l->buffer + start, out - start);
    keep(l, l->buffer + start, out - start);
    memmove(l->buffer, l->buffer + at, l->used - at);
    l->used -= at;
}

static void log_close(struct worker_log *l) {
    struct raylet *r = l->r;
    uint32_t job = l->job;
    uint64_t bytes = file_most() * (older_most() + 1); /* on the disk */

    if (l->used) emit(l, true);
    *l->link = l->next;
    if (l->next) l->next->link = l->link;
    loop_unwatch(l->watch);
    loop_timer_free(l->rest);
    close(l->fd);
    if (l->all_bytes < bytes) bytes = l->all_bytes;
    if (l->file != -1) old_logs_add(r, l->pid, l->is_err, bytes);
    if (l->file >= 0) close(l->file);
    free(l->buffer);
    free(l);
    job_log_closed(r, job);
}

/* 1: something came; 0: nothing now; -1: the end. */
static int read_once(struct worker_log *l) {
    ssize_t n;

    if (!l->buffer) l->buffer = malloc(BUFFER);
    if (!l->buffer) return -1;
    do n = read(l->fd, l->buffer + l->used, BUFFER - l->used);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) return -1;
    l->used += (uint32_t)n;
    emit(l, l->used == BUFFER);
    if (l->used == 0) {
        free(l->buffer);
        l->buffer = NULL;
    }
    return 1;
}

static void on_readable(void *arg, unsigned events) {
    struct worker_log *l = arg;

    (void)events;
    if (read_once(l) < 0) {
        log_close(l);
        return;
    }
    loop_watch_set(l->watch, 0);
    loop_timer_start(l->rest, REST_MS, 0);
}

static void on_rested(void *arg) { loop_watch_set(((struct worker_log *)arg)->watch, LOOP_READ); }

static void log_open(struct raylet *r, struct proc *p, int fd, bool is_err) {
    struct worker_log *l = calloc(1, sizeof *l);
    struct job *j = table_get(&r->jobs, p->job);

    if (l) *l = (struct worker_log){.r = r, .proc = p->id, .job = p->job, .fd = fd, .file = -1,
                                    .is_err = is_err, .next = r->logs, .link = &r->logs};
    if (!l || loop_timer_new(r->loop, on_rested, l, &l->rest) < 0 ||
        loop_watch_fd(r->loop, fd, LOOP_READ, on_readable, l, &l->watch) < 0) {
        node_log("the output of a worker cannot be read, ignoring");
        if (l) loop_timer_free(l->rest);
        free(l);
        close(fd);
        return;
    }
    if (r->logs) r->logs->link = &l->next;
    r->logs = l;
    j->logs_open++;
}

void logs_watch(struct raylet *r, struct proc *p, int out_fd, int err_fd) {
    log_open(r, p, out_fd, false);
    log_open(r, p, err_fd, true);
}

void logs_set_pid(struct raylet *r, uint64_t proc, uint32_t pid) {
    for (struct worker_log *l = r->logs; l; l = l->next)
        if (l->proc == proc) l->pid = pid;
}

/* A child of the worker may hold the pipe open and print for ever: read what is there, then go on
 * listening. */
void logs_drain(struct raylet *r, uint64_t proc) {
    for (struct worker_log *l = r->logs, *next; l; l = next) {
        int e = 1;

        next = l->next;
        if (l->proc != proc) continue;
        for (int i = 0; e > 0 && i < DRAIN_READS; i++) e = read_once(l);
        if (e < 0) log_close(l);
    }
}
