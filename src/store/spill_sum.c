/* spill_sum.c - XXH3-64, as fast as this CPU does it. See spill_file.h. */
#include "store/spill_sum.h"

#include "store/spill_file.h"

#pragma GCC optimize("O3") /* -O2 does not unroll its loop: half the speed */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t spill_sum(const void *p, size_t len) {
#if defined(__x86_64__) && defined(__GNUC__)
    if (len > SPILL_BLOCK && __builtin_cpu_supports("avx2")) return spill_sum_avx2(p, len);
#endif
    return XXH3_64bits(p, len);
}
