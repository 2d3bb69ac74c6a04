/* gcs_link.c - see gcs_link.h.
 *
 * A link that breaks is made again, for as long as it takes: work goes on meanwhile. On the new one
 * the node registers under its number, says again what the GCS has not acknowledged (gcs_keep.h),
 * then what runs here (node_state), and hears what it may have missed, up to node_synced. A private
 * session is the exception: it ends with its GCS. */
#include "raylet/gcs_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raylet/beats.h"
#include "raylet/bundles.h"
#include "raylet/demand.h"
#include "raylet/gateway.h"
#include "raylet/gcs_keep.h"
#include "raylet/lent.h"
#include "raylet/links.h"
#include "raylet/rejoin.h"
#include "wire/kept.h"

enum { REDIAL_MS = 10, REDIAL_MAX_MS = 500, STUCK_MS = 2000, SILENT_MS = 3000 };
enum { KEPT_MAX = 256 << 20, EARLY_MAX = 16 << 20 };

/* A frame that came before the welcome: while the GCS cannot write its log, what does not wait for
 * the log overtakes what does. */
struct early {
    struct early *next;
    uint32_t len;
    uint64_t data[];
};
struct gcs_link {
    struct raylet *r;
    struct early *early, **early_end;
    uint32_t early_bytes;
    struct conn *conn;
    enum { LINK_AWAY, LINK_DIALLED, LINK_OPEN } state;
    struct gcs_keep keep;
    struct loop_timer *redial;
    uint32_t redial_ms;
    int64_t dialled_ns, heard_ns, lost_ns; /* lost_ns: since when it is not open; 0: it is */
    uint64_t epoch;
    bool no_log; /* what it knows ends with it */
};

/* The node's labels: what its settings say, and its id, as nodes() lists it. */
static const char *own_labels(struct raylet *r, char out[LABELS_MAX]) {
    const uint8_t *id = (const uint8_t *)&r->node_id;
    int n = snprintf(out, LABELS_MAX, "%s%sray.io/node-id=", r->set.labels,
                     r->set.labels[0] ? "," : "");

    for (size_t i = 0; i < 28 && n > 0 && n + 2 < LABELS_MAX; i++)
        n += snprintf(out + n, LABELS_MAX - (size_t)n, "%02x", i < sizeof r->node_id ? id[i] : 0);
    return out;
}

static void on_gcs_ready(void *arg, struct conn *c) {
    struct raylet *r = arg;
    const struct raylet_settings *s = &r->set;
    uint8_t packed[RESOURCES_MAX * 80];
    size_t packed_len = resources_pack(&s->resources, packed, sizeof packed);
    char host[256] = "", labels[LABELS_MAX];
    struct wire_node_register *m;
    struct wire_buf b;
    uint64_t room[128];

    gethostname(host, sizeof host - 1);
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_NODE_REGISTER);
    m->node_id = r->node_id;
    m->arena_bytes = s->arena_bytes;
    m->port = links_port(r);
    m->pid = (uint32_t)getpid();
    m->is_head = s->is_head;
    m->outpost = s->outpost;
    m->version = WIRE_VERSION;
    m->node = r->node;
    m->epoch = r->gcs_link->epoch;
    WIRE_PUT(&b, node_register, ip, s->node_ip, strlen(s->node_ip));
    WIRE_PUT(&b, node_register, hostname, host, strlen(host));
    WIRE_PUT(&b, node_register, name, s->node_name, strlen(s->node_name));
    WIRE_PUT(&b, node_register, socket_path, r->socket_path, strlen(r->socket_path));
    WIRE_PUT(&b, node_register, resources, packed, packed_len);
    own_labels(r, labels);
    WIRE_PUT(&b, node_register, labels, labels, strlen(labels));
    WIRE_PUT(&b, node_register, slot, s->slot, strlen(s->slot));
    if ((wire_end(&b) < 0 || conn_send(c, b.p, b.len) < 0) && !r->node)
        node_fail(r, SKATE_EIO, "cannot register at the GCS");
    wire_release(&b);
}

/* ---- back again ---- */

static const struct conn_events gcs_events;
static void broke(struct gcs_link *l);

/* What was kept and not sent, as far as the connection takes it. */
static void push(struct gcs_link *l) {
    while (l->keep.unsent && conn_send(l->conn, l->keep.unsent->data, l->keep.unsent->len) == 0)
        gcs_keep_sent(&l->keep);
}

