/* plain_in.c - values of the core to skate_values; see plain.h.
 *
 * Two passes over the bytes: the first says how much memory the value takes, the second fills it.
 * Both check everything: bytes in the arena belong to their writer, who might change them between.
 * Strings are copied (they get a 0 behind them); other bytes stay where they lie if they stay. */
#include "api/plain.h"

#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

struct in {
    const uint8_t *p, *end;
    const struct core_view *deps; /* NULL: no slots here */
    uint32_t dep_count;
    bool keep; /* the bytes that are read outlive the value */
    bool build, refs;
    size_t nodes, bytes; /* first pass: so many are needed; second: so many are left */
    skate_value *node;
    uint8_t *byte;
};

/* What a value holds: this, `nodes` values, bytes. */
struct hold {
    uint64_t nodes;
    struct skate_id source;
    uint64_t pad;
};
_Static_assert(sizeof(struct hold) % _Alignof(skate_value) == 0, "nodes follow it");

/* ---- memory ---- */

/* Room for n nodes: true, and *ret in the second pass. */
static bool take_nodes(struct in *in, size_t n, skate_value **ret) {
    *ret = NULL;
    if (!in->build) {
        in->nodes += n;
        return true;
    }
    if (n > in->nodes) return false;
    *ret = in->node;
    in->node += n;
    in->nodes -= n;
    return true;
}

static bool take_bytes(struct in *in, size_t n, size_t align, uint8_t **ret) {
    size_t pad = (size_t)(-(uintptr_t)in->byte) & (align - 1);

    *ret = NULL;
    if (!in->build) {
        in->bytes += n + align - 1;
        return true;
    }
    if (n + pad > in->bytes) return false;
    *ret = in->byte + pad;
    in->byte += n + pad;
    in->bytes -= n + pad;
    return true;
}

/* ---- MSGPACK ---- */

static int take(struct in *in, skate_value *out, int depth);

static bool has(const struct in *in, size_t n) { return (size_t)(in->end - in->p) >= n; }

static uint64_t big(struct in *in, int n) {
    uint64_t v = 0;

    while (n-- > 0) v = v << 8 | *in->p++;
    return v;
}

/* n bytes at `from`: where they are, or a copy; with a 0 behind them if text. */
static int take_block(struct in *in, const uint8_t *from, size_t n, bool text, skate_value *out) {
    uint8_t *copy;

    out->kind = text ? SKATE_STR : SKATE_BYTES;
    out->as.s.size = n;
    out->as.s.data = (const char *)from;
    if (!text && in->keep) return 0;
    if (!take_bytes(in, n + 1, 1, &copy)) return -SKATE_EPROTO;
    if (!copy) return 0;
    memcpy(copy, from, n);
    copy[n] = 0;
    out->as.s.data = (const char *)copy;
    return 0;
}

static int take_string(struct in *in, size_t n, bool text, skate_value *out) {
    const uint8_t *from = in->p;

    if (!has(in, n)) return -SKATE_EPROTO;
    in->p += n;
    return take_block(in, from, n, text, out);
}

static int take_items(struct in *in, size_t n, bool map, skate_value *out, int depth) {
    size_t count = map ? 2 * n : n;
    skate_value *items, unused;
    int r = 0;

    if (!has(in, count) || depth == 0 || !take_nodes(in, count, &items)) return -SKATE_EPROTO;
    out->kind = map ? SKATE_MAP : SKATE_LIST;
    out->as.list.items = items;
    out->as.list.count = n;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = take(in, items ? &items[i] : &unused, depth - 1);
    return r;
}

/* The count in an array's head, or SIZE_MAX. */
static size_t array_count(struct in *in) {
    uint8_t c;

    if (!has(in, 1)) return SIZE_MAX;
    c = *in->p++;
    if ((c & 0xf0) == 0x90) return c & 0x0f;
    if (c != 0xdd || !has(in, 4)) return SIZE_MAX;
    return (size_t)big(in, 4);
}

