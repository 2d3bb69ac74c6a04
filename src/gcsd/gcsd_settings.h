/* gcsd_settings.h - the line of settings that skate-gcs reads from stdin at its start.
 *
 * key=value pairs separated by tabs, ended by a newline. The buffer held the cluster's key and is
 * wiped. Blocks until the line is there (start-up only). Tests: tests/unit/gcs_daemon_test.c. */
#ifndef SKATE_GCSD_SETTINGS_H
#define SKATE_GCSD_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/conn.h"
#include "net/tls_settings.h"

enum { EXIT_STALE = 3 }; /* another head goes on with what was ours: do not start us again */
enum { LINE_BYTES = 8192 };

struct gcsd_settings {
    char line[LINE_BYTES]; /* as it came, up to `keep`, which is the last; has the key */
    uint8_t key[NET_KEY_BYTES];
    char listen_ip[16];
    uint16_t listen_port;
    char session_dir[256];
    char log[256];         /* path of the SQLite log; "" and no redis: nothing is kept */
    char redis[256], redis_user[128], redis_password[512], redis_name[128];
    bool recover;          /* go on without what cannot be read in it */
    bool keep;             /* be the keeper of a server (gcsd_keeper.h) */
    uint32_t keeper_pid;   /* of this server's keeper */
    uint32_t adopt_pid;    /* of the server that runs already: a new keeper's */
    uint32_t lifeline_pid; /* 0: none */
    struct tls_settings tls;
    bool lasting;          /* lifeline=none: outlives who started it, and its head node */
    uint32_t heartbeat_ms; /* silence after which a node is dead; 0: the default */
    bool local_session;    /* a private one: a node whose link ends is dead, nobody comes back */
};

/* Pages for them, zeroed and left out of core dumps: the key and passwords lie in them as long as
 * the process may have to start another. NULL: no memory. They are never given back. */
struct gcsd_settings *gcsd_settings_memory(void);
/* Parse a line (changed in place). -SKATE_EINVAL with the reason. */
SKATE_NODISCARD int gcsd_settings_parse(char *line, struct gcsd_settings *ret,
                                        struct skate_error *err);
/* Read the line from fd and parse it. -SKATE_EDEAD: no line came. */
SKATE_NODISCARD int gcsd_settings_read(int fd, struct gcsd_settings *ret,
                                       struct skate_error *err);

#endif
