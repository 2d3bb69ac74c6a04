/* worker_logs.h - what workers print, and the files that it is kept in. */
#ifndef SKATE_RAYLET_WORKER_LOGS_H
#define SKATE_RAYLET_WORKER_LOGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raylet;
struct proc;

/* worker_logs.c */
void logs_watch(struct raylet *r, struct proc *p, int out_fd, int err_fd); /* takes them */
void logs_set_pid(struct raylet *r, uint64_t proc, uint32_t pid);
void logs_drain(struct raylet *r, uint64_t proc); /* it is dead: read what is there */
/* The file of a worker's output, as snprintf(): its length. */
int logs_path(struct raylet *r, uint32_t pid, bool is_err, char *ret_path, size_t cap);
bool logs_living(struct raylet *r, uint32_t pid); /* does it still print? */

/* old_logs.c: the worker has ended, and its file lies there; too old ones are removed. */
void old_logs_add(struct raylet *r, uint32_t pid, bool is_err, uint64_t bytes);

#endif
