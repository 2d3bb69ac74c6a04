/* fuzz_raylet.c - a whole raylet against hostile processes of its node, in one process: a real GCS
 * in the same loop, two drivers and two workers that are nothing but sockets in our hands, a zygote
 * that answers each fork at once. Frames of every kind, well-formed or not, cut anywhere. After
 * each input the raylet must still answer a driver that behaves. It has a folder to spill to. */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/futex.h"
#include "gcsd/gcsd.h"
#include "net/net_int.h" /* to speak in the place of the GCS */
#include "raylet/bundles.h"
#include "raylet/links.h"
#include "raylet/pulls.h"
#include "raylet/raylet.h"
#include "raylet/spill.h"

enum { ARENA = 1 << 20, SPAN = 32 << 20, ENDS = 4, HONEST = 4 };
enum { FIRST_PID = 0x3f000000 }; /* no such process: kill() fails */

static struct raylet *ray;
static struct gcsd *gcsd;
static int ends[ENDS + 1], zygote_fd;
static uint64_t end_procs[ENDS + 1];
static uint32_t next_pid = FIRST_PID, worker_at, asked;
static struct loop_timer *no_sleep;
static uint64_t honest_in[1 << 17];
static size_t honest_len;

static void on_time(void *arg) { (void)arg; }
static void on_zygote_frame(void *arg, const void *frame, uint32_t len) {
    (void)arg, (void)frame, (void)len;
}
static void on_zygote_close(void *arg, int code) { (void)arg, (void)code; }
static const struct stream_events zygote_side = {.on_frame = on_zygote_frame,
                                                 .on_close = on_zygote_close};

static void turn(void) {
    loop_timer_start(no_sleep, 0, 0);
    loop_run_once(ray->loop, 0);
}

/* A socket of ours becomes process `i` of the node. */
static void be_driver(uint32_t i) {
    struct proc *p = proc_new(ray, PROC_DRIVER, 0);
    int pair[2];

    if (!p || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) abort();
    if (ends[i] > 0) close(ends[i]);
    ends[i] = pair[1];
    end_procs[i] = p->id;
    p->pid = next_pid++;
    if (proc_attach(p, pair[0]) < 0) abort();
    ray->drivers++;
    proc_welcome(p);
}

/* Each fork that was asked gives us the worker's end of its socket. */
static void be_zygote(bool fail) {
    for (;;) {
        struct wire_fork m;
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = {&m, sizeof m};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
        struct cmsghdr *h;
        struct proc *p;
        uint32_t i;
        int fds[3];

        if (recvmsg(zygote_fd, &msg, MSG_DONTWAIT) != (ssize_t)sizeof m) return;
        h = CMSG_FIRSTHDR(&msg);
        if (!h) abort();
        memcpy(fds, CMSG_DATA(h), sizeof fds);
        close(fds[1]);
        close(fds[2]);
        p = proc_find(ray, m.proc);
        if (!p || fail || ray->procs.count > 300) { /* descriptors are bounded here, too */
            close(fds[0]);
            if (p) pool_fork_lost(ray, p);
            continue;
        }
        i = 2 + worker_at++ % 2;
        if (ends[i] > 0) close(ends[i]);
        ends[i] = fds[0];
        end_procs[i] = m.proc;
        pool_forked(ray, p, (int)next_pid++);
    }
}

/* The ends of workers that were killed. */
static void reap(void) {
    uint32_t pids[64], n = 0, at = 0;
    struct proc *p;

    while (n < 64 && (p = table_next(&ray->procs, &at, NULL)))
        if (p->role == PROC_WORKER && p->state == PROC_DOOMED && p->pid) pids[n++] = p->pid;
    while (n > 0) death_of_pid(ray, (pid_t)pids[--n], SIGKILL, 0);
}

/* Its socket may be full for a while: of what it says of each of many that died at once. */
static void honest_says(const void *frame, size_t len) {
    ssize_t n = -1;

    for (int i = 0; i < 10000 && n < 0; i++) {
        n = send(ends[HONEST], frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) abort(); /* it was cut off */
        if (n < 0) turn();
    }
    if (n != (ssize_t)len) abort(); /* nobody reads it */
}

