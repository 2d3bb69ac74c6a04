/* sweep.c - see sweep.h.
 *
 * A dead link is freed when nothing of ours names it: no run, worker, actor or stream, no bytes of
 * it that we read, no heir (who is reached through it until the job ends). A dead actor is freed
 * when it has no call and the program no handle; a handle that comes later asks the GCS again.
 * Pointers to either are kept across a sleep by those alone who are asked here (links_mark), since
 * other threads may sleep in pump_until() meanwhile. A look a second, while there is anybody dead.
 * Tests: tests/unit/core_sweep_test.c. */
#include "core/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/core_int.h"
#include "core/waits.h"

#define LOOK_NS INT64_C(1000000000)
enum { ACTOR_DEAD = 3 };
enum { NUMBER_MOST = 1 << 24 }; /* a process number beyond is no raylet's: its link stays */

static struct dead_node *node_of(const struct core *c, uint32_t node) {
    for (uint32_t i = 0; i < c->sweep.node_count; i++)
        if (c->sweep.nodes[i].node == node) return &c->sweep.nodes[i];
    return NULL;
}

bool sweep_is_dead(const struct core *c, uint64_t proc) {
    const struct dead_node *n = node_of(c, proc_node(proc));
    uint32_t number = proc_number(proc);

    return n && number / 64 < n->words && (n->bits[number / 64] >> number % 64 & 1);
}

static struct dead_node *node_make(struct core *c, uint32_t node) {
    struct dead_node *n = node_of(c, node), *grown;

    if (n) return n;
    grown = realloc(c->sweep.nodes, (c->sweep.node_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    c->sweep.nodes = grown;
    n = &grown[c->sweep.node_count++];
    *n = (struct dead_node){.node = node};
    return n;
}

void sweep_note(struct core *c, uint64_t proc) {
    uint32_t number = proc_number(proc), words = number / 64 + 1;
    struct dead_node *n = number < NUMBER_MOST ? node_make(c, proc_node(proc)) : NULL;

    c->sweep.dirty = true;
    if (!n) return;
    if (words > n->words) {
        uint64_t *grown = realloc(n->bits, 2 * words * sizeof *grown);

        if (!grown) return;
        memset(grown + n->words, 0, (2 * words - n->words) * sizeof *grown);
        n->bits = grown;
        n->words = 2 * words;
    }
    n->bits[number / 64] |= UINT64_C(1) << number % 64;
}

void sweep_release(struct core *c) {
    for (uint32_t i = 0; i < c->sweep.node_count; i++) free(c->sweep.nodes[i].bits);
    free(c->sweep.nodes);
    c->sweep = (struct sweep){0};
}

static void mark(const struct run *r) {
    if (r->link) r->link->needed = true;
}

static void links_mark(struct core *c) {
    for (uint32_t i = 0; i < c->link_count; i++) c->link_v[i]->needed = false;
    for (const struct run *r = c->run_head; r; r = r->next) mark(r);
    for (const struct run *r = c->begun; r; r = r->other) mark(r);
    for (uint32_t i = 0; i < c->group_count; i++)
        for (const struct run *r = group_queue(c, i); r; r = r->next) mark(r);
    for (uint32_t i = 0; i < c->class_count; i++)
        for (uint32_t j = 0; j < c->classes[i].worker_count; j++)
            if (c->classes[i].workers[j]->link) c->classes[i].workers[j]->link->needed = true;
    for (uint32_t i = 0; i < c->actor_count; i++)
        if (c->actor_v[i]->worker.link) c->actor_v[i]->worker.link->needed = true;
    streams_mark(c);
}

static bool link_is_over(const struct core *c, const struct link *l) {
    return l->death && l->state == LINK_DEAD && !l->needed && !l->heir && !l->in_backlog &&
           !l->arena_live && sweep_is_dead(c, l->proc);
}

/* Its place in the table is another one now. */
static void again(struct map *m, const struct skate_id *key, uint32_t index) {
    int r = map_put(m, key, index);

    SKATE_ASSERT(r == 0); /* its cell is there */
}

static void links_sweep(struct core *c) {
    links_mark(c);
    for (uint32_t i = c->link_count; i-- > 0;) {
        struct skate_id key = map_key(c->link_v[i]->proc);
        struct link *l = c->link_v[i], *last = c->link_v[c->link_count - 1];

        c->sweep.dirty |= l->death != NULL;
        if (!link_is_over(c, l)) continue;
        (void)map_remove(&c->links, &key);
        c->link_count--;
        if (l != last) {
            key = map_key(last->proc);
            c->link_v[i] = last;
            again(&c->links, &key, i);
        }
        link_free(l);
    }
}

static bool actor_is_over(struct core *c, const struct actor *a) {
    return a->state == ACTOR_DEAD && !a->queued && !a->unready && !a->worker.inflight &&
           a->ctor == NONE && object_find(c, &a->id) == MAP_NONE;
}

static void actors_sweep(struct core *c) {
    for (uint32_t i = c->actor_count; i-- > 0;) {
        struct actor *a = c->actor_v[i], *last = c->actor_v[c->actor_count - 1];

        c->sweep.dirty |= a->state == ACTOR_DEAD;
        if (!actor_is_over(c, a)) continue;
        (void)map_remove(&c->actors, &a->id);
        c->actor_count--;
        if (a != last) {
            c->actor_v[i] = last;
            again(&c->actors, &last->id, i);
        }
        actor_free(a);
    }
}

void sweep_tick(struct core *c) {
    int64_t now;

    if (!c->sweep.dirty || (now = time_now_ns()) - c->sweep.looked_ns < LOOK_NS) return;
    c->sweep.looked_ns = now;
    c->sweep.dirty = false;
    actors_sweep(c); /* first: they hold links */
    links_sweep(c);
}
