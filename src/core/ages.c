/* ages.c - how old an object is: see holdings.h.
 *
 * Notes at least a second apart; when there are AGES_MOST, one goes, and the rest lie the closer
 * the younger they are: an age is known to a tenth. What is told is the least that it can be.
 * Tests: tests/unit/core_ages_test.c. */
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/holdings.h"

#define APART_NS INT64_C(1000000000)

/* The note goes that is missed least: whose neighbours are nearest, measured by its age. */
static void drop_one(struct ages *a, int64_t now_ns) {
    uint32_t best = 1;
    double least = -1;

    for (uint32_t i = 1; i + 1 < a->count; i++) {
        double gap = (double)(a->v[i + 1].at_ns - a->v[i - 1].at_ns);
        double part = gap / (double)(now_ns - a->v[i].at_ns);

        if (least >= 0 && part >= least) continue;
        least = part;
        best = i;
    }
    a->count--;
    memmove(&a->v[best], &a->v[best + 1], (a->count - best) * sizeof *a->v);
}

void ages_note(struct ages *a, uint64_t seq, int64_t now_ns) {
    if (a->count && (a->v[a->count - 1].seq == seq || /* nothing new */
                     now_ns - a->v[a->count - 1].at_ns < APART_NS))
        return;
    if (a->count == AGES_MOST) drop_one(a, now_ns);
    a->v[a->count++] = (struct age_note){now_ns, seq};
}

int64_t ages_of(const struct ages *a, uint64_t seq, int64_t now_ns) {
    uint32_t low = 0, high = a->count; /* the first note that has seen it */

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (a->v[mid].seq < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low < a->count && now_ns > a->v[low].at_ns ? now_ns - a->v[low].at_ns : 0;
}

void ages_tick(struct core *c) {
    if (c->next_seq == c->ages_seq) return;
    if (!c->ages) c->ages = calloc(1, sizeof *c->ages);
    if (!c->ages) return;
    ages_note(c->ages, c->next_seq, time_now_ns());
    c->ages_seq = c->ages->v[c->ages->count - 1].seq;
}
