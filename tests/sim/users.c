/* users.c - see users.h. A function is its number and knows its result: the sum of its argument and
 * its dependencies, so that whoever waits for it can tell. */
#include "users.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "faults.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

enum { FN_ADD = 1, FN_SLEEP, FN_BIG, FN_NEST, FN_FAIL, FN_COUNTER, FNS };
enum { CONNECT_S = 30, BIG_BYTES = 20000 };

struct sim_driver *sim_drivers;

/* ---- values ---- */

static int64_t number_of(const struct core_view *v) {
    int64_t x = 0;

    if (v->size >= sizeof x) memcpy(&x, v->data, sizeof x);
    return x;
}

static int wait_for(struct core *c, const struct skate_id *ids, uint32_t n) {
    uint8_t ready[256];
    int r;

    do r = core_wait(c, ids, n, n, -1, CORE_FETCH, ready);
    while (r == -SKATE_EINTR || (r >= 0 && r < (int)n));
    return r;
}

/* 0: *ret is its number; 1: it is an error; negative. */
static int read_number(struct core *c, const struct skate_id *id, int64_t *ret) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));
    struct core_view v;
    int r = wait_for(c, id, 1);

    if (r < 0) return r;
    do r = core_read(c, id, copy, &v);
    while (r == -SKATE_EINTR);
    if (r < 0) return r;
    *ret = number_of(&v);
    sim_note("read: %llu bytes, flags %u, pin %llu, %lld", (unsigned long long)v.size, v.flags,
             (unsigned long long)v.pin, (long long)*ret);
    r = v.flags & VAL_ERROR ? 1 : 0;
    if (r) sim_note("an error: %.*s", (int)(v.size < 300 ? v.size : 300), (const char *)v.data);
    core_unpin(c, v.pin);
    return r;
}

/* ---- asking ---- */

static uint32_t class_of(struct core *c, double cpus) {
    struct resources want = {0};
    uint8_t packed[256];
    struct core_class_opts o = {.resources = packed, .name = "f"};
    uint32_t cls = 0;

    if (resources_set(&want, "CPU", (int64_t)(cpus * RESOURCE_UNIT)) < 0) abort();
    o.resources_len = (uint32_t)resources_pack(&want, packed, sizeof packed);
    if (core_class(c, &o, &cls) < 0) sim_fail("core_class");
    return cls;
}

static int submit(struct core *c, uint64_t fn, int64_t arg, const struct skate_id *deps, uint32_t n,
                  struct skate_id *ret) {
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = fn, .returns = 1, .name = "f", .deps = deps, .dep_count = n,
                          .retries = -1,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    int r;

    t.cls = class_of(c, 1);
    do r = core_submit(c, &t, ret, &err);
    while (r == -SKATE_EINTR);
    if (r == 0) *ret = id_with_index(*ret, 1);
    return r;
}

/* ---- a worker ---- */

static void finish(struct core *c, struct core_job *job, enum core_status status, const void *data,
                   uint64_t size) {
    struct core_part part = {data, size, 8};
    struct core_value v = {.format = FORMAT_RAW, .flags = status ? VAL_ERROR : 0, .part_count = 1,
                           .parts = &part};
    int r;

    do r = core_finish(c, job, status, &v, job->kind == 2 && status == CORE_OK ? 0 : 1);
    while (r == -SKATE_EINTR);
}

static int define(struct core *c) {
    for (int64_t i = 1; i < FNS; i++) {
        struct core_part part = {&i, 8, 8};
        struct core_value f = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
        int r = core_define(c, (uint64_t)i, "f", &f, NULL);

        if (r < 0) return r;
    }
    return 0;
}

static int64_t nest(struct core *c, int64_t arg) {
    struct skate_id ids[3];
    int64_t sum = 0, x = 0;

    if (define(c) < 0) sim_exit(1);
    for (int i = 0; i < 3; i++)
        if (submit(c, FN_ADD, arg, NULL, 0, &ids[i]) < 0) sim_exit(1);
    for (int i = 0; i < 3; i++) {
        int r = read_number(c, &ids[i], &x);

        if (r < 0) sim_exit(1); /* its node is gone */
        sum += r ? -1000000 : x;
        core_ref_drop(c, &ids[i]);
    }
    return sum;
}

