/* sim_main.c - skate-sim: one seed, one run.
 *
 * usage: skate-sim [--seed N] [--trace] [--nodes N] [--tasks N] [--drivers N] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "sim.h"
#include "users.h"

struct options {
    uint64_t seed;
    uint32_t nodes, tasks, drivers;
};

static bool all_ready(void *arg) {
    (void)arg;
    for (uint32_t i = 0; i < sim_cluster.count; i++)
        if (!sim_cluster.machines[i]->ready) return false;
    return true;
}

static bool all_finished(void *arg) {
    (void)arg;
    for (const struct sim_driver *d = sim_drivers; d; d = d->next)
        if (!d->finished) return false;
    return true;
}

static void run(const struct options *o) {
    sim_seed(o->seed);
    sim_cluster_new(o->nodes, sim_worker_main);
    sim_gcs_start();
    for (uint32_t i = 0; i < o->nodes; i++) sim_raylet_start(sim_cluster.machines[i]);
    if (!sim_run(60 * SIM_S, all_ready, NULL)) sim_fail("the nodes are not ready after 60 s");
    for (uint32_t i = 0; i < o->drivers; i++)
        (void)sim_driver_new(sim_cluster.machines[sim_below(o->nodes)], o->tasks, 0);
    if (!sim_run(sim_now + 600 * SIM_S, all_finished, NULL))
        sim_fail("the drivers have not ended after 600 s");
    for (const struct sim_driver *d = sim_drivers; d; d = d->next)
        if (d->right != d->tasks || !d->quiet)
            sim_fail("driver %u: %u of %u right, %s %s", d->number, d->right, d->tasks,
                     d->quiet ? "quiet" : "something is left", d->trouble);
}

int main(int argc, char **argv) {
    struct options o = {.seed = 1, .nodes = 3, .tasks = 200, .drivers = 2};
    struct rusage used;
    struct timespec began, ended;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";

        if (!strcmp(argv[i], "--trace")) {
            sim_tracing = true;
            continue;
        }
        if (!strcmp(argv[i], "--seed")) o.seed = strtoull(value, NULL, 0);
        else if (!strcmp(argv[i], "--nodes")) o.nodes = (uint32_t)strtoul(value, NULL, 0);
        else if (!strcmp(argv[i], "--tasks")) o.tasks = (uint32_t)strtoul(value, NULL, 0);
        else if (!strcmp(argv[i], "--drivers")) o.drivers = (uint32_t)strtoul(value, NULL, 0);
        else {
            fprintf(stderr, "usage: skate-sim [--seed N] [--trace] [--nodes N] [--tasks N] "
                            "[--drivers N]\n");
            return 2;
        }
        i++;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    run(&o);
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    (void)getrusage(RUSAGE_SELF, &used);
    printf("seed %llu: %s; %.3f s simulated in %.3f s, %llu events, %ld MB, hash %016llx\n",
           (unsigned long long)o.seed, sim_failure[0] ? sim_failure : "ok", (double)sim_now / 1e9,
           (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9,
           (unsigned long long)sim_steps, used.ru_maxrss >> 10,
           (unsigned long long)sim_trace_hash());
    return sim_failure[0] ? 1 : 0;
}
