/* lineage.c - results that were lost with a node, or a spill file, are made again.
 *
 * A task whose result lies in an arena is kept after its end (TASK_KEPT: its spec, the ids that it
 * uses), as long as one of its results is: the node that has the bytes, or their spill file, may be
 * lost. A kept task does not keep its arguments' bytes: an argument that nobody else needs is
 * evicted, its entry stays and remembers the task that makes it. A lost or evicted object that is
 * needed again runs its task again, after those of its arguments, to any depth, without recursion.
 * Not remade: puts, results of tasks and actors without retries, what does not fit into
 * lineage_max bytes (the oldest goes first).
 *
 * Owner's side under the core mutex; never sleeps. A borrower that cannot read what the owner told
 * it says so (`value_lost`) and waits. Tests: tests/compat/test_compat_reconstruction.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core_int.h"
#include "core/restore.h"

enum why { WHY_UNKNOWN, WHY_PUT, WHY_RETRIES, WHY_EVICTED, WHY_ATTEMPTS };

/* How it is said to the user: Ray's name of the reason, and what to do. */
static const char *const why_text[] = {
    [WHY_UNKNOWN] = "REF_NOT_FOUND\nnothing is left that tells how it was made",
    [WHY_PUT] = "PUT\nit was stored by put(), or is an argument too large for its call's message, "
                "and cannot be remade: return it from a task instead",
    [WHY_RETRIES] = "RETRIES_DISABLED\nits task had max_retries=0, or its actor has "
                    "max_task_retries=0: allow retries to have it remade",
    [WHY_EVICTED] = "LINEAGE_EVICTED\nwhat is needed to remake it went beyond max_lineage_bytes: "
                    "raise it by init(_system_config={'max_lineage_bytes': n})",
    [WHY_ATTEMPTS] = "MAX_ATTEMPTS_EXCEEDED\nit was lost again after its task had used up its "
                     "retries: allow more by max_retries",
};

static void list_add(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    t->next = NONE;
    t->before = c->lineage.tail;
    if (c->lineage.tail == NONE)
        c->lineage.head = index;
    else
        task_get(c, c->lineage.tail)->next = index;
    c->lineage.tail = index;
}

static uint64_t weight(const struct core *c, const struct task *t) {
    return sizeof *t + 4 * sizeof(struct ledger_slot) + task_spec_len(c, t) +
           t->hold_count * sizeof *t->holds;
}

static void list_remove(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    if (t->before == NONE)
        c->lineage.head = t->next;
    else
        task_get(c, t->before)->next = t->next;
    if (t->next == NONE)
        c->lineage.tail = t->before;
    else
        task_get(c, t->next)->before = t->before;
    c->lineage.bytes -= weight(c, t);
}

/* Ids whose entries remember how they are made while a kept task names them. */
static bool counted(const struct core *c, const struct skate_id *id) {
    return id->owner == c->info.proc && id_index(id) != SKATE_INDEX_TASK;
}

static void mark_results(struct core *c, const struct task *t, bool kept, enum why why) {
    for (uint32_t i = 1; i <= t->returns; i++) {
        struct skate_id id = id_with_index(t->id, i);
        uint32_t slot = object_find(c, &id);

        if (slot == MAP_NONE) continue;
        c->object_v[slot].kept = kept;
        c->object_v[slot].why = (uint8_t)why;
    }
}

/* The kept task is needed no more. Its arguments are looked at by the next drops: never nested. */
static void forget(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    list_remove(c, index);
    for (uint32_t i = 0; i < t->hold_count; i++) {
        uint32_t slot = counted(c, &t->holds[i]) ? object_find(c, &t->holds[i]) : MAP_NONE;

        if (slot == MAP_NONE) continue;
        SKATE_ASSERT(object_more(c, slot).lineage > 0);
        if (--object_more_of(c, slot)->lineage) continue;
        c->object_v[slot].local++;
        core_ref_drop(c, &t->holds[i]);
    }
    t->hold_count = 0;
    task_end(c, index);
}

void core_lineage_max(struct core *c, uint64_t bytes) {
    if (core_enter(c) < 0) return;
    c->lineage.max = bytes;
    core_leave(c);
}

static void trim(struct core *c) {
    while (c->lineage.bytes > c->lineage.max && c->lineage.head != NONE) {
        uint32_t index = c->lineage.head;

        mark_results(c, task_get(c, index), false, WHY_EVICTED);
        forget(c, index);
    }
}

static bool has_arena_result(struct core *c, const struct task *t) {
    for (uint32_t i = 1; i <= t->returns; i++) {
        struct skate_id id = id_with_index(t->id, i);
        uint32_t slot = object_find(c, &id);

        if (slot != MAP_NONE && ledger_state_of(&c->ledger.slots[slot]) == LEDGER_ARENA &&
            !object_is_error(c, slot))
            return true;
    }
    return false;
}

