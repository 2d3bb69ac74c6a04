/* raylet_main.c - skate-raylet: the daemon of one node.
 *
 * usage: skate-raylet < settings. One line of settings on stdin (raylet_settings.h), which stays
 * open as the lifeline; one line on stdout: READY ... or ERROR code text. The arguments of
 * rejoin.h are for itself alone. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "raylet/raylet.h"

int main(int argc, char **argv) {
    struct raylet *r = calloc(1, sizeof *r);
    struct rejoin rejoin;
    struct skate_error err = {""};
    int e;

    if (!r) return 1;
    signal(SIGPIPE, SIG_IGN);
    e = rejoin_args(argc, argv, &rejoin);
    if (e == 0) e = raylet_settings_read(rejoin.settings_fd, &r->set, &err);
    if (rejoin.settings_fd) close(rejoin.settings_fd);
    r->set.rejoin = rejoin;
    if (e == 0) e = node_start(r, &err);
    if (e < 0) node_fail(r, -e, err.text[0] ? err.text : skate_strerror(e));
    loop_run(r->loop);
    node_end(r, "its loop ended");
}
