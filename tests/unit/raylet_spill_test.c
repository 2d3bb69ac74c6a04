/* raylet_spill_test.c - what leaves memory, waits and comes back, in a raylet without a network.
 * links: base loop wire net store sched own gcs gcsd raylet. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "own/ledger.h"
#include "raylet/pulls.h"
#include "raylet/raylet.h"
#include "raylet/spill.h"
#include "raylet/spill_int.h"

#define MIB (UINT64_C(1) << 20)
#define BUDGET (8 * MIB)
#define SPAN (64 * MIB)

static struct raylet *ray, *rays[32]; /* one a test; a raylet's state ends with its process */
static uint32_t ray_count;
static char top[64], folder[80];
static int ends[4];
static uint32_t *pins[4];

static void punch(void *arg, struct extent_span span) {
    (void)arg;
    assert_int_equal(fallocate(ray->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)span.offset, (off_t)span.bytes), 0);
}

static void turn(void) { loop_run_once(ray->loop, 50); }

static int set_up(void **state) {
    struct extents_env env = {.punch = punch, .gone = spill_gone};
    struct skate_error err;
    uint64_t all = SPAN + residency_bytes(SPAN);

    (void)state;
    ray = env.arg = rays[ray_count++] = calloc(1, sizeof *ray);
    snprintf(top, sizeof top, "/tmp/raylet-spill-XXXXXX");
    assert_non_null(mkdtemp(top));
    snprintf(folder, sizeof folder, "%s/files", top);
    assert_int_equal(loop_new(&ray->loop), 0);
    ray->node = 1;
    ray->self = proc_make(1, 0);
    ray->next_number = 1;
    ray->set.arena_bytes = BUDGET;
    ray->set.spill = strdup(folder);
    ray->set.spill_threshold = 0.8;
    ray->set.store_wait_s = 30;
    snprintf(ray->set.run_dir, sizeof ray->set.run_dir, "%s", top);
    ray->span = SPAN;
    ray->arena_fd = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(ftruncate(ray->arena_fd, (off_t)all), 0);
    ray->arena = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED, ray->arena_fd, 0);
    assert_true(ray->arena != MAP_FAILED);
    ray->residency = ray->arena + SPAN;
    ray->extents = extents_new(SPAN, BUDGET, &env);
    assert_non_null(ray->extents);
    assert_int_equal(pulls_start(ray), 0);
    if (spill_start(ray, &err) < 0) fail_msg("%s", err.text);
    return 0;
}

static int clear(const char *path, const struct stat *s, int kind, struct FTW *at) {
    (void)s, (void)kind, (void)at;
    return remove(path);
}

static int tear_down(void **state) {
    struct proc *p;
    uint32_t at = 0;

    (void)state;
    spill_stop(ray);
    while ((p = table_next(&ray->procs, &at, NULL))) {
        proc_free(p);
        at = 0;
    }
    for (int i = 0; i < 4; i++) {
        if (ends[i]) close(ends[i]);
        ends[i] = 0;
        pins[i] = NULL;
    }
    return nftw(top, clear, 16, FTW_DEPTH | FTW_PHYS);
}

/* A process whose end of the socket we hold, and whose pins we set. */
static struct proc *process(int i) {
    struct proc *p = proc_new(ray, PROC_DRIVER, 0);
    int pair[2];
    void *map;

