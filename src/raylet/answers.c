/* answers.c - what a lease request or an actor that is being started waits for, and who holds it.
 *
 * One question, one answer, from what the raylet knows anyway. A worker that holds something is
 * named by an edge: it says itself what it runs. Other nodes are counted, not asked: with more than
 * one that could serve, nobody is called stuck. Loop thread only. Tests: tests/e2e/test_e2e_why.py,
 * tests/e2e/test_e2e_recipes_hangs.py. */
#include "wire/why.h"

#include <string.h>
#include <unistd.h>

#include "raylet/answers.h"
#include "raylet/raylet.h"

/* Does this process hold some of a resource that is short? A blocked one has lent its CPUs. */
static bool holds_short(struct raylet *r, const struct proc *p, const struct resources *want) {
    const struct resources *avail = &node_own(r)->avail;

    if (p->work < WORK_LEASE || p->state == PROC_DOOMED) return false;
    for (uint32_t i = 0; i < want->count; i++) {
        const char *name = want->v[i].name;

        if (resources_amount(avail, name) >= want->v[i].amount) continue;
        if (p->blocked && strcmp(name, "CPU") == 0) continue;
        if (resources_amount(&p->used, name) > 0) return true;
    }
    return false;
}

static bool alone_fits(struct raylet *r, const struct resources *want) {
    for (uint32_t i = 0; i < r->view.count; i++) {
        const struct sched_node *n = &r->view.nodes[i];

        if (n->node != r->node && n->alive && resources_fit(&n->total, want, NULL)) return false;
    }
    return true;
}

static void say_short(struct raylet *r, const struct resources *want, struct why_fact *f) {
    const struct sched_node *own = node_own(r);
    uint32_t at = 0, holders = 0;
    const char *sep = "";
    char text[200];
    struct proc *p;

    f->end = WHY_WAITS;
    f->any = true;
    f->cut = !alone_fits(r, want);
    if (want != &own->total) why_say(f, "needs %s; ", resources_text(want, text, sizeof text));
    why_say(f, "node %u has free: ", r->node);
    for (uint32_t i = 0; i < want->count; i++) {
        if (want == &own->total && resources_amount(&own->avail, want->v[i].name) ==
                                       want->v[i].amount)
            continue; /* untouched: not what is short */
        why_say(f, "%s%g of %g %s", sep,
                (double)resources_amount(&own->avail, want->v[i].name) / RESOURCE_UNIT,
                (double)resources_amount(&own->total, want->v[i].name) / RESOURCE_UNIT,
                want->v[i].name);
        sep = ", ";
    }
    while ((p = table_next(&r->procs, &at, NULL))) {
        if (!holds_short(r, p, want)) continue;
        if (holders < 8)
            why_say(f, "%s pid %u", holders ? "," : "; held by", p->pid);
        holders++;
        why_edge_add(f, p->id, WHY_RUN, (struct skate_id){0, 0});
    }
    if (holders > 8) why_say(f, " and %u more", holders - 8);
    if (f->cut) why_say(f, "; other nodes could serve it, too, and are busy");
    if (!holders) f->end = WHY_GOES;
}

/* Its resources are taken; does it only lack a process? */
static bool say_placed(struct raylet *r, const struct skate_id *id, bool actor,
                       struct why_fact *f) {
    uint32_t at = 0;
    struct job *j;

    while ((j = table_next(&r->jobs, &at, NULL)))
        for (const struct placement *pl = j->waiting; pl; pl = pl->next) {
            if (pl->is_actor != actor) continue;
            if (actor ? !id_equal(&pl->start->actor, id)
                      : pl->owner != id->owner || pl->req != id->seq)
                continue;
            f->end = WHY_GOES;
            why_say(f, "has its resources and waits for a worker process: %u being started",
                    r->starting);
            return true;
        }
    return false;
}

static void fact_of_lease(struct raylet *r, const struct skate_id *id, struct why_fact *f) {
    const struct lease_ask *a = leases_find(r->leases, id->owner, id->seq);
    struct skate_error text = {""};
    const struct lease_class *c;

    if (!a) {
        if (say_placed(r, id, false, f)) return;
        f->end = WHY_GOES;
        why_say(f, "was granted just now, or another node was asked");
        return;
    }
    c = a->cls;
    struct sched_ask ask = {.want = &c->want, .strategy = c->strategy, .affinity = c->affinity,
                            .locality = a->locality, .locality_count = a->locality_count,
                            .labels = c->labels};
    if (sched_could(&r->view, &ask) == -SKATE_ENOENT) {
        sched_explain(&r->view, &ask, "it", &text);
        f->end = WHY_NEVER;
        why_say(f, "%s", text.text);
    } else
        say_short(r, &c->want, f);
}

static void fact_of_start(struct raylet *r, const struct skate_id *id, struct why_fact *f) {
    const struct resources *want = actor_host_lacks(r, id);
    uint32_t at = 0;
    struct proc *p;

    if (want) {
        say_short(r, want, f);
        return;
    }
    if (say_placed(r, id, true, f)) return;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->work == WORK_ACTOR && id_equal(&p->actor, id)) {
            f->end = WHY_WAITS;
            why_say(f, "its worker process is up: pid %u of node %u", p->pid, r->node);
            why_edge_add(f, p->id, WHY_RUN, (struct skate_id){0, 0});
            return;
        }
    /* The GCS found no room for it here by our reports: whoever holds anything is in its way. */
    say_short(r, &node_own(r)->total, f);
    f->cut = false; /* the GCS asks the other nodes itself */
}

void why_answer(struct raylet *r, uint64_t src, const struct wire_why_req *m) {
    struct why_fact fact = {.self = m->id, .end = WHY_UNKNOWN, .pid = (uint32_t)getpid()};
    uint64_t stack[256];
    struct wire_buf b;

    if (!m->head.call || !r->node) return;
    if (m->kind == WHY_LEASE)
        fact_of_lease(r, &m->id, &fact);
    else if (m->kind == WHY_START)
        fact_of_start(r, &m->id, &fact);
    else
        why_say(&fact, "a raylet cannot say that");
    wire_init(&b, stack, sizeof stack);
    why_pack(&fact, m->head.call, &b);
    if (wire_end(&b) == 0) route_send(r, src, b.p, b.len);
    wire_release(&b);
}
