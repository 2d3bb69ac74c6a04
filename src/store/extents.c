/* extents.c - see extents.h.
 *
 * A piece is a heap node in a doubly linked list by address that covers the span without gaps; an
 * array finds the piece that lies over a granule. Free pieces without pages (cold) lie in 52 bins
 * by power of two, newest first, and never side by side; free ones with pages (warm) in a list,
 * newest first. Looking for room: (1) a warm piece of the same process; (2) the smallest that fits
 * of the first bin that can hold one; (3) warm pieces of others lose their pages, again (2). */
#include "store/extents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "store/table.h"

enum { BINS = 52, LOOK_MAX = 32, WARM_MAX = 4096, TEXT_ROWS = 6 };
enum piece_state { FREE, LENT, HELD, DYING }; /* DYING: given back, but busy; nobody's */

struct piece {
    uint64_t offset, bytes, proc; /* whole granules; proc: borrower; FREE: who used it last */
    uint64_t paid, out;           /* LENT, HELD, DYING: paid pages; of them without pages now */
    uint64_t warm;                /* FREE: bytes at its front that have pages */
    enum piece_state state;
    bool busy;
    void *note;
    struct piece *prev, *next;           /* by address */
    struct piece *bin_prev, *bin_next;   /* FREE: in its bin, or in the list of warm ones */
    struct piece *mine_prev, *mine_next; /* LENT, HELD: of one process */
};

/* What one process has. */
struct holder {
    uint64_t proc, bytes;
    struct piece *pieces;
};

struct extents {
    struct extents_env env;
    uint64_t span, budget, used, warm; /* used, warm: bytes with pages, lent or free */
    struct piece *first;
    struct piece *bins[BINS];
    struct piece *warm_newest, *warm_oldest;
    uint32_t warm_count;
    struct piece **of;    /* granule -> piece, where one is not free */
    struct table holders; /* proc -> holder */
};

static uint32_t bin_of(uint64_t bytes) {
    return 63u - (uint32_t)__builtin_clzll(bytes / GRANULE_BYTES);
}

/* ---- free pieces ---- */

static void free_add(struct extents *e, struct piece *p) {
    struct piece **top = p->warm ? &e->warm_newest : &e->bins[bin_of(p->bytes)];

    p->bin_prev = NULL;
    p->bin_next = *top;
    if (*top) (*top)->bin_prev = p;
    *top = p;
    if (!p->warm) return;
    if (!p->bin_next) e->warm_oldest = p;
    e->warm_count++;
    e->warm += p->warm;
}

static void free_remove(struct extents *e, struct piece *p) {
    struct piece **top = p->warm ? &e->warm_newest : &e->bins[bin_of(p->bytes)];

    if (p->bin_prev)
        p->bin_prev->bin_next = p->bin_next;
    else
        *top = p->bin_next;
    if (p->bin_next) p->bin_next->bin_prev = p->bin_prev;
    if (p->warm) {
        if (e->warm_oldest == p) e->warm_oldest = p->bin_prev;
        e->warm_count--;
        e->warm -= p->warm;
    }
    p->bin_prev = p->bin_next = NULL;
}

static void punch(struct extents *e, uint64_t offset, uint64_t bytes) {
    if (bytes && e->env.punch) e->env.punch(e->env.arg, (struct extent_span){offset, bytes});
}

/* Take `b`, the right neighbour of `a`, into it. Neither is in a list of free ones. */
static void join(struct piece *a, struct piece *b) {
    SKATE_ASSERT(a->next == b && a->offset + a->bytes == b->offset);
    a->bytes += b->bytes;
    a->next = b->next;
    if (b->next) b->next->prev = a;
    free(b);
}

static bool is_cold(const struct piece *p) { return p && p->state == FREE && !p->warm; }

/* A free piece without pages, in no list yet: joined with its neighbours. */
static void add_cold(struct extents *e, struct piece *p) {
    p->state = FREE;
    p->proc = p->warm = 0;
    if (is_cold(p->next)) {
        free_remove(e, p->next);
        join(p, p->next);
    }
    if (is_cold(p->prev)) {
        struct piece *left = p->prev;

        free_remove(e, left);
        join(left, p);
        p = left;
    }
    free_add(e, p);
}

