/* net_seal.c - processor time of a connection, both ends in one process: one small frame there and
 * back, small frames in thousands, frames of 1 MB. Built twice, as the daemons have it and sealing
 * nothing (bench/micro/meson.build); bench/seal.py runs both. `net_seal [tls]`: one line for each
 * row, "row microseconds" of processor time for a frame, or for a MB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/conn.h"
#include "wire/wire_gen.h"

enum { SMALL = 160, BATCH = 1000, LARGE = 1 << 20 };

static struct loop *loop;
static struct conn *ends[2];
static uint64_t got, want;
static bool echo;

static void on_ready(void *arg, struct conn *c) { *(struct conn **)arg = c; }
static void on_frame(void *arg, struct conn *c, const void *frame, uint32_t len) {
    got++;
    if (echo && arg == &ends[0] && conn_send(c, frame, len) < 0) abort();
}
static void on_close(void *arg, struct conn *c, int code, const char *text) {
    (void)arg, (void)c, (void)code;
    fprintf(stderr, "%s\n", text);
    abort();
}
static const struct conn_events events = {
    .on_ready = on_ready, .on_frame = on_frame, .on_close = on_close};

static double cpu(void) {
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void make(struct wire_buf *b, uint32_t size) {
    uint8_t *data = calloc(1, size);

    if (!data) abort();
    wire_init(b, NULL, 0);
    (void)wire_begin(b, WIRE_BULK_DATA);
    WIRE_PUT(b, bulk_data, data, data, size);
    if (wire_end(b) < 0) abort();
    free(data);
}

static void until(uint64_t count) {
    want = count;
    while (got < want) loop_run_once(loop, 100);
}

/* Processor time for each of `rounds` rounds of `each` frames, in microseconds. */
static double run(uint32_t size, uint32_t each, uint32_t rounds, bool both_ways) {
    double least = 1e18;
    struct wire_buf b;

    make(&b, size);
    echo = both_ways;
    for (int part = 0; part < 10; part++) {
        double began = cpu();

        for (uint32_t i = 0; i < rounds / 10; i++) {
            got = 0;
            for (uint32_t k = 0; k < each; k++)
                if (conn_send(ends[1], b.p, b.len) < 0) abort();
            until(both_ways ? 2 * each : each);
        }
        began = (cpu() - began) / (rounds / 10) / each;
        if (began < least) least = began;
    }
    wire_release(&b);
    return least;
}

int main(int argc, char **argv) {
    struct net_opts opts = {.tls = {.on = argc > 1 && !strcmp(argv[1], "tls")}};
    struct net_listener *l;
    struct net *n;

    if (loop_new(&loop) < 0) return 1;
    opts.loop = loop;
    if (net_new(&opts, &n) < 0 ||
        net_listen(n, (struct net_address){"127.0.0.1", 0}, &events, &ends[0], &l, NULL) < 0 ||
        conn_connect(n, (struct net_address){"127.0.0.1", net_listener_port(l)}, &events, &ends[1],
                     &ends[1]) < 0)
        return 1;
    ends[0] = NULL;
    while (!ends[0] || !conn_is_ready(ends[1])) loop_run_once(loop, 100);
    printf("there_and_back %f\n", run(SMALL, 1, 20000, true));
    printf("in_thousands %f\n", run(SMALL, BATCH, 200, true));
    printf("megabyte %f\n", run(LARGE, 1, 200, false));
    (void)net_free(n);
    (void)loop_free(loop);
    return 0;
}
