/* bundles.c - see bundles.h: the table of groups, bundles set aside, committed and given back.
 *
 * A bundle's resources leave the node's free ones when it is set aside (group_reserve) and come
 * back when it is released; what its workers held then comes back as each of them ends. The GCS
 * numbers its attempts: a bundle belongs to the one that made it (epoch). A reservation that does
 * not fit because of idle leases waits a moment while they are asked back. */
#include "raylet/bundles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/futex.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"
#include "sched/bundle_fit.h"

enum { WAIT_MS = 150 };

struct group_set_aside {
    struct group_set_aside *next;
    struct skate_id id;
    uint32_t epoch, count;
    int64_t until_ns;
    struct bundle_want *b;
};
struct group_actor {
    struct group_actor *next;
    struct skate_id group;
    int32_t bundle;
    int64_t until_ns;
    struct resources placing;
    struct placement *pl;
};

int groups_new(struct raylet *r) {
    r->groups = calloc(1, sizeof *r->groups);
    return r->groups ? 0 : -SKATE_ENOMEM;
}

struct group *group_find(struct raylet *r, const struct skate_id *id) {
    uint32_t i = map_get(&r->groups->ids, id);

    return i == MAP_NONE ? NULL : r->groups->v[i];
}

struct group *group_get(struct raylet *r, const struct skate_id *id) {
    struct groups *all = r->groups;
    struct group *g = group_find(r, id);

    if (g) return g;
    if (all->count == GROUPS_MAX) return NULL;
    if (all->count == all->cap) {
        uint32_t cap = all->cap ? all->cap * 2 : 16;
        struct group **grown = realloc(all->v, cap * sizeof(void *));

        if (!grown) return NULL;
        all->v = grown;
        all->cap = cap;
    }
    g = calloc(1, sizeof *g);
    if (!g || map_put(&all->ids, id, all->count) < 0) {
        free(g);
        return NULL;
    }
    g->id = *id;
    g->state = GROUP_UNKNOWN;
    g->asks_tail = &g->asks;
    g->index = all->count;
    all->v[all->count++] = g;
    return g;
}

static void settle(struct raylet *r, struct group *g) {
    struct groups *all = r->groups;
    struct group *last = all->v[all->count - 1];

    if (g->bundles || g->asks) return;
    if (g->state != GROUP_REMOVED && !(g->state == GROUP_UNKNOWN && !g->asked_gcs)) return;
    (void)map_remove(&all->ids, &g->id);
    if (last != g) {
        all->v[g->index] = last;
        last->index = g->index;
        SKATE_ASSERT(map_put(&all->ids, &last->id, last->index) == 0);
    }
    all->count--;
    free(g->nodes);
    free(g->full);
    free(g);
}

struct bundle *bundles_next(struct raylet *r, const struct bundle *after) {
    uint32_t i = 0;

    if (after) {
        if (after->next) return after->next;
        i = after->group->index + 1;
    }
    for (; i < r->groups->count; i++)
        if (r->groups->v[i]->bundles) return r->groups->v[i]->bundles;
    return NULL;
}

void bundles_sum(struct raylet *r, struct resources *sum) {
    for (struct bundle *b = bundles_next(r, NULL); b; b = bundles_next(r, b))
        resources_give(sum, &b->total);
}

/* ---- set aside ---- */

static void answer(struct raylet *r, const struct skate_id *id, uint32_t epoch, int status,
                   const char *reason) {
    uint64_t room[64];
    struct wire_buf b;
    struct wire_group_reserved *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_GROUP_RESERVED);
    m->group = *id;
    m->epoch = epoch;
    m->status = status;
    WIRE_PUT(&b, group_reserved, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) gcs_link_send(r, b.p, b.len);
    wire_release(&b);
}

