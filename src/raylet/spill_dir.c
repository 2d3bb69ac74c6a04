/* spill_dir.c - see spill_dir.h. Any I/O thread; blocks.
 *
 * `lock` guards which file lies where, `open_lock` the state of the directories; the descriptor of
 * a folder, once it is there, keeps its number (a folder made anew gets it with dup3()).
 * A folder is taken in the order mkdir, create `owner`, lock it; who removes an old one has its
 * lock. A folder without `owner` is left to whoever is about to make it, unless it is empty. */
#include "raylet/spill_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "store/spill_file.h"
#include "store/table.h"

#define FOLDER "skate-spill-"
#define ENDING ".spill"
enum { PATH_MAX_BYTES = 400, REST_NS = 1000000000 };

struct dir {
    char path[PATH_MAX_BYTES]; /* of our folder in it */
    char reason[160];          /* why it was of no use the last time */
    int fd, owner_fd;          /* of our folder; -1: not made yet */
    int code;                  /* that goes with reason */
    int64_t rests_until;       /* after a failure nothing is tried there for a second */
};
struct dir_file {
    struct dir *dir;
    int fd;        /* while it is written; -1 then */
    int code;      /* while it is opened: why it cannot be */
    int is_direct; /* two threads may find out at once that it is not */
};
struct spill_dir {
    struct spill_target target; /* first */
    uint64_t nonce;
    uint32_t count, turn;
    pthread_mutex_t open_lock, lock; /* taken in this order */
    struct table files;              /* number -> struct dir_file */
    char *list_path;
    struct dir dirs[];
};

static int code_of(int e) {
    if (e == ENOSPC || e == EDQUOT || e == EFBIG) return -SKATE_EFULL;
    return e == ENOENT ? -SKATE_ENOENT : e == ENOMEM ? -SKATE_ENOMEM : -SKATE_EIO;
}

static void name_of(uint64_t file, char *out, size_t cap) {
    snprintf(out, cap, "%016llx" ENDING, (unsigned long long)file);
}

/* ---- folders ---- */

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* Remove what we or a session like us put into a folder, then the folder `name` in `parent`. */
static void remove_folder(int fd, int parent, const char *name) {
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;

    if (!d && copy >= 0) close(copy);
    while (d && (entry = readdir(d)))
        if (ends_with(entry->d_name, ENDING)) (void)unlinkat(fd, entry->d_name, 0);
    if (d) closedir(d);
    (void)unlinkat(fd, "owner", 0);
    (void)unlinkat(parent, name, AT_REMOVEDIR); /* what cannot go stays */
}

/* A folder of another session: gone, when nobody holds its lock. */
static void remove_if_dead(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), owner;

    if (fd < 0) return;
    owner = openat(fd, "owner", O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (owner < 0) {
        if (errno == ENOENT) (void)unlinkat(parent, name, AT_REMOVEDIR); /* when it is empty */
    } else {
        if (flock(owner, LOCK_EX | LOCK_NB) == 0) remove_folder(fd, parent, name);
        close(owner);
    }
    close(fd);
}

static void remove_dead(const char *path) {
    DIR *d = opendir(path);
    struct dirent *entry;

    while (d && (entry = readdir(d)))
        if (!strncmp(entry->d_name, FOLDER, sizeof FOLDER - 1))
            remove_if_dead(dirfd(d), entry->d_name);
    if (d) closedir(d);
}

static int make_parents(const char *path) {
    char part[PATH_MAX_BYTES];
    size_t n = strlen(path);

    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        part[i] = 0;
        if (mkdir(part, 0700) < 0 && errno != EEXIST && access(part, F_OK) < 0) return -errno;
        if (i < n) part[i] = '/';
    }
    return 0;
}

static void put_in_place(int *fd, int made) {
    if (*fd < 0) {
        *fd = made;
        return;
    }
    (void)dup3(made, *fd, O_CLOEXEC); /* fails only for numbers that are none */
    close(made);
}

