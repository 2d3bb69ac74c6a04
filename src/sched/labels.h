/* labels.h - labels of nodes, and what a task or actor wants of them.
 *
 * A node's labels: "key=value,key=value". A selector: alternatives separated by newlines, of which
 * the first that some node can serve now is used; each has terms separated by ';', which must all
 * hold: "key=a|b" (one of these), "key!a|b" (none of these, or no such label), "key+" (there is
 * such a label), "key^" (there is none). No terms: any node. Pure; any thread; never blocks.
 * Tests: tests/unit/sched_labels_test.c. */
#ifndef SKATE_SCHED_LABELS_H
#define SKATE_SCHED_LABELS_H

#include <stdbool.h>
#include <stddef.h>

enum { LABELS_MAX = 1024 }; /* bytes of either text, with its end */

/* Copy a text that came in a frame: false (out is "") when it is too long or has a NUL inside. */
bool labels_copy(char out[LABELS_MAX], const char *text, size_t len);
/* Is it a selector? */
bool labels_is_selector(const char *text);
/* Do a node's labels satisfy one alternative of a selector: up to its newline or end? */
bool labels_fit(const char *labels, const char *alternative);
/* The next alternative; NULL: there is none. */
const char *labels_next(const char *alternative);
/* A selector for people: "zone in (north, south), gpu exists; or any node". Returns out. */
const char *labels_text(const char *selector, char *out, size_t cap);

#endif
