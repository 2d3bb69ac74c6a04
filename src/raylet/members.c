/* members.c - processes that join a job which another program has started; see members.h. */
#include "raylet/members.h"

#include <string.h>

static void answer(struct proc *p, const struct wire_job_join *to, const struct job *j, int status,
                   const char *reason) {
    struct wire_job_joined *m;
    uint64_t room[128];
    struct wire_buf b;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_JOB_JOINED);
    m->head.call = to->head.call;
    m->head.flags = to->head.call ? WIRE_REPLY : 0;
    m->job = to->job;
    m->status = status;
    if (j) m->driver = j->driver;
    WIRE_PUT(&b, job_joined, reason, reason, strlen(reason));
    if (j) WIRE_PUT(&b, job_joined, config, j->config, j->config_len);
    if (wire_end(&b) == 0)
        proc_send(p, b.p, b.len);
    else
        proc_doom(p, "no memory for the settings of the job that it joins");
    wire_release(&b);
}

void members_join(struct raylet *r, struct proc *p, const struct wire_job_join *m) {
    struct job *j = m->job ? table_get(&r->jobs, m->job) : NULL;

    if (p->role != PROC_DRIVER || p->job) {
        answer(p, m, NULL, -SKATE_EINVAL, "this process is in a job already");
    } else if (!j || !j->known) {
        answer(p, m, NULL, -SKATE_EAGAIN, "this node has not heard of such a job");
    } else if (j->ended || j->driver == p->id) {
        answer(p, m, NULL, -SKATE_ENOENT, "the job has ended");
    } else {
        p->role = PROC_MEMBER;
        p->job = j->number;
        r->drivers--; /* a private session ends with its driver, whoever has joined it */
        answer(p, m, j, 0, "");
    }
}

void members_end(struct raylet *r, uint32_t job, const char *why) {
    struct wire_job_end m = {.head = {.size = sizeof m, .kind = WIRE_JOB_END, .fixed = sizeof m},
                             .job = job};
    struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&r->procs, &at, NULL))) {
        if (p->role != PROC_MEMBER || p->job != job || p->state == PROC_DOOMED) continue;
        proc_send(p, &m, sizeof m);
        p->intended = true;
        proc_doom(p, why);
    }
}
