/* tls.c - see tls.h. OpenSSL's libssl over a BIO of our own: reading takes straight from the socket
 * (and from what was read before TLS began), writing gathers sealed bytes for one send(). */
#include "net/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/assert.h"

/* OUT: of sealed bytes, until the proof and after it. SECURING: accepted ones before the proof, for
 * each of which libssl takes 76 KB. HEARD: of a handshake; libssl would keep 128 KB of it. */
enum { OUT_NEW = 2048, OUT = 5 * (16384 + 256), READ_AHEAD = 64 * 1024, SECURING_MAX = 64 };
enum { HEARD_MAX = 24 * 1024 };
static const unsigned char identity[] = "skate cluster key";
static const char binding_label[] = "EXPORTER-skate-proof";

struct tls {
    SSL *ssl;
    bool done; /* the handshake */
    int error; /* errno of the socket, when it failed */
    uint8_t early[NET_IN_NEW];
    uint32_t early_at, early_end;
    uint32_t heard; /* bytes of its handshake */
    uint32_t out_at, out_end, out_cap;
    uint8_t *out; /* sealed, not yet sent */
};

/* What a net has for it. */
struct tls_shared {
    SSL_CTX *as_acceptor, *as_connector;
    bool certified;
};

/* ------------------------------------------------------------------ the BIO */

static BIO_METHOD *bio_method;

static int bio_read(BIO *b, char *to, int len) {
    struct conn *c = BIO_get_data(b);
    struct tls *t = c->tls;
    ssize_t n = t->early_end - t->early_at;

    BIO_clear_retry_flags(b);
    if (!t->done && t->heard > HEARD_MAX) {
        t->error = EMSGSIZE;
        return -1;
    }
    if (n > 0) {
        if (n > len) n = len;
        memcpy(to, t->early + t->early_at, (size_t)n);
        t->early_at += (uint32_t)n;
        return (int)n;
    }
    do
        n = recv(c->fd, to, (size_t)len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) BIO_set_retry_read(b);
    if (n < 0 && errno != EAGAIN) t->error = errno;
    if (n > 0 && !t->done) t->heard += (uint32_t)n;
    return (int)n;
}

static int bio_write(BIO *b, const char *from, int len) {
    struct conn *c = BIO_get_data(b);
    struct tls *t = c->tls;
    size_t n = (size_t)len;

    BIO_clear_retry_flags(b);
    if (t->out_cap - t->out_end < n && tls_flush(c) < 0 && errno != EAGAIN) {
        t->error = errno;
        return -1;
    }
    if (t->out_cap - t->out_end < n) n = t->out_cap - t->out_end;
    if (n == 0) {
        BIO_set_retry_write(b);
        return -1;
    }
    memcpy(t->out + t->out_end, from, n);
    t->out_end += (uint32_t)n;
    return (int)n;
}

static long bio_ctrl(BIO *b, int what, long number, void *at) {
    (void)b, (void)number, (void)at;
    return what == BIO_CTRL_FLUSH;
}

static bool bio_set_up(void) {
    if (bio_method) return true;
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "skate");
    return bio_method && BIO_meth_set_read(bio_method, bio_read) &&
           BIO_meth_set_write(bio_method, bio_write) && BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

/* ------------------------------------------------------------------ the shared key */

/* The session that both ends would have had: only who holds the cluster key can make it. */
static SSL_SESSION *shared_session(SSL *ssl) {
    static const unsigned char suite[] = {0x13, 0x02}; /* TLS_AES_256_GCM_SHA384 */
    const uint8_t *key = ((struct conn *)SSL_get_app_data(ssl))->net->opts.key;
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
    SSL_SESSION *made = SSL_SESSION_new();
    uint8_t psk[SEAL_KEY];
    bool ok = made && cipher && seal_derive(key, NULL, 0, "skate tls psk", psk) == 0 &&
              SSL_SESSION_set1_master_key(made, psk, sizeof psk) &&
              SSL_SESSION_set_cipher(made, cipher) &&
              SSL_SESSION_set_protocol_version(made, TLS1_3_VERSION);

    net_wipe(psk, sizeof psk);
    if (ok) return made;
    SSL_SESSION_free(made);
    return NULL;
}

static int psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
                   SSL_SESSION **ret) {
    (void)md;
    *ret = shared_session(ssl);
    *id = identity;
    *id_len = sizeof identity - 1;
    return *ret != NULL;
}

static int psk_find(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **ret) {
    bool known = id_len == sizeof identity - 1 && memcmp(id, identity, id_len) == 0;

    *ret = known ? shared_session(ssl) : NULL;
    return known ? *ret != NULL : 1;
}

