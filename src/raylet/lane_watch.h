/* lane_watch.h - does the connection to another raylet still carry anything?
 *
 * Pure: told the time and what is to be seen of a connection, it says what to do. A network that
 * swallows everything looks like a silent peer: what was sent is waited for, then asked for, then
 * the connection is given up, and dialled anew until somebody answers; so that what waits goes on
 * soon after such a network has healed, whatever TCP's own back-off has grown to.
 * One thread. Tests: tests/unit/raylet_lane_watch_test.c. */
#ifndef SKATE_RAYLET_LANE_WATCH_H
#define SKATE_RAYLET_LANE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

/* A look each EACH; unacknowledged for ASK: it is asked; SILENT more without an answer: given up
 * (twice as long each time, up to MOST, until something comes: a slow network is not a dead one).
 * DIAL: an attempt to connect; each fourth one has the time that src/net gives it. */
enum {
    LANE_EACH_MS = 250, LANE_ASK_MS = 500, LANE_SILENT_MS = 2000, LANE_MOST_MS = 32000,
    LANE_DIAL_MS = 2000, LANE_PATIENT_TRY = 4,
};

enum lane_do { LANE_NOTHING, LANE_ASK, LANE_GIVE_UP };

struct lane_watch { /* all zero: nothing waits */
    int64_t since_ns, asked_ns, dialled_ns; /* 0: not */
    uint64_t seen;
    uint32_t tries, silences;
};

/* What is to be seen: dialling, or ready and so many frames there that may not have come; seen
 * changes with whatever moves, in either direction. */
struct lane_look {
    bool dialling, ready;
    bool waits;
    uint64_t seen;
};

void lane_dialled(struct lane_watch *w, int64_t now_ns); /* an attempt begins */
enum lane_do lane_watch_look(struct lane_watch *w, const struct lane_look *see, int64_t now_ns);

#endif
