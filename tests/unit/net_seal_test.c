/* net_seal_test.c - the cryptography against published vectors, and the handshake step by step.
 * links: base loop wire net. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/conn.h"
#include "net/handshake.h"
#include "net/seal.h"
#include "wire/frame.h"

static void from_hex(const char *hex, uint8_t *out) {
    uint8_t key[NET_KEY_BYTES];
    char padded[65];
    size_t n = strlen(hex);

    memset(padded, '0', 64);
    memcpy(padded, hex, n);
    assert_int_equal(net_key_from_hex(padded, 64, key), 0);
    memcpy(out, key, n / 2);
}

/* RFC 4231 test case 2 has a short key; zeros behind a key are the same key to HMAC. */
static void mac_vector(void **state) {
    uint8_t key[32] = "Jefe", want[32], got[32];

    (void)state;
    from_hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", want);
    assert_int_equal(seal_mac(key, "what do ya want for nothing?", 28, got), 0);
    assert_memory_equal(got, want, 32);
    assert_true(seal_equal(got, want, 32));
    got[31] ^= 1;
    assert_false(seal_equal(got, want, 32));
}

/* HKDF written out with HMAC alone: extract, then one block of expand. */
static void derive_is_hkdf(void **state) {
    uint8_t secret[32], salt[32], prk[32], want[32], got[32];

    (void)state;
    memset(secret, 0x0b, sizeof secret);
    memset(salt, 0x03, sizeof salt);
    assert_int_equal(seal_mac(salt, secret, 32, prk), 0);
    assert_int_equal(seal_mac(prk, "info\x01", 5, want), 0);
    assert_int_equal(seal_derive(secret, salt, 32, "info", got), 0);
    assert_memory_equal(got, want, 32);
    assert_int_equal(seal_derive(secret, salt, 32, "other", got), 0);
    assert_memory_not_equal(got, want, 32);
}

/* The GCM specification's test case 13: zero key, zero nonce, nothing sealed: its tag. */
static void gcm_vector(void **state) {
    uint8_t key[32] = {0}, want[16], tag[16];
    struct seal s;

    (void)state;
    from_hex("530f8afbc74536b9a963b4f1c4cb738b", want);
    assert_int_equal(seal_init(&s, key, false), 0);
    assert_int_equal(seal_begin(&s, "", 0), 0);
    assert_int_equal(seal_end(&s, tag), 0);
    assert_memory_equal(tag, want, 16);
    seal_release(&s);
}

/* What is sealed in pieces opens in other pieces; any change, or another order, does not open. */
static void seal_and_open(void **state) {
    uint8_t key[32] = {5}, plain[100], sealed[2][100], tag[2][16], got[100], bad[16];
    struct seal s, o;

    (void)state;
    for (size_t i = 0; i < sizeof plain; i++) plain[i] = (uint8_t)i;
    assert_int_equal(seal_init(&s, key, false), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(seal_begin(&s, "clear", 5), 0);
        assert_int_equal(seal_bytes(&s, plain, 33, sealed[i]), 0);
        assert_int_equal(seal_bytes(&s, plain + 33, 67, sealed[i] + 33), 0);
        assert_int_equal(seal_end(&s, tag[i]), 0);
    }
    assert_memory_not_equal(sealed[0], sealed[1], 100); /* each record has its own nonce */
    for (int attack = 0; attack < 4; attack++) {
        int first = attack == 1 ? 1 : 0; /* the second record first */

        memcpy(bad, tag[first], 16);
        if (attack == 2) bad[3] ^= 0x10;
        assert_int_equal(seal_init(&o, key, true), 0);
        assert_int_equal(seal_begin(&o, attack == 3 ? "cleaR" : "clear", 5), 0);
        assert_int_equal(seal_bytes(&o, sealed[first], 90, got), 0);
        assert_int_equal(seal_bytes(&o, sealed[first] + 90, 10, got + 90), 0);
        assert_int_equal(seal_end(&o, bad), attack == 0 ? 0 : -SKATE_EPROTO);
        if (attack == 0) assert_memory_equal(got, plain, 100);
        seal_release(&o);
    }
    seal_release(&s);
}

/* RFC 7748, 5.2: nine times the point nine; both ends agree; a share of small order is refused. */
static void agree_vector(void **state) {
    uint8_t nine[32] = {9}, other[32] = {1, 2, 3}, a[32], b[32], want[32], got[32], none[32] = {0};

    (void)state;
    from_hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079", want);
    assert_int_equal(seal_share(nine, a), 0);
    assert_memory_equal(a, want, 32);
    assert_int_equal(seal_agree(nine, nine, got), 0);
    assert_memory_equal(got, want, 32);
    assert_int_equal(seal_share(other, b), 0);
    assert_int_equal(seal_agree(other, a, got), 0);
    assert_int_equal(seal_agree(nine, b, want), 0);
    assert_memory_equal(got, want, 32);
    assert_int_equal(seal_agree(nine, none, got), -SKATE_EAUTH);
}

