/* spill_io.c - see spill_io.h: the queues, the two threads, what becomes of what they did.
 *
 * A job is cut into steps (spill_steps.c), which both threads claim under `lock` and run without
 * it. Files and their records, and who still reads them, belong to the loop thread alone. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "raylet/spill_steps.h"
#include "store/table.h"

enum { QUEUES = 3, STOP_SECONDS = 1 };

/* In which order a thread looks at the queues: neither reads nor writes can starve the other. */
static const enum job_kind order_of[SPILL_THREADS][QUEUES] = {
    {JOB_READ, JOB_WRITE, JOB_TRASH},
    {JOB_TRASH, JOB_WRITE, JOB_READ},
};

struct job_list {
    struct job *first, **end;
};

struct record {
    struct spill_place place;
    uint32_t readers;
    bool dead, thrown; /* thrown: its room was given back, or is about to be */
};
struct file {
    uint64_t number, bytes; /* on disk */
    uint32_t count, live, busy; /* busy: reads and a punch under way */
    bool punching;
    struct record records[];
};

struct thread {
    struct spill_io *io;
    pthread_t id;
    uint8_t *room; /* SPILL_ROOM bytes */
    uint32_t index;
};

struct spill_io {
    struct spill_env env; /* what steps are given: target, arena, nonce */
    struct loop *loop;
    int event_fd;
    struct loop_watch *watch;
    struct table files; /* number -> struct file */
    uint64_t next_file;
    struct spill_io_stats stats;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct job_list queues[QUEUES], done;
    bool stop;

    uint32_t started;
    struct thread threads[SPILL_THREADS];
};

/* ---- lists ---- */

static void list_add(struct job_list *l, struct job *j) {
    if (!l->first) l->end = &l->first;
    j->next = NULL;
    *l->end = j;
    l->end = &j->next;
}

static void list_remove(struct job_list *l, struct job *j) {
    struct job **at = &l->first;

    while (*at != j) at = &(*at)->next;
    *at = j->next;
    if (!j->next) l->end = at;
}

static void list_free(struct job_list *l) {
    for (struct job *j = l->first, *next; j; j = next) {
        next = j->next;
        job_free(j);
    }
}

/* ---- the threads ---- */

/* A step that can be run now; lock held. */
static struct job *claim(struct thread *t, uint32_t *ret_step) {
    struct spill_io *io = t->io;

    for (int i = 0; i < QUEUES; i++)
        for (struct job *j = io->queues[order_of[t->index][i]].first; j; j = j->next)
            if (job_claim(j, ret_step)) return j;
    return NULL;
}

/* Both the last step and a failure end a job; lock held. */
static void settle(struct spill_io *io, struct job *j) {
    struct skate_error waste;
    uint64_t one = 1;

    if (j->running || (j->status == 0 && j->next_step < j->steps)) return;
    if (j->status < 0 && j->kind == JOB_WRITE && j->opened) {
        j->running = 1; /* nobody claims a failed job, nor settles one that runs */
        pthread_mutex_unlock(&io->lock);
        (void)io->env.target->remove(io->env.target, j->file);
        pthread_mutex_lock(&io->lock);
        j->running = 0;
        if (job_again(j)) return;
    }
    list_remove(&io->queues[j->kind], j);
    list_add(&io->done, j);
    if (write(io->event_fd, &one, sizeof one) < 0)
        (void)err_fail(&waste, -SKATE_ESYS, "full: then it is awake"); /* EAGAIN */
}

static void *run(void *arg) {
    struct thread *t = arg;
    struct spill_io *io = t->io;
    struct skate_error why;
    struct job *j;
    uint32_t step;

    pthread_mutex_lock(&io->lock);
    while (!io->stop) {
        int e;

        j = claim(t, &step);
        if (!j) {
            pthread_cond_wait(&io->wake, &io->lock);
            continue;
        }
        pthread_mutex_unlock(&io->lock);
        why.text[0] = 0;
        e = job_step(&io->env, j, step, t->room, &why);
        pthread_mutex_lock(&io->lock);
        j->running--;
        if (step == 0) j->ready = true;
        if (e < 0 && j->status == 0) {
            j->status = e;
            j->err = why;
        }
        settle(io, j);
        pthread_cond_broadcast(&io->wake);
    }
    pthread_mutex_unlock(&io->lock);
    return NULL;
}

/* ---- loop thread ---- */

static void submit(struct spill_io *io, struct job *j) {
    if (j->kind != JOB_TRASH) io->stats.jobs++;
    pthread_mutex_lock(&io->lock);
    list_add(&io->queues[j->kind], j);
    pthread_cond_broadcast(&io->wake);
    pthread_mutex_unlock(&io->lock);
}

static struct record *find(struct spill_io *io, const struct spill_place *p, struct file **ret) {
    struct file *f = table_get(&io->files, p->file);
    uint32_t low = 0, high = f ? f->count : 0;
    struct record *rec;

    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (f->records[mid].place.at < p->at)
            low = mid + 1;
        else
            high = mid;
    }
    if (!f || low == f->count) return NULL;
    *ret = f;
    rec = &f->records[low];
    return rec->dead || memcmp(&rec->place, p, sizeof *p) ? NULL : rec;
}

