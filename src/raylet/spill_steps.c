/* spill_steps.c - see spill_steps.h. I/O threads, but for the making and freeing of jobs. */
#include "raylet/spill_steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

enum { PART_RECORDS = SPILL_PUT_MAX / 2 }; /* a head and its data each */

static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* ---- jobs ---- */

void job_free(struct job *j) {
    if (!j) return;
    free(j->places);
    free(j->sums);
    free(j->first_sum);
    free(j->heads);
    free(j->head_at);
    free(j->parts);
    free(j->head);
    free(j);
}

static void *alloc_blocks(uint64_t bytes) {
    void *p;

    return posix_memalign(&p, SPILL_BLOCK, bytes) ? NULL : p;
}

/* Parts of about SPILL_WRITE_STEP; counts them when there is no room for them yet. */
static uint32_t cut_parts(struct job *j) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < j->count;) {
        struct part p = {.first = i, .is_whole = true};

        while (i < j->count && p.count < PART_RECORDS &&
               (p.count == 0 || p.bytes + j->places[i].bytes <= SPILL_WRITE_STEP)) {
            p.bytes += j->places[i++].bytes;
            p.count++;
        }
        if (p.count == 1 && p.bytes > SPILL_WRITE_STEP) {
            uint64_t all = p.bytes;

            p.is_whole = false;
            for (; p.from < all; p.from += p.bytes) {
                p.bytes = min64(all - p.from, SPILL_WRITE_STEP);
                if (j->parts) j->parts[n] = p;
                n++;
            }
            continue;
        }
        if (j->parts) j->parts[n] = p;
        n++;
    }
    return n;
}

struct job *job_new_write(const struct spill_env *env, const struct extent_span *pieces,
                          uint32_t n) {
    struct job *j = calloc(1, sizeof *j);
    uint64_t at = SPILL_BLOCK, granules = 0, heads = SPILL_BLOCK;

    if (!j) return NULL;
    j->kind = JOB_WRITE;
    j->count = n;
    j->places = calloc(n, sizeof *j->places);
    j->first_sum = calloc(n, sizeof *j->first_sum);
    j->head_at = calloc(n, sizeof *j->head_at);
    if (!j->places || !j->first_sum || !j->head_at) return job_free(j), NULL;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes = pieces[i].bytes;

        j->places[i] = (struct spill_place){.bytes = bytes, .offset = pieces[i].offset,
                                            .at = at + spill_head_bytes(bytes)};
        j->first_sum[i] = granules;
        j->head_at[i] = heads;
        at += record_room(bytes);
        heads += spill_head_bytes(bytes);
        granules += spill_granules(bytes);
        j->bytes += bytes;
    }
    j->at = at; /* the length of the file */
    j->sums = calloc(granules, sizeof *j->sums);
    j->heads = alloc_blocks(heads);
    j->parts = calloc(cut_parts(j), sizeof *j->parts);
    if (!j->sums || !j->heads || !j->parts) return job_free(j), NULL;
    j->part_count = cut_parts(j);
    j->steps = env->target->open ? j->part_count + 2 : 1;
    return j;
}

struct job *job_new_read(const struct spill_read *read) {
    uint64_t half = (read->bytes / 2 + SPILL_GRANULE - 1) / SPILL_GRANULE * SPILL_GRANULE;
    struct job *j = calloc(1, sizeof *j);

    if (!j) return NULL;
    j->kind = JOB_READ;
    j->file = read->place.file;
    j->read = *read;
    j->step_bytes = min64(half ? half : SPILL_GRANULE, SPILL_READ_STEP);
    j->is_joined = read->from == 0 && spill_head_bytes(read->place.bytes) == SPILL_BLOCK;
    j->steps = !j->is_joined + (uint32_t)((read->bytes + j->step_bytes - 1) / j->step_bytes);
    return j;
}

bool job_claim(struct job *j, uint32_t *ret_step) {
    if (j->status < 0 || j->next_step == j->steps) return false;
    if (j->kind == JOB_WRITE && j->next_step > 0 &&
        (!j->ready || (j->next_step == j->steps - 1 && j->running)))
        return false;
    *ret_step = j->next_step++;
    j->running++;
    return true;
}

bool job_again(struct job *j) {
    if (j->steps == 1 || ++j->tries == SPILL_TRIES) return false;
    j->next_step = 0;
    j->ready = j->opened = false;
    j->status = 0;
    return true;
}

/* ---- writing ---- */

static void sum_up(const struct spill_env *env, struct job *j, uint32_t i, uint64_t from,
                   uint64_t bytes) {
    const uint8_t *data = env->arena + j->places[i].offset + from;
    uint64_t *sums = j->sums + j->first_sum[i] + from / SPILL_GRANULE;

    for (uint64_t at = 0; at < bytes; at += SPILL_GRANULE)
        *sums++ = spill_sum(data + at, min64(bytes - at, SPILL_GRANULE));
}

