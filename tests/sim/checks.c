/* checks.c - see faults.h: what must hold, whatever went wrong. */
#include "faults.h"

#include <stdio.h>
#include <string.h>

#include "raylet/raylet.h"
#include "users.h"

/* ---- a node ---- */

static int64_t cpus_free(struct raylet *r) {
    struct sched_node *own = node_own(r);

    return own ? resources_amount(&own->avail, "CPU") : 0;
}

/* What its workers have taken, of the node and of bundles. */
static int64_t cpus_taken(struct raylet *r) {
    int64_t sum = 0;
    struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->work >= WORK_LEASE && !p->blocked && !p->bundle)
            sum += resources_amount(&p->used, "CPU");
    return sum;
}

static bool node_quiet(struct sim_machine *m, char *why, size_t cap) {
    struct raylet *r = m->raylet;
    struct proc *p;
    uint32_t at = 0;

    if (!r || !m->ready) return snprintf(why, cap, "%s is not there", m->name), false;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->work >= WORK_LEASE && !p->detached)
            return snprintf(why, cap, "%s: process %u still has work %d", m->name, p->pid, p->work),
                   false;
    if (leases_waiting(r->leases))
        return snprintf(why, cap, "%s: lease requests wait", m->name), false;
    if (cpus_free(r) != (int64_t)(m->cpus * RESOURCE_UNIT))
        return snprintf(why, cap, "%s has %lld of %g CPUs free", m->name,
                        (long long)(cpus_free(r) / RESOURCE_UNIT), m->cpus), false;
    for (uint32_t i = 0; i < sim_cluster.count; i++) {
        struct sim_machine *other = sim_cluster.machines[i];
        struct sched_node *row;

        if (!other->raylet || !other->ready) continue;
        row = sched_view_find(&r->view, other->raylet->node);
        if (!row && sim_cluster.count > 64) continue; /* nobody has asked for it: gcs_nodes.c */
        if (!row || !row->alive)
            return snprintf(why, cap, "%s does not know that %s lives", m->name, other->name),
                   false;
    }
    return true;
}

static char quiet_why[200];

bool checks_quiet(void *unused) {
    (void)unused;
    if (!sim_cluster.gcs_proc) return false;
    for (uint32_t i = 0; i < sim_cluster.count; i++)
        if (!node_quiet(sim_cluster.machines[i], quiet_why, sizeof quiet_why)) return false;
    return true;
}

void checks_step(void) {
    for (uint32_t i = 0; i < sim_cluster.count; i++) {
        struct sim_machine *m = sim_cluster.machines[i];
        struct raylet *r = m->raylet;
        int64_t all = (int64_t)(m->cpus * RESOURCE_UNIT);

        if (!r || !m->ready || !node_own(r)) continue;
        if (cpus_free(r) > all)
            sim_fail("%s has more CPUs free than it has", m->name);
        if (cpus_free(r) + cpus_taken(r) > all)
            sim_fail("%s: %lld of a CPU free and %lld taken are more than %lld", m->name,
                     (long long)cpus_free(r), (long long)cpus_taken(r), (long long)all);
    }
}

void checks_end(void) {
    for (const struct sim_driver *d = sim_drivers; d; d = d->next) {
        if (!d->excused && (d->right != d->tasks || !d->quiet || d->trouble[0]))
            sim_fail("driver %u: %u of %u right, %u errors, %s %s", d->number, d->right, d->tasks,
                     d->errors, d->quiet ? "quiet" : "something is left", d->trouble);
    }
    if (!checks_quiet(NULL)) sim_fail("not quiet at the end: %s", quiet_why);
}

/* ---- for people ---- */

static void dump_waiting(struct raylet *r) {
    struct job *j;
    uint32_t at = 0;

    printf("    starting %u, waiting %u, zygote %s\n", r->starting, r->waiting,
           r->zygote ? "yes" : "no");
    while ((j = table_next(&r->jobs, &at, NULL)))
        for (const struct placement *pl = j->waiting; pl; pl = pl->next)
            printf("    job %u%s%s: a placement for %llx\n", j->number, j->known ? "" : " unknown",
                   j->ended ? " ended" : "", (unsigned long long)pl->owner);
}

void checks_dump(void) {
    if (!sim_tracing) return;
    for (const struct sim_driver *d = sim_drivers; d; d = d->next)
        printf("driver %u (%s): %u of %u done, %s%s%s\n", d->number, d->proc->name, d->done,
               d->tasks, d->finished ? "finished" : "not finished", d->excused ? ", excused" : "",
               d->proc->dead ? ", dead" : "");
    for (uint32_t i = 0; i < sim_cluster.count; i++) {
        struct sim_machine *m = sim_cluster.machines[i];
        struct raylet *r = m->raylet;
        struct proc *p;
        uint32_t at = 0;

        if (!r) {
            printf("%s: no raylet\n", m->name);
            continue;
        }
        printf("%s: node %u, %s, %u requests wait, CPU %lld\n", m->name, r->node,
               m->ready ? "ready" : "not ready", leases_waiting(r->leases),
               (long long)cpus_free(r));
        dump_waiting(r);
        while ((p = table_next(&r->procs, &at, NULL)))
            printf("    %llx pid %u role %d state %d work %d owner %llx blocked %d\n",
                   (unsigned long long)p->id, p->pid, p->role, p->state, p->work,
                   (unsigned long long)p->owner, p->blocked);
    }
}
