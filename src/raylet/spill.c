/* spill.c - see spill.h.
 *
 * A piece of the arena that has ever been written out has a record (its note in extents.h):
 * WRITING, then KEPT until the piece is free. Of a KEPT one any granule may be HERE or OUT. The
 * records with pages stand in a list in the order in which they came, which is the order in which
 * they leave. What was never written is dirty: only that has to be asked for and written. */
#include "raylet/spill.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/futex.h"
#include "raylet/pulls.h"
#include "raylet/spill_io.h"
#include "raylet/spill_int.h"
#include "raylet/spill_open.h"

enum { BATCH_PIECES = 256, READ_FAILS = 3, ROUND_MS = 500, PAUSE_MS = 20, BACKOFF_MS = 2000 };
#define FILE_BYTES (UINT64_C(64) << 20)
#define SHARE_LEAST (UINT64_C(1) << 20)

struct batch {
    struct raylet *r;
    int64_t began_ns;
    uint32_t n;
    struct record *v[BATCH_PIECES];
};

/* A read of granules [first, end) of a record. */
struct fetch {
    struct raylet *r;
    struct record *rec;
    uint64_t first, end, bytes;
    int64_t began_ns;
    bool ahead;
};

/* ---- records with pages, the longest here first ---- */

static void list_add(struct spill *s, struct record *rec) {
    if (rec->listed) return;
    rec->listed = true;
    rec->newer = NULL;
    rec->older = s->newest;
    if (s->newest)
        s->newest->newer = rec;
    else
        s->oldest = rec;
    s->newest = rec;
}

static void list_remove(struct spill *s, struct record *rec) {
    if (!rec->listed) return;
    if (rec->newer)
        rec->newer->older = rec->older;
    else
        s->newest = rec->older;
    if (rec->older)
        rec->older->newer = rec->newer;
    else
        s->oldest = rec->newer;
    rec->listed = false;
}

void spill_mark(struct raylet *r, uint64_t first, uint64_t end, enum residency as) {
    for (uint64_t g = first; g < end; g++) at_store(&r->residency[g], (uint8_t)as);
}

static void punch(struct raylet *r, uint64_t offset, uint64_t bytes) {
    (void)fallocate(r->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                    (off_t)bytes);
}

/* Bytes of the record that lie in granules [first, end). */
uint64_t spill_within(const struct record *rec, uint64_t first, uint64_t end) {
    uint64_t from = first * GRANULE_BYTES, to = end * GRANULE_BYTES;

    if (from < rec->offset) from = rec->offset;
    if (to > rec->offset + rec->bytes) to = rec->offset + rec->bytes;
    return to - from;
}

void spill_gone(void *arg, void *note) {
    struct raylet *r = arg;
    struct spill *s = r->spill;
    struct record *rec = note;

    if (rec->state == FILED) return spill_outside_gone(r, rec);
    SKATE_ASSERT(rec->state == KEPT && !rec->reading);
    list_remove(s, rec);
    spill_ahead_drop(s, rec);
    spill_ahead_leave(s, rec);
    s->here -= rec->bytes - rec->out;
    r->counts.spilled -= rec->out;
    spill_mark(r, granule_first(rec->offset), granule_end(rec->offset, rec->bytes), RES_HERE);
    spill_io_drop(s->io, &rec->place);
    free(rec);
}

/* ---- leaving ---- */

static void collect_pins(struct raylet *r) {
    struct spill *s = r->spill;
    struct proc *p;
    uint32_t at = 0;

    s->pin_count = 0;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (p->pins && s->pin_count < RAYLET_PROCS_MAX) s->pins[s->pin_count++] = p->pins;
}

static bool pinned(const struct spill *s, uint64_t g) {
    for (uint32_t i = 0; i < s->pin_count; i++)
        if (at_load(&s->pins[i][g])) return true;
    return false;
}

/* Its pages are gone. */
static uint64_t has_left(struct raylet *r, struct record *rec, uint64_t freed) {
    extents_out(r->extents, rec->offset, freed);
    rec->out += freed;
    r->spill->here -= freed;
    r->counts.spilled += freed;
    return freed;
}