/* A binding is part of every proof. */
static void bound_proofs(void **state) {
    uint8_t key[32] = {1}, hello[HANDSHAKE_HELLO], answer[HANDSHAKE_ANSWER],
            proof[HANDSHAKE_PROOF], binding[32] = {4}, other[32] = {5};

    (void)state;
    for (int same = 0; same < 2; same++) {
        struct handshake a, c = {0};

        assert_int_equal(handshake_accept(&a, key, HANDSHAKE_TLS, hello), 0);
        assert_int_equal(handshake_flags(hello), HANDSHAKE_TLS);
        handshake_bind(&a, binding);
        handshake_bind(&c, same ? binding : other);
        assert_int_equal(handshake_answer(&c, key, hello, answer), 0);
        assert_int_equal(handshake_prove(&a, answer, proof), same ? 0 : -SKATE_EAUTH);
        if (same) assert_int_equal(handshake_check(&c, proof), 0);
    }
    hello[8] ^= HANDSHAKE_TLS; /* who changes what was demanded is found out */
    {
        struct handshake a, c = {0};
        uint8_t changed[HANDSHAKE_HELLO];

        assert_int_equal(handshake_accept(&a, key, HANDSHAKE_TLS, hello), 0);
        memcpy(changed, hello, sizeof changed);
        changed[8] = 0;
        assert_int_equal(handshake_answer(&c, key, changed, answer), 0);
        assert_int_equal(handshake_prove(&a, answer, proof), -SKATE_EAUTH);
    }
}

/* Both ends derive the same two keys; each wrong message is told apart. */
static void handshake_steps(void **state) {
    uint8_t key[32] = {1}, other[32] = {2}, hello[HANDSHAKE_HELLO], answer[HANDSHAKE_ANSWER],
            proof[HANDSHAKE_PROOF], k[4][32], changed[HANDSHAKE_ANSWER];
    struct handshake a, c = {0}, d;

    (void)state;
    assert_int_equal(handshake_accept(&a, key, 0, hello), 0);
    assert_int_equal(handshake_answer(&c, key, hello, answer), 0);
    for (size_t i = 8; i < HANDSHAKE_ANSWER; i += 7) { /* any bit counts */
        d = a;
        memcpy(changed, answer, sizeof changed);
        changed[i] ^= 0x40;
        assert_int_equal(handshake_prove(&d, changed, proof), -SKATE_EAUTH);
    }
    assert_int_equal(handshake_prove(&a, answer, proof), 0);
    assert_memory_not_equal(proof + 32, answer + HANDSHAKE_ANSWER - 32, 32); /* roles differ */
    assert_int_equal(handshake_check(&c, answer + HANDSHAKE_ANSWER - HANDSHAKE_PROOF),
                     -SKATE_EAUTH);
    for (size_t i = 0; i < HANDSHAKE_PROOF; i += 9) {
        d = c;
        memcpy(changed, proof, HANDSHAKE_PROOF);
        changed[i] ^= 1;
        assert_int_equal(handshake_check(&d, changed), -SKATE_EAUTH);
    }
    assert_int_equal(handshake_check(&c, proof), 0);
    assert_int_equal(handshake_keys(&a, key, k[0], k[1]), 0);
    assert_int_equal(handshake_keys(&c, key, k[2], k[3]), 0);
    assert_memory_equal(k[0], k[2], 32);
    assert_memory_equal(k[1], k[3], 32);
    assert_memory_not_equal(k[0], k[1], 32);
    c.secret[3] ^= 1; /* the keys are not those of the cluster key and what was heard alone */
    assert_int_equal(handshake_keys(&c, key, k[2], k[3]), 0);
    assert_memory_not_equal(k[0], k[2], 32);
    assert_int_equal(handshake_accept(&a, other, 0, hello), 0);
    assert_int_equal(handshake_prove(&a, answer, proof), -SKATE_EAUTH); /* replay: old nonce */
    hello[6]++;
    assert_int_equal(handshake_answer(&c, key, hello, answer), -SKATE_EVERSION);
    hello[0] = 'H';
    assert_int_equal(handshake_answer(&c, key, hello, answer), -SKATE_EPROTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mac_vector),    cmocka_unit_test(derive_is_hkdf),
        cmocka_unit_test(gcm_vector),    cmocka_unit_test(seal_and_open),
        cmocka_unit_test(agree_vector),  cmocka_unit_test(bound_proofs),
        cmocka_unit_test(handshake_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
