/* What is alive, before the interpreter's last collections of all objects.
 *
 * Such a collection goes through each object and all its references twice, to
 * find what is garbage.  Most is not, at a program's end: to mark that once
 * and put it aside takes a third of the time.  The collection finds the same
 * garbage in the rest, because to it, what is aside is referenced from
 * outside.
 *
 * There are three.  At the first there still is sys.modules.  At the second
 * there is not, and yet most of the objects are alive where there are
 * extension modules that the interpreter itself holds, those with one phase of
 * initialization (PyState_FindModule()): they refer to others, those to the
 * packages that they belong to.  Before the third, all modules are cleared.
 *
 * The mark is the bit that collections themselves use and leave at 0.  The
 * order of what is young and of what is frozen stays that of their age.
 * Source: CPython's Include/internal/pycore_gc.h, InternalDocs of the
 * collector, finalize_modules() in Python/pylifecycle.c;
 * PyTypeObject.tp_traverse.
 *
 * Needs Python.h; for the extension only.  The GIL is held.
 */
#ifndef MI_ALIVE_H
#define MI_ALIVE_H

#include <stdint.h>

/* When the first of what mi_alive_sort() leaves frozen can be garbage: its
 * result.
 */
enum {
    MI_ALIVE_NOT_SORTED = -1,
    MI_ALIVE_WITH_NAMES,  /* once sys.modules is cleared */
    MI_ALIVE_WITH_MODULES /* once the modules themselves are */
};

/* 3.14 marks what is alive itself; without the GIL there are no lists. */
#if PY_VERSION_HEX >= 0x030E0000 || defined(Py_GIL_DISABLED)

static int mi_alive_can_mark(void)
{
    return 0;
}

static int mi_alive_freeze(PyObject *freeze, PyObject *modules)
{
    PyObject *none = PyObject_CallNoArgs(freeze);

    (void)modules;
    Py_XDECREF(none);
    return none ? 0 : -1;
}

static int mi_alive_sort(PyObject *modules)
{
    (void)modules;
    return MI_ALIVE_NOT_SORTED;
}

#else

static int mi_alive_can_mark(void)
{
    return 1;
}

/* Before each object that can be collected; the lists are rings of them. */
struct mi_alive_link {
    uintptr_t next; /* 0: not in a list */
    uintptr_t before;
};

#define MI_ALIVE_FLAGS ((uintptr_t)3) /* in 'before' */
#define MI_ALIVE_MARK ((uintptr_t)2)  /* one of them */
#define MI_ALIVE_FIRST 4096           /* objects there is room for at first */
/* The rings' own links lie beside one another, within so many bytes. */
#define MI_ALIVE_ENDS 256
/* Objects on the way from memory while others are looked at. */
#define MI_ALIVE_FETCHED 16

struct mi_alive {
    struct mi_alive_link *
        *marked; /* the first 'done' have been gone through */
    size_t count, room, done;
    PyObject *fetched[MI_ALIVE_FETCHED]; /* a ring */
    size_t at;
    size_t cleared; /* of 'marked', what is not gone through at first */
    int failed;
};

static struct mi_alive_link *mi_alive_link_of(PyObject *object)
{
    return (struct mi_alive_link *)object - 1;
}

static PyObject *mi_alive_object_of(struct mi_alive_link *link)
{
    return (PyObject *)(link + 1);
}

static void mi_alive_add(struct mi_alive *alive, struct mi_alive_link *link)
{
    size_t room = alive->room ? 2 * alive->room : MI_ALIVE_FIRST;
    struct mi_alive_link **grown = alive->marked;

    if (alive->count == alive->room) {
        grown = PyMem_RawRealloc(grown, room * sizeof(*grown));
        if (!grown) {
            alive->failed = 1;
            return;
        }
        alive->marked = grown;
        alive->room = room;
    }
    link->before |= MI_ALIVE_MARK;
    alive->marked[alive->count++] = link;
}

static int mi_alive_visit(PyObject *object, void *arg);

/* Types that are not allocated live as long as the process, and what they
 * refer to with them.
 */
static void mi_alive_visit_static(PyTypeObject *type, void *arg)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *names = PyType_GetDict(type);
#else
    PyObject *names = Py_XNewRef(type->tp_dict);
#endif

    if (names)
        mi_alive_visit(names, arg);
    Py_XDECREF(names);
}

static int mi_alive_is_collected(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    return PyType_IS_GC(type) && (!type->tp_is_gc || type->tp_is_gc(object));
}

