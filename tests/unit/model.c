/* model.c - a small model checker: all interleavings of a few threads over shared words.
 *
 * The including test defines struct local before: what a thread keeps from one round to the next,
 * with a member `bool begun`, zero at first.
 *
 * The code under test is compiled into the test with base/atomic.h, base/futex.h and memcpy
 * replaced by the hooks below; each hook is one step of its thread. What a thread does next
 * depends on nothing but the values it has read, so a thread is its history of values: to learn
 * its next step it is run again with the values it has seen, and left by longjmp at the first step
 * that has no value yet. At the head of a loop it may say model_point(): what its struct local
 * holds is then all that it knows, and its history starts anew. So a state is memory, store
 * buffers and histories, can be copied, and one that was seen before (by hash) is not entered
 * again. The search is exhaustive: it ends when no state is left, or at STATES_MAX, a failure.
 *
 * Memory model: each thread has a store buffer that it reads through; a buffered store reaches
 * memory at any later moment. TSO (x86): in order. WEAK: in any order, but for two stores to one
 * word and for a release store, which waits for all before it. Read-modify-writes, seq_cst stores
 * and fences, futex calls and the mutex empty the buffer first. Loads are not reordered, so a
 * missing acquire is not found here. A futex sleep has no time-out: whoever is not woken sleeps for
 * ever, and the state where nobody can move is the lost wake-up.
 * Included by one test; one thread. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 48, THREADS = 3, BUFFER = 8, STEPS = 160, PATH = 2048, WORLD = 8192 };
enum { STATES_BITS = 22, STATES_MAX = 3 << (STATES_BITS - 2) };
enum op_kind { OP_LOAD, OP_STORE, OP_RELEASE, OP_SET, OP_OR, OP_AND, OP_ADD, OP_FENCE, OP_WAIT,
               OP_WAKE, OP_LOCK, OP_END, OP_FAIL, OP_POINT };
enum model_kind { TSO, WEAK };

struct op {
    uint8_t kind, cell;
    uint64_t value;
};
struct buffered {
    uint8_t cell;
    bool release;
    uint64_t value;
};
struct state {
    uint64_t cells[CELLS], past[THREADS]; /* past: hash of local and the values read */
    uint64_t history[THREADS][STEPS];
    struct local local[THREADS];
    struct buffered buffer[THREADS][BUFFER];
    struct op next[THREADS];
    uint16_t done[THREADS];
    uint8_t used[THREADS], asleep[THREADS]; /* asleep: on this cell, + 1 */
};
struct model {
    void (*threads[THREADS])(struct local *l);
    unsigned count;
    enum model_kind kind;
    bool (*may_sleep_on)(const struct state *s); /* at the end; NULL: nobody may */
    /* the search */
    uint64_t initial[CELLS], *seen, states, ends;
    const char *failure;
    struct walked {
        uint8_t thread;
        bool memory;
        struct op op;
    } path[PATH];
    uint32_t path_len;
    /* the thread that is run again */
    const uint64_t *history;
    unsigned at, known;
    bool resumed;
    struct local local;
    struct op found;
    jmp_buf out;
};

static struct model model;
static struct state pool[PATH + 1]; /* of the path; the C stack stays small, a longjmp cheap */
static _Alignas(64) uint8_t world[WORLD]; /* addresses only: the values are in the states */
static uint8_t cell_of_word[WORLD / 4];
static uint32_t word_of_cell[CELLS], cell_count;

static bool in_world(const void *p) {
    uintptr_t at = (uintptr_t)p, from = (uintptr_t)world;

    return at >= from && at < from + WORLD;
}

static uint8_t cell_at(const void *p) {
    uint32_t word = (uint32_t)((uintptr_t)p - (uintptr_t)world) / 4;

    if (!in_world(p)) abort();
    if (!cell_of_word[word]) {
        if (cell_count + 1 == CELLS) abort();
        cell_of_word[word] = (uint8_t)++cell_count;
        word_of_cell[cell_count] = word;
    }
    return cell_of_word[word];
}

/* One step of the running thread: its value, or out of here when that is not known yet. */
static uint64_t model_op(enum op_kind kind, const void *p, uint64_t value) {
    if (model.at < model.known) return model.history[model.at++];
    model.found = (struct op){.kind = (uint8_t)kind, .cell = p ? cell_at(p) : 0, .value = value};
    longjmp(model.out, 1);
}

