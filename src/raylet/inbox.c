/* inbox.c - what processes and other raylets ask of this raylet, by kind of frame. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "raylet/answers.h"
#include "raylet/bundles.h"
#include "raylet/lent.h"
#include "raylet/links.h"
#include "raylet/members.h"
#include "raylet/pulls.h"
#include "raylet/raylet.h"
#include "raylet/spill.h"

static void extent_answer(struct proc *p, uint32_t call, struct extent_span span, int fd,
                          int status, const char *reason) {
    uint64_t room[96];
    struct wire_buf b;
    struct wire_extent *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_EXTENT);
    m->head.call = call;
    m->head.flags = call ? WIRE_REPLY : 0;
    m->offset = span.offset;
    m->bytes = span.bytes;
    m->status = status;
    WIRE_PUT(&b, extent, reason, reason, strlen(reason));
    if (wire_end(&b) == 0 && fd >= 0)
        proc_send_fds(p, b.p, b.len, &fd, 1);
    else if (wire_end(&b) == 0)
        proc_send(p, b.p, b.len);
    wire_release(&b);
}

static void on_extent_req(struct raylet *r, struct proc *p, const struct wire_extent_req *m) {
    struct extent_span span = {0};
    struct skate_error err = {""};
    int fd = -1, e = spill_lend(r, p->id, m->bytes, &span, &err);

    if (e == -SKATE_EFULL) spill_need(r, m->bytes);
    if (e == -SKATE_ETOOBIG) e = spill_lend_outside(r, p->id, m->bytes, &span, &fd, &err);
    extent_answer(p, m->head.call, span, fd, e, e < 0 ? err.text : "");
}

static void on_keep_req(struct raylet *r, struct proc *p, const struct wire_keep_req *m) {
    struct extent_span span = {0};
    struct skate_error err = {""};
    int e = keeps_lend(r, p, m->bytes, &span, &err);

    if (e == -SKATE_EFULL) spill_need(r, m->bytes);
    extent_answer(p, m->head.call, span, -1, e, e < 0 ? err.text : "");
}

/* The same, but it waits; answered by a frame that is no reply. */
static void on_room(struct raylet *r, struct proc *p, const struct wire_room *m) {
    struct extent_span span = {0};
    struct skate_error err = {""};
    int e = spill_lend(r, p->id, m->bytes, &span, &err);
    uint64_t room[96];
    struct wire_buf b;
    struct wire_room_made *made;

    if (e == -SKATE_EFULL && spill_later(r, p->id, &m->head, m->bytes)) return;
    if (e == -SKATE_EFULL) spill_refused(r, &err);
    wire_init(&b, room, sizeof room);
    made = wire_begin(&b, WIRE_ROOM_MADE);
    made->head.call = m->head.call;
    made->offset = span.offset;
    made->bytes = span.bytes;
    made->status = e;
    WIRE_PUT(&b, room_made, reason, err.text, e < 0 ? strlen(err.text) : 0);
    if (wire_end(&b) == 0) proc_send(p, b.p, b.len);
    wire_release(&b);
}

static void on_exiting(struct proc *p, const struct wire_worker_exiting *m) {
    uint32_t len;
    const char *reason = wire_worker_exiting_reason(m, &len);

    if (p->state == PROC_DOOMED) return;
    p->intended = true;
    snprintf(p->reason, sizeof p->reason, "%.*s", (int)len, len ? reason : "");
}

static void on_last_words(struct proc *p, const struct wire_last_words *m) {
    uint32_t len;
    const char *reason = wire_last_words_reason(m, &len);

    if (p->state == PROC_DOOMED || p->role != PROC_WORKER) return;
    snprintf(p->reason, sizeof p->reason, "%.*s", (int)len, len ? reason : "");
}

static void blocked(struct proc *p, bool waits) {
    if (p->role != PROC_WORKER)
        lent_by(p, waits);
    else
        grants_blocked(p, waits);
}

/* From a process of this node only. */
static void from_proc(struct raylet *r, struct proc *p, const struct wire_head *head) {
    const void *m = head;

    switch (head->kind) {
    case WIRE_ROUTE: route_frame(r, m, p->id); break;
    case WIRE_CONNECT: channels_connect(r, p, m); break;
    case WIRE_EXTENT_REQ: on_extent_req(r, p, m); break;
    case WIRE_KEEP_REQ: on_keep_req(r, p, m); break;
    case WIRE_WORKER_STAYS: keeps_stays(p); break;
    case WIRE_EXTENT_RETURN:
        if (extents_return(r->extents, p->id, ((const struct wire_extent_return *)m)->offset) < 0)
            node_log("process %u returned an extent that it does not have", p->pid);
        spill_retry(r);
        break;
    case WIRE_ROOM: on_room(r, p, m); break;
    case WIRE_RESTORE: spill_on_restore(r, p, m); break;
    case WIRE_SPILL_OFFER: spill_on_offer(r, p, m); break;
    case WIRE_PULL: pulls_request(r, p, m); break;
    case WIRE_UNPULL: pulls_unpull(r, p->id, ((const struct wire_unpull *)m)->offset); break;
    case WIRE_WORKER_BLOCKED: blocked(p, true); break;
    case WIRE_WORKER_UNBLOCKED: blocked(p, false); break;
    case WIRE_WORKER_EXITING: on_exiting(p, m); break;
    case WIRE_JOB_JOIN: members_join(r, p, m); break;
    case WIRE_LAST_WORDS: on_last_words(p, m); break;
    case WIRE_BYE:
        if (p->role != PROC_WORKER) job_bye(r, p, head->call);
        break;
    default: break;
    }
}

void inbox_frame(struct raylet *r, uint64_t src, const struct wire_head *head) {
    const void *m = head;
    struct proc *p = proc_find(r, src);

    switch (head->kind) {
    case WIRE_LEASE_REQ: grants_request(r, src, m); return;
    case WIRE_LEASE_CANCEL: {
        const struct wire_lease_cancel *c = m;

        if (src != c->owner) return;
        leases_cancel(r->leases, c->owner, c->req);
        pool_cancel(r, c->owner, c->req);
        group_asks_cancel(r, c->owner, c->req);
        return;
    }
    case WIRE_LEASE_HEIR: heirs_on_lease(r, src, m); return;
    case WIRE_LEASE_RETURN: grants_return(r, src, m); return;
    case WIRE_FREE: keeps_release(r, m); return;
    case WIRE_STATE_REQ: rows_answer(r, src, m); return;
    case WIRE_STORE_STATS_REQ: store_stats_answer(r, src, m); return;
    case WIRE_WHY_REQ: why_answer(r, src, m); return;
    case WIRE_GROUP_ROOM: group_asks_on_room(r, src, m); return;
    case WIRE_EXTENTS_DONE:
        death_extents_done(r, m, src);
        return;
    case WIRE_PROC_DIED: /* what we had for it came too late */
        if (src == proc_raylet(((const struct wire_proc_died *)m)->proc)) death_heard(r, m);
        return;
    case WIRE_WORKER_KILL:
        if (src == SKATE_GCS || src == r->self) actor_host_kill(r, m);
        return;
    default:
        if (p) from_proc(r, p, head);
    }
}
