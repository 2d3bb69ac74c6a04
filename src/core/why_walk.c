/* why_walk.c - the walk along a chain of waiting: who is asked, what is written down, deadlocks.
 *
 * A question goes by route to whoever can answer, and is waited for a moment. A node that is met
 * again on its own path closes a cycle. "All of" waits are stuck when one thing is, "any of" waits
 * when all are. A sleeper in core_wait walks after a second and again ever more seldom; a cycle
 * that two walks have seen alike is real, since each edge held all the time between them, and is
 * told to the driver once. Runs in the waiting thread, under the core mutex, which every question
 * gives up. Bounds: MOST nodes, DEEPEST steps, TOLD_MAX cycles remembered. Tests:
 * tests/e2e/test_e2e_why.py, tests/e2e/test_e2e_recipes_hangs.py. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/waits.h"

enum { MOST = 128, DEEPEST = 48 };
#define FIRST_LOOK_NS INT64_C(1000000000)
#define SURE_NS INT64_C(150000000)
#define SELDOM_NS INT64_C(30000000000)
#define ANSWER_NS INT64_C(400000000)

enum verdict { MOVES, STUCK, HOPELESS, ON_PATH };

struct node {
    struct why_edge key;
    enum verdict verdict;
    uint32_t line, line_len; /* its sentence in out */
};
struct walk {
    struct core *c;
    pump_test over; /* the sleeper's: no need to go on */
    struct waiting *w;
    int64_t deadline;
    struct node nodes[MOST];
    uint32_t count, depth, first, last; /* first: where the cycle that was found begins */
    uint64_t key;                       /* of the cycle; 0: none */
    char *out;
    uint32_t used, cap;
    int broken; /* the error that ended it */
};
struct question {
    struct walk *k;
    uint64_t proc;
    uint32_t call;
    struct frame_node *reply;
    bool dead;
};

/* ---- asking ---- */

static bool is_dead(struct core *c, uint64_t proc) {
    struct skate_id key = map_key(proc);
    uint32_t i = map_get(&c->links, &key);

    return i == MAP_NONE ? sweep_is_dead(c, proc) : c->link_v[i]->death != NULL;
}

static bool answered(struct core *c, void *arg) {
    struct question *q = arg;

    if (!q->reply) q->reply = reply_take(c, q->call);
    q->dead = is_dead(c, q->proc);
    return q->reply || q->dead || (q->k->over && q->k->over(c, q->k->w));
}

static void ask(struct walk *k, const struct why_edge *e, struct why_fact *ret) {
    struct core *c = k->c;
    struct wire_why_req m = {
        .head = {.size = sizeof m, .kind = WIRE_WHY_REQ, .fixed = sizeof m},
        .id = e->id, .kind = (uint32_t)e->kind};
    struct question q = {.k = k, .proc = e->proc};
    int64_t until = time_now_ns() + ANSWER_NS;
    int r = 0;

    *ret = (struct why_fact){.self = e->id, .end = WHY_UNKNOWN};
    if (until > k->deadline) until = k->deadline;
    m.head.call = q.call = ++c->next_call;
    c->calls_open++;
    if (is_dead(c, e->proc))
        q.dead = true;
    else if (proc_route(c, e->proc, &m, sizeof m) == 0)
        do r = pump_until(c, answered, &q, until, false);
        while (r == -SKATE_EINTR && !k->over);
    c->calls_open--;
    if (r == -SKATE_EINTR || r == -SKATE_EDEAD || r == -SKATE_ESHUTDOWN) k->broken = r;
    if (q.reply && wire_head(q.reply->data)->kind == WIRE_WHY_INFO)
        why_unpack((const void *)q.reply->data, ret);
    else if (q.dead)
        why_say(ret, "process %u of node %u is dead", proc_number(e->proc), proc_node(e->proc));
    else
        why_say(ret, "%s does not answer", e->proc == SKATE_GCS ? "the control store"
                                           : proc_number(e->proc) ? "its process" : "its raylet");
    free(q.reply);
}

