/* stream.c - see stream.h. */
#include "raylet/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "wire/frame.h"

/* DRAIN_READS: far more than a socket can hold. */
enum { READ_BYTES = 64 * 1024, KEEP_BYTES = 256 * 1024, DRAIN_READS = 256 };

struct out_frame {
    struct out_frame *next;
    uint32_t len, sent, fd_count;
    int fds[STREAM_FDS_MAX];
    uint8_t data[];
};

struct stream {
    struct loop *loop;
    struct loop_watch *watch;
    const struct stream_events *events;
    void *arg;
    int fd;
    bool busy, closing, ended; /* busy: a callback runs */
    uint8_t *in;
    size_t in_len, in_cap;
    uint32_t frame_max;
    uint64_t *aligned; /* a frame that does not start at a multiple of 8 */
    size_t aligned_cap;
    struct out_frame *first, *last;
    uint64_t pending;
};

static uint64_t pending_all; /* of all streams; loop thread only */

static void set_interest(struct stream *s) {
    unsigned events = 0;

    if (!s->ended) events |= LOOP_READ;
    if (s->first && !s->ended) events |= LOOP_WRITE;
    loop_watch_set(s->watch, events);
}

static void drop_out(struct stream *s) {
    while (s->first) {
        struct out_frame *f = s->first;

        s->first = f->next;
        for (uint32_t i = 0; i < f->fd_count; i++) close(f->fds[i]);
        free(f);
    }
    s->last = NULL;
    pending_all -= s->pending;
    s->pending = 0;
}

static void destroy(struct stream *s) {
    loop_unwatch(s->watch);
    close(s->fd);
    drop_out(s);
    free(s->in);
    free(s->aligned);
    free(s);
}

/* Write some bytes, descriptors with the first. Bytes written, 0 when the socket is full, or
 * negative when it is broken. */
static int64_t write_some(struct stream *s, const uint8_t *p, size_t len, const int *fds,
                          uint32_t fd_count) {
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(STREAM_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd_count) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof control);
        msg.msg_control = control.room;
        msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    do n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return n;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS)
        return 0;
    return -SKATE_EDEAD;
}

static int queue(struct stream *s, const uint8_t *frame, uint32_t len, const int *fds,
                 uint32_t fd_count) {
    struct out_frame *f;

    if (s->pending + len > STREAM_QUEUE_MAX) return -SKATE_EFULL;
    if (pending_all + len > STREAM_ALL_MAX && s->pending > STREAM_FAIR) return -SKATE_EFULL;
    f = malloc(sizeof *f + len);
    if (!f) return -SKATE_ENOMEM;
    *f = (struct out_frame){.len = len, .fd_count = fd_count};
    for (uint32_t i = 0; i < fd_count; i++) {
        f->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (f->fds[i] < 0) {
            while (i > 0) close(f->fds[--i]);
            free(f);
            return -SKATE_ENOMEM;
        }
    }
    memcpy(f->data, frame, len);
    if (s->last)
        s->last->next = f;
    else
        s->first = f;
    s->last = f;
    s->pending += len;
    pending_all += len;
    return 0;
}

int stream_send(struct stream *s, const void *frame, uint32_t len, const int *fds,
                uint32_t fd_count) {
    const uint8_t *p = frame;
    int64_t n = 0;
    int e;

    SKATE_ASSERT(fd_count <= STREAM_FDS_MAX && len > 0);
    if (s->ended || s->closing) return -SKATE_EDEAD;
    if (!s->first) {
        n = write_some(s, p, len, fds, fd_count);
        if (n == len) return 0;
        if (n < 0) return (int)n; /* reading will report the end */
        if (n > 0) fd_count = 0;
    }
    e = queue(s, p + n, len - (uint32_t)n, fds, fd_count);
    if (e == 0) set_interest(s);
    return e;
}

static void flush(struct stream *s) {
    uint64_t before = s->pending;

    while (s->first) {
        struct out_frame *f = s->first;
        int64_t n = write_some(s, f->data + f->sent, f->len - f->sent, f->fds,
                               f->sent ? 0 : f->fd_count);

        if (n < 0) {
            drop_out(s);
            break;
        }
        if (n == 0) break;
        if (!f->sent) {
            for (uint32_t i = 0; i < f->fd_count; i++) close(f->fds[i]);
            f->fd_count = 0;
        }
        f->sent += (uint32_t)n;
        s->pending -= (uint64_t)n;
        pending_all -= (uint64_t)n;
        if (f->sent < f->len) break;
        s->first = f->next;
        if (!s->first) s->last = NULL;
        free(f);
    }
    set_interest(s);
    if (s->pending != before && s->events->on_written) s->events->on_written(s->arg);
}

