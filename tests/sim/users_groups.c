/* users_groups.c - tasks that say where they are to run. Placement groups: made, used, removed, or
 * left to the end of the job; what runs in one runs again when its node is lost, in the bundle's
 * next place. Spread tasks, and those that would like a node, which may be gone. */
#include "sim_os.h"
#include "users_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "raylet/raylet.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

enum { BUNDLES = 2, TASKS = 12, CALLS = 10, TRIES = 60 };

bool sim_groups, sim_places;

static size_t one_cpu(uint8_t *packed, size_t cap) {
    struct resources want = {0};

    if (resources_set(&want, "CPU", RESOURCE_UNIT) < 0) abort();
    return resources_pack(&want, packed, cap);
}

/* Ask the GCS; its status. Negative, too, when no answer comes. */
static int ask(struct core *c, struct wire_buf *b) {
    void *answer = NULL;
    uint32_t len;
    int r = wire_end(b);

    if (r == 0) r = core_call(c, SKATE_GCS, b->p, b->len, 60 * SIM_S, &answer, &len);
    wire_release(b);
    if (r < 0) return r;
    r = wire_head(answer)->kind == WIRE_STATUS ? ((const struct wire_status *)answer)->status
                                               : -SKATE_EPROTO;
    free(answer);
    return r;
}

static int create(struct core *c, const struct skate_id *id, uint32_t bundles) {
    uint8_t packed[256], all[BUNDLES * 272] = {0};
    uint32_t len = (uint32_t)one_cpu(packed, sizeof packed);
    uint32_t each = 8 + ((len + 7) & ~7u);
    struct wire_group_create *m;
    struct wire_buf b;

    for (uint32_t i = 0; i < bundles; i++) {
        memcpy(all + i * each, &i, 4);
        memcpy(all + i * each + 4, &len, 4);
        memcpy(all + i * each + 8, packed, len);
    }
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_CREATE);
    m->group = *id;
    m->creator = core_get_info(c)->proc;
    m->job = core_get_info(c)->job;
    m->strategy = (uint32_t)sim_below(4);
    WIRE_PUT(&b, group_create, namespace, "sim", 3);
    WIRE_PUT(&b, group_create, bundles, all, bundles * each);
    return ask(c, &b);
}

static int remove_group(struct core *c, const struct skate_id *id) {
    struct wire_group_remove *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_REMOVE);
    m->group = *id;
    return ask(c, &b);
}

/* o: where. */
static int submit(struct core *c, struct core_class_opts o, int64_t arg, struct skate_id *ret) {
    uint8_t packed[256];
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = sim_below(4) ? FN_ADD : FN_SLEEP, .returns = 1, .name = "g",
                          .retries = -1,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    int r;

    o.resources = packed;
    o.name = "g";
    o.resources_len = (uint32_t)one_cpu(packed, sizeof packed);
    if (core_class(c, &o, &t.cls) < 0) sim_fail("core_class");
    do r = core_submit(c, &t, ret, &err);
    while (r == -SKATE_EINTR);
    if (r == 0) *ret = id_with_index(*ret, 1);
    return r;
}

/* Spread, or softly at a node that was there when it was chosen. */
static struct core_class_opts somewhere(void) {
    const struct sim_machine *m = sim_cluster.machines[sim_below(sim_cluster.count)];

    if (sim_below(2) || !m->raylet || !m->ready)
        return (struct core_class_opts){.strategy = 1, .place = {.bundle = -1}};
    return (struct core_class_opts){.strategy = 3, .affinity = proc_make(m->raylet->node, 0),
                                    .place = {.bundle = -1}};
}

