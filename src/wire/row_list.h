/* row_list.h - a list of whole frames back to back, each padded to 8 bytes: the answers rows and
 * state_rows.
 *
 * Bounded by a count and by bytes; what does not fit is counted and left out. Value type; pure; any
 * thread. Tests: tests/unit/wire_frame_test.c. */
#ifndef SKATE_WIRE_ROW_LIST_H
#define SKATE_WIRE_ROW_LIST_H

#include <stdbool.h>

#include "wire/wire_gen.h"

enum { WIRE_ROWS_MOST = 20000, WIRE_ROWS_BYTES = 16 << 20 }; /* of an answer to state_req */

struct wire_row_list {
    uint8_t *p; /* the caller frees it */
    uint32_t used, room, count;
    uint32_t total, max; /* asked for; of these at most `max` are there */
    uint32_t bytes_max;
};

/* Ends the frame in b, adds it and releases b. */
void wire_rows_add(struct wire_row_list *r, struct wire_buf *b);
/* The frame for the asker of m (not ended); releases the list. */
void wire_rows_answer(struct wire_row_list *r, const struct wire_state_req *m, struct wire_buf *b);

#endif
