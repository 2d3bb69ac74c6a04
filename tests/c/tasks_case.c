/* Tasks: many of them, their errors, mistaken arguments, Python functions, groups, news. */
#include "api_cases.h"

void case_many(skate_session *s) {
    enum { N = 100000 };
    skate_ref *refs = malloc(N * sizeof *refs);
    skate_value args[2], v;
    skate_function *add;

    OK(skate_c_function(s, library, "add", NULL, &add));
    args[1] = skate_int(7);
    for (int i = 0; i < N; i++) {
        args[0] = skate_int(i);
        OK(skate_submit(s, add, args, 2, &refs[i]));
    }
    for (int i = 0; i < N; i++) {
        OK(skate_get(s, refs[i], 60000, &v));
        CHECK(v.kind == SKATE_INT && v.as.i == i + 7);
        skate_ref_drop(s, refs[i]);
    }
    skate_function_free(s, add);
    free(refs);
}

/* The code and words of a task of the library. */
static void fails(skate_session *s, const char *name, int code, const char *words) {
    struct skate_task_options o;
    skate_function *f;
    skate_value v;
    skate_ref ref;

    skate_task_options_init(&o);
    o.max_retries = 0;
    OK(skate_c_function(s, library, name, &o, &f));
    OK(skate_submit(s, f, NULL, 0, &ref));
    FAILS(skate_get(s, ref, 30000, &v), code, words);
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
}

/* A task that returns nothing: each of the results that were asked for is NIL. */
static void all_nil(skate_session *s, uint32_t returns) {
    skate_ref *refs = calloc(returns, sizeof *refs);
    struct skate_task_options o;
    skate_function *f;
    skate_value v;

    skate_task_options_init(&o);
    o.returns = returns;
    o.max_retries = 0;
    OK(skate_c_function(s, library, "nothing", &o, &f));
    OK(skate_submit(s, f, NULL, 0, refs));
    for (uint32_t i = 0; i < returns; i++) {
        OK(skate_get(s, refs[i], 30000, &v));
        CHECK(v.kind == SKATE_NIL);
        skate_ref_drop(s, refs[i]);
    }
    skate_function_free(s, f);
    free(refs);
}

void case_errors(skate_session *s) {
    struct skate_task_options o;
    skate_function *f;
    skate_value v, args[2];
    skate_actor a;
    skate_ref ref, next;

    all_nil(s, 2);
    all_nil(s, 100);
    all_nil(s, 1000);
    fails(s, "refuse", SKATE_ETASK, "ValueError: no, not 7");
    fails(s, "add", SKATE_ETASK, "argument");
    fails(s, "nothing_of_that_name", SKATE_ETASK, "nothing_of_that_name");
    fails(s, "crash", SKATE_ECRASH, "SIGABRT");
    /* Who takes a failed task's result fails as well. */
    OK(skate_c_function(s, library, "refuse", NULL, &f));
    OK(skate_submit(s, f, NULL, 0, &ref));
    skate_function_free(s, f);
    OK(skate_c_function(s, library, "echo", NULL, &f));
    v = skate_of_ref(ref);
    OK(skate_submit(s, f, &v, 1, &next));
    FAILS(skate_get(s, next, 30000, &v), SKATE_ETASK, "no, not 7");
    skate_ref_drop(s, next);
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
    /* Cancelled before it runs: its resource does not exist. */
    skate_task_options_init(&o);
    o.resources = &(struct skate_resource){"unobtainium", 1};
    o.resource_count = 1;
    OK(skate_c_function(s, library, "add", &o, &f));
    args[0] = args[1] = skate_int(1);
    OK(skate_submit(s, f, args, 2, &ref));
    FAILS(skate_get(s, ref, 100, &v), SKATE_ETIMEOUT, "unobtainium");
    OK(skate_cancel(s, ref, false));
    FAILS(skate_get(s, ref, 30000, &v), SKATE_ECANCELLED, "cancelled");
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
    /* An actor whose constructor fails; one that was killed. */
    v = skate_int(-1);
    OK(skate_c_actor(s, library, "counter", NULL, &v, 1, &a));
    OK(skate_call(s, a, "add", args, 1, 1, &ref));
    FAILS(skate_get(s, ref, 30000, &v), SKATE_EACTOR, "begins at 0");
    skate_ref_drop(s, ref);
    skate_actor_drop(s, a);
    OK(skate_c_actor(s, library, "counter", NULL, NULL, 0, &a));
    OK(skate_call(s, a, "no_such_method", args, 1, 1, &ref));
    FAILS(skate_get(s, ref, 30000, &v), SKATE_ETASK, "no_such_method");
    skate_ref_drop(s, ref);
    OK(skate_kill(s, a, false));
    do { /* the news of its death is on the way */
        OK(skate_call(s, a, "add", args, 1, 1, &ref));
        next.id[0] = (uint64_t)-skate_get(s, ref, 30000, &v);
        skate_ref_drop(s, ref);
    } while (next.id[0] == 0);
    CHECK(next.id[0] == SKATE_EACTOR && strstr(skate_last_error(), "skate_kill"));
    skate_actor_drop(s, a);
}

