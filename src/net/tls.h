/* tls.h - TLS 1.3 under a connection: who must speak it, and its bytes under our loop.
 *
 * A stream of bytes in both directions where the socket was: the proof of the cluster key and the
 * records go through it unchanged (records without a seal of their own: net/seal.h). The session is
 * made with certificates when the net has them, both ways; else with a pre-shared key that is
 * derived from the cluster key, with an ephemeral exchange always (psk_dhe_ke). The proof that
 * follows is bound to the session by its exporter, so nobody can stand between two sessions.
 * Loop thread; never blocks. Tests: tests/unit/net_tls_test.c. */
#ifndef SKATE_NET_TLS_H
#define SKATE_NET_TLS_H

#include <sys/types.h>

#include "net/net_int.h"

struct tls; /* of one connection */

/* What all connections of a net share; else made when first needed. 0, -SKATE_EINVAL (certificates
 * that cannot be used; why), -SKATE_ESYS, -SKATE_ENOMEM. */
SKATE_NODISCARD int tls_set_up(struct net *n, struct skate_error *err);
void tls_tear_down(struct net *n);
/* Does our policy demand it of this connection? When it is on, or the peer is another machine. */
bool tls_is_demanded(const struct conn *c);
/* Begin: what lies in the input buffer are bytes of it already. */
SKATE_NODISCARD int tls_start(struct conn *c);
/* A step of its handshake. 1: the session is there; 0: more bytes are needed; else why not
 * (-SKATE_EAUTH: another key or certificate, with a text). */
int tls_further(struct conn *c, struct skate_error *err);
/* The peer has proved the key: larger buffers. */
void tls_proved(struct conn *c);
/* For handshake_bind(), when the session is there. */
SKATE_NODISCARD int tls_binding(struct conn *c, uint8_t ret[32]);
/* As read(): -1 with EAGAIN, EPROTO (not genuine) or an error of the socket; 0: the end. */
ssize_t tls_read(struct conn *c, void *to, size_t room);
/* As send(). What was taken is not yet with the kernel: tls_flush(). */
ssize_t tls_write(struct conn *c, const void *from, size_t len);
/* Give the kernel what is sealed: 0, or -1 with errno. tls_unsent(): bytes that are left. */
int tls_flush(struct conn *c);
uint32_t tls_unsent(const struct conn *c);
void tls_free(struct tls *t);

#endif
