/* extents.c - see extents.h.
 *
 * A piece is a heap node in a doubly linked list by address that covers the arena without gaps;
 * a map finds lent pieces by offset. Free pieces lie in 52 bins by power of two, newest first.
 * Looking for room: (1) a warm piece of the same process in the bins of the right size; (2) the
 * smallest that fits of the first bin that can hold one; (3) join all neighbours, again (2). */
#include "store/extents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/table.h"

enum { BINS = 52, LOOK_MAX = 32, WARM_MAX = 4096, TEXT_ROWS = 6 };
enum piece_state { FREE, LENT, HELD };

struct piece {
    uint64_t offset, bytes, proc; /* proc: borrower; for FREE who used it last, 0 nobody */
    enum piece_state state;
    struct piece *prev, *next;           /* by address */
    struct piece *bin_prev, *bin_next;   /* FREE: in its bin */
    struct piece *mine_prev, *mine_next; /* LENT, HELD: of one process */
};

/* What one process has. */
struct holder {
    uint64_t proc, bytes;
    struct piece *pieces;
};

struct extents {
    uint64_t bytes, used;
    struct piece *first;
    struct piece *bins[BINS];
    uint32_t free_count;
    struct table lent;    /* offset -> piece, LENT and HELD */
    struct table holders; /* proc -> holder */
};

static uint32_t bin_of(uint64_t bytes) {
    return 63u - (uint32_t)__builtin_clzll(bytes / EXTENT_PAGE);
}

static void bin_add(struct extents *e, struct piece *p) {
    struct piece **bin = &e->bins[bin_of(p->bytes)];

    p->bin_prev = NULL;
    p->bin_next = *bin;
    if (*bin) (*bin)->bin_prev = p;
    *bin = p;
    e->free_count++;
}

static void bin_remove(struct extents *e, struct piece *p) {
    if (p->bin_prev)
        p->bin_prev->bin_next = p->bin_next;
    else
        e->bins[bin_of(p->bytes)] = p->bin_next;
    if (p->bin_next) p->bin_next->bin_prev = p->bin_prev;
    p->bin_prev = p->bin_next = NULL;
    e->free_count--;
}

struct extents *extents_new(uint64_t bytes) {
    struct extents *e = calloc(1, sizeof *e);
    struct piece *p = calloc(1, sizeof *p);

    bytes -= bytes % EXTENT_PAGE;
    if (!e || !p || bytes <= EXTENT_PAGE) {
        free(e);
        free(p);
        return NULL;
    }
    e->bytes = bytes;
    p->offset = EXTENT_PAGE;
    p->bytes = bytes - EXTENT_PAGE;
    e->first = p;
    bin_add(e, p);
    return e;
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
    table_release(&e->lent);
    table_release(&e->holders);
    free(e);
    return NULL;
}

/* Take `b`, the right neighbour of `a`, into it. Neither is in a bin. */
static void join(struct piece *a, struct piece *b) {
    SKATE_ASSERT(a->next == b && a->offset + a->bytes == b->offset);
    a->bytes += b->bytes;
    a->next = b->next;
    if (b->next) b->next->prev = a;
    free(b);
}

static void join_all(struct extents *e) {
    for (struct piece *p = e->first; p; p = p->next) {
        if (p->state != FREE) continue;
        if (!p->next || p->next->state != FREE) continue;
        bin_remove(e, p);
        while (p->next && p->next->state == FREE) {
            bin_remove(e, p->next);
            join(p, p->next);
        }
        p->proc = 0;
        bin_add(e, p);
    }
}

static struct piece *find_warm(const struct extents *e, uint64_t proc, uint64_t bytes) {
    uint32_t bin = bin_of(bytes);

    for (uint32_t b = bin; b <= bin + 1 && b < BINS; b++) {
        uint32_t looked = 0;

        for (struct piece *p = e->bins[b]; p && looked < LOOK_MAX; p = p->bin_next, looked++)
            if (p->proc == proc && p->bytes >= bytes) return p;
    }
    return NULL;
}

static struct piece *find_fit(const struct extents *e, uint64_t bytes) {
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
                      (double)bytes / 1e6, (double)e->used / 1e6, (double)e->bytes / 1e6, text);
}

static void mine_add(struct holder *h, struct piece *p) {
    p->mine_prev = NULL;
    p->mine_next = h->pieces;
    if (h->pieces) h->pieces->mine_prev = p;
    h->pieces = p;
    h->bytes += p->bytes;
}

static void mine_remove(struct holder *h, struct piece *p) {
    if (p->mine_prev)
        p->mine_prev->mine_next = p->mine_next;
    else
        h->pieces = p->mine_next;
    if (p->mine_next) p->mine_next->mine_prev = p->mine_prev;
    p->mine_prev = p->mine_next = NULL;
    h->bytes -= p->bytes;
}

