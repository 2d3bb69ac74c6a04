/* sites.h - where refs were made, for programs that ask for it (sites.c). Under the core mutex. */
#ifndef SKATE_CORE_SITES_H
#define SKATE_CORE_SITES_H

#include <stdint.h>

struct core;

void sites_release(struct core *c);
/* The number of the line where the object of this slot was made; 0: not known. */
uint32_t site_of(const struct core *c, uint32_t slot);
/* Its text, valid until the next note; "" for 0. */
const char *site_text(const struct core *c, uint32_t site);

#endif