/* The whole file goes, or (bytes not 0) these of it. */
static bool trash(struct spill_io *io, uint64_t file, uint64_t at, uint64_t bytes) {
    struct job *j = calloc(1, sizeof *j);

    if (!j) return false; /* it stays, until the end of the session at most */
    j->kind = JOB_TRASH;
    j->steps = 1;
    j->file = file;
    j->at = at;
    j->bytes = bytes;
    submit(io, j);
    return true;
}

static bool is_waste(const struct record *rec) {
    return rec->dead && !rec->thrown && rec->readers == 0;
}

/* The next dead records that lie side by side; one punch at a time, so that a file that loses all
 * its records in a short time is removed after few of them. */
static void punch_next(struct spill_io *io, struct file *f) {
    uint32_t first = 0, end;
    uint64_t at, bytes = 0;

    while (first < f->count && !is_waste(&f->records[first])) first++;
    if (f->punching || first == f->count) return;
    for (end = first; end < f->count && is_waste(&f->records[end]); end++)
        bytes += record_room(f->records[end].place.bytes);
    at = f->records[first].place.at - spill_head_bytes(f->records[first].place.bytes);
    if (!trash(io, f->number, at, bytes)) return;
    for (uint32_t i = first; i < end; i++) f->records[i].thrown = true;
    f->punching = true;
    f->busy++;
}

/* Give back what nobody needs and nobody reads. */
static void tidy_up(struct spill_io *io, struct file *f) {
    if (f->live) {
        punch_next(io, f);
        return;
    }
    if (f->busy) return;
    (void)trash(io, f->number, 0, 0);
    (void)table_take(&io->files, f->number);
    io->stats.files--;
    io->stats.disk_bytes -= f->bytes;
    free(f);
}

void spill_io_drop(struct spill_io *io, const struct spill_place *place) {
    struct file *f;
    struct record *rec = find(io, place, &f);

    if (!rec) return;
    rec->dead = true;
    f->live--;
    tidy_up(io, f);
}

static struct file *file_new(struct spill_io *io, const struct job *j) {
    struct file *f = calloc(1, sizeof *f + j->count * sizeof f->records[0]);

    if (!f || table_set(&io->files, j->file, f) < 0) {
        free(f);
        return NULL;
    }
    f->number = j->file;
    f->count = f->live = j->count;
    f->bytes = SPILL_BLOCK;
    for (uint32_t i = 0; i < j->count; i++) {
        f->records[i].place = j->places[i];
        f->bytes += record_room(j->places[i].bytes);
    }
    io->stats.files++;
    io->stats.disk_bytes += f->bytes;
    return f;
}

static void write_done(struct spill_io *io, struct job *j) {
    if (j->status < 0) {
        io->stats.write_fails++;
        j->wrote(j->arg, j->status, NULL, 0, j->err.text);
        return;
    }
    io->stats.written += j->bytes;
    j->wrote(j->arg, 0, j->places, j->count, "");
}

static void read_done(struct spill_io *io, struct job *j) {
    struct file *f = table_get(&io->files, j->file);

    SKATE_ASSERT(f && f->busy && j->record < f->count && f->records[j->record].readers);
    f->busy--;
    f->records[j->record].readers--;
    tidy_up(io, f);
    if (j->status == 0) {
        io->stats.read += j->read.bytes;
    } else {
        io->stats.read_fails++;
        io->stats.damaged += j->status == -SKATE_EPROTO;
    }
    j->read.done(j->read.arg, j->status, j->err.text);
}

static void trash_done(struct spill_io *io, struct job *j) {
    struct file *f = j->bytes ? table_get(&io->files, j->file) : NULL;

    if (!j->bytes) return; /* the whole file */
    SKATE_ASSERT(f && f->busy && f->punching);
    f->busy--;
    f->punching = false;
    f->bytes -= j->bytes;
    io->stats.disk_bytes -= j->bytes;
    tidy_up(io, f);
}

static void on_event(void *arg, unsigned events) {
    struct spill_io *io = arg;
    struct job *j, *next;
    uint64_t waste;

    (void)events;
    if (read(io->event_fd, &waste, sizeof waste) < 0) return;
    pthread_mutex_lock(&io->lock);
    j = io->done.first;
    io->done.first = NULL;
    pthread_mutex_unlock(&io->lock);
    for (; j; j = next) {
        next = j->next;
        if (j->kind != JOB_TRASH) io->stats.jobs--;
        if (j->kind == JOB_WRITE && j->status == 0 && !file_new(io, j)) {
            j->status = err_fail(&j->err, -SKATE_ENOMEM, "out of memory");
            (void)trash(io, j->file, 0, 0);
        }
        if (j->kind == JOB_WRITE)
            write_done(io, j);
        else if (j->kind == JOB_READ)
            read_done(io, j);
        else
            trash_done(io, j);
        job_free(j);
    }
}

