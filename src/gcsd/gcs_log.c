/* gcs_log.c - see gcs_log.h: checksums, the sum over all records, and the thread that commits.
 *
 * The sum is an addition of the records' checksums, so that a commit knows the new one from what it
 * puts and removes. Between load and free the ledger and the place belong to the thread. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/map.h"
#include "gcsd/gcs_log_int.h"
#include "wire/wire_gen.h"

enum { RETRY_FIRST_MS = 20, RETRY_MOST_MS = 1000 };

struct sum {
    uint64_t low, high;
};

/* The checksum of each record that the log holds, and what they add up to. */
struct ledger {
    struct map rows; /* hash of table and key -> index in v */
    struct sum *v, total;
    uint32_t used, cap, *free_v, free_count, free_cap;
    uint64_t seq;
};

struct gcs_log {
    struct gcs_log_opts opts;
    const struct log_place *place;
    void *self;
    uint64_t epoch;
    struct ledger ledger;
    int wake_fd; /* thread -> loop */
    struct loop_watch *watch;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* for all below */
    pthread_cond_t told;
    struct gcs_records batch;
    bool has_batch, ending, has_news;
    bool anew; /* the batch is all there is */
    int news;
    char news_text[512];
};

uint64_t log_epoch_least(void) {
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ------------------------------------------------------------------ the ledger */

static struct sum sum_of(uint32_t table, const void *key, uint32_t key_len, const void *value,
                         uint32_t len) {
    uint32_t head[4] = {table, key_len, len, 0};
    XXH3_state_t state;
    XXH128_hash_t h;

    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, head, sizeof head);
    XXH3_128bits_update(&state, key, key_len);
    if (len) XXH3_128bits_update(&state, value, len);
    h = XXH3_128bits_digest(&state);
    return (struct sum){h.low64, h.high64};
}

static struct skate_id row_key(uint32_t table, const void *key, uint32_t key_len) {
    XXH128_hash_t h = XXH3_128bits_withSeed(key, key_len, table);

    return (struct skate_id){.owner = h.low64, .seq = h.high64};
}

static void *grown(void *array, uint32_t *cap, size_t element) {
    uint32_t more = *cap ? *cap * 2 : 64;
    void *p = realloc(array, more * element);

    SKATE_ASSERT(p);
    *cap = more;
    return p;
}

static void ledger_put(struct ledger *l, const struct skate_id *key, struct sum s) {
    uint32_t i = map_get(&l->rows, key);

    if (i == MAP_NONE) {
        if (l->free_count)
            i = l->free_v[--l->free_count];
        else {
            if (l->used == l->cap) l->v = grown(l->v, &l->cap, sizeof *l->v);
            i = l->used++;
        }
        SKATE_ASSERT(map_put(&l->rows, key, i) == 0);
    } else {
        l->total.low -= l->v[i].low;
        l->total.high -= l->v[i].high;
    }
    l->v[i] = s;
    l->total.low += s.low;
    l->total.high += s.high;
}

static void ledger_remove(struct ledger *l, const struct skate_id *key) {
    uint32_t i = map_remove(&l->rows, key);

    if (i == MAP_NONE) return;
    l->total.low -= l->v[i].low;
    l->total.high -= l->v[i].high;
    if (l->free_count == l->free_cap)
        l->free_v = grown(l->free_v, &l->free_cap, sizeof *l->free_v);
    l->free_v[l->free_count++] = i;
}

/* Commits are counted on. */
static void ledger_clear(struct ledger *l) {
    map_release(&l->rows);
    free(l->v);
    free(l->free_v);
    *l = (struct ledger){.seq = l->seq};
}

/* ------------------------------------------------------------------ one commit */

static const char own_key[] = {'l'};

/* What all records together are, as a record that is not counted itself. */
static struct wire_rec_log own_record(struct gcs_log *l) {
    struct wire_rec_log m = {.head = {.size = sizeof m, .kind = WIRE_REC_LOG, .fixed = sizeof m}};

    m.epoch = l->epoch;
    m.seq = ++l->ledger.seq;
    m.count = l->ledger.rows.count;
    m.sum_low = l->ledger.total.low;
    m.sum_high = l->ledger.total.high;
    return m;
}

