/* core_hot.h - the smallest steps that each task takes many times; included by core_int.h alone. */
#ifndef SKATE_CORE_CORE_HOT_H
#define SKATE_CORE_CORE_HOT_H

/* runs.c: a task that came, with its frame; NULL: no memory. */
struct run *run_new(struct core *c, uint64_t src, const void *frame, uint32_t len);
void run_release(struct core *c, struct run *r);
void runs_free(struct core *c);
int run_describe(struct run *r, uint32_t ndeps); /* its job but for the values, and room for them */

static inline struct task *task_get(struct core *c, uint32_t index) {
    SKATE_ASSERT(index < c->task_count);
    return &c->task_v[index];
}

static inline struct wire_task *task_spec(const struct core *c, const struct task *t) {
    return (void *)(c->ledger.area + c->ledger.slots[t->slot].offset);
}

static inline uint32_t task_spec_len(const struct core *c, const struct task *t) {
    return (uint32_t)c->ledger.slots[t->slot].size;
}

/* The task that submitted it, or nil: its id lies behind the frame, at whatever address. */
static inline struct skate_id task_parent(const struct core *c, const struct task *t) {
    struct skate_id id = {0, 0};

    if (t->has_parent) memcpy(&id, (uint8_t *)task_spec(c, t) + task_spec_len(c, t), sizeof id);
    return id;
}

static inline uint32_t object_find(struct core *c, const struct skate_id *id) {
    return index_get(&c->objects, id);
}

/* What the object contains, or NULL. */
static inline struct id_list *object_contained(const struct core *c, uint32_t slot) {
    uint64_t at = c->ledger.slots[slot].contained;

    return at ? (void *)(c->ledger.area + at - 1) : NULL;
}

/* The part of it that few have: to be read, */
static inline struct object_more object_more(const struct core *c, uint32_t slot) {
    return c->object_v[slot].more ? c->more_v[slot] : (struct object_more){0};
}

/* and to be written to. */
static inline struct object_more *object_more_of(struct core *c, uint32_t slot) {
    if (!c->object_v[slot].more) c->more_v[slot] = (struct object_more){0};
    c->object_v[slot].more = true;
    return &c->more_v[slot];
}

static inline uint64_t object_copy_at(const struct core *c, uint32_t slot) {
    return c->object_v[slot].more ? c->more_v[slot].local_offset : 0;
}

static inline bool object_ready(struct core *c, uint32_t slot) {
    enum ledger_state s = ledger_state_of(&c->ledger.slots[slot]);

    return s == LEDGER_INLINE || s == LEDGER_ARENA;
}

static inline bool object_is_error(struct core *c, uint32_t slot) {
    return object_ready(c, slot) && (ledger_flags_of(&c->ledger.slots[slot]) & VAL_ERROR);
}

#endif
