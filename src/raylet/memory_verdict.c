/* memory_verdict.c - see memory_verdict.h. */
#include "raylet/memory_verdict.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "own/ledger.h"
#include "raylet/text.h"

enum { LOOK_BACK = 32, TOP = 5, TELL_MS = 1000, HELPLESS_MS = 10000 };

/* ---- what it does ---- */

/* The newest of its runs that has not ended, else its newest; -1: none. Records of what it has
 * submitted lie between. */
static int newest(const struct trace_slot *v, uint32_t count) {
    int run = -1, any = -1;

    for (uint32_t i = 0; i < count; i++) {
        if (v[i].number == 0 || v[i].kind > 2) continue;
        if (v[i].state == TRACE_RUNNING && (run < 0 || v[i].number > v[run].number)) run = (int)i;
        if ((v[i].state == TRACE_FINISHED || v[i].state == TRACE_FAILED) &&
            (any < 0 || v[i].number > v[any].number))
            any = (int)i;
    }
    return run >= 0 ? run : any;
}

/* Printable: it comes from a process of the user. */
static void take_name(struct memory_doing *d, const struct trace_slot *s) {
    size_t n = strnlen(s->name, sizeof d->name - 1);

    for (size_t i = 0; i < n; i++) d->name[i] = s->name[i] < ' ' ? '?' : s->name[i];
    d->name[n] = 0;
}

void memory_doing_of(const struct proc *p, struct memory_doing *ret) {
    struct trace_slot v[LOOK_BACK];
    struct trace_header h;
    uint64_t first;
    ssize_t n = 0;
    int at;

    *ret = (struct memory_doing){.began_ns = p->idle_since_ns};
    if (p->work == WORK_ACTOR) {
        ret->running = true;
        ret->work = p->id;
    }
    if (p->ledger_fd < 0 ||
        pread(p->ledger_fd, &h, sizeof h, LEDGER_TRACE_OFFSET) != (ssize_t)sizeof h ||
        h.magic != TRACE_MAGIC || h.written == 0)
        return;
    /* Slot number % TRACE_SLOTS: the newest ones, without those beyond the ring's begin. */
    first = h.written % TRACE_SLOTS;
    first = first >= LOOK_BACK ? first - LOOK_BACK + 1 : 0;
    n = pread(p->ledger_fd, v, sizeof v,
              (off_t)(LEDGER_TRACE_OFFSET + 4096 + first * sizeof(struct trace_slot)));
    at = n > 0 ? newest(v, (uint32_t)((size_t)n / sizeof *v)) : -1;
    if (at < 0) return;
    take_name(ret, &v[at]);
    ret->once = v[at].once;
    if (p->work == WORK_ACTOR) return;
    ret->running = p->work == WORK_LEASE && v[at].state == TRACE_RUNNING;
    ret->work = v[at].task.owner ^ v[at].task.seq * UINT64_C(0x9e3779b97f4a7c15) ^ v[at].attempt;
    ret->began_ns = v[at].begin_ns > 0 ? v[at].begin_ns : 0; /* it is the process's word */
}

/* ---- texts ---- */

static const char *bytes_text(uint64_t bytes, char out[24]) {
    if (bytes >= UINT64_C(1000000000))
        (void)snprintf(out, 24, "%.2f GB", (double)bytes / 1e9);
    else
        (void)snprintf(out, 24, "%.0f MB", (double)bytes / 1e6);
    return out;
}

static const char *kind_of(const struct memory_case *c) {
    return c->proc->work == WORK_ACTOR ? "Actor" : c->doing->running ? "Task" : "Idle worker";
}

static void say_use(struct text *t, const struct memory_use *u) {
    char a[24], b[24], d[24];

    say(t, "%s used of %s (%.1f %%), more than the threshold of %s (%.1f %%)",
        bytes_text(u->used, a), bytes_text(u->limit, b), 100.0 * (double)u->used / (double)u->limit,
        bytes_text(u->threshold, d), 100.0 * (double)u->threshold / (double)u->limit);
}

static const char *whose(const struct memory_use *u) {
    return u->what[0] == 'c' ? "Memory of the cgroup"
         : u->what[0] == 's' ? "Memory of this session (memory_limit_bytes)" : "Memory of the node";
}

/* Whose process it is; NULL: none of ours. */
static const struct proc *of_ours(const struct memory_case *c, const struct memory_proc *m) {
    const struct proc *p;
    uint32_t at = 0;

    while ((p = table_next(&c->r->procs, &at, NULL)))
        if (p->pid == m->pid || (p->role == PROC_WORKER && p->pid == m->group)) return p;
    return NULL;
}

static void say_proc(struct text *t, const struct memory_case *c, const struct memory_proc *m) {
    const struct proc *p = of_ours(c, m);
    struct memory_doing d = {0};
    char a[24];

    if (p && p->role == PROC_WORKER) memory_doing_of(p, &d);
    say(t, "%s %s%s (pid %u)", bytes_text(m->bytes, a),
        !p ? m->name : m->pid == c->proc->pid ? "this one" : p->role == PROC_DRIVER ? "driver"
        : p->role == PROC_MEMBER ? "a member"
        : d.name[0] ? d.name : "a worker", p && p->pid != m->pid ? "'s child" : "", m->pid);
}