/* The warm piece that was given back longest ago loses its pages. */
static void cool_one(struct extents *e) {
    struct piece *p = e->warm_oldest;

    free_remove(e, p);
    punch(e, p->offset, p->warm);
    add_cold(e, p);
}

uint64_t extents_cool(struct extents *e, uint64_t bytes) {
    uint64_t before = e->warm;

    while (before - e->warm < bytes && e->warm_oldest) cool_one(e);
    return before - e->warm;
}

/* Room in the budget for `bytes` more with pages? */
static bool make_room(struct extents *e, uint64_t bytes) {
    while (e->used + e->warm + bytes > e->budget && e->warm_oldest) cool_one(e);
    return e->used + e->warm + bytes <= e->budget;
}

struct extents *extents_new(uint64_t span, uint64_t budget, const struct extents_env *env) {
    struct extents *e = calloc(1, sizeof *e);
    struct piece *p = calloc(1, sizeof *p);

    span -= span % GRANULE_BYTES;
    if (!e || !p || span <= GRANULE_BYTES || budget < EXTENT_PAGE) goto fail;
    e->of = mmap(NULL, span / GRANULE_BYTES * sizeof *e->of, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (e->of == MAP_FAILED) goto fail;
    if (env) e->env = *env;
    e->span = span;
    e->budget = budget;
    p->offset = GRANULE_BYTES;
    p->bytes = span - GRANULE_BYTES;
    e->first = p;
    free_add(e, p);
    return e;

fail:
    free(e);
    free(p);
    return NULL;
}

struct extents *extents_free(struct extents *e) {
    struct holder *h;
    uint32_t at = 0;

    if (!e) return NULL;
    for (struct piece *p = e->first, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    while ((h = table_next(&e->holders, &at, NULL))) free(h);
    table_release(&e->holders);
    (void)munmap(e->of, e->span / GRANULE_BYTES * sizeof *e->of);
    free(e);
    return NULL;
}

/* Its own, of about that size: the writable mapping of the pages is warm. */
static struct piece *find_warm(const struct extents *e, uint64_t proc, uint64_t bytes) {
    uint32_t looked = 0;

    for (struct piece *p = e->warm_newest; p && looked < LOOK_MAX; p = p->bin_next, looked++)
        if (p->proc == proc && p->bytes >= bytes && p->bytes / 2 <= bytes) return p;
    return NULL;
}

static struct piece *find_cold(const struct extents *e, uint64_t bytes) {
    for (uint32_t b = bin_of(bytes); b < BINS; b++) {
        struct piece *best = NULL;
        uint32_t looked = 0;

        for (struct piece *p = e->bins[b]; p && (looked < LOOK_MAX || !best);
             p = p->bin_next, looked++)
            if (p->bytes >= bytes && (!best || p->bytes < best->bytes)) best = p;
        if (best) return best;
    }
    return NULL;
}

static struct holder *holder_of(struct extents *e, uint64_t proc) {
    struct holder *h = table_get(&e->holders, proc);

