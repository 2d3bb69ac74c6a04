/* faults.c - see faults.h. */
#include "faults.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "users.h"

static const char *const names[] = {"worker", "raylet", "power", "zygote", "driver",
                                    "break",  "cut",    "isle",  "slow",   "pause",
                                    "write",  "gcs",    "disk",  "wall",   "heads"};
enum { NAMES = sizeof names / sizeof *names, LONG_MS = 9000 };

static struct {
    uint32_t kinds;
    int64_t until, each; /* each: between two, on average */
    bool over;
} plan;

extern int64_t sim_wall_offset;

uint32_t faults_of(const char *text) {
    uint32_t set = 0;

    while (*text) {
        size_t n = strcspn(text, ",");
        uint32_t i = 0;

        if (n == 3 && !memcmp(text, "all", 3)) set |= FAULTS_ALL;
        while (i < NAMES && (strlen(names[i]) != n || memcmp(names[i], text, n) != 0)) i++;
        if (i < NAMES) set |= 1u << i;
        text += n + (text[n] == ',');
    }
    return set;
}

static struct sim_machine *some_machine(void) {
    return sim_cluster.machines[sim_below(sim_cluster.count)];
}

/* A living process of a kind, by chance: 'w' worker, 'd' driver, 'z' zygote, 'r' raylet, '*'. */
static bool is_kind(const struct sim_proc *p, char kind) {
    if (p->dead) return false;
    switch (kind) {
    case 'w': return strstr(p->name, ".w") != NULL;
    case 'd': return strstr(p->name, ".d") != NULL;
    case 'z': return strstr(p->name, ".zygote") != NULL;
    case 'r': return p->machine && p->machine->raylet_proc == p;
    default: return p != sim_cluster.gcs_proc || plan.kinds & FAULT_GCS;
    }
}

static struct sim_proc *some_proc(char kind) {
    uint32_t n = 0;

    for (struct sim_proc *p = sim_procs; p; p = p->next) n += is_kind(p, kind);
    if (n == 0) return NULL;
    n = (uint32_t)sim_below(n);
    for (struct sim_proc *p = sim_procs; p; p = p->next)
        if (is_kind(p, kind) && n-- == 0) return p;
    return NULL;
}

static int64_t a_while(void) { /* mostly short, sometimes longer than any patience */
    uint64_t dice = sim_below(10);

    return (int64_t)sim_below(dice < 5 ? 50 : dice < 8 ? 700 : dice < 9 ? 3000 : LONG_MS) * SIM_MS;
}

/* ---- one of each ---- */

static void kill_some(char kind) {
    struct sim_proc *p = some_proc(kind);

    if (p) sim_kill(p, SIGKILL);
}

static void go_dark(struct sim_machine *m) {
    if (m->index == 0 && !(plan.kinds & FAULT_GCS)) return;
    sim_note("%s goes dark", m->name);
    for (struct sim_proc *p = sim_procs; p; p = p->next)
        if (p->machine == m && !p->dead) sim_nets_end(p, true);
    for (struct sim_proc *p = sim_procs; p; p = p->next)
        if (p->machine == m) sim_kill(p, SIGKILL);
}

struct path {
    struct sim_machine *a, *b;
    bool both;
};

static void heal(void *arg) {
    struct path p = *(struct path *)arg;

    free(arg);
    sim_cut(p.a, p.b, false);
    if (p.both) sim_cut(p.b, p.a, false);
}

static void cut_path(struct sim_machine *a, struct sim_machine *b, bool both, int64_t ns) {
    struct path *p = malloc(sizeof *p);

    if (!p) abort();
    *p = (struct path){a, b, both};
    sim_cut(a, b, true);
    if (both) sim_cut(b, a, true);
    sim_later(ns, heal, p);
}

static void cut_some(void) {
    struct sim_machine *a = some_machine(), *b = some_machine();

    if (a != b) cut_path(a, b, sim_below(2), a_while());
}

static void cut_isle(void) {
    struct sim_machine *a = some_machine();
    bool both = sim_below(2), in = sim_below(2);
    int64_t ns = a_while();

    for (uint32_t i = 0; i < sim_cluster.count; i++) {
        struct sim_machine *b = sim_cluster.machines[i];

        if (a != b) cut_path(in ? b : a, in ? a : b, both, ns);
    }
}

