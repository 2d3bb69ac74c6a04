/* estate.c - objects that outlive their owner: the heir's side, and that of whoever holds them.
 *
 * The heir of a dead process is the driver of its job. The raylet sends it what the dead one's
 * ledger promised to others (`adopt`, `adopt_task`), before anyone hears of the death. From then
 * on the heir owns those ids. Everybody else says which of them it holds (`claim`, `release`),
 * for itself only and as a fact, not as a count: messages of before the death may be lost or
 * come twice. What nobody claims and nothing here needs goes when GRACE_MS passed without a word
 * of it, so that a ref on its way between two others arrives first.
 * Design: docs/design/0002-adoption.md.
 *
 * Under the core mutex; never sleeps. Tests: tests/compat/test_compat_ownership.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"

enum { GRACE_MS = 3000 };
#define LOOK_NS INT64_C(300000000)
enum { CLAIM_BATCH = 512 };
enum limbo { LIMBO_NO, LIMBO_IN, LIMBO_OVER };

struct limbo_entry {
    struct skate_id id;
};
struct estate_task { /* runs somewhere for a dead owner */
    struct skate_id id;
    uint64_t worker;
    uint32_t nreturns, kind, hold_count;
    struct skate_id *holds;
};
struct estate {
    uint64_t dead;
    char *text; /* how it died */
    bool whole; /* all of it is here */
    uint32_t task_count, task_cap;
    struct estate_task *tasks;
};

static struct estate *estate_of(const struct core *c, uint64_t dead) {
    struct skate_id key = map_key(dead);
    uint32_t i = map_get(&c->heritage.estates, &key);

    return i == MAP_NONE ? NULL : &c->heritage.estate_v[i];
}

bool estate_owns(const struct core *c, const struct skate_id *id) {
    return estate_of(c, id->owner) != NULL;
}

static struct estate *estate_make(struct core *c, uint64_t dead) {
    struct estate *e = estate_of(c, dead), *grown;
    struct skate_id key = map_key(dead);
    struct link *l;

