/* gcs_rig_actors.h - the frames of jobs and actors for the tests of the control store. */
#ifndef SKATE_TESTS_GCS_RIG_ACTORS_H
#define SKATE_TESTS_GCS_RIG_ACTORS_H

#include "gcs_rig.h"

RIG uint32_t job(uint64_t by) {
    struct wire_buf b;
    struct wire_job_start *m;
    const struct wire_job_started *a;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_START);
    m->head.call = 77;
    m->driver = by;
    WIRE_PUT(&b, job_start, namespace, "space", 5);
    WIRE_PUT(&b, job_start, config, "config", 6);
    give(proc_node(by), by, &b);
    a = sent(by, WIRE_JOB_STARTED);
    assert_non_null(a);
    assert_int_equal(a->head.call, 77);
    assert_true(a->head.flags & WIRE_REPLY);
    return a->status < 0 ? 0 : a->job;
}

struct spec {
    uint64_t seq;
    const char *name;
    uint32_t flags, strategy, job;
    int32_t restarts;
    double held, placing;
    uint64_t affinity, owner;
    struct skate_id group; /* nil: none */
};

RIG struct skate_id actor_id(uint64_t seq) {
    return (struct skate_id){proc_make(1, 5), seq << 16};
}

/* Create by the driver (process 5 of node 1) and return the answer's status. */
RIG int create(struct spec s) {
    uint64_t by = s.owner ? s.owner : proc_make(1, 5);
    uint8_t packed[200];
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_PICKLE5, .len = 5, .size = 5};
    struct wire_buf b;
    struct wire_actor_create *m;
    const struct wire_actor_created *a;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_CREATE);
    m->head.call = 9;
    m->actor = actor_id(s.seq);
    m->owner = by;
    m->job = s.job ? s.job : 1;
    m->flags = s.flags;
    m->max_restarts = s.restarts;
    m->strategy = s.strategy;
    m->affinity = s.affinity;
    m->group = s.group;
    m->bundle = -1;
    if (s.name) WIRE_PUT(&b, actor_create, name, s.name, strlen(s.name));
    WIRE_PUT(&b, actor_create, namespace, "space", 5);
    WIRE_PUT(&b, actor_create, cls, "Counter", 7);
    WIRE_PUT(&b, actor_create, held, packed, pack("CPU", s.held, packed, sizeof packed));
    WIRE_PUT(&b, actor_create, placing, packed, pack("CPU", s.placing, packed, sizeof packed));
    WIRE_PUT(&b, actor_create, spec, "SPECBYTES", 9);
    WIRE_PUT(&b, actor_create, fn_value, &v, sizeof v);
    WIRE_PUT(&b, actor_create, fn_data, "CLASS", 5);
    give(proc_node(by), by, &b);
    a = sent(by, WIRE_ACTOR_CREATED);
    assert_non_null(a);
    assert_int_equal(a->head.call, 9);
    return a->status;
}

RIG void ready(uint64_t seq, uint64_t proc, uint32_t incarnation, int status) {
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_PICKLE5, .flags = VAL_ERROR,
                         .len = 4, .size = 4};
    struct wire_buf b;
    struct wire_actor_ready *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_READY);
    m->actor = actor_id(seq);
    m->proc = proc;
    m->incarnation = incarnation;
    m->pid = 1000 + proc_number(proc);
    m->status = status;
    if (status < 0) {
        WIRE_PUT(&b, actor_ready, error, &v, sizeof v);
        WIRE_PUT(&b, actor_ready, data, "BOOM", 4);
    }
    give(proc_node(proc), proc, &b);
}

RIG void died(uint64_t proc, int sig, bool intended) {
    struct wire_buf b;
    struct wire_proc_died *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_PROC_DIED);
    m->proc = proc;
    m->pid = 1000 + proc_number(proc);
    m->signal = sig;
    m->code = -1;
    m->intended = intended;
    give(proc_node(proc), 0, &b);
}

RIG void subscribe(uint64_t seq, uint64_t proc) {
    struct wire_buf b;
    struct wire_actor_sub *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_SUB);
    m->head.call = 4;
    m->actor = actor_id(seq);
    give(proc_node(proc), proc, &b);
}

RIG void kill_actor(uint64_t seq, bool no_restart) {
    struct wire_buf b;
    struct wire_actor_kill *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_KILL);
    m->actor = actor_id(seq);
    m->no_restart = no_restart;
    give(1, proc_make(1, 5), &b);
}

RIG uint32_t state_told(uint64_t proc) {
    const struct wire_actor_state *s = sent(proc, WIRE_ACTOR_STATE);

    return s ? s->state : 99;
}

RIG struct gcs_counts counts(void) {
    struct gcs_counts c;

    gcs_count(g, &c);
    return c;
}

#endif
