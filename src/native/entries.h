/* entries.h - what shared libraries export to this worker: loaded once, found by name.
 *
 * The worker's thread alone. Loading a library runs its initialisers, and may block as they do.
 * Libraries stay loaded until the process ends. Tests: tests/e2e/test_native_worker.py. */
#ifndef SKATE_NATIVE_ENTRIES_H
#define SKATE_NATIVE_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "skate/task.h"

enum { ENTRY_NAME_MAX = 200, LIBRARY_NAME_MAX = 4000, METHODS_MAX = 4096 };

struct native_method {
    const char *name;
    uint32_t len, hash;
    skate_method_fn run;
};
struct native_class {
    const struct skate_entry *entry;
    struct library *library;
    struct native_method *slots; /* by hash, mask + 1 of them, half of them empty at least */
    uint32_t mask, count;
    struct native_class *next;
};
struct library {
    struct library *next;
    char *name;
    void *handle;
    struct native_class *classes;
};

/* Why something was not found, for the error of the task: the name of a Python exception. */
struct entry_error {
    const char *type;
    struct skate_error text;
};

struct library *entries_library(const char *name, struct entry_error *err); /* NULL: err */
/* The task of that name, or NULL. */
const struct skate_entry *entries_task(struct library *l, const char *name,
                                       struct entry_error *err);
const struct native_class *entries_class(struct library *l, const char *name,
                                         struct entry_error *err);
/* NULL: it has no such method. */
const struct native_method *class_method(const struct native_class *k, const char *name,
                                         size_t len);
/* "add, get": for errors. */
void class_methods(const struct native_class *k, char *out, size_t cap);

#endif
