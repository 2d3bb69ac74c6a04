/* A program of the C interface's tests: api_cases LIBRARY CASE...; 0 and "done" when all is well.
 * Beside the cases: `busy` closes with work in flight, `alone` wants a session of its own. */
#include "api_cases.h"

const char *library;

static const struct {
    const char *name;
    void (*run)(skate_session *s);
} cases[] = {
    {"values", case_values},   {"many", case_many},     {"errors", case_errors},
    {"bad", case_bad},         {"waits", case_waits},   {"threads", case_threads},
    {"forks", case_forks},     {"actors", case_actors}, {"crowd", case_crowd},
    {"leave", case_leave},     {"find", case_find},     {"two", case_two},
    {"hang", case_hang},       {"full", case_full},     {"dead", case_dead},
    {"python", case_python},   {"groups", case_groups}, {"events", case_events},
    {"create", case_create},
};

/* Tasks that run, tasks that wait, calls, values: close does not wait for them. */
static void leave_busy(skate_session *s) {
    skate_function *linger, *add;
    skate_value args[2] = {skate_int(1), skate_int(2)}, never;
    skate_actor a;
    skate_ref refs[64];

    OK(skate_c_function(s, library, "linger", NULL, &linger));
    OK(skate_c_function(s, library, "add", NULL, &add));
    OK(skate_c_actor(s, library, "counter", NULL, NULL, 0, &a));
    for (int i = 0; i < 64; i++) {
        OK(skate_submit(s, i % 8 ? add : linger, args, i % 8 ? 2 : 0, &refs[i]));
        if (i % 8 == 0) continue;
        never = skate_of_ref(refs[i - i % 8]);
        OK(skate_submit(s, add, (skate_value[]){never, never}, 2, &refs[i]));
        OK(skate_call(s, a, "add", args, 1, 1, &refs[i]));
    }
    skate_function_free(s, linger);
    skate_function_free(s, add);
}

int main(int argc, char **argv) {
    struct skate_options o;
    skate_session *s;

    skate_options_init(&o);
    if (argc < 3) return 2;
    library = argv[1];
    if (!getenv("SKATE_ADDRESS")) {
        o.address = "local";
        o.num_cpus = 2;
        o.store_bytes = 256 << 20;
    }
    OK(skate_connect(&o, &s));
    for (int i = 2; i < argc; i++) {
        bool found = false;

        if (!strcmp(argv[i], "busy")) {
            leave_busy(s);
            continue;
        }
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
            if (!strcmp(cases[k].name, argv[i])) {
                cases[k].run(s);
                found = true;
            }
        if (!found) return 2;
    }
    skate_close(s);
    printf("done\n");
    return 0;
}