bool lineage_keep(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);

    if (!c->lineage.far || t->kind > 1 || t->cancelled || t->missing ||
        (t->flags & (CORE_STREAM | CORE_DYNAMIC)) || !has_arena_result(c, t))
        return false;
    if (t->retries == 0) return mark_results(c, t, false, WHY_RETRIES), false;
    mark_results(c, t, true, WHY_UNKNOWN);
    t->state = TASK_KEPT;
    c->ledger.slots[t->slot].holder = 0; /* it is nowhere any more */
    list_add(c, index);
    c->lineage.bytes += weight(c, t);
    for (uint32_t i = 0; i < t->hold_count; i++) {
        uint32_t slot = object_find(c, &t->holds[i]);

        if (slot == MAP_NONE) continue;
        if (counted(c, &t->holds[i])) object_more_of(c, slot)->lineage++;
        object_unhold(c, &t->holds[i]);
    }
    trim(c);
    return true;
}

void lineage_result_gone(struct core *c, const struct skate_id *id) {
    struct skate_id task = id_with_index(*id, 0), other = task;
    uint32_t index = map_get(&c->tasks, &task);

    if (index == MAP_NONE || task_get(c, index)->state != TASK_KEPT) return;
    for (uint32_t i = 1; i <= task_get(c, index)->returns; i++) {
        other = id_with_index(task, i);
        if (!id_equal(&other, id) && object_find(c, &other) != MAP_NONE) return;
    }
    forget(c, index);
}

/* ---- away and back ---- */

/* Only kept tasks name it: its bytes go. */
void lineage_evict(struct core *c, uint32_t slot) {
    if (ledger_state_of(&c->ledger.slots[slot]) != LEDGER_ARENA) return; /* small: it stays */
    object_unset(c, slot, true);
    c->object_v[slot].evicted = 1;
}

static void give_up(struct core *c, uint32_t slot) {
    struct object *o = &c->object_v[slot];
    enum why why = id_index(&c->ledger.slots[slot].id) == SKATE_INDEX_PUT ? WHY_PUT : o->why;
    char text[700];

    (void)snprintf(text, sizeof text, "not_rebuilt %s%s%s", why_text[why],
                   c->lineage.why ? ". It was lost because " : "",
                   c->lineage.why ? c->lineage.why : "");
    o->evicted = 0;
    object_set_system(c, slot, text);
}

/* The arguments are held again. What is foreign is borrowed again: its owner may have freed it. */
static void hold_again(struct core *c, const struct skate_id *id) {
    uint32_t slot = object_find(c, id);

    if (slot == MAP_NONE && id->owner != c->info.proc && id_index(id) != SKATE_INDEX_TASK) {
        struct wire_borrow m = {
            .head = {.size = sizeof m, .kind = WIRE_BORROW, .fixed = sizeof m},
            .obj = *id, .proc = c->info.proc, .n = 1};

        slot = object_make(c, id);
        if (slot == NONE) return;
        c->object_v[slot].registered = 1;
        (void)proc_send(c, id->owner, &m, sizeof m, BELL_URGENT);
    }
    object_hold(c, id);
    slot = object_find(c, id);
    if (slot != MAP_NONE && counted(c, id) && object_more(c, slot).lineage)
        object_more_of(c, slot)->lineage--;
}

static void run_again(struct core *c, uint32_t index) {
    struct task *t = task_get(c, index);
    uint32_t n = t->hold_count, kind = t->kind;

    t->attempt++;
    t->missing = 0;
    for (uint32_t i = 0; i < n; i++) hold_again(c, &t->holds[i]);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = object_find(c, &task_get(c, index)->holds[i]);

        if (slot != MAP_NONE && c->object_v[slot].evicted) lineage_need(c, slot);
    }
    c->waiting++;
    if (task_watch(c, index) < 0) {
        c->waiting--;
        task_fail(c, index, "object_lost\nno memory to make it again");
    } else if (kind == 1)
        actor_enqueue(c, index);
    else if (task_get(c, index)->missing == 0)
        task_settle_deps(c, index);
}

void lineage_need(struct core *c, uint32_t slot) {
    struct skate_id id = id_with_index(c->ledger.slots[slot].id, 0);
    uint32_t index = map_get(&c->tasks, &id);
    struct task *t = index == MAP_NONE ? NULL : task_get(c, index);

    if (t && t->state != TASK_KEPT) { /* on its way already */
        c->object_v[slot].evicted = 0;
        return;
    }
    if (t && t->retries >= 0 && t->attempt >= (uint32_t)t->retries)
        c->object_v[slot].why = WHY_ATTEMPTS;
    if (!t || c->object_v[slot].why == WHY_ATTEMPTS ||
        id_index(&c->ledger.slots[slot].id) == SKATE_INDEX_PUT) {
        give_up(c, slot);
        return;
    }
    c->object_v[slot].evicted = 0;
    list_remove(c, index);
    mark_results(c, t, false, WHY_UNKNOWN);
    t->state = TASK_DEPS;
    t->next = c->lineage.redo;
    c->lineage.redo = index;
    if (c->lineage.redoing) return; /* whoever runs the list takes it: depth never nests */
    c->lineage.redoing = true;
    while (c->lineage.redo != NONE) {
        index = c->lineage.redo;
        c->lineage.redo = task_get(c, index)->next;
        run_again(c, index);
    }
    c->lineage.redoing = false;
}

