/* gcs_log_sqlite.c - the log as an SQLite file: write-ahead log, synced at each commit.
 *
 * One connection, exclusive for as long as the process lives: the lock on the file is the fence
 * against a second head on this machine, the epoch in it against one with a copy that was put in
 * its place. No memory mapping: a failing disk is an error here, not a SIGBUS. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gcsd/gcs_log_int.h"

enum { OPEN_WAIT_MS = 1000, FORMAT = 1, PATH_BYTES = 512 };

struct file {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *rollback, *put, *gone, *fence;
    int witness_fd;
    char path[PATH_BYTES];
    struct stat opened; /* which file that was */
};

static int code_of(int e) {
    switch (e & 0xff) {
    case SQLITE_OK: case SQLITE_DONE: case SQLITE_ROW: return 0;
    case SQLITE_BUSY: case SQLITE_LOCKED: return -SKATE_EBUSY;
    case SQLITE_CORRUPT: case SQLITE_NOTADB: case SQLITE_FORMAT: return -SKATE_EPROTO;
    case SQLITE_NOMEM: return -SKATE_ENOMEM;
    default: return -SKATE_EIO;
    }
}

static int fail(struct file *f, int e, const char *what, struct skate_error *err) {
    int r = code_of(e), number = f->db ? sqlite3_system_errno(f->db) : 0;
    const char *text = f->db ? sqlite3_errmsg(f->db) : sqlite3_errstr(e);

    if (r == 0) return 0;
    if (r == -SKATE_EBUSY)
        return err_fail(err, r, "another process has the log %s open: only one head at a time",
                        f->path);
    return err_fail(err, r, "cannot %s the log %s: %s%s%s", what, f->path, text,
                    number ? ": " : "", number ? strerror(number) : "");
}

static int step_once(struct file *f, sqlite3_stmt *s) {
    int e = sqlite3_step(s);

    (void)f;
    (void)sqlite3_reset(s);
    return e == SQLITE_DONE || e == SQLITE_ROW ? SQLITE_OK : e;
}

static void shut(struct file *f) {
    sqlite3_stmt **all[] = {&f->begin, &f->commit, &f->rollback, &f->put, &f->gone, &f->fence};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        (void)sqlite3_finalize(*all[i]);
        *all[i] = NULL;
    }
    (void)sqlite3_close(f->db);
    f->db = NULL;
    if (f->witness_fd >= 0) (void)close(f->witness_fd);
    f->witness_fd = -1;
}

static int prepare(struct file *f) {
    const struct {
        sqlite3_stmt **to;
        const char *text;
    } all[] = {
        {&f->begin, "BEGIN IMMEDIATE"},
        {&f->commit, "COMMIT"},
        {&f->rollback, "ROLLBACK"},
        {&f->put, "INSERT INTO record(t, k, v, s) VALUES(?1, ?2, ?3, ?4) "
                  "ON CONFLICT DO UPDATE SET v = ?3, s = ?4"},
        {&f->gone, "DELETE FROM record WHERE t = ?1 AND k = ?2"},
        {&f->fence, "SELECT epoch FROM fence"},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int e = sqlite3_prepare_v3(f->db, all[i].text, -1, SQLITE_PREPARE_PERSISTENT, all[i].to,
                                   NULL);

        if (e != SQLITE_OK) return e;
    }
    return SQLITE_OK;
}

static int set_up(struct file *f) {
    static const char *const texts[] = {
        "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",       "PRAGMA cell_size_check = ON",
        "PRAGMA trusted_schema = OFF",     "PRAGMA journal_size_limit = 16777216",
        "BEGIN IMMEDIATE",
        "CREATE TABLE IF NOT EXISTS record(t INTEGER, k BLOB, v BLOB, s BLOB, "
        "PRIMARY KEY(t, k)) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS fence(one INTEGER PRIMARY KEY, epoch INTEGER)",
        "INSERT OR IGNORE INTO fence VALUES(1, 0)",
        "COMMIT"};
    int e = SQLITE_OK;

    for (size_t i = 0; e == SQLITE_OK && i < sizeof texts / sizeof *texts; i++)
        e = sqlite3_exec(f->db, texts[i], NULL, NULL, NULL);
    return e == SQLITE_OK ? prepare(f) : e;
}

/* The number of the last durable commit, in a file of its own that is never synced: what a damaged
 * write-ahead log would hide (SQLite takes it as ended there) is known, unless the power failed. */
