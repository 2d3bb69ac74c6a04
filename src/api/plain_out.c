/* plain_out.c - skate_values to values of the core; see plain.h.
 *
 * A lone BYTES, TENSOR, ARROW or OPAQUE is stored without a copy here; everything else is MSGPACK
 * in the scratch of the struct, on the heap when it grows. */
#include "api/plain.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "core/core_room.h"
#include "wire/frame.h"

void plain_out_init(struct plain_out *o) {
    o->v = (struct core_value){0};
    o->out = o->scratch;
    o->len = 0;
    o->cap = PLAIN_SCRATCH;
    o->heap = o->any_text = false;
    o->refs = o->refs_fixed;
    o->deps = o->deps_fixed;
    o->puts = NULL;
    o->ref_cap = o->dep_cap = PLAIN_REFS;
    o->dep_count = o->put_count = o->put_cap = 0;
}

void plain_out_release(struct plain_out *o, struct core *c) {
    for (uint32_t i = 0; i < o->put_count; i++) core_ref_drop(c, &o->puts[i]);
    if (o->heap) free(o->out);
    if (o->refs != o->refs_fixed) free(o->refs);
    if (o->deps != o->deps_fixed) free(o->deps);
    free(o->puts);
    plain_out_init(o);
}

uint8_t *plain_room(struct plain_out *o, size_t n) {
    if (n > o->cap - o->len) {
        size_t cap = o->cap;
        uint8_t *p;

        if (n > SIZE_MAX / 4 - o->len) return NULL;
        while (cap < o->len + n) cap *= 2;
        p = o->heap ? realloc(o->out, cap) : malloc(cap);
        if (!p) return NULL;
        if (!o->heap) memcpy(p, o->out, o->len);
        o->out = p;
        o->cap = cap;
        o->heap = true;
    }
    o->len += n;
    return o->out + o->len - n;
}

void plain_close(struct plain_out *o) {
    o->parts[0] = (struct core_part){o->out, o->len, 8};
    o->v.format = FORMAT_MSGPACK;
    o->v.part_count = 1;
    o->v.parts = o->parts;
    o->v.refs = o->refs;
}

uint64_t plain_size(const struct plain_out *o) {
    uint64_t at = 0;

    for (uint32_t i = 0; i < o->v.part_count; i++) {
        uint64_t align = o->v.parts[i].align;

        at = ((at + align - 1) & ~(align - 1)) + o->v.parts[i].size;
    }
    return at;
}

/* One more id in a list that begins in `fixed`. */
static int push_id(struct skate_id **list, uint32_t *cap, uint32_t count,
                   const struct skate_id *fixed, const struct skate_id *id) {
    if (count == *cap) {
        uint32_t more = *cap ? *cap * 4 : PLAIN_REFS;
        bool heap = *list && *list != fixed;
        struct skate_id *p = heap ? realloc(*list, more * sizeof *p) : malloc(more * sizeof *p);

        if (!p) return -SKATE_ENOMEM;
        if (!heap && count) memcpy(p, *list, count * sizeof *p);
        *list = p;
        *cap = more;
    }
    (*list)[count] = *id;
    return 0;
}

static struct skate_id id_of(const skate_value *v) {
    return (struct skate_id){v->as.ref.id[0], v->as.ref.id[1]};
}

/* ---- MSGPACK ---- */

static void big32(uint8_t *p, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}
static void big64(uint8_t *p, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}

enum { SCALAR_MAX = 9 };

/* Bytes of a nil, bool, int or float, written to p. */
static inline size_t write_scalar(uint8_t *p, const skate_value *v) {
    int64_t i = v->as.i;
    uint64_t bits;

    if (v->kind == SKATE_INT) {
        if (i >= -32 && i <= 127) return p[0] = (uint8_t)i, 1;
        if (i >= INT32_MIN && i <= INT32_MAX) return p[0] = 0xd2, big32(p + 1, (uint32_t)i), 5;
        return p[0] = 0xd3, big64(p + 1, (uint64_t)i), 9;
    }
    if (v->kind == SKATE_FLOAT) {
        memcpy(&bits, &v->as.f, 8);
        return p[0] = 0xcb, big64(p + 1, bits), 9;
    }
    p[0] = v->kind == SKATE_NIL ? 0xc0 : v->as.b ? 0xc3 : 0xc2;
    return 1;
}

