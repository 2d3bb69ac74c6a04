/* gcs_actors.c - actors: creation, names, readiness, death and restart.
 *
 * What a raylet or worker says about an incarnation that is over is ignored, and its process is
 * ended. Names are taken at creation, before the answer, and free at death. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"

/* An exception larger than this is told by its reason only: every subscriber gets a copy. */
enum { FAILURE_MAX = 1 << 20 };

struct gcs_actor *gcs_actor_find(struct gcs *g, const struct skate_id *id) {
    uint32_t i = map_get(&g->actor_ids, id);

    return i == MAP_NONE ? NULL : g->actors[i];
}

static struct gcs_actor *find_name(struct gcs *g, const char *name, uint32_t name_len,
                                   const char *space, uint32_t space_len) {
    struct skate_id key = gcs_text_key(space, space_len, name, name_len);
    uint32_t i = map_get(&g->actor_names, &key);
    struct gcs_actor *a = i == MAP_NONE ? NULL : g->actors[i];

    if (!a || strlen(a->name) != name_len || strlen(a->space) != space_len) return NULL;
    if (memcmp(a->name, name, name_len) != 0 || memcmp(a->space, space, space_len) != 0)
        return NULL;
    return a;
}

struct gcs_actor *gcs_actor_of_proc(struct gcs *g, uint64_t proc) {
    struct skate_id key = map_key(proc);
    uint32_t i = map_get(&g->actor_procs, &key);

    return i == MAP_NONE ? NULL : g->actors[i];
}

bool gcs_actor_outlives(struct gcs *g, const struct gcs_actor *a) {
    /* An owner is older than what it made, so this ends; the bound is for forged input. */
    for (uint32_t depth = 0; a && depth < 64; depth++) {
        if (a->flags & 1) return true;
        a = gcs_actor_of_proc(g, a->owner);
    }
    return false;
}

/* ------------------------------------------------------------------ creation */

void gcs_actor_answer(struct gcs *g, const struct gcs_from *from, const struct skate_id *actor,
                   int status, const char *reason) {
    struct wire_buf b;
    struct wire_actor_created *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_CREATED);
    m->actor = *actor;
    m->status = status;
    WIRE_PUT(&b, actor_created, reason, reason, strlen(reason));
    gcs_reply(g, from, &b);
}

/* 0, or why the request cannot be served. */
static int judge(struct gcs *g, const struct wire_actor_create *m, char reason[GCS_REASON]) {
    struct resources unused;
    struct gcs_demand demand;
    uint32_t held_len, name_len, space_len, cls_len, vals, data_len;
    const uint8_t *held = wire_actor_create_held(m, &held_len);
    const struct wire_val *v = wire_actor_create_fn_value(m, &vals);
    const char *name = wire_actor_create_name(m, &name_len), *space, *cls;

    (void)wire_actor_create_fn_data(m, &data_len);
    space = wire_actor_create_namespace(m, &space_len);
    cls = wire_actor_create_cls(m, &cls_len);
    if (resources_unpack(&unused, held, held_len) < 0 ||
        gcs_demand_of(m, &demand) < 0 || id_is_nil(&m->actor) ||
        wire_check_vals(v, vals, data_len, 0) < 0 || m->max_restarts < -1 ||
        name_len > GCS_NAME_MAX || space_len > GCS_NAME_MAX || cls_len > GCS_NAME_MAX ||
        memchr(name, 0, name_len) || memchr(space, 0, space_len) || memchr(cls, 0, cls_len)) {
        (void)snprintf(reason, GCS_REASON, "a malformed actor specification");
        return -SKATE_EINVAL;
    }
    if (!gcs_job_find(g, m->job) && !gcs_actor_of_proc(g, m->owner)) {
        (void)snprintf(reason, GCS_REASON, "job %u has ended", m->job);
        return -SKATE_ENOENT;
    }
    if (gcs_actor_find(g, &m->actor)) {
        (void)snprintf(reason, GCS_REASON, "an actor with this id was created before");
        return -SKATE_EEXIST;
    }
    if (g->actors_live >= g->opts.actors_max) {
        (void)snprintf(reason, GCS_REASON, "the cluster has its most actors, %u",
                       g->opts.actors_max);
        return -SKATE_EFULL;
    }
    if (!gcs_spec_room(g, m->head.size)) {
        (void)snprintf(reason, GCS_REASON,
                       "the creation specs of all actors together would pass %llu bytes",
                       (unsigned long long)g->opts.spec_bytes);
        return -SKATE_EFULL;
    }
    return 0;
}

