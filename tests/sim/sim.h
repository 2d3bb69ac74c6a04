/* sim.h - a cluster in one thread: virtual time, processes, threads, descriptors, network.
 *
 * The programs are the real ones (GCS, raylets, cores); what they stand on is not: the simulator
 * takes the place of loop/loop.h and net/conn.h, and of the system calls (the linker's --wrap).
 * Whatever happens is an event of one heap, ordered by virtual time and then by birth; every
 * choice comes from one generator. So a seed is a run, bit for bit. Nothing here is thread-safe.
 * Who does what: README.md. */
#ifndef SKATE_SIM_H
#define SKATE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "loop/loop.h"

#define SIM_US INT64_C(1000)
#define SIM_MS INT64_C(1000000)
#define SIM_S INT64_C(1000000000)

/* ---- sched.c: time, chance, events, what is told ---- */

extern int64_t sim_now; /* virtual nanoseconds since the start */

struct sim_event { /* in the owner's memory; at < 0 when it is not in the heap */
    int64_t at;
    uint64_t birth;
    uint32_t index; /* in the heap, from 1; 0: not there */
    void (*run)(void *arg);
    void *arg;
};
void sim_event_init(struct sim_event *e, void (*run)(void *arg), void *arg);
void sim_event_at(struct sim_event *e, int64_t at); /* (again) */
void sim_event_cancel(struct sim_event *e);
/* A call of its own, later; nothing can take it back. */
void sim_later(int64_t after_ns, void (*run)(void *arg), void *arg);

void sim_seed(uint64_t seed);
uint64_t sim_random(void);
uint64_t sim_below(uint64_t n);          /* 0 <= x < n; 0 for n 0 */
bool sim_chance(uint32_t of_a_million);
void sim_random_bytes(void *out, size_t len);

extern bool sim_tracing;
/* A line of the trace: into its hash, and shown with --trace. */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_hash(const void *bytes, size_t len);
uint64_t sim_trace_hash(void);
extern uint64_t sim_steps; /* events that have run */
/* The run has failed: the reason, once; it goes on to the end of the step. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern char sim_failure[1024];

/* Serve events until `until`, none is left, or test(arg) says true (looked at after each). */
bool sim_run(int64_t until, bool (*test)(void *arg), void *arg);

/* ---- sched.c: processes and their threads ---- */

struct sim_file;
struct sim_thread;
struct sim_machine;
struct sim_proc {
    struct sim_proc *next;
    uint32_t pid;
    char name[48];
    struct sim_machine *machine;
    struct sim_proc *parent; /* NULL: nobody waits for it */
    bool dead, reaped, subreaper;
    int status;              /* of wait4, once dead */
    int64_t paused_until;    /* a stopped process: its events wait */
    struct sim_thread *threads;
    struct loop *loops;
    struct net *nets;
    struct sim_file *signals; /* its signalfd */
    uint32_t children_ended;  /* not waited for */
    void *user;               /* of whoever made it */
    void (*on_end)(struct sim_proc *p);               /* it has ended; may be NULL */
    void (*on_child)(struct sim_proc *p, struct sim_proc *child); /* instead of SIGCHLD */
    void (*on_out)(struct sim_proc *p, const char *text, size_t len); /* what it says on fd 1 */
    uint64_t crash_at;        /* dies at so many writes from now; 0: never */
    uint64_t writes;
};
extern struct sim_proc *sim_cur; /* whose code runs; NULL: the simulator's own */
extern struct sim_proc *sim_procs;
struct sim_proc *sim_proc_new(const char *name, struct sim_machine *m, struct sim_proc *parent);
struct sim_proc *sim_proc_by_pid(uint32_t pid); /* dead ones that are not waited for, too */
void sim_kill(struct sim_proc *p, int signal); /* at once; the current one: does not return */
__attribute__((noreturn)) void sim_exit(int code); /* of the current process */
/* Run in the name of p, on the simulator's own stack: may not block. False: p ended in it. */
bool sim_enter(struct sim_proc *p, void (*run)(void *arg), void *arg);
void sim_write_happens(void); /* the current process writes somewhere: it may crash here */
/* A thread of p with a stack of its own, which may block. */
struct sim_thread *sim_thread_new(struct sim_proc *p, void *(*run)(void *arg), void *arg);
extern struct sim_thread *sim_thread_cur;

