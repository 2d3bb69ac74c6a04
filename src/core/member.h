/* member.h - a process that joins a job which another program has started (raylet/members.h).
 *
 * core_join_job: the raylet has agreed (job_join); before anything else is done with the core.
 * core_leave_job: it is about to leave: idle workers go back, and none comes any more; then `bye`
 * and core_close. Any thread, never blocks. Tests: tests/python/test_attach.py. */
#ifndef SKATE_CORE_MEMBER_H
#define SKATE_CORE_MEMBER_H

#include <stdint.h>

struct core;
void core_join_job(struct core *c, uint32_t job, uint64_t driver);
void core_leave_job(struct core *c);

#endif
