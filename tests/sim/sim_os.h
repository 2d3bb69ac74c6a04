/* sim_os.h - what the files that play the system share among themselves. */
#ifndef SKATE_SIM_OS_H
#define SKATE_SIM_OS_H

#include "sim.h"

int sim_thread_join(struct sim_thread *t, int64_t until);
void sim_maps_end(struct sim_proc *p); /* what it had mapped */
void sim_thread_gone(const void *stack, size_t bytes); /* nobody sleeps on it any more */
void sim_tell_inner(const void *frame); /* for people: which actor a frame is about */
int sim_pidfd(uint32_t pid);
int sim_null_file(void);
int sim_fd_wait(int fd); /* the thread sleeps until something may be there */

/* net_sim.c: 0, or what connect() to another machine says, at once. */
int sim_dial(const char *ip, uint16_t port);

#endif
