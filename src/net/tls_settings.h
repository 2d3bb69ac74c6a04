/* tls_settings.h - the settings of a daemon about TLS: tls, tls_cert, tls_key, tls_ca.
 *
 * Value type; pure; any thread. Tests: tests/unit/raylet_settings_test.c, gcs_daemon_test.c. */
#ifndef SKATE_NET_TLS_SETTINGS_H
#define SKATE_NET_TLS_SETTINGS_H

#include <string.h>

#include "net/conn.h"

struct tls_settings {
    bool on;
    char cert[256], key[256], ca[256]; /* empty: none */
};

/* 0, -SKATE_EINVAL (a path that is too long, neither 0 nor 1), or 1: none of these settings. */
static inline int tls_settings_set(struct tls_settings *s, const char *name, const char *value) {
    char *to = !strcmp(name, "tls_cert")  ? s->cert
               : !strcmp(name, "tls_key") ? s->key
               : !strcmp(name, "tls_ca")  ? s->ca
                                          : NULL;

    if (!strcmp(name, "tls")) {
        s->on = !strcmp(value, "1");
        return s->on || !strcmp(value, "0") ? 0 : -SKATE_EINVAL;
    }
    if (!to) return 1;
    if (strlen(value) >= sizeof s->cert) return -SKATE_EINVAL;
    memcpy(to, value, strlen(value) + 1);
    return 0;
}

/* For net_opts; points into s. */
static inline struct net_tls tls_settings_of(const struct tls_settings *s) {
    return (struct net_tls){.on = s->on, .cert = s->cert[0] ? s->cert : NULL,
                            .key = s->key[0] ? s->key : NULL, .ca = s->ca[0] ? s->ca : NULL};
}

#endif