/* The rows of a batch and the log's own behind them. */
static struct log_row *rows_of(struct gcs_log *l, const struct gcs_records *b, struct sum **sums,
                               struct wire_rec_log *own) {
    struct log_row *rows = calloc(b->count + 1u, sizeof *rows);

    *sums = calloc(b->count + 1u, sizeof **sums);
    SKATE_ASSERT(rows && *sums);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct gcs_record *r = &b->v[i];
        const void *key = b->bytes + r->key_at, *value = r->gone ? NULL : b->bytes + r->at;
        struct skate_id id = row_key(r->table, key, r->key_len);

        rows[i] = (struct log_row){.table = r->table, .key = key, .key_len = r->key_len,
                                   .value = value, .len = r->len,
                                   .sum = (const uint8_t *)&(*sums)[i]};
        if (r->gone) {
            ledger_remove(&l->ledger, &id);
            continue;
        }
        (*sums)[i] = sum_of(r->table, key, r->key_len, value, r->len);
        ledger_put(&l->ledger, &id, (*sums)[i]);
    }
    *own = own_record(l);
    (*sums)[b->count] = sum_of(GCS_META, own_key, sizeof own_key, own, sizeof *own);
    rows[b->count] = (struct log_row){.table = GCS_META, .key = own_key, .value = own,
                                      .key_len = sizeof own_key, .len = sizeof *own,
                                      .sum = (const uint8_t *)&(*sums)[b->count]};
    return rows;
}

/* ------------------------------------------------------------------ the thread */

static void tell(struct gcs_log *l, int news, const char *text) {
    uint64_t one = 1;

    (void)pthread_mutex_lock(&l->lock);
    l->news = news;
    (void)snprintf(l->news_text, sizeof l->news_text, "%s", text);
    l->has_news = true;
    (void)pthread_mutex_unlock(&l->lock);
    if (write(l->wake_fd, &one, sizeof one) < 0) SKATE_ASSERT(errno == EAGAIN);
}

/* false: the log is being freed. */
static bool wait_ms(struct gcs_log *l, uint32_t ms) {
    struct timespec until;
    bool on;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&l->lock);
    while (!l->ending && pthread_cond_timedwait(&l->told, &l->lock, &until) != ETIMEDOUT) {}
    on = !l->ending;
    (void)pthread_mutex_unlock(&l->lock);
    return on;
}

/* Until it is durable, the log is lost to us, or is freed. */
static int commit_at_last(struct gcs_log *l, const struct log_batch *batch) {
    struct skate_error err = {""}, told = {""};
    uint32_t ms = RETRY_FIRST_MS;

    for (;;) {
        int r = l->place->commit(l->self, batch, &err);

        if (r == 0) return 0;
        if (r == -SKATE_ESTALE || r == -SKATE_EPROTO || r == -SKATE_ENOENT) {
            tell(l, r, err.text);
            return r;
        }
        if (strcmp(told.text, err.text) != 0) tell(l, -SKATE_EIO, err.text);
        told = err;
        if (!wait_ms(l, ms)) return -SKATE_ESHUTDOWN;
        ms = ms * 2 < RETRY_MOST_MS ? ms * 2 : RETRY_MOST_MS;
    }
}

static int commit_batch(struct gcs_log *l, struct gcs_records *batch, bool anew) {
    struct wire_rec_log own;
    struct log_row *rows;
    struct log_batch b;
    struct sum *sums;
    int r;

    if (anew) ledger_clear(&l->ledger);
    rows = rows_of(l, batch, &sums, &own);
    b = (struct log_batch){l->epoch, own.seq, rows, batch->count + 1, anew};
    r = commit_at_last(l, &b);

    free(rows);
    free(sums);
    gcs_records_release(batch);
    return r;
}

