/* arrow_type.c - types of columns: see arrow_type.h. */
#include "arrow/arrow_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Formats of one type each; those with parameters are parsed below. */
static const struct plain {
    const char *format;
    struct arrow_type type;
} plains[] = {
    {"n", {.id = ARROW_NULL, .layout = LAY_NONE}},
    {"b", {.id = ARROW_BOOL, .layout = LAY_BITS}},
    {"c", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 1, .flag = true}},
    {"C", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 1}},
    {"s", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 2, .flag = true}},
    {"S", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 2}},
    {"i", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 4, .flag = true}},
    {"I", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 4}},
    {"l", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 8, .flag = true}},
    {"L", {.id = ARROW_INT, .layout = LAY_FIXED, .width = 8}},
    {"e", {.id = ARROW_FLOAT, .layout = LAY_FIXED, .width = 2, .unit = 0}},
    {"f", {.id = ARROW_FLOAT, .layout = LAY_FIXED, .width = 4, .unit = 1}},
    {"g", {.id = ARROW_FLOAT, .layout = LAY_FIXED, .width = 8, .unit = 2}},
    {"z", {.id = ARROW_BINARY, .layout = LAY_BYTES32}},
    {"Z", {.id = ARROW_LARGE_BINARY, .layout = LAY_BYTES64}},
    {"u", {.id = ARROW_UTF8, .layout = LAY_BYTES32}},
    {"U", {.id = ARROW_LARGE_UTF8, .layout = LAY_BYTES64}},
    {"vz", {.id = ARROW_BINARY_VIEW, .layout = LAY_VIEWS}},
    {"vu", {.id = ARROW_UTF8_VIEW, .layout = LAY_VIEWS}},
    {"tdD", {.id = ARROW_DATE, .layout = LAY_FIXED, .width = 4, .unit = 0}},
    {"tdm", {.id = ARROW_DATE, .layout = LAY_FIXED, .width = 8, .unit = 1}},
    {"tts", {.id = ARROW_TIME, .layout = LAY_FIXED, .width = 4, .unit = 0}},
    {"ttm", {.id = ARROW_TIME, .layout = LAY_FIXED, .width = 4, .unit = 1}},
    {"ttu", {.id = ARROW_TIME, .layout = LAY_FIXED, .width = 8, .unit = 2}},
    {"ttn", {.id = ARROW_TIME, .layout = LAY_FIXED, .width = 8, .unit = 3}},
    {"tDs", {.id = ARROW_DURATION, .layout = LAY_FIXED, .width = 8, .unit = 0}},
    {"tDm", {.id = ARROW_DURATION, .layout = LAY_FIXED, .width = 8, .unit = 1}},
    {"tDu", {.id = ARROW_DURATION, .layout = LAY_FIXED, .width = 8, .unit = 2}},
    {"tDn", {.id = ARROW_DURATION, .layout = LAY_FIXED, .width = 8, .unit = 3}},
    {"tiM", {.id = ARROW_INTERVAL, .layout = LAY_FIXED, .width = 4, .unit = 0}},
    {"tiD", {.id = ARROW_INTERVAL, .layout = LAY_FIXED, .width = 8, .unit = 1}},
    {"tin", {.id = ARROW_INTERVAL, .layout = LAY_FIXED, .width = 16, .unit = 2}},
    {"+l", {.id = ARROW_LIST, .layout = LAY_LIST32}},
    {"+L", {.id = ARROW_LARGE_LIST, .layout = LAY_LIST64}},
    {"+s", {.id = ARROW_STRUCT, .layout = LAY_STRUCT}},
    {"+m", {.id = ARROW_MAP, .layout = LAY_LIST32}},
};
enum { PLAINS = sizeof plains / sizeof *plains };

static const char *const type_names[] = {
    "?", "null", "int", "float", "binary", "utf8", "bool", "decimal", "date", "time", "timestamp",
    "interval", "list", "struct", "union", "fixed-size binary", "fixed-size list", "map",
    "duration", "large binary", "large utf8", "large list", "run-end encoded", "binary view",
    "utf8 view", "list view", "large list view",
};
enum { NAMES = sizeof type_names / sizeof *type_names };
static const char units[] = "smun";

static int refuse_name(uint8_t id, struct skate_error *err) {
    return err_fail(err, -SKATE_ETYPE, "the Arrow type %s is not carried",
                    type_names[id < NAMES ? id : 0]);
}

static int refuse_format(const char *format, struct skate_error *err) {
    static const struct {
        const char *prefix;
        uint8_t id;
    } known[] = {{"+u", ARROW_UNION}, {"+r", ARROW_RUN_END}, {"+vl", ARROW_LIST_VIEW},
                 {"+vL", ARROW_LARGE_LIST_VIEW}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(format, known[i].prefix, strlen(known[i].prefix)) == 0)
            return refuse_name(known[i].id, err);
    return err_fail(err, -SKATE_ETYPE, "the Arrow format \"%.40s\" is not carried", format);
}

