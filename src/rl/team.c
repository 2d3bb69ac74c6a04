/* team.c - see team.h. The mutex covers round, left, fn, arg and quit; helpers hold it only to
 * pick up or hand back a run. Tests: tests/unit/rl_team_test.c. */
#include "rl/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/atomic.h"

enum { SPINS = 4000 };          /* about 50 us: longer than any phase's imbalance should be */

struct team {
    int size, started;
    pid_t pid;
    pthread_mutex_t lock;
    pthread_cond_t go, done;
    uint64_t round;
    int left, quit;
    void (*fn)(void *arg, int rank);
    void *arg;
    struct member {
        struct team *team;
        pthread_t thread;
        int rank;
    } members[TEAM_MAX];
};

static void *member_main(void *opaque) {
    struct member *m = opaque;
    struct team *t = m->team;
    uint64_t seen = 0;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->round == seen && !t->quit)
            pthread_cond_wait(&t->go, &t->lock);
        if (t->quit)
            break;
        seen = t->round;
        pthread_mutex_unlock(&t->lock);
        t->fn(t->arg, m->rank);
        pthread_mutex_lock(&t->lock);
        if (--t->left == 0)
            pthread_cond_signal(&t->done);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int team_new(int size, struct team **ret) {
    sigset_t all, old;
    struct team *t;
    int failed = 0;

    SKATE_ASSERT(ret);
    if (size < 1 || size > TEAM_MAX)
        return -SKATE_EINVAL;
    t = calloc(1, sizeof *t);
    if (!t)
        return -SKATE_ENOMEM;
    t->size = size;
    t->started = 1;
    t->pid = getpid();
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->go, NULL);
    pthread_cond_init(&t->done, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (t->started < size && !failed) {
        struct member *m = &t->members[t->started];

        *m = (struct member){ .team = t, .rank = t->started };
        failed = pthread_create(&m->thread, NULL, member_main, m);
        t->started += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) {
        team_free(t);
        return -SKATE_ESYS;
    }
    *ret = t;
    return 0;
}

struct team *team_free(struct team *t) {
    if (!t)
        return NULL;
    if (t->pid == getpid()) {
        pthread_mutex_lock(&t->lock);
        t->quit = 1;
        pthread_cond_broadcast(&t->go);
        pthread_mutex_unlock(&t->lock);
        for (int i = 1; i < t->started; i++)
            pthread_join(t->members[i].thread, NULL);
        pthread_mutex_destroy(&t->lock);
        pthread_cond_destroy(&t->go);
        pthread_cond_destroy(&t->done);
    }
    free(t);
    return NULL;
}

int team_size(const struct team *t) {
    return t->size;
}

int team_run(struct team *t, void (*fn)(void *arg, int rank), void *arg) {
    SKATE_ASSERT(t);
    SKATE_ASSERT(fn);
    if (t->pid != getpid())
        return -SKATE_EFORKED;
    pthread_mutex_lock(&t->lock);
    t->fn = fn;
    t->arg = arg;
    t->left = t->size - 1;
    t->round++;
    pthread_cond_broadcast(&t->go);
    pthread_mutex_unlock(&t->lock);
    fn(arg, 0);
    pthread_mutex_lock(&t->lock);
    while (t->left > 0)
        pthread_cond_wait(&t->done, &t->lock);
    pthread_mutex_unlock(&t->lock);
    return 0;
}

void team_barrier_init(struct team_barrier *b, int size) {
    *b = (struct team_barrier){ .size = (uint32_t)size };
}

void team_barrier_wait(struct team_barrier *b) {
    uint32_t round;

    if (b->size == 1)
        return;
    round = at_load_seq(&b->round);
    if (at_add_seq(&b->arrived, 1u) + 1 == b->size) {
        at_store_seq(&b->arrived, 0u);
        at_store_seq(&b->round, round + 1);
        return;
    }
    for (int i = 0; at_load_seq(&b->round) == round; i++) {
        if (i < SPINS)
            at_pause();
        else
            sched_yield();
    }
}
