/* flat.c - see flat.h. */
#include "arrow/flat.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static bool inside(struct flat *b, size_t at, size_t n) {
    if (at <= b->n && n <= b->n - at) return true;
    b->bad = true;
    return false;
}

static uint32_t get32(const struct flat *b, size_t at) {
    uint32_t v;

    memcpy(&v, b->p + at, 4);
    return v;
}

static uint16_t get16(const struct flat *b, size_t at) {
    uint16_t v;

    memcpy(&v, b->p + at, 2);
    return v;
}

static struct flat_table table_at(struct flat *b, size_t at) {
    struct flat_table none = {0}, t = {.b = b, .at = at};
    int64_t vt;

    if (!inside(b, at, 4)) return none;
    vt = (int64_t)at - (int32_t)get32(b, at);
    if (vt < 0) {
        b->bad = true;
        return none;
    }
    t.vt = (size_t)vt;
    if (!inside(b, t.vt, 4)) return none;
    t.vt_len = get16(b, t.vt);
    t.len = get16(b, t.vt + 2);
    if (t.vt_len < 4 || t.len < 4) {
        b->bad = true;
        return none;
    }
    return inside(b, t.vt, t.vt_len) && inside(b, at, t.len) ? t : none;
}

/* Where the thing lies that a reference at `at` points to; SIZE_MAX: outside. */
static size_t target(struct flat *b, size_t at) {
    size_t to = at + get32(b, at);

    return inside(b, to, 4) ? to : SIZE_MAX;
}

struct flat_table flat_root(struct flat *b) {
    struct flat_table none = {0};
    size_t to = inside(b, 0, 4) ? target(b, 0) : SIZE_MAX;

    return to == SIZE_MAX ? none : table_at(b, to);
}

/* The offset of a field of `size` bytes; 0: it has its default. */
static size_t field_at(const struct flat_table *t, int field, uint16_t size) {
    size_t slot = 4 + 2 * (size_t)field;
    uint16_t off;

    if (!t->b || slot + 2 > t->vt_len) return 0;
    off = get16(t->b, t->vt + slot);
    if (off == 0) return 0;
    if (off < 4 || off > t->len || size > t->len - off) {
        t->b->bad = true;
        return 0;
    }
    return t->at + off;
}

int64_t flat_i64(const struct flat_table *t, int field, int64_t otherwise) {
    size_t at = field_at(t, field, 8);

    if (at) memcpy(&otherwise, t->b->p + at, 8);
    return otherwise;
}

int32_t flat_i32(const struct flat_table *t, int field, int32_t otherwise) {
    size_t at = field_at(t, field, 4);

    return at ? (int32_t)get32(t->b, at) : otherwise;
}

int16_t flat_i16(const struct flat_table *t, int field, int16_t otherwise) {
    size_t at = field_at(t, field, 2);

    return at ? (int16_t)get16(t->b, at) : otherwise;
}

uint8_t flat_u8(const struct flat_table *t, int field, uint8_t otherwise) {
    size_t at = field_at(t, field, 1);

    return at ? t->b->p[at] : otherwise;
}

struct flat_table flat_sub(const struct flat_table *t, int field) {
    struct flat_table none = {0};
    size_t at = field_at(t, field, 4), to = at ? target(t->b, at) : SIZE_MAX;

    return to == SIZE_MAX ? none : table_at(t->b, to);
}

struct flat_vec flat_vector(const struct flat_table *t, int field, size_t size) {
    struct flat_vec none = {0}, v = {.b = t->b};
    size_t at = field_at(t, field, 4), to = at ? target(t->b, at) : SIZE_MAX;

    if (to == SIZE_MAX) return none;
    v.count = get32(t->b, to);
    v.at = to + 4;
    return inside(t->b, v.at, v.count * size) ? v : none;
}

struct flat_table flat_item(const struct flat_vec *v, uint32_t i) {
    struct flat_table none = {0};
    size_t at = v->at + 4 * (size_t)i, to;

