/* lease_queue.c - see lease_queue.h. */
#include "sched/lease_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct lease_queue {
    struct lease_class *classes[LEASES_CLASSES_MAX];
    uint32_t class_count, start;
    uint32_t requests, requests_max;
    uint64_t numbers; /* given to classes */
};

struct lease_queue *leases_new(uint32_t requests_max) {
    struct lease_queue *q = calloc(1, sizeof *q);

    if (q) q->requests_max = requests_max;
    return q;
}

static void unlink_ask(struct lease_ask *a) {
    struct lease_class *c = a->cls;

    if (a->prev)
        a->prev->next = a->next;
    else
        c->first = a->next;
    if (a->next)
        a->next->prev = a->prev;
    else
        c->last = a->prev;
    a->prev = a->next = NULL;
    c->asks--;
}

static void append_ask(struct lease_class *c, struct lease_ask *a) {
    a->cls = c;
    a->next = NULL;
    a->prev = c->last;
    if (c->last)
        c->last->next = a;
    else
        c->first = a;
    c->last = a;
    c->asks++;
}

static void drop(struct lease_queue *q, struct lease_ask *a) {
    SKATE_ASSERT(q->requests > 0);
    unlink_ask(a);
    q->requests--;
    free(a->env);
    free(a);
}

struct lease_queue *leases_free(struct lease_queue *q) {
    if (!q) return NULL;
    for (uint32_t i = 0; i < q->class_count; i++) {
        while (q->classes[i]->first) drop(q, q->classes[i]->first);
        free(q->classes[i]);
    }
    free(q);
    return NULL;
}

static bool same_class(const struct lease_class *a, const struct lease_class *b) {
    if (a->strategy != b->strategy || a->affinity != b->affinity) return false;
    if (a->want.count != b->want.count || strcmp(a->labels, b->labels)) return false;
    for (uint32_t i = 0; i < a->want.count; i++)
        if (a->want.v[i].amount != b->want.v[i].amount ||
            strcmp(a->want.v[i].name, b->want.v[i].name))
            return false;
    return true;
}

/* The class like `want`; else a new one, or the place of one that has no requests. */
static struct lease_class *class_of(struct lease_queue *q, const struct lease_class *want) {
    struct lease_class *c, *spare = NULL;

    for (uint32_t i = 0; i < q->class_count; i++) {
        if (same_class(q->classes[i], want)) return q->classes[i];
        if (!q->classes[i]->first && !q->classes[i]->asked && !q->classes[i]->known)
            spare = q->classes[i];
    }
    if (q->class_count == LEASES_CLASSES_MAX) {
        c = spare;
        if (!c) return NULL;
    } else {
        c = calloc(1, sizeof *c);
        if (!c) return NULL;
        q->classes[q->class_count++] = c;
    }
    *c = (struct lease_class){.want = want->want, .strategy = want->strategy,
                              .affinity = want->affinity, .number = ++q->numbers};
    memcpy(c->labels, want->labels, sizeof c->labels);
    return c;
}

static struct lease_ask *find(const struct lease_queue *q, uint64_t owner, uint64_t req) {
    for (uint32_t i = 0; i < q->class_count; i++)
        for (struct lease_ask *a = q->classes[i]->first; a; a = a->next)
            if (a->owner == owner && a->req == req) return a;
    return NULL;
}

const struct lease_ask *leases_find(const struct lease_queue *q, uint64_t owner, uint64_t req) {
    return find(q, owner, req);
}

int leases_put(struct lease_queue *q, const struct lease_ask *ask,
               const struct lease_class *cls, bool add) {
    struct lease_ask *a = find(q, ask->owner, ask->req);
    struct lease_class *c;

    if (a && (add || ask->count > 0)) {
        uint32_t room = UINT32_MAX - a->count;

        if (!add) {
            memcpy(a->locality, ask->locality, sizeof a->locality);
            a->locality_count = ask->locality_count;
        }
        a->count = !add ? ask->count : a->count + (ask->count < room ? ask->count : room);
        return 0;
    }
    if (a) drop(q, a);
    if (ask->count == 0) return 0;
    if (q->requests == q->requests_max) return -SKATE_EFULL;
    c = class_of(q, cls);
    if (!c) return -SKATE_EFULL;
    a = malloc(sizeof *a);
    if (!a) return -SKATE_ENOMEM;
    *a = *ask;
    a->env = malloc(ask->env_len + 1);
    if (!a->env) return free(a), -SKATE_ENOMEM;
    if (ask->env_len) memcpy(a->env, ask->env, ask->env_len);
    append_ask(c, a);
    q->requests++;
    return 0;
}

void leases_served(struct lease_queue *q, struct lease_ask *ask, uint32_t n) {
    struct lease_class *c = ask->cls;

    SKATE_ASSERT(n > 0 && n <= ask->count);
    ask->count -= n;
    if (ask->count == 0) {
        drop(q, ask);
        return;
    }
    unlink_ask(ask);
    append_ask(c, ask);
}

void leases_cancel(struct lease_queue *q, uint64_t owner, uint64_t req) {
    struct lease_ask *a = find(q, owner, req);

    if (a) drop(q, a);
}

void leases_drop_owner(struct lease_queue *q, uint64_t owner) {
    for (uint32_t i = 0; i < q->class_count; i++)
        for (struct lease_ask *a = q->classes[i]->first, *next; a; a = next) {
            next = a->next;
            if (a->owner == owner) drop(q, a);
        }
}

struct lease_class *leases_next_class(struct lease_queue *q, uint32_t *at) {
    while (*at < q->class_count) {
        struct lease_class *c = q->classes[(q->start + (*at)++) % q->class_count];

        if (c->first) return c;
    }
    return NULL;
}

struct lease_class *leases_class_at(struct lease_queue *q, uint32_t i) {
    return i < q->class_count ? q->classes[i] : NULL;
}

struct lease_class *leases_class(struct lease_queue *q, uint64_t number) {
    for (uint32_t i = 0; i < q->class_count; i++)
        if (q->classes[i]->number == number) return q->classes[i];
    return NULL;
}

void leases_turn(struct lease_queue *q) {
    if (q->class_count) q->start = (q->start + 1) % q->class_count;
}

void leases_untell(struct lease_queue *q) {
    for (uint32_t i = 0; i < q->class_count; i++) q->classes[i]->told = false;
}

uint32_t leases_waiting(const struct lease_queue *q) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < q->class_count; i++)
        for (const struct lease_ask *a = q->classes[i]->first; a; a = a->next) n += a->count;
    return n;
}
