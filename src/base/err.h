/* err.h - an optional message for the edges; the codes are those of skate/errors.h.
 *
 * Functions return 0 or a negative code. Text goes into a struct skate_error at API and process
 * edges only. Any thread; nothing here blocks. Tests: tests/unit/base_model_test.c. */
#ifndef SKATE_BASE_ERR_H
#define SKATE_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#include "skate/errors.h"

#define SKATE_NODISCARD __attribute__((warn_unused_result))

struct skate_error {
    char text[512];
};

/* The English text of a code, sign ignored; never NULL. A function of skate/skate.h, too. */
__attribute__((visibility("default"))) const char *skate_strerror(int code);

/* Write a formatted message into `err` (NULL is fine) and return `code`, so that a failure can
 * be stated in one line. */
int err_fail(struct skate_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
