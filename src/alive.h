/* What is alive, before a collection of all objects.
 *
 * A collection of all objects goes through each of them and all its references
 * twice, to find what is garbage.  What can be reached from sys.modules is
 * not, and is most of it at a program's end: to mark it once and put it aside
 * takes a third of the time.  The collection finds the same garbage in the
 * rest, because to it, what is aside is referenced from outside.
 *
 * The mark is the bit that collections themselves use and leave at 0.  The
 * order of the interpreter's lists does not change.
 * Source: CPython's Include/internal/pycore_gc.h, InternalDocs of the
 * collector; PyTypeObject.tp_traverse.
 *
 * Needs Python.h; for the extension only.  The GIL is held.
 */
#ifndef MI_ALIVE_H
#define MI_ALIVE_H

#include <stdint.h>

/* 3.14 marks what is alive itself; without the GIL there are no lists. */
#if PY_VERSION_HEX >= 0x030E0000 || defined(Py_GIL_DISABLED)

static int mi_alive_can_mark(void)
{
    return 0;
}

static int mi_alive_sort(PyObject *root)
{
    (void)root;
    return -1;
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

#define MI_ALIVE_MARK ((uintptr_t)2) /* in 'before' */
#define MI_ALIVE_FIRST 4096          /* objects there is room for at first */
/* The rings' own links lie beside one another, within so many bytes. */
#define MI_ALIVE_ENDS 256

struct mi_alive {
    struct mi_alive_link *
        *marked; /* the first 'done' have been gone through */
    size_t count, room, done;
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

/* A visitproc. */
static int mi_alive_visit(PyObject *object, void *arg)
{
    struct mi_alive *alive = arg;
    struct mi_alive_link *link = mi_alive_link_of(object);

    if (!PyObject_IS_GC(object)) {
        if (PyType_Check(object))
            mi_alive_visit_static((PyTypeObject *)object, arg);
        return alive->failed;
    }
    if (link->next && !(link->before & MI_ALIVE_MARK))
        mi_alive_add(alive, link);
    return alive->failed;
}

static void mi_alive_mark(struct mi_alive *alive, PyObject *root)
{
    PyObject *object = root;

    mi_alive_visit(root, alive);
    while (alive->done < alive->count && !alive->failed) {
        object = mi_alive_object_of(alive->marked[alive->done++]);
        Py_TYPE(object)->tp_traverse(object, mi_alive_visit, alive);
    }
}

/* Take back all marks in the ring that 'start' is in, and make what had none
 * young.  'end': the link of some ring itself.  Returns how many were taken
 * back.
 */
static size_t mi_alive_part(struct mi_alive_link *start, uintptr_t end)
{
    struct mi_alive_link *link = start, *next;
    size_t taken = 0;

    do {
        next = (struct mi_alive_link *)link->next;
        if ((uintptr_t)link - end + MI_ALIVE_ENDS < 2 * MI_ALIVE_ENDS) {
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

/* All objects are frozen (gc.freeze()): make those young that cannot be
 * reached from 'root', one of them.  Returns -1 if there is no memory; then no
 * mark is left, and nothing else has changed.
 */
static int mi_alive_sort(PyObject *root)
{
    struct mi_alive alive = {0};
    PyObject *newest = PyList_New(0); /* the last of the young ring */
    uintptr_t end;

    if (!newest) {
        PyErr_Clear();
        return -1;
    }
    end = mi_alive_link_of(newest)->next;
    mi_alive_mark(&alive, root);
    if (alive.failed ||
        mi_alive_part(mi_alive_link_of(root), end) != alive.count)
        mi_alive_take_back(&alive); /* some are in other interpreters' rings */
    PyMem_RawFree(alive.marked);
    Py_DECREF(newest);
    return alive.failed ? -1 : 0;
}

#endif
#endif
