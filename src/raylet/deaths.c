/* deaths.c - the end of a process: its last words, what it had, who must hear of it.
 *
 * Order: (1) read what it still wrote, so that results it sent come before the news of its end;
 * (2) take back resources, leases, channels; (3) tell every process here, every other raylet and
 * the GCS; (4) hold its extents until all of them answered. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "raylet/answers.h"
#include "raylet/gcs_link.h"
#include "raylet/lent.h"
#include "raylet/links.h"
#include "raylet/pulls.h"
#include "raylet/raylet.h"
#include "raylet/spill.h"

/* What everybody will be told. */
static void describe(struct proc *p, int sig, int code, char out[DEATH_TEXT]) {
    struct raylet *r = p->r;
    struct death_facts f = {.driver = p->role == PROC_DRIVER,
                            .member = p->role == PROC_MEMBER, .intended = p->intended,
                            .pid = p->pid, .node = r->node, .signal = sig, .code = code,
                            .reason = p->reason, .node_ip = r->set.node_ip, .notes = &p->notes};

    if (sig == SIGKILL && !p->intended && !p->reason[0]) {
        uint64_t kills = death_oom_kills();

        f.oom = kills > r->oom_kills;
        r->oom_kills = kills;
    }
    death_record(&f, out);
}

static void remember(struct raylet *r, const struct death *d) {
    struct death *at = &r->deaths[r->death_count++ % RAYLET_DEATHS];

    free(at->text);
    *at = *d;
    at->text = strdup(d->text);
}

static const struct death *recall(const struct raylet *r, uint64_t proc) {
    uint32_t n = r->death_count < RAYLET_DEATHS ? r->death_count : RAYLET_DEATHS;

    for (uint32_t i = 0; i < n; i++)
        if (r->deaths[i].proc == proc) return &r->deaths[i];
    return NULL;
}

static int build(struct wire_buf *b, const struct death *d) {
    struct wire_proc_died *m = wire_begin(b, WIRE_PROC_DIED);

    m->proc = d->proc;
    m->pid = d->pid;
    m->signal = d->signal;
    m->code = d->code;
    m->intended = d->intended;
    m->heir = d->heir;
    m->cause = d->cause;
    WIRE_PUT(b, proc_died, text, d->text, d->text ? strlen(d->text) : 0);
    return wire_end(b);
}

/* Everyone of this node hears of it. Who has no channel with a process of this node waits for
 * nothing of it: it is not woken, but reads the news within its next bounded sleep (waking two
 * hundred idle actors cost 20 ms for each death). */
static void tell_procs(struct raylet *r, uint64_t dead, const void *frame, uint32_t len) {
    bool heir = heirs_of(r, dead) != 0; /* they may wait for what it owned */
    struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&r->procs, &at, NULL))) {
        bool urgent = p->role != PROC_WORKER || proc_node(dead) != r->node || heir ||
                      channels_linked(p, dead);

        if (p->state == PROC_LIVE || (heir && p->state == PROC_STARTING))
            proc_send_as(p, frame, len, urgent ? BELL_URGENT : BELL_QUIET);
    }
}

/* Those who may still read its bytes must answer first; others is how many raylets were told. */
static void hold_extents(struct raylet *r, uint64_t dead, uint64_t *waits, uint32_t others) {
    struct proc *p;
    uint32_t at = 0, n = others;

    if (extents_hold(r->extents, dead) == 0) return;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->state != PROC_STARTING) waits[n++] = p->id; /* that one has seen nothing yet */
    if (n == 0 || quarantine_begin(&r->quarantine, dead, waits, n) < 0)
        extents_release(r->extents, dead);
}

/* Nobody awaited is left: our extents are free; to another node's raylet we answer. */
static void all_answered(struct raylet *r, uint64_t dead) {
    struct wire_extents_done done = {.head = {.size = sizeof done, .kind = WIRE_EXTENTS_DONE,
                                              .fixed = sizeof done},
                                     .proc = dead};

    if (proc_node(dead) == r->node)
        extents_release(r->extents, dead);
    else if (!links_is_dead(r, proc_node(dead)))
        route_send(r, proc_raylet(dead), &done, sizeof done);
}

static void answered_for(struct raylet *r, uint64_t gone) {
    uint64_t dead;

    while ((dead = quarantine_gone(&r->quarantine, gone))) all_answered(r, dead);
}

