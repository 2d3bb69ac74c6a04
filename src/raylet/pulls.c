/* pulls.c - see pulls.h. */
#include "raylet/pulls.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raylet/links.h"
#include "raylet/pulls_int.h"
#include "raylet/spill.h"

int pulls_start(struct raylet *r) {
    r->pulls = calloc(1, sizeof *r->pulls);
    if (!r->pulls) return -SKATE_ENOMEM;
    fetch_start(r);
    serve_start(r);
    return broadcast_start(r);
}

struct copy *pulls_find(const struct pulls *s, const struct skate_id *id) {
    struct copy *c = table_get(&s->by_key, id_hash(id));

    while (c && !id_equal(&c->id, id)) c = c->same_key;
    return c;
}

static void lru_add(struct pulls *s, struct copy *c) {
    SKATE_ASSERT(!c->in_lru);
    c->newer = NULL;
    c->older = s->newest;
    if (s->newest)
        s->newest->newer = c;
    else
        s->oldest = c;
    s->newest = c;
    c->in_lru = true;
}

static void lru_remove(struct pulls *s, struct copy *c) {
    if (!c->in_lru) return;
    if (c->newer)
        c->newer->older = c->older;
    else
        s->newest = c->older;
    if (c->older)
        c->older->newer = c->newer;
    else
        s->oldest = c->newer;
    c->in_lru = false;
    c->older = c->newer = NULL;
}

/* It is found by its id no more. */
static void unname(struct pulls *s, struct copy *c) {
    struct copy *first = table_take(&s->by_key, c->key), **at = &first;

    while (*at && *at != c) at = &(*at)->same_key;
    if (*at) *at = c->same_key;
    if (first && table_set(&s->by_key, c->key, first) < 0) SKATE_ASSERT(false);
}

static void drop(struct raylet *r, struct copy *c) {
    struct pulls *s = r->pulls;

    unname(s, c);
    lru_remove(s, c);
    fetch_end(r, c);
    table_take(&s->by_offset, c->offset);
    while (c->pullers) {
        struct puller *p = c->pullers;

        c->pullers = p->next;
        free(p);
    }
    if (extents_return(r->extents, r->self, c->offset) < 0) SKATE_ASSERT(false);
    free(c);
}

static void answer(struct raylet *r, uint64_t proc, uint32_t call, const struct copy *c,
                   int status, const char *reason) {
    struct proc *p = proc_find(r, proc);
    uint64_t room[64];
    struct wire_buf b;
    struct wire_pulled *m;

    if (!p) return;
    wire_init(&b, room, sizeof room);
    m = wire_begin(&b, WIRE_PULLED);
    m->head.call = call;
    m->head.flags = call ? WIRE_REPLY : 0;
    m->obj = c->id;
    m->offset = status < 0 ? 0 : c->offset;
    m->size = c->size;
    m->status = status;
    WIRE_PUT(&b, pulled, reason, reason, strlen(reason));
    if (wire_end(&b) == 0) proc_send(p, b.p, b.len);
    wire_release(&b);
}

void pulls_fail(struct raylet *r, struct copy *c, int status, const char *why) {
    for (struct puller *p = c->pullers; p; p = p->next)
        if (p->waits) answer(r, p->proc, p->call, c, status, why);
    drop(r, c);
}

static void after_release(struct raylet *r, struct copy *c) {
    if (c->pullers) return;
    if (c->ready && !c->lost)
        lru_add(r->pulls, c);
    else
        drop(r, c);
}

static int new_copy(struct raylet *r, const struct wire_pull *m, struct copy **ret,
                    struct skate_error *err) {
    struct pulls *s = r->pulls;
    struct copy *c = calloc(1, sizeof *c), *first;
    struct extent_span span;
    int e;

    if (!c) return -SKATE_ENOMEM;
    c->id = m->obj;
    c->key = id_hash(&m->obj);
    c->holder = m->holder;
    c->remote = m->offset;
    c->size = m->size;
    e = spill_lend(r, r->self, m->size, &span, err);
    if (e < 0) {
        free(c);
        return e;
    }
    c->offset = span.offset;
    first = table_get(&s->by_key, c->key);
    c->same_key = first;
    c->req = ++s->next_req;
    if (table_set(&s->by_key, c->key, c) < 0 || table_set(&s->by_offset, c->offset, c) < 0 ||
        table_set(&s->by_req, c->req, c) < 0) {
        drop(r, c);
        return -SKATE_ENOMEM;
    }
    *ret = c;
    return 0;
}

static struct puller *puller_of(struct copy *c, uint64_t proc) {
    struct puller *p = c->pullers;

    while (p && p->proc != proc) p = p->next;
    if (p) return p;
    p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->proc = proc;
    p->next = c->pullers;
    c->pullers = p;
    return p;
}

/* A copy that can be handed out. One that was lost with its spill file is so no more: who holds it
 * keeps it until he lets go. */
struct copy *pulls_find_good(struct raylet *r, const struct skate_id *id) {
    struct copy *c = pulls_find(r->pulls, id);

