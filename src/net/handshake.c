/* handshake.c - see handshake.h. */
#include "net/handshake.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>

#include "base/assert.h"
#include "wire/frame.h"

/* Where the parts of the transcript begin. */
enum {
    MAGIC = 8,
    LABEL = 16,
    NONCE_A = MAGIC + 8,
    ANSWER = HANDSHAKE_HELLO,
    NONCE_C = ANSWER + MAGIC,
    SHARE_C = NONCE_C + 32,
    SHARE_A = SHARE_C + SEAL_SHARE,
    BINDING = SHARE_A + SEAL_SHARE,
    ANSWERED = HANDSHAKE_ANSWER - SEAL_MAC, /* bytes of an answer before its proof */
};
_Static_assert(BINDING + 32 == sizeof((struct handshake *)0)->transcript, "whole");

/* The last byte is the version of the handshake itself. */
static const uint8_t magic[MAGIC] = {'S', 'K', 'A', 'T', 'E', '/', WIRE_VERSION, 1};
static const char label_acceptor[LABEL] = "skate acceptor";
static const char label_connector[LABEL] = "skate connector";

int handshake_random(void *out, size_t len) {
    ssize_t n;

    do
        n = getrandom(out, len, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)len ? 0 : -SKATE_ESYS;
}

int handshake_begins(const uint8_t *p, size_t have) {
    return memcmp(p, magic, have < 6 ? have : 6) == 0 ? 0 : -SKATE_EPROTO;
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
    int r = seal_derive(key, NULL, 0, "skate proof key", h->proof_key);

    return r < 0 ? r : handshake_random(h->secret, sizeof h->secret);
}

void handshake_bind(struct handshake *h, const uint8_t binding[32]) {
    memcpy(h->transcript + BINDING, binding, 32);
}

int handshake_accept(struct handshake *h, const uint8_t key[SEAL_KEY], uint8_t flags,
                     uint8_t ret_hello[HANDSHAKE_HELLO]) {
    int r;

    memset(h, 0, sizeof *h);
    h->accepted = true;
    r = start(h, key);
    if (r < 0) return r;
    memcpy(h->transcript, magic, MAGIC);
    h->transcript[MAGIC] = flags;
    r = handshake_random(h->transcript + NONCE_A, 32);
    if (r < 0) return r;
    memcpy(ret_hello, h->transcript, HANDSHAKE_HELLO);
    return 0;
}

int handshake_flags(const uint8_t hello[HANDSHAKE_HELLO]) {
    int r = check_magic(hello);

    return r < 0 ? r : hello[MAGIC];
}

int handshake_answer(struct handshake *h, const uint8_t key[SEAL_KEY],
                     const uint8_t hello[HANDSHAKE_HELLO], uint8_t ret_answer[HANDSHAKE_ANSWER]) {
    int r = check_magic(hello);

    if (r < 0) return r;
    h->accepted = false;
    r = start(h, key);
    if (r < 0) return r;
    memcpy(h->transcript, hello, HANDSHAKE_HELLO);
    memcpy(h->transcript + ANSWER, magic, MAGIC);
    memset(h->transcript + SHARE_A, 0, SEAL_SHARE);
    r = handshake_random(h->transcript + NONCE_C, 32);
    if (r == 0) r = seal_share(h->secret, h->transcript + SHARE_C);
    if (r < 0) return r;
    memcpy(ret_answer, h->transcript + ANSWER, ANSWERED);
    return proof(h, label_connector, ret_answer + ANSWERED);
}

int handshake_prove(struct handshake *h, const uint8_t answer[HANDSHAKE_ANSWER],
                    uint8_t ret_proof[HANDSHAKE_PROOF]) {
    uint8_t want[SEAL_MAC];
    int r = check_magic(answer);

    if (r < 0) return r;
    memcpy(h->transcript + ANSWER, answer, ANSWERED);
    r = proof(h, label_connector, want);
    if (r < 0) return r;
    if (!seal_equal(want, answer + ANSWERED, SEAL_MAC)) return -SKATE_EAUTH;
    r = seal_share(h->secret, h->transcript + SHARE_A); /* not for strangers: it costs */
    if (r < 0) return r;
    memcpy(ret_proof, h->transcript + SHARE_A, SEAL_SHARE);
    return proof(h, label_acceptor, ret_proof + SEAL_SHARE);
}

int handshake_check(struct handshake *h, const uint8_t given[HANDSHAKE_PROOF]) {
    uint8_t want[SEAL_MAC];
    int r;

    memcpy(h->transcript + SHARE_A, given, SEAL_SHARE);
    r = proof(h, label_acceptor, want);
    if (r < 0) return r;
    return seal_equal(want, given + SEAL_SHARE, SEAL_MAC) ? 0 : -SKATE_EAUTH;
}

int handshake_keys(const struct handshake *h, const uint8_t key[SEAL_KEY],
                   uint8_t ret_from_connector[SEAL_KEY], uint8_t ret_from_acceptor[SEAL_KEY]) {
    const uint8_t *theirs = h->transcript + (h->accepted ? SHARE_C : SHARE_A);
    uint8_t shared[SEAL_KEY], secret[SEAL_KEY];
    int r = seal_agree(h->secret, theirs, shared);

    if (r == 0) r = seal_derive(shared, key, SEAL_KEY, "skate session", secret);
    if (r == 0)
        r = seal_derive(secret, h->transcript, sizeof h->transcript, "skate from connector",
                        ret_from_connector);
    if (r == 0)
        r = seal_derive(secret, h->transcript, sizeof h->transcript, "skate from acceptor",
                        ret_from_acceptor);
    OPENSSL_cleanse(shared, sizeof shared);
    OPENSSL_cleanse(secret, sizeof secret);
    return r;
}