static int put_scalar(struct plain_out *o, const skate_value *v) {
    uint8_t *p = plain_room(o, SCALAR_MAX);

    if (!p) return -SKATE_ENOMEM;
    o->len += write_scalar(p, v) - SCALAR_MAX;
    return 0;
}

static int put_byte(struct plain_out *o, uint8_t b) {
    uint8_t *p = plain_room(o, 1);

    if (!p) return -SKATE_ENOMEM;
    *p = b;
    return 0;
}

/* small: the code of the form whose length fits into the low bits, or 0; wide: the 32-bit form. */
static int put_head(struct plain_out *o, uint8_t small, size_t small_max, uint8_t wide, size_t n) {
    uint8_t *p;

    if (n > UINT32_MAX) return -SKATE_ETOOBIG;
    if (small && n < small_max) return put_byte(o, (uint8_t)(small | n));
    if (!(p = plain_room(o, 5))) return -SKATE_ENOMEM;
    p[0] = wide;
    big32(p + 1, (uint32_t)n);
    return 0;
}

static int put_block(struct plain_out *o, const skate_value *v, uint8_t small, uint8_t wide) {
    int r = put_head(o, small, 32, wide, v->as.s.size);
    uint8_t *p = r ? NULL : plain_room(o, v->as.s.size);

    if (r) return r;
    if (!p) return -SKATE_ENOMEM;
    if (v->as.s.size) memcpy(p, v->as.s.data, v->as.s.size);
    return 0;
}

static int put_ref(struct plain_out *o, const skate_value *v) {
    struct skate_id id = id_of(v);
    uint8_t *p;
    int r;

    if (id_is_nil(&id)) return -SKATE_EINVAL;
    r = push_id(&o->refs, &o->ref_cap, o->v.ref_count, o->refs_fixed, &id);
    if (r < 0) return r;
    o->v.ref_count++;
    if (id_index(&id) == SKATE_INDEX_TASK) { /* an actor, and which of its process */
        if (!(p = plain_room(o, 27))) return -SKATE_ENOMEM;
        memcpy(p, "\xc7\x18\x04", 3);
        memcpy(p + 3, &id, 16);
        big64(p + 19, v->pin);
        return 0;
    }
    if (!(p = plain_room(o, 18))) return -SKATE_ENOMEM;
    p[0] = 0xd8;
    p[1] = 3;
    memcpy(p + 2, &id, 16);
    return 0;
}

static const char *const kind_names[] = {"nil", "bool", "int",    "float", "str",   "bytes",
                                         "list", "map", "ref", "tensor", "Arrow stream", "opaque"};

static const char *kind_name(uint32_t kind) {
    return kind < sizeof kind_names / sizeof *kind_names ? kind_names[kind] : "unknown";
}

static int refuse(const skate_value *v, struct skate_error *err) {
    if (v->kind > SKATE_OPAQUE)
        return err_fail(err, -SKATE_EINVAL, "a value is of kind %u, which does not exist: fill it "
                        "with skate_int() and its like", v->kind);
    return err_fail(err, -SKATE_ETYPE, "a list or map cannot hold a value of kind %s: put it with "
                    "skate_put() and give its ref", kind_name(v->kind));
}

/* A str whose bytes Python could not read is refused where it is made. */
static int put_text(struct plain_out *o, const skate_value *v, struct skate_error *err) {
    size_t n = v->as.s.size, good = o->any_text ? n : utf8_span(v->as.s.data, n);

    if (good == n) return put_block(o, v, 0xa0, 0xdb);
    return err_fail(err, -SKATE_EINVAL, "a str is UTF-8, and this one is not at byte %zu of %zu: "
                    "give such bytes with skate_bytes()", good, n);
}

static int put(struct plain_out *o, const skate_value *v, int depth, struct skate_error *err);

