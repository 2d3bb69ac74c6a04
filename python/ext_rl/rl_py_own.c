/* rl_py_own.c - skate._rl's Evo, Tree and Search: what algorithms that sample for themselves need.
 *
 * Evo.play() and Search.think() give the interpreter lock away; the algorithm and the environment
 * refuse other calls meanwhile, which they keep alive. Tests: tests/rl/test_own.py. */
#include <string.h>

#include "rl/own/az.h"
#include "rl/own/evo.h"
#include "rl_py.h"

static void *new_object(PyTypeObject *type) {
    return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

/* ---- Evo ---- */

struct evo_object {
    PyObject_HEAD
    struct evo *evo;
    PyObject *algo;
};

static PyObject *evo_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "algo", "noise_seed", NULL };
    unsigned long long noise_seed = 123;
    struct evo_object *self;
    PyObject *object;
    struct algo *algo;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|K:Evo", names, &object, &noise_seed))
        return NULL;
    algo = rl_algo_of(object, rl_state_of(type));
    if (!algo)
        return NULL;
    if (algo->state_size > 0 || algo->n_acting < 1) {
        PyErr_SetString(PyExc_ValueError, "Evo: the algorithm must be 'ES' or 'ARS'");
        return NULL;
    }
    self = new_object(type);
    if (!self)
        return NULL;
    if (evo_new(algo, noise_seed, &self->evo) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->algo = Py_NewRef(object);
    return (PyObject *)self;
}

static void evo_type_dealloc(PyObject *object) {
    struct evo_object *self = (struct evo_object *)object;

    evo_free(self->evo);
    Py_XDECREF(self->algo);
    rl_free_object(object);
}

/* The rollout, if nobody else uses its algorithm now. */
static struct evo *evo_of(PyObject *object) {
    struct evo_object *self = (struct evo_object *)object;

    return rl_algo_of(self->algo, rl_state_of(Py_TYPE(object))) ? self->evo : NULL;
}

