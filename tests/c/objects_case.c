/* Objects and waiting: each kind of value, timeouts, interrupts, watches, threads, forks. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_cases.h"

static skate_value again(skate_session *s, skate_value v) {
    skate_value got;
    skate_ref ref;

    OK(skate_put(s, &v, &ref));
    OK(skate_get(s, ref, 10000, &got));
    skate_ref_drop(s, ref);
    return got;
}

void case_values(skate_session *s) {
    static char large[3 << 20];
    float numbers[6] = {1, 2, 3, 4, 5, 6};
    skate_tensor t = {.data = numbers, .dtype = SKATE_F32, .ndim = 2, .shape = {3, 2}};
    skate_value inner[2] = {skate_int(4), skate_str("vier")}, v, list = skate_list(inner, 2);
    skate_value pairs[2] = {skate_str("list"), list};
    skate_ref ref, ref2;

    CHECK(again(s, skate_nil()).kind == SKATE_NIL);
    CHECK(again(s, skate_bool(true)).as.b);
    CHECK(again(s, skate_int(INT64_MIN)).as.i == INT64_MIN);
    CHECK(again(s, skate_float(2.5)).as.f == 2.5);
    v = again(s, skate_str("gr\xc3\xbc\xc3\x9f"));
    CHECK(v.kind == SKATE_STR && !strcmp(v.as.s.data, "gr\xc3\xbc\xc3\x9f"));
    skate_release(s, &v);
    skate_release(s, &v); /* twice does nothing */
    memset(large, 7, sizeof large);
    v = again(s, skate_bytes(large, sizeof large));
    CHECK(v.kind == SKATE_BYTES && v.as.s.size == sizeof large);
    CHECK(!memcmp(v.as.s.data, large, sizeof large));
    skate_release(s, &v);
    v = again(s, skate_map(pairs, 1));
    CHECK(!strcmp(skate_map_find(&v, "list")->as.list.items[1].as.s.data, "vier"));
    skate_release(s, &v);
    v = again(s, skate_of_tensor(&t));
    CHECK(v.kind == SKATE_TENSOR && v.as.tensor->shape[0] == 3);
    CHECK(((uintptr_t)v.as.tensor->data & 63) == 0);
    CHECK(!memcmp(v.as.tensor->data, numbers, sizeof numbers));
    skate_release(s, &v);
    v = again(s, skate_arrow_bytes(large, 100000));
    CHECK(v.kind == SKATE_ARROW && v.as.s.size == 100000);
    skate_release(s, &v);
    /* A ref inside a value keeps its object, and so does the value that was read. */
    OK(skate_put(s, &inner[1], &ref));
    inner[0] = skate_of_ref(ref);
    OK(skate_put(s, &list, &ref2));
    skate_ref_drop(s, ref);
    OK(skate_get(s, ref2, 1000, &v));
    skate_ref_drop(s, ref2);
    ref = v.as.list.items[0].as.ref;
    skate_ref_copy(s, ref);
    skate_release(s, &v);
    OK(skate_get(s, ref, 1000, &v));
    CHECK(!strcmp(v.as.s.data, "vier"));
    skate_release(s, &v);
    skate_ref_drop(s, ref);
}

/* ---- waiting ---- */

static volatile bool interrupted;

/* Again and again, since nobody knows when the other thread begins to wait. */
static void *interrupt(void *arg) {
    while (!interrupted) {
        skate_interrupt(arg);
        usleep(1000); /* between two tries, see above */
    }
    return NULL;
}

void case_waits(skate_session *s) {
    skate_value args[2] = {skate_int(1), skate_int(2)}, v, three[3];
    skate_function *linger, *add;
    skate_ref refs[3];
    uint8_t ready[3];
    uint64_t token = 0, rung;
    uint32_t set;
    int fd = eventfd(0, EFD_NONBLOCK), r;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    pthread_t other;

    OK(skate_c_function(s, library, "linger", NULL, &linger));
    OK(skate_c_function(s, library, "add", NULL, &add));
    OK(skate_submit(s, linger, NULL, 0, &refs[0]));
    OK(skate_submit(s, add, args, 2, &refs[1]));
    OK(skate_submit(s, add, args, 2, &refs[2]));
    CHECK(skate_wait(s, refs, 3, 2, 30000, ready) == 2);
    CHECK(!ready[0] && ready[1] && ready[2]);
    CHECK(skate_wait(s, refs, 3, 3, 10, ready) == 2);
    CHECK(skate_wait(s, refs, 3, 0, 0, ready) == 2);
    FAILS(skate_get(s, refs[0], 60, &v), SKATE_ETIMEOUT, "linger");
    FAILS(skate_get(s, refs[0], 0, &v), SKATE_ETIMEOUT, "not ready");
    FAILS(skate_get_many(s, refs, 3, 20, three), SKATE_ETIMEOUT, "1 of 3");
    OK(skate_get_many(s, refs + 1, 2, 30000, three));
    CHECK(three[0].as.i == 3 && three[1].as.i == 3);
    CHECK(pthread_create(&other, NULL, interrupt, s) == 0);
    FAILS(skate_get(s, refs[0], -1, &v), SKATE_EINTR, "skate_interrupt");
    interrupted = true;
    CHECK(pthread_join(other, NULL) == 0);
    OK(skate_watch_open(s, fd, &set));
    CHECK(skate_watch(s, set, refs[1], 5) == 1);
    CHECK(skate_watch(s, set, refs[0], 77) == 0);
    CHECK(skate_watched(s, set, &token, 1) == 0);
    OK(skate_cancel(s, refs[0], false));
    CHECK(poll(&p, 1, 30000) == 1 && read(fd, &rung, 8) == 8);
    CHECK(skate_watched(s, set, &token, 1) == 1 && token == 77);
    skate_watch_close(s, set);
    r = skate_get(s, refs[0], 30000, &v);
    CHECK(r == -SKATE_ECANCELLED);
    for (int i = 0; i < 3; i++) skate_ref_drop(s, refs[i]);
    skate_function_free(s, linger);
    skate_function_free(s, add);
    close(fd);
}

