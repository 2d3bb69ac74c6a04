/* fuzz_gcs.c - gcs_step with frames of every kind from raylets, from processes, from strangers, and
 * losses of links and time between them. After each input the store must still serve. */
#include "fuzz.h"
#include "gcs/gcs.h"

enum { LINKS = 4 };

static struct gcs *store;
static struct gcs_out out;
static int64_t now;
static uint64_t next_link, links[LINKS];

static void give(const struct gcs_event *e) {
    gcs_step(store, e, now, &out);
    for (uint32_t i = 0; i < out.count; i++) {
        const uint8_t *frame = out.bytes + out.sends[i].at;

        if (!out.sends[i].close && wire_check(frame, out.sends[i].len) < 0) abort();
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

static void join(uint32_t i, uint64_t node_id) {
    uint8_t packed[200];
    struct resources r = {0};
    struct wire_node_register *m;
    struct wire_buf b;

    links[i] = ++next_link;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){node_id, next_link};
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
        join(i, i + 1);
        return;
    }
    if (what == 1) {
        give(&e);
        return;
    }
    kind = fuzz_below(in, 4) ? often[fuzz_below(in, sizeof often / sizeof *often)] : fuzz_kind(in);
    wire_init(&b, NULL, 0);
    fuzz_frame(in, kind, 1, &b);
    give_frame(what == 2 ? fuzz_word(in) : links[i],
               fuzz_below(in, 2) ? fuzz_word(in) : proc_make(i + 1, fuzz_below(in, 3)), &b);
    wire_release(&b);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct gcs_opts opts = {.actors_max = 8, .dead_max = 3, .subs_max = 12, .kv_bytes = 2000,
                            .spec_bytes = 100000, .jobs_max = 6, .nodes_max = 12};
    const uint64_t pool[] = {1, 2, 3, proc_make(1, 1), proc_make(1, 2), proc_make(2, 1),
                             proc_make(3, 1), 10000, 1, proc_make(1, 1)};
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 10};
    struct gcs_counts counts;

    if (gcs_new(&opts, &store) < 0) abort();
    now = 1000000000;
    next_link = 0;
    for (uint32_t i = 0; i < 3; i++) join(i, i + 1);
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
