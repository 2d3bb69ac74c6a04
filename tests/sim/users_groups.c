/* users_groups.c - placement groups of the simulated programs: made, used, removed, or left to the
 * end of the job. What runs in one runs again when its node is lost, in the bundle's next place. */
#include "sim_os.h"
#include "users_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "sched/resources.h"
#include "wire/wire_gen.h"

enum { BUNDLES = 2, TASKS = 12, TRIES = 60 };

bool sim_groups;

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

static int submit(struct core *c, const struct core_bundle *place, int64_t arg,
                  struct skate_id *ret) {
    uint8_t packed[256];
    struct core_part part = {&arg, 8, 8};
    struct core_class_opts o = {.resources = packed, .name = "g", .place = *place};
    struct core_task t = {.fn = sim_below(4) ? FN_ADD : FN_SLEEP, .returns = 1, .name = "g",
                          .retries = -1,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    int r;

    o.resources_len = (uint32_t)one_cpu(packed, sizeof packed);
    if (core_class(c, &o, &t.cls) < 0) sim_fail("core_class");
    do r = core_submit(c, &t, ret, &err);
    while (r == -SKATE_EINTR);
    if (r == 0) *ret = id_with_index(*ret, 1);
    return r;
}

static void run_tasks(struct sim_driver *d, struct core *c, const struct skate_id *group,
                      uint32_t bundles) {
    struct skate_id ids[TASKS];
    int64_t want[TASKS], x;
    uint32_t n = 1 + (uint32_t)sim_below(TASKS);

    for (uint32_t i = 0; i < n; i++) {
        struct core_bundle place = {.group = *group,
                                    .bundle = (int32_t)sim_below(bundles + 1) - 1};

        want[i] = (int64_t)sim_below(1000);
        if (submit(c, &place, want[i], &ids[i]) < 0) sim_fail("a task for a group is refused");
    }
    for (uint32_t i = 0; i < n && !d->trouble[0]; i++) {
        int r = sim_read_number(c, &ids[i], &x);

        if (r < 0)
            snprintf(d->trouble, sizeof d->trouble, "a wait for a task in a group ended with %s",
                     skate_strerror(r));
        else if (r || x != want[i])
            sim_fail("driver %u: a task in a group gave %lld%s, not %lld", d->number, (long long)x,
                     r ? " (an error)" : "", (long long)want[i]);
        core_ref_drop(c, &ids[i]);
    }
}

void sim_do_group(struct sim_driver *d, struct core *c) {
    uint32_t bundles = 1 + (uint32_t)sim_below(BUNDLES), job = core_get_info(c)->job;
    struct skate_id id;
    int r;

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
    if (d->trouble[0] || (faults_over() && sim_below(2))) return; /* it ends with the job, now */
    r = remove_group(c, &id);
    if (r < 0)
        snprintf(d->trouble, sizeof d->trouble, "a group could not be removed: %s",
                 skate_strerror(r));
}
