/* scale.c - skate-scale: how scheduling grows with the cluster. The real GCS, and on each node the
 * real queue, view and grants of a raylet (src/gcs, src/sched, raylet/grants.c, demand.c,
 * claims.c), thousands of them in one thread under virtual time. See README.md.
 *
 * A task here is a lease of its own: every one of them is placed, none reuses a worker. Placed by
 * its raylet's own row, or by the GCS; around each such decision stands the thread's CPU clock
 * (scale_clock.c). In the end every task must have run once, and every node must be whole again. */
#include "scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/assert.h"
#include "raylet/demand.h"
#include "raylet/pool.h"

#define MS INT64_C(1000000)
enum { LATENCY_NS = 100000, TICK_MS = 500, BEAT_MS = 1000, ZONES = 10, NEAR = 8 };

struct scale scale;

/* ---- events: a heap by time and birth ---- */

static bool before(const struct event *a, const struct event *b) {
    return a->at != b->at ? a->at < b->at : a->birth < b->birth;
}

void scale_at(int64_t at, enum event_kind kind, uint32_t node, void *p) {
    struct event e = {.at = at, .birth = ++scale.births, .kind = kind, .node = node, .p = p};
    uint32_t i = scale.event_count++;

    if (i == scale.event_cap) {
        scale.event_cap = scale.event_cap ? scale.event_cap * 2 : 4096;
        scale.events = realloc(scale.events, scale.event_cap * sizeof e);
        SKATE_ASSERT(scale.events);
    }
    while (i > 0 && before(&e, &scale.events[(i - 1) / 2])) {
        scale.events[i] = scale.events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    scale.events[i] = e;
}

static struct event next_event(void) {
    struct event first = scale.events[0], e = scale.events[--scale.event_count];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < scale.event_count) {
        if (child + 1 < scale.event_count &&
            before(&scale.events[child + 1], &scale.events[child]))
            child++;
        if (!before(&scale.events[child], &e)) break;
        scale.events[i] = scale.events[child];
        i = child;
    }
    scale.events[i] = e;
    return first;
}

uint32_t scale_random(uint32_t n) {
    scale.seed = scale.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((scale.seed >> 33) % n);
}

void scale_send(enum event_kind kind, uint32_t node, const void *frame, uint32_t len) {
    void *copy = malloc(len);

    SKATE_ASSERT(copy);
    memcpy(copy, frame, len);
    scale.frames[kind]++;
    scale.bytes[kind] += len;
    scale_at(scale.now + LATENCY_NS, kind, node, copy);
}

/* ---- the GCS ---- */

static void gcs_event(enum gcs_event_kind kind, uint64_t link, const void *frame) {
    struct gcs_event e = {.kind = kind, .link = link, .frame = frame,
                          .len = frame ? wire_head(frame)->size : 0, .peer_ip = "10.0.0.1"};
    struct gcs_out *out = &scale.out;

    gcs_step(scale.gcs, &e, scale.now, out);
    for (uint32_t i = 0; i < out->count; i++) {
        SKATE_ASSERT(!out->sends[i].close);
        scale_send(TO_NODE, (uint32_t)out->sends[i].link, out->bytes + out->sends[i].at,
                   out->sends[i].len);
    }
}

/* ---- nodes ---- */

static void set(struct resources *r, const char *name, double amount) {
    SKATE_ASSERT(resources_set(r, name, (int64_t)(amount * RESOURCE_UNIT)) == 0);
}

/* Six of ten have 8 CPUs, three 16, one 16 and 4 GPUs; each has memory and names of its own. */
static void join(uint32_t number) {
    struct raylet *r = &scale.nodes[number].r;
    uint8_t packed[RESOURCES_MAX * 80];
    char text[LABELS_MAX];
    struct wire_node_register *m;
    struct wire_buf b;

    set(&r->set.resources, "CPU", number % 10 < 6 ? 8 : 16);
    set(&r->set.resources, "memory", 32e9 + 4096.0 * number);
    snprintf(text, sizeof text, "node:10.%u.%u.%u", number >> 16, number >> 8 & 255, number & 255);
    set(&r->set.resources, text, 1);
    if (number % 10 == 9) set(&r->set.resources, "GPU", 4);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){number, 1};
    m->version = WIRE_VERSION;
    m->is_head = number == 1;
    m->port = 1;
    WIRE_PUT(&b, node_register, resources, packed,
             resources_pack(&r->set.resources, packed, sizeof packed));
    snprintf(text, sizeof text, "zone=z%u,ray.io/node-id=%032x", number % ZONES, number);
    WIRE_PUT(&b, node_register, labels, text, strlen(text));
    SKATE_ASSERT(wire_end(&b) == 0);
    scale_send(TO_GCS, number, b.p, b.len);
    wire_release(&b);
}