static bool decimal_fits(const struct arrow_type *t) {
    return t->width == 4 || t->width == 8 || t->width == 16 || t->width == 32;
}

static int parse_decimal(const char *format, struct arrow_type *t, struct skate_error *err) {
    int bits = 128, precision, scale, used = 0;
    bool good = sscanf(format, "d:%d,%d%n", &precision, &scale, &used) == 2;

    if (good && format[used] == ',') {
        format += used;
        used = 0;
        good = sscanf(format, ",%d%n", &bits, &used) == 1;
    }
    if (!good || format[used]) return refuse_format(format, err);
    *t = (struct arrow_type){.id = ARROW_DECIMAL, .layout = LAY_FIXED, .width = bits / 8,
                             .precision = precision, .scale = scale};
    return decimal_fits(t) ? 0 : refuse_format(format, err);
}

/* "w:16" and "+w:3": one number. */
static int parse_width(const char *format, struct arrow_type *t, struct skate_error *err) {
    const char *digits = strchr(format, ':') + 1;
    char *end;
    long n = strtol(digits, &end, 10);

    if (end == digits || *end || n < 0 || n > INT32_MAX) return refuse_format(format, err);
    *t = (struct arrow_type){.id = ARROW_FIXED_BINARY, .layout = LAY_FIXED, .width = (int32_t)n};
    if (*format == '+') {
        t->id = ARROW_FIXED_LIST;
        t->layout = LAY_FIXED_LIST;
    }
    return 0;
}

static int set_zone(struct arrow_type *t, const char *zone, size_t n, struct skate_error *err) {
    if (n >= ARROW_ZONE || memchr(zone, 0, n))
        return err_fail(err, -SKATE_ETYPE, "the name of a time zone has at most %d bytes",
                        ARROW_ZONE - 1);
    memcpy(t->zone, zone, n);
    t->zone[n] = 0;
    return 0;
}

static int parse_timestamp(const char *format, struct arrow_type *t, struct skate_error *err) {
    const char *unit = strchr(units, format[2]);

    if (!format[2] || !unit || format[3] != ':') return refuse_format(format, err);
    *t = (struct arrow_type){.id = ARROW_TIMESTAMP, .layout = LAY_FIXED, .width = 8,
                             .unit = (int16_t)(unit - units)};
    return set_zone(t, format + 4, strlen(format + 4), err);
}

int arrow_type_parse(const char *format, struct arrow_type *ret, struct skate_error *err) {
    if (!format) return err_fail(err, -SKATE_EINVAL, "a schema without a format");
    for (int i = 0; i < PLAINS; i++)
        if (strcmp(plains[i].format, format) == 0) {
            *ret = plains[i].type;
            return 0;
        }
    if (strncmp(format, "d:", 2) == 0) return parse_decimal(format, ret, err);
    if (strncmp(format, "w:", 2) == 0 || strncmp(format, "+w:", 3) == 0)
        return parse_width(format, ret, err);
    if (strncmp(format, "ts", 2) == 0) return parse_timestamp(format, ret, err);
    return refuse_format(format, err);
}

void arrow_type_format(const struct arrow_type *t, char ret[ARROW_FORMAT]) {
    const char *found = "n";

    switch (t->id) {
    case ARROW_DECIMAL:
        (void)snprintf(ret, ARROW_FORMAT, t->width == 16 ? "d:%d,%d" : "d:%d,%d,%d", t->precision,
                       t->scale, t->width * 8);
        return;
    case ARROW_FIXED_BINARY: (void)snprintf(ret, ARROW_FORMAT, "w:%d", t->width); return;
    case ARROW_FIXED_LIST: (void)snprintf(ret, ARROW_FORMAT, "+w:%d", t->width); return;
    case ARROW_TIMESTAMP:
        (void)snprintf(ret, ARROW_FORMAT, "ts%c:%s", units[t->unit & 3], t->zone);
        return;
    default: break;
    }
    for (int i = 0; i < PLAINS; i++) {
        const struct arrow_type *p = &plains[i].type;

        if (p->id == t->id && p->width == t->width && p->unit == t->unit &&
            (t->id == ARROW_MAP || p->flag == t->flag))
            found = plains[i].format;
    }
    (void)snprintf(ret, ARROW_FORMAT, "%s", found);
}

uint32_t arrow_type_buffers(const struct arrow_type *t) {
    switch (t->layout) {
    case LAY_NONE: return 0;
    case LAY_STRUCT:
    case LAY_FIXED_LIST: return 1;
    case LAY_VIEWS: /* as we write them; others' have more */
    case LAY_BYTES32:
    case LAY_BYTES64: return 3;
    default: return 2;
    }
}

/* ---- tables of the IPC schema: the field numbers are those of Schema.fbs ---- */

