/* gcs_groups.c - placement groups: creation, two-phase placement, loss of a node, removal.
 *
 * All bundles of a group are placed or none. An attempt has a number (epoch): each chosen raylet
 * is asked to set its bundles aside (group_reserve) and answers for all of them. When every one
 * has said yes, group_info with state CREATED commits; when one has not, what the attempt reserved
 * is released. A lost node's bundles are placed again, the others stay (RESCHEDULING). Legal moves:
 * PENDING -> CREATED -> RESCHEDULING -> CREATED, any -> REMOVED. A group ends when somebody
 * removes it or, unless it is detached, with the job and the actor that made it.
 * Tests: tests/unit/gcs_groups_test.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_groups.h"

struct gcs_group *gcs_group_find(struct gcs *g, const struct skate_id *id) {
    uint32_t i = map_get(&g->groups.ids, id);

    return i == MAP_NONE ? NULL : g->groups.v[i];
}

static struct gcs_group *find_name(struct gcs *g, const char *name, uint32_t name_len,
                                   const char *space, uint32_t space_len) {
    for (uint32_t i = 0; name_len && i < g->groups.count; i++) {
        struct gcs_group *p = g->groups.v[i];

        if (p->state != GROUP_REMOVED && strlen(p->name) == name_len &&
            strlen(p->space) == space_len && memcmp(p->name, name, name_len) == 0 &&
            memcmp(p->space, space, space_len) == 0)
            return p;
    }
    return NULL;
}

/* ------------------------------------------------------------------ who is told */

void gcs_group_frame(const struct gcs_group *p, struct wire_buf *b) {
    struct wire_group_info *m = wire_begin(b, WIRE_GROUP_INFO);
    uint32_t *nodes, len;
    void *packed = bundles_pack(p->b, p->count, 0, &len);

    m->group = p->id;
    m->epoch = p->epoch;
    m->state = p->state;
    m->job = p->job;
    m->strategy = p->strategy;
    m->flags = p->flags;
    m->creator = p->creator;
    WIRE_PUT(b, group_info, name, p->name, strlen(p->name));
    WIRE_PUT(b, group_info, namespace, p->space, strlen(p->space));
    if (p->reason) WIRE_PUT(b, group_info, reason, p->reason, strlen(p->reason));
    nodes = WIRE_PUT(b, group_info, nodes, NULL, p->count * sizeof *nodes);
    for (uint32_t i = 0; nodes && i < p->count; i++)
        nodes[i] = p->phase[i] == BUNDLE_HELD ? p->b[i].node : 0;
    if (packed) WIRE_PUT(b, group_info, bundles, packed, len);
    free(packed);
}

static void watch(struct gcs *g, struct gcs_group *p, uint32_t node) {
    for (uint32_t i = 0; i < p->watcher_count; i++)
        if (p->watchers[i] == node) return;
    if (p->watcher_count == p->watcher_cap)
        p->watchers = gcs_grow(p->watchers, &p->watcher_cap, sizeof *p->watchers);
    p->watchers[p->watcher_count++] = node;
    gcs_dirty_group(g, p);
}

static void tell(struct gcs *g, const struct gcs_group *p) {
    for (uint32_t i = 0; i < p->watcher_count; i++) {
        struct gcs_node *n = gcs_node_find(g, p->watchers[i]);
        struct wire_buf b;

        if (!n || !n->alive) continue;
        wire_init(&b, NULL, 0);
        gcs_group_frame(p, &b);
        gcs_send_link(g, n->link, &b);
    }
}

static void release(struct gcs *g, const struct gcs_group *p, uint32_t node, uint32_t epoch,
                    const char *why) {
    struct gcs_node *n = gcs_node_find(g, node);
    struct wire_group_release *m;
    struct wire_buf b;

    if (!n || !n->alive) return;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_RELEASE);
    m->group = p->id;
    m->epoch = epoch;
    WIRE_PUT(&b, group_release, reason, why, strlen(why));
    gcs_send_link(g, n->link, &b);
}

/* ------------------------------------------------------------------ creation */

