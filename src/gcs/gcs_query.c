/* gcs_query.c - lists for people and tools, and the small named values of the cluster. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "gcs/gcs_demand.h"
#include "gcs/gcs_groups.h"
#include "gcs/gcs_said.h"
#include "wire/row_list.h"

enum { ROWS_BYTES_MAX = 64 << 20 };

void gcs_list(struct gcs *g, const struct gcs_from *from, const struct wire_list *m) {
    struct wire_row_list r = {.max = UINT32_MAX, .bytes_max = ROWS_BYTES_MAX};
    struct wire_buf b;

    for (uint32_t i = 0; m->what == 1 && i < g->node_count; i++) {
        wire_init(&b, NULL, 0);
        gcs_node_frame(g->nodes[i], &b);
        wire_rows_add(&r, &b);
    }
    for (uint32_t i = 0; m->what == 2 && i < g->actor_slots; i++) {
        if (!g->actors[i]) continue;
        wire_init(&b, NULL, 0);
        gcs_actor_frame(g->actors[i], &b);
        wire_rows_add(&r, &b);
    }
    for (uint32_t i = 0; (m->what == 3 || m->what == 6) && i < g->job_count; i++) {
        if (!g->jobs[i]->live && m->what == 3) continue;
        wire_init(&b, NULL, 0);
        gcs_job_frame(g->jobs[i], &b);
        wire_rows_add(&r, &b);
    }
    if (m->what == 7) gcs_demand_list(g, &r);
    if (m->what == 8) gcs_said_list(g, &r);
    for (uint32_t i = 0; m->what == 4 && i < g->groups.count; i++) {
        wire_init(&b, NULL, 0);
        gcs_group_frame(g->groups.v[i], &b);
        wire_rows_add(&r, &b);
    }
    wire_init(&b, NULL, 0);
    ((struct wire_rows *)wire_begin(&b, WIRE_ROWS))->count = r.count;
    WIRE_PUT(&b, rows, frames, r.p, r.used);
    free(r.p);
    gcs_reply(g, from, &b);
}

/* ------------------------------------------------------------------ values */

struct gcs_value *gcs_value_find(struct gcs *g, const char *name, uint32_t len) {
    struct skate_id key = gcs_text_key(name, len, "", 0);
    uint32_t i = map_get(&g->value_keys, &key);

    if (i == MAP_NONE || g->values[i].name_len != len || memcmp(g->values[i].name, name, len) != 0)
        return NULL;
    return &g->values[i];
}

struct gcs_value *gcs_value_add(struct gcs *g, const char *name, uint32_t len) {
    struct skate_id key = gcs_text_key(name, len, "", 0);
    struct gcs_value *v;

    if (map_get(&g->value_keys, &key) != MAP_NONE) return NULL;
    if (g->value_count == g->value_cap)
        g->values = gcs_grow(g->values, &g->value_cap, sizeof *g->values);
    SKATE_ASSERT(map_put(&g->value_keys, &key, g->value_count) == 0);
    v = &g->values[g->value_count++];
    *v = (struct gcs_value){.key = key, .name = gcs_copy(name, len), .name_len = len};
    return v;
}

void gcs_kv_put(struct gcs *g, const struct gcs_from *from, const struct wire_kv_put *m) {
    uint32_t name_len, len;
    const char *name = wire_kv_put_key(m, &name_len);
    const uint8_t *bytes = wire_kv_put_value(m, &len);
    struct gcs_value *v = gcs_value_find(g, name, name_len);
    uint64_t more = v ? len : (uint64_t)len + name_len + sizeof *v;
    uint64_t less = v ? v->len : 0;

    if (name_len == 0 || name_len > GCS_KEY_MAX) {
        gcs_reply_status(g, from, -SKATE_EINVAL, "a key has 1 to 1024 bytes");
        return;
    }
    if (v && !m->overwrite && from->again && v->len == len && memcmp(v->bytes, bytes, len) == 0) {
        gcs_reply_status(g, from, 0, "");
        return;
    }
    if (v && !m->overwrite) {
        gcs_reply_status(g, from, -SKATE_EEXIST, "there is a value with this key");
        return;
    }
    if (g->kv_bytes - less + more > g->opts.kv_bytes) {
        gcs_reply_status(g, from, -SKATE_EFULL, "the cluster's named values are full");
        return;
    }
    if (!v && !(v = gcs_value_add(g, name, name_len))) {
        gcs_reply_status(g, from, -SKATE_EEXIST, "a key like this one is in use");
        return;
    }
    free(v->bytes);
    v->bytes = gcs_copy(bytes, len);
    v->len = len;
    g->kv_bytes += more - less;
    gcs_dirty_value(g, v);
    gcs_reply_status(g, from, 0, "");
}