static void send_state(struct raylet *r) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_NODE_STATE);
    actor_host_state(r, &b);
    groups_state(r, &b);
    if (wire_end(&b) < 0 || conn_send(r->gcs_link->conn, b.p, b.len) < 0)
        node_log("the state of this node cannot be told"); /* then the link breaks, too */
    wire_release(&b);
}

static void came_back(struct raylet *r) {
    struct gcs_link *l = r->gcs_link;

    gcs_keep_again(&l->keep);
    push(l);
    links_mark(r);
    jobs_mark(r);
    send_state(r);
    l->state = LINK_OPEN;
}

static void on_synced(struct raylet *r, const struct wire_node_synced *told) {
    struct wire_gcs_back m = {.head = {.size = sizeof m, .kind = WIRE_GCS_BACK, .fixed = sizeof m},
                              .epoch = r->gcs_link->epoch};
    uint32_t at = 0;
    struct proc *p;

    node_log("the GCS is back, epoch %llu", (unsigned long long)m.epoch);
    r->gcs_link->lost_ns = 0;
    links_sweep(r, told->partial);
    jobs_sweep(r);
    groups_back(r);
    demand_again(r);
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->state == PROC_LIVE) proc_send(p, &m, sizeof m);
    node_report(r);
}

static void dial(void *arg) {
    struct gcs_link *l = arg;
    struct raylet *r = l->r;
    struct net_address gcs = {.ip = r->set.gcs_ip, .port = r->set.gcs_port};

    l->dialled_ns = loop_now_ns(r->loop);
    l->state = LINK_DIALLED;
    if (conn_connect(r->net, gcs, &gcs_events, r, &l->conn) == 0) return;
    l->conn = NULL;
    broke(l);
}

static void drop_early(struct gcs_link *l) {
    while (l->early) {
        struct early *e = l->early;

        l->early = e->next;
        free(e);
    }
    l->early_end = &l->early;
    l->early_bytes = 0;
}

/* It is gone; dial in a while. */
static void broke(struct gcs_link *l) {
    drop_early(l);
    l->conn = conn_close(l->conn);
    if (!l->lost_ns) l->lost_ns = loop_now_ns(l->r->loop);
    l->state = LINK_AWAY;
    loop_timer_start(l->redial, l->redial_ms, 0);
    l->redial_ms = l->redial_ms * 2 < REDIAL_MAX_MS ? l->redial_ms * 2 : REDIAL_MAX_MS;
}

void gcs_link_beat(struct raylet *r) {
    struct gcs_link *l = r->gcs_link;
    int64_t now = loop_now_ns(r->loop);

    if (r->set.local_session || !r->node) return;
    if (l->lost_ns && now - l->lost_ns > r->set.gcs_wait_s * INT64_C(1000000000))
        node_end(r, "the GCS did not come back");
    if (!l->conn) return;
    if (l->state == LINK_OPEN ? now - l->heard_ns > SILENT_MS * INT64_C(1000000)
                              : now - l->dialled_ns > STUCK_MS * INT64_C(1000000)) {
        node_log("the GCS is silent, dialling anew");
        broke(l);
    }
}

static void set_epoch(struct raylet *r, uint64_t epoch) {
    r->gcs_link->epoch = epoch;
    beats_epoch(r->beats, epoch);
}

bool gcs_link_knows(const struct raylet *r) {
    return r->gcs_link && r->gcs_link->state == LINK_OPEN && !r->gcs_link->lost_ns;
}

uint64_t gcs_link_epoch(const struct raylet *r) { return r->gcs_link->epoch; }

static void on_welcome(struct raylet *r, const struct wire_node_welcome *m) {
    uint32_t len;
    const char *reason = wire_node_welcome_reason(m, &len);
    struct sched_node *own;
    char text[256];

    if (m->status == 0) r->gcs_link->no_log = m->no_log != 0;
    if (r->node && m->status == 0 && m->node == r->node && m->resumed) {
        set_epoch(r, m->epoch);
        r->gcs_link->redial_ms = REDIAL_MS;
        came_back(r);
        return;
    }
    if (m->status < 0 || m->node == 0) {
        if (len >= sizeof text) len = sizeof text - 1;
        memcpy(text, reason, len);
        text[len] = 0;
        if (r->node) node_rejoin(r, len ? text : "it has gone on without this node");
        if (m->status == -SKATE_EEXIST && r->set.rejoin.again) {
            broke(r->gcs_link); /* we live there: a welcome to us was lost. It is convicted soon */
            return;
        }
        node_fail(r, -m->status, len ? text : "the GCS refused this node");
    }
    if (r->node) return;
    set_epoch(r, m->epoch);
    r->gcs_link->state = LINK_OPEN;
    r->gcs_link->lost_ns = 0;
    r->gcs_link->redial_ms = REDIAL_MS;
    r->node = r->view.self = m->node;
    r->self = proc_make(m->node, 0);
    own = sched_view_add(&r->view, m->node);
    if (!own) node_fail(r, SKATE_ENOMEM, "out of memory");
    own->alive = !r->set.outpost; /* nothing is placed there */
    own->total = own->avail = r->set.resources;
    lent_start(r);
    own_labels(r, own->labels);
    gpus_init(&r->gpus, resources_amount(&own->total, "GPU"));
    node_ready(r);
    gateway_beat(r);
}