/* What a group takes of the budget of creation specs. */
static uint64_t weight(uint32_t bundles) {
    return sizeof(struct gcs_group) + bundles * (sizeof(struct bundle_want) + 5);
}

void gcs_group_free(struct gcs_group *p) {
    free(p->b);
    free(p->phase);
    free(p->epochs);
    free(p->name);
    free(p->space);
    free(p->reason);
    free(p->watchers);
    free(p);
}

static void forget_oldest_removed(struct gcs *g) {
    struct gcs_group *p = NULL;
    uint32_t last = g->groups.count - 1;

    for (uint32_t i = 0; i <= last; i++)
        if (g->groups.v[i]->state == GROUP_REMOVED &&
            (!p || g->groups.v[i]->removed_at < p->removed_at))
            p = g->groups.v[i];
    SKATE_ASSERT(p);
    (void)map_remove(&g->groups.ids, &p->id);
    g->groups.v[p->index] = g->groups.v[last];
    g->groups.v[p->index]->index = p->index;
    if (p->index != last)
        SKATE_ASSERT(map_put(&g->groups.ids, &g->groups.v[p->index]->id, p->index) == 0);
    g->groups.count--;
    g->spec_bytes -= weight(p->count);
    p->dirty = false; /* once more: that it is gone */
    gcs_dirty_group(g, p);
    gcs_group_free(p);
}

bool gcs_spec_room(struct gcs *g, uint64_t bytes) {
    while (g->spec_bytes + bytes > g->opts.spec_bytes) {
        if (g->groups.count == g->groups.live) return false;
        forget_oldest_removed(g);
    }
    return true;
}

void gcs_group_insert(struct gcs *g, struct gcs_group *p) {
    if (g->groups.count == g->groups.cap)
        g->groups.v = gcs_grow(g->groups.v, &g->groups.cap, sizeof *g->groups.v);
    p->index = g->groups.count;
    g->groups.v[g->groups.count++] = p;
    SKATE_ASSERT(map_put(&g->groups.ids, &p->id, p->index) == 0);
    g->spec_bytes += weight(p->count);
}

static int judge(struct gcs *g, const struct wire_group_create *m, struct bundle_want **ret,
                 uint32_t *ret_count, char reason[GCS_REASON]) {
    uint32_t name_len, space_len, len;
    const char *name = wire_group_create_name(m, &name_len);
    const char *space = wire_group_create_namespace(m, &space_len);
    const uint8_t *packed = wire_group_create_bundles(m, &len);
    int e;

    if (id_is_nil(&m->group) || m->strategy > GROUP_STRICT_SPREAD || name_len > GCS_NAME_MAX ||
        space_len > GCS_NAME_MAX || memchr(name, 0, name_len) || memchr(space, 0, space_len)) {
        (void)snprintf(reason, GCS_REASON, "a malformed placement group");
        return -SKATE_EINVAL;
    }
    if (!gcs_job_find(g, m->job) && !gcs_actor_of_proc(g, m->creator)) {
        (void)snprintf(reason, GCS_REASON, "job %u has ended", m->job);
        return -SKATE_ENOENT;
    }
    if (gcs_group_find(g, &m->group) || find_name(g, name, name_len, space, space_len)) {
        (void)snprintf(reason, GCS_REASON, "Failed to create a placement group because name "
                       "'%.*s' already exists.", (int)(name_len > 64 ? 64 : name_len), name);
        return -SKATE_EEXIST;
    }
    if (g->groups.live >= g->opts.groups_max) {
        (void)snprintf(reason, GCS_REASON, "the cluster has its most placement groups, %u",
                       g->opts.groups_max);
        return -SKATE_EFULL;
    }
    e = bundles_unpack(packed, len, ret, ret_count);
    if (e == 0 && *ret_count == 0) {
        free(*ret);
        e = -SKATE_EINVAL;
    }
    if (e == 0 && !gcs_spec_room(g, weight(*ret_count))) {
        free(*ret);
        (void)snprintf(reason, GCS_REASON, "the creation specs of all actors and the bundles of "
                       "all placement groups together would pass %llu bytes",
                       (unsigned long long)g->opts.spec_bytes);
        return -SKATE_EFULL;
    }
    if (e < 0)
        (void)snprintf(reason, GCS_REASON, e == -SKATE_EFULL
                       ? "a placement group has at most 1024 bundles, of 32 resources each"
                       : "its bundles cannot be read");
    return e;
}