/* As raylet/gcs_link.c does it, without processes and sockets. */
static void on_welcome(struct node *n, const struct wire_node_welcome *m) {
    struct raylet *r = &n->r;
    struct sched_node *own;

    SKATE_ASSERT(m->status == 0 && r == &scale.nodes[m->node].r);
    r->node = r->view.self = m->node;
    r->self = proc_make(m->node, 0);
    own = sched_view_add(&r->view, m->node);
    SKATE_ASSERT(own);
    own->alive = true;
    own->total = own->avail = r->set.resources;
    snprintf(own->labels, LABELS_MAX, "zone=z%u,ray.io/node-id=%032x", m->node % ZONES, m->node);
    gpus_init(&r->gpus, resources_amount(&own->total, "GPU"));
    scale.joined++;
    scale_at(scale.now + scale_random(BEAT_MS) * MS, BEAT, m->node, NULL);
}

static void on_info(struct raylet *r, const struct wire_node_info *m) {
    struct sched_node *row;
    uint32_t len;
    const void *data = wire_node_info_total(m, &len);

    scale.infos++;
    if (m->node == r->node) return;
    row = sched_view_add(&r->view, m->node);
    SKATE_ASSERT(row && resources_unpack(&row->total, data, len) == 0);
    row->avail = row->total;
    row->alive = m->state == 1;
    sched_view_reshape(&r->view, row);
}

static void on_gcs_frame(struct node *n, const void *frame) {
    switch (wire_head(frame)->kind) {
    case WIRE_NODE_WELCOME: on_welcome(n, frame); break;
    case WIRE_NODE_INFO: on_info(&n->r, frame); break;
    case WIRE_DEMAND_PLACE: demand_placed(&n->r, frame); break;
    default: break;
    }
}

static void report(struct raylet *r, bool beat) {
    uint8_t packed[RESOURCES_MAX * 80];
    uint64_t room[256];
    struct wire_buf b;

    r->reported_ns = scale.now;
    wire_init(&b, room, sizeof room);
    (void)wire_begin(&b, WIRE_NODE_REPORT);
    WIRE_PUT(&b, node_report, available, packed,
             resources_pack(&node_own(r)->avail, packed, sizeof packed));
    SKATE_ASSERT(wire_end(&b) == 0);
    scale_send(TO_GCS, r->node, b.p, b.len);
    wire_release(&b);
    demand_changed(r, beat);
}

void node_report(struct raylet *r) { report(r, false); }

/* ---- drivers ---- */

struct kind { /* of tasks */
    uint32_t weight; /* of 100 */
    double cpus, gpus, memory;
    uint32_t strategy;
    bool zone, near;
};
static const struct kind kinds[] = {
    {.weight = 71, .cpus = 1},
    {.weight = 10, .cpus = 1, .strategy = SCHED_SPREAD},
    {.weight = 8, .cpus = 1, .zone = true},
    {.weight = 1, .cpus = 1, .gpus = 1},
    {.weight = 3, .cpus = 2},
    {.weight = 2, .cpus = 0.5, .memory = 2e9},
    {.weight = 2, .cpus = 1, .near = true},
    {.weight = 2, .cpus = 1, .strategy = SCHED_SOFT},
    {.weight = 1, .cpus = 1, .strategy = SCHED_AFFINITY},
};

static void submit(uint32_t node, const struct kind *k, uint32_t count) {
    struct resources want = {0};
    uint8_t packed[RESOURCES_MAX * 80];
    uint64_t near[NEAR], room[128];
    struct wire_lease_req *m;
    struct wire_buf b;
    char zone[32];

    set(&want, "CPU", k->cpus);
    if (k->gpus > 0) set(&want, "GPU", k->gpus);
    if (k->memory > 0) set(&want, "memory", k->memory);
    for (uint32_t i = 0; i < NEAR; i++) near[i] = proc_make(1 + scale_random(scale.node_count), 7);
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LEASE_REQ);
    m->req = ++scale.reqs;
    m->owner = proc_make(node, 5);
    m->job = 1;
    m->count = count;
    m->strategy = k->strategy;
    m->bundle = -1;
    if (k->strategy >= SCHED_AFFINITY) m->affinity = near[0];
    WIRE_PUT(&b, lease_req, resources, packed, resources_pack(&want, packed, sizeof packed));
    if (k->near) WIRE_PUT(&b, lease_req, locality, near, count * sizeof *near);
    WIRE_PUT(&b, lease_req, name, "task", 4);
    snprintf(zone, sizeof zone, "zone=z%u", scale_random(ZONES));
    if (k->zone) WIRE_PUT(&b, lease_req, labels, zone, strlen(zone));
    SKATE_ASSERT(wire_end(&b) == 0);
    grants_request(&scale.nodes[node].r, m->owner, (const void *)b.p);
    wire_release(&b);
    scale.submitted += count;
}