static void mi_alive_look(struct mi_alive *alive, PyObject *object)
{
    struct mi_alive_link *link = mi_alive_link_of(object);

    if (!mi_alive_is_collected(object)) {
        if (PyType_Check(object))
            mi_alive_visit_static((PyTypeObject *)object, alive);
    } else if (link->next && !(link->before & MI_ALIVE_MARK)) {
        mi_alive_add(alive, link);
    }
}

/* A visitproc: nearly every object that it gets is not in the cache. */
static int mi_alive_visit(PyObject *object, void *arg)
{
    struct mi_alive *alive = arg;
    PyObject *before = alive->fetched[alive->at];

    __builtin_prefetch(mi_alive_link_of(object), 1);
    alive->fetched[alive->at] = object;
    alive->at = (alive->at + 1) % MI_ALIVE_FETCHED;
    if (before)
        mi_alive_look(alive, before);
    return alive->failed;
}

/* Some may be fetched meanwhile. */
static void mi_alive_look_at_rest(struct mi_alive *alive)
{
    PyObject *object;

    for (size_t i = 0; i < 2 * MI_ALIVE_FETCHED; i++) {
        object = alive->fetched[i % MI_ALIVE_FETCHED];
        alive->fetched[i % MI_ALIVE_FETCHED] = NULL;
        if (object)
            mi_alive_look(alive, object);
    }
}

static void mi_alive_go_through(struct mi_alive *alive, PyObject *object)
{
    Py_TYPE(object)->tp_traverse(object, mi_alive_visit, alive);
}

/* Mark what can be reached. */
static void mi_alive_mark(struct mi_alive *alive)
{
    do {
        while (alive->done < alive->count && !alive->failed)
            mi_alive_go_through(
                alive, mi_alive_object_of(alive->marked[alive->done++]));
        mi_alive_look_at_rest(alive);
    } while (alive->done < alive->count && !alive->failed);
}

/* ---- from where --------------------------------------------------------- */

/* Is this an extension module that the interpreter itself holds? */
static int mi_alive_is_held(PyObject *module)
{
    struct PyModuleDef *definition =
        PyModule_Check(module) ? PyModule_GetDef(module) : NULL;

    return definition && PyState_FindModule(definition) == module;
}

/* Mark what the interpreter clears itself before the second collection, so
 * that nothing is found by way of it: sys.modules, sys and builtins.  They are
 * alive until after that.  Fails if it has begun to, or if these modules are
 * the program's.
 */
static void mi_alive_mark_cleared(struct mi_alive *alive, PyObject *modules)
{
    PyObject *module;

    mi_alive_look(alive, modules);
    for (int i = 0; i < 2; i++) {
        module = PyDict_GetItemString(modules, i ? "sys" : "builtins");
        if (!module || !mi_alive_is_held(module)) {
            alive->failed = 1;
            return;
        }
        mi_alive_look(alive, module);
        mi_alive_look(alive, PyModule_GetDict(module));
    }
    alive->cleared = alive->done = alive->count;
}

static void mi_alive_mark_held(struct mi_alive *alive, PyObject *modules)
{
    PyObject *name, *module;
    Py_ssize_t at = 0;

    while (PyDict_Next(modules, &at, &name, &module))
        if (mi_alive_is_held(module))
            mi_alive_look(alive, module);
    mi_alive_mark(alive);
}

/* Then mark what is found by way of sys.modules. */
static void mi_alive_mark_named(struct mi_alive *alive)
{
    for (size_t i = 0; i < alive->cleared; i++)
        mi_alive_go_through(alive, mi_alive_object_of(alive->marked[i]));
    mi_alive_mark(alive);
}

/* ---- the rings ---------------------------------------------------------- */

static struct mi_alive_link *mi_alive_before(const struct mi_alive_link *link)
{
    return (struct mi_alive_link *)(link->before & ~MI_ALIVE_FLAGS);
}

static void mi_alive_join(struct mi_alive_link *a, struct mi_alive_link *b)
{
    a->next = (uintptr_t)b;
    b->before = (uintptr_t)a | (b->before & MI_ALIVE_FLAGS);
}

/* The young ring's own link, which the others' are near; NULL without memory.
 */
static struct mi_alive_link *mi_alive_young(void)
{
    PyObject *newest = PyList_New(0);
    struct mi_alive_link *end = NULL;

