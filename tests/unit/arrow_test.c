/* arrow_test.c - src/arrow alone, under the sanitizers too: what C writes C reads, and whatever
 * bytes are changed, the arrays that come out lead to nowhere outside. links: base arrow.
 * Against pyarrow: tests/python/test_arrow_c.py. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arrow/arrow_view.h"
#include "arrow/ipc.h"

/* ---- a stream made by hand: a struct of columns, given `batches` times ---- */

enum { ROWS = 5 };
struct source {
    int batches;
    int fail; /* get_next() fails when so many are left */
    int released;
};

static void forget_schema(struct ArrowSchema *s) { s->release = NULL; }
static void forget_array(struct ArrowArray *a) { a->release = NULL; }

static const struct {
    const char *format, *name;
} columns[] = {{"l", "n"}, {"u", "text"}, {"b", "yes"}, {"+l", "list"}, {"i", "key"},
               {"vu", "view"}};
enum { COLUMNS = sizeof columns / sizeof *columns };

static int schema_of(struct ArrowArrayStream *s, struct ArrowSchema *out) {
    static struct ArrowSchema child[COLUMNS], item, values, *children[COLUMNS], *items[1];

    (void)s;
    item = (struct ArrowSchema){.format = "c", .name = "item", .flags = ARROW_FLAG_NULLABLE,
                                .release = forget_schema};
    values = (struct ArrowSchema){.format = "z", .name = "", .release = forget_schema};
    items[0] = &item;
    for (int i = 0; i < COLUMNS; i++) {
        child[i] = (struct ArrowSchema){.format = columns[i].format, .name = columns[i].name,
                                        .flags = ARROW_FLAG_NULLABLE, .release = forget_schema};
        children[i] = &child[i];
    }
    child[3].n_children = 1;
    child[3].children = items;
    child[4].dictionary = &values;
    *out = (struct ArrowSchema){.format = "+s", .name = "", .n_children = COLUMNS,
                                .children = children, .release = forget_schema};
    return 0;
}

static int next_of(struct ArrowArrayStream *s, struct ArrowArray *out) {
    static const uint8_t valid[] = {0x1d, 0}, bits[] = {0x15, 0};
    static const int64_t numbers[] = {1, -2, 3, 4, 5};
    static const int32_t ends[] = {0, 1, 3, 3, 6, 9}, list_ends[] = {0, 2, 2, 4, 4, 6};
    static const int32_t keys[] = {0, 1, 0, 1, 1}, value_ends[] = {0, 2, 5};
    static const int8_t small[] = {1, 2, 3, 4, 5, 6};
    static const int64_t sizes[] = {13, 20};
    static const struct arrow_view views[] = {{.size = 5, .head = "shor", .buffer = 't'},
                                              {.size = 99, .buffer = 7, .offset = -1},
                                              {.size = 14, .head = "four", .buffer = 1,
                                               .offset = 3},
                                              {.size = 13, .head = "thir"}, {.size = 0}};
    static const void *buffers[COLUMNS][5] = {{valid, numbers}, {valid, ends, "abbcccddd"},
                                              {NULL, bits}, {valid, list_ends}, {NULL, keys},
                                              {valid, views, "thirteen long",
                                               "___fourteen long.___", sizes}},
                      *inner[2] = {NULL, small}, *value_buffers[3] = {NULL, value_ends, "xxyyy"},
                      *none[1] = {NULL};
    static struct ArrowArray child[COLUMNS], item, values, *children[COLUMNS], *items[1];
    struct source *in = s->private_data;

    *out = (struct ArrowArray){0};
    if (in->fail && in->batches == in->fail) return EIO;
    if (in->batches-- == 0) return 0;
    item = (struct ArrowArray){.length = 6, .n_buffers = 2, .buffers = inner,
                               .release = forget_array};
    values = (struct ArrowArray){.length = 2, .n_buffers = 3, .buffers = value_buffers,
                                 .release = forget_array};
    items[0] = &item;
    for (int i = 0; i < COLUMNS; i++) {
        child[i] = (struct ArrowArray){.length = ROWS, .null_count = -1, .buffers = buffers[i],
                                       .n_buffers = i == 5 ? 5 : i == 1 ? 3 : 2,
                                       .release = forget_array};
        children[i] = &child[i];
    }
    child[3].n_children = 1;
    child[3].children = items;
    child[4].dictionary = &values;
    *out = (struct ArrowArray){.length = ROWS - in->batches, .offset = in->batches, .n_buffers = 1,
                               .buffers = none, .n_children = COLUMNS, .children = children,
                               .release = forget_array};
    return 0;
}

static const char *error_of(struct ArrowArrayStream *s) {
    (void)s;
    return "the well is dry";
}

static void release_of(struct ArrowArrayStream *s) {
    ((struct source *)s->private_data)->released++;
    s->release = NULL;
}