static void run_one(struct core *c, struct core_job *job, int64_t *count) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));
    int64_t sum = number_of(&job->args);
    struct core_view code;
    uint64_t fn = job->kind == 1 ? FN_COUNTER : job->fn;
    int r = 0;

    if (job->kind != 1) {
        do r = core_function(c, job, job->fn, copy, &code);
        while (r == -SKATE_EINTR);
        if (r == 0) core_unpin(c, code.pin);
    }
    for (uint32_t i = 0; i < job->dep_count; i++)
        if (job->deps[i].flags & VAL_ERROR)
            fn = FN_FAIL;
        else
            sum += number_of(&job->deps[i]);
    sim_note("runs fn %llu, kind %u, sum %lld", (unsigned long long)fn, job->kind, (long long)sum);
    sim_sleep((int64_t)sim_below(200 * SIM_US));
    if (fn == FN_SLEEP) sim_sleep((int64_t)sim_below(100 * SIM_MS));
    if (fn == FN_NEST) sum = nest(c, sum);
    if (fn == FN_COUNTER && job->kind == 1) sum = *count += sum;
    if (fn == FN_BIG) {
        uint8_t *big = calloc(1, BIG_BYTES);

        if (!big) abort();
        memcpy(big, &sum, sizeof sum);
        finish(c, job, CORE_OK, big, BIG_BYTES);
        free(big);
    } else
        finish(c, job, r < 0 || fn == FN_FAIL ? CORE_ERROR : CORE_OK, &sum, sizeof sum);
}

void *sim_worker_main(void *fd) {
    struct core_job *job;
    struct core *c;
    int64_t count = 0;
    int r;

    sim_sleep(SIM_MS + (int64_t)sim_below(3 * SIM_MS));
    r = core_attach((int)(intptr_t)fd, &c, NULL);
    if (r < 0) {
        sim_note("core_attach: %s", skate_strerror(r));
        sim_exit(1);
    }
    while ((r = core_next(c, &job)) == 0 || r == -SKATE_EINTR)
        if (r == 0) run_one(c, job, &count);
    sim_note("a worker leaves: %s", skate_strerror(r));
    sim_exit(0);
}

/* ---- a driver ---- */

static int start_job(struct sim_driver *d, struct core *c) {
    const struct wire_job_started *m;
    struct wire_job_start *q;
    struct wire_buf b;
    void *answer = NULL;
    uint32_t len;
    int r;

    wire_init(&b, NULL, 0);
    q = wire_begin(&b, WIRE_JOB_START);
    q->driver = core_get_info(c)->proc;
    q->pid = d->proc->pid;
    WIRE_PUT(&b, job_start, namespace, "sim", 3);
    WIRE_PUT(&b, job_start, entrypoint, "sim", 3);
    r = wire_end(&b);
    if (r == 0) r = core_call(c, SKATE_GCS, b.p, b.len, 60 * SIM_S, &answer, &len);
    wire_release(&b);
    if (r < 0) return r;
    m = answer;
    r = m->head.kind == WIRE_JOB_STARTED ? m->status : -SKATE_EPROTO;
    if (r == 0) core_set_job(c, m->job);
    free(answer);
    return r;
}

/* One wait of the driver has ended. */
static void judge(struct sim_driver *d, int r, int64_t got, int64_t want) {
    d->done++;
    if (r == 1)
        d->errors++;
    else if (r < 0)
        snprintf(d->trouble, sizeof d->trouble, "a wait ended with %s", skate_strerror(r));
    else if (got != want)
        sim_fail("driver %u: a task gave %lld, not %lld", d->number, (long long)got,
                 (long long)want);
    else
        d->right++;
}

struct asked {
    struct skate_id id;
    int64_t want;
};

