/* native_out.c - what C tasks print: each line carries the name of the task or actor.
 *
 * stdout and stderr become line-buffered streams whose lines begin with \x01NAME\x01 on their way
 * into the pipe (worker_logs.c of the raylet takes it off again). What a task writes to the
 * descriptors themselves goes as it is. Any thread may print: a stream's own lock is held. */
#include <errno.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

#include "native/native_int.h"

enum { LINE_ROOM = 4096 };

struct sink {
    int fd;
    bool begun; /* a line has been begun */
};
static struct sink sinks[2] = {{1, false}, {2, false}};
static char name_now[128];

static void write_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return; /* nobody reads */
        p += k;
        n -= (size_t)k;
    }
}

/* A line, or a piece of one. */
static void write_line(struct sink *s, const char *p, size_t n) {
    char room[LINE_ROOM + sizeof name_now + 2];
    size_t used = 0;

    if (!s->begun) {
        size_t len = strnlen(name_now, sizeof name_now);

        room[used++] = 1;
        memcpy(room + used, name_now, len);
        used += len;
        room[used++] = 1;
    }
    s->begun = p[n - 1] != '\n';
    if (n <= LINE_ROOM) { /* whole: lines of two threads do not mix */
        memcpy(room + used, p, n);
        write_all(s->fd, room, used + n);
        return;
    }
    write_all(s->fd, room, used);
    write_all(s->fd, p, n);
}

static ssize_t on_write(void *cookie, const char *p, size_t n) {
    size_t left = n;

    while (left) {
        const char *end = memchr(p, '\n', left);
        size_t len = end ? (size_t)(end - p) + 1 : left;

        write_line(cookie, p, len);
        p += len;
        left -= len;
    }
    return (ssize_t)n;
}

static void open_one(FILE **stream, struct sink *s) {
    cookie_io_functions_t io = {.write = on_write};
    FILE *f = fopencookie(s, "w", io);

    if (!f) return;
    (void)setvbuf(f, NULL, _IOLBF, LINE_ROOM);
    *stream = f;
}

void out_open(void) {
    open_one(&stdout, &sinks[0]);
    open_one(&stderr, &sinks[1]);
}

void out_name(const char *name) {
    size_t n = 0;

    while (name[n] == name_now[n]) /* the usual case, and a short one */
        if (!name[n++]) return;
    n = strnlen(name, sizeof name_now - 1);
    memcpy(name_now, name, n);
    name_now[n] = 0;
}

void out_flush(void) {
    if (__fpending(stdout)) (void)fflush(stdout);
    if (__fpending(stderr)) (void)fflush(stderr);
}

void out_close(void) {
    (void)fflush(stdout);
    (void)fflush(stderr);
    for (int i = 0; i < 2; i++)
        if (sinks[i].begun) write_all(sinks[i].fd, "\n", 1);
}