static int take_tuple(struct in *in, skate_value *out, int depth) {
    size_t n;

    if (!has(in, 5)) return -SKATE_EPROTO;
    in->p += 4; /* the length is for other readers */
    if (*in->p++ != 1) return -SKATE_EPROTO;
    n = array_count(in);
    return n == SIZE_MAX ? -SKATE_EPROTO : take_items(in, n, false, out, depth);
}

static int take_view(struct in *in, const struct core_view *view, skate_value *out);

/* The value of a dependency in the place of its slot. */
static int take_slot(struct in *in, skate_value *out) {
    struct in inner;
    uint32_t index;
    int r;

    if (!has(in, 5) || *in->p++ != 2) return -SKATE_EPROTO;
    index = (uint32_t)big(in, 4);
    if (!in->deps || index >= in->dep_count) return -SKATE_EPROTO;
    inner = *in;
    inner.deps = NULL;
    r = take_view(&inner, &in->deps[index], out);
    inner.p = in->p;
    inner.end = in->end;
    inner.deps = in->deps;
    *in = inner;
    return r;
}

static int take_ref(struct in *in, skate_value *out) {
    if (!has(in, 17) || *in->p++ != 3) return -SKATE_EPROTO;
    out->kind = SKATE_REF;
    memcpy(out->as.ref.id, in->p, 16);
    if (!(out->as.ref.id[1] & 0xffff)) return -SKATE_EPROTO; /* no object */
    in->p += 16;
    in->refs = true;
    return 0;
}

/* An actor: its id, and which of its process. */
static int take_actor(struct in *in, skate_value *out) {
    if (!has(in, 26) || in->p[0] != 24 || in->p[1] != 4) return -SKATE_EPROTO;
    memcpy(out->as.ref.id, in->p + 2, 16);
    if (out->as.ref.id[1] & 0xffff || !out->as.ref.id[1]) return -SKATE_EPROTO;
    in->p += 18;
    out->kind = SKATE_REF;
    out->pin = big(in, 8);
    in->refs = true;
    return 0;
}

static int take_number(struct in *in, uint8_t c, skate_value *out) {
    size_t n = c == 0xd2 ? 4 : 8;
    uint64_t bits;

    if (!has(in, n)) return -SKATE_EPROTO;
    bits = big(in, (int)n);
    out->kind = c == 0xcb ? SKATE_FLOAT : SKATE_INT;
    if (c == 0xcb)
        memcpy(&out->as.f, &bits, 8);
    else
        out->as.i = c == 0xd2 ? (int32_t)(uint32_t)bits : (int64_t)bits;
    return 0;
}

/* Codes with a 32-bit count behind them. */
static int take_wide(struct in *in, uint8_t c, skate_value *out, int depth) {
    size_t n;

    if (!has(in, 4)) return -SKATE_EPROTO;
    n = (size_t)big(in, 4);
    if (c == 0xc6 || c == 0xdb) return take_string(in, n, c == 0xdb, out);
    return take_items(in, n, c == 0xdf, out, depth);
}

static int take(struct in *in, skate_value *out, int depth) {
    uint8_t c;

    memset(out, 0, sizeof *out);
    if (!has(in, 1)) return -SKATE_EPROTO;
    c = *in->p++;
    if (c <= 0x7f || c >= 0xe0) {
        out->kind = SKATE_INT;
        out->as.i = (int8_t)c;
        return 0;
    }
    if (c <= 0x8f) return take_items(in, c & 0x0f, true, out, depth);
    if (c <= 0x9f) return take_items(in, c & 0x0f, false, out, depth);
    if (c <= 0xbf) return take_string(in, c & 0x1f, true, out);
    switch (c) {
    case 0xc0: return 0;
    case 0xc2:
    case 0xc3:
        out->kind = SKATE_BOOL;
        out->as.b = c == 0xc3;
        return 0;
    case 0xd2:
    case 0xd3:
    case 0xcb: return take_number(in, c, out);
    case 0xc7: return take_actor(in, out);
    case 0xc9: return take_tuple(in, out, depth);
    case 0xd6: return take_slot(in, out);
    case 0xd8: return take_ref(in, out);
    case 0xc6:
    case 0xdb:
    case 0xdd:
    case 0xdf: return take_wide(in, c, out, depth);
    default: return -SKATE_EPROTO;
    }
}