/* All have said what they use of it: the rest is free here, or the raylet of its node is told. */
static void some_used(struct raylet *r, uint64_t dead) {
    struct wire_extents_done *m;
    uint64_t *live, room[64];
    struct wire_buf b;
    uint32_t n;

    if (quarantine_used(&r->quarantine, dead, &live, &n) < 0) return;
    if (proc_node(dead) == r->node) {
        extents_release_unused(r->extents, dead, live, n);
    } else if (!links_is_dead(r, proc_node(dead))) {
        wire_init(&b, room, sizeof room);
        m = wire_begin(&b, WIRE_EXTENTS_DONE);
        m->proc = dead;
        WIRE_PUT(&b, extents_done, live, live, n * sizeof *live);
        if (n && wire_end(&b) == 0) route_send(r, proc_raylet(dead), b.p, b.len);
        wire_release(&b);
    }
    free(live);
}

void death_extents_done(struct raylet *r, const struct wire_extents_done *said, uint64_t by) {
    uint64_t dead = said->proc;
    uint32_t n;
    const uint64_t *live = wire_extents_done_live(said, &n);

    if (n) {
        if (quarantine_live(&r->quarantine, dead, by, live, n)) some_used(r, dead);
        return;
    }
    if (quarantine_done(&r->quarantine, dead, by)) {
        all_answered(r, dead);
    } else if (proc_node(dead) != r->node && proc_node(by) == r->node &&
               !quarantine_holds(&r->quarantine, dead) && !links_is_dead(r, proc_node(dead))) {
        /* an heir: its own word is awaited there */
        struct wire_extents_done done = {.head = {.size = sizeof done, .fixed = sizeof done,
                                                  .kind = WIRE_EXTENTS_DONE},
                                         .proc = dead};

        route_as(r, proc_raylet(dead), by, &done, sizeof done);
    }
    some_used(r, dead); /* when it was the last that had not spoken */
}

static void end_jobs_of(struct raylet *r, uint64_t driver) {
    uint32_t numbers[64], n = 0, at = 0;
    struct job *j;

    while (n < 64 && (j = table_next(&r->jobs, &at, NULL)))
        if (j->driver == driver && !j->ended) numbers[n++] = j->number;
    while (n > 0) job_end(r, numbers[--n], "its driver ended", true);
}

static void spread_news(struct raylet *r, const struct death *d) {
    uint32_t cap = links_count(r) + r->procs.count + 1, others = 0;
    uint64_t *waits = calloc(cap, sizeof *waits), room[96];
    struct wire_buf b;

    wire_init(&b, room, sizeof room);
    if (build(&b, d) == 0) {
        tell_procs(r, d->proc, b.p, b.len);
        gcs_link_send(r, b.p, b.len);
        if (waits) others = links_to_all(r, b.p, b.len, waits, cap);
    }
    wire_release(&b);
    if (waits) hold_extents(r, d->proc, waits, others);
    free(waits);
}

void death_of(struct proc *p, int sig, int code) {
    struct raylet *r = p->r;
    char text[DEATH_TEXT];
    struct death d = {.proc = p->id, .pid = p->pid, .signal = sig, .code = code, .text = text};
    bool driver = p->role == PROC_DRIVER, worker = p->role == PROC_WORKER;

    p->pid_watch = loop_unwatch(p->pid_watch);
    if (worker && p->pid) (void)kill(-(pid_t)p->pid, SIGKILL); /* what it has started */
    if (p->stream) stream_drain(p->stream);
    if (worker) logs_drain(r, p->id);
    d.intended = p->intended;
    d.cause = p->intended ? 0 : p->notes.cause;
    describe(p, sig, code, text);
    rows_died(p);
    lent_by(p, false);
    actor_host_died_early(p, d.text);
    pool_remove(p);
    table_take(&r->procs, proc_number(p->id));
    d.heir = heirs_adopt(r, p, d.text);
    heirs_note(r, d.proc, d.heir);
    grants_owner_died(r, p->id);
    remember(r, &d);
    spread_news(r, &d);
    channels_forget(r, p);
    answered_for(r, p->id);
    gcs_link_forget(r, p->id);
    pulls_proc_died(r, p->id);
    spill_proc_died(r, p);
    p->state = PROC_DOOMED;
    proc_free(p);
    if (!worker) end_jobs_of(r, d.proc);
    if (!driver) return;
    SKATE_ASSERT(r->drivers > 0);
    r->drivers--;
    if (r->set.local_session && r->drivers == 0) node_end(r, "the driver of this session ended");
}

