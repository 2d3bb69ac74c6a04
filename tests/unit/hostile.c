/* hostile.c - frames of every kind from number FIRST_KIND on, each in shapes that a liar or a
 * mistaken program might send: what core_, raylet_ and gcs_hostile_test.c share. A kind that is
 * added to messages.def is in it by itself. Included after wire_gen.h. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "wire/wire_gen.h"

enum { FIRST_KIND = 115, LONG = 700, BOMB = 60000 };
enum shape {
    SHAPE_ZERO,    /* nothing is said */
    SHAPE_ONES,    /* every number is the largest, one element in each span */
    SHAPE_IDS,     /* known ids everywhere, each list says the same one thrice */
    SHAPE_SMALL,   /* numbers 1, 2, 3 ..., values that claim bytes and refs that are not there */
    SHAPE_LONG,    /* long lists of known ids */
    SHAPE_NESTED,  /* byte spans hold a frame that holds a frame */
    SHAPE_LYING,   /* byte spans hold a frame that says that it is larger; lists of huge counts */
    SHAPE_ANSWER,  /* as the answer to a call that was never made */
    SHAPES_WHOLE,  /* those above pass wire_check(), those below do not */
    SHAPE_SHORT = SHAPES_WHOLE, /* less than its fixed part */
    SHAPE_SPAN,    /* a span behind the end */
    SHAPES
};

static bool kind_exists(uint32_t kind) {
    return kind < wire_info_count && wire_info[kind].name != NULL;
}

static void shape_numbers(uint8_t *m, uint32_t end, enum shape shape, const struct skate_id *id) {
    uint32_t number = 1;

    for (uint32_t at = sizeof(struct wire_head); at + 4 <= end; at += 4) {
        uint32_t x = shape == SHAPE_ONES || shape == SHAPE_LYING ? UINT32_MAX : number++;

        if (shape == SHAPE_ZERO) return;
        memcpy(m + at, &x, 4);
    }
    if (shape != SHAPE_IDS && shape != SHAPE_LONG && shape != SHAPE_ANSWER) return;
    for (uint32_t at = sizeof(struct wire_head); at + 8 <= end; at += 16)
        memcpy(m + at, id, at + 16 <= end ? 16 : 8);
}

static void shape_val(struct wire_val *v, enum shape shape, const struct skate_id *id) {
    *v = (struct wire_val){.kind = VAL_INLINE, .format = FORMAT_RAW, .id = *id};
    if (shape == SHAPE_SMALL) v->len = 8, v->nref = 2, v->size = 8;
    if (shape == SHAPE_IDS)
        *v = (struct wire_val){.kind = VAL_ARENA, .id = *id, .holder = id->owner, .offset = 4096,
                               .size = 64};
    if (shape == SHAPE_ONES || shape == SHAPE_LYING) memset(v, 0xff, sizeof *v);
}

/* A frame in a frame; LYING: both say that they are larger. */
static size_t shape_inner(uint8_t *to, enum shape shape) {
    struct wire_bye inner = {.head = {.size = sizeof inner, .kind = WIRE_BYE,
                                      .fixed = sizeof inner}};
    struct wire_route outer = {.head = {.size = sizeof outer + sizeof inner, .kind = WIRE_ROUTE,
                                        .fixed = sizeof outer},
                               .frame = {sizeof outer, sizeof inner}};

    if (shape == SHAPE_LYING) outer.head.size = inner.head.size = UINT32_MAX;
    memcpy(to, &outer, sizeof outer);
    memcpy(to + sizeof outer, &inner, sizeof inner);
    return sizeof outer + sizeof inner;
}

static void shape_span(struct wire_buf *b, const struct wire_span_info *span, enum shape shape,
                       const struct skate_id *id) {
    static uint8_t room[BOMB + 64];
    uint32_t count = shape == SHAPE_LONG ? LONG : shape == SHAPE_IDS ? 3 : 1;
    size_t used = 0;

    memset(room, shape == SHAPE_ONES ? 0xff : 0, sizeof room);
    if (span->element == 1 && (shape == SHAPE_NESTED || shape == SHAPE_LYING))
        used = shape_inner(room, shape);
    else if (span->element == 1 && shape == SHAPE_LONG)
        memset(room, 'a', used = BOMB);
    else if (span->element == 1)
        memset(room, shape == SHAPE_ONES ? 0xff : 'a', used = 33);
    else
        for (uint32_t i = 0; i < count; i++, used += span->element) {
            if (span->element == sizeof(struct wire_val))
                shape_val((struct wire_val *)(void *)(room + used), shape, id);
            else if (shape != SHAPE_ONES && shape != SHAPE_LYING)
                memcpy(room + used, id, span->element < 16 ? span->element : 16);
        }
    (void)wire_put(b, span->offset, room, used);
}

/* One frame; the caller releases b. */
static void shape_frame(struct wire_buf *b, uint32_t kind, enum shape shape,
                        const struct skate_id *id) {
    const struct wire_info *info = &wire_info[kind];
    uint32_t end = info->span_count ? info->spans[0].offset : info->fixed;
    struct wire_head *head;

    wire_init(b, NULL, 0);
    shape_numbers(wire_begin(b, (uint16_t)kind), end, shape, id);
    for (uint32_t i = 0; shape != SHAPE_ZERO && shape < SHAPES_WHOLE && i < info->span_count; i++)
        shape_span(b, &info->spans[i], shape, id);
    if (wire_end(b) < 0) return;
    head = (struct wire_head *)(void *)b->p;
    if (shape == SHAPE_SMALL) head->call = 1;
    if (shape == SHAPE_ANSWER) head->call = 1, head->flags = WIRE_REPLY;
    if (shape == SHAPE_SHORT) head->size = b->len = sizeof *head;
    if (shape == SHAPE_SPAN && info->span_count)
        memcpy(b->p + end, &(struct wire_span){info->fixed, UINT32_MAX - 7}, 8);
}