void gcs_actor_insert(struct gcs *g, struct gcs_actor *a) {
    if (g->free_count)
        a->index = g->free_slots[--g->free_count];
    else {
        if (g->actor_slots == g->actor_cap)
            g->actors = gcs_grow(g->actors, &g->actor_cap, sizeof *g->actors);
        a->index = g->actor_slots++;
    }
    g->actors[a->index] = a;
    SKATE_ASSERT(map_put(&g->actor_ids, &a->id, a->index) == 0);
}

void gcs_actor_texts(struct gcs_actor *a, struct gcs_text cls, struct gcs_text name,
                     struct gcs_text space) {
    a->texts = gcs_alloc((size_t)cls.len + name.len + space.len + 3);
    a->name = a->texts + cls.len + 1;
    a->space = a->name + name.len + 1;
    memcpy(a->texts, cls.p, cls.len);
    memcpy(a->name, name.p, name.len);
    memcpy(a->space, space.p, space.len);
}

static struct gcs_actor *actor_new(struct gcs *g, const struct wire_actor_create *m) {
    struct gcs_actor *a = gcs_alloc(sizeof *a);
    uint32_t cls_len, name_len, space_len;
    const char *cls = wire_actor_create_cls(m, &cls_len);
    const char *name = wire_actor_create_name(m, &name_len);
    const char *space = wire_actor_create_namespace(m, &space_len);

    a->id = m->actor;
    a->owner = m->owner;
    a->job = m->job;
    a->flags = m->flags;
    a->max_restarts = m->max_restarts;
    a->max_task_retries = m->max_task_retries;
    a->group = m->group;
    a->bundle = m->bundle;
    a->create = gcs_copy(m, m->head.size);
    a->held = gcs_copy((const char *)m + m->held.off, m->held.len);
    a->held_len = m->held.len;
    gcs_actor_texts(a, (struct gcs_text){cls, cls_len}, (struct gcs_text){name, name_len},
                    (struct gcs_text){space, space_len});
    g->spec_bytes += m->head.size;
    g->actors_live++;
    g->actors_pending++;
    gcs_actor_insert(g, a);
    gcs_dirty_actor(g, a);
    gcs_dirty_spec(g, a);
    return a;
}

void gcs_actor_create(struct gcs *g, const struct gcs_from *from,
                      const struct wire_actor_create *m) {
    char reason[GCS_REASON] = "";
    uint32_t name_len, space_len;
    const char *name = wire_actor_create_name(m, &name_len);
    const char *space = wire_actor_create_namespace(m, &space_len);
    struct skate_id key = gcs_text_key(space, space_len, name, name_len);
    struct gcs_actor *a = name_len ? find_name(g, name, name_len, space, space_len) : NULL;
    int r;

    if (from->again && gcs_actor_find(g, &m->actor)) {
        gcs_actor_answer(g, from, &m->actor, 0, "");
        return;
    }
    if (a && m->flags & 2) {
        gcs_actor_answer(g, from, &a->id, 1, "");
        return;
    }
    if (a || (name_len && map_get(&g->actor_names, &key) != MAP_NONE)) {
        (void)snprintf(reason, sizeof reason,
                       "The name %.*s (namespace=%.*s) is already taken. Please use a different "
                       "name or get the existing actor using get_actor('%.*s', namespace='%.*s')",
                       (int)(name_len > 64 ? 64 : name_len), name,
                       (int)(space_len > 64 ? 64 : space_len), space,
                       (int)(name_len > 64 ? 64 : name_len), name,
                       (int)(space_len > 64 ? 64 : space_len), space);
        gcs_actor_answer(g, from, &m->actor, -SKATE_EEXIST, reason);
        return;
    }
    r = judge(g, m, reason);
    if (r < 0) {
        gcs_actor_answer(g, from, &m->actor, r, reason);
        return;
    }
    a = actor_new(g, m);
    if (name_len) SKATE_ASSERT(map_put(&g->actor_names, &key, a->index) == 0);
    if (a->owner) (void)gcs_actor_subscribe(g, a, a->owner); /* the creator is told unasked */
    gcs_actor_answer(g, from, &a->id, 0, "");
    gcs_place_add(g, a);
}

/* ------------------------------------------------------------------ the end */