/* Our folder in it, locked. 0 or -errno. */
static int dir_claim(struct dir *d) {
    int e = 0;

    for (int i = 0; i < 8; i++) {
        struct stat a, b;
        int fd, owner;

        e = make_parents(d->path);
        if (e < 0) return e;
        fd = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        owner = fd < 0 ? -1 : openat(fd, "owner", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        e = owner < 0 || flock(owner, LOCK_EX | LOCK_NB) < 0 || fstat(owner, &a) < 0 ? -errno : 0;
        if (e == 0 && fstatat(fd, "owner", &b, 0) == 0 && a.st_ino == b.st_ino) {
            put_in_place(&d->fd, fd);
            put_in_place(&d->owner_fd, owner);
            return 0;
        }
        if (owner >= 0) close(owner);
        if (fd >= 0) close(fd);
        if (e < 0 && e != -ENOENT) return e;
    } /* somebody cleaned up between two steps of ours: again */
    return e < 0 ? e : -ENOENT;
}

static void dir_failed(struct dir *d, int error, const char *what) {
    d->code = code_of(error);
    snprintf(d->reason, sizeof d->reason, "%s: %s", what, strerror(error));
    if (d->code != -SKATE_EFULL) d->rests_until = time_now_ns() + REST_NS;
}

/* ---- files ---- */

static struct dir_file *file_of(struct spill_dir *s, uint64_t file) {
    struct dir_file *f;

    pthread_mutex_lock(&s->lock);
    f = table_get(&s->files, file);
    pthread_mutex_unlock(&s->lock);
    return f;
}

static void file_unmake(struct dir_file *f, uint64_t file) {
    char name[32];

    name_of(file, name, sizeof name);
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
    (void)unlinkat(f->dir->fd, name, 0);
}

/* A new file of `bytes` in d. 0 or -errno; nothing is left on failure. */
static int file_make(struct dir *d, uint64_t file, uint64_t bytes, struct dir_file *f) {
    int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, e = 0;
    char name[32];

    name_of(file, name, sizeof name);
    if (d->fd < 0) e = dir_claim(d);
    for (int i = 0; e == 0 && i < 2; i++) {
        f->is_direct = 1;
        f->fd = openat(d->fd, name, flags | O_DIRECT, 0600);
        if (f->fd < 0 && errno == EINVAL) {
            (void)unlinkat(d->fd, name, 0); /* some file systems make it, then refuse */
            f->is_direct = 0;
            f->fd = openat(d->fd, name, flags, 0600);
        }
        if (f->fd >= 0 || errno != ENOENT) break;
        e = dir_claim(d); /* our folder was removed */
    }
    if (e < 0) return e;
    if (f->fd < 0) return -errno;
    do
        e = fallocate(f->fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
    while (e == -EINTR);
    if (e == 0 || e == -EOPNOTSUPP || e == -ENOSYS) return 0;
    f->dir = d;
    file_unmake(f, file);
    f->dir = NULL;
    return e;
}

/* One that takes it, in turn. NULL: err says why, of each. */
static struct dir *dir_choose(struct spill_dir *s, uint64_t file, uint64_t bytes,
                              struct dir_file *f, struct skate_error *err) {
    int64_t now = time_now_ns();
    int code = -SKATE_EIO;
    char why[400] = "";
    size_t used = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        struct dir *d = &s->dirs[(s->turn + i) % s->count];
        int e = d->rests_until > now ? 0 : file_make(d, file, bytes, f), n;

        if (e == 0 && d->rests_until <= now) {
            s->turn = (s->turn + i + 1) % s->count;
            return d;
        }
        if (e < 0) dir_failed(d, -e, "it cannot be written");
        if (d->code == -SKATE_EFULL) code = d->code;
        n = snprintf(why + used, sizeof why - used, "%s%s: %s", used ? "; " : "", d->path,
                     d->reason);
        used = n < 0 || used + (size_t)n >= sizeof why ? sizeof why - 1 : used + (size_t)n;
    }
    f->code = err_fail(err, code, "no room for a spill file of %.1f MB: %s", (double)bytes / 1e6,
                       why);
    return NULL;
}

static int dir_open(struct spill_target *t, uint64_t file, uint64_t bytes,
                    struct skate_error *err) {
    struct spill_dir *s = (struct spill_dir *)t;
    struct dir_file *f = calloc(1, sizeof *f);
    int e;

    if (!f) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    pthread_mutex_lock(&s->open_lock);
    f->dir = dir_choose(s, file, bytes, f, err);
    pthread_mutex_unlock(&s->open_lock);
    e = f->code;
    if (f->dir) {
        pthread_mutex_lock(&s->lock);
        e = table_set(&s->files, file, f);
        pthread_mutex_unlock(&s->lock);
        if (e == 0) return 0;
        (void)err_fail(err, e, "out of memory");
        file_unmake(f, file);
    }
    free(f);
    return e;
}

static int file_failed(struct spill_dir *s, struct dir_file *f, const char *what,
                       struct skate_error *err) {
    int error = errno;

    pthread_mutex_lock(&s->open_lock);
    dir_failed(f->dir, error, what);
    f->dir->rests_until = time_now_ns() + REST_NS;
    pthread_mutex_unlock(&s->open_lock);
    return err_fail(err, code_of(error), "spilling to %s: %s: %s", f->dir->path, what,
                    strerror(error));
}

/* O_DIRECT was taken at the open, but not for this: then without. */
static bool make_buffered(struct dir_file *f) {
    int flags = fcntl(f->fd, F_GETFL);

    return flags >= 0 && (flags & O_DIRECT) && fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

static int dir_put(struct spill_target *t, uint64_t file, uint64_t at, const struct iovec *pieces,
                   int n, struct skate_error *err) {
    struct spill_dir *s = (struct spill_dir *)t;
    struct dir_file *f = file_of(s, file);
    struct iovec left[SPILL_PUT_MAX];

    if (!f || f->fd < 0 || n < 1 || n > SPILL_PUT_MAX)
        return err_fail(err, -SKATE_EINVAL, "that spill file is not being written");
    memcpy(left, pieces, (size_t)n * sizeof *left);
    for (int i = 0; i < n;) {
        ssize_t done = pwritev(f->fd, left + i, n - i, (off_t)at);

        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EINVAL && make_buffered(f)) {
            at_store(&f->is_direct, 0);
            continue;
        }
        if (done == 0) errno = ENOSPC;
        if (done <= 0) return file_failed(s, f, "writing failed", err);
        at += (uint64_t)done;
        for (; i < n && (size_t)done >= left[i].iov_len; i++) done -= (ssize_t)left[i].iov_len;
        if (done == 0) continue;
        left[i].iov_base = (char *)left[i].iov_base + done;
        left[i].iov_len -= (size_t)done;
    }
    return 0;
}

static int dir_close(struct spill_target *t, uint64_t file, struct skate_error *err) {
    struct spill_dir *s = (struct spill_dir *)t;
    struct dir_file *f = file_of(s, file);
    int e;

    if (!f || f->fd < 0) return err_fail(err, -SKATE_EINVAL, "that spill file is not open");
    if (!at_load(&f->is_direct)) { /* or the page cache takes the memory that we are to free */
        (void)sync_file_range(f->fd, 0, 0,
                              SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        (void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    e = close(f->fd);
    f->fd = -1;
    return e < 0 && errno != EINTR ? file_failed(s, f, "closing it failed", err) : 0;
}

static int open_for_read(const struct dir_file *f, uint64_t file, bool *direct) {
    int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC, fd = -1;
    char name[32];

    name_of(file, name, sizeof name);
    *direct = at_load(&f->is_direct);
    if (*direct) fd = openat(f->dir->fd, name, flags | O_DIRECT);
    if (fd >= 0 || (*direct && errno != EINVAL)) return fd;
    *direct = false;
    return openat(f->dir->fd, name, flags);
}

static int dir_read(struct spill_target *t, uint64_t file, uint64_t at, void *to, uint64_t bytes,
                    struct skate_error *err) {
    struct dir_file *f = file_of((struct spill_dir *)t, file);
    uint64_t done = 0;
    bool direct;
    int fd, e = 0;

    if (!f) return err_fail(err, -SKATE_ENOENT, "there is no such spill file");
    fd = open_for_read(f, file, &direct);
    if (fd < 0) e = errno;
    while (fd >= 0 && done < bytes) {
        ssize_t n = pread(fd, (char *)to + done, bytes - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) e = errno;
        if (n > 0) done += (uint64_t)n;
        if (n <= 0 || (direct && n % SPILL_BLOCK)) break; /* the file ends there */
    }
    if (fd >= 0 && !direct) (void)posix_fadvise(fd, (off_t)at, (off_t)bytes, POSIX_FADV_DONTNEED);
    if (fd >= 0) close(fd);
    if (e)
        return err_fail(err, e == ENOENT ? -SKATE_ENOENT : -SKATE_EIO,
                        "reading spill file %016llx in %s: %s", (unsigned long long)file,
                        f->dir->path, strerror(e));
    if (done < bytes)
        return err_fail(err, -SKATE_EIO, "spill file %016llx in %s is cut short",
                        (unsigned long long)file, f->dir->path);
    return 0;
}

static int dir_remove(struct spill_target *t, uint64_t file) {
    struct spill_dir *s = (struct spill_dir *)t;
    struct dir_file *f;
    char name[32];
    int e;

    pthread_mutex_lock(&s->lock);
    f = table_take(&s->files, file);
    pthread_mutex_unlock(&s->lock);
    if (!f) return -SKATE_ENOENT;
    if (f->fd >= 0) close(f->fd);
    name_of(file, name, sizeof name);
    e = unlinkat(f->dir->fd, name, 0) < 0 ? code_of(errno) : 0;
    free(f);
    return e;
}

static void dir_punch(struct spill_target *t, uint64_t file, uint64_t at, uint64_t bytes) {
    struct dir_file *f = file_of((struct spill_dir *)t, file);
    char name[32];
    int fd;

    if (!f) return;
    name_of(file, name, sizeof name);
    fd = openat(f->dir->fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return;
    (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)bytes);
    close(fd);
}

/* ---- start and end ---- */

static void dir_end(struct dir *d) {
    if (d->fd >= 0) remove_folder(d->fd, AT_FDCWD, d->path);
    if (d->fd >= 0) close(d->fd);
    if (d->owner_fd >= 0) close(d->owner_fd);
}

static void dir_free(struct spill_target *t) {
    struct spill_dir *s = (struct spill_dir *)t;
    struct dir_file *f;
    uint32_t at = 0;

    while ((f = table_next(&s->files, &at, NULL))) {
        if (f->fd >= 0) close(f->fd);
        free(f);
    }
    table_release(&s->files);
    for (uint32_t i = 0; i < s->count; i++) dir_end(&s->dirs[i]);
    if (s->list_path) (void)unlink(s->list_path);
    free(s->list_path);
    pthread_mutex_destroy(&s->open_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void write_list(const struct spill_dir *s) {
    int fd = open(s->list_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) return; /* then the next session cleans up */
    for (uint32_t i = 0; i < s->count; i++)
        if (dprintf(fd, "%s\n", s->dirs[i].path) < 0) break;
    close(fd);
}

static int set_paths(struct spill_dir *s, const struct spill_dirs *dirs, struct skate_error *err) {
    for (uint32_t i = 0; i < dirs->count; i++) {
        struct dir *d = &s->dirs[i];
        const char *path = dirs->paths[i];
        int n = snprintf(d->path, sizeof d->path, "%s/" FOLDER "%016llx", path,
                         (unsigned long long)dirs->nonce);

        d->fd = d->owner_fd = -1;
        s->count = i + 1;
        if (path[0] != '/' || strchr(path, '\n'))
            return err_fail(err, -SKATE_EINVAL, "a spill directory must be an absolute path: %s",
                            path);
        if (n < 0 || (size_t)n >= sizeof d->path)
            return err_fail(err, -SKATE_EINVAL, "the path of a spill directory is longer than %d "
                            "characters: %s", PATH_MAX_BYTES - 40, path);
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(path, dirs->paths[k]))
                return err_fail(err, -SKATE_EINVAL, "the spill directory %s is named twice", path);
    }
    return 0;
}

/* How many can be used; why not the others. */
static int claim_all(struct spill_dir *s, const struct spill_dirs *dirs, struct skate_error *err) {
    size_t used = 0;
    int good = 0;

    err->text[0] = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct dir *d = &s->dirs[i];
        int e = dir_claim(d), n;

        if (e == 0) {
            good++;
            remove_dead(dirs->paths[i]);
            continue;
        }
        dir_failed(d, -e, "it cannot be made");
        d->rests_until = 0;
        n = snprintf(err->text + used, sizeof err->text - used, "%s%s: %s", used ? "; " : "",
                     dirs->paths[i], strerror(-e));
        used = n < 0 || used + (size_t)n >= sizeof err->text ? sizeof err->text - 1
                                                             : used + (size_t)n;
    }
    return good;
}

int spill_dir_new(const struct spill_dirs *dirs, struct spill_target **ret,
                  struct skate_error *err) {
    static const struct spill_target functions = {
        NULL, dir_open, dir_put, dir_close, dir_read, dir_remove, dir_punch, NULL, dir_free};
    struct skate_error why;
    struct spill_dir *s;
    int e;

    if (dirs->count < 1 || dirs->count > SPILL_DIRS_MAX)
        return err_fail(err, -SKATE_EINVAL, "1 to %d spill directories, not %u", SPILL_DIRS_MAX,
                        dirs->count);
    s = calloc(1, sizeof *s + dirs->count * sizeof s->dirs[0]);
    if (!s) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    s->target = functions;
    s->nonce = dirs->nonce;
    pthread_mutex_init(&s->open_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    e = set_paths(s, dirs, err);
    if (e == 0 && dirs->list_path && !(s->list_path = strdup(dirs->list_path)))
        e = err_fail(err, -SKATE_ENOMEM, "out of memory");
    if (e < 0) {
        dir_free(&s->target);
        return e;
    }
    if (s->list_path) write_list(s);
    e = claim_all(s, dirs, err ? err : &why);
    *ret = &s->target;
    return e;
}