static void on_convicted(struct raylet *r, const struct wire_convicted *m) {
    char why[256];
    uint32_t len;
    const char *text = wire_convicted_reason(m, &len);

    if (m->node != r->node) return;
    snprintf(why, sizeof why, "%.*s", (int)len, text);
    node_rejoin(r, why);
}

__attribute__((noreturn)) static void on_stop(struct raylet *r, const struct wire_stop *m) {
    char why[256];
    uint32_t len;
    const char *text = wire_stop_reason(m, &len);

    snprintf(why, sizeof why, "%.*s", len < 200 ? (int)len : 200, text);
    node_end(r, why[0] ? why : "the cluster stops");
}

/* A process has its answer: its question need not be asked again. */
static void note_answer(struct gcs_link *l, const struct wire_route *m) {
    uint32_t len;
    const uint8_t *inner = wire_route_frame(m, &len);
    const struct wire_head *head = (const struct wire_head *)(const void *)inner;

    if (len >= sizeof *head && head->flags & WIRE_REPLY && head->call)
        gcs_keep_answered(&l->keep, m->dst, head->call);
}

/* It is looked at behind the welcome. False: too much of it. */
static bool keep_early(struct gcs_link *l, const void *frame, uint32_t len) {
    struct early *e = l->early_bytes + len <= EARLY_MAX ? malloc(sizeof *e + len) : NULL;

    if (!e) return false;
    *e = (struct early){.len = len};
    memcpy(e->data, frame, len);
    if (!l->early) l->early_end = &l->early;
    *l->early_end = e;
    l->early_end = &e->next;
    l->early_bytes += len;
    return true;
}

static void dispatch(struct raylet *r, const void *frame) {
    switch (wire_head(frame)->kind) {
    case WIRE_NODE_WELCOME: on_welcome(r, frame); break;
    case WIRE_NODE_SYNCED: on_synced(r, frame); break;
    case WIRE_LANE_GOT:
        gcs_keep_got(&r->gcs_link->keep, ((const struct wire_lane_got *)frame)->count);
        break;
    case WIRE_NODE_INFO: links_node_info(r, frame); break;
    case WIRE_JOB_INFO: job_info(r, frame); break;
    case WIRE_JOB_END:
        job_end(r, ((const struct wire_job_end *)frame)->job, "its job ended", false);
        break;
    case WIRE_ACTOR_START: actor_host_start(r, frame); break;
    case WIRE_WORKER_KILL: actor_host_kill(r, frame); break;
    case WIRE_ROUTE:
        note_answer(r->gcs_link, frame);
        route_frame(r, frame, 0);
        break;
    case WIRE_PROC_DIED: death_heard(r, frame); break;
    case WIRE_DEMAND_PLACE: demand_placed(r, frame); break;
    case WIRE_GROUP_RESERVE: groups_on_reserve(r, frame); break;
    case WIRE_GROUP_RELEASE: groups_on_release(r, frame); break;
    case WIRE_GROUP_INFO: groups_on_info(r, frame); break;
    case WIRE_NODE_DOUBT: links_node_doubt(r, frame); break;
    case WIRE_CONVICTED: on_convicted(r, frame); break;
    case WIRE_STOP: on_stop(r, frame);
    default: break;
    }
}

static void on_gcs_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct raylet *r = arg;
    struct gcs_link *l = r->gcs_link;
    uint16_t kind = wire_head(frame)->kind;

    (void)c;
    l->heard_ns = loop_now_ns(r->loop);
    if (!r->node && kind != WIRE_NODE_WELCOME && kind != WIRE_STOP) {
        if (!keep_early(l, frame, len)) broke(l);
        return;
    }
    dispatch(r, frame);
    while (r->node && l->early) {
        struct early *e = l->early;

        l->early = e->next;
        dispatch(r, e->data);
        free(e);
    }
}

