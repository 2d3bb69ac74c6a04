/* resources.c - see resources.h. */
#include "sched/resources.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

#define AMOUNT_MAX INT64_C(1000000000000000000) /* 1e14 units; what is more is said as that */

static struct resource *find(struct resources *r, const char *name) {
    for (uint32_t i = 0; i < r->count; i++)
        if (!strcmp(r->v[i].name, name)) return &r->v[i];
    return NULL;
}

int64_t resources_amount(const struct resources *r, const char *name) {
    for (uint32_t i = 0; i < r->count; i++)
        if (!strcmp(r->v[i].name, name)) return r->v[i].amount;
    return 0;
}

int resources_set(struct resources *r, const char *name, int64_t amount) {
    struct resource *e = find(r, name);
    size_t n = strlen(name);

    if (!e) {
        if (n == 0 || n >= sizeof r->v[0].name) return -SKATE_EPROTO;
        if (r->count == RESOURCES_MAX) return -SKATE_EFULL;
        e = &r->v[r->count++];
        memset(e, 0, sizeof *e);
        memcpy(e->name, name, n);
    }
    e->amount = amount;
    return 0;
}

int resources_unpack(struct resources *r, const void *data, size_t len) {
    const uint8_t *p = data;
    struct resources out = {0};

    while (len > 0) {
        char name[64] = {0};
        int64_t amount;
        uint32_t n;
        size_t step;
        int e;

        if (len < 12) return -SKATE_EPROTO;
        memcpy(&amount, p, 8);
        memcpy(&n, p + 8, 4);
        if (n == 0 || n >= sizeof name) return -SKATE_EPROTO;
        step = (12 + (size_t)n + 7) & ~(size_t)7;
        if (step > len || amount < 0) return -SKATE_EPROTO;
        if (amount > AMOUNT_MAX) amount = AMOUNT_MAX;
        memcpy(name, p + 12, n);
        if (strlen(name) != n) return -SKATE_EPROTO;
        e = resources_set(&out, name, amount);
        if (e < 0) return e;
        p += step;
        len -= step;
    }
    *r = out;
    return 0;
}

size_t resources_pack(const struct resources *r, void *out, size_t cap) {
    uint8_t *p = out;
    size_t used = 0;

    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t n = (uint32_t)strlen(r->v[i].name);
        size_t step = (12 + (size_t)n + 7) & ~(size_t)7;

        SKATE_ASSERT(used + step <= cap);
        memset(p + used, 0, step);
        memcpy(p + used, &r->v[i].amount, 8);
        memcpy(p + used + 8, &n, 4);
        memcpy(p + used + 12, r->v[i].name, n);
        used += step;
    }
    return used;
}

bool resources_fit(const struct resources *have, const struct resources *want,
                   const char **ret_lack) {
    for (uint32_t i = 0; i < want->count; i++)
        if (want->v[i].amount > 0 &&
            resources_amount(have, want->v[i].name) < want->v[i].amount) {
            if (ret_lack) *ret_lack = want->v[i].name;
            return false;
        }
    return true;
}

/* Absurd amounts must not wrap round. */
static void add(struct resources *have, const struct resources *want, int sign) {
    for (uint32_t i = 0; i < want->count; i++) {
        struct resource *e = find(have, want->v[i].name);

        if (e && (sign > 0 ? __builtin_add_overflow(e->amount, want->v[i].amount, &e->amount)
                           : __builtin_sub_overflow(e->amount, want->v[i].amount, &e->amount)))
            e->amount = (want->v[i].amount > 0) == (sign > 0) ? INT64_MAX : -INT64_MAX;
    }
}

void resources_take(struct resources *have, const struct resources *want) { add(have, want, -1); }
void resources_give(struct resources *have, const struct resources *want) { add(have, want, 1); }

const char *resources_text(const struct resources *r, char *out, size_t cap) {
    size_t used = 0;

    if (cap) out[0] = 0;
    for (uint32_t i = 0; i < r->count && used + 1 < cap; i++) {
        int n = snprintf(out + used, cap - used, "%s%g %s", used ? ", " : "",
                         (double)r->v[i].amount / RESOURCE_UNIT, r->v[i].name);

        if (n < 0) break;
        used += (size_t)n;
    }
    return out;
}