static void set_reason(struct gcs_actor *a, const char *why) {
    free(a->reason);
    a->reason = gcs_copy(why, strlen(why) + 1);
}

static void forget_oldest(struct gcs *g) {
    struct gcs_actor *a = g->actors[g->dead_first];

    g->dead_first = a->next_dead;
    if (g->dead_first == MAP_NONE) g->dead_last = MAP_NONE;
    if (g->free_count == g->free_cap)
        g->free_slots = gcs_grow(g->free_slots, &g->free_cap, sizeof *g->free_slots);
    g->free_slots[g->free_count++] = a->index;
    g->actors[a->index] = NULL;
    g->actors_dead--;
    if (a->failure) g->spec_bytes -= wire_head(a->failure)->size;
    (void)map_remove(&g->actor_ids, &a->id);
    a->dirty = false; /* once more: that it is gone */
    gcs_dirty_actor(g, a);
    gcs_actor_release(a);
}

static void list_dead(struct gcs *g, struct gcs_actor *a) {
    a->next_dead = MAP_NONE;
    a->order = ++g->serial;
    if (g->dead_last != MAP_NONE)
        g->actors[g->dead_last]->next_dead = a->index;
    else
        g->dead_first = a->index;
    g->dead_last = a->index;
    while (g->actors_dead > g->opts.dead_max) forget_oldest(g);
}

void gcs_worker_kill(struct gcs *g, uint32_t node, uint64_t proc, const struct skate_id *actor,
                     const char *why) {
    struct gcs_node *n = gcs_node_find(g, node);
    struct wire_worker_kill *m;
    struct wire_buf b;

    if (!n || !n->alive) return;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_WORKER_KILL);
    m->proc = proc;
    m->actor = *actor;
    m->signal = SIGKILL;
    WIRE_PUT(&b, worker_kill, reason, why, strlen(why));
    gcs_send_link(g, n->link, &b);
}

void gcs_actor_end(struct gcs *g, struct gcs_actor *a, const char *why, bool kill) {
    uint32_t job;

    SKATE_ASSERT(a->state != GCS_DEAD);
    if (kill && a->state != GCS_PENDING) gcs_worker_kill(g, a->node, a->proc, &a->id, why);
    if (a->state == GCS_PENDING) gcs_place_remove(g, a);
    if (a->state == GCS_PENDING && a->cause == GCS_STARVED) a->cause = 0; /* not of this end */
    gcs_place_uncharge(g, a);
    if (a->name[0]) {
        struct skate_id key = gcs_text_key(a->space, (uint32_t)strlen(a->space), a->name,
                                           (uint32_t)strlen(a->name));

        (void)map_remove(&g->actor_names, &key);
    }
    gcs_kv_drop_actor(g, &a->id);
    g->spec_bytes -= wire_head(a->create)->size;
    gcs_dirty_spec(g, a);
    free(a->create);
    a->create = NULL;
    set_reason(a, why);
    gcs_actor_move(g, a, GCS_DEAD);
    gcs_actor_tell(g, a);
    g->subs -= a->sub_count;
    free(a->subs);
    a->subs = NULL;
    a->sub_count = a->sub_cap = 0;
    job = a->job;
    list_dead(g, a);
    gcs_job_settle(g, job);
    if (g->groups.live) g->groups.sweep_wanted = true;
}

void gcs_actor_again(struct gcs *g, struct gcs_actor *a) {
    gcs_place_uncharge(g, a);
    gcs_actor_move(g, a, GCS_PENDING);
    gcs_place_add(g, a);
}

void gcs_actor_lost(struct gcs *g, struct gcs_actor *a, const char *why, bool intended) {
    bool can = a->max_restarts < 0 || a->restarts < (uint32_t)a->max_restarts;
    char text[GCS_REASON];

    if (intended || a->unused || !can) {
        if (a->unused)
            (void)snprintf(text, sizeof text, "all handles to it went out of scope");
        else if (a->restarts)
            (void)snprintf(text, sizeof text, "%s (it had been restarted %u time%s)", why,
                           a->restarts, a->restarts == 1 ? "" : "s");
        else
            (void)snprintf(text, sizeof text, "%s", why);
        gcs_actor_end(g, a, text, false);
        return;
    }
    a->restarts++;
    a->restarting = true;
    set_reason(a, why);
    gcs_actor_again(g, a);
    gcs_actor_tell(g, a);
}

/* ------------------------------------------------------------------ what others say */

