/* disk_sim.c - the disk of the GCS's log, which loses what was not synced. */
#include "sim.h"

void sim_disk_trouble(int64_t for_ns) { (void)for_ns; }
