/* gcsd_hold.c - see gcsd_hold.h. Batches are numbered; a held output knows the one it needs. */
#include "gcsd/gcsd_hold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define HELD_MAX (UINT64_C(512) << 20)
#define LATE_NS INT64_C(1000000000) /* a commit that takes longer: what need not wait goes past */

struct held {
    struct gcs_out out;
    uint64_t need;
    struct held *next;
};

struct hold {
    struct hold_opts opts;
    struct gcs *gcs;
    struct gcs_log *log;
    uint64_t given, durable; /* numbers of batches; at most one is on its way */
    uint64_t newest;         /* the batch that has the latest change, given or to come */
    struct held *first, **last;
    uint64_t bytes;
    int64_t given_ns;        /* when the one on its way was given */
    bool failing, late, ended;
};

/* Give the log what is old, when it has nothing to do. */
static void give_batch(struct hold *h) {
    struct gcs_records batch = {0};

    if (h->given != h->durable || h->ended || !gcs_records_take(h->gcs, &batch)) return;
    h->given++;
    h->given_ns = loop_now_ns(h->opts.log.loop);
    gcs_log_commit(h->log, &batch);
}

/* It has lost what it had: all of the store is one batch, and has what was to come in the next. */
static void give_all(struct hold *h, const char *why) {
    struct gcs_records all = {0};

    (void)fprintf(stderr, "the log is written anew reason=\"%s\"\n", why);
    gcs_records_all(h->gcs);
    (void)gcs_records_take(h->gcs, &all);
    h->given = h->newest;
    gcs_log_commit_all(h->log, &all);
}

static void look_if_late(struct hold *h) {
    h->late = h->given != h->durable &&
              loop_now_ns(h->opts.log.loop) - h->given_ns > LATE_NS;
    gcs_log_is_late(h->gcs, h->late);
}

static void let_go(struct hold *h) {
    while (h->first && h->first->need <= h->durable) {
        struct held *x = h->first;

        h->first = x->next;
        if (!h->first) h->last = &h->first;
        h->bytes -= x->out.used;
        h->opts.deliver(h->opts.arg, &x->out);
        gcs_out_release(&x->out);
        free(x);
    }
}

static void on_done(void *arg, int status, const char *text) {
    struct hold *h = arg;

    if (status == -SKATE_EIO) {
        char why[600];

        (void)snprintf(why, sizeof why, "the head cannot keep changes now: %s", text);
        (void)fprintf(stderr, "the log cannot be written, trying on reason=\"%s\"\n", text);
        h->failing = true;
        gcs_refuse_changes(h->gcs, why);
        return;
    }
    if (status == -SKATE_ENOENT) {
        give_all(h, text);
        return;
    }
    if (status < 0) {
        h->ended = true;
        h->opts.on_end(h->opts.arg, status, text);
        return;
    }
    if (h->failing) (void)fprintf(stderr, "the log can be written again\n");
    h->failing = false;
    gcs_refuse_changes(h->gcs, "");
    h->durable = h->given;
    gcs_records_kept(h->gcs);
    give_batch(h); /* first: the disk works while we send */
    look_if_late(h);
    let_go(h);
}

static void put_back(struct hold *h, struct gcs_out *out, uint64_t need) {
    struct held *x = malloc(sizeof *x);

    SKATE_ASSERT(x);
    *x = (struct held){.out = *out, .need = need};
    *out = (struct gcs_out){0};
    *h->last = x;
    h->last = &x->next;
    h->bytes += x->out.used;
    if (h->bytes > HELD_MAX && !h->ended) {
        h->ended = true;
        h->opts.on_end(h->opts.arg, -SKATE_EFULL, "more than 512 MB wait for the log");
    }
}

void hold_step(struct hold *h, struct gcs_out *out) {
    if (out->changed) {
        h->newest = h->given + (h->given != h->durable);
        if (h->given == h->durable) give_batch(h);
        if (h->newest < h->given) h->newest = h->given;
    }
    look_if_late(h);
    if (out->count == 0 || h->ended) return;
    if (h->newest <= h->durable || ((h->failing || h->late) && !out->changed && !out->acks))
        h->opts.deliver(h->opts.arg, out);
    else
        put_back(h, out, h->newest);
}

uint64_t hold_bytes(const struct hold *h) { return h->bytes; }

int hold_new(const struct hold_opts *opts, const struct gcs_opts *store, struct gcs **ret_gcs,
             struct hold **ret, struct skate_error *err) {
    struct hold *h = calloc(1, sizeof *h);
    struct gcs_opts with = *store;
    int r;

    if (!h) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    h->opts = *opts;
    h->opts.log.on_done = on_done;
    h->opts.log.arg = h;
    h->last = &h->first;
    r = gcs_log_open(&h->opts.log, &h->log, err);
    if (r < 0) {
        free(h);
        return r;
    }
    with.records = true;
    with.epoch = gcs_log_epoch(h->log);
    r = gcs_new(&with, &h->gcs);
    if (r < 0)
        (void)err_fail(err, r, "%s", skate_strerror(r));
    else
        r = gcs_log_load(h->log, h->gcs, loop_now_ns(h->opts.log.loop), err);
    if (r < 0) {
        (void)gcs_free(h->gcs);
        (void)hold_free(h);
        return r;
    }
    give_batch(h); /* what the restore itself has changed */
    h->newest = h->given;
    *ret_gcs = h->gcs;
    *ret = h;
    return 0;
}

struct hold *hold_free(struct hold *h) {
    if (!h) return NULL;
    h->log = gcs_log_free(h->log);
    while (h->first) {
        struct held *x = h->first;

        h->first = x->next;
        gcs_out_release(&x->out);
        free(x);
    }
    free(h);
    return NULL;
}
