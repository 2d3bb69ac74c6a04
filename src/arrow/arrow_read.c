/* arrow_read.c - an IPC stream as a stream of arrays that lie in it: see ipc.h.
 *
 * The bytes are another process's. Before an array is given away, its buffers are inside the body,
 * long enough, aligned, and offsets and indices lead nowhere outside; arrow_array.c does that. */
#include "arrow/arrow_array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { METADATA_V4 = 3, METADATA_V5 = 4, HEAD_SCHEMA = 1, HEAD_DICTIONARY = 2, HEAD_BATCH = 3 };
enum { DICTIONARIES_MAX = 1024 };

struct reader {
    const uint8_t *data;
    size_t len, at;
    struct arrow_field root;
    struct arrow_dictionary *dictionaries;
    uint32_t dictionary_count;
    struct arrow_hold *hold;
    struct skate_error err;
};

static int broken(struct skate_error *err, const char *what) {
    return err_fail(err, -SKATE_EPROTO, "a malformed Arrow stream: %s", what);
}

/* The next message: 1, 0 at the end. */
static int next_message(struct reader *in, struct arrow_message *m, struct skate_error *err) {
    size_t left = in->len - in->at;
    int32_t mark, size;
    struct flat_table root;
    int64_t body;

    if (left == 0) return 0;
    if (left < 8) return broken(err, "it is cut off");
    memcpy(&mark, in->data + in->at, 4);
    memcpy(&size, in->data + in->at + 4, 4);
    if (mark != -1) return broken(err, "no message where one should begin");
    if (size == 0) return 0;
    left -= 8;
    if (size < 0 || size % 8 || (size_t)size > left) return broken(err, "metadata of a wrong size");
    m->meta = (struct flat){.p = in->data + in->at + 8, .n = (size_t)size};
    left -= (size_t)size;
    root = flat_root(&m->meta);
    body = flat_i64(&root, 3, 0);
    m->head = flat_u8(&root, 1, 0);
    m->version = flat_i16(&root, 0, 0);
    m->table = flat_sub(&root, 2);
    if (m->meta.bad || !m->table.b) return broken(err, "a message that is none");
    if (body < 0 || (uint64_t)body > left || body % 8) return broken(err, "a body of a wrong size");
    if (m->version != METADATA_V4 && m->version != METADATA_V5)
        return err_fail(err, -SKATE_ETYPE, "an Arrow stream of metadata version %d is not carried",
                        m->version + 1);
    m->body = m->meta.p + size;
    m->body_len = (size_t)body;
    in->at += 8 + (size_t)size + (size_t)body;
    return 1;
}

static int read_schema(struct reader *in, struct skate_error *err) {
    struct arrow_message m;
    int r = next_message(in, &m, err);

    if (r < 0) return r;
    if (r == 0 || m.head != HEAD_SCHEMA) return broken(err, "it does not begin with a schema");
    return arrow_field_read(&m.table, &in->root, err);
}

/* ---- dictionaries ---- */

/* The values of the dictionary with that id among the fields; NULL: none. */
static const struct arrow_field *values_of(const struct arrow_field *f, int64_t id) {
    const struct arrow_field *found = f->values && f->dictionary == id ? f->values : NULL;

    for (uint32_t i = 0; !found && i < f->child_count; i++)
        found = values_of(&f->children[i], id);
    return found;
}

static int keep_dictionary(struct reader *in, const struct arrow_message *m) {
    struct arrow_dictionary d = {.m = *m, .id = flat_i64(&m->table, 0, 0)}, *grown;
    uint32_t i = 0;

    d.m.table = flat_sub(&m->table, 1);
    if (!d.m.table.b || d.m.table.b->bad) return broken(&in->err, "a dictionary without values");
    if (flat_u8(&m->table, 2, 0))
        return err_fail(&in->err, -SKATE_ETYPE, "a dictionary that grows is not carried");
    d.values = values_of(&in->root, d.id);
    if (!d.values) return broken(&in->err, "a dictionary of no column");
    while (i < in->dictionary_count && in->dictionaries[i].id != d.id) i++;
    if (i == in->dictionary_count) {
        if (i == DICTIONARIES_MAX)
            return err_fail(&in->err, -SKATE_ETYPE, "more than %d dictionaries", DICTIONARIES_MAX);
        grown = realloc(in->dictionaries, (i + 1) * sizeof *grown);
        if (!grown) return -SKATE_ENOMEM;
        in->dictionaries = grown;
        in->dictionary_count++;
    }
    in->dictionaries[i] = d;
    return 0;
}

/* ---- the stream's functions ---- */

static int as_errno(struct reader *in, int r) {
    if (r == -SKATE_ENOMEM) {
        (void)err_fail(&in->err, r, "out of memory");
        return ENOMEM;
    }
    return r == -SKATE_ETYPE ? EIO : EINVAL;
}

static int get_schema(struct ArrowArrayStream *s, struct ArrowSchema *out) {
    struct reader *in = s->private_data;
    int r = arrow_field_export(&in->root, out);

    return r < 0 ? as_errno(in, r) : 0;
}

static int get_next(struct ArrowArrayStream *s, struct ArrowArray *out) {
    struct reader *in = s->private_data;
    struct arrow_message m;
    int r;

    *out = (struct ArrowArray){0};
    for (;;) {
        r = next_message(in, &m, &in->err);
        if (r == 0) return 0;
        if (r < 0) break;
        if (m.head == HEAD_BATCH) {
            struct arrow_batch b = {.m = m, .err = &in->err, .hold = in->hold,
                                    .dictionaries = in->dictionaries,
                                    .dictionary_count = in->dictionary_count};

            r = arrow_batch_read(&b, &in->root, out);
            break;
        }
        r = m.head == HEAD_DICTIONARY ? keep_dictionary(in, &m)
                                      : broken(&in->err, "a message of an unknown kind");
        if (r < 0) break;
    }
    if (r == 0) return 0;
    in->at = in->len; /* what follows a broken message is not looked at */
    return as_errno(in, r);
}

static const char *get_last_error(struct ArrowArrayStream *s) {
    struct reader *in = s->private_data;

    return in->err.text[0] ? in->err.text : NULL;
}

static void release(struct ArrowArrayStream *s) {
    struct reader *in = s->private_data;

    arrow_field_release(&in->root);
    free(in->dictionaries);
    arrow_hold_drop(in->hold);
    free(in);
    s->release = NULL;
    s->private_data = NULL;
}

int arrow_decode(const void *data, size_t len, struct ArrowArrayStream *out,
                 struct skate_error *err) {
    return arrow_decode_held(data, len, NULL, out, err);
}

int arrow_decode_held(const void *data, size_t len, struct arrow_hold *hold,
                      struct ArrowArrayStream *out, struct skate_error *err) {
    struct reader *in;
    int r;

    if ((uintptr_t)data % 8)
        return err_fail(err, -SKATE_EINVAL, "an Arrow stream must begin at a multiple of 8 bytes");
    in = calloc(1, sizeof *in);
    if (!in) return -SKATE_ENOMEM;
    in->data = data;
    in->len = len;
    in->hold = hold;
    r = read_schema(in, err);
    if (r < 0) {
        free(in);
        return r;
    }
    *out = (struct ArrowArrayStream){.get_schema = get_schema, .get_next = get_next,
                                     .get_last_error = get_last_error, .release = release,
                                     .private_data = in};
    return 0;
}
