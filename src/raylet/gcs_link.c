/* gcs_link.c - see gcs_link.h. */
#include "raylet/gcs_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raylet/bundles.h"
#include "raylet/links.h"

enum { POLL_MS = 1000 };

struct gcs_link {
    struct conn *conn;
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
    m->version = WIRE_VERSION;
    WIRE_PUT(&b, node_register, ip, s->node_ip, strlen(s->node_ip));
    WIRE_PUT(&b, node_register, hostname, host, strlen(host));
    WIRE_PUT(&b, node_register, name, s->node_name, strlen(s->node_name));
    WIRE_PUT(&b, node_register, socket_path, r->socket_path, strlen(r->socket_path));
    WIRE_PUT(&b, node_register, resources, packed, packed_len);
    own_labels(r, labels);
    WIRE_PUT(&b, node_register, labels, labels, strlen(labels));
    if (wire_end(&b) < 0 || conn_send(c, b.p, b.len) < 0)
        node_fail(r, SKATE_EIO, "cannot register at the GCS");
    wire_release(&b);
}

static void on_welcome(struct raylet *r, const struct wire_node_welcome *m) {
    uint32_t len;
    const char *reason = wire_node_welcome_reason(m, &len);
    struct sched_node *own;
    char text[256];

    if (r->node) return;
    if (m->status < 0 || m->node == 0) {
        if (len >= sizeof text) len = sizeof text - 1;
        memcpy(text, reason, len);
        text[len] = 0;
        node_fail(r, -m->status, len ? text : "the GCS refused this node");
    }
    r->node = r->view.self = m->node;
    r->self = proc_make(m->node, 0);
    own = sched_view_add(&r->view, m->node);
    if (!own) node_fail(r, SKATE_ENOMEM, "out of memory");
    own->alive = true;
    own->total = own->avail = r->set.resources;
    own_labels(r, own->labels);
    gpus_init(&r->gpus, resources_amount(&own->total, "GPU"));
    node_ready(r);
}

static void on_convicted(struct raylet *r, const struct wire_convicted *m) {
    char why[256];
    uint32_t len;
    const char *text = wire_convicted_reason(m, &len);

    if (m->node != r->node) return;
    snprintf(why, sizeof why, "%.*s", (int)len, text);
    node_end(r, why);
}

static void on_gcs_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    struct raylet *r = arg;

    (void)c;
    (void)len;
    switch (wire_head(frame)->kind) {
    case WIRE_NODE_WELCOME: on_welcome(r, frame); break;
    case WIRE_NODE_INFO: links_node_info(r, frame); break;
    case WIRE_JOB_INFO: job_info(r, frame); break;
    case WIRE_JOB_END:
        job_end(r, ((const struct wire_job_end *)frame)->job, "its job ended", false);
        break;
    case WIRE_ACTOR_START: actor_host_start(r, frame); break;
    case WIRE_WORKER_KILL: actor_host_kill(r, frame); break;
    case WIRE_ROUTE: route_frame(r, frame, 0); break;
    case WIRE_PROC_DIED: death_heard(r, frame); break;
    case WIRE_ROWS: links_rows(r, frame); break;
    case WIRE_GROUP_RESERVE: groups_on_reserve(r, frame); break;
    case WIRE_GROUP_RELEASE: groups_on_release(r, frame); break;
    case WIRE_GROUP_INFO: groups_on_info(r, frame); break;
    case WIRE_NODE_DOUBT: links_node_doubt(r, frame); break;
    case WIRE_CONVICTED: on_convicted(r, frame); break;
    case WIRE_STOP: node_end(r, "the cluster stops");
    default: break;
    }
}

static void on_gcs_close(void *arg, struct conn *c, int code, const char *text) {
    struct raylet *r = arg;

    (void)c;
    r->gcs_link->conn = NULL;
    if (!r->node) node_fail(r, -code, text);
    node_end(r, "the connection to the GCS is lost");
}

static const struct conn_events gcs_events = {
    .on_ready = on_gcs_ready, .on_frame = on_gcs_frame, .on_close = on_gcs_close};

void gcs_link_send(struct raylet *r, const void *frame, uint32_t len) {
    int e = r->gcs_link->conn ? conn_send(r->gcs_link->conn, frame, len) : -SKATE_EDEAD;

    if (e < 0) node_log("a %s for the GCS is lost: %s", wire_name(wire_head(frame)->kind),
                        skate_strerror(e));
}

void gcs_link_poll(struct raylet *r) {
    struct wire_list m = {.head = {.size = sizeof m, .kind = WIRE_LIST, .fixed = sizeof m,
                                   .call = 1},
                          .what = 1};
    int64_t now = loop_now_ns(r->loop);

    if (r->view.count < 2 || now - r->polled_ns < POLL_MS * INT64_C(1000000)) return;
    r->polled_ns = now;
    gcs_link_send(r, &m, sizeof m);
}

int gcs_link_start(struct raylet *r, struct skate_error *err) {
    struct net_address gcs = {.ip = r->set.gcs_ip, .port = r->set.gcs_port};
    int e;

    r->gcs_link = calloc(1, sizeof *r->gcs_link);
    if (!r->gcs_link) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    e = conn_connect(r->net, gcs, &gcs_events, r, &r->gcs_link->conn);
    if (e < 0)
        return err_fail(err, e, "cannot connect to the GCS at %s:%u", gcs.ip, gcs.port);
    return 0;
}
