/* Values of C: what is written is read back, what is broken is refused, nothing leaks. The four
 * functions of the core that it needs are counters here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/plain.h"
#include "core/core_room.h"
#include "wire/frame.h"

static int counted, unpinned, stored;

void core_ref_add(struct core *c, const struct skate_id *id) {
    (void)c, (void)id;
    counted++;
}
void core_ref_drop(struct core *c, const struct skate_id *id) {
    (void)c, (void)id;
    counted--;
}
void core_unpin(struct core *c, uint64_t pin) {
    (void)c, (void)pin;
    unpinned++;
}
int core_room_for(struct core *c, int r, struct skate_error *err) {
    (void)c;
    (void)err;
    return r;
}
int core_put(struct core *c, const struct core_value *v, struct skate_id *ret,
             struct skate_error *err) {
    (void)c, (void)v, (void)err;
    *ret = (struct skate_id){9, (uint64_t)++stored};
    counted++;
    return 0;
}

/* The bytes of a value as they lie in the store; malloc'd, 64-byte aligned. */
static void *lay(const struct plain_out *o, struct core_view *ret) {
    uint64_t size = plain_size(o), at = 0;
    uint8_t *p = aligned_alloc(64, (size + 64) & ~UINT64_C(63));

    for (uint32_t i = 0; i < o->v.part_count; i++) {
        uint64_t align = o->v.parts[i].align;

        at = (at + align - 1) & ~(align - 1);
        if (o->v.parts[i].size) memcpy(p + at, o->v.parts[i].data, o->v.parts[i].size);
        at += o->v.parts[i].size;
    }
    *ret = (struct core_view){.data = p, .size = size, .format = o->v.format};
    return p;
}

static int again(const skate_value *v, uint64_t pin, skate_value *ret, void **bytes) {
    struct skate_error err = {{0}};
    struct core_view view;
    struct plain_out o;
    int r;

    plain_out_init(&o);
    r = plain_encode(&o, v, &err);
    if (r < 0) {
        assert_true(err.text[0]);
        plain_out_release(&o, NULL);
        return r;
    }
    *bytes = lay(&o, &view);
    plain_out_release(&o, NULL);
    view.pin = pin;
    r = plain_decode(NULL, &view, NULL, ret);
    assert_int_equal(r, 0);
    return 0;
}

static void scalars(void **state) {
    static const int64_t ints[] = {0,         -32,       -33,       127,      128,
                                   INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    skate_value v, ret;
    void *bytes;

    (void)state;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        v = skate_int(ints[i]);
        assert_int_equal(again(&v, 0, &ret, &bytes), 0);
        assert_int_equal(ret.kind, SKATE_INT);
        assert_true(ret.as.i == ints[i]);
        assert_int_equal(ret.owned, 0);
        free(bytes);
    }
    v = skate_float(-0.5);
    assert_int_equal(again(&v, 7, &ret, &bytes), 0);
    assert_true(ret.kind == SKATE_FLOAT && ret.as.f == -0.5 && ret.owned == 0);
    assert_int_equal(unpinned, 1); /* a number does not keep its bytes */
    free(bytes);
    v = skate_bool(true);
    assert_int_equal(again(&v, 0, &ret, &bytes), 0);
    assert_true(ret.kind == SKATE_BOOL && ret.as.b);
    free(bytes);
    v = skate_nil();
    assert_int_equal(again(&v, 0, &ret, &bytes), 0);
    assert_int_equal(ret.kind, SKATE_NIL);
    free(bytes);
}

static void texts(void **state) {
    char text[5000];
    skate_value v = skate_str("h\xc3\xa9"), ret;
    void *bytes;

    (void)state;
    assert_int_equal(again(&v, 0, &ret, &bytes), 0);
    free(bytes); /* the copy has a 0 behind it and outlives the bytes */
    assert_string_equal(ret.as.s.data, "h\xc3\xa9");
    assert_int_equal(ret.as.s.size, 3);
    plain_release(NULL, &ret);
    plain_release(NULL, &ret);
    memset(text, 'x', sizeof text);
    v = skate_bytes(text, sizeof text);
    unpinned = 0;
    assert_int_equal(again(&v, 3, &ret, &bytes), 0);
    assert_true(ret.as.s.data == bytes && ret.as.s.size == sizeof text); /* no copy */
    plain_release(NULL, &ret);
    assert_int_equal(unpinned, 1);
    free(bytes);
    v = skate_bytes(text, 10);
    assert_int_equal(again(&v, 0, &ret, &bytes), 0);
    assert_true(ret.as.s.data != bytes && ret.as.s.size == 10);
    plain_release(NULL, &ret);
    free(bytes);
}

