/* pump.c - the input of a process: who reads it, who sleeps, who is woken.
 *
 * Whoever waits becomes the leader: it pumps all rings and the socket, spins for a moment, then
 * sleeps on the doorbell's leader word. Other waiting threads sleep on a private condition. The
 * core thread (all signals blocked, no interpreter) pumps only while there is no leader and a
 * frame of a class at or below its level rings. Laws: nothing here calls the interpreter; a sleep
 * lasts at most a second. Memory orders: doorbell.h. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"
#include "core/holdings.h"
#include "core/restore.h"
#include "core/report.h"
#include "core/worker_lease.h"
#include "core/waits.h"

enum { SPIN_LEAST = 20, SPIN_RETRY_FIRST = 8, SPIN_RETRY_MOST = 256 };
#define SLEEP_MOST_NS INT64_C(500000000)
#define FOLLOWER_SLICE_NS INT64_C(100000000)
#define IDLE_TICK_NS INT64_C(50000000)

/* ---- frame lists ---- */

struct frame_node *frame_keep(uint64_t src, const void *frame, uint32_t len) {
    struct frame_node *n = malloc(sizeof *n + ((len + 7u) & ~7u));

    if (!n) return NULL;
    *n = (struct frame_node){.src = src, .len = len};
    memcpy(n->data, frame, len);
    return n;
}

void frame_push(struct frame_list *l, struct frame_node *n) {
    n->next = NULL;
    *l->tail = n;
    l->tail = &n->next;
    l->count++;
}

struct frame_node *frame_pop(struct frame_list *l) {
    struct frame_node *n = l->head;

    if (!n) return NULL;
    l->head = n->next;
    if (!l->head) l->tail = &l->head;
    l->count--;
    return n;
}

void frames_release(struct frame_list *l) {
    struct frame_node *n;

    while ((n = frame_pop(l))) free(n);
}

/* ---- dispatch ---- */

void event_keep(struct core *c, uint64_t src, const void *frame, uint32_t len) {
    struct frame_node *n;

    n = frame_keep(src, frame, len);
    if (!n) return;
    frame_push(&c->events, n);
    c->event_bytes += len;
    while (c->events.count > EVENTS_MAX ||
           (c->event_bytes > EVENT_BYTES_MAX && c->events.count > 1)) { /* the oldest line goes */
        n = frame_pop(&c->events);
        c->event_bytes -= n->len;
        free(n);
    }
    (void)pthread_cond_signal(&c->event_cond);
}

static void on_route(struct core *c, const struct wire_route *m) {
    struct frame_node *n;
    uint32_t len;
    const uint8_t *inner = wire_route_frame(m, &len);

    n = frame_keep(m->src, inner, len);
    if (n && wire_check(n->data, len) == 0 && wire_head(n->data)->kind != WIRE_ROUTE)
        pump_dispatch(c, m->src, n->data, len, NULL, 0, NULL);
    free(n);
}

static void on_reply(struct core *c, uint64_t src, const void *frame, uint32_t len) {
    struct frame_node *n;

    if (wire_head(frame)->kind == WIRE_PULLED) {
        objects_on_pulled(c, frame);
        return;
    }
    if (wire_head(frame)->kind == WIRE_ACTOR_CREATED) actors_on_created(c, frame);
    if (!c->calls_open) return; /* nobody waits for it any more */
    if (c->replies.count > 1000) free(frame_pop(&c->replies));
    n = frame_keep(src, frame, len);
    if (n) frame_push(&c->replies, n);
}

static void on_exit_frame(struct core *c, uint64_t src, const void *frame, uint32_t len) {
    c->exiting = true;
    groups_wake(c);
    event_keep(c, src, frame, len);
}