/* False: there is no time left to ask. */
static bool learn(struct walk *k, const struct why_edge *e, struct why_fact *ret) {
    uint32_t slot = e->kind == WHY_REF ? object_find(k->c, &e->id) : MAP_NONE;

    if (e->proc == k->c->info.proc || (slot != MAP_NONE && object_ready(k->c, slot)))
        why_fact_of(k->c, (enum why_kind)e->kind, e->id, ret);
    else if (time_now_ns() >= k->deadline)
        return false;
    else
        ask(k, e, ret);
    return true;
}

/* ---- writing ---- */

/* depth, end, kind, node, process, pid, id, sentence: parted by tabs; skate/_why.py reads it. */
static void write_line(struct walk *k, struct node *n, const struct why_fact *f) {
    uint8_t raw[16];
    char hex[33];
    int len, head;

    memcpy(raw, &f->self, sizeof raw);
    for (int i = 0; i < 16; i++) (void)snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    if (k->used >= k->cap) return;
    head = snprintf(k->out + k->used, k->cap - k->used, "%u\t%u\t%u\t%u\t%u\t%u\t%s\t", k->depth,
                    f->end, (unsigned)n->key.kind, proc_node(n->key.proc),
                    proc_number(n->key.proc), f->pid, hex);
    len = snprintf(k->out + k->used, k->cap - k->used, "%u\t%u\t%u\t%u\t%u\t%u\t%s\t%s\n",
                   k->depth, f->end, (unsigned)n->key.kind, proc_node(n->key.proc),
                   proc_number(n->key.proc), f->pid, hex, f->text);
    if ((uint32_t)len >= k->cap - k->used) { /* whole lines only */
        k->out[k->used] = 0;
        k->cap = k->used;
        return;
    }
    n->line = k->used + (uint32_t)head;
    n->line_len = (uint32_t)(len - head - 1);
    k->used += (uint32_t)len;
}

/* ---- walking ---- */

static struct node *met(struct walk *k, const struct why_edge *key) {
    for (uint32_t i = 0; i < k->count; i++)
        if (k->nodes[i].key.kind == key->kind && k->nodes[i].key.proc == key->proc &&
            id_equal(&k->nodes[i].key.id, &key->id))
            return &k->nodes[i];
    return NULL;
}

static void close_cycle(struct walk *k, const struct node *n) {
    k->key = 0;
    k->first = (uint32_t)(n - k->nodes);
    k->last = k->count;
    for (uint32_t i = k->first; i < k->count; i++)
        if (k->nodes[i].verdict == ON_PATH)
            k->key ^= id_hash(&k->nodes[i].key.id) * (k->nodes[i].key.kind + 3);
    k->key |= 1;
}

static enum verdict visit(struct walk *k, const struct why_edge *e);

static enum verdict weigh(struct walk *k, const struct why_fact *f) {
    uint32_t stuck = 0;
    bool hopeless = false;

    k->depth++;
    for (uint32_t i = 0; i < f->edge_count && !k->broken; i++) {
        enum verdict v = visit(k, &f->edges[i]);

        stuck += v != MOVES;
        hopeless = hopeless || v == HOPELESS;
        if (v != MOVES && !f->any) break;
    }
    k->depth--;
    if (k->broken || stuck == 0) return MOVES;
    if (f->any && (f->cut || stuck < f->edge_count)) return MOVES;
    return hopeless ? HOPELESS : STUCK;
}

static enum verdict visit(struct walk *k, const struct why_edge *e) {
    struct why_edge key = *e;
    struct why_fact fact;
    struct node *n = met(k, e);

    if (!n) {
        if (k->count == MOST || k->depth == DEEPEST || !learn(k, e, &fact)) return MOVES;
        if (k->broken || (k->over && k->over(k->c, k->w))) return MOVES;
        key.id = fact.self;
        n = met(k, &key);
    }
    if (n && n->verdict == ON_PATH) {
        close_cycle(k, n);
        return STUCK;
    }
    if (n) return n->verdict;
    n = &k->nodes[k->count++];
    *n = (struct node){.key = key, .verdict = ON_PATH};
    write_line(k, n, &fact);
    n->verdict = fact.end == WHY_WAITS ? ON_PATH : fact.end == WHY_NEVER ? HOPELESS : MOVES;
    if (n->verdict == ON_PATH) n->verdict = weigh(k, &fact);
    return n->verdict;
}

