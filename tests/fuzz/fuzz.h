/* fuzz.h - what the fuzz targets share: bytes of the input as choices, frames made of them.
 *
 * A target defines fuzz_one(). Built by run_fuzz.py with libFuzzer, or included by
 * tests/unit/fuzz_*_test.c, where fuzz_plain.h feeds it seeded random bytes for two seconds. */
#ifndef SKATE_TESTS_FUZZ_H
#define SKATE_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/resources.h"
#include "wire/wire_gen.h"

#define FUZZ __attribute__((unused)) static
/* Every end that a target chooses says where. */
#define abort() (fprintf(stderr, "%s:%d: the target ends itself\n", __FILE__, __LINE__), (abort)())

struct fuzz_in {
    const uint8_t *p;
    size_t left;
    const uint64_t *pool; /* numbers that mean something to the target */
    uint32_t pool_count;
};

static int fuzz_one(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) { return fuzz_one(data, len); }

/* The end of the input reads as zeros. */
FUZZ uint64_t fuzz_bytes(struct fuzz_in *in, unsigned n) {
    uint64_t x = 0;

    for (unsigned i = 0; i < n && in->left; i++, in->left--) x = x << 8 | *in->p++;
    return x;
}

FUZZ uint32_t fuzz_below(struct fuzz_in *in, uint32_t n) {
    return (uint32_t)(fuzz_bytes(in, n > 256 ? 2 : 1) % n);
}

FUZZ uint64_t fuzz_word(struct fuzz_in *in) {
    switch (fuzz_below(in, 8)) {
    case 0: return 0;
    case 1: return fuzz_bytes(in, 8);
    case 2: return UINT64_MAX - fuzz_below(in, 3);
    case 3: return fuzz_below(in, 16) | (uint64_t)fuzz_below(in, 16) << 32;
    case 4: return UINT64_C(1) << fuzz_below(in, 64);
    case 5: return fuzz_below(in, 16);
    default: return in->pool_count ? in->pool[fuzz_below(in, in->pool_count)] : 1;
    }
}

FUZZ size_t fuzz_resources(struct fuzz_in *in, void *out, size_t cap) {
    static const char *const names[] = {"CPU", "GPU", "memory", "x"};
    struct resources r = {0};

    for (uint32_t n = fuzz_below(in, 4); n > 0; n--) {
        int64_t amount = fuzz_below(in, 2) ? (int64_t)fuzz_below(in, 3) * 10000
                                           : (int64_t)(fuzz_word(in) >> 1);

        if (resources_set(&r, names[fuzz_below(in, 4)], amount) < 0) break;
    }
    return resources_pack(&r, out, cap);
}

/* Bundles as bundles_pack() writes them. */
FUZZ size_t fuzz_bundles(struct fuzz_in *in, uint8_t *out, size_t cap) {
    uint32_t n = 1 + fuzz_below(in, 4), head[2];
    size_t used = 0;

    for (uint32_t i = 0; i < n && used + 1000 < cap; i++) {
        head[0] = fuzz_below(in, 8) ? i : (uint32_t)fuzz_word(in);
        head[1] = (uint32_t)fuzz_resources(in, out + used + sizeof head, 900);
        memcpy(out + used, head, sizeof head);
        used += (sizeof head + (size_t)head[1] + 7) & ~(size_t)7;
    }
    return used;
}

/* Is the span at this offset of such a message one of bundles? */
FUZZ bool fuzz_is_bundles(uint32_t kind, uint16_t offset) {
    return (kind == WIRE_GROUP_CREATE && offset == offsetof(struct wire_group_create, bundles)) ||
           (kind == WIRE_GROUP_INFO && offset == offsetof(struct wire_group_info, bundles)) ||
           (kind == WIRE_GROUP_RESERVE && offset == offsetof(struct wire_group_reserve, bundles)) ||
           (kind == WIRE_REC_GROUP && offset == offsetof(struct wire_rec_group, bundles));
}