/* Room for the ids of so many refs is not to be had: said as that. */
static void no_memory(skate_session *s) {
    size_t count = 60 << 20; /* of 1 GB that is only reserved: nobody looks at the refs */
    skate_ref *refs = calloc(count, sizeof *refs);
    skate_value unused[1];
    struct rlimit before, less;
    uint8_t ready;

    CHECK(refs && getrlimit(RLIMIT_AS, &before) == 0);
    less = before;
    less.rlim_cur = 64 << 20;
    CHECK(setrlimit(RLIMIT_AS, &less) == 0);
    FAILS(skate_get_many(s, refs, count, 0, unused), SKATE_ENOMEM, "no memory for");
    FAILS(skate_wait(s, refs, count, 1, 0, &ready), SKATE_ENOMEM, "no memory for");
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    FAILS(skate_wait(s, refs, (size_t)1 << 32, 1, 0, &ready), SKATE_ETOOBIG, "too many");
    free(refs);
}

/* The store holds 256 MiB, and files 64 times as much: a larger value is refused, and what was
 * there stays. */
void case_full(skate_session *s) {
    size_t size = (size_t)20 << 30; /* only reserved: nobody gets to read it */
    char *large = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    skate_value v = skate_bytes(large, size), small;
    skate_ref ref, kept;

    CHECK(large != MAP_FAILED);
    small = skate_bytes(large, 100 << 20);
    OK(skate_put(s, &small, &kept));
    FAILS(skate_put(s, &v, &ref), SKATE_EFULL, "store");
    OK(skate_get(s, kept, 1000, &v));
    CHECK(v.as.s.size == 100 << 20);
    skate_release(s, &v);
    skate_ref_drop(s, kept);
    CHECK(munmap(large, size) == 0);
    no_memory(s);
}

/* The node's daemon is killed: every call says so, and nothing hangs. */
void case_dead(skate_session *s) {
    skate_value v, one = skate_int(1);
    char path[64], name[32];
    skate_function *linger;
    skate_ref ref, other;
    int pid, daemons = 0;
    FILE *list, *f;

    OK(skate_c_function(s, library, "linger", NULL, &linger));
    OK(skate_submit(s, linger, NULL, 0, &ref));
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    list = fopen(path, "r");
    CHECK(list);
    while (fscanf(list, "%d", &pid) == 1) {
        (void)snprintf(path, sizeof path, "/proc/%d/comm", pid);
        f = fopen(path, "r");
        if (!f) continue;
        if (fgets(name, sizeof name, f) && !strcmp(name, "skate-raylet\n")) {
            CHECK(kill(pid, SIGKILL) == 0);
            daemons++;
        }
        fclose(f);
    }
    fclose(list);
    CHECK(daemons == 1);
    FAILS(skate_get(s, ref, 30000, &v), SKATE_EDEAD, "raylet");
    FAILS(skate_put(s, &one, &other), SKATE_EDEAD, "raylet");
    FAILS(skate_submit(s, linger, NULL, 0, &other), SKATE_EDEAD, "raylet");
    skate_function_free(s, linger);
}

/* Until it is killed; tasks run and wait. */
void case_hang(skate_session *s) {
    skate_function *linger;
    skate_ref refs[8];
    skate_value v;

    OK(skate_c_function(s, library, "linger", NULL, &linger));
    for (int i = 0; i < 8; i++) OK(skate_submit(s, linger, NULL, 0, &refs[i]));
    FAILS(skate_get(s, refs[0], 50, &v), SKATE_ETIMEOUT, "not ready");
    printf("hangs\n");
    fflush(stdout);
    (void)skate_get(s, refs[0], -1, &v);
}