void gcs_group_create(struct gcs *g, const struct gcs_from *from,
                      const struct wire_group_create *m) {
    char reason[GCS_REASON] = "";
    struct bundle_want *b = NULL;
    uint32_t count = 0, name_len, space_len;
    const char *name = wire_group_create_name(m, &name_len);
    const char *space = wire_group_create_namespace(m, &space_len);
    struct gcs_actor *maker;
    struct gcs_group *p;
    int e = judge(g, m, &b, &count, reason);

    if (e < 0) {
        bool done = from->again && gcs_group_find(g, &m->group);

        gcs_reply_status(g, from, done ? 0 : e, done ? "" : reason);
        return;
    }
    p = gcs_alloc(sizeof *p);
    p->id = m->group;
    p->creator = m->creator;
    maker = gcs_actor_of_proc(g, m->creator);
    if (maker) p->maker = maker->id;
    p->job = m->job;
    p->strategy = m->strategy;
    p->flags = m->flags & 1;
    p->b = b;
    p->count = count;
    for (uint32_t i = 0; i < count; i++) b[i].index = i;
    p->phase = gcs_alloc(count);
    p->epochs = gcs_alloc(count * sizeof *p->epochs);
    p->name = gcs_alloc((size_t)name_len + 1);
    memcpy(p->name, name, name_len);
    p->space = gcs_alloc((size_t)space_len + 1);
    memcpy(p->space, space, space_len);
    p->born = ++g->serial;
    gcs_group_insert(g, p);
    g->groups.live++;
    g->groups.unplaced++;
    g->place_wanted = true;
    gcs_dirty_group(g, p);
    gcs_reply_status(g, from, 0, "");
}

void gcs_groups_release(struct gcs *g) {
    for (uint32_t i = 0; i < g->groups.count; i++) gcs_group_free(g->groups.v[i]);
    free(g->groups.v);
    map_release(&g->groups.ids);
}

/* ------------------------------------------------------------------ placement */

static void load(struct gcs *g, const struct gcs_group *p, uint32_t i, bool on) {
    struct gcs_node *n = gcs_node_find(g, p->b[i].node);

    if (!n) return;
    if (on)
        resources_give(&n->reserving, &p->b[i].want);
    else
        resources_take(&n->reserving, &p->b[i].want);
}

static void reserve(struct gcs *g, struct gcs_group *p, uint32_t node) {
    struct wire_group_reserve *m;
    struct bundle_want *some = gcs_alloc(p->count * sizeof *some);
    uint32_t n = 0, len;
    struct wire_buf b;
    void *packed;

    for (uint32_t i = 0; i < p->count; i++) {
        if (p->b[i].node != node || p->phase[i] != BUNDLE_NONE) continue;
        some[n++] = p->b[i];
        p->phase[i] = BUNDLE_ASKED;
        p->epochs[i] = p->epoch;
        load(g, p, i, true);
    }
    packed = bundles_pack(some, n, 0, &len);
    SKATE_ASSERT(packed);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_RESERVE);
    m->group = p->id;
    m->epoch = p->epoch;
    m->job = p->job;
    WIRE_PUT(&b, group_reserve, bundles, packed, len);
    gcs_send_link(g, gcs_node_find(g, node)->link, &b);
    free(packed);
    free(some);
    watch(g, p, node);
    p->awaited++;
}

