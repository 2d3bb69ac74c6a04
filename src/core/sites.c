/* sites.c - where refs were made: each line of the program once, and for each object its number.
 *
 * Filled by core_note_site() only, so it costs nothing where nobody asks for it. An entry belongs
 * to an object while the check in it fits its id: nothing need be cleared when a slot is used
 * anew. After CORE_SITES different lines all others count as one. Under the core mutex.
 * Tests: tests/e2e/test_e2e_who_holds.py, tests/e2e/test_e2e_cli_state.py. */
#include "core/sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core_int.h"
#include "core/inspect.h"

enum { OTHER = 1 }; /* the number of all lines for which there was no room */

struct site_entry {
    uint32_t check, site;
};
struct sites {
    struct map numbers; /* hash of a text -> its number */
    uint32_t count, cap;
    char (*texts)[CORE_SITE_BYTES]; /* by number; 0 is not used */
    struct site_entry *of; /* by slot */
    uint32_t slots;
};

static uint32_t check_of(const struct skate_id *id) { return (uint32_t)(id_hash(id) >> 8) | 1; }

/* Two hashes of 64 bits: equal ones are taken for equal texts. */
static struct skate_id key_of(const char *text) {
    struct skate_id k = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x9e3779b97f4a7c15)};

    for (const char *p = text; *p; p++) {
        k.owner = (k.owner ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
        k.seq = (k.seq + (uint8_t)*p) * UINT64_C(0xd6e8feb86659fd93);
        k.seq ^= k.seq >> 32;
    }
    return k;
}

static uint32_t add_text(struct sites *s, const char *text) {
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 16;
        void *grown = realloc(s->texts, (size_t)cap * CORE_SITE_BYTES);

        if (!grown) return OTHER;
        s->texts = grown;
        s->cap = cap;
    }
    (void)snprintf(s->texts[s->count], CORE_SITE_BYTES, "%s", text);
    return s->count++;
}

static uint32_t number_of(struct sites *s, const char *text) {
    struct skate_id key = key_of(text);
    uint32_t number = map_get(&s->numbers, &key);

    if (number != MAP_NONE) return number;
    if (s->count >= CORE_SITES) return OTHER;
    number = add_text(s, text);
    return number == OTHER || map_put(&s->numbers, &key, number) == 0 ? number : OTHER;
}

static bool has_slot(struct sites *s, uint32_t slot) {
    uint32_t slots = s->slots ? s->slots : 1024;
    struct site_entry *grown;

    if (slot < s->slots) return true;
    while (slots <= slot) slots *= 2;
    grown = realloc(s->of, slots * sizeof *grown);
    if (!grown) return false;
    memset(grown + s->slots, 0, (slots - s->slots) * sizeof *grown);
    s->of = grown;
    s->slots = slots;
    return true;
}

static struct sites *sites_new(void) {
    struct sites *s = calloc(1, sizeof *s);

    if (!s) return NULL;
    if (add_text(s, "") != 0 || add_text(s, "(other lines)") != OTHER) {
        free(s->texts);
        free(s);
        return NULL;
    }
    return s;
}

void core_note_site(struct core *c, const struct skate_id *id, const char *text) {
    uint32_t slot;

    if (core_enter(c) < 0) return;
    if (!c->sites) c->sites = sites_new();
    slot = object_find(c, id);
    if (c->sites && slot != MAP_NONE && has_slot(c->sites, slot) &&
        c->sites->of[slot].check != check_of(id)) /* the first line stays */
        c->sites->of[slot] = (struct site_entry){check_of(id), number_of(c->sites, text)};
    core_leave(c);
}

uint32_t site_of(const struct core *c, uint32_t slot) {
    const struct sites *s = c->sites;

    if (!s || slot >= s->slots || s->of[slot].check != check_of(&c->ledger.slots[slot].id))
        return 0;
    return s->of[slot].site;
}

const char *site_text(const struct core *c, uint32_t site) {
    return c->sites && site < c->sites->count ? c->sites->texts[site] : "";
}

void core_site(struct core *c, const struct skate_id *id, char out[CORE_SITE_BYTES]) {
    uint32_t slot;

    out[0] = 0;
    if (core_enter(c) < 0) return;
    slot = object_find(c, id);
    if (slot != MAP_NONE)
        (void)snprintf(out, CORE_SITE_BYTES, "%s", site_text(c, site_of(c, slot)));
    core_leave(c);
}

void sites_release(struct core *c) {
    if (!c->sites) return;
    map_release(&c->sites->numbers);
    free(c->sites->texts);
    free(c->sites->of);
    free(c->sites);
    c->sites = NULL;
}
