/* Actors: called in order, by name, as values; many of them in one process. */
#include "api_cases.h"

#include <malloc.h>

/* To be found by its name, again and again, costs no memory. */
static void found_often(skate_session *s) {
    struct skate_actor_options o;
    skate_actor a, again;
    size_t before = 0;

    skate_actor_options_init(&o);
    o.name = "tried again";
    o.max_task_retries = 2;
    OK(skate_c_actor(s, library, "counter", &o, NULL, 0, &a));
    for (int i = 0; i < 2200; i++) {
        if (i == 200) before = mallinfo2().uordblks;
        OK(skate_get_actor(s, "tried again", NULL, &again));
        skate_actor_drop(s, again);
    }
    CHECK(mallinfo2().uordblks < before + 48000);
    skate_actor_drop(s, a);
}

void case_actors(skate_session *s) {
    struct skate_actor_options o;
    skate_value v = skate_int(10), got, handle;
    skate_actor a, b, other;
    skate_function *f;
    skate_ref ref, last;

    OK(skate_c_actor(s, library, "counter", NULL, &v, 1, &a));
    v = skate_int(1);
    for (int i = 0; i < 1000; i++) {
        OK(skate_call(s, a, "add", &v, 1, 1, &last));
        if (i < 999) skate_ref_drop(s, last);
    }
    CHECK(get_int(s, last) == 1010);
    skate_actor_options_init(&o);
    o.name = "the counter";
    OK(skate_c_actor(s, library, "counter", &o, NULL, 0, &b));
    FAILS(skate_c_actor(s, library, "counter", &o, NULL, 0, &other), SKATE_EEXIST, "the counter");
    o.get_if_exists = true;
    OK(skate_c_actor(s, library, "counter", &o, NULL, 0, &other));
    CHECK(!memcmp(&other, &b, sizeof b));
    skate_actor_drop(s, other);
    OK(skate_get_actor(s, "the counter", NULL, &other));
    CHECK(!memcmp(&other, &b, sizeof b));
    skate_actor_drop(s, other);
    /* a calls b, whose handle travels as a value; one that was stored is a handle again. */
    OK(skate_of_actor(s, b, &handle));
    OK(skate_call(s, a, "poke", &handle, 1, 1, &ref));
    CHECK(get_int(s, ref) == 1);
    OK(skate_put(s, &handle, &ref));
    OK(skate_get(s, ref, 1000, &got));
    OK(skate_actor_of(s, &got, &other));
    skate_release(s, &got);
    skate_ref_drop(s, ref);
    OK(skate_call(s, other, "add", &v, 1, 1, &ref));
    CHECK(get_int(s, ref) == 2);
    skate_actor_drop(s, other);
    skate_actor_drop(s, a);
    skate_actor_drop(s, b);
    OK(skate_python_actor(s, "of_the_test.Keeper", NULL, &v, 1, &a));
    OK(skate_call(s, a, "grow", &v, 1, 1, &ref));
    CHECK(get_int(s, ref) == 2);
    /* A handle for Python, and back. */
    OK(skate_of_actor(s, a, &handle));
    OK(skate_python_function(s, "of_the_test.grow_it", NULL, &f));
    OK(skate_submit(s, f, &handle, 1, &ref));
    OK(skate_get(s, ref, 30000, &got));
    CHECK(got.kind == SKATE_LIST && got.as.list.items[0].as.i == 12);
    OK(skate_actor_of(s, &got.as.list.items[1], &other));
    skate_release(s, &got);
    skate_ref_drop(s, ref);
    CHECK(!memcmp(&other, &a, sizeof a));
    skate_actor_drop(s, other);
    skate_actor_drop(s, a);
    skate_function_free(s, f);
    found_often(s);
}

/* An actor that outlives this program... */
void case_leave(skate_session *s) {
    struct skate_actor_options o;
    skate_value v = skate_int(40);
    skate_actor a;
    skate_ref ref;

    skate_actor_options_init(&o);
    o.name = "left behind";
    o.name_space = "of the test";
    o.detached = true;
    OK(skate_c_actor(s, library, "counter", &o, &v, 1, &a));
    OK(skate_call(s, a, "add", &v, 1, 1, &ref));
    CHECK(get_int(s, ref) == 80);
    skate_actor_drop(s, a);
}

/* ... and is found by another one. */
void case_find(skate_session *s) {
    skate_value v = skate_int(1);
    skate_actor a;
    skate_ref ref;

    for (int i = 0; i < 3; i++) {
        OK(skate_get_actor(s, "left behind", "of the test", &a));
        OK(skate_call(s, a, "add", &v, 1, 1, &ref));
        CHECK(get_int(s, ref) == 81 + i);
        skate_actor_drop(s, a);
    }
}

void case_crowd(skate_session *s) {
    enum { N = 20000 };
    struct skate_batch_call *calls = calloc(N, sizeof *calls);
    skate_value v = skate_int(3), got;
    skate_actor a, one;
    uint64_t first;
    skate_ref ref;

    OK(skate_c_actor(s, library, "counter", NULL, NULL, 0, &a));
    OK(skate_spawn(s, a, "counter", &v, 1, N, &first, &ref));
    OK(skate_get(s, ref, 30000, &got));
    skate_ref_drop(s, ref);
    for (uint32_t i = 0; i < N; i++)
        calls[i] = (struct skate_batch_call){first + i, "add", &v, 1};
    calls[17].method = "none";
    OK(skate_call_batch(s, a.process, calls, N, &ref));
    OK(skate_get(s, ref, 30000, &got));
    CHECK(got.kind == SKATE_LIST && got.as.list.count == N);
    CHECK(got.as.list.items[N - 1].as.i == 6);
    CHECK(strstr(skate_map_find(&got.as.list.items[17], "error")->as.s.data, "none"));
    skate_release(s, &got);
    skate_ref_drop(s, ref);
    one = (skate_actor){a.process, first + 5};
    OK(skate_call(s, one, "add", &v, 1, 1, &ref));
    CHECK(get_int(s, ref) == 9);
    OK(skate_kill(s, one, false));
    OK(skate_call(s, one, "add", &v, 1, 1, &ref));
    CHECK(skate_get(s, ref, 30000, &got) < 0);
    skate_ref_drop(s, ref);
    v = skate_int(-1);
    OK(skate_spawn(s, a, "counter", &v, 1, 3, &first, &ref));
    FAILS(skate_get(s, ref, 30000, &got), SKATE_ETASK, "begins at 0");
    skate_ref_drop(s, ref);
    OK(skate_spawn(s, a, "hasty", NULL, 0, 1, &first, &ref));
    FAILS(skate_get(s, ref, 30000, &got), SKATE_ETASK, "for methods of actors");
    skate_ref_drop(s, ref);
    skate_actor_drop(s, a);
    free(calls);
}
