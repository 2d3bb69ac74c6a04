/* spill_rig.h - an arena, directories and a spill_io over them, for the tests of spilling. */
#ifndef SKATE_TESTS_SPILL_RIG_H
#define SKATE_TESTS_SPILL_RIG_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raylet/spill_dir.h"
#include "raylet/spill_io.h"

#define MIB (UINT64_C(1) << 20)
#define RIG_ARENA (48 * MIB)
#define RIG __attribute__((unused)) static
enum { RIG_DIRS = 2 };

struct rig {
    struct loop *loop;
    struct spill_io *io;
    struct spill_target *second;
    int arena_fd, usable;
    uint8_t *arena;
    uint64_t nonce;
    char top[64], paths[RIG_DIRS][80], text[512];
    bool mounted[RIG_DIRS];
};

struct wrote {
    int status; /* 1: not told yet */
    uint32_t n;
    struct spill_place places[16];
    char why[512];
};

/* What byte `at` of the arena is: no two blocks are alike. */
RIG void rig_fill_word(uint64_t at, uint64_t *ret) {
    uint64_t x = (at / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);

    *ret = x ^ x >> 31;
}

RIG void rig_fill(struct rig *r) {
    for (uint64_t at = 0; at < RIG_ARENA; at += 8) {
        uint64_t x;

        rig_fill_word(at, &x);
        memcpy(r->arena + at, &x, 8);
    }
}

RIG void rig_make_in(struct rig *r, const char *base, int dirs) {
    *r = (struct rig){.nonce = 0x1234567};
    snprintf(r->top, sizeof r->top, "%s/spill-test-XXXXXX", base);
    assert_non_null(mkdtemp(r->top));
    for (int i = 0; i < dirs; i++)
        snprintf(r->paths[i], sizeof r->paths[i], "%s/%c", r->top, 'a' + i);
    r->arena_fd = memfd_create("rig", MFD_CLOEXEC);
    assert_true(r->arena_fd >= 0);
    assert_int_equal(ftruncate(r->arena_fd, (off_t)RIG_ARENA), 0);
    r->arena = mmap(NULL, RIG_ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, r->arena_fd, 0);
    assert_true(r->arena != MAP_FAILED);
    rig_fill(r);
    assert_int_equal(loop_new(&r->loop), 0);
}

RIG void rig_make(struct rig *r, int dirs) { rig_make_in(r, "/tmp", dirs); }

RIG void rig_start(struct rig *r, uint32_t dirs) {
    const char *paths[RIG_DIRS] = {r->paths[0], r->paths[1]};
    struct spill_dirs d = {.paths = paths, .count = dirs, .nonce = r->nonce};
    struct spill_io_start s = {.loop = r->loop, .arena = r->arena, .nonce = r->nonce};
    struct skate_error err;

    r->usable = spill_dir_new(&d, &s.target, &err);
    assert_true(r->usable >= 0);
    memcpy(r->text, err.text, sizeof err.text);
    assert_int_equal(spill_io_start(&s, &r->io, NULL), 0);
}

RIG void rig_start_second(struct rig *r) {
    const char *paths[RIG_DIRS] = {r->paths[0], r->paths[1]};
    struct spill_dirs d = {.paths = paths, .count = 1, .nonce = r->nonce + 1};

    assert_int_equal(spill_dir_new(&d, &r->second, NULL), 1);
}

RIG void rig_end_io(struct rig *r) {
    if (r->second) r->second->free(r->second);
    r->second = NULL;
    r->io = spill_io_stop(r->io);
}

RIG __attribute__((format(printf, 2, 3))) void rig_run(struct rig *r, const char *format, ...) {
    char line[512];
    int status;
    va_list ap;
    pid_t pid;

    (void)r;
    va_start(ap, format);
    vsnprintf(line, sizeof line, format, ap);
    va_end(ap);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

RIG void rig_end(struct rig *r) {
    rig_end_io(r);
    for (int i = 0; i < RIG_DIRS; i++)
        if (r->mounted[i]) umount(r->paths[i]);
    loop_free(r->loop);
    munmap(r->arena, RIG_ARENA);
    close(r->arena_fd);
    rig_run(r, "rm -rf %s", r->top);
}

RIG void rig_on_wrote(void *arg, int status, const struct spill_place *places, uint32_t n,
                      const char *why) {
    struct wrote *w = arg;

    w->status = status;
    w->n = n;
    if (n) memcpy(w->places, places, (n < 16 ? n : 16) * sizeof *places);
    snprintf(w->why, sizeof w->why, "%s", why);
}

RIG struct wrote *rig_expect(struct wrote *w) {
    w->status = 1;
    return w;
}

RIG struct wrote rig_write(struct rig *r, const struct extent_span *pieces, uint32_t n) {
    struct wrote w;

    assert_int_equal(spill_io_write(r->io, pieces, n, rig_on_wrote, rig_expect(&w)), 0);
    while (w.status == 1) loop_run_once(r->loop, 1000);
    return w;
}

RIG void rig_on_read(void *arg, int status, const char *why) {
    assert_true((status == 0) == (why[0] == 0));
    *(int *)arg = status;
}

RIG int rig_read(struct rig *r, struct spill_read *read) {
    int status = 1, e;

    read->to_fd = r->arena_fd;
    read->to = read->place.offset + read->from;
    read->done = rig_on_read;
    read->arg = &status;
    e = spill_io_read(r->io, read);
    if (e < 0) return e;
    while (status == 1) loop_run_once(r->loop, 1000);
    return status;
}

RIG int rig_restore(struct rig *r, const struct spill_place *p) {
    struct spill_read read = {.place = *p, .bytes = p->bytes};

    return rig_read(r, &read);
}

RIG void rig_punch(struct rig *r) {
    assert_int_equal(fallocate(r->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                               (off_t)RIG_ARENA), 0);
}

RIG void rig_assert_right(struct rig *r, uint64_t offset, uint64_t bytes) {
    for (uint64_t at = offset; at < offset + bytes; at += 8) {
        uint64_t x, n = offset + bytes - at < 8 ? offset + bytes - at : 8;

        rig_fill_word(at, &x);
        if (memcmp(r->arena + at, &x, n)) fail_msg("a wrong byte at %llu", (unsigned long long)at);
    }
}

RIG void rig_assert_zero(struct rig *r, uint64_t offset, uint64_t bytes) {
    for (uint64_t at = offset; at < offset + bytes; at++)
        if (r->arena[at]) fail_msg("a byte at %llu", (unsigned long long)at);
}

#endif