    assert_non_null(p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(proc_attach(p, pair[0]), 0);
    ends[i] = pair[1];
    proc_welcome(p);
    map = mmap(NULL, LEDGER_BYTES + pins_bytes(SPAN), PROT_READ | PROT_WRITE, MAP_SHARED,
               p->ledger_fd, 0);
    assert_true(map != MAP_FAILED);
    pins[i] = (uint32_t *)(void *)((uint8_t *)map + LEDGER_BYTES);
    return p;
}

/* Read frames until one of this kind comes; false: none within so many turns. */
static bool told(int i, uint16_t kind, void *ret, size_t cap, int turns) {
    static uint64_t in[1 << 14];
    static size_t len[4];
    static uint8_t kept[4][1 << 16];

    for (int k = 0; k < turns; k++) {
        ssize_t n = recv(ends[i], kept[i] + len[i], sizeof kept[i] - len[i], MSG_DONTWAIT);

        if (n > 0) len[i] += (size_t)n;
        while (len[i] >= sizeof(struct wire_head)) {
            struct wire_head head;

            memcpy(&head, kept[i], sizeof head);
            if (head.size > len[i]) break;
            memcpy(in, kept[i], head.size);
            len[i] -= head.size;
            memmove(kept[i], kept[i] + head.size, len[i]);
            if (head.kind != kind) continue;
            memcpy(ret, in, head.size < cap ? head.size : cap);
            return true;
        }
        turn();
    }
    return false;
}

static uint64_t word(uint64_t at) { return at * UINT64_C(0x9e3779b97f4a7c15) ^ at >> 7; }

/* An extent of `p`, full of words that say where they are. */
static uint64_t lent(uint64_t proc, uint64_t bytes) {
    struct extent_span span;
    struct skate_error err;

    if (spill_lend(ray, proc, bytes, &span, &err) < 0) fail_msg("%s", err.text);
    for (uint64_t at = span.offset; at < span.offset + bytes; at += 8)
        *(uint64_t *)(void *)(ray->arena + at) = word(at);
    return span.offset;
}

static void assert_right(uint64_t offset, uint64_t bytes) {
    for (uint64_t at = offset; at < offset + bytes; at += 8)
        if (*(uint64_t *)(void *)(ray->arena + at) != word(at))
            fail_msg("a wrong byte at %llu", (unsigned long long)at);
}

static void offer(struct proc *p, uint64_t offset) {
    uint64_t room[8];
    struct wire_buf b;

    wire_init(&b, room, sizeof room);
    (void)wire_begin(&b, WIRE_SPILL_OFFER);
    WIRE_PUT(&b, spill_offer, offsets, &offset, sizeof offset);
    assert_int_equal(wire_end(&b), 0);
    inbox_frame(ray, p->id, (void *)b.p);
    wire_release(&b);
}

static void written(void) {
    for (int i = 0; i < 400 && ray->spill->writing; i++) turn();
    assert_int_equal(ray->spill->writing, 0);
}

/* Its bytes are in a file, and no more in memory. */
static void out(struct proc *p, uint64_t offset, uint64_t bytes) {
    offer(p, offset);
    written();
    assert_int_equal(spill_evict(ray, bytes), bytes);
    assert_int_equal(ray->residency[granule_first(offset)], RES_OUT);
}

static void fetched(uint64_t offset, uint64_t bytes) {
    struct skate_error err;
    int e = -SKATE_EAGAIN;

    for (int i = 0; i < 400 && (e = spill_fetch(ray, offset, bytes, &err)) == -SKATE_EAGAIN; i++)
        turn();
    assert_int_equal(e, 0);
}

static void ask_restore(struct proc *p, uint64_t offset, uint64_t bytes) {
    struct wire_restore m = {.head = {.size = sizeof m, .kind = WIRE_RESTORE, .fixed = sizeof m},
                             .offset = offset, .bytes = bytes};

    inbox_frame(ray, p->id, &m.head);
}

static void ask_room(struct proc *p, uint32_t call, uint64_t bytes) {
    struct wire_room m = {.head = {.size = sizeof m, .kind = WIRE_ROOM, .fixed = sizeof m,
                                   .call = call}, .bytes = bytes};

    inbox_frame(ray, p->id, &m.head);
}

static void test_out_and_back(void **state) {
    struct proc *p = process(0);
    uint64_t at = lent(p->id, 3 * MIB), spills;

    (void)state;
    out(p, at, 3 * MIB);
    assert_int_equal(extents_used(ray->extents), 0);
    assert_int_equal(*(uint64_t *)(void *)(ray->arena + at), 0); /* its pages are gone */
    fetched(at + MIB, 4096);
    assert_right(at + MIB, GRANULE_BYTES);
    assert_int_equal(extents_used(ray->extents), GRANULE_BYTES);
    fetched(at, 3 * MIB);
    assert_right(at, 3 * MIB);
    spills = ray->counts.spills;
    assert_int_equal(spill_evict(ray, 3 * MIB), 3 * MIB); /* again, and nothing is written */
    assert_int_equal(ray->counts.spills, spills);
    assert_int_equal(extents_return(ray->extents, p->id, at), 0);
    assert_int_equal(ray->residency[granule_first(at)], RES_HERE);
    assert_int_equal(ray->counts.spilled, 0);
    assert_true(extents_is_valid(ray->extents));
}

static void test_what_is_pinned_stays(void **state) {
    struct proc *p = process(0), *reader = process(1);
    uint64_t at = lent(p->id, 2 * MIB), g = granule_first(at) + 3;

    (void)state;
    (void)reader;
    offer(p, at);
    written();
    pins[1][g] = 1;
    assert_int_equal(spill_evict(ray, 2 * MIB), 2 * MIB - GRANULE_BYTES);
    assert_int_equal(ray->residency[g], RES_HERE);
    assert_right(g * GRANULE_BYTES, GRANULE_BYTES);
    assert_int_equal(spill_evict(ray, 2 * MIB), 0);
    pins[1][g] = 0;
    assert_int_equal(spill_evict(ray, 2 * MIB), GRANULE_BYTES);
}

/* One reader gets its bytes in a file; another asks for the same in memory meanwhile. */
static void test_a_file_and_memory_at_once(void **state) {
    struct proc *p = process(0);
    uint64_t at = lent(p->id, 4 * MIB), other;
    struct wire_restore m = {.head = {.size = sizeof m, .kind = WIRE_RESTORE, .fixed = sizeof m},
                             .offset = at, .bytes = GRANULE_BYTES};
    struct wire_restored answer;
    struct skate_error err;

    (void)state;
    out(p, at, 4 * MIB);
    other = lent(p->id, 8 * MIB);
    assert_int_equal(spill_fetch(ray, at, MIB, &err), -SKATE_EFULL);
    assert_true(spill_own_copy(ray, p, &m));
    assert_int_equal(extents_return(ray->extents, p->id, other), 0);
    assert_int_equal(spill_fetch(ray, at + MIB, MIB, &err), -SKATE_EAGAIN);
    assert_false(spill_own_copy(ray, p, &m));
    fetched(at + MIB, MIB);
    assert_right(at + MIB, MIB);
    assert_true(told(0, WIRE_RESTORED, &answer, sizeof answer, 100));
    assert_int_equal(answer.status, 0);
    assert_int_equal(answer.file_bytes, GRANULE_BYTES);
    assert_int_equal(answer.at, at);
    fetched(at, 4 * MIB);
    assert_right(at, 4 * MIB);
}

static void test_freed_while_busy(void **state) {
    struct proc *p = process(0);
    uint64_t at = lent(p->id, 2 * MIB);
    struct wire_restore m = {.head = {.size = sizeof m, .kind = WIRE_RESTORE, .fixed = sizeof m},
                             .offset = at, .bytes = MIB};
    struct extent_info info;
    struct skate_error err;

    (void)state;
    offer(p, at);
    assert_int_equal(extents_return(ray->extents, p->id, at), 0);
    assert_false(extents_find(ray->extents, at, &info));
    written();
    assert_int_equal(extents_used(ray->extents), 0);
    for (int i = 0; i < 2; i++) { /* read back, into memory and into a file */
        at = m.offset = lent(p->id, 2 * MIB);
        out(p, at, 2 * MIB);
        if (i == 0)
            assert_int_equal(spill_fetch(ray, at, MIB, &err), -SKATE_EAGAIN);
        else
            assert_true(spill_own_copy(ray, p, &m));
        (void)extents_hold(ray->extents, p->id); /* it dies, and nobody looks at it */
        extents_release(ray->extents, p->id);
        assert_int_equal(spill_fetch(ray, at, MIB, &err), -SKATE_ELOST);
        for (int k = 0; k < 400 && spill_disk_bytes(ray); k++) turn();
        assert_int_equal(spill_disk_bytes(ray), 0);
        assert_int_equal(extents_used(ray->extents), 0);
        assert_int_equal(ray->residency[granule_first(at)], RES_HERE);
        assert_true(extents_is_valid(ray->extents));
    }
}

/* All files under `path` lose their content. */
static void wreck(const char *path) {
    DIR *d = opendir(path);
    struct dirent *e;
    char name[512];
    struct stat s;

    assert_non_null(d);
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%.200s/%.200s", path, e->d_name);
        assert_int_equal(lstat(name, &s), 0);
        if (S_ISDIR(s.st_mode))
            wreck(name);
        else if (s.st_size > (off_t)MIB)
            assert_int_equal(truncate(name, 0) + truncate(name, s.st_size), 0);
    }
    closedir(d);
}

