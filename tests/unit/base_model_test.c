/* The ring and the doorbell under all interleavings of small traces (see model.c). The code is
 * that of src/base/ring.c and doorbell.c, on a ring of 40 bytes; the sleepers do what core/pump.c
 * and core/link.c do. Checked: no frame lost, doubled, torn or out of order; no sleeper left
 * asleep. Each law is broken once, too, and the search must find it. links: base */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdint.h>

/* ---- base/atomic.h, base/futex.h and base/limits.h of this test ---- */
#define SKATE_BASE_ATOMIC_H
#define SKATE_BASE_FUTEX_H
#define SKATE_BASE_LIMITS_H
enum { LIMIT_RING_BYTES = 40, LIMIT_RING_FRAME = 24, LIMIT_CHANNELS = 64 };

#include "base/doorbell.h"
#include "base/ring.h"

struct local {
    struct ring ring;
    uint32_t frames; /* sent, taken */
    bool noted, begun;
};
#include "model.c"

enum fault {
    SOUND,
    RELAXED_HEAD,  /* a publish without release */
    NO_FENCE,      /* bell_ring looks at the bit while its frame is still on the way */
    TORN_OR,       /* a bit is set by a load and a store */
    LATE_STATE,    /* a sleeper looks first, then says that it sleeps */
    NO_LOOK,       /* it does not look */
    OLD_WORD,      /* it reads the futex word after the look */
    EARLY_PUBLISH, /* before the copy */
    NO_BELL,
    STARVED_LATE, /* the wish for room comes after the ring */
    NO_LEVEL,     /* a leader goes and leaves the core thread at "rung for nothing" */
};
static enum fault fault;

static uint64_t torn_or(const void *p, uint64_t bits) {
    uint64_t old = model_op(OP_LOAD, p, 0);

    (void)model_op(OP_SET, p, old | bits);
    return old;
}

#define TYPED(p, x) ((__typeof__(*(p)))(x))
#define at_load(p) TYPED(p, model_op(OP_LOAD, (p), 0))
#define at_load_acquire(p) at_load(p)
#define at_load_seq(p) at_load(p)
#define at_store(p, v) ((void)model_op(OP_STORE, (p), (v)))
#define at_store_release(p, v)                                                                 \
    ((void)model_op(fault == RELAXED_HEAD ? OP_STORE : OP_RELEASE, (p), (v)))
#define at_store_seq(p, v) ((void)model_op(OP_SET, (p), (v)))
#define at_or_seq(p, v)                                                                        \
    TYPED(p, fault == TORN_OR ? torn_or((p), (v)) : model_op(OP_OR, (p), (v)))
#define at_and_seq(p, v) TYPED(p, model_op(OP_AND, (p), (v)))
#define at_add_seq(p, v) TYPED(p, model_op(OP_ADD, (p), (v)))
#define at_fence_seq() ((void)(fault == NO_FENCE ? 0 : model_op(OP_FENCE, NULL, 0)))
#define futex_wake(p, n) ((void)model_op(OP_WAKE, (p), (uint64_t)(n)))
#define futex_wait(p, value, ns) ((void)model_op(OP_WAIT, (p), (value)))
#define memcpy(to, from, n) model_copy(to, from, n)

#include "base/doorbell.c" /* NOLINT: the code under test */
#include "base/ring.c"     /* NOLINT */

/* ---- two processes ---- */

struct places {
    struct ring_shared rings[2];
    struct doorbell bells[2];
    uint32_t lock, has_leader; /* of process 1: its mutex, core.leader */
    uint32_t taken, level; /* level: what may wake its core thread, set_level() */
    uint32_t note; /* what a second sender says: published by its bit alone */
};
_Static_assert(sizeof(struct places) <= WORLD, "");
enum { BIT = 5, NOTE_BIT = 6, FRAMES_MAX = 4 };

static struct {
    uint32_t count, words[FRAMES_MAX]; /* the frames: how many words each */
    enum bell_class cls;
    bool note;
} trace;