/* What threads wait at. */
struct sim_queue {
    struct sim_thread *first;
};
/* Sleep until woken (0) or `until` (-1); until < 0: for ever. */
int sim_wait(struct sim_queue *q, int64_t until);
bool sim_wake(struct sim_queue *q); /* the first; false: none */
void sim_sleep(int64_t ns);

/* ---- os_files.c ---- */

int sim_file_watch(int fd, struct loop_watch *w); /* 0, or -1: no such file */
void sim_file_unwatch(int fd, struct loop_watch *w);
unsigned sim_file_ready(int fd); /* enum loop_event */
void sim_files_end(struct sim_proc *p);
void sim_signal_child(struct sim_proc *p);
void sim_pid_ended(struct sim_proc *p);
/* A pair of connected stream sockets, the first of process a, the second of b. */
void sim_socketpair(struct sim_proc *a, struct sim_proc *b, int ret[2]);
/* The fd as another process's own; as one that comes by SCM_RIGHTS. */
int sim_fd_give(int fd, struct sim_proc *to);
void sim_fd_close(int fd);
/* Where a word lies, whoever has it mapped where. */
void sim_word_key(const void *word, uint64_t *ret_file, uint64_t *ret_offset);

/* ---- loop_sim.c ---- */

void sim_loop_drive(struct loop *l);  /* the simulator runs it: loop_run() that never returns */
void sim_loop_kick(struct loop *l);   /* something may be ready */
void sim_watch_ready(struct loop_watch *w);
void sim_loops_end(struct sim_proc *p);
struct sim_proc *sim_loop_proc(const struct loop *l);

/* ---- net_sim.c ---- */

/* power: the machine went dark, nobody is told. */
void sim_nets_end(struct sim_proc *p, bool power);
void sim_net_turn_ends(struct loop *l); /* what was sent in it is written */
/* Bytes from machine `from` to `to` do not come, until healed. */
void sim_cut(struct sim_machine *from, struct sim_machine *to, bool cut);
void sim_net_moved(struct sim_proc *p); /* its address is another's now */
/* Break one connection between daemons, by chance. False: there is none. */
bool sim_break_one(void);
extern uint32_t sim_slow; /* latencies times this */

/* ---- disk_sim.c: where the GCS keeps its log ---- */

void sim_disk_trouble(int64_t for_ns); /* it is slow, or fails; 0: no more */

/* ---- cluster.c ---- */

struct raylet;
struct gcsd;
struct sim_machine {
    uint32_t index;
    char ip[16];
    uint64_t *cut; /* bits: by index of the destination */
    struct sim_proc *raylet_proc, *zygote;
    struct raylet *raylet; /* NULL: not started, or ended */
    bool ready, is_head;
    char name[24], socket_path[64];
    double cpus;
    int64_t down_since;
    uint64_t epoch; /* its raylet has been a node before, when the GCS had this one */
    bool again;
};
struct sim_cluster {
    struct sim_machine **machines; /* [0] is where the GCS runs */
    uint32_t count;
    struct sim_proc *gcs_proc;
    struct gcsd *gcsd;
    uint16_t gcs_port;
    uint32_t gcs_starts;
    bool no_log;  /* what the GCS knows ends with it */
    bool private; /* a session of its own, which ends with its GCS */
    /* The main thread of each worker: a descriptor of its socket. */
    void *(*worker)(void *fd);
};
extern struct sim_cluster sim_cluster;
void sim_cluster_new(uint32_t machines, void *(*worker)(void *fd));
void sim_gcs_start(void);
void sim_raylet_start(struct sim_machine *m);
void sim_raylet_anew(struct sim_machine *m, uint64_t epoch); /* the present one is about to end */
/* posix_spawn of the current process: its zygote. */
int sim_spawn(const char *path, int sock, uint32_t *ret_pid);

#endif