static void *serve(void *arg) {
    struct gcs_log *l = arg;
    int r = 0;

    while (r == 0 || r == -SKATE_ENOENT) {
        struct gcs_records batch;
        bool anew;

        (void)pthread_mutex_lock(&l->lock);
        while (!l->has_batch && !l->ending) (void)pthread_cond_wait(&l->told, &l->lock);
        if (l->ending) {
            (void)pthread_mutex_unlock(&l->lock);
            break;
        }
        batch = l->batch;
        anew = l->anew;
        l->batch = (struct gcs_records){0};
        l->has_batch = l->anew = false;
        (void)pthread_mutex_unlock(&l->lock);
        r = commit_batch(l, &batch, anew);
        if (r == 0) tell(l, 0, "");
    }
    return NULL;
}

static void on_wake(void *arg, unsigned events) {
    struct gcs_log *l = arg;
    char text[sizeof l->news_text];
    uint64_t unused;
    bool has;
    int news;

    (void)events;
    if (read(l->wake_fd, &unused, sizeof unused) < 0) return;
    (void)pthread_mutex_lock(&l->lock);
    has = l->has_news;
    news = l->news;
    memcpy(text, l->news_text, sizeof text);
    l->has_news = false;
    (void)pthread_mutex_unlock(&l->lock);
    if (has) l->opts.on_done(l->opts.arg, news, text);
}

static void give(struct gcs_log *l, struct gcs_records *batch, bool anew) {
    (void)pthread_mutex_lock(&l->lock);
    SKATE_ASSERT(!l->has_batch);
    l->batch = *batch;
    l->has_batch = true;
    l->anew = anew;
    (void)pthread_cond_signal(&l->told);
    (void)pthread_mutex_unlock(&l->lock);
    *batch = (struct gcs_records){0};
}

void gcs_log_commit(struct gcs_log *l, struct gcs_records *batch) { give(l, batch, false); }

void gcs_log_commit_all(struct gcs_log *l, struct gcs_records *all) { give(l, all, true); }

/* ------------------------------------------------------------------ start and end */

