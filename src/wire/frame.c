/* frame.c - see frame.h. */
#include "wire/frame.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"

const char *wire_name(uint16_t kind) {
    return kind < wire_info_count && wire_info[kind].name ? wire_info[kind].name : "unknown";
}

int wire_check(const void *frame, size_t len) {
    const struct wire_head *head = frame;
    const struct wire_info *info;

    if (len < sizeof *head || head->size != len || head->kind >= wire_info_count)
        return -SKATE_EPROTO;
    info = &wire_info[head->kind];
    if (!info->name || head->fixed != info->fixed || len < info->fixed) return -SKATE_EPROTO;
    for (uint16_t i = 0; i < info->span_count; i++) {
        struct wire_span span;

        memcpy(&span, (const uint8_t *)frame + info->spans[i].offset, sizeof span);
        if (span.len == 0 && span.off == 0) continue;
        if (span.off < info->fixed || span.off % 8 || span.off > len || span.len > len - span.off ||
            (span.len & (info->spans[i].element - 1u))) /* a power of two: gen.py */
            return -SKATE_EPROTO;
    }
    return 0;
}

int wire_check_vals(const struct wire_val *vals, uint32_t count, uint32_t data_len,
                    uint32_t ref_count) {
    for (uint32_t i = 0; i < count; i++) {
        const struct wire_val *v = &vals[i];

        if (v->kind > VAL_ARENA || v->off > data_len || v->len > data_len - v->off)
            return -SKATE_EPROTO;
        if (v->ref0 > ref_count || v->nref > ref_count - v->ref0) return -SKATE_EPROTO;
    }
    return 0;
}

void wire_init(struct wire_buf *b, void *stack, uint32_t cap) {
    *b = (struct wire_buf){.p = stack, .cap = cap};
}

void wire_release(struct wire_buf *b) {
    if (b->heap) free(b->p);
    *b = (struct wire_buf){0};
}

bool wire_grow(struct wire_buf *b, size_t more) {
    size_t want = (size_t)b->len + more, cap = b->cap ? b->cap : 256;
    uint8_t *p;

    if (b->failed) return false;
    if (want <= b->cap) return true;
    if (want > LIMIT_FRAME_BYTES) return b->failed = true, false;
    while (cap < want) cap *= 2;
    p = b->heap ? realloc(b->p, cap) : malloc(cap);
    if (!p) return b->failed = true, false;
    if (!b->heap && b->len) memcpy(p, b->p, b->len);
    b->p = p;
    b->cap = (uint32_t)cap;
    b->heap = true;
    return true;
}

void *wire_begin(struct wire_buf *b, uint16_t kind) {
    static _Thread_local uint8_t dump[512]; /* a place to write when memory is out */
    const struct wire_info *info = &wire_info[kind];
    struct wire_head *head;

    SKATE_ASSERT(kind < wire_info_count && info->name && info->fixed <= sizeof dump);
    b->len = 0;
    if (!wire_grow(b, (info->fixed + 7u) & ~7u)) return memset(dump, 0, sizeof dump);
    memset(b->p, 0, (info->fixed + 7u) & ~7u);
    b->len = info->fixed;
    head = (struct wire_head *)(void *)b->p;
    head->kind = kind;
    head->fixed = info->fixed;
    return head;
}

void *wire_put(struct wire_buf *b, size_t field, const void *data, size_t bytes) {
    if (bytes > LIMIT_FRAME_BYTES) return b->failed = true, NULL;
    return wire_put_inline(b, field, data, bytes);
}

int wire_end(struct wire_buf *b) {
    if (b->failed) return -SKATE_ENOMEM;
    ((struct wire_head *)(void *)b->p)->size = b->len;
    return 0;
}
