/* hello_task.c - a task in C: submitted here, run by a worker of the cluster, its result printed.
 *
 *     cc -o hello_task hello_task.c $(pkg-config --cflags --libs skate)
 *     cc -shared -fPIC -o hello_task.so hello_task.c $(pkg-config --cflags --libs skate)
 *     ./hello_task
 *
 * The same file is the program and the shared library that the workers load. */
#include <limits.h>
#include <skate/skate.h>
#include <skate/task.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- runs in a worker ---- */

SKATE_TASK(greet) {
    char text[200];
    const char *name = skate_arg_str(call, 0, NULL);

    snprintf(text, sizeof text, "hello, %s", name ? name : "nobody");
    return skate_return_str(call, text);
}

SKATE_TASK(add) {
    return skate_return_int(call, skate_arg_int(call, 0) + skate_arg_int(call, 1));
}

/* ---- runs here ---- */

static void check(int result, const char *what) {
    if (result >= 0) return;
    fprintf(stderr, "%s: %s\n", what, skate_last_error());
    exit(1);
}

int main(int argc, char **argv) {
    char library[PATH_MAX];
    skate_function *greet, *add;
    skate_value args[2], value;
    skate_session *s;
    skate_ref text, sum, more;

    if (!realpath(argc > 1 ? argv[1] : "./hello_task.so", library)) {
        perror("hello_task.so");
        return 1;
    }
    check(skate_connect(NULL, &s), "connect");
    check(skate_c_function(s, library, "greet", NULL, &greet), "function");
    check(skate_c_function(s, library, "add", NULL, &add), "function");

    args[0] = skate_str("world");
    check(skate_submit(s, greet, args, 1, &text), "submit");
    args[0] = skate_int(19);
    args[1] = skate_int(2);
    check(skate_submit(s, add, args, 2, &sum), "submit");
    args[0] = skate_of_ref(sum); /* its value, as soon as there is one */
    check(skate_submit(s, add, args, 1, &more), "submit"); /* one argument too few */

    check(skate_get(s, text, -1, &value), "get");
    printf("%s\n", value.as.s.data);
    skate_release(s, &value);
    check(skate_get(s, sum, -1, &value), "get");
    printf("19 + 2 = %lld\n", (long long)value.as.i);
    if (skate_get(s, more, -1, &value) < 0)
        printf("as it should, this failed: %s\n", skate_last_error());

    skate_ref_drop(s, text);
    skate_ref_drop(s, sum);
    skate_ref_drop(s, more);
    skate_function_free(s, greet);
    skate_function_free(s, add);
    skate_close(s);
    return 0;
}