static void on_gcs_close(void *arg, struct conn *c, int code, const char *text) {
    struct raylet *r = arg;

    (void)c;
    r->gcs_link->conn = NULL;
    if (!r->node && !r->set.rejoin.again) node_fail(r, -code, text);
    if (r->set.local_session) node_end(r, "the connection to the GCS is lost");
    if (r->node && r->gcs_link->no_log && code == -SKATE_ENOENT)
        node_end(r, "the GCS has ended, and it kept no log to start again from");
    if (!r->gcs_link->lost_ns) node_log("the link to the GCS ended: %s", text);
    broke(r->gcs_link);
}

static void on_gcs_drain(void *arg, struct conn *c) {
    struct raylet *r = arg;

    (void)c;
    if (r->gcs_link->state == LINK_OPEN) push(r->gcs_link);
}

static const struct conn_events gcs_events = {.on_ready = on_gcs_ready, .on_frame = on_gcs_frame,
                                              .on_close = on_gcs_close, .on_drain = on_gcs_drain};

/* Who asks while too much waits for a GCS that is away hears so. */
static void refuse(struct raylet *r, uint64_t src, uint32_t call) {
    static const char why[] = "the GCS is away, and too much waits for it already";
    uint64_t room[32];
    struct wire_status *m;
    struct wire_buf b;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_STATUS);
    m->head.call = call;
    m->head.flags = WIRE_REPLY;
    m->status = -SKATE_EFULL;
    WIRE_PUT(&b, status, reason, why, sizeof why - 1);
    if (wire_end(&b) == 0) route_as(r, src, SKATE_GCS, b.p, b.len);
    wire_release(&b);
}

void gcs_link_send(struct raylet *r, const void *frame, uint32_t len) {
    struct gcs_link *l = r->gcs_link;
    uint64_t src = 0;
    uint32_t call = 0, inner_len;
    int e;

    if (r->set.local_session || !wire_is_kept(wire_head(frame)->kind)) {
        e = l->state == LINK_OPEN ? conn_send(l->conn, frame, len) : -SKATE_EDEAD;
        if (e < 0 && r->set.local_session)
            node_log("a %s for the GCS is lost: %s", wire_name(wire_head(frame)->kind),
                     skate_strerror(e));
        return;
    }
    if (wire_head(frame)->kind == WIRE_ROUTE) {
        const struct wire_route *m = frame;
        const uint8_t *inner = wire_route_frame(m, &inner_len);

        src = m->src;
        if (inner_len >= sizeof(struct wire_head))
            call = ((const struct wire_head *)(const void *)inner)->call;
    }
    e = gcs_keep_add(&l->keep, frame, len, src, call);
    if (e < 0 && call)
        refuse(r, src, call);
    else if (e < 0)
        node_log("a %s for the GCS is lost: %s", wire_name(wire_head(frame)->kind),
                 skate_strerror(e));
    else if (l->state == LINK_OPEN)
        push(l);
}

void gcs_link_forget(struct raylet *r, uint64_t proc) {
    gcs_keep_forget(&r->gcs_link->keep, proc);
}

void gcs_link_bye(struct raylet *r, const char *why) {
    struct gcs_link *l = r->gcs_link;
    uint64_t room[128];
    struct wire_buf b;

    if (!l || !l->conn || !r->node || l->state != LINK_OPEN) return;
    wire_init(&b, room, sizeof room);
    (void)wire_begin(&b, WIRE_NODE_BYE);
    WIRE_PUT(&b, node_bye, reason, why, strlen(why));
    if (wire_end(&b) == 0 && conn_send(l->conn, b.p, b.len) == 0)
        conn_finish(l->conn); /* writes it now: nobody turns the loop after us */
    wire_release(&b);
}

int gcs_link_start(struct raylet *r, struct skate_error *err) {
    struct net_address gcs = {.ip = r->set.gcs_ip, .port = r->set.gcs_port};
    int e;

    r->gcs_link = calloc(1, sizeof *r->gcs_link);
    if (!r->gcs_link || loop_timer_new(r->loop, dial, r->gcs_link, &r->gcs_link->redial) < 0)
        return err_fail(err, -SKATE_ENOMEM, "out of memory");
    r->gcs_link->r = r;
    r->gcs_link->redial_ms = REDIAL_MS;
    r->gcs_link->epoch = r->set.rejoin.epoch;
    r->gcs_link->keep.bytes_max = KEPT_MAX;
    e = conn_connect(r->net, gcs, &gcs_events, r, &r->gcs_link->conn);
    if (e < 0)
        return err_fail(err, e, "cannot connect to the GCS at %s:%u", gcs.ip, gcs.port);
    return 0;
}
