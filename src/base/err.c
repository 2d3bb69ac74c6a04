/* err.c - see err.h. */
#include "base/err.h"

#include <stdio.h>

const char *skate_strerror(int code) {
    static const struct {
        int number;
        const char *text;
    } table[] = {
#define SKATE_ERROR_ROW(name, number, text) {number, text},
        SKATE_ERRORS(SKATE_ERROR_ROW)};

    if (code < 0) code = -code;
    if (code == 0) return "success";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].number == code) return table[i].text;
    return "unknown error";
}

int err_fail(struct skate_error *err, int code, const char *format, ...) {
    va_list args;

    if (err) {
        va_start(args, format);
        (void)vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}