static void honest_returns(const struct wire_extent *got) {
    struct wire_extent_return m = {.head = {.size = sizeof m, .kind = WIRE_EXTENT_RETURN,
                                            .fixed = sizeof m}, .offset = got->offset};

    if (got->status == 0) honest_says(&m, sizeof m);
}

/* What the honest driver reads: it lets go of dead processes' bytes. True: extent `call` came. */
static bool honest_reads(uint32_t call) {
    bool came = false;
    ssize_t n = recv(ends[HONEST], (uint8_t *)honest_in + honest_len,
                     sizeof honest_in - honest_len, MSG_DONTWAIT);

    if (n == 0) abort(); /* it was cut off */
    if (n > 0) honest_len += (size_t)n;
    while (honest_len >= sizeof(struct wire_head)) {
        struct wire_head *head = (struct wire_head *)honest_in;
        struct wire_extents_done m = {.head = {.size = sizeof m, .kind = WIRE_EXTENTS_DONE,
                                               .fixed = sizeof m}};
        uint32_t size = head->size;

        if (size > sizeof honest_in) abort();
        if (size > honest_len) break;
        if (wire_check(honest_in, size) < 0) abort();
        if (head->kind == WIRE_PROC_DIED) {
            m.proc = ((struct wire_proc_died *)(void *)honest_in)->proc;
            honest_says(&m, sizeof m);
        }
        if (head->kind == WIRE_EXTENT) honest_returns((void *)honest_in);
        came = came || (head->kind == WIRE_EXTENT && head->call == call);
        honest_len -= size;
        memmove(honest_in, (uint8_t *)honest_in + size, honest_len);
    }
    return came;
}

static int clear(const char *path, const struct stat *s, int kind, struct FTW *at) {
    (void)s, (void)kind, (void)at;
    return remove(path);
}

static void tear_down(void) {
    for (int i = 0; i < 200 || (spill_is_busy(ray) && i < 5000); i++) { /* told to whom it may */
        loop_timer_start(no_sleep, 1, 0);
        loop_run_once(ray->loop, 1);
    }
    spill_stop(ray);
    (void)nftw(ray->set.run_dir, clear, 16, FTW_DEPTH | FTW_PHYS);
    ray->net = net_free(ray->net);
    gcsd = gcsd_free(gcsd);
}

static void punch(void *arg, struct extent_span span) {
    (void)arg;
    if (fallocate(ray->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)span.offset,
                  (off_t)span.bytes) < 0)
        abort();
}

static void set_up_store(void) {
    struct extents_env env = {.punch = punch, .gone = spill_gone, .arg = ray};
    struct skate_error err = {""};
    uint64_t all = SPAN + residency_bytes(SPAN);

    snprintf(ray->set.run_dir, sizeof ray->set.run_dir, "/tmp/fuzz-raylet-XXXXXX");
    if (!mkdtemp(ray->set.run_dir)) abort();
    ray->set.spill = strdup(ray->set.run_dir);
    ray->set.spill_threshold = 0.5;
    ray->set.store_wait_s = 0.002;
    ray->set.arena_bytes = ARENA;
    ray->span = SPAN;
    ray->arena_fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (ftruncate(ray->arena_fd, (off_t)all) < 0) abort();
    ray->arena = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED, ray->arena_fd, 0);
    ray->residency = ray->arena + SPAN;
    ray->extents = extents_new(SPAN, ARENA, &env);
    if (!ray->extents || spill_start(ray, &err) < 0) abort();
}

