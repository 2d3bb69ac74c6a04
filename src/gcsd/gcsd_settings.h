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

struct gcsd_settings {
    uint8_t key[NET_KEY_BYTES];
    char listen_ip[16];
    uint16_t listen_port;
    char session_dir[256];
    char log[256];         /* path of the SQLite log; "": nothing is kept */
    bool recover;          /* go on without what cannot be read in it */
    uint32_t lifeline_pid; /* 0: none */
    struct tls_settings tls;
    bool lasting;          /* lifeline=none: outlives who started it, and its head node */
    uint32_t heartbeat_ms; /* silence after which a node is dead; 0: the default */
    bool local_session;    /* a private one: a node whose link ends is dead, nobody comes back */
};

/* Parse a line (changed in place). -SKATE_EINVAL with the reason. */
SKATE_NODISCARD int gcsd_settings_parse(char *line, struct gcsd_settings *ret,
                                        struct skate_error *err);
/* Read the line from fd and parse it. -SKATE_EDEAD: no line came. */
SKATE_NODISCARD int gcsd_settings_read(int fd, struct gcsd_settings *ret,
                                       struct skate_error *err);

#endif
