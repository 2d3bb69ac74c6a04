/* arrow_write.c - a caller's stream of arrays to an IPC stream: see ipc.h.
 *
 * A message's metadata has a size that is known from the schema, so that it is written first, with
 * zeros for the numbers that only the body tells, and the body goes straight behind it. Arrays may
 * begin at an offset: what is written begins at 0. */
#include "arrow/ipc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "arrow/arrow_type.h"
#include "arrow/arrow_view.h"

enum { CONTINUES = -1, METADATA_V5 = 4, HEAD_SCHEMA = 1, HEAD_DICTIONARY = 2, HEAD_BATCH = 3 };

/* A record batch that is being written. */
struct batch {
    struct flat_out *o;
    struct skate_error *err;
    size_t nodes, buffers; /* where the next of each goes */
    size_t body;           /* where the body begins */
};

/* ---- messages ---- */

struct message {
    size_t start, body_length, header; /* header: the reference to be filled */
};

static struct message begin(struct flat_out *o, uint8_t head) {
    struct message m;
    size_t at[4], root;

    flat_align(o, 8, 0);
    m.start = flat_room(o, 8);
    flat_set_i32(o, m.start, CONTINUES);
    root = flat_room(o, 4);
    flat_point(o, root, flat_table_new(o, "2148", at));
    flat_set_i16(o, at[0], METADATA_V5);
    flat_set_u8(o, at[1], head);
    m.header = at[2];
    m.body_length = at[3];
    return m;
}

/* The metadata is complete: the body follows. */
static void end_metadata(struct flat_out *o, const struct message *m) {
    flat_align(o, ARROW_ALIGN, 0);
    flat_set_i32(o, m->start + 4, (int32_t)(o->len - m->start - 8));
}

static void write_schema(struct flat_out *o, const struct arrow_field *root) {
    struct message m = begin(o, HEAD_SCHEMA);

    flat_point(o, m.header, arrow_field_write(o, root));
    end_metadata(o, &m);
}

/* ---- buffers ---- */

static uint8_t *buffer_room(struct batch *b, size_t len) {
    size_t at;

    flat_align(b->o, ARROW_ALIGN, 0);
    flat_set_i64(b->o, b->buffers, (int64_t)(b->o->len - b->body));
    flat_set_i64(b->o, b->buffers + 8, (int64_t)len);
    b->buffers += 16;
    at = flat_room_raw(b->o, len);
    return b->o->failed ? NULL : b->o->p + at;
}

static int put_buffer(struct batch *b, const void *data, size_t len) {
    uint8_t *p = buffer_room(b, len);

    if (!p) return -SKATE_ENOMEM;
    if (len) memcpy(p, data, len);
    return 0;
}

static bool bit(const uint8_t *bits, int64_t i) { return bits[i >> 3] >> (i & 7) & 1; }

/* n bits from bit `from` on. */
static int put_bits(struct batch *b, const uint8_t *bits, int64_t from, int64_t n) {
    size_t len = ((size_t)n + 7) / 8, shift = (size_t)from & 7;
    const uint8_t *s = bits + (from >> 3);
    uint8_t *p = buffer_room(b, len);

    if (!p) return -SKATE_ENOMEM;
    for (size_t i = 0; i < len; i++) {
        unsigned v = (unsigned)s[i] >> shift;

        /* the next byte is there if a bit of it is wanted */
        if (shift && (int64_t)(8 * i + 8 - shift) < n) v |= (unsigned)s[i + 1] << (8 - shift);
        p[i] = (uint8_t)v;
    }
    if (n & 7) p[len - 1] &= (uint8_t)((1u << (n & 7)) - 1);
    return 0;
}

int64_t arrow_nulls(const uint8_t *bits, int64_t from, int64_t n) {
    int64_t zeros = 0;

    while (n > 0 && from & 7) zeros += !bit(bits, from++), n--;
    for (; n >= 8; n -= 8, from += 8) zeros += 8 - __builtin_popcount(bits[from >> 3]);
    while (n-- > 0) zeros += !bit(bits, from++);
    return zeros;
}

