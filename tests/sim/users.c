/* users.c - see users.h. A function is its number and knows its result: the sum of its argument and
 * its dependencies, so that whoever waits for it can tell. */
#include "users.h"

#include "sim_os.h"
#include "users_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "faults.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

enum { CONNECT_S = 30, BIG_BYTES = 20000, TRIES = 60 };

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

int sim_read_number(struct core *c, const struct skate_id *id, int64_t *ret) {
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

/* A value of the caller's own, of some size. */
static int put(struct core *c, int64_t x, struct skate_id *ret) {
    size_t bytes = sim_below(2) ? sizeof x : BIG_BYTES;
    uint8_t *p = calloc(1, bytes);
    struct core_part part = {p, bytes, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    int r;

    if (!p) abort();
    memcpy(p, &x, sizeof x);
    do r = core_put(c, &v, ret, NULL);
    while (r == -SKATE_EINTR);
    free(p);
    return r;
}

/* A task that is given a ref inside its argument, and reads it itself. */
static int submit_reader(struct core *c, int64_t arg, const struct skate_id *inner,
                         struct skate_id *ret) {
    struct {
        int64_t arg;
        struct skate_id id;
    } both = {arg, *inner};
    struct core_part part = {&both, sizeof both, 8};
    struct core_task t = {.fn = FN_READ, .returns = 1, .name = "reader", .retries = -1,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part,
                                   .ref_count = 1, .refs = inner}};
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
        int r = sim_read_number(c, &ids[i], &x);

        if (r < 0) sim_exit(1); /* its node is gone */
        sum += r ? -1000000 : x;
        core_ref_drop(c, &ids[i]);
    }
    return sum;
}