    if (h) return h;
    h = calloc(1, sizeof *h);
    if (!h) return NULL;
    h->proc = proc;
    if (table_set(&e->holders, proc, h) < 0) {
        free(h);
        return NULL;
    }
    return h;
}

static void holder_drop(struct extents *e, struct holder *h) {
    if (h->pieces) return;
    SKATE_ASSERT(h->bytes == 0);
    table_take(&e->holders, h->proc);
    free(h);
}

static int tell_full(const struct extents *e, uint64_t bytes, struct skate_error *err) {
    const struct holder *top[TEXT_ROWS] = {0}, *h;
    char text[400] = "";
    size_t used = 0;
    uint32_t at = 0;

    while ((h = table_next(&e->holders, &at, NULL))) {
        const struct holder *in = h;

        for (int i = 0; i < TEXT_ROWS && in; i++)
            if (!top[i] || top[i]->bytes < in->bytes) {
                const struct holder *out = top[i];

                top[i] = in;
                in = out;
            }
    }
    for (int i = 0; i < TEXT_ROWS && top[i]; i++) {
        int n = snprintf(text + used, sizeof text - used, "%s process %u of node %u holds %.1f MB",
                         used ? "," : "", (uint32_t)top[i]->proc, (uint32_t)(top[i]->proc >> 32),
                         (double)top[i]->bytes / 1e6);

        if (n < 0 || (size_t)n >= sizeof text - used) break;
        used += (size_t)n;
    }
    return err_fail(err, -SKATE_EFULL,
                      "the object store is full: %.1f MB asked, %.1f of %.1f MB in use:%s",
                      (double)bytes / 1e6, (double)e->used / 1e6, (double)e->budget / 1e6, text);
}

static void mine_add(struct holder *h, struct piece *p) {
    p->mine_prev = NULL;
    p->mine_next = h->pieces;
    if (h->pieces) h->pieces->mine_prev = p;
    h->pieces = p;
    h->bytes += p->paid;
}

static void mine_remove(struct holder *h, struct piece *p) {
    if (p->mine_prev)
        p->mine_prev->mine_next = p->mine_next;
    else
        h->pieces = p->mine_next;
    if (p->mine_next) p->mine_next->mine_prev = p->mine_prev;
    p->mine_prev = p->mine_next = NULL;
    h->bytes -= p->paid;
}

/* ---- lending ---- */

static void cover(struct extents *e, const struct piece *p, struct piece *as) {
    uint64_t end = (p->offset + p->bytes) / GRANULE_BYTES;

    for (uint64_t g = p->offset / GRANULE_BYTES; g < end; g++) e->of[g] = as;
}

/* A free piece that takes `paid` bytes, `bytes` with the rest of the last granule, out of all
 * lists; NULL: none (*ret_full), or no memory. */
static struct piece *take(struct extents *e, uint64_t proc, uint64_t bytes, uint64_t paid,
                          bool *ret_full) {
    struct piece *p = find_warm(e, proc, bytes), *rest = NULL;

    *ret_full = true;
    if (p) free_remove(e, p);
    if (p && p->warm > paid) {
        punch(e, p->offset + paid, p->warm - paid);
        p->warm = paid;
    }
    if (!make_room(e, paid)) {
        if (p) free_add(e, p);
        return NULL;
    }
    while (!p && !(p = find_cold(e, bytes)) && e->warm_oldest) cool_one(e);
    if (!p) return NULL;
    if (!p->warm) free_remove(e, p);
    *ret_full = false;
    if (p->bytes > bytes && !(rest = calloc(1, sizeof *rest))) return free_add(e, p), NULL;
    p->state = LENT;
    if (rest) {
        *rest = (struct piece){.offset = p->offset + bytes, .bytes = p->bytes - bytes,
                               .prev = p, .next = p->next};
        if (p->next) p->next->prev = rest;
        p->next = rest;
        p->bytes = bytes;
        add_cold(e, rest);
    }
    return p;
}

/* in_memory false: without pages, whatever the budget. */
static int lend(struct extents *e, uint64_t proc, uint64_t wish, bool in_memory,
                struct extent_span *ret, struct skate_error *err) {
    uint64_t paid = (wish + EXTENT_PAGE - 1) / EXTENT_PAGE * EXTENT_PAGE;
    uint64_t bytes = (wish + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
    struct holder *h = holder_of(e, proc);
    struct piece *p = NULL;
    bool full = false;

    if (h) p = take(e, in_memory ? proc : 0, bytes, in_memory ? paid : 0, &full);
    if (!p) {
        if (h) holder_drop(e, h);
        return h && full ? tell_full(e, paid, err)
                         : err_fail(err, -SKATE_ENOMEM, "out of memory for the extent table");
    }
    p->proc = proc;
    p->paid = paid;
    p->out = in_memory ? 0 : paid;
    p->warm = 0;
    p->note = NULL;
    mine_add(h, p);
    cover(e, p, p);
    e->used += p->paid - p->out;
    *ret = (struct extent_span){p->offset, paid};
    return 0;
}

int extents_lend(struct extents *e, uint64_t proc, uint64_t bytes, struct extent_span *ret,
                 struct skate_error *err) {
    if (bytes == 0) return err_fail(err, -SKATE_EINVAL, "an extent of no bytes was asked");
    if (bytes > e->budget || bytes > e->span - GRANULE_BYTES)
        return err_fail(err, -SKATE_ETOOBIG,
                          "%.1f MB asked, but the whole object store has %.1f MB",
                          (double)bytes / 1e6, (double)e->budget / 1e6);
    return lend(e, proc, bytes, true, ret, err);
}

int extents_lend_outside(struct extents *e, uint64_t proc, uint64_t bytes,
                         struct extent_span *ret, struct skate_error *err) {
    if (bytes == 0) return err_fail(err, -SKATE_EINVAL, "an extent of no bytes was asked");
    if (bytes > e->span - GRANULE_BYTES)
        return err_fail(err, -SKATE_ETOOBIG, "%.1f MB asked, but the object store has addresses "
                        "for %.1f MB only", (double)bytes / 1e6, (double)e->span / 1e6);
    return lend(e, proc, bytes, false, ret, err);
}

/* A piece that nobody has any more. `warm`: who may get it back first, its pages in place; 0:
 * nobody. */
static void set_free(struct extents *e, struct piece *p, uint64_t warm) {
    void *note = p->note;

    SKATE_ASSERT(p->state == DYING && !p->busy);
    cover(e, p, NULL);
    e->used -= p->paid - p->out;
    p->note = NULL;
    p->state = FREE;
    if (warm && p->out == 0 && !note) {
        p->proc = warm;
        p->warm = p->paid;
        free_add(e, p);
        if (e->warm_count > WARM_MAX) cool_one(e);
    } else {
        punch(e, p->offset, p->paid);
        add_cold(e, p);
    }
    if (note && e->env.gone) e->env.gone(e->env.arg, note);
}

/* LENT or HELD -> nobody's; free at once unless it is busy. */
static void give_up(struct extents *e, struct holder *h, struct piece *p, uint64_t warm) {
    SKATE_ASSERT(p->state == LENT || p->state == HELD);
    mine_remove(h, p);
    p->state = DYING;
    p->proc = 0;
    if (!p->busy) set_free(e, p, warm);
}

static struct piece *lent_at(const struct extents *e, uint64_t offset) {
    struct piece *p = offset < e->span ? e->of[offset / GRANULE_BYTES] : NULL;