/* ---- losses ---- */

/* Can its task make it again, as far as we know now? */
static bool remakable(struct core *c, uint32_t slot) {
    struct skate_id id = id_with_index(c->ledger.slots[slot].id, 0);
    uint32_t index = map_get(&c->tasks, &id);
    const struct task *t = index == MAP_NONE ? NULL : task_get(c, index);

    if (!t || id_index(&c->ledger.slots[slot].id) == SKATE_INDEX_PUT) return false;
    if (t->state != TASK_KEPT) return true;
    return c->object_v[slot].why != WHY_ATTEMPTS &&
           (t->retries < 0 || t->attempt < (uint32_t)t->retries);
}

/* Nothing makes it again, but another node may have a copy: our raylet asks them all. What comes
 * of it is seen when it comes (lineage_found), or is lost as before. */
static bool seek(struct core *c, uint32_t slot) {
    const struct ledger_slot *s = &c->ledger.slots[slot];
    struct object *o = &c->object_v[slot];

    if (o->sought) return o->sought = o->pulling; /* false: nobody has one */
    if (proc_node(s->holder) == proc_node(c->info.proc) || remakable(c, slot) || o->pulling ||
        !(o->local || o->holds || o->borrowers))
        return false;
    o->sought = 1;
    object_bring(c, slot);
    return true;
}

/* The bytes of an object of ours are gone with their node. A copy here takes their place. */
static void owned_lost(struct core *c, uint32_t slot) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    struct object *o = &c->object_v[slot];

    if (object_copy_at(c, slot)) {
        uint64_t was = s->holder;

        s->offset = object_copy_at(c, slot);
        s->holder = proc_raylet(c->info.proc);
        link_arena(c, was, -1);
        return;
    }
    if (seek(c, slot)) return;
    object_unset(c, slot, proc_node(s->holder) == proc_node(c->info.proc));
    o->evicted = 1;
    if (o->local || o->holds || o->borrowers)
        lineage_need(c, slot);
    else
        object_check(c, slot);
}

/* What we borrow cannot be read where its owner said: it must know, and say anew. */
static void borrowed_lost(struct core *c, uint32_t slot) {
    struct ledger_slot *s = &c->ledger.slots[slot];
    struct wire_value_lost m = {
        .head = {.size = sizeof m, .kind = WIRE_VALUE_LOST, .fixed = sizeof m},
        .obj = s->id, .holder = s->holder, .offset = s->offset};

    object_unset(c, slot, false);
    c->object_v[slot].requested = 1;
    if (proc_send(c, s->id.owner, &m, sizeof m, BELL_URGENT) == -SKATE_EDEAD)
        object_set_system(c, slot, "owner_died\nthe process that owned it has ended, and the "
                          "node that held it is lost");
}

void lineage_lost(struct core *c, uint32_t slot, const char *why) {
    c->lineage.why = why;
    if (object_is_ours(c, &c->ledger.slots[slot].id))
        owned_lost(c, slot);
    else if (!object_copy_at(c, slot))
        borrowed_lost(c, slot);
    c->lineage.why = NULL;
}

void lineage_found(struct core *c, uint32_t slot) {
    if (!c->object_v[slot].sought) return;
    c->object_v[slot].sought = 0;
    owned_lost(c, slot);
}

void lineage_on_value_lost(struct core *c, uint64_t src, const struct wire_value_lost *m) {
    struct wire_value_req again = {
        .head = {.size = sizeof again, .kind = WIRE_VALUE_REQ, .fixed = sizeof again},
        .obj = m->obj};
    uint32_t slot = object_find(c, &m->obj);

    if (slot != MAP_NONE && object_is_ours(c, &m->obj) &&
        ledger_state_of(&c->ledger.slots[slot]) == LEDGER_ARENA &&
        c->ledger.slots[slot].holder == m->holder && c->ledger.slots[slot].offset == m->offset &&
        (proc_node(m->holder) != proc_node(c->info.proc) || restore_is_lost(c, slot))) {
        lineage_lost(c, slot, proc_node(m->holder) != proc_node(c->info.proc)
                                  ? "the node that held it is lost"
                                  : "the file that it was spilled to cannot be read");
        tasks_watch_again(c);
    }
    objects_on_value_req(c, src, &again);
}
