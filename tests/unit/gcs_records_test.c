/* gcs_records_test.c - the store's records: random steps, kept as they are taken, are always what a
 * full dump would be, and build the same store again, which goes on; damaged ones are refused.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"

#include "gcs/gcs_groups.h"

enum { KEPT_MAX = 4096, STEPS = 4000 };

/* What a log would hold. */
struct kept {
    uint8_t table;
    uint32_t key_len, len;
    uint8_t *key, *value;
};
static struct kept kept[KEPT_MAX];
static uint32_t kept_count;
static uint64_t seed;

static uint32_t draw(uint32_t n) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % n;
}

static struct kept *kept_find(uint8_t table, const void *key, uint32_t len) {
    for (uint32_t i = 0; i < kept_count; i++)
        if (kept[i].table == table && kept[i].key_len == len &&
            memcmp(kept[i].key, key, len) == 0)
            return &kept[i];
    return NULL;
}

static void kept_drop(struct kept *k) {
    free(k->key);
    free(k->value);
    *k = kept[--kept_count];
}

static void keep(const struct gcs_records *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        const struct gcs_record *c = &r->v[i];
        struct kept *k = kept_find(c->table, r->bytes + c->key_at, c->key_len);

        if (k) kept_drop(k);
        if (c->gone) continue;
        assert_true(kept_count < KEPT_MAX);
        k = &kept[kept_count++];
        *k = (struct kept){.table = c->table, .key_len = c->key_len, .len = c->len,
                           .key = malloc(c->key_len), .value = malloc(c->len)};
        memcpy(k->key, r->bytes + c->key_at, c->key_len);
        memcpy(k->value, r->bytes + c->at, c->len);
    }
}

static void take(void) {
    struct gcs_records r = {0};

    if (gcs_records_take(g, &r)) keep(&r);
    gcs_records_release(&r);
}

static void forget_all(void) {
    while (kept_count) kept_drop(&kept[0]);
}

/* A group whose attempt is open is restored without that attempt. */
static bool is_open(const struct gcs_record *c, const uint8_t *bytes) {
    const struct wire_rec_group *m = (const void *)(bytes + c->at);

    return c->table == GCS_GROUPS && (m->attempting || m->state != GROUP_CREATED);
}

/* Is a full dump of `of` what is kept? */
static void same(struct gcs *of, bool restored) {
    struct gcs_records r = {0};
    uint32_t there = 0;

    gcs_records_all(of);
    (void)gcs_records_take(of, &r);
    for (uint32_t i = 0; i < r.count; i++) {
        const struct gcs_record *c = &r.v[i];
        const struct kept *k = kept_find(c->table, r.bytes + c->key_at, c->key_len);

        assert_false(c->gone);
        assert_non_null(k);
        there++;
        if (restored && is_open(c, r.bytes)) continue;
        assert_int_equal(k->len, c->len);
        assert_memory_equal(k->value, r.bytes + c->at, c->len);
    }
    if (r.count) assert_int_equal(there, kept_count);
    gcs_records_release(&r);
}

static struct gcs *again(void) {
    struct gcs_opts opts = g->opts;
    uint32_t dropped = 9;
    struct skate_error err = {""};
    struct gcs *n;

    assert_int_equal(gcs_new(&opts, &n), 0);
    for (uint32_t i = kept_count; i-- > 0;)
        assert_int_equal(gcs_restore_record(n, kept[i].table, kept[i].value, kept[i].len), 0);
    if (gcs_restore_end(n, now, false, &dropped, &err) < 0) fail_msg("%s", err.text);
    assert_int_equal(dropped, 0);
    return n;
}

static void same_list(struct gcs *n, uint32_t a, uint32_t b, bool dead) {
    while (a != MAP_NONE && b != MAP_NONE) {
        assert_true(id_equal(&g->actors[a]->id, &n->actors[b]->id));
        a = dead ? g->actors[a]->next_dead : g->actors[a]->next_pending;
        b = dead ? n->actors[b]->next_dead : n->actors[b]->next_pending;
    }
    assert_int_equal(a, b);
}

static void same_store(struct gcs *n) {
    struct gcs_counts a, b;

    gcs_count(g, &a);
    gcs_count(n, &b);
    a.subs = b.subs = 0;
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(g->head, n->head);
    assert_int_equal(g->groups.live, n->groups.live);
    assert_int_equal(g->groups.unplaced, n->groups.unplaced);
    same_list(n, g->pending, n->pending, false);
    same_list(n, g->dead_first, n->dead_first, true);
    same(n, true);
}