/* ------------------------------------------------------------------ what a net shares */

static const char *last_reason(void) {
    unsigned long first = ERR_peek_error(), e = ERR_peek_last_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;

    if (first && ERR_SYSTEM_ERROR(first)) return strerror((int)ERR_GET_REASON(first));
    return text ? text : "no reason was given";
}

static int use_certificates(SSL_CTX *ctx, const struct net_tls *tls, struct skate_error *err) {
    if (SSL_CTX_use_certificate_chain_file(ctx, tls->cert) != 1)
        return err_fail(err, -SKATE_EINVAL, "the TLS certificate %s cannot be used: %s", tls->cert,
                        last_reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, tls->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return err_fail(err, -SKATE_EINVAL, "the TLS key %s cannot be used with %s: %s", tls->key,
                        tls->cert, last_reason());
    if (SSL_CTX_load_verify_locations(ctx, tls->ca, NULL) != 1)
        return err_fail(err, -SKATE_EINVAL, "the TLS authority %s cannot be used: %s", tls->ca,
                        last_reason());
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static SSL_CTX *new_context(const SSL_METHOD *method) {
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx) return NULL;
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

int tls_set_up(struct net *n, struct skate_error *err) {
    const struct net_tls *tls = &n->opts.tls;
    bool any = tls->cert || tls->key || tls->ca, all = tls->cert && tls->key && tls->ca;
    struct tls_shared *s;
    int r;

    if (any && !all)
        return err_fail(err, -SKATE_EINVAL, "TLS with certificates needs three files: certificate, "
                        "key and authority (SKATE_TLS_SERVER_CERT, _SERVER_KEY, _CA_CERT)");
    s = n->tls = calloc(1, sizeof *s);
    if (!s) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    s->certified = all;
    /* No configuration files: they cost start-up time and belong to other programs. */
    if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) && bio_set_up())
        s->as_acceptor = new_context(TLS_server_method());
    if (s->as_acceptor) s->as_connector = new_context(TLS_client_method());
    if (!s->as_connector)
        return err_fail(err, -SKATE_ESYS, "TLS cannot start: %s", last_reason());
    if (all) {
        r = use_certificates(s->as_acceptor, tls, err);
        return r < 0 ? r : use_certificates(s->as_connector, tls, err);
    }
    SSL_CTX_set_psk_find_session_callback(s->as_acceptor, psk_find);
    SSL_CTX_set_psk_use_session_callback(s->as_connector, psk_use);
    return 0;
}

void tls_tear_down(struct net *n) {
    struct tls_shared *s = n->tls;

    if (!s) return;
    SSL_CTX_free(s->as_acceptor);
    SSL_CTX_free(s->as_connector);
    free(s);
    n->tls = NULL;
}

/* ------------------------------------------------------------------ one connection */

/* Both addresses are one machine's when they are the same, or both of loopback: for its own
 * addresses the kernel chooses the same one as source. Anything else counts as far away. */
static bool is_near(int fd) {
    struct sockaddr_in here = {0}, there = {0};
    socklen_t a = sizeof here, b = sizeof there;

    if (getsockname(fd, (struct sockaddr *)&here, &a) < 0) return false;
    if (here.sin_family == AF_UNIX) return true;
    if (getpeername(fd, (struct sockaddr *)&there, &b) < 0) return false;
    if (ntohl(here.sin_addr.s_addr) >> 24 == 127 && ntohl(there.sin_addr.s_addr) >> 24 == 127)
        return true;
    return here.sin_addr.s_addr == there.sin_addr.s_addr;
}

bool tls_is_demanded(const struct conn *c) { return c->net->opts.tls.on || !is_near(c->fd); }

static void drop_oldest_securing(struct net *n) {
    struct conn *oldest = NULL;

    for (struct conn *c = n->conns; c; c = c->next)
        if (c->state == CONN_ANSWER && c->tls && (!oldest || c->birth < oldest->birth)) oldest = c;
    SKATE_ASSERT(oldest);
    conn_fail(oldest, -SKATE_EFULL, "too many TLS sessions without a proof");
}

