/* disk_sim.c - the disk of the GCS's log: a place of gcsd/gcs_log_int.h that takes time, fails when
 * it is told to, and has after a crash what was durable and nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gcsd/gcs_log_int.h"
#include "sim_os.h"

struct kept {
    struct kept *next;
    uint32_t table, key_len, len;
    uint8_t sum[ROW_SUM];
    uint8_t data[]; /* key, then the value at a multiple of 8 */
};
static struct kept *disk;
static uint64_t disk_epoch, disk_seq;
static int64_t trouble_until;
static enum { SLOW, FULL } trouble;

struct head { /* who has opened it */
    uint64_t epoch;
};

void sim_disk_trouble(int64_t for_ns) {
    trouble_until = sim_now + for_ns;
    trouble = sim_below(2) ? SLOW : FULL;
    if (for_ns)
        sim_note("the disk is %s for %.3f s", trouble == SLOW ? "slow" : "full",
                 (double)for_ns / 1e9);
}

static int disk_open(const struct gcs_log_opts *opts, void **ret, struct skate_error *err) {
    (void)opts, (void)err;
    *ret = calloc(1, sizeof(struct head));
    return *ret ? 0 : -SKATE_ENOMEM;
}

static int disk_raise(void *self, uint64_t *ret_epoch, struct skate_error *err) {
    struct head *h = self;

    (void)err;
    h->epoch = *ret_epoch = ++disk_epoch;
    sim_note("epoch %llu begins", (unsigned long long)disk_epoch);
    return 0;
}

static size_t value_at(uint32_t key_len) { return (key_len + 7u) & ~(size_t)7; }

static int disk_load(void *self, void (*on_row)(void *arg, const struct log_row *row), void *arg,
                     struct skate_error *err) {
    (void)self, (void)err;
    for (const struct kept *k = disk; k; k = k->next) {
        struct log_row row = {.table = k->table, .key_len = k->key_len, .len = k->len,
                              .key = k->data, .value = k->data + value_at(k->key_len),
                              .sum = k->sum};

        on_row(arg, &row);
    }
    return 0;
}

static void apply(const struct log_row *row) {
    struct kept **at = &disk, *k;

    while (*at && ((*at)->table != row->table || (*at)->key_len != row->key_len ||
                   memcmp((*at)->data, row->key, row->key_len) != 0))
        at = &(*at)->next;
    k = *at;
    if (k) {
        *at = k->next;
        free(k);
    }
    if (!row->value) return;
    k = calloc(1, sizeof *k + value_at(row->key_len) + row->len);
    if (!k) abort();
    k->table = row->table;
    k->key_len = row->key_len;
    k->len = row->len;
    memcpy(k->sum, row->sum, ROW_SUM);
    memcpy(k->data, row->key, row->key_len);
    memcpy(k->data + value_at(row->key_len), row->value, row->len);
    k->next = disk;
    disk = k;
}

/* All of it at one moment: a crash before has nothing of it, one behind has all, told or not. */
static int disk_commit(void *self, const struct log_batch *batch, struct skate_error *err) {
    struct head *h = self;
    bool slow = sim_now < trouble_until && trouble == SLOW;

    sim_sleep(50 * SIM_US + (int64_t)sim_below(slow ? 800 * SIM_MS : SIM_MS));
    sim_write_happens();
    if (h->epoch != disk_epoch)
        return err_fail(err, -SKATE_ESTALE, "another head has this log, epoch %llu",
                        (unsigned long long)disk_epoch);
    if (sim_now < trouble_until && trouble == FULL)
        return err_fail(err, -SKATE_EIO, "no space is left on the disk");
    for (uint32_t i = 0; i < batch->count; i++) apply(&batch->rows[i]);
    disk_seq = batch->seq;
    sim_sleep((int64_t)sim_below(500 * SIM_US));
    return 0;
}

static uint64_t disk_witness(void *self) {
    (void)self;
    return disk_seq;
}

static int disk_renew(void *self, uint64_t epoch, struct skate_error *err) {
    (void)self, (void)epoch;
    sim_fail("the log was thrown away");
    return err_fail(err, -SKATE_EIO, "not here");
}

static void disk_close(void *self) { free(self); }

const struct log_place log_sqlite = {disk_open,    disk_raise, disk_load, disk_commit,
                                     disk_witness, disk_renew, disk_close};