static struct places *at(void) { return (void *)world; }

static void lock(void) { (void)model_op(OP_LOCK, &at()->lock, 1); }
static void unlock(void) { (void)model_op(OP_SET, &at()->lock, 0); }

static uint64_t word_of(uint32_t frame, uint32_t i) { return 0x1111 * (frame + 1) + i; }

/* leader_pause() of core/pump.c. */
static void sleep_as_leader(struct doorbell *own, uint32_t level) {
    uint32_t word = 0;
    bool any = false;

    if (fault == OLD_WORD) {
        at_store_seq(&own->leader, level);
        any = bell_any(own);
        word = at_load_seq(&own->leader_bell);
    } else {
        word = at_load_seq(&own->leader_bell);
        if (fault == LATE_STATE) any = bell_any(own);
        at_store_seq(&own->leader, level);
        if (fault != NO_LOOK && fault != LATE_STATE) any = bell_any(own);
    }
    if (!any) futex_wait(&own->leader_bell, word, -1);
    at_store_seq(&own->leader, 1);
}

static void fill(uint8_t *to, uint32_t frame) {
    for (uint32_t i = 0; i < trace.words[frame]; i++) {
        uint64_t word = word_of(frame, i);

        memcpy(to + 8 * (size_t)i, &word, 8);
    }
}

/* put() and link_flush() of core/link.c: false when the ring is full. */
static bool send_frame(struct ring *out, uint32_t frame) {
    struct doorbell *own = &at()->bells[0], *peer = &at()->bells[1];
    uint32_t bytes = 8 * trace.words[frame];
    uint8_t *to = ring_reserve(out, bytes, frame);

    if (!to) {
        while (bell_next(own) >= 0) continue;
        if (fault != STARVED_LATE) at_store_seq(&out->shared->starved, 1);
        bell_ring(peer, BIT, BELL_URGENT);
        to = ring_reserve(out, bytes, frame);
        if (fault == STARVED_LATE) at_store_seq(&out->shared->starved, 1);
    }
    if (!to) return false;
    if (fault != EARLY_PUBLISH) fill(to, frame);
    ring_publish(out, bytes);
    if (fault == EARLY_PUBLISH) fill(to, frame);
    if (fault != NO_BELL) bell_ring(peer, BIT, trace.cls);
    return true;
}

static void producer(struct local *l) {
    struct ring in;

    if (!l->begun) ring_attach(&l->ring, &in, at()->rings, 0);
    for (;;) {
        model_point(l);
        if (l->frames == trace.count) return;
        if (send_frame(&l->ring, l->frames))
            l->frames++;
        else
            sleep_as_leader(&at()->bells[0], 2);
    }
}

static void take_one(const uint64_t *buf, int bytes, uint32_t sequence, uint32_t frame) {
    if (bytes < 0) model_fail("the ring is called corrupt");
    if (frame == trace.count) model_fail("a frame too many");
    if (sequence != frame) model_fail("out of order, or a frame is lost");
    if (bytes != (int)(8 * trace.words[frame])) model_fail("a wrong size");
    for (uint32_t i = 0; i < trace.words[frame]; i++)
        if (buf[i] != word_of(frame, i)) model_fail("a torn frame");
}

/* link_drain() of core/link.c. */
static void drain(struct local *l) {
    uint64_t buf[LIMIT_RING_FRAME / 8] = {0};
    uint32_t sequence = 0;
    int n;

    while ((n = ring_take(&l->ring, buf, &sequence)) != 0) take_one(buf, n, sequence, l->frames++);
    if (at_load(&l->ring.shared->starved)) {
        at_store_seq(&l->ring.shared->starved, 0);
        bell_ring(&at()->bells[0], BIT, BELL_URGENT);
    }
}

static void attach(struct local *l) {
    struct ring out;

    if (!l->begun) ring_attach(&out, &l->ring, at()->rings, 1);
}

