/* raylet_spill_mutated_test.c - 10,000 damaged spill files: the right bytes or a code, no others.
 * SKATE_MUTATIONS=N: so many; SKATE_MUTATIONS_SEED=N: begin there.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "spill_rig_disk.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MUTATIONS = 1500 };
#else
enum { MUTATIONS = 10000 };
#endif
enum { FILES = 2, RECORDS = 4, FILE_MAX = 512 << 10 };

static const struct extent_span pieces[RECORDS] = {
    {MIB, 4096}, {MIB + 4096, 7000}, {2 * MIB, SPILL_GRANULE + 9000}, {3 * MIB, 4096},
};

static struct rig rig;
static uint64_t random_state;
static struct spill_place places[FILES][RECORDS];
static uint8_t original[FILES][FILE_MAX];
static size_t lengths[FILES];
static uint8_t *right; /* the arena as it was */

/* One that is being damaged. */
static struct victim {
    uint8_t p[FILE_MAX];
    size_t len;
    bool is_gone;
} victim;
static const char *what; /* was done to it */

static uint64_t dice(uint64_t n) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % n;
}

static void path_of(int file, char *out, size_t cap) {
    snprintf(out, cap, "%s/skate-spill-%016llx/%016x.spill", rig.paths[0],
             (unsigned long long)rig.nonce, file + 1);
}

static void store(int file, const uint8_t *p, size_t len) {
    char path[200];
    int fd;

    path_of(file, path, sizeof path);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, len), len);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    close(fd);
}

