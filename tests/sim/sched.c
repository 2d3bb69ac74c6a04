/* sched.c - virtual time and its heap of events, chance, the trace; processes and their threads.
 *
 * A thread is a stack of its own (ucontext); it runs until it waits. A daemon's loop needs none:
 * sim_enter() runs its turn on the simulator's stack, and the end of the process is a jump out. */
#include "sim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "sim_os.h"

enum { STACK = 256 * 1024, FIRST_PID = 1000 };

int64_t sim_now;
uint64_t sim_steps;
bool sim_tracing;
char sim_failure[1024];
struct sim_proc *sim_cur, *sim_procs;
struct sim_thread *sim_thread_cur;

struct sim_thread {
    struct sim_thread *next; /* of its process */
    struct sim_thread *queue_next;
    struct sim_queue *queue; /* it waits here */
    struct sim_proc *proc;
    ucontext_t context;
    void *stack;
    void *(*run)(void *arg);
    void *arg;
    bool timed_out, done;
    struct sim_event event; /* it runs on, or has waited long enough */
    struct sim_queue joiners;
};

/* ---- chance ---- */

static uint64_t rng[2];

static uint64_t mix(uint64_t *x) {
    uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void sim_seed(uint64_t seed) {
    rng[0] = mix(&seed);
    rng[1] = mix(&seed);
}

uint64_t sim_random(void) {
    uint64_t a = rng[0], b = rng[1], sum = a + b;

    b ^= a;
    rng[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    rng[1] = b << 37 | b >> 27;
    return sum;
}

uint64_t sim_below(uint64_t n) { return n ? sim_random() % n : 0; }
bool sim_chance(uint32_t of_a_million) { return sim_below(1000000) < of_a_million; }

void sim_random_bytes(void *out, size_t len) {
    for (uint8_t *p = out; len; p++, len--) *p = (uint8_t)sim_random();
}

/* ---- the trace ---- */

static uint64_t hash = UINT64_C(0xcbf29ce484222325);

void sim_hash(const void *bytes, size_t len) {
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
}

uint64_t sim_trace_hash(void) { return hash; }

void sim_note(const char *format, ...) {
    char line[2048];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0) return;
    if ((size_t)n >= sizeof line) n = (int)sizeof line - 1;
    sim_hash(&sim_now, sizeof sim_now);
    sim_hash(line, (size_t)n);
    if (sim_tracing)
        printf("%12.6f %-14s %s\n", (double)sim_now / 1e9, sim_cur ? sim_cur->name : "-", line);
}

void sim_fail(const char *format, ...) {
    va_list args;

    if (sim_failure[0]) return;
    va_start(args, format);
    (void)vsnprintf(sim_failure, sizeof sim_failure, format, args);
    va_end(args);
    sim_note("FAILED: %s", sim_failure);
}

/* ---- events ---- */

static struct sim_event **heap; /* from 1 */
static uint32_t heap_count, heap_cap;
static uint64_t births;

static bool before(const struct sim_event *a, const struct sim_event *b) {
    return a->at != b->at ? a->at < b->at : a->birth < b->birth;
}

static void place(uint32_t i, struct sim_event *e) {
    heap[i] = e;
    e->index = i;
}

static void rise(uint32_t i, struct sim_event *e) {
    for (; i > 1 && before(e, heap[i / 2]); i /= 2) place(i, heap[i / 2]);
    place(i, e);
}

static void sink(uint32_t i, struct sim_event *e) {
    for (;;) {
        uint32_t child = 2 * i;

        if (child > heap_count) break;
        if (child < heap_count && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], e)) break;
        place(i, heap[child]);
        i = child;
    }
    place(i, e);
}

void sim_event_init(struct sim_event *e, void (*run)(void *arg), void *arg) {
    *e = (struct sim_event){.run = run, .arg = arg};
}

void sim_event_cancel(struct sim_event *e) {
    uint32_t i = e->index;
    struct sim_event *last;

    if (!i) return;
    e->index = 0;
    last = heap[heap_count--];
    if (last == e) return;
    rise(i, last);
    sink(last->index, last);
}

void sim_event_at(struct sim_event *e, int64_t at) {
    sim_event_cancel(e);
    if (heap_count + 1 >= heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 1024;
        heap = realloc(heap, heap_cap * sizeof(void *));
        if (!heap) abort();
    }
    e->at = at > sim_now ? at : sim_now;
    e->birth = ++births;
    rise(++heap_count, e);
}

