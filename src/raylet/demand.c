/* demand.c - see demand.h.
 *
 * By its own row a node decides what runs here for certain (sched_here). The rest it counts by
 * class and tells the GCS: at once when it grows, else with the next report. The answer names
 * nodes; those leases are passed on and are off this queue, and what is to run here is granted by
 * the next pass. A node that is alone decides all by itself, and tells for the table's sake.
 *
 * What becomes free is reported some milliseconds later, with what else comes; but at once when it
 * is twice what the GCS knows of: a full node gets its next lease without delay. */
#include "raylet/demand.h"

#include <stdio.h>
#include <string.h>

#include "raylet/gcs_link.h"

enum { PATIENCE_MS = 50, /* without an answer for so long, what fits here is granted here */
       REPORT_MS = 20, HURRY_MS = 1 }; /* between two reports */

bool demand_alone(const struct raylet *r) { return r->view.count < 2; }

bool demand_settled(struct raylet *r, const struct lease_class *c) {
    if (c->asked == 0) return false;
    return c->asked_ns == 0 ||
           loop_now_ns(r->loop) - c->asked_ns > PATIENCE_MS * INT64_C(1000000);
}

static bool is_known(struct raylet *r, const struct lease_ask *a) {
    const struct job *j = table_get(&r->jobs, a->job);

    return j && j->known;
}

/* How many wait, less those that the GCS has said shall run here. */
static uint32_t count_of(struct raylet *r, const struct lease_class *c) {
    uint64_t n = 0;

    for (const struct lease_ask *a = c->first; a; a = a->next)
        if (is_known(r, a)) n += a->count;
    n = n > c->here ? n - c->here : 0;
    return n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
}

static size_t pack_own(struct raylet *r, uint8_t *out, size_t cap) {
    struct resources avail = node_own(r)->avail;

    for (uint32_t i = 0; i < avail.count; i++)
        if (avail.v[i].amount < 0) avail.v[i].amount = 0;
    return resources_pack(&avail, out, cap);
}

struct unused { /* placed at that node, and not wanted any more */
    uint32_t node, count;
};

static void tell(struct raylet *r, struct lease_class *c, uint32_t count, struct unused unused) {
    const struct lease_ask *a = c->first;
    uint8_t packed[RESOURCES_MAX * 80];
    struct wire_demand_report *m;
    uint64_t room[512];
    struct wire_buf b;

    while (a && !is_known(r, a)) a = a->next;
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_DEMAND_REPORT);
    m->cls = c->number;
    m->affinity = c->affinity ? proc_make(c->affinity, 0) : 0;
    m->count = count;
    m->seen = c->placed;
    m->job = a ? a->job : 0;
    m->strategy = c->strategy;
    m->full = c->full;
    m->unused = unused.count;
    m->not_there = unused.node;
    if (a) WIRE_PUT(&b, demand_report, name, a->name, strlen(a->name));
    WIRE_PUT(&b, demand_report, available, packed, pack_own(r, packed, sizeof packed));
    WIRE_PUT(&b, demand_report, resources, packed, resources_pack(&c->want, packed,
                                                                 sizeof packed));
    if (a)
        WIRE_PUT(&b, demand_report, locality, a->locality,
                 a->locality_count * sizeof *a->locality);
    WIRE_PUT(&b, demand_report, labels, c->labels, strlen(c->labels));
    if (wire_end(&b) == 0) gcs_link_send(r, b.p, b.len);
    wire_release(&b);
    r->told = node_own(r)->avail;
    if (count > c->asked || c->full) c->asked_ns = loop_now_ns(r->loop);
    c->asked = count;
    c->known = count > 0;
    c->full = 0;
    if (count == 0) c->asked_ns = 0;
}

void demand_grew(struct raylet *r) {
    struct lease_class *c;

    if (demand_alone(r)) return;
    for (uint32_t i = 0; (c = leases_class_at(r->leases, i)); i++) {
        uint32_t n = c->first ? count_of(r, c) : 0;

        if (n > c->asked || (n > 0 && c->full) || (n == 0 && c->asked > 0))
            tell(r, c, n, (struct unused){0});
    }
}