static void quick_again(void *arg) {
    (void)arg;
    sim_slow = 1;
}

static void pause_some(void) {
    struct sim_proc *p = some_proc('*');
    int64_t ns = a_while();

    if (!p) return;
    sim_note("%s is stopped for %.3f s", p->name, (double)ns / 1e9);
    p->paused_until = sim_now + ns;
}

static void crash_some(void) {
    struct sim_proc *p = some_proc('*');

    if (p) p->crash_at = p->writes + 1 + sim_below(40);
}

/* The head hangs, and somebody starts another on its log, under its address. The old one goes on
 * some time with what it has heard, and finds that the log is not its own. */
static void take_over(void) {
    struct sim_proc *old = sim_cluster.gcs_proc;
    int64_t ns = a_while();

    if (!old) return;
    sim_note("another head takes over, the old one is stopped for %.3f s", (double)ns / 1e9);
    old->paused_until = sim_now + ns;
    sim_net_moved(old);
    sim_gcs_start();
}

static void strike(enum fault kind) {
    switch (kind) {
    case FAULT_WORKER: kill_some('w'); break;
    case FAULT_RAYLET: kill_some('r'); break;
    case FAULT_POWER: go_dark(some_machine()); break;
    case FAULT_ZYGOTE: kill_some('z'); break;
    case FAULT_DRIVER: kill_some('d'); break;
    case FAULT_BREAK: (void)sim_break_one(); break;
    case FAULT_CUT: cut_some(); break;
    case FAULT_ISLE: cut_isle(); break;
    case FAULT_SLOW:
        sim_slow = 2 + (uint32_t)sim_below(100);
        sim_later(a_while(), quick_again, NULL);
        break;
    case FAULT_PAUSE: pause_some(); break;
    case FAULT_WRITE: crash_some(); break;
    case FAULT_GCS:
        if (sim_cluster.gcs_proc) sim_kill(sim_cluster.gcs_proc, SIGKILL);
        break;
    case FAULT_DISK: sim_disk_trouble(a_while()); break;
    case FAULT_HEADS: take_over(); break;
    case FAULT_WALL: sim_wall_offset += ((int64_t)sim_below(7200) - 3600) * SIM_S; break;
    default: break;
    }
}

/* ---- again and again ---- */

/* What a supervisor does: daemons that are gone start again. */
static void revive(void *arg) {
    (void)arg;
    if (!sim_cluster.gcs_proc && sim_below(3) == 0) sim_gcs_start();
    for (uint32_t i = 0; i < sim_cluster.count; i++) {
        struct sim_machine *m = sim_cluster.machines[i];

        if (!m->raylet_proc && sim_cluster.gcs_proc && sim_below(3) == 0) sim_raylet_start(m);
    }
    sim_later(50 * SIM_MS + (int64_t)sim_below(300 * SIM_MS), revive, NULL);
}

static void mend(void) {
    plan.over = true;
    sim_slow = 1;
    sim_disk_trouble(0);
    for (uint32_t i = 0; i < sim_cluster.count; i++)
        for (uint32_t j = 0; j < sim_cluster.count; j++)
            sim_cut(sim_cluster.machines[i], sim_cluster.machines[j], false);
    for (struct sim_proc *p = sim_procs; p; p = p->next) p->crash_at = p->paused_until = 0;
    sim_note("all is mended");
}

static void next(void *arg) {
    uint32_t kind;

    (void)arg;
    if (sim_now >= plan.until) {
        mend();
        return;
    }
    do kind = (uint32_t)sim_below(NAMES);
    while (!(plan.kinds >> kind & 1));
    strike(1u << kind);
    sim_later((int64_t)sim_below(2 * (uint64_t)plan.each), next, NULL);
}

void faults_start(uint32_t kinds, int64_t for_ns) {
    plan.kinds = kinds;
    plan.until = sim_now + for_ns;
    plan.each = 20 * SIM_MS << sim_below(6);
    plan.over = kinds == 0;
    if (!kinds) return;
    sim_later((int64_t)sim_below(2 * (uint64_t)plan.each), next, NULL);
    sim_later(0, revive, NULL);
}

bool faults_over(void) { return plan.over; }
bool faults_have(enum fault kind) { return plan.kinds & kind; }