static struct iovec make_head(const struct spill_env *env, struct job *j, uint32_t i) {
    struct spill_place *p = &j->places[i];
    struct spill_record_head h = {.nonce = env->nonce, .file = j->file, .record = i,
                                  .offset = p->offset, .bytes = p->bytes};

    p->file = j->file;
    p->check = spill_record_encode(&h, j->sums + j->first_sum[i], j->heads + j->head_at[i]);
    return (struct iovec){j->heads + j->head_at[i], spill_head_bytes(p->bytes)};
}

static struct iovec data_of(const struct spill_env *env, const struct job *j, uint32_t i,
                            uint64_t from, uint64_t bytes) {
    const uint8_t *data = env->arena + j->places[i].offset + from;

    return (struct iovec){(void *)(uintptr_t)data, spill_padded(bytes)};
}

static void make_file_head(const struct spill_env *env, struct job *j) {
    struct spill_file_head h = {.nonce = env->nonce, .file = j->file, .bytes = j->at,
                                .records = j->count};

    spill_file_encode(&h, j->heads);
}

static int write_part(struct spill_env *env, struct job *j, const struct part *p,
                      struct skate_error *err) {
    struct spill_target *t = env->target;
    uint64_t at = j->places[p->first].at;
    struct iovec out[SPILL_PUT_MAX];
    int n = 0;

    if (!p->is_whole) {
        sum_up(env, j, p->first, p->from, p->bytes);
        out[0] = data_of(env, j, p->first, p->from, p->bytes);
        return t->put(t, j->file, at + p->from, out, 1, err);
    }
    for (uint32_t i = p->first; i < p->first + p->count; i++) {
        sum_up(env, j, i, 0, j->places[i].bytes);
        out[n++] = make_head(env, j, i);
        out[n++] = data_of(env, j, i, 0, j->places[i].bytes);
    }
    return t->put(t, j->file, at - out[0].iov_len, out, n, err);
}

/* The heads that no part wrote, and the file's: with it the file is whole. */
static int write_end(struct spill_env *env, struct job *j, struct skate_error *err) {
    struct spill_target *t = env->target;
    struct iovec first = {j->heads, SPILL_BLOCK};
    int e = 0;

    for (uint32_t i = 0; e == 0 && i < j->part_count; i++) {
        const struct part *p = &j->parts[i];
        struct iovec head;

        if (p->is_whole || p->from > 0) continue;
        head = make_head(env, j, p->first);
        if (p->first == 0)
            first.iov_len += head.iov_len; /* it lies behind the file's, here and there */
        else
            e = t->put(t, j->file, j->places[p->first].at - head.iov_len, &head, 1, err);
    }
    make_file_head(env, j);
    if (e == 0) e = t->put(t, j->file, 0, &first, 1, err);
    return e < 0 ? e : t->close(t, j->file, err);
}

/* For a target that takes it only as a whole. */
static int write_whole(struct spill_env *env, struct job *j, struct skate_error *err) {
    struct iovec *out = calloc(1 + 2 * (size_t)j->count, sizeof *out);
    int n = 1, e;

    if (!out) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < j->count; i++) {
        sum_up(env, j, i, 0, j->places[i].bytes);
        out[n++] = make_head(env, j, i);
        out[n++] = data_of(env, j, i, 0, j->places[i].bytes);
    }
    make_file_head(env, j);
    out[0] = (struct iovec){j->heads, SPILL_BLOCK};
    j->opened = true;
    e = env->target->write(env->target, j->file, out, n, err);
    free(out);
    return e;
}

static int write_step(struct spill_env *env, struct job *j, uint32_t step,
                      struct skate_error *err) {
    int e;

    if (j->steps == 1) return write_whole(env, j, err);
    if (step > 0 && step < j->steps - 1) return write_part(env, j, &j->parts[step - 1], err);
    if (step > 0) return write_end(env, j, err);
    e = env->target->open(env->target, j->file, j->at, err);
    j->opened = e == 0;
    return e;
}

/* ---- reading ---- */

static uint64_t part_bytes(const struct job *j, uint64_t at) {
    return min64(j->read.bytes - at, j->step_bytes);
}

/* Into j->head; when joined, the first part into `room` behind a block. */
static int fetch_head(struct spill_env *env, struct job *j, uint8_t *room,
                      struct skate_error *err) {
    const struct spill_place *p = &j->read.place;
    uint64_t bytes = spill_head_bytes(p->bytes);
    int e;

    j->head = alloc_blocks(bytes);
    if (!j->head) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    if (!j->is_joined)
        return env->target->read(env->target, p->file, p->at - bytes, j->head, bytes, err);
    e = env->target->read(env->target, p->file, p->at - bytes, room,
                          bytes + spill_padded(part_bytes(j, 0)), err);
    if (e == 0) memcpy(j->head, room, bytes);
    return e;
}

