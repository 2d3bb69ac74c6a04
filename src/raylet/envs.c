/* envs.c - the runtime environments of a job, by their bytes.
 *
 * A worker is forked for one environment and serves no other (ARCHITECTURE.md). What the bytes say
 * is the worker's business: here equal bytes are one environment. Each lives while a worker or a
 * placement names it; the job's own, which has no bytes, lives as long as the job. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raylet/raylet.h"

struct job_env *env_ref(struct job_env *e) {
    e->refs++;
    return e;
}

bool env_is(const struct job_env *e, const void *bytes, uint32_t len) {
    return e && e->len == len && (len == 0 || memcmp(e->bytes, bytes, len) == 0);
}

struct job_env *env_get(struct job *j, const void *bytes, uint32_t len) {
    struct job_env *e;

    if (len == 0) return env_ref(&j->plain);
    for (e = j->envs; e; e = e->next)
        if (env_is(e, bytes, len)) return env_ref(e);
    if (j->env_count >= ENVS_MAX || len > ENV_BYTES_MAX) return NULL; /* the request waits */
    e = calloc(1, sizeof *e);
    if (!e || !(e->bytes = malloc(len))) {
        free(e);
        return NULL;
    }
    memcpy(e->bytes, bytes, len);
    e->len = len;
    e->refs = 1;
    e->job = j;
    e->next = j->envs;
    j->envs = e;
    j->env_count++;
    return e;
}

void env_unref(struct job_env *e) {
    struct job_env **at;

    if (!e) return;
    SKATE_ASSERT(e->refs > 0);
    if (--e->refs > 0 || e == &e->job->plain) return;
    for (at = &e->job->envs; *at != e; at = &(*at)->next) {}
    *at = e->next;
    e->job->env_count--;
    free(e->bytes);
    free(e);
}