    if (e) return e;
    l = link_get(c, dead);
    if (l && l->state == LINK_OPEN) link_drain(c, l, true); /* as its borrower, for the last time */
    grown = realloc(c->heritage.estate_v, (c->heritage.estate_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    c->heritage.estate_v = grown;
    if (map_put(&c->heritage.estates, &key, c->heritage.estate_count) < 0) return NULL;
    e = &c->heritage.estate_v[c->heritage.estate_count++];
    *e = (struct estate){.dead = dead};
    return e;
}

void estates_free(struct core *c) {
    for (uint32_t i = 0; i < c->heritage.estate_count; i++) {
        for (uint32_t k = 0; k < c->heritage.estate_v[i].task_count; k++)
            free(c->heritage.estate_v[i].tasks[k].holds);
        free(c->heritage.estate_v[i].tasks);
        free(c->heritage.estate_v[i].text);
    }
    free(c->heritage.estate_v);
    free(c->heritage.limbo_v);
}

/* ---- when it is freed ---- */

static uint32_t now_ms(void) { return (uint32_t)(time_now_ns() / 1000000); }

static bool in_grace(const struct core *c, uint32_t slot) {
    return now_ms() - object_more(c, slot).heard_ms < GRACE_MS;
}

bool estate_keeps(struct core *c, uint32_t slot) {
    struct object *o = &c->object_v[slot];
    const struct skate_id *id = &c->ledger.slots[slot].id;

    if (o->limbo == LIMBO_OVER || id_index(id) == SKATE_INDEX_TASK || !estate_owns(c, id) ||
        !in_grace(c, slot))
        return false;
    if (o->limbo != LIMBO_NO) return true;
    if (c->heritage.limbo_count == c->heritage.limbo_cap) {
        uint32_t cap = c->heritage.limbo_cap ? c->heritage.limbo_cap * 2 : 64;
        struct limbo_entry *grown = realloc(c->heritage.limbo_v, cap * sizeof *grown);

        if (!grown) return false;
        c->heritage.limbo_v = grown;
        c->heritage.limbo_cap = cap;
    }
    c->heritage.limbo_v[c->heritage.limbo_count++] = (struct limbo_entry){*id};
    o->limbo = LIMBO_IN;
    return true;
}

/* True when it leaves the list. */
static bool limbo_judge(struct core *c, const struct limbo_entry *e) {
    uint32_t slot = object_find(c, &e->id);
    struct object *o = slot == MAP_NONE ? NULL : &c->object_v[slot];

    if (!o || o->limbo == LIMBO_NO) return true;
    if (in_grace(c, slot)) return false;
    o->limbo = LIMBO_NO;
    if (o->local || o->holds || o->borrowers || o->pulling) return true;
    o->limbo = LIMBO_OVER;
    object_check(c, slot); /* frees it; what it contained comes here later, by the drops */
    return true;
}

void estates_tick(struct core *c) {
    int64_t now = time_now_ns();

    if (now - c->heritage.looked_ns < LOOK_NS) return;
    c->heritage.looked_ns = now;
    for (uint32_t i = c->heritage.limbo_count; i-- > 0;) {
        struct limbo_entry e = c->heritage.limbo_v[i];

        if (limbo_judge(c, &e))
            c->heritage.limbo_v[i] = c->heritage.limbo_v[--c->heritage.limbo_count];
    }
    objects_apply_drops(c);
}

/* Process `proc` holds it: by its own word, or another says that it is about to. */
void estate_claim(struct core *c, const struct skate_id *id, uint64_t proc, bool own_word) {
    uint32_t slot = object_find(c, id);
    struct link *l = proc == c->info.proc ? NULL : link_get(c, proc);
    struct borrower *b;

    if (slot == MAP_NONE || !l || l->death) return;
    object_more_of(c, slot)->heard_ms = now_ms();
    if (!own_word) return;
    b = borrower_of(c, slot, proc, true);
    if (b) b->count = 1;
    c->ledger.slots[slot].borrows = b != NULL;
}

void estate_release(struct core *c, const struct skate_id *id, uint64_t proc) {
    uint32_t slot = object_find(c, id);
    struct borrower *b = slot == MAP_NONE ? NULL : borrower_of(c, slot, proc, false);

    if (!b) return;
    b->count = 0;
    object_more_of(c, slot)->heard_ms = now_ms();
    borrowers_tidy(c, slot);
}

void estate_on_claim(struct core *c, uint64_t src, const struct wire_claim *m) {
    uint32_t n;
    const struct skate_id *ids = wire_claim_objs(m, &n);

    for (uint32_t i = 0; i < n; i++)
        if (estate_owns(c, &ids[i])) estate_claim(c, &ids[i], src, true);
}

/* ---- tasks that run for the dead ---- */

static void return_lease(struct core *c, const struct estate *e, const struct estate_task *t) {
    struct wire_lease_return m = {
        .head = {.size = sizeof m, .kind = WIRE_LEASE_RETURN, .fixed = sizeof m},
        .worker = t->worker};

    if (t->kind != 0) return;
    for (uint32_t i = 0; i < e->task_count; i++)
        if (e->tasks[i].worker == t->worker) return;
    (void)proc_send(c, proc_raylet(t->worker), &m, sizeof m, BELL_URGENT);
}

/* It is over: results that are not there become the error. */
static void task_over(struct core *c, uint64_t dead, uint32_t i, const char *error) {
    struct estate *e = estate_of(c, dead);
    struct estate_task t = e->tasks[i];

    e->tasks[i] = e->tasks[--e->task_count];
    return_lease(c, e, &t);
    for (uint32_t k = 1; error && k <= t.nreturns; k++) {
        struct skate_id id = id_with_index(t.id, k);
        uint32_t slot = object_find(c, &id);

        if (slot != MAP_NONE) object_set_system(c, slot, error);
    }
    for (uint32_t k = 0; k < t.hold_count; k++) core_ref_drop(c, &t.holds[k]);
    free(t.holds);
}

void estate_on_task(struct core *c, const struct wire_adopt_task *m) {
    struct estate *e = estate_make(c, m->dead);
    uint32_t n;
    const struct skate_id *holds = wire_adopt_task_holds(m, &n);
    struct estate_task *t;

    if (!e || m->task.owner != m->dead || m->nreturns > LIMIT_RETURNS) return;
    if (e->task_count == e->task_cap) {
        uint32_t cap = e->task_cap ? e->task_cap * 2 : 8;
        struct estate_task *grown = realloc(e->tasks, cap * sizeof *grown);

        if (!grown) return;
        e->tasks = grown;
        e->task_cap = cap;
    }
    t = &e->tasks[e->task_count];
    *t = (struct estate_task){.id = m->task, .worker = m->worker, .nreturns = m->nreturns,
                              .kind = m->kind, .holds = malloc((n + 1) * sizeof *holds)};
    if (!t->holds) return;
    t->hold_count = n;
    memcpy(t->holds, holds, n * sizeof *holds);
    e->task_count++;
    for (uint32_t i = 0; i < n; i++) object_registered(c, &holds[i]);
}

bool estate_result(struct core *c, uint64_t src, const struct wire_result *m) {
    struct estate *e = estate_of(c, m->task.owner);
    struct skate_id id = m->task;
    uint32_t n, nrefs, ndata, nkept, i;
    const struct wire_val *vals = wire_result_vals(m, &n);
    const struct skate_id *refs = wire_result_refs(m, &nrefs), *kept = wire_result_kept(m, &nkept);
    const uint8_t *data = wire_result_data(m, &ndata);

    if (!e) return false;
    for (i = 0; i < e->task_count; i++)
        if (id_equal(&e->tasks[i].id, &id) && e->tasks[i].worker == src) break;
    if (i < e->task_count) object_pass_refs(c, kept, nkept, src);
    for (uint32_t k = 0; k < n; k++) {
        struct skate_id ret = id_with_index(id, k + 1);
        uint32_t slot = object_find(c, &ret);

        if (i == e->task_count || slot == MAP_NONE || object_ready(c, slot))
            object_drop_val(c, &vals[k], refs);
        else
            object_set(c, slot, &vals[k], data, refs);
    }
    e = estate_of(c, id.owner);
    for (i = 0; i < e->task_count; i++)
        if (id_equal(&e->tasks[i].id, &id)) return task_over(c, id.owner, i, NULL), true;
    return true;
}

/* A worker that had tasks of the dead says which of them it still has. */
void estate_on_kept(struct core *c, uint64_t src, const struct wire_orphans_kept *m) {
    struct estate *e = estate_of(c, m->dead);
    uint32_t n;
    const struct skate_id *ids = wire_orphans_kept_tasks(m, &n);
    char text[700];

    if (!e) return;
    (void)snprintf(text, sizeof text, "owner_died\nits task had not started when the process that "
                   "submitted it died: %s", e->text ? e->text : "it died");
    for (uint32_t i = e->task_count; i-- > 0;) {
        bool there = false;

        if (i >= e->task_count || e->tasks[i].worker != src) continue;
        for (uint32_t k = 0; k < n && !there; k++) there = id_equal(&ids[k], &e->tasks[i].id);
        if (!there) task_over(c, m->dead, i, text);
        e = estate_of(c, m->dead);
    }
}

void estates_on_died(struct core *c, uint64_t proc, const char *kind, const char *text) {
    char error[700];
    int n = snprintf(error, sizeof error, "%s\n%.550s (not tried again: the process that submitted "
                     "the task is dead, too)", kind, text);

    SKATE_ASSERT(n > 0);
    for (uint32_t k = 0; k < c->heritage.estate_count; k++)
        for (uint32_t i = c->heritage.estate_v[k].task_count; i-- > 0;) {
            const struct estate *e = &c->heritage.estate_v[k];
            uint64_t worker = i < e->task_count ? e->tasks[i].worker : 0;

            if (worker && (worker == proc || (proc_number(proc) == 0 &&
                                              proc_node(worker) == proc_node(proc))))
                task_over(c, e->dead, i, error);
        }
}

/* ---- inheriting ---- */

static void inherit(struct core *c, const struct wire_val *v, const uint8_t *data,
                    const struct skate_id *refs) {
    uint32_t slot = object_make(c, &v->id);

    if (slot == NONE) return;
    c->object_v[slot].holds++;
    object_more_of(c, slot)->heard_ms = now_ms();
    c->object_v[slot].registered = 0; /* we were a borrower; the account is closed */
    if (v->kind == VAL_NONE || object_ready(c, slot))
        object_drop_refs(c, v, refs); /* its bytes are those that we know of */
    else
        object_set(c, slot, v, data, refs);
    c->object_v[slot].holds--;
    object_check(c, slot); /* nobody has claimed it yet: limbo */
}

/* All is here: what has no value and no task that runs will never come. */
static void become_whole(struct core *c, struct estate *e) {
    uint64_t dead = e->dead;
    char text[700];

    (void)snprintf(text, sizeof text, "owner_died\nits task had not started when the process that "
                   "submitted it died: %s", e->text ? e->text : "it died");
    e->whole = true;
    for (uint32_t i = 0; i < c->ledger.header->slots_used; i++) {
        struct ledger_slot *s = &c->ledger.slots[i];
        struct skate_id id = id_with_index(s->id, 0);
        bool comes = false;

        if (ledger_state_of(s) != LEDGER_PENDING || s->id.owner != dead ||
            id_index(&s->id) == SKATE_INDEX_TASK)
            continue;
        e = estate_of(c, dead);
        for (uint32_t k = 0; k < e->task_count && !comes; k++)
            comes = id_equal(&e->tasks[k].id, &id);
        if (!comes) object_set_system(c, i, text);
    }
}

void estate_on_adopt(struct core *c, const struct wire_adopt *m) {
    struct estate *e = estate_make(c, m->dead);
    uint32_t n, nrefs, ndata, len;
    const struct wire_val *vals = wire_adopt_vals(m, &n);
    const struct skate_id *refs = wire_adopt_refs(m, &nrefs);
    const uint8_t *data = wire_adopt_data(m, &ndata);
    const char *text = wire_adopt_text(m, &len);

    if (!e || e->whole || wire_check_vals(vals, n, ndata, nrefs) < 0) return;
    for (uint32_t i = 0; i < n; i++)
        if (vals[i].id.owner == m->dead) inherit(c, &vals[i], data, refs);
    if (!m->last) return;
    e = estate_of(c, m->dead);
    e->text = strndup(text, len);
    become_whole(c, e);
}

/* ---- whoever holds something of a dead owner ---- */

uint64_t heir_of(struct core *c, uint64_t dead) {
    struct skate_id key = map_key(dead);
    uint32_t i = map_get(&c->links, &key);

    return i == MAP_NONE ? 0 : c->link_v[i]->heir;
}

void claim_new(struct core *c, uint32_t slot) {
    const struct skate_id *id = &c->ledger.slots[slot].id;
    struct wire_borrow m = {.head = {.size = sizeof m, .kind = WIRE_BORROW, .fixed = sizeof m},
                            .obj = *id, .proc = c->info.proc, .n = 1};

    if (id->owner == c->info.proc || id_index(id) == SKATE_INDEX_TASK || !heir_of(c, id->owner))
        return;
    c->object_v[slot].claimed = 1;
    (void)proc_send(c, id->owner, &m, sizeof m, BELL_QUIET);
}

static void claim_send(struct core *c, struct link *l, const struct skate_id *ids, uint32_t n) {
    uint64_t stack[64];
    struct wire_claim *m;
    struct wire_buf b;

    if (n == 0) return;
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_CLAIM);
    m->dead = l->proc;
    WIRE_PUT(&b, claim, objs, ids, n * sizeof *ids);
    if (wire_end(&b) == 0) (void)link_send(c, l, b.p, b.len, BELL_QUIET, 0);
    wire_release(&b);
}

/* Everything that we hold of it; what we wait for is asked for again. */
static void claim_all(struct core *c, struct link *l) {
    struct skate_id ids[CLAIM_BATCH];
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->ledger.header->slots_used; i++) {
        const struct ledger_slot *s = &c->ledger.slots[i];
        enum ledger_state state = ledger_state_of(s);

        if (state == LEDGER_FREE || state == LEDGER_TASK || s->id.owner != l->proc ||
            id_index(&s->id) == SKATE_INDEX_TASK)
            continue;
        c->object_v[i].claimed = 1;
        ids[n++] = s->id;
        if (n == CLAIM_BATCH) claim_send(c, l, ids, n), n = 0;
    }
    claim_send(c, l, ids, n);
    for (uint32_t i = 0; i < c->ledger.header->slots_used; i++) {
        const struct ledger_slot *s = &c->ledger.slots[i];

        if (ledger_state_of(s) != LEDGER_PENDING || s->id.owner != l->proc ||
            !c->object_v[i].requested || id_index(&s->id) == SKATE_INDEX_TASK)
            continue;
        c->object_v[i].requested = 0;
        object_want(c, i);
    }
}