/* The node of an array and its validity, left out when nothing is null. */
static int put_node(struct batch *b, const struct ArrowArray *a, int64_t from, int64_t n) {
    const uint8_t *bits = a->n_buffers > 0 && a->null_count != 0 ? a->buffers[0] : NULL;
    int64_t nulls = bits ? arrow_nulls(bits, from, n) : 0;

    flat_set_i64(b->o, b->nodes, n);
    flat_set_i64(b->o, b->nodes + 8, a->n_buffers > 0 ? nulls : n);
    b->nodes += 16;
    if (a->n_buffers == 0) return 0;
    return nulls ? put_bits(b, bits, from, n) : put_buffer(b, NULL, 0);
}

static int no_offsets(struct batch *b) {
    return err_fail(b->err, -SKATE_EINVAL, "an array with offsets that decrease");
}

/* Offsets, so that the first is 0. What they span: [*ret_first, *ret_last). */
static int put_offsets32(struct batch *b, const int32_t *from, int64_t n, int64_t *ret_first,
                         int64_t *ret_last) {
    int32_t *p = (int32_t *)(void *)buffer_room(b, ((size_t)n + 1) * sizeof *p);

    if (!p) return -SKATE_ENOMEM;
    *ret_first = *ret_last = 0;
    p[0] = 0;
    if (!from) return n ? no_offsets(b) : 0; /* an empty array need not have any */
    for (int64_t i = 0; i <= n; i++) p[i] = from[i] - from[0];
    *ret_first = from[0];
    *ret_last = from[n];
    return from[0] < 0 || from[n] < from[0] ? no_offsets(b) : 0;
}

static int put_offsets64(struct batch *b, const int64_t *from, int64_t n, int64_t *ret_first,
                         int64_t *ret_last) {
    int64_t *p = (int64_t *)(void *)buffer_room(b, ((size_t)n + 1) * sizeof *p);

    if (!p) return -SKATE_ENOMEM;
    *ret_first = *ret_last = 0;
    p[0] = 0;
    if (!from) return n ? no_offsets(b) : 0;
    for (int64_t i = 0; i <= n; i++) p[i] = from[i] - from[0];
    *ret_first = from[0];
    *ret_last = from[n];
    return from[0] < 0 || from[n] < from[0] ? no_offsets(b) : 0;
}

static int put_offsets(struct batch *b, const struct ArrowArray *a, bool wide, int64_t range[4]) {
    const void *p = a->buffers[1];
    int64_t from = range[0], n = range[1];
    const int64_t *p64 = p ? (const int64_t *)p + from : NULL;
    const int32_t *p32 = p ? (const int32_t *)p + from : NULL;

    return wide ? put_offsets64(b, p64, n, &range[2], &range[3])
                : put_offsets32(b, p32, n, &range[2], &range[3]);
}

/* ---- arrays ---- */

/* Elements [at, at + n) of an array, counted from its own offset. */
static int put_array(struct batch *b, const struct arrow_field *f, const struct ArrowArray *a,
                     int64_t at, int64_t n);

static int check_array(struct batch *b, const struct arrow_field *f, const struct ArrowArray *a,
                       int64_t at, int64_t n) {
    bool more = f->type.layout == LAY_VIEWS && a && a->n_buffers > 3;
    bool good = a && a->release && (more || a->n_buffers == arrow_type_buffers(&f->type)) &&
                a->n_children == f->child_count && a->offset >= 0 && a->length >= 0 && at >= 0 &&
                n >= 0 && at <= a->length && n <= a->length - at &&
                a->length < INT64_MAX - a->offset && !f->values == !a->dictionary;

    return good ? 0 : err_fail(b->err, -SKATE_EINVAL, "the array of column '%.80s' does not fit "
                                                      "its schema", f->name);
}

static int put_children(struct batch *b, const struct arrow_field *f, const struct ArrowArray *a,
                        int64_t at, int64_t n) {
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < f->child_count; i++)
        r = put_array(b, &f->children[i], a->children[i], at, n);
    return r;
}

