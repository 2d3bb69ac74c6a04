/* fuzz_records.c - a control store built from the records of its log, as hostile input left it
 * (fuzz_gcs.c) and then as a damaged disk or another hand changed them: fields, whole values of any
 * kind, lost and doubled ones. It refuses with a reason or serves; with `drop`, it serves. Records
 * that were not changed are always accepted. */
#define fuzz_one fuzz_one_gcs
#include "fuzz_gcs.c"
#undef fuzz_one

static bool changed;

/* One record as it may be found; NULL: it is lost. */
static uint8_t *as_found(struct fuzz_in *in, const uint8_t *value, uint32_t len, uint32_t *ret) {
    struct wire_buf b;
    uint8_t *copy;

    *ret = len;
    switch (fuzz_below(in, 16)) {
    case 0:
        changed = true;
        return NULL;
    case 1:
    case 2: /* another value of its kind */
        wire_init(&b, NULL, 0);
        fuzz_frame(in, wire_head(value)->kind, 1, &b);
        copy = malloc(b.len + 8);
        if (copy) memcpy(copy, b.p, b.len);
        *ret = b.len;
        wire_release(&b);
        changed = true;
        return copy;
    default: break;
    }
    copy = malloc(len + 8);
    if (!copy) return NULL;
    memcpy(copy, value, len);
    for (uint32_t n = fuzz_below(in, 8) < 3 ? 1 + fuzz_below(in, 3) : 0; n > 0; n--) {
        uint32_t at = len > 24 ? 16 + (uint32_t)fuzz_bytes(in, 2) % (len - 16) : 16;
        uint64_t word = fuzz_word(in);
        uint32_t bytes = 1u << fuzz_below(in, 4);

        if (at % bytes) at -= at % bytes;
        if (at + bytes <= len) memcpy(copy + at, &word, bytes);
        changed = true;
    }
    return copy;
}

static struct gcs *rebuild(struct gcs_records *r, const struct gcs_opts *opts, struct fuzz_in *in) {
    struct skate_error err = {""};
    bool drop = fuzz_below(in, 2);
    uint32_t dropped = 0;
    struct gcs *n;
    int e = 0;

    if (gcs_new(opts, &n) < 0) abort();
    changed = false;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct gcs_record *c = &r->v[i];
        uint32_t times = fuzz_below(in, 32) == 1 ? 2 : 1, len;

        if (c->gone) continue;
        changed = changed || times == 2;
        while (times-- > 0) {
            uint8_t *value = as_found(in, r->bytes + c->at, c->len, &len);
            uint32_t table = fuzz_below(in, 64) == 1 ? fuzz_below(in, 12) : c->table;

            changed = changed || table != c->table;
            if (value && gcs_restore_record(n, table, value, len) < 0 && !drop) e = -1;
            free(value);
        }
    }
    if (e == 0) e = gcs_restore_end(n, now, drop, &dropped, &err);
    if (e < 0 && !changed) abort();
    if (!changed && dropped) abort();
    if (e == 0) return n;
    (void)gcs_free(n);
    return NULL;
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct gcs_opts opts = {.actors_max = 8, .dead_max = 3, .subs_max = 12, .kv_bytes = 2000,
                            .spec_bytes = 100000, .jobs_max = 6, .nodes_max = 12, .records = true,
                            .away_ms = len % 2 ? 3000 : 0};
    const uint64_t pool[] = {1, 2, 3, proc_make(1, 1), proc_make(1, 2), proc_make(2, 1),
                             proc_make(3, 1), 10000, 1, proc_make(1, 1)};
    struct fuzz_in in = {.p = data, .left = len, .pool = pool, .pool_count = 10};
    struct gcs_records r = {0};
    struct gcs *n;

    if (gcs_new(&opts, &store) < 0) abort();
    start_over();
    for (uint32_t i = 0; i < 3; i++) join(i, i + 1, 0);
    links[3] = 99;
    start_job(proc_make(1, 1));
    while (in.left > len / 2) one_event(&in);
    gcs_records_all(store);
    (void)gcs_records_take(store, &r);
    n = rebuild(&r, &opts, &in);
    gcs_records_release(&r);
    if (n) {
        store = gcs_free(store);
        store = n;
        for (uint32_t i = 0; i < 3; i++) join(i, i + 1, 0);
        while (in.left) one_event(&in);
        memset(&r, 0, sizeof r);
        gcs_records_all(store);
        (void)gcs_records_take(store, &r);
        gcs_records_release(&r);
    }
    store = gcs_free(store);
    gcs_out_release(&out);
    return 0;
}
