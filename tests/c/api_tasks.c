/* What the programs of api_cases.c run in native workers. */
#include <skate/task.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

SKATE_TASK(add) {
    return skate_return_int(call, skate_arg_int(call, 0) + skate_arg_int(call, 1));
}

SKATE_TASK(echo) {
    skate_value v;
    int r = skate_arg(call, 0, &v);

    return r < 0 ? r : skate_return(call, &v);
}

SKATE_TASK(refuse) {
    return skate_fail(call, "ValueError", "no, not %d", 7);
}

SKATE_TASK(nothing) {
    (void)call;
    return 0;
}

SKATE_TASK(crash) {
    (void)call;
    abort();
}

/* Until it is cancelled. */
SKATE_TASK(linger) {
    struct timespec pause = {0, 2000000};

    while (!skate_task_cancelled(call)) (void)nanosleep(&pause, NULL); /* its work */
    return 0;
}

SKATE_TASK(say) {
    printf("it says %s\n", skate_arg_str(call, 0, NULL));
    fflush(stdout);
    return 0;
}

SKATE_TASK(sum) {
    const skate_tensor *t = skate_arg_tensor(call, 0, SKATE_F64);
    double total = 0;

    for (int64_t i = 0, n = t ? skate_tensor_elements(t) : 0; i < n; i++)
        total += ((const double *)t->data)[i];
    return skate_return_float(call, total);
}

struct counter {
    int64_t n;
};

static int counter_make(skate_task *call, void *self) {
    struct counter *c = self;

    if (skate_arg_count(call) == 0) return 0;
    c->n = skate_arg_int(call, 0);
    if (c->n < 0) return skate_fail(call, "ValueError", "a counter begins at 0 or more");
    return 0;
}

static int counter_add(skate_task *call, void *self) {
    struct counter *c = self;

    return skate_return_int(call, c->n += skate_arg_int(call, 0));
}

/* Call another actor, whose handle came as a value. */
static int counter_poke(skate_task *call, void *self) {
    skate_session *s = skate_task_session(call);
    skate_value v, one = skate_int(1), got;
    skate_actor other;
    skate_ref ref;
    int r = skate_arg(call, 0, &v);

    (void)self;
    if (r == 0) r = skate_actor_of(s, &v, &other);
    if (r < 0) return r;
    r = skate_call(s, other, "add", &one, 1, 1, &ref);
    if (r == 0) r = skate_get(s, ref, -1, &got);
    skate_ref_drop(s, ref);
    skate_actor_drop(s, other);
    return r < 0 ? r : skate_return_int(call, got.as.i);
}

SKATE_ACTOR(counter, sizeof(struct counter), counter_make, NULL, SKATE_METHOD("add", counter_add),
            SKATE_METHOD("poke", counter_poke))

/* It wants to end before it lives. */
static int hasty_make(skate_task *call, void *self) {
    (void)self;
    return skate_task_exit_actor(call);
}

SKATE_ACTOR(hasty, 1, hasty_make, NULL, SKATE_METHOD("make", hasty_make))
