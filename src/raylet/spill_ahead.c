/* spill_ahead.c - what will be asked for next is read before it is.
 *
 * Records stand in the order in which they were written, which is mostly that of the program. When
 * one is asked for soon after the one before it, those behind it are read, too, up to an eighth of
 * the budget. Readers are told that they are OUT until one of them asks, so each is asked for,
 * which is what keeps the reading ahead; the answer comes at once. What is ahead leaves like
 * everything else, without a look at the pins, for nobody reads what is OUT. */
#include "raylet/spill_int.h"

/* SOON: asks of other readers in between. LOOK: records that are looked at for one ask. */
enum { SOON = 8, LOOK = 64, PART = 8 };

void spill_ahead_enter(struct spill *s, struct record *rec) {
    rec->before = s->last;
    rec->after = NULL;
    if (s->last) s->last->after = rec;
    s->last = rec;
}

void spill_ahead_leave(struct spill *s, struct record *rec) {
    if (s->follow == rec) s->follow = NULL;
    if (rec->before) rec->before->after = rec->after;
    if (rec->after)
        rec->after->before = rec->before;
    else
        s->last = rec->before;
}

void spill_ahead_drop(struct spill *s, struct record *rec) {
    if (!rec->ahead) return;
    rec->ahead = false;
    s->ahead -= rec->bytes;
}

void spill_ahead_asked(struct raylet *r, struct record *rec) {
    struct spill *s = r->spill;
    const struct record *before = rec->before;

    rec->asked = ++s->asks;
    if (!before || !before->asked || s->asks - before->asked > SOON) return;
    s->follow = rec;
    loop_post(r->loop, &s->ahead_task); /* the answer to who asked goes first */
}

void spill_ahead_run(void *arg) {
    struct raylet *r = arg;
    struct spill *s = r->spill;
    uint64_t most = extents_budget(r->extents) / PART;
    struct record *rec = s->follow ? s->follow->after : NULL;

    s->follow = NULL;
    for (uint32_t i = 0; i < LOOK && rec; i++, rec = rec->after) {
        uint64_t first = granule_first(rec->offset), end = granule_end(rec->offset, rec->bytes);
        struct extent_info info;

        if (rec->state != KEPT || spill_room_is_wanted(r) || s->ahead + rec->bytes > most) return;
        if (rec->out != rec->bytes || rec->fails || r->residency[first] != RES_OUT ||
            !extents_find(r->extents, rec->offset, &info) || info.busy)
            continue;
        if (spill_bring(r, rec, first, end, true) == -SKATE_EFULL || !rec->reading) return;
    }
}
