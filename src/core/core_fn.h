/* core_fn.h - what the files of src/core call of each other; included by core_int.h alone.
 *
 * All of these expect the core mutex to be held, none of them calls out of the core, and none
 * sleeps but pump_until, sock_call and sock_receive_one. */
#ifndef SKATE_CORE_CORE_FN_H
#define SKATE_CORE_CORE_FN_H

#include "base/doorbell.h"
#include "core/core.h"
#include "wire/wire_gen.h"

struct actor; struct borrower;
struct frame_list; struct frame_node;
struct link;
struct run;
struct task;
struct worker;
/* sock.c: the Unix socket to the raylet. */
int sock_send(struct core *c, const void *frame, uint32_t len);
int sock_read(struct core *c); /* dispatches what is there; never sleeps */
/* Send and wait for the reply in place (the raylet answers at once); others are deferred. */
int sock_call(struct core *c, void *frame, uint32_t len, struct frame_node **ret);
int sock_receive_one(struct core *c, int64_t timeout_ns, struct frame_node **ret);

/* link.c: paths to other processes. */
struct link *link_get(struct core *c, uint64_t proc); /* NULL: out of memory */
int link_send(struct core *c, struct link *l, const void *frame, uint32_t len,
              enum bell_class cls, uint32_t sequence);
int proc_send(struct core *c, uint64_t proc, const void *frame, uint32_t len,
              enum bell_class cls);
/* By way of the raylet, whoever it is: opens no channel. For seldom questions. */
int proc_route(struct core *c, uint64_t proc, const void *frame, uint32_t len);
void link_on_channel(struct core *c, const struct wire_channel *m, const int *fds);
void link_on_died(struct core *c, const struct wire_proc_died *m);
void link_drain(struct core *c, struct link *l, bool last);
void link_flush(struct core *c);
void link_arena(struct core *c, uint64_t holder, int change);
void links_release(struct core *c);
bool link_room(struct link *l, uint32_t len);
void link_want_room(struct core *c, struct link *l);

/* pump.c: input, sleeping, the core thread. */
void pump(struct core *c);
typedef bool (*pump_test)(struct core *c, void *arg);
/* Sleep until test is true: 0, -SKATE_ETIMEOUT, -SKATE_EINTR, -SKATE_EDEAD, -SKATE_ESHUTDOWN. */
int pump_until(struct core *c, pump_test test, void *arg, int64_t deadline_ns, bool bulk);
void pump_dispatch(struct core *c, uint64_t src, const void *frame, uint32_t len,
                   struct link *link, uint32_t sequence, const int *fds);
void core_die(struct core *c, const char *reason);
int core_enter(struct core *c); /* lock, or an error without the lock */
void core_leave(struct core *c);
int core_thread_start(struct core *c);
struct frame_node *frame_keep(uint64_t src, const void *frame, uint32_t len);
void frame_push(struct frame_list *l, struct frame_node *n);
struct frame_node *frame_pop(struct frame_list *l);
void event_keep(struct core *c, uint64_t src, const void *frame, uint32_t len);
struct frame_node *reply_take(struct core *c, uint32_t call); /* core.c; NULL: not come yet */
void frames_release(struct frame_list *l);

/* objects.c */
uint32_t object_make(struct core *c, const struct skate_id *id); /* find or add; NONE: no memory */
uint32_t object_new(struct core *c, const struct skate_id *id);  /* of an id that nobody has seen */
void object_hold(struct core *c, const struct skate_id *id);     /* makes it if needed */
void object_unhold(struct core *c, const struct skate_id *id);
void object_registered(struct core *c, const struct skate_id *id); /* a hold of a sent-in ref */
void object_want(struct core *c, uint32_t slot); /* foreign: ask the owner */
/* Give an object its value out of a frame; takes over the contained refs. */
void object_set(struct core *c, uint32_t slot, const struct wire_val *v, const uint8_t *data,
                const struct skate_id *refs);
void object_put(struct core *c, uint32_t slot, const struct wire_val *v, const uint8_t *data,
                const struct skate_id *refs); /* the same for a value that was made here */
void object_set_system(struct core *c, uint32_t slot, const char *text);
void object_drop_val(struct core *c, const struct wire_val *v, const struct skate_id *refs);
/* Describe a ready object for a frame; inline bytes: *ret_data (valid under the lock). */
void object_val(struct core *c, uint32_t slot, struct wire_val *ret, const uint8_t **ret_data);
void object_pass_refs(struct core *c, const struct skate_id *refs, uint32_t n, uint64_t to);
void objects_apply_drops(struct core *c);
void objects_on_value_req(struct core *c, uint64_t src, const struct wire_value_req *m);
void objects_on_value(struct core *c, const struct wire_value *m);
void objects_on_borrow(struct core *c, uint64_t src, const struct wire_borrow *m);
void objects_on_release(struct core *c, uint64_t src, const struct wire_release *m);
void objects_on_free(struct core *c, const struct wire_free *m);
void objects_on_died(struct core *c, uint64_t proc, const char *text);
void objects_on_pulled(struct core *c, const struct wire_pulled *m);
void object_handed(struct core *c, uint32_t slot); /* a hold becomes a local ref */
int object_store(struct core *c, const struct core_value *v, const struct skate_id *id,
                 struct wire_val *ret, struct skate_error *err);
