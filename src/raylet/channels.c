/* channels.c - channels between two processes of this node: memory, bits, both ends told.
 *
 * The raylet makes the memory and numbers the bits of each doorbell; it keeps only who has a
 * channel with whom. The memory lives as long as one of the two has it mapped. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/ring.h"
#include "raylet/raylet.h"

static struct proc_channel *find(struct proc *p, uint64_t peer) {
    for (uint32_t i = 0; i < p->channel_count; i++)
        if (p->channels[i].peer == peer) return &p->channels[i];
    return NULL;
}

/* A free bit of p's doorbell, kept for `peer`; 0: none is left. */
static uint32_t take_bit(struct proc *p, uint64_t peer) {
    if (p->channel_count == p->channel_cap) {
        uint32_t cap = p->channel_cap ? p->channel_cap * 2 : 8;
        struct proc_channel *more = realloc(p->channels, cap * sizeof *more);

        if (!more) return 0;
        p->channels = more;
        p->channel_cap = cap;
    }
    for (uint32_t w = 0; w < LIMIT_CHANNELS / 64; w++) {
        uint32_t bit;

        if (p->bits[w] == UINT64_MAX) continue;
        bit = (uint32_t)__builtin_ctzll(~p->bits[w]);
        p->bits[w] |= UINT64_C(1) << bit;
        p->channels[p->channel_count++] = (struct proc_channel){peer, w * 64 + bit};
        return w * 64 + bit;
    }
    return 0;
}

static void give_bit(struct proc *p, uint64_t peer) {
    struct proc_channel *c = find(p, peer);

    if (!c) return;
    SKATE_ASSERT(c->bit > 0);
    p->bits[c->bit / 64] &= ~(UINT64_C(1) << c->bit % 64);
    *c = p->channels[--p->channel_count];
}

static void tell(struct proc *p, struct wire_channel m, uint32_t call, const int *fds) {
    m.head = (struct wire_head){.size = sizeof m, .kind = WIRE_CHANNEL, .fixed = sizeof m,
                                .call = call, .flags = call ? WIRE_REPLY : 0};
    if (fds)
        proc_send_fds(p, &m, sizeof m, fds, 2);
    else
        proc_send(p, &m, sizeof m);
}

bool channels_open(struct proc *a, struct proc *b, uint32_t call) {
    uint32_t bit_a, bit_b;
    int fd;

    SKATE_ASSERT(a->r == b->r);
    if (a == b || find(a, b->id)) return false;
    fd = memfd_create("skate-channel", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)CHANNEL_BYTES) < 0) {
        if (fd >= 0) close(fd);
        return false;
    }
    bit_a = take_bit(a, b->id);
    bit_b = take_bit(b, a->id);
    if (bit_a && bit_b) {
        struct wire_channel for_a = {.peer = b->id, .side = 0, .my_bit = bit_a,
                                     .peer_bit = bit_b};
        struct wire_channel for_b = {.peer = a->id, .side = 1, .my_bit = bit_b,
                                     .peer_bit = bit_a};

        tell(b, for_b, 0, (int[2]){fd, a->bell_fd});
        tell(a, for_a, call, (int[2]){fd, b->bell_fd});
    } else {
        give_bit(a, b->id);
        give_bit(b, a->id);
    }
    close(fd);
    return bit_a && bit_b;
}

/* A pair that has a channel needs no answer: each end was told when it was made. */
void channels_connect(struct raylet *r, struct proc *p, const struct wire_connect *m) {
    struct proc *peer = proc_find(r, m->peer);
    struct wire_channel no = {.peer = m->peer, .status = 1};

    if (peer == p || (peer && find(p, m->peer))) return;
    if (!peer || peer->state == PROC_DOOMED || !channels_open(p, peer, m->head.call)) {
        if (peer && peer->state != PROC_DOOMED) no.status = 2; /* no bit or memory: use route */
        tell(p, no, m->head.call, NULL);
        if (!peer) death_answer(r, m->peer, p->id); /* p may be younger than that news */
    }
}

bool channels_linked(struct proc *a, uint64_t b) { return find(a, b) != NULL; }

void channels_forget(struct raylet *r, struct proc *dead) {
    for (uint32_t i = 0; i < dead->channel_count; i++) {
        struct proc *peer = proc_find(r, dead->channels[i].peer);

        if (peer) give_bit(peer, dead->id);
    }
    dead->channel_count = 0;
}