static void set_up(void) {
    static struct gcsd_settings gs = {.listen_ip = "127.0.0.1"};
    struct gcsd_opts go = {.settings = &gs, .heartbeat_ms = 1u << 30};
    struct skate_error err = {""};
    int pair[2];

    signal(SIGPIPE, SIG_IGN);
    ray = calloc(1, sizeof *ray);
    memset(gs.key, 3, sizeof gs.key);
    if (!ray || loop_new(&ray->loop) < 0) abort();
    go.loop = ray->loop;
    if (gcsd_new(&go, &gcsd, &err) < 0) abort();
    memset(ray->set.key, 3, sizeof ray->set.key);
    snprintf(ray->set.gcs_ip, sizeof ray->set.gcs_ip, "127.0.0.1");
    snprintf(ray->set.node_ip, sizeof ray->set.node_ip, "127.0.0.1");
    ray->set.gcs_port = gcsd_port(gcsd);
    ray->next_number = 1;
    ray->reclaim_ms = 10;
    if (resources_set(&ray->set.resources, "CPU", 20000) < 0) abort();
    set_up_store();
    if (groups_new(ray) < 0) abort();
    ray->leases = leases_new(1000);
    loop_task_init(&ray->sched_task, grants_run, ray);
    if (loop_timer_new(ray->loop, grants_reclaim_tick, ray, &ray->reclaim_timer) < 0 ||
        loop_timer_new(ray->loop, on_time, NULL, &no_sleep) < 0 || pulls_start(ray) < 0 ||
        links_start(ray, &err) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        stream_new(ray->loop, pair[0], &zygote_side, ray, &ray->zygote) < 0)
        abort();
    zygote_fd = pair[1];
    for (int i = 0; i < 10000 && !ray->node; i++) loop_run_once(ray->loop, 10);
    if (!ray->node) abort();
    be_driver(HONEST);
    (void)atexit(tear_down);
}

static void give(uint32_t i, const void *bytes, size_t len, struct fuzz_in *in) {
    static uint8_t waste[1 << 16];
    size_t first = fuzz_below(in, 8) ? len : len / 2;

    if (ends[i] <= 0) return;
    for (int k = 0; k < 8 && recv(ends[i], waste, sizeof waste, MSG_DONTWAIT) > 0; k++) {}
    if (send(ends[i], bytes, first, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && i < 2) be_driver(i);
    if (first == len) return;
    turn();
    (void)send(ends[i], (const uint8_t *)bytes + first, len - first, MSG_DONTWAIT | MSG_NOSIGNAL);
}

struct pick {
    uint32_t left;
    uint64_t offset;
};

static bool picked(void *arg, const struct extent_info *info) {
    struct pick *p = arg;

    p->offset = info->offset;
    return p->left-- > 0;
}

/* What is being written or read is, and then leaves. */
static void all_leave(void) {
    for (int i = 0; i < 20 && (spill_is_busy(ray) || i == 0); i++) {
        loop_timer_start(no_sleep, 1, 0);
        loop_run_once(ray->loop, 1);
    }
    (void)spill_evict(ray, UINT64_MAX);
}

/* A true word about the store: process `i` borrows or offers an extent, or wants to read one. */
static void give_true(uint32_t i, struct fuzz_in *in) {
    struct pick p = {fuzz_below(in, 4), 0};
    struct wire_extent_req ask = {.head = {.size = sizeof ask, .kind = WIRE_EXTENT_REQ,
                                           .fixed = sizeof ask},
                                  .bytes = 1 + fuzz_below(in, 64) * UINT64_C(9999)};
    struct wire_restore m = {.head = {.size = sizeof m, .kind = WIRE_RESTORE, .fixed = sizeof m}};
    struct wire_buf b;

    if (fuzz_below(in, 4) == 0) {
        give(i, &ask, sizeof ask, in);
        return;
    }
    extents_each(ray->extents, end_procs[fuzz_below(in, 2)], picked, &p);
    m.offset = p.offset;
    m.bytes = fuzz_below(in, 4) ? 1 + fuzz_below(in, 4096) : fuzz_word(in);
    if (fuzz_below(in, 2)) {
        give(i, &m, sizeof m, in);
        return;
    }
    extents_each(ray->extents, end_procs[i], picked, &p);
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_SPILL_OFFER);
    WIRE_PUT(&b, spill_offer, offsets, &p.offset, sizeof p.offset);
    if (wire_end(&b) == 0) give(i, b.p, b.len, in);
    wire_release(&b);
}

