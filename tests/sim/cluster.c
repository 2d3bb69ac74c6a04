/* cluster.c - machines, and the daemons that run on them: the GCS, raylets, their zygotes. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gcsd/gcsd.h"
#include "raylet/raylet.h"
#include "sim_os.h"
#include "users.h"

#define ARENA_BYTES (UINT64_C(64) << 20)

struct sim_cluster sim_cluster;

/* ---- the GCS ---- */

static void on_log_end(void *arg, int status, const char *text) {
    (void)arg;
    sim_note("the GCS has no log any more: %s, %s", skate_strerror(status), text);
    sim_exit(3);
}

static void gcs_main(void *arg) {
    struct gcsd_settings s = {.listen_port = sim_cluster.gcs_port};
    struct gcsd_opts opts = {.settings = &s, .on_log_end = on_log_end};
    struct skate_error err = {""};
    int e;

    (void)arg;
    memset(s.key, 7, sizeof s.key);
    snprintf(s.listen_ip, sizeof s.listen_ip, "%s", sim_cluster.machines[0]->ip);
    if (!sim_cluster.no_log) snprintf(s.log, sizeof s.log, "/sim/gcs");
    s.lasting = !sim_cluster.private;
    s.local_session = sim_cluster.private;
    e = loop_new(&opts.loop);
    if (e == 0) e = gcsd_new(&opts, &sim_cluster.gcsd, &err);
    if (e < 0) {
        sim_fail("the GCS does not start: %s", err.text);
        return;
    }
    sim_cluster.gcs_port = gcsd_port(sim_cluster.gcsd);
    sim_loop_drive(opts.loop);
}

static void gcs_ended(struct sim_proc *p) {
    if (sim_cluster.gcs_proc != p) return;
    sim_cluster.gcs_proc = NULL;
    sim_cluster.gcsd = NULL;
}

void sim_gcs_start(void) {
    struct sim_proc *p = sim_proc_new("gcs", sim_cluster.machines[0], NULL);

    p->on_end = gcs_ended;
    sim_cluster.gcs_proc = p;
    sim_cluster.gcs_starts++;
    (void)sim_enter(p, gcs_main, NULL);
}

/* ---- the zygote ---- */

struct birth { /* what a worker begins with */
    int fd;
};

static void *worker_main(void *arg) {
    struct birth b = *(struct birth *)arg;

    free(arg);
    return sim_cluster.worker((void *)(intptr_t)b.fd);
}

struct report { /* of the zygote to its raylet, from its own turn */
    struct sim_proc *zygote;
    struct wire_exited m;
};

static void send_report(void *arg) {
    struct report *r = arg;

    (void)!write((int)(intptr_t)r->zygote->user, &r->m, sizeof r->m);
    free(r);
}

static void on_child(struct sim_proc *p, struct sim_proc *child) {
    struct report *r = calloc(1, sizeof *r);

    if (!r) abort();
    r->zygote = p;
    r->m = (struct wire_exited){.head = {.size = sizeof r->m, .kind = WIRE_EXITED,
                                         .fixed = sizeof r->m},
                                .pid = child->pid, .wait_status = child->status};
    child->reaped = true;
    p->children_ended--;
    sim_later((int64_t)sim_below(300 * SIM_US), send_report, r);
}

static void fork_worker(struct sim_proc *z, const struct wire_fork *m, const int fds[3]) {
    struct wire_forked done = {.head = {.size = sizeof done, .kind = WIRE_FORKED,
                                        .fixed = sizeof done}, .proc = m->proc};
    struct birth *b = calloc(1, sizeof *b);
    struct sim_proc *p;
    char name[48];

    if (!b) abort();
    sim_sleep(SIM_MS + (int64_t)sim_below(2 * SIM_MS));
    snprintf(name, sizeof name, "%s.w%u", z->machine->name, (unsigned)(m->proc & 0xffff));
    p = sim_proc_new(name, z->machine, z);
    p->user = z;
    b->fd = sim_fd_give(fds[0], p);
    for (int i = 0; i < 3; i++) {
        if (i) (void)sim_fd_give(fds[i], p);
        sim_fd_close(fds[i]);
    }
    (void)sim_thread_new(p, worker_main, b);
    done.pid = p->pid;
    (void)!write((int)(intptr_t)z->user, &done, sizeof done);
}

static void *zygote_main(void *arg) {
    int fd = (int)(intptr_t)arg;

    sim_sleep(20 * SIM_MS + (int64_t)sim_below(20 * SIM_MS));
    for (;;) {
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct wire_fork m;
        struct iovec iov = {&m, sizeof m};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
        ssize_t n = recvmsg(fd, &msg, 0);
        int fds[3];

        if (n < 0 && errno == EAGAIN) {
            (void)sim_fd_wait(fd);
            continue;
        }
        if (n != (ssize_t)sizeof m || msg.msg_controllen == 0) return NULL; /* its raylet is gone */
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fds);
        fork_worker(sim_cur, &m, fds);
    }
}

