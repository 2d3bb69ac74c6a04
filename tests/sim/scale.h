/* scale.h - skate-scale's state, and what its two files share. See scale.c. */
#ifndef SKATE_SIM_SCALE_H
#define SKATE_SIM_SCALE_H

#include "gcs/gcs.h"
#include "raylet/raylet.h"

enum event_kind { TO_GCS, TO_NODE, TO_PEER, JOIN, DRIVE, ENDED, PASS, TIMER, BEAT, TICK };
enum { FRAME_KINDS = 3, BUCKETS = 20000, BUCKET_NS = 50 };

struct event {
    int64_t at;
    uint64_t birth;
    enum event_kind kind;
    uint32_t node;
    void *p;
};
struct loop_timer { /* scale_seams.c: what loop/loop.h leaves open */
    struct raylet *r;
    bool is_report; /* else the tick of what waits */
    bool active;
    int64_t due; /* at: an event for another time is of an earlier start */
};
struct node {
    struct raylet r;
    struct loop_timer report, reclaim;
};
struct clock_counts { /* of one kind of decision: CPU time of each */
    uint64_t count, sum_ns, most_ns;
    uint32_t buckets[BUCKETS];
};
struct scale {
    int64_t now, end_ns;
    uint64_t seed, births, reqs;
    struct gcs *gcs;
    struct gcs_out out;
    struct node *nodes; /* from 1 */
    uint32_t node_count, drivers, tasks, joined, submitted, done, failed;
    struct event *events;
    uint32_t event_count, event_cap;
    uint64_t frames[FRAME_KINDS], bytes[FRAME_KINDS], infos, join_infos;
    struct clock_counts here, global; /* by the own row, by the GCS */
    uint32_t running, most_running;
};
extern struct scale scale;

void scale_at(int64_t at, enum event_kind kind, uint32_t node, void *p);
void scale_send(enum event_kind kind, uint32_t node, const void *frame, uint32_t len);
uint32_t scale_random(uint32_t n);

/* scale_seams.c: what the raylet's files call, and what is measured */
void scale_start(void);
void scale_release(void);
void scale_ended(struct raylet *r, void *placement); /* a task */
void scale_timer(struct loop_timer *t);
void scale_memory(void);   /* look at the process's size */
void scale_joined(void);
void scale_finished(void);
void scale_print(void);

#endif
