/* fuzz_peer.c - a whole raylet (the rig of fuzz_raylet.c) against other raylets that hold the key
 * and keep to nothing: hellos of any number, control lanes, bulk lanes, answers on the lanes that
 * the raylet itself dials (lies about what was got, chunks nobody asked for), routed frames of any
 * kind, beside processes of the node as hostile as before. It must still serve. */
#define fuzz_one fuzz_one_raylet
#include "fuzz_raylet.c"
#undef fuzz_one

enum { GUESTS = 3, DIALLED = 4 };

static struct net *other;      /* of the hostile raylet, which is a node of the cluster */
static struct conn *registered;
static struct conn *guests[GUESTS], *dialled[DIALLED];
static uint32_t other_node;
static struct net_listener *other_port;

static void on_other_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)code, (void)text;
    for (int i = 0; i < GUESTS; i++)
        if (guests[i] == c) guests[i] = NULL;
    for (int i = 0; i < DIALLED; i++)
        if (dialled[i] == c) dialled[i] = NULL;
    if (registered == c) abort(); /* the GCS has nothing against it */
}

static void on_gcs_says(void *arg, struct conn *c, const void *frame, uint32_t len) {
    (void)arg, (void)c, (void)len;
    if (wire_head(frame)->kind == WIRE_NODE_WELCOME)
        other_node = ((const struct wire_node_welcome *)frame)->node;
}

static void on_register(void *arg, struct conn *c) {
    struct wire_node_register *m;
    struct wire_buf b;

    (void)arg;
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = (struct skate_id){77, 77};
    m->arena_bytes = ARENA;
    m->port = net_listener_port(other_port);
    m->pid = 12;
    m->version = WIRE_VERSION;
    WIRE_PUT(&b, node_register, ip, "127.0.0.1", 9);
    if (wire_end(&b) < 0 || conn_send(c, b.p, b.len) < 0) abort();
    wire_release(&b);
}

static void on_dialled(void *arg, struct conn *c) {
    (void)arg;
    for (int i = 0; i < DIALLED; i++)
        if (!dialled[i]) {
            dialled[i] = c;
            return;
        }
    conn_close(c);
}

static const struct conn_events guest_side = {.on_close = on_other_close};
static const struct conn_events dialled_side = {.on_ready = on_dialled, .on_close = on_other_close};
static const struct conn_events register_side = {.on_ready = on_register, .on_frame = on_gcs_says,
                                                 .on_close = on_other_close};

static void tear_down_other(void) { other = net_free(other); }

static void set_up_other(void) {
    struct net_opts opts = {.loop = ray->loop};
    struct net_address gcs = {"127.0.0.1", gcsd_port(gcsd)}, any = {"127.0.0.1", 0};

    memset(opts.key, 3, sizeof opts.key);
    if (net_new(&opts, &other) < 0 ||
        net_listen(other, any, &dialled_side, NULL, &other_port, NULL) < 0 ||
        conn_connect(other, gcs, &register_side, NULL, &registered) < 0)
        abort();
    for (int i = 0; i < 1000 && (!other_node || !sched_view_find(&ray->view, other_node)); i++)
        loop_run_once(ray->loop, 10);
    if (!other_node) abort();
    (void)atexit(tear_down_other);
}

/* A hostile connection of its own, with a hello that may be true. */
static void be_guest(uint32_t i, struct fuzz_in *in) {
    struct net_address to = {"127.0.0.1", links_port(ray)};
    struct wire_peer_hello m = {.head = {.size = sizeof m, .kind = WIRE_PEER_HELLO,
                                         .fixed = sizeof m},
                                .node = other_node, .bulk = fuzz_below(in, 2),
                                .version = WIRE_VERSION};

    if (fuzz_below(in, 8) == 1) m.node = (uint32_t)fuzz_word(in);
    guests[i] = conn_close(guests[i]);
    if (conn_connect(other, to, &guest_side, NULL, &guests[i]) < 0) abort();
    for (int k = 0; k < 200 && guests[i] && !conn_is_ready(guests[i]); k++) turn();
    if (guests[i] && fuzz_below(in, 16) && conn_send(guests[i], &m, sizeof m) < 0) return;
}

static void give_conn(struct conn *c, struct wire_buf *b) {
    if (c && conn_is_ready(c) && conn_send(c, b->p, b->len) == -SKATE_EDEAD) return;
    turn();
}

