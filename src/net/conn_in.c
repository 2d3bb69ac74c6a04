/* conn_in.c - the input side of a connection: read, open records, put frames together.
 *
 * No byte is interpreted before the handshake (conn.c) is done; after it the only clear number is
 * a record's length, bounded by NET_RECORD, and nothing of a record is used before its tag is
 * checked. Frames that lie whole in a record are delivered from the shared scratch buffer; one
 * that spans records is opened straight into the connection's frame buffer, or into the place that
 * the owner has for it (on_place). A callback may end the connection at any point: the state is
 * looked at after each. Loop thread; never blocks.
 * Tests: tests/unit/net_conn_test.c, tests/unit/net_attack_test.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "net/net_int.h"
#include "net/tls.h"
#include "wire/frame.h"

static uint32_t round8(uint32_t n) { return (n + 7) & ~7u; }

static void deliver(struct conn *c, const uint8_t *frame) {
    uint32_t len = wire_head(frame)->size;

    if (wire_check(frame, len) < 0 || wire_head(frame)->nfds) { /* no descriptors on this way */
        conn_fail(c, -SKATE_EPROTO, "malformed frame of kind %u", wire_head(frame)->kind);
        return;
    }
    if (c->events->on_frame) c->events->on_frame(c->arg, c, frame, len);
}

/* Its bytes go where the owner says; `have` of them are here. */
static bool begin_placed(struct conn *c, const uint8_t *p, uint32_t have, uint32_t size) {
    uint32_t fixed = wire_head(p)->fixed;
    void *place;

    if (!c->events->on_place || have < fixed || fixed > sizeof c->placed ||
        wire_check(p, size) < 0 || wire_head(p)->nfds)
        return false;
    memcpy(c->placed, p, fixed);
    place = c->events->on_place(c->arg, c, c->placed, fixed, have - fixed);
    if (!place) return false;
    memcpy(place, p + fixed, have - fixed);
    c->frame_have = have;
    c->frame_size = size;
    c->placing = true;
    return true;
}

/* Open the next bytes of such a frame, its padding included. */
static int open_placed(struct conn *c, const uint8_t *p, uint32_t len) {
    uint32_t bytes = c->frame_size - c->frame_have;
    uint8_t *place = NULL, padding[8];
    int e;

    if (bytes > len) bytes = len;
    if (c->events->on_place)
        place = c->events->on_place(c->arg, c, c->placed, c->frame_have, bytes);
    e = seal_bytes(&c->open, p, bytes, place ? place : c->net->scratch);
    return e < 0 ? e : seal_bytes(&c->open, p + bytes, len - bytes, padding);
}

/* A frame begins that goes on in the next record: make room and keep what is here. */
static void begin_frame(struct conn *c, const uint8_t *p, uint32_t have, uint32_t size) {
    if (c->frame_cap < round8(size)) {
        free(c->frame);
        c->frame_cap = 0;
        c->frame = malloc(round8(size));
        if (!c->frame) {
            conn_fail(c, -SKATE_ENOMEM, "no memory for a frame of %u bytes", size);
            return;
        }
        c->frame_cap = round8(size);
    }
    memcpy(c->frame, p, have);
    c->frame_have = have;
    c->frame_size = size;
}

static void end_frame(struct conn *c) {
    c->frame_have = 0;
    if (c->placing) {
        c->placing = false;
        if (c->events->on_placed) c->events->on_placed(c->arg, c, c->placed);
        return;
    }
    deliver(c, c->frame);
    if (c->frame_cap > NET_FRAME_KEPT && c->state == CONN_READY) {
        free(c->frame);
        c->frame = NULL;
        c->frame_cap = 0;
    }
}

/* Frames from opened bytes; the last one may be unfinished. */
static void take_frames(struct conn *c, const uint8_t *p, uint32_t left) {
    while (left > 0 && c->state == CONN_READY) {
        uint32_t size = left < sizeof(struct wire_head) ? 0 : wire_head(p)->size;

        if (size < sizeof(struct wire_head) || size > LIMIT_FRAME_BYTES) {
            conn_fail(c, -SKATE_EPROTO, "a frame claims %u bytes", size);
            return;
        }
        if (round8(size) > left) {
            if (!begin_placed(c, p, left, size)) begin_frame(c, p, left, size);
            return;
        }
        deliver(c, p);
        p += round8(size);
        left -= round8(size);
    }
}

