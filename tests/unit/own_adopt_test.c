/* A core writes its ledger, stopped after each single store: every cut can be adopted, and has all
 * that was promised before. Then ledgers full of noise. libs: base wire own core */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/core_int.h"
#include "own/adopt.h"

enum { ME = 77, BORROWER = 99, PROMISES = 64, TRAP_FLAG = 0x100, GUARDED = 1 << 20 };

static uint8_t *map;
static struct core core;
static struct { struct skate_id id; uint32_t refs; } promised[PROMISES];
static uint32_t promises, cuts;
static volatile sig_atomic_t guarding;

/* The guard: slots of the first ids, and the head of the byte area. */
static void guard(int prot) {
    (void)mprotect(map, GUARDED, prot);
    (void)mprotect(map + LEDGER_AREA_OFFSET, GUARDED, prot);
}

static bool is_kept(const struct adopt *a, const struct skate_id *id) {
    uint32_t slot = map_get(&a->objects, id);

    return slot != MAP_NONE && a->kept[slot];
}

/* Value i of id x is its sequence, repeated. */
static void check_value(const struct wire_val *v, const uint8_t *data) {
    uint64_t x;

    if (v->kind != VAL_INLINE || v->len % 8) return;
    for (uint32_t i = 0; i < v->len; i += 8) {
        memcpy(&x, data + i, 8);
        if (x != v->id.seq >> 16) abort();
    }
}

static void check_cut(void) {
    const struct skate_id *refs;
    const uint8_t *data;
    struct wire_val v;
    struct adopt a;

    cuts++;
    if (adopt_open(&a, map, ME) < 0) abort();
    for (uint32_t i = 0; i < promises; i++) {
        uint32_t slot = map_get(&a.objects, &promised[i].id);

        if (slot == MAP_NONE || !a.kept[slot] || !adopt_object(&a, slot, &v, &data, &refs))
            abort();
        if (v.kind != VAL_INLINE || v.nref != promised[i].refs) abort();
        check_value(&v, data);
        for (uint32_t k = 0; k < v.nref; k++)
            if (refs[k].owner == ME && !is_kept(&a, &refs[k])) abort();
    }
    for (uint32_t i = 0; i < adopt_count(&a); i++)
        if (adopt_object(&a, adopt_slot(&a, i), &v, &data, &refs)) check_value(&v, data);
    adopt_close(&a);
}

static void on_store(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;

    if (!guarding || (uint8_t *)info->si_addr < map ||
        (uint8_t *)info->si_addr >= map + LEDGER_BYTES) {
        (void)signal(sig, SIG_DFL);
        return;
    }
    guard(PROT_READ | PROT_WRITE);
    u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG; /* let this one store through */
}

static void on_stored(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;

    (void)sig;
    (void)info;
    u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    check_cut();
    if (guarding) guard(PROT_READ);
}

static void watch(bool on) {
    guarding = on;
    guard(on ? PROT_READ : PROT_READ | PROT_WRITE);
}

static int no_extent(void *arg, uint64_t bytes, uint64_t *ret_offset, uint64_t *ret_bytes,
                     struct skate_error *err) {
    (void)arg, (void)bytes, (void)ret_offset, (void)ret_bytes;
    return err_fail(err, -SKATE_EFULL, "no arena here");
}

