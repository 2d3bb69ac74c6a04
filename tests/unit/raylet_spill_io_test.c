/* raylet_spill_io_test.c - spill files on a disk: there and back, faults of directories and files.
 * links: base loop wire net store sched own gcs raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/atomic.h"
#include "spill_rig_disk.h"

static struct rig rig;

static int set_up(void **state) {
    (void)state;
    rig_make(&rig, 2);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rig_end(&rig);
    return 0;
}

static const struct extent_span mixed[] = {
    {1 * MIB, 4096}, {2 * MIB, 5000}, {4 * MIB, SPILL_GRANULE}, {6 * MIB, 20 * MIB + 12345},
    {30 * MIB, 3 * MIB}, {40 * MIB, 1},
};
enum { MIXED = sizeof mixed / sizeof *mixed };

/* Small and large records in one file; the arena's pages are gone meanwhile. */
static void test_there_and_back(void **state) {
    struct spill_io_stats stats;
    struct wrote w;

    (void)state;
    rig_start(&rig, 2);
    w = rig_write(&rig, mixed, MIXED);
    assert_int_equal(w.status, 0);
    assert_int_equal(w.n, MIXED);
    rig_punch(&rig);
    for (uint32_t i = 0; i < MIXED; i++) {
        assert_int_equal(w.places[i].offset, mixed[i].offset);
        assert_int_equal(w.places[i].bytes, mixed[i].bytes);
        assert_int_equal(rig_restore(&rig, &w.places[i]), 0);
        rig_assert_right(&rig, mixed[i].offset, mixed[i].bytes);
    }
    spill_io_stats(rig.io, &stats);
    assert_int_equal(stats.files, 1);
    assert_int_equal(stats.written, stats.read);
    assert_true(stats.disk_bytes > stats.written);
    assert_int_equal(stats.disk_bytes, rig_disk_bytes(&rig));
    assert_int_equal(stats.write_fails + stats.read_fails + stats.jobs, 0);
}

/* One granule comes alone, and nothing beside it. */
static void test_a_piece(void **state) {
    struct spill_read r = {.from = 3 * SPILL_GRANULE, .bytes = 2 * SPILL_GRANULE};
    struct wrote w;

    (void)state;
    rig_start(&rig, 1);
    w = rig_write(&rig, mixed, MIXED);
    assert_int_equal(w.status, 0);
    rig_punch(&rig);
    r.place = w.places[3];
    assert_int_equal(rig_read(&rig, &r), 0);
    rig_assert_right(&rig, mixed[3].offset + r.from, r.bytes);
    rig_assert_zero(&rig, mixed[3].offset + r.from - 4096, 4096);
    rig_assert_zero(&rig, mixed[3].offset + r.from + r.bytes, 4096);
    r.from = 20 * MIB; /* the last, short one */
    r.bytes = 12345;
    assert_int_equal(rig_read(&rig, &r), 0);
    rig_assert_right(&rig, mixed[3].offset + r.from, r.bytes);
    r.bytes = 12344; /* not to the end */
    assert_int_equal(rig_read(&rig, &r), -SKATE_EINVAL);
    r.from = 4096;
    r.bytes = SPILL_GRANULE;
    assert_int_equal(rig_read(&rig, &r), -SKATE_EINVAL);
    r.from = UINT64_MAX - SPILL_GRANULE + 1;
    assert_int_equal(rig_read(&rig, &r), -SKATE_EINVAL);
    r.from = 0;
    r.place.offset += 4096; /* no such record */
    assert_int_equal(rig_read(&rig, &r), -SKATE_ENOENT);
}

static void test_bad_pieces(void **state) {
    struct extent_span piece = {4096, 0};

    (void)state;
    rig_start(&rig, 1);
    assert_int_equal(spill_io_write(rig.io, &piece, 1, NULL, NULL), -SKATE_EINVAL);
    piece = (struct extent_span){100, 4096};
    assert_int_equal(spill_io_write(rig.io, &piece, 1, NULL, NULL), -SKATE_EINVAL);
    piece = (struct extent_span){4096, SPILL_RECORD_MAX + 1};
    assert_int_equal(spill_io_write(rig.io, &piece, 1, NULL, NULL), -SKATE_EINVAL);
    assert_int_equal(spill_io_write(rig.io, mixed, 0, NULL, NULL), -SKATE_EINVAL);
}

/* Files go to the directories in turn. */
static void test_in_turn(void **state) {
    struct wrote w[4];

    (void)state;
    rig_start(&rig, 2);
    for (int i = 0; i < 4; i++) {
        w[i] = rig_write(&rig, &mixed[i], 1);
        assert_int_equal(w[i].status, 0);
        assert_int_equal(w[i].places[0].file, i + 1);
    }
    assert_int_equal(rig_files(&rig, 0), 2);
    assert_int_equal(rig_files(&rig, 1), 2);
    rig_punch(&rig);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rig_restore(&rig, &w[i].places[0]), 0);
        rig_assert_right(&rig, mixed[i].offset, mixed[i].bytes);
    }
}

