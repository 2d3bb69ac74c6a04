/* picture.h - pictures made smaller (or larger) for nets: area means, colours to grey.
 *
 * A pixel of the result is the mean of the area that it covers, parts of pixels by their share;
 * grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Pure, any thread, never blocks.
 * Tests: tests/unit/rl_picture_test.c, tests/rl/test_atari.py. */
#ifndef SKATE_RL_PICTURE_H
#define SKATE_RL_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { PICTURE_SIDE_MAX = 4096, PICTURE_CHANNELS_MAX = 4 };

struct picture_job {
    const uint8_t *from;        /* borrowed: [height][width][channels] */
    uint8_t *to;                /* borrowed: [to_height][to_width][channels, or 1 if grey] */
    int height, width, channels, to_height, to_width;
    bool grey;                  /* needs 3 channels */
};

/* 0, -SKATE_EINVAL (a size outside its limits, grey of other than 3 channels) or -SKATE_ENOMEM. */
SKATE_NODISCARD int picture_resize(const struct picture_job *j);

#endif