    if (!c || !c->ready || !pulls_is_lost(r, c->offset, c->size)) return c;
    c->lost = true;
    if (c->pullers)
        unname(r->pulls, c);
    else
        drop(r, c);
    return NULL;
}

/* There is no room for it now: wait, and as long as others are on their way wait on. */
static bool later(struct raylet *r, struct proc *p, const struct wire_pull *m) {
    return spill_later(r, p->id, &m->head, m->size) ||
           (fetch_any(r->pulls) && spill_later(r, p->id, &m->head, 0));
}

/* A new one, not asked for yet; NULL: it was answered, or waits. */
static struct copy *begin(struct raylet *r, struct proc *p, const struct wire_pull *m) {
    struct copy *c = NULL, none = {.id = m->obj, .size = m->size};
    struct skate_error err = {"the object cannot be pulled"};
    uint32_t node = proc_node(m->holder);
    int e;

    if (m->size == 0 || node == r->node || node == 0) {
        answer(r, p->id, m->head.call, &none, -SKATE_EDEAD, "its node is lost");
        return NULL;
    }
    e = new_copy(r, m, &c, &err);
    if (e == -SKATE_EFULL && later(r, p, m)) return NULL;
    if (e == -SKATE_EFULL) spill_refused(r, &err);
    if (e < 0) answer(r, p->id, m->head.call, &none, -SKATE_EFULL, err.text);
    return e < 0 ? NULL : c;
}

void pulls_request(struct raylet *r, struct proc *p, const struct wire_pull *m) {
    struct copy *c = pulls_find_good(r, &m->obj);
    enum pull_why why = m->why < PULL_WHYS ? m->why : PULL_GET;
    bool fresh = !c;
    struct puller *who;

    if (fresh) c = begin(r, p, m);
    if (!c) return;
    lru_remove(r->pulls, c);
    who = puller_of(c, p->id);
    if (!who) {
        answer(r, p->id, m->head.call, c, -SKATE_ENOMEM, "out of memory");
        after_release(r, c);
        return;
    }
    who->holds++;
    if (c->ready) {
        answer(r, p->id, m->head.call, c, 0, "");
        return;
    }
    who->waits = true;
    who->call = m->head.call;
    if (fresh)
        fetch_begin(r, c, why);
    else
        fetch_hurry(r, c, why);
}

void pulls_unpull(struct raylet *r, uint64_t proc, uint64_t offset) {
    struct copy *c = table_get(&r->pulls->by_offset, offset);

    if (!c) return;
    for (struct puller **at = &c->pullers; *at; at = &(*at)->next) {
        struct puller *p = *at;

        if (p->proc != proc) continue;
        if (--p->holds > 0) return;
        *at = p->next;
        free(p);
        after_release(r, c);
        return;
    }
}

/* Apply `step` to every copy; it may drop the one it is given. */
static void for_each(struct raylet *r, void (*step)(struct raylet *, struct copy *, void *),
                     void *arg) {
    uint32_t at = 0, n = 0;
    struct copy *c, **all = calloc(r->pulls->by_offset.count + 1, sizeof *all);

    if (!all) return;
    while ((c = table_next(&r->pulls->by_offset, &at, NULL))) all[n++] = c;
    for (uint32_t i = 0; i < n; i++) step(r, all[i], arg);
    free(all);
}

static void forget_proc(struct raylet *r, struct copy *c, void *arg) {
    uint64_t proc = *(uint64_t *)arg;

    for (struct puller **at = &c->pullers; *at; at = &(*at)->next) {
        struct puller *p = *at;

        if (p->proc != proc) continue;
        *at = p->next;
        free(p);
        after_release(r, c);
        return;
    }
}

void pulls_proc_died(struct raylet *r, uint64_t proc) { for_each(r, forget_proc, &proc); }

void pulls_arrived(struct raylet *r, struct copy *c) {
    c->ready = true;
    r->counts.pulls++;
    r->counts.pulled_bytes += c->size;
    for (struct puller *p = c->pullers; p; p = p->next)
        if (p->waits) {
            p->waits = false;
            answer(r, p->proc, p->call, c, 0, "");
        }
}

bool pulls_is_ready(const struct raylet *r, uint64_t offset) {
    const struct copy *c = table_get(&r->pulls->by_offset, offset);

    return c && c->ready;
}

struct pulls_sum pulls_sum(const struct raylet *r) {
    struct pulls_sum sum = {0};
    const struct copy *c;
    uint32_t at = 0;

    while ((c = table_next(&r->pulls->by_offset, &at, NULL))) {
        sum.copies++;
        sum.bytes += c->size;
        sum.unused += c->in_lru;
        if (c->in_lru) sum.unused_bytes += c->size;
    }
    return sum;
}

bool pulls_evict(struct raylet *r, uint64_t bytes) {
    uint64_t freed = 0;

    while (freed < bytes && r->pulls->oldest) {
        freed += r->pulls->oldest->size;
        r->counts.evictions++;
        r->counts.evicted_bytes += r->pulls->oldest->size;
        drop(r, r->pulls->oldest);
    }
    return freed > 0;
}