/* A thread in get(): the leader, until all is there. */
static void leader(struct local *l) {
    struct doorbell *own = &at()->bells[1];

    attach(l);
    for (;;) {
        int bit;

        model_point(l);
        bit = bell_next(own);
        if (bit == BIT)
            drain(l);
        else if (bit == NOTE_BIT)
            l->noted = at_load(&at()->note);
        else if (bit >= 0)
            model_fail("a bit that nobody set");
        else if (l->frames == trace.count && l->noted == trace.note)
            return;
        else
            sleep_as_leader(own, trace.cls == BELL_QUIET ? 2 : 3);
    }
}

/* core_thread() of core/pump.c, without a leader beside it. */
static void core_thread(struct local *l) {
    struct doorbell *own = &at()->bells[1];
    uint32_t word;

    attach(l);
    for (;;) {
        model_point(l);
        word = at_load_seq(&own->core_bell);
        at_store_seq(&own->core, 0);
        while (bell_next(own) >= 0) drain(l);
        if (l->frames == trace.count) return;
        at_store_seq(&own->core, (uint32_t)trace.cls);
        if (fault != NO_LOOK && bell_any(own)) continue;
        futex_wait(&own->core_bell, word, -1);
    }
}

/* Both, with the process's mutex: the leader leaves after the first frame (leader_end), the core
 * thread takes the rest. What they share lies under the mutex. */
static void take_more(void) {
    struct local l = {.ring = {.shared = &at()->rings[0]}};
    uint32_t before = at_load(&at()->taken);

    l.frames = before;
    l.ring.head = l.ring.tail = at_load(&l.ring.shared->tail);
    while (bell_next(&at()->bells[1]) >= 0) drain(&l);
    if (l.frames != before) at_store(&at()->taken, l.frames);
}

static void first_leader(struct local *l) {
    struct doorbell *own = &at()->bells[1];

    for (;;) {
        model_point(l);
        lock();
        take_more();
        if (at_load(&at()->taken)) break;
        unlock();
        sleep_as_leader(own, 2);
    }
    at_store(&at()->has_leader, 0);
    at_store_seq(&own->leader, 0);
    if (fault != NO_LEVEL) at_store_seq(&own->core, (uint32_t)trace.cls);
    if (fault != NO_LOOK && bell_any(own)) take_more();
    unlock();
}

static void second_core_thread(struct local *l) {
    struct doorbell *own = &at()->bells[1];
    uint32_t word, done;

    for (;;) {
        model_point(l);
        lock();
        word = at_load_seq(&own->core_bell);
        if (!at_load(&at()->has_leader)) {
            at_store_seq(&own->core, 0);
            take_more();
            at_store_seq(&own->core, at_load(&at()->level));
            if (bell_any(own)) {
                unlock();
                continue;
            }
        }
        done = at_load(&at()->taken);
        unlock();
        if (done == trace.count) return;
        futex_wait(&own->core_bell, word, -1);
    }
}

/* A thread that wants what others may leave lying (core_leave). */
static void user_thread(struct local *l) {
    (void)l;
    lock();
    at_store(&at()->level, (uint32_t)trace.cls);
    at_store_seq(&at()->bells[1].core, (uint32_t)trace.cls);
    if (fault != NO_LOOK && bell_any(&at()->bells[1])) take_more();
    unlock();
}

static void second_sender(struct local *l) {
    (void)l;
    at_store(&at()->note, 1);
    bell_ring(&at()->bells[1], NOTE_BIT, trace.cls);
}

static bool all_is_taken(const struct state *s) {
    return s->cells[cell_at(&at()->taken)] == trace.count;
}

/* ---- the searches ---- */