/* The room of a dead record is given back, that of the last one with the file. */
static void test_drop(void **state) {
    struct spill_io_stats before, after;
    struct wrote w;

    (void)state;
    rig_start(&rig, 1);
    w = rig_write(&rig, mixed, MIXED);
    assert_int_equal(w.status, 0);
    spill_io_stats(rig.io, &before);
    spill_io_drop(rig.io, &w.places[3]);
    spill_io_drop(rig.io, &w.places[3]); /* twice is once */
    rig_until_disk(&rig, before.disk_bytes - 20 * MIB - 16384 - 4096);
    spill_io_stats(rig.io, &after);
    assert_true(rig_disk_bytes(&rig) <= after.disk_bytes);
    assert_int_equal(rig_restore(&rig, &w.places[3]), -SKATE_ENOENT);
    assert_int_equal(rig_restore(&rig, &w.places[4]), 0); /* the others are there */
    rig_assert_right(&rig, mixed[4].offset, mixed[4].bytes);
    for (uint32_t i = 0; i < MIXED; i++) spill_io_drop(rig.io, &w.places[i]);
    rig_until_files(&rig, 0);
    spill_io_stats(rig.io, &after);
    assert_int_equal(after.disk_bytes, 0);
    assert_int_equal(after.files, 0);
}

/* A record that is dropped while it is read is read to its end. */
static void test_drop_while_read(void **state) {
    struct spill_read r = {.to_fd = rig.arena_fd, .done = rig_on_read};
    struct wrote w;
    int status = 1;

    (void)state;
    rig_start(&rig, 1);
    w = rig_write(&rig, mixed, MIXED);
    rig_punch(&rig);
    r.place = w.places[3];
    r.bytes = r.place.bytes;
    r.to = r.place.offset;
    r.arg = &status;
    assert_int_equal(spill_io_read(rig.io, &r), 0);
    for (uint32_t i = 0; i < MIXED; i++) spill_io_drop(rig.io, &w.places[i]);
    while (status == 1) loop_run_once(rig.loop, 1000);
    assert_int_equal(status, 0);
    rig_assert_right(&rig, mixed[3].offset, mixed[3].bytes);
    rig_until_files(&rig, 0);
}

/* Many at once, until no more are taken; all of them end. */
static void test_many(void **state) {
    static struct wrote w[SPILL_JOBS_MAX + 1];
    int n = 0, e;

    (void)state;
    rig_start(&rig, 2);
    while ((e = spill_io_write(rig.io, &mixed[0], 1, rig_on_wrote, rig_expect(&w[n]))) == 0)
        assert_true(++n <= SPILL_JOBS_MAX);
    assert_int_equal(e, -SKATE_EAGAIN);
    assert_int_equal(n, SPILL_JOBS_MAX);
    for (int i = 0; i < n; i++) {
        while (w[i].status == 1) loop_run_once(rig.loop, 1000);
        assert_int_equal(w[i].status, 0);
    }
    rig_punch(&rig);
    assert_int_equal(rig_restore(&rig, &w[n - 1].places[0]), 0);
    rig_assert_right(&rig, mixed[0].offset, mixed[0].bytes);
}

/* A directory that cannot be written is passed over; it is used when it can be again. */
static void test_unusable_directory(void **state) {
    struct wrote w;

    (void)state;
    rig_block(&rig, 0); /* a file lies where the directory should be: root, too, cannot */
    rig_start(&rig, 2);
    assert_int_equal(rig.usable, 1);
    assert_non_null(strstr(rig.text, rig.paths[0]));
    for (int i = 0; i < 3; i++) assert_int_equal(rig_write(&rig, mixed, MIXED).status, 0);
    assert_int_equal(rig_files(&rig, 1), 3);
    rig_end_io(&rig);

    rig_start(&rig, 1);
    assert_int_equal(rig.usable, 0);
    w = rig_write(&rig, mixed, MIXED);
    assert_int_equal(w.status, -SKATE_EIO);
    assert_non_null(strstr(w.why, rig.paths[0]));
    assert_non_null(strstr(w.why, "Not a directory"));
    rig_unblock(&rig, 0);
    while ((w = rig_write(&rig, mixed, MIXED)).status) /* it rests for a second */
        loop_run_once(rig.loop, 20);
    assert_int_equal(rig_files(&rig, 0), 1);
}

