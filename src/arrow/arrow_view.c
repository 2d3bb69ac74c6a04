/* arrow_view.c - see arrow_view.h. */
#include "arrow/arrow_view.h"

#include <string.h>

static bool valid(const struct arrow_views *in, int64_t i) {
    i += in->from;
    return !in->valid || in->valid[i >> 3] >> (i & 7) & 1;
}

/* The view of an element; false: it is null, or lies in its view. */
static bool is_long(const struct arrow_views *in, int64_t i, struct arrow_view *ret) {
    memcpy(ret, in->views + in->from + i, sizeof *ret);
    return valid(in, i) && ret->size > ARROW_VIEW_SHORT;
}

bool arrow_views_fit(const struct arrow_views *in) {
    for (int64_t i = 0; i < in->n; i++) {
        struct arrow_view v;

        if (!is_long(in, i, &v)) {
            if (v.size < 0 && valid(in, i)) return false;
            continue;
        }
        if (v.buffer < 0 || v.buffer >= in->count || v.offset < 0 ||
            (int64_t)v.offset + v.size > in->sizes[v.buffer])
            return false;
    }
    return true;
}

int64_t arrow_views_size(const struct arrow_views *in) {
    struct arrow_view v;
    int64_t sum = 0;

    for (int64_t i = 0; i < in->n; i++)
        if (is_long(in, i, &v)) sum += v.size;
    return sum;
}

void arrow_views_write(const struct arrow_views *in, struct arrow_view *to) {
    int64_t at = 0;

    for (int64_t i = 0; i < in->n; i++) {
        struct arrow_view v;

        if (is_long(in, i, &v)) {
            v.buffer = 0;
            v.offset = (int32_t)at;
            at += v.size;
        } else if (!valid(in, i)) {
            memset(&v, 0, sizeof v);
        }
        to[i] = v;
    }
}

void arrow_views_gather(const struct arrow_views *in, uint8_t *to) {
    struct arrow_view v;

    for (int64_t i = 0; i < in->n; i++) {
        if (!is_long(in, i, &v)) continue;
        memcpy(to, (const uint8_t *)in->data[v.buffer] + v.offset, (size_t)v.size);
        to += v.size;
    }
}
