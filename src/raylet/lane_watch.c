/* lane_watch.c - see lane_watch.h. */
#include "raylet/lane_watch.h"

static bool past(int64_t now_ns, int64_t since_ns, int64_t ms) {
    return now_ns - since_ns >= ms * 1000000;
}

void lane_dialled(struct lane_watch *w, int64_t now_ns) {
    w->dialled_ns = now_ns;
    w->since_ns = w->asked_ns = 0;
    w->tries++;
}

static enum lane_do look_at_dial(const struct lane_watch *w, int64_t now_ns) {
    if (w->tries % LANE_PATIENT_TRY == 0 || !past(now_ns, w->dialled_ns, LANE_DIAL_MS))
        return LANE_NOTHING;
    return LANE_GIVE_UP;
}

static int64_t patience_ms(const struct lane_watch *w) {
    int64_t ms = LANE_SILENT_MS;

    for (uint32_t i = 0; i < w->silences && ms < LANE_MOST_MS; i++) ms *= 2;
    return ms;
}

enum lane_do lane_watch_look(struct lane_watch *w, const struct lane_look *see, int64_t now_ns) {
    if (see->dialling) return look_at_dial(w, now_ns);
    if (see->ready) w->tries = 0;
    if (!see->ready || !see->waits) {
        w->since_ns = w->asked_ns = 0;
        return LANE_NOTHING;
    }
    if (!w->since_ns || see->seen != w->seen) {
        if (w->since_ns) w->silences = 0;
        w->since_ns = now_ns;
        w->asked_ns = 0;
        w->seen = see->seen;
        return LANE_NOTHING;
    }
    if (!w->asked_ns) {
        if (!past(now_ns, w->since_ns, LANE_ASK_MS)) return LANE_NOTHING;
        w->asked_ns = now_ns;
        return LANE_ASK;
    }
    if (!past(now_ns, w->asked_ns, patience_ms(w))) return LANE_NOTHING;
    w->since_ns = w->asked_ns = 0;
    w->silences++;
    return LANE_GIVE_UP;
}