/* A frame that the dead never read: a result goes to its heir, with the refs in it. */
static void pass_on(struct core *c, struct link *l, const void *frame, uint32_t len) {
    const struct wire_indirect *in = frame;

    if (wire_check(frame, len) < 0) return;
    if (wire_head(frame)->kind == WIRE_INDIRECT && in->holder == c->info.proc) {
        struct frame_node *n = NULL;

        if (in->size <= LIMIT_FRAME_BYTES && in->offset <= c->info.arena_bytes &&
            in->size <= c->info.arena_bytes - in->offset)
            n = frame_keep(l->proc, c->arena + in->offset, (uint32_t)in->size);
        if (n && heap_free(c->heap, in->offset) == 0 &&
            wire_head(n->data)->kind != WIRE_INDIRECT)
            pass_on(c, l, n->data, n->len);
        free(n);
    } else if (wire_head(frame)->kind == WIRE_RESULT) {
        uint32_t n;
        const struct skate_id *refs = wire_result_refs(frame, &n);

        object_pass_refs(c, refs, n, l->heir);
        (void)link_send(c, l, frame, len, BELL_QUIET, 0);
    }
}

static void pass_on_unread(struct core *c, struct link *l) {
    struct ring unread = {.shared = l->out.shared, .head = l->out.head};
    uint64_t buf[LIMIT_RING_FRAME / 8];
    uint32_t sequence;
    int n;

    if (l->channel) {
        unread.tail = at_load_acquire(&unread.shared->tail);
        while ((n = ring_take(&unread, buf, &sequence)) > 0) pass_on(c, l, buf, (uint32_t)n);
    }
    for (struct frame_node *f = l->backlog.head; f; f = f->next) pass_on(c, l, f->data, f->len);
}