/* A driver asks for all of its tasks: each kind in some requests of equal size. */
static void drive(uint32_t node) {
    uint32_t all = scale.tasks / scale.drivers, mine = 0;

    for (uint32_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint32_t count = i == 0 ? 0 : (uint32_t)((uint64_t)all * kinds[i].weight / 100);
        uint32_t parts = kinds[i].near ? count / NEAR : kinds[i].zone ? ZONES : 8;

        for (uint32_t p = 0; i > 0 && p < parts; p++) {
            submit(node, &kinds[i], kinds[i].near ? NEAR : count / parts);
            mine += kinds[i].near ? NEAR : count / parts;
        }
    }
    submit(node, &kinds[0], all - mine);
}

/* ---- the run ---- */

static void run_event(const struct event *e) {
    struct node *n = &scale.nodes[e->node];
    struct loop_task *task = e->p;

    scale.now = e->at;
    switch (e->kind) {
    case TO_GCS: gcs_event(GCS_FRAME, e->node, e->p); break;
    case TO_NODE: on_gcs_frame(n, e->p); break;
    case TO_PEER: {
        const struct wire_route *m = e->p;
        uint32_t len;

        grants_request(&n->r, m->src, (const void *)wire_route_frame(m, &len));
        break;
    }
    case JOIN: join(e->node); break;
    case DRIVE: drive(e->node); break;
    case ENDED: scale_ended(&n->r, e->p); return;
    case PASS:
        task->link = NULL;
        task->run(task->arg);
        return;
    case TIMER: scale_timer(e->p); return;
    case BEAT:
        report(&n->r, true);
        scale_at(scale.now + BEAT_MS * MS, BEAT, e->node, NULL);
        return;
    case TICK:
        gcs_event(GCS_TICK, 0, NULL);
        scale_memory();
        scale_at(scale.now + TICK_MS * MS, TICK, 0, NULL);
        return;
    }
    free(e->p);
}

/* What is left must be nothing. */
static int check(void) {
    struct gcs_event list = {.kind = GCS_FRAME, .link = 1};
    struct wire_list m = {.head = {.size = sizeof m, .kind = WIRE_LIST, .fixed = sizeof m,
                                   .call = 1}, .what = 7};
    const struct wire_rows *rows;

    if (scale.failed || scale.done != scale.submitted)
        return fprintf(stderr, "%u of %u tasks ended, %u failed\n", scale.done, scale.submitted,
                       scale.failed), 1;
    for (uint32_t i = 1; i <= scale.node_count; i++) {
        const struct sched_node *own = node_own(&scale.nodes[i].r);

        for (uint32_t k = 0; k < own->total.count; k++)
            if (own->avail.v[k].amount != own->total.v[k].amount)
                return fprintf(stderr, "node %u has lost some %s\n", i, own->total.v[k].name), 1;
    }
    list.frame = &m;
    list.len = sizeof m;
    gcs_step(scale.gcs, &list, scale.now, &scale.out);
    rows = (const void *)scale.out.bytes;
    if (scale.out.count != 1 || rows->count)
        return fprintf(stderr, "the GCS still holds %u demands\n", rows->count), 1;
    return 0;
}

static void run_until(bool (*over)(void)) {
    while (!over() && scale.event_count) {
        struct event e = next_event();

        run_event(&e);
    }
}

static bool all_joined(void) { return scale.joined == scale.node_count; }
static bool all_done(void) { return scale.done == scale.tasks && scale.submitted == scale.tasks; }
static bool all_quiet(void) { return scale.now > scale.end_ns; }

int main(int argc, char **argv) {
    struct gcs_opts opts = {0};

    if (argc < 3) return fprintf(stderr, "usage: skate-scale NODES TASKS [SEED]\n"), 2;
    scale.node_count = (uint32_t)strtoul(argv[1], NULL, 10);
    scale.drivers = scale.node_count / 100 + 1;
    scale.tasks = (uint32_t)strtoul(argv[2], NULL, 10) / scale.drivers * scale.drivers;
    scale.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    scale.now = 1000 * MS;
    SKATE_ASSERT(gcs_new(&opts, &scale.gcs) == 0);
    scale_start();
    for (uint32_t i = 1; i <= scale.node_count; i++)
        scale_at(scale.now + (int64_t)i * MS / 10, JOIN, i, NULL);
    scale_at(scale.now, TICK, 0, NULL);
    run_until(all_joined);
    scale.join_infos = scale.infos;
    scale_joined();
    for (uint32_t i = 0; i < scale.drivers; i++)
        scale_at(scale.now + i * 10 * MS, DRIVE, 1 + i * 100 % scale.node_count, NULL);
    run_until(all_done);
    scale_finished();
    scale.end_ns = scale.now + 2000 * MS;
    run_until(all_quiet);
    if (check()) return 1;
    scale_print();
    while (scale.event_count) {
        struct event e = next_event();

        if (e.kind <= TO_PEER) free(e.p);
    }
    free(scale.events);
    gcs_out_release(&scale.out);
    scale.gcs = gcs_free(scale.gcs);
    scale_release();
    return 0;
}
