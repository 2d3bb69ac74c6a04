/* arrow_array.h - one record batch of an IPC stream as arrays, checked. Between arrow_read.c and
 * arrow_array.c; the rules are ipc.h's. */
#ifndef SKATE_ARROW_ARROW_ARRAY_H
#define SKATE_ARROW_ARROW_ARRAY_H

#include "arrow/ipc.h"
#include "arrow/arrow_type.h"

struct arrow_message {
    struct flat meta;
    struct flat_table table; /* of the header; arrow_batch_read sets its `b` */
    const uint8_t *body;
    size_t body_len;
    int16_t version;
    uint8_t head;
};
struct arrow_dictionary {
    struct arrow_message m; /* its table is the RecordBatch */
    const struct arrow_field *values;
    int64_t id;
};
struct arrow_batch {
    struct arrow_message m;
    struct skate_error *err;
    const struct arrow_dictionary *dictionaries;
    uint32_t dictionary_count;
    struct arrow_hold *hold; /* what each array counts; may be NULL */
    struct flat_vec nodes, buffers, views;
    uint32_t node, buffer, view; /* the next of each */
};

/* The arrays of a message RecordBatch; *ret is the caller's. -SKATE_EPROTO, -SKATE_ETYPE (it is
 * compressed), -SKATE_ENOMEM. */
SKATE_NODISCARD int arrow_batch_read(struct arrow_batch *b, const struct arrow_field *root,
                                     struct ArrowArray *ret);

#endif