static void model_point(struct local *l) {
    if (model.resumed) return (void)(model.resumed = false);
    l->begun = true;
    model.found = (struct op){.kind = OP_POINT};
    longjmp(model.out, 1);
}

static void model_fail(const char *why) {
    model.failure = why;
    (void)model_op(OP_FAIL, NULL, 0);
}

static void model_copy(void *to, const void *from, size_t n) {
    uint64_t word;

    if (!in_world(to) && !in_world(from)) return (void)memcpy(to, from, n);
    if (n % 8) abort();
    for (size_t i = 0; i < n; i += 8) {
        if (in_world(from)) {
            word = model_op(OP_LOAD, (const uint8_t *)from + i, 0);
            memcpy((uint8_t *)to + i, &word, 8);
        } else {
            memcpy(&word, (const uint8_t *)from + i, 8);
            (void)model_op(OP_STORE, (uint8_t *)to + i, word);
        }
    }
}

/* ---- states ---- */

static uint64_t mixed(uint64_t h, uint64_t x) {
    h = (h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t hash_of(const struct local *l) {
    uint64_t h = 7, word;

    for (size_t i = 0; i + 8 <= sizeof *l; i += 8) {
        memcpy(&word, (const uint8_t *)l + i, 8);
        h = mixed(h, word);
    }
    return h;
}

static void learn_next(struct state *s, unsigned t) {
    if (s->done[t] >= STEPS) abort();
    for (;;) {
        model.history = s->history[t];
        model.at = 0;
        model.known = s->done[t];
        model.local = s->local[t];
        model.resumed = model.local.begun;
        if (setjmp(model.out) == 0) {
            model.threads[t](&model.local);
            model.found = (struct op){.kind = OP_END};
        }
        s->next[t] = model.found;
        if (model.found.kind != OP_POINT) return;
        s->local[t] = model.local;
        s->past[t] = hash_of(&model.local);
        s->done[t] = 0;
    }
}

static uint64_t read_cell(const struct state *s, unsigned t, uint8_t cell) {
    for (unsigned i = s->used[t]; i-- > 0;)
        if (s->buffer[t][i].cell == cell) return s->buffer[t][i].value;
    return s->cells[cell];
}

static bool is_store(const struct op *op) { return op->kind == OP_STORE || op->kind == OP_RELEASE; }

static bool may_step(const struct state *s, unsigned t) {
    const struct op *op = &s->next[t];

    if (op->kind == OP_END || s->asleep[t]) return false;
    if (op->kind == OP_LOAD) return true;
    if (is_store(op)) return s->used[t] < BUFFER;
    if (op->kind == OP_LOCK && s->cells[op->cell]) return false;
    return s->used[t] == 0;
}

/* What the step gives its thread. */
static uint64_t apply(struct state *s, unsigned t, const struct op *op) {
    uint64_t old = read_cell(s, t, op->cell);

    switch (op->kind) {
    case OP_STORE:
    case OP_RELEASE:
        s->buffer[t][s->used[t]++] = (struct buffered){op->cell, op->kind == OP_RELEASE, op->value};
        return 0;
    case OP_SET:
    case OP_LOCK: s->cells[op->cell] = op->value; return 0;
    case OP_OR: s->cells[op->cell] |= op->value; break;
    case OP_AND: s->cells[op->cell] &= op->value; break;
    case OP_ADD: s->cells[op->cell] = (uint32_t)(old + op->value); break;
    case OP_WAIT:
        if ((uint32_t)old == (uint32_t)op->value) s->asleep[t] = (uint8_t)(op->cell + 1);
        return 0;
    case OP_WAKE:
        for (unsigned i = 0; i < model.count; i++)
            if (s->asleep[i] == op->cell + 1) s->asleep[i] = 0;
        return 0;
    default: break;
    }
    return old;
}

static void step(struct state *s, unsigned t) {
    uint64_t value = apply(s, t, &s->next[t]);

    s->history[t][s->done[t]++] = value;
    s->past[t] = mixed(s->past[t], value);
    learn_next(s, t);
}

static bool may_reach_memory(const struct state *s, unsigned t, unsigned i) {
    if (i == 0) return true;
    if (model.kind == TSO || s->buffer[t][i].release) return false;
    for (unsigned k = 0; k < i; k++)
        if (s->buffer[t][k].cell == s->buffer[t][i].cell) return false;
    return true;
}

static void reach_memory(struct state *s, unsigned t, unsigned i) {
    s->cells[s->buffer[t][i].cell] = s->buffer[t][i].value;
    s->used[t]--;
    for (; i < s->used[t]; i++) s->buffer[t][i] = s->buffer[t][i + 1];
}

/* True when the state is new. */
static bool is_new(const struct state *s) {
    uint64_t h = 1, mask = (UINT64_C(1) << STATES_BITS) - 1;

    for (uint32_t i = 1; i <= cell_count; i++) h = mixed(h, s->cells[i] + i);
    for (unsigned t = 0; t < model.count; t++) {
        h = mixed(h, s->past[t]);
        h = mixed(h, s->done[t] | (uint64_t)s->used[t] << 16 | (uint64_t)s->asleep[t] << 24);
        for (unsigned i = 0; i < s->used[t]; i++)
            h = mixed(mixed(h, s->buffer[t][i].cell), s->buffer[t][i].value);
    }
    h |= !h;
    for (uint64_t i = h & mask;; i = (i + 1) & mask) {
        if (model.seen[i] == h) return false;
        if (model.seen[i]) continue;
        model.seen[i] = h;
        return true;
    }
}

/* ---- the search ---- */

static void explore(const struct state *s);

static void follow(const struct state *s, struct walked w) {
    model.path[model.path_len++] = w;
    explore(s);
    if (!model.failure) model.path_len--;
}

static void print_path(void) {
    static const char *const names[] = {"load", "store", "release", "set", "or", "and", "add",
                                        "fence", "wait", "wake", "lock", "end", "fail"};

    for (uint32_t i = 0; i < model.path_len; i++) {
        const struct walked *w = &model.path[i];

        printf("#   %u %s +%u %llx\n", w->thread, w->memory ? "memory" : names[w->op.kind],
               word_of_cell[w->op.cell] * 4, (unsigned long long)w->op.value);
    }
}

static bool is_end(const struct state *s) {
    bool sleeps = model.may_sleep_on && model.may_sleep_on(s);

    for (unsigned t = 0; t < model.count; t++)
        if (s->used[t] || (s->next[t].kind != OP_END && !(sleeps && s->asleep[t]))) return false;
    return true;
}

static void explore(const struct state *s) {
    struct state *then = &pool[model.path_len];
    bool moved = false;

    if (model.path_len == PATH) abort();
    for (unsigned t = 0; t < model.count; t++) { /* into the buffer: nobody else sees that step */
        if (s->next[t].kind == OP_FAIL || !is_store(&s->next[t]) || !may_step(s, t)) continue;
        *then = *s;
        step(then, t);
        follow(then, (struct walked){(uint8_t)t, false, s->next[t]});
        return;
    }
    if (!is_new(s)) return;
    if (++model.states >= STATES_MAX) model.failure = "too many states for the search";
    for (unsigned t = 0; t < model.count && !model.failure; t++) {
        if (!may_step(s, t)) continue;
        moved = true;
        *then = *s;
        step(then, t);
        follow(then, (struct walked){(uint8_t)t, false, s->next[t]});
    }
    for (unsigned t = 0; t < model.count && !model.failure; t++)
        for (unsigned i = 0; i < s->used[t] && !model.failure; i++) {
            if (!may_reach_memory(s, t, i)) continue;
            moved = true;
            *then = *s;
            reach_memory(then, t, i);
            follow(then, (struct walked){(uint8_t)t, true, {.cell = s->buffer[t][i].cell,
                                                             .value = s->buffer[t][i].value}});
        }
    if (moved) return;
    if (is_end(s))
        model.ends++;
    else if (!model.failure)
        model.failure = "lost wake-up: nobody can move";
}

static void model_init(const void *p, uint64_t value) { model.initial[cell_at(p)] = value; }

/* Search all; NULL, or what was found (its schedule is printed when `loud`). */
static const char *model_run(enum model_kind kind, bool loud) {
    struct state s = {.done = {0}};

    model.kind = kind;
    model.states = model.ends = 0;
    model.failure = NULL;
    model.path_len = 0;
    model.seen = calloc(UINT64_C(1) << STATES_BITS, sizeof *model.seen);
    if (!model.seen) abort();
    memcpy(s.cells, model.initial, sizeof s.cells);
    for (unsigned t = 0; t < model.count; t++) learn_next(&s, t);
    explore(&s);
    free(model.seen);
    if (loud && model.failure) {
        printf("# %s; thread, step, place, value:\n", model.failure);
        print_path();
    }
    return model.failure;
}