/* Frames that concern tasks of ours or run here. */
static void dispatch_peer(struct core *c, uint64_t src, const void *frame, uint32_t len,
                          struct link *l, uint32_t sequence) {
    switch (wire_head(frame)->kind) {
    case WIRE_RESULT: tasks_on_result(c, src, l, frame); break;
    case WIRE_TASK: runs_on_task(c, src, l, frame, len, sequence); break;
    case WIRE_LEASE_INFO: lease_on_info(c, frame); break;
    case WIRE_FUNC: functions_on_func(c, src, frame, len); break;
    case WIRE_VALUE_REQ: objects_on_value_req(c, src, frame); break;
    case WIRE_VALUE: objects_on_value(c, frame); break;
    case WIRE_BORROW: objects_on_borrow(c, src, frame); break;
    case WIRE_RELEASE: objects_on_release(c, src, frame); break;
    case WIRE_FREE: objects_on_free(c, frame); break;
    case WIRE_GEN_ITEM: streams_on_item(c, src, frame); break;
    case WIRE_GEN_END: streams_on_end(c, src, frame); break;
    case WIRE_GEN_ACK: yields_on_ack(c, src, frame); break;
    case WIRE_STEAL:
        if (l) runs_on_steal(c, l, ((const struct wire_steal *)frame)->max);
        break;
    case WIRE_RETURNED: leases_on_returned(c, src, frame); break;
    case WIRE_UNBLOCKED: leases_on_unblocked(c, src); break;
    case WIRE_CANCEL: cancel_on_frame(c, src, frame); break;
    case WIRE_VALUE_LOST: lineage_on_value_lost(c, src, frame); break;
    case WIRE_CLAIM: estate_on_claim(c, src, frame); break;
    case WIRE_ORPHANS: orphans_on(c, frame); break;
    case WIRE_ORPHANS_KEPT: estate_on_kept(c, src, frame); break;
    case WIRE_WHY_REQ: why_on_req(c, src, frame); break;
    case WIRE_STATE_REQ: report_on_req(c, src, frame); break;
    case WIRE_MEMORY_REQ: holdings_on_req(c, src, frame); break;
    case WIRE_WHY_TOLD: why_on_told(c, frame); break;
    default: break; /* a kind of a later version: ignoring */
    }
}

void pump_dispatch(struct core *c, uint64_t src, const void *frame, uint32_t len,
                   struct link *link, uint32_t sequence, const int *fds) {
    const struct wire_head *head = wire_head(frame);

    if (head->nfds && head->kind == WIRE_RESTORED && fds && head->nfds == 1)
        restore_on_file(c, frame, fds[0]);
    else if (head->nfds && head->kind != WIRE_CHANNEL)
        for (unsigned i = 0; fds && i < head->nfds; i++) (void)close(fds[i]);
    if (head->kind == WIRE_CHANNEL) {
        if (fds) link_on_channel(c, frame, fds); /* from our raylet's own socket only */
        return;
    }
    if (!link && proc_number(src) == 0) { /* what only daemons say */
        switch (head->kind) {
        case WIRE_ROUTE: on_route(c, frame); return;
        case WIRE_LEASE_GRANT: leases_on_grant(c, frame); return;
        case WIRE_LEASE_RECLAIM: leases_on_reclaim(c); return;
        case WIRE_LEASE_FAILED: leases_on_failed(c, frame); return;
        case WIRE_LEASE_INFO: lease_on_info(c, frame); return;
        case WIRE_PROC_DIED: link_on_died(c, frame); return;
        case WIRE_LOG:
        case WIRE_NOTICE: event_keep(c, src, frame, len); return;
        case WIRE_GCS_BACK: actors_on_gcs_back(c); return;
        case WIRE_ACTOR_STATE: actors_on_state(c, frame); break;
        case WIRE_ACTOR_START: runs_on_start(c, frame, len); return;
        case WIRE_ADOPT: estate_on_adopt(c, frame); return;
        case WIRE_ADOPT_TASK: estate_on_task(c, frame); return;
        case WIRE_BORROW: objects_on_borrow(c, src, frame); return; /* on behalf of a dead one */
        case WIRE_FREE: objects_on_free(c, frame); return;
        case WIRE_JOB_END: core_die(c, "the job that this process had joined has ended"); return;
        case WIRE_WORKER_RETIRE: retire_on_asked(c); return;
        case WIRE_RESTORED: restore_on_answer(c, frame); return;
        case WIRE_ROOM_MADE: restore_on_room(c, frame); return;
        case WIRE_SPILL_ASK: restore_on_ask(c, frame); return;
        case WIRE_SPILL_BACK: restore_on_back(c, frame); return;
        case WIRE_ACTOR_EXIT: on_exit_frame(c, src, frame, len); return;
        default: break;
        }
    }
    if (head->flags & WIRE_REPLY) {
        if (!link && (proc_number(src) == 0 || head->kind == WIRE_WHY_INFO ||
                      head->kind == WIRE_STATE_ROWS || head->kind == WIRE_MEMORY_INFO))
            on_reply(c, src, frame, len);
        return;
    }
    if (proc_number(src) != 0) dispatch_peer(c, src, frame, len, link, sequence);
}

