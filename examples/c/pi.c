/* pi.c - Monte-Carlo over a cluster: tasks throw darts, the program counts.
 *
 *     cc -O2 -o pi pi.c $(pkg-config --cflags --libs skate)
 *     cc -O2 -shared -fPIC -o pi.so pi.c $(pkg-config --cflags --libs skate)
 *     ./pi [TASKS [THROWS-OF-EACH]]
 *
 * Tasks are counted as they end (skate_wait), so that the estimate can be shown while it grows. */
#include <limits.h>
#include <skate/skate.h>
#include <skate/task.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- runs in a worker ---- */

/* splitmix64: a new number for each state. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* darts(seed, throws): how many of them fell into the quarter of the circle. */
SKATE_TASK(darts) {
    uint64_t state = (uint64_t)skate_arg_int(call, 0) << 32;
    int64_t throws = skate_arg_int(call, 1), inside = 0;

    for (int64_t i = 0; i < throws; i++) {
        double x = (double)(next_random(&state) >> 11) * 0x1p-53;
        double y = (double)(next_random(&state) >> 11) * 0x1p-53;

        inside += x * x + y * y < 1;
        if (i % 1000000 == 0 && skate_task_cancelled(call)) return 0; /* nobody waits */
    }
    return skate_return_int(call, inside);
}

/* ---- runs here ---- */

static void check(int result, const char *what) {
    if (result >= 0) return;
    fprintf(stderr, "%s: %s\n", what, skate_last_error());
    exit(1);
}

/* Add up the results as they come: at least one each time. */
static double collect(skate_session *s, skate_ref *refs, size_t count, int64_t throws) {
    uint8_t *ready = calloc(count, 1);
    double inside = 0;
    size_t done = 0;

    while (ready && done < count) {
        size_t left = count - done, kept = 0;

        check(skate_wait(s, refs, left, 1, -1, ready), "wait");
        for (size_t i = 0; i < left; i++) {
            skate_value v;

            if (!ready[i]) {
                refs[kept++] = refs[i];
                continue;
            }
            check(skate_get(s, refs[i], -1, &v), "a task");
            inside += (double)v.as.i;
            skate_ref_drop(s, refs[i]);
        }
        done = count - kept;
        printf("%zu of %zu tasks: pi is about %.6f\n", done, count,
               4 * inside / ((double)done * (double)throws));
    }
    free(ready);
    return inside;
}

int main(int argc, char **argv) {
    size_t tasks = argc > 1 ? strtoul(argv[1], NULL, 10) : 16;
    int64_t throws = argc > 2 ? strtoll(argv[2], NULL, 10) : 5000000;
    skate_ref *refs = calloc(tasks ? tasks : 1, sizeof *refs);
    struct skate_task_options o;
    char library[PATH_MAX];
    skate_function *darts;
    skate_session *s;

    if (!refs || tasks == 0 || throws < 1 || !realpath("./pi.so", library)) {
        fprintf(stderr, "usage: pi [TASKS [THROWS-OF-EACH]], with pi.so in this folder\n");
        return 1;
    }
    check(skate_connect(NULL, &s), "connect");
    skate_task_options_init(&o);
    o.spread = 1; /* over all nodes */
    check(skate_c_function(s, library, "darts", &o, &darts), "function");
    for (size_t i = 0; i < tasks; i++) {
        skate_value args[2] = {skate_int((int64_t)i), skate_int(throws)};

        check(skate_submit(s, darts, args, 2, &refs[i]), "submit");
    }
    (void)collect(s, refs, tasks, throws);
    skate_function_free(s, darts);
    skate_close(s);
    free(refs);
    return 0;
}
