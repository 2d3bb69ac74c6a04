/* gcs_records.h - what is durable, jobs, questions: the rest of gcs_int.h, which includes it. */
#ifndef SKATE_GCS_GCS_RECORDS_H
#define SKATE_GCS_GCS_RECORDS_H

/* A record that is old: of what is found by its number, id or name; nothing found: it is gone. */
struct gcs_dirty {
    uint32_t table, name_len;
    struct skate_id id;
    char *name; /* of a value */
};

/* gcs_records.c: this thing's record is old. The step changed what must last. */
void gcs_dirty_node(struct gcs *g, struct gcs_node *n);
void gcs_dirty_job(struct gcs *g, struct gcs_job *j);
void gcs_dirty_actor(struct gcs *g, struct gcs_actor *a);
void gcs_dirty_spec(struct gcs *g, struct gcs_actor *a);
void gcs_dirty_group(struct gcs *g, struct gcs_group *p);
void gcs_dirty_value(struct gcs *g, struct gcs_value *v);
void gcs_dirty_release(struct gcs *g);
/* The step says something of a thing whose latest change is in this batch: that waits until it is
 * kept, though the step itself changes nothing. */
void gcs_says(struct gcs *g, uint64_t batch);

/* gcs_jobs.c */
struct gcs_job *gcs_job_find(struct gcs *g, uint32_t number); /* live; NULL */
void gcs_job_start(struct gcs *g, const struct gcs_from *from, const struct wire_job_start *m);
void gcs_job_answer(struct gcs *g, const struct gcs_from *from, uint32_t job, int status,
                    const char *reason);
void gcs_job_settle(struct gcs *g, uint32_t number); /* its last actor may have ended */
void gcs_job_tell_ended(struct gcs *g, uint32_t number, uint64_t link); /* actors of it go there */
void gcs_job_end(struct gcs *g, struct gcs_job *j, const char *why);
void gcs_job_frame(const struct gcs_job *j, struct wire_buf *b);

/* gcs_restore.c */
void gcs_restore_release(struct gcs *g);

/* gcs_actors.c: it is asked to end, once nobody can call it */
void gcs_actor_leave(struct gcs *g, const struct gcs_actor *a);

/* gcs_why.c: what an actor that does not run waits for */
void gcs_why(struct gcs *g, const struct gcs_from *from, const struct wire_why_req *m);

/* gcs_query.c */
void gcs_list(struct gcs *g, const struct gcs_from *from, const struct wire_list *m);
void gcs_kv_put(struct gcs *g, const struct gcs_from *from, const struct wire_kv_put *m);
void gcs_kv_get(struct gcs *g, const struct gcs_from *from, const struct wire_kv_get *m);
void gcs_kv_del(struct gcs *g, const struct gcs_from *from, const struct wire_kv_del *m);
void gcs_kv_list(struct gcs *g, const struct gcs_from *from, const struct wire_kv_list *m);
struct gcs_value *gcs_value_find(struct gcs *g, const char *name, uint32_t len);
struct gcs_value *gcs_value_add(struct gcs *g, const char *name, uint32_t len); /* NULL: no */
void gcs_kv_drop_actor(struct gcs *g, const struct skate_id *actor);
void gcs_kv_release(struct gcs *g);

#endif
