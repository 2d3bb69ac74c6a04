/* row_list.c - see row_list.h. */
#include "wire/row_list.h"

#include <stdlib.h>
#include <string.h>

/* Room for so many more bytes; false: no memory. */
static bool more(struct wire_row_list *r, uint32_t bytes) {
    uint32_t room = r->room ? r->room : 4096;
    uint8_t *grown;

    if (r->used + bytes <= r->room) return true;
    while (room < r->used + bytes) room *= 2;
    grown = realloc(r->p, room);
    if (!grown) return false;
    r->p = grown;
    r->room = room;
    return true;
}

void wire_rows_add(struct wire_row_list *r, struct wire_buf *b) {
    if (r->total++ < r->max && wire_end(b) == 0 && b->len < r->bytes_max &&
        r->used + b->len + 8 <= r->bytes_max) {
        uint32_t padded = (b->len + 7) & ~7u;

        if (more(r, padded)) {
            memset(r->p + r->used + b->len, 0, padded - b->len);
            memcpy(r->p + r->used, b->p, b->len);
            r->used += padded;
            r->count++;
        }
    }
    wire_release(b);
}

void wire_rows_answer(struct wire_row_list *r, const struct wire_state_req *m,
                      struct wire_buf *b) {
    struct wire_state_rows *out = wire_begin(b, WIRE_STATE_ROWS);

    out->head.call = m->head.call;
    out->head.flags = WIRE_REPLY;
    out->count = r->count;
    out->total = r->total;
    WIRE_PUT(b, state_rows, frames, r->p, r->used);
    free(r->p);
    r->p = NULL;
}
