/* fuzz_gcs.c - gcs_step with frames of every kind from raylets, from processes, from strangers, and
 * losses of links and time between them. After each input the store must still serve. */
#include "fuzz.h"
#include "gcs/gcs.h"

enum { LINKS = 4, ASKED = 8 };

static struct gcs *store;
static struct gcs_out out;
static int64_t now;
static uint64_t next_link, links[LINKS];
static struct skate_id node_ids[LINKS];
static uint32_t numbers[LINKS];

/* The last that nodes were asked for: to start an actor, to set bundles aside. */
struct order {
    struct skate_id id;
    uint64_t link;
    uint32_t number; /* incarnation, epoch */
    bool group;
};
static struct order orders[ASKED];
static uint32_t order_count;

static void hear(uint64_t link, const void *frame) {
    const struct wire_actor_start *a = frame;
    const struct wire_group_reserve *p = frame;
    const struct wire_node_welcome *w = frame;

    if (wire_head(frame)->kind == WIRE_ACTOR_START)
        orders[order_count++ % ASKED] = (struct order){a->actor, link, a->incarnation, false};
    else if (wire_head(frame)->kind == WIRE_GROUP_RESERVE)
        orders[order_count++ % ASKED] = (struct order){p->group, link, p->epoch, true};
    for (uint32_t i = 0; wire_head(frame)->kind == WIRE_NODE_WELCOME && i < LINKS; i++)
        if (links[i] == link) numbers[i] = w->node;
}

static void give(const struct gcs_event *e) {
    gcs_step(store, e, now, &out);
    for (uint32_t i = 0; i < out.count; i++) {
        const uint8_t *frame = out.bytes + out.sends[i].at;

        if (out.sends[i].close) continue;
        if (wire_check(frame, out.sends[i].len) < 0) abort();
        hear(out.sends[i].link, frame);
    }
}

static void give_frame(uint64_t link, uint64_t src, struct wire_buf *b) {
    struct gcs_event e = {.kind = GCS_FRAME, .link = link, .peer_ip = "10.0.0.1"};
    struct wire_buf r;

    wire_init(&r, NULL, 0);
    if (src) {
        struct wire_route *m = wire_begin(&r, WIRE_ROUTE);

        m->src = src;
        WIRE_PUT(&r, route, frame, b->p, b->len);
        if (wire_end(&r) < 0) abort();
    }
    e.frame = src ? r.p : b->p;
    e.len = src ? r.len : b->len;
    if (wire_check(e.frame, e.len) == 0) give(&e);
    wire_release(&r);
}

/* A node of another id; number: that it had, with the id that it had. */
static void join(uint32_t i, uint64_t node_id, uint32_t number) {
    uint8_t packed[200];
    struct resources r = {0};
    struct wire_node_register *m;
    struct wire_buf b;

    links[i] = ++next_link;
    if (!number) node_ids[i] = (struct skate_id){node_id, next_link};
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = node_ids[i];
    m->node = number;
    m->version = WIRE_VERSION;
    if (resources_set(&r, "CPU", 40000) < 0) abort();
    WIRE_PUT(&b, node_register, resources, packed, resources_pack(&r, packed, sizeof packed));
    if (wire_end(&b) < 0) abort();
    give_frame(links[i], 0, &b);
    wire_release(&b);
}

static void start_job(uint64_t driver) {
    struct wire_job_start *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_JOB_START);
    m->driver = driver;
    m->head.call = 1;
    if (wire_end(&b) < 0) abort();
    give_frame(links[0], driver, &b);
    wire_release(&b);
}

/* What it was asked for is there, or is not. */
static void carry_out(struct fuzz_in *in) {
    const struct order *a = &orders[fuzz_below(in, ASKED)];
    uint32_t node = 0, how = fuzz_below(in, 4);
    struct wire_group_reserved *p;
    struct wire_actor_ready *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    if (a->group) {
        p = wire_begin(&b, WIRE_GROUP_RESERVED);
        p->group = a->id;
        p->epoch = a->number;
        p->status = how ? 0 : -SKATE_EFULL;
    } else {
        for (uint32_t i = 0; i < LINKS; i++)
            if (links[i] == a->link) node = numbers[i];
        m = wire_begin(&b, WIRE_ACTOR_READY);
        m->actor = a->id;
        m->incarnation = a->number;
        m->proc = proc_make(node, 1 + fuzz_below(in, 3));
        m->status = how ? 0 : fuzz_below(in, 2) ? -SKATE_EDEAD : -1;
    }
    if (wire_end(&b) < 0) abort();
    give_frame(a->link, 0, &b);
    wire_release(&b);
}

/* A node that was away, or whose new connection is faster than the end of the old one, and what it
 * says that it has. */