static void trees(void **state) {
    skate_value inner[3] = {skate_int(1), skate_str("two"), skate_of_ref((skate_ref){{5, 6}})};
    skate_value pairs[4] = {skate_str("a"), skate_list(inner, 3), skate_int(7), skate_nil()};
    skate_value v = skate_map(pairs, 2), ret;
    const skate_value *a;
    void *bytes;

    (void)state;
    counted = 0;
    assert_int_equal(again(&v, 0, &ret, &bytes), 0);
    free(bytes);
    assert_int_equal(counted, 1);
    a = skate_map_find(&ret, "a");
    assert_non_null(a);
    assert_null(skate_map_find(&ret, "b"));
    assert_int_equal(a->as.list.count, 3);
    assert_string_equal(a->as.list.items[1].as.s.data, "two");
    assert_true(a->as.list.items[2].as.ref.id[1] == 6);
    plain_release(NULL, &ret);
    assert_int_equal(counted, 0);
    assert_int_equal(ret.kind, SKATE_NIL);
}

static void tensors(void **state) {
    double data[6] = {1, 2, 3, 4, 5, 6};
    skate_tensor t = {.data = data, .dtype = SKATE_F64, .ndim = 2, .shape = {2, 3}};
    skate_value v = skate_of_tensor(&t), ret;
    void *bytes;

    (void)state;
    for (uint64_t pin = 0; pin < 2; pin++) {
        assert_int_equal(again(&v, pin, &ret, &bytes), 0);
        if (!pin) memset(bytes, 0, 64 + sizeof data); /* a copy */
        assert_int_equal(ret.kind, SKATE_TENSOR);
        assert_int_equal(ret.as.tensor->shape[1], 3);
        assert_int_equal((uintptr_t)ret.as.tensor->data & 63, 0);
        assert_memory_equal(ret.as.tensor->data, data, sizeof data);
        plain_release(NULL, &ret);
        free(bytes);
    }
    t.shape[0] = INT64_MAX / 2;
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    t.shape[0] = -1;
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    t.dtype = 99;
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    t = (skate_tensor){.dtype = SKATE_U8, .ndim = 3, .shape = {0, 1, INT64_MAX}};
    assert_int_equal(skate_tensor_elements(&t), 0);
}

static void refusals(void **state) {
    skate_tensor t = {.dtype = SKATE_U8};
    skate_value deep[60], v, ret, pair[2] = {skate_float(1), skate_nil()};
    void *bytes;

    (void)state;
    deep[0] = skate_int(1);
    for (int i = 1; i < 60; i++) deep[i] = skate_list(&deep[i - 1], 1);
    assert_int_equal(again(&deep[PLAIN_DEPTH], 0, &ret, &bytes), 0);
    plain_release(NULL, &ret);
    free(bytes);
    assert_int_equal(again(&deep[PLAIN_DEPTH + 1], 0, &ret, &bytes), -SKATE_EINVAL);
    v = skate_of_tensor(&t);
    deep[1] = skate_list(&v, 1);
    assert_int_equal(again(&deep[1], 0, &ret, &bytes), -SKATE_ETYPE);
    v = skate_map(pair, 1);
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_ETYPE);
    v = skate_nil();
    v.kind = 77;
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    v = skate_of_ref((skate_ref){{0, 0}});
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    pair[0] = skate_str("caf\xe9"); /* as a key, in a list, alone: Python could not read it */
    v = skate_map(pair, 1);
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    v = skate_list(pair, 1);
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
    assert_int_equal(again(&pair[0], 0, &ret, &bytes), -SKATE_EINVAL);
    v = skate_str("x");
    v.as.s.data = NULL;
    assert_int_equal(again(&v, 0, &ret, &bytes), -SKATE_EINVAL);
}

