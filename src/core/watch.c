/* watch.c - to be told of objects without waiting for them: what await stands on.
 *
 * A set belongs to one event loop or one thread. A watched object that becomes readable here puts
 * the watcher's token into its set's list of done ones and rings the set's eventfd, once until the
 * list was taken. Watching asks a foreign owner for the value and fetches bytes from other nodes.
 * While anything is watched the core thread is woken for every result. When the session ends all
 * watchers are told, so that none waits for ever. Under the core mutex; nothing here blocks.
 * Tests: tests/compat/test_compat_await.py, tests/unit/core_watch_test.c. */
#include <stdlib.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"

enum { SETS_MAX = 4096, WATCHES_MAX = 4 << 20 };
#define LEND_AFTER_NS INT64_C(10000000)

struct watch {
    uint64_t token;
    uint32_t set, next; /* of the same object, or free */
};
struct watch_set {
    uint64_t *done;
    uint32_t done_count, done_cap;
    int fd; /* -1: not in use */
    bool rung;
};
struct watches {
    struct watch *v;
    uint32_t cap, free;
    struct map of; /* slot -> first watch */
    struct watch_set *sets;
    uint32_t set_count;
    int64_t since_ns; /* something has been watched without a pause */
};

static void ring(struct watch_set *s) {
    uint64_t one = 1;

    if (s->rung) return;
    s->rung = true;
    (void)!write(s->fd, &one, sizeof one);
}

static struct watches *table(struct core *c) {
    if (!c->watches && (c->watches = calloc(1, sizeof *c->watches))) c->watches->free = NONE;
    return c->watches;
}

static struct watch_set *set_at(struct core *c, uint32_t set) {
    struct watches *t = c->watches;

    return t && set < t->set_count && t->sets[set].fd >= 0 ? &t->sets[set] : NULL;
}

int core_watch_open(struct core *c, int fd, uint32_t *ret_set) {
    struct watch_set *grown;
    struct watches *t;
    uint32_t i = 0;
    int r = core_enter(c);

    if (r < 0) return r;
    t = table(c);
    while (t && i < t->set_count && t->sets[i].fd >= 0) i++;
    if (t && i == t->set_count && i < SETS_MAX) {
        grown = realloc(t->sets, (i + 1) * sizeof *grown);
        if (grown) {
            t->sets = grown;
            t->sets[t->set_count++] = (struct watch_set){.fd = -1};
        }
    }
    if (!t || i == t->set_count)
        r = t && i == SETS_MAX ? -SKATE_EFULL : -SKATE_ENOMEM;
    else {
        t->sets[i].fd = fd;
        t->sets[i].rung = false;
        t->sets[i].done_count = 0;
        *ret_set = i;
    }
    core_leave(c);
    return r;
}

static int watch_take(struct watches *t, uint32_t *ret) {
    if (t->free == NONE) {
        uint32_t cap = t->cap ? t->cap * 2 : 256;
        struct watch *grown;

        if (cap > WATCHES_MAX) return -SKATE_EFULL;
        grown = realloc(t->v, cap * sizeof *grown);
        if (!grown) return -SKATE_ENOMEM;
        t->v = grown;
        for (uint32_t i = cap; i-- > t->cap;) {
            t->v[i].next = t->free;
            t->free = i;
        }
        t->cap = cap;
    }
    *ret = t->free;
    t->free = t->v[*ret].next;
    return 0;
}

static void watch_give(struct core *c, uint32_t i) {
    c->watches->v[i].next = c->watches->free;
    c->watches->free = i;
    if (--c->watched == 0) watch_unlend(c);
}

void watch_unlend(struct core *c) {
    if (!c->watch_lent) return;
    c->watch_lent = false;
    lend_end(c);
}

/* A task that has awaited for a while is taken for blocked, as one inside get(): what it awaits may
 * need its CPU. How long the core thread may sleep. */
int64_t watch_tick(struct core *c, int64_t sleep_ns) {
    int64_t left;

    if (!c->watched || !c->run_current || c->watch_lent || c->info.is_driver) return sleep_ns;
    left = c->watches->since_ns + LEND_AFTER_NS - time_now_ns();
    if (left > 0) return left < sleep_ns ? left : sleep_ns;
    c->watch_lent = true;
    lend_begin(c);
    return sleep_ns;
}

/* Room for every watch of the set is made when it begins: done() cannot fail. */
static int done_room(struct watch_set *s, uint32_t watched) {
    uint32_t need = s->done_count + watched, cap = s->done_cap ? s->done_cap : 64;
    uint64_t *grown;

    if (need <= s->done_cap) return 0;
    while (cap < need) cap *= 2;
    grown = realloc(s->done, cap * sizeof *grown);
    if (!grown) return -SKATE_ENOMEM;
    s->done = grown;
    s->done_cap = cap;
    return 0;
}

