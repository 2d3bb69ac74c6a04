/* skate/errors.h - the error codes of every function of libskate.
 *
 * A function that can fail returns 0 (or a count) on success and -SKATE_E... on failure; the
 * sentence that belongs to it is skate_last_error() on the same thread. Numbers never change;
 * new ones are appended. */
#ifndef SKATE_ERRORS_H
#define SKATE_ERRORS_H

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
    X(EBUSY, 18, "too many calls are unanswered")                                              \
    X(ETASK, 19, "the task failed")                                                            \
    X(ELOST, 20, "the object is lost")                                                         \
    X(ECRASH, 21, "the worker that ran the task died")                                         \
    X(EACTOR, 22, "the actor is dead or cannot be reached")                                    \
    X(ECANCELLED, 23, "the task was cancelled")                                                \
    X(ETYPE, 24, "the value is of another kind")                                               \
    X(ESTALE, 25, "of an earlier life: the cluster has gone on without it")

#define SKATE_ERROR_ENUM(name, number, text) SKATE_##name = number,
enum { SKATE_ERRORS(SKATE_ERROR_ENUM) SKATE_ERROR_MAX };

#endif
