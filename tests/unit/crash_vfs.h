/* crash_vfs.h - SQLite's files with a process that ends at the nth write: whole, torn in the
 * middle, or as when the power fails (what was not synced is lost in part). */
#ifndef SKATE_TESTS_CRASH_VFS_H
#define SKATE_TESTS_CRASH_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum crash_mode { CRASH_AFTER, CRASH_TORN, CRASH_POWER };
enum { CRASH_EXIT = 77, UNDO_MAX = 512 };

struct cfile {
    sqlite3_file base;
    sqlite3_file *real;
};
struct undo { /* a write that is not synced */
    struct cfile *file;
    sqlite3_int64 at;
    int len, had; /* had: bytes of it that were there */
    uint8_t *old;
};

static sqlite3_vfs *crash_real, crash_vfs;
static int crash_left = -1; /* writes until the end; -1: none */
static bool crash_no_sync;  /* for speed */
static enum crash_mode crash_mode;
static struct undo undos[UNDO_MAX];
static int undo_count;
static uint32_t crash_seed;

#define REAL(f) (((struct cfile *)(f))->real)

static uint32_t crash_draw(void) {
    crash_seed = crash_seed * 1664525u + 1013904223u;
    return crash_seed >> 16;
}

static void crash_now(void) {
    if (crash_mode == CRASH_POWER)
        while (undo_count > 0) {
            struct undo *u = &undos[--undo_count];

            if (crash_draw() % 2) continue;
            memset(u->old + u->had, 0, (size_t)(u->len - u->had));
            (void)u->file->real->pMethods->xWrite(u->file->real, u->old, u->len, u->at);
        }
    _exit(CRASH_EXIT);
}

static void remember(struct cfile *f, int len, sqlite3_int64 at) {
    sqlite3_int64 size = 0;
    struct undo *u = &undos[undo_count];

    if (crash_left < 0 || crash_mode != CRASH_POWER || undo_count == UNDO_MAX) return;
    (void)f->real->pMethods->xFileSize(f->real, &size);
    *u = (struct undo){.file = f, .at = at, .len = len, .old = malloc((size_t)len)};
    u->had = size <= at ? 0 : size - at < len ? (int)(size - at) : len;
    if (u->had) (void)f->real->pMethods->xRead(f->real, u->old, u->had, at);
    undo_count++;
}

static int c_write(sqlite3_file *f, const void *data, int len, sqlite3_int64 at) {
    bool last = crash_left == 0;
    int e;

    if (crash_left > 0) crash_left--;
    remember((struct cfile *)f, len, at);
    if (last && crash_mode == CRASH_TORN) len = len / 2;
    e = REAL(f)->pMethods->xWrite(REAL(f), data, len, at);
    if (last) crash_now();
    return e;
}

static int c_truncate(sqlite3_file *f, sqlite3_int64 size) {
    int e = REAL(f)->pMethods->xTruncate(REAL(f), size);

    if (crash_left == 0) _exit(CRASH_EXIT);
    if (crash_left > 0) crash_left--;
    return e;
}

static int c_sync(sqlite3_file *f, int flags) {
    int kept = 0;

    if (crash_left == 0) crash_now();
    for (int i = 0; i < undo_count; i++)
        if (undos[i].file != (struct cfile *)f)
            undos[kept++] = undos[i];
        else
            free(undos[i].old);
    undo_count = kept;
    return crash_no_sync ? SQLITE_OK : REAL(f)->pMethods->xSync(REAL(f), flags);
}

static int c_close(sqlite3_file *f) {
    int e = c_sync(f, SQLITE_SYNC_NORMAL);

    if (e == SQLITE_OK) e = REAL(f)->pMethods->xClose(REAL(f));
    free(REAL(f));
    return e;
}

static int c_read(sqlite3_file *f, void *to, int len, sqlite3_int64 at) {
    return REAL(f)->pMethods->xRead(REAL(f), to, len, at);
}
static int c_size(sqlite3_file *f, sqlite3_int64 *ret) {
    return REAL(f)->pMethods->xFileSize(REAL(f), ret);
}
static int c_lock(sqlite3_file *f, int n) { return REAL(f)->pMethods->xLock(REAL(f), n); }
static int c_unlock(sqlite3_file *f, int n) { return REAL(f)->pMethods->xUnlock(REAL(f), n); }
static int c_reserved(sqlite3_file *f, int *ret) {
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), ret);
}
static int c_control(sqlite3_file *f, int op, void *arg) {
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}
static int c_sector(sqlite3_file *f) { return REAL(f)->pMethods->xSectorSize(REAL(f)); }
static int c_traits(sqlite3_file *f) { (void)f; return 0; /* no promise of safe overwrites */ }

static int c_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret) {
    static const sqlite3_io_methods methods = {
        .iVersion = 1, .xClose = c_close, .xRead = c_read, .xWrite = c_write,
        .xTruncate = c_truncate, .xSync = c_sync, .xFileSize = c_size, .xLock = c_lock,
        .xUnlock = c_unlock, .xCheckReservedLock = c_reserved, .xFileControl = c_control,
        .xSectorSize = c_sector, .xDeviceCharacteristics = c_traits};
    struct cfile *c = (struct cfile *)f;
    int e;

    (void)v;
    c->real = calloc(1, (size_t)crash_real->szOsFile);
    e = crash_real->xOpen(crash_real, name, c->real, flags, ret);
    if (e == SQLITE_OK)
        c->base.pMethods = &methods;
    else
        free(c->real);
    return e;
}

/* From now on, all of SQLite in this process. */
static void crash_vfs_begin(void) {
    crash_real = sqlite3_vfs_find(NULL);
    crash_vfs = *crash_real;
    crash_vfs.zName = "crash";
    crash_vfs.szOsFile = sizeof(struct cfile);
    crash_vfs.xOpen = c_open;
    (void)sqlite3_vfs_register(&crash_vfs, 1);
}

#endif