/* What a ref in the argument stands for, added to the rest. False: it is an error. */
static bool read_inner(struct core *c, const struct core_view *args, int64_t *sum) {
    struct skate_id id;
    int64_t x = 0;
    int r;

    if (args->size < sizeof x + sizeof id) return false;
    memcpy(&id, (const uint8_t *)args->data + sizeof x, sizeof id);
    core_ref_add(c, &id);
    r = sim_read_number(c, &id, &x);
    if (r < 0) sim_exit(1);
    core_ref_drop(c, &id);
    *sum += x;
    return r == 0;
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
    if (fn == FN_READ && !read_inner(c, &job->args, &sum)) fn = FN_FAIL;
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

static int start_job_once(struct sim_driver *d, struct core *c) {
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

/* A GCS that cannot write says so: then later. */
static int start_job(struct sim_driver *d, struct core *c) {
    int r;

    for (int i = 0; (r = start_job_once(d, c)) == -SKATE_EIO && i < TRIES; i++)
        sim_sleep(500 * SIM_MS);
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
    uint64_t dice = sim_below(110);
    struct skate_id dep = before ? before->id : (struct skate_id){0};
    bool with = before && dice % 3 == 0;
    uint64_t fn = dice < 60 ? FN_ADD : dice < 75 ? FN_SLEEP : dice < 90 ? FN_BIG : FN_NEST;

    if (dice >= 100) {
        struct skate_id inner;
        int r = put(c, 1000 - arg, &inner);

        if (r == 0) r = submit_reader(c, arg, &inner, &a->id);
        if (r == 0) core_ref_drop(c, &inner);
        a->want = 1000;
        return r == 0;
    }
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
        r = sim_read_number(c, &a->id, &x);
        judge(d, r, x, a->want);
        core_ref_drop(c, &a->id);
        got++;
    }
}

/* ---- actors ---- */

struct sim_name *sim_names;

/* An actor's number at its owner, as the trace shows it. */
static unsigned shown(const struct skate_id *id) { return (unsigned)(id->seq >> 16); }

static void tell_lease(const void *frame) {
    const struct wire_lease_req *ask = frame; /* all but lease_return begin so */
    const struct wire_lease_grant *grant = frame;
    const struct wire_group_info *group = frame; /* those of raylets begin so */

    switch (ask->head.kind) {
    case WIRE_LEASE_REQ:
        printf(" req %llx of %llx, %u times, hops %u, group %llx.%d", (unsigned long long)ask->req,
               (unsigned long long)ask->owner, ask->count, ask->hops,
               (unsigned long long)ask->group.owner, ask->bundle);
        break;
    case WIRE_LEASE_GRANT:
        printf(" req %llx is %llx", (unsigned long long)grant->req,
               (unsigned long long)grant->worker);
        break;
    case WIRE_LEASE_CANCEL: printf(" req %llx", (unsigned long long)ask->req); break;
    case WIRE_LEASE_RETURN:
        printf(" of %llx", (unsigned long long)((const struct wire_lease_return *)frame)->worker);
        break;
    case WIRE_GROUP_RESERVE:
    case WIRE_GROUP_RESERVED:
    case WIRE_GROUP_RELEASE:
    case WIRE_GROUP_INFO:
        printf(" group %llx, %u", (unsigned long long)group->group.owner, group->epoch);
        if (group->head.kind == WIRE_GROUP_INFO) printf(" state %u", group->state);
        break;
    default: break;
    }
}

void sim_tell_inner(const void *frame) {
    const struct wire_actor_state *state = frame;
    const struct wire_actor_sub *one = frame; /* they all begin so */

    switch (state->head.kind) {
    case WIRE_ACTOR_CREATE:
    case WIRE_ACTOR_SUB:
    case WIRE_ACTOR_START:
    case WIRE_ACTOR_READY:
    case WIRE_ACTOR_REFUSED:
    case WIRE_ACTOR_KILL:
    case WIRE_ACTOR_UNUSED:
    case WIRE_ACTOR_EXIT:
    case WIRE_ACTOR_STATE:
        printf(" actor %llx.%u", (unsigned long long)one->actor.owner, shown(&one->actor));
        if (state->head.kind == WIRE_ACTOR_STATE) printf(" state %u", state->state);
        break;
    case WIRE_NODE_INFO: {
        const struct wire_node_info *m = frame;

        printf(" node %u state %u", m->node, m->state);
        break;
    }
    default: tell_lease(frame); break;
    }
}

static int actor_new(struct sim_driver *d, struct core *c, bool named, struct skate_id *ret) {
    struct resources want = {0};
    uint8_t packed[256];
    char name[40] = "";
    int64_t arg = 0;
    struct core_part part = {&arg, 8, 8};
    struct core_actor a = {.fn = FN_COUNTER, .max_restarts = -1, .max_task_retries = -1,
                           .max_concurrency = 1, .detached = named, .name = name, .space = "sim",
                           .cls = "Counter", .placing = packed, .held = "",
                           .place = {.bundle = -1},
                           .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    struct sim_name *n;
    int r;

    if (named) snprintf(name, sizeof name, "counter-%u-%u", d->number, ++d->names_made);
    if (resources_set(&want, "CPU", RESOURCE_UNIT) < 0) abort();
    a.placing_len = (uint32_t)resources_pack(&want, packed, sizeof packed);
    for (int i = 0; (r = core_actor_create(c, &a, ret, &err)) < 0 && i < TRIES; i++) {
        if (r != -SKATE_EINTR && !faults_have(FAULT_DISK)) break;
        if (r != -SKATE_EINTR) sim_sleep(500 * SIM_MS);
    }
    if (r < 0) {
        snprintf(d->trouble, sizeof d->trouble, "an actor could not be made: %s: %.400s",
                 skate_strerror(r), err.text);
        return r;
    }
    if (!named) return 0;
    n = calloc(1, sizeof *n); /* it was acknowledged: it has its name from now on */
    if (!n) abort();
    snprintf(n->name, sizeof n->name, "%s", name);
    n->actor = *ret;
    n->next = sim_names;
    sim_names = n;
    sim_note("the actor %s is there", name);
    return 0;
}

int sim_call(struct core *c, const struct skate_id *actor, struct skate_id *ret) {
    int64_t one = 1;
    struct core_part part = {&one, 8, 8};
    struct core_task t = {.actor = *actor, .returns = 1, .retries = -1, .name = "add",
                          .method = "add",
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    int r;

    do r = core_submit(c, &t, ret, &err);
    while (r == -SKATE_EINTR);
    if (r == 0) *ret = id_with_index(*ret, 1);
    return r;
}

/* Calls in order: each counts one on, or the actor began anew. No call is lost, and none runs twice
 * in one life of the actor. */
static void do_actor(struct sim_driver *d, struct core *c) {
    struct skate_id actor, ids[AHEAD];
    uint32_t n = 1 + (uint32_t)sim_below(AHEAD), rounds = 1 + (uint32_t)sim_below(3);
    int64_t x, before = 0;
    bool refused = false;

    if (actor_new(d, c, sim_below(3) == 0, &actor) < 0) return;
    while (rounds-- > 0 && !d->trouble[0] && !refused) {
        for (uint32_t i = 0; i < n; i++)
            if (sim_call(c, &actor, &ids[i]) < 0) {
                snprintf(d->trouble, sizeof d->trouble, "an actor could not be called");
                return;
            }
        for (uint32_t i = 0; i < n; i++) {
            int r = sim_read_number(c, &ids[i], &x);

            core_ref_drop(c, &ids[i]);
            if (refused) continue;
            if (r < 0) {
                snprintf(d->trouble, sizeof d->trouble, "a call ended with %s", skate_strerror(r));
                return;
            }
            d->calls++;
            refused = r == 1 && faults_have(FAULT_DISK); /* its making was */
            if (refused) continue;
            if (r == 1)
                sim_fail("driver %u: a call of an actor that always restarts failed", d->number);
            else if (x < 1 || x > before + 1)
                sim_fail("driver %u: a call counted %lld after %lld", d->number, (long long)x,
                         (long long)before);
            before = x;
        }
        sim_sleep((int64_t)sim_below(300 * SIM_MS));
    }
    sim_note("driver %u lets go of actor %u%s", d->number, shown(&actor),
             d->names_made && sim_names->actor.seq == actor.seq ? ", which has a name" : "");
    core_ref_drop(c, &actor);
}

/* Whoever was told that his actor is there finds it by its name, and can call it. */
static void check_name(struct core *c, struct sim_name *n) {
    const struct wire_actor_state *m;
    struct skate_id id;
    struct wire_buf b;
    void *answer = NULL;
    uint32_t len;
    int64_t x;
    int r;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_ACTOR_BY_NAME);
    WIRE_PUT(&b, actor_by_name, name, n->name, strlen(n->name));
    WIRE_PUT(&b, actor_by_name, namespace, "sim", 3);
    r = wire_end(&b);
    if (r == 0) r = core_call(c, SKATE_GCS, b.p, b.len, 60 * SIM_S, &answer, &len);
    wire_release(&b);
    m = answer;
    if (r < 0 || m->head.kind != WIRE_ACTOR_STATE || m->state > 2 ||
        !id_equal(&m->actor, &n->actor)) {
        sim_fail("the actor %s has lost its name (%s, state %u)", n->name, skate_strerror(r),
                 r < 0 ? 9 : m->state);
        return;
    }
    free(answer);
    core_ref_add(c, &n->actor);
    r = sim_call(c, &n->actor, &id);
    if (r == 0) r = sim_read_number(c, &id, &x);
    if (r != 0) sim_fail("the actor %s does not answer", n->name);
    core_ref_drop(c, &id);
    core_ref_drop(c, &n->actor);
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
        snprintf(d->trouble, sizeof d->trouble, "it could not start: %s %.400s",
                 skate_strerror(r), err.text);
        d->finished = true;
        sim_exit(1);
    }
    d->started = true;
    sim_note("driver %u begins", d->number);
    for (struct sim_name *n = d->checker ? sim_names : NULL; n; n = n->next) check_name(c, n);
    for (;;) {
        do_tasks(d, c);
        if (d->actors && !d->trouble[0]) do_actor(d, c);
        if (sim_groups && !d->trouble[0]) sim_do_group(d, c);
        if (faults_over() || d->trouble[0]) break;
        sim_sleep((int64_t)sim_below(400 * SIM_MS));
        d->tasks += 1 + (uint32_t)sim_below(60);
    }
    for (int i = 0; i < 300 && !d->trouble[0]; i++) {
        core_get_stats(c, &s);
        d->quiet = s.objects == 0 && s.tasks_pending == d->names_made && s.leases == 0;
        if (d->quiet) break;
        sim_sleep(100 * SIM_MS);
    }
    sim_note("driver %u ends: %u calls, %u done, %u right, %u errors, %s %s", d->number, d->calls,
             d->done, d->right, d->errors, d->quiet ? "quiet" : "not quiet", d->trouble);
    if (!d->quiet)
        sim_note("left: %llu objects, %llu tasks (%u are of named actors), %llu leases",
                 (unsigned long long)s.objects, (unsigned long long)s.tasks_pending, d->names_made,
                 (unsigned long long)s.leases);
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