    return p && p->state != DYING ? p : NULL;
}

int extents_return(struct extents *e, uint64_t proc, uint64_t offset) {
    struct piece *p = lent_at(e, offset);
    struct holder *h;

    if (!p || p->offset != offset || p->state != LENT || p->proc != proc) return -SKATE_ENOENT;
    h = table_get(&e->holders, proc);
    SKATE_ASSERT(h);
    give_up(e, h, p, proc);
    holder_drop(e, h);
    return 0;
}

uint64_t extents_hold(struct extents *e, uint64_t proc) {
    struct holder *h = table_get(&e->holders, proc);

    if (!h) return 0;
    for (struct piece *p = h->pieces; p; p = p->mine_next) p->state = HELD;
    return h->bytes;
}

void extents_release(struct extents *e, uint64_t proc) {
    struct holder *h = table_get(&e->holders, proc);

    if (!h) return;
    while (h->pieces) give_up(e, h, h->pieces, 0);
    holder_drop(e, h);
}

/* Is one of the sorted numbers in [from, to)? */
static bool any_within(const uint64_t *sorted, uint32_t n, uint64_t from, uint64_t to) {
    uint32_t low = 0, high = n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (sorted[mid] < from)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && sorted[low] < to;
}

void extents_release_unused(struct extents *e, uint64_t proc, const uint64_t *live, uint32_t n) {
    struct holder *h = table_get(&e->holders, proc);

    if (!h) return;
    for (struct piece *p = h->pieces, *next; p; p = next) {
        next = p->mine_next;
        if (p->state == HELD && !any_within(live, n, p->offset, p->offset + p->bytes))
            give_up(e, h, p, 0);
    }
    holder_drop(e, h);
}

/* ---- pages that go and come ---- */

static struct extent_info info_of(struct piece *p) {
    return (struct extent_info){.offset = p->offset, .bytes = p->paid, .proc = p->proc,
                                .out = p->out, .held = p->state == HELD, .busy = p->busy,
                                .note = &p->note};
}

bool extents_find(struct extents *e, uint64_t offset, struct extent_info *ret) {
    struct piece *p = lent_at(e, offset);

    if (p) *ret = info_of(p);
    return p;
}

void extents_each(struct extents *e, uint64_t proc,
                  bool (*each)(void *arg, const struct extent_info *info), void *arg) {
    struct holder *h = table_get(&e->holders, proc);

    for (struct piece *p = h ? h->pieces : NULL; p; p = p->mine_next) {
        struct extent_info info = info_of(p);

        if (!each(arg, &info)) return;
    }
}

void extents_set_busy(struct extents *e, uint64_t offset, bool busy) {
    struct piece *p = e->of[offset / GRANULE_BYTES];

    SKATE_ASSERT(p && p->busy != busy);
    p->busy = busy;
    if (!busy && p->state == DYING) set_free(e, p, 0);
}

void extents_out(struct extents *e, uint64_t offset, uint64_t bytes) {
    struct piece *p = e->of[offset / GRANULE_BYTES];

    SKATE_ASSERT(p && bytes <= p->paid - p->out);
    p->out += bytes;
    e->used -= bytes;
}

bool extents_in(struct extents *e, uint64_t offset, uint64_t bytes) {
    struct piece *p = e->of[offset / GRANULE_BYTES];

    SKATE_ASSERT(p && bytes <= p->out);
    if (!make_room(e, bytes)) return false;
    p->out -= bytes;
    e->used += bytes;
    return true;
}

bool extents_contains(const struct extents *e, uint64_t offset, uint64_t bytes) {
    const struct piece *p = lent_at(e, offset);

    return p && offset - p->offset <= p->paid && bytes <= p->paid - (offset - p->offset);
}

uint64_t extents_budget(const struct extents *e) { return e->budget; }
uint64_t extents_used(const struct extents *e) { return e->used; }
uint64_t extents_warm(const struct extents *e) { return e->warm; }

uint64_t extents_used_by(const struct extents *e, uint64_t proc) {
    const struct holder *h = table_get(&e->holders, proc);

    return h ? h->bytes : 0;
}

bool extents_next_holder(const struct extents *e, uint32_t *at, struct extent_holder *ret) {
    const struct holder *h = table_next(&e->holders, at, NULL);

    if (h)
        *ret = (struct extent_holder){h->proc, h->bytes, h->pieces && h->pieces->state == HELD};
    return h != NULL;
}

bool extents_is_valid(const struct extents *e) {
    uint64_t at = GRANULE_BYTES, used = 0, warm = 0;
    uint32_t warm_count = 0;

    for (const struct piece *p = e->first; p; p = p->next) {
        if (p->offset != at || p->bytes == 0 || p->bytes % GRANULE_BYTES) return false;
        if (p->next && p->next->prev != p) return false;
        if (p->state == FREE) {
            if (is_cold(p) && is_cold(p->next)) return false;
            if (e->of[p->offset / GRANULE_BYTES]) return false;
            warm += p->warm;
            warm_count += p->warm != 0;
        } else {
            if (p->state != DYING && !table_get(&e->holders, p->proc)) return false;
            if (e->of[p->offset / GRANULE_BYTES] != p || p->out > p->paid || p->paid > p->bytes)
                return false;
            used += p->paid - p->out;
        }
        at += p->bytes;
    }
    return at == e->span && used == e->used && warm == e->warm && warm_count == e->warm_count &&
           used + warm <= e->budget;
}