void gcs_actor_leave(struct gcs *g, const struct gcs_actor *a) {
    static const char why[] = "all handles to it went out of scope";
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_actor_exit *)wire_begin(&b, WIRE_ACTOR_EXIT))->actor = a->id;
    WIRE_PUT(&b, actor_exit, reason, why, sizeof why - 1);
    gcs_send_proc(g, a->proc, &b);
}

static void constructor_failed(struct gcs *g, struct gcs_actor *a,
                               const struct wire_actor_ready *m) {
    char text[GCS_REASON];
    uint32_t len, vals, data_len;
    const char *reason = wire_actor_ready_reason(m, &len);
    const struct wire_val *v = wire_actor_ready_error(m, &vals);

    (void)wire_actor_ready_data(m, &data_len);
    if (len)
        (void)snprintf(text, sizeof text, "%.*s", (int)len, reason);
    else
        (void)snprintf(text, sizeof text, "its constructor raised an exception");
    if (m->status == -SKATE_EDEAD) { /* the word of its raylet: the process died meanwhile */
        a->cause = m->cause ? GCS_STARVED : 0;
        gcs_actor_lost(g, a, text, false);
        return;
    }
    if (vals == 1 && wire_check_vals(v, vals, data_len, 0) == 0 && m->head.size <= FAILURE_MAX &&
        g->spec_bytes + m->head.size <= g->opts.spec_bytes) {
        a->failure = gcs_copy(m, m->head.size);
        g->spec_bytes += m->head.size;
    }
    a->init_failed = true;
    a->proc = m->proc;
    gcs_actor_end(g, a, text, true);
}

void gcs_actor_ready(struct gcs *g, const struct gcs_from *from, const struct wire_actor_ready *m) {
    struct gcs_actor *a = gcs_actor_find(g, &m->actor);
    uint64_t proc = m->proc ? m->proc : from->src;

    if (from->src && from->src != proc) return; /* nobody speaks for another */
    if (!a || a->state != GCS_STARTING || a->incarnation != m->incarnation) {
        if (a && a->state == GCS_ALIVE && a->proc == proc) return; /* said twice */
        if (m->status >= 0 && proc)
            gcs_worker_kill(g, proc_node(proc), proc, &m->actor,
                            "the actor is not wanted any more");
        return;
    }
    if (m->status < 0) {
        constructor_failed(g, a, m);
        return;
    }
    if (proc_node(proc) != a->node) return;
    gcs_place_uncharge(g, a);
    a->proc = proc;
    a->pid = m->pid;
    free(a->reason);
    a->reason = NULL;
    a->cause = 0;
    gcs_actor_move(g, a, GCS_ALIVE);
    gcs_actor_tell(g, a);
    if (a->unused) gcs_actor_leave(g, a);
}

void gcs_actor_refused(struct gcs *g, const struct wire_actor_refused *m) {
    struct gcs_actor *a = gcs_actor_find(g, &m->actor);

    if (!a || a->state != GCS_STARTING || a->incarnation != m->incarnation) return;
    if (id_is_nil(&a->group)) g->nodes[a->node - 1]->stale = true;
    gcs_actor_again(g, a);
}

void gcs_actor_sub(struct gcs *g, const struct gcs_from *from, const struct wire_actor_sub *m) {
    struct gcs_actor *a = gcs_actor_find(g, &m->actor);
    struct wire_buf b;

    if (a && from->src && gcs_actor_subscribe(g, a, from->src) < 0) {
        gcs_reply_status(g, from, -SKATE_EFULL, "the cluster has its most subscriptions");
        return;
    }
    if (a) gcs_says(g, a->batch);
    wire_init(&b, NULL, 0);
    if (a)
        gcs_actor_frame(a, &b);
    else {
        struct wire_actor_state *out = wire_begin(&b, WIRE_ACTOR_STATE);

        out->actor = m->actor;
        out->state = 4;
    }
    if (from->call)
        gcs_reply(g, from, &b);
    else if (from->src)
        gcs_send_proc(g, from->src, &b);
    else
        gcs_send_link(g, from->link, &b);
}