static void arguments(void **state) {
    static char large[PLAIN_APART];
    double one = 1;
    skate_tensor t = {.data = &one, .dtype = SKATE_F64};
    skate_value in[5] = {skate_int(1), skate_of_ref((skate_ref){{5, 6}}), skate_of_tensor(&t),
                         skate_bytes(large, sizeof large), skate_str("end")};
    struct skate_error err = {{0}};
    struct core_view view, deps[3];
    struct plain_args a = {0};
    struct plain_out o, dep;
    void *bytes, *tensor;

    (void)state;
    counted = stored = 0;
    plain_out_init(&o);
    plain_out_init(&dep);
    assert_int_equal(plain_encode_args(&o, NULL, in, 5, &err), 0);
    assert_int_equal(o.dep_count, 3);
    assert_int_equal(o.put_count, 2);
    bytes = lay(&o, &view);
    assert_int_equal(plain_encode(&dep, &in[2], &err), 0);
    tensor = lay(&dep, &deps[1]);
    deps[0] = (struct core_view){.data = "\xa2hi", .size = 3, .format = FORMAT_MSGPACK};
    deps[2] = (struct core_view){.data = large, .size = sizeof large, .format = FORMAT_RAW};
    for (int i = 0; i < 2; i++) { /* the second time in the same memory */
        assert_int_equal(plain_args_open(&a, NULL, &view, deps, 3), 0);
        assert_int_equal(a.count, 5);
        assert_string_equal(a.v[1].as.s.data, "hi");
        assert_int_equal(a.v[2].kind, SKATE_TENSOR);
        assert_true(a.v[3].as.s.data == large);
        assert_string_equal(a.v[4].as.s.data, "end");
        plain_args_close(&a, NULL);
    }
    assert_int_equal(plain_args_open(&a, NULL, &view, deps, 2), -SKATE_EPROTO);
    view.format = FORMAT_PICKLE5;
    assert_int_equal(plain_args_open(&a, NULL, &view, deps, 3), -SKATE_ETYPE);
    plain_args_free(&a);
    plain_out_release(&o, NULL);
    plain_out_release(&dep, NULL);
    assert_int_equal(counted, 0);
    free(bytes);
    free(tensor);
}

static uint32_t next(uint32_t *x) { return *x = *x * 1664525 + 1013904223; }

/* Any bytes give a value or an error, and nothing is left over. */
static void hostile(void **state) {
    static const uint8_t codes[] = {0xc0, 0x92, 0x9f, 0x81, 0xa3, 0xbf, 0xc6, 0xdb, 0xdd, 0xdf,
                                    0xc9, 0xd6, 0xd8, 0xd2, 0xcb, 0x00, 0x01, 0x03, 0x02, 0xff};
    struct plain_args a = {0};
    uint32_t x = 4711, good = 0;

    (void)state;
    counted = 0;
    for (int round = 0; round < 60000; round++) {
        size_t n = next(&x) >> 26;
        uint8_t *p = malloc(n ? n : 1);
        uint8_t format = (uint8_t)(1 + (next(&x) >> 16) % 6);
        struct core_view view = {.data = p, .size = n, .format = format};
        struct core_view dep = {.data = p, .size = n, .format = FORMAT_MSGPACK};
        skate_value ret = skate_nil();
        int r;

        for (size_t i = 0; i < n; i++) {
            uint32_t k = next(&x) >> 8;

            p[i] = k % 4 ? codes[(k >> 4) % sizeof codes] : (uint8_t)(k >> 12);
        }
        if (view.format == FORMAT_TENSOR && n > 8) memset(p + 1, 0, 3), memset(p + 5, 0, 3);
        r = plain_decode(NULL, &view, &(struct skate_id){1, 1}, &ret);
        assert_true(r == 0 || r == -SKATE_EPROTO);
        good += r == 0;
        plain_release(NULL, &ret);
        view.format = FORMAT_MSGPACK;
        r = plain_args_open(&a, NULL, &view, &dep, 1);
        assert_true(r == 0 || r == -SKATE_EPROTO);
        plain_args_close(&a, NULL);
        free(p);
    }
    plain_args_free(&a);
    assert_int_equal(counted, 0);
    assert_true(good > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),  cmocka_unit_test(texts),     cmocka_unit_test(trees),
        cmocka_unit_test(tensors),  cmocka_unit_test(refusals),  cmocka_unit_test(arguments),
        cmocka_unit_test(hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