void gcs_kv_get(struct gcs *g, const struct gcs_from *from, const struct wire_kv_get *m) {
    uint32_t name_len;
    const char *name = wire_kv_get_key(m, &name_len);
    const struct gcs_value *v = gcs_value_find(g, name, name_len);
    struct wire_buf b;

    if (v) gcs_says(g, v->batch);
    wire_init(&b, NULL, 0);
    ((struct wire_kv_value *)wire_begin(&b, WIRE_KV_VALUE))->status = v ? 0 : -SKATE_ENOENT;
    if (v) WIRE_PUT(&b, kv_value, value, v->bytes, v->len);
    gcs_reply(g, from, &b);
}

/* The last value takes the freed place. */
static void drop_value(struct gcs *g, struct gcs_value *v) {
    uint32_t last = g->value_count - 1;

    g->kv_bytes -= (uint64_t)v->len + v->name_len + sizeof *v;
    (void)map_remove(&g->value_keys, &v->key);
    v->dirty = false; /* once more: that it is gone */
    gcs_dirty_value(g, v);
    free(v->name);
    free(v->bytes);
    if (v != &g->values[last]) {
        *v = g->values[last];
        SKATE_ASSERT(map_put(&g->value_keys, &v->key, (uint32_t)(v - g->values)) == 0);
    }
    g->value_count--;
}

static bool begins(const struct gcs_value *v, const char *prefix, uint32_t len) {
    return v->name_len >= len && memcmp(v->name, prefix, len) == 0;
}

void gcs_kv_del(struct gcs *g, const struct gcs_from *from, const struct wire_kv_del *m) {
    uint32_t name_len, gone = 0;
    const char *name = wire_kv_del_key(m, &name_len);
    struct gcs_value *v = m->prefix ? NULL : gcs_value_find(g, name, name_len);

    if (v) {
        drop_value(g, v);
        gone = 1;
    }
    for (uint32_t i = g->value_count; m->prefix && i-- > 0;) /* what takes a place was looked at */
        if (begins(&g->values[i], name, name_len)) {
            drop_value(g, &g->values[i]);
            gone++;
        }
    gcs_reply_status(g, from, (int)gone, "");
}

void gcs_kv_list(struct gcs *g, const struct gcs_from *from, const struct wire_kv_list *m) {
    uint32_t len, count = 0;
    const char *prefix = wire_kv_list_prefix(m, &len);
    struct wire_row_list r = {0}; /* its memory alone */
    struct wire_kv_keys *keys;
    struct wire_buf b;
    int status = 0;

    for (uint32_t i = 0; i < g->value_count; i++) {
        const struct gcs_value *v = &g->values[i];

        if (!begins(v, prefix, len)) continue;
        if (r.used + sizeof v->name_len + v->name_len > ROWS_BYTES_MAX) {
            status = -SKATE_EFULL;
            break;
        }
        while (r.room < r.used + sizeof v->name_len + v->name_len)
            r.p = gcs_grow(r.p, &r.room, 1);
        memcpy(r.p + r.used, &v->name_len, sizeof v->name_len);
        memcpy(r.p + r.used + sizeof v->name_len, v->name, v->name_len);
        r.used += (uint32_t)sizeof v->name_len + v->name_len;
        count++;
    }
    wire_init(&b, NULL, 0);
    keys = wire_begin(&b, WIRE_KV_KEYS);
    keys->status = status;
    keys->count = count;
    WIRE_PUT(&b, kv_keys, keys, r.p, r.used);
    free(r.p);
    gcs_reply(g, from, &b);
}

/* What is known of an actor by its id goes with it: see src/gcs/README.md, rule 11. */
void gcs_kv_drop_actor(struct gcs *g, const struct skate_id *actor) {
    static const char prefix[] = "actor-meta:", digits[] = "0123456789abcdef";
    char name[sizeof prefix + 2 * sizeof *actor];
    uint32_t n = sizeof prefix - 1;
    struct gcs_value *v;
    uint8_t raw[sizeof *actor];

    memcpy(raw, actor, sizeof raw);
    memcpy(name, prefix, n);
    for (size_t i = 0; i < sizeof raw; i++) {
        name[n++] = digits[raw[i] >> 4];
        name[n++] = digits[raw[i] & 15];
    }
    v = gcs_value_find(g, name, n);
    if (v) drop_value(g, v);
}

void gcs_kv_release(struct gcs *g) {
    for (uint32_t i = 0; i < g->value_count; i++) {
        free(g->values[i].name);
        free(g->values[i].bytes);
    }
    free(g->values);
    map_release(&g->value_keys);
}