static int put_items(struct plain_out *o, const skate_value *v, int depth,
                     struct skate_error *err) {
    bool map = v->kind == SKATE_MAP;
    size_t n = v->as.list.count;
    int r;

    if (depth == 0)
        return err_fail(err, -SKATE_EINVAL, "lists and maps are nested more than %d deep",
                        PLAIN_DEPTH);
    if (n && !v->as.list.items) return err_fail(err, -SKATE_EINVAL, "a %s of %zu has no items",
                                                kind_name(v->kind), n);
    r = map ? put_head(o, 0x80, 16, 0xdf, n) : put_head(o, 0x90, 16, 0xdd, n);
    for (size_t i = 0; !r && i < (map ? 2 * n : n); i++) {
        const skate_value *item = &v->as.list.items[i];

        if (map && i % 2 == 0 && item->kind != SKATE_STR && item->kind != SKATE_INT &&
            item->kind != SKATE_BOOL && item->kind != SKATE_BYTES)
            return err_fail(err, -SKATE_ETYPE, "the key of a map is a str, int, bool or bytes, "
                            "not a %s", kind_name(item->kind));
        r = put(o, item, depth - 1, err);
    }
    return r;
}

static int put(struct plain_out *o, const skate_value *v, int depth, struct skate_error *err) {
    if ((v->kind == SKATE_STR || v->kind == SKATE_BYTES) && v->as.s.size && !v->as.s.data)
        return err_fail(err, -SKATE_EINVAL, "a %s of %zu bytes has no data", kind_name(v->kind),
                        v->as.s.size);
    switch (v->kind) {
    case SKATE_NIL:
    case SKATE_BOOL:
    case SKATE_INT:
    case SKATE_FLOAT: return put_scalar(o, v);
    case SKATE_STR: return put_text(o, v, err);
    case SKATE_BYTES: return put_block(o, v, 0, 0xc6);
    case SKATE_REF: return put_ref(o, v);
    case SKATE_LIST:
    case SKATE_MAP: return put_items(o, v, depth, err);
    default: return refuse(v, err);
    }
}

/* A text for a code that has none yet. */
static int explain(int r, struct skate_error *err) {
    if (r == -SKATE_EINVAL && err && !err->text[0])
        return err_fail(err, r, "a ref is empty (both numbers are 0)");
    if (r == -SKATE_ETOOBIG && err && !err->text[0])
        return err_fail(err, r, "a string or list is longer than 4 GiB: put it in pieces");
    return r;
}

/* ---- the other forms ---- */

static int put_tensor(struct plain_out *o, const skate_value *v, struct skate_error *err) {
    const skate_tensor *t = v->as.tensor;
    int64_t n = t ? skate_tensor_elements(t) : -1;
    size_t head, used;
    uint8_t *p;

    if (n < 0)
        return err_fail(err, -SKATE_EINVAL, "a tensor needs a dtype of enum skate_dtype, 0 to %d "
                        "dimensions that are not negative, and fit into memory", SKATE_DIMS_MAX);
    if (n > 0 && !t->data) return err_fail(err, -SKATE_EINVAL, "a tensor has no data");
    used = 8 + 8 * (size_t)t->ndim;
    head = (used + 63) & ~(size_t)63;
    if (!(p = plain_room(o, head))) return -SKATE_ENOMEM;
    memset(p, 0, head);
    memcpy(p, &t->dtype, 4);
    memcpy(p + 4, &t->ndim, 4);
    memcpy(p + 8, t->shape, 8 * (size_t)t->ndim);
    o->parts[0] = (struct core_part){p, head, 64};
    o->parts[1] = (struct core_part){t->data, (uint64_t)n * skate_dtype_size(t->dtype), 64};
    o->v.format = FORMAT_TENSOR;
    o->v.part_count = 2;
    o->v.parts = o->parts;
    return 0;
}

static int put_blob(struct plain_out *o, const skate_value *v, uint8_t format,
                    struct skate_error *err) {
    if (v->as.s.size && !v->as.s.data)
        return err_fail(err, -SKATE_EINVAL, "a %s of %zu bytes has no data", kind_name(v->kind),
                        v->as.s.size);
    o->parts[0] = (struct core_part){v->as.s.data, v->as.s.size, format == FORMAT_RAW ? 8 : 64};
    o->v.format = format;
    o->v.part_count = 1;
    o->v.parts = o->parts;
    if (v->kind == SKATE_OPAQUE) { /* its bytes may name objects: those live as long as it does */
        struct skate_id source = plain_source(v);

        if (id_is_nil(&source)) return 0;
        o->refs[0] = source;
        o->v.ref_count = 1;
        o->v.refs = o->refs;
    }
    return 0;
}

