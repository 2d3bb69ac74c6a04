/* futex.c - see futex.h. */
#include "base/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

int futex_wait(uint32_t *word, uint32_t value, int64_t timeout_ns) {
    struct timespec ts;
    long r;

    if (timeout_ns >= 0) {
        ts.tv_sec = timeout_ns / 1000000000;
        ts.tv_nsec = timeout_ns % 1000000000;
    }
    r = syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns >= 0 ? &ts : NULL, NULL, 0);
    if (r == 0 || errno == EAGAIN) return 0;
    if (errno == ETIMEDOUT) return -SKATE_ETIMEOUT;
    return errno == EINTR ? -SKATE_EINTR : -SKATE_ESYS;
}

void futex_wake(uint32_t *word, int count) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

int64_t time_now_ns(void) {
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
