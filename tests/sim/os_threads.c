/* os_threads.c - threads, mutexes, conditions and futexes of the simulated processes.
 *
 * One thread runs at a time and only waits where it says so, so that a mutex is no more than its
 * owner's name; it is kept in the memory of the real thing. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "sim_os.h"

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);

struct mutex { /* in a pthread_mutex_t; zeroes: free */
    void *owner;
    struct sim_queue waiters;
};
struct cond { /* in a pthread_cond_t */
    struct sim_queue waiters;
};
_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t), "fits");
_Static_assert(sizeof(struct cond) <= sizeof(pthread_cond_t), "fits");

static char loop_thread;

static void *self(void) { return sim_thread_cur ? (void *)sim_thread_cur : (void *)&loop_thread; }

pthread_t __wrap_pthread_self(void);
pthread_t __wrap_pthread_self(void) { return (pthread_t)self(); }

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr) {
    (void)attr;
    memset(m, 0, sizeof *m);
    return 0;
}
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m) {
    (void)m;
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *p);
int __wrap_pthread_mutex_lock(pthread_mutex_t *p) {
    struct mutex *m = (void *)p;

    if (m->owner == self()) {
        printf("%s locks twice\n", sim_cur ? sim_cur->name : "-");
        abort();
    }
    while (m->owner) (void)sim_wait(&m->waiters, -1);
    m->owner = self();
    return 0;
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *p);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *p) {
    struct mutex *m = (void *)p;

    if (m->owner) return EBUSY;
    m->owner = self();
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *p);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *p) {
    struct mutex *m = (void *)p;

    m->owner = NULL;
    (void)sim_wake(&m->waiters);
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr) {
    (void)attr;
    memset(c, 0, sizeof *c);
    return 0;
}
int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_destroy(pthread_cond_t *c) {
    (void)c;
    return 0;
}

static int cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until) {
    int e;

    (void)__wrap_pthread_mutex_unlock(m);
    e = sim_wait(&((struct cond *)(void *)c)->waiters, until);
    (void)__wrap_pthread_mutex_lock(m);
    return e < 0 ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) { return cond_wait(c, m, -1); }
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
    int64_t until = t->tv_sec > 4000000000 ? INT64_MAX / 2 : t->tv_sec * SIM_S + t->tv_nsec;

    return cond_wait(c, m, until < 0 ? 0 : until);
}
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_signal(pthread_cond_t *c) {
    (void)sim_wake(&((struct cond *)(void *)c)->waiters);
    return 0;
}
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c) {
    while (sim_wake(&((struct cond *)(void *)c)->waiters)) {}
    return 0;
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg) {
    (void)attr;
    *ret = (pthread_t)sim_thread_new(sim_cur, run, arg);
    return 0;
}
int __wrap_pthread_join(pthread_t t, void **ret);
int __wrap_pthread_join(pthread_t t, void **ret) {
    if (ret) *ret = NULL;
    return sim_thread_join((struct sim_thread *)t, -1);
}
int __wrap_pthread_timedjoin_np(pthread_t t, void **ret, const struct timespec *until);
int __wrap_pthread_timedjoin_np(pthread_t t, void **ret, const struct timespec *until) {
    (void)ret, (void)until;
    if (!sim_thread_cur) return ETIMEDOUT; /* a raylet's last moment: its threads go with it */
    return sim_thread_join((struct sim_thread *)t, sim_now + SIM_S) < 0 ? ETIMEDOUT : 0;
}
int __wrap_pthread_detach(pthread_t t);
int __wrap_pthread_detach(pthread_t t) {
    (void)t;
    return 0;
}
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    (void)how, (void)set;
    if (old) (void)sigemptyset(old);
    return 0;
}
int __wrap_pthread_kill(pthread_t t, int signal);
int __wrap_pthread_kill(pthread_t t, int signal) {
    (void)t, (void)signal;
    return 0;
}

/* ---- futexes ---- */

struct sleeper {
    struct sleeper *next;
    uint64_t file, offset;
    struct sim_queue queue;
};
static struct sleeper *sleepers;

static long futex_sleep(uint32_t *word, uint32_t value, const struct timespec *t) {
    struct sleeper s = {.next = NULL}, **at = &sleepers;
    int64_t until = t ? sim_now + t->tv_sec * SIM_S + t->tv_nsec : -1;
    int e;

    if (*word != value) return errno = EAGAIN, -1;
    sim_word_key(word, &s.file, &s.offset);
    while (*at) at = &(*at)->next;
    *at = &s;
    e = sim_wait(&s.queue, until);
    for (at = &sleepers; *at != &s; at = &(*at)->next) {}
    *at = s.next;
    return e < 0 ? (errno = ETIMEDOUT, -1) : 0;
}

static long futex_rouse(const uint32_t *word, int most) {
    uint64_t file, offset;
    long n = 0;

    sim_word_key(word, &file, &offset);
    for (struct sleeper *s = sleepers; s && n < most; s = s->next)
        if (s->file == file && s->offset == offset && sim_wake(&s->queue)) n++;
    return n;
}

/* The sleeper of a thread that ended lies on its stack. */
void sim_thread_gone(const void *stack, size_t bytes) {
    for (struct sleeper **at = &sleepers; *at;) {
        const uint8_t *p = (const void *)*at, *low = stack;

        if (p >= low && p < low + bytes)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long a, b, c, d, e, f;
    va_list args;

    va_start(args, number);
    a = va_arg(args, long);
    b = va_arg(args, long);
    c = va_arg(args, long);
    d = va_arg(args, long);
    e = va_arg(args, long);
    f = va_arg(args, long);
    va_end(args);
    if (sim_cur && number == SYS_futex)
        return b == FUTEX_WAIT ? futex_sleep((uint32_t *)a, (uint32_t)c, (const void *)d)
                               : futex_rouse((const uint32_t *)a, (int)c);
    if (sim_cur && number == SYS_pidfd_open) return sim_pidfd((uint32_t)a);
    return __real_syscall(number, a, b, c, d, e, f);
}
