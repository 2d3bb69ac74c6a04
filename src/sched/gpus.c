/* gpus.c - see gpus.h. */
#include "sched/gpus.h"

#include <stdio.h>
#include <string.h>

void gpus_init(struct gpus *g, int64_t amount) {
    int64_t n = amount / RESOURCE_UNIT;

    *g = (struct gpus){.count = n > 0 && n <= GPUS_MAX ? (uint32_t)n : 0};
    for (uint32_t i = 0; i < g->count; i++) g->free[i] = RESOURCE_UNIT;
}

static uint32_t whole_free(const struct gpus *g) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < g->count; i++) n += g->free[i] == RESOURCE_UNIT;
    return n;
}

/* The GPU with the least room that has room for a part. */
static int part_of(const struct gpus *g, int64_t amount) {
    int best = -1;

    for (uint32_t i = 0; i < g->count; i++)
        if (g->free[i] >= amount && (best < 0 || g->free[i] < g->free[best])) best = (int)i;
    return best;
}

bool gpus_fit(const struct gpus *g, int64_t amount) {
    if (amount <= 0 || g->count == 0) return true;
    if (amount < RESOURCE_UNIT) return part_of(g, amount) >= 0;
    return whole_free(g) >= amount / RESOURCE_UNIT;
}

struct gpu_share gpus_take(struct gpus *g, int64_t amount) {
    struct gpu_share s = {0};

    if (amount <= 0 || g->count == 0) return s;
    if (amount < RESOURCE_UNIT) {
        int i = part_of(g, amount);

        if (i < 0) return s;
        s.ids = UINT64_C(1) << i;
        s.each = (int32_t)amount;
        g->free[i] -= s.each;
        return s;
    }
    s.each = RESOURCE_UNIT;
    for (uint32_t i = 0; i < g->count && amount >= RESOURCE_UNIT; i++) {
        if (g->free[i] != RESOURCE_UNIT) continue;
        g->free[i] = 0;
        s.ids |= UINT64_C(1) << i;
        amount -= RESOURCE_UNIT;
    }
    return s;
}

void gpus_give(struct gpus *g, const struct gpu_share *s) {
    for (uint32_t i = 0; i < g->count; i++)
        if (s->ids >> i & 1) g->free[i] += s->each;
}

void gpus_add(struct gpus *g, const struct gpu_share *s, uint32_t count) {
    *g = (struct gpus){.count = s->ids ? count : 0};
    gpus_give(g, s);
}

void gpus_move(struct gpus *from, struct gpus *to) {
    for (uint32_t i = 0; i < from->count && i < to->count; i++) {
        to->free[i] += from->free[i];
        from->free[i] = 0;
    }
}

/* The n-th entry of a comma separated list. */
static const char *nth(const char *names, uint32_t n, int *ret_len) {
    while (names && n > 0) {
        names = strchr(names, ',');
        if (names) names++;
        n--;
    }
    *ret_len = names ? (int)strcspn(names, ",") : 0;
    return names;
}

const char *gpus_text(const struct gpu_share *s, const char *names, char *out, size_t cap) {
    size_t used = 0;

    if (cap) out[0] = 0;
    for (uint32_t i = 0; i < GPUS_MAX && used + 1 < cap; i++) {
        int len, n;
        const char *name;

        if (!(s->ids >> i & 1)) continue;
        name = nth(names && names[0] ? names : NULL, i, &len);
        if (len > 0)
            n = snprintf(out + used, cap - used, "%s%.*s", used ? "," : "", len, name);
        else
            n = snprintf(out + used, cap - used, "%s%u", used ? "," : "", i);
        if (n < 0) break;
        used += (size_t)n;
    }
    return out;
}
