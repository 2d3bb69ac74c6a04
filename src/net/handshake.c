/* handshake.c - see handshake.h. */
#include "net/handshake.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "wire/frame.h"

enum { MAGIC = 8, LABEL = 16 };
static const uint8_t magic[MAGIC] = {'S', 'K', 'A', 'T', 'E', '/', WIRE_VERSION, 0};
static const char label_acceptor[LABEL] = "skate acceptor";
static const char label_connector[LABEL] = "skate connector";

int handshake_random(void *out, size_t len) {
    ssize_t n;

    do
        n = getrandom(out, len, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)len ? 0 : -SKATE_ESYS;
}

static int check_magic(const uint8_t *p) {
    if (memcmp(p, magic, 6) != 0) return -SKATE_EPROTO;
    return memcmp(p, magic, MAGIC) == 0 ? 0 : -SKATE_EVERSION;
}

static int proof(const struct handshake *h, const char *label, uint8_t ret[SEAL_MAC]) {
    uint8_t text[LABEL + sizeof h->transcript];

    memcpy(text, label, LABEL);
    memcpy(text + LABEL, h->transcript, sizeof h->transcript);
    return seal_mac(h->proof_key, text, sizeof text, ret);
}

static int start(struct handshake *h, const uint8_t key[SEAL_KEY]) {
    memset(h, 0, sizeof *h);
    return seal_derive(key, NULL, 0, "skate proof key", h->proof_key);
}

int handshake_accept(struct handshake *h, const uint8_t key[SEAL_KEY],
                     uint8_t ret_hello[HANDSHAKE_HELLO]) {
    int r = start(h, key);

    if (r < 0) return r;
    memcpy(h->transcript, magic, MAGIC);
    r = handshake_random(h->transcript + MAGIC, HANDSHAKE_HELLO - MAGIC);
    if (r < 0) return r;
    memcpy(ret_hello, h->transcript, HANDSHAKE_HELLO);
    return 0;
}

int handshake_answer(struct handshake *h, const uint8_t key[SEAL_KEY],
                     const uint8_t hello[HANDSHAKE_HELLO], uint8_t ret_answer[HANDSHAKE_ANSWER]) {
    uint8_t *mine;
    int r = check_magic(hello);

    if (r < 0) return r;
    r = start(h, key);
    if (r < 0) return r;
    memcpy(h->transcript, hello, HANDSHAKE_HELLO);
    mine = h->transcript + HANDSHAKE_HELLO;
    memcpy(mine, magic, MAGIC);
    r = handshake_random(mine + MAGIC, HANDSHAKE_HELLO - MAGIC);
    if (r < 0) return r;
    memcpy(ret_answer, mine, HANDSHAKE_HELLO);
    return proof(h, label_connector, ret_answer + HANDSHAKE_HELLO);
}

int handshake_prove(struct handshake *h, const uint8_t answer[HANDSHAKE_ANSWER],
                    uint8_t ret_proof[HANDSHAKE_PROOF]) {
    uint8_t want[SEAL_MAC];
    int r = check_magic(answer);

    if (r < 0) return r;
    memcpy(h->transcript + HANDSHAKE_HELLO, answer, HANDSHAKE_HELLO);
    r = proof(h, label_connector, want);
    if (r < 0) return r;
    if (!seal_equal(want, answer + HANDSHAKE_HELLO, SEAL_MAC)) return -SKATE_EAUTH;
    return proof(h, label_acceptor, ret_proof);
}

int handshake_check(struct handshake *h, const uint8_t given[HANDSHAKE_PROOF]) {
    uint8_t want[SEAL_MAC];
    int r = proof(h, label_acceptor, want);

    if (r < 0) return r;
    return seal_equal(want, given, SEAL_MAC) ? 0 : -SKATE_EAUTH;
}

int handshake_keys(const struct handshake *h, const uint8_t key[SEAL_KEY],
                   uint8_t ret_from_connector[SEAL_KEY], uint8_t ret_from_acceptor[SEAL_KEY]) {
    int r = seal_derive(key, h->transcript, sizeof h->transcript, "skate from connector",
                        ret_from_connector);

    if (r < 0) return r;
    return seal_derive(key, h->transcript, sizeof h->transcript, "skate from acceptor",
                       ret_from_acceptor);
}
