/* arrow_view.h - arrays of views: strings and bytes that lie in any of several buffers.
 *
 * An element of up to 12 bytes lies in its view, a longer one at an offset of a buffer. Between
 * arrow_array.c, which checks them, and arrow_write.c, which gathers them; pure, any thread. Tests:
 * tests/python/test_arrow_c.py, tests/unit/arrow_test.c. */
#ifndef SKATE_ARROW_ARROW_VIEW_H
#define SKATE_ARROW_ARROW_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARROW_VIEW_SHORT = 12 };

struct arrow_view {
    int32_t size;
    uint8_t head[4];        /* the first bytes of it; a short one goes on over the rest */
    int32_t buffer, offset; /* where a long one lies */
};

/* Elements [from, from + n) of an array. */
struct arrow_views {
    const struct arrow_view *views;
    const uint8_t *valid; /* NULL: all are */
    int64_t from, n;
    const void *const *data; /* `count` buffers of these sizes */
    const int64_t *sizes;
    int64_t count;
};

/* Do all that are valid lie inside of the buffers? */
bool arrow_views_fit(const struct arrow_views *in);
/* Bytes of the long ones together. They must fit, here and below. */
int64_t arrow_views_size(const struct arrow_views *in);
/* Views of the same elements, the long ones one after the other in one buffer; null ones are empty.
 * At most INT32_MAX bytes. */
void arrow_views_write(const struct arrow_views *in, struct arrow_view *to);
/* And that buffer. */
void arrow_views_gather(const struct arrow_views *in, uint8_t *to);

#endif
