/* entries.c - see entries.h. */
#include "native/entries.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "skate_entry_"

static struct library *libraries;

/* ---- which entries are there, for the error that one is not ---- */

/* The number of symbols, from the GNU hash table: the last chain's last. */
static uint32_t symbol_count(const uint32_t *hash) {
    uint32_t buckets = hash[0], base = hash[1], words = hash[2], last = 0;
    const uint32_t *bucket = hash + 4 + words * (sizeof(ElfW(Addr)) / 4);
    const uint32_t *chain = bucket + buckets;

    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last) last = bucket[i];
    if (last < base) return base;
    while (!(chain[last - base] & 1)) last++;
    return last + 1;
}

/* Append ", name" while there is room. */
static void list_name(char *out, size_t cap, const char *name) {
    size_t used = strlen(out);

    (void)snprintf(out + used, cap - used, "%s%s", used ? ", " : "", name);
}

/* Names of the entries of a loaded library: "" when it has none, or cannot be looked through. */
static void list_entries(void *handle, char *out, size_t cap) {
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *hash = NULL;
    struct link_map *map = NULL;
    uint32_t n;

    out[0] = 0;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) < 0 || !map) return;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB) symbols = (const void *)d->d_un.d_ptr;
        if (d->d_tag == DT_STRTAB) strings = (const void *)d->d_un.d_ptr;
        if (d->d_tag == DT_GNU_HASH) hash = (const void *)d->d_un.d_ptr;
    }
    if (!symbols || !strings || !hash) return;
    n = symbol_count(hash);
    for (uint32_t i = 0; i < n; i++) {
        const char *name = strings + symbols[i].st_name;

        if (symbols[i].st_shndx != SHN_UNDEF && !strncmp(name, PREFIX, sizeof PREFIX - 1))
            list_name(out, cap, name + sizeof PREFIX - 1);
    }
}

/* ---- libraries ---- */

struct library *entries_library(const char *name, struct entry_error *err) {
    struct library *l;
    const char *why;
    void *handle;

    for (l = libraries; l; l = l->next)
        if (!strcmp(l->name, name)) return l;
    handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        why = dlerror();
        err->type = "OSError";
        (void)err_fail(&err->text, 0, "the library %.200s cannot be loaded: %.280s", name,
                       why ? why : "?");
        return NULL;
    }
    l = calloc(1, sizeof *l);
    if (l) l->name = strdup(name);
    if (!l || !l->name) {
        free(l);
        err->type = "MemoryError";
        (void)err_fail(&err->text, 0, "out of memory");
        return NULL;
    }
    l->handle = handle;
    l->next = libraries;
    libraries = l;
    return l;
}

static const struct skate_entry *find(struct library *l, const char *name, bool actor,
                                      struct entry_error *err) {
    char symbol[sizeof PREFIX + ENTRY_NAME_MAX], known[240];
    const struct skate_entry *e;

    if (strlen(name) > ENTRY_NAME_MAX) name = "?";
    (void)snprintf(symbol, sizeof symbol, PREFIX "%s", name);
    e = dlsym(l->handle, symbol);
    err->type = "LookupError";
    if (!e) {
        list_entries(l->handle, known, sizeof known);
        (void)err_fail(&err->text, 0, "%.160s exports no %s %.80s (%s%s)", l->name,
                       actor ? "SKATE_ACTOR" : "SKATE_TASK", name,
                       known[0] ? "it has: " : "it exports none at all", known);
        return NULL;
    }
    if (e->abi != SKATE_ABI || !e->name || strcmp(e->name, name) != 0) {
        err->type = "RuntimeError";
        (void)err_fail(&err->text, 0, "%.80s of %.160s was compiled with another skate/task.h "
                       "(ABI %u, here it is %u): compile it anew", name, l->name, e->abi,
                       (unsigned)SKATE_ABI);
        return NULL;
    }
    if (!e->is_actor != !actor || (actor ? !e->methods : !e->run)) {
        err->type = "TypeError";
        (void)err_fail(&err->text, 0, "%.80s of %.160s is %s", name, l->name,
                       actor ? "a task, not an actor class" : "an actor class, not a task");
        return NULL;
    }
    return e;
}

const struct skate_entry *entries_task(struct library *l, const char *name,
                                       struct entry_error *err) {
    return find(l, name, false, err);
}

/* ---- classes ---- */

static uint32_t hash_of(const char *name, size_t len) {
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++) h = (h ^ (uint8_t)name[i]) * 16777619u;
    return h ^ h >> 15;
}

static struct native_class *class_new(struct library *l, const struct skate_entry *e) {
    struct native_class *k = calloc(1, sizeof *k);
    uint32_t size = 4;

    if (!k) return NULL;
    k->entry = e;
    k->library = l;
    while (k->count < METHODS_MAX && e->methods[k->count].name) k->count++;
    while (size < 2 * k->count) size *= 2;
    k->mask = size - 1;
    k->slots = calloc(size, sizeof *k->slots);
    if (!k->slots) return free(k), NULL;
    for (uint32_t i = 0; i < k->count; i++) {
        struct native_method m = {.name = e->methods[i].name, .run = e->methods[i].run};
        uint32_t at;

        m.len = (uint32_t)strlen(m.name);
        m.hash = hash_of(m.name, m.len);
        if (!m.run || class_method(k, m.name, m.len)) continue; /* the first of a name counts */
        for (at = m.hash & k->mask; k->slots[at].name; at = (at + 1) & k->mask) {}
        k->slots[at] = m;
    }
    return k;
}

const struct native_class *entries_class(struct library *l, const char *name,
                                         struct entry_error *err) {
    const struct skate_entry *e;
    struct native_class *k;

    for (k = l->classes; k; k = k->next)
        if (!strcmp(k->entry->name, name)) return k;
    e = find(l, name, true, err);
    if (!e) return NULL;
    k = class_new(l, e);
    if (!k) {
        err->type = "MemoryError";
        (void)err_fail(&err->text, 0, "out of memory");
        return NULL;
    }
    k->next = l->classes;
    l->classes = k;
    return k;
}

const struct native_method *class_method(const struct native_class *k, const char *name,
                                         size_t len) {
    uint32_t hash = hash_of(name, len);

    for (uint32_t at = hash & k->mask; k->slots[at].name; at = (at + 1) & k->mask)
        if (k->slots[at].hash == hash && k->slots[at].len == len &&
            !memcmp(k->slots[at].name, name, len))
            return &k->slots[at];
    return NULL;
}

void class_methods(const struct native_class *k, char *out, size_t cap) {
    out[0] = 0;
    for (uint32_t i = 0; i < k->count; i++) list_name(out, cap, k->entry->methods[i].name);
    if (!out[0]) (void)snprintf(out, cap, "none");
}
