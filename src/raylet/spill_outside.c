/* spill_outside.c - bytes that have no room in memory at all: read and written in files.
 *
 * (1) An object larger than the store gets a file of its own, which its writer maps instead of the
 * arena's pages; so does every reader. (2) When all of the store is in use and somebody must read
 * what was spilled, it gets that in a file for itself: nobody waits for ever for an argument. The
 * files have no names; the kernel keeps of them in memory what it likes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "raylet/spill.h"
#include "raylet/spill_int.h"

static int nameless(const char *folder) {
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char path[4200];

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
    snprintf(path, sizeof path, "%s/skate-XXXXXX", folder);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) (void)unlink(path);
    return fd;
}

/* A file of `bytes` where objects are spilled to; for URIs in our own folder. */
static int file_of(struct raylet *r, uint64_t bytes, struct skate_error *err) {
    char *text = strdup(r->set.spill && !r->set.spill_remote ? r->set.spill : r->set.run_dir);
    struct statvfs disk;
    char *save = NULL;
    int fd = -1, e = ENOENT;

    for (char *p = text ? strtok_r(text, ":", &save) : NULL; p && fd < 0;
         p = strtok_r(NULL, ":", &save)) {
        fd = nameless(p);
        if (fd < 0) {
            e = errno;
            continue;
        }
        e = ENOSPC; /* seen before a disk is filled up in vain, which may take long */
        if (fstatvfs(fd, &disk) < 0 || bytes / disk.f_frsize <= disk.f_bavail) {
            if (fallocate(fd, 0, 0, (off_t)bytes) == 0 ||
                (errno == EOPNOTSUPP && ftruncate(fd, (off_t)bytes) == 0))
                break;
            e = errno;
        }
        (void)close(fd);
        fd = -1;
    }
    free(text);
    if (fd >= 0) return fd;
    return err_fail(err, -SKATE_EFULL, "a file for %.1f MB that the object store has no room for "
                    "cannot be made: %s", (double)bytes / 1e6, strerror(e));
}

int spill_lend_outside(struct raylet *r, uint64_t proc, uint64_t bytes, struct extent_span *ret,
                       int *ret_fd, struct skate_error *err) {
    struct record *rec;
    struct extent_info info;
    int fd, e;

    if (!r->spill || !r->spill->io)
        return err_fail(err, -SKATE_ETOOBIG, "%.1f MB asked, but the whole object store has "
                        "%.1f MB, and spilling is switched off", (double)bytes / 1e6,
                        (double)extents_budget(r->extents) / 1e6);
    e = extents_lend_outside(r->extents, proc, bytes, ret, err);
    if (e < 0) return e;
    fd = file_of(r, ret->bytes, err); /* wild sizes were refused before a disk is asked for them */
    rec = calloc(1, sizeof *rec);
    if (fd < 0 || !rec) {
        free(rec);
        if (fd >= 0) (void)close(fd);
        if (extents_return(r->extents, proc, ret->offset) < 0) SKATE_ASSERT(false);
        return fd < 0 ? fd : err_fail(err, -SKATE_ENOMEM, "out of memory");
    }
    if (!extents_find(r->extents, ret->offset, &info)) SKATE_ASSERT(false);
    *rec = (struct record){.offset = ret->offset, .bytes = ret->bytes, .out = ret->bytes,
                           .state = FILED, .fd = fd, .slot = info.note};
    *info.note = rec;
    spill_mark(r, granule_first(rec->offset), granule_end(rec->offset, rec->bytes), RES_OUT);
    r->counts.in_files += rec->bytes;
    if (mmap(r->arena + rec->offset, rec->bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
        if (extents_return(r->extents, proc, ret->offset) < 0) SKATE_ASSERT(false);
        return err_fail(err, -SKATE_ENOMEM, "a file for %.1f MB cannot be mapped: %s",
                        (double)bytes / 1e6, strerror(errno));
    }
    *ret_fd = fd;
    return 0;
}

bool spill_is_outside(struct raylet *r, uint64_t offset) {
    struct extent_info info;

    return r->residency && extents_find(r->extents, offset, &info) && *info.note &&
           ((struct record *)*info.note)->state == FILED;
}

void spill_outside_gone(struct raylet *r, struct record *rec) {
    (void)mmap(r->arena + rec->offset, rec->bytes, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_NORESERVE | MAP_FIXED, r->arena_fd, (off_t)rec->offset);
    spill_mark(r, granule_first(rec->offset), granule_end(rec->offset, rec->bytes), RES_HERE);
    r->counts.in_files -= rec->bytes;
    (void)close(rec->fd);
    free(rec);
}

/* ---- a file for one reader ---- */

struct own_copy {
    struct raylet *r;
    uint64_t proc, from, bytes; /* from: the arena's offset of the file's first byte */
    struct wire_restore ask;
    struct record *rec;
    int fd;
};

static void give(struct proc *p, const struct wire_restore *ask, uint64_t at, uint64_t bytes,
                 int fd) {
    uint64_t room[32];
    struct wire_buf b;
    struct wire_restored *m;

    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_RESTORED);
    m->offset = ask->offset;
    m->bytes = ask->bytes;
    m->at = at;
    m->file_bytes = bytes;
    if (wire_end(&b) == 0) proc_send_fds(p, b.p, b.len, &fd, 1);
    wire_release(&b);
}

static void on_copied(void *arg, int status, const char *why) {
    struct own_copy *c = arg;
    struct raylet *r = c->r;
    struct proc *p = proc_find(r, c->proc);

    if (p && status == 0)
        give(p, &c->ask, c->from, c->bytes, c->fd);
    else if (p)
        spill_answer(p, &c->ask, status, why);
    (void)close(c->fd);
    c->rec->reading = false;
    extents_set_busy(r->extents, c->rec->offset, false); /* may be the end of rec */
    spill_retry(r);
    free(c);
}

bool spill_own_copy(struct raylet *r, struct proc *p, const struct wire_restore *m) {
    struct skate_error err;
    struct extent_info info;
    struct record *rec;
    struct own_copy *c;
    struct spill_read read;

    if (!r->spill || !r->spill->io || m->bytes == 0 ||
        !extents_contains(r->extents, m->offset, m->bytes) ||
        !extents_find(r->extents, m->offset, &info) || !(rec = *info.note))
        return false;
    if (rec->state == FILED) return give(p, m, rec->offset, rec->bytes, rec->fd), true;
    if (rec->state != KEPT || info.busy || !(c = calloc(1, sizeof *c))) return false;
    c->from = granule_first(m->offset) * GRANULE_BYTES;
    c->bytes = spill_within(rec, granule_first(m->offset), granule_end(m->offset, m->bytes));
    c->r = r;
    c->proc = p->id;
    c->rec = rec;
    c->ask = *m;
    c->fd = file_of(r, c->bytes, &err);
    read = (struct spill_read){.place = rec->place, .from = c->from - rec->offset,
                               .bytes = c->bytes, .to_fd = c->fd, .done = on_copied, .arg = c};
    if (c->fd < 0 || spill_io_read(r->spill->io, &read) < 0) {
        if (c->fd >= 0) (void)close(c->fd);
        free(c);
        return false;
    }
    rec->reading = true; /* one read at a time, whoever it is for */
    extents_set_busy(r->extents, rec->offset, true);
    return true;
}
