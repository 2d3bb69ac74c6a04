/* lent.c - cores that a node has only while others lend them; see lent.h. */
#include "raylet/lent.h"

enum { UNIT = 10000 }; /* of a CPU, sched/resources.h */

static void move(struct raylet *r, int64_t amount, bool here) {
    struct resources cpu = {0};

    if (amount <= 0 || resources_set(&cpu, "CPU", amount) < 0) return;
    if (here)
        resources_give(&node_own(r)->avail, &cpu);
    else
        resources_take(&node_own(r)->avail, &cpu);
}

void lent_start(struct raylet *r) {
    int64_t total = resources_amount(&r->set.resources, "CPU");

    r->shared = (int64_t)r->set.shared_cpus * UNIT;
    if (r->shared > total) r->shared = total;
    move(r, r->shared, false);
}

void lent_sum(const struct raylet *r, struct resources *sum) {
    struct resources cpu = {0};
    int64_t away = r->shared - r->borrowed;

    if (away > 0 && resources_set(&cpu, "CPU", away) == 0) resources_give(sum, &cpu);
}

void lent_by(struct proc *p, bool waits) {
    struct raylet *r = p->r;
    int64_t amount = (int64_t)r->set.lend_cpus * UNIT;

    if (r->shared == 0 || waits == (p->lends > 0)) return;
    if (!waits) {
        move(r, p->lends, false);
        r->borrowed -= p->lends;
        p->lends = 0;
        return;
    }
    amount = amount < r->shared - r->borrowed ? amount : r->shared - r->borrowed;
    if (amount <= 0) return;
    p->lends = amount;
    r->borrowed += amount;
    move(r, amount, true);
    grants_wake(r);
}