void value_copy(void *to, const struct core_value *v);
uint64_t value_size(const struct core_value *v);
void object_drop_refs(struct core *c, const struct wire_val *v, const struct skate_id *refs);
void object_check(struct core *c, uint32_t slot); /* remove it when nothing needs it */
void object_release(struct core *c, const struct skate_id *id, uint32_t n); /* tell its owner */
struct borrower *borrower_of(struct core *c, uint32_t slot, uint64_t proc, bool make);
void borrowers_tidy(struct core *c, uint32_t slot);
void borrower_add(struct core *c, const struct skate_id *id, uint64_t proc, int64_t n);

/* submit.c, leases.c, actors.c */
void task_dep_ready(struct core *c, uint32_t index);
void task_fail(struct core *c, uint32_t index, const char *system_text);
void task_fail_like(struct core *c, uint32_t index, const struct wire_val *v,
                    const uint8_t *data);
void task_end(struct core *c, uint32_t index); /* release holds, free */
bool task_fail_dep(struct core *c, uint32_t index);
bool task_dep_failed(struct core *c, uint32_t index);
int task_frame(struct core *c, uint32_t index, struct wire_buf *b); /* with its deps */
void task_settle_deps(struct core *c, uint32_t index);
int task_push(struct core *c, uint32_t index, struct worker *w);
bool task_unpush(struct core *c, struct worker *w, uint32_t index);
bool task_lost(struct core *c, uint32_t index, bool started); /* true: try again */
int task_new(struct core *c, const struct core_task *t, uint32_t kind, uint32_t *ret,
             struct skate_error *err);
void tasks_on_result(struct core *c, uint64_t src, struct link *l, const struct wire_result *m);
void classes_dispatch(struct core *c);
void room_again(struct core *c);
void class_enqueue(struct core *c, uint32_t task, bool front);
void class_worker_done(struct core *c, struct worker *w);
void leases_on_grant(struct core *c, const struct wire_lease_grant *m);
void leases_on_reclaim(struct core *c);
void leases_on_returned(struct core *c, uint64_t src, const struct wire_returned *m);
void leases_on_unblocked(struct core *c, uint64_t src);
void leases_on_died(struct core *c, uint64_t proc, struct link *l);
void leases_on_node_died(struct core *c);
void leases_tick(struct core *c);
struct worker *worker_of(struct core *c, uint64_t proc);
struct actor *actor_get(struct core *c, const struct skate_id *id);
void actor_enqueue(struct core *c, uint32_t task);
void actor_flush(struct core *c, struct actor *a);
void actor_create_ready(struct core *c, uint32_t task);
void actors_on_state(struct core *c, const struct wire_actor_state *m);
void actors_on_gcs_back(struct core *c);
void actors_on_created(struct core *c, const struct wire_actor_created *m);
void actors_on_died(struct core *c, uint64_t proc);
void actor_handles_gone(struct core *c, const struct skate_id *id);
void actor_call_done(struct core *c, struct actor *a);
void actor_call_ready(struct core *c, uint32_t task);
void actor_call_dropped(struct core *c, const struct skate_id *actor);
bool actor_full(const struct actor *a); /* max_pending_calls */

/* lineage.c */
bool lineage_keep(struct core *c, uint32_t task); /* it is over; true: it stays as KEPT */
void lineage_result_gone(struct core *c, const struct skate_id *id);
void lineage_evict(struct core *c, uint32_t slot);
void lineage_need(struct core *c, uint32_t slot); /* an evicted one: run its task again */
void lineage_lost(struct core *c, uint32_t slot, const char *why);
void lineage_on_value_lost(struct core *c, uint64_t src, const struct wire_value_lost *m);
int task_watch(struct core *c, uint32_t index); /* ask for its dependencies */
void tasks_watch_again(struct core *c);         /* dependencies were lost: queued ones wait again */
bool object_is_ours(const struct core *c, const struct skate_id *id); /* made or inherited */
/* An arena value becomes a value that is not there; free: tell the holder. */
void object_unset(struct core *c, uint32_t slot, bool free);
void tell_blocked(struct core *c, bool blocked);

/* estate.c: objects that outlive their owner. The heir's side... */
bool estate_owns(const struct core *c, const struct skate_id *id);
bool estate_keeps(struct core *c, uint32_t slot); /* nothing needs it: true: not yet to be freed */
void estate_claim(struct core *c, const struct skate_id *id, uint64_t proc, bool own_word);
void estate_release(struct core *c, const struct skate_id *id, uint64_t proc);
bool estate_result(struct core *c, uint64_t src, const struct wire_result *m);
void estate_on_adopt(struct core *c, const struct wire_adopt *m);
void estate_on_task(struct core *c, const struct wire_adopt_task *m);
void estate_on_claim(struct core *c, uint64_t src, const struct wire_claim *m);
void estate_on_kept(struct core *c, uint64_t src, const struct wire_orphans_kept *m);
void estates_on_died(struct core *c, uint64_t proc, const char *kind, const char *text);
void estates_tick(struct core *c);
void estates_free(struct core *c);
/* ... and everybody else's. */
uint64_t heir_of(struct core *c, uint64_t dead); /* 0: none, or it lives */
void heir_known(struct core *c, struct link *l, uint64_t heir); /* before its ring is unmapped */
void heir_gone(struct core *c, uint64_t heir);
void claim_new(struct core *c, uint32_t slot);
void orphans_on(struct core *c, const struct wire_orphans *m);
bool orphan_is_kept(const struct link *l, const struct skate_id *task);