static void give_frame(struct fuzz_in *in) {
    static const uint16_t often[] = {
        WIRE_LEASE_REQ,   WIRE_LEASE_RETURN, WIRE_LEASE_CANCEL,  WIRE_EXTENT_REQ,
        WIRE_CONNECT,     WIRE_EXTENT_RETURN, WIRE_PULL,         WIRE_UNPULL,
        WIRE_ROUTE,       WIRE_ROUTE,        WIRE_WORKER_BLOCKED, WIRE_WORKER_UNBLOCKED,
        WIRE_EXTENTS_DONE, WIRE_JOB_START,   WIRE_ACTOR_CREATE,  WIRE_BYE,
        WIRE_KEEP_REQ,    WIRE_WORKER_STAYS, WIRE_LEASE_HEIR,    WIRE_WHY_REQ,
        WIRE_STATE_REQ,   WIRE_GROUP_ROOM,   WIRE_GROUP_CREATE,  WIRE_GROUP_REMOVE,
        WIRE_STORE_STATS_REQ, WIRE_ROOM,     WIRE_RESTORE,       WIRE_RESTORE,
        WIRE_SPILL_OFFER, WIRE_SPILL_OFFER, WIRE_EXTENT_REQ};
    uint32_t i = fuzz_below(in, ENDS), kind = fuzz_kind(in);
    struct wire_buf b, r;
    bool to_gcs;

    if (fuzz_below(in, 4)) kind = often[fuzz_below(in, sizeof often / sizeof *often)];
    wire_init(&b, NULL, 0);
    wire_init(&r, NULL, 0);
    fuzz_frame(in, kind, 2, &b);
    if (kind == WIRE_LEASE_REQ && fuzz_below(in, 4) && b.len >= sizeof(struct wire_lease_req)) {
        struct wire_lease_req *m = (void *)b.p;

        m->owner = end_procs[i];
        m->job = 1;
    }
    to_gcs = kind >= WIRE_JOB_START && (kind < WIRE_ADOPT || fuzz_below(in, 3) == 0);
    if (to_gcs || fuzz_below(in, 4) == 0) { /* to the GCS, a process, ourselves */
        struct wire_route *m = wire_begin(&r, WIRE_ROUTE);

        m->dst = to_gcs ? 0 : fuzz_word(in);
        m->src = fuzz_below(in, 8) ? end_procs[i] : fuzz_word(in);
        WIRE_PUT(&r, route, frame, b.p, b.len);
        if (wire_end(&r) == 0) give(i, r.p, r.len, in);
    } else
        give(i, b.p, b.len, in);
    wire_release(&b);
    wire_release(&r);
}

static uint32_t job_of(uint32_t i) {
    const struct proc *p = proc_find(ray, end_procs[i]);

    return p ? p->job : 0;
}

static void say_to_gcs(uint32_t i, struct wire_buf *b) {
    struct wire_route *m;
    struct wire_buf r;

    wire_init(&r, NULL, 0);
    m = wire_begin(&r, WIRE_ROUTE);
    m->src = end_procs[i];
    if (wire_end(b) < 0) abort();
    WIRE_PUT(&r, route, frame, b->p, b->len);
    if (wire_end(&r) == 0 && ends[i] > 0)
        (void)send(ends[i], r.p, r.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    wire_release(&r);
}

/* A driver begins, and its first workers come. */
static void true_job(uint32_t i) {
    struct wire_job_start *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_START);
    m->driver = end_procs[i];
    m->head.call = 1;
    say_to_gcs(i, &b);
    wire_release(&b);
    for (int k = 0; k < 100 && !job_of(i); k++) turn();
    be_zygote(false);
}

static struct skate_id one_of(struct fuzz_in *in, uint64_t kind) {
    return (struct skate_id){end_procs[0], kind + fuzz_below(in, 4)};
}