static void tell_infeasible(struct gcs *g, struct gcs_group *p) {
    struct gcs_job *j = gcs_job_find(g, p->job);
    struct wire_notice *m;
    struct wire_buf b;
    char text[512], need[200];
    int n;

    if (p->infeasible_told || !j) return;
    p->infeasible_told = true;
    resources_text(&p->b[0].want, need, sizeof need);
    n = snprintf(text, sizeof text, "The placement group %s%sneeds %u bundle%s (the first: %s), "
                 "which the nodes of the cluster can never hold together: it waits until nodes "
                 "that can join", p->name, p->name[0] ? " " : "", p->count,
                 p->count == 1 ? "" : "s", need);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NOTICE);
    m->level = 1;
    m->kind = 1;
    m->job = p->job;
    WIRE_PUT(&b, notice, name, p->name, strlen(p->name));
    if (n >= (int)sizeof text) n = sizeof text - 1;
    WIRE_PUT(&b, notice, text, text, n < 0 ? 0 : (size_t)n);
    gcs_send_proc(g, j->driver, &b);
}

static void place(struct gcs *g, struct gcs_group *p) {
    int e = bundles_place(&g->view, p->b, p->count, (enum group_strategy)p->strategy);

    if (e < 0) {
        if (e == -SKATE_ENOENT) tell_infeasible(g, p);
        return;
    }
    p->epoch++;
    gcs_dirty_group(g, p); /* no number twice, whatever happens to us */
    p->attempting = true;
    p->failed = false;
    p->awaited = 0;
    for (uint32_t i = 0; i < p->count; i++)
        if (p->phase[i] == BUNDLE_NONE) reserve(g, p, p->b[i].node);
}

void gcs_groups_place(struct gcs *g) {
    if (!g->groups.unplaced) return;
    for (uint32_t i = 0; i < g->node_count; i++) gcs_place_row(g, g->nodes[i]);
    for (uint32_t i = 0; i < g->groups.count; i++) {
        struct gcs_group *p = g->groups.v[i];

        if ((p->state == GROUP_PENDING || p->state == GROUP_RESCHEDULING) && !p->attempting)
            place(g, p);
    }
}

static void give_up_attempt(struct gcs *g, struct gcs_group *p) {
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t node = p->b[i].node;

        if (p->epochs[i] != p->epoch || p->phase[i] != BUNDLE_HELD) continue;
        for (uint32_t k = i; k < p->count; k++)
            if (p->b[k].node == node && p->epochs[k] == p->epoch) {
                p->b[k].node = 0;
                p->phase[k] = BUNDLE_NONE;
            }
        release(g, p, node, p->epoch, "another node could not hold its part of the group");
    }
}

/* The last answer of an attempt is there. */
static void attempt_over(struct gcs *g, struct gcs_group *p) {
    p->attempting = false;
    for (uint32_t i = 0; i < p->count; i++) p->failed |= p->phase[i] != BUNDLE_HELD;
    g->place_wanted = true;
    if (p->failed) {
        give_up_attempt(g, p);
        return;
    }
    p->state = GROUP_CREATED;
    g->groups.unplaced--;
    gcs_dirty_group(g, p);
    tell(g, p);
}

/* Does the group have bundles on this node, set aside by that attempt? */
static bool holds(const struct gcs_group *p, uint32_t node, uint32_t epoch) {
    for (uint32_t k = 0; p && p->state != GROUP_REMOVED && k < p->count; k++)
        if (p->b[k].node == node && p->phase[k] == BUNDLE_HELD && p->epochs[k] == epoch)
            return true;
    return false;
}

void gcs_group_reserved(struct gcs *g, const struct gcs_from *from,
                        const struct wire_group_reserved *m) {
    struct gcs_group *p = gcs_group_find(g, &m->group);
    uint32_t node = from->node->number, mine = 0;

    if (from->src) return; /* only raylets say so */
    if (!p || p->state == GROUP_REMOVED || p->epoch != m->epoch || !p->attempting) {
        if (m->status >= 0 && !holds(p, node, m->epoch)) { /* else it is said again */
            struct gcs_group gone = {.id = m->group};

            release(g, &gone, node, m->epoch, "this attempt is over");
        }
        return;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->b[i].node != node || p->phase[i] != BUNDLE_ASKED) continue;
        load(g, p, i, false);
        p->phase[i] = m->status >= 0 ? BUNDLE_HELD : BUNDLE_NONE;
        if (m->status < 0) p->b[i].node = 0;
        mine++;
    }
    if (!mine) return;
    gcs_dirty_group(g, p);
    if (m->status < 0) {
        from->node->stale = true; /* until its next report */
        p->failed = true;
    }
    SKATE_ASSERT(p->awaited > 0);
    if (--p->awaited == 0) attempt_over(g, p);
}