/* ---- pumping ---- */

void pump(struct core *c) {
    int bit;

    objects_apply_drops(c);
    while ((bit = bell_next(c->bell)) >= 0) {
        if (bit == 0)
            (void)sock_read(c);
        else if (c->by_bit[bit])
            link_drain(c, c->by_bit[bit], false);
    }
    if (c->backlogs) link_flush(c);
    if (c->room_wanted) room_again(c);
    if (c->dirty_classes) classes_dispatch(c);
}

void core_die(struct core *c, const char *reason) {
    if (c->dead) return;
    c->dead = true;
    (void)err_fail(&c->death, 0, "%s", reason);
    (void)shutdown(c->sock, SHUT_RDWR); /* nobody reads it any more: who writes must not wait */
    (void)pthread_cond_broadcast(&c->cond);
    (void)pthread_cond_broadcast(&c->event_cond);
    groups_wake(c);
    watches_end(c);
}

/* What may wake the core thread: results only when they unlock something. A worker that has nothing
 * left takes from one that has many; one that leaves is given back after its last. True when that
 * is more than it was: what was left lying for it must be looked at. */
static bool set_level(struct core *c) {
    bool unlock = c->waiting || c->backlogs || c->leaving_workers ||
                  (c->deep_workers && c->workers.count > 1);
    uint32_t level = c->watched ? 3 : unlock ? 2 : 1;
    uint32_t old = at_load(&c->bell->core);

    if (old != level) at_store_seq(&c->bell->core, level);
    return level > old;
}

int core_enter(struct core *c) {
    if (c->forked) return -SKATE_EFORKED;
    (void)pthread_mutex_lock(&c->lock);
    if (c->stop) return (void)pthread_mutex_unlock(&c->lock), -SKATE_ESHUTDOWN;
    return 0;
}