/* Their workers go on with what they hold, which comes back to the node itself. */
static void orphan(struct raylet *r, const struct bundle *b) {
    uint32_t at = 0;
    struct proc *p;
    struct job *j;

    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->bundle == b) p->bundle = NULL;
    at = 0;
    while ((j = table_next(&r->jobs, &at, NULL)))
        for (struct placement *pl = j->waiting; pl; pl = pl->next)
            if (pl->bundle == b) pl->bundle = NULL;
}

static void bundle_free(struct raylet *r, struct bundle *b) {
    struct sched_node *own = node_own(r);

    for (struct bundle **at = &b->group->bundles; *at; at = &(*at)->next)
        if (*at == b) {
            *at = b->next;
            break;
        }
    orphan(r, b);
    if (own) resources_give(&own->avail, &b->avail);
    gpus_move(&b->gpus, &r->gpus);
    free(b);
    grants_wake(r);
}

static bool set_one_aside(struct raylet *r, struct group *g, uint32_t epoch,
                          const struct bundle_want *w) {
    struct bundle *b = claim_fits(r, NULL, &w->want) ? calloc(1, sizeof *b) : NULL;
    struct gpu_share share;

    if (!b) return false;
    claim_take(r, NULL, &w->want, &share);
    b->group = g;
    b->index = w->index;
    b->epoch = epoch;
    b->total = b->avail = w->want;
    gpus_add(&b->gpus, &share, r->gpus.count);
    b->next = g->bundles;
    g->bundles = b;
    return true;
}

static void release_epoch(struct raylet *r, struct group *g, uint32_t epoch) {
    for (struct bundle *b = g->bundles, *next; b; b = next) {
        next = b->next;
        if (b->epoch == epoch) bundle_free(r, b);
    }
}

/* All of them, or none. */
static bool try_set_aside(struct raylet *r, const struct group_set_aside *s) {
    struct group *g = group_get(r, &s->id);

    if (!g) return false;
    if (g->state == GROUP_UNKNOWN) g->state = GROUP_PENDING;
    for (uint32_t i = 0; i < s->count; i++)
        if (!set_one_aside(r, g, s->epoch, &s->b[i])) {
            release_epoch(r, g, s->epoch);
            return false;
        }
    answer(r, &s->id, s->epoch, 0, "");
    grants_wake(r);
    return true;
}

void groups_on_reserve(struct raylet *r, const struct wire_group_reserve *m) {
    struct group_set_aside *s = calloc(1, sizeof *s), **at;
    uint32_t len;
    const uint8_t *packed = wire_group_reserve_bundles(m, &len);
    int e = s ? bundles_unpack(packed, len, &s->b, &s->count) : -SKATE_ENOMEM;

    if (e < 0) {
        answer(r, &m->group, m->epoch, e, skate_strerror(e));
        free(s);
        return;
    }
    s->id = m->group;
    s->epoch = m->epoch;
    if (try_set_aside(r, s)) {
        free(s->b);
        free(s);
        return;
    }
    s->until_ns = time_now_ns() + WAIT_MS * INT64_C(1000000);
    for (at = &r->groups->waiting; *at;) at = &(*at)->next;
    *at = s;
    grants_reclaim(r);
}

static struct group_set_aside *aside_free(struct group_set_aside *s) {
    struct group_set_aside *next = s->next;

    free(s->b);
    free(s);
    return next;
}

static void retry_asides(struct raylet *r) {
    for (struct group_set_aside **at = &r->groups->waiting; *at;)
        if (try_set_aside(r, *at))
            *at = aside_free(*at);
        else
            at = &(*at)->next;
}

/* ---- given back ---- */

static void kill_those_in(struct raylet *r, const struct group *g, const char *why) {
    uint32_t at = 0;
    struct proc *p;

    while ((p = table_next(&r->procs, &at, NULL))) {
        if (!p->bundle || p->bundle->group != g) continue;
        p->intended = true;
        proc_doom(p, why);
    }
}

static bool is_in_group(const struct placement *pl, const void *arg) {
    return pl->bundle && pl->bundle->group == arg;
}