void case_bad(skate_session *s) {
    struct skate_task_options o;
    struct skate_actor_options ao;
    struct skate_options so;
    skate_value v = skate_int(1), deep[60];
    skate_function *f;
    skate_session *other;
    skate_actor a;
    skate_ref none = {{0, 0}}, ref;
    uint8_t ready;

    CHECK(!strcmp(skate_strerror(SKATE_ETIMEOUT), skate_strerror(-SKATE_ETIMEOUT)));
    CHECK(skate_version()[0]);
    FAILS(skate_get(s, none, 0, &v), SKATE_EINVAL, "empty");
    FAILS(skate_wait(s, &none, 1, 1, 0, &ready), SKATE_EINVAL, "empty");
    FAILS(skate_wait(s, &none, 1, 2, 0, &ready), SKATE_EINVAL, "need is 2");
    FAILS(skate_cancel(s, none, false), SKATE_EINVAL, "empty");
    FAILS(skate_put(s, NULL, &ref), SKATE_EINVAL, "NULL");
    OK(skate_put(s, &v, &ref));
    v = skate_of_ref(ref);
    FAILS(skate_put(s, &v, &ref), SKATE_ETYPE, "in a list");
    skate_ref_drop(s, v.as.ref);
    deep[0] = skate_int(1);
    for (int i = 1; i < 60; i++) deep[i] = skate_list(&deep[i - 1], 1);
    FAILS(skate_put(s, &deep[59], &ref), SKATE_EINVAL, "deep");
    FAILS(skate_c_function(s, "", "x", NULL, &f), SKATE_EINVAL, "library");
    FAILS(skate_python_function(s, "nodots", NULL, &f), SKATE_EINVAL, "import path");
    FAILS(skate_submit(s, NULL, NULL, 0, &ref), SKATE_EINVAL, "NULL");
    skate_task_options_init(&o);
    o.num_cpus = -1;
    FAILS(skate_c_function(s, library, "add", &o, &f), SKATE_EINVAL, "num_cpus");
    skate_task_options_init(&o);
    o.max_retries = -2;
    FAILS(skate_c_function(s, library, "add", &o, &f), SKATE_EINVAL, "max_retries");
    memset(&o, 0, sizeof o);
    FAILS(skate_c_function(s, library, "add", &o, &f), SKATE_EINVAL, "_init");
    OK(skate_c_function(s, library, "add", NULL, &f));
    FAILS(skate_submit(s, f, NULL, 2, &ref), SKATE_EINVAL, "NULL");
    v = skate_str("caf\xe9");
    FAILS(skate_put(s, &v, &ref), SKATE_EINVAL, "UTF-8");
    FAILS(skate_submit(s, f, &v, 1, &ref), SKATE_EINVAL, "not at byte 3 of 4");
    skate_function_free(s, f);
    skate_function_free(s, NULL);
    skate_actor_options_init(&ao);
    ao.detached = true;
    FAILS(skate_c_actor(s, library, "counter", &ao, NULL, 0, &a), SKATE_EINVAL, "name");
    FAILS(skate_get_actor(s, "nobody", NULL, &a), SKATE_ENOENT, "nobody");
    a = (skate_actor){none, 0};
    FAILS(skate_call(s, a, "add", NULL, 0, 1, &ref), SKATE_EINVAL, "empty");
    v = skate_int(1);
    FAILS(skate_actor_of(s, &v, &a), SKATE_ETYPE, "no actor");
    skate_options_init(&so);
    so.address = "not an address";
    FAILS(skate_connect(&so, &other), SKATE_EINVAL, "not an address");
    so.address = "127.0.0.1:1";
    FAILS(skate_connect(&so, &other), SKATE_ENOENT, "skate start");
    so.address = "local";
    so.num_cpus = -5;
    FAILS(skate_connect(&so, &other), SKATE_EINVAL, "num_cpus");
    skate_close(NULL);
}

