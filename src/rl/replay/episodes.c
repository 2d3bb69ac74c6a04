/* episodes.c - see episodes.h: a ring of (start, length), starts counted from the first row ever,
 * so that they grow and the episode of a step is found by bisection. */
#include "rl/replay/episodes.h"

#include <stdlib.h>
#include <string.h>

struct episode {
    uint64_t start;
    uint32_t length;
};

struct episodes {
    uint64_t capacity, added;           /* rows */
    struct episode *ring;
    uint32_t room, first, count;        /* room is a power of two */
    struct rl_rng rng;
};

int episodes_new(uint64_t capacity, uint64_t seed, struct episodes **ret) {
    struct episodes *e;

    *ret = NULL;
    if (capacity == 0 || capacity > (uint64_t)1 << 31)
        return -SKATE_EINVAL;
    e = calloc(1, sizeof(*e));
    if (!e)
        return -SKATE_ENOMEM;
    e->capacity = capacity;
    rl_rng_init(&e->rng, seed, 0x657069736f6465u);
    *ret = e;
    return 0;
}

struct episodes *episodes_free(struct episodes *e) {
    if (e)
        free(e->ring);
    free(e);
    return NULL;
}

static struct episode *nth(const struct episodes *e, uint32_t i) {
    return &e->ring[(e->first + i) & (e->room - 1)];
}

static int make_room(struct episodes *e) {
    uint32_t room = e->room ? 2 * e->room : 64;
    struct episode *ring;

    if (e->count < e->room)
        return 0;
    if (room == 0)
        return -SKATE_ENOMEM;
    ring = malloc(room * sizeof(*ring));
    if (!ring)
        return -SKATE_ENOMEM;
    for (uint32_t i = 0; i < e->count; i++)
        ring[i] = *nth(e, i);
    free(e->ring);
    e->ring = ring;
    e->room = room;
    e->first = 0;
    return 0;
}

int episodes_add(struct episodes *e, uint32_t length) {
    uint64_t oldest;
    int code;

    if (length == 0 || length > e->capacity || e->added > (uint64_t)1 << 62)
        return -SKATE_EINVAL;
    code = make_room(e);
    if (code < 0)
        return code;
    *nth(e, e->count) = (struct episode){ e->added, length };
    e->count++;
    e->added += length;
    oldest = e->added > e->capacity ? e->added - e->capacity : 0;
    while (nth(e, 0)->start < oldest) {
        e->first = (e->first + 1) & (e->room - 1);
        e->count--;
    }
    return 0;
}

uint32_t episodes_count(const struct episodes *e) {
    return e->count;
}

uint64_t episodes_steps(const struct episodes *e) {
    return e->count ? e->added - nth(e, 0)->start : 0;
}

static uint32_t row_of(const struct episodes *e, uint64_t number) {
    return (uint32_t)(number % e->capacity);
}

int episodes_draw(struct episodes *e, uint32_t n, uint32_t *rows, uint32_t *lengths) {
    if (e->count == 0)
        return -SKATE_EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        const struct episode *one = nth(e, rl_rng_below(&e->rng, e->count));

        rows[i] = row_of(e, one->start);
        lengths[i] = one->length;
    }
    return 0;
}

/* The episode that a step belongs to. */
static const struct episode *find(const struct episodes *e, uint64_t number) {
    uint32_t low = 0, high = e->count - 1;

    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;

        if (nth(e, middle)->start <= number)
            low = middle;
        else
            high = middle - 1;
    }
    return nth(e, low);
}

int episodes_hindsight(struct episodes *e, uint32_t n, double share, uint32_t *rows,
                       uint32_t *goals) {
    uint32_t steps = (uint32_t)episodes_steps(e);

    if (steps == 0 || !(share >= 0.0 && share <= 1.0))
        return -SKATE_EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t number = nth(e, 0)->start + rl_rng_below(&e->rng, steps);
        const struct episode *one = find(e, number);
        uint32_t left = (uint32_t)(one->start + one->length - number);

        rows[i] = row_of(e, number);
        goals[i] = UINT32_MAX;
        if ((double)rl_rng_float(&e->rng) < share)
            goals[i] = row_of(e, number + rl_rng_below(&e->rng, left));
    }
    return 0;
}