static void end(struct stream *s, int code) {
    if (s->ended || s->closing) return;
    s->ended = true;
    drop_out(s);
    set_interest(s);
    if (s->events->on_close) s->events->on_close(s->arg, code);
}

/* Deliver the whole frames of the buffer; what is left moves to its start. */
static int deliver(struct stream *s) {
    size_t at = 0;

    while (!s->closing && !s->ended && s->in_len - at >= sizeof(struct wire_head)) {
        const uint8_t *p = s->in + at;
        uint32_t size;

        memcpy(&size, p, sizeof size);
        if (size < sizeof(struct wire_head) || size > s->frame_max) return -SKATE_EPROTO;
        if (s->in_len - at < size) {
            if (s->in_cap < size) {
                uint8_t *bigger = realloc(s->in, size);

                if (!bigger) return -SKATE_ENOMEM;
                s->in = bigger;
                s->in_cap = size;
            }
            break;
        }
        if ((uintptr_t)p % 8) {
            if (s->aligned_cap < size) {
                free(s->aligned);
                s->aligned_cap = 0;
                s->aligned = malloc(size);
                if (!s->aligned) return -SKATE_ENOMEM;
                s->aligned_cap = size;
            }
            memcpy(s->aligned, p, size);
            p = (const uint8_t *)s->aligned;
        }
        if (wire_check(p, size) < 0 || wire_head(p)->nfds) return -SKATE_EPROTO;
        s->events->on_frame(s->arg, p, size);
        at += size;
    }
    memmove(s->in, s->in + at, s->in_len - at);
    s->in_len -= at;
    if (s->in_len == 0 && s->in_cap > KEEP_BYTES) {
        free(s->in);
        s->in = NULL;
        s->in_cap = 0;
    }
    if (s->aligned_cap > KEEP_BYTES) {
        free(s->aligned);
        s->aligned = NULL;
        s->aligned_cap = 0;
    }
    return 0;
}

/* One read. 1: there may be more; 0: nothing there; negative: the end. */
static int read_some(struct stream *s) {
    ssize_t n;
    int e;

    if (s->in_cap < s->in_len + READ_BYTES) {
        size_t cap = s->in_cap ? s->in_cap * 2 : READ_BYTES * 2;
        uint8_t *bigger;

        while (cap < s->in_len + READ_BYTES) cap *= 2;
        bigger = realloc(s->in, cap);
        if (!bigger) return -SKATE_ENOMEM;
        s->in = bigger;
        s->in_cap = cap;
    }
    do n = recv(s->fd, s->in + s->in_len, s->in_cap - s->in_len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -SKATE_EDEAD;
    if (n == 0) return -SKATE_EDEAD;
    s->in_len += (size_t)n;
    e = deliver(s);
    return e < 0 ? e : 1;
}

static void read_all(struct stream *s, bool until_empty) {
    uint32_t reads = 0;
    int e = 1;

    if (s->busy || s->ended) return;
    s->busy = true;
    do e = read_some(s);
    while (until_empty && e > 0 && !s->closing && !s->ended && ++reads < DRAIN_READS);
    if (e < 0 && !(until_empty && e == -SKATE_EDEAD)) end(s, e);
    s->busy = false;
    if (s->closing) destroy(s);
}

static void on_event(void *arg, unsigned events) {
    struct stream *s = arg;

    if (events & LOOP_WRITE) flush(s);
    if (events & LOOP_READ) read_all(s, false);
}

int stream_new(struct loop *l, int fd, const struct stream_events *events, void *arg,
               struct stream **ret) {
    struct stream *s = calloc(1, sizeof *s);
    int e;

    if (!s) return -SKATE_ENOMEM;
    *s = (struct stream){.loop = l, .fd = fd, .events = events, .arg = arg,
                          .frame_max = LIMIT_FRAME_BYTES};
    e = loop_watch_fd(l, fd, LOOP_READ, on_event, s, &s->watch);
    if (e < 0) {
        free(s);
        return e;
    }
    *ret = s;
    return 0;
}

void stream_set_arg(struct stream *s, const struct stream_events *events, void *arg) {
    s->events = events;
    s->arg = arg;
}

uint64_t stream_pending(const struct stream *s) { return s->pending; }

void stream_limit(struct stream *s, uint32_t bytes) { s->frame_max = bytes; }

/* The end of the stream is no news to the caller here: on_close is not called for it. */
void stream_drain(struct stream *s) { read_all(s, true); }

void stream_close(struct stream *s) {
    if (!s) return;
    if (s->busy)
        s->closing = true;
    else
        destroy(s);
}