void core_leave(struct core *c) {
    while (!c->leader && set_level(c) && bell_any(c->bell) && !c->dead) pump(c);
    (void)pthread_mutex_unlock(&c->lock);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void cond_sleep(struct core *c, pthread_cond_t *cond, int64_t ns) {
    struct timespec ts;
    int64_t until = time_now_ns() + ns;

    ts.tv_sec = until / 1000000000;
    ts.tv_nsec = until % 1000000000;
    (void)pthread_cond_timedwait(cond, &c->lock, &ts);
}

/* Spinning pays while the other side runs on another core. Where it does not (one core for both, or
 * long tasks) it is given up, and tried again the more seldom the longer it was in vain. */
static void spin_learn(struct core *c, bool found) {
    if (found) {
        c->spin = c->spin_most;
        c->spin_vain = 0;
        c->spin_retry = SPIN_RETRY_FIRST;
    } else if (c->spin > SPIN_LEAST) {
        c->spin -= c->spin / 4;
    } else if (++c->spin_vain >= c->spin_retry) {
        c->spin = c->spin_most;
        c->spin_vain = 0;
        if (c->spin_retry < SPIN_RETRY_MOST) c->spin_retry *= 2;
    }
}

/* The leader's pause: spin a little, then sleep until rung. -SKATE_EINTR after a signal. */
static int leader_pause(struct core *c, int64_t until_ns, bool bulk) {
    uint32_t spins = c->groups ? 0 : c->spin, word; /* its other threads need the CPU */
    bool found = false;
    int r = 0;

    (void)pthread_mutex_unlock(&c->lock);
    for (uint32_t i = 0; i < spins && !(found = bell_any(c->bell)); i++) at_pause();
    if (!found) {
        word = at_load_seq(&c->bell->leader_bell);
        at_store_seq(&c->bell->leader, bulk ? 3 : 2);
        if (bulk && (c->groups || at_load_seq(&c->watched))) at_store_seq(&c->bell->leader, 2);
        if (!bell_any(c->bell)) {
            int64_t left = least(until_ns - time_now_ns(), SLEEP_MOST_NS);

            r = left > 0 ? futex_wait(&c->bell->leader_bell, word, left) : 0;
            if (r == -SKATE_ETIMEOUT) {
                bell_set(c->bell, 0); /* a killed raylet rings no bell */
                if (until_ns > time_now_ns()) r = -SKATE_EINTR; /* a signal may have been missed */
            }
        }
        at_store_seq(&c->bell->leader, 1);
    }
    (void)pthread_mutex_lock(&c->lock);
    spin_learn(c, found);
    return r == -SKATE_EINTR ? r : 0;
}

static void leader_end(struct core *c) {
    c->leader = false;
    at_store_seq(&c->bell->leader, 0);
    (void)set_level(c);
    /* What was rung while we were the leader and went unnoticed is taken now. */
    if (bell_any(c->bell) && !c->dead) pump(c);
    if (c->followers) (void)pthread_cond_broadcast(&c->cond);
}

int pump_until(struct core *c, pump_test test, void *arg, int64_t deadline_ns, bool bulk) {
    int r = 0;

    while (!test(c, arg)) {
        if (c->stop) r = -SKATE_ESHUTDOWN;
        if (c->dead) r = -SKATE_EDEAD;
        if (r < 0) break;
        if (c->leader) {
            int64_t now = time_now_ns();

            if (now >= deadline_ns) return -SKATE_ETIMEOUT;
            c->followers++;
            cond_sleep(c, &c->cond, least(deadline_ns - now, FOLLOWER_SLICE_NS));
            c->followers--;
            if (c->leader && !test(c, arg)) return -SKATE_EINTR; /* a look at the signals */
            continue;
        }
        c->leader = true;
        at_store_seq(&c->bell->leader, 1);
        for (;;) {
            pump(c);
            if (test(c, arg)) break;
            if (c->interrupt && pthread_equal(c->runner, pthread_self())) {
                r = -SKATE_EINTR;
                break;
            }
            if (c->stop || c->dead || c->followers) {
                if (c->stop || c->dead) break;
                (void)pthread_cond_broadcast(&c->cond); /* theirs may be ready */
            }
            if (deadline_ns <= time_now_ns()) {
                r = -SKATE_ETIMEOUT;
                break;
            }
            r = leader_pause(c, deadline_ns, bulk);
            if (r < 0) break;
        }
        leader_end(c);
        if (r < 0) break;
    }
    if (r < 0 && test(c, arg)) r = 0;
    return r;
}

/* ---- the core thread ---- */

static void *core_thread(void *arg) {
    struct core *c = arg;

    (void)pthread_mutex_lock(&c->lock);
    while (!c->stop && !c->dead) {
        uint32_t word = at_load_seq(&c->bell->core_bell);
        int64_t sleep_ns = SLEEP_MOST_NS;

        if (!c->leader) {
            at_store_seq(&c->bell->core, 0);
            pump(c);
            leases_tick(c);
            if (c->heritage.limbo_count) estates_tick(c);
            if (c->comebacks || c->room.bytes) restore_tick(c);
            (void)set_level(c);
            if (c->followers) (void)pthread_cond_broadcast(&c->cond);
            if (bell_any(c->bell) && !c->dead) continue;
        } else {
            leases_tick(c);
            if (c->heritage.limbo_count) estates_tick(c);
            if (c->comebacks || c->room.bytes) restore_tick(c);
        }
        if (c->interrupt) cancel_tick(c);
        sweep_tick(c);
        ages_tick(c);
        if (c->dead || c->stop) break;
        /* leases are returned when idle, an interrupt is said again */
        if (c->workers.count || c->interrupt) sleep_ns = IDLE_TICK_NS;
        if (c->streams.count && streams_tick(c)) sleep_ns = IDLE_TICK_NS;
        if (c->later.count && later_tick(c)) sleep_ns = IDLE_TICK_NS;
        if (c->watched) sleep_ns = watch_tick(c, sleep_ns);
        (void)pthread_mutex_unlock(&c->lock);
        if (futex_wait(&c->bell->core_bell, word, sleep_ns) == -SKATE_ETIMEOUT)
            bell_set(c->bell, 0);
        (void)pthread_mutex_lock(&c->lock);
    }
    (void)pthread_cond_broadcast(&c->cond);
    (void)pthread_mutex_unlock(&c->lock);
    return NULL;
}

int core_thread_start(struct core *c) {
    sigset_t all, old;
    pthread_attr_t attr;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, 256 * 1024);
    c->thread_on = true;
    r = pthread_create(&c->thread, &attr, core_thread, c);
    if (r != 0) c->thread_on = false;
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r == 0 ? 0 : -SKATE_ESYS;
}