static void test_what_cannot_be_read_is_lost(void **state) {
    struct proc *p = process(0);
    uint64_t at = lent(p->id, 2 * MIB);
    struct wire_restored answer;

    (void)state;
    out(p, at, 2 * MIB);
    wreck(folder);
    ask_restore(p, at, GRANULE_BYTES);
    assert_true(told(0, WIRE_RESTORED, &answer, sizeof answer, 400));
    assert_int_equal(answer.status, -SKATE_ELOST);
    assert_int_equal(ray->residency[granule_first(at)], RES_LOST);
    assert_int_equal(*(uint64_t *)(void *)(ray->arena + at), 0);
    assert_int_equal(extents_return(ray->extents, p->id, at), 0);
    assert_int_equal(ray->residency[granule_first(at)], RES_HERE);
    ask_restore(p, at, GRANULE_BYTES); /* nothing lies there any more */
    assert_true(told(0, WIRE_RESTORED, &answer, sizeof answer, 10));
    assert_int_equal(answer.status, -SKATE_ELOST);
}

static void test_room_is_waited_for(void **state) {
    struct proc *p = process(0), *q = process(1);
    uint64_t a = lent(p->id, 5 * MIB), b = lent(p->id, 3 * MIB);
    struct wire_room_made made;

    (void)state;
    ask_room(q, 7, 4 * MIB);
    ask_room(q, 8, MIB);
    assert_false(told(1, WIRE_ROOM_MADE, &made, sizeof made, 3));
    assert_int_equal(extents_return(ray->extents, p->id, b), 0);
    spill_retry(ray);
    assert_false(told(1, WIRE_ROOM_MADE, &made, sizeof made, 3)); /* 3 MB: the first goes first */
    assert_int_equal(extents_return(ray->extents, p->id, a), 0);
    spill_retry(ray);
    assert_true(told(1, WIRE_ROOM_MADE, &made, sizeof made, 40));
    assert_int_equal(made.head.call, 7);
    assert_int_equal(made.bytes, 4 * MIB);
    assert_true(told(1, WIRE_ROOM_MADE, &made, sizeof made, 40));
    assert_int_equal(made.head.call, 8);
    a = lent(p->id, 3 * MIB);
    ray->set.store_wait_s = 0; /* once more, and then no */
    ask_room(q, 9, 4 * MIB);
    assert_true(told(1, WIRE_ROOM_MADE, &made, sizeof made, 40));
    assert_int_equal(made.head.call, 9);
    assert_int_equal(made.status, -SKATE_EFULL);
    assert_int_equal(ray->counts.waiting, 0);
    ray->set.store_wait_s = 30;
    ask_room(q, 10, 4 * MIB);
    ask_restore(q, a, 8);
    proc_free(q); /* what a dead process waits for is forgotten */
    for (int i = 0; i < 400 && ray->counts.waiting; i++) turn();
    assert_int_equal(ray->counts.waiting, 0);
}

