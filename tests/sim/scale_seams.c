/* scale_seams.c - what raylet/grants.c, demand.c and claims.c call and skate-scale has simpler:
 * time, other nodes, processes (a task is a placement that lasts a while). And what is measured: a
 * decision is a call of sched_here (by a raylet's own row) or gcs_place_pick (by the GCS). */
#include "scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "gcs/gcs_demand.h"
#include "raylet/bundles.h"
#include "raylet/demand.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"

#define MS INT64_C(1000000)
enum { SHORTEST_MS = 200, LONGEST_MS = 1800 };

static struct {
    uint64_t start, joined, most;         /* bytes of memory */
    int64_t cpu_joined, cpu_done, virtual_joined, virtual_done, cpu_start;
    uint64_t join_bytes, frames[FRAME_KINDS], sent_bytes[FRAME_KINDS];
    double task_s;                        /* of all that ran, in virtual time, times CPUs */
} seen;

/* ---- clocks ---- */

static int64_t cpu_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void count(struct clock_counts *c, int64_t ns) {
    uint64_t b = (uint64_t)ns / BUCKET_NS;

    c->count++;
    c->sum_ns += (uint64_t)ns;
    if ((uint64_t)ns > c->most_ns) c->most_ns = (uint64_t)ns;
    c->buckets[b < BUCKETS ? b : BUCKETS - 1]++;
}

static double part_us(const struct clock_counts *c, double part) {
    uint64_t want = (uint64_t)((double)c->count * part), sum = 0;

    for (uint32_t i = 0; i < BUCKETS; i++) {
        sum += c->buckets[i];
        if (sum > want) return (i + 1) * BUCKET_NS / 1000.0;
    }
    return 0;
}

enum sched_place __real_sched_here(const struct sched_view *v, const struct sched_ask *ask);
enum sched_place __wrap_sched_here(const struct sched_view *v, const struct sched_ask *ask);
int __real_gcs_place_pick(struct gcs *g, const struct sched_ask *ask, uint32_t *ret_node);
int __wrap_gcs_place_pick(struct gcs *g, const struct sched_ask *ask, uint32_t *ret_node);

enum sched_place __wrap_sched_here(const struct sched_view *v, const struct sched_ask *ask) {
    int64_t t = cpu_ns();
    enum sched_place r = __real_sched_here(v, ask);

    count(&scale.here, cpu_ns() - t);
    return r;
}

int __wrap_gcs_place_pick(struct gcs *g, const struct sched_ask *ask, uint32_t *ret_node) {
    int64_t t = cpu_ns();
    int r = __real_gcs_place_pick(g, ask, ret_node);

    count(&scale.global, cpu_ns() - t);
    return r;
}