static void true_group(uint32_t i, struct fuzz_in *in) {
    struct wire_group_create *m;
    uint8_t room[4096];
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_CREATE);
    m->group = one_of(in, 100);
    m->creator = end_procs[i];
    m->job = job_of(i);
    m->strategy = fuzz_below(in, 4);
    WIRE_PUT(&b, group_create, bundles, room, fuzz_bundles(in, room, sizeof room));
    say_to_gcs(i, &b);
    wire_release(&b);
}

static void true_actor(uint32_t i, struct fuzz_in *in) {
    struct wire_actor_create *m;
    struct resources want = {0};
    uint8_t room[400];
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_CREATE);
    m->actor = one_of(in, 200);
    m->owner = end_procs[i];
    m->job = job_of(i);
    m->flags = fuzz_below(in, 4);
    m->max_restarts = (int32_t)fuzz_below(in, 3) - 1;
    if (fuzz_below(in, 4) == 1) m->group = one_of(in, 100);
    m->bundle = (int32_t)fuzz_below(in, 3) - 1;
    if (fuzz_below(in, 2) && resources_set(&want, "CPU", 10000) < 0) abort();
    WIRE_PUT(&b, actor_create, held, room, resources_pack(&want, room, sizeof room));
    WIRE_PUT(&b, actor_create, placing, room, resources_pack(&want, room, sizeof room));
    say_to_gcs(i, &b);
    wire_release(&b);
}

/* The worker at an end says that it has become an actor. */
static void true_ready(uint32_t i, struct fuzz_in *in) {
    struct wire_actor_ready *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_READY);
    m->actor = one_of(in, 200);
    m->proc = end_procs[i];
    m->incarnation = 1 + fuzz_below(in, 3);
    m->status = fuzz_below(in, 4) ? 0 : -1;
    say_to_gcs(i, &b);
    wire_release(&b);
}

static void true_lease(uint32_t i, struct fuzz_in *in) {
    struct wire_lease_req *m;
    struct resources want = {0};
    uint8_t room[400];
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_LEASE_REQ);
    m->req = fuzz_below(in, 4);
    m->owner = end_procs[i];
    m->job = job_of(i);
    m->count = fuzz_below(in, 4);
    if (fuzz_below(in, 4) == 1) m->group = one_of(in, 100);
    m->bundle = (int32_t)fuzz_below(in, 3) - 1;
    if (fuzz_below(in, 2) && resources_set(&want, "CPU", 10000) < 0) abort();
    WIRE_PUT(&b, lease_req, resources, room, resources_pack(&want, room, sizeof room));
    if (wire_end(&b) < 0) abort();
    give(i, b.p, b.len, in);
    wire_release(&b);
}

/* What honest processes would do: so that there is a state to attack. */
static void true_work(struct fuzz_in *in) {
    uint32_t i = fuzz_below(in, 2);

    if (!job_of(i)) true_job(i);
    switch (fuzz_below(in, 4)) {
    case 0: true_group(i, in); break;
    case 1: true_actor(i, in); break;
    case 2: true_ready(2 + i, in); break;
    default: true_lease(i, in); break;
    }
    for (int k = 0; k < 4; k++) turn();
    be_zygote(fuzz_below(in, 16) == 1);
}

/* What ends a raylet when the GCS says it: by design, or so that it starts anew. */
static bool is_an_end(const struct wire_buf *b) {
    const struct wire_node_info *m = (const void *)b->p;

    switch (m->head.kind) {
    case WIRE_NODE_WELCOME:
    case WIRE_CONVICTED:
    case WIRE_STOP: return true;
    case WIRE_NODE_INFO: return m->node == ray->node;
    default: return false;
    }
}

