/* handshake.h - the mutual proof of the cluster key, as pure message making and checking.
 *
 *   acceptor -> connector   hello:  magic, protocol version, nonce A
 *   connector -> acceptor   answer: magic, version, nonce C, proof C
 *   acceptor -> connector   proof A
 *
 * A proof is HMAC-SHA256 under a key derived from the cluster key, over the role's label and the
 * whole transcript: it fits one role, one pair of fresh nonces and one version, so it can be
 * neither replayed nor reflected. The connector proves first: a stranger learns 32 random bytes
 * and nothing else. Then both derive one sealing key for each direction.
 * All messages have fixed sizes: nothing of a stranger is ever parsed, only compared.
 * Pure but for the nonce; any thread. Tests: tests/unit/net_seal_test.c. */
#ifndef SKATE_NET_HANDSHAKE_H
#define SKATE_NET_HANDSHAKE_H

#include "net/seal.h"

enum {
    HANDSHAKE_HELLO = 8 + 32,       /* bytes of hello */
    HANDSHAKE_ANSWER = 8 + 32 + 32, /* bytes of answer */
    HANDSHAKE_PROOF = 32,           /* bytes of proof A */
};

struct handshake {
    uint8_t transcript[HANDSHAKE_HELLO + HANDSHAKE_HELLO]; /* hello, answer without its proof */
    uint8_t proof_key[SEAL_KEY];
};

/* Acceptor: start, and the hello to send. 0 or -SKATE_ESYS. */
SKATE_NODISCARD int handshake_accept(struct handshake *h, const uint8_t key[SEAL_KEY],
                                     uint8_t ret_hello[HANDSHAKE_HELLO]);
/* Connector: judge the hello, make the answer. -SKATE_EPROTO (no Skate), -SKATE_EVERSION. */
SKATE_NODISCARD int handshake_answer(struct handshake *h, const uint8_t key[SEAL_KEY],
                                     const uint8_t hello[HANDSHAKE_HELLO],
                                     uint8_t ret_answer[HANDSHAKE_ANSWER]);
/* Acceptor: judge the answer, make the proof. -SKATE_EPROTO, -SKATE_EVERSION, -SKATE_EAUTH. */
SKATE_NODISCARD int handshake_prove(struct handshake *h, const uint8_t answer[HANDSHAKE_ANSWER],
                                    uint8_t ret_proof[HANDSHAKE_PROOF]);
/* Connector: judge the acceptor's proof. -SKATE_EAUTH. */
SKATE_NODISCARD int handshake_check(struct handshake *h, const uint8_t proof[HANDSHAKE_PROOF]);
/* Both, after success: the keys of the two directions. */
SKATE_NODISCARD int handshake_keys(const struct handshake *h, const uint8_t key[SEAL_KEY],
                                   uint8_t ret_from_connector[SEAL_KEY],
                                   uint8_t ret_from_acceptor[SEAL_KEY]);
/* Fill with random bytes from the kernel. 0 or -SKATE_ESYS. */
SKATE_NODISCARD int handshake_random(void *out, size_t len);

#endif
