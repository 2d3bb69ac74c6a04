/* instances.c - see instances.h. A worker's thread alone; nothing blocks. */
#include "native/instances.h"

#include <stdlib.h>
#include <string.h>

enum { SLAB_LEAST = 16, SLAB_MOST_BYTES = 4 << 20, ALIGN = 64 };

void instances_init(struct instances *t, uint64_t bytes_max) {
    *t = (struct instances){.bytes_max = bytes_max};
}

static uint64_t live_bytes(uint32_t cap) { return ((uint64_t)cap + 63) / 64 * 8; }

static uint64_t slab_bytes(const struct slab *s) {
    return s->stride * s->cap + ALIGN + live_bytes(s->cap);
}

static void slab_free(struct instances *t, uint32_t at) {
    struct slab *s = &t->slabs[at];

    t->bytes -= slab_bytes(s);
    t->count -= s->count;
    free(s->memory);
    free(s->live);
    memmove(s, s + 1, (t->slab_count - at - 1) * sizeof *s);
    t->slab_count--;
    t->last = 0;
}

void instances_release(struct instances *t) {
    while (t->slab_count) slab_free(t, t->slab_count - 1);
    free(t->slabs);
    *t = (struct instances){0};
}

/* How many slabs begin at or before index. */
static uint32_t slabs_before(const struct instances *t, uint64_t index) {
    uint32_t low = 0, high = t->slab_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (t->slabs[mid].first <= index)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool slab_has(const struct slab *s, uint64_t index) { return index - s->first < s->count; }

static struct slab *slab_of(struct instances *t, uint64_t index) {
    uint32_t n;

    if (t->last < t->slab_count && slab_has(&t->slabs[t->last], index)) return &t->slabs[t->last];
    n = slabs_before(t, index);
    if (n == 0 || !slab_has(&t->slabs[n - 1], index)) return NULL;
    t->last = n - 1;
    return &t->slabs[n - 1];
}

/* A type's size is a multiple of its alignment: that of each state follows from the first's. */
static size_t stride_of(size_t self_bytes) {
    return self_bytes ? (self_bytes + 7) & ~(size_t)7 : 8;
}

static int slab_new(struct instances *t, uint32_t at, struct slab *s) {
    uint64_t bytes = slab_bytes(s);

    if (t->slab_count >= SLABS_MAX) return -SKATE_EFULL;
    if (bytes > t->bytes_max || t->bytes > t->bytes_max - bytes) return -SKATE_EFULL;
    if (t->slab_count == t->slab_cap) {
        uint32_t cap = t->slab_cap ? t->slab_cap * 2 : 8;
        struct slab *grown = realloc(t->slabs, cap * sizeof *grown);

        if (!grown) return -SKATE_ENOMEM;
        t->slabs = grown;
        t->slab_cap = cap;
    }
    s->memory = calloc(1, s->stride * s->cap + ALIGN);
    s->live = calloc(1, live_bytes(s->cap));
    if (!s->memory || !s->live) {
        free(s->memory);
        free(s->live);
        return -SKATE_ENOMEM;
    }
    s->states = (uint8_t *)(((uintptr_t)s->memory + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    memmove(t->slabs + at + 1, t->slabs + at, (t->slab_count - at) * sizeof *s);
    t->slabs[at] = *s;
    t->slab_count++;
    t->bytes += bytes;
    t->last = at;
    return 0;
}

int instances_add(struct instances *t, uint64_t first, uint64_t count, const void *cls,
                  size_t self_bytes) {
    struct slab s = {.first = first, .cls = cls, .stride = stride_of(self_bytes)}, *before = NULL;
    uint64_t cap = count;
    uint32_t at;
    int r;

    if (first == 0 || count == 0 || first + count < first) return -SKATE_EINVAL;
    if (count > INSTANCES_MAX || t->count > INSTANCES_MAX - count || self_bytes > UINT32_MAX)
        return -SKATE_EFULL;
    at = slabs_before(t, first);
    if (at > 0) before = &t->slabs[at - 1];
    if (before && slab_has(before, first)) return -SKATE_EEXIST;
    if (at < t->slab_count && t->slabs[at].first - first < count) return -SKATE_EEXIST;
    if (before && before->first + before->count == first && before->cls == cls) {
        if (before->cap - before->count >= count) { /* it has room for them */
            before->count += (uint32_t)count;
            t->count += count;
            return 0;
        }
        cap = (uint64_t)before->cap * 2; /* more will follow */
        if (cap * s.stride > SLAB_MOST_BYTES) cap = SLAB_MOST_BYTES / s.stride;
    }
    if (cap < count) cap = count;
    if (cap < SLAB_LEAST) cap = SLAB_LEAST;
    if (cap > UINT64_MAX - first) cap = count;
    s.cap = (uint32_t)cap;
    s.count = (uint32_t)count;
    r = slab_new(t, at, &s);
    if (r == 0) t->count += count;
    return r;
}

void *instances_state(struct instances *t, uint64_t index) {
    struct slab *s = slab_of(t, index);

    return s ? s->states + s->stride * (index - s->first) : NULL;
}

void instances_born(struct instances *t, uint64_t index) {
    struct slab *s = slab_of(t, index);
    uint64_t i;

    if (!s) return;
    i = index - s->first;
    s->live_count += !(s->live[i / 64] >> i % 64 & 1);
    s->live[i / 64] |= UINT64_C(1) << i % 64;
}

void *instances_find(struct instances *t, uint64_t index, const void **ret_cls) {
    struct slab *s = slab_of(t, index);
    uint64_t i;

    if (!s) return NULL;
    i = index - s->first;
    if (!(s->live[i / 64] >> i % 64 & 1)) return NULL;
    *ret_cls = s->cls;
    return s->states + s->stride * i;
}

bool instances_end(struct instances *t, uint64_t index) {
    struct slab *s = slab_of(t, index);
    uint64_t i;

    if (!s) return false;
    i = index - s->first;
    if (!(s->live[i / 64] >> i % 64 & 1)) return false;
    s->live[i / 64] &= ~(UINT64_C(1) << i % 64);
    if (--s->live_count == 0) slab_free(t, (uint32_t)(s - t->slabs));
    return true;
}

void instances_undo(struct instances *t, uint64_t first, uint64_t count) {
    struct slab *s = slab_of(t, first);

    if (!s || first + count != s->first + s->count) return;
    for (uint64_t i = first - s->first; i < s->count; i++) {
        s->live_count -= s->live[i / 64] >> i % 64 & 1;
        s->live[i / 64] &= ~(UINT64_C(1) << i % 64);
    }
    if (s->live_count == 0) {
        slab_free(t, (uint32_t)(s - t->slabs));
        return;
    }
    memset(s->states + s->stride * (first - s->first), 0, s->stride * count);
    s->count -= (uint32_t)count;
    t->count -= count;
}

void *instances_next(struct instances *t, uint64_t *at, uint64_t *ret_index,
                     const void **ret_cls) {
    for (;;) {
        uint32_t n = slabs_before(t, *at);
        struct slab *s = n ? &t->slabs[n - 1] : NULL;
        void *state;

        if (!s || !slab_has(s, *at)) {
            if (n == t->slab_count) return NULL;
            *at = t->slabs[n].first;
            continue;
        }
        *ret_index = (*at)++;
        state = instances_find(t, *ret_index, ret_cls);
        if (state) return state;
    }
}