static void come_back(struct fuzz_in *in, uint32_t i) {
    struct gcs_event down = {.kind = GCS_LINK_DOWN, .link = links[i], .text = "cut"};
    struct skate_id ids[2][ASKED];
    uint32_t many[2][ASKED], count[2] = {0};
    struct wire_buf b;

    if (fuzz_below(in, 4)) give(&down);
    now += (int64_t)fuzz_below(in, 64) * 100000000;
    join(i, 0, numbers[i]);
    for (uint32_t k = 0, of = fuzz_below(in, 256); k < ASKED; k++) {
        uint32_t group = orders[k].group;

        if (!(of >> k & 1)) continue;
        ids[group][count[group]] = orders[k].id;
        many[group][count[group]++] = orders[k].number;
    }
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_STATE);
    WIRE_PUT(&b, node_state, actors, ids[0], count[0] * sizeof *ids[0]);
    WIRE_PUT(&b, node_state, incarnations, many[0], count[0] * sizeof *many[0]);
    WIRE_PUT(&b, node_state, groups, ids[1], count[1] * sizeof *ids[1]);
    WIRE_PUT(&b, node_state, group_epochs, many[1], count[1] * sizeof *many[1]);
    if (wire_end(&b) < 0) abort();
    give_frame(links[i], 0, &b);
    wire_release(&b);
}

/* A sign of life, on a connection of its own. */
static void beat(struct fuzz_in *in, uint32_t i) {
    struct wire_beat *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_BEAT);
    m->node_id = node_ids[i];
    m->node = numbers[i];
    m->turns = fuzz_below(in, 4);
    if (wire_end(&b) < 0) abort();
    give_frame(1000 + i, 0, &b);
    wire_release(&b);
}

/* What honest nodes do; false: this is none of it. */
static bool honest_event(struct fuzz_in *in, uint32_t what, uint32_t i) {
    struct gcs_event probed = {.kind = GCS_PROBED};

    if (what == 3) {
        probed.link = fuzz_below(in, 16);
        probed.refused = fuzz_below(in, 2);
        give(&probed);
    } else if (what == 4)
        carry_out(in);
    else if (what == 5)
        come_back(in, i);
    else if (what == 6)
        beat(in, i);
    return what >= 3 && what <= 6;
}

static void one_event(struct fuzz_in *in) {
    static const uint16_t often[] = {WIRE_ACTOR_CREATE, WIRE_ACTOR_READY, WIRE_ACTOR_KILL,
                                     WIRE_ACTOR_SUB,    WIRE_PROC_DIED,   WIRE_ACTOR_REFUSED,
                                     WIRE_KV_PUT,       WIRE_NODE_REPORT, WIRE_JOB_START,
                                     WIRE_ACTOR_UNUSED, WIRE_JOB_END,     WIRE_LIST,
                                     WIRE_GROUP_CREATE, WIRE_GROUP_REMOVE, WIRE_GROUP_GET,
                                     WIRE_GROUP_RESERVED, WIRE_KV_DEL, WIRE_KV_LIST,
                                     WIRE_WHY_REQ};
    uint32_t what = fuzz_below(in, 32), i = fuzz_below(in, LINKS), kind;
    struct gcs_event e = {.kind = GCS_TICK, .link = links[i], .text = "cut"};
    struct wire_buf b;

    now += fuzz_below(in, 8) ? 1000000 : (int64_t)fuzz_below(in, 4000) * 1000000;
    if (what == 0) {
        e.kind = GCS_LINK_DOWN;
        give(&e);
        join(i, i + 1, 0);
        return;
    }
    if (what == 1) {
        give(&e);
        return;
    }
    if (honest_event(in, what, i)) return;
    kind = fuzz_below(in, 4) ? often[fuzz_below(in, sizeof often / sizeof *often)] : fuzz_kind(in);
    wire_init(&b, NULL, 0);
    fuzz_frame(in, kind, 1, &b);
    give_frame(what == 2 ? fuzz_word(in) : links[i],
               fuzz_below(in, 2) ? fuzz_word(in) : proc_make(i + 1, fuzz_below(in, 3)), &b);
    wire_release(&b);
}

static void start_over(void) {
    now = 1000000000;
    next_link = order_count = 0;
    memset(orders, 0, sizeof orders);
    memset(numbers, 0, sizeof numbers);
    memset(node_ids, 0, sizeof node_ids);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct gcs_opts opts = {.actors_max = 8, .dead_max = 3, .subs_max = 12, .kv_bytes = 2000,
                            .spec_bytes = 100000, .jobs_max = 6, .nodes_max = 12,
                            .away_ms = len % 2 ? 3000 : 0};
    const uint64_t pool[] = {1, 2, 3, proc_make(1, 1), proc_make(1, 2), proc_make(2, 1),
                             proc_make(3, 1), 10000, 1, proc_make(1, 1)};
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 10};
    struct gcs_counts counts;

    if (gcs_new(&opts, &store) < 0) abort();
    start_over();
    for (uint32_t i = 0; i < 3; i++) join(i, i + 1, 0);
    links[3] = 99;
    start_job(proc_make(1, 1));
    start_job(proc_make(1, 2));
    while (in.left) one_event(&in);
    gcs_count(store, &counts);
    if (counts.actors_live > opts.actors_max || counts.actors_dead > opts.dead_max ||
        counts.subs > opts.subs_max || counts.spec_bytes > opts.spec_bytes ||
        counts.kv_bytes > opts.kv_bytes)
        abort();
    store = gcs_free(store);
    gcs_out_release(&out);
    return 0;
}
