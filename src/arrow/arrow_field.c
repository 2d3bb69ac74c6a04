/* arrow_field.c - trees of columns, from and to schemas: see arrow_type.h. */
#include "arrow/arrow_type.h"

#include <stdlib.h>
#include <string.h>

/* What both ways of making a tree carry along. */
struct growing {
    struct skate_error *err;
    uint32_t fields;      /* so far: what refers to itself must not grow for ever */
    int64_t dictionaries; /* the next id, of imported ones */
    bool in_values;       /* of a dictionary, which may hold no other */
};

static int name_error(struct skate_error *err, int code, const char *name) {
    char text[256];

    if (!err || !name || !*name || err->text[0] == '\'') return code;
    memcpy(text, err->text, sizeof text);
    text[sizeof text - 1] = 0;
    return err_fail(err, code, "'%.80s': %s", name, text);
}

void arrow_field_release(struct arrow_field *f) {
    for (uint32_t i = 0; f->children && i < f->child_count; i++)
        arrow_field_release(&f->children[i]);
    if (f->values) arrow_field_release(f->values);
    free(f->children);
    free(f->values);
    free(f->name);
    *f = (struct arrow_field){0};
}

/* Room for the children, and is their number right for the type? */
static int begin_children(struct growing *g, struct arrow_field *f, int64_t n, int depth) {
    bool one = f->type.layout == LAY_LIST32 || f->type.layout == LAY_LIST64 ||
               f->type.layout == LAY_FIXED_LIST;

    if (one ? n != 1 : f->type.layout == LAY_STRUCT ? n < 0 : n != 0)
        return err_fail(g->err, -SKATE_EPROTO, "a type with a wrong number of children");
    if (depth == 0 && n) return err_fail(g->err, -SKATE_ETYPE, "columns nested too deeply");
    if (n > ARROW_FIELDS || g->fields + n > ARROW_FIELDS)
        return err_fail(g->err, -SKATE_ETYPE, "more than %d columns", ARROW_FIELDS);
    g->fields += (uint32_t)n;
    if (n == 0) return 0;
    f->children = calloc((size_t)n, sizeof *f->children);
    if (!f->children) return -SKATE_ENOMEM;
    f->child_count = (uint32_t)n;
    return 0;
}

/* The type of a dictionary's field is that of its values; it becomes that of the indices. */
static int begin_values(struct growing *g, struct arrow_field *f, const struct arrow_type *index) {
    if (g->in_values)
        return err_fail(g->err, -SKATE_ETYPE, "a dictionary inside a dictionary is not carried");
    if (index->id != ARROW_INT)
        return err_fail(g->err, -SKATE_EPROTO, "indices of a dictionary that are no integers");
    f->values = calloc(1, sizeof *f->values);
    if (!f->values) return -SKATE_ENOMEM;
    f->values->type = f->type;
    f->values->nullable = true;
    f->type = *index;
    return 0;
}

/* ---- from the caller's schema ---- */

static int import(struct growing *g, const struct ArrowSchema *s, struct arrow_field *f,
                  int depth);

static int import_children(struct growing *g, const struct ArrowSchema *s, struct arrow_field *f,
                           int depth) {
    int r = begin_children(g, f, s->n_children, depth);

    for (uint32_t i = 0; r == 0 && i < f->child_count; i++)
        r = import(g, s->children[i], &f->children[i], depth - 1);
    return r;
}

static int import(struct growing *g, const struct ArrowSchema *s, struct arrow_field *f,
                  int depth) {
    struct arrow_type index;
    int r = arrow_type_parse(s->format, &f->type, g->err);

    f->name = strdup(s->name ? s->name : "");
    f->nullable = s->flags & ARROW_FLAG_NULLABLE;
    if (f->type.id == ARROW_MAP) f->type.flag = s->flags & ARROW_FLAG_MAP_KEYS_SORTED;
    if (r == 0 && !f->name) r = -SKATE_ENOMEM;
    if (r == 0 && s->dictionary) {
        index = f->type;
        r = arrow_type_parse(s->dictionary->format, &f->type, g->err);
        if (r == 0) r = begin_values(g, f, &index);
        f->ordered = s->flags & ARROW_FLAG_DICTIONARY_ORDERED;
        f->dictionary = g->dictionaries++;
        if (r == 0 && s->dictionary->dictionary)
            r = err_fail(g->err, -SKATE_ETYPE, "a dictionary inside a dictionary is not carried");
        g->in_values = true;
        if (r == 0) r = import_children(g, s->dictionary, f->values, depth);
        g->in_values = false;
    } else if (r == 0) {
        r = import_children(g, s, f, depth);
    }
    return r < 0 ? name_error(g->err, r, s->name) : 0;
}

