/* err.h - the error codes of the whole system and an optional message for the edges.
 *
 * Functions return 0 or a negative code. Text goes into a struct skate_error at API and process
 * edges only. Any thread; nothing here blocks. Tests: tests/unit/base_test.c. */
#ifndef SKATE_BASE_ERR_H
#define SKATE_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define SKATE_ERRORS(X)                                                                        \
    X(ENOMEM, 1, "out of memory")                                                              \
    X(EINVAL, 2, "invalid argument")                                                           \
    X(EPROTO, 3, "malformed frame from a peer")                                                \
    X(EAGAIN, 4, "not now, try again")                                                         \
    X(ETIMEOUT, 5, "timed out")                                                                \
    X(EINTR, 6, "interrupted by a signal")                                                     \
    X(EDEAD, 7, "the peer is dead")                                                            \
    X(EFULL, 8, "a bounded table or store is full")                                            \
    X(ENOENT, 9, "no such thing")                                                              \
    X(EEXIST, 10, "exists already")                                                            \
    X(EAUTH, 11, "the peer did not prove the cluster key")                                     \
    X(EIO, 12, "input or output failed")                                                       \
    X(ETOOBIG, 13, "larger than the limit allows")                                             \
    X(ESHUTDOWN, 14, "the runtime is shut down")                                               \
    X(EFORKED, 15, "used in a forked child")                                                   \
    X(ESYS, 16, "a system call failed")                                                        \
    X(EVERSION, 17, "the peer speaks another protocol version")                                \
    X(EBUSY, 18, "too many calls are unanswered")

#define SKATE_ERROR_ENUM(name, number, text) SKATE_##name = number,
enum { SKATE_ERRORS(SKATE_ERROR_ENUM) SKATE_ERROR_MAX };

#define SKATE_NODISCARD __attribute__((warn_unused_result))

struct skate_error {
    char text[512];
};

/* The English text of a code, sign ignored; never NULL. */
const char *skate_strerror(int code);

/* Write a formatted message into `err` (NULL is fine) and return `code`, so that a failure can
 * be stated in one line. */
int skate_fail(struct skate_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
