/* pulls_int.h - what the files of pulls share; nobody else includes it.
 *
 * pulls.c: which copies there are, who holds them. pulls_fetch.c: how one comes here, from whom,
 * how much is asked for at once. pulls_serve.c: chunks for others. broadcast.c: receivers that
 * become senders. Tests: tests/unit/raylet_pulls_test.c, tests/e2e/test_e2e_pulls.py. */
#ifndef SKATE_RAYLET_PULLS_INT_H
#define SKATE_RAYLET_PULLS_INT_H

#include "raylet/near.h"
#include "raylet/pulls.h"

/* Chunks asked for and not come: of one copy, and of all before each may have one only. A chunk is
 * what a turn of the loop is spent on, so other frames wait no longer than for one. */
enum { FETCH_CHUNK = NEAR_CHUNK, FETCH_WINDOW = 32, FETCH_FLYING_MAX = 256 };
enum { FETCH_BREAKS_MAX = 16 }; /* of the connection with no chunk between them */
/* Beats (seconds) without a chunk until a copy's place is asked no more; until a search ends. */
enum { FETCH_STILL_MAX = 3 };
enum { BROADCAST_LEAST = 8 << 20 }; /* smaller objects come from their holder, always */
enum pull_why { PULL_GET, PULL_WAIT, PULL_ARGUMENT, PULL_WHYS };
enum bulk_get_flags {
    BULK_DIRECT = 1, /* send it yourself: I come from one that you named */
    BULK_COPY = 2,   /* of your copy, as soon as it has that; offset and start say nothing */
};

struct puller { /* one process's holds on one copy; call: its pull that waits */
    struct puller *next;
    uint64_t proc;
    uint32_t holds, call;
    bool waits;
};
struct asker { /* a chunk that another node waits for, and that has not come here yet */
    struct asker *next;
    struct conn *conn;
    struct wire_bulk_get ask;
};
struct copy {
    struct skate_id id;
    uint64_t key, holder, remote, size, offset, req;
    bool ready, lost; /* lost: spilled, and cannot be read back; not in by_key */
    struct puller *pullers;
    struct copy *same_key;       /* next with the same hash */
    struct copy *older, *newer;  /* nobody holds it: in the list of use */
    bool in_lru;
    /* while it comes (pulls_fetch.c) */
    struct copy *next, **link; /* in pulls.open[why] */
    enum pull_why why;
    uint64_t asked, got;       /* bytes asked for and come, without gaps */
    uint64_t seen;             /* got at the last beat */
    uint32_t in_flight, breaks, still;
    uint32_t source;           /* the node that is asked */
    bool by_id;                /* it has a copy; else it is the holder's */
    bool direct;               /* the holder is to name nobody else */
    bool searching, searched;  /* all nodes are asked who has a copy; they were */
    uint32_t answers;          /* that the search waits for */
    struct asker *askers;      /* broadcast.c; in the order in which they came */
};
struct pulls {
    struct table by_key;    /* hash of id -> struct copy chain */
    struct table by_offset; /* local offset -> struct copy */
    struct table by_req;    /* number of a pull on its way -> struct copy */
    uint64_t next_req;
    struct copy *oldest, *newest;
    struct copy *open[PULL_WHYS]; /* on their way */
    uint32_t flying;              /* in_flight of all */
    uint32_t searches;
    struct loop_task kick;        /* the more urgent ones are here: on with the others */
    struct table senders;         /* pulls_serve.c: connection -> what it asked for */
    struct sender *first_sender, *last_sender; /* of these: they are served by age */
    struct loop_task serve;
    struct broadcast *broadcast;
    uint32_t askers;
};

/* pulls.c */
struct copy *pulls_find(const struct pulls *s, const struct skate_id *id);
struct copy *pulls_find_good(struct raylet *r, const struct skate_id *id);
/* It cannot come: tell who waits, and forget it. */
void pulls_fail(struct raylet *r, struct copy *c, int status, const char *why);
void pulls_arrived(struct raylet *r, struct copy *c); /* all of it is here */

/* pulls_fetch.c */
void fetch_start(struct raylet *r);
void fetch_begin(struct raylet *r, struct copy *c, enum pull_why why);
void fetch_hurry(struct raylet *r, struct copy *c, enum pull_why why); /* wanted for that, too */
void fetch_end(struct raylet *r, struct copy *c); /* here, or given up */
bool fetch_any(const struct pulls *s);            /* is one on its way? */

/* pulls_serve.c */
bool pulls_is_lost(const struct raylet *r, uint64_t offset, uint64_t bytes);
void serve_start(struct raylet *r);
void serve_part(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m);
void serve_refuse(struct conn *conn, const struct wire_bulk_get *m, int status);

/* broadcast.c */
SKATE_NODISCARD int broadcast_start(struct raylet *r);
/* Somebody else is named who sends it: true, and that is all for this frame. */
bool broadcast_elsewhere(struct raylet *r, uint32_t node, struct conn *conn,
                         const struct wire_bulk_get *m);
/* A chunk of our copy. True: done, refused or kept until it is here; false: *ret is the same
 * chunk as one of an object of ours. */
bool broadcast_serve(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m,
                     struct wire_bulk_get *ret);
void broadcast_more(struct raylet *r, struct copy *c);             /* a chunk came */
void broadcast_end(struct raylet *r, struct copy *c);              /* no more comes */
void broadcast_conn_closed(struct raylet *r, const struct conn *conn);

#endif
