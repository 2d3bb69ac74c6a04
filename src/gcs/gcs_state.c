/* gcs_state.c - the moves of an actor, and the processes that are told of them. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_int.h"

/* The exceptions of one failed constructor for all who wait for it; beyond it the reason does. */
enum { TELL_BYTES_MAX = 32 << 20 };

void gcs_actor_move(struct gcs *g, struct gcs_actor *a, enum gcs_actor_state to) {
    static const uint8_t legal[] = {
        [GCS_PENDING] = 1 << GCS_STARTING | 1 << GCS_DEAD,
        [GCS_STARTING] = 1 << GCS_PENDING | 1 << GCS_ALIVE | 1 << GCS_DEAD,
        [GCS_ALIVE] = 1 << GCS_PENDING | 1 << GCS_DEAD,
        [GCS_DEAD] = 0,
    };
    struct skate_id key = map_key(a->proc);

    SKATE_ASSERT(legal[a->state] & 1 << to);
    if (a->state == GCS_PENDING) g->actors_pending--;
    if (a->state == GCS_ALIVE) (void)map_remove(&g->actor_procs, &key);
    if (to == GCS_PENDING) g->actors_pending++;
    if (to == GCS_ALIVE) SKATE_ASSERT(map_put(&g->actor_procs, &key, a->index) == 0);
    if (to == GCS_DEAD) {
        g->actors_live--;
        g->actors_dead++;
    }
    if (to == GCS_PENDING || to == GCS_DEAD) a->proc = a->pid = 0;
    a->state = to;
    gcs_dirty_actor(g, a);
}

static void put_state(const struct gcs_actor *a, struct wire_buf *b, bool with_failure) {
    static const uint32_t states[] = {0, 0, 1, 3};
    struct wire_actor_state *m = wire_begin(b, WIRE_ACTOR_STATE);

    m->actor = a->id;
    m->proc = a->proc;
    m->owner = a->owner;
    m->state = states[a->state];
    if (m->state == 0 && a->restarting) m->state = 2;
    m->incarnation = a->incarnation;
    m->restarts = a->restarts;
    m->pid = a->pid;
    m->node = a->state == GCS_PENDING ? 0 : a->node;
    m->init_failed = a->init_failed;
    m->max_task_retries = a->max_task_retries;
    m->max_restarts = a->max_restarts;
    m->job = a->job;
    m->flags = a->flags;
    m->cause = a->cause;
    WIRE_PUT(b, actor_state, cls, a->texts, strlen(a->texts));
    WIRE_PUT(b, actor_state, name, a->name, strlen(a->name));
    WIRE_PUT(b, actor_state, namespace, a->space, strlen(a->space));
    if (a->reason) WIRE_PUT(b, actor_state, reason, a->reason, strlen(a->reason));
    if (a->failure && with_failure) {
        const struct wire_actor_ready *f = a->failure;
        uint32_t n, len;
        const struct wire_val *v = wire_actor_ready_error(f, &n);
        const uint8_t *data = wire_actor_ready_data(f, &len);

        WIRE_PUT(b, actor_state, error, v, n * sizeof *v);
        WIRE_PUT(b, actor_state, data, data, len);
    }
    WIRE_PUT(b, actor_state, resources, a->held, a->held_len);
}

void gcs_actor_frame(const struct gcs_actor *a, struct wire_buf *b) { put_state(a, b, true); }

void gcs_actor_tell(struct gcs *g, const struct gcs_actor *a) {
    uint64_t copies = a->failure ? (uint64_t)wire_head(a->failure)->size * a->sub_count : 0;

    for (uint32_t i = 0; i < a->sub_count; i++) {
        struct wire_buf b;

        wire_init(&b, NULL, 0);
        put_state(a, &b, copies <= TELL_BYTES_MAX);
        gcs_send_proc(g, a->subs[i], &b);
    }
}

int gcs_actor_subscribe(struct gcs *g, struct gcs_actor *a, uint64_t proc) {
    if (a->state == GCS_DEAD) return 0; /* nothing more will happen to it */
    for (uint32_t i = 0; i < a->sub_count; i++)
        if (a->subs[i] == proc) return 0;
    if (g->subs >= g->opts.subs_max) return -SKATE_EFULL;
    if (a->sub_count == a->sub_cap) a->subs = gcs_grow(a->subs, &a->sub_cap, sizeof *a->subs);
    a->subs[a->sub_count++] = proc;
    g->subs++;
    return 0;
}

void gcs_unsubscribe(struct gcs *g, uint64_t proc, bool node) {
    for (uint32_t i = 0; i < g->actor_slots; i++) {
        struct gcs_actor *a = g->actors[i];

        for (uint32_t k = 0; a && k < a->sub_count;) {
            if (a->subs[k] == proc || (node && proc_raylet(a->subs[k]) == proc)) {
                a->subs[k] = a->subs[--a->sub_count];
                g->subs--;
            } else
                k++;
        }
    }
}
