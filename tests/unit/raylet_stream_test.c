/* raylet_stream_test.c - frames and descriptors over a socket pair, broken peers.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "raylet/stream.h"
#include "wire/wire_gen.h"

struct end {
    struct stream *s;
    uint32_t frames, written, last_len;
    uint64_t sum;
    int code;
    bool close_in_frame;
};

static struct loop *loop;
static int other; /* the peer's end: a plain descriptor */
static struct end end;

static void on_frame(void *arg, const void *frame, uint32_t len) {
    struct end *e = arg;
    const struct wire_head *head = frame;

    assert_int_equal((uintptr_t)frame % 8, 0);
    e->frames++;
    e->last_len = len;
    if (head->kind == WIRE_CONNECT) e->sum += ((const struct wire_connect *)frame)->peer;
    if (e->close_in_frame) {
        stream_close(e->s);
        e->s = NULL;
    }
}

static void on_close(void *arg, int code) { ((struct end *)arg)->code = code; }
static void on_written(void *arg) { ((struct end *)arg)->written++; }

static const struct stream_events events = {on_frame, on_close, on_written};

static int start(void **state) {
    int pair[2];

    (void)state;
    end = (struct end){0};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(stream_new(loop, pair[0], &events, &end, &end.s), 0);
    other = pair[1];
    return 0;
}

static int stop(void **state) {
    (void)state;
    stream_close(end.s);
    close(other);
    loop = loop_free(loop);
    return 0;
}

static struct wire_connect number(uint64_t n) {
    return (struct wire_connect){.head = {.size = sizeof(struct wire_connect),
                                          .kind = WIRE_CONNECT,
                                          .fixed = sizeof(struct wire_connect)},
                                 .peer = n};
}

/* A frame in a thousand pieces, and many in one write, arrive whole and in order. */
static void test_pieces(void **state) {
    struct wire_connect m = number(5), many[20];

    (void)state;
    for (size_t i = 0; i < sizeof m; i++) {
        assert_int_equal(write(other, (const char *)&m + i, 1), 1);
        loop_run_once(loop, 100);
    }
    assert_int_equal(end.frames, 1);
    assert_int_equal(end.sum, 5);
    for (uint64_t i = 0; i < 20; i++) many[i] = number(i);
    assert_int_equal(write(other, many, sizeof many), sizeof many);
    while (end.frames < 21) loop_run_once(loop, 100);
    assert_int_equal(end.sum, 5 + 190);
}

/* A frame whose size is no multiple of 8 puts the next one at an odd place. */
static void test_unaligned(void **state) {
    struct wire_connect after = number(9);
    uint64_t room[32];
    struct wire_buf b;

    (void)state;
    wire_init(&b, room, sizeof room);
    wire_begin(&b, WIRE_WORKER_EXITING);
    WIRE_PUT(&b, worker_exiting, reason, "abc", 3);
    assert_int_equal(wire_end(&b), 0);
    assert_int_not_equal(b.len % 8, 0);
    assert_int_equal(write(other, b.p, b.len), b.len);
    assert_int_equal(write(other, &after, sizeof after), sizeof after);
    while (end.frames < 2) loop_run_once(loop, 100);
    assert_int_equal(end.sum, 9);
}

static void test_malformed(void **state) {
    struct wire_connect m = number(1);

    (void)state;
    m.head.fixed = 8;
    assert_int_equal(write(other, &m, sizeof m), sizeof m);
    while (!end.code) loop_run_once(loop, 100);
    assert_int_equal(end.code, -SKATE_EPROTO);
    assert_int_equal(end.frames, 0);
    assert_int_equal(stream_send(end.s, &m, sizeof m, NULL, 0), -SKATE_EDEAD);
}

static void test_huge_size(void **state) {
    struct wire_connect m = number(1);

    (void)state;
    m.head.size = 0xfffffff0;
    assert_int_equal(write(other, &m, sizeof m), sizeof m);
    while (!end.code) loop_run_once(loop, 100);
    assert_int_equal(end.code, -SKATE_EPROTO);
}

static void test_hang_up(void **state) {
    (void)state;
    assert_int_equal(shutdown(other, SHUT_RDWR), 0);
    while (!end.code) loop_run_once(loop, 100);
    assert_int_equal(end.code, -SKATE_EDEAD);
}

