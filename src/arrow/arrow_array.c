/* arrow_array.c - see arrow_array.h. */
#include "arrow/arrow_array.h"
#include "arrow/arrow_view.h"
#include "base/atomic.h"

#include <stdlib.h>
#include <string.h>

/* In the place of an empty buffer; also the one offset of an empty array. */
static const _Alignas(8) uint8_t nothing[8];

/* What an array owns: its buffers' addresses, and the structs of its children. */
struct held {
    const void *buffers[3], **more; /* more: instead of them, of an array of views */
    int64_t *sizes;
    struct arrow_hold *hold;
    struct ArrowArray dictionary;
    struct ArrowArray *storage, **children;
};

static int broken(struct arrow_batch *b, const struct arrow_field *f, const char *what) {
    return err_fail(b->err, -SKATE_EPROTO, "a malformed Arrow stream: column '%.80s': %s", f->name,
                    what);
}

void arrow_hold_drop(struct arrow_hold *hold) {
    if (hold && at_add_seq(&hold->count, UINT32_MAX) == 1) hold->end(hold);
}

static void array_release(struct ArrowArray *a) {
    struct held *h = a->private_data;

    for (int64_t i = 0; i < a->n_children; i++)
        if (a->children[i]->release) a->children[i]->release(a->children[i]);
    if (h->dictionary.release) h->dictionary.release(&h->dictionary);
    arrow_hold_drop(h->hold);
    free(h->more);
    free(h->sizes);
    free(h->storage);
    free(h->children);
    free(h);
    a->release = NULL;
}

/* An array without buffers and children yet. */
static int array_new(struct arrow_batch *b, const struct arrow_field *f,
                     struct ArrowArray *ret) {
    struct held *h = calloc(1, sizeof *h);

    if (!h) return -SKATE_ENOMEM;
    h->hold = b->hold;
    if (b->hold) (void)at_add_seq(&b->hold->count, 1);
    h->storage = calloc(f->child_count + 1, sizeof *h->storage);
    h->children = calloc(f->child_count + 1, sizeof *h->children);
    *ret = (struct ArrowArray){.n_buffers = arrow_type_buffers(&f->type), .buffers = h->buffers,
                               .children = h->children, .release = array_release,
                               .private_data = h};
    if (h->storage && h->children) return 0;
    array_release(ret);
    return -SKATE_ENOMEM;
}

/* ---- nodes and buffers of the message ---- */

static int next_node(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a) {
    int64_t pair[2];

    if (b->node >= b->nodes.count) return broken(b, f, "it is missing");
    memcpy(pair, b->nodes.b->p + b->nodes.at + 16 * (size_t)b->node++, 16);
    if (pair[0] < 0 || pair[0] > INT64_MAX - 64 || pair[1] < 0 || pair[1] > pair[0])
        return broken(b, f, "a wrong length");
    a->length = pair[0];
    a->null_count = pair[1];
    return 0;
}

struct bytes {
    const uint8_t *p; /* NULL when there are none */
    size_t n;
};

static int next_buffer(struct arrow_batch *b, const struct arrow_field *f, struct bytes *ret) {
    int64_t pair[2];

    if (b->buffer >= b->buffers.count) return broken(b, f, "a buffer is missing");
    memcpy(pair, b->buffers.b->p + b->buffers.at + 16 * (size_t)b->buffer++, 16);
    if (pair[0] < 0 || pair[1] < 0 || (uint64_t)pair[0] > b->m.body_len ||
        (uint64_t)pair[1] > b->m.body_len - (uint64_t)pair[0])
        return broken(b, f, "a buffer outside of the message");
    if (pair[0] % 8 && pair[1]) return broken(b, f, "a buffer that is not aligned");
    ret->n = (size_t)pair[1];
    ret->p = ret->n ? b->m.body + pair[0] : NULL;
    return 0;
}

/* The next buffer has n elements of `width` bytes (0: bits), or more. */
static int take(struct arrow_batch *b, const struct arrow_field *f, int64_t n, size_t width,
                struct bytes *ret) {
    size_t need;
    int r = next_buffer(b, f, ret);

    if (r < 0) return r;
    if (width == 0)
        need = ((size_t)n + 7) / 8;
    else if (__builtin_mul_overflow((size_t)n, width, &need))
        return broken(b, f, "a wrong length");
    return ret->n < need ? broken(b, f, "a buffer that is too short") : 0;
}

static int take_validity(struct arrow_batch *b, const struct arrow_field *f,
                         struct ArrowArray *a) {
    struct held *h = a->private_data;
    struct bytes bits;
    int r = next_buffer(b, f, &bits);

    if (r < 0) return r;
    if (a->null_count == 0) return 0; /* no bits are needed, and none are given */
    if (bits.n < ((size_t)a->length + 7) / 8) return broken(b, f, "a buffer that is too short");
    a->null_count = arrow_nulls(bits.p, 0, a->length); /* whatever the message says */
    if (a->null_count) h->buffers[0] = bits.p;
    return 0;
}

