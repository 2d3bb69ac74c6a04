/* skate_worker_main.c - the program skate-worker, which skate-raylet starts for tasks in C.
 *
 * usage: skate-worker PID-OF-THE-RAYLET, with descriptor 3 a socket to it. It ends with its parent:
 * the kernel kills it, and if that one ended before the kernel was told, it ends by itself. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "native/native_main.h"

/* SKATE_WORKER_NICENESS, 0 to 19: the zygote takes it for workers in Python, we for ourselves. */
static void be_nice(void) {
    const char *text = getenv("SKATE_WORKER_NICENESS");
    char *end = NULL;
    long n = text ? strtol(text, &end, 10) : 0;

    if (text && end != text && *end == 0 && n > 0 && n <= 19)
        (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + (int)n);
    (void)unsetenv("SKATE_WORKER_NICENESS");
}

int main(int argc, char **argv) {
    long parent = argc == 2 ? strtol(argv[1], NULL, 10) : 0;

    if (parent < 1) {
        (void)fprintf(stderr, "skate-worker is started by skate-raylet, for tasks written in C\n");
        return 2;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != (pid_t)parent) return 1;
    be_nice();
    _exit(skate_native_main());
}
