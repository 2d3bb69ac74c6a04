/* floor.c - what the machine itself can do: the numbers no runtime here can beat.
 *
 * Two processes share one memory file with two bare single-producer single-consumer rings of
 * 64-byte messages. Nothing else is between them: no ids, no results, no Python.
 *   spin      round trips a second, both sides spinning (and yielding a core that is wanted)
 *   futex     round trips a second, a side that finds nothing sleeps in the kernel at once
 *   pipeline  messages a second through one ring, the consumer reading each
 *   memcpy    GB/s into 100 MB of shared memory that is already mapped and touched
 *   fork      fork + exit + wait a second, from a small process
 *   exec      fork + exec of /bin/true a second
 * Usage: floor SECONDS. Prints lines `name value unit`. Built and run by bench/run.py.
 * It does not use src/base: a floor that shared our ring would move with it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1024, MESSAGE = 64, COPY_BYTES = 100 * 1000 * 1000 };

struct ring {
    _Atomic uint64_t head;
    char pad0[56];
    _Atomic uint64_t tail;
    char pad1[56];
    _Atomic uint32_t bell;
    char pad2[60];
    char slots[SLOTS][MESSAGE];
};

struct channel {
    struct ring out, in;
    _Atomic int stop;
};

static double now_s(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *shared_memory(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static void wake(struct ring *r) {
    atomic_fetch_add(&r->bell, 1);
    syscall(SYS_futex, &r->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Sleep until the ring has something, at most 50 ms (so that `stop` is seen). */
static void sleep_on(struct ring *r) {
    struct timespec limit = {.tv_nsec = 50 * 1000 * 1000};
    uint32_t seen = atomic_load(&r->bell);

    if (atomic_load(&r->head) != atomic_load(&r->tail))
        return;
    syscall(SYS_futex, &r->bell, FUTEX_WAIT, seen, &limit, NULL, 0);
}

static bool ring_send(struct ring *r, const char *message) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

    if (head - atomic_load_explicit(&r->tail, memory_order_acquire) == SLOTS)
        return false;
    memcpy(r->slots[head % SLOTS], message, MESSAGE);
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return true;
}

static bool ring_receive(struct ring *r, char *message) {
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

    if (atomic_load_explicit(&r->head, memory_order_acquire) == tail)
        return false;
    memcpy(message, r->slots[tail % SLOTS], MESSAGE);
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}

/* Nothing there yet: sleep, or spin; a spinner that finds nothing for long lets others run. */
static void pause_on(struct ring *r, bool futex, uint32_t *spins) {
    if (futex)
        sleep_on(r);
    else if (++*spins % 20000 == 0)
        sched_yield();
}

static void echo_loop(struct channel *c, bool futex) {
    char message[MESSAGE];
    uint32_t spins = 0;

    while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        if (!ring_receive(&c->out, message)) {
            pause_on(&c->out, futex, &spins);
            continue;
        }
        message[0]++;
        ring_send(&c->in, message);
        if (futex)
            wake(&c->in);
    }
    _exit(0);
}

static double ping_pong(double seconds, bool futex) {
    struct channel *c = shared_memory(sizeof(*c));
    char message[MESSAGE] = {0};
    uint64_t trips = 0;
    uint32_t spins = 0;
    double began, spent;
    pid_t child = fork();

    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        echo_loop(c, futex);
    }
    began = now_s();
    do {
        memcpy(message + 8, &trips, sizeof(trips));
        ring_send(&c->out, message);
        if (futex)
            wake(&c->out);
        while (!ring_receive(&c->in, message))
            pause_on(&c->in, futex, &spins);
        trips++;
        spent = now_s() - began;
    } while (spent < seconds);
    atomic_store(&c->stop, 1);
    waitpid(child, NULL, 0);
    munmap(c, sizeof(*c));
    return (double)trips / spent;
}

static double pipeline(double seconds) {
    struct channel *c = shared_memory(sizeof(*c));
    char message[MESSAGE] = {0};
    uint64_t sent = 0, sum = 0;
    double began, spent = 0;
    pid_t child = fork();

    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
            if (ring_receive(&c->out, message))
                sum += (uint64_t)message[8];
        }
        _exit((int)(sum & 1));
    }
    began = now_s();
    while (spent < seconds) {
        for (int i = 0; i < 4096; i++) {
            memcpy(message + 8, &sent, sizeof(sent));
            while (!ring_send(&c->out, message))
                ;
            sent++;
        }
        spent = now_s() - began;
    }
    while (atomic_load(&c->out.tail) != sent)
        ;
    spent = now_s() - began;
    atomic_store(&c->stop, 1);
    waitpid(child, NULL, 0);
    munmap(c, sizeof(*c));
    return (double)sent / spent;
}

static double copy_speed(double seconds) {
    char *from = malloc(COPY_BYTES), *to = shared_memory(COPY_BYTES);
    double began, spent, copied = 0;

    if (!from)
        exit(1);
    memset(from, 1, COPY_BYTES);
    memset(to, 2, COPY_BYTES);
    began = now_s();
    do {
        from[(size_t)copied % COPY_BYTES]++;
        memcpy(to, from, COPY_BYTES);
        copied += COPY_BYTES;
        spent = now_s() - began;
    } while (spent < seconds);
    if (to[1] == 77)
        puts(""); /* the copy is used */
    munmap(to, COPY_BYTES);
    free(from);
    return copied / spent / 1e9;
}

static double forks(double seconds, bool exec) {
    char *const args[] = {(char *)"/bin/true", NULL};
    double began = now_s(), spent;
    uint64_t count = 0;

    do {
        pid_t child = fork();

        if (child < 0) {
            perror("fork");
            exit(1);
        }
        if (child == 0) {
            if (exec)
                execv(args[0], args);
            _exit(0);
        }
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        count++;
        spent = now_s() - began;
    } while (spent < seconds);
    return (double)count / spent;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;

    if (seconds <= 0 || seconds > 60) {
        fprintf(stderr, "usage: floor SECONDS\n");
        return 2;
    }
    printf("spin %.0f /s\n", ping_pong(seconds, false));
    printf("futex %.0f /s\n", ping_pong(seconds, true));
    printf("pipeline %.0f /s\n", pipeline(seconds));
    printf("memcpy %.3f GB/s\n", copy_speed(seconds));
    printf("fork %.0f /s\n", forks(seconds, false));
    printf("exec %.0f /s\n", forks(seconds, true));
    return 0;
}
