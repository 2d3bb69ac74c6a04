/* fuzz_core.c - the core of a driver and of a worker against a peer that writes what it likes to
 * its ring (whole records, broken ones, lies in INDIRECT), and against frames of any kind that come
 * over the raylet's socket, routed from other processes or said by the raylet itself. A thread
 * plays the raylet: it lends memory and reads the rest away. The core must neither crash nor hang,
 * and what it reads must fit the buffer that core_read() promises. */
#include "fuzz.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/core_int.h"
#include "core/items.h"
#include "store/residency.h"

enum { ARENA = 64 << 20, USES_MAX = 200, FN = 7 };
#define SELF proc_make(1, 1)
#define PEER proc_make(1, 2)
#define RAYLET proc_make(1, 0)

struct side { /* one core and what plays the rest of its node */
    struct core *core;
    int sock, stop[2];
    pthread_t thread, worker;
    bool driver;
    struct ring out, in;
    void *channel;
    struct doorbell *bell;
    struct skate_id ids[8], large[4], stream;
    uint32_t class, id_count, sequence;
    uint64_t next_extent, restores;
    uint8_t *residency, *arena;
    uint8_t in_buf[1 << 23]; /* a result with the most values */
};

static int sized(size_t bytes) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) abort();
    return fd;
}

static void send_fds(int sock, const void *frame, uint32_t len, const int *fds, uint32_t n) {
    char space[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec iov = {(void *)(uintptr_t)frame, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *h;

    if (n) {
        msg.msg_control = space;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        h = CMSG_FIRSTHDR(&msg);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    }
    (void)sendmsg(sock, &msg, MSG_NOSIGNAL);
}

static void no_such_object(struct side *s, const uint8_t *frame) {
    struct wire_pulled m = {.head = {.size = sizeof m, .kind = WIRE_PULLED, .fixed = sizeof m,
                                     .flags = WIRE_REPLY}, .status = -SKATE_EDEAD};
    struct wire_pull req;

    memcpy(&req, frame, sizeof req);
    m.head.call = req.head.call;
    m.obj = req.obj;
    send_fds(s->sock, &m, sizeof m, NULL, 0);
    bell_ring(s->bell, 0, BELL_URGENT);
}

/* It comes back, or in a file, or there is no room, or it is lost. */
static void bring_back(struct side *s, const uint8_t *frame) {
    struct wire_restored m = {.head = {.size = sizeof m, .kind = WIRE_RESTORED, .fixed = sizeof m}};
    struct wire_restore req;
    uint64_t first, end;
    int fd = -1;

    memcpy(&req, frame, sizeof req);
    m.offset = req.offset;
    m.bytes = req.bytes;
    if (req.bytes == 0 || req.bytes > ARENA || req.offset > ARENA - req.bytes) abort();
    first = granule_first(req.offset);
    end = granule_end(req.offset, req.bytes);
    switch (s->restores++ % 16) {
    case 15: m.status = -SKATE_ELOST; break;
    case 1: m.status = -SKATE_EFULL; break;
    case 2:
    case 7:
        m.at = first * GRANULE_BYTES;
        m.file_bytes = (end - first) * GRANULE_BYTES;
        m.head.nfds = 1;
        fd = sized(m.file_bytes);
        if (pwrite(fd, s->arena + m.at, m.file_bytes, 0) != (ssize_t)m.file_bytes) abort();
        break;
    default:
        for (uint64_t g = first; g < end; g++) at_store(&s->residency[g], RES_HERE);
    }
    send_fds(s->sock, &m, sizeof m, &fd, fd >= 0);
    if (fd >= 0) (void)close(fd);
    bell_ring(s->bell, 0, BELL_URGENT);
}

static void no_room(struct side *s, const uint8_t *frame) {
    struct wire_room_made m = {.head = {.size = sizeof m, .kind = WIRE_ROOM_MADE,
                                        .fixed = sizeof m}, .status = -SKATE_EFULL};

    m.head.call = wire_head(frame)->call;
    send_fds(s->sock, &m, sizeof m, NULL, 0);
    bell_ring(s->bell, 0, BELL_URGENT);
}

/* The raylet of the core: lends memory, has no object, reads the rest away. */
static void *play_raylet(void *arg) {
    struct side *s = arg;
    uint8_t *in = s->in_buf;
    size_t have = 0;

    for (;;) {
        struct pollfd p[2] = {{s->sock, POLLIN, 0}, {s->stop[0], POLLIN, 0}};
        ssize_t n;

        (void)poll(p, 2, -1);
        if (p[1].revents) return NULL;
        n = read(s->sock, in + have, sizeof s->in_buf - have);
        if (n <= 0) return NULL;
        have += (size_t)n;
        while (have >= sizeof(struct wire_head)) {
            struct wire_extent_req req;
            struct wire_extent m = {.head = {.size = sizeof m, .kind = WIRE_EXTENT,
                                             .fixed = sizeof m, .flags = WIRE_REPLY}};

            memcpy(&req, in, sizeof req.head);
            if (have < req.head.size) break;
            if (req.head.kind == WIRE_EXTENT_REQ) {
                memcpy(&req, in, sizeof req);
                m.head.call = req.head.call;
                m.offset = s->next_extent;
                m.bytes = (req.bytes + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
                m.status = m.offset + m.bytes > ARENA ? -SKATE_EFULL : 0;
                if (m.status == 0) s->next_extent += m.bytes;
                send_fds(s->sock, &m, sizeof m, NULL, 0);
            }
            if (req.head.kind == WIRE_PULL) no_such_object(s, in);
            if (req.head.kind == WIRE_RESTORE) bring_back(s, in);
            if (req.head.kind == WIRE_ROOM) no_room(s, in);
            have -= req.head.size;
            memmove(in, in + req.head.size, have);
        }
        if (have == sizeof s->in_buf) abort();
    }
}

static void welcome(struct side *s, int arena, int bell) {
    struct wire_welcome m = {.head = {.size = sizeof m, .kind = WIRE_WELCOME, .fixed = sizeof m,
                                      .nfds = 3},
                             .proc = SELF, .driver = s->driver ? SELF : PEER,
                             .arena_bytes = ARENA, .store_bytes = ARENA, .version = WIRE_VERSION,
                             .job = 1};
    int fds[3] = {arena, sized(LEDGER_BYTES + pins_bytes(ARENA)), bell};

    send_fds(s->sock, &m, sizeof m, fds, 3);
    (void)close(fds[1]);
}

static void give_channel(struct side *s, int bell) {
    struct wire_channel m = {.head = {.size = sizeof m, .kind = WIRE_CHANNEL, .fixed = sizeof m,
                                      .nfds = 2},
                             .peer = PEER, .side = 0, .my_bit = 5, .peer_bit = 5};
    int fds[2] = {sized(CHANNEL_BYTES), bell};

    s->channel = mmap(NULL, CHANNEL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    if (s->channel == MAP_FAILED) abort();
    ring_attach(&s->out, &s->in, s->channel, 1);
    send_fds(s->sock, &m, sizeof m, fds, 2);
    (void)close(fds[0]);
}

static void work_to_do(struct side *s);
static void *play_worker(void *arg);

static struct side *side_new(bool driver) {
    struct side *s = calloc(1, sizeof *s);
    struct skate_error err = {""};
    int pair[2], arena = sized(ARENA + residency_bytes(ARENA)), bell = sized(4096);
    int peer_bell = sized(4096);

    if (!s || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || pipe(s->stop) < 0)
        abort();
    s->sock = pair[0];
    s->driver = driver;
    s->next_extent = GRANULE_BYTES;
    s->arena = mmap(NULL, ARENA + residency_bytes(ARENA), PROT_READ | PROT_WRITE, MAP_SHARED, arena,
                    0);
    if (s->arena == MAP_FAILED) abort();
    s->residency = s->arena + ARENA;
    s->bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bell, 0);
    welcome(s, arena, bell);
    if (core_attach(pair[1], &s->core, &err) < 0) {
        fprintf(stderr, "core_attach: %s\n", err.text);
        abort();
    }
    s->core->info.is_driver = driver;
    if (pthread_create(&s->thread, NULL, play_raylet, s) != 0) abort();
    give_channel(s, peer_bell);
    bell_ring(s->bell, 0, BELL_URGENT);
    (void)close(arena);
    (void)close(bell);
    (void)close(peer_bell);
    if (driver)
        work_to_do(s);
    else if (pthread_create(&s->worker, NULL, play_worker, s) != 0)
        abort();
    return s;
}

static void side_free(struct side *s) {
    core_interrupt(s->core);
    if (!s->driver && pthread_join(s->worker, NULL) != 0) abort();
    core_close(s->core);
    if (write(s->stop[1], "x", 1) != 1) abort();
    if (pthread_join(s->thread, NULL) != 0) abort();
    (void)close(s->sock);
    (void)close(s->stop[0]);
    (void)close(s->stop[1]);
    (void)munmap(s->channel, CHANNEL_BYTES);
    (void)munmap(s->arena, ARENA + residency_bytes(ARENA));
    (void)munmap(s->bell, 4096);
    free(s);
}

/* ---- what the core is doing meanwhile ---- */

static void submit(struct side *s, const struct skate_id *actor) {
    uint64_t x = 5;
    struct core_part part = {&x, 8, 8};
    struct core_task t = {.fn = FN, .returns = 1, .name = "f", .cls = s->class,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_id id;

    if (actor) {
        t.actor = *actor;
        t.method = "m";
    } else if (s->id_count > 2) {
        t.deps = &s->ids[s->id_count - 1];
        t.dep_count = 1;
    }
    if (s->id_count == 2) t.flags = CORE_STREAM;
    if (core_submit(s->core, &t, &id, NULL) < 0) return;
    if (t.flags) s->stream = id;
    if (s->id_count < 8) s->ids[s->id_count++] = id_with_index(id, 1);
}

static void work_to_do(struct side *s) {
    uint64_t x = 5;
    struct core_part part = {&x, 8, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    static uint8_t bytes[300000];
    struct core_part much = {bytes, sizeof bytes, 8};
    struct core_value large = {.format = FORMAT_RAW, .part_count = 1, .parts = &much};
    struct core_class_opts o = {.resources = "", .name = "f"};
    struct core_actor a = {.fn = FN, .cls = "A", .name = "", .space = "", .max_restarts = 1,
                           .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part},
                           .held = "", .placing = ""};
    struct wire_lease_grant g = {.head = {.size = sizeof g, .kind = WIRE_LEASE_GRANT,
                                          .fixed = sizeof g}, .worker = PEER, .pid = 5};
    struct skate_id actor;

    if (core_define(s->core, FN, "f", &v, NULL) < 0 || core_class(s->core, &o, &s->class) < 0 ||
        core_put(s->core, &v, &s->ids[s->id_count++], NULL) < 0)
        abort();
    for (int i = 0; i < 4; i++) /* of those the bytes leave and come */
        if (core_put(s->core, &large, &s->large[i], NULL) < 0) abort();
    submit(s, NULL);
    g.req = s->core->classes[s->class].request;
    send_fds(s->sock, &g, sizeof g, NULL, 0);
    bell_ring(s->bell, 0, BELL_URGENT);
    submit(s, NULL);
    submit(s, NULL);
    if (core_actor_create(s->core, &a, &actor, NULL) == 0) {
        s->ids[s->id_count++] = actor;
        submit(s, &actor);
    }
}

static void look_at_all(struct side *s, const struct skate_id *ids, uint32_t n) {
    uint8_t ready[8];

    if (core_wait(s->core, ids, n, n, 0, CORE_FETCH, ready) < 0) return;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *copy = malloc(LIMIT_INLINE_VALUE); /* exactly what is promised */
        struct core_view v;

        if (copy && ready[i] && core_read(s->core, &ids[i], copy, &v) == 0) {
            volatile uint8_t sum = 0;

            for (uint64_t k = 0; k < v.size; k += 1 + v.size / 64)
                sum = (uint8_t)(sum + ((const uint8_t *)v.data)[k]);
            core_unpin(s->core, v.pin);
        }
        free(copy);
    }
}

static void look_at(struct side *s) {
    struct skate_id item;

    while (core_stream_next(s->core, &s->stream, true, &item) == 0) core_ref_drop(s->core, &item);
    look_at_all(s, s->ids, s->id_count);
    if (s->driver) look_at_all(s, s->large, 4);
}

/* The worker's own thread: it runs whatever came to be run. */
static void *play_worker(void *arg) {
    struct side *s = arg;
    struct core_job *job;

    while (core_next(s->core, &job) == 0) {
        uint64_t x = 1;
        struct core_part part = {&x, 8, 8};
        struct core_value v[4];

        for (int k = 0; k < 4; k++)
            v[k] = (struct core_value){.format = FORMAT_RAW, .part_count = 1, .parts = &part};
        for (int k = 0; k < 40 && core_yield(s->core, job, v, NULL, NULL) >= 0; k++)
            if (core_yield_wait(s->core, job, 1000000) < 0) break;
        if (core_finish(s->core, job, CORE_OK, v, job->returns < 4 ? job->returns : 4) < 0) break;
    }
    return NULL;
}

/* ---- what others do to it ---- */

static void on_ring(struct side *s, struct fuzz_in *in, const uint8_t *frame, uint32_t len) {
    void *to;

    if (len > LIMIT_RING_FRAME) len = LIMIT_RING_FRAME;
    to = ring_reserve(&s->out, len, ++s->sequence);
    if (!to) return;
    memcpy(to, frame, len);
    if (fuzz_below(in, 64) == 1) /* a liar's record head or counter */
        ((uint32_t *)to)[-2] = (uint32_t)fuzz_word(in);
    ring_publish(&s->out, len);
    bell_ring(s->bell, 5, BELL_URGENT);
}

static void on_socket(struct side *s, struct fuzz_in *in, uint8_t *frame, uint32_t len) {
    const uint64_t sources[] = {PEER, PEER, proc_make(1, 3), proc_make(2, 1), RAYLET, 0};
    struct wire_buf b;
    struct wire_route *m;

    if (wire_check(frame, len) < 0) return;
    if (fuzz_below(in, 4) == 0) { /* our raylet itself: it tells no lies about descriptors */
        ((struct wire_head *)(void *)frame)->nfds = 0;
        send_fds(s->sock, frame, len, NULL, 0);
    } else {
        wire_init(&b, NULL, 0);
        m = wire_begin(&b, WIRE_ROUTE);
        m->dst = SELF;
        m->src = sources[fuzz_below(in, 6)];
        WIRE_PUT(&b, route, frame, frame, len);
        if (wire_end(&b) == 0) send_fds(s->sock, b.p, b.len, NULL, 0);
        wire_release(&b);
    }
    bell_ring(s->bell, 0, BELL_URGENT);
}

static void one_frame(struct side *s, struct fuzz_in *in) {
    static const uint16_t often[] = {WIRE_RESULT, WIRE_TASK,     WIRE_FUNC,    WIRE_VALUE_REQ,
                                     WIRE_VALUE,  WIRE_BORROW,   WIRE_RELEASE, WIRE_FREE,
                                     WIRE_STEAL,  WIRE_RETURNED, WIRE_INDIRECT, WIRE_ACTOR_STATE,
                                     WIRE_PULLED, WIRE_LEASE_GRANT, WIRE_ACTOR_START,
                                     WIRE_ACTOR_CREATED, WIRE_GEN_ITEM, WIRE_GEN_END,
                                     WIRE_GEN_ACK, WIRE_CANCEL,  WIRE_ADOPT,   WIRE_ADOPT_TASK,
                                     WIRE_ORPHANS, WIRE_ORPHANS_KEPT, WIRE_CLAIM, WIRE_VALUE_LOST,
                                     WIRE_WHY_REQ, WIRE_WHY_INFO, WIRE_STATE_REQ, WIRE_LEASE_INFO,
                                     WIRE_LEASE_FAILED, WIRE_MEMORY_REQ, WIRE_RESTORED,
                                     WIRE_ROOM_MADE, WIRE_SPILL_ASK, WIRE_SPILL_BACK};
    uint32_t kind = fuzz_kind(in);
    struct wire_buf b;

    if (fuzz_below(in, 4)) kind = often[fuzz_below(in, sizeof often / sizeof *often)];
    wire_init(&b, NULL, 0);
    fuzz_frame(in, kind, 1, &b);
    if ((kind == WIRE_RESULT || kind == WIRE_GEN_ITEM || kind == WIRE_GEN_END ||
         kind == WIRE_CANCEL) &&
        fuzz_below(in, 4)) /* of a task that we have; the id is the first of each */
        memcpy(b.p + offsetof(struct wire_result, task),
               &(struct skate_id){SELF, (1 + (uint64_t)fuzz_below(in, 12)) << 16}, 16);
    if (fuzz_below(in, 2))
        on_ring(s, in, b.p, b.len);
    else if (kind != WIRE_PROC_DIED || fuzz_below(in, 16) == 1)
        on_socket(s, in, b.p, b.len);
    wire_release(&b);
}

static struct side *sides[2];

static void free_sides(void) {
    for (int i = 0; i < 2; i++)
        if (sides[i]) side_free(sides[i]);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    static uint32_t uses[2];
    const uint64_t pool[] = {SELF, PEER, proc_make(1, 3), RAYLET, 1 << 16, 1 << 16 | 1,
                             2 << 16 | 1, 3 << 16 | 0xffff, 4 << 16, GRANULE_BYTES + 64, FN, 1};
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 12};
    uint32_t i = fuzz_below(&in, 2);
    struct side *s = sides[i];

    if (s && (s->core->dead || uses[i] > USES_MAX || s->next_extent > ARENA / 2)) {
        side_free(s);
        s = NULL;
    }
    if (!sides[0] && !sides[1]) (void)atexit(free_sides);
    if (!s) {
        s = sides[i] = side_new(i == 0);
        uses[i] = 0;
    }
    uses[i]++;
    for (uint32_t k = 1; in.left; k++) {
        one_frame(s, &in);
        at_store(&s->residency[k % 16],
                 (uint8_t)(fuzz_below(&in, 4) ? RES_HERE : fuzz_below(&in, 4)));
        if (k % 4) continue;
        look_at(s);
    }
    look_at(s);
    return 0;
}