/* `words`: a digit for each frame. */
static void set_up(const char *words, enum bell_class cls, uint32_t leader_state) {
    uint32_t count = (uint32_t)strlen(words);

    memset(model.initial, 0, sizeof model.initial);
    memset(cell_of_word, 0, sizeof cell_of_word);
    cell_count = 0;
    fault = SOUND;
    for (uint32_t i = 0; i < count; i++) trace.words[i] = (uint32_t)(words[i] - '0');
    trace.count = count;
    trace.cls = cls;
    trace.note = false;
    model_init(&at()->bells[0].leader, 1);
    model_init(&at()->level, (uint64_t)cls);
    model_init(&at()->bells[1].leader, leader_state);
    model.count = 2;
    model.may_sleep_on = NULL;
    model.threads[0] = producer;
    model.threads[1] = leader;
}

static void expect_sound(void) {
    for (int kind = TSO; kind <= WEAK; kind++) {
        assert_null(model_run((enum model_kind)kind, true));
        assert_true(model.ends > 0);
        printf("# %s: %llu states, %llu ends\n", kind == TSO ? "TSO" : "weak",
               (unsigned long long)model.states, (unsigned long long)model.ends);
    }
}

static void expect_found(enum fault broken, enum model_kind kind, const char *what) {
    const char *found;

    fault = broken;
    found = model_run(kind, false);
    fault = SOUND;
    assert_non_null(found);
    assert_non_null(strstr(found, what));
}

static void leader_takes_all(void **state) {
    (void)state;
    set_up("121", BELL_WANTED, 1);
    expect_sound();
    expect_found(NO_BELL, TSO, "lost wake-up");
    expect_found(NO_FENCE, TSO, "lost wake-up");
    expect_found(NO_LOOK, TSO, "lost wake-up");
    expect_found(LATE_STATE, TSO, "lost wake-up");
    expect_found(OLD_WORD, TSO, "lost wake-up");
    expect_found(EARLY_PUBLISH, TSO, "");
    expect_found(RELAXED_HEAD, WEAK, "");
    assert_null((fault = RELAXED_HEAD, model_run(TSO, true))); /* x86 forgives it */
}

static void full_ring(void **state) {
    (void)state;
    set_up("22", BELL_QUIET, 1);
    expect_sound();
    expect_found(STARVED_LATE, TSO, "lost wake-up");
}

static void core_thread_takes_all(void **state) {
    (void)state;
    set_up("22", BELL_WANTED, 0);
    model.threads[1] = core_thread;
    expect_sound();
    expect_found(NO_LOOK, TSO, "lost wake-up");
    expect_found(NO_FENCE, TSO, "lost wake-up");
}

static void leader_hands_over(void **state) {
    (void)state;
    set_up("12", BELL_WANTED, 1);
    model.count = 3;
    model.may_sleep_on = all_is_taken;
    model.threads[1] = first_leader;
    model.threads[2] = second_core_thread;
    model_init(&at()->has_leader, 1);
    expect_sound();
    expect_found(NO_LOOK, TSO, "lost wake-up");
    expect_found(NO_LEVEL, TSO, "lost wake-up");
}

static void level_is_raised(void **state) {
    (void)state;
    set_up("1", BELL_WANTED, 0);
    model.count = 3;
    model.may_sleep_on = all_is_taken;
    model.threads[1] = second_core_thread;
    model.threads[2] = user_thread;
    model_init(&at()->level, BELL_URGENT);
    model_init(&at()->bells[1].core, BELL_URGENT);
    expect_sound();
    expect_found(NO_LOOK, TSO, "lost wake-up");
}

static void two_senders(void **state) {
    (void)state;
    set_up("2", BELL_URGENT, 1);
    model.count = 3;
    model.threads[2] = second_sender;
    trace.note = true;
    expect_sound();
    expect_found(TORN_OR, TSO, "lost wake-up");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leader_takes_all),
        cmocka_unit_test(full_ring),
        cmocka_unit_test(core_thread_takes_all),
        cmocka_unit_test(leader_hands_over),
        cmocka_unit_test(level_is_raised),
        cmocka_unit_test(two_senders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