static uint64_t memory(void) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f || fscanf(f, "%*u %llu", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void scale_memory(void) {
    uint64_t now = memory();

    if (now > seen.most) seen.most = now;
}

/* ---- nodes ---- */

static struct job job = {.number = 1, .known = true};

void scale_start(void) {
    size_t bytes = ((size_t)scale.node_count + 1) * sizeof *scale.nodes;

    seen.start = memory();
    seen.cpu_start = cpu_ns();
    scale.nodes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SKATE_ASSERT(scale.nodes != MAP_FAILED);
    for (uint32_t i = 1; i <= scale.node_count; i++) {
        struct node *n = &scale.nodes[i];

        n->report = (struct loop_timer){.r = &n->r, .is_report = true};
        n->reclaim = (struct loop_timer){.r = &n->r};
        n->r.report_timer = &n->report;
        n->r.reclaim_timer = &n->reclaim;
        n->r.leases = leases_new(LEASES_REQUESTS_MAX);
        SKATE_ASSERT(n->r.leases && table_set(&n->r.jobs, job.number, &job) == 0);
        n->r.sched_task = (struct loop_task){.run = grants_run, .arg = &n->r};
    }
}

void scale_release(void) {
    for (uint32_t i = 1; i <= scale.node_count; i++) {
        struct raylet *r = &scale.nodes[i].r;

        r->leases = leases_free(r->leases);
        sched_view_release(&r->view);
        table_release(&r->jobs);
        table_release(&r->reclaimed);
    }
    (void)munmap(scale.nodes, ((size_t)scale.node_count + 1) * sizeof *scale.nodes);
}

struct sched_node *node_own(struct raylet *r) { return sched_view_find(&r->view, r->node); }
int64_t loop_now_ns(const struct loop *l) { return (void)l, scale.now; }
bool loop_timer_is_active(const struct loop_timer *t) { return t->active; }

void loop_timer_start(struct loop_timer *t, uint64_t after_ms, uint64_t repeat_ms) {
    (void)repeat_ms;
    t->active = true;
    t->due = scale.now + (int64_t)after_ms * MS;
    scale_at(t->due, TIMER, t->r->node, t);
}

void loop_timer_stop(struct loop_timer *t) { t->active = false; }

void scale_timer(struct loop_timer *t) {
    if (!t->active || t->due != scale.now) return;
    t->active = false;
    if (t->is_report)
        demand_report_soon(t->r);
    else
        grants_reclaim_tick(t->r);
}

void loop_post(struct loop *l, struct loop_task *t) {
    struct raylet *r = t->arg;

    (void)l;
    if (t->link) return;
    t->link = &t->next; /* queued */
    scale_at(scale.now, PASS, r->node, t);
}

void gcs_link_send(struct raylet *r, const void *frame, uint32_t len) {
    scale_send(TO_GCS, r->node, frame, len);
}

void route_send(struct raylet *r, uint64_t dst, const void *frame, uint32_t len) {
    struct wire_route *m;
    struct wire_buf b;

    if (wire_head(frame)->kind != WIRE_LEASE_REQ) return; /* a driver is told something */
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ROUTE);
    m->src = r->self;
    m->dst = dst;
    WIRE_PUT(&b, route, frame, frame, len);
    SKATE_ASSERT(wire_end(&b) == 0);
    scale_send(TO_PEER, proc_node(dst), b.p, b.len);
    wire_release(&b);
}

/* ---- tasks ---- */

void pool_place(struct raylet *r, struct job *j, struct placement *pl) {
    uint32_t ms = SHORTEST_MS + scale_random(LONGEST_MS - SHORTEST_MS);

    (void)j;
    if (++scale.running > scale.most_running) scale.most_running = scale.running;
    seen.task_s += ms / 1000.0 * (double)resources_amount(&pl->used, "CPU") / RESOURCE_UNIT;
    scale_at(scale.now + ms * MS, ENDED, r->node, pl);
}

void scale_ended(struct raylet *r, void *placement) {
    struct placement *pl = placement;

    claim_give(r, NULL, &pl->used, &pl->gpus);
    free(pl);
    scale.running--;
    scale.done++;
    grants_wake(r);
}

void lease_fail(struct raylet *r, uint64_t owner, uint64_t req, const char *text) {
    (void)r;
    (void)owner;
    if (scale.failed++ == 0) fprintf(stderr, "request %llu: %s\n", (unsigned long long)req, text);
}

struct placement *placement_free(struct placement *pl) { return free(pl), NULL; }
struct job *job_find(struct raylet *r, uint32_t number) { return (void)r, (void)number, &job; }

struct job_env *env_get(struct job *j, const void *bytes, uint32_t len) {
    return (void)bytes, (void)len, &j->plain;
}

bool env_is(const struct job_env *e, const void *bytes, uint32_t len) {
    return (void)e, (void)bytes, (void)len, true;
}

struct proc *proc_find(struct raylet *r, uint64_t id) { /* its drivers live */
    static struct proc driver;

    return proc_node(id) == r->node ? &driver : NULL;
}

/* ---- what does not occur here: no groups, actors, workers, or dead nodes ---- */

