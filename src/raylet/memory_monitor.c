/* memory_monitor.c - see memory_monitor.h. The texts are in memory_verdict.c. */
#include "raylet/memory_monitor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "own/ledger.h"
#include "raylet/memory_verdict.h"
#include "raylet/spill.h"

enum {
    OWN_MS = 250,    /* when only the limits of tasks are looked at */
    SOON_MS = 10,    /* while a victim ends */
    QUICK_MS = 20,   /* close to the threshold, at most */
    LOOK_MS = 1000,  /* between two looks at all processes while there is room */
    KNOWN_MS = 2000, /* what was seen before that says nothing of growth */
    VICTIM_MS = 5000, /* a victim that does not end (in the kernel) is not waited for longer */
    SPILL_MS = 2000,  /* how long the object store has to make room */
    SCAN_MAX = 16384,
    SCAN_QUICK = 2000, /* of so many processes it does not hold up the end of a worker */
};
#define FILL_RATE (INT64_C(2) << 30) /* bytes a second that one CPU may touch for the first time */

struct track {
    struct oom_track oom;
    struct memory_doing doing;
    uint64_t left;     /* what its last work had left behind */
    uint64_t bytes;    /* now, with its children */
    uint64_t children; /* of these, at the last scan */
    bool seen;
};

struct memory_monitor {
    struct raylet *r;
    struct loop_timer *timer;
    struct memory_rules rules;
    struct table tracks; /* number of a process -> struct track */
    struct oom_track store;
    struct memory_proc *scan;
    uint32_t scanned;
    uint64_t inherited;   /* the zygote's own: its forks have it, too, at no cost */
    int64_t look_ns;      /* of the last look at all workers; 0: none yet */
    int64_t scan_ns;      /* ... at all processes */
    uint64_t victim;      /* 0: none is awaited */
    int64_t killed_ns, spill_ns;
    struct memory_teller teller;
};

/* ---- looking ---- */