/* The pages of what is here of a record, and not pinned by anybody, go. Returns their bytes. */
static uint64_t leave(struct raylet *r, struct record *rec) {
    uint64_t first = granule_first(rec->offset), end = granule_end(rec->offset, rec->bytes);
    struct spill *s = r->spill;
    uint64_t run = end, freed = 0;

    if (rec->ahead) { /* nobody was told that it is here */
        spill_ahead_drop(s, rec);
        punch(r, rec->offset, rec->bytes);
        return has_left(r, rec, rec->bytes);
    }
    for (uint64_t g = first; g < end; g++)
        if (r->residency[g] == RES_HERE) at_store(&r->residency[g], RES_LEAVING);
    at_fence_seq();
    for (uint64_t g = first; g <= end; g++) {
        bool goes = g < end && r->residency[g] == RES_LEAVING && !pinned(s, g);

        if (goes) {
            at_store(&r->residency[g], RES_OUT);
            if (run == end) run = g;
            continue;
        }
        if (g < end && r->residency[g] == RES_LEAVING) at_store(&r->residency[g], RES_HERE);
        if (run == end) continue;
        punch(r, run * GRANULE_BYTES, spill_within(rec, run, g));
        freed += spill_within(rec, run, g);
        run = end;
    }
    return freed ? has_left(r, rec, freed) : 0;
}

uint64_t spill_evict(struct raylet *r, uint64_t bytes) {
    struct spill *s = r->spill;
    struct record *last = s ? s->newest : NULL;
    uint64_t freed = 0;

    if (!last) return 0;
    collect_pins(r);
    for (bool more = true; more && freed < bytes && s->oldest;) {
        struct record *rec = s->oldest;

        more = rec != last;
        if (!rec->reading) freed += leave(r, rec);
        list_remove(s, rec);
        if (rec->out < rec->bytes) list_add(s, rec); /* pinned: its turn comes again */
    }
    return freed;
}

int spill_lend(struct raylet *r, uint64_t proc, uint64_t bytes, struct extent_span *ret,
               struct skate_error *err) {
    int e = extents_lend(r->extents, proc, bytes, ret, err);
    struct spill *s = r->spill;
    uint64_t dirty, limit, more;

    if (e == -SKATE_EFULL && pulls_evict(r, bytes))
        e = extents_lend(r->extents, proc, bytes, ret, err);
    if (e == -SKATE_EFULL && spill_evict(r, bytes) > 0)
        e = extents_lend(r->extents, proc, bytes, ret, err);
    if (e < 0 || !s) return e;
    dirty = extents_used(r->extents) - s->here;
    limit = (uint64_t)((double)extents_budget(r->extents) * r->set.spill_threshold);
    more = limit / 8; /* few large files, and the next is asked for early */
    if (dirty > limit && dirty + more > limit + s->writing) spill_need(r, dirty + more - limit);
    return 0;
}

/* ---- writing ---- */

static void complain(struct raylet *r, const char *why) {
    struct spill *s = r->spill;
    int64_t now = time_now_ns();

    snprintf(s->trouble, sizeof s->trouble, "%s", why);
    r->counts.failures++;
    s->backoff_ms = s->backoff_ms ? s->backoff_ms * 2 : 50;
    if (s->backoff_ms > BACKOFF_MS) s->backoff_ms = BACKOFF_MS;
    s->pause_ns = now + (int64_t)s->backoff_ms * 1000000;
    if (s->said_ns && now - s->said_ns < INT64_C(1000000000)) return;
    s->said_ns = now;
    node_log("objects cannot be written out of memory, will try again: %s", why);
}

/* What could not be written is its process's as before. */
static void tell_back(struct raylet *r, uint64_t proc, uint64_t offset) {
    struct proc *p = proc_find(r, proc);
    uint64_t room[8];
    struct wire_buf b;

    if (!p) return;
    wire_init(&b, room, sizeof room);
    (void)wire_begin(&b, WIRE_SPILL_BACK);
    WIRE_PUT(&b, spill_back, offsets, &offset, sizeof offset);
    if (wire_end(&b) == 0) proc_send(p, b.p, b.len);
    wire_release(&b);
}

static void settle(struct raylet *r, struct record *rec, const struct spill_place *place) {
    struct spill *s = r->spill;
    uint64_t offset = rec->offset;
    struct extent_info info;

    s->writing -= rec->bytes;
    if (place) {
        rec->place = *place;
        rec->state = KEPT;
        s->here += rec->bytes;
        list_add(s, rec);
        extents_set_busy(r->extents, offset, false); /* may be the end of rec */
        return;
    }
    *rec->slot = NULL;
    spill_ahead_leave(s, rec);
    free(rec);
    extents_set_busy(r->extents, offset, false);
    if (extents_find(r->extents, offset, &info)) tell_back(r, info.proc, offset);
}