static void test_close_inside(void **state) {
    struct wire_connect many[3] = {number(1), number(2), number(3)};

    (void)state;
    end.close_in_frame = true;
    assert_int_equal(write(other, many, sizeof many), sizeof many);
    while (end.s) loop_run_once(loop, 100);
    assert_int_equal(end.frames, 1); /* nothing after its close */
}

/* The last words of a peer that closed are read by stream_drain(), without on_close. */
static void test_drain(void **state) {
    struct wire_connect many[1000];

    (void)state;
    for (int i = 0; i < 1000; i++) many[i] = number(7);
    assert_int_equal(write(other, many, sizeof many), sizeof many);
    assert_int_equal(shutdown(other, SHUT_RDWR), 0);
    stream_drain(end.s);
    assert_int_equal(end.frames, 1000);
    assert_int_equal(end.code, 0);
}

/* Read one frame, and the descriptors that came with its bytes. */
static uint32_t receive(void *buf, size_t cap, int *fds, uint32_t *fd_count) {
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec iov = {buf, sizeof(struct wire_head)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                         .msg_controllen = sizeof control};
    uint32_t size, have;
    ssize_t n;

    while ((n = recvmsg(other, &msg, MSG_DONTWAIT)) < 0) loop_run_once(loop, 10);
    assert_int_equal(n, sizeof(struct wire_head));
    *fd_count = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
        *fd_count = (uint32_t)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(h), *fd_count * sizeof(int));
    }
    memcpy(&size, buf, sizeof size);
    assert_true(size <= cap);
    for (have = sizeof(struct wire_head); have < size; have += (uint32_t)n)
        while ((n = recv(other, (char *)buf + have, size - have, MSG_DONTWAIT)) < 0)
            loop_run_once(loop, 10);
    return size;
}

/* More than a socket holds: queued, flushed by the loop, told; descriptors stay with their frame,
 * though the sender closes its own at once. */
static void test_queue_and_fds(void **state) {
    enum { FRAMES = 200, BYTES = 20000 };
    static uint64_t buf[BYTES / 8 + 64], big[BYTES / 8 + 64];
    struct wire_buf b;
    int fds[8];

    (void)state;
    wire_init(&b, big, sizeof big);
    wire_begin(&b, WIRE_ROUTE);
    WIRE_PUT(&b, route, frame, NULL, BYTES);
    assert_int_equal(wire_end(&b), 0);
    for (uint32_t i = 0; i < FRAMES; i++) {
        int pipe_fds[2];
        bool with = i % 10 == 3;

        ((struct wire_route *)(void *)b.p)->dst = i;
        if (!with) {
            assert_int_equal(stream_send(end.s, b.p, b.len, NULL, 0), 0);
            continue;
        }
        assert_int_equal(pipe(pipe_fds), 0);
        assert_int_equal(write(pipe_fds[1], &i, sizeof i), sizeof i);
        assert_int_equal(stream_send(end.s, b.p, b.len, pipe_fds, 2), 0);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
    }
    assert_true(stream_pending(end.s) > 0);
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint32_t count, said;

        loop_run_once(loop, 0);
        assert_int_equal(receive(buf, sizeof buf, fds, &count), b.len);
        assert_int_equal(((struct wire_route *)(void *)buf)->dst, i);
        assert_int_equal(count, i % 10 == 3 ? 2 : 0);
        if (count == 0) continue;
        assert_int_equal(read(fds[0], &said, sizeof said), sizeof said);
        assert_int_equal(said, i);
        close(fds[0]);
        close(fds[1]);
    }
    assert_int_equal(stream_pending(end.s), 0);
    assert_true(end.written > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pieces, start, stop),
        cmocka_unit_test_setup_teardown(test_unaligned, start, stop),
        cmocka_unit_test_setup_teardown(test_malformed, start, stop),
        cmocka_unit_test_setup_teardown(test_huge_size, start, stop),
        cmocka_unit_test_setup_teardown(test_hang_up, start, stop),
        cmocka_unit_test_setup_teardown(test_close_inside, start, stop),
        cmocka_unit_test_setup_teardown(test_drain, start, stop),
        cmocka_unit_test_setup_teardown(test_queue_and_fds, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