struct witness {
    uint64_t seq, check; /* check: ~seq */
};

static uint64_t file_witness(void *self) {
    const struct file *f = self;
    struct witness w;

    if (pread(f->witness_fd, &w, sizeof w, 0) != (ssize_t)sizeof w || w.check != ~w.seq) return 0;
    return w.seq;
}

static void set_witness(const struct file *f, uint64_t seq) {
    struct witness w = {seq, ~seq};

    if (pwrite(f->witness_fd, &w, sizeof w, 0) < 0)
        (void)fprintf(stderr, "%s-seq cannot be written: %s\n", f->path, strerror(errno));
}

static int open_witness(struct file *f, struct skate_error *err) {
    char path[PATH_BYTES + 8];

    (void)snprintf(path, sizeof path, "%s-seq", f->path);
    f->witness_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (f->witness_fd >= 0) return 0;
    return err_fail(err, -SKATE_EIO, "cannot open %s: %s", path, strerror(errno));
}

static int open_file(struct file *f, struct skate_error *err) {
    int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), e;

    if (fd < 0) /* SQLite gives its other files the mode of this one */
        return err_fail(err, -SKATE_EIO, "cannot open the log %s: %s", f->path, strerror(errno));
    (void)close(fd);
    e = sqlite3_open_v2(f->path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                        SQLITE_OPEN_EXRESCODE, NULL);
    if (e == SQLITE_OK) e = sqlite3_busy_timeout(f->db, OPEN_WAIT_MS);
    if (e == SQLITE_OK) e = set_up(f);
    if (e == SQLITE_OK && stat(f->path, &f->opened) < 0) e = SQLITE_IOERR;
    e = e == SQLITE_OK ? open_witness(f, err) : fail(f, e, "open", err);
    if (e < 0) shut(f);
    return e;
}

/* Not the witness: an end before the new log has its first commit is seen by it. */
static int put_aside(struct file *f, struct skate_error *err) {
    static const char *const tails[] = {"-wal", "-shm", "-journal", ""};
    char from[PATH_BYTES + 16], to[PATH_BYTES + 64];

    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        (void)snprintf(from, sizeof from, "%s%s", f->path, tails[i]);
        (void)snprintf(to, sizeof to, "%s.damaged-%lld%s", f->path, (long long)time(NULL),
                       tails[i]);
        if (rename(from, to) < 0 && errno != ENOENT)
            return err_fail(err, -SKATE_EIO, "cannot put the damaged log %s aside: %s", from,
                            strerror(errno));
    }
    return 0;
}

static int file_open(const struct gcs_log_opts *opts, void **ret, struct skate_error *err) {
    struct file *f = calloc(1, sizeof *f);
    int r;

    if (!f) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    f->witness_fd = -1;
    if (snprintf(f->path, sizeof f->path, "%s", opts->path) >= (int)sizeof f->path) {
        free(f);
        return err_fail(err, -SKATE_EINVAL, "the path of the log is too long");
    }
    r = open_file(f, err);
    if (r == -SKATE_EPROTO && opts->recover) { /* not even its first page */
        r = put_aside(f, err);
        if (r == 0) r = open_file(f, err);
    } else if (r == -SKATE_EPROTO) {
        struct skate_error why = *err;

        (void)err_fail(err, r, "%.300s. The log is damaged: put back a copy of it, or start with "
                       "--recover to go on without what cannot be read", why.text);
    }
    if (r < 0) {
        free(f);
        return r;
    }
    *ret = f;
    return 0;
}

static int set_epoch(struct file *f, uint64_t least, uint64_t *ret, struct skate_error *err) {
    sqlite3_stmt *s = NULL;
    int e = sqlite3_prepare_v2(f->db, "UPDATE fence SET epoch = max(epoch + 1, ?1)"
                               "RETURNING epoch", -1, &s, NULL);

    if (e == SQLITE_OK) e = sqlite3_bind_int64(s, 1, (sqlite3_int64)least);
    if (e == SQLITE_OK) e = sqlite3_step(s);
    if (e == SQLITE_ROW) {
        *ret = (uint64_t)sqlite3_column_int64(s, 0);
        e = sqlite3_step(s);
    } else if (e == SQLITE_DONE)
        e = SQLITE_CORRUPT;
    (void)sqlite3_finalize(s);
    return fail(f, e == SQLITE_DONE ? SQLITE_OK : e, "write", err);
}