static int read_head(struct spill_env *env, struct job *j, uint8_t *room,
                     struct skate_error *err) {
    const struct spill_place *p = &j->read.place;
    struct spill_record_head *h = &j->head_says;
    struct skate_error why;
    int e = fetch_head(env, j, room, err);

    if (e < 0) return e;
    if (spill_record_decode(j->head, spill_head_bytes(p->bytes), h, &why) < 0)
        return err_fail(err, -SKATE_EPROTO, "spill file %016llx is damaged: %s",
                        (unsigned long long)p->file, why.text);
    if (h->nonce != env->nonce || h->file != p->file || h->offset != p->offset ||
        h->bytes != p->bytes || spill_record_check(j->head) != p->check)
        return err_fail(err, -SKATE_EPROTO, "spill file %016llx is damaged: another record lies "
                        "at %llu", (unsigned long long)p->file, (unsigned long long)p->at);
    return 0;
}

static int wait_for_head(struct spill_env *env, struct job *j, struct skate_error *err) {
    int state;

    pthread_mutex_lock(&env->lock);
    while (!(state = j->head_state)) pthread_cond_wait(&env->head_known, &env->lock);
    pthread_mutex_unlock(&env->lock);
    return state < 0 ? err_fail(err, state, "%s", j->head_why.text) : 0;
}

static int hand_over(const struct job *j, const uint8_t *from, uint64_t bytes, uint64_t at,
                     struct skate_error *err) {
    for (uint64_t done = 0; done < bytes;) {
        ssize_t n = pwrite(j->read.to_fd, from + done, bytes - done,
                           (off_t)(j->read.to + at + done));

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return err_fail(err, -SKATE_ENOMEM, "no memory for what was spilled: %s",
                            n < 0 ? strerror(errno) : "nothing more fits");
        done += (uint64_t)n;
    }
    return 0;
}

/* The part that begins at `at` of what is wanted lies in `data`. */
static int deliver(struct job *j, uint64_t at, const uint8_t *data, struct skate_error *err) {
    const struct spill_place *p = &j->read.place;
    uint64_t from = j->read.from + at, bytes = part_bytes(j, at);
    int e = 0;

    for (uint64_t done = 0; e == 0 && done < bytes; done += SPILL_GRANULE) {
        uint64_t len = min64(bytes - done, SPILL_GRANULE), index = (from + done) / SPILL_GRANULE;

        if (spill_granule_verify(j->head, &j->head_says, index, data + done, len) < 0)
            e = err_fail(err, -SKATE_EPROTO, "spill file %016llx is damaged: the bytes at %llu "
                         "are not those that were written", (unsigned long long)p->file,
                         (unsigned long long)(p->at + from + done));
        else
            e = hand_over(j, data + done, len, at + done, err);
    }
    return e;
}

static int read_part(struct spill_env *env, struct job *j, uint64_t at, uint8_t *room,
                     struct skate_error *err) {
    const struct spill_place *p = &j->read.place;
    int e = env->target->read(env->target, p->file, p->at + j->read.from + at, room,
                              spill_padded(part_bytes(j, at)), err);

    if (e == 0) e = wait_for_head(env, j, err);
    return e < 0 ? e : deliver(j, at, room, err);
}

static int read_step(struct spill_env *env, struct job *j, uint32_t step, uint8_t *room,
                     struct skate_error *err) {
    int e;

    if (step > 0) return read_part(env, j, (step - !j->is_joined) * j->step_bytes, room, err);
    e = read_head(env, j, room, err);
    pthread_mutex_lock(&env->lock);
    j->head_state = e < 0 ? e : 1;
    if (e < 0) j->head_why = *err;
    pthread_cond_broadcast(&env->head_known);
    pthread_mutex_unlock(&env->lock);
    return e < 0 || !j->is_joined ? e : deliver(j, 0, room + SPILL_BLOCK, err);
}

int job_step(struct spill_env *env, struct job *j, uint32_t step, uint8_t *room,
             struct skate_error *err) {
    SKATE_ASSERT(step < j->steps);
    switch (j->kind) {
    case JOB_WRITE: return write_step(env, j, step, err);
    case JOB_READ: return read_step(env, j, step, room, err);
    case JOB_TRASH: break;
    }
    if (j->bytes)
        env->target->punch(env->target, j->file, j->at, j->bytes);
    else
        (void)env->target->remove(env->target, j->file); /* what cannot go stays */
    return 0;
}