struct later {
    struct sim_event event;
    void (*run)(void *arg);
    void *arg;
};

static void run_later(void *arg) {
    struct later l = *(struct later *)arg;

    free(arg);
    l.run(l.arg);
}

void sim_later(int64_t after_ns, void (*run)(void *arg), void *arg) {
    struct later *l = malloc(sizeof *l);

    if (!l) abort();
    l->run = run;
    l->arg = arg;
    sim_event_init(&l->event, run_later, l);
    sim_event_at(&l->event, sim_now + after_ns);
}

bool sim_run(int64_t until, bool (*test)(void *arg), void *arg) {
    while (heap_count && heap[1]->at <= until && !sim_failure[0]) {
        struct sim_event *e = heap[1];

        sim_event_cancel(e);
        if (e->at > sim_now) sim_now = e->at;
        sim_steps++;
        e->run(e->arg);
        if (test && test(arg)) return true;
    }
    if (!sim_failure[0] && !test && sim_now < until) sim_now = until;
    return test && test(arg);
}

/* ---- processes ---- */

static uint32_t next_pid = FIRST_PID;
static jmp_buf *out; /* of sim_enter() */
static ucontext_t main_context;
static void *spare_stacks; /* linked through their first word */
static struct sim_thread *corpse; /* ended itself: its stack is free once it is off it */

struct sim_proc *sim_proc_new(const char *name, struct sim_machine *m, struct sim_proc *parent) {
    struct sim_proc *p = calloc(1, sizeof *p);

    if (!p) abort();
    snprintf(p->name, sizeof p->name, "%s", name);
    p->pid = next_pid++;
    p->machine = m;
    p->parent = parent;
    p->next = sim_procs;
    sim_procs = p;
    sim_note("process %u begins: %s", p->pid, name);
    return p;
}

struct sim_proc *sim_proc_by_pid(uint32_t pid) {
    for (struct sim_proc *p = sim_procs; p; p = p->next)
        if (p->pid == pid && !p->reaped) return p;
    return NULL;
}

static void thread_free(struct sim_thread *t) {
    sim_event_cancel(&t->event);
    if (t->queue)
        for (struct sim_thread **at = &t->queue->first; *at; at = &(*at)->queue_next)
            if (*at == t) {
                *at = t->queue_next;
                break;
            }
    t->queue = NULL;
    sim_thread_gone(t->stack, STACK);
    if (t == sim_thread_cur) {
        corpse = t;
        return;
    }
    *(void **)t->stack = spare_stacks;
    spare_stacks = t->stack;
    free(t);
}

static void tell_parent(struct sim_proc *p) {
    struct sim_proc *parent = p->parent;

    while (parent && parent->dead) parent = parent->parent;
    p->parent = parent;
    if (!parent) return;
    parent->children_ended++;
    if (parent->on_child)
        parent->on_child(parent, p);
    else
        sim_signal_child(parent);
}

/* Its children go to the next of its line that lives, their ends, too. */
static void leave_children(struct sim_proc *p) {
    for (struct sim_proc *c = sim_procs; c; c = c->next) {
        if (c->parent != p || c->reaped) continue;
        if (c->dead)
            tell_parent(c);
        else
            c->parent = p->parent;
    }
}

void sim_kill(struct sim_proc *p, int signal) {
    if (p->dead) return;
    sim_note("process %u (%s) ends, signal %d", p->pid, p->name, signal);
    p->dead = true;
    if (signal) p->status = signal;
    while (p->threads) {
        struct sim_thread *t = p->threads;

        p->threads = t->next;
        thread_free(t);
    }
    sim_nets_end(p, false);
    sim_loops_end(p);
    sim_files_end(p);
    sim_maps_end(p);
    leave_children(p);
    sim_pid_ended(p);
    tell_parent(p);
    if (p->on_end) p->on_end(p);
    if (p != sim_cur) return;
    if (sim_thread_cur)
        setcontext(&main_context);
    else
        longjmp(*out, 1);
}

void sim_exit(int code) {
    sim_cur->status = code << 8;
    sim_kill(sim_cur, 0);
    abort();
}

void sim_write_happens(void) {
    if (!sim_cur) return;
    if (++sim_cur->writes == sim_cur->crash_at) {
        sim_note("it crashes at write %llu", (unsigned long long)sim_cur->writes);
        sim_kill(sim_cur, SIGKILL);
    }
}

