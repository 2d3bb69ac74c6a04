/* arrow_aggregation.c - a table comes, is grouped and summed in C, and a table goes back.
 *
 *  cc -O2 -o arrow_aggregation arrow_aggregation.c $(pkg-config --cflags --libs skate)
 *  cc -shared -fPIC -o arrow_aggregation.so arrow_aggregation.c $(pkg-config --cflags --libs skate)
 *  ./arrow_aggregation
 *
 * From Python the same task takes a pyarrow.Table:
 *
 *     total = skate.cross_language.c_function("/path/arrow_aggregation.so", "total")
 *     table = pa.table({"city": ["Bern", "Thun", "Bern"], "amount": [1.0, 2.0, 3.5]})
 *     skate.get(total.remote(table, "city", "amount"))     # a pyarrow.Table
 *
 * The structs are those of Arrow's C data interface: an Arrow library can make and read them. */
#include <errno.h>
#include <limits.h>
#include <skate/arrow.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a table of our own: names, sums and counts, given away as a stream of one batch ---- */

enum { COLUMNS = 3 };

struct table {
    struct ArrowSchema schema[COLUMNS], *schemas[COLUMNS];
    struct ArrowArray array[COLUMNS], *arrays[COLUMNS];
    const void *buffers[COLUMNS][3], *no_validity[1];
    int32_t *ends; /* rows + 1 */
    char *text;
    double *sums;
    int64_t *counts;
    int64_t rows;
    int32_t columns; /* of the above, from the left */
    bool given;
};

static void table_free(struct table *t) {
    free(t->ends);
    free(t->text);
    free(t->sums);
    free(t->counts);
    free(t);
}

/* What is given away points into the table, which lives as long as the stream. */
static void leave_schema(struct ArrowSchema *s) { s->release = NULL; }
static void leave_array(struct ArrowArray *a) { a->release = NULL; }

static int give_schema(struct ArrowArrayStream *s, struct ArrowSchema *out) {
    static const char *const formats[COLUMNS] = {"u", "g", "l"};
    static const char *const names[COLUMNS] = {"name", "sum", "count"};
    struct table *t = s->private_data;

    for (int i = 0; i < t->columns; i++) {
        t->schema[i] = (struct ArrowSchema){0};
        t->schema[i].format = formats[i];
        t->schema[i].name = names[i];
        t->schema[i].release = leave_schema;
        t->schemas[i] = &t->schema[i];
    }
    *out = (struct ArrowSchema){0};
    out->format = "+s";
    out->name = "";
    out->n_children = t->columns;
    out->children = t->schemas;
    out->release = leave_schema;
    return 0;
}

static int give_next(struct ArrowArrayStream *s, struct ArrowArray *out) {
    struct table *t = s->private_data;

    *out = (struct ArrowArray){0};
    if (t->given) return 0; /* the end: release is NULL */
    t->given = true;
    t->buffers[0][1] = t->ends;
    t->buffers[0][2] = t->text;
    t->buffers[1][1] = t->sums;
    t->buffers[2][1] = t->counts;
    for (int i = 0; i < t->columns; i++) {
        t->array[i] = (struct ArrowArray){0};
        t->array[i].length = t->rows;
        t->array[i].n_buffers = i == 0 ? 3 : 2;
        t->array[i].buffers = t->buffers[i];
        t->array[i].release = leave_array;
        t->arrays[i] = &t->array[i];
    }
    out->length = t->rows;
    out->n_buffers = 1;
    out->buffers = t->no_validity;
    out->n_children = t->columns;
    out->children = t->arrays;
    out->release = leave_array;
    return 0;
}

static const char *no_error(struct ArrowArrayStream *s) {
    (void)s;
    return NULL;
}

static void release_table(struct ArrowArrayStream *s) {
    table_free(s->private_data);
    s->release = NULL;
}

static struct ArrowArrayStream table_stream(struct table *t) {
    struct ArrowArrayStream s = {give_schema, give_next, no_error, release_table, t};

    return s;
}

static struct table *table_new(size_t rows, size_t text) {
    struct table *t = calloc(1, sizeof *t);

    if (!t) return NULL;
    t->ends = calloc(rows + 1, sizeof *t->ends);
    t->text = malloc(text + 1);
    t->sums = calloc(rows + 1, sizeof *t->sums);
    t->counts = calloc(rows + 1, sizeof *t->counts);
    if (t->ends && t->text && t->sums && t->counts) return t;
    table_free(t);
    return NULL;
}

/* ---- groups: a hash table from names to sums; names are copied into one text ---- */

