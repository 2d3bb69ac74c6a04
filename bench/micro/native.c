/* native.c - rows of the runtime without Python on either side: a C program, C tasks, C actors.
 *
 * usage: native SECONDS LIBRARY, where LIBRARY is this file as a shared library. Prints lines
 * `name value unit`. Built and run by bench/native/run.sh. Values differ on each call.
 *   native_task_spin       a round trip; both sides find work before they sleep
 *   native_task_futex      a round trip; the worker sleeps when the task comes
 *   native_task_pipelined  tasks a second, 2,000 at a time, the results read
 *   native_actors_created  actors a second in one process, a million at once, with a constructor
 *   native_actors_million_s, _mb  time and memory of that million
 *   native_actor_calls     calls a second to them, batches of 10,000, each result read */
#include <skate/actor.h>
#include <skate/skate.h>
#include <skate/task.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 2000, MILLION = 1000000, BATCH = 10000, FLIGHT = 4 };

/* ---- in the worker ---- */

SKATE_TASK(next) { return skate_return_int(call, skate_arg_int(call, 0) + 1); }

struct cell {
    int64_t n;
};

static int cell_make(skate_task *call, void *self) {
    ((struct cell *)self)->n = skate_arg_int(call, 0);
    return 0;
}

static int cell_add(skate_task *call, void *self) {
    struct cell *c = self;

    return skate_return_int(call, c->n += skate_arg_int(call, 0));
}

static int cell_pid(skate_task *call, void *self) {
    (void)self;
    return skate_return_int(call, getpid());
}

SKATE_ACTOR(cell, sizeof(struct cell), cell_make, NULL, SKATE_METHOD("add", cell_add),
            SKATE_METHOD("pid", cell_pid))

/* ---- in the program ---- */

static skate_session *s;
static const char *library;
static double seconds;

static void check(int result, const char *what) {
    if (result >= 0) return;
    fprintf(stderr, "native: %s: %s\n", what, skate_last_error());
    exit(1);
}