/* group NULL: in none. */
static void run_tasks(struct sim_driver *d, struct core *c, const struct skate_id *group,
                      uint32_t bundles) {
    struct skate_id ids[TASKS];
    int64_t want[TASKS], x;
    uint32_t n = 1 + (uint32_t)sim_below(TASKS);

    for (uint32_t i = 0; i < n; i++) {
        struct core_class_opts o = group ? (struct core_class_opts){0} : somewhere();

        if (group)
            o.place = (struct core_bundle){.group = *group,
                                           .bundle = (int32_t)sim_below(bundles + 1) - 1};
        want[i] = (int64_t)sim_below(1000);
        if (submit(c, o, want[i], &ids[i]) < 0) {
            snprintf(d->trouble, sizeof d->trouble, "a placed task is refused");
            return;
        }
    }
    for (uint32_t i = 0; i < n && !d->trouble[0]; i++) {
        int r = sim_read_number(c, &ids[i], &x);

        if (r < 0)
            snprintf(d->trouble, sizeof d->trouble, "a wait for a placed task ended with %s",
                     skate_strerror(r));
        else if (r || x != want[i])
            sim_fail("driver %u: a placed task gave %lld%s, not %lld", d->number, (long long)x,
                     r ? " (an error)" : "", (long long)want[i]);
        core_ref_drop(c, &ids[i]);
    }
}

/* An actor that holds a bundle's CPU; it begins anew where the bundle is placed next. */
static void run_actor(struct sim_driver *d, struct core *c, const struct skate_id *group,
                      uint32_t bundles) {
    uint8_t packed[256];
    uint32_t len = (uint32_t)one_cpu(packed, sizeof packed), n = 1 + (uint32_t)sim_below(CALLS);
    int64_t arg = 0, x = 0, before = 0;
    struct core_part part = {&arg, 8, 8};
    struct core_actor a = {.fn = FN_COUNTER, .max_restarts = -1, .max_task_retries = -1,
                           .max_concurrency = 1, .name = "", .space = "sim", .cls = "Counter",
                           .placing = packed, .placing_len = len, .held = packed, .held_len = len,
                           .place = {.group = *group,
                                     .bundle = (int32_t)sim_below(bundles + 1) - 1},
                           .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_id actor, ids[CALLS];
    struct skate_error err = {{0}};
    bool refused = false;
    int r;

    do r = core_actor_create(c, &a, &actor, &err);
    while (r == -SKATE_EINTR);
    if (r < 0) {
        if (!faults_have(FAULT_DISK))
            snprintf(d->trouble, sizeof d->trouble, "an actor for a group is refused: %.400s",
                     err.text);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (sim_call(c, &actor, &ids[i]) < 0) {
            snprintf(d->trouble, sizeof d->trouble, "an actor in a group cannot be called");
            return;
        }
    for (uint32_t i = 0; i < n; i++) {
        r = sim_read_number(c, &ids[i], &x);
        core_ref_drop(c, &ids[i]);
        if (r < 0 && !d->trouble[0])
            snprintf(d->trouble, sizeof d->trouble, "a wait for an actor in a group ended with %s",
                     skate_strerror(r));
        refused |= r == 1 && faults_have(FAULT_DISK); /* its making was */
        if (r < 0 || refused) continue;
        if (r == 1 || x < 1 || x > before + 1)
            sim_fail("driver %u: an actor in a group counted %lld%s after %lld", d->number,
                     (long long)x, r ? " (an error)" : "", (long long)before);
        before = x;
    }
    core_ref_drop(c, &actor);
}

void sim_do_group(struct sim_driver *d, struct core *c) {
    uint32_t bundles = 1 + (uint32_t)sim_below(BUNDLES), job = core_get_info(c)->job;
    struct skate_id id;
    int r;

    /* Not later: the group may have all of the node that they would like. */
    if (sim_places && sim_below(2)) run_tasks(d, c, NULL, 0);
    if (d->trouble[0]) return;
    sim_random_bytes(&id, 12);
    memcpy((uint8_t *)&id + 12, &job, 4);
    for (int i = 0; (r = create(c, &id, bundles)) == -SKATE_EIO && i < TRIES; i++)
        sim_sleep(500 * SIM_MS);
    if (r < 0) {
        snprintf(d->trouble, sizeof d->trouble, "a group could not be made: %s",
                 skate_strerror(r));
        return;
    }
    sim_note("driver %u has group %llx", d->number, (unsigned long long)id.owner);
    if (sim_below(8)) run_tasks(d, c, &id, bundles);
    if (sim_places && !d->trouble[0] && sim_below(2)) run_actor(d, c, &id, bundles);
    if (d->trouble[0] || (faults_over() && sim_below(2))) return; /* it ends with the job, now */
    r = remove_group(c, &id);
    if (r < 0)
        snprintf(d->trouble, sizeof d->trouble, "a group could not be removed: %s",
                 skate_strerror(r));
}