int arrow_field_import(const struct ArrowSchema *s, struct arrow_field *ret,
                       struct skate_error *err) {
    struct growing g = {.err = err};
    struct arrow_field f = {0};
    int r;

    if (!s->format || strcmp(s->format, "+s") != 0)
        return err_fail(err, -SKATE_EINVAL, "the schema of a stream must be a struct");
    r = import(&g, s, &f, ARROW_DEPTH);
    if (r < 0) {
        arrow_field_release(&f);
        return r;
    }
    *ret = f;
    return 0;
}

/* ---- from an IPC schema ---- */

static int read_field(struct growing *g, const struct flat_table *t, struct arrow_field *f,
                      int depth);

static int read_children(struct growing *g, const struct flat_vec *v, struct arrow_field *f,
                         int depth) {
    int r = begin_children(g, f, v->count, depth);

    for (uint32_t i = 0; r == 0 && i < f->child_count; i++) {
        struct flat_table child = flat_item(v, i);

        r = child.b ? read_field(g, &child, &f->children[i], depth - 1)
                    : err_fail(g->err, -SKATE_EPROTO, "a malformed schema");
    }
    return r;
}

static int read_dictionary(struct growing *g, const struct flat_table *t, struct arrow_field *f) {
    struct flat_table number = flat_sub(t, 1);
    struct arrow_type index = {.id = ARROW_INT, .layout = LAY_FIXED, .width = 4, .flag = true};
    int r = number.b ? arrow_type_read(ARROW_INT, &number, &index, g->err) : 0;

    f->dictionary = flat_i64(t, 0, 0);
    f->ordered = flat_u8(t, 2, 0) != 0;
    return r < 0 ? r : begin_values(g, f, &index);
}

static int read_field(struct growing *g, const struct flat_table *t, struct arrow_field *f,
                      int depth) {
    struct flat_table type = flat_sub(t, 3), dictionary = flat_sub(t, 4);
    struct flat_vec children = flat_vector(t, 5, 4);
    uint32_t len;
    const char *name = flat_text(t, 0, &len);
    int r = arrow_type_read(flat_u8(t, 2, 0), &type, &f->type, g->err);

    f->name = strndup(name ? name : "", name ? len : 0);
    f->nullable = flat_u8(t, 1, 0) != 0;
    if (r == 0 && !f->name) r = -SKATE_ENOMEM;
    if (r == 0 && dictionary.b) r = read_dictionary(g, &dictionary, f);
    if (f->values) g->in_values = true;
    if (r == 0) r = read_children(g, &children, f->values ? f->values : f, depth);
    if (f->values) g->in_values = false;
    return r < 0 ? name_error(g->err, r, f->name) : 0;
}

int arrow_field_read(const struct flat_table *schema, struct arrow_field *ret,
                     struct skate_error *err) {
    struct flat_vec fields = flat_vector(schema, 1, 4);
    struct growing g = {.err = err};
    struct arrow_field f = {.type = {.id = ARROW_STRUCT, .layout = LAY_STRUCT}, .nullable = false};
    int r = 0;

    f.name = strdup("");
    if (!f.name) r = -SKATE_ENOMEM;
    if (r == 0 && flat_i16(schema, 0, 0) != 0)
        r = err_fail(err, -SKATE_ETYPE, "an Arrow stream of big-endian data is not carried");
    if (r == 0) r = read_children(&g, &fields, &f, ARROW_DEPTH);
    if (schema->b && schema->b->bad) r = err_fail(err, -SKATE_EPROTO, "a malformed schema");
    if (r < 0) {
        arrow_field_release(&f);
        return r;
    }
    *ret = f;
    return 0;
}

