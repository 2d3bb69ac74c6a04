/* group_asks.c - see bundles.h: lease requests for the bundles of a placement group.
 *
 * A request waits at the raylet of its owner, which learns from the GCS where the bundles lie. It
 * is served from a bundle of this node, or passed to the node of one, which serves what fits at
 * once, sends the rest back and remembers to say group_room when it has room again: nobody polls.
 * What asks for a group that is gone fails at once. */
#include <stdlib.h>
#include <string.h>

#include "raylet/bundles.h"
#include "raylet/gcs_link.h"
#include "raylet/links.h"

void lease_fail(struct raylet *r, uint64_t owner, uint64_t req, const char *text) {
    uint64_t room[128];
    struct wire_buf b;
    struct wire_lease_failed *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_LEASE_FAILED);
    m->req = req;
    WIRE_PUT(&b, lease_failed, text, text, strlen(text));
    if (wire_end(&b) == 0) route_send(r, owner, b.p, b.len);
    wire_release(&b);
}

static void ask_gcs(struct raylet *r, struct group *g) {
    struct wire_group_get m = {.head = {.size = sizeof m, .kind = WIRE_GROUP_GET,
                                        .fixed = sizeof m},
                               .group = g->id};

    if (g->asked_gcs) return;
    g->asked_gcs = true;
    gcs_link_send(r, &m, sizeof m);
}

void group_asks_back(struct raylet *r, struct group *g) {
    if (!g->asked_gcs && !g->bundles) return;
    g->asked_gcs = false;
    ask_gcs(r, g);
}

static void unlink_ask(struct raylet *r, struct group *g, struct group_ask **at) {
    struct group_ask *q = *at;

    *at = q->next;
    if (g->asks_tail == &q->next) g->asks_tail = at;
    r->groups->asks--;
    free(q->a.env);
    free(q);
}

/* ---- serving ---- */

static void serve_here(struct raylet *r, struct group *g, struct lease_ask *a,
                       const struct resources *want) {
    for (struct bundle *b = g->bundles; b; b = b->next) {
        if (!b->committed || (a->bundle >= 0 && b->index != (uint32_t)a->bundle)) continue;
        while (a->count > 0 && grants_try(r, a, want, b)) a->count--;
    }
}

/* A bundle on another node that may have room; -1: none. */
static int64_t elsewhere(struct raylet *r, struct group *g, const struct lease_ask *a) {
    for (uint32_t i = 0; i < g->count; i++) {
        uint32_t k = a->bundle >= 0 ? (uint32_t)a->bundle : (g->turn + i) % g->count;

        if (k >= g->count || g->nodes[k] == 0 || g->nodes[k] == r->node || g->full[k]) continue;
        if (links_is_dead(r, g->nodes[k])) continue; /* its next place will be told */
        g->turn = k;
        return k;
    }
    return -1;
}

void group_asks_run(struct raylet *r, struct group *g) {
    for (struct group_ask **at = &g->asks; *at;) {
        struct group_ask *q = *at;
        int64_t k;

        if (g->state == GROUP_REMOVED) {
            lease_fail(r, q->a.owner, q->a.req, GROUP_GONE);
            q->a.count = 0;
        } else if (g->state == GROUP_CREATED || g->state == GROUP_RESCHEDULING) {
            serve_here(r, g, &q->a, &q->want);
            k = q->a.count ? elsewhere(r, g, &q->a) : -1;
            if (k >= 0) {
                grants_pass(r, g->nodes[k], &q->a, &q->want, 1);
                for (uint32_t i = 0; i < g->count; i++) /* until it says otherwise */
                    if (g->nodes[i] == g->nodes[k]) g->full[i] = 1;
                q->a.count = 0;
            }
        } else
            ask_gcs(r, g);
        if (q->a.count == 0)
            unlink_ask(r, g, at);
        else
            at = &q->next;
    }
}