static void peer_frame(struct fuzz_in *in) {
    static const uint16_t often[] = {WIRE_ROUTE, WIRE_ROUTE, WIRE_ROUTE, WIRE_PROC_DIED,
                                     WIRE_BULK_GET, WIRE_BULK_DATA, WIRE_LANE_GOT, WIRE_PEER_HELLO};
    static const uint16_t inside[] = {WIRE_LEASE_REQ, WIRE_LEASE_GRANT, WIRE_LEASE_CANCEL,
                                      WIRE_LEASE_RETURN, WIRE_CONNECT, WIRE_PROC_DIED, WIRE_PULL,
                                      WIRE_PULLED, WIRE_ADOPT, WIRE_ADOPT_TASK, WIRE_ORPHANS,
                                      WIRE_WHY_REQ, WIRE_STATE_REQ, WIRE_KEEP_REQ};
    uint32_t i = fuzz_below(in, GUESTS + DIALLED), kind = fuzz_kind(in);
    struct conn *c = i < GUESTS ? guests[i] : dialled[i - GUESTS];
    struct wire_buf b, r;

    if (fuzz_below(in, 4)) kind = often[fuzz_below(in, sizeof often / sizeof *often)];
    wire_init(&b, NULL, 0);
    wire_init(&r, NULL, 0);
    if (kind == WIRE_ROUTE && fuzz_below(in, 4)) {
        struct wire_route *m = wire_begin(&r, WIRE_ROUTE);
        uint32_t what = fuzz_below(in, 2) ? inside[fuzz_below(in, sizeof inside / sizeof *inside)]
                                          : fuzz_kind(in);

        m->dst = fuzz_below(in, 2) ? ray->self : fuzz_word(in);
        m->src = fuzz_below(in, 4) ? proc_make(other_node, fuzz_below(in, 4)) : fuzz_word(in);
        fuzz_frame(in, what, 2, &b);
        WIRE_PUT(&r, route, frame, b.p, b.len);
        if (wire_end(&r) == 0) give_conn(c, &r);
    } else {
        fuzz_frame(in, kind, 2, &b);
        give_conn(c, &b);
    }
    wire_release(&b);
    wire_release(&r);
}

/* Make the raylet dial us: a process of it routes something there, or asks for an object. */
static void make_it_dial(struct fuzz_in *in) {
    struct wire_pull m = {.head = {.size = sizeof m, .kind = WIRE_PULL, .fixed = sizeof m,
                                   .call = 5},
                          .obj = {end_procs[0], 0x10001}, .size = 1 + fuzz_word(in) % 5000};
    struct wire_ping ping = {.head = {.size = sizeof ping, .kind = WIRE_PING,
                                      .fixed = sizeof ping}};
    struct wire_route *route;
    struct wire_buf b;

    m.holder = proc_make(other_node, 1);
    m.offset = fuzz_word(in);
    if (fuzz_below(in, 2)) {
        give(fuzz_below(in, 2), &m, sizeof m, in);
        return;
    }
    wire_init(&b, NULL, 0);
    route = wire_begin(&b, WIRE_ROUTE);
    route->dst = m.holder;
    route->src = end_procs[0];
    WIRE_PUT(&b, route, frame, &ping, sizeof ping);
    if (wire_end(&b) == 0) give(0, b.p, b.len, in);
    wire_release(&b);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct wire_extent_req ask = {.head = {.size = sizeof ask, .kind = WIRE_EXTENT_REQ,
                                           .fixed = sizeof ask}, .bytes = 1};
    uint64_t pool[12];
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 12};
    bool came = false;

    if (!ray) set_up();
    if (!other) set_up_other();
    be_driver(0);
    be_driver(1);
    for (uint32_t i = 0; i <= ENDS; i++) pool[i] = end_procs[i];
    pool[5] = ray->self;
    pool[6] = other_node;
    pool[7] = GRANULE_BYTES;
    pool[8] = proc_make(other_node, 1);
    pool[9] = proc_make(other_node, 0);
    pool[10] = proc_make(other_node + 1, 1);
    pool[11] = 4096;
    be_guest(0, &in);
    while (in.left) {
        switch (fuzz_below(&in, 8)) {
        case 0: one_step(&in); break;
        case 1: make_it_dial(&in); break;
        case 2:
            if (fuzz_below(&in, 4) == 1) be_guest(fuzz_below(&in, GUESTS), &in);
            break;
        default: peer_frame(&in);
        }
    }
    ask.head.call = ++asked;
    honest_says(&ask, sizeof ask);
    for (int i = 0; i < 1000 && !came; i++) {
        turn();
        came = honest_reads(asked);
    }
    if (!came || !extents_is_valid(ray->extents)) abort();
    for (uint32_t i = 0; i < ENDS; i++) {
        if (ends[i] > 0) close(ends[i]);
        ends[i] = 0;
    }
    for (int i = 0; i < GUESTS; i++) guests[i] = conn_close(guests[i]);
    for (int i = 0; i < 4; i++) {
        turn();
        be_zygote(true);
        reap();
        (void)honest_reads(0);
    }
    return 0;
}