struct groups {
    struct {
        size_t at, len;
        double sum;
        int64_t count;
    } *v;
    uint32_t *slots; /* index + 1 into v; 0: free */
    size_t count, cap, text_len, text_cap;
    char *text;
};

static void groups_free(struct groups *g) {
    free(g->v);
    free(g->slots);
    free(g->text);
}

static uint64_t hash(const char *p, size_t n) {
    uint64_t h = UINT64_C(14695981039346656037);

    while (n-- > 0) h = (h ^ (unsigned char)*p++) * UINT64_C(1099511628211);
    return h;
}

/* Twice the room; the slots are filled anew. */
static bool groups_grow(struct groups *g) {
    size_t cap = g->cap ? 2 * g->cap : 64;
    void *v = realloc(g->v, cap * sizeof *g->v);
    uint32_t *slots = calloc(2 * cap, sizeof *slots);

    if (v) g->v = v;
    if (!v || !slots || cap > UINT32_MAX / 2) {
        free(slots);
        return false;
    }
    for (size_t i = 0; i < g->count; i++) {
        size_t at = hash(g->text + g->v[i].at, g->v[i].len) & (2 * cap - 1);

        while (slots[at]) at = (at + 1) & (2 * cap - 1);
        slots[at] = (uint32_t)i + 1;
    }
    free(g->slots);
    g->slots = slots;
    g->cap = cap;
    return true;
}

static bool keep_text(struct groups *g, const char *name, size_t len) {
    if (g->text_len + len > g->text_cap) {
        size_t cap = 2 * (g->text_cap + len) + 256;
        char *text = realloc(g->text, cap);

        if (!text) return false;
        g->text = text;
        g->text_cap = cap;
    }
    if (len) memcpy(g->text + g->text_len, name, len);
    g->text_len += len;
    return true;
}

static bool groups_add(struct groups *g, const char *name, size_t len, double amount) {
    size_t at;

    if (g->count == g->cap && !groups_grow(g)) return false;
    at = hash(name, len) & (2 * g->cap - 1);
    for (; g->slots[at]; at = (at + 1) & (2 * g->cap - 1)) {
        size_t i = g->slots[at] - 1;

        if (g->v[i].len != len || memcmp(g->text + g->v[i].at, name, len) != 0) continue;
        g->v[i].sum += amount;
        g->v[i].count++;
        return true;
    }
    g->v[g->count].at = g->text_len;
    g->v[g->count].len = len;
    g->v[g->count].sum = amount;
    g->v[g->count].count = 1;
    if (!keep_text(g, name, len)) return false;
    g->slots[at] = (uint32_t)++g->count;
    return true;
}

static struct table *groups_table(const struct groups *g) {
    struct table *t = g->text_len > INT32_MAX ? NULL : table_new(g->count, g->text_len);

    if (!t) return NULL;
    t->rows = (int64_t)g->count;
    t->columns = COLUMNS;
    if (g->text_len) memcpy(t->text, g->text, g->text_len);
    for (size_t i = 0; i < g->count; i++) {
        t->ends[i + 1] = (int32_t)(g->v[i].at + g->v[i].len);
        t->sums[i] = g->v[i].sum;
        t->counts[i] = g->v[i].count;
    }
    return t;
}

/* ---- the task ---- */

static bool is_null(const struct ArrowArray *a, int64_t i) {
    const uint8_t *bits = a->buffers[0];

    return bits && !(bits[i >> 3] >> (i & 7) & 1);
}

/* A batch: its arrays begin at 0 when they come from skate_arrow_open(). Rows without a name or an
 * amount are left out. */
static bool add_batch(struct groups *g, const struct ArrowArray *names,
                      const struct ArrowArray *amounts) {
    const int32_t *ends = names->buffers[1];
    const char *text = names->buffers[2];
    const double *v = amounts->buffers[1];

    for (int64_t i = 0; i < names->length; i++) {
        if (is_null(names, i) || is_null(amounts, i)) continue;
        if (!groups_add(g, text + ends[i], (size_t)(ends[i + 1] - ends[i]), v[i])) return false;
    }
    return true;
}

/* The index of a column of that format, or a negative error. */
static int find(skate_task *call, struct ArrowArrayStream *in, const char *name,
                const char *format) {
    struct ArrowSchema s;
    int found = -1, r;

    if (in->get_schema(in, &s)) return skate_fail(call, "MemoryError", "no room for the schema");
    for (int64_t i = 0; found < 0 && i < s.n_children; i++)
        if (strcmp(s.children[i]->name, name) == 0) found = (int)i;
    if (found < 0)
        r = skate_fail(call, "KeyError", "the table has no column %s", name);
    else if (strcmp(s.children[found]->format, format) != 0)
        r = skate_fail(call, "TypeError", "the column %s must be a %s", name,
                       *format == 'u' ? "string" : "double");
    else
        r = found;
    s.release(&s);
    return r;
}