/* ------------------------------------------------------------------ steps by chance */

static void group_make(uint64_t n, const char *name) {
    struct wire_group_create *m;
    uint8_t packed[256] = {0};
    uint32_t head[2] = {0}, used = 0;
    struct wire_buf b;

    for (uint32_t i = 0; i < 2; i++) {
        head[0] = i;
        head[1] = (uint32_t)pack("CPU", 1 + draw(2), packed + used + 8, sizeof packed - used - 8);
        memcpy(packed + used, head, sizeof head);
        used += (8 + head[1] + 7) & ~7u;
    }
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_CREATE);
    m->head.call = 3;
    m->group = (struct skate_id){n, 77};
    m->creator = DRIVER;
    m->job = 1 + draw(2);
    m->strategy = draw(4);
    m->flags = draw(2);
    WIRE_PUT(&b, group_create, name, name, strlen(name));
    WIRE_PUT(&b, group_create, bundles, packed, used);
    give(1, DRIVER, &b);
}

static void group_say(uint32_t what, uint64_t n) {
    struct gcs_group *p = gcs_group_find(g, &(struct skate_id){n, 77});
    uint64_t link = 1 + draw(g->node_count);
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    if (what == 0) {
        struct wire_group_reserved *m = wire_begin(&b, WIRE_GROUP_RESERVED);

        m->group = (struct skate_id){n, 77};
        m->epoch = p ? p->epoch : 1;
        m->status = draw(4) ? 0 : -SKATE_EFULL;
    } else if (what == 1)
        ((struct wire_group_get *)wire_begin(&b, WIRE_GROUP_GET))->group =
            (struct skate_id){n, 77};
    else
        ((struct wire_group_remove *)wire_begin(&b, WIRE_GROUP_REMOVE))->group =
            (struct skate_id){n, 77};
    give(link, 0, &b);
}

static void value_say(uint32_t what, uint32_t n) {
    struct wire_buf b;
    char name[32], bytes[40];
    int len = snprintf(name, sizeof name, "key:%u", n);

    memset(bytes, (int)n, sizeof bytes);
    wire_init(&b, NULL, 0);
    if (what) {
        ((struct wire_kv_put *)wire_begin(&b, WIRE_KV_PUT))->overwrite = draw(2);
        WIRE_PUT(&b, kv_put, key, name, (size_t)len);
        WIRE_PUT(&b, kv_put, value, bytes, draw(sizeof bytes));
    } else {
        ((struct wire_kv_del *)wire_begin(&b, WIRE_KV_DEL))->prefix = draw(8) == 0;
        WIRE_PUT(&b, kv_del, key, name, (size_t)(draw(8) ? len : 4));
    }
    give(1, DRIVER, &b);
}

static void actor_say(uint64_t seq) {
    struct skate_id id = actor_id(seq);
    struct gcs_actor *a = gcs_actor_find(g, &id);
    struct wire_buf b;

    if (!a || a->state == GCS_DEAD) return;
    wire_init(&b, NULL, 0);
    if (draw(8) == 0) {
        ((struct wire_actor_unused *)wire_begin(&b, WIRE_ACTOR_UNUSED))->actor = a->id;
        give(1, DRIVER, &b);
    } else if (a->state == GCS_STARTING && draw(6) == 0) {
        struct wire_actor_refused *m = wire_begin(&b, WIRE_ACTOR_REFUSED);

        m->actor = a->id;
        m->incarnation = a->incarnation;
        give(a->node, 0, &b);
    } else if (a->state == GCS_STARTING)
        ready(seq, proc_make(a->node, 20 + (uint32_t)seq), a->incarnation,
              draw(6) ? 0 : -SKATE_EINVAL);
    else if (a->state == GCS_ALIVE && draw(2))
        died(a->proc, SIGKILL, draw(8) == 0);
    else if (draw(3) == 0)
        kill_actor(seq, draw(2));
}

