/* said.h - lines of this raylet's log on their way to the GCS, for those who read them elsewhere.
 *
 * Off unless the settings say report_log. Lines wait for the next beat: saying one costs no frame,
 * and is safe wherever a line is logged. Loop thread. */
#ifndef SKATE_RAYLET_SAID_H
#define SKATE_RAYLET_SAID_H

#include "raylet/raylet.h"

void said_on(void);
/* A line with its end. What does not fit before the next beat is counted. */
void said_add(const char *line, uint32_t len);
/* Once a second. */
void said_beat(struct raylet *r);

#endif
