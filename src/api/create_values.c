/* create_values.c - values that are filled where they will lie: skate_create(), skate_seal().
 *
 * The memory is a draft of the core (core/create.h), found again by its address; up to 64 KB it is
 * malloc'd and copied at the end, which is cheaper. Any thread; the session's lock guards the list
 * and is not held while the core blocks. Tests: tests/c/create_case.c. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "api/api_int.h"
#include "base/limits.h"
#include "core/core_room.h"
#include "core/create.h"
#include "wire/frame.h"

struct api_draft {
    struct api_draft *next;
    struct core_draft draft; /* of a large one */
    uint8_t *value, *data;   /* the head of a tensor, and what the caller fills */
    uint64_t size;           /* of both */
    uint8_t format;
    bool small;
    uint32_t head;
    uint8_t head_bytes[192];
};

/* What is to be stored: format, head and size of the value. */
static int describe(const skate_value *like, struct api_draft *d) {
    const skate_tensor *t = like->as.tensor;
    int64_t n;

    if (like->kind == SKATE_BYTES || like->kind == SKATE_ARROW) {
        d->format = like->kind == SKATE_BYTES ? FORMAT_RAW : FORMAT_ARROW;
        d->size = like->as.s.size;
        if (d->size > SIZE_MAX / 4)
            return api_fail(-SKATE_EFULL, "no object store has so much: %zu bytes",
                            (size_t)d->size);
        return 0;
    }
    if (like->kind != SKATE_TENSOR)
        return api_fail(-SKATE_ETYPE, "what is filled in place is a tensor, bytes or an Arrow "
                        "stream; put other values with skate_put()");
    n = t ? skate_tensor_elements(t) : -1;
    if (n < 0)
        return api_fail(-SKATE_EINVAL, "a tensor needs a dtype of enum skate_dtype, 0 to %d "
                        "dimensions that are not negative, and fit into memory", SKATE_DIMS_MAX);
    _Static_assert(sizeof d->head_bytes >= ((8 + 8 * SKATE_DIMS_MAX + 63) & ~63), "any fits");
    d->format = FORMAT_TENSOR;
    d->head = (8 + 8 * t->ndim + 63) & ~63u;
    memcpy(d->head_bytes, &t->dtype, 4);
    memcpy(d->head_bytes + 4, &t->ndim, 4);
    memcpy(d->head_bytes + 8, t->shape, 8 * (size_t)t->ndim);
    d->size = d->head + (uint64_t)n * skate_dtype_size(t->dtype);
    return 0;
}

static int make(skate_session *s, struct api_draft *d, struct skate_error *err) {
    int r;

    d->small = d->size <= LIMIT_SLOT_BYTES;
    if (d->small) {
        void *p = NULL;

        if (posix_memalign(&p, 64, d->size ? d->size : 1)) return -SKATE_ENOMEM;
        d->value = p;
    } else {
        do {
            r = core_room_for(s->c, core_create(s->c, d->size, &d->draft, err), err);
        } while (r == -SKATE_EINTR);
        if (r < 0) return r;
        d->value = d->draft.data;
    }
    d->data = d->value + d->head;
    return 0;
}

static int copy(skate_session *s, struct api_draft *d, struct skate_id *ret,
                struct skate_error *err) {
    struct core_part part = {d->value, d->size, 64};
    struct core_value v = {.format = d->format, .part_count = 1, .parts = &part};
    int r;

    do {
        r = core_room_for(s->c, core_put(s->c, &v, ret, err), err);
    } while (r == -SKATE_EINTR);
    return r;
}

static void forget(skate_session *s, struct api_draft *d) {
    if (d->small)
        free(d->value);
    else if (!d->draft.map)
        core_draft_drop(s->c, &d->draft);
    free(d);
}

int skate_create(skate_session *s, const skate_value *like, void **ret_data) {
    struct skate_error err = {{0}};
    struct api_draft *d;
    int r;

    if (!like || !ret_data) return api_fail(-SKATE_EINVAL, "like or ret_data is NULL");
    d = calloc(1, sizeof *d);
    if (!d) return api_fail(-SKATE_ENOMEM, "no memory");
    r = describe(like, d);
    if (r < 0) return free(d), r;
    r = make(s, d, &err);
    if (r < 0) return free(d), api_fail_in(s, r == -SKATE_ETOOBIG ? -SKATE_EFULL : r, &err);
    (void)pthread_mutex_lock(&s->lock);
    d->next = s->drafts;
    s->drafts = d;
    (void)pthread_mutex_unlock(&s->lock);
    *ret_data = d->data;
    return 0;
}

/* Take it from the list; NULL: it is not there. */
static struct api_draft *take(skate_session *s, const void *data) {
    struct api_draft **at, *d;

    (void)pthread_mutex_lock(&s->lock);
    for (at = &s->drafts; *at && (*at)->data != data;) at = &(*at)->next;
    d = *at;
    if (d) *at = d->next;
    (void)pthread_mutex_unlock(&s->lock);
    return d;
}

int skate_seal(skate_session *s, void *data, skate_ref *ret) {
    struct skate_error err = {{0}};
    struct api_draft *d;
    struct skate_id id;
    int r;

    if (!ret) return api_fail(-SKATE_EINVAL, "ret is NULL");
    d = take(s, data);
    if (!d) return api_fail(-SKATE_EINVAL, "this memory is not of skate_create(), or was sealed");
    memcpy(d->value, d->head_bytes, d->head);
    id = d->draft.id;
    r = d->small ? -SKATE_EINVAL : core_seal_put(s->c, &d->draft, d->format, 0, &err);
    if (r == 0) {
        (void)munmap(d->draft.map, d->draft.map_bytes);
        core_unpin(s->c, d->draft.pin);
    } else
        r = copy(s, d, &id, &err);
    forget(s, d);
    if (r < 0) return api_fail_in(s, r, &err);
    *ret = api_ref(id);
    return 0;
}

void skate_discard(skate_session *s, void *data) {
    struct api_draft *d = data ? take(s, data) : NULL;

    if (d) forget(s, d);
}

void api_drafts_free(skate_session *s) {
    while (s->drafts) {
        struct api_draft *d = s->drafts;

        s->drafts = d->next;
        if (d->small) free(d->value); /* a large one was the session's */
        free(d);
    }
}