/* The numbers of a type as its table has them; then the plain type that has the same is it. */
static int read_numbers(const struct flat_table *t, struct arrow_type *n) {
    switch (n->id) {
    case ARROW_INT:
        n->width = flat_i32(t, 0, 0);
        n->flag = flat_u8(t, 1, 0) != 0;
        if (n->width % 8) return -1;
        n->width /= 8;
        return 0;
    case ARROW_FLOAT:
        n->unit = flat_i16(t, 0, 0);
        n->width = n->unit >= 0 && n->unit <= 2 ? 2 << n->unit : 0;
        return 0;
    case ARROW_DATE:
        n->unit = flat_i16(t, 0, 1);
        n->width = n->unit == 0 ? 4 : 8;
        return 0;
    case ARROW_TIME:
        n->unit = flat_i16(t, 0, 1);
        n->width = flat_i32(t, 1, 32) / 8;
        return 0;
    case ARROW_DURATION:
        n->unit = flat_i16(t, 0, 1);
        n->width = 8;
        return 0;
    case ARROW_INTERVAL:
        n->unit = flat_i16(t, 0, 0);
        n->width = n->unit >= 0 && n->unit <= 2 ? 4 << n->unit : 0;
        return 0;
    case ARROW_MAP: n->flag = flat_u8(t, 0, 0) != 0; return 0;
    default: return 0;
    }
}

/* Types with parameters. 1: it is none of them. */
static int read_with_parameters(const struct flat_table *t, struct arrow_type *n,
                                struct skate_error *err) {
    const char *zone;
    uint32_t len;

    n->layout = LAY_FIXED;
    switch (n->id) {
    case ARROW_DECIMAL:
        n->precision = flat_i32(t, 0, 0);
        n->scale = flat_i32(t, 1, 0);
        n->width = flat_i32(t, 2, 128) / 8;
        return decimal_fits(n) ? 0 : err_fail(err, -SKATE_EPROTO, "a decimal of %d bytes",
                                                n->width);
    case ARROW_FIXED_BINARY:
    case ARROW_FIXED_LIST:
        n->width = flat_i32(t, 0, 0);
        if (n->id == ARROW_FIXED_LIST) n->layout = LAY_FIXED_LIST;
        return n->width >= 0 ? 0 : err_fail(err, -SKATE_EPROTO, "a negative size in a schema");
    case ARROW_TIMESTAMP:
        n->width = 8;
        n->unit = flat_i16(t, 0, 0);
        if (n->unit < 0 || n->unit > 3) return err_fail(err, -SKATE_EPROTO, "no such unit of time");
        zone = flat_text(t, 1, &len);
        return zone ? set_zone(n, zone, len, err) : 0;
    default: return 1;
    }
}

int arrow_type_read(uint8_t id, const struct flat_table *t, struct arrow_type *ret,
                    struct skate_error *err) {
    struct arrow_type n = {.id = id};
    int r = read_with_parameters(t, &n, err);

    if (r <= 0) {
        if (r == 0) *ret = n;
        return r;
    }
    n = (struct arrow_type){.id = id};
    r = read_numbers(t, &n);
    for (int i = 0; r == 0 && i < PLAINS; i++) {
        const struct arrow_type *p = &plains[i].type;

        if (p->id != id || p->width != n.width || p->unit != n.unit) continue;
        if (id != ARROW_MAP && p->flag != n.flag) continue;
        n.layout = p->layout;
        *ret = n;
        return 0;
    }
    return refuse_name(id, err);
}

size_t arrow_type_write(struct flat_out *o, const struct arrow_type *t) {
    size_t f[4], at, zone;

    switch (t->id) {
    case ARROW_INT:
        at = flat_table_new(o, "41", f);
        flat_set_i32(o, f[0], t->width * 8);
        flat_set_u8(o, f[1], t->flag);
        return at;
    case ARROW_DECIMAL:
        at = flat_table_new(o, "444", f);
        flat_set_i32(o, f[0], t->precision);
        flat_set_i32(o, f[1], t->scale);
        flat_set_i32(o, f[2], t->width * 8);
        return at;
    case ARROW_TIME:
        at = flat_table_new(o, "24", f);
        flat_set_i16(o, f[0], t->unit);
        flat_set_i32(o, f[1], t->width * 8);
        return at;
    case ARROW_TIMESTAMP:
        at = flat_table_new(o, t->zone[0] ? "24" : "2", f);
        flat_set_i16(o, f[0], t->unit);
        zone = t->zone[0] ? flat_text_new(o, t->zone) : 0;
        if (zone) flat_point(o, f[1], zone);
        return at;
    case ARROW_FLOAT:
    case ARROW_DATE:
    case ARROW_DURATION:
    case ARROW_INTERVAL:
        at = flat_table_new(o, "2", f);
        flat_set_i16(o, f[0], t->unit);
        return at;
    case ARROW_FIXED_BINARY:
    case ARROW_FIXED_LIST:
        at = flat_table_new(o, "4", f);
        flat_set_i32(o, f[0], t->width);
        return at;
    case ARROW_MAP:
        at = flat_table_new(o, "1", f);
        flat_set_u8(o, f[0], t->flag);
        return at;
    default: return flat_table_new(o, "", f);
    }
}