/* With nothing to wait for, what must be read comes in a file at once. */
static void test_no_patience(void **state) {
    struct proc *p = process(0);
    uint64_t at = lent(p->id, 2 * MIB);
    struct wire_restored answer;

    (void)state;
    out(p, at, 2 * MIB);
    (void)lent(p->id, 8 * MIB);
    ray->set.store_wait_s = 0;
    ask_restore(p, at, 2 * MIB);
    assert_true(told(0, WIRE_RESTORED, &answer, sizeof answer, 200));
    assert_int_equal(answer.status, 0);
    assert_int_equal(answer.file_bytes, 2 * MIB);
}

static void test_larger_than_the_store(void **state) {
    struct proc *p = process(0);
    struct extent_span span;
    struct skate_error err;
    int fd;

    (void)state;
    assert_int_equal(spill_lend_outside(ray, p->id, 12 * MIB, &span, &fd, &err), 0);
    assert_true(spill_is_outside(ray, span.offset));
    assert_int_equal(pwrite(fd, "here", 4, 9 * MIB), 4);
    assert_memory_equal(ray->arena + span.offset + 9 * MIB, "here", 4);
    assert_int_equal(extents_used(ray->extents), 0);
    assert_int_equal(extents_return(ray->extents, p->id, span.offset), 0);
    assert_int_equal(ray->arena[span.offset + 9 * MIB], 0);
    assert_int_equal(ray->counts.in_files, 0);
    assert_int_equal(ray->residency[granule_first(span.offset)], RES_HERE);
    (void)lent(p->id, 8 * MIB); /* the addresses are memory's again, and can be written */
}

