/* skate/arrow.h - Arrow data in and out of Skate, without an Arrow library.
 *
 * The structs are those of Arrow's C data interface: what nanoarrow, Arrow C++, arrow-rs, DuckDB
 * and others give and take. A stream has one schema, a struct whose children are the columns, and
 * record batches of it. In Python the value is a pyarrow.Table.
 *
 * Types: null, bool, integers, half, float, double, decimal, date, time, timestamp, duration,
 * interval, utf8, binary (also large, of fixed size, and views), list, large and fixed-size list,
 * struct, map, and dictionaries of these (not nested). Others (unions, list views, run-end encoded)
 * are -SKATE_ETYPE, and the text names the column and the type. Metadata of schemas is not carried.
 *
 * The rules of skate/skate.h for errors, threads and time hold here. */
#ifndef SKATE_ARROW_H
#define SKATE_ARROW_H

#include "skate/task.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

#endif

/* Functions that take a stream read it to its end and release it, on failure too. -SKATE_EINVAL:
 * the stream itself failed, or breaks its own rules. -SKATE_ETYPE: a type that is not carried. */

/* Store the stream. *ret is a ref of the caller's. BLOCKS. */
SKATE_API int skate_put_arrow(skate_session *s, struct ArrowArrayStream *in, skate_ref *ret);
/* The next result of a task or method. BLOCKS only for a large one in a full store. */
SKATE_API int skate_return_arrow(skate_task *call, struct ArrowArrayStream *in);

/* The stream of a stored table, as skate_get() and skate_arrow_open() together, with their errors:
 * *out keeps the bytes readable until it and every array that came out of it are released, on any
 * thread, but before the session is closed. The ref stays the caller's. BLOCKS. */
SKATE_API int skate_get_arrow(skate_session *s, skate_ref ref, int64_t timeout_ms,
                              struct ArrowArrayStream *out);

/* Read a value of kind SKATE_ARROW where it lies: batches point into it, nothing is copied. v must
 * not be released before *out and every schema and array that came out of it are; those of
 * skate_arg() end with the task. Offsets and indices of every batch are checked before it is given,
 * so that bytes from elsewhere cannot lead outside; text is not checked to be UTF-8. *out is the
 * caller's, who releases it: out->release(out). Its get_next() gives EINVAL for malformed bytes,
 * EIO for a type or compression that is not carried, ENOMEM, with the words in get_last_error().
 * -SKATE_ETYPE: v is no Arrow value, or of a schema that is not carried. -SKATE_EPROTO. */
SKATE_API int skate_arrow_open(const skate_value *v, struct ArrowArrayStream *out);

#ifdef __cplusplus
}
#endif

#endif