/* ---- to a schema of the caller's ---- */

/* What an exported schema owns; its children and dictionary stand behind it. */
struct held {
    char format[ARROW_FORMAT];
    char *name;
    struct ArrowSchema *dictionary, *storage;
    struct ArrowSchema **children;
};

static void schema_release(struct ArrowSchema *s) {
    struct held *h = s->private_data;

    for (int64_t i = 0; i < s->n_children; i++)
        if (s->children[i]->release) s->children[i]->release(s->children[i]);
    if (s->dictionary && s->dictionary->release) s->dictionary->release(s->dictionary);
    free(h->dictionary);
    free(h->storage);
    free(h->children);
    free(h->name);
    free(h);
    s->release = NULL;
}

int arrow_field_export(const struct arrow_field *f, struct ArrowSchema *ret) {
    struct held *h = calloc(1, sizeof *h);
    uint32_t n = f->child_count;
    int r = -SKATE_ENOMEM;

    *ret = (struct ArrowSchema){0};
    if (!h) return r;
    arrow_type_format(&f->type, h->format);
    h->name = strdup(f->name ? f->name : "");
    h->storage = calloc(n + 1, sizeof *h->storage);
    h->children = calloc(n + 1, sizeof *h->children);
    *ret = (struct ArrowSchema){.format = h->format, .name = h->name, .release = schema_release,
                                .children = h->children, .private_data = h};
    ret->flags = (f->nullable ? ARROW_FLAG_NULLABLE : 0) |
                 (f->ordered ? ARROW_FLAG_DICTIONARY_ORDERED : 0) |
                 (f->type.id == ARROW_MAP && f->type.flag ? ARROW_FLAG_MAP_KEYS_SORTED : 0);
    if (!h->name || !h->storage || !h->children) goto fail;
    for (uint32_t i = 0; i < n; i++) {
        h->children[i] = &h->storage[i];
        r = arrow_field_export(&f->children[i], h->children[i]);
        if (r < 0) goto fail;
        ret->n_children++;
    }
    if (f->values) {
        r = -SKATE_ENOMEM;
        h->dictionary = calloc(1, sizeof *h->dictionary);
        if (!h->dictionary || (r = arrow_field_export(f->values, h->dictionary)) < 0) goto fail;
        ret->dictionary = h->dictionary;
    }
    return 0;

fail:
    schema_release(ret);
    return r;
}

/* ---- to an IPC schema ---- */

static size_t write_field(struct flat_out *o, const struct arrow_field *f);

/* A vector of the children's tables, at the field `at`. */
static void write_children(struct flat_out *o, size_t at, const struct arrow_field *f) {
    size_t vec = flat_vec_new(o, f->child_count, 4);

    flat_point(o, at, vec);
    for (uint32_t i = 0; i < f->child_count; i++) {
        size_t child = write_field(o, &f->children[i]);

        flat_point(o, vec + 4 + 4 * (size_t)i, child);
    }
}

static size_t write_field(struct flat_out *o, const struct arrow_field *f) {
    const struct arrow_field *values = f->values ? f->values : f;
    size_t at[6], in[3], t = flat_table_new(o, f->values ? "411444" : "411404", at);

    flat_point(o, at[0], flat_text_new(o, f->name));
    flat_set_u8(o, at[1], f->nullable);
    flat_set_u8(o, at[2], values->type.id);
    flat_point(o, at[3], arrow_type_write(o, &values->type));
    if (f->values) {
        flat_point(o, at[4], flat_table_new(o, "841", in));
        flat_set_i64(o, in[0], f->dictionary);
        flat_set_u8(o, in[2], f->ordered);
        flat_point(o, in[1], arrow_type_write(o, &f->type));
    }
    write_children(o, at[5], values);
    return t;
}

size_t arrow_field_write(struct flat_out *o, const struct arrow_field *root) {
    size_t at[2], t = flat_table_new(o, "24", at);

    write_children(o, at[1], root);
    return t;
}
