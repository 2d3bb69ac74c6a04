/* utf8.h - is a text UTF-8, as Python will read it?
 *
 * Any thread; nothing here blocks. Tests: tests/unit/base_utf8_test.c. */
#ifndef SKATE_BASE_UTF8_H
#define SKATE_BASE_UTF8_H

#include <stddef.h>

/* The bytes from the beginning that are whole characters; n: all of it is UTF-8. */
size_t utf8_span(const char *text, size_t n);
/* A 0-terminated text in any encoding, cut anywhere: what is no character becomes '?'. */
void utf8_make(char *text);

#endif