/* What lies in any of several buffers, in one: few rows of many take only theirs along. */
static int put_views(struct batch *b, const struct arrow_field *f, const struct ArrowArray *a,
                     int64_t from, int64_t n) {
    struct arrow_views in = {.views = a->buffers[1], .from = from, .n = n, .data = a->buffers + 2,
                             .valid = a->null_count ? a->buffers[0] : NULL,
                             .sizes = a->buffers[a->n_buffers - 1], .count = a->n_buffers - 3};
    int64_t size;
    uint8_t *p;

    if (!arrow_views_fit(&in))
        return err_fail(b->err, -SKATE_EINVAL, "column '%.80s': a view that leads outside",
                        f->name);
    size = arrow_views_size(&in);
    if (size > INT32_MAX)
        return err_fail(b->err, -SKATE_ETYPE, "column '%.80s': more than 2 GB in a batch of views",
                        f->name);
    p = buffer_room(b, (size_t)n * sizeof(struct arrow_view));
    if (!p) return -SKATE_ENOMEM;
    arrow_views_write(&in, (struct arrow_view *)(void *)p);
    p = buffer_room(b, (size_t)size);
    if (!p) return -SKATE_ENOMEM;
    arrow_views_gather(&in, p);
    return 0;
}

static int put_data(struct batch *b, const struct arrow_field *f, const struct ArrowArray *a,
                    int64_t from, int64_t n) {
    bool wide = f->type.layout == LAY_BYTES64 || f->type.layout == LAY_LIST64;
    int64_t range[4] = {from, n, 0, 0}, width = f->type.width;
    int r;

    switch (f->type.layout) {
    case LAY_BITS:
        return n ? put_bits(b, a->buffers[1], from, n) : put_buffer(b, NULL, 0);
    case LAY_FIXED:
        return put_buffer(b, n ? (const uint8_t *)a->buffers[1] + from * width : NULL,
                          (size_t)(n * width));
    case LAY_BYTES32:
    case LAY_BYTES64:
        r = put_offsets(b, a, wide, range);
        if (r < 0) return r;
        return put_buffer(b, range[3] > range[2] ? (const uint8_t *)a->buffers[2] + range[2] : NULL,
                          (size_t)(range[3] - range[2]));
    case LAY_LIST32:
    case LAY_LIST64:
        r = put_offsets(b, a, wide, range);
        return r < 0 ? r : put_children(b, f, a, range[2], range[3] - range[2]);
    case LAY_VIEWS: return put_views(b, f, a, from, n);
    case LAY_STRUCT: return put_children(b, f, a, from, n);
    case LAY_FIXED_LIST: return put_children(b, f, a, from * width, n * width);
    default: return 0;
    }
}

static int put_array(struct batch *b, const struct arrow_field *f, const struct ArrowArray *a,
                     int64_t at, int64_t n) {
    int r = check_array(b, f, a, at, n);

    if (r == 0) r = put_node(b, a, a->offset + at, n);
    if (r == 0) r = put_data(b, f, a, a->offset + at, n);
    return b->o->failed ? -SKATE_ENOMEM : r;
}

/* ---- batches ---- */

struct counts {
    uint32_t nodes, buffers, views;
};

static void count(const struct arrow_field *f, struct counts *c) {
    c->nodes += 1;
    c->buffers += arrow_type_buffers(&f->type);
    c->views += f->type.layout == LAY_VIEWS;
    for (uint32_t i = 0; i < f->child_count; i++) count(&f->children[i], c);
}

/* The table RecordBatch with room for nodes and buffers; its offset. */
static size_t batch_table(struct batch *b, int64_t length, const struct counts *c) {
    size_t at[5], t = flat_table_new(b->o, c->views ? "84404" : "844", at), vec;

    flat_set_i64(b->o, at[0], length);
    b->nodes = flat_vec_new(b->o, c->nodes, 16);
    flat_point(b->o, at[1], b->nodes);
    b->buffers = flat_vec_new(b->o, c->buffers, 16);
    flat_point(b->o, at[2], b->buffers);
    b->nodes += 4;
    b->buffers += 4;
    if (c->views == 0) return t;
    vec = flat_vec_new(b->o, c->views, 8); /* how many buffers each column of views has */
    flat_point(b->o, at[4], vec);
    for (uint32_t i = 0; i < c->views; i++) flat_set_i64(b->o, vec + 4 + 8 * (size_t)i, 1);
    return t;
}