static void on_wrote(void *arg, int status, const struct spill_place *places, uint32_t n,
                     const char *why) {
    struct batch *b = arg;
    struct raylet *r = b->r;
    bool ok = status == 0 && n == b->n;

    if (ok) {
        r->spill->trouble[0] = 0;
        r->spill->backoff_ms = 0;
        r->counts.spill_ns += (uint64_t)(time_now_ns() - b->began_ns);
        r->counts.spills += n;
    } else
        complain(r, why);
    for (uint32_t i = 0; i < b->n; i++) {
        if (ok) r->counts.spilled_bytes += b->v[i]->bytes;
        settle(r, b->v[i], ok ? &places[i] : NULL);
    }
    free(b);
    spill_retry(r);
}

static void flush(struct raylet *r, struct batch **at) {
    struct extent_span spans[BATCH_PIECES];
    struct batch *b = *at;
    int e;

    *at = NULL;
    if (!b) return;
    for (uint32_t i = 0; i < b->n; i++)
        spans[i] = (struct extent_span){b->v[i]->offset, b->v[i]->bytes};
    b->began_ns = time_now_ns();
    e = b->n ? spill_io_write(r->spill->io, spans, b->n, on_wrote, b) : -SKATE_EINVAL;
    if (e == 0) return;
    for (uint32_t i = 0; i < b->n; i++) settle(r, b->v[i], NULL);
    free(b);
}

/* One more piece to be written. */
static void add(struct raylet *r, struct batch **at, const struct extent_info *info) {
    struct spill *s = r->spill;
    struct record *rec;

    if (info->busy || *info->note || info->out) return;
    rec = calloc(1, sizeof *rec);
    if (!*at) *at = calloc(1, sizeof **at);
    if (!rec || !*at) return free(rec);
    (*at)->r = r;
    *rec = (struct record){.offset = info->offset, .bytes = info->bytes, .slot = info->note};
    *info->note = rec;
    spill_ahead_enter(s, rec);
    extents_set_busy(r->extents, info->offset, true);
    s->writing += rec->bytes;
    s->wanted -= rec->bytes < s->wanted ? rec->bytes : s->wanted;
    (*at)->v[(*at)->n++] = rec;
}

static bool is_large(const struct batch *b) {
    uint64_t bytes = 0, most;

    if (!b) return false;
    most = b->r->set.spill_file_bytes ? b->r->set.spill_file_bytes : FILE_BYTES;
    for (uint32_t i = 0; i < b->n; i++) bytes += b->v[i]->bytes;
    return b->n == BATCH_PIECES || bytes >= most;
}

struct choice {
    struct raylet *r;
    struct batch *batch;
};

static bool choose(void *arg, const struct extent_info *info) {
    struct choice *c = arg;
    struct raylet *r = c->r;

    if (info->held || pulls_is_ready(r, info->offset) || keeps_is_done(r, info->offset))
        add(r, &c->batch, info);
    if (is_large(c->batch)) flush(r, &c->batch);
    return r->spill->wanted > 0;
}

/* What the dead left, and copies of what other nodes have: ours to choose. */
static void choose_own(struct raylet *r) {
    struct choice c = {.r = r};
    struct extent_holder h;
    uint32_t at = 0;

    while (r->spill->wanted && extents_next_holder(r->extents, &at, &h))
        if (h.held || h.proc == r->self || h.proc == keeps_holder(r))
            extents_each(r->extents, h.proc, choose, &c);
    flush(r, &c.batch);
}

static void ask(struct raylet *r) {
    struct spill *s = r->spill;
    uint64_t all = extents_used(r->extents) + r->counts.spilled, want = s->wanted;
    struct proc *p;
    uint32_t at = 0;

    s->round++;
    s->asked = 0;
    s->round_ns = time_now_ns();
    while ((p = table_next(&r->procs, &at, NULL))) {
        struct wire_spill_ask m = {.head = {.size = sizeof m, .kind = WIRE_SPILL_ASK,
                                            .fixed = sizeof m}, .round = s->round};
        uint64_t has = extents_used_by(r->extents, p->id);

        if (p->state != PROC_LIVE || has == 0) continue;
        m.bytes = (uint64_t)((double)want * (double)has / (double)(all ? all : 1)) + SHARE_LEAST;
        p->spill_round = s->round;
        s->asked++;
        proc_send(p, &m, sizeof m);
    }
}

static void round_over(struct raylet *r, bool in_vain) {
    struct spill *s = r->spill;

    if (in_vain) s->pause_ns = time_now_ns() + PAUSE_MS * INT64_C(1000000);
    spill_retry(r);
}

static void answered(struct raylet *r, struct proc *p) {
    struct spill *s = r->spill;

    if (p->spill_round != s->round || s->asked == 0) return;
    p->spill_round = 0;
    if (--s->asked == 0) round_over(r, s->writing == 0);
}

