/* machine.h - what lies outside of the process that connects: this machine, folders of sessions,
 * clusters that run here. As python/skate/_node.py, whose files it reads.
 *
 * Files of /proc and of this user's folder; blocks as reading small files does. Any thread.
 * Tests: tests/c. */
#ifndef SKATE_API_MACHINE_H
#define SKATE_API_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { API_PATH = 256, API_ADDRESS = 96 };

/* CPUs, bytes of memory and GPUs that this process may use. */
unsigned machine_cpus(void);
uint64_t machine_memory(void);
unsigned machine_gpus(void);

/* <tmp>/skate-<uid>, made if need be; -SKATE_E... with a reason. */
SKATE_NODISCARD int machine_base(char out[API_PATH], struct skate_error *err);
/* The cluster that `skate start` left here, if one of its nodes lives on this machine. */
bool machine_cluster(const char *base, char out[API_ADDRESS]);
/* The socket of a raylet of this machine in the cluster at "host:port". */
SKATE_NODISCARD int machine_raylet(const char *base, const char *address, char out[API_PATH],
                                   struct skate_error *err);
/* A small text file without white space at its ends; bytes, or -1. */
int machine_read(const char *path, char *out, size_t cap);

#endif