    if (newest)
        end = (struct mi_alive_link *)mi_alive_link_of(newest)->next;
    else
        PyErr_Clear();
    Py_XDECREF(newest);
    return end;
}

/* Is this no object's, but a ring's own? */
static int mi_alive_is_own(const struct mi_alive_link *link,
                           const struct mi_alive_link *young)
{
    return (uintptr_t)link - (uintptr_t)young + MI_ALIVE_ENDS <
           2 * MI_ALIVE_ENDS;
}

/* The ring's own link, which the youngest objects are behind; 'newest' is the
 * newest of them.
 */
static struct mi_alive_link *mi_alive_end(struct mi_alive_link *newest,
                                          const struct mi_alive_link *young)
{
    struct mi_alive_link *link = newest;

    do {
        link = mi_alive_before(link);
        if (mi_alive_is_own(link, young))
            return link;
    } while (link != newest);
    return NULL;
}

/* Call gc.freeze(), the genuine one, which puts the younger objects before the
 * older ones, and then let its ring begin with sys.modules ('modules'), which
 * is one of the oldest.  Returns -1 with an exception, or 0.
 */
static int mi_alive_freeze(PyObject *freeze, PyObject *modules)
{
    PyObject *newest = PyList_New(0), *none;
    struct mi_alive_link *young = mi_alive_young(), *own = NULL;
    struct mi_alive_link *start = mi_alive_link_of(modules);

    if (!newest)
        PyErr_Clear(); /* they stay in that order */
    none = PyObject_CallNoArgs(freeze);
    if (!none) {
        Py_XDECREF(newest);
        return -1;
    }
    Py_DECREF(none);
    if (newest && young)
        own = mi_alive_end(mi_alive_link_of(newest), young);
    if (own && own != young && start->next && mi_alive_before(start) != own) {
        mi_alive_join(mi_alive_before(own), (struct mi_alive_link *)own->next);
        mi_alive_join(mi_alive_before(start), own);
        mi_alive_join(own, start);
    }
    Py_XDECREF(newest);
    return 0;
}

/* Objects in the ring that 'start' is in. */
static size_t mi_alive_count(const struct mi_alive_link *start)
{
    const struct mi_alive_link *link = start;
    size_t count = 0; /* without 'start', but with the link that is none */

    while ((link = (const struct mi_alive_link *)link->next) != start)
        count++;
    return count;
}

/* Take back all marks in the ring that 'start' is in, and make what had none
 * young, in their order.  Returns how many were taken back.
 */
static size_t mi_alive_part(struct mi_alive_link *start,
                            const struct mi_alive_link *young)
{
    struct mi_alive_link *link = start, *next;
    size_t taken = 0;

    do {
        next = (struct mi_alive_link *)link->next;
        if (mi_alive_is_own(link, young)) {
            /* no object */
        } else if (link->before & MI_ALIVE_MARK) {
            link->before &= ~MI_ALIVE_MARK;
            taken++;
        } else {
            PyObject_GC_UnTrack(mi_alive_object_of(link));
            PyObject_GC_Track(mi_alive_object_of(link));
        }
        link = next;
    } while (link != start);
    return taken;
}

static void mi_alive_take_back(struct mi_alive *alive)
{
    for (size_t i = 0; i < alive->count; i++)
        alive->marked[i]->before &= ~MI_ALIVE_MARK;
}

/* All objects are frozen: make those young that may be garbage.  'modules':
 * the dictionary that was sys.modules at the start.  If it cannot be done, no
 * mark is left, and nothing has changed but the age of some.
 */
static int mi_alive_sort(PyObject *modules)
{
    struct mi_alive_link *young = mi_alive_young();
    struct mi_alive alive = {.failed = !young};
    int result = MI_ALIVE_WITH_MODULES;

    if (!alive.failed)
        mi_alive_mark_cleared(&alive, modules);
    if (!alive.failed)
        mi_alive_mark_held(&alive, modules);
    if (alive.count == 0)
        alive.failed = 1;
    if (!alive.failed && alive.count < mi_alive_count(alive.marked[0]) / 2) {
        result = MI_ALIVE_WITH_NAMES;
        mi_alive_mark_named(&alive);
    }
    if (alive.failed || mi_alive_part(alive.marked[0], young) != alive.count)
        mi_alive_take_back(&alive); /* some are in other interpreters' rings */
    PyMem_RawFree(alive.marked);
    return alive.failed ? MI_ALIVE_NOT_SORTED : result;
}

#endif
#endif