FUZZ void fuzz_val(struct fuzz_in *in, struct wire_val *v) {
    *v = (struct wire_val){.kind = (uint8_t)fuzz_below(in, 4), .format = FORMAT_RAW,
                           .flags = (uint16_t)fuzz_below(in, 4)};
    v->id = (struct skate_id){fuzz_word(in), fuzz_word(in)};
    v->len = fuzz_below(in, 8) ? fuzz_below(in, 64) : fuzz_below(in, 8192);
    v->nref = fuzz_below(in, 4) ? 0 : fuzz_below(in, 4);
    v->holder = fuzz_word(in);
    v->offset = fuzz_word(in);
    v->size = fuzz_below(in, 2) ? v->len : fuzz_word(in);
}

FUZZ uint32_t fuzz_kind(struct fuzz_in *in) {
    uint32_t kind = fuzz_below(in, wire_info_count);

    while (!wire_info[kind].name) kind = (kind + 1) % wire_info_count;
    return kind;
}

/* A frame of this kind, well-formed but for a rare flipped bit; its fields are choices of the
 * input. `depth`: how often a span may hold a frame again. */
FUZZ void fuzz_frame(struct fuzz_in *in, uint32_t kind, unsigned depth, struct wire_buf *b) {
    const struct wire_info *info = &wire_info[kind];
    uint32_t end = info->span_count ? info->spans[0].offset : info->fixed;
    uint8_t *m = wire_begin(b, (uint16_t)kind);

    for (uint32_t at = sizeof(struct wire_head); at + 4 <= end;) {
        uint64_t x = fuzz_word(in);
        uint32_t n = at % 8 == 0 && at + 8 <= end && fuzz_below(in, 2) ? 8 : 4;

        memcpy(m + at, &x, n);
        at += n;
    }
    ((struct wire_head *)(void *)m)->call = fuzz_below(in, 4) ? 0 : fuzz_below(in, 8);
    ((struct wire_head *)(void *)m)->flags = fuzz_below(in, 8) == 1;
    ((struct wire_head *)(void *)m)->nfds = fuzz_below(in, 16) == 1 ? 2 : 0;
    for (uint32_t i = 0; i < info->span_count; i++) {
        uint32_t size = info->spans[i].element, n = fuzz_below(in, 4);
        uint8_t room[9000] = {0};
        size_t len = 0;

        if (size == 1 && n == 1 && fuzz_is_bundles(kind, info->spans[i].offset))
            len = fuzz_bundles(in, room, sizeof room);
        else if (size == 1 && n == 1)
            len = fuzz_resources(in, room, sizeof room);
        else if (size == 1 && n == 2 && depth > 0) {
            struct wire_buf inner;

            wire_init(&inner, NULL, 0);
            fuzz_frame(in, fuzz_kind(in), depth - 1, &inner);
            if (wire_end(&inner) == 0 && inner.len <= 65536)
                (void)wire_put(b, info->spans[i].offset, inner.p, inner.len);
            wire_release(&inner);
            continue;
        } else if (size == 1)
            memset(room, 'a' + (int)fuzz_below(in, 3),
                   len = fuzz_below(in, fuzz_below(in, 16) ? 40 : sizeof room));
        else
            for (uint32_t k = 0; k < n; k++, len += size) {
                uint64_t pair[2] = {fuzz_word(in), fuzz_word(in)};

                if (size == sizeof(struct wire_val))
                    fuzz_val(in, (struct wire_val *)(void *)(room + len));
                else
                    memcpy(room + len, pair, size < 16 ? size : 16);
            }
        (void)wire_put(b, info->spans[i].offset, room, len);
    }
    if (wire_end(b) == 0 && fuzz_below(in, 32) == 1 && b->len > 16)
        b->p[16 + fuzz_bytes(in, 2) % (b->len - 16)] ^= (uint8_t)(1u << fuzz_below(in, 8));
}

#endif