int tls_start(struct conn *c) {
    struct net *n = c->net;
    struct tls *t;
    BIO *b;

    if (!n->tls && tls_set_up(n, NULL) < 0) return -SKATE_ESYS;
    if (c->accepted && n->securing >= SECURING_MAX) drop_oldest_securing(n);
    t = calloc(1, sizeof *t);
    b = t ? BIO_new(bio_method) : NULL;
    if (t) t->out = malloc(OUT_NEW);
    if (t) t->ssl = SSL_new(c->accepted ? n->tls->as_acceptor : n->tls->as_connector);
    if (!b || !t->out || !t->ssl) {
        BIO_free(b);
        tls_free(t);
        return -SKATE_ENOMEM;
    }
    t->out_cap = OUT_NEW;
    t->early_end = c->in_end - c->in_pos;
    SKATE_ASSERT(t->early_end <= sizeof t->early);
    memcpy(t->early, c->in + c->in_pos, t->early_end);
    c->in_pos = c->in_end = 0;
    BIO_set_data(b, c);
    BIO_set_init(b, 1);
    SSL_set_bio(t->ssl, b, b);
    (void)SSL_set_app_data(t->ssl, c);
    if (c->accepted)
        SSL_set_accept_state(t->ssl);
    else
        SSL_set_connect_state(t->ssl);
    c->tls = t;
    if (c->accepted) n->securing++;
    return 0;
}

int tls_further(struct conn *c, struct skate_error *err) {
    struct tls *t = c->tls;
    int r, why;

    if (t->done) return 1;
    ERR_clear_error();
    r = SSL_do_handshake(t->ssl);
    why = r == 1 ? 0 : SSL_get_error(t->ssl, r);
    if (tls_flush(c) < 0 && errno != EAGAIN)
        return err_fail(err, -SKATE_EDEAD, "the TLS handshake broke off: %s", strerror(errno));
    if (r == 1) {
        t->done = true;
        return 1;
    }
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return 0;
    if (t->error)
        return err_fail(err, -SKATE_EDEAD, "the TLS handshake broke off: %s", strerror(t->error));
    if (why == SSL_ERROR_SYSCALL || why == SSL_ERROR_ZERO_RETURN ||
        ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return err_fail(err, -SKATE_EAUTH, "the peer hung up in the TLS handshake: its cluster key "
                        "or its certificates are others");
    return err_fail(err, -SKATE_EAUTH, "no TLS session: %s is another, or it was tampered with "
                    "(%s)", c->net->tls->certified ? "the peer's certificate or authority"
                                                    : "the cluster key", last_reason());
}

int tls_binding(struct conn *c, uint8_t ret[32]) {
    return SSL_export_keying_material(c->tls->ssl, ret, 32, binding_label,
                                      sizeof binding_label - 1, NULL, 0, 0) == 1
               ? 0
               : -SKATE_ESYS;
}

void tls_proved(struct conn *c) {
    uint8_t *more = realloc(c->tls->out, OUT);

    if (more) {
        c->tls->out = more;
        c->tls->out_cap = OUT;
    }
    SSL_set_read_ahead(c->tls->ssl, 1);
    SSL_set_default_read_buffer_len(c->tls->ssl, READ_AHEAD);
}

ssize_t tls_read(struct conn *c, void *to, size_t room) {
    struct tls *t = c->tls;
    size_t n = 0;
    int r, why;

    ERR_clear_error();
    r = SSL_read_ex(t->ssl, to, room, &n);
    if (r == 1) return (ssize_t)n;
    why = SSL_get_error(t->ssl, r);
    errno = EAGAIN;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return -1;
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    if (!t->error && (why == SSL_ERROR_SYSCALL ||
                      ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING))
        return 0;
    errno = t->error ? t->error : EPROTO;
    return -1;
}

ssize_t tls_write(struct conn *c, const void *from, size_t len) {
    struct tls *t = c->tls;
    size_t n = 0;
    int r, why;

    ERR_clear_error();
    r = SSL_write_ex(t->ssl, from, len, &n);
    if (r == 1) return (ssize_t)n;
    why = SSL_get_error(t->ssl, r);
    errno = why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? EAGAIN
            : t->error                                                ? t->error
                                                                      : EPROTO;
    return -1;
}

int tls_flush(struct conn *c) {
    struct tls *t = c->tls;

    while (t->out_at < t->out_end) {
        ssize_t n = send(c->fd, t->out + t->out_at, t->out_end - t->out_at,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            memmove(t->out, t->out + t->out_at, t->out_end - t->out_at);
            t->out_end -= t->out_at;
            t->out_at = 0;
            return -1;
        }
        t->out_at += (uint32_t)n;
    }
    t->out_at = t->out_end = 0;
    return 0;
}

uint32_t tls_unsent(const struct conn *c) { return c->tls ? c->tls->out_end - c->tls->out_at : 0; }

void tls_free(struct tls *t) {
    if (!t) return;
    SSL_free(t->ssl); /* and its BIO */
    free(t->out);
    free(t);
}
