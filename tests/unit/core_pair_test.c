/* A driver's core and a worker's core in one process, between them a minimal raylet in a thread:
 * tasks, dependencies, values by ring and by arena, refs in containers, worker death.
 * libs: base wire own core */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/doorbell.h"
#include "base/futex.h"
#include "base/ring.h"
#include "core/core.h"
#include "own/ledger.h"
#include "wire/wire_gen.h"

enum { ARENA = 256 << 20, FN_ADD = 1, FN_NOTE = 2, FN_BIG = 3, FN_CONTAIN = 4, FN_FAIL = 5 };

/* ---- the raylet of the test: two processes, one lease ---- */

struct node {
    int listener, fds[2], arena, bells[2], stop[2];
    char path[64];
    uint64_t next;
    bool channel, leased;
    pthread_t thread;
    struct core *driver, *worker;
    pthread_t worker_thread;
};

static void send_fds(int sock, void *frame, uint32_t len, const int *fds, int n) {
    char space[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec iov = {frame, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n) {
        struct cmsghdr *h;

        msg.msg_control = space;
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        h = CMSG_FIRSTHDR(&msg);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(h), fds, (size_t)n * sizeof(int));
    }
    assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), len);
}

static void ring_process(struct node *n, int who) {
    struct doorbell *d = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, n->bells[who], 0);

    bell_ring(d, 0, BELL_URGENT);
    (void)munmap(d, 4096);
}

static int sized(size_t bytes) {
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

static void welcome(struct node *n, int who) {
    struct wire_welcome *m;
    uint64_t stack[64];
    struct wire_buf b;
    int fds[3] = {n->arena, sized(LEDGER_BYTES), n->bells[who] = sized(4096)};

    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_WELCOME);
    m->proc = proc_make(1, (uint32_t)who + 1);
    m->driver = proc_make(1, 1);
    m->arena_bytes = ARENA;
    m->version = WIRE_VERSION;
    m->job = 1;
    m->head.nfds = 3;
    assert_int_equal(wire_end(&b), 0);
    send_fds(n->fds[who], b.p, b.len, fds, 3);
    wire_release(&b);
    (void)close(fds[1]);
}

static void open_channel(struct node *n) {
    int channel = sized(CHANNEL_BYTES);

    if (n->channel) return (void)close(channel);
    for (int who = 0; who < 2; who++) {
        struct wire_channel m = {.head = {.size = sizeof m, .kind = WIRE_CHANNEL,
                                          .fixed = sizeof m, .nfds = 2},
                                 .peer = proc_make(1, (uint32_t)!who + 1), .side = (uint32_t)who,
                                 .my_bit = 5, .peer_bit = 5};
        int fds[2] = {channel, n->bells[!who]};

        send_fds(n->fds[who], &m, sizeof m, fds, 2);
        ring_process(n, who);
    }
    n->channel = true;
    (void)close(channel);
}

static void grant(struct node *n, const struct wire_lease_req *req) {
    struct wire_lease_grant m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_GRANT, .fixed = sizeof m}, .req = req->req,
        .worker = proc_make(1, 2)};

    if (n->leased) return;
    n->leased = true;
    open_channel(n);
    send_fds(n->fds[0], &m, sizeof m, NULL, 0);
    ring_process(n, 0);
}

static void extent(struct node *n, int who, const struct wire_extent_req *req) {
    struct wire_extent m = {.head = {.size = sizeof m, .kind = WIRE_EXTENT, .fixed = sizeof m,
                                     .call = req->head.call, .flags = WIRE_REPLY},
                            .offset = n->next, .bytes = req->bytes};

    n->next += (req->bytes + 4095) & ~UINT64_C(4095);
    send_fds(n->fds[who], &m, sizeof m, NULL, 0);
    ring_process(n, who);
}

static void on_frame(struct node *n, int who, const void *frame) {
    switch (wire_head(frame)->kind) {
    case WIRE_LEASE_REQ: grant(n, frame); break;
    case WIRE_LEASE_RETURN: n->leased = false; break;
    case WIRE_EXTENT_REQ: extent(n, who, frame); break;
    case WIRE_CONNECT: open_channel(n); break;
    default: break;
    }
}