    if (i >= v->count) return none;
    to = target(v->b, at);
    return to == SIZE_MAX ? none : table_at(v->b, to);
}

const char *flat_text(const struct flat_table *t, int field, uint32_t *ret_len) {
    struct flat_vec v = flat_vector(t, field, 1);

    *ret_len = v.count;
    return v.b ? (const char *)v.b->p + v.at : NULL;
}

/* ---- writing ---- */

size_t flat_room_raw(struct flat_out *o, size_t n) {
    size_t at = o->len;

    if (o->failed || n == 0) return at;
    if (n > o->cap - o->len) {
        size_t cap = o->cap < 1024 ? 1024 : o->cap;
        uint8_t *p;

        while (cap - o->len < n && cap < SIZE_MAX / 4) cap *= 2;
        p = cap - o->len < n ? NULL : realloc(o->p, cap);
        if (!p) {
            o->failed = true;
            return 0;
        }
        o->p = p;
        o->cap = cap;
    }
    o->len += n;
    return at;
}

size_t flat_room(struct flat_out *o, size_t n) {
    size_t at = flat_room_raw(o, n);

    if (!o->failed && n) memset(o->p + at, 0, n);
    return at;
}

void flat_bytes(struct flat_out *o, const void *data, size_t n) {
    size_t at = flat_room(o, n);

    flat_set(o, at, data, n);
}

void flat_align(struct flat_out *o, size_t align, size_t more) {
    (void)flat_room(o, (align + more - o->len % align) % align);
}

void flat_set(struct flat_out *o, size_t at, const void *data, size_t n) {
    if (!o->failed && n) memcpy(o->p + at, data, n);
}

void flat_set_i16(struct flat_out *o, size_t at, int16_t v) { flat_set(o, at, &v, 2); }
void flat_set_i32(struct flat_out *o, size_t at, int32_t v) { flat_set(o, at, &v, 4); }
void flat_set_i64(struct flat_out *o, size_t at, int64_t v) { flat_set(o, at, &v, 8); }
void flat_set_u8(struct flat_out *o, size_t at, uint8_t v) { flat_set(o, at, &v, 1); }

size_t flat_table_new(struct flat_out *o, const char *sizes, size_t *ret_at) {
    size_t fields = strlen(sizes), vt, at, len = 4;
    uint16_t offsets[12] = {0};

    for (int size = 8; size > 0; size /= 2) /* the largest first: no holes */
        for (size_t i = 0; i < fields; i++)
            if (sizes[i] - '0' == size) {
                offsets[i] = (uint16_t)len;
                len += (size_t)size;
            }
    flat_align(o, 2, 0);
    vt = flat_room(o, 4 + 2 * fields);
    flat_set_i16(o, vt, (int16_t)(4 + 2 * fields));
    flat_set_i16(o, vt + 2, (int16_t)len);
    flat_set(o, vt + 4, offsets, 2 * fields);
    flat_align(o, 8, 4); /* so that fields of 8 bytes are aligned */
    at = flat_room(o, len);
    flat_set_i32(o, at, (int32_t)(at - vt));
    for (size_t i = 0; i < fields; i++) ret_at[i] = at + offsets[i];
    return at;
}

void flat_point(struct flat_out *o, size_t at, size_t to) {
    flat_set_i32(o, at, (int32_t)(to - at));
}

size_t flat_vec_new(struct flat_out *o, uint32_t count, size_t size) {
    size_t at;

    flat_align(o, 8, 4);
    at = flat_room(o, 4 + count * size);
    flat_set_i32(o, at, (int32_t)count);
    return at;
}

size_t flat_text_new(struct flat_out *o, const char *text) {
    size_t n = strlen(text), at = flat_vec_new(o, (uint32_t)n, 1);

    flat_set(o, at + 4, text, n);
    (void)flat_room(o, 1); /* the zero behind it */
    return at;
}