int extents_lend(struct extents *e, uint64_t proc, uint64_t bytes, struct extent_span *ret,
                 struct skate_error *err) {
    struct piece *p, *rest;
    struct holder *h;

    if (bytes == 0) return err_fail(err, -SKATE_EINVAL, "an extent of no bytes was asked");
    if (bytes > e->bytes - EXTENT_PAGE)
        return err_fail(err, -SKATE_ETOOBIG,
                          "%.1f MB asked, but the whole object store has %.1f MB",
                          (double)bytes / 1e6, (double)e->bytes / 1e6);
    bytes = (bytes + EXTENT_PAGE - 1) / EXTENT_PAGE * EXTENT_PAGE;
    p = find_warm(e, proc, bytes);
    if (!p) p = find_fit(e, bytes);
    if (!p) {
        join_all(e);
        p = find_fit(e, bytes);
    }
    if (!p) return tell_full(e, bytes, err);
    h = holder_of(e, proc);
    rest = p->bytes > bytes ? calloc(1, sizeof *rest) : NULL;
    if (!h || (p->bytes > bytes && !rest) || table_set(&e->lent, p->offset, p) < 0) {
        free(rest);
        if (h) holder_drop(e, h);
        return err_fail(err, -SKATE_ENOMEM, "out of memory for the extent table");
    }
    bin_remove(e, p);
    if (rest) {
        *rest = (struct piece){.offset = p->offset + bytes, .bytes = p->bytes - bytes,
                               .proc = p->proc, .prev = p, .next = p->next};
        if (p->next) p->next->prev = rest;
        p->next = rest;
        p->bytes = bytes;
        bin_add(e, rest);
    }
    p->state = LENT;
    p->proc = proc;
    mine_add(h, p);
    e->used += bytes;
    *ret = (struct extent_span){p->offset, p->bytes};
    return 0;
}

/* LENT or HELD -> FREE; `warm` is who may get it back first (0: nobody). */
static void set_free(struct extents *e, struct holder *h, struct piece *p, uint64_t warm) {
    bool join_any = e->free_count > WARM_MAX;

    SKATE_ASSERT(p->state != FREE);
    table_take(&e->lent, p->offset);
    mine_remove(h, p);
    e->used -= p->bytes;
    p->state = FREE;
    p->proc = warm;
    if (p->next && p->next->state == FREE && (join_any || p->next->proc == warm)) {
        bin_remove(e, p->next);
        join(p, p->next);
    }
    if (p->prev && p->prev->state == FREE && (join_any || p->prev->proc == warm)) {
        struct piece *left = p->prev;

        bin_remove(e, left);
        join(left, p);
        p = left;
    }
    bin_add(e, p);
}

int extents_return(struct extents *e, uint64_t proc, uint64_t offset) {
    struct piece *p = table_get(&e->lent, offset);
    struct holder *h;

    if (!p || p->state != LENT || p->proc != proc) return -SKATE_ENOENT;
    h = table_get(&e->holders, proc);
    SKATE_ASSERT(h);
    set_free(e, h, p, proc);
    holder_drop(e, h);
    return 0;
}

uint64_t extents_hold(struct extents *e, uint64_t proc) {
    struct holder *h = table_get(&e->holders, proc);

    if (!h) return 0;
    for (struct piece *p = h->pieces; p; p = p->mine_next) p->state = HELD;
    return h->bytes;
}

void extents_release(struct extents *e, uint64_t proc,
                     void (*on_free)(void *arg, struct extent_span span), void *arg) {
    struct holder *h = table_get(&e->holders, proc);

    if (!h) return;
    while (h->pieces) {
        struct piece *p = h->pieces;

        SKATE_ASSERT(p->state == HELD);
        if (on_free) on_free(arg, (struct extent_span){p->offset, p->bytes});
        set_free(e, h, p, 0);
    }
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

void extents_release_unused(struct extents *e, uint64_t proc, const uint64_t *live, uint32_t n,
                            void (*on_free)(void *arg, struct extent_span span), void *arg) {
    struct holder *h = table_get(&e->holders, proc);

    if (!h) return;
    for (struct piece *p = h->pieces, *next; p; p = next) {
        next = p->mine_next;
        if (p->state != HELD || any_within(live, n, p->offset, p->offset + p->bytes)) continue;
        if (on_free) on_free(arg, (struct extent_span){p->offset, p->bytes});
        set_free(e, h, p, 0);
    }
    holder_drop(e, h);
}

bool extents_contains(const struct extents *e, uint64_t offset, uint64_t bytes) {
    const struct piece *p;

    if (offset >= e->bytes || bytes > e->bytes - offset) return false;
    p = table_get(&e->lent, offset);
    if (!p) /* inside a piece, not at its start: rare (a pull of a small object) */
        for (p = e->first; p && p->offset + p->bytes <= offset;) p = p->next;
    return p && p->state != FREE && bytes <= p->offset + p->bytes - offset;
}

uint64_t extents_used(const struct extents *e) { return e->used; }

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
    uint64_t at = EXTENT_PAGE, used = 0;
    uint32_t free_pieces = 0;

    for (const struct piece *p = e->first; p; p = p->next) {
        if (p->offset != at || p->bytes == 0 || p->bytes % EXTENT_PAGE) return false;
        if (p->next && p->next->prev != p) return false;
        if (p->state == FREE)
            free_pieces++;
        else {
            const struct holder *h = table_get(&e->holders, p->proc);

            if (table_get(&e->lent, p->offset) != p || !h) return false;
            used += p->bytes;
        }
        at += p->bytes;
    }
    return at == e->bytes && used == e->used && free_pieces == e->free_count &&
           e->lent.count <= e->used / EXTENT_PAGE;
}