bool pool_is_full(const struct raylet *r) { return (void)r, false; }
bool links_is_dead(const struct raylet *r, uint32_t node) { return (void)r, (void)node, false; }
bool groups_run(struct raylet *r) { return (void)r, false; }
void groups_expire(struct raylet *r) { (void)r; }
bool actor_host_retry(struct raylet *r) { return (void)r, false; }
bool actor_host_waiting(const struct raylet *r) { return (void)r, false; }
void actor_host_expire(struct raylet *r) { (void)r; }
void bundles_sum(struct raylet *r, struct resources *sum) { (void)r, (void)sum; }
struct bundle *bundles_next(struct raylet *r, const struct bundle *b) {
    return (void)r, (void)b, NULL;
}
void pool_release(struct proc *p) { (void)p; }
void pool_idle(struct proc *p) { (void)p; }
void proc_doom(struct proc *p, const char *reason) { (void)p, (void)reason; }
void node_log(const char *format, ...) { (void)format; }
bool channels_open(struct proc *a, struct proc *b, uint32_t call) {
    return (void)a, (void)b, (void)call, false;
}
void pool_cancel(struct raylet *r, uint64_t owner, uint64_t req) {
    (void)r, (void)owner, (void)req;
}
void group_asks_request(struct raylet *r, uint64_t src, const struct lease_ask *a,
                        const struct resources *want, uint32_t hops) {
    (void)r, (void)src, (void)a, (void)want, (void)hops;
}
void group_asks_owner_died(struct raylet *r, uint64_t owner) { (void)r, (void)owner; }
bool group_asks_in_the_way(struct raylet *r, const struct proc *p) {
    return (void)r, (void)p, false;
}

/* ---- what was measured ---- */

void scale_joined(void) {
    seen.joined = seen.most = memory();
    seen.cpu_joined = cpu_ns();
    seen.virtual_joined = scale.now;
    seen.join_bytes = scale.bytes[TO_NODE];
    memcpy(seen.frames, scale.frames, sizeof seen.frames);
    memcpy(seen.sent_bytes, scale.bytes, sizeof seen.sent_bytes);
}

void scale_finished(void) {
    scale_memory();
    seen.cpu_done = cpu_ns();
    seen.virtual_done = scale.now;
}

static double cpus(void) {
    double sum = 0;

    for (uint32_t i = 1; i <= scale.node_count; i++)
        sum += (double)resources_amount(&node_own(&scale.nodes[i].r)->total, "CPU");
    return sum / RESOURCE_UNIT;
}

static void print_clock(const char *name, const struct clock_counts *c) {
    printf("  \"%s\": {\"count\": %llu, \"mean_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
           "\"p999_us\": %.2f, \"max_us\": %.1f},\n", name, (unsigned long long)c->count,
           c->count ? (double)c->sum_ns / (double)c->count / 1000 : 0, part_us(c, 0.5),
           part_us(c, 0.99), part_us(c, 0.999), (double)c->most_ns / 1000);
}

void scale_print(void) {
    double virtual_s = (double)(seen.virtual_done - seen.virtual_joined) / 1e9;
    double n = scale.node_count, tasks = scale.tasks;

    printf("{\n  \"nodes\": %u, \"tasks\": %u, \"drivers\": %u, \"cpus\": %.0f,\n",
           scale.node_count, scale.tasks, scale.drivers, cpus());
    print_clock("here", &scale.here);
    print_clock("global", &scale.global);
    printf("  \"cpu_s\": %.2f, \"cpu_us_per_task\": %.2f, \"join_cpu_us_per_node\": %.1f,\n",
           (double)(seen.cpu_done - seen.cpu_joined) / 1e9,
           (double)(seen.cpu_done - seen.cpu_joined) / 1e3 / tasks,
           (double)(seen.cpu_joined - seen.cpu_start) / 1e3 / n);
    printf("  \"bytes_per_node\": %.0f, \"bytes_per_task\": %.1f, \"most_running\": %u,\n",
           (double)(seen.joined - seen.start) / n, (double)(seen.most - seen.joined) / tasks,
           scale.most_running);
    printf("  \"join_infos_per_node\": %.1f, \"join_bytes_per_node\": %.0f,\n",
           (double)scale.join_infos / n, (double)seen.join_bytes / n);
    printf("  \"gcs_in_per_task\": %.2f, \"gcs_out_per_task\": %.2f, \"peer_per_task\": %.2f,\n",
           (double)(scale.frames[TO_GCS] - seen.frames[TO_GCS]) / tasks,
           (double)(scale.frames[TO_NODE] - seen.frames[TO_NODE]) / tasks,
           (double)(scale.frames[TO_PEER] - seen.frames[TO_PEER]) / tasks);
    printf("  \"virtual_s\": %.2f, \"busy\": %.3f\n}\n", virtual_s,
           seen.task_s / (cpus() * virtual_s));
}