static int add_all(skate_task *call, struct ArrowArrayStream *in, struct groups *g) {
    int name = find(call, in, skate_arg_str(call, 1, NULL), "u"), amount;

    if (name < 0) return name;
    amount = find(call, in, skate_arg_str(call, 2, NULL), "g");
    if (amount < 0) return amount;
    for (;;) {
        struct ArrowArray a;
        bool good;

        if (in->get_next(in, &a))
            return skate_fail(call, "ValueError", "%s", in->get_last_error(in));
        if (!a.release) return 0;
        good = add_batch(g, a.children[name], a.children[amount]);
        a.release(&a);
        if (!good) return skate_fail(call, "MemoryError", "no room for %zu groups", g->count);
    }
}

/* total(table, name of the column to group by, name of the column to sum): name, sum, count. */
SKATE_TASK(total) {
    struct groups g = {0};
    struct ArrowArrayStream in, out;
    struct table *t;
    skate_value v;
    int r = skate_arg(call, 0, &v);

    if (r == 0 && !(skate_arg_str(call, 1, NULL) && skate_arg_str(call, 2, NULL))) return 0;
    if (r == 0) r = skate_arrow_open(&v, &in);
    if (r < 0) return r;
    r = add_all(call, &in, &g);
    in.release(&in);
    t = r == 0 ? groups_table(&g) : NULL;
    groups_free(&g);
    if (r < 0) return r;
    if (!t) return skate_fail(call, "MemoryError", "no room for the table");
    out = table_stream(t);
    return skate_return_arrow(call, &out);
}

/* ---- the program ---- */

static void check(int result, const char *what) {
    if (result >= 0) return;
    fprintf(stderr, "%s: %s\n", what, skate_last_error());
    exit(1);
}

/* A table with the columns name and sum: what was sold where. */
static struct table *sales(void) {
    static const struct {
        const char *city;
        double amount;
    } sold[] = {{"Bern", 12.5}, {"Thun", 3}, {"Bern", 7.5}, {"Chur", 40}, {"Thun", 1.25}};
    size_t rows = sizeof sold / sizeof *sold;
    struct table *t = table_new(rows, 64);

    if (!t) exit(1);
    t->rows = (int64_t)rows;
    t->columns = 2;
    for (size_t i = 0; i < rows; i++) {
        size_t len = strlen(sold[i].city);

        memcpy(t->text + t->ends[i], sold[i].city, len);
        t->ends[i + 1] = t->ends[i] + (int32_t)len;
        t->sums[i] = sold[i].amount;
    }
    return t;
}

static void show(struct ArrowArrayStream *in) {
    struct ArrowArray a;

    while (in->get_next(in, &a) == 0 && a.release) {
        const int32_t *ends = a.children[0]->buffers[1];
        const char *text = a.children[0]->buffers[2];
        const double *sums = a.children[1]->buffers[1];
        const int64_t *counts = a.children[2]->buffers[1];

        for (int64_t i = 0; i < a.length; i++)
            printf("%.*s %g of %lld\n", (int)(ends[i + 1] - ends[i]), text + ends[i], sums[i],
                   (long long)counts[i]);
        a.release(&a);
    }
}

int main(int argc, char **argv) {
    struct ArrowArrayStream in, out;
    skate_session *s;
    skate_function *total_of;
    skate_ref table, result;
    skate_value args[3], v;
    char library[PATH_MAX], beside[PATH_MAX];

    (void)argc;
    snprintf(beside, sizeof beside, "%s.so", argv[0]);
    if (!realpath(beside, library)) {
        fprintf(stderr, "%s: %s\n", beside, strerror(errno));
        return 1;
    }
    check(skate_connect(NULL, &s), "connect");
    check(skate_c_function(s, library, "total", NULL, &total_of), "function");
    in = table_stream(sales());
    check(skate_put_arrow(s, &in, &table), "put");
    args[0] = skate_of_ref(table); /* the task reads the table where it lies */
    args[1] = skate_str("name");
    args[2] = skate_str("sum");
    check(skate_submit(s, total_of, args, 3, &result), "submit");
    check(skate_get(s, result, -1, &v), "get");
    check(skate_arrow_open(&v, &out), "open");
    show(&out);
    out.release(&out);
    skate_release(s, &v);
    skate_ref_drop(s, result);
    skate_ref_drop(s, table);
    skate_function_free(s, total_of);
    skate_close(s);
    return 0;
}
