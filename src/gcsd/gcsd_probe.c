/* gcsd_probe.c - see gcsd_probe.h. */
#include "gcsd/gcsd_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct probe {
    struct probes *all;
    uint32_t node; /* 0: free */
    int fd;
    int error; /* known already at the start */
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct loop_task done;
};

struct probes {
    struct loop *loop;
    void (*on_done)(void *arg, uint32_t node, bool refused);
    void *arg;
    struct probe v[PROBES_MAX];
};

static void release(struct probe *o) {
    o->watch = loop_unwatch(o->watch);
    o->timer = loop_timer_free(o->timer);
    loop_unpost(o->all->loop, &o->done);
    if (o->fd >= 0) (void)close(o->fd);
    o->fd = -1;
    o->node = 0;
}

static void finish(struct probe *o, bool refused) {
    uint32_t node = o->node;

    release(o);
    o->all->on_done(o->all->arg, node, refused);
}

static void on_event(void *arg, unsigned events) {
    struct probe *o = arg;
    int error = 0;
    socklen_t n = sizeof error;

    (void)events;
    if (getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0) error = errno;
    finish(o, error == ECONNREFUSED);
}

static void on_time(void *arg) { finish(arg, false); }

static void on_known(void *arg) {
    struct probe *o = arg;

    finish(o, o->error == ECONNREFUSED);
}

static int begin(struct probe *o, const struct sockaddr_in *at) {
    struct loop *loop = o->all->loop;

    o->error = 0;
    o->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (o->fd < 0) return -SKATE_ESYS;
    if (connect(o->fd, (const struct sockaddr *)at, sizeof *at) < 0) o->error = errno;
    if (o->error != EINPROGRESS) {
        loop_post(loop, &o->done);
        return 0;
    }
    if (loop_timer_new(loop, on_time, o, &o->timer) < 0) return -SKATE_ENOMEM;
    loop_timer_start(o->timer, PROBE_MS, 0);
    return loop_watch_fd(loop, o->fd, LOOP_WRITE, on_event, o, &o->watch);
}

void probes_start(struct probes *p, uint32_t node, const char *ip, uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct probe *o = NULL;

    if (inet_pton(AF_INET, ip, &at.sin_addr) != 1 || port == 0) return;
    for (uint32_t i = 0; i < PROBES_MAX; i++) {
        if (p->v[i].node == node) return;
        if (!p->v[i].node) o = &p->v[i];
    }
    if (!o) return;
    o->node = node;
    if (begin(o, &at) < 0) release(o);
}

int probes_new(struct loop *loop, void (*on_done)(void *arg, uint32_t node, bool refused),
               void *arg, struct probes **ret) {
    struct probes *p = calloc(1, sizeof *p);

    if (!p) return -SKATE_ENOMEM;
    p->loop = loop;
    p->on_done = on_done;
    p->arg = arg;
    for (uint32_t i = 0; i < PROBES_MAX; i++) {
        p->v[i].all = p;
        p->v[i].fd = -1;
        loop_task_init(&p->v[i].done, on_known, &p->v[i]);
    }
    *ret = p;
    return 0;
}

struct probes *probes_free(struct probes *p) {
    if (!p) return NULL;
    for (uint32_t i = 0; i < PROBES_MAX; i++)
        if (p->v[i].node) release(&p->v[i]);
    free(p);
    return NULL;
}
