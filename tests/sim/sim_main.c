/* sim_main.c - skate-sim: one seed, one run.
 *
 * usage: skate-sim [--seed N] [--trace] [--nodes N] [--tasks N] [--drivers N]
 *                  [--groups | --places] [--no-log | --private]
 *                  [--faults KINDS | --mix KINDS] [--fault-s S] */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "faults.h"
#include "sim.h"
#include "users.h"

enum { PATIENCE_S = 120, ARRIVALS = 8 };

struct options {
    uint64_t seed;
    uint32_t nodes, tasks, drivers, faults;
    int64_t fault_s;
};

static bool all_ready(void *arg) {
    (void)arg;
    for (uint32_t i = 0; i < sim_cluster.count; i++)
        if (!sim_cluster.machines[i]->ready) return false;
    return true;
}

static bool all_finished(void *arg) {
    (void)arg;
    checks_step();
    if (!faults_over()) return false;
    for (const struct sim_driver *d = sim_drivers; d; d = d->next)
        if (!d->finished) return false;
    return true;
}

static uint32_t arrivals, tasks_each;

/* Another program begins, on a node that is there. */
static void arrive(void *arg) {
    struct sim_machine *m = sim_cluster.machines[sim_below(sim_cluster.count)];

    (void)arg;
    if (faults_over() || arrivals == 0) return;
    if (m->ready) {
        arrivals--;
        (void)sim_driver_new(m, tasks_each, (uint32_t)sim_below(2));
    }
    sim_later((int64_t)sim_below(1500 * SIM_MS), arrive, NULL);
}

static void check_names(void) {
    struct sim_driver *d = sim_driver_new(sim_cluster.machines[0], 1, 0);

    d->checker = true;
    if (!sim_run(sim_now + PATIENCE_S * SIM_S, all_finished, NULL)) sim_fail("names are not told");
    (void)sim_run(sim_now + 60 * SIM_S, checks_quiet, NULL);
}

static void gcs_killed(void *arg) {
    (void)arg;
    sim_kill(sim_cluster.gcs_proc, SIGKILL);
}

static bool all_gone(void *arg) {
    (void)arg;
    for (const struct sim_proc *p = sim_procs; p; p = p->next)
        if (!p->dead) return false;
    return true;
}

/* A GCS that keeps no log is killed: nobody waits for it, and nothing is left. */
static void run_to_the_end(void) {
    sim_later((int64_t)sim_below(3 * SIM_S), gcs_killed, NULL);
    if (sim_run(sim_now + PATIENCE_S * SIM_S, all_gone, NULL)) return;
    for (const struct sim_proc *p = sim_procs; p; p = p->next)
        if (!p->dead) sim_fail("%s lives on without the GCS", p->name);
}

static void run(const struct options *o) {
    sim_seed(o->seed);
    sim_cluster_new(o->nodes, sim_worker_main);
    sim_gcs_start();
    for (uint32_t i = 0; i < o->nodes; i++) sim_raylet_start(sim_cluster.machines[i]);
    if (!sim_run(60 * SIM_S, all_ready, NULL)) sim_fail("the nodes are not ready after 60 s");
    for (uint32_t i = 0; i < o->drivers; i++)
        (void)sim_driver_new(sim_cluster.machines[sim_below(o->nodes)], o->tasks, 1);
    if (sim_cluster.no_log) {
        run_to_the_end();
        return;
    }
    faults_start(o->faults, o->fault_s * SIM_S);
    arrivals = ARRIVALS;
    tasks_each = o->tasks / 4 + 1;
    sim_later(0, arrive, NULL);
    if (!sim_run(sim_now + (PATIENCE_S + o->fault_s) * SIM_S, all_finished, NULL))
        sim_fail("the drivers have not ended %d s after all was mended", PATIENCE_S);
    (void)sim_run(sim_now + 60 * SIM_S, checks_quiet, NULL);
    if (!sim_failure[0] && sim_names) check_names();
    checks_end();
    if (sim_failure[0]) checks_dump();
}

/* What a seed chooses by itself when nobody says: some kinds of faults. */
static uint32_t by_seed(uint64_t seed, uint32_t of) {
    uint32_t set;

    sim_seed(seed ^ UINT64_C(0x5eed));
    do set = (uint32_t)(sim_random() & sim_random()) & of;
    while (of && !set);
    return set;
}

int main(int argc, char **argv) {
    struct options o = {.seed = 1, .nodes = 3, .tasks = 200, .drivers = 2, .fault_s = 6};
    uint32_t mix = 0;
    struct rusage used;
    struct timespec began, ended;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";

        if (!strcmp(argv[i], "--trace")) {
            sim_tracing = true;
            continue;
        }
        if (!strcmp(argv[i], "--groups") || !strcmp(argv[i], "--places")) {
            sim_groups = true;
            sim_places = argv[i][2] == 'p';
            continue;
        }
        if (!strcmp(argv[i], "--no-log") || !strcmp(argv[i], "--private")) {
            sim_cluster.no_log = true;
            sim_cluster.private = argv[i][2] == 'p';
            continue;
        }
        if (!strcmp(argv[i], "--seed")) o.seed = strtoull(value, NULL, 0);
        else if (!strcmp(argv[i], "--nodes")) o.nodes = (uint32_t)strtoul(value, NULL, 0);
        else if (!strcmp(argv[i], "--tasks")) o.tasks = (uint32_t)strtoul(value, NULL, 0);
        else if (!strcmp(argv[i], "--drivers")) o.drivers = (uint32_t)strtoul(value, NULL, 0);
        else if (!strcmp(argv[i], "--faults")) o.faults = faults_of(value);
        else if (!strcmp(argv[i], "--mix")) mix = faults_of(value);
        else if (!strcmp(argv[i], "--fault-s")) o.fault_s = (int64_t)strtoul(value, NULL, 0);
        else {
            fprintf(stderr, "usage: skate-sim [--seed N] [--trace] [--nodes N] [--tasks N] "
                            "[--drivers N] [--groups | --places] [--no-log | --private] "
                            "[--faults KINDS | --mix KINDS] [--fault-s S]\n");
            return 2;
        }
        i++;
    }
    if (!sim_tracing && !freopen("/dev/null", "w", stderr)) return 2;
    if (mix) o.faults = by_seed(o.seed, mix);
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    run(&o);
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    (void)getrusage(RUSAGE_SELF, &used);
    if (sim_failure[0]) {
        printf("seed %llu fails: %s\n", (unsigned long long)o.seed, sim_failure);
    }
    printf("seed %llu: %s; %.3f s simulated in %.3f s, %llu events, %ld MB, hash %016llx\n",
           (unsigned long long)o.seed, sim_failure[0] ? "FAILED" : "ok", (double)sim_now / 1e9,
           (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9,
           (unsigned long long)sim_steps, used.ru_maxrss >> 10,
           (unsigned long long)sim_trace_hash());
    return sim_failure[0] ? 1 : 0;
}