/* No room: said before anything is written, nothing stays; later there is room again. */
static void test_full(void **state) {
    struct spill_io_stats stats;
    struct wrote w;

    (void)state;
    if (!rig_make_small(&rig, 0, 8 * MIB)) rig_limit_files(&rig, 8 * MIB);
    rig_start(&rig, 1);
    w = rig_write(&rig, &mixed[3], 1);
    assert_int_equal(w.status, -SKATE_EFULL);
    assert_non_null(strstr(w.why, rig.paths[0]));
    spill_io_stats(rig.io, &stats);
    assert_int_equal(stats.files, 0);
    assert_int_equal(stats.write_fails, 1);
    assert_int_equal(rig_files(&rig, 0), 0);
    w = rig_write(&rig, &mixed[4], 1); /* a smaller one fits */
    assert_int_equal(w.status, 0);
    rig_limit_files(&rig, 0);
    rig_punch(&rig);
    assert_int_equal(rig_restore(&rig, &w.places[0]), 0);
    rig_assert_right(&rig, mixed[4].offset, mixed[4].bytes);
}

/* The file or its folder was removed behind our back. */
static void test_removed(void **state) {
    struct wrote w;

    (void)state;
    rig_start(&rig, 1);
    w = rig_write(&rig, mixed, MIXED);
    rig_run(&rig, "rm %s/skate-spill-*/*.spill", rig.paths[0]);
    assert_int_equal(rig_restore(&rig, &w.places[3]), -SKATE_ENOENT);
    rig_run(&rig, "rm -r %s", rig.paths[0]);
    assert_int_equal(rig_restore(&rig, &w.places[2]), -SKATE_ENOENT);
    w = rig_write(&rig, mixed, MIXED); /* it is made again */
    assert_int_equal(w.status, 0);
    rig_punch(&rig);
    assert_int_equal(rig_restore(&rig, &w.places[3]), 0);
    rig_assert_right(&rig, mixed[3].offset, mixed[3].bytes);
}

/* A file with another one's number, of the same session. */
static void test_wrong_file(void **state) {
    struct wrote a, b;

    (void)state;
    rig_start(&rig, 1);
    a = rig_write(&rig, mixed, MIXED);
    b = rig_write(&rig, mixed, MIXED);
    rig_run(&rig, "cd %s/skate-spill-* && cp 0000000000000001.spill 0000000000000002.spill",
            rig.paths[0]);
    rig_punch(&rig);
    for (uint32_t i = 0; i < MIXED; i++) {
        assert_int_equal(rig_restore(&rig, &b.places[i]), -SKATE_EPROTO);
        rig_assert_zero(&rig, mixed[i].offset, mixed[i].bytes > 4096 ? 4096 : mixed[i].bytes);
    }
    assert_int_equal(rig_restore(&rig, &a.places[3]), 0);
}

/* Folders of the dead go, of the living stay, whatever else lies there too. */
static void test_folders(void **state) {
    (void)state;
    rig_run(&rig, "mkdir -p %s/skate-spill-dead && cd %s/skate-spill-dead && touch owner a.spill",
            rig.paths[0], rig.paths[0]);
    rig_run(&rig, "mkdir -p %s/skate-spill-other %s/mine && touch %s/skate-spill-other/precious",
            rig.paths[0], rig.paths[0], rig.paths[0]);
    rig_start(&rig, 1);
    assert_int_equal(rig_write(&rig, mixed, MIXED).status, 0);
    rig_start_second(&rig); /* another session in the same directory */
    assert_int_equal(rig_files(&rig, 0), 1);
    assert_int_equal(rig_exists(&rig, "skate-spill-dead"), false);
    assert_int_equal(rig_exists(&rig, "skate-spill-other/precious"), true);
    assert_int_equal(rig_exists(&rig, "mine"), true);
    rig_end_io(&rig);
    assert_int_equal(rig_files(&rig, 0), 0);
    assert_int_equal(rig_folders(&rig, 0), 1); /* skate-spill-other */
}

static void test_stop_at_work(void **state) {
    struct wrote w;

    (void)state;
    rig_start(&rig, 2);
    for (int i = 0; i < 20; i++)
        assert_int_equal(spill_io_write(rig.io, mixed, MIXED, rig_on_wrote, rig_expect(&w)), 0);
    rig_end_io(&rig);
    assert_int_equal(w.status, 1); /* nobody was told */
    assert_int_equal(rig_folders(&rig, 0), 0);
}

/* ---- a target in memory, which takes files as a whole ---- */

static struct whole {
    struct spill_target t;
    uint8_t *p;
    size_t len;
    int gate[2]; /* nothing ever comes: what reads there is stuck */
    bool shut;
    uint32_t removed, freed, entered, punched;
} whole;