PyDoc_STRVAR(evo_weights_doc, "weights(flat): those of the iteration, as Algo.get_weights() has");
static PyObject *evo_py_weights(PyObject *object, PyObject *flat) {
    struct evo *e = evo_of(object);
    Py_buffer view;

    if (!e || rl_buffer(flat, &view, 'f', (Py_ssize_t)e->n, 0, "weights") < 0)
        return NULL;
    evo_weights(e, view.buf);
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(evo_start_doc, "start(position, scale, seed): act from now on with the weights plus\n"
                            "scale times a direction; draws are seeded");
static PyObject *evo_py_start(PyObject *object, PyObject *args) {
    struct evo *e = evo_of(object);
    unsigned long long position, seed;
    float scale;

    if (!e || !PyArg_ParseTuple(args, "KfK:start", &position, &scale, &seed))
        return NULL;
    evo_start(e, position, scale, seed);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(evo_act_doc, "act(obs, action, explore=True, noise=0.0): writes into action\n"
                          "(int32 or float32) and counts the observation");
static PyObject *evo_py_act(PyObject *object, PyObject *args) {
    struct evo *e = evo_of(object);
    struct evo_rules rules = { 0 };
    struct skate_error err = { "" };
    PyObject *obs, *action;
    Py_buffer from, to;
    int explore = 1, r;
    bool box;

    if (!e || !PyArg_ParseTuple(args, "OO|pf:act", &obs, &action, &explore, &rules.noise))
        return NULL;
    rules.explore = explore != 0;
    box = e->policy->action.kind == ALGO_BOX;
    if (rl_buffer(obs, &from, 'f', e->obs, 0, "obs") < 0)
        return NULL;
    if (rl_buffer(action, &to, box ? 'f' : 'i',
                  e->policy->action.kind == ALGO_DISCRETE ? 1 : e->policy->action.size, 1,
                  "action") < 0) {
        PyBuffer_Release(&from);
        return NULL;
    }
    r = evo_act(e, from.buf, to.buf, &rules, &err);
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    return r < 0 ? rl_raise(r, &err, "act") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(evo_counts_doc, "counts(out): count, means and sums of squared deviations of the\n"
                             "observations since the last call (1 + 2 * obs size float32)");
static PyObject *evo_py_counts(PyObject *object, PyObject *out) {
    struct evo *e = evo_of(object);
    Py_buffer view;

    if (!e || rl_buffer(out, &view, 'f', 1 + 2 * (Py_ssize_t)e->obs, 1, "counts") < 0)
        return NULL;
    evo_counts(e, view.buf);
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(evo_play_doc, "play(env, seed, limit=0, offset=0.0, explore=True, noise=0.0,\n"
                           "normalised=False) -> (return, sum of the rewards' signs, length) of\n"
                           "an episode in an Env of one lane");
static PyObject *evo_py_play(PyObject *object, PyObject *args) {
    struct rl_state *state = rl_state_of(Py_TYPE(object));
    struct evo_object *self = (struct evo_object *)object;
    struct evo *e = evo_of(object);
    struct evo_rules rules = { 0 };
    struct evo_played played = { 0 };
    struct skate_error err = { "" };
    unsigned long long seed;
    int explore = 1, normalised = 0, r;
    struct rl_env *env;
    PyObject *box;

    if (!e || !PyArg_ParseTuple(args, "OK|Idpfp:play", &box, &seed, &rules.limit, &rules.offset,
                                &explore, &rules.noise, &normalised))
        return NULL;
    if (!PyObject_TypeCheck(box, state->env_type)) {
        PyErr_SetString(PyExc_TypeError, "play: expected a skate._rl.Env");
        return NULL;
    }
    env = rl_env_of(box);
    if (!env)
        return NULL;
    rules.explore = explore != 0;
    rules.normalised = normalised != 0;
    rules.seed = seed;
    ((struct env_object *)box)->busy = ((struct algo_object *)self->algo)->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    r = evo_play(e, env, &rules, &played, &err);
    Py_END_ALLOW_THREADS
    ((struct env_object *)box)->busy = ((struct algo_object *)self->algo)->busy = 0;
    if (r < 0)
        return rl_raise(r, &err, "play");
    return Py_BuildValue("(ddI)", played.reward, played.signs, played.length);
}

static PyMethodDef evo_methods[] = {
    { "weights", evo_py_weights, METH_O, evo_weights_doc },
    { "start", evo_py_start, METH_VARARGS, evo_start_doc },
    { "act", evo_py_act, METH_VARARGS, evo_act_doc },
    { "counts", evo_py_counts, METH_O, evo_counts_doc },
    { "play", evo_py_play, METH_VARARGS, evo_play_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(evo_doc, "Evo(algo, noise_seed=123): rollouts of perturbed policies for ES and ARS");
static PyType_Slot evo_slots[] = {
    { Py_tp_doc, (void *)evo_doc },
    { Py_tp_new, (void *)evo_type_new },
    { Py_tp_dealloc, (void *)evo_type_dealloc },
    { Py_tp_methods, evo_methods },
    { 0, NULL },
};
PyType_Spec rl_evo_spec = { "skate._rl.Evo", sizeof(struct evo_object), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, evo_slots };

/* ---- Tree ---- */

struct tree_object {
    PyObject_HEAD
    struct mcts *tree;
    struct rl_rng rng;
    int actions;
};

/* The numbers that Tree and Search are made with. */
struct tree_args {
    struct mcts_opts o;
    unsigned long long seed;
};

static PyObject *tree_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "actions", "simulations", "puct", "temperature", "epsilon", "alpha",
                             "gamma", "seed", NULL };
    struct tree_args t = { .o = { .gamma = 1.0 } };
    struct skate_error err = { "" };
    struct tree_object *self;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iidddd|dK:Tree", names, &t.o.actions,
                                     &t.o.simulations, &t.o.puct, &t.o.temperature,
                                     &t.o.epsilon, &t.o.alpha, &t.o.gamma, &t.seed))
        return NULL;
    self = new_object(type);
    if (!self)
        return NULL;
    self->actions = t.o.actions;
    rl_rng_init(&self->rng, t.seed, 63);
    r = mcts_new(&t.o, &self->tree, &err);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, &err, "Tree");
    }
    return (PyObject *)self;
}

