/* gcs_jobs.c - jobs: a driver's start, and the end of all that is not detached.
 *
 * Every raylet hears job_info before the driver hears its number, and a newcomer hears of all live
 * jobs. A job ends when its driver says so, when the driver's process or node is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gcs/gcs_groups.h"

struct gcs_job *gcs_job_find(struct gcs *g, uint32_t number) {
    if (number < 1 || number > g->job_count || !g->jobs[number - 1]->live) return NULL;
    return g->jobs[number - 1];
}

void gcs_job_frame(const struct gcs_job *j, struct wire_buf *b) {
    struct wire_job_info *m = wire_begin(b, WIRE_JOB_INFO);

    m->job = j->number;
    m->driver = j->driver;
    m->pid = j->pid;
    m->ended = !j->live;
    WIRE_PUT(b, job_info, namespace, j->space, j->space_len);
    WIRE_PUT(b, job_info, config, j->config, j->config_len);
    WIRE_PUT(b, job_info, entrypoint, j->entry, j->entry_len);
}

void gcs_job_answer(struct gcs *g, const struct gcs_from *from, uint32_t job, int status,
                   const char *reason) {
    struct wire_buf b;
    struct wire_job_started *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_STARTED);
    m->job = job;
    m->status = status;
    WIRE_PUT(&b, job_started, reason, reason, strlen(reason));
    gcs_reply(g, from, &b);
}

void gcs_job_start(struct gcs *g, const struct gcs_from *from, const struct wire_job_start *m) {
    uint32_t space_len, config_len;
    const char *space = wire_job_start_namespace(m, &space_len);
    const uint8_t *config = wire_job_start_config(m, &config_len);
    const char *entry;
    char none[48];
    struct gcs_job *j;
    struct wire_buf b;

    if (space_len > GCS_NAME_MAX || m->driver == 0 ||
        !gcs_node_find(g, proc_node(m->driver))) {
        gcs_job_answer(g, from, 0, -SKATE_EINVAL, "a bad namespace or driver");
        return;
    }
    for (uint32_t i = from->again ? g->job_count : 0; i > 0; i--)
        if (g->jobs[i - 1]->live && g->jobs[i - 1]->driver == m->driver) {
            gcs_job_answer(g, from, i, 0, "");
            return;
        }
    if (g->job_count >= g->opts.jobs_max ||
        !gcs_spec_room(g, (uint64_t)config_len + space_len)) {
        gcs_job_answer(g, from, 0, -SKATE_EFULL, "the cluster's table of jobs is full");
        return;
    }
    if (space_len == 0) {
        space_len = (uint32_t)snprintf(none, sizeof none, "anonymous-%u", g->job_count + 1);
        space = none;
    }
    j = gcs_alloc(sizeof *j);
    if (g->job_count == g->job_cap) g->jobs = gcs_grow(g->jobs, &g->job_cap, sizeof *g->jobs);
    g->jobs[g->job_count++] = j;
    j->number = g->job_count;
    j->live = true;
    j->driver = m->driver;
    j->space = gcs_copy(space, space_len);
    j->space_len = space_len;
    j->config = gcs_copy(config, config_len);
    j->config_len = config_len;
    entry = wire_job_start_entrypoint(m, &j->entry_len);
    if (j->entry_len > GCS_ENTRY_MAX) j->entry_len = GCS_ENTRY_MAX;
    j->entry = gcs_copy(entry, j->entry_len);
    j->pid = m->pid;
    g->spec_bytes += config_len + space_len;
    gcs_dirty_job(g, j);
    wire_init(&b, NULL, 0);
    gcs_job_frame(j, &b);
    gcs_send_nodes(g, &b, 0);
    gcs_job_answer(g, from, j->number, 0, "");
}

static bool has_actors(const struct gcs *g, uint32_t job) {
    for (uint32_t i = 0; i < g->actor_slots; i++)
        if (g->actors[i] && g->actors[i]->state != GCS_DEAD && g->actors[i]->job == job)
            return true;
    return false;
}

void gcs_job_settle(struct gcs *g, uint32_t number) {
    struct gcs_job *j = number >= 1 && number <= g->job_count ? g->jobs[number - 1] : NULL;

    if (!j || j->live || j->ending || !j->config || has_actors(g, number)) return;
    g->spec_bytes -= j->config_len + j->space_len;
    free(j->config);
    free(j->space);
    j->config = NULL;
    j->space = NULL;
    j->config_len = j->space_len = 0;
    gcs_dirty_job(g, j);
}

void gcs_job_tell_ended(struct gcs *g, uint32_t number, uint64_t link) {
    struct gcs_job *j = number >= 1 && number <= g->job_count ? g->jobs[number - 1] : NULL;
    struct wire_buf b;

    if (!j || j->live || !j->config) return;
    wire_init(&b, NULL, 0);
    gcs_job_frame(j, &b);
    gcs_send_link(g, link, &b);
}

void gcs_job_end(struct gcs *g, struct gcs_job *j, const char *why) {
    char text[GCS_REASON + 64];
    struct wire_buf b;
    struct wire_job_end *m;

    j->live = false;
    j->ending = true;
    gcs_dirty_job(g, j);
    (void)snprintf(text, sizeof text, "its job has ended: %s", why);
    for (uint32_t i = 0; i < g->actor_slots; i++) {
        struct gcs_actor *a = g->actors[i];

        if (a && a->state != GCS_DEAD && a->job == j->number && !gcs_actor_outlives(g, a))
            gcs_actor_end(g, a, text, true);
    }
    j->ending = false;
    gcs_job_settle(g, j->number);
    if (g->groups.live) g->groups.sweep_wanted = true;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_END);
    m->job = j->number;
    m->driver = j->driver;
    gcs_send_nodes(g, &b, 0);
}
