/* assert.h - invariants, on in release too. A failed one is our bug, never a peer's: it prints
 * where and aborts the process. Peer input is validated, not asserted. */
#ifndef SKATE_BASE_ASSERT_H
#define SKATE_BASE_ASSERT_H

__attribute__((noreturn, cold)) void skate_panic(const char *file, int line, const char *what);

#define SKATE_ASSERT(condition)                                                                \
    ((condition) ? (void)0 : skate_panic(__FILE__, __LINE__, #condition))

#endif
