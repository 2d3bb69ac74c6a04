/* seq.c - see seq.h. */
#include "rl/replay/seq.h"

/* The sequence that teaches steps `at` and after, of an episode start .. end - 1. */
static void write_one(const struct seq_lane *lane, size_t start, size_t at, size_t end,
                      int32_t *index) {
    for (uint32_t i = 0; i < lane->length; i++) {
        size_t step = at + i;       /* burn_in too far: no negative numbers in between */

        index[i] = step < start + lane->burn_in || step >= end + lane->burn_in
                       ? -1
                       : (int32_t)(step - lane->burn_in);
    }
}

size_t seq_cut(const struct seq_lane *lane, int32_t *index, size_t max) {
    uint32_t advance = lane->length - lane->burn_in;
    size_t n = 0, start = 0;

    while (start < lane->steps) {
        size_t end = start;

        while (end + 1 < lane->steps && !lane->ends[end * lane->stride])
            end++;
        end++;
        for (size_t at = start; at < end; at += advance, n++)
            if (n < max)
                write_one(lane, start, at, end, index + n * lane->length);
        start = end;
    }
    return n;
}