int gcs_log_open(const struct gcs_log_opts *opts, struct gcs_log **ret, struct skate_error *err) {
    struct gcs_log *l = calloc(1, sizeof *l);
    pthread_condattr_t attr;
    int r;

    if (!l) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    l->opts = *opts;
    l->place = opts->path && opts->path[0] ? &log_sqlite : &log_redis;
    (void)pthread_mutex_init(&l->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&l->told, &attr);
    (void)pthread_condattr_destroy(&attr);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0)
        r = err_fail(err, -SKATE_ESYS, "eventfd: %s", strerror(errno));
    else
        r = l->place->open(&l->opts, &l->self, err);
    if (r == 0) r = l->place->raise(l->self, &l->epoch, err);
    if (r < 0) {
        (void)gcs_log_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

uint64_t gcs_log_epoch(const struct gcs_log *l) { return l->epoch; }

struct loading {
    struct gcs_log *log;
    struct gcs *g;
    uint32_t bad;
    bool has_own;
    struct wire_rec_log own;
};

static void on_row(void *arg, const struct log_row *row) {
    struct loading *x = arg;
    struct sum s = sum_of(row->table, row->key, row->key_len, row->value, row->len);
    struct skate_id id = row_key(row->table, row->key, row->key_len);

    if (map_get(&x->log->ledger.rows, &id) != MAP_NONE) return; /* a scan of Redis gives it twice */
    if (memcmp(&s, row->sum, sizeof s) != 0) {
        x->bad++;
    } else if (row->table == GCS_META && row->key_len == 1 && *(const char *)row->key == 'l') {
        uint64_t aligned[sizeof x->own / 8];

        if (row->len != sizeof aligned) {
            x->bad++;
            return;
        }
        memcpy(aligned, row->value, row->len);
        if (wire_check(aligned, row->len) < 0 || wire_head(aligned)->kind != WIRE_REC_LOG) {
            x->bad++;
            return;
        }
        memcpy(&x->own, aligned, sizeof x->own);
        x->has_own = true;
    } else if (gcs_restore_record(x->g, row->table, row->value, row->len) < 0)
        x->bad++;
    else
        ledger_put(&x->log->ledger, &id, s);
}

/* Is every record there that the last commit counted, no other, and that commit the last? */
static bool adds_up(const struct loading *x) {
    const struct ledger *l = &x->log->ledger;

    if (x->log->place->witness(x->log->self) > x->own.seq) return false;
    if (!x->has_own) return l->rows.count == 0;
    return x->own.count == l->rows.count && x->own.sum_low == l->total.low &&
           x->own.sum_high == l->total.high && x->own.epoch <= x->log->epoch;
}

static const char *where(const struct gcs_log *l) {
    return l->place == &log_sqlite ? l->opts.path : l->opts.redis;
}

static int damaged(const struct gcs_log *l, const char *how, struct skate_error *err) {
    return err_fail(err, -SKATE_EPROTO, "the log of the cluster (%s) is damaged: %.200s. Put back "
                    "a copy of it, or start with --recover to go on without what cannot be read",
                    where(l), how);
}

/* What was left is the log from now on; the damaged one is put aside. */
static int write_anew(struct gcs_log *l, struct gcs *g, struct skate_error *err) {
    struct gcs_records all = {0};
    struct wire_rec_log own;
    struct sum *sums;
    struct log_row *rows;
    int r = l->place->renew(l->self, l->epoch, err);

    if (r < 0) return r;
    ledger_clear(&l->ledger);
    gcs_records_all(g);
    (void)gcs_records_take(g, &all);
    rows = rows_of(l, &all, &sums, &own);
    r = l->place->commit(l->self, &(struct log_batch){l->epoch, own.seq, rows, all.count + 1, true},
                         err);
    free(rows);
    free(sums);
    gcs_records_release(&all);
    if (r == 0) gcs_records_kept(g);
    return r;
}

int gcs_log_load(struct gcs_log *l, struct gcs *g, int64_t now_ns, struct skate_error *err) {
    struct loading x = {.log = l, .g = g};
    struct skate_error why = {""};
    uint32_t dropped = 0;
    char text[64];
    bool whole;
    int r = l->place->load(l->self, on_row, &x, &why);

    if (r < 0 && (r != -SKATE_EPROTO || !l->opts.recover))
        return r == -SKATE_EPROTO ? damaged(l, why.text, err) : err_fail(err, r, "%s", why.text);
    whole = r == 0 && x.bad == 0 && adds_up(&x);
    if (!whole && !l->opts.recover) {
        (void)snprintf(text, sizeof text, x.bad ? "altered records: %u"
                       : "the latest records are missing", x.bad);
        return damaged(l, text, err);
    }
    r = gcs_restore_end(g, now_ns, l->opts.recover, &dropped, &why);
    if (r < 0) return damaged(l, why.text, err);
    l->ledger.seq = l->place->witness(l->self);
    if (l->ledger.seq < x.own.seq) l->ledger.seq = x.own.seq;
    if (!whole || dropped) {
        (void)fprintf(stderr, "the log was damaged records=%u altered=%u dropped=%u\n",
                      l->ledger.rows.count, x.bad, dropped);
        r = write_anew(l, g, err);
        if (r < 0) return r;
    }
    r = loop_watch_fd(l->opts.loop, l->wake_fd, LOOP_READ, on_wake, l, &l->watch);
    if (r < 0) return err_fail(err, r, "%s", skate_strerror(r));
    if (pthread_create(&l->thread, NULL, serve, l) != 0)
        return err_fail(err, -SKATE_ESYS, "no thread for the log");
    l->started = true;
    return 0;
}

struct gcs_log *gcs_log_free(struct gcs_log *l) {
    if (!l) return NULL;
    if (l->started) {
        (void)pthread_mutex_lock(&l->lock);
        l->ending = true;
        (void)pthread_cond_signal(&l->told);
        (void)pthread_mutex_unlock(&l->lock);
        (void)pthread_join(l->thread, NULL);
    }
    l->watch = loop_unwatch(l->watch);
    if (l->self) l->place->close(l->self);
    if (l->wake_fd >= 0) (void)close(l->wake_fd);
    gcs_records_release(&l->batch);
    ledger_clear(&l->ledger);
    (void)pthread_cond_destroy(&l->told);
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
    return NULL;
}