static struct walk *walk_new(struct core *c, int64_t timeout_ns) {
    struct walk *k = calloc(1, sizeof *k);

    if (k) k->out = calloc(1, CORE_WHY_BYTES);
    if (k && !k->out) {
        free(k);
        return NULL;
    }
    if (!k) return NULL;
    k->c = c;
    k->cap = CORE_WHY_BYTES - 64;
    k->deadline = time_now_ns() + timeout_ns;
    return k;
}

static void walk_free(struct walk *k) {
    free(k->out);
    free(k);
}

int core_why(struct core *c, const struct core_why_ask *ask, char *out) {
    struct walk *k = walk_new(c, ask->timeout_ns);
    struct waiting w = {.ids = ask->ids, .deadline_ns = INT64_MAX};
    struct why_fact all = {.end = WHY_WAITS};
    enum verdict v;
    int r = k ? core_enter(c) : -SKATE_ENOMEM;

    if (r < 0) {
        if (k) walk_free(k);
        return r;
    }
    for (uint32_t i = 0; i < ask->count; i++)
        why_edge_add(&all, ask->ids[i].owner, WHY_REF, ask->ids[i]);
    if (ask->waited_ns >= 0) { /* its get() is over, but the chain is as it was in it */
        w.gone = &all;
        why_wait_begin(c, &w, time_now_ns() - ask->waited_ns);
    }
    v = weigh(k, &all);
    if (ask->waited_ns >= 0) why_wait_end(c, &w);
    core_leave(c);
    (void)snprintf(k->out + k->used, CORE_WHY_BYTES - k->used, "=%u\t%u\n", (unsigned)v,
                   k->broken ? 1u : 0u);
    memcpy(out, k->out, CORE_WHY_BYTES);
    walk_free(k);
    return 0;
}

/* ---- telling ---- */

/* NULL: out of memory. */
static struct why_state *state_of(struct core *c) {
    if (!c->why) c->why = calloc(1, sizeof *c->why);
    return c->why;
}

static bool told_before(struct core *c, uint64_t key) {
    struct why_state *s = state_of(c);

    if (!s) return true;
    for (uint32_t i = 0; i < TOLD_MAX; i++)
        if (s->told[i] == key) return true;
    s->told[s->told_next++ % TOLD_MAX] = key;
    return false;
}

static void tell_driver(struct core *c, uint64_t key, const char *text, uint32_t len) {
    struct wire_buf b;

    if (told_before(c, key)) return;
    wire_init(&b, NULL, 0);
    if (c->info.driver == c->info.proc) {
        struct wire_notice *m = wire_begin(&b, WIRE_NOTICE);

        m->level = 1;
        m->kind = 2;
        m->job = c->info.job;
        WIRE_PUT(&b, notice, text, text, len);
        if (wire_end(&b) == 0) event_keep(c, c->info.proc, b.p, b.len);
    } else {
        ((struct wire_why_told *)wire_begin(&b, WIRE_WHY_TOLD))->key = key;
        WIRE_PUT(&b, why_told, text, text, len);
        if (wire_end(&b) == 0) (void)proc_route(c, c->info.driver, b.p, b.len);
    }
    wire_release(&b);
}

void why_on_told(struct core *c, const struct wire_why_told *m) {
    uint32_t len;
    const char *text = wire_why_told_text(m, &len);

    if (c->info.driver == c->info.proc && len <= WHY_TEXT * MOST) tell_driver(c, m->key, text, len);
}