void spill_on_offer(struct raylet *r, struct proc *p, const struct wire_spill_offer *m) {
    struct batch *b = NULL;
    uint32_t n;
    const uint64_t *offsets = wire_spill_offer_offsets(m, &n);
    struct extent_info info;

    if (!r->spill || !r->spill->io) return;
    for (uint32_t i = 0; i < n; i++) {
        if (!extents_find(r->extents, offsets[i], &info) || info.offset != offsets[i] ||
            info.proc != p->id)
            continue;
        add(r, &b, &info);
        if (is_large(b)) flush(r, &b);
    }
    flush(r, &b);
    if (m->round == r->spill->round) answered(r, p);
}

void spill_proc_died(struct raylet *r, const struct proc *p) {
    struct spill *s = r->spill;

    if (!s || p->spill_round != s->round || s->asked == 0) return;
    if (--s->asked == 0) round_over(r, false);
}

bool spill_is_busy(const struct raylet *r) {
    return r->spill && (r->spill->writing || r->spill->asked);
}

void spill_need(struct raylet *r, uint64_t bytes) {
    struct spill *s = r->spill;
    int64_t now = time_now_ns();

    if (!s || !s->io || s->writing >= bytes || now < s->pause_ns) return;
    if (s->asked && now - s->round_ns < ROUND_MS * INT64_C(1000000)) return;
    if (bytes < r->set.spill_min_bytes) bytes = r->set.spill_min_bytes;
    s->wanted = bytes - s->writing;
    choose_own(r);
    if (s->wanted) ask(r);
}

bool spill_pressure(struct raylet *r, uint64_t bytes) {
    uint64_t warm = extents_cool(r->extents, bytes), gone;
    bool copies = pulls_evict(r, bytes);

    gone = warm < bytes ? spill_evict(r, bytes - warm) : 0;
    if (warm + gone < bytes) spill_need(r, bytes);
    return warm || copies || gone || spill_is_busy(r);
}

/* ---- coming back ---- */

static void on_read(void *arg, int status, const char *why) {
    struct fetch *f = arg;
    struct raylet *r = f->r;
    struct record *rec = f->rec;
    bool lost = status == -SKATE_EPROTO || status == -SKATE_ENOENT ||
                (status == -SKATE_EIO && ++rec->fails >= READ_FAILS);

    rec->reading = false;
    if (status == 0) {
        rec->out -= f->bytes;
        rec->fails = 0;
        r->spill->here += f->bytes;
        r->counts.spilled -= f->bytes;
        r->counts.restores++;
        r->counts.restored_bytes += f->bytes;
        r->counts.restore_ns += (uint64_t)(time_now_ns() - f->began_ns);
        at_fence_seq(); /* the bytes, then the word that they are there */
        rec->ahead = f->ahead;
        if (!f->ahead) spill_mark(r, f->first, f->end, RES_HERE);
        list_remove(r->spill, rec);
        list_add(r->spill, rec);
    } else {
        if (f->ahead) r->spill->ahead -= f->bytes;
        punch(r, f->first * GRANULE_BYTES, spill_within(rec, f->first, f->end));
        extents_out(r->extents, rec->offset, f->bytes);
        r->counts.failures++;
        if (lost) {
            spill_mark(r, f->first, f->end, RES_LOST);
            r->counts.lost += f->bytes;
        }
        node_log("%" PRIu64 " bytes cannot be read back%s: %s", f->bytes,
                 lost ? " and are lost" : ", will try again", why);
    }
    free(f);
    extents_set_busy(r->extents, rec->offset, false); /* may be the end of rec */
    spill_retry(r);
}

int spill_bring(struct raylet *r, struct record *rec, uint64_t first, uint64_t end, bool ahead) {
    uint64_t bytes = spill_within(rec, first, end);
    struct fetch *f;
    int e;

    if (rec->reading) return -SKATE_EAGAIN;
    if (!extents_in(r->extents, rec->offset, bytes)) {
        if (!ahead) (void)pulls_evict(r, bytes);
        (void)spill_evict(r, bytes);
        if (!extents_in(r->extents, rec->offset, bytes)) return -SKATE_EFULL;
    }
    f = malloc(sizeof *f);
    if (f) {
        struct spill_read read = {.place = rec->place, .from = first * GRANULE_BYTES - rec->offset,
                                  .bytes = bytes, .to_fd = r->arena_fd,
                                  .to = first * GRANULE_BYTES, .done = on_read, .arg = f};

        *f = (struct fetch){r, rec, first, end, bytes, time_now_ns(), ahead};
        e = spill_io_read(r->spill->io, &read);
        if (e == 0) {
            rec->reading = true;
            if (ahead) r->spill->ahead += bytes;
            extents_set_busy(r->extents, rec->offset, true);
            return -SKATE_EAGAIN;
        }
        free(f);
    }
    extents_out(r->extents, rec->offset, bytes);
    return -SKATE_EAGAIN; /* too much at once, or no memory: again */
}