static double now(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void expect(skate_value *v, int64_t want) {
    if (v->kind != SKATE_INT || v->as.i != want) {
        fprintf(stderr, "native: a result is wrong\n");
        exit(1);
    }
}

static void round_trip(const skate_function *f, int64_t i, bool spin) {
    skate_value arg = skate_int(i), v;
    skate_ref r;
    int e;

    check(skate_submit(s, f, &arg, 1, &r), "submit");
    do e = skate_get(s, r, spin ? 0 : -1, &v);
    while (e == -SKATE_ETIMEOUT);
    check(e, "get");
    expect(&v, i + 1);
    skate_ref_drop(s, r);
}

/* The median, in microseconds. */
static double round_trips(const skate_function *f, bool asleep) {
    static double took[100000];
    struct timespec pause = {0, 1000000};
    double until = now() + seconds;
    size_t n = 0;

    for (int64_t i = 0; n < sizeof took / sizeof *took && (now() < until || n < 100); i++) {
        double t;

        if (asleep) nanosleep(&pause, NULL); /* the worker shall sleep: that is the row */
        t = now();
        round_trip(f, i * 77, false);
        took[n++] = now() - t;
    }
    qsort(took, n, sizeof *took, compare);
    return took[n / 2] * 1e6;
}

static void submit_window(const skate_function *f, int64_t first, skate_ref *refs) {
    for (int64_t i = 0; i < WINDOW; i++) {
        skate_value arg = skate_int(first + i);

        check(skate_submit(s, f, &arg, 1, &refs[i]), "submit");
    }
}

static void read_window(int64_t first, skate_ref *refs) {
    static skate_value values[WINDOW];

    check(skate_get_many(s, refs, WINDOW, -1, values), "get");
    for (int64_t i = 0; i < WINDOW; i++) {
        expect(&values[i], first + i + 1);
        skate_ref_drop(s, refs[i]);
    }
}

/* The next window is on its way while one is read. */
static double pipelined(const skate_function *f) {
    static skate_ref refs[2][WINDOW];
    double began = now(), done = 0;
    int64_t i = 0;

    submit_window(f, 0, refs[0]);
    for (; now() < began + seconds || i < 3; i++, done += WINDOW) {
        submit_window(f, (i + 1) * WINDOW, refs[(i + 1) % 2]);
        read_window(i * WINDOW, refs[i % 2]);
    }
    read_window(i * WINDOW, refs[i % 2]);
    return (done + WINDOW) / (now() - began);
}

/* ---- actors ---- */

static skate_actor new_process(int64_t *ret_pid) {
    skate_value start = skate_int(0), v;
    skate_actor a;
    skate_ref r;

    check(skate_c_actor(s, library, "cell", NULL, &start, 1, &a), "actor");
    check(skate_call(s, a, "pid", NULL, 0, 1, &r), "call");
    check(skate_get(s, r, -1, &v), "get");
    *ret_pid = v.as.i;
    skate_ref_drop(s, r);
    return a;
}

/* What only this process has in memory, in MB. */
static double private_mb(int64_t pid) {
    char path[64], line[128];
    double kb = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%lld/smaps_rollup", (long long)pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "Private_", 8)) kb += strtod(strchr(line, ':') + 1, NULL);
    if (f) fclose(f);
    return kb / 1024;
}

static void spawn_million(skate_actor a, uint64_t *ret_first) {
    skate_value start = skate_int(1000), v;
    skate_ref done;

    check(skate_spawn(s, a, "cell", &start, 1, MILLION, ret_first, &done), "spawn");
    check(skate_get(s, done, -1, &v), "spawn");
    skate_ref_drop(s, done);
}

struct flight {
    struct skate_batch_call calls[BATCH];
    skate_value args[BATCH];
    skate_ref result;
};

static void send_batch(skate_actor a, uint64_t first, int64_t number, struct flight *f) {
    for (int64_t i = 0; i < BATCH; i++) {
        f->args[i] = skate_int(number + i % 100);
        f->calls[i] = (struct skate_batch_call){
            .index = first + (uint64_t)(number * BATCH + i) % MILLION, .method = "add",
            .args = &f->args[i], .count = 1};
    }
    check(skate_call_batch(s, a.process, f->calls, BATCH, &f->result), "batch");
}

/* The sum of all results, so that each is read. */
static int64_t read_batch(struct flight *f) {
    skate_value v;
    int64_t sum = 0;

    check(skate_get(s, f->result, -1, &v), "batch");
    if (v.kind != SKATE_LIST || v.as.list.count != BATCH) exit(1);
    for (size_t i = 0; i < BATCH; i++) sum += v.as.list.items[i].as.i;
    skate_release(s, &v);
    skate_ref_drop(s, f->result);
    return sum;
}

static double batched(skate_actor a, uint64_t first, double least) {
    static struct flight flights[FLIGHT];
    double began = now(), done = 0;
    int64_t i = 0;

    for (; i < FLIGHT; i++) send_batch(a, first, i, &flights[i]);
    for (; now() < began + seconds || done < least; i++, done += BATCH) {
        (void)read_batch(&flights[i % FLIGHT]);
        send_batch(a, first, i, &flights[i % FLIGHT]);
    }
    for (int k = 0; k < FLIGHT; k++, i++, done += BATCH) (void)read_batch(&flights[i % FLIGHT]);
    return done / (now() - began);
}

static void actors(void) {
    double began, before, best = 0, total = 0;
    uint64_t first;
    skate_actor a;
    int64_t pid;

    do { /* a fresh process each time */
        a = new_process(&pid);
        before = private_mb(pid);
        began = now();
        spawn_million(a, &first);
        best = now() - began;
        total += best;
        if (total < seconds) skate_actor_drop(s, a);
    } while (total < seconds);
    printf("native_actors_created %.0f /s\n", MILLION / best);
    printf("native_actors_million_s %.3f s\n", best);
    printf("native_actor_calls %.0f /s\n", batched(a, first, MILLION));
    printf("native_actors_million_mb %.1f MB\n", private_mb(pid) - before);
    skate_actor_drop(s, a);
}

int main(int argc, char **argv) {
    struct skate_options o;
    skate_function *f;

    if (argc != 3) {
        fprintf(stderr, "usage: native SECONDS LIBRARY\n");
        return 2;
    }
    seconds = strtod(argv[1], NULL);
    library = argv[2];
    skate_options_init(&o);
    o.address = "local";
    o.num_cpus = 1;
    check(skate_connect(&o, &s), "connect");
    check(skate_c_function(s, library, "next", NULL, &f), "function");
    round_trip(f, 0, false); /* the library is loaded */
    printf("native_task_spin %.2f us\n", round_trips(f, false));
    printf("native_task_futex %.2f us\n", round_trips(f, true));
    printf("native_task_pipelined %.0f /s\n", pipelined(f));
    skate_function_free(s, f);
    actors();
    skate_close(s);
    return 0;
}
