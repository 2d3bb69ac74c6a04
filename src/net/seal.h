/* seal.h - the cryptography of a connection: key derivation and sealed records.
 *
 * HMAC-SHA256, HKDF-SHA256, X25519 and AES-256-GCM of OpenSSL's libcrypto; nothing of our own but
 * their arrangement. A record is sealed with a nonce that counts the records of that direction, so
 * one that is dropped, repeated or moved does not open. Each direction has its own key, used for
 * one connection only. Loop thread; never blocks. Tests: tests/unit/net_seal_test.c. */
#ifndef SKATE_NET_SEAL_H
#define SKATE_NET_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { SEAL_KEY = 32, SEAL_MAC = 32, SEAL_TAG = 16, SEAL_SHARE = 32 };

struct seal {
    void *ctx; /* EVP_CIPHER_CTX */
    uint64_t count;
    bool opening;
    bool clear; /* the bytes go through TLS: nothing is done to them here */
};

/* HMAC-SHA256 of `len` bytes. 0 or -SKATE_ESYS. */
SKATE_NODISCARD int seal_mac(const uint8_t key[SEAL_KEY], const void *data, size_t len,
                             uint8_t ret[SEAL_MAC]);
/* HKDF-SHA256 with one block of output. 0 or -SKATE_ESYS. */
SKATE_NODISCARD int seal_derive(const uint8_t secret[SEAL_KEY], const uint8_t *salt,
                                size_t salt_len, const char *info, uint8_t ret[SEAL_KEY]);
/* X25519: what the other end is told of a random secret, and what both then know. -SKATE_ESYS;
 * -SKATE_EAUTH: `theirs` is no honest share. */
SKATE_NODISCARD int seal_share(const uint8_t secret[SEAL_KEY], uint8_t ret[SEAL_SHARE]);
SKATE_NODISCARD int seal_agree(const uint8_t secret[SEAL_KEY], const uint8_t theirs[SEAL_SHARE],
                               uint8_t ret[SEAL_KEY]);
/* Compare in a time that does not depend on where they differ. */
bool seal_equal(const void *a, const void *b, size_t len);

/* opening: false to seal, true to open. 0 or -SKATE_ENOMEM. */
SKATE_NODISCARD int seal_init(struct seal *s, const uint8_t key[SEAL_KEY], bool opening);
/* For records inside of TLS: bytes as they are, a tag of zeros. */
void seal_init_clear(struct seal *s);
void seal_release(struct seal *s);
/* One record: begin (with what is bound to it in the clear), its bytes in any pieces, the tag. */
SKATE_NODISCARD int seal_begin(struct seal *s, const void *clear, size_t len);
SKATE_NODISCARD int seal_bytes(struct seal *s, const void *in, size_t len, void *out);
/* Sealing: writes the tag. Opening: checks it, -SKATE_EPROTO when the record is not genuine. */
SKATE_NODISCARD int seal_end(struct seal *s, uint8_t tag[SEAL_TAG]);

#endif
