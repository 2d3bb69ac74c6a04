/* parameter_server.c - an actor keeps the weights, tasks compute gradients on their share of data.
 *
 *   cc -o parameter_server parameter_server.c $(pkg-config --cflags --libs skate)
 *   cc -shared -fPIC -o parameter_server.so parameter_server.c $(pkg-config --cflags --libs skate)
 *   ./parameter_server [ROUNDS]
 *
 * A linear regression. Weights and gradients are tensors: the program passes their refs on and
 * never holds their bytes; who computes reads them where they lie. */
#include <limits.h>
#include <math.h>
#include <skate/actor.h>
#include <skate/skate.h>
#include <skate/task.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIM = 8, ROWS = 2000, WORKERS = 4 };

static skate_tensor vector(const double *data, int64_t n) {
    skate_tensor t;

    memset(&t, 0, sizeof t);
    t.data = data;
    t.dtype = SKATE_F64;
    t.ndim = 1;
    t.shape[0] = n;
    return t;
}

/* A tensor argument of n doubles; NULL: the call fails, and says why. */
static const double *vector_arg(skate_task *call, size_t i, int64_t n) {
    const skate_tensor *t = skate_arg_tensor(call, i, SKATE_F64);

    if (!t) return NULL;
    if (skate_tensor_elements(t) == n) return t->data;
    skate_fail(call, "ValueError", "argument %zu has %lld elements, not %lld", i,
               (long long)skate_tensor_elements(t), (long long)n);
    return NULL;
}

/* ---- the server: an actor ---- */

struct server {
    double weights[DIM], rate;
    int64_t pushed;
};

static int server_make(skate_task *call, void *self) {
    ((struct server *)self)->rate = skate_arg_float(call, 0);
    return 0;
}

static int server_pull(skate_task *call, void *self) {
    skate_tensor t = vector(((struct server *)self)->weights, DIM);
    skate_value v = skate_of_tensor(&t);

    return skate_return(call, &v); /* copied before it returns */
}

static int server_push(skate_task *call, void *self) {
    struct server *m = self;
    const double *gradient = vector_arg(call, 0, DIM);

    if (!gradient) return 0; /* the call has failed already */
    for (int i = 0; i < DIM; i++) m->weights[i] -= m->rate * gradient[i];
    return skate_return_int(call, ++m->pushed);
}

SKATE_ACTOR(server, sizeof(struct server), server_make, NULL, SKATE_METHOD("pull", server_pull),
            SKATE_METHOD("push", server_push))

/* ---- a gradient: a task ---- */

static double next_random(uint64_t *state) { /* -1 to 1 */
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(int64_t)*state * 0x1p-63;
}

/* The truth that is to be found: weight i is i + 1. */
static double target(const double *x) {
    double y = 0;

    for (int i = 0; i < DIM; i++) y += (i + 1) * x[i];
    return y;
}

/* gradient(weights, seed): of the squared error over the rows that belong to the seed. */
SKATE_TASK(gradient) {
    const double *weights = vector_arg(call, 0, DIM);
    uint64_t state = (uint64_t)skate_arg_int(call, 1) * 977 + 1;
    double sum[DIM] = {0}, x[DIM];
    skate_tensor t = vector(sum, DIM);
    skate_value v = skate_of_tensor(&t);

    if (!weights) return 0;
    for (int row = 0; row < ROWS; row++) {
        double error = 0;

        for (int i = 0; i < DIM; i++) {
            x[i] = next_random(&state);
            error += weights[i] * x[i];
        }
        error -= target(x);
        for (int i = 0; i < DIM; i++) sum[i] += 2 * error * x[i] / ROWS;
    }
    return skate_return(call, &v);
}

/* ---- the program ---- */

static void check(int result, const char *what) {
    if (result >= 0) return;
    fprintf(stderr, "%s: %s\n", what, skate_last_error());
    exit(1);
}

static double distance(skate_session *s, skate_ref weights) {
    skate_value v;
    double d = 0;

    check(skate_get(s, weights, -1, &v), "pull");
    for (int i = 0; i < DIM; i++) d += fabs(((const double *)v.as.tensor->data)[i] - (i + 1));
    skate_release(s, &v);
    return d;
}

/* One round: the weights go to all tasks, their gradients to the server, by their refs alone. */
static skate_ref train(skate_session *s, skate_actor m, skate_function *f, skate_ref weights) {
    skate_ref pushed[WORKERS], next;

    for (int i = 0; i < WORKERS; i++) {
        skate_value args[2] = {skate_of_ref(weights), skate_int(i)}, one;
        skate_ref g;

        check(skate_submit(s, f, args, 2, &g), "submit");
        one = skate_of_ref(g);
        check(skate_call(s, m, "push", &one, 1, 1, &pushed[i]), "push");
        skate_ref_drop(s, g);
    }
    check(skate_call(s, m, "pull", NULL, 0, 1, &next), "pull"); /* after the pushes before it */
    for (int i = 0; i < WORKERS; i++) {
        skate_value v;

        check(skate_get(s, pushed[i], -1, &v), "push");
        skate_ref_drop(s, pushed[i]);
    }
    skate_ref_drop(s, weights);
    return next;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 60;
    skate_value rate = skate_float(0.1);
    char library[PATH_MAX];
    skate_function *f;
    skate_session *s;
    skate_actor m;
    skate_ref weights;

    if (!realpath("./parameter_server.so", library)) {
        perror("parameter_server.so");
        return 1;
    }
    check(skate_connect(NULL, &s), "connect");
    check(skate_c_actor(s, library, "server", NULL, &rate, 1, &m), "actor");
    check(skate_c_function(s, library, "gradient", NULL, &f), "function");
    check(skate_call(s, m, "pull", NULL, 0, 1, &weights), "pull");
    for (long i = 0; i < rounds; i++) {
        weights = train(s, m, f, weights);
        if (i % 10 == 9)
            printf("after %ld rounds the weights are %.6f away\n", i + 1, distance(s, weights));
    }
    skate_ref_drop(s, weights);
    skate_function_free(s, f);
    skate_actor_drop(s, m);
    skate_close(s);
    return 0;
}
