/* env_board.c - TicTacToe-v0 and Connect4-v0: boards for self-play, or against random moves.
 *
 * Configs: "game": "tic_tac_toe" or "connect_four" (the names set it); "opponent": "random" (moves
 * at once; a coin decides who begins) or "self": the sides move in turn, `turn` says which is next.
 * Observations: bool [rows][columns][2]: stones of the side that moves next, and of the other.
 * Rewards go to the side that moved: 1 for a win, 0 for a draw; -1 for a move that is not allowed,
 * which ends the game, and against "random" for a loss.
 * Called by the host (rl_env.c) through its table; any thread, one at a time; never blocks.
 * Tests: tests/python/test_rl_env_games.py. */
#include "rl/env/env_builtin.h"
#include "rl/env/rl_env_list.h"

enum { ROWS_MAX_BOARD = 6, COLUMNS_MAX_BOARD = 7 };

struct board {
    int rows, columns, in_line, has_gravity, plays_itself;
    int mover, moves, is_over;  /* mover: 1 or 2 */
    uint8_t cell[ROWS_MAX_BOARD][COLUMNS_MAX_BOARD];
};

static int board_make(struct board *b, const struct skate_env_make *m,
                      struct skate_env_info *info) {
    char game[16] = "tic_tac_toe", opponent[8] = "random";
    int e = skate_env_known(m, "game opponent");

    if (e == 0)
        e = skate_env_text(m, "game", game, sizeof game);
    if (e == 0)
        e = skate_env_text(m, "opponent", opponent, sizeof opponent);
    if (e < 0)
        return e;
    b->has_gravity = strcmp(game, "connect_four") == 0;
    if (!b->has_gravity && strcmp(game, "tic_tac_toe") != 0)
        return skate_env_wrong(m, "game", "\"tic_tac_toe\" or \"connect_four\"");
    b->plays_itself = strcmp(opponent, "self") == 0;
    if (!b->plays_itself && strcmp(opponent, "random") != 0)
        return skate_env_wrong(m, "opponent", "\"random\" or \"self\"");
    b->rows = b->has_gravity ? 6 : 3;
    b->columns = b->has_gravity ? 7 : 3;
    b->in_line = b->has_gravity ? 4 : 3;
    info->obs = (struct skate_env_space){
        .kind = SKATE_SPACE_BOX, .dtype = SKATE_BOOL, .ndim = 3,
        .shape = { (uint32_t)b->rows, (uint32_t)b->columns, 2 }, .low = 0, .high = 1 };
    env_discrete(&info->action, b->has_gravity ? b->columns : b->rows * b->columns);
    info->agents = b->plays_itself ? 2 : 1;
    info->reward_threshold = NAN;
    return 0;
}

static void show(const struct board *b, void *obs) {
    uint8_t *to = obs;

    for (int y = 0; y < b->rows; y++)
        for (int x = 0; x < b->columns; x++) {
            *to++ = b->cell[y][x] == b->mover;
            *to++ = b->cell[y][x] == 3 - b->mover;
        }
}

/* The row where a stone of this action comes to lie, or -1: not allowed. */
static int row_of(const struct board *b, int action) {
    if (!b->has_gravity)
        return b->cell[action / b->columns][action % b->columns] ? -1 : action / b->columns;
    for (int y = b->rows - 1; y >= 0; y--)
        if (!b->cell[y][action])
            return y;
    return -1;
}

static int n_actions(const struct board *b) {
    return b->has_gravity ? b->columns : b->rows * b->columns;
}

static int run(const struct board *b, int y, int x, int dy, int dx) {
    int n = 0, who = b->cell[y][x];

    while (y >= 0 && y < b->rows && x >= 0 && x < b->columns && b->cell[y][x] == who) {
        n++;
        y += dy;
        x += dx;
    }
    return n;
}

static int wins(const struct board *b, int y, int x) {
    static const int direction[4][2] = { { 0, 1 }, { 1, 0 }, { 1, 1 }, { 1, -1 } };

    for (int i = 0; i < 4; i++) {
        int dy = direction[i][0], dx = direction[i][1];

        if (run(b, y, x, dy, dx) + run(b, y, x, -dy, -dx) - 1 >= b->in_line)
            return 1;
    }
    return 0;
}

/* The mover's stone; 1: it wins. The other side is next. */
static int place(struct board *b, int action) {
    int y = row_of(b, action), x = action % b->columns, won;

    b->cell[y][x] = (uint8_t)b->mover;
    won = wins(b, y, x);
    b->mover = 3 - b->mover;
    b->moves++;
    b->is_over = won || b->moves == b->rows * b->columns;
    return won;
}

static int random_move(struct board *b, struct skate_rng *rng) {
    int allowed[ROWS_MAX_BOARD * COLUMNS_MAX_BOARD], n = 0;

    for (int a = 0; a < n_actions(b); a++)
        if (row_of(b, a) >= 0)
            allowed[n++] = a;
    return place(b, allowed[skate_rng_below(rng, (uint32_t)n)]);
}

static void board_reset(struct board *b, struct skate_rng *rng, void *obs) {
    memset(b->cell, 0, sizeof b->cell);
    b->mover = 1;
    b->moves = b->is_over = 0;
    if (!b->plays_itself && skate_rng_below(rng, 2))
        random_move(b, rng);
    show(b, obs);
}

static struct skate_env_answer board_step(struct board *b, struct skate_rng *rng,
                                          const void *action, void *obs) {
    struct skate_env_answer answer = { 0 };
    int a = env_action(action);

    if (b->is_over) {
        answer.terminated = 1;
    } else if (row_of(b, a) < 0) {
        answer.reward = -1.0;
        b->is_over = 1;
    } else {
        answer.reward = place(b, a);
        if (!b->is_over && !b->plays_itself && random_move(b, rng))
            answer.reward = -1.0;
    }
    answer.terminated = b->is_over;
    show(b, obs);
    return answer;
}

static void board_mask(struct board *b, uint8_t *to) {
    for (int a = 0; a < n_actions(b); a++)
        to[a] = row_of(b, a) >= 0;
}

static int board_turn(const struct board *b) {
    return b->plays_itself ? b->mover - 1 : 0;
}

SKATE_ENV_SCALAR_GAME(rl_env_board, "Board", struct board, board, 0)