/* Leases and actors of the group that have no worker yet. */
static void drop_placements(struct raylet *r, const struct group *g) {
    struct placement *pl;

    while ((pl = pool_withdraw(r, is_in_group, g))) {
        if (!pl->is_actor) lease_fail(r, pl->owner, pl->req, GROUP_GONE);
        placement_free(pl);
    }
}

static void drop_waiting(struct raylet *r, const struct skate_id *id, uint32_t epoch) {
    for (struct group_set_aside **at = &r->groups->waiting; *at;)
        if (id_equal(&(*at)->id, id) && (epoch == 0 || (*at)->epoch == epoch))
            *at = aside_free(*at);
        else
            at = &(*at)->next;
    for (struct group_actor **at = &r->groups->actors; *at && epoch == 0;) {
        struct group_actor *w = *at;

        if (!id_equal(&w->group, id)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        placement_free(w->pl);
        free(w);
    }
}

void groups_on_release(struct raylet *r, const struct wire_group_release *m) {
    struct group *g = group_find(r, &m->group);
    uint32_t len;
    const char *reason = wire_group_release_reason(m, &len);
    char why[RAYLET_REASON];

    drop_waiting(r, &m->group, m->epoch);
    if (!g) return;
    if (m->epoch) {
        release_epoch(r, g, m->epoch);
        return;
    }
    (void)snprintf(why, sizeof why, "%.*s", (int)len, len ? reason : "");
    kill_those_in(r, g, why);
    drop_placements(r, g);
    while (g->bundles) bundle_free(r, g->bundles);
    g->state = GROUP_REMOVED;
    group_asks_run(r, g);
    settle(r, g);
}

/* ---- news of the GCS ---- */

static bool take_nodes(struct group *g, const struct wire_group_info *m) {
    uint32_t n;
    const uint32_t *nodes = wire_group_info_nodes(m, &n);

    if (n != g->count || !g->nodes) {
        free(g->nodes);
        free(g->full);
        g->nodes = calloc(n + 1, sizeof *g->nodes);
        g->full = calloc(n + 1, 1);
        g->count = g->nodes && g->full ? n : 0;
    }
    if (g->count) memcpy(g->nodes, nodes, g->count * sizeof *nodes);
    if (g->full) memset(g->full, 0, g->count);
    return g->count == n;
}

void groups_on_info(struct raylet *r, const struct wire_group_info *m) {
    struct group *g = group_find(r, &m->group);

    if (!g || m->state > GROUP_REMOVED) return; /* nobody here wants to know */
    g->asked_gcs = true;
    g->state = (enum group_state)m->state;
    g->epoch = m->epoch;
    if (!take_nodes(g, m)) node_log("out of memory for a placement group");
    for (struct bundle *b = g->bundles; b && g->state == GROUP_CREATED; b = b->next)
        b->committed |= b->index < g->count && g->nodes[b->index] == r->node;
    r->groups->room = true;
    group_asks_run(r, g);
    grants_wake(r);
    settle(r, g);
}

/* ---- actors in a bundle ---- */

static bool try_actor(struct raylet *r, const struct group_actor *w) {
    struct group *g = group_find(r, &w->group);
    struct job *j = job_find(r, w->pl->start->job);
    uint32_t len;
    const void *env = wire_actor_start_env(w->pl->start, &len);

    if (!g || !j || pool_is_full(r)) return false;
    if (!w->pl->env) w->pl->env = env_get(j, env, len);
    if (!w->pl->env) return false;
    for (struct bundle *b = g->bundles; b; b = b->next) {
        if (!b->committed || (w->bundle >= 0 && b->index != (uint32_t)w->bundle)) continue;
        if (!claim_fits(r, b, &w->placing)) continue;
        w->pl->bundle = b;
        claim_take(r, b, &w->pl->used, &w->pl->gpus);
        pool_place(r, j, w->pl);
        grants_wake(r);
        return true;
    }
    return false;
}

/* One that named its bundle waits here for as long as it takes; the GCS tries another node for one
 * that did not. */
void groups_actor_start(struct raylet *r, struct placement *pl, const struct resources *placing) {
    struct group_actor *w = calloc(1, sizeof *w), **at;

    if (!w) {
        actor_host_refuse(r, &pl->start->actor, pl->start->incarnation, "out of memory");
        placement_free(pl);
        return;
    }
    *w = (struct group_actor){.group = pl->start->group, .bundle = pl->start->bundle,
                              .until_ns = INT64_MAX, .placing = *placing, .pl = pl};
    if (w->bundle < 0) w->until_ns = time_now_ns() + WAIT_MS * INT64_C(1000000);
    if (try_actor(r, w)) {
        free(w);
        return;
    }
    for (at = &r->groups->actors; *at;) at = &(*at)->next;
    *at = w;
    grants_reclaim(r);
}

bool groups_actor_cancel(struct raylet *r, const struct wire_worker_kill *m) {
    for (struct group_actor **at = &r->groups->actors; *at; at = &(*at)->next) {
        struct group_actor *w = *at;

        if (!actor_host_is_meant(w->pl->start, m)) continue;
        *at = w->next;
        placement_free(w->pl);
        free(w);
        return true;
    }
    return false;
}

/* ---- once in a while ---- */

bool groups_run(struct raylet *r) {
    struct groups *all = r->groups;

    retry_asides(r);
    for (struct group_actor **at = &all->actors; *at;) {
        struct group_actor *w = *at;

        if (!try_actor(r, w)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
    for (uint32_t i = all->count; i-- > 0;) {
        struct group *g = all->v[i];

        if (all->room && g->home_count) group_asks_tell_homes(r, g);
        if (g->asks) group_asks_run(r, g);
        settle(r, g);
    }
    all->room = false;
    return all->waiting || all->actors || all->asks;
}

void groups_expire(struct raylet *r) {
    int64_t now = time_now_ns();

    while (r->groups->waiting && r->groups->waiting->until_ns <= now) {
        struct group_set_aside *s = r->groups->waiting;

        answer(r, &s->id, s->epoch, -SKATE_EAGAIN, "not enough is free on this node now");
        r->groups->waiting = aside_free(s);
    }
    for (struct group_actor **at = &r->groups->actors; *at;) {
        struct group_actor *w = *at;

        if (w->until_ns > now) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        actor_host_refuse(r, &w->pl->start->actor, w->pl->start->incarnation,
                          "no room in the bundles of its group on this node");
        placement_free(w->pl);
        free(w);
    }
}

/* ---- after a break ---- */

void groups_state(struct raylet *r, struct wire_buf *b) {
    uint32_t n = 0, *epochs;
    struct skate_id *ids;

    for (struct bundle *u = bundles_next(r, NULL); u; u = bundles_next(r, u)) n++;
    ids = WIRE_PUT(b, node_state, groups, NULL, n * sizeof *ids);
    n = 0;
    for (struct bundle *u = bundles_next(r, NULL); u && ids; u = bundles_next(r, u))
        ids[n++] = u->group->id;
    epochs = WIRE_PUT(b, node_state, group_epochs, NULL, n * sizeof *epochs);
    n = 0;
    for (struct bundle *u = bundles_next(r, NULL); u && epochs; u = bundles_next(r, u))
        epochs[n++] = u->epoch;
}

void groups_back(struct raylet *r) {
    for (uint32_t i = 0; i < r->groups->count; i++) group_asks_back(r, r->groups->v[i]);
}

const struct wire_actor_start *groups_actor_at(const struct raylet *r, uint32_t n) {
    const struct group_actor *w = r->groups->actors;

    while (w && n-- > 0) w = w->next;
    return w ? w->pl->start : NULL;
}