bool orphan_is_kept(const struct link *l, const struct skate_id *task) {
    for (uint64_t i = 0; l->heir && l->orphans && i < l->orphans->count; i++)
        if (id_equal(&l->orphans->ids[i], task)) return true;
    return false;
}

void orphans_on(struct core *c, const struct wire_orphans *m) {
    uint32_t n;
    const struct skate_id *ids = wire_orphans_tasks(m, &n);
    struct skate_id key = map_key(m->dead);
    uint32_t at = map_get(&c->links, &key); /* its tasks came over it */
    struct link *l = at == MAP_NONE ? NULL : c->link_v[at];

    if (!l || l->death || l->orphans) return;
    l->orphans = malloc(sizeof *l->orphans + n * sizeof *ids);
    if (!l->orphans) return;
    l->orphans->count = n;
    memcpy(l->orphans->ids, ids, n * sizeof *ids);
}

static struct skate_id run_task(const struct run *r) {
    return ((const struct wire_task *)(const void *)r->node->data)->task;
}

/* The tasks of the dead that are here: running or queued. Only the heir waits for them. */
static void tell_kept(struct core *c, struct link *l) {
    uint32_t cap = c->runs, n = 0;
    struct wire_orphans_kept *m;
    struct skate_id *ids;
    uint64_t stack[64];
    struct wire_buf b;

    if (!l->orphans) return;
    for (const struct run *r = c->begun; r; r = r->other) cap++;
    ids = malloc((cap + 1) * sizeof *ids);
    if (!ids) return;
    n = groups_tasks(c, l, ids, cap);
    for (const struct run *r = c->begun; r; r = r->other)
        if (r->link == l && n < cap) ids[n++] = run_task(r);
    for (const struct run *r = c->run_head; r; r = r->next)
        if (r->link == l && n < cap) ids[n++] = run_task(r);
    wire_init(&b, stack, sizeof stack);
    m = wire_begin(&b, WIRE_ORPHANS_KEPT);
    m->dead = l->proc;
    WIRE_PUT(&b, orphans_kept, tasks, ids, n * sizeof *ids);
    if (wire_end(&b) == 0) (void)link_send(c, l, b.p, b.len, BELL_QUIET, 0);
    wire_release(&b);
    free(ids);
}

void heir_known(struct core *c, struct link *l, uint64_t heir) {
    struct estate *e;

    if (heir == c->info.proc) {
        e = estate_make(c, l->proc);
        if (e && !e->whole) become_whole(c, e); /* its raylet died before it had told all */
        return;
    }
    l->heir = heir;
    c->heritage.heirs_known++;
    runs_forget(c, l->proc); /* but what the heir waits for */
    pass_on_unread(c, l);
    claim_all(c, l);
    tell_kept(c, l);
}

void heir_gone(struct core *c, uint64_t heir) {
    for (uint32_t i = 0; c->heritage.heirs_known && i < c->link_count; i++)
        if (c->link_v[i]->heir == heir) {
            c->link_v[i]->heir = 0;
            c->heritage.heirs_known--;
            objects_on_died(c, c->link_v[i]->proc, "its job has ended");
        }
}
