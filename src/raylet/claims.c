/* claims.c - who holds what of this node: amounts and GPUs, taken and given back in one place.
 *
 * A claim is on the node itself or on a bundle, which is a claim on the node of its own. At any
 * time, for the node and for each bundle: free + held by workers and placements = all of it; a
 * worker that waits in get() has lent its CPUs. Once a second that is counted anew. */
#include <stdio.h>

#include "raylet/bundles.h"
#include "raylet/lent.h"
#include "raylet/raylet.h"

static int64_t gpus_of(const struct resources *want) { return resources_amount(want, "GPU"); }

bool claim_fits(struct raylet *r, const struct bundle *b, const struct resources *want) {
    const struct resources *have = b ? &b->avail : &node_own(r)->avail;

    return resources_fit(have, want, NULL) && gpus_fit(b ? &b->gpus : &r->gpus, gpus_of(want));
}

void claim_take(struct raylet *r, struct bundle *b, const struct resources *want,
                struct gpu_share *ret) {
    resources_take(b ? &b->avail : &node_own(r)->avail, want);
    *ret = gpus_take(b ? &b->gpus : &r->gpus, gpus_of(want));
}

void claim_give(struct raylet *r, struct bundle *b, const struct resources *used,
                struct gpu_share *share) {
    struct sched_node *own = node_own(r);

    if (b)
        resources_give(&b->avail, used);
    else if (own)
        resources_give(&own->avail, used);
    gpus_give(b ? &b->gpus : &r->gpus, share);
    *share = (struct gpu_share){0};
}

/* ---- the books are right: checked once a second ---- */

static void count_proc(const struct proc *p, const struct bundle *b, struct resources *sum) {
    struct resources used = p->used;

    if (p->bundle != b) return;
    if (p->blocked && resources_amount(&used, "CPU") && resources_set(&used, "CPU", 0) < 0) return;
    resources_give(sum, &used);
}

/* What is held of the node (b NULL) or of a bundle. */
static void count_held(struct raylet *r, const struct bundle *b, struct resources *sum) {
    uint32_t at = 0;
    struct proc *p;
    struct job *j;

    while ((p = table_next(&r->procs, &at, NULL))) count_proc(p, b, sum);
    at = 0;
    while ((j = table_next(&r->jobs, &at, NULL)))
        for (const struct placement *pl = j->waiting; pl; pl = pl->next)
            if (pl->bundle == b) resources_give(sum, &pl->used);
    if (!b) bundles_sum(r, sum);
    if (!b) lent_sum(r, sum);
}

static void check(struct raylet *r, const struct bundle *b, const struct resources *total,
                  struct resources *avail) {
    struct resources sum = *total;

    for (uint32_t i = 0; i < sum.count; i++) sum.v[i].amount = 0;
    count_held(r, b, &sum);
    for (uint32_t i = 0; i < total->count; i++) {
        const char *name = total->v[i].name;
        int64_t must = total->v[i].amount - resources_amount(&sum, name);

        if (resources_amount(avail, name) == must) continue;
        node_log("the books of %s are wrong: %g free, but %g of %g is held; corrected", name,
                 (double)resources_amount(avail, name) / RESOURCE_UNIT,
                 (double)resources_amount(&sum, name) / RESOURCE_UNIT,
                 (double)total->v[i].amount / RESOURCE_UNIT);
        if (resources_set(avail, name, must) < 0) return;
        grants_wake(r);
    }
}

void claims_check(struct raylet *r) {
    struct sched_node *own = node_own(r);

    if (!own) return;
    check(r, NULL, &own->total, &own->avail);
    for (struct bundle *b = bundles_next(r, NULL); b; b = bundles_next(r, b))
        check(r, b, &b->total, &b->avail);
}