static void core_begin(int *ret_peer) {
    struct heap_env env = {.lend = no_extent, .arena_fd = -1};
    int pair[2];

    map = mmap(NULL, LEDGER_BYTES, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memset(&core, 0, sizeof core);
    (void)pthread_mutex_init(&core.lock, NULL);
    (void)pthread_mutex_init(&core.drop_lock, NULL);
    core.bell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(core.bell != MAP_FAILED);
    core.sock = pair[0];
    core.task_free = core.failing = NONE;
    core.info.proc = ME;
    core.leader = true; /* nobody pumps here */
    core.object_v = mmap(NULL, LEDGER_OBJECTS * sizeof *core.object_v, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(core.object_v != MAP_FAILED);
    assert_int_equal(heap_new(&env, &core.heap), 0);
    ledger_init(&core.ledger, map, ME);
    index_init(&core.objects, &core.ledger.slots[0].id, sizeof *core.ledger.slots);
    *ret_peer = pair[1];
}

static struct skate_id put(uint32_t words, const struct skate_id *refs, uint32_t n) {
    uint64_t data[64], next = core.next_seq + 1;
    struct core_part part = {data, words * 8, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part, .refs = refs,
                           .ref_count = n};
    struct skate_id id;

    for (uint32_t i = 0; i < words; i++) data[i] = next;
    assert_int_equal(core_put(&core, &v, &id, NULL), 0);
    return id;
}

static void promise(const struct skate_id *id, uint32_t refs) {
    borrower_add(&core, id, BORROWER, 1);
    promised[promises].id = *id;
    promised[promises++].refs = refs;
}

static void submit(const struct skate_id *dep, const struct skate_id *ref) {
    uint64_t word = 5;
    struct core_part part = {&word, 8, 8};
    struct core_task t = {.fn = 1, .returns = 2, .name = "f", .deps = dep, .dep_count = 1,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part,
                                   .refs = ref, .ref_count = 1}};
    struct skate_id task;

    assert_int_equal(core_submit(&core, &t, &task, NULL), 0);
}

static void drop(const struct skate_id *id) {
    core_ref_drop(&core, id);
    objects_apply_drops(&core);
}

/* Puts, containers, borrows, tasks, and slots and pieces that are used again and again. */
static void trace(void) {
    struct skate_id inner[3], outer, dead, mine;

    for (uint32_t round = 0; round < 12; round++) {
        for (uint32_t i = 0; i < 3; i++) inner[i] = put(1 + round + i, NULL, 0);
        outer = put(3, inner, 3);
        dead = put(20 + round, inner, 2);
        mine = put(2, &outer, 1);
        promise(&outer, 3);
        for (uint32_t i = 0; i < 3; i++) drop(&inner[i]);
        submit(&outer, &mine);
        drop(&dead);
        drop(&outer);
        if (round % 3 == 0) promise(&mine, 1);
        drop(&mine);
        if (round % 4 == 1) { /* a promise ends */
            struct skate_id first = promised[0].id;

            promised[0] = promised[--promises];
            borrower_add(&core, &first, BORROWER, -1);
        }
    }
}

static void every_cut_can_be_adopted(void **state) {
    struct sigaction segv = {.sa_sigaction = on_store, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction trap = {.sa_sigaction = on_stored, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction old_segv, old_trap;
    uint32_t class;
    struct core_class_opts opts = {.resources = "", .name = "f"};
    int peer;

    (void)state;
    core_begin(&peer);
    assert_int_equal(core_class(&core, &opts, &class), 0);
    (void)sigaction(SIGSEGV, &segv, &old_segv);
    (void)sigaction(SIGTRAP, &trap, &old_trap);
    watch(true);
    trace();
    watch(false);
    (void)sigaction(SIGSEGV, &old_segv, NULL);
    (void)sigaction(SIGTRAP, &old_trap, NULL);
    assert_true(cuts > 1000);
    assert_true(promises > 8);
    core.ledger_map = map;
    core_close(&core);
    (void)close(peer);
}

/* Whatever a process left there, reading it ends well. */
static void noise(void **state) {
    uint8_t *l = mmap(NULL, LEDGER_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct ledger_header *h = (void *)l;
    struct ledger_slot *s = (void *)(l + LEDGER_SLOTS_OFFSET);
    uint64_t *area = (void *)(l + LEDGER_AREA_OFFSET), seed = 1;
    struct adopt a;

    (void)state;
    assert_true(l != MAP_FAILED);
    assert_int_equal(adopt_open(&a, l, ME), -SKATE_EPROTO);
    *h = (struct ledger_header){.magic = LEDGER_MAGIC, .proc = ME, .slots_used = 200,
                                .area_used = 1 << 14};
    for (uint32_t round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < 200 * sizeof *s / 8; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            ((uint64_t *)(void *)s)[i] = seed >> 40 & 0x3fc7;
        }
        for (uint32_t i = 0; i < 200; i++) s[i].id.owner = ME;
        for (uint32_t i = 0; i < (1 << 14) / 8; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            area[i] = seed >> 33 & (seed & 1 ? 0xff : UINT64_MAX);
        }
        assert_int_equal(adopt_open(&a, l, ME), 0);
        adopt_close(&a);
    }
    h->slots_used = UINT64_MAX;
    assert_int_equal(adopt_open(&a, l, ME), -SKATE_EPROTO);
    h->slots_used = 1;
    assert_int_equal(adopt_open(&a, l, ME + 1), -SKATE_EPROTO);
    (void)munmap(l, LEDGER_BYTES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_can_be_adopted), cmocka_unit_test(noise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