/* ---- the other forms ---- */

static int take_tensor(struct in *in, const struct core_view *view, skate_value *out) {
    const uint8_t *p = view->data, *data;
    skate_tensor t = {0};
    uint64_t head, bytes;
    uint8_t *room, *copy;
    int64_t n;

    if (view->size < 8) return -SKATE_EPROTO;
    memcpy(&t.dtype, p, 4);
    memcpy(&t.ndim, p + 4, 4);
    if (t.ndim > SKATE_DIMS_MAX) return -SKATE_EPROTO;
    head = (8 + 8 * (uint64_t)t.ndim + 63) & ~UINT64_C(63);
    if (head > view->size) return -SKATE_EPROTO;
    memcpy(t.shape, p + 8, 8 * (size_t)t.ndim);
    n = skate_tensor_elements(&t);
    if (n < 0) return -SKATE_EPROTO;
    bytes = (uint64_t)n * skate_dtype_size(t.dtype);
    if (bytes > view->size - head) return -SKATE_EPROTO;
    data = p + head;
    if (!in->keep || ((uintptr_t)data & 63)) {
        if (!take_bytes(in, bytes, 64, &copy)) return -SKATE_EPROTO;
        if (copy) memcpy(copy, data, bytes);
        data = copy;
    }
    t.data = data;
    if (!take_bytes(in, sizeof t, _Alignof(skate_tensor), &room)) return -SKATE_EPROTO;
    if (room) memcpy(room, &t, sizeof t);
    out->kind = SKATE_TENSOR;
    out->as.tensor = (const skate_tensor *)(const void *)room;
    return 0;
}

static int take_blob(struct in *in, const struct core_view *view, uint32_t kind,
                     skate_value *out) {
    uint8_t *copy;

    out->kind = kind;
    out->as.s.data = view->data;
    out->as.s.size = view->size;
    if (in->keep) return 0;
    if (!take_bytes(in, view->size, 64, &copy)) return -SKATE_EPROTO;
    if (copy) memcpy(copy, view->data, view->size);
    out->as.s.data = (const char *)copy;
    return 0;
}

static int take_view(struct in *in, const struct core_view *view, skate_value *out) {
    memset(out, 0, sizeof *out);
    switch (view->format) {
    case FORMAT_RAW: return take_block(in, view->data, view->size, false, out);
    case FORMAT_MSGPACK:
        in->p = view->data;
        in->end = in->p + view->size;
        return take(in, out, PLAIN_DEPTH + 2);
    case FORMAT_TENSOR: return take_tensor(in, view, out);
    case FORMAT_ARROW: return take_blob(in, view, SKATE_ARROW, out);
    case FORMAT_PICKLE5: return take_blob(in, view, SKATE_OPAQUE, out);
    default: return -SKATE_EPROTO;
    }
}

/* ---- one value ---- */

static void count_refs(struct core *c, const skate_value *v, size_t n, bool add) {
    for (size_t i = 0; i < n; i++) {
        struct skate_id id = {v[i].as.ref.id[0], v[i].as.ref.id[1]};

        if (v[i].kind != SKATE_REF) continue;
        if (add)
            core_ref_add(c, &id);
        else
            core_ref_drop(c, &id);
    }
}

static skate_value *nodes_of(struct hold *h) { return (skate_value *)(void *)(h + 1); }

/* The second pass into memory for what the first has asked for. */
static int build(struct core *c, struct in *in, const struct core_view *view,
                 const struct skate_id *id, skate_value *ret) {
    bool opaque = view->format == FORMAT_PICKLE5 && id;
    struct hold *h = NULL;
    size_t nodes = in->nodes;
    int r;

    if (nodes || in->bytes || opaque) {
        if (nodes > SIZE_MAX / 2 / sizeof(skate_value)) return -SKATE_ENOMEM;
        h = malloc(sizeof *h + nodes * sizeof(skate_value) + in->bytes);
        if (!h) return -SKATE_ENOMEM;
        *h = (struct hold){.nodes = nodes};
        in->node = nodes_of(h);
        in->byte = (uint8_t *)(in->node + nodes);
    }
    in->build = true;
    in->refs = false;
    r = take_view(in, view, ret);
    if (r < 0 || in->nodes) return free(h), r < 0 ? r : -SKATE_EPROTO;
    ret->hold = h;
    ret->owned = h ? PLAIN_HOLD : 0;
    if (opaque) {
        h->source = *id;
        core_ref_add(c, id);
    }
    if (!in->refs) return 0;
    ret->owned |= PLAIN_COUNTED;
    count_refs(c, ret, 1, true);
    if (h) count_refs(c, nodes_of(h), nodes, true);
    return 0;
}

