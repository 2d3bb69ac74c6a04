/* sock.c - the Unix socket between this process and its raylet: whole frames with descriptors.
 *
 * Writes go out at once (the raylet always reads, so a full socket is waited out in place); reads
 * are taken when the doorbell's bit 0 says so, under the core mutex. sock_call() is the one place
 * that waits for the raylet with the mutex held: extents and connections, answered in microseconds;
 * frames that arrive meanwhile are kept in order and dispatched by the next pump. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/core_int.h"

enum { SOCK_CHUNK = 64 * 1024, SOCK_FDS = 16 };

int sock_send(struct core *c, const void *frame, uint32_t len) {
    const uint8_t *p = frame;
    size_t left = len;

    if (c->dead) return -SKATE_EDEAD;
    while (left > 0) {
        ssize_t n = send(c->sock, p, left, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            p += n;
            left -= (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd pfd = {.fd = c->sock, .events = POLLOUT};

            (void)poll(&pfd, 1, 100);
        } else if (errno != EINTR) {
            core_die(c, "the connection to the raylet broke");
            return -SKATE_EDEAD;
        }
    }
    return 0;
}

static int reserve(struct core *c, uint32_t more) {
    if (c->in_cap - c->in_len < more) {
        uint32_t cap = c->in_cap ? c->in_cap : SOCK_CHUNK;
        uint8_t *grown;

        while (cap - c->in_len < more) cap *= 2;
        grown = realloc(c->in, cap);
        if (!grown) return -SKATE_ENOMEM;
        c->in = grown;
        c->in_cap = cap;
    }
    return 0;
}

static void take_fds(struct core *c, struct msghdr *msg) {
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
        int fds[SOCK_FDS];
        size_t n;

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(h), n * sizeof(int));
        for (size_t i = 0; i < n; i++) {
            if (c->in_fd_count < sizeof c->in_fds / sizeof *c->in_fds)
                c->in_fds[c->in_fd_count++] = fds[i];
            else
                (void)close(fds[i]);
        }
    }
}

/* One recvmsg: bytes read, 0 when nothing is there, negative when the raylet is gone. */
static int fill(struct core *c) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(SOCK_FDS * sizeof(int))];
    } control;
    struct iovec iov;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n;

    if (reserve(c, SOCK_CHUNK) < 0) return -SKATE_ENOMEM;
    iov = (struct iovec){c->in + c->in_len, c->in_cap - c->in_len};
    n = recvmsg(c->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n > 0) {
        take_fds(c, &msg);
        c->in_len += (uint32_t)n;
        return (int)n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
    return -SKATE_EDEAD;
}

/* Cut the next whole frame off the input: 1 and *ret, 0 when there is none yet. */
static int cut(struct core *c, uint32_t *at, struct frame_node **ret) {
    struct wire_head head;
    struct frame_node *n;

    if (c->in_len - *at < sizeof head) return 0;
    memcpy(&head, c->in + *at, sizeof head);
    if (head.size < sizeof head || head.size > LIMIT_FRAME_BYTES) return -SKATE_EPROTO;
    if (c->in_len - *at < head.size) return 0;
    n = frame_keep(proc_raylet(c->info.proc), c->in + *at, head.size);
    if (!n) return -SKATE_ENOMEM;
    if (wire_check(n->data, n->len) < 0 || head.nfds > 3 || head.nfds > c->in_fd_count)
        return free(n), -SKATE_EPROTO;
    for (unsigned i = 0; i < head.nfds; i++) n->fds[i] = c->in_fds[i];
    c->in_fd_count -= head.nfds;
    memmove(c->in_fds, c->in_fds + head.nfds, c->in_fd_count * sizeof(int));
    *at += head.size;
    *ret = n;
    return 1;
}

/* Cut all whole frames into the deferred list. */
static int gather(struct core *c) {
    struct frame_node *n;
    uint32_t at = 0;
    int r;

    while ((r = cut(c, &at, &n)) == 1) frame_push(&c->deferred, n);
    if (at) memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return r;
}

int sock_read(struct core *c) {
    struct frame_node *n;

    if (c->dead) return -SKATE_EDEAD;
    for (int round = 0; round < 64; round++) {
        int r = fill(c), e = gather(c);

        if (e < 0) r = e;
        while ((n = frame_pop(&c->deferred))) {
            pump_dispatch(c, n->src, n->data, n->len, NULL, 0, n->fds);
            free(n);
        }
        if (r < 0) {
            core_die(c, r == -SKATE_EPROTO ? "the raylet sent a malformed frame"
                                           : "the raylet of this node is gone");
            return -SKATE_EDEAD;
        }
        if (r == 0) return 0;
    }
    bell_set(c->bell, 0); /* more may be there: look again at the next pump */
    return 0;
}

int sock_receive_one(struct core *c, int64_t timeout_ns, struct frame_node **ret) {
    int64_t deadline = time_now_ns() + timeout_ns;

    for (;;) {
        struct pollfd pfd = {.fd = c->sock, .events = POLLIN};
        int64_t left;
        int r = gather(c);

        if (r < 0) return r;
        if ((*ret = frame_pop(&c->deferred))) return 0;
        left = deadline - time_now_ns();
        if (left <= 0) return -SKATE_ETIMEOUT;
        (void)poll(&pfd, 1, (int)(left / 1000000) + 1);
        r = fill(c);
        if (r < 0) return r;
    }
}

int sock_call(struct core *c, void *frame, uint32_t len, struct frame_node **ret) {
    struct wire_head *head = frame;
    int64_t deadline = time_now_ns() + INT64_C(30000000000);
    int r;

    head->call = ++c->next_call;
    r = sock_send(c, frame, len);
    while (r >= 0) {
        struct pollfd pfd = {.fd = c->sock, .events = POLLIN};
        struct frame_node **at = &c->deferred.head;

        if (gather(c) < 0) break;
        for (; *at; at = &(*at)->next) {
            struct frame_node *n = *at;
            const struct wire_head *h = wire_head(n->data);

            if (h->call != head->call || !(h->flags & WIRE_REPLY)) continue;
            *at = n->next;
            if (!*at) c->deferred.tail = at;
            c->deferred.count--;
            if (c->deferred.head) bell_set(c->bell, 0);
            *ret = n;
            return 0;
        }
        if (time_now_ns() > deadline) break;
        r = fill(c);
        if (r == 0) (void)poll(&pfd, 1, 100);
    }
    core_die(c, "the raylet of this node is gone");
    return -SKATE_EDEAD;
}