void death_of_pid(struct raylet *r, pid_t pid, int wait_status, uint64_t peak_bytes) {
    struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->role == PROC_WORKER && p->pid == (uint32_t)pid) break;
    if (!p) return;
    p->notes.peak_bytes = peak_bytes;
    death_of(p, WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0,
             WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1);
}

/* Its bytes lie on its node until every process of ours that may read them has answered. */
static void await_procs(struct raylet *r, uint64_t dead) {
    uint64_t *waits = calloc(r->procs.count + 1, sizeof *waits);
    uint32_t at = 0, n = 0;
    struct proc *p;

    while (waits && (p = table_next(&r->procs, &at, NULL)))
        if (p->state != PROC_STARTING) waits[n++] = p->id;
    if (!quarantine_holds(&r->quarantine, dead) &&
        (n == 0 || quarantine_begin(&r->quarantine, dead, waits, n) < 0))
        all_answered(r, dead);
    free(waits);
}

/* Another raylet says that a process of its node ended. */
void death_heard(struct raylet *r, const struct wire_proc_died *m) {
    char copy[DEATH_TEXT];
    struct death d = {.proc = m->proc, .pid = m->pid, .signal = m->signal, .code = m->code,
                      .intended = m->intended != 0, .cause = m->cause, .heir = m->heir,
                      .text = copy};
    const char *text;
    uint32_t len;

    if (proc_node(m->proc) == r->node || proc_number(m->proc) == 0) return;
    if (recall(r, m->proc)) {
        grants_owner_died(r, m->proc); /* it was given something all the same */
        return;
    }
    text = wire_proc_died_text(m, &len);
    snprintf(copy, sizeof copy, "%.*s", (int)len, len ? text : "");
    remember(r, &d);
    heirs_note(r, d.proc, d.heir);
    grants_owner_died(r, m->proc);
    tell_procs(r, m->proc, m, m->head.size);
    answered_for(r, m->proc);
    await_procs(r, m->proc);
}

void death_of_node(struct raylet *r, uint32_t node, const char *why) {
    char text[DEATH_REASON];
    struct death d = {.proc = proc_make(node, 0), .signal = -1, .code = -1, .text = text};
    struct sched_node *row = sched_view_find(&r->view, node);
    uint64_t room[96];
    struct wire_buf b;

    if (row) {
        row->alive = false;
        sched_view_touch(&r->view, row);
    }
    snprintf(text, sizeof text, "node %u is lost: %.200s", node, why);
    if (!recall(r, d.proc)) remember(r, &d); /* one that never was may be named again */
    pulls_holder_died(r, d.proc, d.text);
    grants_owner_died(r, d.proc);
    answered_for(r, d.proc);
    wire_init(&b, room, sizeof room);
    if (build(&b, &d) == 0) tell_procs(r, d.proc, b.p, b.len);
    wire_release(&b);
}

void death_answer(struct raylet *r, uint64_t dst, uint64_t src) {
    char text[DEATH_REASON];
    struct death d = {.proc = dst, .signal = -1, .code = -1, .text = text};
    const struct death *known = recall(r, dst);
    uint64_t room[96];
    struct wire_buf b;

    if (!known) known = recall(r, proc_raylet(dst));
    if (known)
        d = *known;
    else
        snprintf(text, sizeof text, "process %u of node %u has ended", proc_number(dst),
                 proc_node(dst));
    d.proc = dst;
    d.heir = heirs_of(r, dst);
    wire_init(&b, room, sizeof room);
    if (build(&b, &d) == 0) route_send(r, src, b.p, b.len);
    wire_release(&b);
}

void death_tell_again(struct raylet *r, uint64_t dead, uint64_t to) {
    static char unknown[] = "it has ended";
    struct death d = {.proc = dead, .signal = -1, .code = -1, .heir = heirs_of(r, dead),
                      .text = unknown};
    const struct death *known = recall(r, dead);
    uint64_t room[96];
    struct wire_buf b;

    if (known && known->text) d.text = known->text;
    wire_init(&b, room, sizeof room);
    if (build(&b, &d) == 0) {
        if (proc_number(to))
            route_send(r, to, b.p, b.len);
        else if (links_to_node(r, proc_node(to), b.p, b.len) < 0)
            node_log("node %u does not hear of an old death", proc_node(to));
    }
    wire_release(&b);
}
