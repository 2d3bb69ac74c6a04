/* arrow_type.h - columns: their types, as format strings of the C data interface and as tables of
 * the IPC schema.
 *
 * A tree of arrow_field is what a schema is inside; the root is a struct whose children are the
 * columns. Any thread, one at a time for a tree; nothing blocks. Tests: tests/unit/arrow_test.c. */
#ifndef SKATE_ARROW_ARROW_TYPE_H
#define SKATE_ARROW_ARROW_TYPE_H

#include "arrow/flat.h"
#include "base/err.h"
#include "skate/arrow.h"

enum { ARROW_DEPTH = 32, ARROW_FIELDS = 1 << 16, ARROW_FORMAT = 96, ARROW_ZONE = 64 };

/* The union `Type` of Arrow's Schema.fbs. */
enum arrow_id {
    ARROW_NULL = 1, ARROW_INT = 2, ARROW_FLOAT = 3, ARROW_BINARY = 4, ARROW_UTF8 = 5,
    ARROW_BOOL = 6, ARROW_DECIMAL = 7, ARROW_DATE = 8, ARROW_TIME = 9, ARROW_TIMESTAMP = 10,
    ARROW_INTERVAL = 11, ARROW_LIST = 12, ARROW_STRUCT = 13, ARROW_UNION = 14,
    ARROW_FIXED_BINARY = 15, ARROW_FIXED_LIST = 16, ARROW_MAP = 17, ARROW_DURATION = 18,
    ARROW_LARGE_BINARY = 19, ARROW_LARGE_UTF8 = 20, ARROW_LARGE_LIST = 21, ARROW_RUN_END = 22,
    ARROW_BINARY_VIEW = 23, ARROW_UTF8_VIEW = 24, ARROW_LIST_VIEW = 25, ARROW_LARGE_LIST_VIEW = 26
};
/* Which buffers an array has: none; validity and bits; and elements of `width` bytes; and 32- or
 * 64-bit offsets and bytes; and offsets of the one child; validity alone (twice); and views and
 * what they look at (arrow_view.h). */
enum arrow_layout {
    LAY_NONE, LAY_BITS, LAY_FIXED, LAY_BYTES32, LAY_BYTES64, LAY_LIST32, LAY_LIST64, LAY_STRUCT,
    LAY_FIXED_LIST, LAY_VIEWS
};

struct arrow_type {
    uint8_t id;     /* enum arrow_id */
    uint8_t layout; /* enum arrow_layout */
    int16_t unit;   /* of times: 0 s, 1 ms, 2 us, 3 ns; dates: 0 days, 1 ms; intervals as in IPC */
    bool flag;      /* integer: signed; map: its keys are sorted */
    int32_t width;  /* bytes of an element; elements of a fixed-size list */
    int32_t precision, scale;
    char zone[ARROW_ZONE]; /* of a timestamp */
};

struct arrow_field {
    struct arrow_type type; /* of a dictionary: of its indices */
    char *name;
    bool nullable, ordered;
    uint32_t child_count;
    struct arrow_field *children;
    struct arrow_field *values; /* of a dictionary, else NULL */
    int64_t dictionary;         /* its id */
};

/* From a format string. -SKATE_ETYPE names it; the children are not looked at. */
SKATE_NODISCARD int arrow_type_parse(const char *format, struct arrow_type *ret,
                                     struct skate_error *err);
void arrow_type_format(const struct arrow_type *t, char ret[ARROW_FORMAT]);
/* From and to a field of the IPC schema. id: enum arrow_id. */
SKATE_NODISCARD int arrow_type_read(uint8_t id, const struct flat_table *t,
                                    struct arrow_type *ret, struct skate_error *err);
size_t arrow_type_write(struct flat_out *o, const struct arrow_type *t);
/* Buffers of an array of that type. */
uint32_t arrow_type_buffers(const struct arrow_type *t);

/* A tree from the caller's schema, and from an IPC schema message. All or, on an error, nothing. */
SKATE_NODISCARD int arrow_field_import(const struct ArrowSchema *s, struct arrow_field *ret,
                                       struct skate_error *err);
SKATE_NODISCARD int arrow_field_read(const struct flat_table *schema, struct arrow_field *ret,
                                     struct skate_error *err);
void arrow_field_release(struct arrow_field *f);
/* A schema of the caller's own. -SKATE_ENOMEM. */
SKATE_NODISCARD int arrow_field_export(const struct arrow_field *f, struct ArrowSchema *ret);
/* The IPC schema; its offset. */
size_t arrow_field_write(struct flat_out *o, const struct arrow_field *root);

#endif
