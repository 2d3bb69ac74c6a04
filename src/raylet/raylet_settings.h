/* raylet_settings.h - the one line of settings that a raylet reads from its stdin at start.
 *
 * key=value pairs separated by tabs, ended by a newline. The line holds the cluster's key, and
 * maybe what opens a spill target: the buffer is wiped after use. Blocks until the line is there
 * (start-up only).
 * Tests: tests/unit/raylet_settings_test.c. */
#ifndef SKATE_RAYLET_SETTINGS_H
#define SKATE_RAYLET_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/conn.h"
#include "net/tls_settings.h"
#include "raylet/rejoin.h"
#include "sched/labels.h"
#include "sched/resources.h"

/* Who is ended when memory runs out: docs/memory.md. */
struct memory_settings {
    uint64_t refresh_ms; /* how often it is looked; 0: never */
    double threshold;    /* part of a limit */
    int64_t min_free;    /* but only when less is free; -1: no such bound */
    uint64_t limit;      /* of this node's workers and object store together; 0: none */
    uint64_t idle_bytes; /* an idle worker that holds as much goes first */
    bool enforce;        /* memory= of tasks and actors is a limit */
};

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
    char slot[64];       /* one living node of the cluster at a time has it; empty: none */
    uint32_t gcs_wait_s; /* so long without a GCS that kept a log, and the node ends */
    bool is_head, local_session, no_lifeline;
    bool outpost; /* for the driver of lifeline_pid alone, outside of the cluster: gateway.h */
    uint32_t lifeline_pid; /* 0: none */
    bool report_log; /* said.h */
    uint32_t shared_cpus, lend_cpus; /* lent.h: of its CPUs; by each driver that waits */
    struct tls_settings tls;
    struct memory_settings memory;
    bool no_near; /* chunks go over the connection on one machine, too: near.h */
    int line_fd; /* a memory file with the line itself, for node_rejoin(); -1: none */
    struct rejoin rejoin; /* what main() was told */

    /* The object store beyond its memory: docs/spilling.md. */
    char *spill; /* heap: folders joined by ':', or URIs joined by ' '; NULL: nothing is spilled.
                    Not said: the folder "spill" of run_dir */
    bool spill_remote;    /* URIs, which only the helper can write */
    char *spill_options;  /* heap: JSON for it, may hold secrets; NULL: none */
    double spill_threshold; /* part of arena_bytes in use from which on objects are written out */
    uint64_t spill_min_bytes;  /* written in one go, when there is as much; 0: no such wish */
    uint64_t spill_file_bytes; /* largest file that objects share; 0: chosen */
    double store_wait_s; /* how long a put waits for room in a full store before it fails */
    uint64_t span;       /* bytes of the arena's address range; 0: chosen */
};

/* Parse a line (changed in place). -SKATE_EINVAL with the reason. */
SKATE_NODISCARD int raylet_settings_parse(char *line, struct raylet_settings *ret,
                                          struct skate_error *err);
/* Read the line from fd and parse it; wipes its buffer. -SKATE_EDEAD: no line came. */
SKATE_NODISCARD int raylet_settings_read(int fd, struct raylet_settings *ret,
                                         struct skate_error *err);
void raylet_settings_release(struct raylet_settings *s);

#endif