/* Pages of this process's address space. */
static long mapped(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = 0;

    CHECK(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    return pages;
}

/* Two sessions in one process do not know of each other; one that is over leaves nothing. */
void case_two(skate_session *s) {
    struct skate_options o;
    skate_value v = skate_int(4), args[2] = {v, v};
    skate_session *other;
    skate_function *add;
    skate_ref ref;
    long before;

    skate_options_init(&o);
    o.address = "local";
    o.num_cpus = 1;
    o.store_bytes = 64 << 20;
    OK(skate_connect(&o, &other));
    OK(skate_c_function(other, library, "add", NULL, &add));
    OK(skate_submit(other, add, args, 2, &ref));
    CHECK(get_int(other, ref) == 8);
    CHECK(again(s, v).as.i == 4);
    skate_close(other);
    skate_function_free(NULL, add);
    before = mapped();
    for (int i = 0; i < 3; i++) {
        OK(skate_connect(&o, &other));
        skate_close(other);
    }
    CHECK(mapped() - before < (1 << 30) / 4096); /* malloc reserves 64 MB for a thread */
    OK(skate_c_function(s, library, "add", NULL, &add));
    OK(skate_submit(s, add, args, 2, &ref));
    CHECK(get_int(s, ref) == 8);
    skate_function_free(s, add);
}

/* ---- threads and forks ---- */

struct job {
    skate_session *s;
    int number;
};

static void *work(void *arg) {
    struct job *j = arg;
    skate_function *add;
    skate_value v, args[2];

    OK(skate_c_function(j->s, library, "add", NULL, &add));
    args[0] = skate_int(j->number);
    for (int round = 0; round < 20; round++) {
        skate_ref refs[50];

        for (int i = 0; i < 50; i++) {
            args[1] = skate_int(i);
            OK(skate_submit(j->s, add, args, 2, &refs[i]));
        }
        for (int i = 0; i < 50; i++) CHECK(get_int(j->s, refs[i]) == j->number + i);
        v = again(j->s, skate_int(round));
        CHECK(v.as.i == round);
        /* Words are of the thread that failed. */
        CHECK(skate_get(j->s, (skate_ref){{0, 0}}, 0, &v) == -SKATE_EINVAL);
        CHECK(strstr(skate_last_error(), "empty"));
    }
    skate_function_free(j->s, add);
    return NULL;
}

void case_threads(skate_session *s) {
    pthread_t threads[4];
    struct job jobs[4];

    for (int i = 0; i < 4; i++) {
        jobs[i] = (struct job){s, 1000 * i};
        CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
    }
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static volatile bool spawned;

/* Holds the session's lock most of the time. */
static void *spawn_badly(void *arg) {
    skate_actor none = {{{0, 0}}, 0};
    uint64_t first;
    skate_ref done;

    while (!spawned) CHECK(skate_spawn(arg, none, "none", NULL, 0, 1, &first, &done) < 0);
    return NULL;
}

/* A child whose parent's other thread was in the middle of a call. */
static void fork_amid(skate_session *s, skate_actor a) {
    pthread_t other;
    uint64_t first;
    skate_ref done;
    int status;

    CHECK(pthread_create(&other, NULL, spawn_badly, s) == 0);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(20);
            FAILS(skate_spawn(s, a, "counter", NULL, 0, 1, &first, &done), SKATE_EFORKED, "forked");
            _exit(7);
        }
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    spawned = true;
    CHECK(pthread_join(other, NULL) == 0);
}

void case_forks(skate_session *s) {
    skate_value v = skate_int(3), args[2] = {v, v}, got;
    skate_function *add;
    skate_ref ref, result;
    skate_actor a;
    uint8_t ready;
    int status;
    pid_t pid;

    OK(skate_put(s, &v, &ref));
    OK(skate_c_function(s, library, "add", NULL, &add));
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        FAILS(skate_get(s, ref, 100, &got), SKATE_EFORKED, "forked");
        FAILS(skate_put(s, &v, &result), SKATE_EFORKED, "forked");
        FAILS(skate_submit(s, add, args, 2, &result), SKATE_EFORKED, "forked");
        FAILS(skate_wait(s, &ref, 1, 1, 0, &ready), SKATE_EFORKED, "forked");
        skate_ref_drop(s, ref);
        skate_interrupt(s);
        skate_close(s); /* of the parent's session only this process's memory of it */
        _exit(7);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    OK(skate_submit(s, add, args, 2, &result));
    CHECK(get_int(s, result) == 6);
    CHECK(get_int(s, ref) == 3);
    skate_function_free(s, add);
    OK(skate_c_actor(s, library, "counter", NULL, NULL, 0, &a));
    fork_amid(s, a);
    skate_actor_drop(s, a);
}