static int file_raise(void *self, uint64_t *ret_epoch, struct skate_error *err) {
    return set_epoch(self, log_epoch_least(), ret_epoch, err);
}

static int file_renew(void *self, uint64_t epoch, struct skate_error *err) {
    struct file *f = self;
    uint64_t unused;
    int r;

    shut(f);
    r = put_aside(f, err);
    if (r == 0) r = open_file(f, err);
    return r == 0 ? set_epoch(f, epoch, &unused, err) : r;
}

static int file_load(void *self, void (*on_row)(void *arg, const struct log_row *row), void *arg,
                     struct skate_error *err) {
    struct file *f = self;
    sqlite3_stmt *s = NULL;
    int e = sqlite3_prepare_v2(f->db, "SELECT t, k, v, s FROM record", -1, &s, NULL);

    while (e == SQLITE_OK && (e = sqlite3_step(s)) == SQLITE_ROW) {
        static const uint8_t none[ROW_SUM];
        struct log_row row = {.table = (uint32_t)sqlite3_column_int(s, 0)};

        row.key = sqlite3_column_blob(s, 1);
        row.key_len = (uint32_t)sqlite3_column_bytes(s, 1);
        row.value = sqlite3_column_blob(s, 2);
        row.len = (uint32_t)sqlite3_column_bytes(s, 2);
        row.sum = sqlite3_column_blob(s, 3);
        if (sqlite3_column_bytes(s, 3) != ROW_SUM) row.sum = none;
        e = sqlite3_errcode(f->db) == SQLITE_NOMEM ? SQLITE_NOMEM : SQLITE_OK;
        if (e == SQLITE_OK) on_row(arg, &row);
    }
    e = fail(f, e, "read", err); /* before the end of the statement forgets why */
    (void)sqlite3_finalize(s);
    return e;
}

static int put_row(struct file *f, const struct log_row *row) {
    sqlite3_stmt *s = row->value ? f->put : f->gone;
    int e = sqlite3_bind_int(s, 1, (int)row->table);

    if (e == SQLITE_OK) e = sqlite3_bind_blob(s, 2, row->key, (int)row->key_len, SQLITE_STATIC);
    if (e == SQLITE_OK && row->value)
        e = sqlite3_bind_blob(s, 3, row->value, (int)row->len, SQLITE_STATIC);
    if (e == SQLITE_OK && row->value)
        e = sqlite3_bind_blob(s, 4, row->sum, ROW_SUM, SQLITE_STATIC);
    if (e == SQLITE_OK) e = step_once(f, s);
    (void)sqlite3_clear_bindings(s);
    return e;
}

/* Is it still the file that the others would open, and our epoch in it? */
static int check_fence(struct file *f, uint64_t epoch, struct skate_error *err) {
    struct stat now;
    int e;

    if (stat(f->path, &now) < 0 || now.st_ino != f->opened.st_ino || now.st_dev != f->opened.st_dev)
        return err_fail(err, -SKATE_ESTALE, "the log %s was moved or replaced", f->path);
    e = sqlite3_step(f->fence);
    if (e == SQLITE_ROW && (uint64_t)sqlite3_column_int64(f->fence, 0) != epoch) {
        (void)sqlite3_reset(f->fence);
        return err_fail(err, -SKATE_ESTALE, "another head has opened the log %s", f->path);
    }
    (void)sqlite3_reset(f->fence);
    return fail(f, e == SQLITE_DONE ? SQLITE_CORRUPT : e, "read", err);
}

static int file_commit(void *self, const struct log_batch *b, struct skate_error *err) {
    struct file *f = self;
    int r = fail(f, step_once(f, f->begin), "write", err), e = SQLITE_OK;

    if (r == 0) r = check_fence(f, b->epoch, err);
    for (uint32_t i = 0; r == 0 && e == SQLITE_OK && i < b->count; i++) e = put_row(f, &b->rows[i]);
    if (r == 0 && e == SQLITE_OK) e = step_once(f, f->commit);
    if (r == 0) r = fail(f, e, "write", err);
    if (r == 0) set_witness(f, b->seq);
    if (!sqlite3_get_autocommit(f->db)) (void)step_once(f, f->rollback);
    return r;
}

static void file_close(void *self) {
    shut(self);
    free(self);
}

const struct log_place log_sqlite = {.open = file_open, .raise = file_raise, .load = file_load,
                                     .commit = file_commit, .witness = file_witness,
                                     .renew = file_renew,
                                     .close = file_close};