static void tell(struct walk *k) {
    char *text = malloc(CORE_WHY_BYTES);
    size_t used;

    if (!text) return;
    used = (size_t)snprintf(text, CORE_WHY_BYTES, "deadlock: each of these waits for the next, and "
                                                  "the last for the first; none can go on:");
    for (uint32_t i = k->first; i < k->last && used + WHY_TEXT + 8 < CORE_WHY_BYTES; i++) {
        const struct node *n = &k->nodes[i];

        if (n->verdict != STUCK || n->line_len == 0) continue;
        used += (size_t)snprintf(text + used, CORE_WHY_BYTES - used, "\n    - %.*s",
                                 (int)n->line_len, k->out + n->line);
    }
    tell_driver(k->c, k->key, text, (uint32_t)used);
    free(text);
}

/* ---- a sleeper's look ---- */

static struct skate_id waits_for(const struct waiting *w) {
    return w->ids[w->need == w->count && w->cursor < w->count ? w->cursor : 0];
}

static struct why_watch *watch_find(struct core *c, const struct waiting *w) {
    struct skate_id id = waits_for(w);

    for (uint32_t i = 0; i < WATCHES; i++) {
        struct why_watch *a = &c->why->watches[i];

        if (a->since_ns && pthread_equal(a->thread, w->thread))
            return id_equal(&a->id, &id) && w->since_ns - a->seen_ns < FIRST_LOOK_NS ? a : NULL;
    }
    return NULL;
}

/* Remember that this thread waits for this: its wait may be made of slices. */
static void watch_keep(struct core *c, const struct waiting *w, struct why_watch *state) {
    struct why_state *s = state_of(c);
    struct why_watch *at;

    if (!s) return;
    at = &s->watches[0];
    for (uint32_t i = 0; i < WATCHES; i++) { /* its own place, or the oldest */
        if (s->watches[i].since_ns && pthread_equal(s->watches[i].thread, w->thread)) {
            at = &s->watches[i];
            break;
        }
        if (s->watches[i].seen_ns < at->seen_ns) at = &s->watches[i];
    }
    if (!at->since_ns) s->watched++;
    state->id = waits_for(w);
    state->seen_ns = time_now_ns();
    *at = *state;
}

static int look(struct core *c, pump_test test, struct waiting *w, struct why_watch *s) {
    struct walk *k = walk_new(c, FIRST_LOOK_NS);
    struct why_fact all = {0};
    int r;

    if (!k) return 0;
    k->over = test;
    k->w = w;
    why_fact_of_wait(c, w, &all);
    if (weigh(k, &all) != STUCK || k->broken) k->key = 0;
    if (k->key && k->key == s->key) tell(k);
    if (k->broken || (k->key && k->key != s->key))
        s->next_ns = time_now_ns() + SURE_NS;
    else {
        s->pause_ns = s->pause_ns * 2 < SELDOM_NS ? s->pause_ns * 2 : SELDOM_NS;
        s->next_ns = time_now_ns() + s->pause_ns;
    }
    s->key = k->key;
    r = k->broken;
    walk_free(k);
    return r;
}

int why_pump(struct core *c, pump_test test, struct waiting *w, bool bulk) {
    struct why_watch fresh = {.thread = w->thread, .since_ns = w->since_ns,
                              .next_ns = w->since_ns + FIRST_LOOK_NS,
                              .pause_ns = FIRST_LOOK_NS / 2};
    struct why_watch *old = c->why && c->why->watched ? watch_find(c, w) : NULL;
    struct why_watch s = old ? *old : fresh;
    int r;

    w->asked_ns = s.since_ns;
    for (;;) {
        int64_t until = s.next_ns < w->deadline_ns ? s.next_ns : w->deadline_ns;

        r = pump_until(c, test, w, until, bulk);
        if (r != -SKATE_ETIMEOUT || until == w->deadline_ns) break;
        r = look(c, test, w, &s);
        if (test(c, w)) r = 0;
        else if (r == 0) continue;
        break;
    }
    if (r == -SKATE_ETIMEOUT || r == -SKATE_EINTR)
        watch_keep(c, w, &s);
    else if (old && old->since_ns && pthread_equal(old->thread, w->thread)) {
        old->since_ns = old->seen_ns = 0;
        c->why->watched--;
    }
    return r;
}