/* Does the value point into the bytes that were read? */
static bool points_into(const struct core_view *view) {
    const uint8_t *p = view->data;

    if (view->format != FORMAT_MSGPACK) return true;
    return view->size && (p[0] == 0xc6 || (p[0] & 0xe0) == 0x80 || p[0] == 0xc9 || p[0] == 0xdd ||
                          p[0] == 0xdf);
}

/* A number, bool or nil in the caller's own bytes: one pass is enough. */
static bool take_scalar(const struct core_view *view, skate_value *ret) {
    const uint8_t *p = view->data;
    uint64_t wide;
    uint32_t word;

    if (view->format != FORMAT_MSGPACK || view->pin || view->size == 0) return false;
    memset(ret, 0, sizeof *ret);
    ret->kind = SKATE_INT;
    if (view->size == 1 && (p[0] <= 0x7f || p[0] >= 0xe0)) {
        ret->as.i = (int8_t)p[0];
    } else if (view->size == 5 && p[0] == 0xd2) {
        memcpy(&word, p + 1, 4);
        ret->as.i = (int32_t)__builtin_bswap32(word);
    } else if (view->size == 9 && (p[0] == 0xd3 || p[0] == 0xcb)) {
        memcpy(&wide, p + 1, 8);
        ret->kind = p[0] == 0xcb ? SKATE_FLOAT : SKATE_INT;
        ret->as.i = (int64_t)__builtin_bswap64(wide); /* the bits of either */
    } else if (view->size == 1 && (p[0] == 0xc2 || p[0] == 0xc3)) {
        ret->kind = SKATE_BOOL;
        ret->as.b = p[0] == 0xc3;
    } else if (view->size == 1 && p[0] == 0xc0) {
        ret->kind = SKATE_NIL;
    } else {
        return false;
    }
    return true;
}

int plain_decode(struct core *c, const struct core_view *view, const struct skate_id *id,
                 skate_value *ret) {
    struct in in = {.keep = view->pin != 0};
    skate_value v;
    int r;

    if (take_scalar(view, ret)) return 0;
    r = take_view(&in, view, &v);

    if (r == 0) r = build(c, &in, view, id, &v);
    if (r == 0 && view->pin && points_into(view)) {
        v.pin = view->pin;
        v.owned |= PLAIN_PIN;
    } else if (view->pin)
        core_unpin(c, view->pin);
    if (r == 0) *ret = v;
    return r;
}

struct skate_id plain_source(const skate_value *v) {
    const struct hold *h = v->hold;

    if (v->kind != SKATE_OPAQUE || !(v->owned & PLAIN_HOLD) || !h) return (struct skate_id){0, 0};
    return h->source;
}

void plain_release(struct core *c, skate_value *v) {
    struct hold *h = v->owned & PLAIN_HOLD ? v->hold : NULL;

    if (v->owned & PLAIN_COUNTED) {
        count_refs(c, v, 1, false);
        if (h) count_refs(c, nodes_of(h), h->nodes, false);
    }
    if (h && !id_is_nil(&h->source)) core_ref_drop(c, &h->source);
    if (v->owned & PLAIN_PIN) core_unpin(c, v->pin);
    free(h);
    memset(v, 0, sizeof *v);
}

/* ---- arguments ---- */

