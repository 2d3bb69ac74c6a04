/* spill.h - objects that leave memory for files, and come back (docs/design/0004-object-store.md).
 *
 * The store's budget is shared by what is lent; when it is nearly used up, processes are asked
 * which extents may leave, these are written into files by threads of spill_io.c while all can
 * still read them, and lose their pages when room is needed and nobody has them pinned. What
 * was read back keeps its record: leaving again costs no write. Frames that need room, or bytes
 * that are not here, wait in spill_wait.c and are handled again.
 *
 * Loop thread only; never blocks. Tests: tests/e2e/test_spill*.py, store_residency_test.c,
 * raylet_spill_test.c. */
#ifndef SKATE_RAYLET_SPILL_H
#define SKATE_RAYLET_SPILL_H

#include "raylet/raylet.h"

struct conn;

/* After the arena is made. A spill target that cannot be used is an error. */
SKATE_NODISCARD int spill_start(struct raylet *r, struct skate_error *err);
void spill_stop(struct raylet *r); /* the threads end, the files go */

/* extents_lend(), with what can be dropped at once dropped for it. */
SKATE_NODISCARD int spill_lend(struct raylet *r, uint64_t proc, uint64_t bytes,
                               struct extent_span *ret, struct skate_error *err);
/* For what is larger than the store: an extent whose bytes a file has (*ret_fd, ours, to be passed
 * on). -SKATE_EFULL: no disk has the room; -SKATE_ETOOBIG. spill_outside.c. */
SKATE_NODISCARD int spill_lend_outside(struct raylet *r, uint64_t proc, uint64_t bytes,
                                       struct extent_span *ret, int *ret_fd,
                                       struct skate_error *err);
/* There is no room for what it wants to read: it gets that in a file, if there is a record.
 * false: there is none, or not now. */
bool spill_is_outside(struct raylet *r, uint64_t offset); /* that of spill_lend_outside() */
bool spill_own_copy(struct raylet *r, struct proc *p, const struct wire_restore *m);
/* Make room if that goes without waiting; the bytes that lost their pages. */
uint64_t spill_evict(struct raylet *r, uint64_t bytes);
/* Memory is short, and the object store is what grew: give back `bytes` of it, soon. True: some
 * are given back, or on their way (then no worker is ended for up to 2 s). Asked again as long as
 * memory is short, up to 50 times a second. */
bool spill_pressure(struct raylet *r, uint64_t bytes);
/* So many bytes are waited for: have them written, ask for more. */
void spill_need(struct raylet *r, uint64_t bytes);
/* Why nothing leaves memory, as half a sentence. */
void spill_why_full(const struct raylet *r, char *out, size_t cap);
/* A request ends with EFULL: counted, and its text says why nothing left memory. */
void spill_refused(struct raylet *r, struct skate_error *err);
uint64_t spill_disk_bytes(const struct raylet *r); /* of its files */
bool spill_is_busy(const struct raylet *r); /* something is being written or asked for */

/* Are these bytes of one piece in memory? 0: yes; -SKATE_EAGAIN: they are on their way;
 * -SKATE_EFULL: no room for them now; -SKATE_ELOST: never again, with the reason. */
SKATE_NODISCARD int spill_fetch(struct raylet *r, uint64_t offset, uint64_t bytes,
                                struct skate_error *err);
void spill_on_offer(struct raylet *r, struct proc *p, const struct wire_spill_offer *m);
void spill_proc_died(struct raylet *r, const struct proc *p);
void spill_gone(void *arg, void *note); /* extents_env.gone */

/* spill_wait.c: later. false: it can't wait (any longer); answer now. src: who sent the frame. */
bool spill_later(struct raylet *r, uint64_t src, const struct wire_head *frame, uint64_t bytes);
/* The same for a chunk that goes to another node: in order with what waits on that connection. */
bool spill_serve_later(struct raylet *r, struct conn *conn, const struct wire_bulk_get *m);
void spill_conn_closed(struct raylet *r, const struct conn *conn);
void spill_retry(struct raylet *r); /* something changed: handle what waits again, soon */
SKATE_NODISCARD int spill_wait_start(struct raylet *r);
void spill_wait_stop(struct raylet *r);
/* Where restore and its answer meet. */
void spill_answer(struct proc *p, const struct wire_restore *ask, int status, const char *reason);
void spill_on_restore(struct raylet *r, struct proc *p, const struct wire_restore *m);

#endif