void case_python(skate_session *s) {
    double numbers[3] = {1, 2, 3.5};
    skate_tensor t = {.data = numbers, .dtype = SKATE_F64, .ndim = 1, .shape = {3}};
    skate_value args[2] = {skate_int(20), skate_int(22)}, v;
    skate_function *f;
    skate_ref ref;

    OK(skate_python_function(s, "operator.add", NULL, &f));
    OK(skate_submit(s, f, args, 2, &ref));
    CHECK(get_int(s, ref) == 42);
    args[1] = skate_str("x");
    OK(skate_submit(s, f, args, 2, &ref));
    FAILS(skate_get(s, ref, 30000, &v), SKATE_ETASK, "TypeError");
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
    OK(skate_python_function(s, "no_such_module.f", NULL, &f));
    OK(skate_submit(s, f, NULL, 0, &ref));
    FAILS(skate_get(s, ref, 30000, &v), SKATE_ETASK, "no_such_module");
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
    /* From the current folder: what only Python can read comes back as it is. */
    OK(skate_python_function(s, "of_the_test.opaque", NULL, &f));
    OK(skate_submit(s, f, NULL, 0, &ref));
    OK(skate_get(s, ref, 30000, &v));
    CHECK(v.kind == SKATE_OPAQUE);
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
    OK(skate_python_function(s, "of_the_test.look_into", NULL, &f));
    OK(skate_submit(s, f, &v, 1, &ref));
    skate_release(s, &v);
    CHECK(get_int(s, ref) == 5);
    skate_function_free(s, f);
    OK(skate_python_function(s, "of_the_test.total", NULL, &f));
    v = skate_of_tensor(&t);
    OK(skate_submit(s, f, &v, 1, &ref));
    OK(skate_get(s, ref, 30000, &v));
    CHECK(v.kind == SKATE_FLOAT && v.as.f == 6.5);
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
}

void case_groups(skate_session *s) {
    struct skate_resource one = {"CPU", 1}, many = {"CPU", 1000};
    struct skate_bundle bundle = {&one, 1}, large = {&many, 1}, empty = {NULL, 0};
    struct skate_task_options o;
    skate_value args[2] = {skate_int(2), skate_int(3)};
    struct skate_group *g;
    skate_function *f;
    skate_ref ref;

    FAILS(skate_group_create(s, NULL, 0, SKATE_PACK, NULL, &g), SKATE_EINVAL, "bundles");
    FAILS(skate_group_create(s, &empty, 1, SKATE_PACK, NULL, &g), SKATE_EINVAL, "bundle 0");
    OK(skate_group_create(s, &large, 1, SKATE_PACK, NULL, &g));
    FAILS(skate_group_wait(s, g, 30), SKATE_ETIMEOUT, "not there");
    OK(skate_group_remove(s, g));
    OK(skate_group_create(s, &bundle, 1, SKATE_STRICT_PACK, "mine", &g));
    OK(skate_group_wait(s, g, 30000));
    skate_task_options_init(&o);
    o.group = g;
    o.bundle = 0;
    OK(skate_c_function(s, library, "add", &o, &f));
    OK(skate_submit(s, f, args, 2, &ref));
    CHECK(get_int(s, ref) == 5);
    skate_function_free(s, f);
    OK(skate_group_remove(s, g));
}

void case_events(skate_session *s) {
    struct skate_event e;
    skate_value text = skate_str("hello");
    skate_function *f;
    skate_ref ref;

    OK(skate_c_function(s, library, "say", NULL, &f));
    OK(skate_submit(s, f, &text, 1, &ref));
    do {
        OK(skate_next_event(s, 30000, &e));
    } while (e.kind != 1);
    CHECK(!strcmp(e.text, "it says hello") && e.pid && e.node[0]);
    FAILS(skate_next_event(s, 0, &e), SKATE_ETIMEOUT, "no event");
    skate_ref_drop(s, ref);
    skate_function_free(s, f);
}
