/* store_stats.c - what this node's object store holds and has done, for whoever asks.
 *
 * Totals are counted where things happen (raylet.h: counts); what can be added up is added up here
 * when somebody asks: one pass over the processes that have extents and one over the pulled copies.
 * Loop thread only; never blocks. Tests: tests/e2e/test_e2e_who_holds.py, store_extents_test.c. */
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "raylet/answers.h"
#include "raylet/pulls.h"
#include "raylet/raylet.h"
#include "raylet/spill.h"
#include "store/residency.h"

enum { LOOKS_MOST = 4 << 20 }; /* at pins: some milliseconds */
enum { HOLDERS_MOST = 8192 }; /* 4,095 live at most; and the dead whose bytes are read still */
enum store_holder { STORE_LIVE, STORE_DEAD, STORE_COPIES, STORE_KEPT };

static enum store_holder kind_of(const struct raylet *r, const struct extent_holder *h) {
    if (h->proc == r->self) return STORE_COPIES;
    if (h->proc == keeps_holder(r)) return STORE_KEPT;
    return h->held ? STORE_DEAD : STORE_LIVE;
}

/* Bytes by kind of holder, and one line of three for each. */
static void add_holders(const struct raylet *r, struct wire_store_stats *m, struct wire_buf *b) {
    uint64_t rows[3 * 64], *v = rows, sums[4] = {0};
    struct extent_holder h;
    uint32_t at = 0, n = 0, count = 0;

    while (extents_next_holder(r->extents, &at, &h)) count++;
    if (count > HOLDERS_MOST) count = HOLDERS_MOST;
    if (count > 64) v = malloc((size_t)count * 3 * sizeof *v);
    at = 0;
    while (extents_next_holder(r->extents, &at, &h)) {
        enum store_holder kind = kind_of(r, &h);

        sums[kind] += h.bytes;
        if (!v || n == count) continue;
        v[3 * n] = h.proc;
        v[3 * n + 1] = h.bytes;
        v[3 * n + 2] = kind;
        n++;
    }
    m->lent = sums[STORE_LIVE];
    m->held = sums[STORE_DEAD];
    m->kept = sums[STORE_KEPT];
    if (v) WIRE_PUT(b, store_stats, holders, v, (size_t)n * 3 * sizeof *v);
    if (v != rows) free(v);
}

static void add_totals(struct raylet *r, struct wire_store_stats *m) {
    const struct store_counts *c = &r->counts;
    struct store_rates rates = store_rates_of(&r->history, c, time_now_ns());

    m->spills = c->spills;
    m->spilled_bytes = c->spilled_bytes;
    m->spill_ns = c->spill_ns;
    m->restores = c->restores;
    m->restored_bytes = c->restored_bytes;
    m->restore_ns = c->restore_ns;
    m->evictions = c->evictions;
    m->evicted_bytes = c->evicted_bytes;
    m->pulls = c->pulls;
    m->pulled_bytes = c->pulled_bytes;
    m->failures = c->failures;
    m->waiting = c->waiting;
    m->waits = c->waits;
    m->refused = c->refused;
    m->spill_rate = rates.spill;
    m->restore_rate = rates.restore;
    m->evict_rate = rates.evict;
    m->pull_rate = rates.pull;
}

struct pinned_look {
    struct raylet *r;
    const uint32_t *pins[64];
    uint32_t count;
    uint64_t bytes, looks;
};

static bool add_pinned(void *arg, const struct extent_info *info) {
    struct pinned_look *l = arg;
    uint64_t end = granule_end(info->offset, info->bytes);

    for (uint64_t g = granule_first(info->offset); g < end; g++) {
        uint64_t left = info->offset + info->bytes - g * GRANULE_BYTES;

        for (uint32_t i = 0; i < l->count; i++) {
            l->looks++;
            if (!at_load(&l->pins[i][g])) continue;
            l->bytes += left < GRANULE_BYTES ? left : GRANULE_BYTES;
            break;
        }
    }
    return l->looks < LOOKS_MOST;
}

/* What somebody reads at this moment, as far as LOOKS_MOST looks go; 0: too many processes. */
static uint64_t pinned_bytes(struct raylet *r) {
    struct pinned_look l = {.r = r};
    struct extent_holder h;
    struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&r->procs, &at, NULL))) {
        if (!p->pins) continue;
        if (l.count == sizeof l.pins / sizeof *l.pins) return 0;
        l.pins[l.count++] = p->pins;
    }
    at = 0;
    while (l.looks < LOOKS_MOST && extents_next_holder(r->extents, &at, &h))
        extents_each(r->extents, h.proc, add_pinned, &l);
    return l.bytes;
}

static void add_now(struct raylet *r, struct wire_store_stats *m) {
    const struct store_counts *c = &r->counts;
    struct pulls_sum copies = pulls_sum(r);

    m->budget = extents_budget(r->extents);
    m->used = m->resident = extents_used(r->extents);
    m->spilled = c->spilled;
    m->in_files = c->in_files;
    m->pinned = pinned_bytes(r);
    m->warm = extents_warm(r->extents);
    m->disk_used = spill_disk_bytes(r);
    m->lost = c->lost;
    m->copies = copies.copies;
    m->copies_bytes = copies.bytes;
    m->unused_copies = copies.unused;
    m->unused_copies_bytes = copies.unused_bytes;
}

void store_stats_answer(struct raylet *r, uint64_t src, const struct wire_store_stats_req *m) {
    struct wire_store_stats *out;
    uint64_t room[512];
    struct wire_buf b;

    if (!m->head.call || !r->node) return;
    wire_init(&b, room, sizeof room);
    out = wire_begin(&b, WIRE_STORE_STATS);
    out->head.call = m->head.call;
    out->head.flags = WIRE_REPLY;
    add_now(r, out);
    add_totals(r, out);
    add_holders(r, out, &b);
    WIRE_PUT(&b, store_stats, waits_for, r->counts.waits_for,
             strnlen(r->counts.waits_for, STORE_WAITS));
    if (wire_end(&b) == 0) route_send(r, src, b.p, b.len);
    wire_release(&b);
}

void store_stats_beat(struct raylet *r) {
    store_history_add(&r->history, &r->counts, time_now_ns());
}
