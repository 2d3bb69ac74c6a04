/* futex.h - wait on and wake a 32-bit word, across processes. Any thread. */
#ifndef SKATE_BASE_FUTEX_H
#define SKATE_BASE_FUTEX_H

#include <stdint.h>

/* Sleep while *word == value, at most timeout_ns (negative: for ever). 0 when woken or the word
 * differs, -SKATE_ETIMEOUT, or -SKATE_EINTR when a signal handler ran. */
int futex_wait(uint32_t *word, uint32_t value, int64_t timeout_ns);
void futex_wake(uint32_t *word, int count);

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t time_now_ns(void);

#endif