int plain_encode(struct plain_out *o, const skate_value *v, struct skate_error *err) {
    int r;

    switch (v->kind) {
    case SKATE_BYTES: return put_blob(o, v, FORMAT_RAW, err);
    case SKATE_ARROW: return put_blob(o, v, FORMAT_ARROW, err);
    case SKATE_OPAQUE: return put_blob(o, v, FORMAT_PICKLE5, err);
    case SKATE_TENSOR: return put_tensor(o, v, err);
    default: break;
    }
    r = put(o, v, PLAIN_DEPTH, err);
    if (r == 0) plain_close(o);
    return explain(r, err);
}

int plain_pack(struct plain_out *o, const skate_value *v) {
    struct skate_error err = {{0}};
    uint8_t *p = plain_room(o, 64);

    if (!p) return -SKATE_ENOMEM;
    memset(p, 0, 64);
    p[0] = FORMAT_MSGPACK;
    o->any_text = true; /* paths of this machine */
    return plain_encode(o, v, &err);
}

/* ---- arguments ---- */

static bool goes_apart(const skate_value *v) {
    switch (v->kind) {
    case SKATE_TENSOR:
    case SKATE_ARROW:
    case SKATE_OPAQUE: return true;
    case SKATE_STR:
    case SKATE_BYTES: return v->as.s.size >= PLAIN_APART;
    default: return false;
    }
}

static int put_apart(struct plain_out *o, struct core *c, const skate_value *v,
                     struct skate_id *ret, struct skate_error *err) {
    struct plain_out one;
    int r;

    plain_out_init(&one);
    r = plain_encode(&one, v, err);
    do {
        if (r == 0 || r == -SKATE_EINTR) r = core_room_for(c, core_put(c, &one.v, ret, err), err);
    } while (r == -SKATE_EINTR);
    plain_out_release(&one, c);
    if (r < 0) return r;
    r = push_id(&o->puts, &o->put_cap, o->put_count, NULL, ret);
    if (r < 0) return core_ref_drop(c, ret), r;
    o->put_count++;
    return 0;
}

static int put_arg(struct plain_out *o, struct core *c, const skate_value *v,
                   struct skate_error *err) {
    struct skate_id id = {0, 0};
    uint8_t *p;
    int r;

    if (v->kind == SKATE_OPAQUE) id = plain_source(v); /* its object itself, if that is known */
    if (v->kind == SKATE_REF) id = id_of(v);
    if (id_is_nil(&id) || id_index(&id) == SKATE_INDEX_TASK) {
        if (!goes_apart(v)) return put(o, v, PLAIN_DEPTH, err);
        if ((r = put_apart(o, c, v, &id, err)) < 0) return r;
    }
    r = push_id(&o->deps, &o->dep_cap, o->dep_count, o->deps_fixed, &id);
    if (r < 0) return r;
    if (!(p = plain_room(o, 6))) return -SKATE_ENOMEM;
    p[0] = 0xd6;
    p[1] = 2;
    big32(p + 2, o->dep_count++);
    return 0;
}

int plain_encode_args(struct plain_out *o, struct core *c, const skate_value *args, size_t count,
                      struct skate_error *err) {
    int r;

    if (count && !args)
        return err_fail(err, -SKATE_EINVAL, "%zu arguments, but args is NULL", count);
    r = put_head(o, 0x90, 16, 0xdd, count);
    for (size_t i = 0; !r && i < count; i++) {
        if (args[i].kind <= SKATE_FLOAT && o->cap - o->len >= SCALAR_MAX)
            o->len += write_scalar(o->out + o->len, &args[i]);
        else
            r = put_arg(o, c, &args[i], err);
    }
    if (r == 0) plain_close(o);
    return explain(r, err);
}

int plain_append_array(struct plain_out *o, const skate_value *items, size_t count,
                       struct skate_error *err) {
    uint32_t refs = o->v.ref_count;
    int r;

    if (count && !items)
        return err_fail(err, -SKATE_EINVAL, "%zu arguments, but args is NULL", count);
    r = put_head(o, 0x90, 16, 0xdd, count);
    for (size_t i = 0; !r && i < count; i++) r = put(o, &items[i], PLAIN_DEPTH, err);
    if (r == 0 && o->v.ref_count != refs)
        return err_fail(err, -SKATE_ETYPE, "the arguments of a batch hold no refs");
    return explain(r, err);
}