int spill_fetch(struct raylet *r, uint64_t offset, uint64_t bytes, struct skate_error *err) {
    uint64_t first, end, from;
    struct extent_info info;
    struct record *rec;
    int e;

    if (!r->residency) return 0;
    if (bytes == 0 || !extents_contains(r->extents, offset, bytes) ||
        !extents_find(r->extents, offset, &info))
        return err_fail(err, -SKATE_ELOST, "nothing lies there");
    first = granule_first(offset);
    end = granule_end(offset, bytes);
    for (from = end; end > first; end--) { /* from the back: [from, end) is the last run outside */
        uint8_t is = r->residency[end - 1];

        if (is == RES_LOST)
            return err_fail(err, -SKATE_ELOST, "the file that it was written to cannot be read");
        if (is == RES_OUT) break;
    }
    if (end == first) return 0;
    rec = *info.note;
    SKATE_ASSERT(rec);
    if (rec->state == FILED) return 0; /* mapped here over the arena */
    if (info.busy) return -SKATE_EAGAIN; /* being read, maybe into a file for one reader */
    if (rec->ahead) {
        at_fence_seq(); /* as in on_read() */
        spill_mark(r, granule_first(rec->offset), granule_end(rec->offset, rec->bytes), RES_HERE);
        spill_ahead_drop(r->spill, rec);
        spill_ahead_asked(r, rec);
        return 0;
    }
    for (from = end - 1; from > first && r->residency[from - 1] == RES_OUT;) from--;
    e = spill_bring(r, rec, from, end, false);
    if (rec->reading) spill_ahead_asked(r, rec);
    if (e != -SKATE_EFULL) return -SKATE_EAGAIN;
    return err_fail(err, -SKATE_EFULL, "the object store has no room to bring %.1f MB back",
                    (double)spill_within(rec, from, end) / 1e6);
}

void spill_why_full(const struct raylet *r, char *out, size_t cap) {
    const struct spill *s = r->spill;

    if (!s || !s->io)
        snprintf(out, cap, "spilling is switched off");
    else if (s->trouble[0])
        snprintf(out, cap, "nothing can be spilled: %s", s->trouble);
    else if (s->writing)
        snprintf(out, cap, "%.1f MB are still being written out, to %s", (double)s->writing / 1e6,
                 r->set.spill_remote ? "a URI" : r->set.spill);
    else
        snprintf(out, cap, "all of it is in use: arguments of running tasks, and views (arrays, "
                 "buffers) that programs keep");
}

void spill_refused(struct raylet *r, struct skate_error *err) {
    size_t at = strlen(err->text);
    char why[400];

    r->counts.refused++;
    spill_why_full(r, why, sizeof why);
    snprintf(err->text + at, sizeof err->text - at, "; it waited %.1f s, but %s",
             r->set.store_wait_s, why);
}

uint64_t spill_disk_bytes(const struct raylet *r) {
    struct spill_io_stats stats = {0};

    if (r->spill && r->spill->io) spill_io_stats(r->spill->io, &stats);
    return stats.disk_bytes;
}

/* ---- start and end ---- */

int spill_start(struct raylet *r, struct skate_error *err) {
    struct spill_io_start start = {.loop = r->loop, .arena = r->arena};
    int e = 0;

    r->spill = calloc(1, sizeof *r->spill);
    if (!r->spill) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    loop_task_init(&r->spill->ahead_task, spill_ahead_run, r);
    e = spill_wait_start(r);
    if (e < 0) return err_fail(err, e, "out of memory");
    if (!r->set.spill) return 0;
    if (getrandom(&start.nonce, sizeof start.nonce, 0) != (ssize_t)sizeof start.nonce)
        return err_fail(err, -SKATE_ESYS, "no random numbers");
    e = spill_open(r, start.nonce, &start.target, err);
    if (e == 0) e = spill_io_start(&start, &r->spill->io, err);
    return e;
}

void spill_stop(struct raylet *r) {
    spill_wait_stop(r);
    if (!r->spill) return;
    loop_unpost(r->loop, &r->spill->ahead_task);
    r->spill->io = spill_io_stop(r->spill->io);
}
