/* seal.c - see seal.h. */
#include "net/seal.h"

#include <limits.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert.h"

int seal_mac(const uint8_t key[SEAL_KEY], const void *data, size_t len, uint8_t ret[SEAL_MAC]) {
    unsigned n = 0;

    if (!HMAC(EVP_sha256(), key, SEAL_KEY, data, len, ret, &n)) return -SKATE_ESYS;
    SKATE_ASSERT(n == SEAL_MAC);
    return 0;
}

int seal_derive(const uint8_t secret[SEAL_KEY], const uint8_t *salt, size_t salt_len,
                const char *info, uint8_t ret[SEAL_KEY]) {
    uint8_t prk[SEAL_MAC], block[64];
    size_t n = strlen(info);
    unsigned out = 0;
    int r = -SKATE_ESYS;

    SKATE_ASSERT(n < sizeof block && salt_len <= INT_MAX);
    /* Extract, then the first block of expand: RFC 5869, 2.2 and 2.3. */
    if (!HMAC(EVP_sha256(), salt, (int)salt_len, secret, SEAL_KEY, prk, &out)) goto done;
    memcpy(block, info, n);
    block[n] = 1;
    r = seal_mac(prk, block, n + 1, ret);
done:
    OPENSSL_cleanse(prk, sizeof prk);
    return r;
}

int seal_share(const uint8_t secret[SEAL_KEY], uint8_t ret[SEAL_SHARE]) {
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret, SEAL_KEY);
    size_t n = SEAL_SHARE;
    bool ok = key && EVP_PKEY_get_raw_public_key(key, ret, &n) == 1 && n == SEAL_SHARE;

    EVP_PKEY_free(key);
    return ok ? 0 : -SKATE_ESYS;
}

int seal_agree(const uint8_t secret[SEAL_KEY], const uint8_t theirs[SEAL_SHARE],
               uint8_t ret[SEAL_KEY]) {
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret, SEAL_KEY);
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, SEAL_SHARE);
    EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    size_t n = SEAL_KEY;
    int r = -SKATE_ESYS;

    /* It refuses points of small order, which would make a secret that everybody knows. */
    if (ctx && peer && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1)
        r = EVP_PKEY_derive(ctx, ret, &n) == 1 && n == SEAL_KEY ? 0 : -SKATE_EAUTH;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(key);
    return r;
}

bool seal_equal(const void *a, const void *b, size_t len) { return CRYPTO_memcmp(a, b, len) == 0; }

int seal_init(struct seal *s, const uint8_t key[SEAL_KEY], bool opening) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (!ctx) return -SKATE_ENOMEM;
    if (!EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, NULL, !opening)) {
        EVP_CIPHER_CTX_free(ctx);
        return -SKATE_ENOMEM;
    }
    *s = (struct seal){.ctx = ctx, .opening = opening};
    return 0;
}

void seal_init_clear(struct seal *s) { *s = (struct seal){.clear = true}; }

void seal_release(struct seal *s) {
    EVP_CIPHER_CTX_free(s->ctx); /* wipes the key schedule; NULL is fine */
    *s = (struct seal){0};
}

int seal_begin(struct seal *s, const void *clear, size_t len) {
    uint8_t nonce[12] = {0};
    int n = 0;

    if (s->clear) return 0;
    SKATE_ASSERT(s->ctx && s->count < UINT64_MAX);
    memcpy(nonce + 4, &s->count, sizeof s->count);
    s->count++;
    if (!EVP_CipherInit_ex(s->ctx, NULL, NULL, NULL, nonce, !s->opening) ||
        !EVP_CipherUpdate(s->ctx, NULL, &n, clear, (int)len))
        return -SKATE_ESYS;
    return 0;
}

int seal_bytes(struct seal *s, const void *in, size_t len, void *out) {
    int n = 0;

    SKATE_ASSERT(len <= INT_MAX);
    if (len == 0) return 0;
    if (s->clear) {
        memcpy(out, in, len);
        return 0;
    }
    if (!EVP_CipherUpdate(s->ctx, out, &n, in, (int)len) || n != (int)len) return -SKATE_ESYS;
    return 0;
}

int seal_end(struct seal *s, uint8_t tag[SEAL_TAG]) {
    uint8_t rest[16];
    int n = 0;

    if (s->clear) {
        memset(tag, 0, SEAL_TAG);
        return 0;
    }
    if (s->opening) {
        if (!EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, tag)) return -SKATE_ESYS;
        return EVP_CipherFinal_ex(s->ctx, rest, &n) > 0 ? 0 : -SKATE_EPROTO;
    }
    if (!EVP_CipherFinal_ex(s->ctx, rest, &n) ||
        !EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, tag))
        return -SKATE_ESYS;
    return 0;
}
