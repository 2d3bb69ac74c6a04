/* oom_policy.c - see oom_policy.h. */
#include "sched/oom_policy.h"

enum { ALONE_PART = 4 };

void oom_note(struct oom_track *t, const struct oom_look *l) {
    double more = l->bytes > t->bytes ? (double)(l->bytes - t->bytes) : 0;
    int64_t age = l->now_ns - l->began_ns, since = l->now_ns - t->seen_ns;
    bool known = t->seen_ns && l->last_ns && t->seen_ns >= l->last_ns;

    if (age < 0) age = 0;
    if (since < 0) since = 0;
    if (known && t->work == l->work) {
        double fade = (double)OOM_LATELY_NS / (double)(OOM_LATELY_NS + since);

        t->grown = t->grown * fade + more;
        t->guess *= fade;
    } else if (known) { /* what its last task left behind is not the fault of this one */
        t->grown = more;
        t->guess = 0;
    } else if (l->last_ns && l->began_ns >= l->last_ns) { /* all of it came under our eyes */
        t->grown = (double)l->bytes;
        t->guess = 0;
    } else {
        t->grown = 0;
        t->guess = (double)l->bytes;
        if (age > OOM_LATELY_NS) t->guess *= (double)OOM_LATELY_NS / (double)age;
    }
    if (t->grown > (double)l->bytes) t->grown = (double)l->bytes;
    t->bytes = l->bytes;
    t->work = l->work;
    t->seen_ns = l->now_ns;
}

/* The largest idle worker; false: none is large enough. */
static bool pick_idle(const struct oom_worker *v, uint32_t count, uint64_t least, uint32_t *ret) {
    bool found = false;

    for (uint32_t i = 0; i < count; i++)
        if (v[i].kind == OOM_IDLE && v[i].bytes >= least && v[i].bytes >= OOM_WORTH &&
            (!found || v[i].bytes > v[*ret].bytes)) {
            *ret = i;
            found = true;
        }
    return found;
}

enum measure { BY_GROWTH, BY_GUESS, BY_SIZE };

/* What counts against it. 0: it is no candidate. */
static double weight(const struct oom_worker *w, enum measure by) {
    if (w->kind == OOM_IDLE || w->bytes < OOM_WORTH) return 0;
    return by == BY_GROWTH ? w->grown : by == BY_GUESS ? w->guess : (double)w->bytes;
}

static double heaviest(const struct oom_worker *v, uint32_t count, enum measure by) {
    double most = 0;

    for (uint32_t i = 0; i < count; i++) {
        double w = weight(&v[i], by);

        if (w > most) most = w;
    }
    return most;
}

/* Lower goes first. */
static int rank(const struct oom_worker *w) {
    return (w->kind == OOM_ACTOR ? 2 : 0) + (w->again ? 0 : 1);
}

static bool newer(const struct oom_worker *a, const struct oom_worker *b) {
    return a->began_ns != b->began_ns ? a->began_ns > b->began_ns : a->bytes > b->bytes;
}

struct field { /* those who count */
    const struct oom_worker *v;
    uint32_t count;
    double least;
    enum measure by;
    int rank;
};

static bool counts(const struct field *f, uint32_t i) {
    double w = weight(&f->v[i], f->by);

    return w > 0 && w >= f->least && rank(&f->v[i]) == f->rank;
}

static uint32_t group_size(const struct field *f, uint64_t owner) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < f->count; i++) n += counts(f, i) && f->v[i].owner == owner;
    return n;
}

/* The newest of the largest group; what is not tried again forms no groups. */
static bool pick_in(const struct field *f, uint32_t *ret) {
    uint32_t most = 0;
    bool found = false;

    for (uint32_t i = 0; i < f->count; i++) {
        bool known = found && f->v[i].owner == f->v[*ret].owner;
        uint32_t size;

        if (!counts(f, i)) continue;
        size = f->rank != 0 ? 1 : known ? most : group_size(f, f->v[i].owner);
        if (!found || size > most || (size == most && newer(&f->v[i], &f->v[*ret]))) {
            *ret = i;
            most = size;
            found = true;
        }
    }
    return found;
}

bool oom_pick(const struct oom_worker *v, uint32_t count, uint64_t idle_bytes,
              struct oom_choice *ret) {
    struct field f = {.v = v, .count = count};
    double most = 0, others = 0;
    uint32_t index = 0;

    if (pick_idle(v, count, idle_bytes, &index)) {
        *ret = (struct oom_choice){.index = index};
        return true;
    }
    for (f.by = BY_GROWTH; f.by <= BY_SIZE; f.by++) {
        most = heaviest(v, count, f.by);
        if (most >= (double)OOM_WORTH) break;
    }
    if (f.by > BY_SIZE) return false;
    f.least = most / 2;
    for (f.rank = 0; f.rank < 4; f.rank++)
        if (pick_in(&f, &index)) break;
    for (uint32_t i = 0; i < count; i++)
        if (i != index && v[i].kind != OOM_IDLE) others += (double)v[i].bytes;
    *ret = (struct oom_choice){.index = index,
                               .alone = others * ALONE_PART < (double)v[index].bytes};
    return true;
}
