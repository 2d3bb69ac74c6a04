/* gcsd_keeper.h - the process that starts skate-gcs again when it ends as it should not.
 *
 * With keep=1 in its settings, skate-gcs becomes a keeper: a process of few pages that starts
 * the server (itself, with keep=0), passes on its READY line, and then waits. Killed or crashed,
 * the server is started again with the same settings and port, at once, and after quick ends with
 * growing pauses. An end with code 0 or 3 (another head goes on) is the keeper's, too, and so are
 * SIGTERM, SIGINT and the end of its lifeline: it takes the server with it. When the keeper itself
 * is killed, the server of a lasting cluster makes itself a new one.
 * Both are in the file <session_dir>/gcs.pids. Tests: tests/e2e/test_head.py. */
#ifndef SKATE_GCSD_KEEPER_H
#define SKATE_GCSD_KEEPER_H

#include "gcsd/gcsd_settings.h"
#include "loop/loop.h"

/* The keeper's main; argv0 is renamed. adopt: the pid of a server that runs already, or 0. */
__attribute__((noreturn)) void keeper_run(const struct gcsd_settings *s, char *argv0);
/* In a server: watch the keeper, write the file of pids. */
void keeper_watch(struct loop *loop, const struct gcsd_settings *s);
/* In a server that must not be started again. */
void keeper_end(const struct gcsd_settings *s);

#endif