int core_watch(struct core *c, uint32_t set, const struct skate_id *id, uint64_t token) {
    struct watch_set *s;
    struct skate_id key;
    uint32_t slot, i, first;
    int r = core_enter(c);

    if (r < 0) return r;
    s = set_at(c, set);
    r = s ? 0 : -SKATE_EINVAL;
    slot = r == 0 ? object_make(c, id) : NONE;
    if (r == 0 && slot == NONE) r = -SKATE_EFULL;
    if (r < 0) return core_leave(c), r;
    if (bell_any(c->bell) && !c->leader) pump(c);
    object_want(c, slot);
    if (usable(c, slot, FETCH_GET)) return core_leave(c), 1;
    r = c->dead ? -SKATE_EDEAD : done_room(s, c->watched + 1);
    if (r == 0) r = watch_take(c->watches, &i);
    if (r < 0) return core_leave(c), r;
    key = map_key(slot);
    first = map_get(&c->watches->of, &key);
    c->watches->v[i] = (struct watch){token, set, first == MAP_NONE ? NONE : first};
    r = map_put(&c->watches->of, &key, i);
    if (c->watched == 0 && c->run_current && !c->info.is_driver) {
        c->watches->since_ns = time_now_ns();
        (void)at_add_seq(&c->bell->core_bell, 1);
        futex_wake(&c->bell->core_bell, 1); /* for watch_tick */
    }
    (void)at_add_seq(&c->watched, 1);
    if (at_load_seq(&c->bell->leader) == 3) at_store_seq(&c->bell->leader, 2); /* see pump.c */
    if (r < 0)
        watch_give(c, i);
    else if (!c->object_v[slot].waited) {
        c->object_v[slot].waited = 1;
        object_hold(c, id);
    }
    core_leave(c);
    return r;
}

/* All who watch the object are told. */
static void tell(struct core *c, uint32_t slot) {
    struct skate_id key = map_key(slot), id = c->ledger.slots[slot].id;
    uint32_t i = map_remove(&c->watches->of, &key), next;

    c->object_v[slot].waited = 0;
    for (; i != NONE && i != MAP_NONE; i = next) {
        struct watch *w = &c->watches->v[i];
        struct watch_set *s = &c->watches->sets[w->set];

        next = w->next;
        if (s->fd >= 0) {
            SKATE_ASSERT(s->done_count < s->done_cap);
            s->done[s->done_count++] = w->token;
            ring(s);
        }
        watch_give(c, i);
    }
    object_unhold(c, &id);
}

void watch_ready(struct core *c, uint32_t slot) {
    if (usable(c, slot, FETCH_GET)) tell(c, slot);
}

void watches_end(struct core *c) {
    if (!c->watched) return;
    for (uint32_t i = 0; i < c->ledger.header->slots_used && c->watched; i++)
        if (c->object_v[i].waited) tell(c, i);
}

static bool meant(const struct watch *w, uint32_t set, const uint64_t *token) {
    return w->set == set && (!token || w->token == *token);
}

/* Take a set's watches (token: only that one) off an object; true when there was one. The first
 * of the list keeps its place (the map names it): the next moves into it. */
static bool unlink_watches(struct core *c, uint32_t slot, uint32_t set, const uint64_t *token) {
    struct skate_id key = map_key(slot), id = c->ledger.slots[slot].id;
    struct watch *v = c->watches->v;
    uint32_t first = map_get(&c->watches->of, &key), i, next;
    bool found = false;

    if (first == MAP_NONE) return false;
    for (i = first; (next = v[i].next) != NONE;) {
        if (!meant(&v[next], set, token)) {
            i = next;
            continue;
        }
        v[i].next = v[next].next;
        watch_give(c, next);
        found = true;
    }
    if (!meant(&v[first], set, token)) return found;
    next = v[first].next;
    if (next != NONE) {
        v[first] = v[next];
        watch_give(c, next);
        return true;
    }
    (void)map_remove(&c->watches->of, &key);
    watch_give(c, first);
    c->object_v[slot].waited = 0;
    object_unhold(c, &id);
    return true;
}

bool core_unwatch(struct core *c, uint32_t set, const struct skate_id *id, uint64_t token) {
    uint32_t slot;
    bool found;

    if (core_enter(c) < 0) return false;
    slot = object_find(c, id);
    found = slot != MAP_NONE && c->object_v[slot].waited && set_at(c, set) &&
            unlink_watches(c, slot, set, &token);
    core_leave(c);
    return found;
}

uint32_t core_watch_take(struct core *c, uint32_t set, uint64_t *tokens, uint32_t max) {
    struct watch_set *s;
    uint32_t n = 0;

    if (core_enter(c) < 0) return 0;
    s = set_at(c, set);
    if (s) {
        n = s->done_count < max ? s->done_count : max;
        for (uint32_t i = 0; i < n; i++) tokens[i] = s->done[i];
        s->done_count -= n;
        for (uint32_t i = 0; i < s->done_count; i++) s->done[i] = s->done[i + n];
        if (s->done_count == 0) s->rung = false;
    }
    core_leave(c);
    return n;
}

void core_watch_close(struct core *c, uint32_t set) {
    struct watch_set *s;

    if (core_enter(c) < 0) return;
    s = set_at(c, set);
    if (s) {
        for (uint32_t i = 0; i < c->ledger.header->slots_used && c->watched; i++)
            if (c->object_v[i].waited) (void)unlink_watches(c, i, set, NULL);
        free(s->done);
        *s = (struct watch_set){.fd = -1};
    }
    core_leave(c);
}

void watches_release(struct core *c) {
    struct watches *t = c->watches;

    if (!t) return;
    for (uint32_t i = 0; i < t->set_count; i++) free(t->sets[i].done);
    free(t->sets);
    free(t->v);
    map_release(&t->of);
    free(t);
    c->watches = NULL;
}