static bool ask(struct core *c, struct asked *a, const struct asked *before) {
    int64_t arg = (int64_t)sim_below(1000);
    uint64_t dice = sim_below(100);
    struct skate_id dep = before ? before->id : (struct skate_id){0};
    bool with = before && dice % 3 == 0;
    uint64_t fn = dice < 60 ? FN_ADD : dice < 75 ? FN_SLEEP : dice < 90 ? FN_BIG : FN_NEST;

    a->want = (arg + (with ? before->want : 0)) * (fn == FN_NEST ? 3 : 1);
    return submit(c, fn, arg, &dep, with, &a->id) == 0;
}

enum { AHEAD = 32 };

static void do_tasks(struct sim_driver *d, struct core *c) {
    struct asked v[AHEAD];
    uint32_t sent = d->done, got = d->done;

    while (got < d->tasks && !d->trouble[0]) {
        struct asked *a;
        int64_t x = 0;
        int r;

        while (sent < d->tasks && sent - got < AHEAD) {
            a = &v[sent % AHEAD];
            if (!ask(c, a, sent > got ? &v[(sent - 1) % AHEAD] : NULL)) {
                snprintf(d->trouble, sizeof d->trouble, "a task could not be submitted");
                return;
            }
            sent++;
        }
        a = &v[got % AHEAD];
        r = read_number(c, &a->id, &x);
        judge(d, r, x, a->want);
        core_ref_drop(c, &a->id);
        got++;
    }
}

static void *driver_main(void *arg) {
    struct sim_driver *d = arg;
    struct skate_error err = {{0}};
    struct core_stats s;
    struct core *c;
    int r;

    r = core_connect(d->machine->socket_path, CONNECT_S * SIM_S, &c, &err);
    if (r == 0) r = start_job(d, c);
    if (r == 0) r = define(c);
    if (r < 0) {
        snprintf(d->trouble, sizeof d->trouble, "it could not start: %s", err.text);
        d->finished = true;
        sim_exit(1);
    }
    d->started = true;
    sim_note("driver %u begins", d->number);
    for (;;) {
        do_tasks(d, c);
        if (faults_over() || d->trouble[0]) break;
        sim_sleep((int64_t)sim_below(400 * SIM_MS));
        d->tasks += 1 + (uint32_t)sim_below(60);
    }
    for (int i = 0; i < 300 && !d->trouble[0]; i++) {
        core_get_stats(c, &s);
        d->quiet = s.objects == 0 && s.tasks_pending == 0 && s.leases == 0;
        if (d->quiet) break;
        sim_sleep(100 * SIM_MS);
    }
    sim_note("driver %u ends: %u done, %u right, %u errors, %s %s", d->number, d->done, d->right,
             d->errors, d->quiet ? "quiet" : "not quiet", d->trouble);
    if (!d->quiet)
        sim_note("left: %llu objects, %llu tasks, %llu leases", (unsigned long long)s.objects,
                 (unsigned long long)s.tasks_pending, (unsigned long long)s.leases);
    d->finished = true;
    core_close(c);
    sim_exit(0);
}

static void driver_ended(struct sim_proc *p) {
    struct sim_driver *d = p->user;

    if (!d->finished) d->excused = true; /* killed */
    d->finished = true;
}

void sim_drivers_node_lost(const struct sim_machine *m) {
    for (struct sim_driver *d = sim_drivers; d; d = d->next)
        if (d->machine == m && !d->finished) d->excused = true;
}

struct sim_driver *sim_driver_new(struct sim_machine *m, uint32_t tasks, uint32_t actors) {
    struct sim_driver *d = calloc(1, sizeof *d);
    char name[48];

    if (!d) abort();
    d->number = sim_drivers ? sim_drivers->number + 1 : 1;
    snprintf(name, sizeof name, "%s.d%u", m->name, d->number);
    d->machine = m;
    d->tasks = tasks;
    d->actors = actors;
    d->proc = sim_proc_new(name, m, NULL);
    d->proc->user = d;
    d->proc->on_end = driver_ended;
    d->next = sim_drivers;
    sim_drivers = d;
    (void)sim_thread_new(d->proc, driver_main, d);
    return d;
}
