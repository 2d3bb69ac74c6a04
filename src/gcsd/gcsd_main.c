/* gcsd_main.c - skate-gcs: settings on stdin, one word on stdout, then serve until the lifeline
 * ends.
 *
 * stdin stays open: its end, the end of process lifeline_pid, and in a local session the end of
 * the head node's raylet, end this process at once: there is nothing to put in order, what must
 * last is elsewhere. With lifeline=none it serves until it is told by a signal. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gcsd/gcsd.h"
#include "gcsd/gcsd_keeper.h"

struct daemon {
    struct loop *loop;
    bool lasting;
    const struct gcsd_settings *settings;
};

__attribute__((noreturn)) static void end(const char *why) {
    (void)fprintf(stderr, "skate-gcs ends reason=\"%s\"\n", why);
    _exit(0);
}

static void on_stdin(void *arg, unsigned events) {
    char rest[256];

    (void)arg, (void)events;
    if (read(STDIN_FILENO, rest, sizeof rest) == 0) end("who started it has closed the lifeline");
}

static void on_parent(void *arg, unsigned events) {
    (void)arg, (void)events;
    end("the process of its lifeline is gone");
}

static void on_head_lost(void *arg) {
    const struct daemon *d = arg;

    if (!d->lasting) end("the head node's raylet is gone");
}

/* Another head has the log: it is the head now. Or nothing can be kept any more. */
static void on_log_end(void *arg, int status, const char *text) {
    const struct daemon *d = arg;

    (void)fprintf(stderr, "skate-gcs ends reason=\"%s\"\n", text);
    if (status == -SKATE_ESTALE) {
        keeper_end(d->settings);
        _exit(EXIT_STALE);
    }
    _exit(1);
}

static void watch_lifeline(struct daemon *d, const struct gcsd_settings *s) {
    struct loop_watch *unused;

    if (d->lasting) return;
    if (s->lifeline_pid) {
        int fd = (int)syscall(SYS_pidfd_open, (pid_t)s->lifeline_pid, 0);

        if (fd < 0 || loop_watch_fd(d->loop, fd, LOOP_READ, on_parent, d, &unused) < 0)
            end("the process of its lifeline is not there");
    }
    if (loop_watch_fd(d->loop, STDIN_FILENO, LOOP_READ, on_stdin, d, &unused) < 0)
        (void)fprintf(stderr, "stdin cannot be watched, ignoring\n"); /* a plain file */
}

/* The kernel shall end others first; that takes a capability, without it nothing changes. */
static void protect_self(void) {
    FILE *f = fopen("/proc/self/oom_score_adj", "we");

    if (!f) return;
    (void)fputs("-500", f);
    (void)fclose(f);
}

static void more_files(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* A keeper hands the line over in a memory file, which stays open as stdin. */
static void empty_stdin(void) {
    if (fcntl(STDIN_FILENO, F_GET_SEALS) >= 0) (void)ftruncate(STDIN_FILENO, 0);
}

static int fail(int code, const char *text) {
    (void)printf("ERROR %d %s\n", -code, text);
    return 1;
}

int main(int argc, char **argv) {
    struct gcsd_settings *settings = gcsd_settings_memory();
    struct daemon d = {.settings = settings};
    struct gcsd_opts opts = {.settings = settings, .on_head_lost = on_head_lost,
                             .on_log_end = on_log_end, .arg = &d};
    struct gcsd *gcsd;
    struct skate_error err = {""};
    int r;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on files is an error of the write */
    (void)setvbuf(stderr, NULL, _IOLBF, 0);
    (void)prctl(PR_SET_NAME, "skate-gcs"); /* a keeper starts it by another name */
    protect_self();
    more_files();
    if (!settings) return fail(-SKATE_ENOMEM, skate_strerror(-SKATE_ENOMEM));
    r = gcsd_settings_read(STDIN_FILENO, settings, &err);
    if (r < 0) return fail(r, err.text);
    empty_stdin();
    if (settings->keep && argc > 0) keeper_run(settings, argv[0]);
    d.lasting = settings->lasting;
    if (!settings->local_session) opts.on_head_lost = NULL; /* nodes come and go, that one, too */
    r = loop_new(&d.loop);
    if (r < 0) return fail(r, skate_strerror(r));
    opts.loop = d.loop;
    r = gcsd_new(&opts, &gcsd, &err);
    net_wipe(settings->key, sizeof settings->key);
    if (r < 0) return fail(r, err.text);
    settings->listen_port = gcsd_port(gcsd);
    watch_lifeline(&d, settings);
    keeper_watch(d.loop, settings);
    (void)printf("READY port=%u\n", gcsd_port(gcsd));
    (void)fflush(stdout);
    loop_run(d.loop);
    end("its loop has nothing left to serve");
}
