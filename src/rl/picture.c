/* picture.c - see picture.h. Rows first: those under a row of the result are added up, each by its
 * share, then the columns of that sum. Called by any thread; never blocks.
 * Tests: tests/unit/rl_picture_test.c, tests/rl/test_atari.py. */
#include "rl/picture.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* The pixels under one of the result: from `first` to `last`, whole but for the two ends. */
struct span {
    int first, last;
    float head, tail, scale;
};

static struct span span_of(int i, int from, int to) {
    double low = (double)i * from / to, high = (double)(i + 1) * from / to;
    struct span s = { .first = (int)low, .last = (int)high };

    if (s.last >= from || (double)s.last >= high)
        s.last--;
    if (s.last <= s.first) {
        s.last = s.first;
        s.head = (float)(high - low);
    } else {
        s.head = (float)(s.first + 1 - low);
        s.tail = (float)(high - s.last);
    }
    s.scale = (float)((double)to / from);
    SKATE_ASSERT(s.first >= 0 && s.last < from);
    return s;
}

static void add_row(const struct picture_job *j, int y, float share, float *sum) {
    const uint8_t *row = j->from + (size_t)y * (size_t)j->width * (size_t)j->channels;

    if (j->grey) {
        for (int x = 0; x < j->width; x++)
            sum[x] += share * (0.299f * row[3 * x] + 0.587f * row[3 * x + 1] +
                               0.114f * row[3 * x + 2]);
        return;
    }
    for (int x = 0; x < j->width * j->channels; x++)
        sum[x] += share * row[x];
}

static void put_row(const struct span *columns, int wide, int channels, const float *sum,
                    float scale, uint8_t *to) {
    for (int x = 0; x < wide; x++) {
        const struct span *s = &columns[x];

        for (int c = 0; c < channels; c++) {
            float total = s->head * sum[s->first * channels + c];

            for (int i = s->first + 1; i < s->last; i++)
                total += sum[i * channels + c];
            if (s->last > s->first)
                total += s->tail * sum[s->last * channels + c];
            total = total * s->scale * scale + 0.5f;
            *to++ = total >= 255.0f ? 255 : (uint8_t)total;
        }
    }
}

static bool fits(int n, int max) {
    return n >= 1 && n <= max;
}

int picture_resize(const struct picture_job *j) {
    int channels = j->grey ? 1 : j->channels;
    struct span *columns;
    float *sum;

    if (!fits(j->height, PICTURE_SIDE_MAX) || !fits(j->width, PICTURE_SIDE_MAX) ||
        !fits(j->to_height, PICTURE_SIDE_MAX) || !fits(j->to_width, PICTURE_SIDE_MAX) ||
        !fits(j->channels, PICTURE_CHANNELS_MAX) || (j->grey && j->channels != 3))
        return -SKATE_EINVAL;
    columns = malloc((size_t)j->to_width * sizeof *columns +
                     (size_t)(j->width * channels) * sizeof *sum);
    if (!columns)
        return -SKATE_ENOMEM;
    sum = (float *)(columns + j->to_width);
    for (int x = 0; x < j->to_width; x++)
        columns[x] = span_of(x, j->width, j->to_width);
    for (int y = 0; y < j->to_height; y++) {
        struct span s = span_of(y, j->height, j->to_height);

        memset(sum, 0, (size_t)(j->width * channels) * sizeof *sum);
        for (int i = s.first; i <= s.last; i++)
            add_row(j, i, i == s.first ? s.head : i == s.last ? s.tail : 1.0f, sum);
        put_row(columns, j->to_width, channels, sum, s.scale,
                j->to + (size_t)y * (size_t)(j->to_width * channels));
    }
    free(columns);
    return 0;
}
