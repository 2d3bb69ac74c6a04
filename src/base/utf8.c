/* utf8.c - see utf8.h. Surrogates and overlong forms are no characters. */
#include "base/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character that begins n bytes; 0: it is none, or not whole. */
static size_t character(const unsigned char *s, size_t n) {
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (s[0] > 0xf4 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (len == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))) return 0;
    if (len == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))) return 0;
    return len;
}

static bool eight_ascii(const char *p) {
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return !(word & UINT64_C(0x8080808080808080));
}

size_t utf8_span(const char *text, size_t n) {
    size_t at = 0, len;

    while (at < n) {
        if (n - at >= 8 && eight_ascii(text + at)) {
            at += 8;
            continue;
        }
        len = character((const unsigned char *)text + at, n - at);
        if (len == 0) break;
        at += len;
    }
    return at;
}

void utf8_make(char *text) {
    size_t n = strlen(text), at = 0;

    while ((at += utf8_span(text + at, n - at)) < n) text[at++] = '?';
}