static void *raylet(void *arg) {
    struct node *n = arg;
    uint64_t buf[8192];
    size_t have[2] = {0, 0};
    static uint8_t in[2][65536];

    for (;;) {
        struct pollfd p[3] = {{n->fds[0], POLLIN, 0}, {n->fds[1], POLLIN, 0},
                              {n->stop[0], POLLIN, 0}};

        (void)poll(p, 3, -1);
        if (p[2].revents) return NULL;
        for (int who = 0; who < 2; who++) {
            ssize_t got = p[who].revents & POLLIN
                              ? read(n->fds[who], in[who] + have[who], sizeof in[who] - have[who])
                              : 0;
            struct wire_head head;

            if (got <= 0) continue;
            have[who] += (size_t)got;
            while (have[who] >= sizeof head) {
                memcpy(&head, in[who], sizeof head);
                if (have[who] < head.size) break;
                memcpy(buf, in[who], head.size);
                if (wire_check(buf, head.size) == 0) on_frame(n, who, buf);
                have[who] -= head.size;
                memmove(in[who], in[who] + head.size, have[who]);
            }
        }
    }
}

/* ---- the worker: functions by key ---- */

static int64_t number(const struct core_view *v) {
    int64_t x;

    memcpy(&x, v->data, sizeof x);
    return x;
}

static void finish_bytes(struct core *c, struct core_job *job, enum core_status status,
                         const void *data, uint64_t size, const struct skate_id *ref) {
    struct core_part part = {data, size, 8};
    struct core_value v = {.format = FORMAT_RAW, .flags = status ? VAL_ERROR : 0, .part_count = 1,
                           .parts = &part, .ref_count = ref != NULL, .refs = ref};

    assert_int_equal(core_finish(c, job, status, &v, 1), 0);
}

static void run_one(struct core *c, struct core_job *job) {
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_view code;
    int64_t sum = number(&job->args);

    assert_int_equal(core_function(c, job, job->fn, copy, &code), 0);
    assert_int_equal(code.size, job->fn == FN_BIG ? 10000 : 8);
    core_unpin(c, code.pin);
    for (uint32_t i = 0; i < job->dep_count; i++) sum += number(&job->deps[i]);
    if (job->fn == FN_BIG) {
        static uint8_t big[300000];

        memset(big, (int)(sum & 0xff), sizeof big);
        finish_bytes(c, job, CORE_OK, big, sizeof big, NULL);
    } else if (job->fn == FN_CONTAIN) { /* put something, return a ref to it inside a value */
        struct core_part part = {&sum, 8, 8};
        struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
        struct skate_id id;

        assert_int_equal(core_put(c, &v, &id, NULL), 0);
        finish_bytes(c, job, CORE_OK, &id, sizeof id, &id);
        core_ref_drop(c, &id);
    } else
        finish_bytes(c, job, job->fn == FN_FAIL ? CORE_ERROR : CORE_OK, &sum, sizeof sum, NULL);
}

static void *worker(void *arg) {
    struct node *n = arg;
    struct core_job *job;

    while (core_next(n->worker, &job) == 0) run_one(n->worker, job);
    return NULL;
}

/* ---- set-up ---- */