static int set_up(void **state) {
    (void)state;
    rig_make_in(&rig, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 1);
    rig_start(&rig, 1);
    right = malloc(4 * MIB);
    assert_non_null(right);
    memcpy(right, rig.arena, 4 * MIB);
    for (int f = 0; f < FILES; f++) {
        struct wrote w = rig_write(&rig, pieces, RECORDS);
        char path[200];
        int fd;

        assert_int_equal(w.status, 0);
        memcpy(places[f], w.places, sizeof places[f]);
        path_of(f, path, sizeof path);
        fd = open(path, O_RDONLY);
        lengths[f] = (size_t)read(fd, original[f], FILE_MAX);
        close(fd);
        assert_true(lengths[f] > SPILL_GRANULE && lengths[f] < FILE_MAX);
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(right);
    rig_end(&rig);
    return 0;
}

/* ---- damage ---- */

static uint8_t *head_of(int record) {
    const struct spill_place *p = &places[0][record];

    return victim.p + p->at - spill_head_bytes(p->bytes);
}

static void flip_bits(void) {
    what = "flipped bits";
    for (uint64_t n = 1 + dice(3); n > 0; n--)
        victim.p[dice(victim.len)] ^= (uint8_t)(1u << dice(8));
}

/* Where it matters: the first bytes of a head. */
static void flip_in_head(void) {
    uint8_t *head = dice(4) ? head_of((int)dice(RECORDS)) : victim.p;

    what = "a flipped bit in a head";
    head[dice(80)] ^= (uint8_t)(1u << dice(8));
}

static void cut(void) {
    what = "cut";
    victim.len = dice(2) ? dice(victim.len) : dice(victim.len / 4096) * 4096;
}

static void zero(void) {
    size_t at = dice(victim.len), n = 1 + dice(victim.len - at);

    what = "zeros";
    if (dice(2)) n = n < 5000 ? n : 5000;
    memset(victim.p + at, 0, n);
}

static void garbage(void) {
    size_t at = dice(victim.len), n = 1 + dice(4096);

    what = "garbage";
    for (size_t i = at; i < at + n && i < victim.len; i++) victim.p[i] = (uint8_t)dice(256);
}

static void move_block(void) {
    size_t blocks = victim.len / 4096, a = dice(blocks), b = dice(blocks);
    uint8_t kept[4096];

    what = "swapped blocks";
    memcpy(kept, victim.p + a * 4096, 4096);
    memcpy(victim.p + a * 4096, victim.p + b * 4096, 4096);
    memcpy(victim.p + b * 4096, kept, 4096);
}

/* Head and data: each whole, and in the place of another. */
static void swap_records(void) {
    uint64_t n = 2 * SPILL_BLOCK;
    uint8_t kept[2 * SPILL_BLOCK];

    what = "swapped records";
    memcpy(kept, head_of(0), n);
    memcpy(head_of(0), head_of(3), n);
    memcpy(head_of(3), kept, n);
}

static void swap_file(void) {
    what = "another file";
    memcpy(victim.p, original[1], lengths[1]);
    victim.len = lengths[1];
}

/* By somebody who knows the format: the head's own checksum is right again. */
static void forge(void) {
    int record = (int)dice(RECORDS);
    uint8_t *head = head_of(record), *own = head + 8;
    uint64_t len = spill_head_bytes(places[0][record].bytes), sum;

    what = "a forged head";
    head[16 + dice(64)] ^= (uint8_t)(1u << dice(8));
    sum = spill_sum(head + 16, len - 16);
    memcpy(own, &sum, sizeof sum);
}

static void lose(void) {
    what = "a missing file";
    victim.is_gone = true;
}

static void (*const damages[])(void) = {
    flip_bits, flip_bits, flip_in_head, cut, zero, garbage, move_block, swap_records, swap_file,
    forge, lose,
};

/* ---- what comes of it ---- */

/* Was any byte that matters to this record changed? */
static bool is_touched(int record) {
    const struct spill_place *p = &places[0][record];
    uint64_t from = p->at - spill_head_bytes(p->bytes), to = p->at + p->bytes;

    return victim.is_gone || victim.len < p->at + spill_padded(p->bytes) ||
           memcmp(victim.p + from, original[0] + from, to - from) != 0;
}

static void assert_right_or_none(const struct spill_place *p, int status) {
    const uint8_t *got = rig.arena + p->offset, *want = right + p->offset;

    if (status == 0 && memcmp(got, want, p->bytes) == 0) return;
    for (uint64_t i = 0; i < p->bytes; i++)
        if (got[i] != want[i] && (status == 0 || got[i] != 0))
            fail_msg("%s: a wrong byte at %llu", what, (unsigned long long)(p->offset + i));
}

static void read_all(int *status) {
    for (int i = 0; i < RECORDS; i++) {
        struct spill_read r = {.place = places[0][i], .bytes = places[0][i].bytes,
                               .to_fd = rig.arena_fd, .to = places[0][i].offset,
                               .done = rig_on_read, .arg = &status[i]};

        status[i] = 1;
        assert_int_equal(spill_io_read(rig.io, &r), 0);
    }
    for (int i = 0; i < RECORDS; i++)
        while (status[i] == 1) loop_run_once(rig.loop, 1000);
}

static void check(uint64_t seed, uint64_t counts[2]) {
    int status[RECORDS];

    assert_int_equal(fallocate(rig.arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)MIB, (off_t)(3 * MIB)), 0);
    read_all(status);
    for (int i = 0; i < RECORDS; i++) {
        bool touched = is_touched(i);

        if (touched == (status[i] == 0))
            fail_msg("seed %llu, %s: record %d: %d", (unsigned long long)seed, what, i, status[i]);
        if (status[i] != 0 && status[i] != -SKATE_EPROTO && status[i] != -SKATE_EIO &&
            status[i] != -SKATE_ENOENT)
            fail_msg("seed %llu, %s: code %d", (unsigned long long)seed, what, status[i]);
        assert_right_or_none(&places[0][i], status[i]);
        counts[touched]++;
    }
}

static void test_mutated(void **state) {
    const char *n = getenv("SKATE_MUTATIONS"), *first = getenv("SKATE_MUTATIONS_SEED");
    uint64_t seed = first ? strtoull(first, NULL, 10) : 1;
    uint64_t end = seed + (n ? strtoull(n, NULL, 10) : MUTATIONS), counts[2] = {0};

    (void)state;
    for (; seed < end; seed++) {
        random_state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
        (void)dice(2);
        memcpy(victim.p, original[0], lengths[0]);
        victim.len = lengths[0];
        victim.is_gone = false;
        damages[dice(sizeof damages / sizeof *damages)]();
        if (dice(8) == 0 && victim.len > 0) flip_bits();
        if (victim.is_gone) {
            char path[200];

            path_of(0, path, sizeof path);
            assert_int_equal(unlink(path), 0);
        } else
            store(0, victim.p, victim.len);
        check(seed, counts);
        store(0, original[0], lengths[0]);
    }
    print_message("%llu records came back, %llu were refused\n", (unsigned long long)counts[0],
                  (unsigned long long)counts[1]);
    assert_true(counts[0] > 0 && counts[1] > 0);
    what = "mended"; /* nothing of it is remembered */
    victim = (struct victim){.len = lengths[0]};
    memcpy(victim.p, original[0], lengths[0]);
    check(0, counts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mutated, set_up, tear_down)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
