/* env_blackjack.c - Blackjack-v1, bit-equal to Gymnasium's (its draws of suits for the picture
 * included: they take from the same stream).
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_equal.py, tests/unit/rl_env_host_test.c. */
#include "rl/env/env_builtin.h"

struct hand {
    int sum, cards, has_ace, first;
};

struct blackjack {
    struct hand player, dealer;
    int natural, sab;
};

static const int64_t sizes[3] = { 32, 11, 2 };

static int blackjack_make(struct blackjack *s, const struct skate_env_make *m,
                          struct skate_env_info *info) {
    int e = skate_env_known(m, "natural sab");

    s->sab = 1;
    if (e == 0)
        e = skate_env_flag_of(m, "natural", &s->natural);
    if (e == 0)
        e = skate_env_flag_of(m, "sab", &s->sab);
    info->obs = (struct skate_env_space){ .kind = SKATE_SPACE_TUPLE, .ndim = 1, .shape = { 3 },
                                          .sizes = sizes };
    env_discrete(&info->action, 2);
    info->reward_threshold = NAN;
    return e;
}

static void draw(struct hand *h, struct skate_rng *rng) {
    int card = (int)skate_rng_below(rng, 13) + 1;

    if (card > 10)
        card = 10;
    if (h->cards++ == 0)
        h->first = card;
    h->sum += card;
    h->has_ace |= card == 1;
}

static int is_soft(const struct hand *h) {
    return h->has_ace && h->sum + 10 <= 21;
}

static int total(const struct hand *h) {
    return is_soft(h) ? h->sum + 10 : h->sum;
}

static int is_natural(const struct hand *h) {
    return h->cards == 2 && h->has_ace && h->sum == 11;
}

static int score(const struct hand *h) {
    return total(h) > 21 ? 0 : total(h);
}

static void put(const struct blackjack *s, void *obs) {
    int64_t *to = obs;

    to[0] = total(&s->player);
    to[1] = s->dealer.first;
    to[2] = is_soft(&s->player);
}

static void blackjack_reset(struct blackjack *s, struct skate_rng *rng, void *obs) {
    s->player = s->dealer = (struct hand){ 0 };
    draw(&s->dealer, rng);
    draw(&s->dealer, rng);
    draw(&s->player, rng);
    draw(&s->player, rng);
    skate_rng_below(rng, 4);
    if (s->dealer.first == 10)
        skate_rng_below(rng, 3);
    put(s, obs);
}

static struct skate_env_answer blackjack_step(struct blackjack *s, struct skate_rng *rng,
                                              const void *action, void *obs) {
    struct skate_env_answer answer = { 0.0, 1 };

    if (env_action(action)) {
        draw(&s->player, rng);
        answer.terminated = total(&s->player) > 21;
        answer.reward = answer.terminated ? -1.0 : 0.0;
    } else {
        int mine, other;

        while (total(&s->dealer) < 17)
            draw(&s->dealer, rng);
        mine = score(&s->player);
        other = score(&s->dealer);
        answer.reward = mine > other ? 1.0 : mine < other ? -1.0 : 0.0;
        if (s->sab && is_natural(&s->player) && !is_natural(&s->dealer))
            answer.reward = 1.0;
        else if (!s->sab && s->natural && is_natural(&s->player) && answer.reward == 1.0)
            answer.reward = 1.5;
    }
    put(s, obs);
    return answer;
}

SKATE_ENV_SCALAR(rl_env_blackjack, "Blackjack-v1", struct blackjack, blackjack, 0)