bool sim_enter(struct sim_proc *p, void (*run)(void *arg), void *arg) {
    struct sim_proc *was = sim_cur;
    jmp_buf *outer = out, here;

    if (p->dead) return false;
    if (sim_thread_cur || was) abort();
    out = &here;
    if (setjmp(here) == 0) {
        sim_cur = p;
        run(arg);
    }
    out = outer;
    sim_cur = NULL;
    return !p->dead;
}

/* ---- threads ---- */

static void switch_to(struct sim_thread *t) {
    sim_thread_cur = t;
    sim_cur = t->proc;
    if (swapcontext(&main_context, &t->context) < 0) abort();
    sim_thread_cur = NULL;
    sim_cur = NULL;
    if (!corpse) return;
    *(void **)corpse->stack = spare_stacks;
    spare_stacks = corpse->stack;
    free(corpse);
    corpse = NULL;
}

static void thread_event(void *arg) {
    struct sim_thread *t = arg;

    if (t->proc->paused_until > sim_now) {
        sim_event_at(&t->event, t->proc->paused_until);
        return;
    }
    if (t->queue) { /* nobody woke it: it has waited long enough */
        for (struct sim_thread **at = &t->queue->first; *at; at = &(*at)->queue_next)
            if (*at == t) {
                *at = t->queue_next;
                break;
            }
        t->queue = NULL;
        t->timed_out = true;
    }
    switch_to(t);
}

static void thread_body(unsigned low, unsigned high) {
    struct sim_thread *t = (void *)((uintptr_t)low | (uintptr_t)high << 32);
    struct sim_proc *p = t->proc;

    t->run(t->arg);
    t->done = true;
    for (struct sim_thread **at = &p->threads; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    if (!p->threads && !p->loops) sim_exit(0);
    while (sim_wake(&t->joiners)) {}
    if (swapcontext(&t->context, &main_context) < 0) abort(); /* kept for who joins it */
    abort();
}

struct sim_thread *sim_thread_new(struct sim_proc *p, void *(*run)(void *arg), void *arg) {
    struct sim_thread *t = calloc(1, sizeof *t), **at = &p->threads;

    if (!t || getcontext(&t->context) < 0) abort();
    t->stack = spare_stacks;
    if (t->stack)
        spare_stacks = *(void **)t->stack;
    else if (!(t->stack = malloc(STACK)))
        abort();
    t->proc = p;
    t->run = run;
    t->arg = arg;
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = STACK;
    makecontext(&t->context, (void (*)(void))thread_body, 2, (unsigned)(uintptr_t)t,
                (unsigned)((uintptr_t)t >> 32));
    sim_event_init(&t->event, thread_event, t);
    sim_event_at(&t->event, sim_now + (int64_t)sim_below(20 * SIM_US));
    while (*at) at = &(*at)->next;
    *at = t;
    return t;
}

int sim_thread_join(struct sim_thread *t, int64_t until) {
    if (t->done) return 0;
    return sim_wait(&t->joiners, until) == 0 ? 0 : -1;
}

int sim_wait(struct sim_queue *q, int64_t until) {
    struct sim_thread *t = sim_thread_cur, **at = &q->first;

    if (!t) {
        printf("%s blocks in its loop\n", sim_cur ? sim_cur->name : "the simulator");
        abort();
    }
    while (*at) at = &(*at)->queue_next;
    *at = t;
    t->queue_next = NULL;
    t->queue = q;
    t->timed_out = false;
    if (until >= 0) sim_event_at(&t->event, until);
    if (swapcontext(&t->context, &main_context) < 0) abort();
    return t->timed_out ? -1 : 0;
}

bool sim_wake(struct sim_queue *q) {
    struct sim_thread *t = q->first;
    int64_t after;

    if (!t) return false;
    q->first = t->queue_next;
    t->queue = NULL;
    after = 1 * SIM_US + (int64_t)sim_below(20 * SIM_US);
    if (sim_chance(2000)) after += (int64_t)sim_below(5 * SIM_MS); /* another had the CPU */
    sim_event_at(&t->event, sim_now + after);
    return true;
}

void sim_sleep(int64_t ns) {
    struct sim_queue nobody = {NULL};

    (void)sim_wait(&nobody, sim_now + ns);
}