static int whole_write(struct spill_target *t, uint64_t file, const struct iovec *pieces, int n,
                       struct skate_error *err) {
    (void)t;
    if (file == 2) return err_fail(err, -SKATE_EIO, "file 2 is not to be");
    for (int i = 0; i < n; i++) {
        assert_int_equal(pieces[i].iov_len % SPILL_BLOCK, 0);
        memcpy(whole.p + whole.len, pieces[i].iov_base, pieces[i].iov_len);
        whole.len += pieces[i].iov_len;
    }
    return 0;
}

static int whole_read(struct spill_target *t, uint64_t file, uint64_t at, void *to, uint64_t bytes,
                      struct skate_error *err) {
    char c;

    (void)t;
    (void)file;
    at_add_seq(&whole.entered, 1);
    if (whole.shut && read(whole.gate[0], &c, 1) != 1) return -SKATE_EIO;
    if (at + bytes > whole.len) return err_fail(err, -SKATE_EIO, "cut short");
    memcpy(to, whole.p + at, bytes);
    return 0;
}

static int whole_remove(struct spill_target *t, uint64_t file) {
    (void)t;
    (void)file;
    return at_add_seq(&whole.removed, 1), 0;
}

static void whole_punch(struct spill_target *t, uint64_t file, uint64_t at, uint64_t bytes) {
    (void)t;
    (void)file;
    memset(whole.p + at, 0, bytes);
    at_add_seq(&whole.punched, 1);
}

static void whole_free(struct spill_target *t) {
    (void)t;
    whole.freed++;
}

static void start_whole(void) {
    struct spill_io_start s = {.loop = rig.loop, .arena = rig.arena, .nonce = 5};

    whole = (struct whole){.t = {.write = whole_write, .read = whole_read, .remove = whole_remove,
                                 .punch = whole_punch, .free = whole_free}};
    whole.p = malloc(RIG_ARENA);
    assert_non_null(whole.p);
    assert_int_equal(pipe(whole.gate), 0);
    s.target = &whole.t;
    assert_int_equal(spill_io_start(&s, &rig.io, NULL), 0);
}

static void end_whole(void) {
    free(whole.p);
    close(whole.gate[0]);
    close(whole.gate[1]);
}

static void test_whole_files(void **state) {
    struct wrote a, b;

    (void)state;
    start_whole();
    a = rig_write(&rig, mixed, MIXED);
    assert_int_equal(a.status, 0);
    b = rig_write(&rig, mixed, MIXED);
    assert_int_equal(b.status, -SKATE_EIO);
    assert_string_equal(b.why, "file 2 is not to be");
    assert_int_equal(whole.removed, 1);
    rig_punch(&rig);
    for (uint32_t i = 0; i < MIXED; i++) {
        assert_int_equal(rig_restore(&rig, &a.places[i]), 0);
        rig_assert_right(&rig, mixed[i].offset, mixed[i].bytes);
    }
    spill_io_drop(rig.io, &a.places[1]);
    while (!at_load_seq(&whole.punched)) loop_run_once(rig.loop, 10);
    assert_int_equal(whole.p[a.places[1].at], 0);
    assert_int_equal(rig_restore(&rig, &a.places[2]), 0);
    rig_assert_right(&rig, mixed[2].offset, mixed[2].bytes);
    rig_end_io(&rig);
    assert_int_equal(whole.freed, 1);
    end_whole();
}

static struct spill_io *stuck; /* still its thread's */

/* A disk that answers no more does not keep us from ending. */
static void test_stop_stuck(void **state) {
    struct spill_read r = {.to_fd = rig.arena_fd, .done = rig_on_read};
    struct spill_io_stats stats;
    struct wrote w;
    int status = 1;

    (void)state;
    start_whole();
    w = rig_write(&rig, mixed, 1);
    assert_int_equal(w.status, 0);
    whole.shut = true;
    r.place = w.places[0];
    r.bytes = r.place.bytes;
    r.to = r.place.offset;
    r.arg = &status;
    assert_int_equal(spill_io_read(rig.io, &r), 0);
    while (!at_load_seq(&whole.entered)) loop_run_once(rig.loop, 10);
    stuck = rig.io;
    rig_end_io(&rig);
    assert_int_equal(status, 1);
    assert_int_equal(whole.freed, 0);
    spill_io_stats(stuck, &stats);
    assert_int_equal(stats.jobs, 1);
}

int main(void) {
#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        ONE(test_there_and_back), ONE(test_a_piece), ONE(test_bad_pieces), ONE(test_in_turn),
        ONE(test_drop), ONE(test_drop_while_read), ONE(test_many),
        ONE(test_unusable_directory), ONE(test_full), ONE(test_removed), ONE(test_wrong_file),
        ONE(test_folders), ONE(test_stop_at_work), ONE(test_whole_files),
        ONE(test_stop_stuck), /* the last one: it leaves a thread behind */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
