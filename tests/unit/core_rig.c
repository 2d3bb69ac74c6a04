/* core_rig.c - a driver's core and a worker's core in one process, between them a minimal raylet in
 * a thread, which plays the GCS for one actor, too: what the tests of their talk share. The
 * including test defines run_one(), by which the worker runs a task. */
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
    uint64_t next, request; /* request: for leases, of which `wanted` are not granted yet */
    uint32_t wanted;
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

static void grant(struct node *n) {
    struct wire_lease_grant m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_GRANT, .fixed = sizeof m},
        .req = n->request, .worker = proc_make(1, 2)};

    if (n->leased || n->wanted == 0) return;
    n->wanted--;
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

static void tell(struct node *n, int who, struct wire_buf *b) {
    assert_int_equal(wire_end(b), 0);
    send_fds(n->fds[who], b->p, b->len, NULL, 0);
    ring_process(n, who);
    wire_release(b);
}

/* As the GCS: an actor is created in the worker, which becomes its process. */
static void actor_create(struct node *n, const struct wire_actor_create *m) {
    struct wire_actor_created *created;
    struct wire_actor_start *s;
    struct wire_buf b;
    const void *p;
    uint32_t len;

    wire_init(&b, NULL, 0);
    created = wire_begin(&b, WIRE_ACTOR_CREATED);
    created->head.call = m->head.call;
    created->head.flags = WIRE_REPLY;
    created->actor = m->actor;
    tell(n, 0, &b);
    wire_init(&b, NULL, 0);
    s = wire_begin(&b, WIRE_ACTOR_START);
    s->actor = m->actor;
    s->owner = m->owner;
    s->job = m->job;
    s->incarnation = 1;
    s->max_concurrency = m->max_concurrency;
    p = wire_actor_create_spec(m, &len);
    WIRE_PUT(&b, actor_start, spec, p, len);
    p = wire_actor_create_fn_value(m, &len);
    WIRE_PUT(&b, actor_start, fn_value, p, len * sizeof(struct wire_val));
    p = wire_actor_create_fn_data(m, &len);
    WIRE_PUT(&b, actor_start, fn_data, p, len);
    tell(n, 1, &b);
}

static void actor_ready(struct node *n, const struct wire_actor_ready *m) {
    struct wire_actor_state *s;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    s = wire_begin(&b, WIRE_ACTOR_STATE);
    s->actor = m->actor;
    s->proc = m->proc;
    s->owner = proc_make(1, 1);
    s->state = m->status == 0 ? 1 : 3;
    s->incarnation = m->incarnation;
    s->pid = m->pid;
    tell(n, 0, &b);
}

static void on_route(struct node *n, const struct wire_route *m) {
    uint32_t len;
    const struct wire_head *head = (const void *)wire_route_frame(m, &len);

    if (m->dst != SKATE_GCS || wire_check(head, len) < 0) return;
    if (head->kind == WIRE_ACTOR_CREATE) actor_create(n, (const void *)head);
    if (head->kind == WIRE_ACTOR_READY) actor_ready(n, (const void *)head);
}

static void on_frame(struct node *n, int who, const void *frame) {
    switch (wire_head(frame)->kind) {
    case WIRE_LEASE_REQ:
        n->request = ((const struct wire_lease_req *)frame)->req;
        n->wanted = ((const struct wire_lease_req *)frame)->count;
        grant(n);
        break;
    case WIRE_LEASE_CANCEL: n->wanted = 0; break;
    case WIRE_LEASE_RETURN:
        n->leased = false;
        grant(n);
        break;
    case WIRE_EXTENT_REQ: extent(n, who, frame); break;
    case WIRE_CONNECT: open_channel(n); break;
    case WIRE_ROUTE: on_route(n, frame); break;
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

/* ---- the worker ---- */

static void run_one(struct core *c, struct core_job *job);

static int64_t number(const struct core_view *v) {
    int64_t x;

    memcpy(&x, v->data, sizeof x);
    return x;
}

static void *worker(void *arg) {
    struct node *n = arg;
    struct core_job *job;
    int r;

    while ((r = core_next(n->worker, &job)) == 0 || r == -SKATE_EINTR)
        if (r == 0) run_one(n->worker, job);
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

/* Both cores and the raylet; nobody runs tasks yet. */
static struct node *start_cores(void **state) {
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
    assert_int_equal(core_connect(n->path, INT64_C(60000000000), &n->driver, &err), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(pthread_create(&n->thread, NULL, raylet, n), 0);
    for (size_t i = 0; i < 4; i++) {
        struct core_part part = {&fns[i], 8, 8};
        struct core_value f = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

        assert_int_equal(core_define(n->driver, (uint64_t)fns[i], "f", &f, NULL), 0);
    }
    assert_int_equal(core_define(n->driver, FN_BIG, "big", &v, NULL), 0);
    return n;
}

static struct node *start(void **state) __attribute__((unused));
static struct node *start(void **state) {
    struct node *n = start_cores(state);

    assert_int_equal(pthread_create(&n->worker_thread, NULL, worker, n), 0);
    return n;
}

static void finish(struct node *n) {
    core_interrupt(n->worker);
    if (n->worker_thread) assert_int_equal(pthread_join(n->worker_thread, NULL), 0);
    core_close(n->driver);
    core_close(n->worker);
    assert_int_equal(write(n->stop[1], "x", 1), 1);
    assert_int_equal(pthread_join(n->thread, NULL), 0);
    (void)unlink(n->path);
    free(n);
}

/* Objects of both processes are gone once nobody needs them: counting is exact. */
__attribute__((unused)) static void expect_empty(struct core *c, uint64_t objects) {
    struct core_stats s;
    int64_t deadline = time_now_ns() + INT64_C(60000000000);

    do {
        core_get_stats(c, &s);
        (void)poll(NULL, 0, 1);
    } while ((s.objects != objects || s.tasks_pending) && time_now_ns() < deadline);
    assert_int_equal(s.objects, objects);
    assert_int_equal(s.tasks_pending, 0);
}