/* For an owner of another node: what fits now, and the rest back. */
static void serve_foreign(struct raylet *r, struct lease_ask *a, const struct resources *want,
                          uint32_t hops) {
    struct group *g = group_find(r, &a->group);
    uint32_t home = proc_node(a->owner), asked = a->count;
    bool known = false;

    if (hops > 1) return;
    if (g) serve_here(r, g, a, want);
    if (g && a->count < asked) { /* it had room, and may have again: say so when asked anew */
        struct wire_group_room m = {.head = {.size = sizeof m, .kind = WIRE_GROUP_ROOM,
                                             .fixed = sizeof m},
                                    .group = g->id};

        if (a->count == 0) route_send(r, proc_make(home, 0), &m, sizeof m);
    }
    if (a->count == 0) return;
    for (uint32_t i = 0; g && i < g->home_count; i++) known |= g->homes[i] == home;
    if (g && !known && g->home_count < GROUP_HOMES_MAX) g->homes[g->home_count++] = home;
    grants_pass(r, home, a, want, hops + 1);
    grants_reclaim(r);
}

void group_asks_tell_homes(struct raylet *r, struct group *g) {
    struct wire_group_room m = {.head = {.size = sizeof m, .kind = WIRE_GROUP_ROOM,
                                         .fixed = sizeof m},
                                .group = g->id};

    while (g->home_count > 0)
        route_send(r, proc_make(g->homes[--g->home_count], 0), &m, sizeof m);
}

void group_asks_on_room(struct raylet *r, uint64_t src, const struct wire_group_room *m) {
    struct group *g = proc_number(src) == 0 ? group_find(r, &m->group) : NULL;

    if (!g) return;
    for (uint32_t i = 0; i < g->count; i++)
        if (g->nodes[i] == proc_node(src)) g->full[i] = 0;
    if (g->asks) grants_wake(r);
}

/* ---- requests ---- */

void group_asks_request(struct raylet *r, uint64_t src, const struct lease_ask *in,
                        const struct resources *want, uint32_t hops) {
    struct lease_ask a = *in;
    struct group *g;
    struct group_ask **at;
    bool back = proc_number(src) == 0; /* what another node could not serve */

    if (proc_node(a.owner) != r->node) {
        serve_foreign(r, &a, want, hops);
        return;
    }
    if (!proc_find(r, a.owner)) return;
    g = group_get(r, &a.group);
    if (!g) {
        lease_fail(r, a.owner, a.req, "store_full\nthis node knows too many placement groups");
        return;
    }
    for (at = &g->asks; *at; at = &(*at)->next)
        if ((*at)->a.owner == a.owner && (*at)->a.req == a.req) break;
    if (*at) {
        uint32_t room = UINT32_MAX - (*at)->a.count;

        (*at)->a.count = !back ? a.count : (*at)->a.count + (a.count < room ? a.count : room);
    } else if (a.count && r->groups->asks >= LEASES_REQUESTS_MAX) {
        lease_fail(r, a.owner, a.req, "unschedulable\ntoo many requests for the bundles of "
                   "placement groups wait on this node: submit fewer at once");
    } else if (a.count) {
        struct group_ask *q = calloc(1, sizeof *q);

        if (!q) return;
        q->a = a;
        q->want = *want;
        q->a.env = a.env_len ? malloc(a.env_len) : NULL;
        if (a.env_len && !q->a.env) {
            free(q);
            return;
        }
        if (a.env_len) memcpy(q->a.env, in->env, a.env_len);
        *g->asks_tail = q;
        g->asks_tail = &q->next;
        r->groups->asks++;
    }
    grants_wake(r);
}

void group_asks_cancel(struct raylet *r, uint64_t owner, uint64_t req) {
    for (uint32_t i = 0; r->groups->asks && i < r->groups->count; i++) {
        struct group *g = r->groups->v[i];

        for (struct group_ask **at = &g->asks; *at;)
            if (owner_is((*at)->a.owner, owner) && (req == 0 || (*at)->a.req == req))
                unlink_ask(r, g, at);
            else
                at = &(*at)->next;
    }
}

void group_asks_owner_died(struct raylet *r, uint64_t owner) { group_asks_cancel(r, owner, 0); }

bool group_asks_in_the_way(struct raylet *r, const struct proc *p) {
    const struct group *g = p->bundle ? p->bundle->group : NULL;

    if (!g) return r->groups->waiting != NULL;
    if (g->home_count || r->groups->actors) return true;
    for (const struct group_ask *q = g->asks; q; q = q->next) {
        bool same = q->want.count == p->used.count && q->a.owner == p->owner;

        for (uint32_t i = 0; same && i < q->want.count; i++)
            same = resources_amount(&p->used, q->want.v[i].name) == q->want.v[i].amount;
        if (!same) return true;
    }
    return false;
}
