/* fuzz_value.c - plain values, tensors and arguments as another process may have written them (its
 * MSGPACK, slots, refs, actors), and as it may change them while they are read: between the two
 * passes of the reader some bytes are others. What comes out leads to nowhere outside; every ref
 * that was counted is given back. */
#include "fuzz.h"

static void *scribbling_malloc(size_t n);
#define malloc scribbling_malloc
#include "../../src/api/plain_in.c"
#undef malloc

#include "core/core_room.h"

static int64_t counted;
static uint64_t sum;
static struct { /* what malloc() changes, as the writer of shared memory could */
    uint8_t *p;
    size_t len;
    struct fuzz_in *in;
} shared;

static void *scribbling_malloc(size_t n) {
    if (shared.in)
        for (uint32_t k = fuzz_below(shared.in, 3); k > 0 && shared.len; k--)
            shared.p[fuzz_bytes(shared.in, 2) % shared.len] ^= (uint8_t)fuzz_bytes(shared.in, 1);
    return malloc(n);
}

void core_ref_add(struct core *c, const struct skate_id *id) {
    (void)c;
    sum += id->seq;
    counted++;
}
void core_ref_drop(struct core *c, const struct skate_id *id) {
    (void)c, (void)id;
    counted--;
}
void core_unpin(struct core *c, uint64_t pin) { (void)c, (void)pin; }
int core_room_for(struct core *c, int r, struct skate_error *err) {
    (void)c, (void)err;
    return r;
}
int core_put(struct core *c, const struct core_value *v, struct skate_id *ret,
             struct skate_error *err) {
    (void)c, (void)v, (void)ret, (void)err;
    return -SKATE_EFULL;
}

static void touch(const void *p, size_t n) {
    for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
}

static void walk(const skate_value *v, int depth) {
    if (depth > 2 * PLAIN_DEPTH + 4) abort(); /* arguments, and values in their slots */
    switch (v->kind) {
    case SKATE_STR:
        if (v->as.s.data[v->as.s.size]) abort(); /* the 0 behind it */
        touch(v->as.s.data, v->as.s.size);
        break;
    case SKATE_BYTES:
    case SKATE_ARROW:
    case SKATE_OPAQUE: touch(v->as.s.data, v->as.s.size); break;
    case SKATE_LIST:
        for (size_t i = 0; i < v->as.list.count; i++) walk(&v->as.list.items[i], depth + 1);
        break;
    case SKATE_MAP:
        for (size_t i = 0; i < 2 * v->as.list.count; i++) walk(&v->as.list.items[i], depth + 1);
        break;
    case SKATE_TENSOR:
        touch(v->as.tensor->data, (size_t)skate_tensor_elements(v->as.tensor) *
                                      skate_dtype_size(v->as.tensor->dtype));
        break;
    default: sum += (uint64_t)v->as.i;
    }
}

/* Bytes of a value: codes that mean something, with counts that do and do not fit. */
static size_t make(struct fuzz_in *in, uint8_t *out, size_t cap) {
    static const uint8_t codes[] = {0xc0, 0xc2, 0xc6, 0xc7, 0xc9, 0xcb, 0xd2, 0xd3, 0xd6,
                                    0xd8, 0xdb, 0xdd, 0xdf, 0x91, 0x93, 0x81, 0xa3, 0x05};
    static const uint8_t slot[] = {0xd6, 2, 0, 0, 0}, ref[] = {0xd8, 3}, actor[] = {0xc7, 24, 4},
                         tuple[] = {0xc9, 0, 0, 0, 3, 1, 0x92};
    size_t n = 0;

    while (in->left && n + 40 < cap) {
        uint32_t k = fuzz_below(in, 8);
        const uint8_t *p = k == 0 ? slot : k == 1 ? ref : k == 2 ? actor : tuple;
        size_t len = k == 0 ? sizeof slot : k == 1 ? sizeof ref : k == 2 ? sizeof actor
                                                                         : sizeof tuple;

        if (k > 5)
            out[n++] = (uint8_t)fuzz_bytes(in, 1);
        else if (k > 3) {
            out[n++] = codes[fuzz_below(in, sizeof codes)];
            if (fuzz_below(in, 2)) {
                memset(out + n, 0, 3);
                out[n + 3] = (uint8_t)fuzz_below(in, 6);
                n += 4;
            }
        } else {
            memcpy(out + n, p, len);
            n += len;
            for (uint32_t i = k == 0 ? 1 : k < 3 ? 24 : 0; i > 0; i--)
                out[n++] = (uint8_t)fuzz_below(in, 3);
        }
    }
    return n;
}

/* Exactly as long as it is, at 64. */
static struct core_view lay(struct fuzz_in *in, uint8_t **ret) {
    static const uint8_t formats[] = {FORMAT_RAW, FORMAT_MSGPACK, FORMAT_MSGPACK, FORMAT_MSGPACK,
                                      FORMAT_PICKLE5, FORMAT_TENSOR, FORMAT_ARROW, 9};
    struct core_view v = {.format = formats[fuzz_below(in, 8)], .pin = fuzz_below(in, 2)};
    uint8_t room[2048];
    struct fuzz_in part = *in;

    part.left = fuzz_below(in, 4) ? in->left / 2 : in->left < 24 ? in->left : 24;
    in->p += part.left;
    in->left -= part.left;
    if (v.format == FORMAT_TENSOR && fuzz_below(&part, 8)) {
        uint32_t head[2] = {fuzz_below(&part, 16), fuzz_below(&part, 4)};

        memset(room, 0, sizeof room);
        memcpy(room, head, sizeof head);
        for (uint32_t i = 0; i < head[1]; i++) {
            uint64_t side = fuzz_below(&part, 8) ? fuzz_below(&part, 5) : fuzz_word(&part);

            memcpy(room + 8 + 8 * i, &side, 8);
        }
        v.size = fuzz_below(&part, 200);
    } else
        v.size = make(&part, room, sizeof room);
    *ret = aligned_alloc(64, (v.size + 127) & ~UINT64_C(63));
    if (!*ret) (abort)();
    if (v.format == FORMAT_TENSOR || v.pin) { /* the end is at the end of memory */
        free(*ret);
        *ret = malloc(v.size ? v.size : 1);
    }
    memcpy(*ret, room, v.size);
    v.data = *ret;
    return v;
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};
    struct skate_id id = {5, 0x10001};
    struct plain_args a = {0};
    struct core_view views[3];
    uint8_t *memory[3];
    skate_value v;

    for (int i = 0; i < 3; i++) views[i] = lay(&in, &memory[i]);
    shared.p = memory[0];
    shared.len = (size_t)views[0].size;
    shared.in = fuzz_below(&in, 2) ? &in : NULL;
    if (plain_decode(NULL, &views[0], fuzz_below(&in, 2) ? &id : NULL, &v) == 0) {
        walk(&v, 0);
        sum += plain_source(&v).seq;
        plain_release(NULL, &v);
    }
    if (counted) abort();
    for (int i = 0; i < 3; i++) views[i].pin = 0;
    if (plain_args_open(&a, NULL, &views[0], views + 1, fuzz_below(&in, 3)) == 0)
        for (uint32_t i = 0; i < a.count; i++) walk(&a.v[i], 0);
    plain_args_close(&a, NULL);
    plain_args_free(&a);
    if (counted) abort();
    shared.in = NULL;
    for (int i = 0; i < 3; i++) free(memory[i]);
    return 0;
}