static void say_top(struct text *t, const struct memory_case *c) {
    bool session = c->use->what[0] == 's'; /* only what counts */
    uint32_t top[TOP], n = 0;
    char a[24];

    for (uint32_t i = 0; i < c->scanned; i++) {
        const struct proc *p = session ? of_ours(c, &c->scan[i]) : NULL;
        uint32_t at = n < TOP ? n : TOP;

        if (session && (!p || p->role != PROC_WORKER)) continue;
        while (at > 0 && c->scan[top[at - 1]].bytes < c->scan[i].bytes) at--;
        if (at >= TOP) continue;
        memmove(&top[at + 1], &top[at], ((n < TOP ? n : TOP - 1) - at) * sizeof *top);
        top[at] = i;
        n += n < TOP;
    }
    say(t, "\n    Most of it: ");
    for (uint32_t i = 0; i < n; i++) {
        say_proc(t, c, &c->scan[top[i]]);
        say(t, "; ");
    }
    say(t, "%s object store", bytes_text(c->store, a));
}

void memory_verdict(const struct memory_case *c, char out[MEMORY_VERDICT]) {
    bool limit = c->cause == MEMORY_OWN_LIMIT;
    struct text t = {out, 0, MEMORY_VERDICT};
    char a[24], b[24];

    say(&t, "%s %s was killed due to %s", kind_of(c), c->doing->name[0] ? c->doing->name : "?",
        limit ? "its use of more memory than it asked for" : "the node running low on memory");
    say(&t, "\n    It held %s of its own", bytes_text(c->bytes, a));
    if (limit)
        say(&t, "; its limit is memory=%llu (%s)", (unsigned long long)c->limit,
            bytes_text(c->limit, b));
    else if (c->grown >= OOM_WORTH)
        say(&t, ", %s of it taken lately", bytes_text(c->grown, b));
    say(&t, ", in worker process %u on node %u (%s)", c->proc->pid, c->r->node, c->r->set.node_ip);
    if (limit) {
        say(&t, "\n    Ask for more with memory=, or let it need less; without "
                "enforce_task_memory the amount is for scheduling only");
        return;
    }
    say(&t, "\n    %s: ", whose(c->use));
    say_use(&t, c->use);
    say_top(&t, c);
    if (c->cause == MEMORY_ALONE)
        say(&t, "\n    It had the memory nearly to itself: it needs more than there is");
    say(&t, "\n    Run fewer such tasks at once (num_cpus=, memory=), let each need less, or give "
            "the node more memory; memory_usage_threshold says when this happens, "
            "memory_monitor_refresh_ms=0 that it never does");
}

/* ---- to people ---- */

static void notice(struct raylet *r, uint32_t job, const char *text) {
    struct job *j = job ? table_get(&r->jobs, job) : NULL;
    uint64_t room[256];
    struct wire_notice *m;
    struct wire_buf b;
    struct proc *p;
    uint32_t at = 0;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_NOTICE);
    m->level = 1;
    m->job = job;
    WIRE_PUT(&b, notice, text, text, strlen(text));
    if (wire_end(&b) == 0) {
        if (j && j->driver) route_send(r, j->driver, b.p, b.len);
        while (!j && (p = table_next(&r->procs, &at, NULL)))
            if (p->role == PROC_DRIVER) proc_send(p, b.p, b.len);
    }
    wire_release(&b);
}

void memory_tell(struct memory_teller *t, const struct proc *p, const struct memory_case *c,
                 const char *verdict) {
    char text[MEMORY_VERDICT + 128];

    node_log("%s", verdict);
    if (c->now_ns - t->told_ns < TELL_MS * INT64_C(1000000) && t->told_ns) {
        t->untold++;
        return;
    }
    (void)snprintf(text, sizeof text, "%s%s", verdict,
                   c->doing->once || !c->doing->running || p->work == WORK_ACTOR
                       ? "" : "\n    It is tried again as far as its retries allow");
    if (t->untold) {
        size_t n = strlen(text);

        (void)snprintf(text + n, sizeof text - n, "\n    (%u more since the last such message)",
                       t->untold);
    }
    t->told_ns = c->now_ns;
    t->untold = 0;
    notice(c->r, p->job, text);
}

void memory_tell_helpless(struct memory_teller *t, const struct memory_case *c, bool store) {
    char out[MEMORY_VERDICT], a[24];
    struct text text = {out, 0, sizeof out};

    if (t->helpless_ns && c->now_ns - t->helpless_ns < HELPLESS_MS * INT64_C(1000000)) return;
    t->helpless_ns = c->now_ns;
    say(&text, "node %u (%s) is running low on memory, and ", c->r->node, c->r->set.node_ip);
    if (store)
        say(&text, "it is the object store that has grown, to %s. ", bytes_text(c->store, a));
    else
        say(&text, "no worker holds enough for its end to help. ");
    say(&text, "%s: ", whose(c->use));
    say_use(&text, c->use);
    say(&text, store ? ". Drop refs that are not needed, or give the node a smaller "
                       "object_store_memory"
                     : ". Let the driver and other programs of this machine need less");
    node_log("%s", out);
    notice(c->r, 0, out);
}