/* Pages of the arena that exist. */
static uint64_t store_bytes(const struct raylet *r) {
    struct stat st;

    return fstat(r->arena_fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static struct track *track_of(struct memory_monitor *m, const struct proc *p) {
    struct track *t = table_get(&m->tracks, proc_number(p->id));

    if (t) return t;
    t = calloc(1, sizeof *t);
    if (t && table_set(&m->tracks, proc_number(p->id), t) < 0) {
        free(t);
        t = NULL;
    }
    return t;
}

/* Those of processes that are gone. */
static void forget(struct memory_monitor *m) {
    uint64_t gone[64], number;
    struct track *t;
    uint32_t n, at;

    do {
        n = at = 0;
        while (n < 64 && (t = table_next(&m->tracks, &at, &number)))
            if (!t->seen) gone[n++] = number;
        for (uint32_t i = 0; i < n; i++) free(table_take(&m->tracks, gone[i]));
    } while (n == 64);
}

static bool watched(const struct proc *p) {
    return p->role == PROC_WORKER && p->state == PROC_LIVE && p->pid;
}

static int by_group(const void *a, const void *b) {
    const struct memory_proc *p = a, *q = b;

    return p->group < q->group ? -1 : p->group > q->group;
}

/* All processes of the machine that we see, by group. */
static void scan(struct memory_monitor *m, int64_t now_ns) {
    if (!m->scan) m->scan = malloc(SCAN_MAX * sizeof *m->scan);
    m->scanned = m->scan ? memory_scan("", m->scan, SCAN_MAX) : 0;
    if (m->scanned) qsort(m->scan, m->scanned, sizeof *m->scan, by_group);
    m->scan_ns = now_ns;
}

/* What the other processes of a worker's group hold. */
static uint64_t children_of(const struct memory_monitor *m, uint32_t pid) {
    uint32_t low = 0, high = m->scanned;
    uint64_t sum = 0;

    while (low < high) {
        uint32_t at = (low + high) / 2;

        if (m->scan[at].group < pid)
            low = at + 1;
        else
            high = at;
    }
    for (; low < m->scanned && m->scan[low].group == pid; low++)
        if (m->scan[low].pid != pid) sum += m->scan[low].bytes;
    return sum;
}

static void note(struct memory_monitor *m, struct proc *p, int64_t now_ns, int64_t last_ns) {
    uint64_t own = memory_of_pid("", p->pid), inherited = p->zygote ? m->inherited : 0;
    struct track *t = track_of(m, p);
    struct memory_doing doing;
    struct oom_look look;

    if (!t) return;
    memory_doing_of(p, &doing);
    if (m->scan_ns == now_ns) t->children = children_of(m, p->pid);
    t->bytes = (own > inherited ? own - inherited : 0) + t->children;
    if (doing.work != t->doing.work) t->left = t->oom.bytes;
    look = (struct oom_look){.bytes = t->bytes, .work = doing.work, .began_ns = doing.began_ns,
                             .now_ns = now_ns, .last_ns = last_ns};
    oom_note(&t->oom, &look);
    t->doing = doing;
    t->seen = true;
}

/* At what each worker has and does; whole: at all other processes, too. */
static void look(struct memory_monitor *m, int64_t now_ns, bool whole) {
    uint64_t known_ms = m->r->set.memory.refresh_ms * 3 + KNOWN_MS;
    int64_t last = m->look_ns && now_ns - m->look_ns < (int64_t)known_ms * 1000000 ? m->look_ns : 0;
    struct oom_look store = {.bytes = store_bytes(m->r), .now_ns = now_ns, .last_ns = last};
    struct track *t;
    struct proc *p;
    uint32_t at = 0;

    if (whole) scan(m, now_ns);
    m->inherited = m->r->zygote_pid > 0 ? memory_of_pid("", (uint32_t)m->r->zygote_pid) : 0;
    while ((t = table_next(&m->tracks, &at, NULL))) t->seen = false;
    at = 0;
    while ((p = table_next(&m->r->procs, &at, NULL)))
        if (watched(p)) note(m, p, now_ns, last);
    forget(m);
    oom_note(&m->store, &store);
    m->look_ns = now_ns;
}

/* What this session may use at most, if its settings say so: workers and object store. */
static struct memory_use session_use(struct memory_monitor *m) {
    struct memory_use u = {.limit = m->r->set.memory.limit, .used = m->store.bytes};
    struct track *t;
    uint32_t at = 0;

    if (u.limit == 0) return u;
    while ((t = table_next(&m->tracks, &at, NULL))) u.used += t->bytes;
    u.threshold = memory_threshold(u.limit, &m->rules);
    (void)snprintf(u.what, sizeof u.what, "session");
    return u;
}

/* ---- ending one ---- */

static void end_worker(struct memory_monitor *m, struct proc *p, const struct memory_case *c) {
    char text[MEMORY_VERDICT];

    memory_verdict(c, text);
    free(p->notes.verdict);
    p->notes.verdict = strdup(text);
    p->notes.cause = c->cause;
    m->victim = p->id;
    m->killed_ns = c->now_ns;
    memory_tell(&m->teller, p, c, text);
    if (p->work == WORK_IDLE) p->intended = true;
    proc_doom(p, c->cause == MEMORY_OWN_LIMIT ? "it used more than its memory"
                                              : "the node ran low on memory");
    (void)kill(-(pid_t)p->pid, SIGKILL); /* what it has started holds memory, too */
}

static struct memory_case case_of(struct memory_monitor *m, struct proc *p, struct track *t,
                                  int64_t now_ns) {
    return (struct memory_case){.r = m->r, .proc = p, .doing = &t->doing, .bytes = t->bytes,
                                .grown = (uint64_t)t->oom.grown, .scan = m->scan,
                                .scanned = m->scanned, .store = m->store.bytes,
                                .rules = &m->rules, .now_ns = now_ns};
}

/* The choice among all workers; NULL: nobody is worth ending. */
static struct proc *choose(struct memory_monitor *m, bool *ret_alone) {
    struct oom_worker *v = calloc(m->r->procs.count + 1, sizeof *v);
    struct proc **who = calloc(m->r->procs.count + 1, sizeof *who), *p, *chosen = NULL;
    struct oom_choice choice;
    uint32_t at = 0, n = 0;

    while (v && who && (p = table_next(&m->r->procs, &at, NULL))) {
        struct track *t = watched(p) ? table_get(&m->tracks, proc_number(p->id)) : NULL;

        if (!t) continue;
        v[n] = (struct oom_worker){.owner = p->owner, .began_ns = t->doing.began_ns,
                                   .bytes = t->bytes, .grown = t->oom.grown, .guess = t->oom.guess,
                                   .again = p->work == WORK_ACTOR ? p->again : !t->doing.once,
                                   .kind = p->work == WORK_ACTOR ? OOM_ACTOR :
                                           t->doing.running      ? OOM_TASK : OOM_IDLE};
        who[n++] = p;
    }
    if (n && oom_pick(v, n, m->r->set.memory.idle_bytes, &choice)) {
        chosen = who[choice.index];
        *ret_alone = choice.alone;
    }
    free(v);
    free(who);
    return chosen;
}

enum store_says { NOT_THE_STORE, STORE_HELPS, STORE_CANNOT };

/* Has the store grown more than any worker, and can it help? Close to the limit it does not matter
 * whose fault it is. */
static enum store_says ask_store(struct memory_monitor *m, const struct memory_use *u,
                                 int64_t now_ns) {
    uint64_t over = u->used > u->threshold ? u->used - u->threshold : 0;
    double grown = 0;
    struct track *t;
    uint32_t at = 0;

    while ((t = table_next(&m->tracks, &at, NULL)))
        if (t->oom.grown > grown) grown = t->oom.grown;
    if (m->store.bytes < OOM_WORTH || m->store.grown < OOM_WORTH || m->store.grown < grown)
        return NOT_THE_STORE;
    if (over > (u->limit - u->threshold) / 2) {
        (void)spill_pressure(m->r, over + OOM_WORTH); /* it shall do its part all the same */
        return NOT_THE_STORE;
    }
    if (m->spill_ns && now_ns - m->spill_ns > SPILL_MS * INT64_C(1000000)) return STORE_CANNOT;
    if (!spill_pressure(m->r, over + OOM_WORTH)) return STORE_CANNOT;
    if (!m->spill_ns) m->spill_ns = now_ns;
    return STORE_HELPS;
}

/* False: nothing can be done. */
static bool relieve(struct memory_monitor *m, const struct memory_use *u, int64_t now_ns) {
    enum store_says store = ask_store(m, u, now_ns);
    struct memory_case c;
    struct proc *p = NULL;
    struct track *t = NULL;
    bool alone = false;

    if (store == STORE_HELPS) return true;
    if (store == NOT_THE_STORE) p = choose(m, &alone);
    if (p) t = table_get(&m->tracks, proc_number(p->id));
    if (!t) {
        c = (struct memory_case){.r = m->r, .use = u, .now_ns = now_ns, .store = m->store.bytes};
        memory_tell_helpless(&m->teller, &c, store == STORE_CANNOT);
        return false;
    }
    if (m->scanned < SCAN_QUICK && m->scan_ns != now_ns) scan(m, now_ns); /* to say who has it */
    c = case_of(m, p, t, now_ns);
    c.use = u;
    c.cause = alone ? MEMORY_ALONE : MEMORY_SHARED;
    end_worker(m, p, &c);
    return true;
}

/* ---- memory= of a task or an actor ---- */

static uint64_t own_limit(const struct proc *p) {
    int64_t amount = resources_amount(&p->used, "memory");

    if (p->work != WORK_LEASE && p->work != WORK_ACTOR) return 0;
    return amount > 0 ? (uint64_t)amount / RESOURCE_UNIT : 0;
}

/* Exact before it costs anybody anything: what is shared after a fork is not its own. */
static void enforce(struct memory_monitor *m, int64_t now_ns) {
    uint32_t at = 0;
    struct proc *p;

    while ((p = table_next(&m->r->procs, &at, NULL))) {
        uint64_t limit = watched(p) ? own_limit(p) : 0, exact;
        struct track *t = limit ? table_get(&m->tracks, proc_number(p->id)) : NULL;
        struct memory_case c;

        if (!t || t->bytes <= limit || t->bytes - limit <= t->left) continue;
        exact = memory_exact("", p->pid);
        if (exact && exact + t->children <= limit + t->left) continue;
        c = case_of(m, p, t, now_ns);
        c.cause = MEMORY_OWN_LIMIT;
        c.limit = limit;
        end_worker(m, p, &c);
        return; /* the table has not changed, but one at a time is enough */
    }
}

/* ---- the timer ---- */

static bool victim_ends(struct memory_monitor *m, int64_t now_ns) {
    if (!m->victim) return false;
    if (proc_find(m->r, m->victim) && now_ns - m->killed_ns < VICTIM_MS * INT64_C(1000000))
        return true;
    m->victim = 0;
    return false;
}

static uint64_t clamp(int64_t n, int64_t low, int64_t high) {
    return (uint64_t)(n < low ? low : n > high ? high : n);
}

/* The less room, the sooner: nobody shall fill it between two looks, and above the threshold not
 * what is left until the limit. u NULL: there is no hurry. */
static uint64_t next_ms(const struct memory_monitor *m, const struct memory_use *u) {
    uint64_t usual = m->r->set.memory.refresh_ms ? m->r->set.memory.refresh_ms : OWN_MS;
    int64_t cpus = sysconf(_SC_NPROCESSORS_ONLN), each_ms, quick;

    if (m->victim) return SOON_MS;
    if (!m->r->set.memory.refresh_ms || !u || !u->limit) return usual;
    each_ms = (cpus > 2 ? cpus : 2) * (FILL_RATE / 1000);
    quick = (int64_t)clamp((int64_t)(u->limit - u->threshold) / each_ms / 2, 2, QUICK_MS);
    return clamp(memory_room(u) / each_ms, quick, (int64_t)usual);
}

static void on_tick(void *arg) {
    struct memory_monitor *m = arg;
    const struct memory_settings *set = &m->r->set.memory;
    int64_t now = loop_now_ns(m->r->loop), room = INT64_MAX;
    bool each = set->enforce || set->limit, due = now - m->scan_ns > LOOK_MS * INT64_C(1000000);
    struct memory_use use = {0}, session;
    bool hurry; /* false: no haste helps */

    if (m->r->ending) return;
    if (victim_ends(m, now)) {
        loop_timer_start(m->timer, SOON_MS, 0);
        return;
    }
    if (set->refresh_ms) use = memory_read("", &m->rules);
    room = memory_room(&use);
    if (room < 0 || each || (due && use.limit && use.used > use.threshold / 4 * 3))
        look(m, now, due);
    session = session_use(m);
    if (set->refresh_ms && memory_room(&session) < room) {
        use = session;
        room = memory_room(&session);
    }
    if (room >= 0) m->spill_ns = 0;
    if (set->enforce) enforce(m, now);
    hurry = room >= 0 || m->victim || relieve(m, &use, now);
    loop_timer_start(m->timer, next_ms(m, hurry ? &use : NULL), 0);
}

int memory_monitor_start(struct raylet *r) {
    const struct memory_settings *set = &r->set.memory;
    struct memory_monitor *m;

    if (!set->refresh_ms && !set->enforce) return 0;
    m = calloc(1, sizeof *m);
    if (!m) return -SKATE_ENOMEM;
    m->r = r;
    m->rules = (struct memory_rules){.fraction = set->threshold, .min_free = set->min_free};
    if (loop_timer_new(r->loop, on_tick, m, &m->timer) < 0) {
        free(m);
        return -SKATE_ENOMEM;
    }
    loop_timer_start(m->timer, next_ms(m, NULL), 0);
    r->memory = m;
    return 0;
}

/* ---- what the kernel would do ---- */

static void adjust(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0) return;
    if (write(fd, value, strlen(value)) < 0) {} /* lower needs a capability: then it stays */
    (void)close(fd);
}

void memory_prefer(uint32_t pid) {
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%u/oom_score_adj", pid);
    adjust(path, "1000");
}

void memory_protect_self(void) { adjust("/proc/self/oom_score_adj", "-500"); }
