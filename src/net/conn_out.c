/* conn_out.c - the output queue of a connection: gather, seal, write.
 *
 * Small frames are gathered as plain bytes and sealed together, once for each turn of the loop or
 * when a record is full; large ones are sealed piece by piece straight from the caller's memory,
 * which is also their copy. Sealed bytes lie in chunks that go to the kernel many at a time. While
 * the kernel takes no more, frames go on gathering. Loop thread; never blocks. Frames are padded
 * to 8 bytes inside the sealed stream and a frame's head is never split between records.
 * Tests: tests/unit/net_conn_test.c. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "base/limits.h"
#include "net/net_int.h"
#include "net/tls.h"
#include "wire/frame.h"

enum { IOVS = 32 };

static uint32_t round8(size_t n) { return (uint32_t)((n + 7) & ~(size_t)7); }

/* The last chunk when it has room for `bytes`, else a new one at the end; NULL: no memory. */
static struct chunk *out_room(struct conn *c, uint32_t bytes) {
    struct chunk *k = c->out_last;

    SKATE_ASSERT(bytes <= NET_CHUNK);
    if (k && NET_CHUNK - k->used >= bytes) return k;
    k = net_chunk_take(c->net);
    if (!k) return NULL;
    if (c->out_last)
        c->out_last->next = k;
    else
        c->out = k;
    c->out_last = k;
    return k;
}

int conn_out_raw(struct conn *c, const void *data, size_t len) {
    struct chunk *k = out_room(c, (uint32_t)len);

    if (!k) return -SKATE_ENOMEM;
    memcpy(k->data + k->used, data, len);
    k->used += (uint32_t)len;
    c->pending += len;
    return 0;
}

/* Pieces of memory, read as one. */
struct reader {
    const struct conn_piece *piece;
    uint32_t left; /* pieces, the current one included */
    size_t at;
};

/* Seal the next `bytes` of the reader, zeros after its end, as one record. */
static int seal_record(struct conn *c, struct reader *r, uint32_t bytes) {
    struct chunk *k = out_room(c, bytes + NET_OVER);
    uint8_t *p;
    uint32_t done = 0;
    int e;

    SKATE_ASSERT(bytes > 0 && bytes <= NET_RECORD && bytes % 8 == 0);
    if (!k) return -SKATE_ENOMEM;
    p = k->data + k->used;
    memcpy(p, &bytes, NET_HEAD);
    e = seal_begin(&c->seal, p, NET_HEAD);
    while (e == 0 && done < bytes && r->left) {
        size_t n = r->piece->len - r->at;

        if (n > bytes - done) n = bytes - done;
        e = seal_bytes(&c->seal, (const uint8_t *)r->piece->p + r->at, n, p + NET_HEAD + done);
        done += (uint32_t)n;
        r->at += n;
        if (r->at == r->piece->len) {
            r->piece++;
            r->left--;
            r->at = 0;
        }
    }
    if (e == 0 && done < bytes) {
        static const uint8_t zeros[8];

        SKATE_ASSERT(bytes - done < 8);
        e = seal_bytes(&c->seal, zeros, bytes - done, p + NET_HEAD + done);
    }
    if (e == 0) e = seal_end(&c->seal, p + NET_HEAD + bytes);
    if (e < 0) return e;
    k->used += bytes + NET_OVER;
    c->pending += bytes + NET_OVER;
    return 0;
}

static int seal_plain(struct conn *c) {
    struct chunk *plain = c->plain;
    struct conn_piece all;
    struct reader r = {&all, 1, 0};
    int e;

    if (!plain) return 0;
    all = (struct conn_piece){plain->data, plain->used};
    c->plain = NULL;
    c->pending -= plain->used;
    e = seal_record(c, &r, plain->used);
    net_chunk_give(c->net, plain);
    return e;
}

static int gather(struct conn *c, const struct conn_piece *pieces, uint32_t count, uint32_t total) {
    uint32_t padded = round8(total);
    uint8_t *p;
    int e;

    if (c->plain && c->plain->used + padded > NET_RECORD) {
        e = seal_plain(c);
        if (e < 0) return e;
    }
    if (!c->plain) c->plain = net_chunk_take(c->net);
    if (!c->plain) return -SKATE_ENOMEM;
    p = c->plain->data + c->plain->used;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(p, pieces[i].p, pieces[i].len);
        p += pieces[i].len;
    }
    memset(p, 0, padded - total);
    c->plain->used += padded;
    c->pending += padded;
    return 0;
}