/* What of a group lies, or was to lie, on a node is gone. */
static void lose(struct gcs *g, struct gcs_group *p, uint32_t node) {
    bool asked = false, held = false;

    for (uint32_t k = 0; p->state != GROUP_REMOVED && k < p->count; k++) {
        if (p->b[k].node != node) continue;
        asked |= p->phase[k] == BUNDLE_ASKED;
        held |= p->phase[k] == BUNDLE_HELD;
        if (p->phase[k] == BUNDLE_ASKED) load(g, p, k, false);
        p->phase[k] = BUNDLE_NONE;
        p->b[k].node = 0;
    }
    if (!asked && !held) return;
    p->failed = true;
    if (p->state == GROUP_CREATED) {
        p->state = GROUP_RESCHEDULING;
        g->groups.unplaced++;
        tell(g, p);
    }
    gcs_dirty_group(g, p);
    g->place_wanted = true;
    if (asked && --p->awaited == 0) attempt_over(g, p);
}

void gcs_groups_node_lost(struct gcs *g, uint32_t node) {
    for (uint32_t i = 0; i < g->groups.count; i++) lose(g, g->groups.v[i], node);
}

/* Does the node hold what this group has there? */
static bool as_said(const struct gcs_group *p, uint32_t node, const struct wire_node_state *m) {
    uint32_t count, n;
    const struct skate_id *ids = wire_node_state_groups(m, &count);
    const uint32_t *epochs = wire_node_state_group_epochs(m, &n);

    for (uint32_t k = 0; p->state != GROUP_REMOVED && k < p->count; k++) {
        bool said = false;

        if (p->b[k].node != node || p->phase[k] == BUNDLE_NONE) continue;
        for (uint32_t i = 0; i < count && i < n && p->phase[k] == BUNDLE_HELD && !said; i++)
            said = id_equal(&ids[i], &p->id) && epochs[i] == p->epochs[k];
        if (!said) return false; /* what it was asked for and has not answered has not come */
    }
    return true;
}

void gcs_groups_node_back(struct gcs *g, struct gcs_node *n, const struct wire_node_state *m) {
    uint32_t count, said;
    const struct skate_id *ids = wire_node_state_groups(m, &count);
    const uint32_t *epochs = wire_node_state_group_epochs(m, &said);

    for (uint32_t i = 0; i < g->groups.count; i++)
        if (!as_said(g->groups.v[i], n->number, m)) lose(g, g->groups.v[i], n->number);
    for (uint32_t i = 0; i < count && i < said; i++) {
        struct gcs_group *p = gcs_group_find(g, &ids[i]), gone = {.id = ids[i]};

        if (!p || p->state == GROUP_REMOVED)
            release(g, &gone, n->number, 0, "its placement group was removed");
        else if (!holds(p, n->number, epochs[i]))
            release(g, &gone, n->number, epochs[i], "this attempt is over");
    }
}

/* ------------------------------------------------------------------ the end */

static void end(struct gcs *g, struct gcs_group *p, const char *why) {
    if (p->state == GROUP_REMOVED) return;
    if (p->state != GROUP_CREATED) g->groups.unplaced--;
    p->state = GROUP_REMOVED;
    p->reason = gcs_copy(why, strlen(why) + 1);
    p->removed_at = ++g->groups.removals;
    for (uint32_t i = 0; i < p->count; i++) {
        bool first = true;

        if (p->phase[i] == BUNDLE_ASKED) load(g, p, i, false);
        for (uint32_t k = 0; k < i; k++) first &= p->b[k].node != p->b[i].node;
        if (first && p->b[i].node) release(g, p, p->b[i].node, 0, why);
    }
    g->groups.live--;
    gcs_dirty_group(g, p);
    tell(g, p);
    for (uint32_t i = 0; i < g->actor_slots; i++) {
        struct gcs_actor *a = g->actors[i];

        if (!a || a->state == GCS_DEAD || !id_equal(&a->group, &p->id)) continue;
        a->cause = a->state != GCS_ALIVE && !a->restarting;
        gcs_actor_end(g, a, why, true);
    }
    if (g->groups.count - g->groups.live > g->opts.dead_max) forget_oldest_removed(g);
}