static void chance_step(void) {
    static uint64_t seq;
    char name[16];
    uint32_t n = draw(100);

    snprintf(name, sizeof name, "n%u", draw(5));
    if (n < 4 && g->node_count < 12)
        join_as(g->node_count + 1, 100 + g->node_count, draw(6), false, WIRE_VERSION);
    else if (n < 6 && g->node_count > 1)
        event(GCS_LINK_DOWN, 2 + draw(g->node_count - 1), NULL, 0);
    else if (n < 7 && g->job_count < 60)
        job(DRIVER);
    else if (n < 20)
        (void)create((struct spec){.seq = ++seq, .name = draw(2) ? name : NULL,
                                   .flags = draw(3) ? 0 : 1, .restarts = (int32_t)draw(4) - 1,
                                   .held = draw(2), .placing = 1, .job = 1 + draw(2)});
    else if (n < 60)
        actor_say(seq - draw(12));
    else if (n < 63)
        group_make(1 + draw(6), draw(2) ? name : "");
    else if (n < 75)
        group_say(draw(10) ? draw(2) : 2, 1 + draw(6));
    else if (n < 88)
        value_say(draw(4), draw(12));
    else if (n < 95)
        report(1 + draw(g->node_count), draw(6));
    else
        event(GCS_TICK, 0, NULL, 0);
}

/* The nodes' links as before: their talk is another test's business. */
static void relink(struct gcs *n) {
    for (uint32_t i = 0; i < n->node_count; i++) {
        struct skate_id key = map_key(i + 1);

        if (!n->nodes[i]->alive) continue;
        n->nodes[i]->link = i + 1;
        assert_int_equal(map_put(&n->links, &key, i + 1), 0);
    }
}

static void property(void **state) {
    struct gcs_opts opts = {.actors_max = 12, .dead_max = 5, .kv_bytes = 2000,
                            .heartbeat_ms = 1 << 30, .spec_bytes = 200000, .records = true};

    (void)state;
    for (uint64_t s = 1; s <= 5; s++) {
        seed = s;
        g = gcs_free(g);
        assert_int_equal(gcs_new(&opts, &g), 0);
        join(1, 4);
        for (int i = 0; i < 4; i++) job(DRIVER);
        for (int i = 0; i < STEPS / 5; i++) {
            uint32_t open = g->dirty_count;

            chance_step();
            if (g->dirty_count > open) assert_true(out.changed);
            if (draw(3)) take();
            if (i % 16) continue;
            take();
            same(g, false);
            struct gcs *n = again();

            same_store(n);
            if (draw(4) == 0) { /* go on with it */
                g = gcs_free(g);
                g = n;
                relink(g);
                gcs_records_all(g); /* same_store() took what the restore had changed */
                take();
                same_store(n = again());
            }
            (void)gcs_free(n);
        }
        forget_all();
    }
}

/* ------------------------------------------------------------------ what is wrong with a log */

static void fill(void) {
    struct gcs_opts opts = {.heartbeat_ms = 1 << 30, .records = true};

    seed = 7;
    g = gcs_free(g);
    assert_int_equal(gcs_new(&opts, &g), 0);
    join(1, 4);
    for (int i = 0; i < 3; i++) job(DRIVER);
    for (int i = 0; i < 400; i++) chance_step();
    take();
}

/* Any record away: refused with what is wrong, or with `drop` gone on without what hangs on it. */
static void missing(void **state) {
    (void)state;
    fill();
    for (uint32_t away = 0; away < kept_count; away++) {
        uint32_t dropped = 0;
        struct skate_error err = {""};
        struct gcs_opts opts = {.records = true};

        for (int drop = 0; drop < 2; drop++) {
            struct gcs *n;
            int r;

            assert_int_equal(gcs_new(&opts, &n), 0);
            for (uint32_t i = 0; i < kept_count; i++)
                if (i != away)
                    assert_int_equal(gcs_restore_record(n, kept[i].table, kept[i].value,
                                                        kept[i].len), 0);
            r = gcs_restore_end(n, now, drop, &dropped, &err);
            if (drop) assert_int_equal(r, 0);
            if (r < 0) assert_true(err.text[0]);
            (void)gcs_free(n);
        }
    }
    forget_all();
}

/* Bytes changed at will (a log with checksums would not let them through): no crash, and a store
 * that takes steps. */