static int take_args(struct in *in, const struct core_view *args, struct plain_args *a,
                     skate_value **ret) {
    skate_value unused;
    size_t n;
    int r = 0;

    in->p = args->data;
    in->end = in->p + args->size;
    n = array_count(in);
    if (n == SIZE_MAX || !has(in, n)) return -SKATE_EPROTO;
    if (!take_nodes(in, n + 1, ret)) return -SKATE_EPROTO;
    if (*ret) memset(*ret + n, 0, sizeof **ret);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = take(in, *ret ? *ret + i : &unused, PLAIN_DEPTH + 1);
    a->named = r == 0 && in->p < in->end;
    if (a->named) {
        r = take(in, *ret ? *ret + n : &unused, PLAIN_DEPTH + 1);
        if (r == 0 && (*ret ? *ret + n : &unused)->kind != SKATE_MAP) r = -SKATE_EPROTO;
    }
    a->count = (uint32_t)n + a->named;
    return r;
}

/* Up to 15 numbers and nothing else, as most calls have them: in one pass. False: look closer. */
static bool open_numbers(struct plain_args *a, const struct core_view *args) {
    const uint8_t *p = args->data, *end = p + args->size;
    skate_value *v = a->memory;
    size_t n;

    if (args->size == 0 || (*p & 0xf0) != 0x90) return false;
    n = *p++ & 0x0f;
    if (a->cap < (n + 1) * sizeof *v) return false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p < end ? *p++ : 0xc1;
        uint32_t narrow;
        uint64_t wide;

        v[i] = skate_nil();
        v[i].kind = SKATE_INT;
        if (c <= 0x7f || c >= 0xe0) {
            v[i].as.i = (int8_t)c;
        } else if (c == 0xd2 && end - p >= 4) {
            memcpy(&narrow, p, 4);
            v[i].as.i = (int32_t)__builtin_bswap32(narrow);
            p += 4;
        } else if ((c == 0xd3 || c == 0xcb) && end - p >= 8) {
            memcpy(&wide, p, 8);
            v[i].kind = c == 0xcb ? SKATE_FLOAT : SKATE_INT;
            v[i].as.i = (int64_t)__builtin_bswap64(wide); /* of a float: the same bits */
            p += 8;
        } else
            return false;
    }
    if (p != end) return false;
    a->v = v;
    a->nodes = n;
    a->count = (uint32_t)n;
    return true;
}

int plain_args_open(struct plain_args *a, struct core *c, const struct core_view *args,
                    const struct core_view *deps, uint32_t dep_count) {
    static const struct core_view none;
    struct in in = {.keep = true, .deps = dep_count ? deps : &none, .dep_count = dep_count};
    skate_value *v;
    size_t need, nodes;
    int r;

    a->v = NULL;
    a->count = 0;
    a->counted = a->named = false;
    if (args->format != FORMAT_MSGPACK) return -SKATE_ETYPE;
    if (open_numbers(a, args)) return 0;
    r = take_args(&in, args, a, &v);
    if (r < 0) return a->count = 0, r;
    nodes = in.nodes;
    if (nodes > SIZE_MAX / 2 / sizeof(skate_value)) return a->count = 0, -SKATE_ENOMEM;
    need = nodes * sizeof(skate_value) + in.bytes;
    if (need > a->cap) {
        size_t cap = need < 4096 ? 4096 : need;

        free(a->memory);
        a->memory = malloc(cap);
        a->cap = a->memory ? cap : 0;
        if (!a->memory) return a->count = 0, -SKATE_ENOMEM;
    }
    in.node = a->memory;
    in.byte = (uint8_t *)(in.node + nodes);
    in.build = true;
    in.refs = false;
    r = take_args(&in, args, a, &v);
    if (r == 0 && in.nodes) r = -SKATE_EPROTO;
    if (r < 0) return a->count = 0, r;
    a->v = v;
    a->nodes = nodes;
    a->counted = in.refs;
    if (in.refs) count_refs(c, v, nodes, true);
    return 0;
}

void plain_args_close(struct plain_args *a, struct core *c) {
    if (a->counted) count_refs(c, a->v, a->nodes, false);
    a->v = NULL;
    a->count = 0;
    a->counted = false;
    if (a->cap > 1 << 20) plain_args_free(a);
}

void plain_args_free(struct plain_args *a) {
    free(a->memory);
    memset(a, 0, sizeof *a);
}