/* A frame of a GCS that is mistaken. */
static void gcs_says(struct fuzz_in *in) {
    static const uint16_t often[] = {
        WIRE_JOB_INFO,     WIRE_JOB_END,      WIRE_ACTOR_START, WIRE_WORKER_KILL,
        WIRE_PROC_DIED,    WIRE_DEMAND_PLACE, WIRE_GROUP_INFO,  WIRE_GROUP_RESERVE,
        WIRE_GROUP_RELEASE, WIRE_NODE_INFO,   WIRE_NODE_DOUBT,  WIRE_NODE_SYNCED,
        WIRE_LANE_GOT,     WIRE_ROUTE,        WIRE_ACTOR_START, WIRE_GROUP_INFO};
    uint32_t kind = often[fuzz_below(in, sizeof often / sizeof *often)];
    char gcs[24];
    struct wire_buf b;

    snprintf(gcs, sizeof gcs, "127.0.0.1:%u", gcsd_port(gcsd));
    wire_init(&b, NULL, 0);
    fuzz_frame(in, kind, 1, &b);
    if (kind == WIRE_ACTOR_START && fuzz_below(in, 4)) {
        struct wire_actor_start *m = (void *)b.p;

        m->actor = one_of(in, 200);
        m->job = job_of(fuzz_below(in, 2));
    }
    if (kind >= WIRE_GROUP_INFO && kind <= WIRE_GROUP_RELEASE && fuzz_below(in, 4)) {
        struct wire_group_info *info = (void *)b.p;
        struct wire_group_release *m = (void *)b.p; /* the group is the first of each */

        m->group = one_of(in, 100);
        *(kind == WIRE_GROUP_INFO ? &info->epoch : &m->epoch) = fuzz_below(in, 4);
    }
    for (struct conn *c = ray->net->conns; c && wire_check(b.p, b.len) == 0; c = c->next)
        if (!c->accepted && strcmp(c->peer, gcs) == 0 && !is_an_end(&b)) {
            c->events->on_frame(c->arg, c, b.p, b.len);
            break;
        }
    wire_release(&b);
}

static void one_step(struct fuzz_in *in) {
    switch (fuzz_below(in, 28)) {
    case 0: be_zygote(fuzz_below(in, 8) == 1); break;
    case 1: reap(); break;
    case 2: {
        uint32_t i = fuzz_below(in, ENDS), n = fuzz_below(in, 64);

        if (n > in->left) n = (uint32_t)in->left;
        if (n) give(i, in->p, n, in);
        break;
    }
    case 3:
        if (fuzz_below(in, 4) == 0) be_driver(fuzz_below(in, 2));
        break;
    case 4: links_beat(ray); break;
    case 5: proc_beat(ray); break;
    case 9:
    case 10:
    case 11:
    case 12:
    case 13: give_true(fuzz_below(in, 2), in); break;
    case 14:
    case 15: true_work(in); break;
    case 16: gcs_says(in); break;
    case 6:
        grants_reclaim_tick(ray);
        (void)spill_evict(ray, fuzz_below(in, 8) * GRANULE_BYTES);
        break;
    case 7: all_leave(); break;
    case 8: turn(); break;
    default: give_frame(in);
    }
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct wire_extent_req ask = {.head = {.size = sizeof ask, .kind = WIRE_EXTENT_REQ,
                                           .fixed = sizeof ask}, .bytes = 1};
    uint64_t pool[12];
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 12};
    bool came = false;

    if (!ray) set_up();
    be_driver(0);
    be_driver(1);
    for (uint32_t i = 0; i <= ENDS; i++) pool[i] = end_procs[i];
    pool[5] = ray->self;
    pool[6] = 1;
    pool[7] = GRANULE_BYTES; /* where the first pieces begin */
    pool[8] = 2 * GRANULE_BYTES;
    pool[9] = proc_make(2, 0);
    pool[10] = proc_make(2, 1);
    pool[11] = 10000;
    while (in.left) one_step(&in);
    ask.head.call = ++asked;
    honest_says(&ask, sizeof ask);
    for (int i = 0; i < 1000 && !came; i++) {
        turn();
        came = honest_reads(asked);
    }
    if (!came || !extents_is_valid(ray->extents)) abort();
    for (uint32_t i = 0; i < ENDS; i++) {
        if (ends[i] > 0) close(ends[i]);
        ends[i] = 0;
    }
    for (int i = 0; i < 4; i++) {
        turn();
        be_zygote(true);
        reap();
        (void)honest_reads(0);
    }
    return 0;
}
