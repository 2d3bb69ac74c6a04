/* raylet_main.c - skate-raylet: the daemon of one node.
 *
 * usage: skate-raylet < settings. One line of settings on stdin (raylet_settings.h), which stays
 * open as the lifeline; one line on stdout: READY ... or ERROR code text. */
#include <signal.h>
#include <stdlib.h>

#include "raylet/raylet.h"

int main(void) {
    struct raylet *r = calloc(1, sizeof *r);
    struct skate_error err = {""};
    int e;

    if (!r) return 1;
    signal(SIGPIPE, SIG_IGN);
    e = raylet_settings_read(0, &r->set, &err);
    if (e == 0) e = node_start(r, &err);
    if (e < 0) node_fail(r, -e, err.text[0] ? err.text : skate_strerror(e));
    loop_run(r->loop);
    node_end(r, "its loop ended");
}
