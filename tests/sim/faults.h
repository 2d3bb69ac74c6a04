/* faults.h - what goes wrong in a run, and what must hold all the same. */
#ifndef SKATE_SIM_FAULTS_H
#define SKATE_SIM_FAULTS_H

#include "sim.h"

/* Kinds of faults; a run has a set of them, by its seed or by --faults. */
enum fault {
    FAULT_WORKER = 1 << 0,  /* kill -9 of a worker */
    FAULT_RAYLET = 1 << 1,  /* of a raylet, which comes again */
    FAULT_POWER = 1 << 2,   /* a machine goes dark: nobody is told */
    FAULT_ZYGOTE = 1 << 3,
    FAULT_DRIVER = 1 << 4,
    FAULT_BREAK = 1 << 5,   /* a connection between daemons */
    FAULT_CUT = 1 << 6,     /* a path, one way or both, for a while */
    FAULT_ISLE = 1 << 7,    /* all paths of a machine */
    FAULT_SLOW = 1 << 8,    /* the network */
    FAULT_PAUSE = 1 << 9,   /* a process is stopped for a while */
    FAULT_WRITE = 1 << 10,  /* a process dies at one of its next writes */
    FAULT_GCS = 1 << 11,    /* kill -9 of the GCS, which comes again on its log */
    FAULT_DISK = 1 << 12,   /* the log's disk is slow, full or fails for a while */
    FAULT_WALL = 1 << 13,   /* the wall clock jumps */
    FAULT_HEADS = 1 << 14,  /* another GCS takes over; the old one wakes later */
    FAULTS_ALL = (1 << 15) - 1,
};
/* "worker,cut": their set; 0: not a name. */
uint32_t faults_of(const char *names);
/* Let things go wrong for so long; then all is mended, dead daemons come again. */
void faults_start(uint32_t kinds, int64_t for_ns);
bool faults_over(void);
bool faults_have(enum fault kind);

/* After the end: nothing is left, books add up, all nodes are there. sim_fail() says what not. */
bool checks_quiet(void *unused);
void checks_end(void);
void checks_step(void);  /* what must hold at each moment */
void checks_dump(void);  /* for people: who waits for what */

#endif
