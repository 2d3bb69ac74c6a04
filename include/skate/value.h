/* skate/value.h - values: what a put stores, a task takes and gives back, in C.
 *
 * A skate_value is a plain struct that the caller fills or gets filled; the constructors below fill
 * one. Strings, bytes, lists, tensors and Arrow streams in a value are BORROWED by every function
 * that takes one: they must stay until it returns, and are copied (or sent) by then.
 *
 * A value that a function of libskate filled may hold memory or pin bytes of the object store;
 * give it back with skate_release() when done, and do not write to what it points to. Values of
 * skate_arg() are the exception: they are valid until the task or method returns, and are released
 * for you. Releasing a value twice, or one that you filled yourself, does nothing. A ref inside a
 * value that was filled is counted by the value: it ends with it, unless it was copied.
 *
 * The same values in Python: None, bool, int, float, str, bytes, list or tuple, dict, ObjectRef,
 * a numpy array, a pyarrow table. SKATE_OPAQUE is any other Python object: C can pass it on (put
 * it as an argument, return it) but not look inside. Not thread-safe: one thread uses a value at
 * a time. */
#ifndef SKATE_VALUE_H
#define SKATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SKATE_API __attribute__((visibility("default")))

/* The name of an object: who holds a ref can read the object, and keeps it alive. Refs are counted:
 * each that a function gives you is yours and ends with skate_ref_drop(). Plain bytes, may be
 * copied in memory; skate_ref_copy() counts one more. */
typedef struct skate_ref {
    uint64_t id[2]; /* both 0: no ref */
} skate_ref;

enum skate_kind {
    SKATE_NIL = 0,
    SKATE_BOOL = 1,
    SKATE_INT = 2,   /* 64 bits, signed; a larger int of Python is SKATE_OPAQUE */
    SKATE_FLOAT = 3, /* a double */
    SKATE_STR = 4,   /* UTF-8 (others are refused: -SKATE_EINVAL), size bytes; in a value that was
                        read a 0 behind them that is not counted */
    SKATE_BYTES = 5,
    SKATE_LIST = 6, /* count values */
    SKATE_MAP = 7,  /* count pairs: items[2 * i] is a key, items[2 * i + 1] its value */
    SKATE_REF = 8,
    SKATE_TENSOR = 9,
    SKATE_ARROW = 10, /* record batches of one schema: the bytes of an Arrow IPC stream */
    SKATE_OPAQUE = 11
};

/* Element types of tensors. Numbers never change. */
enum skate_dtype {
    SKATE_U8 = 1, SKATE_I8 = 2, SKATE_U16 = 3, SKATE_I16 = 4, SKATE_U32 = 5, SKATE_I32 = 6,
    SKATE_U64 = 7, SKATE_I64 = 8, SKATE_F16 = 9, SKATE_F32 = 10, SKATE_F64 = 11, SKATE_BOOL8 = 12,
    SKATE_C64 = 13, SKATE_C128 = 14, SKATE_BF16 = 15
};

enum { SKATE_DIMS_MAX = 16 };

/* A dense array in C order (last index fastest): shape[0..ndim), element i at data + i * the size
 * of the type. data of a tensor that was read is 64-byte aligned and read-only. */
typedef struct skate_tensor {
    const void *data;
    uint32_t dtype; /* enum skate_dtype */
    uint32_t ndim;  /* 0: one element */
    int64_t shape[SKATE_DIMS_MAX];
} skate_tensor;

typedef struct skate_value {
    uint32_t kind;  /* enum skate_kind */
    uint32_t owned; /* used by libskate; 0 in a value that you fill */
    union {
        bool b;
        int64_t i;
        double f;
        struct {
            const char *data;
            size_t size;
        } s; /* SKATE_STR, SKATE_BYTES, SKATE_ARROW, SKATE_OPAQUE */
        struct {
            const struct skate_value *items;
            size_t count;
        } list; /* SKATE_LIST, SKATE_MAP */
        skate_ref ref;
        const skate_tensor *tensor;
    } as;
    void *hold;   /* used by libskate: memory that the value owns, */
    uint64_t pin; /* and bytes of the store that it keeps readable */
} skate_value;

static inline skate_value skate_nil(void) {
    skate_value v;

    memset(&v, 0, sizeof v);
    return v;
}

static inline skate_value skate_bool(bool b) {
    skate_value v = skate_nil();

    v.kind = SKATE_BOOL;
    v.as.b = b;
    return v;
}

static inline skate_value skate_int(int64_t i) {
    skate_value v = skate_nil();

    v.kind = SKATE_INT;
    v.as.i = i;
    return v;
}

static inline skate_value skate_float(double f) {
    skate_value v = skate_nil();

    v.kind = SKATE_FLOAT;
    v.as.f = f;
    return v;
}

static inline skate_value skate_str(const char *text) {
    skate_value v = skate_nil();

    v.kind = SKATE_STR;
    v.as.s.data = text;
    v.as.s.size = strlen(text);
    return v;
}

static inline skate_value skate_bytes(const void *data, size_t size) {
    skate_value v = skate_nil();

    v.kind = SKATE_BYTES;
    v.as.s.data = (const char *)data;
    v.as.s.size = size;
    return v;
}

static inline skate_value skate_list(const skate_value *items, size_t count) {
    skate_value v = skate_nil();

    v.kind = SKATE_LIST;
    v.as.list.items = items;
    v.as.list.count = count;
    return v;
}

/* items: 2 * pairs values, key and value in turn. Keys are of kinds STR, INT, BOOL or BYTES. */
static inline skate_value skate_map(const skate_value *items, size_t pairs) {
    skate_value v = skate_list(items, pairs);

    v.kind = SKATE_MAP;
    return v;
}

/* As an argument: the callee gets the object's value in its place. Inside a list or map: the ref
 * itself. */
static inline skate_value skate_of_ref(skate_ref ref) {
    skate_value v = skate_nil();

    v.kind = SKATE_REF;
    v.as.ref = ref;
    return v;
}

static inline skate_value skate_of_tensor(const skate_tensor *t) {
    skate_value v = skate_nil();

    v.kind = SKATE_TENSOR;
    v.as.tensor = t;
    return v;
}

/* The bytes of an Arrow IPC stream; skate/arrow.h makes and reads them. */
static inline skate_value skate_arrow_bytes(const void *data, size_t size) {
    skate_value v = skate_bytes(data, size);

    v.kind = SKATE_ARROW;
    return v;
}

/* Bytes of one element; 0: no such type. */
SKATE_API size_t skate_dtype_size(uint32_t dtype);
/* The number of elements; negative: a shape that does not fit into memory. */
SKATE_API int64_t skate_tensor_elements(const skate_tensor *t);
/* The value for a string key of a SKATE_MAP; NULL: none, or not a map. Borrowed from it. */
SKATE_API const skate_value *skate_map_find(const skate_value *map, const char *key);

#ifdef __cplusplus
}
#endif

#endif