/* One whole record at p: clear length, `len` sealed bytes, tag. */
static void open_record(struct conn *c, uint8_t *p, uint32_t len) {
    uint32_t to_frame = c->frame_have ? round8(c->frame_size) - c->frame_have : 0;
    uint8_t *scratch = c->net->scratch;
    int e;

    if (to_frame > len) to_frame = len;
    e = seal_begin(&c->open, p, NET_HEAD);
    if (e == 0 && to_frame && c->placing)
        e = open_placed(c, p + NET_HEAD, to_frame);
    else if (e == 0 && to_frame)
        e = seal_bytes(&c->open, p + NET_HEAD, to_frame, c->frame + c->frame_have);
    if (e == 0) e = seal_bytes(&c->open, p + NET_HEAD + to_frame, len - to_frame, scratch);
    if (e == 0) e = seal_end(&c->open, p + NET_HEAD + len);
    if (e < 0) {
        conn_fail(c, -SKATE_EPROTO, "a record that is not genuine");
        return;
    }
    if (to_frame) {
        c->frame_have += to_frame;
        if (c->frame_have < round8(c->frame_size)) return;
        end_frame(c);
    }
    if (c->state == CONN_READY) take_frames(c, scratch, len - to_frame);
}

/* Make the input buffer at least this large, its content at the start. */
bool conn_in_grow(struct conn *c, uint32_t cap) {
    uint8_t *p = malloc(cap);

    if (!p) {
        conn_fail(c, -SKATE_ENOMEM, "no memory for input");
        return false;
    }
    memcpy(p, c->in + c->in_pos, c->in_end - c->in_pos);
    free(c->in);
    c->in = p;
    c->in_cap = cap;
    c->in_end -= c->in_pos;
    c->in_pos = 0;
    return true;
}

/* Consume what is whole. */
void conn_in_go_on(struct conn *c) {
    if (c->state < CONN_READY) conn_prove(c);
    while (c->state == CONN_READY && !c->paused) {
        uint32_t have = c->in_end - c->in_pos, len;
        uint8_t *p = c->in + c->in_pos;

        if (have < NET_HEAD) break;
        memcpy(&len, p, sizeof len);
        if (len == 0 || len > NET_RECORD || len % 8) {
            conn_fail(c, -SKATE_EPROTO, "a record claims %u bytes", len);
            return;
        }
        if (have < len + NET_OVER) {
            if (c->in_cap < len + NET_OVER) (void)conn_in_grow(c, NET_IN_LARGE);
            break;
        }
        c->in_pos += len + NET_OVER;
        open_record(c, p, len);
    }
    if (c->state == CONN_ENDED) return;
    if (c->state == CONN_FINISHING || c->in_pos == c->in_end) c->in_pos = c->in_end = 0;
}

static void on_end_of_input(struct conn *c, const char *why) {
    if (c->state == CONN_PROOF)
        conn_fail(c, -SKATE_EAUTH, "the daemon refused our proof: its cluster key is another");
    else if (c->state == CONN_HELLO)
        conn_fail(c, -SKATE_EDEAD, "the peer hung up before its hello: no Skate daemon, or full");
    else
        conn_fail(c, -SKATE_EDEAD, "%s", why);
}

void conn_in_read(struct conn *c) {
    int64_t budget = NET_TURN;

    while (budget > 0 && c->state != CONN_ENDED && !c->paused) {
        ssize_t n;
        size_t room;

        if (c->tls && !c->secured && !conn_secure(c)) return;
        if (c->in_pos > 0 && c->in_cap - c->in_end < c->in_cap / 4) {
            memmove(c->in, c->in + c->in_pos, c->in_end - c->in_pos);
            c->in_end -= c->in_pos;
            c->in_pos = 0;
        }
        room = c->in_cap - c->in_end;
        SKATE_ASSERT(room > 0);
        n = c->tls ? tls_read(c, c->in + c->in_end, room) : read(c->fd, c->in + c->in_end, room);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            on_end_of_input(c, n == 0 ? "the peer closed the connection" : strerror(errno));
            return;
        }
        budget -= n;
        c->in_end += (uint32_t)n;
        if ((size_t)n == room && c->state == CONN_READY && c->in_cap < NET_IN_LARGE &&
            !conn_in_grow(c, NET_IN_LARGE))
            return;
        conn_in_go_on(c);
        if (!c->tls && (size_t)n < room) return;
    }
    if (c->tls && c->state == CONN_READY && !c->paused) /* poll() does not see what TLS holds */
        loop_post(c->net->opts.loop, &c->resume_task);
}

void conn_in_release(struct conn *c) {
    free(c->in);
    free(c->frame);
    c->in = c->frame = NULL;
    c->in_pos = c->in_end = c->in_cap = 0;
    c->frame_have = c->frame_size = c->frame_cap = 0;
}
