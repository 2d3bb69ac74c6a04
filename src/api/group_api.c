/* group_api.c - placement groups (skate/group.h): frames to the GCS. Tests: tests/c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "api/api_int.h"
#include "base/atomic.h"
#include "wire/wire_gen.h"

enum { BUNDLES_MAX = 1024, STATE_CREATED = 1, STATE_REMOVED = 3, PAUSE_MAX_US = 50000 };

struct skate_group {
    struct skate_id id;
};

struct core_bundle api_place(const struct skate_group *g, int32_t bundle) {
    struct core_bundle place = {.bundle = -1};

    if (!g) return place;
    place.group = g->id;
    place.bundle = bundle;
    return place;
}

/* {u32 index, u32 length, packed resources}, each padded to 8 bytes. */
static int pack_bundles(const struct skate_bundle *bundles, size_t count, struct plain_out *o) {
    for (size_t i = 0; i < count; i++) {
        struct api_wants w = {0, bundles[i].resources, bundles[i].count};
        uint8_t packed[API_PACKED], *p;
        int n = api_pack(&w, packed);
        size_t padded;

        if (n < 0) return n;
        if (n == 0) return api_fail(-SKATE_EINVAL, "bundle %zu has no resources", i);
        padded = ((size_t)n + 7) & ~(size_t)7;
        p = plain_room(o, 8 + padded);
        if (!p) return api_fail(-SKATE_ENOMEM, "no memory for the bundles");
        memset(p, 0, 8 + padded);
        memcpy(p, &(uint32_t){(uint32_t)i}, 4);
        memcpy(p + 4, &(uint32_t){(uint32_t)n}, 4);
        memcpy(p + 8, packed, (size_t)n);
    }
    return 0;
}

/* Ask the GCS and turn its `status` into an error. */
static int ask_status(skate_session *s, struct wire_buf *b) {
    const struct wire_status *m;
    void *answer = NULL;
    int r = wire_end(b);

    if (r < 0) r = api_fail_in(s, r, NULL);
    if (r == 0) r = api_ask(s, b->p, b->len, WIRE_STATUS, &answer);
    wire_release(b);
    if (r < 0) return r;
    m = answer;
    if (m->status < 0) {
        uint32_t n;
        const char *reason = wire_status_reason(m, &n);

        r = api_fail(m->status, "%.*s", (int)n, reason);
    }
    free(answer);
    return r;
}

static int create(skate_session *s, struct skate_group *g, const struct plain_out *bundles,
                  enum skate_strategy strategy, const char *name) {
    const struct core_info *info = core_get_info(s->c);
    struct wire_group_create *m;
    struct wire_buf b;
    uint32_t job = info->job;

    if (getrandom(&g->id, 12, 0) != 12)
        return api_fail(-SKATE_ESYS, "there are no random numbers for a placement group");
    memcpy((uint8_t *)&g->id + 12, &job, 4);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_CREATE);
    if (m) {
        m->group = g->id;
        m->creator = info->proc;
        m->job = job;
        m->strategy = (uint32_t)strategy;
    }
    if (name) WIRE_PUT(&b, group_create, name, name, strlen(name));
    WIRE_PUT(&b, group_create, namespace, s->name_space, strlen(s->name_space));
    WIRE_PUT(&b, group_create, bundles, bundles->out, bundles->len);
    return ask_status(s, &b);
}

int skate_group_create(skate_session *s, const struct skate_bundle *bundles, size_t count,
                       enum skate_strategy strategy, const char *name, struct skate_group **ret) {
    struct skate_group *g;
    struct plain_out o;
    int r;

    if (!bundles || count == 0 || count > BUNDLES_MAX || !ret)
        return api_fail(-SKATE_EINVAL, "a placement group has 1 to %d bundles", BUNDLES_MAX);
    if ((int)strategy < SKATE_PACK || strategy > SKATE_STRICT_SPREAD)
        return api_fail(-SKATE_EINVAL, "%d is no enum skate_strategy", (int)strategy);
    g = calloc(1, sizeof *g);
    if (!g) return api_fail(-SKATE_ENOMEM, "no memory for a placement group");
    plain_out_init(&o);
    r = pack_bundles(bundles, count, &o);
    if (r == 0) r = create(s, g, &o, strategy, name);
    plain_out_release(&o, s->c);
    if (r < 0) return free(g), r;
    *ret = g;
    return 0;
}

/* Its state, and why it waits. */
static int look(skate_session *s, const struct skate_group *g, uint32_t *ret_state, char *reason,
                size_t cap) {
    const struct wire_group_info *m;
    struct wire_group_get *q;
    void *answer = NULL;
    struct wire_buf b;
    const char *text;
    uint32_t n;
    int r;

    wire_init(&b, NULL, 0);
    q = wire_begin(&b, WIRE_GROUP_GET);
    if (q) q->group = g->id;
    r = wire_end(&b);
    if (r < 0) r = api_fail_in(s, r, NULL);
    if (r == 0) r = api_ask(s, b.p, b.len, WIRE_GROUP_INFO, &answer);
    wire_release(&b);
    if (r < 0) return r;
    m = answer;
    *ret_state = m->state;
    text = wire_group_info_reason(m, &n);
    (void)snprintf(reason, cap, "%.*s", (int)n, text);
    free(answer);
    return 0;
}

int skate_group_wait(skate_session *s, const struct skate_group *g, int64_t timeout_ms) {
    uint32_t interrupts = at_load_seq(&s->interrupts), state;
    struct timespec now, pause = {0, 1000000};
    char reason[400];
    int64_t waited = 0, began;
    int r;

    if (!g) return api_fail(-SKATE_EINVAL, "the placement group is NULL");
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    began = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    for (;;) {
        r = look(s, g, &state, reason, sizeof reason);
        if (r < 0) return r;
        if (state == STATE_CREATED) return 0;
        if (state == STATE_REMOVED)
            return api_fail(-SKATE_ENOENT, "the placement group was removed");
        if (at_load_seq(&s->interrupts) != interrupts)
            return api_fail(-SKATE_EINTR, "skate_interrupt() was called");
        if (timeout_ms >= 0 && waited >= timeout_ms)
            return api_fail(-SKATE_ETIMEOUT, "the placement group is not there after %.3f s: %s",
                            (double)waited / 1e3, reason[0] ? reason : "its resources are in use");
        (void)nanosleep(&pause, NULL); /* groups take their time: asked less and less often */
        if (pause.tv_nsec < PAUSE_MAX_US * 1000) pause.tv_nsec *= 2;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        waited = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 - began;
    }
}

int skate_group_remove(skate_session *s, struct skate_group *g) {
    struct wire_group_remove *m;
    struct wire_buf b;
    int r;

    if (!g) return api_fail(-SKATE_EINVAL, "the placement group is NULL");
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_REMOVE);
    if (m) m->group = g->id;
    r = ask_status(s, &b);
    free(g);
    return r;
}

void skate_group_free(skate_session *s, struct skate_group *g) {
    (void)s;
    free(g);
}