static struct ArrowArrayStream open_source(struct source *in) {
    return (struct ArrowArrayStream){.get_schema = schema_of, .get_next = next_of,
                                     .get_last_error = error_of, .release = release_of,
                                     .private_data = in};
}

static size_t write_it(int batches, uint8_t **ret) {
    struct source in = {.batches = batches};
    struct ArrowArrayStream s = open_source(&in);
    struct skate_error err = {{0}};
    size_t len = 0;

    assert_int_equal(arrow_encode(&s, ret, &len, &err), 0);
    assert_int_equal(in.released, 1);
    assert_null(s.release);
    return len;
}

/* ---- looking at every byte that an array leads to ---- */

static uint64_t sum;

static void touch(const void *p, size_t n) {
    for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
}

/* Bytes of an element, as a reader knows them from the format; 0: another layout. */
static size_t width_of(const char *f) {
    static const char one[] = "cCsSiIlLefg";
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};
    const char *at = f[1] ? NULL : strchr(one, f[0]);

    if (at) return bytes[at - one];
    if (f[0] == 'w') return (size_t)strtol(f + 2, NULL, 10);
    if (f[0] == 'd') {
        const char *last = strrchr(f, ',');

        return last > strchr(f, ',') ? (size_t)strtol(last + 1, NULL, 10) / 8 : 16;
    }
    if (f[0] != 't') return 0;
    if (!strcmp(f, "tdD") || !strcmp(f, "tts") || !strcmp(f, "ttm") || !strcmp(f, "tiM")) return 4;
    return !strcmp(f, "tin") ? 16 : 8;
}

static void walk_views(const struct ArrowArray *a) {
    const uint8_t *valid = a->buffers[0];
    const struct arrow_view *views = a->buffers[1];
    const int64_t *sizes = a->buffers[a->n_buffers - 1];

    for (int64_t i = 0; i < a->length; i++) {
        if (valid && !(valid[i >> 3] >> (i & 7) & 1)) continue;
        assert_true(views[i].size >= 0);
        if (views[i].size <= ARROW_VIEW_SHORT) continue;
        assert_true(views[i].offset + (int64_t)views[i].size <= sizes[views[i].buffer]);
        touch((const char *)a->buffers[2 + views[i].buffer] + views[i].offset,
              (size_t)views[i].size);
    }
}

static void walk(const struct ArrowSchema *s, const struct ArrowArray *a) {
    const char *f = s->format;
    size_t n = (size_t)a->length, width = width_of(f);

    if (*f == 'n') return;
    if (a->buffers[0]) touch(a->buffers[0], (n + 7) / 8);
    if (!strcmp(f, "b")) touch(a->buffers[1], (n + 7) / 8);
    else if (width || *f == 'w') touch(a->buffers[1], n * width);
    else if (strchr("uz", *f)) {
        const int32_t *ends = a->buffers[1];

        touch((const char *)a->buffers[2] + ends[0], (size_t)(ends[n] - ends[0]));
    } else if (strchr("UZ", *f)) {
        const int64_t *ends = a->buffers[1];

        touch((const char *)a->buffers[2] + ends[0], (size_t)(ends[n] - ends[0]));
    }
    if (*f == 'v') walk_views(a);
    for (int64_t i = 0; i < a->n_children; i++) walk(s->children[i], a->children[i]);
    if (a->dictionary) walk(s->dictionary, a->dictionary);
}

/* How many batches came; negative: the bytes were refused. */
static int read_it(const uint8_t *data, size_t len) {
    struct skate_error err = {{0}};
    struct ArrowArrayStream s;
    struct ArrowSchema schema;
    int r = arrow_decode(data, len, &s, &err), count = 0;

    if (r < 0) {
        assert_true(err.text[0] || r == -SKATE_ENOMEM);
        return r;
    }
    assert_int_equal(s.get_schema(&s, &schema), 0);
    for (;;) {
        struct ArrowArray a;

        r = s.get_next(&s, &a);
        if (r) assert_non_null(s.get_last_error(&s));
        if (r || !a.release) break;
        walk(&schema, &a);
        a.release(&a);
        count++;
    }
    schema.release(&schema);
    s.release(&s);
    return r ? -r : count;
}

