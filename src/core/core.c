/* core.c - a process joins its node and leaves it; calls to daemons; counters. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"
#include "core/member.h"
#include "core/restore.h"
#include "core/report.h"
#include "core/sites.h"

static void list_init(struct frame_list *l) { l->tail = &l->head; }

/* A table that takes memory where it is written to; NULL: none. */
static void *table(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static struct core *core_new(int fd) {
    struct core *c = calloc(1, sizeof *c);
    pthread_condattr_t attr;

    if (!c) return NULL;
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_mutex_init(&c->drop_lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&c->cond, &attr);
    (void)pthread_cond_init(&c->event_cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    c->sock = fd;
    c->arena_fd = -1;
    c->pid = getpid();
    c->spin = 100;
    c->spin_most = SPIN_FULL;
    c->spin_retry = 8;
    c->function_last = MAP_NONE;
    c->task_free = c->failing = c->lineage.redo = c->lineage.head = c->lineage.tail = NONE;
    c->lineage.max = LINEAGE_BYTES;
    c->later.retries = -1;
    c->later.pause_ms = 1000;
    list_init(&c->deferred);
    list_init(&c->replies);
    list_init(&c->events);
    c->run_tail = &c->run_head;
    c->object_v = table(LEDGER_OBJECTS * sizeof *c->object_v);
    c->more_v = table(LEDGER_OBJECTS * sizeof *c->more_v);
    if (c->object_v && c->more_v) return c;
    if (c->object_v) (void)munmap(c->object_v, LEDGER_OBJECTS * sizeof *c->object_v);
    if (c->more_v) (void)munmap(c->more_v, LEDGER_OBJECTS * sizeof *c->more_v);
    free(c);
    return NULL;
}

static int lend(void *arg, uint64_t bytes, uint64_t *ret_offset, uint64_t *ret_bytes,
                struct skate_error *err) {
    struct core *c = arg;
    struct wire_extent_req m = {
        .head = {.size = sizeof m, .kind = WIRE_EXTENT_REQ, .fixed = sizeof m}, .bytes = bytes};
    struct frame_node *n = NULL;
    const struct wire_extent *e;
    uint32_t len;
    int r;

    restore_wants(0);
    if (c->room.bytes >= bytes) { /* it was waited for */
        *ret_offset = c->room.offset;
        *ret_bytes = c->room.bytes;
        c->room.bytes = 0;
        return 0;
    }
    r = sock_call(c, &m, sizeof m, &n);

    if (r < 0) return err_fail(err, r, "%s", c->death.text);
    e = (const void *)n->data;
    if (e->head.kind != WIRE_EXTENT)
        r = -SKATE_EPROTO;
    else if (e->status < 0) {
        const char *reason = wire_extent_reason(e, &len);

        r = err_fail(err, -SKATE_EFULL, "%.*s", (int)len, reason);
        restore_wants(e->status == -SKATE_EFULL ? bytes : 0);
    } else if (e->bytes < bytes || e->offset > c->info.arena_bytes ||
               e->bytes > c->info.arena_bytes - e->offset)
        r = -SKATE_EPROTO;
    else {
        *ret_offset = e->offset;
        *ret_bytes = e->bytes;
        if (e->head.nfds == 1) c->file_fd = n->fds[0];
    }
    if (e->head.nfds == 1 && r < 0) (void)close(n->fds[0]);
    free(n);
    return r;
}

static void give_back(void *arg, uint64_t offset) {
    struct wire_extent_return m = {
        .head = {.size = sizeof m, .kind = WIRE_EXTENT_RETURN, .fixed = sizeof m},
        .offset = offset};

    (void)sock_send(arg, &m, sizeof m);
}

void core_give_back(struct core *c, uint64_t offset) { give_back(c, offset); }

static void copy_text(char *out, size_t cap, const char *text, uint32_t len) {
    if (len >= cap) len = (uint32_t)cap - 1;
    memcpy(out, text, len);
    out[len] = 0;
}

static int map_shared(struct core *c, const int *fds) {
    struct heap_env env = {.lend = lend, .give_back = give_back, .arg = c, .arena_fd = fds[0],
                           .file_fd = &c->file_fd,
                           .spare_max = (c->info.store_bytes ? c->info.store_bytes
                                                             : c->info.arena_bytes) / 4};
    uint64_t span = c->info.arena_bytes, behind = c->info.store_bytes ? pins_bytes(span) : 0;

    c->arena_mapped = span + (behind ? residency_bytes(span) : 0);
    c->ledger_mapped = LEDGER_BYTES + behind;
    c->arena_fd = fds[0];
    c->file_fd = -1;
    c->arena = mmap(NULL, c->arena_mapped, PROT_READ, MAP_SHARED | MAP_NORESERVE, fds[0], 0);
    c->ledger_map = mmap(NULL, c->ledger_mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                         fds[1], 0);
    c->bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[2], 0);
    (void)close(fds[1]);
    (void)close(fds[2]);
    if (c->arena == MAP_FAILED) c->arena = NULL;
    if (c->ledger_map == MAP_FAILED) c->ledger_map = NULL;
    if (c->bell == MAP_FAILED) c->bell = NULL;
    if (!c->arena || !c->ledger_map || !c->bell) return -SKATE_ENOMEM;
    (void)madvise(c->ledger_map, c->ledger_mapped, MADV_DONTFORK);
    (void)madvise(c->bell, 4096, MADV_DONTFORK);
    if (behind) {
        c->residency = c->arena + span;
        c->lineage.far = true; /* what is spilled may be lost with its file */
        c->pins_v = (uint32_t *)(void *)((uint8_t *)c->ledger_map + LEDGER_BYTES);
    }
    ledger_init(&c->ledger, c->ledger_map, c->info.proc);
    index_init(&c->objects, &c->ledger.slots[0].id, sizeof *c->ledger.slots);
    trace_init(&c->trace, (uint8_t *)c->ledger_map + LEDGER_TRACE_OFFSET, c->info.proc);
    return heap_new(&env, &c->heap);
}

/* The raylet's first frame: who we are, and the memory we share. */
static int take_welcome(struct core *c, const struct frame_node *n, bool driver,
                        struct skate_error *err) {
    const struct wire_welcome *m = (const void *)n->data;
    struct core_info *i = &c->info;
    uint32_t len;
    const void *p;

    if (m->head.kind != WIRE_WELCOME || m->head.nfds != 3)
        return err_fail(err, -SKATE_EPROTO, "the raylet did not say welcome");
    if (m->version != WIRE_VERSION)
        return err_fail(err, -SKATE_EVERSION, "the raylet speaks version %u, this is %u",
                          m->version, WIRE_VERSION);
    i->proc = m->proc;
    i->driver = driver ? m->proc : m->driver;
    i->job = m->job;
    i->is_driver = driver;
    i->arena_bytes = m->arena_bytes;
    i->store_bytes = m->store_bytes;
    i->node_id = m->node_id;
    p = wire_welcome_node_ip(m, &len);
    copy_text(i->node_ip, sizeof i->node_ip, p, len);
    p = wire_welcome_session_dir(m, &len);
    copy_text(i->session_dir, sizeof i->session_dir, p, len);
    p = wire_welcome_gcs_address(m, &len);
    copy_text(i->gcs_address, sizeof i->gcs_address, p, len);
    p = wire_welcome_config(m, &len);
    c->config = malloc(len + 1);
    if (!c->config) return -SKATE_ENOMEM;
    memcpy(c->config, p, len);
    i->config = c->config;
    i->config_len = len;
    p = wire_welcome_env(m, &len);
    i->env = c->env = malloc(len + 1);
    if (!c->env) return -SKATE_ENOMEM;
    memcpy(c->env, p, len);
    i->env_len = len;
    return map_shared(c, n->fds);
}

static int join(struct core *c, bool driver, int64_t timeout_ns, struct skate_error *err) {
    struct frame_node *n = NULL;
    int r = sock_receive_one(c, timeout_ns, &n);

    if (r < 0) return err_fail(err, r, "the raylet did not answer: %s", skate_strerror(r));
    r = take_welcome(c, n, driver, err);
    free(n);
    if (r < 0) return r;
    bell_set(c->bell, 0); /* what came behind the welcome */
    return core_thread_start(c);
}

int core_connect(const char *socket_path, int64_t timeout_ns, struct core **ret,
                 struct skate_error *err) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct wire_hello hello = {
        .head = {.size = sizeof hello, .kind = WIRE_HELLO, .fixed = sizeof hello},
        .version = WIRE_VERSION, .pid = (uint32_t)getpid()};
    struct core *c;
    int fd, r;

    if (strlen(socket_path) >= sizeof addr.sun_path)
        return err_fail(err, -SKATE_EINVAL, "socket path too long: %s", socket_path);
    memcpy(addr.sun_path, socket_path, strlen(socket_path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -SKATE_ESYS;
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        r = err_fail(err, -SKATE_EDEAD, "cannot connect to the raylet at %s: %s", socket_path,
                       strerror(errno));
        (void)close(fd);
        return r;
    }
    c = core_new(fd);
    if (!c) return (void)close(fd), -SKATE_ENOMEM;
    r = sock_send(c, &hello, sizeof hello);
    if (r == 0) r = join(c, true, timeout_ns, err);
    if (r < 0) {
        core_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

int core_attach(int fd, struct core **ret, struct skate_error *err) {
    struct core *c;
    int r;

    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    c = core_new(fd);
    if (!c) return -SKATE_ENOMEM;
    r = join(c, false, INT64_C(30000000000), err);
    if (r < 0) {
        core_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

const struct core_info *core_get_info(const struct core *c) { return &c->info; }

void core_set_job(struct core *c, uint32_t job) { c->info.job = job; }

void core_join_job(struct core *c, uint32_t job, uint64_t driver) {
    c->info.job = job;
    c->info.driver = driver;
}

void core_forked(struct core *c) {
    if (!c || c->forked) return;
    c->forked = true;
    (void)close(c->sock);
}

bool core_alive(struct core *c, struct skate_error *ret_reason) {
    bool alive;

    if (core_enter(c) < 0) {
        (void)err_fail(ret_reason, 0, "the runtime is shut down");
        return false;
    }
    alive = !c->dead;
    if (!alive && ret_reason) *ret_reason = c->death;
    core_leave(c);
    return alive;
}

void core_interrupt(struct core *c) {
    if (c->forked) return;
    (void)pthread_mutex_lock(&c->lock);
    c->stop = true;
    (void)pthread_cond_broadcast(&c->cond);
    (void)pthread_cond_broadcast(&c->event_cond);
    groups_wake(c);
    watches_end(c);
    if (c->bell) {
        (void)at_add_seq(&c->bell->leader_bell, 1);
        (void)at_add_seq(&c->bell->core_bell, 1);
        futex_wake(&c->bell->leader_bell, 100);
        futex_wake(&c->bell->core_bell, 100);
    }
    (void)pthread_mutex_unlock(&c->lock);
}

static void tables_release(struct core *c) {
    for (uint32_t i = 0; i < c->actor_count; i++) actor_free(c->actor_v[i]);
    for (uint32_t i = 0; i < c->class_count; i++) {
        for (uint32_t j = 0; j < c->classes[i].worker_count; j++) free(c->classes[i].workers[j]);
        free(c->classes[i].workers);
        free((void *)(uintptr_t)c->classes[i].opts.resources);
        free((void *)(uintptr_t)c->classes[i].opts.name);
        free((void *)(uintptr_t)c->classes[i].opts.env);
        free((void *)(uintptr_t)c->classes[i].opts.labels);
    }
    for (uint32_t i = 0; i < c->function_count; i++) free(c->function_v[i].frame);
    for (uint32_t i = 0; i < c->task_count; i++) free(c->task_v[i].holds);
    for (uint64_t i = 0; c->ledger_map && i < c->ledger.header->slots_used; i++) {
        struct object *o = &c->object_v[i];

        while (o->borrowers) {
            struct borrower *b = o->borrowers;

            o->borrowers = b->next;
            free(b);
        }
        while (o->dependents) {
            struct dependent *d = o->dependents;

            o->dependents = d->next;
            free(d);
        }
    }
    streams_release(c);
    estates_free(c);
    free(c->actor_v);
    free(c->classes);
    free(c->function_v);
    free(c->task_v);
}

/* False: there is nothing to be done. */
static bool end(struct core *c) {
    struct map *maps[] = {&c->tasks, &c->workers, &c->actors, &c->functions,
                          &c->heritage.estates};

    if (!c || c->forked) return false; /* a forked child leaves all to its parent */
    core_interrupt(c);
    if (c->thread_on) (void)pthread_join(c->thread, NULL);
    tables_release(c);
    groups_release(c);
    runs_free(c);
    watches_release(c);
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) map_release(maps[i]);
    index_release(&c->objects);
    links_release(c);
    sweep_release(c);
    free(c->later.v);
    frames_release(&c->deferred);
    frames_release(&c->replies);
    frames_release(&c->events);
    restore_release(c);
    heap_free_all(c->heap);
    ledger_release(&c->ledger);
    if (c->ledger_map) (void)munmap(c->ledger_map, c->ledger_mapped);
    if (c->bell) (void)munmap(c->bell, 4096);
    (void)munmap(c->object_v, LEDGER_OBJECTS * sizeof *c->object_v);
    (void)munmap(c->more_v, LEDGER_OBJECTS * sizeof *c->more_v);
    /* The read-only arena stays mapped: views of it may still be in the caller's hands. */
    if (c->arena_fd >= 0) (void)close(c->arena_fd);
    for (uint32_t i = 0; i < c->in_fd_count; i++) (void)close(c->in_fds[i]);
    (void)close(c->sock);
    free(c->in);
    free(c->drops);
    free(c->cancels);
    free(c->unpins);
    free(c->config);
    free(c->why);
    sites_release(c);
    free(c->ages);
    free(c->env);
    c->stop = c->forked = true;
    return true;
}

static struct core *closed;

void core_close(struct core *c) {
    if (!end(c)) return;
    c->closed_next = closed; /* late destructors must find it: kept, a few KB a session */
    closed = c;
}

void core_free(struct core *c) {
    if (!end(c)) return;
    if (c->arena) (void)munmap(c->arena, c->arena_mapped);
    (void)pthread_cond_destroy(&c->cond);
    (void)pthread_cond_destroy(&c->event_cond);
    (void)pthread_mutex_destroy(&c->lock);
    (void)pthread_mutex_destroy(&c->drop_lock);
    free(c);
}

/* ---- calls ---- */

struct awaited {
    uint32_t call;
    struct frame_node *reply;
};

struct frame_node *reply_take(struct core *c, uint32_t call) {
    for (struct frame_node **at = &c->replies.head; *at; at = &(*at)->next) {
        struct frame_node *n = *at;

        if (wire_head(n->data)->call != call) continue;
        *at = n->next;
        if (!n->next) c->replies.tail = at;
        c->replies.count--;
        return n;
    }
    return NULL;
}

static bool have_reply(struct core *c, void *arg) {
    struct awaited *w = arg;

    if (!w->reply) w->reply = reply_take(c, w->call);
    return w->reply != NULL;
}

int core_call(struct core *c, uint64_t dst, const void *frame, uint32_t len, int64_t timeout_ns,
              void **ret, uint32_t *ret_len) {
    struct frame_node *copy = frame_keep(0, frame, len);
    int64_t now = time_now_ns(), deadline = INT64_MAX;
    struct awaited w = {0};
    int r = copy ? core_enter(c) : -SKATE_ENOMEM;

    if (r < 0) return free(copy), r;
    if (timeout_ns >= 0 && timeout_ns < INT64_MAX - now) deadline = now + timeout_ns;
    w.call = ++c->next_call;
    ((struct wire_head *)(void *)copy->data)->call = w.call;
    c->calls_open++;
    if (wire_head(frame)->kind == WIRE_STATE_REQ ||
        wire_head(frame)->kind == WIRE_STORE_STATS_REQ ||
        wire_head(frame)->kind == WIRE_MEMORY_REQ) /* seldom: no channel for it */
        r = proc_route(c, dst, copy->data, len);
    else
        r = proc_send(c, dst, copy->data, len, BELL_URGENT);
    while (r >= 0) {
        r = pump_until(c, have_reply, &w, deadline, false);
        if (r != -SKATE_EINTR) break;
        r = 0; /* short calls are not interrupted: half an actor creation helps nobody */
    }
    c->calls_open--;
    core_leave(c);
    free(copy);
    if (r < 0) return free(w.reply), r;
    *ret_len = w.reply->len;
    *ret = malloc(w.reply->len);
    if (*ret) memcpy(*ret, w.reply->data, w.reply->len);
    free(w.reply);
    return *ret ? 0 : -SKATE_ENOMEM;
}

int core_send(struct core *c, uint64_t dst, const void *frame, uint32_t len) {
    int r = core_enter(c);

    if (r < 0) return r;
    r = proc_send(c, dst, frame, len, BELL_URGENT);
    core_leave(c);
    return r;
}

int core_event(struct core *c, int64_t timeout_ns, void **ret, uint32_t *ret_len) {
    int64_t deadline = time_now_ns() + timeout_ns;
    struct frame_node *n;
    int r = core_enter(c);

    if (r < 0) return r;
    while (!(n = frame_pop(&c->events))) {
        struct timespec ts = {deadline / 1000000000, deadline % 1000000000};

        if (c->stop) r = -SKATE_ESHUTDOWN;
        if (c->dead) r = -SKATE_EDEAD;
        if (c->event_woken) break;
        if (r < 0 || pthread_cond_timedwait(&c->event_cond, &c->lock, &ts) == ETIMEDOUT) break;
    }
    c->event_woken = false;
    if (n) c->event_bytes -= n->len;
    core_leave(c);
    if (!n) return r < 0 ? r : -SKATE_ETIMEOUT;
    *ret_len = n->len;
    *ret = malloc(n->len);
    if (*ret) memcpy(*ret, n->data, n->len);
    free(n);
    return *ret ? 0 : -SKATE_ENOMEM;
}

void core_event_wake(struct core *c) {
    if (core_enter(c) < 0) return;
    c->event_woken = true;
    (void)pthread_cond_broadcast(&c->event_cond);
    core_leave(c);
}

void core_get_stats(struct core *c, struct core_stats *ret) {
    memset(ret, 0, sizeof *ret);
    if (core_enter(c) < 0) return;
    objects_apply_drops(c);
    ret->objects = c->objects.count;
    ret->tasks_pending = c->tasks_live;
    ret->leases = c->workers.count;
    ret->links = c->link_count;
    ret->actors = c->actor_count;
    ret->pins = c->pins;
    ret->arena_held = heap_held(c->heap);
    core_leave(c);
}