static void damaged(void **state) {
    uint64_t buffer[2048];
    uint32_t taken = 0, refused = 0;

    (void)state;
    fill();
    for (uint32_t round = 0; round < 2000; round++) {
        struct gcs_opts opts = {.records = true};
        struct gcs_event tick = {.kind = GCS_TICK};
        uint32_t dropped;
        struct gcs *n;

        assert_int_equal(gcs_new(&opts, &n), 0);
        for (uint32_t i = 0; i < kept_count; i++) {
            uint8_t *p = (uint8_t *)buffer;

            if (kept[i].len > sizeof buffer) continue;
            memcpy(p, kept[i].value, kept[i].len);
            if (draw(8) == 0)
                for (uint32_t k = 1 + draw(3); k > 0; k--) {
                    uint32_t at = draw(kept[i].len);

                    p[at] = draw(2) ? (uint8_t)draw(256) : (uint8_t)(p[at] ^ 1u << draw(8));
                }
            if (gcs_restore_record(n, kept[i].table, p, kept[i].len) < 0) refused++;
        }
        if (gcs_restore_end(n, now, round % 4 != 0, &dropped, NULL) == 0) {
            taken++;
            relink(n);
            gcs_step(n, &tick, now, &out);
            for (uint32_t i = 0; i < n->node_count; i++) {
                struct gcs_event down = {.kind = GCS_LINK_DOWN, .link = i + 1};

                gcs_step(n, &down, now, &out);
            }
        }
        (void)gcs_free(n);
    }
    assert_true(taken > 1000 && refused > 0);
    forget_all();
}

/* While nothing can be kept, who asks for a change hears so, and others are served. */
static void refusing(void **state) {
    (void)state;
    fill();
    gcs_refuse_changes(g, "the disk of the log is full");
    value_say(1, 1);
    assert_false(out.changed);
    group_make(50, "");
    assert_int_equal(((const struct wire_status *)sent(DRIVER, WIRE_STATUS))->status, -SKATE_EIO);
    assert_int_equal(create((struct spec){.seq = 9999, .placing = 1}), -SKATE_EIO);
    HAS_TEXT(sent(DRIVER, WIRE_ACTOR_CREATED), actor_created, reason, "disk");
    assert_int_equal(job(DRIVER), 0);
    assert_false(out.changed);
    gcs_refuse_changes(g, "");
    assert_int_equal(create((struct spec){.seq = 9999, .placing = 1}), 0);
    take();
    forget_all();
}

/* Does the answer wait for the log? */
static bool node_waits(uint32_t node) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_node_get *)wire_begin(&b, WIRE_NODE_GET))->node = node;
    give(1, 0, &b);
    assert_non_null(sent(1, WIRE_NODE_INFO));
    assert_false(out.changed);
    return out.acks;
}

static bool actor_waits(uint64_t seq) {
    subscribe(seq, WORKER);
    assert_non_null(sent(WORKER, WIRE_ACTOR_STATE));
    assert_false(out.changed);
    return out.acks;
}

static bool value_waits(void) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_kv_get *)wire_begin(&b, WIRE_KV_GET))->head.call = 6;
    WIRE_PUT(&b, kv_get, key, "key:1", 5);
    give(1, DRIVER, &b);
    assert_non_null(sent(DRIVER, WIRE_KV_VALUE));
    assert_false(out.changed);
    return out.acks;
}

/* Nobody hears of a node or an actor that a GCS which dies now would not remember: its number, its
 * next start would be another's. */
static void said_when_kept(void **state) {
    struct gcs_opts opts = {.records = true};

    (void)state;
    g = gcs_free(g);
    assert_int_equal(gcs_new(&opts, &g), 0);
    join(1, 4);
    assert_int_equal(job(DRIVER), 1);
    assert_int_equal(create((struct spec){.seq = 1, .placing = 1}), 0);
    take();
    assert_true(node_waits(1)); /* given to the log, which may still be lost */
    gcs_records_kept(g);
    assert_false(node_waits(1));
    assert_false(actor_waits(1));
    join(2, 4);
    assert_true(node_waits(2));
    assert_false(node_waits(1));
    ready(1, WORKER, 1, 0);
    assert_true(out.changed);
    died(WORKER, SIGKILL, false);
    assert_true(out.changed); /* again, before the first change was taken */
    assert_true(actor_waits(1));
    take();
    assert_true(node_waits(2) && actor_waits(1));
    gcs_records_kept(g);
    assert_false(node_waits(2) || actor_waits(1));
    value_say(1, 1);
    assert_true(value_waits());
    take();
    assert_true(value_waits());
    gcs_records_kept(g);
    assert_false(value_waits());
    forget_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(property), TEST(missing), TEST(damaged),
                                       TEST(refusing), TEST(said_when_kept)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