/* ---- offsets and indices: where they lead ---- */

static bool rises32(const int32_t *p, int64_t n, int64_t max) {
    if (p[0] < 0 || p[n] > max) return false;
    for (int64_t i = 0; i < n; i++)
        if (p[i] > p[i + 1]) return false;
    return true;
}

static bool rises64(const int64_t *p, int64_t n, int64_t max) {
    if (p[0] < 0 || p[n] > max) return false;
    for (int64_t i = 0; i < n; i++)
        if (p[i] > p[i + 1]) return false;
    return true;
}

/* Offsets of an empty array may be left out: it gets one 0. */
static int take_offsets(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a,
                        bool wide) {
    struct held *h = a->private_data;
    struct bytes offsets;
    int r;

    r = take(b, f, a->length == 0 ? 0 : a->length + 1, wide ? 8 : 4, &offsets);
    if (r == 0) h->buffers[1] = a->length ? offsets.p : nothing;
    return r;
}

static int check_offsets(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a,
                         int64_t max) {
    bool wide = f->type.layout == LAY_BYTES64 || f->type.layout == LAY_LIST64;
    const void *p = a->buffers[1];
    bool good = wide ? rises64(p, a->length, max) : rises32(p, a->length, max);

    return good ? 0 : broken(b, f, "offsets that lead outside");
}

static int64_t index_at(const struct arrow_type *t, const uint8_t *p, int64_t i) {
    int64_t v = 0;

    p += i * t->width;
    switch (t->width) {
    case 1: return t->flag ? *(const int8_t *)p : *p;
    case 2: return t->flag ? *(const int16_t *)(const void *)p : *(const uint16_t *)(const void *)p;
    case 4: return t->flag ? *(const int32_t *)(const void *)p
                           : (int64_t) * (const uint32_t *)(const void *)p;
    default: memcpy(&v, p, 8); return v;
    }
}

static int check_indices(struct arrow_batch *b, const struct arrow_field *f,
                         const struct ArrowArray *a) {
    const uint8_t *valid = a->buffers[0], *p = a->buffers[1];
    int64_t count = a->dictionary->length;

    for (int64_t i = 0; i < a->length; i++) {
        int64_t v;

        if (valid && !(valid[i >> 3] >> (i & 7) & 1)) continue;
        v = index_at(&f->type, p, i);
        if (v < 0 || v >= count) return broken(b, f, "an index outside of its dictionary");
    }
    return 0;
}

/* ---- arrays ---- */

static int read_array(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *ret);

static int read_children(struct arrow_batch *b, const struct arrow_field *f,
                         struct ArrowArray *a) {
    struct held *h = a->private_data;
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < f->child_count; i++) {
        h->children[i] = &h->storage[i];
        r = read_array(b, &f->children[i], h->children[i]);
        if (r == 0) a->n_children++;
    }
    return r;
}

/* The values that the indices of `a` mean, from the message that brought them. */
static int read_dictionary(struct arrow_batch *b, const struct arrow_field *f,
                           struct ArrowArray *a) {
    struct held *h = a->private_data;
    struct arrow_field one = {.type = {.id = ARROW_STRUCT, .layout = LAY_STRUCT},
                              .name = f->name, .child_count = 1, .children = f->values};
    struct arrow_batch inner = {.err = b->err, .hold = b->hold};
    struct ArrowArray wrapper;
    uint32_t i = 0;
    int r;

    while (i < b->dictionary_count && b->dictionaries[i].id != f->dictionary) i++;
    if (i == b->dictionary_count) return broken(b, f, "its dictionary is missing");
    inner.m = b->dictionaries[i].m;
    r = arrow_batch_read(&inner, &one, &wrapper);
    if (r < 0) return r;
    h->dictionary = *wrapper.children[0]; /* moved out */
    wrapper.children[0]->release = NULL;
    wrapper.release(&wrapper);
    a->dictionary = &h->dictionary;
    return check_indices(b, f, a);
}

static int read_bytes(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a) {
    struct held *h = a->private_data;
    struct bytes data;
    int r = take_offsets(b, f, a, f->type.layout == LAY_BYTES64);

    if (r == 0) r = next_buffer(b, f, &data);
    if (r < 0) return r;
    h->buffers[2] = data.p ? data.p : nothing;
    return check_offsets(b, f, a, (int64_t)data.n);
}