static void tree_type_dealloc(PyObject *object) {
    mcts_free(((struct tree_object *)object)->tree);
    rl_free_object(object);
}

PyDoc_STRVAR(tree_reset_doc, "reset(): an empty tree");
static PyObject *tree_py_reset(PyObject *object, PyObject *unused) {
    (void)unused;
    mcts_reset(((struct tree_object *)object)->tree);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(tree_select_doc, "select() -> (parent, action) of a leaf to expand, (-1, -1): the\n"
                              "root; None: an end seen before, this simulation is done");
static PyObject *tree_py_select(PyObject *object, PyObject *unused) {
    struct mcts_leaf leaf = mcts_select(((struct tree_object *)object)->tree);

    (void)unused;
    return leaf.known ? Py_NewRef(Py_None) : Py_BuildValue("(ii)", leaf.parent, leaf.action);
}

PyDoc_STRVAR(tree_expand_doc, "expand(reward, terminal, player, value, logits, mask=None) -> the\n"
                              "new node's number; logits None: terminal");
static PyObject *tree_py_expand(PyObject *object, PyObject *args) {
    struct tree_object *self = (struct tree_object *)object;
    PyObject *logits, *mask = Py_None;
    struct mcts_found found = { 0 };
    Py_buffer y = { 0 }, m = { 0 };
    int terminal, node;

    if (!PyArg_ParseTuple(args, "dpidO|O:expand", &found.reward, &terminal, &found.player,
                          &found.value, &logits, &mask))
        return NULL;
    if (!terminal && rl_buffer(logits, &y, 'f', self->actions, 0, "logits") < 0)
        return NULL;
    if (mask != Py_None && rl_buffer(mask, &m, 'f', self->actions, 0, "mask") < 0) {
        PyBuffer_Release(&y);
        return NULL;
    }
    found.terminal = terminal != 0;
    found.logits = y.buf;
    found.mask = m.buf;
    node = mcts_expand(self->tree, &found, &self->rng);
    PyBuffer_Release(&y);
    PyBuffer_Release(&m);
    if (node < 0) {
        PyErr_SetString(PyExc_ValueError, "expand: nothing was selected, a number is not finite, "
                        "or the mask forbids every action");
        return NULL;
    }
    return PyLong_FromLong(node);
}

PyDoc_STRVAR(tree_policy_doc, "policy(out): the visits' probabilities (float32, one an action)");
static PyObject *tree_py_policy(PyObject *object, PyObject *out) {
    struct tree_object *self = (struct tree_object *)object;
    Py_buffer view;

    if (rl_buffer(out, &view, 'f', self->actions, 1, "policy") < 0)
        return NULL;
    mcts_policy(self->tree, view.buf);
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(tree_choose_doc, "choose(argmax) -> an action");
static PyObject *tree_py_choose(PyObject *object, PyObject *argmax) {
    struct tree_object *self = (struct tree_object *)object;
    int best = PyObject_IsTrue(argmax), action;

    if (best < 0)
        return NULL;
    action = mcts_choose(self->tree, best != 0, &self->rng);
    if (action < 0) {
        PyErr_SetString(PyExc_ValueError, "choose: nothing was tried; num_simulations must be at "
                        "least 2");
        return NULL;
    }
    return PyLong_FromLong(action);
}

PyDoc_STRVAR(tree_advance_doc, "advance(action) -> {old node: new node} of what is kept");
static PyObject *tree_py_advance(PyObject *object, PyObject *number) {
    struct tree_object *self = (struct tree_object *)object;
    int n = mcts_capacity(self->tree), *moved;
    long action = PyLong_AsLong(number);
    PyObject *kept;

    if (PyErr_Occurred())
        return NULL;
    moved = PyMem_Calloc((size_t)n, sizeof(*moved));
    if (!moved)
        return PyErr_NoMemory();
    mcts_advance(self->tree, action < 0 || action >= self->actions ? -1 : (int)action, moved,
                 &self->rng);
    kept = PyDict_New();
    for (int i = 0; kept && i < n; i++) {
        PyObject *from, *to;

        if (moved[i] < 0)
            continue;
        from = PyLong_FromLong(i);
        to = PyLong_FromLong(moved[i]);
        if (!from || !to || PyDict_SetItem(kept, from, to) < 0)
            Py_CLEAR(kept);
        Py_XDECREF(from);
        Py_XDECREF(to);
    }
    PyMem_Free(moved);
    return kept;
}

PyDoc_STRVAR(tree_root_doc, "root() -> (visits, value) of the root");
static PyObject *tree_py_root(PyObject *object, PyObject *unused) {
    struct mcts *m = ((struct tree_object *)object)->tree;

    (void)unused;
    return Py_BuildValue("(id)", mcts_visits(m), mcts_value(m));
}

static PyMethodDef tree_methods[] = {
    { "reset", tree_py_reset, METH_NOARGS, tree_reset_doc },
    { "select", tree_py_select, METH_NOARGS, tree_select_doc },
    { "expand", tree_py_expand, METH_VARARGS, tree_expand_doc },
    { "policy", tree_py_policy, METH_O, tree_policy_doc },
    { "choose", tree_py_choose, METH_O, tree_choose_doc },
    { "advance", tree_py_advance, METH_O, tree_advance_doc },
    { "root", tree_py_root, METH_NOARGS, tree_root_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(tree_doc, "Tree(actions, simulations, puct, temperature, epsilon, alpha, gamma=1.0,\n"
                       "seed=0): tree search with priors over environments in Python");
static PyType_Slot tree_slots[] = {
    { Py_tp_doc, (void *)tree_doc },
    { Py_tp_new, (void *)tree_type_new },
    { Py_tp_dealloc, (void *)tree_type_dealloc },
    { Py_tp_methods, tree_methods },
    { 0, NULL },
};
PyType_Spec rl_tree_spec = { "skate._rl.Tree", sizeof(struct tree_object), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, tree_slots };

/* ---- Search ---- */

struct search_object {
    PyObject_HEAD
    struct az_search *search;
    PyObject *algo, *env;
    int obs, actions;
};

static PyObject *search_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "algo", "env", "simulations", "puct", "temperature", "epsilon",
                             "alpha", "gamma", "ranked", "threshold", "seed", NULL };
    struct rl_state *state = rl_state_of(type);
    struct az_opts o = { .tree = { .gamma = 1.0 } };
    struct skate_error err = { "" };
    unsigned long long seed = 0;
    struct search_object *self;
    PyObject *algo, *env;
    int ranked = 0, r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOidddd|dpdK:Search", names, &algo, &env,
                                     &o.tree.simulations, &o.tree.puct, &o.tree.temperature,
                                     &o.tree.epsilon, &o.tree.alpha, &o.tree.gamma, &ranked,
                                     &o.threshold, &seed))
        return NULL;
    if (!PyObject_TypeCheck(env, state->env_type)) {
        PyErr_SetString(PyExc_TypeError, "Search: expected a skate._rl.Env");
        return NULL;
    }
    o.ranked = ranked != 0;
    o.seed = seed;
    if (!rl_algo_of(algo, state) || !rl_env_of(env))
        return NULL;
    self = new_object(type);
    if (!self)
        return NULL;
    r = az_new(rl_algo_of(algo, state), rl_env_of(env), &o, &self->search, &err);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, &err, "Search");
    }
    self->algo = Py_NewRef(algo);
    self->env = Py_NewRef(env);
    self->obs = rl_algo_of(algo, state)->obs.size;
    self->actions = rl_algo_of(algo, state)->action.size;
    return (PyObject *)self;
}