void gcs_group_remove(struct gcs *g, const struct gcs_from *from,
                      const struct wire_group_remove *m) {
    struct gcs_group *p = gcs_group_find(g, &m->group);

    if (p) end(g, p, "its placement group was removed");
    gcs_reply_status(g, from, 0, "");
}

/* A job or an actor ended: so do the groups that lived for it. */
void gcs_groups_sweep(struct gcs *g) {
    for (uint32_t i = 0; i < g->groups.count; i++) {
        struct gcs_group *p = g->groups.v[i];
        struct gcs_actor *maker = gcs_actor_find(g, &p->maker);

        if (p->state == GROUP_REMOVED || p->flags & 1 || gcs_job_find(g, p->job)) continue;
        if (maker && maker->state != GCS_DEAD) continue;
        end(g, p, "the job that made its placement group has ended");
        i = UINT32_MAX; /* the table may have moved: from the start (ended ones are skipped) */
    }
}

/* ------------------------------------------------------------------ questions */

void gcs_group_get(struct gcs *g, const struct gcs_from *from, const struct wire_group_get *m) {
    uint32_t name_len, space_len;
    const char *name = wire_group_get_name(m, &name_len);
    const char *space = wire_group_get_namespace(m, &space_len);
    struct gcs_group *p = id_is_nil(&m->group) ? find_name(g, name, name_len, space, space_len)
                                               : gcs_group_find(g, &m->group);
    struct wire_buf b;

    if (p) gcs_says(g, p->batch);
    wire_init(&b, NULL, 0);
    if (p) {
        gcs_group_frame(p, &b);
    } else {
        struct wire_group_info *out = wire_begin(&b, WIRE_GROUP_INFO);

        out->group = m->group;
        out->state = GROUP_REMOVED;
    }
    if (from->call) {
        gcs_reply(g, from, &b);
        return;
    }
    if (p && p->state != GROUP_REMOVED) watch(g, p, from->node->number);
    gcs_send_link(g, from->link, &b);
}

/* ------------------------------------------------------------------ its actors */

/* One that comes back has yet to say what is being started there; then its report places anew. */
static bool is_here(struct gcs *g, uint32_t node) {
    const struct gcs_node *n = gcs_node_find(g, node);

    return n && n->link && !n->returning;
}

/* Where an actor of a group may be started: 0 and the node, -SKATE_EAGAIN: it waits, -SKATE_ENOENT:
 * the group is gone. Which bundle is the raylet's business; a refusal tries the next node. */
int gcs_group_pick(struct gcs *g, const struct gcs_actor *a, const struct resources *want,
                   uint32_t *ret_node) {
    struct gcs_group *p = gcs_group_find(g, &a->group);

    if (!p || p->state == GROUP_REMOVED) return -SKATE_ENOENT;
    if (p->state == GROUP_PENDING) return -SKATE_EAGAIN;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t k = a->bundle >= 0 ? (uint32_t)a->bundle : (i + a->incarnation) % p->count;

        if (k >= p->count || p->phase[k] != BUNDLE_HELD || p->epochs[k] == 0) continue;
        if (p->attempting && p->epochs[k] == p->epoch) continue; /* not committed yet */
        if (!resources_fit(&p->b[k].want, want, NULL)) continue;
        if (!is_here(g, p->b[k].node)) continue;
        *ret_node = p->b[k].node;
        return 0;
    }
    return -SKATE_EAGAIN;
}