/* Results of tasks with max_calls leave memory, but not before their worker has ended. */
static void test_kept_results_leave(void **state) {
    struct proc *p = process(0);
    struct job *j = calloc(1, sizeof *j);
    struct extent_span span;
    struct skate_error err;

    (void)state;
    p->job = 1;
    assert_int_equal(table_set(&ray->jobs, 1, j), 0);
    assert_int_equal(keeps_lend(ray, p, 4 * MIB, &span, &err), 0);
    for (uint64_t at = span.offset; at < span.offset + 4 * MIB; at += 8)
        *(uint64_t *)(void *)(ray->arena + at) = word(at);
    spill_need(ray, 4 * MIB);
    assert_int_equal(ray->spill->writing, 0);
    proc_free(p);
    ray->spill->asked = 0;
    ray->spill->pause_ns = 0;
    spill_need(ray, 4 * MIB);
    assert_int_equal(ray->spill->writing, 4 * MIB);
    written();
    assert_int_equal(spill_evict(ray, 4 * MIB), 4 * MIB);
    fetched(span.offset, 4 * MIB);
    assert_right(span.offset, 4 * MIB);
    table_release(&ray->jobs);
    free(j);
}

/* Numbers that no honest process sends. */
static void test_wild_numbers(void **state) {
    static const uint64_t wild[] = {0, 1, 4095, GRANULE_BYTES, SPAN - 1, SPAN, SPAN + 1,
                                    UINT64_MAX, UINT64_MAX - 4095, UINT64_C(1) << 63};
    struct proc *p = process(0);
    uint64_t at = lent(p->id, 2 * MIB);

    (void)state;
    out(p, at, 2 * MIB);
    ray->set.store_wait_s = 0;
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        for (size_t k = 0; k < sizeof wild / sizeof *wild; k++) {
            ask_restore(p, wild[i], wild[k]);
            ask_restore(p, at + wild[i], wild[k]);
            ask_restore(p, at, wild[k]);
            ask_room(p, 1, wild[k]);
            offer(p, wild[i]);
            offer(p, at);
        }
    for (int i = 0; i < 400 && ray->counts.waiting; i++) {
        static uint8_t waste[1 << 16];

        while (recv(ends[0], waste, sizeof waste, MSG_DONTWAIT) > 0) {}
        turn();
    }
    assert_int_equal(ray->counts.waiting, 0);
    assert_true(extents_is_valid(ray->extents));
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(test_out_and_back),
        EACH(test_what_is_pinned_stays),
        EACH(test_a_file_and_memory_at_once),
        EACH(test_freed_while_busy),
        EACH(test_what_cannot_be_read_is_lost),
        EACH(test_room_is_waited_for),
        EACH(test_no_patience),
        EACH(test_larger_than_the_store),
        EACH(test_kept_results_leave),
        EACH(test_wild_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