static void search_type_dealloc(PyObject *object) {
    struct search_object *self = (struct search_object *)object;

    az_free(self->search);
    Py_XDECREF(self->algo);
    Py_XDECREF(self->env);
    rl_free_object(object);
}

static struct az_search *search_of(PyObject *object) {
    struct search_object *self = (struct search_object *)object;

    return rl_algo_of(self->algo, rl_state_of(Py_TYPE(object))) && rl_env_of(self->env)
           ? self->search : NULL;
}

PyDoc_STRVAR(search_restart_doc, "restart(): a new episode has begun in the environment");
static PyObject *search_py_restart(PyObject *object, PyObject *unused) {
    struct az_search *s = search_of(object);

    (void)unused;
    if (!s)
        return NULL;
    az_restart(s);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(search_threshold_doc, "threshold(x): of the ranked rewards");
static PyObject *search_py_threshold(PyObject *object, PyObject *number) {
    struct az_search *s = search_of(object);
    double x = PyFloat_AsDouble(number);

    if (!s || PyErr_Occurred())
        return NULL;
    az_threshold(s, x);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(search_think_doc, "think(argmax, obs, mask, policy) -> action: a search from here;\n"
                               "writes what was seen, what is allowed and what was found");
static PyObject *search_py_think(PyObject *object, PyObject *args) {
    struct search_object *self = (struct search_object *)object;
    struct az_search *s = search_of(object);
    struct skate_error err = { "" };
    PyObject *given[3];
    Py_buffer views[3];
    int argmax, got = 0, r = 0;

    if (!s || !PyArg_ParseTuple(args, "pOOO:think", &argmax, &given[0], &given[1], &given[2]))
        return NULL;
    for (; got < 3; got++)
        if (rl_buffer(given[got], &views[got], 'f', got ? self->actions : self->obs, 1,
                      got == 0 ? "obs" : got == 1 ? "mask" : "policy") < 0)
            break;
    if (got == 3) {
        ((struct env_object *)self->env)->busy = ((struct algo_object *)self->algo)->busy = 1;
        Py_BEGIN_ALLOW_THREADS
        r = az_think(s, argmax != 0, views[0].buf, views[1].buf, views[2].buf, &err);
        Py_END_ALLOW_THREADS
        ((struct env_object *)self->env)->busy = ((struct algo_object *)self->algo)->busy = 0;
    }
    for (int i = 0; i < got; i++)
        PyBuffer_Release(&views[i]);
    if (got < 3)
        return NULL;
    return r < 0 ? rl_raise(r, &err, "think") : PyLong_FromLong(r);
}

PyDoc_STRVAR(search_move_doc, "move(action) -> (reward, ended): made in the environment");
static PyObject *search_py_move(PyObject *object, PyObject *number) {
    struct az_search *s = search_of(object);
    long action = PyLong_AsLong(number);
    struct skate_error err = { "" };
    double reward = 0.0;
    bool ended = false;
    int r;

    if (!s || PyErr_Occurred())
        return NULL;
    r = az_move(s, (int)action, &reward, &ended, &err);
    return r < 0 ? rl_raise(r, &err, "move")
                 : Py_BuildValue("(dO)", reward, ended ? Py_True : Py_False);
}

static PyMethodDef search_methods[] = {
    { "restart", search_py_restart, METH_NOARGS, search_restart_doc },
    { "threshold", search_py_threshold, METH_O, search_threshold_doc },
    { "think", search_py_think, METH_VARARGS, search_think_doc },
    { "move", search_py_move, METH_O, search_move_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(search_doc, "Search(algo, env, simulations, puct, temperature, epsilon, alpha,\n"
                         "gamma=1.0, ranked=False, threshold=0.0, seed=0): AlphaZero's search over "
                         "an Env of one lane");
static PyType_Slot search_slots[] = {
    { Py_tp_doc, (void *)search_doc },
    { Py_tp_new, (void *)search_type_new },
    { Py_tp_dealloc, (void *)search_type_dealloc },
    { Py_tp_methods, search_methods },
    { 0, NULL },
};
PyType_Spec rl_search_spec = { "skate._rl.Search", sizeof(struct search_object), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, search_slots };