void demand_changed(struct raylet *r, bool beat) {
    struct lease_class *c;

    r->told = node_own(r)->avail;

    for (uint32_t i = 0; (c = leases_class_at(r->leases, i)); i++) {
        uint32_t n;

        if (!c->first || beat) c->here = 0; /* it cannot run here after all, or does not wait */
        if (beat && c->refused) c->asked = 0;
        n = c->first ? count_of(r, c) : 0;
        if (n != c->asked || (beat && n == 0 && c->known)) tell(r, c, n, (struct unused){0});
    }
}

static bool has_doubled(struct raylet *r) {
    const struct resources *avail = &node_own(r)->avail;

    for (uint32_t i = 0; i < avail->count; i++)
        if (avail->v[i].amount > 0 &&
            avail->v[i].amount / 2 >= resources_amount(&r->told, avail->v[i].name))
            return true;
    return false;
}

void demand_report_soon(struct raylet *r) {
    bool hurry = !demand_alone(r) && has_doubled(r);
    int64_t since_ns = loop_now_ns(r->loop) - r->reported_ns;
    int64_t left_ns = (hurry ? HURRY_MS : REPORT_MS) * INT64_C(1000000) - since_ns;

    if (!r->report_timer) return;
    if (left_ns <= 0) {
        loop_timer_stop(r->report_timer);
        node_report(r);
    } else if (!loop_timer_is_active(r->report_timer) || (hurry && !r->hurry)) {
        r->hurry = hurry;
        loop_timer_start(r->report_timer, (uint64_t)(left_ns + 999999) / 1000000, 0);
    }
}

void demand_granted(struct raylet *r, const struct resources *want) {
    resources_take(&r->told, want);
}

void demand_refused(struct raylet *r, const struct resources *want) {
    for (uint32_t i = 0; i < r->told.count; i++)
        if (resources_amount(want, r->told.v[i].name)) r->told.v[i].amount = 0;
}

void demand_again(struct raylet *r) {
    struct lease_class *c;

    for (uint32_t i = 0; (c = leases_class_at(r->leases, i)); i++) {
        c->asked = c->here = 0;
        c->known = false;
        c->asked_ns = 0;
    }
    grants_wake(r);
}

/* Leases of the class for that node, as many as still wait. How many were too many? */
static uint32_t pass(struct raylet *r, struct lease_class *c, uint32_t node, uint32_t n) {
    struct lease_ask *a;

    while (n > 0 && (a = c->first) && is_known(r, a)) {
        uint32_t k = n < a->count ? n : a->count;

        grants_pass_on(r, node, a, k);
        n -= k;
    }
    return n;
}

/* What no node can ever hold fails when it may go nowhere else; of the rest the user hears once. */
static void never(struct raylet *r, struct lease_class *c, const char *why) {
    while (sched_is_hard(c->strategy) && c->first) grants_no_node(r, c->first);
    if (c->told || !c->first) return;
    c->told = true;
    grants_tell_never(r, c->first, why);
}

void demand_placed(struct raylet *r, const struct wire_demand_place *m) {
    struct lease_class *c = leases_class(r->leases, m->cls);
    uint32_t count, n, len;
    const uint32_t *nodes = wire_demand_place_nodes(m, &count);
    const uint32_t *counts = wire_demand_place_counts(m, &n);
    const char *reason = wire_demand_place_reason(m, &len);
    struct unused unused;
    char why[512];

    if (!c) return;
    c->refused = m->status == -SKATE_EFULL;
    for (uint32_t i = 0; i < count && i < n; i++) {
        c->placed += counts[i];
        c->asked -= counts[i] < c->asked ? counts[i] : c->asked;
        if (nodes[i] == r->node) {
            c->here += counts[i];
            continue;
        }
        unused = (struct unused){nodes[i], pass(r, c, nodes[i], counts[i])};
        if (unused.count > 0) tell(r, c, c->first ? count_of(r, c) : 0, unused);
    }
    snprintf(why, sizeof why, "%.*s", len < sizeof why ? (int)len : (int)sizeof why - 1, reason);
    if (m->status == 0 || m->status == -SKATE_EAGAIN || m->status == -SKATE_ENOENT || c->refused)
        c->asked_ns = 0; /* refused: what fits here runs here */
    if (m->status == -SKATE_ENOENT) never(r, c, why);
    grants_wake(r);
}
