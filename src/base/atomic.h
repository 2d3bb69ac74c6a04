/* atomic.h - the only file that names memory orders.
 *
 * Plain C integers in shared memory are accessed through these, so that the layout of a shared
 * structure stays plain data. Any thread, any process. */
#ifndef SKATE_BASE_ATOMIC_H
#define SKATE_BASE_ATOMIC_H

#define at_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define at_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define at_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define at_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define at_load_seq(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define at_store_seq(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define at_or_seq(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define at_and_seq(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define at_exchange_seq(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define at_add_seq(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
/* 1 when *p was *expected and is now v; else *expected holds what was found. */
#define at_cas(p, expected, v)                                                                 \
    __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define at_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
#define at_fence_seq() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static inline void at_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
