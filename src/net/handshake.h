/* handshake.h - the mutual proof of the cluster key, as pure message making and checking.
 *
 *   acceptor -> connector   hello:  magic, version, flags, nonce A
 *   connector -> acceptor   answer: magic, version, nonce C, share C, proof C
 *   acceptor -> connector   proof:  share A, proof A
 *
 * A proof is HMAC-SHA256 under a key derived from the cluster key, over the role's label and the
 * whole transcript (hello, answer, share A, and what binds it to a TLS session when there is one):
 * it fits one role, one pair of fresh nonces and one version, so it can be neither replayed nor
 * reflected. The connector proves first: a stranger learns 32 random bytes and nothing else. Then
 * both derive one sealing key for each direction from the cluster key and an X25519 exchange of
 * keys that live as long as the handshake: who learns the cluster key later cannot open what was
 * recorded.
 * All messages have fixed sizes: nothing of a stranger is ever parsed, only compared.
 * Pure but for the random bytes; any thread. Tests: tests/unit/net_seal_test.c. */
#ifndef SKATE_NET_HANDSHAKE_H
#define SKATE_NET_HANDSHAKE_H

#include "net/seal.h"

enum {
    HANDSHAKE_HELLO = 8 + 8 + 32,                /* bytes of hello */
    HANDSHAKE_ANSWER = 8 + 32 + SEAL_SHARE + 32, /* bytes of answer */
    HANDSHAKE_PROOF = SEAL_SHARE + 32,           /* bytes of the acceptor's proof */
};
/* In a hello: the acceptor will only hear the answer inside of TLS (net/tls.h). */
enum { HANDSHAKE_TLS = 1 };

struct handshake {
    /* hello, answer without its proof, share A, binding */
    uint8_t transcript[HANDSHAKE_HELLO + HANDSHAKE_ANSWER - 32 + SEAL_SHARE + 32];
    uint8_t proof_key[SEAL_KEY], secret[SEAL_KEY];
    bool accepted;
};

/* Acceptor: start, and the hello to send. 0 or -SKATE_ESYS. */
SKATE_NODISCARD int handshake_accept(struct handshake *h, const uint8_t key[SEAL_KEY],
                                     uint8_t flags, uint8_t ret_hello[HANDSHAKE_HELLO]);
/* The first `have` bytes of either message: -SKATE_EPROTO as soon as they cannot become one. */
SKATE_NODISCARD int handshake_begins(const uint8_t *p, size_t have);
/* Connector: judge the hello. Its flags, -SKATE_EPROTO (no Skate) or -SKATE_EVERSION. */
SKATE_NODISCARD int handshake_flags(const uint8_t hello[HANDSHAKE_HELLO]);
/* Both, before any proof is made: it holds for this TLS session only. */
void handshake_bind(struct handshake *h, const uint8_t binding[32]);
/* Connector: judge the hello, make the answer. -SKATE_EPROTO (no Skate), -SKATE_EVERSION. A
 * binding, if any, comes before: *h begins as zeros. */
SKATE_NODISCARD int handshake_answer(struct handshake *h, const uint8_t key[SEAL_KEY],
                                     const uint8_t hello[HANDSHAKE_HELLO],
                                     uint8_t ret_answer[HANDSHAKE_ANSWER]);
/* Acceptor: judge the answer, make the proof. -SKATE_EPROTO, -SKATE_EVERSION, -SKATE_EAUTH. */
SKATE_NODISCARD int handshake_prove(struct handshake *h, const uint8_t answer[HANDSHAKE_ANSWER],
                                    uint8_t ret_proof[HANDSHAKE_PROOF]);
/* Connector: judge the acceptor's proof. -SKATE_EAUTH. */
SKATE_NODISCARD int handshake_check(struct handshake *h, const uint8_t proof[HANDSHAKE_PROOF]);
/* Both, after success: the keys of the two directions. -SKATE_EAUTH: a share that is none. */
SKATE_NODISCARD int handshake_keys(const struct handshake *h, const uint8_t key[SEAL_KEY],
                                   uint8_t ret_from_connector[SEAL_KEY],
                                   uint8_t ret_from_acceptor[SEAL_KEY]);
/* Fill with random bytes from the kernel. 0 or -SKATE_ESYS. */
SKATE_NODISCARD int handshake_random(void *out, size_t len);

#endif