/* Its workers die with it; their parent is the raylet then. */
static void zygote_ended(struct sim_proc *z) {
    for (struct sim_proc *p = sim_procs; p; p = p->next)
        if (p->user == z && !p->dead) sim_kill(p, SIGKILL);
}

int sim_spawn(const char *path, int sock, uint32_t *ret_pid) {
    struct sim_machine *m = sim_cur->machine;
    struct sim_proc *z;
    char name[48];

    if (strcmp(path, "/sim/python") != 0) return ENOENT;
    snprintf(name, sizeof name, "%s.zygote", m->name);
    z = sim_proc_new(name, m, sim_cur);
    z->on_child = on_child;
    z->on_end = zygote_ended;
    z->user = (void *)(intptr_t)sim_fd_give(sock, z);
    m->zygote = z;
    (void)sim_thread_new(z, zygote_main, z->user);
    *ret_pid = z->pid;
    return 0;
}

/* ---- raylets ---- */

static void raylet_main(void *arg) {
    struct sim_machine *m = arg;
    struct raylet *r = calloc(1, sizeof *r);
    struct skate_error err = {""};
    int e;

    if (!r) abort();
    m->raylet = r;
    memset(r->set.key, 7, sizeof r->set.key);
    snprintf(r->set.gcs_ip, sizeof r->set.gcs_ip, "%s", sim_cluster.machines[0]->ip);
    r->set.gcs_port = sim_cluster.gcs_port;
    snprintf(r->set.node_ip, sizeof r->set.node_ip, "%s", m->ip);
    snprintf(r->set.session_dir, sizeof r->set.session_dir, "/sim");
    snprintf(r->set.run_dir, sizeof r->set.run_dir, "/sim/%s", m->name);
    snprintf(r->set.node_name, sizeof r->set.node_name, "%s", m->name);
    snprintf(r->set.python, sizeof r->set.python, "/sim/python");
    r->set.arena_bytes = ARENA_BYTES;
    r->set.span = 4 * ARENA_BYTES;
    r->set.store_wait_s = 1;
    r->set.spill_threshold = 0.8;
    r->set.is_head = m->is_head;
    r->set.local_session = sim_cluster.private;
    r->set.no_lifeline = true;
    r->set.line_fd = memfd_create("settings", 0);
    r->set.rejoin = (struct rejoin){.again = m->again, .epoch = m->epoch};
    m->again = false;
    if (resources_set(&r->set.resources, "CPU", (int64_t)(m->cpus * RESOURCE_UNIT)) < 0) abort();
    e = node_start(r, &err);
    if (e < 0) node_fail(r, -e, err.text[0] ? err.text : skate_strerror(e));
    sim_loop_drive(r->loop);
}

static void raylet_says(struct sim_proc *p, const char *text, size_t len) {
    sim_note("says: %.*s", (int)len, text);
    if (len > 5 && !memcmp(text, "READY", 5)) p->machine->ready = true;
}

static void raylet_ended(struct sim_proc *p) {
    struct sim_machine *m = p->machine;

    if (m->raylet_proc != p) return;
    m->raylet_proc = NULL;
    m->raylet = NULL;
    m->ready = false;
    m->down_since = sim_now;
    sim_drivers_node_lost(m);
}

static void start_anew(void *arg) {
    struct sim_machine *m = arg;

    if (!m->raylet_proc) sim_raylet_start(m);
}

void sim_raylet_anew(struct sim_machine *m, uint64_t epoch) {
    m->again = true;
    m->epoch = epoch;
    sim_later(SIM_MS, start_anew, m);
}

void sim_raylet_start(struct sim_machine *m) {
    struct sim_proc *p = sim_proc_new(m->name, m, NULL);

    p->subreaper = true;
    p->on_end = raylet_ended;
    p->on_out = raylet_says;
    m->raylet_proc = p;
    m->ready = false;
    snprintf(m->socket_path, sizeof m->socket_path, "/sim/%s/raylet.sock", m->name);
    (void)sim_enter(p, raylet_main, m);
}

void sim_cluster_new(uint32_t machines, void *(*worker)(void *fd)) {
    sim_cluster.worker = worker;
    sim_cluster.count = machines;
    sim_cluster.machines = calloc(machines, sizeof(void *));
    if (!sim_cluster.machines) abort();
    for (uint32_t i = 0; i < machines; i++) {
        struct sim_machine *m = calloc(1, sizeof *m);

        if (!m) abort();
        m->index = i;
        m->is_head = i == 0;
        m->cpus = 2;
        snprintf(m->ip, sizeof m->ip, "10.%u.%u.%u", i >> 16 & 255, i >> 8 & 255, i & 255);
        snprintf(m->name, sizeof m->name, "n%u", i);
        sim_cluster.machines[i] = m;
    }
}