static int up(void **state) {
    struct node *n = calloc(1, sizeof *n);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int pair[2];
    pthread_t accepting;

    (void)accepting;
    (void)snprintf(n->path, sizeof n->path, "/tmp/skate-core-test-%d", (int)getpid());
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", n->path);
    (void)unlink(n->path);
    n->arena = sized(ARENA);
    n->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(n->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(n->listener, 2), 0);
    assert_int_equal(pipe(n->stop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    n->fds[1] = pair[0];
    welcome(n, 1);
    assert_int_equal(core_attach(pair[1], &n->worker, NULL), 0);
    *state = n;
    return 0;
}

static void *accept_driver(void *arg) {
    struct node *n = arg;

    n->fds[0] = accept(n->listener, NULL, NULL);
    welcome(n, 0);
    return NULL;
}

static struct node *start(void **state) {
    struct node *n;
    pthread_t t;
    struct skate_error err = {{0}};
    int64_t fns[] = {FN_ADD, FN_NOTE, FN_CONTAIN, FN_FAIL};
    static uint8_t code[10000];
    struct core_part big = {code, sizeof code, 1};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &big};

    (void)up(state);
    n = *state;
    assert_int_equal(pthread_create(&t, NULL, accept_driver, n), 0);
    assert_int_equal(core_connect(n->path, INT64_C(5000000000), &n->driver, &err), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(pthread_create(&n->thread, NULL, raylet, n), 0);
    assert_int_equal(pthread_create(&n->worker_thread, NULL, worker, n), 0);
    for (size_t i = 0; i < 4; i++) {
        struct core_part part = {&fns[i], 8, 8};
        struct core_value f = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

        assert_int_equal(core_define(n->driver, (uint64_t)fns[i], "f", &f, NULL), 0);
    }
    assert_int_equal(core_define(n->driver, FN_BIG, "big", &v, NULL), 0);
    return n;
}

static void finish(struct node *n) {
    core_interrupt(n->worker);
    assert_int_equal(pthread_join(n->worker_thread, NULL), 0);
    core_close(n->driver);
    core_close(n->worker);
    assert_int_equal(write(n->stop[1], "x", 1), 1);
    assert_int_equal(pthread_join(n->thread, NULL), 0);
    (void)unlink(n->path);
    free(n);
}

static struct skate_id submit(struct core *c, uint64_t fn, int64_t arg,
                              const struct skate_id *deps, uint32_t n) {
    struct core_class_opts o = {.resources = "", .resources_len = 0, .name = "f"};
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = fn, .returns = 1, .name = "f", .deps = deps, .dep_count = n,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    struct skate_id id;

    assert_int_equal(core_class(c, &o, &t.cls), 0);
    assert_int_equal(core_submit(c, &t, &id, &err), 0);
    return id_with_index(id, 1);
}

static int64_t get(struct core *c, const struct skate_id *id) {
    uint8_t copy[LIMIT_INLINE_VALUE], ready;
    struct core_view v;
    int64_t x;

    while (core_wait(c, id, 1, 1, -1, CORE_FETCH, &ready) != 1) continue;
    assert_int_equal(core_read(c, id, copy, &v), 0);
    x = number(&v);
    core_unpin(c, v.pin);
    return x;
}

/* Objects of both processes are gone once nobody needs them: counting is exact. */
static void expect_empty(struct core *c, uint64_t objects) {
    struct core_stats s;
    int64_t deadline = time_now_ns() + INT64_C(5000000000);

    do {
        core_get_stats(c, &s);
        (void)poll(NULL, 0, 1);
    } while (s.objects != objects && time_now_ns() < deadline);
    assert_int_equal(s.objects, objects);
    assert_int_equal(s.tasks_pending, 0);
}

/* ---- tests ---- */

static void tasks_sync_and_async(void **state) {
    struct node *n = start(state);
    enum { MANY = 3000 };
    static struct skate_id ids[MANY];
    static uint8_t ready[MANY];
    int r;

    for (int i = 0; i < 200; i++) {
        struct skate_id id = submit(n->driver, FN_ADD, i, NULL, 0);

        assert_int_equal(get(n->driver, &id), i);
        core_ref_drop(n->driver, &id);
    }
    for (int i = 0; i < MANY; i++) ids[i] = submit(n->driver, FN_ADD, i * 3, NULL, 0);
    do r = core_wait(n->driver, ids, MANY, MANY, -1, CORE_FETCH, ready);
    while (r == -SKATE_EINTR);
    assert_int_equal(r, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(get(n->driver, &ids[i]), i * 3);
        core_ref_drop(n->driver, &ids[i]);
    }
    expect_empty(n->driver, 1); /* the definition that lies in the arena */
    finish(n);
}

static void chain_and_errors(void **state) {
    struct node *n = start(state);
    struct skate_id id = submit(n->driver, FN_ADD, 1, NULL, 0), bad, next;
    uint8_t copy[LIMIT_INLINE_VALUE], ready;
    struct core_view v;

    for (int i = 0; i < 100; i++) {
        next = submit(n->driver, FN_ADD, 1, &id, 1);
        core_ref_drop(n->driver, &id);
        id = next;
    }
    assert_int_equal(get(n->driver, &id), 101);
    core_ref_drop(n->driver, &id);
    bad = submit(n->driver, FN_FAIL, 7, NULL, 0);
    for (int i = 0; i < 3000; i++) { /* a long chain of dependants fails without running */
        next = submit(n->driver, FN_ADD, 1, &bad, 1);
        core_ref_drop(n->driver, &bad);
        bad = next;
    }
    while (core_wait(n->driver, &bad, 1, 1, -1, CORE_FETCH, &ready) != 1) continue;
    assert_int_equal(core_read(n->driver, &bad, copy, &v), 0);
    assert_int_equal(v.flags, VAL_ERROR);
    assert_int_equal(number(&v), 7);
    core_ref_drop(n->driver, &bad);
    expect_empty(n->driver, 1);
    finish(n);
}

static void arena_values(void **state) {
    struct node *n = start(state);
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_stats s;

    for (int i = 0; i < 50; i++) {
        struct skate_id id = submit(n->driver, FN_BIG, i, NULL, 0), sum;
        struct core_view v;

        sum = submit(n->driver, FN_ADD, 0, &id, 1); /* a large value as an argument */
        (void)get(n->driver, &sum);
        (void)get(n->driver, &id);
        assert_int_equal(core_read(n->driver, &id, copy, &v), 0);
        assert_int_equal(v.size, 300000);
        assert_int_equal(((const uint8_t *)v.data)[299999], i);
        core_ref_drop(n->driver, &id); /* the view outlives the ref */
        core_ref_drop(n->driver, &sum);
        assert_int_equal(((const uint8_t *)v.data)[0], i);
        core_unpin(n->driver, v.pin);
    }
    expect_empty(n->driver, 1);
    core_get_stats(n->worker, &s);
    assert_true(s.arena_held < 16 << 20); /* the worker's bytes were freed and reused */
    finish(n);
}

/* A worker that reads its own results as arguments must not free them: the owner alone does. */
static void own_results_as_arguments(void **state) {
    enum { KEPT = 8 };
    struct node *n = start(state);
    struct skate_id ids[2 * KEPT], sum;
    uint8_t copy[LIMIT_INLINE_VALUE];

    for (int i = 0; i < 2 * KEPT; i++) {
        ids[i] = submit(n->driver, FN_BIG, i, NULL, 0);
        if (i == KEPT - 1)
            for (int k = 0; k < KEPT; k++) {
                sum = submit(n->driver, FN_ADD, 0, &ids[k], 1);
                (void)get(n->driver, &sum);
                core_ref_drop(n->driver, &sum);
            }
    }
    for (int i = 0; i < 2 * KEPT; i++) {
        struct core_view v;

        (void)get(n->driver, &ids[i]);
        assert_int_equal(core_read(n->driver, &ids[i], copy, &v), 0);
        assert_int_equal(((const uint8_t *)v.data)[299999], i);
        core_unpin(n->driver, v.pin);
        core_ref_drop(n->driver, &ids[i]);
    }
    expect_empty(n->driver, 1);
    finish(n);
}

static void contained_refs(void **state) {
    struct node *n = start(state);
    struct core_stats before, s;
    int64_t deadline;

    core_get_stats(n->worker, &before);
    for (int i = 0; i < 20; i++) {
        struct skate_id outer = submit(n->driver, FN_CONTAIN, i, NULL, 0), inner;
        uint8_t copy[LIMIT_INLINE_VALUE], ready;
        struct core_view v;

        while (core_wait(n->driver, &outer, 1, 1, -1, CORE_FETCH, &ready) != 1) continue;
        assert_int_equal(core_read(n->driver, &outer, copy, &v), 0);
        memcpy(&inner, v.data, sizeof inner);
        core_ref_add(n->driver, &inner);
        core_ref_drop(n->driver, &outer); /* the inner ref lives on without its container */
        assert_int_equal(get(n->driver, &inner), i); /* owned by the worker */
        core_ref_drop(n->driver, &inner);
    }
    expect_empty(n->driver, 1);
    deadline = time_now_ns() + INT64_C(5000000000);
    do {
        core_get_stats(n->worker, &s);
        (void)poll(NULL, 0, 1);
    } while (s.objects > before.objects && time_now_ns() < deadline);
    assert_int_equal(s.objects, before.objects);
    finish(n);
}

static void timeouts(void **state) {
    struct node *n = start(state);
    struct skate_id never = {proc_make(1, 1), 999 << 16 | 1};
    uint8_t ready;
    int64_t began = time_now_ns();

    assert_int_equal(core_wait(n->driver, &never, 1, 1, 0, CORE_FETCH, &ready), 0);
    assert_int_equal(core_wait(n->driver, &never, 1, 1, 30000000, CORE_FETCH, &ready), 0);
    assert_true(time_now_ns() - began >= 30000000);
    finish(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_sync_and_async), cmocka_unit_test(chain_and_errors),
        cmocka_unit_test(arena_values),         cmocka_unit_test(contained_refs),
        cmocka_unit_test(own_results_as_arguments),
        cmocka_unit_test(timeouts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