static void end_batch(struct batch *b, const struct message *m) {
    flat_align(b->o, ARROW_ALIGN, 0);
    flat_set_i64(b->o, m->body_length, (int64_t)(b->o->len - b->body));
}

static int write_dictionary(struct batch *b, const struct arrow_field *f,
                            const struct ArrowArray *a) {
    struct counts c = {0};
    struct message m = begin(b->o, HEAD_DICTIONARY);
    size_t at[2];
    int r;

    count(f->values, &c);
    flat_point(b->o, m.header, flat_table_new(b->o, "84", at));
    flat_set_i64(b->o, at[0], f->dictionary);
    flat_point(b->o, at[1], batch_table(b, a->length, &c));
    end_metadata(b->o, &m);
    b->body = b->o->len;
    r = put_array(b, f->values, a, 0, a->length);
    end_batch(b, &m);
    return r;
}

/* Dictionaries come before the batch that uses them, each time: they may have changed. */
static int write_dictionaries(struct batch *b, const struct arrow_field *f,
                              const struct ArrowArray *a) {
    int r = check_array(b, f, a, 0, a ? a->length : 0);

    if (r == 0 && f->values) return write_dictionary(b, f, a->dictionary);
    for (uint32_t i = 0; r == 0 && i < f->child_count; i++)
        r = write_dictionaries(b, &f->children[i], a->children[i]);
    return r;
}

static int write_batch(struct batch *b, const struct arrow_field *root,
                       const struct ArrowArray *a) {
    struct counts c = {0};
    int r = write_dictionaries(b, root, a);
    struct message m;

    if (r < 0) return r;
    if (a->null_count != 0 && a->buffers[0] && arrow_nulls(a->buffers[0], a->offset, a->length))
        return err_fail(b->err, -SKATE_EINVAL, "a record batch of which whole rows are null");
    for (uint32_t i = 0; i < root->child_count; i++) count(&root->children[i], &c);
    m = begin(b->o, HEAD_BATCH);
    flat_point(b->o, m.header, batch_table(b, a->length, &c));
    end_metadata(b->o, &m);
    b->body = b->o->len;
    r = put_children(b, root, a, a->offset, a->length);
    end_batch(b, &m);
    return r;
}

/* ---- the stream ---- */

static int stream_failed(struct ArrowArrayStream *in, struct skate_error *err) {
    const char *why = in->get_last_error ? in->get_last_error(in) : NULL;

    return err_fail(err, -SKATE_EINVAL, "the Arrow stream failed: %s",
                    why ? why : "no reason given");
}

static int write_all(struct ArrowArrayStream *in, const struct arrow_field *root,
                     struct flat_out *o, struct skate_error *err) {
    struct batch b = {.o = o, .err = err};
    int r = 0;

    write_schema(o, root);
    while (r == 0) {
        struct ArrowArray a = {0};

        if (in->get_next(in, &a)) return stream_failed(in, err);
        if (!a.release) break;
        r = write_batch(&b, root, &a);
        a.release(&a);
    }
    flat_align(o, 8, 0);
    flat_set_i32(o, flat_room(o, 8), CONTINUES); /* and the length 0: the end */
    return r < 0 ? r : o->failed ? -SKATE_ENOMEM : 0;
}

int arrow_encode(struct ArrowArrayStream *in, uint8_t **ret, size_t *ret_len,
                 struct skate_error *err) {
    struct ArrowSchema schema = {0};
    struct arrow_field root = {0};
    struct flat_out o = {0};
    int r;

    if (!in || !in->release) return err_fail(err, -SKATE_EINVAL, "a released Arrow stream");
    if (in->get_schema(in, &schema)) {
        r = stream_failed(in, err);
    } else {
        r = arrow_field_import(&schema, &root, err);
        if (schema.release) schema.release(&schema);
        if (r == 0) r = write_all(in, &root, &o, err);
        arrow_field_release(&root);
    }
    in->release(in);
    if (r < 0) {
        free(o.p);
        return r;
    }
    *ret = o.p;
    *ret_len = o.len;
    return 0;
}