/* Views, and as many buffers as the message says; behind them, for the caller, their sizes. */
static int read_views(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a) {
    struct held *h = a->private_data;
    struct arrow_views in = {.n = a->length, .valid = h->buffers[0]};
    struct bytes part;
    int64_t n;
    int r = take(b, f, a->length, sizeof(struct arrow_view), &part);

    if (r < 0) return r;
    if (b->view >= b->views.count) return broken(b, f, "the number of its buffers is missing");
    memcpy(&n, b->views.b->p + b->views.at + 8 * (size_t)b->view++, 8);
    if (n < 0 || n > (int64_t)(b->buffers.count - b->buffer))
        return broken(b, f, "a wrong number of buffers");
    h->more = calloc((size_t)n + 3, sizeof *h->more);
    h->sizes = calloc((size_t)n + 1, sizeof *h->sizes);
    if (!h->more || !h->sizes) return -SKATE_ENOMEM;
    h->more[0] = h->buffers[0];
    h->more[1] = in.views = part.p ? (const void *)part.p : nothing;
    for (int64_t i = 0; i < n; i++) {
        r = next_buffer(b, f, &part);
        if (r < 0) return r;
        h->more[2 + i] = part.p ? part.p : nothing;
        h->sizes[i] = (int64_t)part.n;
    }
    h->more[2 + n] = h->sizes;
    in.data = h->more + 2;
    in.sizes = h->sizes;
    in.count = n;
    a->buffers = h->more;
    a->n_buffers = n + 3;
    return arrow_views_fit(&in) ? 0 : broken(b, f, "a view that leads outside");
}

static int read_list(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a) {
    int r = take_offsets(b, f, a, f->type.layout == LAY_LIST64);

    if (r == 0) r = read_children(b, f, a);
    return r < 0 ? r : check_offsets(b, f, a, a->children[0]->length);
}

/* Every child must have `each` elements for each of the array's. */
static int read_struct(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a,
                       int64_t each) {
    int64_t need;
    int r = read_children(b, f, a);

    if (r == 0 && __builtin_mul_overflow(a->length, each, &need)) return broken(b, f, "too long");
    for (int64_t i = 0; r == 0 && i < a->n_children; i++)
        if (a->children[i]->length < need) r = broken(b, f, "a child that is too short");
    return r;
}

static int read_data(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *a) {
    struct held *h = a->private_data;
    struct bytes data = {0};
    int r;

    switch (f->type.layout) {
    case LAY_BITS:
    case LAY_FIXED:
        if (f->type.layout == LAY_FIXED && f->type.width == 0)
            r = next_buffer(b, f, &data);
        else
            r = take(b, f, a->length, f->type.layout == LAY_BITS ? 0 : (size_t)f->type.width,
                     &data);
        h->buffers[1] = data.p ? data.p : nothing;
        return r == 0 && f->values ? read_dictionary(b, f, a) : r;
    case LAY_BYTES32:
    case LAY_BYTES64: return read_bytes(b, f, a);
    case LAY_LIST32:
    case LAY_LIST64: return read_list(b, f, a);
    case LAY_VIEWS: return read_views(b, f, a);
    case LAY_STRUCT: return read_struct(b, f, a, 1);
    case LAY_FIXED_LIST: return read_struct(b, f, a, f->type.width);
    default: a->null_count = a->length; return 0;
    }
}

static int read_array(struct arrow_batch *b, const struct arrow_field *f, struct ArrowArray *ret) {
    struct ArrowArray a = {0};
    int r = array_new(b, f, &a);

    if (r < 0) return r;
    r = next_node(b, f, &a);
    if (r == 0 && f->type.layout != LAY_NONE) r = take_validity(b, f, &a);
    if (r == 0) r = read_data(b, f, &a);
    if (r < 0) {
        array_release(&a);
        return r;
    }
    *ret = a;
    return 0;
}

int arrow_batch_read(struct arrow_batch *b, const struct arrow_field *root,
                     struct ArrowArray *ret) {
    struct flat_table table = b->m.table;
    struct ArrowArray a = {0};
    int r;

    table.b = &b->m.meta; /* of this copy of the message */
    if (flat_sub(&table, 3).b)
        return err_fail(b->err, -SKATE_ETYPE, "a compressed Arrow stream is not carried: write it "
                                              "without compression");
    b->nodes = flat_vector(&table, 1, 16);
    b->buffers = flat_vector(&table, 2, 16);
    b->views = flat_vector(&table, 4, 8);
    r = array_new(b, root, &a);
    if (r < 0) return r;
    a.length = flat_i64(&table, 0, 0);
    if (b->m.meta.bad || a.length < 0)
        r = err_fail(b->err, -SKATE_EPROTO, "a malformed Arrow stream: a batch that is none");
    if (r == 0) r = read_struct(b, root, &a, 1);
    for (int64_t i = 0; r == 0 && i < a.n_children && root->type.id == ARROW_STRUCT; i++)
        if (a.children[i]->length != a.length) r = broken(b, root, "columns of unequal lengths");
    if (r < 0) {
        array_release(&a);
        return r;
    }
    *ret = a;
    return 0;
}