int view_arena(struct core *c, uint32_t slot, struct core_view *ret); /* may be -SKATE_EAGAIN */
int view_wait(struct core *c, uint32_t slot, struct core_view *ret); /* sleeps instead */
void core_give_back(struct core *c, uint64_t offset); /* an extent */
void object_uncopy(struct core *c, uint32_t slot); /* the pulled copy is not used any more */
const uint8_t *object_bytes(struct core *c, uint32_t slot); /* of an arena value; may be NULL */
bool usable(struct core *c, uint32_t slot, uint32_t fetch); /* enum fetch */

/* items.c: items of our generator tasks. The hooks do nothing for other tasks. */
int stream_new(struct core *c, const struct skate_id *task, uint32_t flags);
void stream_pushed(struct core *c, const struct skate_id *task, struct link *l);
void stream_over(struct core *c, const struct skate_id *task);
void stream_handle_gone(struct core *c, const struct skate_id *task);
void streams_on_item(struct core *c, uint64_t src, const struct wire_gen_item *m);
void streams_on_end(struct core *c, uint64_t src, const struct wire_gen_end *m);
bool streams_tick(struct core *c); /* true: look again soon */
void streams_release(struct core *c);

/* yield.c: generators that run here. */
struct run;
enum { STREAM_WINDOW = 512, STREAM_CHUNK = 65533, STREAM_UNREAD = 16384 };
uint32_t stream_unread(uint32_t flags); /* how many unread items the task's flags allow */
int yield_begin(struct core *c, struct run *r); /* a no-op for what is no generator */
void yield_done(struct core *c, struct run *r);
void yield_free(struct run *r);
struct why_fact;
void yield_why(const struct run *r, struct why_fact *f);
void yields_on_died(struct core *c, uint64_t proc);
void yields_on_ack(struct core *c, uint64_t src, const struct wire_gen_ack *m);

/* execute.c */
void runs_on_task(struct core *c, uint64_t src, struct link *l, const void *frame, uint32_t len,
                  uint32_t sequence);
void runs_on_start(struct core *c, const void *frame, uint32_t len);
void runs_on_steal(struct core *c, struct link *l, uint32_t max);
void runs_give_back(struct core *c);
void functions_on_func(struct core *c, uint64_t src, const void *frame, uint32_t len);
void runs_forget(struct core *c, uint64_t proc);
struct run *groups_unqueue(struct core *c, uint64_t proc, const struct skate_id *task);
bool runs_cancel(struct core *c, uint64_t owner, const struct skate_id *task);

void runs_leave(struct core *c); /* give back what is queued, for good */

/* retire.c */
bool retire_may_end(struct core *c); /* nothing needs this process */
void retire_on_asked(struct core *c);
int retire_store(struct core *c, const struct core_value *v, const struct skate_id *id,
                 struct wire_val *ret, struct skate_error *err);

/* cancel.c */
void cancel_on_frame(struct core *c, uint64_t src, const struct wire_cancel *m);
void cancel_tick(struct core *c); /* core thread, while c->interrupt */
void cancel_over(struct core *c); /* the run that it concerned has ended */
void task_fail_cancelled(struct core *c, uint32_t index);
int cancel_text(const struct skate_id *task, const char *how, char *out, size_t cap);
bool class_unqueue(struct core *c, uint32_t task);
bool actor_unqueue(struct core *c, uint32_t task);
int run_begin(struct core *c, struct run *r, struct core_job **ret);

/* watch.c */
void watch_ready(struct core *c, uint32_t slot); /* a waited-for object became ready, or is here */
void watches_end(struct core *c);                /* the session is over: tell all */
void watches_release(struct core *c);
void watch_unlend(struct core *c); /* the task that awaits has ended */
int64_t watch_tick(struct core *c, int64_t sleep_ns);
void lend_begin(struct core *c); /* values.c: this worker waits */
void lend_end(struct core *c);

/* groups.c */
void group_enqueue(struct core *c, struct run *r);
void groups_wake(struct core *c); /* everything changed: look */
void groups_run_ended(struct core *c);
struct run *groups_forget(struct core *c, uint64_t proc);
uint32_t groups_tasks(struct core *c, const struct link *l, struct skate_id *out, uint32_t cap);
struct run *groups_find(struct core *c, uint64_t owner, const struct skate_id *task);
void group_ring(struct core *c, const struct run *r); /* its loop looks around */
void groups_release(struct core *c);
#endif