static int queue(struct conn *c, const struct conn_piece *pieces, uint32_t count, uint32_t total) {
    struct reader r = {pieces, count, 0};
    uint32_t left = round8(total);
    int e;

    if (total <= NET_COPY) return gather(c, pieces, count, total);
    e = seal_plain(c);
    while (e == 0 && left > 0) {
        uint32_t n = left < NET_RECORD ? left : NET_RECORD;

        e = seal_record(c, &r, n);
        left -= n;
    }
    return e;
}

int conn_sendv(struct conn *c, const struct conn_piece *pieces, uint32_t count) {
    struct conn_piece used[8];
    struct wire_head head;
    uint32_t n = 0;
    size_t total = 0;
    int e;

    if (c->state == CONN_ENDED || c->broken) return -SKATE_EDEAD;
    if (c->state != CONN_READY) return -SKATE_EAGAIN;
    if (count == 0 || count > 8 || pieces[0].len < sizeof head) return -SKATE_EINVAL;
    memcpy(&head, pieces[0].p, sizeof head);
    for (uint32_t i = 0; i < count; i++) {
        if (pieces[i].len > LIMIT_FRAME_BYTES) return -SKATE_EINVAL;
        total += pieces[i].len;
        if (pieces[i].len) used[n++] = pieces[i];
    }
    if (head.size != total || total > LIMIT_FRAME_BYTES) return -SKATE_EINVAL;
    if (c->pending >= c->net->opts.pending_max) return -SKATE_EFULL;
    e = queue(c, used, n, head.size);
    if (e < 0) {
        /* Part of the frame may be sealed already: the stream cannot go on. */
        conn_fail(c, e, "%s while sending", skate_strerror(e));
        return -SKATE_EDEAD;
    }
    if (c->pending > c->low) c->above = true;
    if (c->pending >= NET_WRITE)
        conn_out_flush(c);
    else
        loop_post(c->net->opts.loop, &c->flush_task);
    return 0;
}

int conn_send(struct conn *c, const void *frame, size_t len) {
    struct conn_piece piece = {frame, len};

    return conn_sendv(c, &piece, 1);
}

static void consume(struct conn *c, size_t n) {
    c->pending -= n;
    while (n > 0) {
        struct chunk *k = c->out;
        uint32_t rest = k->used - k->sent;

        if (n < rest) {
            k->sent += (uint32_t)n;
            return;
        }
        n -= rest;
        c->out = k->next;
        if (!c->out) c->out_last = NULL;
        net_chunk_give(c->net, k);
    }
}

/* The peer may have said a last word before it went: let the reader find the end. */
static void write_failed(struct conn *c) {
    c->broken = true;
    c->blocked = false;
    conn_out_release(c);
    if (c->paused) conn_pause(c, false);
}

static ssize_t write_some(struct conn *c) {
    struct iovec iov[IOVS];
    struct msghdr message = {.msg_iov = iov};

    if (c->tls) return tls_write(c, c->out->data + c->out->sent, c->out->used - c->out->sent);
    for (struct chunk *k = c->out; k && message.msg_iovlen < IOVS; k = k->next)
        iov[message.msg_iovlen++] =
            (struct iovec){.iov_base = k->data + k->sent, .iov_len = k->used - k->sent};
    return sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void write_out(struct conn *c) {
    ssize_t n = 0;

    while (c->out && n >= 0) {
        n = write_some(c);
        if (n < 0 && errno == EINTR) n = 0;
        if (n > 0) consume(c, (size_t)n);
    }
    if (n >= 0 && c->tls) n = tls_flush(c);
    if (n >= 0) return;
    if (errno != EAGAIN) {
        write_failed(c);
        return;
    }
    c->blocked = true;
    conn_watch(c);
}

void conn_out_flush(struct conn *c) {
    int e;

    if (c->state == CONN_ENDED || c->broken || c->blocked) return;
    if (c->tls && !c->secured) {
        (void)conn_secure(c);
        return;
    }
    e = seal_plain(c);
    if (e < 0) {
        conn_fail(c, e, "%s while sending", skate_strerror(e));
        return;
    }
    write_out(c);
    if (c->above && c->pending <= c->low) {
        c->above = false;
        loop_post(c->net->opts.loop, &c->drain_task);
    }
}

void conn_out_release(struct conn *c) {
    while (c->out) {
        struct chunk *k = c->out;

        c->out = k->next;
        net_chunk_give(c->net, k);
    }
    c->out_last = NULL;
    if (c->plain) net_chunk_give(c->net, c->plain);
    c->plain = NULL;
    c->pending = 0;
}

uint64_t conn_pending_bytes(const struct conn *c) { return c->pending; }

void conn_set_low(struct conn *c, uint64_t bytes) {
    c->low = bytes;
    if (c->pending > bytes) c->above = true;
}
