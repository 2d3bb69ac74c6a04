/* raylet_settings.h - the one line of settings that a raylet reads from its stdin at start.
 *
 * key=value pairs separated by tabs, ended by a newline. The line may hold the cluster's key: the
 * buffer is wiped after use. Blocks until the line is there (start-up only).
 * Tests: tests/unit/raylet_settings_test.c. */
#ifndef SKATE_RAYLET_SETTINGS_H
#define SKATE_RAYLET_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/conn.h"
#include "sched/labels.h"
#include "sched/resources.h"

struct raylet_settings {
    uint8_t key[NET_KEY_BYTES];
    char gcs_ip[16];
    uint16_t gcs_port, listen_port;
    char node_ip[64];
    char session_dir[256];
    char run_dir[256];
    char python[512];
    char *python_path; /* heap; may be long */
    char worker[64];   /* module whose main(fd) is a worker; tests only name another */
    struct resources resources;
    char labels[LABELS_MAX - 80]; /* the id of the node comes to them */
    char gpu_names[512]; /* what programs call its GPUs, "3,5"; empty: 0, 1, ... */
    uint64_t arena_bytes;
    char node_name[128];
    bool is_head, local_session, no_lifeline;
    uint32_t lifeline_pid; /* 0: none */
};

/* Parse a line (changed in place). -SKATE_EINVAL with the reason. */
SKATE_NODISCARD int raylet_settings_parse(char *line, struct raylet_settings *ret,
                                          struct skate_error *err);
/* Read the line from fd and parse it; wipes its buffer. -SKATE_EDEAD: no line came. */
SKATE_NODISCARD int raylet_settings_read(int fd, struct raylet_settings *ret,
                                         struct skate_error *err);
void raylet_settings_release(struct raylet_settings *s);

#endif