void gcs_actor_kill(struct gcs *g, const struct gcs_from *from, const struct wire_actor_kill *m) {
    struct gcs_actor *a = gcs_actor_find(g, &m->actor);
    char text[GCS_REASON];
    uint32_t len;
    const char *reason = wire_actor_kill_reason(m, &len);

    if (!a) {
        gcs_reply_status(g, from, -SKATE_ENOENT, "there is no such actor");
        return;
    }
    if (from->again && m->mark && a->killer == from->src && a->kill_mark == m->mark) {
        gcs_reply_status(g, from, 0, ""); /* its next incarnation is not meant */
        return;
    }
    if (a->state != GCS_DEAD) {
        a->killer = from->src;
        a->kill_mark = m->mark;
        gcs_dirty_actor(g, a);
    }
    if (len)
        (void)snprintf(text, sizeof text, "%.*s", (int)len, reason);
    else
        (void)snprintf(text, sizeof text, "it was ended by kill()");
    if (a->state == GCS_ALIVE) {
        size_t n = strlen(text);

        (void)snprintf(text + n, sizeof text - n, "; it was process %u on node %u", a->pid,
                       a->node);
    }
    if (a->state != GCS_DEAD && m->no_restart)
        gcs_actor_end(g, a, text, true);
    else if (a->state == GCS_STARTING || a->state == GCS_ALIVE) {
        gcs_worker_kill(g, a->node, a->proc, &a->id, text);
        gcs_actor_lost(g, a, text, false);
    }
    gcs_reply_status(g, from, 0, "");
}

void gcs_actor_unused(struct gcs *g, const struct wire_actor_unused *m) {
    struct gcs_actor *a = gcs_actor_find(g, &m->actor);

    if (!a || a->state == GCS_DEAD || a->flags & 1 || a->unused) return;
    a->unused = true;
    gcs_dirty_actor(g, a);
    if (a->state == GCS_PENDING)
        gcs_actor_end(g, a, "all handles to it went out of scope", false);
    else if (a->state == GCS_ALIVE)
        gcs_actor_leave(g, a);
}

void gcs_actor_by_name(struct gcs *g, const struct gcs_from *from,
                       const struct wire_actor_by_name *m) {
    uint32_t name_len, space_len;
    const char *name = wire_actor_by_name_name(m, &name_len);
    const char *space = wire_actor_by_name_namespace(m, &space_len);
    struct gcs_actor *a = find_name(g, name, name_len, space, space_len);
    struct wire_buf b;

    if (a) gcs_says(g, a->batch);
    wire_init(&b, NULL, 0);
    if (a)
        gcs_actor_frame(a, &b);
    else
        ((struct wire_actor_state *)wire_begin(&b, WIRE_ACTOR_STATE))->state = 4;
    gcs_reply(g, from, &b);
}

/* ------------------------------------------------------------------ deaths */

static const char *signal_name(int number) {
    const char *name = sigabbrev_np(number);

    return name ? name : "?";
}

static void death_text(const struct wire_proc_died *m, char out[GCS_REASON]) {
    uint32_t len;
    const char *text = wire_proc_died_text(m, &len);

    if (len)
        (void)snprintf(out, GCS_REASON, "%.*s", (int)len, text);
    else if (m->signal > 0)
        (void)snprintf(out, GCS_REASON, "worker process %u was killed by signal %d (SIG%s)",
                       m->pid, m->signal, signal_name(m->signal));
    else
        (void)snprintf(out, GCS_REASON, "worker process %u ended with exit code %d", m->pid,
                       m->code);
}

void gcs_proc_died(struct gcs *g, const struct wire_proc_died *m) {
    struct gcs_actor *lost = gcs_actor_of_proc(g, m->proc);
    char text[GCS_REASON], owner[GCS_REASON + 64];

    /* That a whole node is lost the GCS judges by its own link to it. */
    if (proc_number(m->proc) == 0) return;
    death_text(m, text);
    gcs_unsubscribe(g, m->proc, false);
    if (lost) lost->cause = m->cause ? GCS_STARVED : 0;
    if (lost) gcs_actor_lost(g, lost, text, m->intended != 0);
    for (uint32_t k = 0; k < g->job_count; k++)
        if (g->jobs[k]->live && g->jobs[k]->driver == m->proc) gcs_job_end(g, g->jobs[k], text);
    (void)snprintf(owner, sizeof owner, "its owner has died: %s", text);
    for (uint32_t k = 0; k < g->actor_slots; k++) {
        struct gcs_actor *a = g->actors[k];

        if (a && a->state != GCS_DEAD && a->owner == m->proc && !(a->flags & 1))
            gcs_actor_end(g, a, owner, true);
    }
}
