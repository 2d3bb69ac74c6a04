/* gcs_why.c - what an actor that does not run waits for: a place, its start, its own restart.
 *
 * A node that could hold it says who is in the way (raylet/answers.c); the GCS knows only what
 * nodes have in all and report as free. Pure, like all of gcs. Tests: tests/e2e/test_e2e_why.py. */
#include "wire/why.h"

#include "base/assert.h"
#include "gcs/gcs_int.h"

static void say_pending(struct gcs *g, const struct gcs_actor *a, struct why_fact *f) {
    struct gcs_demand d;
    uint32_t fits = 0;
    struct skate_error text;
    char want[200];

    if (gcs_demand_of(a->create, &d) < 0) return;
    if (sched_could(&g->view, &d.ask) == -SKATE_ENOENT) {
        sched_explain(&g->view, &d.ask, "it", &text);
        f->end = WHY_NEVER;
        why_say(f, "%s", text.text);
        return;
    }
    f->end = WHY_WAITS;
    f->any = true;
    why_say(f, "waits for a node with %s free", resources_text(&d.placing, want, sizeof want));
    for (uint32_t i = 0; i < g->view.count; i++) {
        const struct sched_node *n = &g->view.nodes[i];

        if (!n->alive || !resources_fit(&n->total, &d.placing, NULL)) continue;
        if (fits++ < 8)
            why_say(f, "%s node %u", fits == 1 ? "; it would fit on" : ",", n->node);
        why_edge_add(f, proc_make(n->node, 0), WHY_START, a->id);
    }
    if (!fits) f->end = WHY_GOES;
}

static void fact_of_actor(struct gcs *g, const struct gcs_actor *a, struct why_fact *f) {
    const char *again = a->restarting ? " (a restart)" : "";

    why_say(f, "actor %s%s%s%s ", a->texts, *a->name ? " \"" : "", a->name, *a->name ? "\"" : "");
    f->pid = a->pid;
    switch (a->state) {
    case GCS_PENDING:
        why_say(f, "is pending%s: ", again);
        say_pending(g, a, f);
        break;
    case GCS_STARTING:
        f->end = WHY_WAITS;
        why_say(f, "is being started%s on node %u", again, a->node);
        why_edge_add(f, proc_make(a->node, 0), WHY_START, a->id);
        break;
    case GCS_ALIVE:
        f->end = WHY_GOES;
        why_say(f, "is alive: pid %u of node %u", a->pid, a->node);
        break;
    case GCS_DEAD:
        f->end = WHY_DONE;
        why_say(f, "is dead: %s", a->reason ? a->reason : "it has ended");
        break;
    }
}

void gcs_why(struct gcs *g, const struct gcs_from *from, const struct wire_why_req *m) {
    struct why_fact fact = {.self = m->id, .end = WHY_UNKNOWN};
    const struct gcs_actor *a = m->kind == WHY_ACTOR ? gcs_actor_find(g, &m->id) : NULL;
    struct wire_buf b;

    if (a)
        fact_of_actor(g, a, &fact);
    else
        why_say(&fact, "the control store does not know it: not come yet, or forgotten");
    wire_init(&b, NULL, 0);
    why_pack(&fact, from->call, &b);
    gcs_reply(g, from, &b);
}