/* ---- what is asked for ---- */

int spill_io_write(struct spill_io *io, const struct extent_span *pieces, uint32_t n,
                   spill_wrote_fn *done, void *arg) {
    struct job *j;

    if (n == 0 || n > SPILL_RECORDS_MAX) return -SKATE_EINVAL;
    for (uint32_t i = 0; i < n; i++)
        if (pieces[i].offset % SPILL_BLOCK || pieces[i].bytes == 0 ||
            pieces[i].bytes > SPILL_RECORD_MAX)
            return -SKATE_EINVAL;
    if (io->stats.jobs >= SPILL_JOBS_MAX) return -SKATE_EAGAIN;
    j = job_new_write(&io->env, pieces, n);
    if (!j) return -SKATE_ENOMEM;
    j->file = io->next_file++;
    j->wrote = done;
    j->arg = arg;
    submit(io, j);
    return 0;
}

int spill_io_read(struct spill_io *io, const struct spill_read *read) {
    const struct spill_place *p = &read->place;
    struct record *rec;
    struct file *f;
    struct job *j;

    if (read->from % SPILL_GRANULE || read->bytes == 0 || read->from >= p->bytes ||
        read->bytes > p->bytes - read->from ||
        (read->bytes % SPILL_GRANULE && read->from + read->bytes != p->bytes))
        return -SKATE_EINVAL;
    rec = find(io, p, &f);
    if (!rec) return -SKATE_ENOENT;
    if (io->stats.jobs >= SPILL_JOBS_MAX) return -SKATE_EAGAIN;
    j = job_new_read(read);
    if (!j) return -SKATE_ENOMEM;
    j->record = (uint32_t)(rec - f->records);
    rec->readers++;
    f->busy++;
    submit(io, j);
    return 0;
}

void spill_io_stats(const struct spill_io *io, struct spill_io_stats *ret) { *ret = io->stats; }

/* ---- start and end ---- */

static int start_threads(struct spill_io *io) {
    sigset_t all, old;
    int e = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (uint32_t i = 0; e == 0 && i < SPILL_THREADS; i++) {
        struct thread *t = &io->threads[i];

        t->io = io;
        t->index = i;
        t->room = mmap(NULL, SPILL_ROOM, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (t->room == MAP_FAILED)
            e = -SKATE_ENOMEM;
        else if (pthread_create(&t->id, NULL, run, t))
            e = -SKATE_ESYS;
        else
            io->started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e;
}

int spill_io_start(const struct spill_io_start *s, struct spill_io **ret,
                   struct skate_error *err) {
    struct spill_io *io = calloc(1, sizeof *io);
    int e;

    if (!io) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    io->env = (struct spill_env){.arena = s->arena, .target = s->target, .nonce = s->nonce};
    io->loop = s->loop;
    io->next_file = 1;
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->wake, NULL);
    io->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&io->env.lock, NULL);
    pthread_cond_init(&io->env.head_known, NULL);
    e = io->event_fd < 0 ? -SKATE_ESYS : 0;
    if (e == 0) e = loop_watch_fd(s->loop, io->event_fd, LOOP_READ, on_event, io, &io->watch);
    if (e == 0) e = start_threads(io);
    if (e == 0) {
        *ret = io;
        return 0;
    }
    io->env.target = NULL;
    spill_io_stop(io);
    return err_fail(err, e, "the threads that spill cannot be started");
}

/* False: a thread is stuck in the kernel. */
static bool join_all(struct spill_io *io) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_SECONDS;
    while (io->started &&
           pthread_timedjoin_np(io->threads[io->started - 1].id, NULL, &until) == 0)
        io->started--;
    for (uint32_t i = 0; i < io->started; i++) (void)pthread_detach(io->threads[i].id);
    return io->started == 0;
}

struct spill_io *spill_io_stop(struct spill_io *io) {
    struct file *f;
    uint32_t at = 0;

    if (!io) return NULL;
    pthread_mutex_lock(&io->lock);
    io->stop = true;
    pthread_cond_broadcast(&io->wake);
    pthread_mutex_unlock(&io->lock);
    if (io->env.target && io->env.target->stop) io->env.target->stop(io->env.target);
    loop_unwatch(io->watch);
    if (!join_all(io)) return NULL; /* what it may still touch must stay */
    for (uint32_t i = 0; i < SPILL_THREADS; i++)
        if (io->threads[i].room && io->threads[i].room != MAP_FAILED)
            munmap(io->threads[i].room, SPILL_ROOM);
    if (io->event_fd >= 0) close(io->event_fd);
    for (int i = 0; i < QUEUES; i++) list_free(&io->queues[i]);
    list_free(&io->done);
    while ((f = table_next(&io->files, &at, NULL))) free(f);
    table_release(&io->files);
    if (io->env.target) io->env.target->free(io->env.target);
    pthread_cond_destroy(&io->env.head_known);
    pthread_mutex_destroy(&io->env.lock);
    pthread_cond_destroy(&io->wake);
    pthread_mutex_destroy(&io->lock);
    free(io);
    return NULL;
}