static void test_there_and_back(void **state) {
    struct ArrowArrayStream s;
    struct ArrowSchema schema;
    struct ArrowArray a, kept;
    uint8_t *data = NULL;
    size_t len = write_it(3, &data);

    (void)state;
    assert_int_equal(read_it(data, len), 3);
    assert_int_equal(read_it(data, len - 8), 3); /* the mark of the end may be left out */
    assert_int_equal(arrow_decode(data, len, &s, NULL), 0);
    assert_int_equal(s.get_schema(&s, &schema), 0);
    assert_string_equal(schema.children[3]->children[0]->name, "item");
    assert_string_equal(schema.children[4]->dictionary->format, "z");
    assert_int_equal(s.get_next(&s, &a), 0); /* rows 2, 3, 4 */
    assert_int_equal(a.length, 3);
    assert_int_equal(((const int64_t *)a.children[0]->buffers[1])[0], 3);
    assert_int_equal(a.children[1]->null_count, 0);
    assert_memory_equal(a.children[1]->buffers[2], "cccddd", 6);
    assert_int_equal(((const int32_t *)a.children[1]->buffers[1])[1], 0);
    assert_int_equal(*(const uint8_t *)a.children[2]->buffers[1], 5);
    assert_int_equal(a.children[5]->n_buffers, 4); /* of which each gathers what was in two */
    assert_memory_equal(a.children[5]->buffers[2], "fourteen long.thirteen long", 27);
    assert_int_equal(((const int64_t *)a.children[5]->buffers[3])[0], 27);
    kept = *a.children[0]; /* a child may be moved out and outlive the rest */
    a.children[0]->release = NULL;
    a.release(&a);
    assert_int_equal(s.get_next(&s, &a), 0);
    assert_int_equal(a.length, 4);
    assert_int_equal(a.children[0]->null_count, 1);
    a.release(&a);
    s.release(&s);
    schema.release(&schema);
    assert_int_equal(((const int64_t *)kept.buffers[1])[2], 5);
    kept.release(&kept);
    free(data);
}

struct kept {
    struct arrow_hold hold;
    int ended;
};
static void end_kept(struct arrow_hold *hold) { ((struct kept *)(void *)hold)->ended++; }

/* The bytes are held until the last array is released, in whatever order. */
static void test_hold(void **state) {
    struct kept k = {.hold = {.count = 1, .end = end_kept}};
    struct ArrowArrayStream s;
    struct ArrowArray first, second, column, dictionary;
    uint8_t *data = NULL;
    size_t len = write_it(2, &data);

    (void)state;
    assert_int_equal(arrow_decode_held(data, 8, &k.hold, &s, NULL), -SKATE_EPROTO);
    assert_int_equal(k.hold.count, 1);
    assert_int_equal(arrow_decode_held(data, len, &k.hold, &s, NULL), 0);
    assert_int_equal(s.get_next(&s, &first), 0);
    assert_int_equal(s.get_next(&s, &second), 0);
    s.release(&s);
    column = *first.children[5];
    first.children[5]->release = NULL;
    dictionary = *second.children[4]->dictionary;
    second.children[4]->dictionary->release = NULL;
    second.release(&second);
    first.release(&first);
    assert_int_equal(k.ended, 0);
    column.release(&column);
    assert_int_equal(k.hold.count, 1);
    assert_int_equal(k.ended, 0);
    dictionary.release(&dictionary);
    assert_int_equal(k.ended, 1);
    free(data);
}

static void test_bad_streams(void **state) {
    struct source in = {.batches = 2, .fail = 1};
    struct ArrowArrayStream s = open_source(&in);
    struct skate_error err = {{0}};
    uint8_t *data = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(arrow_encode(&s, &data, &len, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "the well is dry"));
    assert_int_equal(in.released, 1);
    assert_int_equal(arrow_encode(&s, &data, &len, &err), -SKATE_EINVAL);
    assert_null(data);
    len = write_it(1, &data);
    assert_int_equal(arrow_decode(data + 1, len - 1, &s, &err), -SKATE_EINVAL);
    assert_int_equal(read_it(data, 0), -SKATE_EPROTO);
    for (size_t n = 8; n < len; n += 8) (void)read_it(data, n);
    free(data);
}

/* Some bytes changed, in memory of exactly the right size. */
static void test_changed_bytes(void **state) {
    static const uint8_t odd[] = {0, 1, 2, 4, 8, 0x7f, 0x80, 0xff};
    uint8_t *whole = NULL;
    size_t len = write_it(2, &whole);
    uint64_t dice = 88172645463325252u;
    int read = 0;

    (void)state;
    for (int round = 0; round < 60000; round++) {
        size_t cut = len, changes;
        uint8_t *bent;

        dice = dice * 6364136223846793005u + 1442695040888963407u;
        if ((dice >> 60) == 0) cut = (dice >> 20) % len;
        bent = malloc(cut ? cut : 1);
        assert_non_null(bent);
        memcpy(bent, whole, cut);
        changes = 1 + (dice >> 33) % 3;
        while (cut && changes-- > 0) {
            dice = dice * 6364136223846793005u + 1442695040888963407u;
            bent[(dice >> 16) % cut] = odd[dice >> 61];
        }
        read += read_it(bent, cut) > 0;
        free(bent);
    }
    assert_in_range(read, 1000, 59999); /* both kinds were there */
    free(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_bad_streams),
        cmocka_unit_test(test_changed_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
